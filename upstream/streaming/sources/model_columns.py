"""Resolve column names on Django models."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import cached_property, partialmethod
from inspect import getattr_static
from operator import attrgetter
from types import FunctionType
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import FieldDoesNotExist, ObjectDoesNotExist
from django.db.models import FileField, JSONField, Model
from django.db.models.fields.related_descriptors import (
    ForwardManyToOneDescriptor,
    ReverseManyToOneDescriptor,
    ReverseOneToOneDescriptor,
)
from django.db.models.manager import ManagerDescriptor
from django.db.models.query_utils import DeferredAttribute
from django.utils.functional import cached_property as django_cached_property

from upstream.streaming.columns import (
    Column,
    Load,
    OutputColumn,
    Reader,
    RowReader,
    step,
    unknown_column,
)
from upstream.streaming.errors import ColumnError
from upstream.streaming.values import json_forms

# Class attributes that compute a value from an instance; get_FOO_display is a partialmethod.
COMPUTED = (property, cached_property, django_cached_property, FunctionType, partialmethod)

# Relations to one row: reading one raises ObjectDoesNotExist if there is none.
RELATIONS = (ForwardManyToOneDescriptor, ReverseOneToOneDescriptor)
# Keys that the database can follow: an alias must not contain white space or quotes, nor a JSON path a quote.
SELECTABLE_KEY = re.compile(r"\w+(-\w+)*")
# Whose attributes the names of a column may follow, besides fields with values of their own.
HELD: dict[str, type] = {
    "DateField": date, "DateTimeField": datetime, "TimeField": time, "DurationField": timedelta, "UUIDField": UUID,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ModelColumn:
    """A column resolved on a model: `relations`, `attribute` and `keys` lead from an instance to its value.

    `field` is the field that holds the value (for an annotation, its output field). It is None if a property, a
    method or the caller's function computes the value, possibly from any attribute of the instance. `annotated`
    means that the query defines the name, `described` that the model gives the field's value through a descriptor
    of its own, which may change it, and `generic` that `attribute` is a generic foreign key.
    """

    column: Column
    relations: tuple[str, ...] = ()
    attribute: str = ""
    keys: tuple[str, ...] = ()
    field: Any = None
    annotated: bool = False
    described: bool = False
    generic: bool = False

    @property
    def selectable(self) -> bool:
        """Whether `values_list` can select it, and gives the value that an instance has."""
        if self.field is None:
            return self.annotated
        return not self.described

    @property
    def query_path(self) -> str:
        """Its relations as lookups spell them; the names of reverse accessors may differ."""
        return "__".join((self.column.name or "").split("__")[: len(self.relations)])

    @property
    def json(self) -> bool:
        """Whether its cells are JSON text, whatever type they hold."""
        return isinstance(self.field, JSONField) and not self.keys and self.column.value is None

    @property
    def json_text(self) -> bool:
        """Whether the database's own JSON text can be written, since the field would not change its value."""
        kind = type(self.field)
        stock = (
            kind.from_db_value is JSONField.from_db_value and self.field.decoder is None if self.json else False
        )
        return stock and not (self.annotated or self.described)

    def output(self, load: Load | None = None) -> OutputColumn:
        """Return the column as encoders see it."""
        return self.column.output(json=self.json, load=load)

    def _reader_of(self, names: tuple[str, ...]) -> Reader:
        """Return a reader of `names`; that of one attribute takes a third of the time of a path.

        Values of Django's own fields are never callable, and need no relation.
        """
        field = type(self.field)
        is_stock = field.__module__.startswith("django.") and not self.described
        if len(names) == 1 and is_stock and issubclass(field.descriptor_class, DeferredAttribute):
            return attrgetter(self.attribute)
        return _path_reader(names, len(self.relations))

    def reader(self) -> Reader:
        """Return a function that reads the column from an instance; it returns None for a missing relation."""
        if callable(self.column.source):
            return self.column.source
        names = (*self.relations, self.attribute, *self.keys)
        if isinstance(self.field, FileField):
            names += ("name",)
        read = self._reader_of(names)
        if not self.json:
            return read
        return lambda instance: None if (value := read(instance)) is None else as_json(value)


