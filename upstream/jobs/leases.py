"""Every change of a part of a dump: one UPDATE each, which changes nothing if another was first.

As in `states`, whoever writes a part holds a lease, and times are the database's. What was written is no change of
the lease: the first result counts, whoever brings it.
"""

import secrets
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models import Case, F, Q, QuerySet, Value, When
from django.db.models.functions import Now
from django.utils import timezone

from upstream.dumps import Part
from upstream.jobs import states
from upstream.jobs.models import ACTIVE, ExportJob, ExportPart, State
from upstream.jobs.options import Options

FREE: dict[str, Any] = {"lease": "", "leased_until": None}


def until() -> Any:
    """Return when a lease ends that is taken or renewed now."""
    return Now() + Value(timedelta(seconds=Options.of_site().lease_seconds))


def running(job: UUID) -> QuerySet[ExportJob]:
    """Return the job if its dump goes on: it was not cancelled, and the process that asked for it still waits."""
    return states.jobs().filter(pk=job, state=State.RUNNING, leased_until__gt=Now())


def parts_of(job: UUID) -> QuerySet[ExportPart]:
    """Return the parts of a job, as they are written, each with `is_leased`."""
    leased = Case(When(leased_until__gt=Now(), then=True), default=False)
    return ExportPart.objects.using(states.alias()).filter(job_id=job).annotate(is_leased=leased)


def drop_abandoned() -> int:
    """Delete the jobs of dumps whose process has died, with their parts; return how many there were.

    A process that lives deletes its job itself, once it has read how it ended.
    """
    silent = Q(state__in=ACTIVE, leased_until__lt=Now())
    unread = Q(finished_at__lt=timezone.now() - timedelta(seconds=Options.of_site().lease_seconds))
    abandoned = states.jobs().filter(silent | unread, requester=None).exclude(parts=None)
    keys = set(abandoned.values_list("pk", flat=True))
    states.jobs().filter(pk__in=keys).delete()
    return len(keys)


def take(job: UUID, number: int, attempts: int) -> ExportPart | None:
    """Take a part that nobody writes and nobody has written, for one of `attempts`; None if it is not free."""
    name = secrets.token_hex(16)
    part = parts_of(job).filter(number=number)
    free = part.filter(
        Q(leased_until=None) | Q(leased_until__lt=Now()),
        result__isnull=True,
        attempts__lt=attempts,
        # No join: MariaDB would look for the rows first, and then change them without the conditions.
        job_id__in=running(job).values("pk"),
    )
    taken = free.update(lease=name, leased_until=until(), attempts=F("attempts") + 1, rows=0, bytes=0, error="")
    return part.filter(lease=name).first() if taken else None


def renew(part: ExportPart, rows: int, size: int) -> bool:
    """Renew the lease of a part and tell its progress; return False if it is lost, or the dump has ended."""
    mine = _held(part).filter(job_id__in=running(part.job_id).values("pk"))
    return mine.update(leased_until=until(), rows=rows, bytes=size) > 0


def record(part: ExportPart, written: Part) -> bool:
    """Record what was written; return False if another was first. A lease that is over is no obstacle."""
    unwritten = parts_of(part.job_id).filter(pk=part.pk, result__isnull=True)
    return unwritten.update(**FREE, result=written.as_data(), rows=written.rows, bytes=written.bytes, error="") > 0


def fail(part: ExportPart, words: str) -> bool:
    """Tell why an attempt failed; return False if the lease is lost."""
    return _held(part).update(**FREE, error=words) > 0


def release(part: ExportPart) -> bool:
    """Give a part back, to be taken at once: its worker stops. The attempt does not count."""
    return _held(part).update(**FREE, attempts=F("attempts") - 1) > 0


def _held(part: ExportPart) -> QuerySet[ExportPart]:
    return parts_of(part.job_id).filter(pk=part.pk, lease=part.lease)
