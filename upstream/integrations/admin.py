"""Exports in Django's admin: a button on the changelist, an action for selected rows, a form, a log."""

from collections.abc import Iterable, Sequence
from functools import partial
from inspect import signature
from typing import Any

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IS_FACETS_VAR, IS_POPUP_VAR, TO_FIELD_VAR, IncorrectLookupParameters
from django.contrib.admin.utils import model_ngettext
from django.contrib.admin.views.main import ALL_VAR, ERROR_FLAG, PAGE_VAR
from django.core import checks
from django.core.exceptions import BadRequest
from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.timezone import localdate
from django.utils.translation import gettext_lazy as _

from upstream.integrations.admin_checks import check_model_admins
from upstream.integrations.admin_log import logged
from upstream.integrations.background import is_offered
from upstream.integrations.choices import Columns
from upstream.integrations.downloads import download
from upstream.integrations.formats import FORMATS, Format, Profile, by_name
from upstream.integrations.forms import ExportForm
from upstream.integrations.limits import Limits
from upstream.integrations.list_display import ListColumn, ListReader
from upstream.integrations.list_filters import narrowed_by
from upstream.integrations.neighbours import own_formats, with_button
from upstream.integrations.options import ExportOptions
from upstream.integrations.permissions import (
    MissingPermissionError,
    export_permission,
    has_permission,
    required_permission,
    view_permission,
)
from upstream.integrations.selections import SelectionError, selected_keys
from upstream.streaming.sources.orm import follows_all_relations

# The changelist's parameters that change how rows are shown, not which rows.
DISPLAY_PARAMETERS = (PAGE_VAR, ALL_VAR, ERROR_FLAG, IS_FACETS_VAR, TO_FIELD_VAR)


