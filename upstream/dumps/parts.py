"""run_part(): write one part of a dump, under a name that no other attempt has."""

import hashlib
import json
import secrets
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any, Self

from upstream.dumps.encoders import seam_of
from upstream.dumps.plans import DumpPlan
from upstream.dumps.seams import part_of
from upstream.dumps.sites import Plan, plan_of
from upstream.dumps.targets import Target
from upstream.streaming import ByteStream, SourceError, stream
from upstream.streaming.compression import compressed
from upstream.streaming.pipeline import Progress

RESULT = ".result"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part that is written: `name` is that of its attempt, `start` and `end` its range of the key, in JSON.

    `bytes` and `sha256` are those of the file, compressed if the dump is.
    """

    number: int
    name: str
    rows: int
    bytes: int
    sha256: str
    start: Any
    end: Any
    snapshot: str
    dump: str

    def as_data(self) -> dict[str, Any]:
        """Return the part as JSON data."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """Return the part that `as_data` gave."""
        return cls(**data)


def run_part(plan: Plan, number: int, progress: Progress | None = None) -> Part:
    """Write part `number` of a dump that has begun, counted from 0, and return what was written.

    It may run any number of times, in any process, and at the same time: each run writes a file of its own, and
    `commit` takes one of them. Nothing is kept of a run that fails. With a snapshot in the plan, a part that runs
    again gives the same bytes. `progress` is called with the rows and bytes so far.
    """
    if number not in plan.numbers:
        raise SourceError(f"the plan has parts 0 to {len(plan.numbers) - 1}, not {number}")
    plan = plan_of(plan, number)
    with plan.reading():
        chunks = _exported(plan, number, progress)
        return write_part(plan, number, _framed(plan, number, chunks), lambda: chunks.rows)


def write_part(plan: DumpPlan, number: int, chunks: Generator[bytes], rows: Any) -> Part:
    """Write the uncompressed chunks of a part, and then what was written; `rows()` is their number at the end."""
    target, digest = plan.made_target(), Digest()
    kind = "piece" if plan.joined else "part"  # only parts may be shown under their own names
    attempt = f"{kind}-{number - plan.first:05}-{secrets.token_hex(4)}"
    name = f"{plan.folder}/{attempt}{plan.suffix}" if plan.folder else f"{attempt}{plan.suffix}"
    if plan.compression:
        chunks = compressed(chunks, plan.compression)
    target.write(name, digest.of(chunks))
    start, end = plan.ranges[number - plan.first]
    part = Part(
        number=number,
        name=name,
        rows=rows(),
        bytes=digest.size,
        sha256=digest.sha256.hexdigest(),
        start=start,
        end=end,
        snapshot=plan.snapshot.partition("@")[0],
        dump=plan.identity,
    )
    target.write(attempt + RESULT, [json.dumps(part.as_data()).encode()])
    return part


def parts_in(target: Target, plan: Plan) -> dict[int, Part]:
    """Return the parts of a dump that are staged, by their numbers; of several attempts, the first by name."""
    found: dict[int, Part] = {}
    for part in staged_parts(target, plan):
        found.setdefault(part.number, part)
    return found


def staged_parts(target: Target, plan: Plan) -> Iterator[Part]:
    """Yield all attempts of the parts of a dump that are staged; each is read when it is asked for."""
    for name in target.names():
        if name.endswith(RESULT):
            part = Part.from_data(json.loads(b"".join(target.read(name))))
            if part.dump == plan.identity:
                yield part


class Digest:
    """Counts and hashes bytes on their way."""

    def __init__(self) -> None:
        self.sha256, self.size = hashlib.sha256(), 0

    def of(self, chunks: Generator[bytes]) -> Generator[bytes]:
        with closing(chunks):
            for chunk in chunks:
                self.sha256.update(chunk)
                self.size += len(chunk)
                yield chunk


def _exported(plan: DumpPlan, number: int, progress: Progress | None) -> ByteStream:
    encoder = plan.made_encoder()
    following = seam_of(encoder).following
    return stream(
        plan.rows_of(number),
        plan.made_columns(),
        following if number > plan.first and following else encoder,
        windows=plan.windows,
        progress=progress,
    )


def _framed(plan: DumpPlan, number: int, chunks: ByteStream) -> Generator[bytes]:
    seam = seam_of(plan.made_encoder())
    if len(plan.ranges) == 1 or seam.join_files:
        return _unchanged(chunks)
    return part_of(
        _unchanged(chunks),
        _head(plan, chunks) if seam.head is None else seam.head,
        seam,
        is_first=number == plan.numbers[0],
        is_last=number == plan.numbers[-1],
    )


def _head(plan: DumpPlan, chunks: ByteStream) -> bytes:
    """Return all of a file without rows, for which nothing is read."""
    nothing = plan.rows().none()
    return b"".join(stream(nothing, plan.made_columns(), chunks.plan.encoder))


def _unchanged(chunks: ByteStream) -> Generator[bytes]:
    with closing(chunks):
        yield from chunks
