"""An export in words: how far it is, how large it is, how long it takes."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.functional import cached_property
from django.utils.translation import gettext as _

from upstream.jobs.models import ExportJob, State

TONES = {
    State.DONE: "good",
    State.FAILED: "high",
    State.QUEUED: "wait",
    State.RUNNING: "wait",
    State.COMMITTING: "wait",
}
# An estimate from less than this is a guess.
ESTIMATED_SECONDS = 2


@dataclass(frozen=True)
class Shown:
    """A job as a page shows it, in the current language."""

    job: ExportJob

    @property
    def tone(self) -> str:
        """The class of its badge."""
        return TONES.get(State(self.job.state), "")

    @property
    def is_active(self) -> bool:
        """Whether it waits or is being written."""
        return self.job.is_active

    @property
    def is_retriable(self) -> bool:
        """Whether it can be tried again."""
        return self.job.state in (State.FAILED, State.CANCELLED)

    @property
    def is_done(self) -> bool:
        """Whether there is a file to download."""
        return self.job.state == State.DONE

    @cached_property
    def percent(self) -> int | None:
        """How much of it is written, None if nobody knows how many rows there will be."""
        if self.job.state == State.DONE:
            return 100
        total = self.job.total
        return min(99, self.job.rows * 100 // total) if total else None

    @property
    def rows(self) -> str:
        """The rows written, and those to be expected while it runs."""
        rows, total = _grouped(self.job.rows), self.job.total
        if self.job.is_active and total:
            return _("%(rows)s of %(total)s rows") % {"rows": rows, "total": _grouped(total)}
        return _("%(rows)s rows") % {"rows": rows}

    @property
    def size(self) -> str:
        """The bytes written."""
        return filesizeformat(self.job.bytes)

    @property
    def left(self) -> str:
        """About how long it will take, empty if that cannot be told yet."""
        seconds = seconds_left(self.job)
        return "" if seconds is None else _("about %(time)s left") % {"time": timedelta(seconds=seconds)}

    @property
    def said(self) -> str:
        """What a screen reader says when the state has changed."""
        return f"{self.job.filename}: {self.job.get_state_display()}"


def seconds_left(job: ExportJob) -> int | None:
    """Return about how many seconds a running job still needs, None if that cannot be told."""
    if job.state != State.RUNNING or not (job.started_at and job.total and job.rows):
        return None
    passed = (timezone.now() - job.started_at).total_seconds()
    if passed < ESTIMATED_SECONDS:
        return None
    return max(0, round(passed * (job.total - job.rows) / job.rows))


def status_of(job: ExportJob) -> dict[str, Any]:
    """Return what programs are told of a job, as JSON data."""
    return {
        "id": str(job.pk),
        "state": job.state,
        "filename": job.filename,
        "rows": job.rows,
        "total": job.total,
        "bytes": job.bytes,
        "seconds_left": seconds_left(job),
        "sha256": job.sha256 or None,
        "error": job.error or None,
        "created_at": job.created_at.isoformat(),
        "finished_at": job.finished_at and job.finished_at.isoformat(),
        "expires_at": job.expires_at and job.expires_at.isoformat(),
    }


def _grouped(number: int) -> str:
    return number_format(number, force_grouping=True)
