"""The fields of a REST framework serializer as columns of an export; needs the extra `upstream[drf]`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from math import inf
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import models
from django.db.models import QuerySet

from upstream.integrations.choices import chosen
from upstream.integrations.stock import changed_methods, gives_what_is_stored, overridden
from upstream.streaming import Column, ColumnError
from upstream.streaming._optional import optional
from upstream.streaming.sources.model_columns import field_named
from upstream.streaming.sources.orm import gives_instances, prefetches

ISO_8601 = optional("rest_framework", "drf").ISO_8601
serializers = optional("rest_framework.serializers", "drf")
api_settings = optional("rest_framework.settings", "drf").api_settings
PKOnlyObject = optional("rest_framework.relations", "drf").PKOnlyObject


def field_names(serializer: Any) -> Sequence[str]:
    """Return the names of the serializer's readable fields: the default columns."""
    names = [field.field_name for field in _readable(serializer)]
    if not names:
        raise ImproperlyConfigured(f"{type(serializer).__name__} has no fields; list its keys in export_columns")
    return names


def columns_of(serializer: Any, queryset: Any, names: Sequence[str], *, check: bool) -> Sequence[Column]:
    """Return the columns of these names, read from the database if possible and else by the serializer.

    With `check`, a row raises ColumnError if its representation has a key that is not a field.
    """
    is_stock = type(serializer).to_representation is serializers.Serializer.to_representation
    if not is_stock or overridden(serializer, ["to_representation"], "rest_framework"):
        known = frozenset(field_names(serializer)) if check else None
        held = _Representations(serializer, names[-1], known)
        return [Column(held.reader(name), header=name) for name in names]
    is_read_by_field = (
        isinstance(serializer, serializers.ModelSerializer)
        and isinstance(queryset, QuerySet)
        and gives_instances(queryset)
        and not overridden(queryset, ITERATING, "django.db")
    )
    fields = chosen("field", names, {field.field_name: field for field in _readable(serializer)})
    return [
        (is_read_by_field and _mapped(field, queryset)) or Column(_reader(field), header=field.field_name)
        for field in fields
    ]


def _readable(serializer: Any) -> Iterable[Any]:
    return getattr(serializer, "_readable_fields", ())


class _Representations:
    """Representations of whole records: each is made for the first column and dropped after the last.

    A batch is read column by column, so the representations of all its rows are held at a time.
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
            raise ColumnError(f"{kind} adds {', '.join(extra)} to its fields; list all keys in export_columns")
        return made


def _reader(field: Any) -> Callable[[Any], Any]:
    """Return a function that reads a field as its serializer does; a field that is left out is None."""
    represent = _kept(field) or field.to_representation

    def read(record: Any) -> Any:
        try:
            found = field.get_attribute(record)
        except serializers.SkipField:
            return None
        key = found.pk if isinstance(found, PKOnlyObject) else found
        return None if key is None else represent(found)

    return read


def _kept(field: Any) -> Callable[[Any], Any] | None:
    """Return a function that gives moments and durations as values, so that a file has one form of them.

    None is a field that writes something else, or that has a format of its own.
    """
    kind = _stock_name(field, serializers)
    if kind not in ONE_FORM or _is_changed(field) or not _is_iso(field, ONE_FORM[kind]()):
        return None

    def keep(value: Any) -> Any:
        if isinstance(value, timedelta):
            return value
        if not isinstance(value, datetime):
            return field.to_representation(value)
        return field.enforce_timezone(value) if hasattr(field, "timezone") else value

    return keep


def _mapped(field: Any, queryset: Any) -> Column | None:
    """Return the column of the model field that a serializer field returns unchanged, or None."""
    source = _model_field(queryset, field.source_attrs)
    kind = _stock_name(field, serializers)
    if kind is None or _is_changed(field) or _stock_name(source, models) not in MAPPED.get(kind, ()):
        return None
    may_be_default = field.default is not serializers.empty and len(field.source_attrs) > 1
    if may_be_default or not KEEPS.get(kind, _always)(field, source):
        return None
    return Column("__".join(field.source_attrs), header=field.field_name)


def _stock_name(field: Any, module: Any) -> str | None:
    """Return the name of a field's class if the module defines it, since other classes may change values."""
    kind = type(field)
    return kind.__name__ if getattr(module, kind.__name__, None) is kind else None


def _is_changed(field: Any) -> bool:
    """Whether somebody replaced a method of the field, or of its class."""
    return bool(
        changed_methods(field) or overridden(field, ("get_attribute", "to_representation"), "rest_framework")
    )


def _model_field(queryset: Any, steps: Sequence[str]) -> Any:
    """Return the model field at the end of a path of attributes through single relations.

    None is no field, or one that instances may show otherwise: by code of the model, or by a manager or a prefetch
    that may hide a row on the way.
    """
    model = queryset.model
    prefetched = {_first_step(one) for one in prefetches(queryset) if getattr(one, "queryset", None) is not None}
    for position, name in enumerate(steps[:-1]):
        relation = field_named(model, name)
        if relation is None or not (relation.concrete and relation.is_relation and relation.name == name):
            return None
        if not gives_what_is_stored(model, name) or (position == 0 and name in prefetched):
            return None
        model = relation.related_model
        if type(model._meta.base_manager) is not models.Manager:
            return None
    field = field_named(model, steps[-1]) if steps else None
    if field is None or not field.concrete:
        return None
    if not all(gives_what_is_stored(model, name) for name in (steps[-1], field.attname)):
        return None
    return field.target_field if field.is_relation and field.attname == steps[-1] else field


def _first_step(prefetch: Any) -> str:
    return str(prefetch.prefetch_through).partition("__")[0]


def _always(_field: Any, _source: Any) -> bool:
    return True


def _is_iso(field: Any, default: str) -> bool:
    return vars(field).get("format", default) in (None, ISO_8601)


def _keeps_digits(field: Any, source: Any) -> bool:
    # A column may have no digits of its own from Django 6.1 on: then it holds numbers of any width.
    is_as_wide = field.max_digits is None or field.max_digits >= (source.max_digits or inf)
    is_as_long = field.decimal_places in (None, source.decimal_places)
    return is_as_wide and is_as_long and not field.localize and not field.normalize_output


def _is_number(field: Any, _source: Any) -> bool:
    return not getattr(field, "coerce_to_string", api_settings.COERCE_BIGINT_TO_STRING)


def _has_keys_of_its_type(field: Any, source: Any) -> bool:
    kind = str if _stock_name(source, models) in TEXTS else int
    return all(isinstance(key, kind) and str(key) == text for text, key in field.choice_strings_to_values.items())


# What Django iterates a queryset by.
ITERATING = ("__iter__", "_fetch_all", "iterator", "_iterator", "values_list", "values")
# The fields that write one value in several forms, and the form without an own one.
ONE_FORM: Mapping[str | None, Callable[[], Any]] = {
    "DateTimeField": lambda: api_settings.DATETIME_FORMAT,
    "DurationField": lambda: ISO_8601,
}
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
# The serializer fields that return the values of these model fields unchanged; KEEPS checks their options.
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
