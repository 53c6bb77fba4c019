"""Offer to make an export in the background: when a view asks, before it downloads anything."""

import re
from collections.abc import Mapping
from contextlib import closing, suppress
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import messages
from django.contrib.auth import get_user_model
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseRedirect, JsonResponse, QueryDict
from django.http.response import HttpResponseBase
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _

from upstream.integrations.background import Export
from upstream.integrations.downloads import refusal
from upstream.integrations.servers import breaks_show
from upstream.integrations.statements import statement_limit
from upstream.jobs import requests, states, workers
from upstream.jobs.asking import TooManyJobsError, ask_by_request
from upstream.jobs.files import storage
from upstream.jobs.models import ExportJob, State
from upstream.jobs.options import Options
from upstream.jobs.requests import BACKGROUND, JOB
from upstream.jobs.sending import GoneError, send
from upstream.jobs.shown import status_of
from upstream.streaming import DeadlineError, LimitError, stream
from upstream.streaming.targets.requests import Asked

# RFC 7240, 4.1
PREFERRED = re.compile(r"(^|[,\s])respond-async\s*($|[,;])", re.IGNORECASE)
HEADERS = {"Cache-Control": "private, no-store", "X-Robots-Tag": "noindex"}
# Rows per second that a format is sure to reach: about half of what was measured, with columns of all kinds.
SURE_ROWS = {
    ".csv": 30_000,
    ".tsv": 30_000,
    ".json": 30_000,
    ".ndjson": 30_000,
    ".xlsx": 12_000,
    ".parquet": 20_000,
}
SURE_ROWS_OF_OTHERS = 2_000
# A longer count is not worth its progress bar.
COUNT_SECONDS = 5.0
# How long a program waits until it asks again, as long as nobody knows how long the export takes.
RETRY_SECONDS = 2
MOST_RETRY_SECONDS = 30


def offer(export: Export) -> HttpResponseBase | None:
    """Return a response that leads to the job of an export, or None to download it now.

    A browser is led to the job's page, a program gets 202 with a `Location` to ask again: the same view at
    `?export_job=`, which authenticates and checks its users as ever. It answers 202 while the export is being
    made, then with the file, and with 410 if there will be none.

    Exports are offered to users who are logged in, of requests that can be run again: those that ask for it, by
    `?export_background=1` or `Prefer: respond-async`, and those that are large or would take long, unless
    `?export_background=0` declines. What exceeds the limits of its view in rows is refused as ever.
    """
    request = export.request
    if not isinstance(getattr(request, "user", None), get_user_model()):
        return None
    if request.method in ("GET", "HEAD") and JOB in request.GET:
        return _followed(request, request.GET[JOB])
    try:
        if not (_can_be_offered(export) and _is_wanted(export)):
            return None
        with suppress(DeadlineError):  # whoever makes it counts as it goes
            export.limits.check_rows(export.source, Options.of_site().seconds)
        return _accepted(request, ask_by_request(export, total=_total(export.source)))
    except TooManyJobsError as error:
        return refusal(429, str(error), {"Retry-After": str(MOST_RETRY_SECONDS)})
    except (LimitError, requests.NotRepeatableError):
        return None  # the download refuses it, or makes it


def has_pages() -> bool:
    """Whether the site has the pages of exports, to which browsers are led."""
    try:
        reverse("upstream_jobs:list")
    except NoReverseMatch:
        return False
    return True


def _is_browser(request: HttpRequest) -> bool:
    return "text/html" in request.headers.get("Accept", "")


def _can_be_offered(export: Export) -> bool:
    request = export.request
    is_download = request.method != "HEAD" and not Asked(request.method or "", request.headers).refusal
    # A program asks again at the same URL, where it gets what it wants only of a GET.
    has_place = has_pages() if _is_browser(request) else request.method == "GET"
    return is_download and export.is_repeatable and has_place