def _path_reader(names: tuple[str, ...], relations: int) -> Reader:
    """Return a function that follows `names`, of which the first `relations` are relations.

    A row that does not exist is None only at a relation: elsewhere, the error is one of the model's own code.
    """

    def read(instance: Model) -> Any:
        value: Any = instance
        for position, name in enumerate(names):
            try:
                value = step(value, name)
            except ObjectDoesNotExist:
                if position < relations or _is_relation(value, name):
                    return None
                raise
            if value is None:
                return None
        return value

    return read


def _is_relation(value: Any, name: str) -> bool:
    return isinstance(getattr_static(type(value), name, None), RELATIONS)


as_json = json_forms().text


def find(column: Column, model: type[Model], annotations: Mapping[str, Any]) -> ModelColumn:
    """Resolve `column` on `model`; `annotations` maps names defined by the query to their output fields."""
    if column.name is None:
        return ModelColumn(column)
    if column.name in annotations:
        return ModelColumn(column, attribute=column.name, field=annotations[column.name], annotated=True)
    return _walk(column, column.name.split("__"), model)


def find_all(columns: Iterable[Column], model: type[Model], annotations: Mapping[str, Any]) -> list[ModelColumn]:
    """Resolve each of the columns, as `find` does."""
    return [find(column, model, annotations) for column in columns]


def outputs(found: Iterable[ModelColumn]) -> tuple[OutputColumn, ...]:
    """Return the columns as encoders see them."""
    return tuple(column.output() for column in found)


def relations(found: Iterable[ModelColumn]) -> tuple[str, ...]:
    """Return the relations that the columns follow, each once, as prefetch lookups."""
    columns = list(found)
    joined = {"__".join(column.relations): None for column in columns if column.relations}
    return tuple(joined | dict.fromkeys(generic_relations(columns)))


def generic_relations(found: Iterable[ModelColumn]) -> tuple[str, ...]:
    """Return the generic foreign keys that the columns follow, once each: they can be prefetched, not joined."""
    return tuple({"__".join((*one.relations, one.attribute)): None for one in found if one.generic})


def row_reader(found: Iterable[ModelColumn], readers: Iterable[Reader] | None = None) -> RowReader:
    """Return a function that turns records into rows; `readers` default to the columns' own."""
    columns = tuple(found)
    own = (column.reader() for column in columns)
    return RowReader(tuple(column.column for column in columns), tuple(own if readers is None else readers))


def _walk(column: Column, parts: list[str], model: type[Model]) -> ModelColumn:
    relations: list[str] = []
    for position, part in enumerate(parts, 1):
        keys = tuple(parts[position:])
        field = field_named(model, part)
        # Queries cannot follow a generic relation, since it leads to any model: it is read as an attribute.
        if field is None or (field.is_relation and field.related_model is None):
            _check_attribute(model, part, column)
            return ModelColumn(
                column, tuple(relations), part, keys, generic=hasattr(field, "get_prefetch_querysets")
            )
        if field.one_to_many or field.many_to_many:
            raise ColumnError(
                f"column {column.name!r} follows {part!r} to many rows, which would repeat each "
                f"{model.__name__}: annotate an aggregate of them, or name it in values()"
            )
        if field.is_relation and keys:
            relations.append(field.name if field.concrete else field.get_accessor_name())
            model = field.related_model
            continue
        if not field.concrete and field.is_relation:  # a reverse one-to-one relation: the key of its row
            relations.append(field.get_accessor_name())
            return ModelColumn(column, tuple(relations), "pk", (), field.related_model._meta.pk)
        described = has_own_descriptor(model, field)
        if isinstance(field, JSONField):
            held = not all(map(SELECTABLE_KEY.fullmatch, keys))
        else:
            held = bool(keys) and _is_held(field, keys[0], described=described)
        if held:
            return ModelColumn(column, tuple(relations), field.attname, keys)
        if keys:
            _check_transforms(field, keys, column)
        return ModelColumn(column, tuple(relations), field.attname, keys, field, described=described)
    raise AssertionError(parts)


