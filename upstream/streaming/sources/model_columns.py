"""Resolve column names on Django models."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from functools import cached_property, partialmethod
from inspect import getattr_static
from itertools import chain
from operator import attrgetter
from types import FunctionType
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured, ObjectDoesNotExist
from django.db.models import (
    BinaryField,
    CharField,
    FileField,
    ForeignObject,
    ForeignObjectRel,
    JSONField,
    Model,
    QuerySet,
    TextField,
    UUIDField,
)
from django.db.models.fields.related_descriptors import (
    ForwardManyToOneDescriptor,
    ReverseManyToOneDescriptor,
    ReverseOneToOneDescriptor,
)
from django.db.models.manager import BaseManager, ManagerDescriptor
from django.utils.functional import cached_property as django_cached_property

from upstream.streaming.columns import (
    CellType,
    Column,
    OutputColumn,
    Reader,
    RowReader,
    map_all,
    step,
    unknown_column,
)
from upstream.streaming.errors import ColumnError
from upstream.streaming.sources.cell_types import cell_type
from upstream.streaming.sources.orm import finding_fields, is_ordered
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
    means that the query defines the name. `overridden` means that the model's class gives the field another value
    than the database holds, such as a translation, and `generic` that `attribute` is a generic foreign key. `many`
    is what follows `relations` in place of an attribute: a relation to many rows.
    """

    column: Column
    relations: tuple[str, ...] = ()
    attribute: str = ""
    keys: tuple[str, ...] = ()
    field: Any = None
    annotated: bool = False
    overridden: bool = False
    generic: bool = False
    many: "Many | None" = None

    @property
    def selectable(self) -> bool:
        """Whether a query can select its value."""
        return (self.field is not None or self.annotated) and not self.overridden

    @property
    def query_path(self) -> str:
        """Its relations as lookups spell them; the names of reverse accessors may differ."""
        return "__".join((self.column.name or "").split("__")[: len(self.relations)])

    @property
    def json(self) -> bool:
        """Whether its cells are JSON text, whatever type they hold; a list to be joined is a value."""
        is_plain = self.column.value is None and self.column.join is None
        return isinstance(self.field, JSONField) and not self.keys and is_plain

    @property
    def json_text(self) -> bool:
        """Whether the database's own JSON text can be written, since the field would not change its value."""
        kind = type(self.field)
        stock = (
            kind.from_db_value is JSONField.from_db_value and self.field.decoder is None if self.json else False
        )
        return stock and not (self.annotated or self.overridden)

    @property
    def stored_as_is(self) -> bool:
        """Whether an instance holds the value as Django's own field gives it."""
        return type(self.field).__module__.startswith("django.") and not self.overridden

    @property
    def type(self) -> CellType | None:
        """The type of its values, as far as its field tells it."""
        if self.json:
            return CellType(str)
        if self.column.value or self.keys or self.overridden:
            return None
        return cell_type(self.field, is_column=not self.annotated)

    def output(self) -> OutputColumn:
        """Return the column as encoders see it."""
        return self.column.output(json=self.json, type=self.type)

    def _reader_of(self, names: tuple[str, ...]) -> Reader:
        """Return a reader of `names`; that of one attribute takes a third of the time of a path.

        The values of Django's own fields are never callable, and need no relation.
        """
        # attrgetter would follow the period in an annotation's name.
        if len(names) == 1 and self.stored_as_is and "." not in self.attribute:
            return attrgetter(self.attribute)
        return _path_reader(names, len(self.relations))

    def reader(self) -> Reader:
        """Return a function that reads the column from an instance; it returns None for a missing relation."""
        read = self.value_reader()
        if not self.json:
            return read
        return lambda instance: None if (value := read(instance)) is None else as_json(value)

    def value_reader(self) -> Reader:
        """Return a function that reads the Python value, not the JSON text, of the column from an instance."""
        if callable(self.column.source):
            return self.column.source
        if self.many:
            owner = _path_reader(self.relations, len(self.relations))
            return self.many.reader(owner, self.column.value)
        names = (*self.relations, self.attribute, *self.keys)
        if isinstance(self.field, FileField):
            names += ("name",)
        return self._reader_of(names)

    @property
    def end(self) -> "ModelColumn":
        """The column that its values come from: behind relations to many rows, one of the last model."""
        return self.many.column.end if self.many else self


@dataclass(frozen=True, slots=True)
class Many:
    """A relation to many rows of `model`, and the `column` that is read of each.

    `accessor` is the attribute of an instance that leads to them, and `found_by` the names of the fields of the
    instance that they are found by; None if these are unknown.
    """

    accessor: str
    model: type[Model]
    column: ModelColumn
    found_by: Collection[str] | None

    def reader(self, owner: Reader, value: Reader | None) -> Reader:
        """Return a function that lists what the rows of `owner` of an instance hold, converted by `value`."""
        read, is_nested = self.column.value_reader(), self.column.many is not None

        def read_all(instance: Any) -> list[Any]:
            start = owner(instance)
            if start is None:
                return []
            values = [read(row) for row in _in_order(getattr(start, self.accessor).all())]
            if is_nested:
                values = list(chain.from_iterable(values))
            return values if value is None else list(map_all(value, values))

        return read_all


