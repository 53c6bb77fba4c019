"""clean(): what jobs, workers and files that have died leave behind. It is safe beside running workers."""

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic

from django.conf import settings
from django.core.files.storage import FileSystemStorage, Storage
from django.db.models import Min, Q, QuerySet
from django.utils import timezone

from upstream.jobs import leases, mail, states
from upstream.jobs.files import FOLDER, PrivateStorage, attempt_of, folder, storage
from upstream.jobs.models import ACTIVE, ExportJob
from upstream.jobs.options import Options
from upstream.jobs.signals import job_failed
from upstream.jobs.workers import POLLING, enqueue

logger = logging.getLogger(__name__)

SILENT = "the export failed: its worker was ended by the system each time, perhaps for lack of memory"
# A message to a queue may be lost; after this time a job that waits is told again.
TOLD_AGAIN = timedelta(minutes=10)
# How far the clocks of machines that share a directory may differ.
CLOCKS = timedelta(minutes=5)
ABANDONED = timedelta(days=1)
CLEAN_SECONDS = 300
DELETE_AT_ONCE = 1000


@dataclass(frozen=True)
class Cleaned:
    """How many jobs wait again, failed, were cancelled, expired or forgotten, and how many files were deleted."""

    waiting: int
    failed: int
    cancelled: int
    expired: int
    forgotten: int
    files: int

    def __str__(self) -> str:
        return (
            ", ".join(f"{count} {what}" for what, count in asdict(self).items() if count) or "nothing to clean up"
        )


def clean() -> Cleaned:
    """Clean up after workers that died, jobs that are over and requesters who are gone; return what was done."""
    abandoned = leases.drop_abandoned()
    waiting, failed = states.take_from_silent(SILENT)
    for job in waiting:
        enqueue(job)
    for job in failed:
        job.refresh_from_db(using=states.alias())
        job_failed.send_robust(ExportJob, job=job)
        mail.tell(job)
    _tell_again()
    ownerless = states.jobs().filter(
        requester=None, parts=None
    )  # a dump in parts belongs to the process that asked
    cancelled = sum(map(states.cancel, ownerless.filter(state__in=ACTIVE).values_list("pk", flat=True)))
    place, over = storage(), Q(expires_at__lt=timezone.now())
    files = _delete_files(place, states.jobs().filter(over))
    expired = states.forget(states.jobs().filter(over | Q(requester=None, expires_at__isnull=False)))
    return Cleaned(len(waiting), len(failed), cancelled, expired, abandoned + _forget(), files + _sweep(place))


class Regularly:
    """Cleans up from time to time, for a worker that asks after each of its jobs."""

    def __init__(self) -> None:
        self._cleaned = float("-inf")

    def clean(self) -> None:
        """Clean up, unless it was done within the last five minutes."""
        if monotonic() - self._cleaned > CLEAN_SECONDS:
            self._cleaned = monotonic()
            clean()


def _tell_again() -> None:
    if Options.of_site().worker in POLLING:
        return
    lost = states.jobs().filter(states.waiting(), created_at__lt=timezone.now() - TOLD_AGAIN)
    for job in lost:
        enqueue(job)


def _forget() -> int:
    """Delete the rows of jobs that ended long ago; those with a file have to expire before."""
    age = timedelta(days=Options.of_site().history_days)
    old = states.jobs().exclude(state__in=ACTIVE).filter(file="", created_at__lt=timezone.now() - age)
    keys = list(old.order_by().values_list("pk", flat=True)[:DELETE_AT_ONCE])
    count, _ = states.jobs().filter(pk__in=keys).delete()
    return count and len(keys)


def _delete_files(place: Storage, expired: QuerySet[ExportJob]) -> int:
    """Delete the files of jobs by their names: their folder is another one if the database was moved since."""
    return sum(
        _deleted(place, name) for name in expired.exclude(file="").values_list("file", flat=True).iterator()
    )


def _sweep(place: Storage) -> int:
    """Delete the files that belong to no job: of attempts that died or lost their lease, and of jobs that expired.

    Files are listed before jobs are read. A file belongs to a job that names it, or whose current lease wrote it;
    no lease comes back, so that a file without one never gets its job again. A file of a job that this database
    does not know may be that of another, such as another tenant's schema: it stays for as long as any is kept.
    """
    names = [*_names(place)]
    known = dict(states.jobs().in_bulk([attempt[0] for name in names if (attempt := attempt_of(name))]))
    count = sum(_deleted(place, name) for name in names if _is_orphan(place, name, known))
    return count + (_sweep_spools(place) if isinstance(place, FileSystemStorage) else 0)


def _names(place: Storage) -> Iterator[str]:
    mine = folder()
    for name in _listed(place, mine)[1]:
        if attempt_of(name):
            yield f"{mine}/{name}"


def _listed(place: Storage, path: str) -> tuple[list[str], list[str]]:
    """Return the folders and files in a folder."""
    try:
        return place.listdir(path)
    except (FileNotFoundError, NotImplementedError):  # nothing is written yet, or the storage lists nothing
        return [], []


def _is_orphan(place: Storage, name: str, known: dict[object, ExportJob]) -> bool:
    attempt = attempt_of(name)
    if attempt is None:
        return False
    job = known.get(attempt[0])
    if job is None:
        kept = timedelta(days=Options.of_site().keep_days) + ABANDONED
        return _written_before(place, name, datetime.now(UTC) - kept)
    return name != job.file and not (job.state in states.HELD and job.lease == attempt[1])


def _sweep_spools(place: FileSystemStorage) -> int:
    """Delete what `to_storage` was writing when it was killed: files older than every attempt that runs.

    In a storage that is not only for exports of this site, others may be writing: there they have to be a day old.
    """
    _, files = _listed(place, "")
    spools = [name for name in files if name.startswith(".upstream-") and name.endswith(".part")]
    oldest = states.jobs().filter(state__in=states.HELD).aggregate(first=Min("started_at"))["first"]
    now = datetime.now(UTC)
    before = now if oldest is None else _aware(oldest) - CLOCKS
    others = {f"{FOLDER}/{name}" for name in _listed(place, FOLDER)[0]} - {folder()}
    if others or not isinstance(place, PrivateStorage):
        before = min(before, now - ABANDONED)
    return sum(_deleted(place, name) for name in spools if _written_before(place, name, before))


def _aware(moment: datetime) -> datetime:
    return moment if settings.USE_TZ else timezone.make_aware(moment)


def _written_before(place: Storage, name: str, moment: datetime) -> bool:
    """Return whether a file was last written before a moment; False if the storage cannot tell."""
    try:
        return _aware(place.get_modified_time(name)) <= moment
    except (OSError, NotImplementedError):
        return False


def _deleted(place: Storage, name: str) -> bool:
    try:
        place.delete(name)
    except OSError as error:
        logger.warning("a file of exports could not be deleted: %s", type(error).__name__)
        return False
    return True
