"""Class-based views that export what they list."""

from collections.abc import Iterable
from typing import Any

from django.contrib.auth.mixins import AccessMixin
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers
from django.views.generic import View
from django.views.generic.list import MultipleObjectMixin

from upstream.integrations.background import PARAMETERS, is_offered
from upstream.integrations.choices import (
    ChoiceError,
    Columns,
    Names,
    as_mapping,
    chosen,
    chosen_ordering,
    keyed_columns,
    listed,
)
from upstream.integrations.downloads import download, refusal
from upstream.integrations.filters import check_ordering, condition, rejections
from upstream.integrations.formats import Format, Profile, by_name
from upstream.integrations.labels import for_people
from upstream.integrations.limits import Limits
from upstream.integrations.options import ExportOptions, Plain
from upstream.integrations.permissions import has_permission, missing_words, required_permission
from upstream.streaming import Column, ColumnError


class ExportMixin(ExportOptions, AccessMixin):
    """Exports the rows of a view; put it before the view's other classes, such as ListView or FilterView.

    `?format=csv` requests the export; other requests are left to the view. Users choose columns, order and filters
    by `?columns=id,payer`, `?order_by=-severity,id` and `?severe=0.7`, but only from what is declared:

    - `columns`: names, callables and Columns, or a mapping of public names to these;
    - `ordering_fields`: paths to fields, or a mapping of public names to these;
    - `filter_fields`: paths with or without a lookup, or a mapping such as `{"severe": "severity__gte"}`.

    Any other name is answered with 400 and the names to choose from. `format_parameter` is the name of the
    parameter `format`, for a view that has another use for it.

    The other options are those of ExportOptions. This class is made for exports, so each of them may also be
    declared without the prefix: `permission` is `export_permission`.
    """

    columns: Columns | None = None
    formats: Iterable[str | Format] = ExportOptions.export_formats
    format_parameter: str = "format"
    ordering_fields: Names = ()
    filter_fields: Names = ()
    permission: str | None = ExportOptions.export_permission
    profile: Profile = ExportOptions.export_profile
    filename: str = ExportOptions.export_filename
    spool: bool | None = ExportOptions.export_spool
    limits: Limits | None = ExportOptions.export_limits

    export_columns: Any = Plain()
    export_formats: Any = Plain()
    export_format_parameter: Any = Plain()
    export_permission: Any = Plain()
    export_profile: Any = Plain()
    export_filename: Any = Plain()
    export_spool: Any = Plain()
    export_limits: Any = Plain()

    request: HttpRequest

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if self._asks_for_export():
            return self.export()
        shown: HttpResponseBase = super().get(request, *args, **kwargs)  # type: ignore[misc]
        return shown

    def export(self) -> HttpResponseBase:
        """Return the export that the request asks for, or a response that refuses it."""
        if not self.has_export_permission():
            return self.handle_no_permission()
        try:
            export_format = self._format()
            if export_format is None:
                known = ", ".join(one.media_type for one in by_name(self.export_formats).values())
                return refusal(406, f"the Accept header allows no format of this export; choose from: {known}")
            queryset = self.get_export_queryset()
            rows = self._ordered(self._filtered(queryset))
            with rejections(rows, lambda: self._unfiltered(queryset)):
                response = self._download(rows, self._columns(queryset), export_format)
        except (ChoiceError, ColumnError) as error:
            return refusal(400, str(error))
        patch_vary_headers(response, ["Accept"])
        return response

    def has_export_permission(self) -> bool:
        """Whether the user may export."""
        name = None if self.export_permission is None else self.get_export_permission()
        return has_permission(getattr(self.request, "user", None), name)

    def get_permission_denied_message(self) -> str:
        return str(self.permission_denied_message) or missing_words(self.get_export_permission())

    def get_export_permission(self) -> str:
        """Return the full name of the permission that a user needs."""
        return str(required_permission(self.export_permission, self._model, f"{type(self).__name__}.permission"))

    def get_export_queryset(self) -> Any:
        """Return the rows to export: the filtered queryset of a FilterView, or the view's own queryset."""
        if not hasattr(self, "get_filterset"):
            return self.get_queryset()  # type: ignore[attr-defined]
        filterset = self.get_filterset(self.get_filterset_class())  # type: ignore[attr-defined]
        if not filterset.is_valid():
            errors = "; ".join(f"{name}: {' '.join(texts)}" for name, texts in filterset.errors.items())
            raise ChoiceError(f"invalid filters: {errors}")
        return filterset.qs

    def get_export_columns(self) -> Columns | None:
        """Return the columns that users choose from; by default all of them are exported."""
        columns: Columns | None = self.export_columns
        return columns

    def get_export_filename(self, queryset: Any, export_format: Format) -> str:
        """Return the name of the file: `filename` or the name of the model, with the format's suffix."""
        return export_format.filename(queryset, self.export_filename)

    def _model(self) -> Any:
        """Return the model of the export without running a user's filters, if the view declares it."""
        filterset = getattr(self, "filterset_class", None)
        declared = (self, getattr(self, "queryset", None), filterset and filterset._meta)
        models = (getattr(one, "model", None) for one in declared)
        return next(filter(None, models), None) or getattr(self.get_queryset(), "model", None)  # type: ignore[attr-defined]

    def _asks_for_export(self) -> bool:
        """Whether the request names a format. The view's own filter of that name keeps all other values."""
        name = self.request.GET.get(self.export_format_parameter)
        if name is None or not hasattr(self, "get_filterset_class"):
            return name is not None
        filters = getattr(self.get_filterset_class(), "base_filters", ())
        return name in by_name(self.export_formats) or self.export_format_parameter not in filters

    def _format(self) -> Format | None:
        formats = by_name(self.export_formats)
        if name := self.request.GET.get(self.export_format_parameter):
            return chosen(self.export_format_parameter, [name], formats)[0]
        media_type = self.request.get_preferred_type([one.media_type for one in formats.values()])
        return next((one for one in formats.values() if one.media_type == media_type), None)

    def _columns(self, queryset: Any) -> list[Column] | None:
        columns = keyed_columns(queryset, self.get_export_columns())
        wanted = listed(self.request.GET.getlist("columns"))
        if wanted and columns is None:
            raise ChoiceError("the columns are not known beforehand; leave out the parameter 'columns'")
        if columns is None:
            return None
        return chosen("column", wanted or columns, columns)

    def _filtered(self, queryset: Any) -> Any:
        conditions = [
            condition(queryset.model, path, text, called=name, using=queryset.db)
            for name, path in as_mapping(self.filter_fields).items()
            for text in self.request.GET.getlist(name)
        ]
        return queryset.filter(*conditions) if conditions else queryset

    def _unfiltered(self, queryset: Any) -> Any:
        """Return the rows that the filters of the request choose from."""
        if not hasattr(self, "get_filterset"):
            return queryset
        return self.get_filterset(self.get_filterset_class()).queryset  # type: ignore[attr-defined]

    def _ordered(self, queryset: Any) -> Any:
        wanted = listed(self.request.GET.getlist("order_by"))
        names = chosen_ordering(wanted, self.ordering_fields)
        for name in names:
            check_ordering(queryset.model, name)
        return queryset.order_by(*names) if names else queryset

    def _download(self, rows: Any, columns: list[Column] | None, export_format: Format) -> HttpResponseBase:
        if export_format.is_for_people(self.export_profile):
            columns = for_people(rows, columns)
        return download(
            self.request,
            rows,
            columns,
            export_format.encoder_for(self.export_profile, rows),
            self.get_export_filename(rows, export_format),
            sender=type(self),
            limits=self.export_limits,
            spool=self.export_spool,
        )


class ExportView(ExportMixin, MultipleObjectMixin, View):  # type: ignore[type-arg]
    """A view that only exports: `model`, `queryset`, or `get_queryset()`, which may return any iterable of rows.

    Without the parameter `format` the Accept header chooses the format; the first of `formats` is the default. An
    undeclared parameter is answered with 400, because ignoring a misspelt filter would export every row.
    """

    http_method_names = ("get", "head", "options")

    def get(self, request: HttpRequest, *_args: Any, **_kwargs: Any) -> HttpResponseBase:
        own = (self.export_format_parameter, "columns", "order_by")
        known = dict.fromkeys((*own, *as_mapping(self.filter_fields)))
        offered = PARAMETERS if is_offered() else ()
        if self.has_export_permission():
            try:
                chosen("parameter", [name for name in request.GET if name not in offered], known)
            except ChoiceError as error:
                return refusal(400, str(error))
        return self.export()
