"""Workers of a dump, each with a connection of its own: threads of this process, and new processes."""

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import Any, Protocol

from upstream.dumps.parts import Part
from upstream.dumps.plans import DumpPlan
from upstream.dumps.processes import ProcessWorker, check_settings
from upstream.dumps.serving import Kind, Report, Tell
from upstream.dumps.sites import Plan
from upstream.dumps.threads import ThreadWorker
from upstream.streaming import ExportError, plan

# While PostgreSQL renders rows for a second, taking them keeps an interpreter busy for 0.3 to 0.5 s: it can take
# those of two connections, and of more only in turn. A new process needs half a second to start.
COPY_THREADS = 2


class WorkerError(ExportError, RuntimeError):
    """A part of a dump failed in its worker; the message holds the worker's own traceback."""


@dataclass(frozen=True)
class Workers:
    """How many workers are threads of this process, and how many are new processes."""

    threads: int
    processes: int

    def __str__(self) -> str:
        kinds = ((self.threads, "thread", "threads"), (self.processes, "new process", "new processes"))
        told = [f"{number} {one if number == 1 else several}" for number, one, several in kinds if number]
        return " and ".join(told)


def chosen_workers(dump: Plan, number: int) -> Workers:
    """Return which workers suit a dump: threads start at once, and share the time of one interpreter.

    At least one is a thread, so that parts are written while processes start.
    """
    threads = min(number, COPY_THREADS if all(map(_is_copied, dump.plans)) else 1)
    return Workers(threads, number - threads)


def _is_copied(dump: DumpPlan) -> bool:
    return plan(dump.rows(), dump.made_columns(), dump.made_encoder(), windows=dump.windows).lane == "copy"


def run_in_workers(
    number: int, plan: Plan, numbers: Iterable[int], *, attempts: int, report: Report | None
) -> Generator[Part]:
    """Yield the parts as they are written, and end the workers, also if the iterator is closed early.

    A worker that dies, such as by a signal, is replaced. A part that fails runs again, up to `attempts` times in
    all, unless what it says is an ExportError, which would come again.
    """
    workers = chosen_workers(plan, number)
    if workers.processes:
        check_settings()
    places = [
        *(_Place(ThreadWorker) for _ in range(workers.threads)),
        *(_Place(ProcessWorker) for _ in range(workers.processes)),
    ]
    pool = _Pool(plan, attempts, deque(numbers), places)
    try:
        while pool.is_busy():
            place, kind, content = pool.told.get()
            if kind == "progress" and report and place.number is not None:
                rows, size = content
                report(place.number, rows, size, False)
            elif kind == "written":
                yield Part.from_data(content)
            elif kind in ("refused", "failed", "died"):
                pool.try_again(place.number, content, is_final=kind == "refused")
            pool.go_on(place, kind)
    finally:
        pool.end()


class Worker(Protocol):
    """Something that writes one part at a time. It tells that it is ready, and then how each part goes on."""

    def give(self, number: int) -> None:
        """Let it write a part."""

    def end(self) -> None:
        """End it now, whatever it does."""


@dataclass(eq=False)
class _Place:
    """A place for a worker, with the one that has it and the part that this one writes."""

    kind: Callable[[Plan, Tell], Worker]
    worker: Worker | None = None
    number: int | None = None


@dataclass
class _Pool:
    plan: Plan
    attempts: int
    waiting: deque[int]
    places: Sequence[_Place]
    told: SimpleQueue[tuple[_Place, Kind, Any]] = field(default_factory=SimpleQueue)
    failures: Counter[int | None] = field(default_factory=Counter)

    def is_busy(self) -> bool:
        """Start workers for parts that wait, and return whether any part is left."""
        free = [place for place in self.places if place.worker is None]
        for place in free[: len(self.waiting)]:
            place.worker = place.kind(self.plan, partial(self._tell, place))
        return bool(self.waiting) or any(place.number is not None for place in self.places)

    def try_again(self, number: int | None, words: str, *, is_final: bool) -> None:
        """Let a part wait once more, if there is one; raise WorkerError if it has failed too often."""
        self.failures[number] += 1
        if is_final or self.failures[number] >= self.attempts:
            what = "a worker that was not ready" if number is None else f"part {number}"
            raise WorkerError(f"{what} failed, the last of {self.failures[number]} times with:\n{words}")
        if number is not None:
            self.waiting.append(number)

    def go_on(self, place: _Place, kind: Kind) -> None:
        worker = place.worker
        assert worker is not None, "only workers tell anything"
        if kind == "died":
            place.worker = place.number = None
            worker.end()
        elif kind != "progress":
            place.number = self.waiting.popleft() if self.waiting else None
            if place.number is not None:
                worker.give(place.number)

    def end(self) -> None:
        """End all workers, also if another interrupt comes while one of them ends."""
        with ExitStack() as ending:
            for place in self.places:
                if place.worker:
                    ending.callback(place.worker.end)

    def _tell(self, place: _Place, kind: Kind, content: Any) -> None:
        self.told.put((place, kind, content))
