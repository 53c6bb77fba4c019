"""Parts of a dump on any machine: the table decides who writes one, whatever a queue delivers."""

import logging
import secrets
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from threading import Event, Thread
from typing import Any, Self, TypeVar
from uuid import UUID

from django.db import InterfaceError, OperationalError, connections, router
from django.db.models import F, Q, QuerySet, Value
from django.db.models.functions import Now

from upstream.dumps import DumpPlan, Part, run_part
from upstream.jobs.models import ExportJob, ExportPart, State
from upstream.streaming import ExportError
from upstream.streaming.pipeline import Progress

logger = logging.getLogger(__name__)

LEASE_SECONDS = 60.0
BEAT_SECONDS = 15.0  # so that three may be late
AGAIN_SECONDS = 0.5
Answer = TypeVar("Answer")


class LeaseLostError(RuntimeError):
    """A part is no longer to be written: the dump has ended, or another has written it."""


def write(job: UUID, number: int) -> None:
    """Write part `number` of the dump of a job, and record it, unless another does, has done, or need not.

    It may be called any number of times, at once and late. What fails is recorded too: it ends the dump if it is
    an ExportError, which would come again, or was the last of its attempts.
    """
    request = insisting(lambda: running(job).values_list("request", flat=True).first())
    lease = request and insisting(lambda: Lease.take(job, number, request["attempts"]))
    if not (request and lease):
        return
    try:
        with lease.kept() as progress:
            part = run_part(DumpPlan.from_data(request["plan"]), number, progress)
    except Exception as error:  # noqa: BLE001 (told to the process that asked)
        if isinstance(error, LeaseLostError):
            lease.give_back()
            return
        logger.warning("part %d of dump %s failed with %s", number, job, type(error).__name__)
        lease.fail(traceback.format_exc(), is_final=isinstance(error, ExportError))
    except BaseException:  # the worker is told to end
        lease.give_back()
        raise
    else:
        lease.record(part)


def running(job: UUID) -> QuerySet[ExportJob]:
    """Return the job if its dump goes on: it was not cancelled, and who asked for it still waits."""
    return ExportJob.objects.filter(pk=job, state=State.RUNNING, leased_until__gt=Now())


def until() -> Any:
    """Return when a lease ends that is taken or renewed now, by the clock of the database."""
    return Now() + Value(timedelta(seconds=LEASE_SECONDS))


def insisting(ask: Callable[[], Answer]) -> Answer:
    """Return what `ask` returns; while the database of the jobs is away, ask again, as long as a lease holds."""
    end = time.monotonic() + LEASE_SECONDS
    while True:
        try:
            return ask()
        except (OperationalError, InterfaceError):
            connections[router.db_for_write(ExportPart)].close()
            if time.monotonic() > end:
                raise
            time.sleep(AGAIN_SECONDS)


@dataclass(frozen=True)
class Lease:
    """The right to write a part, held under a name of its own; each change is one UPDATE with its conditions."""

    job: UUID
    number: int
    name: str
    attempt: int
    attempts: int

    @classmethod
    def take(cls, job: UUID, number: int, attempts: int) -> Self | None:
        """Take the lease of a part that nobody writes and nobody has written; None if it is not to be had."""
        name = secrets.token_hex(16)
        part = ExportPart.objects.filter(job_id=job, number=number)
        is_free = Q(leased_until=None) | Q(leased_until__lt=Now())
        # `job_id__in`, and no join: MariaDB would look for the rows first, and change them without the conditions.
        taken = part.filter(
            is_free, result__isnull=True, attempts__lt=attempts, job_id__in=running(job).values("pk")
        ).update(lease=name, leased_until=until(), attempts=F("attempts") + 1, rows=0, bytes=0, error="")
        if not taken:
            return None
        attempt = part.filter(lease=name).values_list("attempts", flat=True).first()
        return None if attempt is None else cls(job, number, name, attempt, attempts)

    def renew(self, rows: int, size: int) -> bool:
        """Keep the lease, and tell how far the part is; return False if it is lost."""
        mine = self._held().filter(job_id__in=running(self.job).values("pk"))
        return mine.update(leased_until=until(), rows=rows, bytes=size) > 0

    def record(self, part: Part) -> bool:
        """Record what was written; return False if another was first. A lease that has run out is no obstacle."""
        done = {"result": part.as_data(), "rows": part.rows, "bytes": part.bytes}
        unwritten = self._part().filter(result__isnull=True)
        return insisting(lambda: unwritten.update(**done, lease="", leased_until=None, error="")) > 0

    def fail(self, words: str, *, is_final: bool) -> None:
        """Record why an attempt failed, and end the dump if there is no other."""
        if is_final or self.attempt >= self.attempts:
            words = f"part {self.number} failed, the last of {self.attempt} times with:\n{words}"
            insisting(lambda: running(self.job).update(state=State.FAILED, error=words))
        insisting(lambda: self._held().update(lease="", leased_until=None, error=words))

    def give_back(self) -> None:
        """Let another take the lease; the attempt does not count."""
        insisting(lambda: self._held().update(lease="", leased_until=None, attempts=F("attempts") - 1))

    @contextmanager
    def kept(self) -> Iterator[Progress]:
        """Keep the lease in the block, in which the yielded function raises LeaseLostError once it is lost."""
        heart = _Heart(self)
        thread = Thread(target=heart.beat, daemon=True)
        thread.start()
        try:
            yield heart.tell
        finally:
            heart.is_over.set()
            thread.join()

    def _part(self) -> QuerySet[ExportPart]:
        return ExportPart.objects.filter(job_id=self.job, number=self.number)

    def _held(self) -> QuerySet[ExportPart]:
        return self._part().filter(lease=self.name)


class _Heart:
    """Renews a lease in a thread of its own, on a connection of its own."""

    def __init__(self, lease: Lease) -> None:
        self.is_over = Event()
        self._lease = lease
        self._lost = Event()
        self._told = (0, 0)

    def tell(self, rows: int, size: int) -> None:
        self._told = (rows, size)
        if self._lost.is_set():
            raise LeaseLostError(f"part {self._lease.number} is no longer to be written")

    def beat(self) -> None:
        try:
            while not self.is_over.wait(BEAT_SECONDS) and self._renew():
                pass
        finally:
            connections.close_all()

    def _renew(self) -> bool:
        try:
            is_held = self._lease.renew(*self._told)
        except (OperationalError, InterfaceError):  # the next beat may reach the database in time
            connections.close_all()
            return True
        if not is_held:
            self._lost.set()
        return is_held
