"""My exports: what a user asked for, how far it is, and its file."""

import hashlib
from collections.abc import Sequence
from typing import Any, ClassVar

from django.contrib import messages
from django.contrib.auth.mixins import LoginRequiredMixin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.cache import get_conditional_response
from django.utils.decorators import method_decorator
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.cache import cache_control
from django.views.generic import DetailView, ListView, View

from upstream.integrations.downloads import refusal
from upstream.jobs import asking, links, states, workers
from upstream.jobs.files import storage
from upstream.jobs.models import ExportJob, State
from upstream.jobs.options import Options
from upstream.jobs.sending import GoneError, send
from upstream.jobs.shown import Shown

PAGE_JOBS = 25
LIVE = "live"
GONE = "the file of this export is not there any more: export it again"


@method_decorator(cache_control(private=True, no_store=True), name="dispatch")
class Mine(LoginRequiredMixin, View):
    """Gives a view the jobs of its user, and of nobody else."""

    request: HttpRequest

    def get_queryset(self) -> QuerySet[ExportJob]:
        user: Any = self.request.user
        return states.jobs().filter(requester=user.pk).order_by("-created_at", "-pk")

    def job(self, pk: Any) -> ExportJob:
        """Return a job, or answer with 404 as if there were none of another user."""
        return get_object_or_404(self.get_queryset(), pk=pk)


class Live(Mine):
    """A page that a script keeps up to date: `?live` gives the part of it that changes, and 304 if nothing did.

    Polling with an ETag, and no stream of events: that would keep a thread of the server for each page that is
    open, and a proxy that buffers would hold it back.
    """

    template_name: str
    live_template: ClassVar[str]

    def get_template_names(self) -> list[str]:
        return [self.live_template if LIVE in self.request.GET else self.template_name]

    def render_to_response(self, context: dict[str, Any], **options: Any) -> Any:
        jobs: Sequence[ExportJob] = context["jobs"]
        etag, is_active = _etag(jobs), any(job.is_active for job in jobs)
        if is_active:
            workers.wake()  # a restart may have left it
        query = self.request.GET.copy()
        query[LIVE] = "1"
        context |= {
            "etag": etag,
            "is_active": is_active,
            "live_url": f"{self.request.path}?{query.urlencode()}",
            "here": self.request.get_full_path() if LIVE not in self.request.GET else self._whole(),
        }
        if LIVE in self.request.GET:
            unchanged = get_conditional_response(self.request, etag, None, HttpResponse())
            if unchanged is not None and unchanged.status_code == 304:
                return unchanged
        response: HttpResponseBase = super().render_to_response(context, **options)  # type: ignore[misc]
        response["ETag"] = etag
        return response

    def _whole(self) -> str:
        query = self.request.GET.copy()
        query.pop(LIVE, None)
        return f"{self.request.path}?{query.urlencode()}" if query else self.request.path


class MyExports(Live, ListView):  # type: ignore[type-arg]
    """The exports of a user, the newest first."""

    template_name = "upstream_jobs/list.html"
    live_template = "upstream_jobs/_list.html"
    paginate_by = PAGE_JOBS

    def get_queryset(self) -> QuerySet[ExportJob]:
        return super().get_queryset().defer("request", "columns")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context = super().get_context_data(**kwargs)
        jobs = list(context["object_list"])
        return {**context, "jobs": jobs, "exports": [Shown(job) for job in jobs]}


class OneExport(Live, DetailView):  # type: ignore[type-arg]
    """One export of a user."""

    template_name = "upstream_jobs/job.html"
    live_template = "upstream_jobs/_job.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context = super().get_context_data(**kwargs)
        return {**context, "jobs": [self.object], "export": Shown(self.object)}


class Cancel(Mine):
    """Cancels an export that waits or is being made."""

    http_method_names = ("post",)

    def post(self, request: HttpRequest, pk: Any) -> HttpResponseBase:
        job = self.job(pk)
        if asking.cancel(job):
            messages.success(request, _("Cancelled %(name)s.") % {"name": job.filename}, fail_silently=True)
        else:
            messages.warning(
                request, _("%(name)s had ended already.") % {"name": job.filename}, fail_silently=True
            )
        return HttpResponseRedirect(_back(request), status=303)


class Retry(Mine):
    """Lets an export that failed or was cancelled be made again."""

    http_method_names = ("post",)

    def post(self, request: HttpRequest, pk: Any) -> HttpResponseBase:
        job = self.job(pk)
        name = {"name": job.filename}
        try:
            if asking.retry(job):
                messages.success(request, _("%(name)s is being made again.") % name, fail_silently=True)
            else:
                words = _("%(name)s cannot be made again: ask for it anew.") % name
                messages.warning(request, words, fail_silently=True)
        except asking.TooManyJobsError as error:
            messages.warning(request, str(error), fail_silently=True)
        return HttpResponseRedirect(_back(request), status=303)


class Download(Mine):
    """Leads from a page, which may be open for long, to a link that is valid for a short time."""

    http_method_names = ("get", "head", "options")

    def get(self, _request: HttpRequest, pk: Any) -> HttpResponseBase:
        job = self.job(pk)
        if job.state != State.DONE:
            return refusal(410, GONE)
        return HttpResponseRedirect(reverse("upstream_jobs:file", args=[links.token_for(job)]), status=303)


class File(View):
    """The file that a signed link leads its user to, after the permissions are checked again."""

    http_method_names = ("get", "head", "options")

    def get(self, request: HttpRequest, token: str) -> HttpResponseBase:
        user: Any = request.user
        try:
            job = links.job_of(token, user)
        except links.LinkError as error:
            return refusal(403, str(error))
        if not asking.is_allowed(job, user):
            raise PermissionDenied
        try:
            return send(request, job, storage(), redirect=Options.of_site().redirect)
        except GoneError:
            return refusal(410, GONE)


def _etag(jobs: Sequence[ExportJob]) -> str:
    shown = [(job.pk, job.state, job.rows, job.bytes, job.total, job.attempts, job.error) for job in jobs]
    return f'"{hashlib.sha256(repr((get_language(), shown)).encode()).hexdigest()[:32]}"'


def _back(request: HttpRequest) -> str:
    """Return the page of this site in the field `next`, or the list of exports."""
    target = request.POST.get("next", "")
    is_safe = url_has_allowed_host_and_scheme(target, {request.get_host()}, require_https=request.is_secure())
    return target if is_safe else reverse("upstream_jobs:list")
