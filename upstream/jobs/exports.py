"""What a job exports: opened by its worker, after its requester's permissions are checked again."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from time import monotonic
from typing import Any

from django.contrib.auth import get_user_model
from django.utils import timezone, translation

from upstream.dumps import DumpPlan
from upstream.integrations.background import Export
from upstream.integrations.permissions import export_permission, has_permission, missing_words
from upstream.integrations.signals import Ending, Outcome, export_failed, export_finished, export_started
from upstream.jobs import requests
from upstream.jobs.beats import LeaseLostError
from upstream.jobs.models import ExportJob
from upstream.jobs.zones import zone_of
from upstream.streaming import ByteStream, stream

RefusedError = requests.RefusedError
DUMP = "dump"


@contextmanager
def opened(job: ExportJob) -> Iterator[ByteStream]:
    """Yield the export of a job as its requester may see it now; its language and time zone hold in the block.

    Raises RefusedError if the requester may no longer export it.
    """
    user = requester_of(job)
    if job.request.get("kind") == DUMP:
        with _dumped(job, user) as chunks:
            yield chunks
        return
    with requests.repeated(job.request, user) as export:
        limits = export.limits
        chunks = stream(
            export.source, export.columns, export.encoder, max_rows=limits.rows, max_bytes=limits.bytes
        )
        with closing(chunks), _recorded(export, chunks):
            yield chunks


def check_permission(job: ExportJob) -> None:
    """Raise RefusedError if the requester may not export now what the job exports; no row is read."""
    user = requester_of(job)
    if job.request.get("kind") == DUMP:
        _check_model(DumpPlan.from_data(job.request["plan"]), user)
        return
    with requests.repeated(job.request, user):
        pass


def requester_of(job: ExportJob) -> Any:
    """Return the requester as they are now; raise RefusedError if they are gone or may not log in."""
    users: Any = get_user_model()._default_manager
    user = users.filter(pk=job.requester_id).first()
    if user is None or not user.is_active:
        raise RefusedError("the export was refused: whoever asked for it is no longer let in")
    return user


@contextmanager
def _dumped(job: ExportJob, user: Any) -> Iterator[ByteStream]:
    plan = DumpPlan.from_data(job.request["plan"])
    _check_model(plan, user)
    with translation.override(job.request["language"]), timezone.override(zone_of(job.request["time_zone"])):
        chunks = stream(
            plan.rows(),
            plan.made_columns(),
            plan.made_encoder(),
            windows=plan.windows,
            compression=plan.compression,
        )
        with closing(chunks):
            yield chunks


def _check_model(plan: DumpPlan, user: Any) -> None:
    permission = export_permission(plan.rows().model)
    if not has_permission(user, permission):
        raise RefusedError(f"the export was refused: {missing_words(permission)}")


@contextmanager
def _recorded(export: Export, chunks: ByteStream) -> Iterator[None]:
    """Tell of the export as its view tells of downloads: by signals, and a record such as the admin's log."""
    named = {"request": export.request, "filename": export.filename, "columns": chunks.plan.headers}
    ended, started = export.record and export.record(), monotonic()
    export_started.send_robust(export.sender, **named)

    def tell(outcome: Outcome, error: BaseException | None = None) -> None:
        seconds = monotonic() - started
        ending = Ending(outcome=outcome, rows=chunks.rows, bytes=chunks.size, seconds=seconds, error=error)
        if ended:
            ended(ending)
        signal = export_finished if outcome == "complete" else export_failed
        signal.send_robust(export.sender, **named, **vars(ending))

    try:
        yield
    except BaseException as error:
        chunks.close()
        tell("aborted" if isinstance(error, LeaseLostError) else "failed", error)
        raise
    tell("complete")
