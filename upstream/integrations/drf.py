"""List endpoints of Django REST framework as exports; it needs the extra `upstream[drf]`.

    class EventViewSet(ExportListMixin, ReadOnlyModelViewSet): ...

`?format=csv` (tsv, ndjson, json-array) or an Accept header then streams all that the view lists.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db import models
from django.db.models import QuerySet
from django.db.models.query import ModelIterable
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers

from upstream.integrations.choices import ChoiceError, chosen, listed
from upstream.integrations.downloads import download
from upstream.integrations.formats import FORMATS, Format, Profile
from upstream.integrations.limits import Limits
from upstream.integrations.permissions import ACTION
from upstream.integrations.permissions import export_permission as permission_to_export
from upstream.streaming import Column, ColumnError
from upstream.streaming._optional import optional

ISO_8601 = optional("rest_framework", "drf").ISO_8601
exceptions = optional("rest_framework.exceptions", "drf")
serializers = optional("rest_framework.serializers", "drf")
api_settings = optional("rest_framework.settings", "drf").api_settings
PKOnlyObject = optional("rest_framework.relations", "drf").PKOnlyObject
Response = optional("rest_framework.response", "drf").Response
JSONRenderer = optional("rest_framework.renderers", "drf").JSONRenderer
BaseRenderer: Any = optional("rest_framework.renderers", "drf").BaseRenderer


class ExportRenderer(BaseRenderer):  # type: ignore[misc]
    """Asks a view for its list as an export in `export_format`, which the view itself streams."""

    export_format: Format
    charset = None

    def render(self, data: Any, _accepted: str | None = None, renderer_context: Any = None) -> Any:
        """Return JSON, and say so: what is no export, such as an error, is not to look like rows."""
        json = JSONRenderer()
        if renderer_context and "response" in renderer_context:
            renderer_context["response"]["Content-Type"] = json.media_type
        return json.render(data, json.media_type, renderer_context)


class CsvRenderer(ExportRenderer):
    format, export_format = "csv", FORMATS["csv"]
    media_type = export_format.media_type


class TsvRenderer(ExportRenderer):
    format, export_format = "tsv", FORMATS["tsv"]
    media_type = export_format.media_type


class NdjsonRenderer(ExportRenderer):
    format, export_format = "ndjson", FORMATS["ndjson"]
    media_type = export_format.media_type


class JsonArrayRenderer(ExportRenderer):
    """One array of all objects. DRF's own "json" stays the list in pages, and what `application/json` gets."""

    format, export_format = "json-array", FORMATS["json"]
    media_type = export_format.media_type


EXPORT_RENDERERS = (CsvRenderer, TsvRenderer, NdjsonRenderer, JsonArrayRenderer)


