"""What Django gave for a queryset: names, rows, and which columns hold JSON."""

import json
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import FieldDoesNotExist, FieldError, ObjectDoesNotExist
from django.db.models import JSONField, QuerySet
from django.db.models.fields.json import KeyTransform
from django.db.models.query import (
    FlatValuesListIterable,
    ModelIterable,
    NamedValuesListIterable,
    RawQuerySet,
    ValuesIterable,
    ValuesListIterable,
)

from tests import oracle

TUPLES = (ValuesListIterable, NamedValuesListIterable)
# The fields of the suite's models that are left out unless they are named.
SENSITIVE = {"password", "secret", "session_key", "session_data"}
MOST_RELATED = 12


class UnknownError(Exception):
    """What Django gave has no names to compare by."""


@dataclass(frozen=True)
class Given:
    """Rows by the names of their columns. A column holds "" values, a "document", or a "key" of one."""

    names: list[str]
    rows: list[tuple[Any, ...]]
    kinds: list[str]

    def halved(self) -> "Given":
        """Return every second column, from the last to the first: none stands where it stood."""
        order = range(len(self.names))[::-2]
        rows = [tuple(row[at] for at in order) for row in self.rows]
        return Given([self.names[at] for at in order], rows, [self.kinds[at] for at in order])

    def cells(self) -> list[list[Any]]:
        """Return what the cells of a CSV file have to equal."""
        return [list(map(_cell, row, self.kinds)) for row in self.rows]

    def nodes(self) -> list[list[Any]]:
        """Return what the values of a JSON file have to be."""
        return [list(map(oracle.node, row)) for row in self.rows]