def _in_order(rows: Any) -> Iterable[Any]:
    """Return the rows of a queryset in its order; in that of their keys if it has none."""
    if not isinstance(rows, QuerySet) or is_ordered(rows):
        return rows  # type: ignore[no-any-return]
    try:
        return sorted(rows, key=attrgetter("pk"))
    except TypeError:  # keys that cannot be compared
        return sorted(rows, key=lambda row: str(row.pk))


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
    return tuple(joined | dict.fromkeys(prefetched_relations(columns)))


def prefetched_relations(found: Iterable[ModelColumn]) -> tuple[str, ...]:
    """Return the relations that can be prefetched, not joined, once each: generic ones, and those to many rows."""
    return tuple(dict.fromkeys(chain.from_iterable(map(_lookups, found))))


def _lookups(column: ModelColumn) -> Iterator[str]:
    if column.generic:
        yield "__".join((*column.relations, column.attribute))
    if column.many:
        lookup = "__".join((*column.relations, column.many.accessor))
        yield lookup
        for further in relations([column.many.column]):
            yield f"{lookup}__{further}"


def row_reader(found: Iterable[ModelColumn], readers: Iterable[Reader] | None = None) -> RowReader:
    """Return a function that turns records into rows; `readers` default to the columns' own."""
    columns = tuple(found)
    own = (column.reader() for column in columns)
    return RowReader(tuple(map(_read_as, columns)), tuple(own if readers is None else readers))


def _read_as(column: ModelColumn) -> Column:
    return replace(column.column, value=None) if column.many else column.column  # each value is converted already


def _walk(column: Column, parts: list[str], model: type[Model]) -> ModelColumn:
    relations: list[str] = []
    for position, part in enumerate(parts, 1):
        keys = tuple(parts[position:])
        field = field_named(model, part)
        # Queries cannot follow a generic relation, since it leads to any model: it is read as an attribute.
        if field is None or (field.is_relation and field.related_model is None):
            _check_attribute(model, part, column)
            return ModelColumn(column, tuple(relations), part, keys, generic=_is_generic_key(field))
        if field.one_to_many or field.many_to_many:
            return ModelColumn(column, tuple(relations), many=_many(column, model, field, keys))
        if field.is_relation and keys:
            relations.append(accessor_name(field))
            model = field.related_model
            continue
        if isinstance(field, ForeignObject) and not field.concrete:  # a relation by several columns: the key found
            return ModelColumn(column, (*relations, field.name), "pk")
        if not field.concrete and field.is_relation:  # a reverse one-to-one relation: the key of its row
            relations.append(accessor_name(field))
            return ModelColumn(column, tuple(relations), "pk", (), field.related_model._meta.pk)
        overridden = not _gives_stored_value(model, field.attname)
        if isinstance(field, JSONField):
            held = not all(map(SELECTABLE_KEY.fullmatch, keys))
        else:
            held = bool(keys) and _is_held(field, keys[0], overridden=overridden)
        if held:
            return ModelColumn(column, tuple(relations), field.attname, keys)
        if keys:
            _check_transforms(field, keys, column)
        return ModelColumn(column, tuple(relations), field.attname, keys, field, overridden=overridden)
    raise AssertionError(parts)


def _many(column: Column, model: type[Model], relation: Any, names: tuple[str, ...]) -> Many:
    """Resolve what `column` reads of the rows of a relation: the path of `names`, or the text of each row."""
    accessor = accessor_name(relation)
    descriptor = getattr_static(model, accessor, None)
    if descriptor is None:  # the other side of a relation with related_name="+"
        raise unknown_column(relation.name, known_names(model), model.__name__)
    manager = getattr(descriptor, "related_manager_cls", BaseManager)
    if manager.all is not BaseManager.all:
        raise ColumnError(
            f"column {column.name!r}: {manager.__name__}.all() is overridden for {accessor!r}, so that prefetched "
            "rows may be others than it gives: write a function, such as Column(lambda row: [...], header='...')"
        )
    source: Any = "__".join(names) if names else str
    read = find(Column(source, header=str(column.header)), relation.related_model, {})
    if read.keys and not (read.field is None or isinstance(read.field, JSONField)):
        path = str(column.name).removesuffix("__".join(("", *read.keys)))
        raise ColumnError(
            f"column {column.name!r}: {'__'.join(read.keys)!r} is a transform of the database, and many rows are "
            f"prefetched: convert each value with Column({path!r}, value=...)"
        )
    return Many(accessor, relation.related_model, read, finding_fields(relation))


def accessor_name(relation: Any) -> str:
    """Return the attribute that leads from an instance across a relation to one."""
    reverse = isinstance(relation, ForeignObjectRel)
    return str(relation.get_accessor_name() if reverse else relation.name)


def _gives_stored_value(model: type[Model], name: str) -> bool:
    """Return whether a model's attribute is set and read by Django's own code, which keeps what a field loads."""
    kind = type(getattr_static(model, name, None))
    methods = (getattr(kind, method, None) for method in ("__get__", "__set__"))
    return all(getattr(found, "__module__", "").startswith("django.") for found in methods if found)


