"""stream(): the stages of an export, joined.

source --> batches of rows --> encoder --> compressor --> target
"""

import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from threading import get_ident
from time import monotonic
from typing import Any, Self, TypeVar

from django.conf import settings
from django.db import DatabaseError
from django.utils.timezone import activate as activate_zone
from django.utils.timezone import get_current_timezone
from django.utils.translation import activate as activate_language
from django.utils.translation import get_language

from upstream.streaming.batches import BATCH_BYTES, CHUNK_SIZE, BatchLimits
from upstream.streaming.compression import Compression, check_compression, compressed
from upstream.streaming.databases import ends_with_caller
from upstream.streaming.databases.guards import exporting
from upstream.streaming.encoders.delimited import Csv
from upstream.streaming.encoders.protocol import Encoder
from upstream.streaming.errors import ExportError, LimitError
from upstream.streaming.lanes import LaneName
from upstream.streaming.plans import Names, Plan, check_size, plan

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
Row = TypeVar("Row")
Result = TypeVar("Result")

PROGRESS_SECONDS = 0.25


class ByteStream(Iterator[bytes]):
    """The bytes of one export, made while they are read; it can be read once.

    It runs in the context of the call that made it: language, time zone and context variables.

    `close()` releases the cursor and the transaction at once, as the end, an error and leaving a `with` do.
    Nothing is acquired before the first chunk is asked for.
    """

    def __init__(self, plan: Plan, compression: Compression | None, tally: "Tally") -> None:
        self.plan = plan
        self.compression = compression
        self._tally = tally
        self._chunks = _run(plan, compression, tally)
        self._call = _Call()
        self._is_over = False

    @property
    def content_type(self) -> str:
        """The media type of the bytes before compression."""
        return self.plan.encoder.content_type

    @property
    def lane(self) -> LaneName:
        """The lane that runs: the planned one until the first chunk, and from then on the one that was taken."""
        return self._tally.lane or self.plan.lane

    @property
    def rows(self) -> int:
        """How many rows went into the encoder so far."""
        return self._tally.rows

    @property
    def size(self) -> int:
        """How many bytes were given so far, compressed where they are."""
        return self._tally.size

    @property
    def ends_with_caller(self) -> bool:
        """Whether its cursor, opened now, would die with a transaction of the caller's."""
        return any(map(ends_with_caller, self.plan.databases))

    def __iter__(self) -> Self:
        if self._is_over:
            raise ExportError("this stream was read to its end, broke off or was closed: call stream() again")
        return self

    def __next__(self) -> bytes:
        try:
            with exporting():
                return self._call.run(next, self._chunks)
        except BaseException:
            self._is_over = True
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._is_over = True
        with exporting():
            self._call.run(self._chunks.close)


class _Call:
    """The context of a call, which holds to the last row: its variables, and Django's language and time zone."""

    def __init__(self) -> None:
        self._context = copy_context()
        self._thread = get_ident()
        self._language = get_language() if settings.configured else None
        self._zone = get_current_timezone() if settings.configured else None

    def run(self, function: Callable[..., Result], *arguments: Any) -> Result:
        if self._thread != get_ident():
            self._thread = get_ident()
            self._context.run(self._activate)
        return self._context.run(function, *arguments)

    def _activate(self) -> None:
        """Activate language and zone in another thread, where Django does not look for those of the first."""
        if self._zone:
            activate_zone(self._zone)
        if self._language:
            activate_language(self._language)


