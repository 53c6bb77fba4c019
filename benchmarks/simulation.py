"""Simulate a dump of 10 billion rows in 10,000 parts by 100 workers that fail: is its manifest exact?

python -m benchmarks.simulation --parts 10000 --workers 100 --seeds 5

Time, the workers, the queue and the object store are simulated, from a seed. What decides is the library's own
code: the coordinator and the leases of `upstream.jobs`, with their tables in SQLite, and `commit` of
`upstream.dumps`.
"""

import heapq
import json
import random
import sys
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import accumulate, count, pairwise
from typing import Any
from unittest.mock import patch
from uuid import UUID

import django
from django.conf import settings
from django.core.management import call_command
from django.db.models import DateTimeField, Value

if __name__ == "__main__":
    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "upstream.dumps", "upstream.jobs"],
    )
    django.setup()

from upstream.dumps import DumpPlan, Part, commit
from upstream.dumps.targets import TARGETS
from upstream.jobs import dispatch, leases
from upstream.jobs.options import Options

ROWS = 10_000_000_000
ROWS_PER_SECOND = 100_000
RESTART_SECONDS = 60.0
SLOWER = 10
ATTEMPTS = 10
POLL_SECONDS = 5.0  # of simulated time, instead of half a second, to be done sooner
LEASE_SECONDS = Options().lease_seconds
BEAT_SECONDS = LEASE_SECONDS / 4
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Faults:
    """How often something goes wrong, as fractions of the attempts or of the messages.

    `skew` is the standard deviation of the logarithm of a part's rows: with 0.8, the largest of 10,000 parts has
    some 20 times as many rows as one in the middle. `slow` attempts take ten times as long. `lost` workers are
    killed while they write, and replaced after a minute. `stalled` ones freeze for longer than their lease, and
    then go on to the end. Messages that are `repeated` come again within a quarter of an hour, and those that are
    `dropped` never come. All of them come in any order.
    """

    skew: float = 0.8
    slow: float = 0.01
    lost: float = 0.01
    stalled: float = 0.005
    repeated: float = 0.05
    dropped: float = 0.005


NO_FAULTS = Faults(skew=0, slow=0, lost=0, stalled=0, repeated=0, dropped=0)


class Clock:
    """Simulated time, in seconds, and what is to happen in it."""

    def __init__(self) -> None:
        self.now, self._begun = 0.0, time.monotonic()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def after(self, seconds: float, happen: Callable[[], None]) -> None:
        """Let something happen later."""
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), happen))

    def sleep(self, seconds: float) -> None:
        """Let everything happen that comes in the next `seconds`."""
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, happen = heapq.heappop(self._events)
            happen()
        self.now = end

    def monotonic(self) -> float:
        """Return the time as `time.monotonic` does, which a default was bound to before it is replaced."""
        return self._begun + self.now

    def moment(self) -> datetime:
        """Return the time as the database's clock shows it."""
        return START + timedelta(seconds=self.now)


@dataclass
class Store:
    """An object store. An object holds the range of its rows, for nobody holds 10 billion rows."""

    staged: dict[str, bytes] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)

    def publish(self, names: Sequence[str], manifest: bytes, *, joined: str = "") -> None:  # noqa: ARG002
        """Show these objects and the manifest, and drop the others."""
        self.objects = {name: self.staged[name] for name in names} | {"manifest.json": manifest}
        self.staged.clear()


@dataclass
class Tally:
    """What happened in one dump."""

    attempts: int = 0
    written: int = 0
    rows_written: int = 0
    recorded: int = 0
    lost: int = 0
    stalled: int = 0
    refused: int = 0
    messages: int = 0


class Dump:
    """One dump, from its plan to its manifest."""

    def __init__(self, rows: int, parts: int, workers: int, faults: Faults, seed: int) -> None:
        self.clock, self.store, self.tally, self.faults = Clock(), Store(), Tally(), faults
        self.random = random.Random(seed)
        weights = [self.random.lognormvariate(0, faults.skew) for _ in range(parts)]
        ends = [round(rows * end / sum(weights)) for end in accumulate(weights)]
        self.ranges = [*pairwise([0, *ends])]
        self.identity = f"{seed:016x}"
        self.idle = [ROWS_PER_SECOND * self.random.lognormvariate(0, 0.3) for _ in range(workers)]
        self.least_seconds = rows / sum(self.idle)
        self.waiting: list[tuple[UUID, int]] = []

    def run(self) -> Mapping[str, Any]:
        """Run the dump to its end, and return its manifest."""
        plan = DumpPlan(
            identity=self.identity,
            source={"model": "upstream.Line", "database": "default", "where": {}, "order": ["id"]},
            columns=[{"source": "id", "header": "id", "join": ""}],
            encoder={"name": "JsonLines", "options": {}},
            compression=None,
            key="id",
            ranges=self.ranges,
            target={"kind": "simulated"},
        )
        with ExitStack() as patched:
            for module in ("leases", "states"):
                patched.enter_context(patch(f"upstream.jobs.{module}.Now", self.now))
            patched.enter_context(patch("upstream.jobs.dispatch.time", self.clock))
            patched.enter_context(patch("upstream.jobs.dispatch.POLL_SECONDS", POLL_SECONDS))
            patched.enter_context(patch.dict(TARGETS, simulated=lambda: self.store))
            recorded = dispatch.run(self.send, plan, range(len(self.ranges)), attempts=ATTEMPTS, report=None)
            return commit(plan, recorded)

    def now(self) -> Any:
        """Return the database's clock as an expression."""
        return Value(self.clock.moment(), DateTimeField())

    def send(self, job: UUID, numbers: Sequence[int]) -> None:
        """Take messages into the queue, which loses, repeats and reorders them."""
        for number in numbers:
            copies = 1 + (self.random.random() < self.faults.repeated)
            for copy in range(copies):
                self.tally.messages += 1
                if self.random.random() >= self.faults.dropped:
                    delay = self.random.uniform(0, 900) if copy else self.random.random()
                    self.clock.after(delay, lambda number=number: self.arrive(job, number))

    def arrive(self, job: UUID, number: int) -> None:
        self.waiting.append((job, number))
        self.hand_out()

    def hand_out(self) -> None:
        """Give waiting messages, in any order, to workers that have none."""
        while self.idle and self.waiting:
            place = self.random.randrange(len(self.waiting))
            self.waiting[place], self.waiting[-1] = self.waiting[-1], self.waiting[place]
            Attempt(self, self.idle.pop(), *self.waiting.pop()).begin()

    def free(self, speed: float) -> None:
        self.idle.append(speed)
        self.hand_out()

    def told(self) -> str:
        """Return what happened, in words."""
        tally = self.tally
        return (
            f"{self.clock.now / 60:.0f} minutes (of {self.least_seconds / 60:.0f} at least), "
            f"{tally.messages:,} messages, {tally.refused:,} of them refused, "
            f"{tally.attempts:,} attempts, {tally.lost:,} killed, "
            f"{tally.stalled:,} stalled, {tally.written:,} objects with {tally.rows_written:,} rows written"
        )


