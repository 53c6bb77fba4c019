"""The exports of all users, for operators: what runs, what failed, and how to end or repeat it."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl

from django.apps import apps
from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.db.models import QuerySet
from django.db.models.constants import LOOKUP_SEP
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext_lazy as _

from upstream.integrations.permissions import may_view
from upstream.jobs import asking, states
from upstream.jobs.files import storage
from upstream.jobs.models import ExportJob
from upstream.jobs.shown import Shown

# Fields that hold the values of filters. A list filtered by them would tell those, letter by letter.
HIDDEN = ("request", "fingerprint")


@admin.register(ExportJob)
class ExportJobAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Lists jobs, and cancels, repeats and expires them; nothing is added, changed or deleted by hand.

    By which values an export is filtered is shown to those who may view its model. The actions need the permission
    to change exports.
    """

    list_display = ("filename", "requester", "state", "rows_written", "size", "created_at", "finished_at")
    list_filter = ("state", "format", "model", ("created_at", admin.DateFieldListFilter))
    ordering = ("-created_at", "-pk")
    list_select_related = ("requester",)
    show_full_result_count = False
    actions = ("cancel", "retry", "expire")
    fields = (
        *("filename", "requester", "state", "rows_written", "size", "model", "column_names"),
        *("error", "attempts", "sha256", "created_at", "started_at", "finished_at", "expires_at"),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return False

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Whether the user may use the actions."""
        return super().has_change_permission(request)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        return lookup.partition(LOOKUP_SEP)[0] not in HIDDEN and super().lookup_allowed(lookup, value, request)

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:  # noqa: ARG002
        return ("filename", f"requester__{get_user_model().USERNAME_FIELD}")

    def get_fields(self, request: HttpRequest, obj: ExportJob | None = None) -> Any:
        shows = obj is not None and _may_view_rows(request.user, obj)
        return (*self.fields, "filters") if shows else self.fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[ExportJob]:
        match = request.resolver_match
        is_list = match is not None and match.url_name == "upstream_jobs_exportjob_changelist"
        found = super().get_queryset(request)
        return found.defer("request", "columns") if is_list and request.method == "GET" else found

    @admin.display(description=_("rows"), ordering="rows")
    def rows_written(self, job: ExportJob) -> str:
        return Shown(job).rows

    @admin.display(description=_("size"), ordering="bytes")
    def size(self, job: ExportJob) -> str:
        return filesizeformat(job.bytes)

    @admin.display(description=_("columns"))
    def column_names(self, job: ExportJob) -> str:
        return ", ".join(map(str, job.columns))

    @admin.display(description=_("parameters"))
    def filters(self, job: ExportJob) -> str:
        """The parameters of the request; those of another kind of request as they are kept."""
        if "query" not in job.request:
            return str(job.request.get("plan", ""))
        return "; ".join(f"{name}={value}" for name, value in parse_qsl(job.request["query"]))

    @admin.action(description=_("Cancel selected exports"), permissions=["operate"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[ExportJob]) -> None:
        self._each(request, queryset, asking.cancel)

    @admin.action(description=_("Make selected exports again"), permissions=["operate"])
    def retry(self, request: HttpRequest, queryset: QuerySet[ExportJob]) -> None:
        self._each(request, queryset, _retry)

    @admin.action(description=_("Delete the files of selected exports"), permissions=["operate"])
    def expire(self, request: HttpRequest, queryset: QuerySet[ExportJob]) -> None:
        self._each(request, queryset, _expire)

    def _each(
        self, request: HttpRequest, queryset: QuerySet[ExportJob], change: Callable[[ExportJob], bool]
    ) -> None:
        count, changed = 0, 0
        for job in queryset.iterator():
            count += 1
            changed += change(job)
        words = _("%(changed)s of %(count)s exports were changed.") % {"changed": changed, "count": count}
        self.message_user(request, words, messages.SUCCESS if changed else messages.WARNING)


def _retry(job: ExportJob) -> bool:
    try:
        return asking.retry(job)
    except asking.TooManyJobsError:
        return False


def _expire(job: ExportJob) -> bool:
    """Forget the request of a job that has ended, and delete its file."""
    if not states.forget(states.jobs().filter(pk=job.pk)):
        return False
    if job.file:
        with suppress(OSError):  # the janitor deletes it
            storage().delete(job.file)
    return True


def _may_view_rows(user: Any, job: ExportJob) -> bool:
    try:
        return may_view(user, apps.get_model(job.model))
    except (LookupError, ValueError):  # rows of no model, or of one that is gone
        return bool(user.is_superuser)
