"""List endpoints of Django REST framework as exports; needs the extra `upstream[drf]`.

    class EventViewSet(ExportListMixin, ReadOnlyModelViewSet): ...

`?format=csv` (or tsv, ndjson, json-array, xlsx, parquet, pdf) or an Accept header then streams every row that the
view lists.
"""

from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db.models import QuerySet
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers

from upstream.integrations.choices import ChoiceError, Names, as_mapping, chosen, listed
from upstream.integrations.downloads import download
from upstream.integrations.filters import FilterError, rejections
from upstream.integrations.formats import FORMATS, Format, by_name
from upstream.integrations.options import ExportOptions
from upstream.integrations.permissions import has_permission, missing_words, required_permission
from upstream.integrations.rest_lists import NAMES, overridden_method, overridden_rows
from upstream.integrations.rest_schema import ExportSchema
from upstream.integrations.serializer_columns import columns_of, field_names
from upstream.streaming import Column
from upstream.streaming._optional import optional

exceptions: Any = optional("rest_framework.exceptions", "drf")
APIException: Any = exceptions.APIException
api_settings = optional("rest_framework.settings", "drf").api_settings
ListSerializer: Any = optional("rest_framework.serializers", "drf").ListSerializer
CursorPagination: Any = optional("rest_framework.pagination", "drf").CursorPagination
Response = optional("rest_framework.response", "drf").Response
JSONRenderer = optional("rest_framework.renderers", "drf").JSONRenderer
BaseRenderer: Any = optional("rest_framework.renderers", "drf").BaseRenderer


class ExportRenderer(BaseRenderer):  # type: ignore[misc]
    """Makes a view with `ExportListMixin` answer its list as a download in `export_format`."""

    export_format: Format
    charset = None

    def render(self, data: Any, _accepted: str | None = None, renderer_context: Any = None) -> Any:
        """Return JSON and declare it as JSON, so that an error does not look like rows."""
        json = JSONRenderer()
        if renderer_context and "response" in renderer_context:
            renderer_context["response"]["Content-Type"] = json.media_type
        return json.render(data, json.media_type, renderer_context)


# REST framework's own "json" shows the list in pages, so the array of all rows needs another name.
RENDERER_NAMES = {"json": "json-array"}


def _renderer(export_format: Format) -> type[ExportRenderer]:
    name = RENDERER_NAMES.get(export_format.name, export_format.name)
    words = "".join(word.capitalize() for word in name.split("-"))
    members = {"format": name, "media_type": export_format.media_type, "export_format": export_format}
    return type(f"{words}Renderer", (ExportRenderer,), members)


_RENDERERS = {name: _renderer(known) for name, known in FORMATS.items()}


def _renderer_of(export_format: Format) -> type[ExportRenderer]:
    known = _RENDERERS.get(export_format.name)
    return known if known and known.export_format is export_format else _renderer(export_format)


EXPORT_RENDERERS = tuple(_RENDERERS.values())
CsvRenderer = _RENDERERS["csv"]
TsvRenderer = _RENDERERS["tsv"]
NdjsonRenderer = _RENDERERS["ndjson"]
JsonArrayRenderer = _RENDERERS["json"]


class NotExportable(APIException):  # type: ignore[misc]
    """A list may show something else than an export of its rows would; answered with 501."""

    status_code = 501
    default_code = "not_exportable"


def _overridden(method: str) -> NotExportable:
    name = method.rpartition(".")[2].removesuffix("()")
    return NotExportable(
        f"{method} is overridden and may change what the list shows, but an export reads the rows without it. "
        f"If it changes neither rows nor values, add {name!r} to export_unchanged_by; "
        "otherwise do in get_queryset() or in the serializer what it does."
    )


