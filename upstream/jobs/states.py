"""Every change of a job's state: one UPDATE each, which changes nothing if another was first.

    queued --> running --> committing --> done --> expired

A worker holds a lease while it runs a job, and each of its changes names the lease: one that was lost, because
the job was cancelled or its time was over, matches no row. Times of leases are the database's, since clocks of
machines differ. A job whose lease is over is free for the next worker, like one that waits.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, connections, router, transaction
from django.db.models import F, Q, QuerySet, Value
from django.db.models.functions import Greatest, Now
from django.utils import timezone

from upstream.jobs.models import ACTIVE, ExportJob, State
from upstream.jobs.options import Options

HELD = (State.RUNNING, State.COMMITTING)
# A job that waits has no lease; it waits until `leased_until`, if that is set.
FREE: dict[str, Any] = {"state": State.QUEUED, "lease": ""}
TRIES = 20


def alias() -> str:
    """Return the alias of the database that holds the jobs."""
    return router.db_for_write(ExportJob)


def jobs() -> QuerySet[ExportJob]:
    """Return all jobs, as they are written: a replica may lag behind."""
    return ExportJob.objects.using(alias())


def waiting() -> Q:
    """Return the condition of jobs that a worker may begin now."""
    return Q(state=State.QUEUED) & (Q(leased_until=None) | Q(leased_until__lte=Now()))


def _in(seconds: float) -> Any:
    return Now() + Value(timedelta(seconds=seconds))


def queue(job: ExportJob) -> tuple[ExportJob, bool]:
    """Save a job that waits, or find the active one with its fingerprint; return which, and whether it is new."""
    found = jobs().filter(fingerprint=job.fingerprint)
    for tries_left in reversed(range(TRIES)):
        if known := found.first():
            return known, False
        try:
            with transaction.atomic(alias()):  # a savepoint, if the caller has a transaction
                job.save(using=alias(), force_insert=True)
        except IntegrityError:
            if not tries_left:
                raise
            # Another was first. In a transaction only a locking read sees it on every database.
            if connections[alias()].features.has_select_for_update and connections[alias()].in_atomic_block:
                found = found.select_for_update()
        else:
            return job, True
    raise AssertionError("the last try returns or raises")


def claim(identity: UUID | None = None) -> ExportJob | None:
    """Take the job that waits longest, or the one with that key, and return it; None if there is none to take.

    A job whose lease is over is taken too, unless it was tried too often: the janitor tells that.
    """
    options = Options.of_site()
    silent = Q(state__in=HELD, leased_until__lt=Now(), attempts__lt=options.attempts)
    claimable = jobs().filter(waiting() | silent)
    if identity is not None:
        claimable = claimable.filter(pk=identity)
    for _ in range(TRIES):
        with _choosing(claimable.order_by("created_at")) as found:
            oldest = found.values_list("pk").first()
            if oldest is None:
                return None
            lease = secrets.token_hex(8)
            taken = claimable.filter(pk=oldest[0]).update(
                state=State.RUNNING,
                lease=lease,
                leased_until=_in(options.lease_seconds),
                attempts=F("attempts") + 1,
                started_at=timezone.now(),
                error="",
            )
        if taken:
            return jobs().filter(pk=oldest[0], lease=lease).first()
    return None


@contextmanager
def _choosing(found: QuerySet[ExportJob]) -> Iterator[QuerySet[ExportJob]]:
    """Let workers that choose at the same time find different jobs, where the database can.

    Elsewhere there is no transaction: on SQLite one that reads first may not write if another has written since.
    """
    if not connections[alias()].features.has_select_for_update_skip_locked:
        yield found
        return
    with transaction.atomic(alias()):
        yield found.select_for_update(skip_locked=True)


def _held(job: ExportJob) -> QuerySet[ExportJob]:
    return jobs().filter(pk=job.pk, lease=job.lease, state__in=HELD)


def renew(job: ExportJob, rows: int, size: int) -> bool:
    """Renew the lease of a job and tell its progress; return False if the lease is lost.

    What is shown never goes back: an attempt that begins again shows the rows of the last until it has more.
    """
    return bool(_held(job).update(**_progress(rows, size)))


def commit(job: ExportJob, rows: int, size: int) -> bool:
    """Tell that all rows are read, and their file is being saved; return False if the lease is lost."""
    return bool(_held(job).update(**_progress(rows, size), state=State.COMMITTING))


def finish(job: ExportJob, file: str, rows: int, size: int, sha256: str) -> bool:
    """Make the file of this attempt that of the job; return False if the lease is lost."""
    return bool(_held(job).update(**_ended(State.DONE), file=file, rows=rows, bytes=size, sha256=sha256))


def fail(job: ExportJob, error: str, *, is_final: bool) -> State | None:
    """Let a job wait for its next attempt, or end it; return its new state, or None if the lease is lost."""
    options = Options.of_site()
    if is_final or job.attempts >= options.attempts:
        return State.FAILED if _held(job).update(**_ended(State.FAILED, error)) else None
    waits = _held(job).update(**FREE, leased_until=_in(_pause_after(job.attempts)), error=error)
    return State.QUEUED if waits else None


def pause_before(job: ExportJob) -> float:
    """Return after how many seconds a job may begin that waits, at the latest.

    They are not computed from `leased_until`: MariaDB stores the time of its session's zone, which Python takes
    for UTC.
    """
    if job.leased_until is None or jobs().filter(waiting(), pk=job.pk).exists():
        return 0.0
    return _pause_after(job.attempts)


def _pause_after(attempts: int) -> float:
    pause: float = Options.of_site().retry_seconds * 2 ** max(0, attempts - 1)
    return pause


def release(job: ExportJob) -> bool:
    """Give a job back, to be taken at once: its worker stops. The attempt does not count."""
    return bool(_held(job).update(**FREE, leased_until=None, attempts=F("attempts") - 1))


def cancel(identity: UUID) -> bool:
    """End a job that waits or runs; return whether it did. Its worker notices when it renews the lease."""
    return bool(jobs().filter(pk=identity, state__in=ACTIVE).update(**_ended(State.CANCELLED)))


def retry(job: ExportJob, fingerprint: str) -> bool:
    """Let a job that failed or was cancelled wait again.

    Return False if it is no such job, if its request is no longer kept, or if the same export is active.
    """
    try:
        with transaction.atomic(alias()):
            return bool(
                jobs()
                .filter(pk=job.pk, state__in=(State.FAILED, State.CANCELLED), expires_at__isnull=False)
                .update(
                    **dict.fromkeys(("leased_until", "started_at", "finished_at", "expires_at")),
                    **dict.fromkeys(("attempts", "rows", "bytes"), 0),
                    state=State.QUEUED,
                    fingerprint=fingerprint,
                    error="",
                )
            )
    except IntegrityError:
        return False


def forget(old: QuerySet[ExportJob]) -> int:
    """Drop the files and requests of those jobs that have ended, and return how many there were."""
    nothing: dict[str, Any] = {"file": "", "request": {}, "expires_at": None}
    done = old.filter(state=State.DONE).update(**nothing, state=State.EXPIRED)
    return done + old.filter(state__in=(State.FAILED, State.CANCELLED)).update(**nothing)


def take_from_silent(error: str) -> tuple[list[ExportJob], list[ExportJob]]:
    """Take the jobs of silent workers; return those that wait now, and those that failed for good with `error`."""
    silent = jobs().filter(state__in=HELD, leased_until__lt=Now())
    free: list[ExportJob] = []
    failed: list[ExportJob] = []
    for job in silent:
        is_last = job.attempts >= Options.of_site().attempts
        change = _ended(State.FAILED, error) if is_last else {**FREE, "leased_until": None}
        if silent.filter(pk=job.pk, lease=job.lease).update(**change):
            (failed if is_last else free).append(job)
    return free, failed


def _progress(rows: int, size: int) -> dict[str, Any]:
    return {
        "leased_until": _in(Options.of_site().lease_seconds),
        "rows": Greatest(F("rows"), rows),
        "bytes": Greatest(F("bytes"), size),
    }


def _ended(state: State, error: str = "") -> dict[str, Any]:
    """Return what changes when a job ends, however it ends."""
    now = timezone.now()
    return {
        "state": state,
        "error": error,
        "fingerprint": None,
        "lease": "",
        "leased_until": None,
        "finished_at": now,
        "expires_at": now + timedelta(days=Options.of_site().keep_days),
    }