def _is_generic_key(field: Any) -> bool:
    """Return whether a field is a generic foreign key: a relation to one row of whatever model."""
    return bool(field is not None and field.is_relation and field.many_to_one and field.related_model is None)


def field_named(model: type[Model], name: str) -> Any:
    """Return the field or relation of that name, including `pk`; None if there is none."""
    if name == "pk":
        return model._meta.pk
    try:
        return model._meta.get_field(name)
    except FieldDoesNotExist:
        return None


def _is_held(field: Any, name: str, *, overridden: bool) -> bool:
    """Return whether `name` is an attribute of the values of `field` rather than a transform of the database."""
    if name.startswith("_") or field.get_transform(name) is not None:
        return False
    if isinstance(field, FileField):
        return hasattr(field.attr_class, name)
    has_own_values = overridden or hasattr(field, "from_db_value") or hasattr(field, "geom_type")
    return has_own_values or hasattr(HELD.get(field.get_internal_type()), name)


def _check_attribute(model: type[Model], name: str, column: Column) -> None:
    found = getattr_static(model, name, None)
    if isinstance(found, ReverseManyToOneDescriptor):
        lookup = getattr(found.rel, "name", name)
        raise ColumnError(
            f"column {column.name!r}: {model.__name__}.{name} is called {lookup!r} in columns, as in filters"
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
    """Return the names that a column may use: fields, relations, own properties and methods."""
    fields = {field.name for field in model._meta.get_fields()}
    kinds = [kind for kind in model.__mro__ if kind not in Model.__mro__]
    own = {name for kind in kinds for name, found in vars(kind).items() if isinstance(found, COMPUTED)}
    return fields | {name for name in own if not name.startswith("_")}


def default_names(model: type[Model], loaded: Collection[str] | None = None) -> list[str]:
    """Return the attribute names of the concrete fields, limited to `loaded` if given, without sensitive ones."""
    return [
        field.attname
        for field in model._meta.concrete_fields
        if not is_sensitive(field) and (loaded is None or field.attname in loaded)
    ]


def default_annotations(annotated: Mapping[str, Any], fields_of: Callable[[str], Iterable[Any]]) -> list[str]:
    """Return the names of annotations, without those that are sensitive: named so, or a text made of such a field.

    `annotated` maps names to output fields, and `fields_of` gives the fields that an annotation is made of.
    """
    named = sensitive_names()
    return [
        name
        for name, field in annotated.items()
        if name not in named
        and not (isinstance(_target(field), TEXTS) and any(map(is_sensitive, fields_of(name))))
    ]


def _target(field: Any) -> Any:
    while getattr(field, "is_relation", False):
        field = field.target_field
    return field


def is_sensitive(field: Any) -> bool:
    """Return whether a field is left out unless a column names it, and refused as a filter and as an ordering.

    The setting UPSTREAM_SENSITIVE_FIELDS names such fields, by `name` or `attname`. So do SECRETS: a text called
    `token`, `api_token` or `token_hash` is one. `key` and `digest` are secrets in models of OWNERS, such as
    authtoken's Token. A relation or a composite key is as sensitive as the fields whose values it holds.
    """
    if not {field.name, getattr(field, "attname", field.name)}.isdisjoint(sensitive_names()):
        return True
    if field.is_relation:
        return bool(field.concrete) and any(map(is_sensitive, field.foreign_related_fields))
    parts = getattr(field, "fields", None)
    return any(map(is_sensitive, parts)) if parts else _is_secret(field)


def sensitive_names() -> Collection[str]:
    """Return the names in the setting UPSTREAM_SENSITIVE_FIELDS.

    A string, which the system checks report, counts as the names in it: that shows less than its letters would.
    """
    names = getattr(settings, SENSITIVE_FIELDS, ())
    if isinstance(names, str):
        return names.replace(",", " ").split()
    if not isinstance(names, Collection) or not all(isinstance(name, str) for name in names):
        raise ImproperlyConfigured(f"{SENSITIVE_FIELDS} is a list of field names, not {names!r}")
    return names


def _is_secret(field: Any) -> bool:
    if not isinstance(field, TEXTS) or field.choices:
        return False
    name = field.name.lower().removesuffix("_hash").removesuffix("_digest")
    if any(name == secret or name.endswith(f"_{secret}") for secret in SECRETS):
        return True
    return name in ("key", "digest") and field.model.__name__.endswith(OWNERS)


SENSITIVE_FIELDS = "UPSTREAM_SENSITIVE_FIELDS"
# The fields that can hold a secret: a number or a moment called "token" is about one.
TEXTS = (CharField, TextField, BinaryField, JSONField, UUIDField)
# The names of fields that hold secrets, alone or as the last words of a longer name.
SECRETS = (
    *("password", "passwd", "passphrase", "secret", "token", "otp", "hashed_key"),
    *("access_key", "api_key", "apikey", "auth_key", "encryption_key", "private_key", "secret_key"),
    *("session_key", "session_data"),
)
# How the names of models end whose `key` opens something: those of tokens, API keys and second factors.
OWNERS = ("Token", "Key", "Device")