class ExportAdminMixin(ExportOptions):
    """Lets users with the permission `export_<model>` export what the changelist shows.

    An export runs the query of the changelist, with its filters, search and order. It does not list primary keys,
    so memory does not grow with the rows.

    The options are those of ExportOptions. `export_columns` are entries as in `list_display`, which is the
    default, or Columns, or a mapping of names to these. `export_profile` is the one that the page proposes, and
    the date is added to `export_filename`. The first of `export_formats`, by default Excel, is chosen until the
    user chooses another. Each export is recorded in the admin log.

    A column that shows another model, by a path, a key, an annotation or the text of a row, needs the permission
    to view that model. Functions show what their author lets them show.

    Name the mixin before ModelAdmin. It goes together with other mixins, in any order, as long as they have no
    export of their own; `manage.py check` tells what cannot be joined.
    """

    export_columns: Columns | None = None
    export_formats: Iterable[str | Format] = tuple(sorted(FORMATS, key=lambda name: name != "xlsx"))
    export_profile: Profile = "excel"

    model: Any
    opts: Any
    admin_site: Any
    actions: Any

    def has_export_permission(self, request: HttpRequest) -> bool:
        """Whether the user may export the rows that the user may view."""
        return has_permission(request.user, self._export_permission)

    @property
    def _export_permission(self) -> str | None:
        return required_permission(
            self.export_permission, lambda: self.model, f"{type(self).__name__}.export_permission"
        )

    def get_export_formats(self) -> list[Format]:
        """Return the formats to choose from."""
        return list(by_name(own_formats(self, ExportAdminMixin)).values())

    def get_export_columns(self, request: HttpRequest) -> Columns:
        """Return the columns to choose from: entries as in `list_display` and Columns, or a mapping to these."""
        columns: Columns = self.export_columns or self.get_list_display(request)  # type: ignore[attr-defined]
        return columns

    def get_export_filename(self, request: HttpRequest, queryset: Any, file_format: Format) -> str:  # noqa: ARG002
        """Return the name of the file: `export_filename` or the model's name, and the date."""
        stem = self.export_filename or self.opts.model_name
        return file_format.filename(queryset, f"{stem}_{localdate().isoformat()}")

    def get_export_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the rows that the changelist shows for the request's parameters, on all pages."""
        changelist = self.get_changelist_instance(request)  # type: ignore[attr-defined]
        queryset: QuerySet[Any] = changelist.queryset
        return queryset

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type:
        changelist: type = super().get_changelist(request, **kwargs)  # type: ignore[misc]
        match = request.resolver_match
        return _without_pages(changelist) if match and match.url_name == self.export_url_name else changelist

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.export_view)
        urls: list[Any] = super().get_urls()  # type: ignore[misc]
        return [path("export/", view, name=self.export_url_name), *urls]

    def get_actions(self, request: HttpRequest, action_location: Any = None) -> dict[str, Any]:
        """Return the actions of the list, exports of selected rows among them unless `actions` is None.

        Django 6.1 asks by `action_location` whether they are for the list or for the form of one row.
        """
        inherited = super().get_actions  # type: ignore[misc]
        is_asked = action_location is not None and "action_location" in signature(inherited).parameters
        location = {"action_location": action_location} if is_asked else {}
        actions: dict[str, Any] = inherited(request, **location)
        is_list = action_location is None or action_location.name == "CHANGE_LIST"
        offered = is_list and self.actions is not None and IS_POPUP_VAR not in request.GET
        if offered and self.has_export_permission(request):
            actions.setdefault("export_selected", self.get_action("export_selected"))  # type: ignore[attr-defined]
        return actions

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponseBase:
        context = {"may_export": self.has_export_permission(request), **(extra_context or {})}
        shown: HttpResponseBase = with_button(super().changelist_view(request, context), request)  # type: ignore[misc]
        return shown

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any], **location: Any) -> Any:
        if "export_selected" in request.POST.getlist("action"):
            self._keys(request, queryset)  # before the rows are queried by them
        return super().response_action(request, queryset, **location)  # type: ignore[misc]

    @admin.action(description=_("Export selected %(verbose_name_plural)s"), permissions=["export"])
    def export_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponseBase:
        """Show the export form for the selected rows."""
        everything = request.POST.get("select_across") == "1"
        selected = [] if everything else request.POST.getlist(ACTION_CHECKBOX_NAME)
        return self._page(request, queryset, self._form(request, queryset, selected), selected)

    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        """Show the export form, or answer the submitted form with the download."""
        try:
            self._require_permissions(request)
            return self._answer(request)
        except MissingPermissionError as error:
            return self._refusal(request, error)

    @property
    def export_url_name(self) -> str:
        """The name of the export page's URL."""
        return f"{self.opts.app_label}_{self.opts.model_name}_export"

    def _require_permissions(self, request: HttpRequest) -> None:
        may_view = self.has_view_or_change_permission(request)  # type: ignore[attr-defined]
        needed = {view_permission(self.model): may_view}
        needed[self._export_permission or export_permission(self.model)] = self.has_export_permission(request)
        if missing := [name for name, is_given in needed.items() if not is_given]:
            raise MissingPermissionError(*missing)

    def _answer(self, request: HttpRequest) -> HttpResponseBase:
        shown: Any = request.GET.copy()
        for name in DISPLAY_PARAMETERS:
            shown.pop(name, None)
        request.GET = shown
        try:
            queryset = self.get_export_queryset(request)
        except IncorrectLookupParameters as error:
            raise BadRequest("the filters in the URL are not valid") from error
        selected = request.POST.getlist(ACTION_CHECKBOX_NAME)
        if selected:
            queryset = queryset.filter(pk__in=self._keys(request, queryset))
        if request.method != "POST":
            return self._page(request, queryset, self._form(request, queryset, selected), selected)
        form = self._form(request, queryset, selected, request.POST)
        if not form.is_valid():
            return self._page(request, queryset, form, selected, status=400)
        return self._download(request, queryset, form.cleaned_data, len(selected))

    def _keys(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        try:
            return selected_keys(self.opts.pk, request.POST.getlist(ACTION_CHECKBOX_NAME), queryset.db)
        except SelectionError as error:
            raise BadRequest("the selection is not valid") from error

    def _columns(self, request: HttpRequest, queryset: Any, *, for_people: bool) -> dict[str, ListColumn]:
        user: Any = request.user
        reader = ListReader(model_admin=self, query=queryset.query, user=user, for_people=for_people)
        found = reader.columns(self.get_export_columns(request))
        return {name: column for name, column in found.items() if column.is_allowed(user)}

    def _form(self, request: HttpRequest, queryset: Any, selected: Sequence[str], data: Any = None) -> ExportForm:
        columns = self._columns(request, queryset, for_people=True).values()
        choices = [(column.name, column.label) for column in columns]
        initial = {"profile": self.export_profile}
        return ExportForm(
            data,
            formats=self.get_export_formats(),
            columns=choices,
            has_background=is_offered() and not selected,
            initial=initial,
        )

    def _page(
        self, request: HttpRequest, queryset: Any, form: ExportForm, selected: Sequence[str], status: int = 200
    ) -> HttpResponseBase:
        count = queryset.count()
        here = reverse(f"admin:{self.export_url_name}", current_app=self.admin_site.name)
        limits = self.export_limits or Limits.of_site()
        context = {
            **self._context(request),
            "form": form,
            "count": count,
            "counted": model_ngettext(self.opts, count),
            "reason": _reason_for_nothing(count, form, is_narrowed=bool(request.GET or selected)),
            "most": limits.rows if limits.rows is not None and count > limits.rows else None,
            "selected": selected,
            "narrowed_by": [] if selected else narrowed_by(self.get_changelist_instance(request)),  # type: ignore[attr-defined]
            "checkbox_name": ACTION_CHECKBOX_NAME,
            "export_url": f"{here}?{request.GET.urlencode()}",
        }
        return TemplateResponse(request, "upstream_integrations/admin/export.html", context, status=status)

    def _refusal(self, request: HttpRequest, error: MissingPermissionError) -> HttpResponseBase:
        context = {**self._context(request), "missing": error.names}
        return TemplateResponse(request, "upstream_integrations/admin/export_refused.html", context, status=403)

    def _context(self, request: HttpRequest) -> dict[str, Any]:
        changelist = reverse(
            f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist", current_app=self.admin_site.name
        )
        request.current_app = self.admin_site.name
        return {
            **self.admin_site.each_context(request),
            "title": _("Export %(name)s") % {"name": self.opts.verbose_name_plural},
            "opts": self.opts,
            "changelist_url": f"{changelist}?{request.GET.urlencode()}",
        }

    def _download(
        self, request: HttpRequest, queryset: QuerySet[Any], chosen: dict[str, Any], selected: int
    ) -> HttpResponseBase:
        export_format = by_name(self.get_export_formats())[chosen["format"]]
        profile: Profile = chosen["profile"] if export_format.for_people else "data"
        known = self._columns(request, queryset, for_people=profile == "excel")
        columns = [known[name] for name in known if name in chosen["columns"]]
        details = {
            "format": export_format.name,
            "profile": profile,
            "columns": [column.name for column in columns],
            "filter": request.GET.urlencode(),
            **({"selected": selected} if selected else {}),
        }
        return download(
            request,
            _with_relations(queryset, [column.relation for column in columns if column.relation]),
            [column.column for column in columns],
            export_format.encoder_for(profile, queryset),
            self.get_export_filename(request, queryset, export_format),
            sender=type(self),
            limits=self.export_limits,
            spool=self.export_spool,
            record=partial(logged, request, self.model, details),
            is_repeatable=not selected,
        )


class ExportModelAdmin(ExportAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg, misc]
    """A ModelAdmin with exports."""


def _reason_for_nothing(count: int, form: ExportForm, *, is_narrowed: bool) -> Any:
    """Return why there is nothing to export, or None if there is something."""
    if not form.has_columns:
        return _("All columns show other models, and you lack the permission to view those.")
    if count:
        return None
    return _("No row matches the filters.") if is_narrowed else _("The list is empty.")


def _without_pages(changelist: Any) -> type:
    """Return a subclass of `changelist` that reads no page of rows and counts none."""
    return type(changelist.__name__, (changelist,), {"get_results": lambda _self, _request: None})


def _with_relations(queryset: QuerySet[Any], names: Sequence[str]) -> QuerySet[Any]:
    """Return the queryset with these relations fetched along with its rows."""
    if follows_all_relations(queryset.query):  # but nullable ones
        return queryset.prefetch_related(*names)
    fields = {name: queryset.model._meta.get_field(name.partition("__")[0]) for name in names}
    generic = [name for name in names if fields[name].related_model is None]  # to rows of any model: no join
    joined = [name for name in names if name not in generic]
    return (queryset.select_related(*joined) if joined else queryset).prefetch_related(*generic)


checks.register(partial(check_model_admins, ExportAdminMixin), "exports", checks.Tags.admin)