class ExportListMixin:
    """Streams what a view lists, all pages of it; put it before DRF's own classes, such as ReadOnlyModelViewSet.

    Rows are those of the view's `get_queryset()` and filters, in their order; its permissions and throttles hold.
    Columns are the readable fields of its serializer, and `?columns=id,payer` chooses from them. What stands for
    a field of the model is read from the database and written as in all exports; the rest the serializer makes.
    `export_columns` names the columns where a serializer's own `to_representation()` gives others than its fields.

    `export_permission` is what a user must have beside the view's permissions: by default that to export the model
    (`app.export_model`); None is an export for whoever may list. `export_profile`, `export_limits` and `spool` are
    the `profile`, `export_limits` and `spool` of `upstream.integrations.views.ExportMixin`. Errors, and answers
    that are no list, are in the view's own format.
    """

    export_columns: Sequence[str] | None = None
    export_permission: str | None = ACTION
    export_limits: Limits | None = None
    export_filename = ""
    export_profile: Profile = "data"
    spool: bool | None = None

    request: Any

    def get_renderers(self) -> Iterable[Any]:
        own = [*super().get_renderers()]  # type: ignore[misc]
        return own + [kind() for kind in EXPORT_RENDERERS if kind not in map(type, own)]

    def list(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if isinstance(request.accepted_renderer, ExportRenderer):
            return self._exported(request.accepted_renderer.export_format)
        shown: HttpResponseBase = super().list(request, *args, **kwargs)  # type: ignore[misc]
        return shown

    def _exported(self, export_format: Format) -> HttpResponseBase:
        """Return the export of the view's list, or raise the exception of DRF that refuses it."""
        queryset: Any = self.get_queryset()  # type: ignore[attr-defined]
        if not self.has_export_permission(queryset):
            self.permission_denied(self.request)  # type: ignore[attr-defined]
        queryset = self.filter_queryset(queryset)  # type: ignore[attr-defined]
        return download(
            self.request._request,  # noqa: SLF001 (Django's own, with the user that DRF authenticated)
            queryset,
            self.get_export_columns(queryset),
            export_format.encoder_for(self.export_profile),
            self.get_export_filename(queryset, export_format),
            sender=type(self),
            limits=self.export_limits,
            spool=self.spool,
        )

    def has_export_permission(self, queryset: Any) -> bool:
        """Whether the request's user may have the export."""
        user = self.request.user
        if self.export_permission is None:
            return True
        model = getattr(queryset, "model", None)
        if self.export_permission == ACTION and model is None:
            raise ImproperlyConfigured(
                f"{type(self).__name__} exports no model: export_permission = 'app.codename', or None for everyone"
            )
        name = permission_to_export(model) if self.export_permission == ACTION else self.export_permission
        return user is not None and user.has_perm(name)

    def get_export_columns(self, queryset: Any) -> Sequence[Column]:
        """Return the columns of the serializer that the request chooses, by default all of them."""
        many = self.get_serializer(queryset, many=True)  # type: ignore[attr-defined]
        if type(many).to_representation is not serializers.ListSerializer.to_representation:
            raise ImproperlyConfigured(
                f"{type(many).__name__} makes its list of all rows at once: it cannot stream"
            )
        names = self.export_columns or field_names(many.child)
        wanted = listed(self.request.query_params.getlist("columns"))
        try:
            names = chosen("column", wanted or names, {name: name for name in names})
        except ChoiceError as error:
            raise exceptions.ValidationError({"columns": [str(error)]}) from error
        return columns_of(many.child, queryset, names, check=not self.export_columns)

    def get_export_filename(self, queryset: Any, export_format: Format) -> str:
        """Return the name of the file: `export_filename` or the name of the model, with the format's suffix."""
        model = getattr(queryset, "model", None)
        stem = self.export_filename or (model._meta.model_name if model else "export")
        return f"{stem}.{export_format.name}"

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        is_export = isinstance(getattr(request, "accepted_renderer", None), ExportRenderer)
        if is_export and isinstance(response, Response):
            own = (one for one in self.get_renderers() if not isinstance(one, ExportRenderer))
            request.accepted_renderer = next(own, JSONRenderer())
            request.accepted_media_type = request.accepted_renderer.media_type
        patch_vary_headers(response, ["Accept"])
        final: HttpResponseBase = super().finalize_response(request, response, *args, **kwargs)  # type: ignore[misc]
        return final


def field_names(serializer: Any) -> Sequence[str]:
    """Return the names of a serializer's readable fields, which are the columns by default."""
    names = [field.field_name for field in _readable(serializer)]
    if not names:
        raise ImproperlyConfigured(f"{type(serializer).__name__} has no fields: name its keys in export_columns")
    return names


def columns_of(serializer: Any, queryset: Any, names: Sequence[str], *, check: bool) -> Sequence[Column]:
    """Return the columns of those names: from the database where a field maps to one, else by the serializer.

    With `check`, a key of a representation that no field has is an error when its row is read.
    """
    if type(serializer).to_representation is not serializers.Serializer.to_representation:
        known = frozenset(field_names(serializer)) if check else None
        held = _Representations(serializer, names[-1], known)
        return [Column(held.reader(name), header=name) for name in names]
    is_read_by_field = (
        isinstance(serializer, serializers.ModelSerializer)
        and isinstance(queryset, QuerySet)
        and issubclass(queryset._iterable_class, ModelIterable)
    )
    fields = chosen("field", names, {field.field_name: field for field in _readable(serializer)})
    return [
        (is_read_by_field and _mapped(field, queryset.model)) or Column(_reader(field), header=field.field_name)
        for field in fields
    ]


def _readable(serializer: Any) -> Iterable[Any]:
    return getattr(serializer, "_readable_fields", ())


class _Representations:
    """What a serializer makes of whole records: made once for the columns of a record, gone with its last column.

    A batch is read column by column, so as many are held as it has rows.
    """

    def __init__(self, serializer: Any, last: str, known: frozenset[str] | None) -> None:
        self._serializer, self._last, self._known = serializer, last, known
        self._held: dict[int, Any] = {}

    def reader(self, name: str) -> Callable[[Any], Any]:
        def read(record: Any) -> Any:
            made = self._held.pop(id(record), None) or self._made(record)
            if name != self._last:
                self._held[id(record)] = made
            return made.get(name)

        return read

    def _made(self, record: Any) -> Any:
        made = self._serializer.to_representation(record)
        if self._known is not None and (extra := [repr(key) for key in made if key not in self._known]):
            kind = type(self._serializer).__name__
            raise ColumnError(f"{kind} gives {', '.join(extra)} without such a field: name all in export_columns")
        return made


def _reader(field: Any) -> Callable[[Any], Any]:
    """Return what reads a field as its serializer does; None where that leaves it out."""

    def read(record: Any) -> Any:
        try:
            found = field.get_attribute(record)
        except serializers.SkipField:
            return None
        key = found.pk if isinstance(found, PKOnlyObject) else found
        return None if key is None else field.to_representation(found)

    return read


def _mapped(field: Any, model: Any) -> Column | None:
    """Return the column of the model's field that a serializer's field stands for, or None."""
    source = _model_field(model, field.source_attrs)
    kind = _stock_name(field, serializers)
    if kind is None or _stock_name(source, models) not in MAPPED.get(kind, ()):
        return None
    may_be_default = field.default is not serializers.empty and len(field.source_attrs) > 1
    if may_be_default or not KEEPS.get(kind, _always)(field, source):
        return None
    return Column("__".join(field.source_attrs), header=field.field_name)


def _stock_name(field: Any, module: Any) -> str | None:
    """Return the name of a field's class where it is one of the module's own, since others may change values."""
    kind = type(field)
    return kind.__name__ if getattr(module, kind.__name__, None) is kind else None


def _model_field(model: Any, steps: Sequence[str]) -> Any:
    """Return the field that attributes lead to from an instance, through relations to one; None for all else."""
    for name in steps[:-1]:
        relation = _concrete(model, name)
        if relation is None or not relation.is_relation or relation.name != name:
            return None
        model = relation.related_model
    field = _concrete(model, steps[-1]) if steps else None
    return field.target_field if field and field.is_relation and field.attname == steps[-1] else field


def _concrete(model: Any, name: str) -> Any:
    try:
        field = model._meta.pk if name == "pk" else model._meta.get_field(name)
    except FieldDoesNotExist:
        return None
    return field if field.concrete else None


def _always(_field: Any, _source: Any) -> bool:
    return True


def _is_iso(field: Any, default: str) -> bool:
    return vars(field).get("format", default) in (None, ISO_8601)


def _keeps_digits(field: Any, source: Any) -> bool:
    is_as_wide = field.max_digits is None or field.max_digits >= source.max_digits
    is_as_long = field.decimal_places in (None, source.decimal_places)
    return is_as_wide and is_as_long and not field.localize and not field.normalize_output


def _is_number(field: Any, _source: Any) -> bool:
    return not getattr(field, "coerce_to_string", api_settings.COERCE_BIGINT_TO_STRING)


def _has_keys_of_its_type(field: Any, source: Any) -> bool:
    kind = str if _stock_name(source, models) in TEXTS else int
    return all(isinstance(key, kind) for key in field.choices)


TEXTS = frozenset({"CharField", "EmailField", "SlugField", "TextField", "URLField"})
INTEGERS = frozenset(
    {
        *("AutoField", "BigAutoField", "SmallAutoField", "IntegerField", "BigIntegerField", "SmallIntegerField"),
        *("PositiveIntegerField", "PositiveBigIntegerField", "PositiveSmallIntegerField"),
    }
)
VALUES = frozenset(
    f"{name}Field"
    for name in ("Boolean", "Date", "DateTime", "Decimal", "Duration", "Float", "JSON", "Time", "UUID")
)
# Which fields of a serializer only pass on what which fields of a model hold, and with which options they do.
MAPPED: Mapping[str, frozenset[str]] = {
    **{name: frozenset({name}) for name in VALUES},
    **dict.fromkeys(("CharField", "EmailField", "RegexField", "SlugField", "URLField"), TEXTS),
    **dict.fromkeys(("IntegerField", "BigIntegerField"), INTEGERS),
    "ChoiceField": TEXTS | INTEGERS,
    "IPAddressField": frozenset({"GenericIPAddressField"}),
    "PrimaryKeyRelatedField": frozenset({"ForeignKey", "OneToOneField"}),
    "ReadOnlyField": TEXTS | INTEGERS | VALUES,
}
KEEPS: Mapping[str, Callable[[Any, Any], bool]] = {
    "BigIntegerField": _is_number,
    "ChoiceField": _has_keys_of_its_type,
    "DateField": lambda field, _: _is_iso(field, api_settings.DATE_FORMAT),
    "DateTimeField": lambda field, _: (
        _is_iso(field, api_settings.DATETIME_FORMAT) and not hasattr(field, "timezone")
    ),
    "DecimalField": _keeps_digits,
    "DurationField": lambda field, _: _is_iso(field, ISO_8601),
    "JSONField": lambda field, _: not field.binary,
    "PrimaryKeyRelatedField": lambda field, _: field.pk_field is None,
    "TimeField": lambda field, _: _is_iso(field, api_settings.TIME_FORMAT),
    "UUIDField": lambda field, _: field.uuid_format == "hex_verbose",
}
