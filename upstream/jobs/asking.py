"""Ask for an export in the background, cancel it, ask for it again, and see whether it may be fetched."""

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models import QuerySet
from django.utils import translation

from upstream.dumps import Directory, plan_dump
from upstream.integrations.background import Export
from upstream.integrations.permissions import MissingPermissionError, export_permission, has_permission
from upstream.jobs import exports, requests, states
from upstream.jobs.models import ACTIVE, ExportJob
from upstream.jobs.options import Options
from upstream.jobs.repeats import check_repeatable
from upstream.jobs.workers import enqueue, names
from upstream.jobs.zones import current_zone
from upstream.streaming import Csv, ExportError, plan
from upstream.streaming.columns import Names
from upstream.streaming.compression import Compression
from upstream.streaming.encoders.protocol import Encoder

LONGEST_NAME = 255


class TooManyJobsError(ExportError):
    """A user has as many exports waiting or running as the option `per_user` allows."""


def ask(
    user: Any,
    source: Any,
    columns: Names | None = None,
    encoder: Encoder = Csv(),  # noqa: B008 (frozen)
    *,
    filename: str = "",
    compression: Compression | None = None,
    windows: bool = False,
    parts: int = 1,
    total: int | None = None,
) -> ExportJob:
    """Ask for an export of a queryset to be made for `user`, and return its job, or the one that runs already.

    What is exported is written down by `plan_dump`: filters by plain values, an order and columns of fields, never
    keys of rows. The user needs the permission to export the model, now, when the job runs and when its file is
    fetched; MissingPermissionError tells which is missing. `parts` is for workers that can share a job. `total`
    are the rows to be expected, if they are known. Raises SourceError, ColumnError or ValueError for what cannot
    be planned, and TooManyJobsError for a user with too many jobs.
    """
    planned = plan_dump(
        source, columns, encoder, Directory(""), parts=parts, compression=compression, windows=windows
    )
    model = planned.rows().model
    if not has_permission(user, export_permission(model)):
        raise MissingPermissionError(export_permission(model))
    request = {
        "kind": exports.DUMP,
        "plan": planned.as_data(),
        "language": translation.get_language(),
        "time_zone": current_zone(),
    }
    return _queue(
        user,
        request,
        model=model._meta.label,
        columns=[column["header"] for column in planned.columns],
        format=planned.suffix.lstrip("."),
        filename=filename or f"{model._meta.model_name}{planned.suffix}",
        total=total,
    )


def ask_by_request(export: Export, *, total: int | None = None) -> ExportJob:
    """Ask for what a view answers its request with, and return its job, or the one that runs already.

    A worker runs the request again as its user, so that the view decides about permissions, rows and columns as it
    does now. This is tried at once: a request that then makes another export, since its view reads the session or
    what middleware left, raises NotRepeatableError. So do one with selected rows, and one of a user who is not
    logged in. Raises TooManyJobsError as `ask` does.
    """
    user: Any = getattr(export.request, "user", None)
    if user is None or not user.is_authenticated:
        raise requests.NotRepeatableError("only users who are logged in can have exports made in the background")
    if not export.is_repeatable:
        raise requests.NotRepeatableError("this request cannot be run again to make the same export")
    data = requests.to_data(export.request)
    check_repeatable(export, data, user)
    headers = plan(export.source, export.columns, export.encoder).headers
    model = export.source.model._meta.label if isinstance(export.source, QuerySet) else ""
    return _queue(
        user,
        data,
        model=model,
        columns=[*map(str, headers or ())],
        format=export.encoder.suffix.lstrip("."),
        filename=export.filename,
        total=total,
    )


def cancel(job: ExportJob) -> bool:
    """End a job that waits or runs; return whether it did. Its worker stops within seconds, and its file goes."""
    return states.cancel(job.pk)


def retry(job: ExportJob) -> bool:
    """Let a job that failed or was cancelled wait again; return whether it does.

    It does not if its request is no longer kept, or if the same export was asked for again meanwhile. Raises
    TooManyJobsError if its requester has too many jobs.
    """
    fingerprint = fingerprint_of(job.requester_id, job.request)
    _check_count(job.requester_id, fingerprint)
    if not states.retry(job, fingerprint):
        return False
    transaction.on_commit(partial(enqueue, job), using=states.alias())
    return True


def is_allowed(job: ExportJob, user: Any) -> bool:
    """Whether `user` may fetch the file of a job: as its requester, with the permissions that they have now.

    The view of the export is asked again, without a row being read.
    """
    if user.pk is None or job.requester_id != user.pk:
        return False
    try:
        exports.check_permission(job)
    except ExportError:
        return False
    return True


def fingerprint_of(requester: Any, request: Mapping[str, Any]) -> str:
    """Return what is equal for equal requests of one requester."""
    told = {name: value for name, value in request.items() if name != "plan"}
    if "plan" in request:  # each plan has an identity of its own
        told["plan"] = {name: value for name, value in request["plan"].items() if name != "identity"}
    text = json.dumps([str(requester), told], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _queue(user: Any, request: Mapping[str, Any], **fields: Any) -> ExportJob:
    options = Options.of_site()
    if options.worker not in names():
        raise ImproperlyConfigured(f"unknown worker {options.worker!r}; choose from: {', '.join(names())}")
    fingerprint = fingerprint_of(user.pk, request)
    _check_count(user.pk, fingerprint)
    fields["filename"] = fields["filename"][-LONGEST_NAME:]  # its end has the suffix
    job, is_new = states.queue(ExportJob(requester=user, request=request, fingerprint=fingerprint, **fields))
    if is_new:
        transaction.on_commit(partial(enqueue, job), using=states.alias())
    return job


def _check_count(user: Any, fingerprint: str) -> None:
    """Raise TooManyJobsError if a user has too many jobs for one more, unless the same one is active."""
    most = Options.of_site().per_user
    active = states.jobs().filter(requester=user, state__in=ACTIVE)
    if not active.filter(fingerprint=fingerprint).exists() and active.count() >= most:
        raise TooManyJobsError(
            f"{most} exports are waiting or running already: ask again when one of them has ended"
        )