class Attempt:
    """A worker with a message: what `upstream.jobs.parts.write` does, in simulated time."""

    def __init__(self, dump: Dump, speed: float, job: UUID, number: int) -> None:
        self.dump, self.speed, self.number = dump, speed, number
        self.part = leases.take(job, number, ATTEMPTS)
        self.is_over = False

    def begin(self) -> None:
        """Let what it does happen, now and later."""
        clock, faults, tally, chance = self.dump.clock, self.dump.faults, self.dump.tally, self.dump.random
        if self.part is None:
            tally.refused += 1
            clock.after(0.01, self.leave)
            return
        tally.attempts += 1
        start, end = self.dump.ranges[self.number]
        seconds = (end - start) / self.speed * (SLOWER if chance.random() < faults.slow else 1)
        fate = chance.random()
        if fate < faults.lost:
            tally.lost += 1
            seconds *= chance.random()
            clock.after(seconds, self.die)
        elif fate < faults.lost + faults.stalled:
            tally.stalled += 1
            clock.after(seconds + chance.uniform(1, 3) * LEASE_SECONDS, self.end)
        else:
            clock.after(seconds, self.end)
        if not faults.lost <= fate < faults.lost + faults.stalled:
            clock.after(BEAT_SECONDS, self.beat)

    def beat(self) -> None:
        """Renew the lease; a worker that has lost it gives up."""
        if self.is_over:
            return
        if leases.renew(self.part, 0, 0):
            self.dump.clock.after(BEAT_SECONDS, self.beat)
        else:
            self.leave()

    def die(self) -> None:
        if not self.is_over:
            self.is_over = True
            self.dump.clock.after(RESTART_SECONDS, self.leave)

    def end(self) -> None:
        """Write the object, and record it."""
        if self.is_over:
            return
        start, end = self.dump.ranges[self.number]
        content, name = json.dumps([start, end]).encode(), f"part-{self.number:05}-{self.part.lease[:8]}.ndjson"
        self.dump.store.staged[name] = content
        written = Part(
            number=self.number,
            name=name,
            rows=end - start,
            bytes=len(content),
            sha256=sha256(content).hexdigest(),
            start=start,
            end=end,
            snapshot="shared",
            dump=self.dump.identity,
        )
        self.dump.tally.written += 1
        self.dump.tally.rows_written += written.rows
        self.dump.tally.recorded += leases.record(self.part, written)
        self.leave()

    def leave(self) -> None:
        self.is_over = True
        self.dump.free(self.speed)


def differences(manifest: Mapping[str, Any], store: Store, rows: int, parts: int) -> list[str]:
    """Return in what a manifest and its objects differ from every row once, in order; empty if in nothing."""
    told, objects = manifest["parts"], dict(store.objects)
    published = json.loads(objects.pop("manifest.json"))
    checks = {
        "other manifest than the one published": published != manifest,
        "leftovers": store.staged,
        "not as many parts as planned": len(told) != parts,
        "not all rows": {manifest["rows"], sum(part["rows"] for part in told)} != {rows},
        "objects and parts differ": [part["name"] for part in told] != list(objects),
    }
    wrong = [words for words, is_so in checks.items() if is_so]
    next_row = 0
    for part in told:
        content = objects.get(part["name"], b"[0, 0]")
        start, end = json.loads(content)
        if start != next_row or end - start != part["rows"] or sha256(content).hexdigest() != part["sha256"]:
            wrong.append(f"{part['name']} is not what comes next")
        next_row = end
    return wrong


def main(arguments: Sequence[str] | None = None) -> int:
    parser = ArgumentParser(
        "python -m benchmarks.simulation", description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    for name, default in {"rows": ROWS, "parts": 10_000, "workers": 100, "seeds": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args(arguments)
    call_command("migrate", verbosity=0)
    speed = f"{options.workers} workers of {ROWS_PER_SECOND:,} rows/s"
    print(f"{options.rows:,} rows in {options.parts:,} parts, {speed}")
    failed = 0
    for seed in range(options.seeds + 1):  # 0: nothing goes wrong
        size = (options.rows, options.parts)
        dump = Dump(*size, options.workers, Faults() if seed else NO_FAULTS, seed)
        wrong = differences(dump.run(), dump.store, *size)
        failed += bool(wrong)
        name = f"seed {seed}" if seed else "no faults"
        print(f"{name}: {dump.told()}; {'; '.join(wrong[:5]) or 'exact'}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