def field_named(model: type[Model], name: str) -> Any:
    """Return the field or relation of that name, including `pk`; None if there is none."""
    if name == "pk":
        return model._meta.pk
    try:
        return model._meta.get_field(name)
    except FieldDoesNotExist:
        return None


def has_own_descriptor(model: type[Model], field: Any) -> bool:
    """Return whether `model` gives and sets the value of `field` through a descriptor that is not Django's.

    One without `__set__` does not count: Django sets the attribute, which then hides it. Nor does that of a file,
    of which only the name is written.
    """
    if isinstance(field, FileField):
        return False
    found = type(getattr_static(model, field.attname, None))
    return hasattr(found, "__set__") and not found.__module__.startswith("django.")


def _is_held(field: Any, name: str, *, described: bool) -> bool:
    """Return whether `name` is an attribute of the values of `field` rather than a transform of the database."""
    if name.startswith("_") or field.get_transform(name) is not None:
        return False
    if isinstance(field, FileField):
        return hasattr(field.attr_class, name)
    has_own_values = described or hasattr(field, "from_db_value") or hasattr(field, "geom_type")
    return has_own_values or hasattr(HELD.get(field.get_internal_type()), name)


def _check_attribute(model: type[Model], name: str, column: Column) -> None:
    found = getattr_static(model, name, None)
    if isinstance(found, ReverseManyToOneDescriptor):
        raise ColumnError(
            f"column {column.name!r}: {model.__name__}.{name} has many rows: annotate an aggregate of them"
        )
    if getattr(found, "alters_data", False):
        raise ColumnError(f"column {column.name!r}: {model.__name__}.{name}() alters data and cannot be a column")
    if found is None or name.startswith("__") or isinstance(found, ManagerDescriptor):
        raise unknown_column(name, known_names(model), model.__name__)


def _check_transforms(field: Any, keys: tuple[str, ...], column: Column) -> None:
    """Raise ColumnError unless the database can follow `keys`; below a JSONField any key is allowed."""
    for key in keys:
        if isinstance(field, JSONField):
            return
        transform = field.get_transform(key)
        if transform is None:
            raise unknown_column(key, field.get_lookups(), f"{type(field).__name__} {column.name!r}")
        field = getattr(transform, "output_field", field)


def known_names(model: type[Model]) -> set[str]:
    """Return the names that a column may use: fields, single-valued relations, own properties and methods."""
    fields = {f.name for f in model._meta.get_fields() if not (f.one_to_many or f.many_to_many)}
    kinds = [kind for kind in model.__mro__ if kind not in Model.__mro__]
    own = {name for kind in kinds for name, found in vars(kind).items() if isinstance(found, COMPUTED)}
    return fields | {name for name in own if not name.startswith("_")}


def default_names(model: type[Model], loaded: Collection[str] | None = None) -> list[str]:
    """Return the attribute names of the concrete fields, limited to `loaded` if given, without sensitive ones."""
    return [
        field.attname
        for field in model._meta.concrete_fields
        if not is_sensitive(field.name, field.attname) and (loaded is None or field.attname in loaded)
    ]


def is_sensitive(*names: str) -> bool:
    """Return whether a field with one of these names is left out unless a column names it.

    Sensitive names are `password`, and those in the setting UPSTREAM_SENSITIVE_FIELDS.
    """
    return not {"password", *getattr(settings, "UPSTREAM_SENSITIVE_FIELDS", ())}.isdisjoint(names)