class AnyOf:
    """Equal to any of several forms. Django reads SQL NULL and JSON null both as None."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, *forms: Any) -> None:
        self.forms = forms

    def __eq__(self, text: object) -> bool:
        return any(_is_same(form, text) for form in self.forms)

    def __repr__(self) -> str:
        return f"AnyOf{self.forms}"


def _is_same(form: Any, text: object) -> bool:
    try:
        return bool(form == text)
    except ValueError:  # no JSON
        return False


def _cell(value: Any, kind: str) -> Any:
    if not kind:
        form = oracle.cell(value)
        return AnyOf(form) if isinstance(form, oracle.AnySpelling) else form
    if value is None:
        return AnyOf("", "null")
    document = oracle.AnySpelling(oracle.node(value))
    return AnyOf(document) if kind == "document" else AnyOf(oracle.cell(value), document)


def given(queryset: Any, rows: list[Any]) -> Given | None:
    """Return what a queryset gave; None if there is no row, and its names are known from rows alone."""
    if isinstance(queryset, RawQuerySet):
        return _of_raw(queryset, rows)
    kind = queryset._iterable_class
    if kind is ModelIterable:
        return _of_instances(queryset, rows)
    names = selected(queryset)
    if kind is ValuesIterable:
        if rows and set(rows[0]) != set(names):
            raise UnknownError("names of values()")
        rows = [tuple(row[name] for name in names) for row in rows]
    elif kind is FlatValuesListIterable:
        names, rows = names[:1], [(row,) for row in rows]
    elif kind not in TUPLES:
        raise UnknownError(kind.__name__)
    elif rows and len(rows[0]) != len(names):
        raise UnknownError("names of values_list()")
    return _without_sensitive(queryset, Given(names, list(map(tuple, rows)), _kinds(queryset, names)))


def selected(queryset: Any) -> list[str]:
    """Return the names that values() or values_list() select."""
    query = queryset.query
    return list(query.selected or (*query.extra_select, *query.values_select, *query.annotation_select))


def _without_sensitive(queryset: Any, whole: Given) -> Given:
    if queryset.query.selected or SENSITIVE.isdisjoint(whole.names):
        return whole
    kept = [at for at, name in enumerate(whole.names) if name not in SENSITIVE]
    rows = [tuple(row[at] for at in kept) for row in whole.rows]
    return Given([whole.names[at] for at in kept], rows, [whole.kinds[at] for at in kept])


def _of_raw(queryset: Any, rows: list[Any]) -> Given | None:
    if not rows:
        return None
    fields = [field.attname for field in queryset.model._meta.concrete_fields]
    added = [name for name, _ in queryset.resolve_model_init_order()[2] if name not in fields]
    names = [*(name for name in fields if name in vars(rows[0]) and name not in SENSITIVE), *added]
    return Given(names, _attributes(rows, names), [_kind(queryset.model, name) for name in names])


def _of_instances(queryset: Any, rows: list[Any]) -> Given | None:
    query = queryset.query
    fields = [field.attname for field in queryset.model._meta.concrete_fields if field.attname not in SENSITIVE]
    if rows:
        if queryset._known_related_objects and query.deferred_loading[0]:
            raise UnknownError("a related object sets the field that leads to it")
        fields = [name for name in fields if name in vars(rows[0])]
    elif query.deferred_loading != (frozenset(), True):
        return None
    names = [*fields, *query.extra_select, *query.annotation_select]
    return Given(names, _attributes(rows, names), _kinds(queryset, names))


def _attributes(rows: list[Any], names: list[str]) -> list[tuple[Any, ...]]:
    try:
        return [tuple(vars(row)[name] for name in names) for row in rows]
    except KeyError as error:
        raise UnknownError("an attribute that is no instance's own") from error


def _kinds(queryset: Any, names: list[str]) -> list[str]:
    annotations = queryset.query.annotation_select
    return [
        _annotated_kind(annotations[name]) if name in annotations else _kind(queryset.model, name)
        for name in names
    ]


def _annotated_kind(expression: Any) -> str:
    try:
        is_json = isinstance(expression.output_field, JSONField)
    except (AttributeError, FieldError):
        return ""
    return ("key" if isinstance(expression, KeyTransform) else "document") if is_json else ""


def _kind(model: Any, name: str) -> str:
    parts = name.split("__")
    for position, part in enumerate(parts, 1):
        try:
            field = model._meta.pk if part == "pk" else model._meta.get_field(part)
        except FieldDoesNotExist:
            return ""
        if isinstance(field, JSONField):
            return "key" if position < len(parts) else "document"
        model = field.related_model or model
    return ""


def related(queryset: Any, rows: list[Any]) -> Given | None:
    """Return what instances give by columns that follow relations; None if there are none."""
    if isinstance(queryset, RawQuerySet) or queryset._iterable_class is not ModelIterable:
        return None
    paths = dict(_related_paths(queryset.model)[:MOST_RELATED])
    if not paths:
        return None
    names = ["pk", *paths]
    kinds = [_kind(queryset.model, name) for name in names]
    return Given(names, [tuple(_follow(row, path) for path in (["pk"], *paths.values())) for row in rows], kinds)


def _related_paths(model: Any) -> list[tuple[str, list[str]]]:
    """Return columns through each relation to one, and through one relation further, with their attributes."""
    paths = []
    for field, accessor in _to_one(model):
        others = [other for other in field.related_model._meta.concrete_fields if other.name not in SENSITIVE]
        paths += [(f"{field.name}__{other.name}", [accessor, other.attname]) for other in others[:3]]
        for second, further in _to_one(field.related_model):
            last = second.related_model._meta.concrete_fields[-1]
            if second.concrete and last.name not in SENSITIVE:
                paths.append((f"{field.name}__{second.name}__{last.name}", [accessor, further, last.attname]))
                break
    return paths


def _to_one(model: Any) -> list[tuple[Any, str]]:
    """Return the relations to one row, and the attributes that lead to it."""
    relations = [field for field in model._meta.get_fields() if field.is_relation and field.related_model]
    forwards = [(field, field.name) for field in relations if not field.auto_created and field.many_to_one]
    one_to_one = [field for field in relations if field.one_to_one]
    named = [(field, field.name if field.concrete else field.get_accessor_name()) for field in one_to_one]
    return [*forwards, *((field, name) for field, name in named if name and not field.hidden)]


def _follow(value: Any, path: list[str]) -> Any:
    try:
        for name in path:
            value = None if value is None else getattr(value, name)
    except ObjectDoesNotExist:
        return None
    return value


def same_text(value: Any) -> str:
    """Return a text by which two lists of cells can be compared, whatever addresses objects have."""
    return json.dumps(value, default=repr)


def own(queryset: Any) -> Any:
    """Return a clone that shares nothing: evaluating a sorted union changes the selection that clones share."""
    if isinstance(queryset, RawQuerySet):
        clone: Any = queryset.using(queryset.db)
        clone._prefetch_related_lookups = queryset._prefetch_related_lookups
        return clone
    clone = QuerySet._clone(queryset)
    _unshare(clone.query)
    return clone


def _unshare(query: Any) -> None:
    if query.selected:
        query.selected = dict(query.selected)
    for combined in query.combined_queries:
        _unshare(combined)