def stream(
    source: Any,
    columns: Names | None = None,
    encoder: Encoder = Csv(),  # noqa: B008 (frozen)
    *,
    chunk_size: int = CHUNK_SIZE,
    batch_bytes: int = BATCH_BYTES,
    windows: bool = False,
    timeout: float | None = None,
    max_rows: int | None = None,
    max_bytes: int | None = None,
    compression: Compression | None = None,
    progress: Progress | None = None,
) -> ByteStream:
    """Export `source` as an iterator of bytes, one chunk a batch of rows.

    `source` is a queryset of any kind, a RawQuerySet, or an iterable of dicts, sequences, named tuples,
    dataclasses or objects; for Json also a mapping, written as one object. `columns` are names (with `__`
    through relations, keys and attributes), callables or Columns; by default the model's fields but those that
    hold secrets, the queryset's selection, or the keys of the first record. Rows come in the source's order.

    A queryset is read by one statement; prefetched relations, and the querysets of a mapping, show the same state
    of the database. On PostgreSQL its connection is in a read-only transaction from the first chunk to the last,
    unless the caller has one open: what is written through it between chunks is refused. MySQL and MariaDB give
    it a connection of its own; for several statements they do as PostgreSQL does, and as in the caller's
    transaction the rows go to disk first.
    With `windows` it is read by many short statements, each for the next rows after the last key: nothing is held
    open between them, and each sees the rows as they are then.

    `timeout` is how many seconds the export may take, its reader's pauses included; DeadlineError ends it then.
    More than `max_rows` rows or `max_bytes` bytes end it by a LimitError, before the batch or chunk that is over.

    A batch holds at most `chunk_size` rows and about `batch_bytes` bytes, and that bounds the memory; a single
    row is never split. `compression` is "gzip" or "zstd". `progress` is called with the rows and bytes so far, at
    most four times a second and once at the end.

    Arguments are checked here: ColumnError, SourceError and ValueError come from the call. Errors of the source
    come from the iterator, unchanged, with a note that names the row.
    """
    check_compression(compression)
    if progress is not None and not callable(progress):
        raise ValueError(f"progress is a callable of rows and bytes, not {progress!r}")
    for name, limit in (("max_rows", max_rows), ("max_bytes", max_bytes)):
        if limit is not None:
            check_size(name, limit)
    decided = plan(
        source,
        columns,
        encoder,
        chunk_size=chunk_size,
        batch_bytes=batch_bytes,
        windows=windows,
        timeout=timeout,
    )
    if not decided.bounded:
        logger.warning("the memory of this export grows with its rows: %s", decided.note)
    elif decided.note:
        logger.info("how this export is read: %s", decided.note)
    return ByteStream(decided, compression, Tally(progress, max_rows, max_bytes))


def _run(plan: Plan, compression: Compression | None, tally: "Tally") -> Generator[bytes]:
    limits = replace(plan.limits, deadline=plan.timeout and monotonic() + plan.timeout)
    encoded = _encoded(plan, limits, tally)
    try:
        with closing(tally.counting_bytes(compressed(encoded, compression) if compression else encoded)) as chunks:
            yield from chunks
    except DatabaseError as error:
        limits.seconds_left()  # a statement that the database ended for its length is out of time, and no failure
        if "timeout" in str(error):
            error.add_note("for a slow reader export with windows=True, or send it with spool=True")
        raise


def _encoded(plan: Plan, limits: BatchLimits, tally: "Tally") -> Generator[bytes]:
    with ExitStack() as stack:
        for hold in plan.holds:
            stack.enter_context(hold(seconds=limits.seconds_left()))
        tally.lane, chunks = stack.enter_context(plan.path.open(limits, tally.counting_rows))
        yield from chunks


@dataclass
class Tally:
    """Counts what passes, reports it, and ends an export that exceeds its limits."""

    progress: Progress | None
    max_rows: int | None
    max_bytes: int | None
    rows: int = field(default=0, init=False)
    size: int = field(default=0, init=False)
    lane: LaneName | None = field(default=None, init=False)

    def counting_rows(self, batches: Generator[list[Row]]) -> Generator[list[Row]]:
        with closing(batches):
            for batch in batches:
                if self.max_rows is not None and self.rows + len(batch) > self.max_rows:
                    raise LimitError(f"the export has more than {self.max_rows:,} rows: narrow it down")
                self.rows += len(batch)
                yield batch

    def counting_bytes(self, chunks: Generator[bytes]) -> Generator[bytes]:
        started = reported = monotonic()
        with closing(chunks):
            for chunk in chunks:
                if self.max_bytes is not None and self.size + len(chunk) > self.max_bytes:
                    raise LimitError(f"the export has more than {self.max_bytes:,} bytes: narrow it down")
                self.size += len(chunk)
                if self.progress and monotonic() - reported >= PROGRESS_SECONDS:
                    reported = monotonic()
                    self.progress(self.rows, self.size)
                yield chunk
        if self.progress:
            self.progress(self.rows, self.size)
        logger.debug("exported %d rows, %d bytes in %.3f s", self.rows, self.size, monotonic() - started)
