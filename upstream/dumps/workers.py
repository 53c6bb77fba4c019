"""Worker processes of a dump: new ones, each with its own connections, that end with the dump."""

import multiprocessing
import os
import signal
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any, Literal

import django
from django.conf import settings
from django.db import connections

from upstream.dumps.parts import Part, run_part
from upstream.dumps.sites import Plan
from upstream.streaming import ExportError, SourceError

Report = Callable[[int, int, int, bool], None]
"""Is told the number of a part, its rows and bytes so far, and whether it is done: then they are its file's."""
Told = tuple[Literal["progress", "written", "refused", "failed", "died"], Any]

# Which database the caller uses, such as a test's; a worker's own settings hold the rest.
ADDRESS = ("NAME", "HOST", "PORT")
GRACE_SECONDS = 5
# A new process: a copy of this one would share its connections.
CONTEXT = multiprocessing.get_context("spawn")


class WorkerError(ExportError, RuntimeError):
    """A part of a dump failed in its worker; the message holds the worker's own traceback."""


def run_in_workers(
    workers: int, attempts: int, report: Report | None, plan: Plan, numbers: Iterable[int]
) -> Generator[Part]:
    """Yield the parts as they are written, and end the workers, also if the iterator is closed early.

    A worker that dies, such as by a signal, is replaced. A part that fails runs again, up to `attempts` times in
    all, unless what it says is an ExportError, which would come again.
    """
    pool = _Pool(plan, workers, attempts, deque(numbers))
    try:
        while pool.is_busy():
            for worker, number, (kind, content) in pool.told():
                if kind == "progress" and report:
                    rows, size = content
                    report(number, rows, size, False)
                elif kind == "written":
                    yield content
                elif kind in ("refused", "failed", "died"):
                    pool.try_again(number, content, is_final=kind == "refused")
                pool.go_on(worker, kind)
    finally:
        pool.end()


@dataclass(eq=False)
class _Worker:
    process: Any
    pipe: Connection
    number: int | None = None

    def receive(self) -> Told:
        try:
            told: Told = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            return "died", f"its worker died with exit code {self.process.exitcode}"
        return told

    def end(self) -> None:
        self.process.terminate()
        self.process.join(GRACE_SECONDS)
        self.process.kill()
        self.process.join()
        self.pipe.close()


@dataclass
class _Pool:
    plan: Plan
    size: int
    attempts: int
    waiting: deque[int]
    failures: dict[int, int] = field(default_factory=dict)
    workers: list[_Worker] = field(default_factory=list)

    def is_busy(self) -> bool:
        """Give waiting parts to workers without one, and return whether any part is left."""
        while self.waiting and len(self.workers) < self.size:
            self.workers.append(_start(self.plan))
            self._give(self.workers[-1])
        return any(worker.number is not None for worker in self.workers)

    def told(self) -> Iterator[tuple[_Worker, int, Told]]:
        """Wait for what workers tell, and yield it with the part that each works on."""
        ready = wait([worker.pipe for worker in self.workers if worker.number is not None])
        for worker in [one for one in self.workers if one.pipe in ready]:
            assert worker.number is not None, "only those with a part are waited for"
            yield worker, worker.number, worker.receive()

    def try_again(self, number: int, words: str, *, is_final: bool) -> None:
        """Let a part wait once more; raise WorkerError if it has failed too often."""
        self.failures[number] = self.failures.get(number, 0) + 1
        if is_final or self.failures[number] >= self.attempts:
            raise WorkerError(f"part {number} failed, the last of {self.failures[number]} times with:\n{words}")
        self.waiting.append(number)

    def go_on(self, worker: _Worker, kind: str) -> None:
        if kind == "died":
            self.workers.remove(worker)
            worker.end()
        elif kind != "progress":
            worker.number = None
            if self.waiting:
                self._give(worker)

    def end(self) -> None:
        for worker in self.workers:
            worker.end()

    def _give(self, worker: _Worker) -> None:
        worker.number = self.waiting.popleft()
        with suppress(OSError):  # it died: the end of its pipe tells it
            worker.pipe.send(worker.number)


def _start(plan: Plan) -> _Worker:
    if not getattr(settings, "SETTINGS_MODULE", None):
        raise SourceError("workers read the settings from DJANGO_SETTINGS_MODULE, which is not set: use workers=0")
    here, there = CONTEXT.Pipe()
    address = {name: connections[plan.alias].settings_dict.get(name) for name in ADDRESS}
    arguments = (there, plan, settings.SETTINGS_MODULE, address)
    process = CONTEXT.Process(target=_work, args=arguments, daemon=True)
    process.start()
    there.close()  # so that the end of the process is the end of the pipe
    return _Worker(process, here)


def _work(pipe: Connection, plan: Plan, settings_module: str, address: dict[str, Any]) -> None:
    """Run the parts whose numbers come, until the process at the other end of the pipe closes it or ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the first decides
    os.environ["DJANGO_SETTINGS_MODULE"] = settings_module
    django.setup()
    connections[plan.alias].settings_dict.update(address)
    with suppress(EOFError, BrokenPipeError):
        while True:
            pipe.send(_told(pipe, plan, pipe.recv()))


def _told(pipe: Connection, plan: Plan, number: int) -> Told:
    try:
        return "written", run_part(plan, number, partial(_tell_progress, pipe))
    except BrokenPipeError:
        raise
    except ExportError:
        return "refused", traceback.format_exc()
    except Exception:  # noqa: BLE001 (told to the process that asked)
        return "failed", traceback.format_exc()


def _tell_progress(pipe: Connection, rows: int, size: int) -> None:
    pipe.send(("progress", (rows, size)))
