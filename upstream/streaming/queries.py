"""Queries: which one an export runs, so that no row needs a query of its own."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from operator import attrgetter, itemgetter
from typing import Any

from django.core.exceptions import FieldError
from django.db import models
from django.db.models import CompositePrimaryKey, F, Func, Model, TextField
from django.db.models.fields.json import KeyTransform
from django.db.models.query import (
    FlatValuesListIterable,
    ModelIterable,
    NamedValuesListIterable,
    RawQuerySet,
    ValuesIterable,
    ValuesListIterable,
)

from upstream.streaming.columns import Column, Reader, as_columns, unknown_column
from upstream.streaming.errors import ColumnError
from upstream.streaming.lookups import (
    ModelColumn,
    as_json,
    default_names,
    find,
    find_all,
    outputs,
    relations,
    row_reader,
)
from upstream.streaming.querysets import QuerySetSource, RawSource
from upstream.streaming.selections import SelectionSource

Texts = frozenset[type] | None

VALUES = (ValuesIterable, ValuesListIterable, NamedValuesListIterable, FlatValuesListIterable)


class JsonText(Func):
    """The text of a JSON field as the database holds it: Django reads SQL NULL and JSON null both as None."""

    template = "%(expressions)s"
    arity = 1
    output_field = TextField()

    def as_postgresql(self, compiler: Any, connection: Any) -> Any:
        return self.as_sql(compiler, connection, template="(%(expressions)s)::text")

    def as_mysql(self, compiler: Any, connection: Any) -> Any:
        return self.as_sql(compiler, connection, template="CAST(%(expressions)s AS CHAR)")


def prepare(
    queryset: Any, columns: tuple[Column, ...] | None, texts: Texts = None
) -> QuerySetSource | SelectionSource | RawSource:
    """Return the source that reads `columns`, by default all, from `queryset`; an unknown name is an error.

    Where every column is a field, they alone are selected, as tuples. Else the rows are instances, with the
    relations that columns name joined in, or prefetched batch by batch where the query allows no join. Combined,
    grouped and raw queries are read as they are: Django gives JSON null as None there, like SQL NULL.
    """
    queryset = _pinned(queryset)
    if isinstance(queryset, RawQuerySet):
        return RawSource(queryset=queryset, requested=columns)
    if issubclass(queryset._iterable_class, VALUES):
        return _values_source(queryset, columns, texts)
    return _model_source(queryset, columns, texts)


def _pinned(queryset: Any) -> Any:
    """Return the queryset with its database decided: a router may choose another each time it is asked."""
    clone = queryset.using(queryset.db)
    clone._prefetch_related_lookups = queryset._prefetch_related_lookups
    return clone


def _without_peers(queryset: Any) -> Any:
    """Return the queryset without FETCH_PEERS (Django 6.1), which keeps a list of all instances."""
    mode = getattr(queryset, "_fetch_mode", None)
    return queryset.fetch_mode(models.FETCH_ONE) if mode is not None and mode.track_peers else queryset


def _model_source(
    queryset: Any, columns: tuple[Column, ...] | None, texts: Texts
) -> QuerySetSource | SelectionSource:
    annotations = _annotations(queryset.query)
    if columns is None:
        columns = as_columns([*default_names(queryset.model, _loaded(queryset)), *annotations])
    found = find_all(columns, queryset.model, annotations)
    if queryset._iterable_class is not ModelIterable or queryset.query.combinator:
        return _instances_as_they_come(queryset, found)
    if all(column.selectable for column in found):
        return _selected(queryset, found, annotations, texts)
    return _instances(queryset, found)


def _selected(
    queryset: Any, found: Sequence[ModelColumn], annotations: Mapping[str, Any], texts: Texts
) -> QuerySetSource | SelectionSource:
    names = [str(column.column.name) for column in found]
    if _are_composite(found):
        return _composites(queryset, found, names)
    selection = list(dict.fromkeys(names))  # a query selects no name twice
    if queryset.query.distinct and not queryset.query.distinct_fields:
        # DISTINCT over fewer columns would merge rows that differ in the others.
        selection += [name for name in ("pk", *annotations) if name not in names]
    return SelectionSource(
        queryset=_without_prefetch(queryset).values_list(*selection),
        found=tuple(found),
        positions=tuple(map(selection.index, names)),
        texts=texts,
        reason="the query selects every column: rows are read as the driver's tuples",
    )


def _composites(queryset: Any, found: Sequence[ModelColumn], names: Sequence[str]) -> QuerySetSource:
    readers = [itemgetter(position) for position in range(len(found))]
    return QuerySetSource(
        queryset=_without_prefetch(queryset).values_list(*names),
        columns=outputs(found),
        read=row_reader(found, map(_cell_reader, found, readers)),
        reason="a composite primary key is a tuple that Django makes",
    )


def _are_composite(found: Iterable[ModelColumn]) -> bool:
    return any(isinstance(column.field, CompositePrimaryKey) for column in found)


def _cell_reader(column: ModelColumn, read: Reader) -> Reader:
    return _as_json_text(read) if column.json else read


def _instances(queryset: Any, found: Sequence[ModelColumn]) -> QuerySetSource:
    """Read instances: relations joined, JSON text and transforms made by the database under private names."""
    private = {
        f"upstream_{position}": JsonText(F(name)) if column.json_text else F(name)
        for position, column in enumerate(found)
        if (name := column.column.name) and column.field and (column.json_text or column.keys)
    }
    readers = [
        attrgetter(f"upstream_{position}") if f"upstream_{position}" in private else column.reader()
        for position, column in enumerate(found)
    ]
    computed = next(column.column.header for column in found if not column.selectable)
    joined = {column.query_path for column in found if column.query_path}
    narrowed = _without_peers(_narrowed(queryset, found))
    follows_all = (
        queryset.query.select_related is True
    )  # all but nullable relations, and naming some would end that
    if joined and not follows_all:
        narrowed = narrowed.select_related(*joined)
    return QuerySetSource(
        queryset=_without_prefetch(narrowed).annotate(**private),
        columns=outputs(found),
        read=row_reader(found, readers),
        prefetch=(*queryset._prefetch_related_lookups, *(relations(found) if follows_all else ())),
        reason=f"column {computed!r} is computed in Python: rows are read as instances",
    )


def _narrowed(queryset: Any, found: Sequence[ModelColumn]) -> Any:
    """Return the queryset with the fields that are read loaded, and no others where that is safe.

    Code of the model or the caller may read any field of the instance it gets: that instance is loaded whole,
    whatever only() or defer() left out, since each field left out would be a query a row.
    """
    whole = {column.query_path for column in found if not column.selectable}
    if "" in whole:
        return queryset.defer(None)
    names = {path for column in found if (path := column.query_path)}
    for column in found:
        if column.selectable and not column.annotated:
            names.add("__".join(filter(None, (column.query_path, column.field.name))))
    for path in whole:
        names |= {f"{path}__{field.name}" for field in _model_at(queryset.model, path)._meta.concrete_fields}
    return queryset.select_related(None).only(*names)


def _model_at(model: type[Model], path: str) -> type[Model]:
    for name in path.split("__"):
        model = model._meta.get_field(name).related_model  # type: ignore[assignment]
    return model


def _instances_as_they_come(queryset: Any, found: Sequence[ModelColumn]) -> QuerySetSource:
    return QuerySetSource(
        queryset=_without_prefetch(_without_peers(queryset)),
        columns=outputs(found),
        read=row_reader(found),
        prefetch=(*queryset._prefetch_related_lookups, *relations(found)),
        reason="the queryset cannot take other columns: rows are read as instances",
    )


def _values_source(
    queryset: Any, columns: tuple[Column, ...] | None, texts: Texts
) -> QuerySetSource | SelectionSource:
    query = queryset.query
    names = list(query.selected or (*query.extra_select, *query.values_select, *query.annotation_select))
    if columns is None:
        columns = as_columns(names if query.selected else _not_sensitive(names, queryset.model))
    for column in columns:
        if column.name is not None and column.name not in names:
            raise unknown_column(column.name, names, "the selection in values() or values_list()")
    annotations = _annotations(query)
    found = [_find_selected(column, queryset.model, annotations) for column in columns]
    if all(column.name for column in columns) and not _are_composite(found):
        if not (query.combinator or query.group_by or query.distinct):
            return _selected(queryset, found, annotations, texts)
        return SelectionSource(
            queryset=_without_prefetch(queryset),
            found=tuple(found),
            positions=tuple(names.index(str(column.name)) for column in columns),
            texts=texts,
            reason="the query selects every column: rows are read as the driver's tuples",
        )
    readers = [_selected_reader(queryset._iterable_class, names, column) for column in found]
    return QuerySetSource(
        queryset=queryset,
        columns=outputs(found),
        read=row_reader(found, readers),
        reason="rows are read as values() or values_list() selects them",
    )


def _find_selected(column: Column, model: type[Model], annotations: Mapping[str, Any]) -> ModelColumn:
    try:
        return find(column, model, annotations)
    except ColumnError:  # a relation to many rows, which values() may repeat rows for
        return ModelColumn(column, attribute=str(column.name), annotated=True)


def _selected_reader(iterable: type, names: list[str], column: ModelColumn) -> Reader:
    if column.column.name is None:
        return column.reader()
    if issubclass(iterable, FlatValuesListIterable):
        read: Reader = lambda value: value  # noqa: E731
    else:
        is_dict = issubclass(iterable, ValuesIterable)
        read = itemgetter(column.column.name if is_dict else names.index(column.column.name))
    return _cell_reader(column, read)


def _as_json_text(read: Reader) -> Reader:
    return lambda record: None if (value := read(record)) is None else as_json(value)


def _annotations(query: Any) -> dict[str, Any]:
    """Return the output fields of what the query adds to its model; None for keys of JSON documents."""
    fields = dict.fromkeys((*query.extra_select, *query.annotation_select))
    for name, expression in query.annotation_select.items():
        with suppress(AttributeError, FieldError):  # an expression of no declared type
            fields[name] = None if isinstance(expression, KeyTransform) else expression.output_field
    return fields


def _without_prefetch(queryset: Any) -> Any:
    """Return the queryset without its prefetches: they are ours to run. prefetch_related(None) fails on unions."""
    clone = queryset.all()
    clone._prefetch_related_lookups = ()
    return clone


def _not_sensitive(names: Iterable[str], model: type[Model]) -> list[str]:
    shown = default_names(model)
    fields = {field.attname for field in model._meta.concrete_fields}
    return [name for name in names if name in shown or name not in fields]


def _loaded(queryset: Any) -> set[str] | None:
    """Return the attribute names that only() and defer() leave to load, or None for all."""
    names, deferred = queryset.query.deferred_loading
    if deferred and not names:
        return None
    return {
        field.attname
        for field in queryset.model._meta.concrete_fields
        if field.primary_key or ((field.name in names or field.attname in names) != deferred)
    }