class ExportListMixin(ExportOptions):
    """Streams all rows that a view lists; put it before REST framework's classes, such as ReadOnlyModelViewSet.

    The rows are those of `get_queryset()` after the view's filters, in the same order but without pages. The
    view's permissions and throttles apply.

    The columns are the readable fields of the serializer; `?columns=id,payer` chooses from them. A serializer
    field that returns a model field unchanged is read from the database and written as in every export; the
    serializer renders the others. If a custom `to_representation()` returns other keys, list them in
    `export_columns`.

    An export shows no more than the list. What is overridden in `get_queryset()`, `filter_queryset()`,
    `get_serializer()`, the serializer, its fields and the model holds for exports too. But an export calls neither
    `list()` nor what paginates and renders, nor a list serializer. If one of these is overridden, the export is
    refused with 501 and the reason. `export_unchanged_by` names the methods that change neither rows nor values,
    such as a `list()` that only logs; they refuse nothing.

    The other options are those of ExportOptions. The permission is needed in addition to the view's own.
    `export_format_parameter` is the name of the parameter `format` of this view, by default that of the site
    (REST framework's setting `URL_FORMAT_OVERRIDE`). Errors, and responses other than lists, are in the view's own
    format.
    """

    export_columns: Names | None = None
    export_format_parameter: str | None = None
    export_unchanged_by: Sequence[str] = ()

    request: Any
    schema = ExportSchema()

    def get_renderers(self) -> Iterable[Any]:
        own = [*super().get_renderers()]  # type: ignore[misc]
        kinds = map(_renderer_of, by_name(self.export_formats).values())
        return own + [kind() for kind in kinds if kind not in map(type, own)]

    def get_content_negotiator(self) -> Any:
        negotiator = super().get_content_negotiator()  # type: ignore[misc]
        if self.export_format_parameter:
            negotiator.settings = SimpleNamespace(URL_FORMAT_OVERRIDE=self.export_format_parameter)
        return negotiator

    def list(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if isinstance(request.accepted_renderer, ExportRenderer):
            return self._exported(request.accepted_renderer.export_format)
        shown: HttpResponseBase = super().list(request, *args, **kwargs)  # type: ignore[misc]
        return shown

    def _exported(self, export_format: Format) -> HttpResponseBase:
        """Return the export of the view's list, or raise the REST framework exception that refuses it."""
        unfiltered: Any = self.get_queryset()  # type: ignore[attr-defined]
        if not self.has_export_permission(unfiltered):
            missing = missing_words(str(self._permission(unfiltered)))
            self.permission_denied(self.request, message=missing)  # type: ignore[attr-defined]
        self._check_export()
        self._leave_out_format()
        queryset = self._ordered(self.filter_queryset(unfiltered))  # type: ignore[attr-defined]
        rows = self._rows(queryset)
        columns = self.get_export_columns(rows)
        try:
            with rejections(queryset, lambda: unfiltered):
                return download(
                    self.request._request,  # noqa: SLF001 (Django's request; REST framework set its user)
                    rows,
                    columns,
                    export_format.encoder_for(self.export_profile, queryset),
                    self.get_export_filename(queryset, export_format),
                    sender=type(self),
                    limits=self.export_limits,
                    spool=self.export_spool,
                )
        except FilterError as error:
            raise exceptions.ValidationError({api_settings.NON_FIELD_ERRORS_KEY: [str(error)]}) from error

    def _check_export(self) -> None:
        """Raise NotExportable if the view may list something else than its serializer makes of its queryset."""
        if unknown := set(self.export_unchanged_by) - {*NAMES, getattr(self, "action", None)}:
            raise ImproperlyConfigured(
                f"{type(self).__name__}.export_unchanged_by names {', '.join(map(repr, sorted(unknown)))}; "
                f"choose from: {', '.join(sorted(NAMES))}"
            )
        own = [one for one in self.get_renderers() if not isinstance(one, ExportRenderer)]
        if method := overridden_method(self, own, self.export_unchanged_by):
            raise _overridden(method)

    def _leave_out_format(self) -> None:
        """Take the format out of the request: links in the rows would lead to downloads, not to objects."""
        request = self.request._request  # noqa: SLF001
        name = self.export_format_parameter or api_settings.URL_FORMAT_OVERRIDE
        if name in request.GET:
            request.GET = request.GET.copy()
            del request.GET[name]
        self.format_kwarg = None

    def _ordered(self, queryset: Any) -> Any:
        """Return the queryset in the order in which the view's paginator has it."""
        paginator = getattr(self, "paginator", None)
        is_ordered = isinstance(paginator, CursorPagination) and paginator.get_page_size(self.request)
        if not (is_ordered and isinstance(queryset, QuerySet)):
            return queryset
        return queryset.order_by(*paginator.get_ordering(self.request, queryset, self))  # type: ignore[union-attr]

    def _rows(self, queryset: Any) -> Any:
        """Return the rows that the view's serializer gets; those that were read already may have been changed."""
        many = self.get_serializer(queryset, many=True)  # type: ignore[attr-defined]
        if not isinstance(many, ListSerializer):
            raise NotExportable(f"get_serializer(many=True) gives a {type(many).__name__} and no ListSerializer")
        if method := overridden_rows(many, self.export_unchanged_by):
            raise _overridden(method)
        read = getattr(many.instance, "_result_cache", None)
        return many.instance if read is None else read

    def has_export_permission(self, queryset: Any) -> bool:
        """Whether the user may export the queryset."""
        return has_permission(self.request.user, self._permission(queryset))

    def _permission(self, queryset: Any) -> str | None:
        attribute = f"{type(self).__name__}.export_permission"
        return required_permission(self.export_permission, lambda: getattr(queryset, "model", None), attribute)

    def get_export_columns(self, queryset: Any) -> Sequence[Column]:
        """Return the columns that the request chooses from those of the serializer, by default all."""
        many = self.get_serializer(queryset, many=True)  # type: ignore[attr-defined]
        declared = as_mapping(self.export_columns or field_names(many.child))
        wanted = listed(self.request.query_params.getlist("columns"))
        try:
            names = chosen("column", wanted or declared, declared)
        except ChoiceError as error:
            raise exceptions.ValidationError({"columns": [str(error)]}) from error
        return columns_of(many.child, queryset, names, check=not self.export_columns)

    def get_export_filename(self, queryset: Any, export_format: Format) -> str:
        """Return the name of the file: `export_filename` or the name of the model, with the format's suffix."""
        return export_format.filename(queryset, self.export_filename)

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        is_export = isinstance(getattr(request, "accepted_renderer", None), ExportRenderer)
        if is_export and isinstance(response, Response):
            own = (one for one in self.get_renderers() if not isinstance(one, ExportRenderer))
            request.accepted_renderer = next(own, JSONRenderer())
            request.accepted_media_type = request.accepted_renderer.media_type
        patch_vary_headers(response, ["Accept"])
        final: HttpResponseBase = super().finalize_response(request, response, *args, **kwargs)  # type: ignore[misc]
        return final