def _is_wanted(export: Export) -> bool:
    """Whether the request asks for a job or, if it does not say, whether its export is long."""
    request = export.request
    said = request.GET.get(BACKGROUND) or request.POST.get(BACKGROUND)
    if said in ("0", "1"):
        return said == "1"
    return bool(PREFERRED.search(request.headers.get("Prefer", ""))) or _is_long(export)


def _is_long(export: Export) -> bool:
    """Whether an export has many rows, or a proxy would lose its patience before the first byte."""
    options = Options.of_site()
    if not isinstance(export.source, QuerySet):
        return False
    rows: QuerySet[Any] = export.source
    counted = rows if rows.query.is_sliced else rows.order_by()[: options.rows + 1]
    try:
        with statement_limit(counted.db, options.seconds):
            count = counted.count()
    except DeadlineError:
        return True
    sure = SURE_ROWS.get(export.encoder.suffix, SURE_ROWS_OF_OTHERS)
    return count > options.rows or (_is_spooled(export) and count / sure > options.seconds)


def _is_spooled(export: Export) -> bool:
    if export.spool is not None:
        return export.spool
    if not breaks_show(export.request):
        return True
    with closing(stream(export.source, export.columns, export.encoder)) as chunks:
        return chunks.ends_with_caller


def _total(source: Any) -> int | None:
    """Return how many rows there will be, None if counting them takes long."""
    if not isinstance(source, QuerySet):
        return None
    counted = source if source.query.is_sliced else source.order_by()
    try:
        with statement_limit(counted.db, COUNT_SECONDS):
            return counted.count()
    except DeadlineError:
        return None


def _accepted(request: HttpRequest, job: ExportJob) -> HttpResponseBase:
    if _is_browser(request):
        messages.success(
            request, _("This export is made in the background. You see here how far it is."), fail_silently=True
        )
        return HttpResponseRedirect(reverse("upstream_jobs:job", args=[job.pk]), status=303, headers=HEADERS)
    return _waiting(request, job)


def _waiting(request: HttpRequest, job: ExportJob) -> HttpResponseBase:
    status = status_of(job)
    left = status["seconds_left"]
    wait = RETRY_SECONDS if left is None else max(1, min(left, MOST_RETRY_SECONDS))
    here = _address(request, job)
    headers = {**HEADERS, "Location": here, "Retry-After": str(wait)}
    return JsonResponse({**status, "url": here}, status=202, headers=headers)


def _address(request: HttpRequest, job: ExportJob) -> str:
    """Return the URL at which the same view tells of the job, and then gives its file."""
    parts = [requests.query_of(request), urlencode({JOB: str(job.pk)})]
    return request.build_absolute_uri(f"{request.path}?{'&'.join(filter(None, parts))}")


def _followed(request: HttpRequest, identity: str) -> HttpResponseBase:
    """Return what there is of a job that the same user asked the same view for, with the same parameters."""
    job = _job_of(request, identity)
    if job is None:
        return JsonResponse({"error": "you asked for no such export here"}, status=404, headers=HEADERS)
    if job.is_active:
        workers.wake()  # a restart may have left it
        return _waiting(request, job)
    if job.state == State.DONE:
        try:
            return send(request, job, storage(), redirect=Options.of_site().redirect)
        except GoneError:
            pass
    return JsonResponse(status_of(job), status=410, headers=HEADERS)


def _job_of(request: Any, identity: str) -> ExportJob | None:
    try:
        job = states.jobs().filter(requester=request.user.pk, pk=UUID(identity)).first()
    except ValueError:
        return None
    if job is None or not job.request:
        return job
    return job if _is_of(job.request, request) else None


def _is_of(asked: Mapping[str, Any], request: HttpRequest) -> bool:
    """Whether a job was asked for at this URL: clients may write the same parameters in other ways."""
    now = requests.to_data(request)
    is_here = all(asked.get(name) == now[name] for name in ("host", "script", "urlconf", "path"))
    return is_here and asked["method"] == "GET" and QueryDict(asked["query"]) == QueryDict(now["query"])
