"""Exports in Django's admin: a button on the changelist, an action for selected rows, a form, a log."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IS_FACETS_VAR, TO_FIELD_VAR, IncorrectLookupParameters
from django.contrib.admin.utils import model_ngettext
from django.contrib.admin.views.main import ALL_VAR, ERROR_FLAG, PAGE_VAR
from django.core.exceptions import BadRequest, PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.loader import select_template
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.translation import gettext_lazy as _

from upstream.integrations.admin_log import logged
from upstream.integrations.downloads import download
from upstream.integrations.formats import FORMATS, Format, Profile, by_name
from upstream.integrations.forms import ExportForm
from upstream.integrations.limits import Limits
from upstream.integrations.list_display import ListColumn, list_columns
from upstream.integrations.permissions import export_permission, has_permission
from upstream.streaming.sources.orm import follows_all_relations

# The changelist's parameters that change how rows are shown, not which rows.
DISPLAY_PARAMETERS = (PAGE_VAR, ALL_VAR, ERROR_FLAG, IS_FACETS_VAR, TO_FIELD_VAR)


class ExportAdminMixin:
    """Lets users with the permission `export_<model>` export what the changelist shows.

    An export runs the query of the changelist, with its filters, search and order. It does not list primary keys,
    so memory does not grow with the rows.

    `export_columns` are the columns to choose from: entries as in `list_display`, which is the default, or
    Columns. `export_formats` are names or Formats. A column that shows another model needs the permission to view
    that model. Each export is recorded in the admin log.
    """

    export_columns: Sequence[Any] | None = None
    export_formats: Iterable[str | Format] = tuple(FORMATS)
    export_limits: Limits | None = None
    export_spool: bool | None = None

    model: Any
    opts: Any
    admin_site: Any
    actions: Any
    change_list_template: Any

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        label, name = self.opts.app_label, self.opts.model_name
        own = [f"admin/{place}change_list.html" for place in (f"{label}/{name}/", f"{label}/", "")]
        self._list_templates = [self.change_list_template] if self.change_list_template else own
        self.change_list_template = "upstream_integrations/admin/change_list.html"
        if self.actions is not None and "export_selected" not in self.actions:
            self.actions = [*self.actions, "export_selected"]

    def has_export_permission(self, request: HttpRequest) -> bool:
        """Whether the user may export the rows that the user may view."""
        return has_permission(request.user, export_permission(self.model))

    def get_export_formats(self) -> list[Format]:
        """Return the formats to choose from."""
        return list(by_name(self.export_formats).values())

    def get_export_columns(self, request: HttpRequest) -> Sequence[Any]:
        """Return the columns to choose from: entries as in `list_display`, or Columns."""
        columns: Sequence[Any] = self.export_columns or self.get_list_display(request)  # type: ignore[attr-defined]
        return columns

    def get_export_filename(self, request: HttpRequest, queryset: Any, file_format: Format) -> str:  # noqa: ARG002
        """Return the name of the file."""
        return file_format.filename(queryset, self.opts.model_name)

    def get_export_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the rows that the changelist shows for the request's parameters, on all pages."""
        changelist = self.get_changelist_instance(request)  # type: ignore[attr-defined]
        queryset: QuerySet[Any] = changelist.queryset
        return queryset

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type:
        changelist: type = super().get_changelist(request, **kwargs)  # type: ignore[misc]
        match = request.resolver_match
        return _without_pages(changelist) if match and match.url_name == self._url_name else changelist

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.export_view)
        urls: list[Any] = super().get_urls()  # type: ignore[misc]
        return [path("export/", view, name=self._url_name), *urls]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponseBase:
        context = {
            "upstream_list_template": select_template(self._list_templates),
            "has_export_permission": self.has_export_permission(request),
            **(extra_context or {}),
        }
        shown: HttpResponseBase = super().changelist_view(request, context)  # type: ignore[misc]
        return shown

    @admin.action(description=_("Export selected %(verbose_name_plural)s"), permissions=["export"])
    def export_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponseBase:
        """Show the export form for the selected rows."""
        everything = request.POST.get("select_across") == "1"
        selected = [] if everything else request.POST.getlist(ACTION_CHECKBOX_NAME)
        return self._page(request, queryset, self._form(request), selected)

    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        """Show the export form, or answer the submitted form with the download."""
        may_view = self.has_view_or_change_permission(request)  # type: ignore[attr-defined]
        if not (may_view and self.has_export_permission(request)):
            raise PermissionDenied
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
            queryset = self._selected(queryset, selected)
        if request.method != "POST":
            return self._page(request, queryset, self._form(request), selected)
        form = self._form(request, request.POST)
        if not form.is_valid():
            return self._page(request, queryset, form, selected, status=400)
        return self._download(request, queryset, form.cleaned_data, len(selected))

    @property
    def _url_name(self) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_export"

    def _selected(self, queryset: QuerySet[Any], keys: Sequence[str]) -> QuerySet[Any]:
        try:
            return queryset.filter(pk__in=[self.opts.pk.to_python(key) for key in keys])
        except ValidationError as error:
            raise BadRequest("the selection is not valid") from error

    def _columns(self, request: HttpRequest, *, labelled: bool) -> dict[str, ListColumn]:
        found = list_columns(self, self.get_export_columns(request), labelled=labelled)
        return {name: column for name, column in found.items() if column.is_allowed(request.user)}

    def _form(self, request: HttpRequest, data: Any = None) -> ExportForm:
        columns = self._columns(request, labelled=True).values()
        choices = [(column.name, column.label) for column in columns]
        return ExportForm(data, formats=self.get_export_formats(), columns=choices)

    def _page(
        self, request: HttpRequest, queryset: Any, form: ExportForm, selected: Sequence[str], status: int = 200
    ) -> HttpResponseBase:
        count = queryset.count()
        query = request.GET.urlencode()
        changelist = reverse(
            f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist", current_app=self.admin_site.name
        )
        here = reverse(f"admin:{self._url_name}", current_app=self.admin_site.name)
        limits = self.export_limits or Limits.of_site()
        context = {
            **self.admin_site.each_context(request),
            "title": _("Export %(name)s") % {"name": self.opts.verbose_name_plural},
            "opts": self.opts,
            "form": form,
            "count": count,
            "counted": model_ngettext(self.opts, count),
            "most": limits.rows if limits.rows is not None and count > limits.rows else None,
            "selected": selected,
            "checkbox_name": ACTION_CHECKBOX_NAME,
            "changelist_url": f"{changelist}?{query}",
            "export_url": f"{here}?{query}",
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "upstream_integrations/admin/export.html", context, status=status)

    def _download(
        self, request: HttpRequest, queryset: QuerySet[Any], chosen: dict[str, Any], selected: int
    ) -> HttpResponseBase:
        export_format = by_name(self.get_export_formats())[chosen["format"]]
        profile: Profile = chosen["profile"] if export_format.for_people else "data"
        known = self._columns(request, labelled=profile == "excel")
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
            export_format.encoder_for(profile),
            self.get_export_filename(request, queryset, export_format),
            sender=type(self),
            limits=self.export_limits,
            spool=self.export_spool,
            record=partial(logged, request, self.model, details),
        )


class ExportModelAdmin(ExportAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg, misc]
    """A ModelAdmin with exports."""


def _without_pages(changelist: Any) -> type:
    """Return a subclass of `changelist` that reads no page of rows and counts none."""
    return type(changelist.__name__, (changelist,), {"get_results": lambda _self, _request: None})


def _with_relations(queryset: QuerySet[Any], names: Sequence[str]) -> QuerySet[Any]:
    """Return the queryset with these relations fetched along with its rows."""
    if follows_all_relations(queryset.query):  # but nullable ones
        return queryset.prefetch_related(*names)
    return queryset.select_related(*names) if names else queryset
