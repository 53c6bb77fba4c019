"""Choose how a queryset is read, so that no row needs a query of its own."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from typing import Any

from django.db import connections
from django.db.models import F, Func, Model, TextField
from django.db.models.query import RawQuerySet

from upstream.streaming.columns import Column, Reader, as_columns, unknown_column
from upstream.streaming.databases import database_of
from upstream.streaming.errors import ColumnError, SourceError
from upstream.streaming.sources.fetches import ReadRows
from upstream.streaming.sources.instances import InstanceSource, RawSource
from upstream.streaming.sources.keyset import Keyset, keyset_of
from upstream.streaming.sources.model_columns import (
    ModelColumn,
    as_json,
    default_names,
    find,
    find_all,
    generic_relations,
    outputs,
    relations,
    row_reader,
)
from upstream.streaming.sources.orm import (
    annotations,
    chooses_names,
    compiled,
    delegating,
    follows_all_relations,
    gives_dicts,
    gives_instances,
    gives_single_values,
    gives_values,
    is_composite,
    loaded_names,
    merges_rows,
    pinned,
    prefetches,
    query_features,
    selected_names,
    selection_affects_rows,
    without_peers,
    without_prefetches,
)
from upstream.streaming.sources.protocol import Source
from upstream.streaming.sources.tuples import TupleSource, tuple_column


class JsonText(Func):
    """The stored text of a JSONField, since Django reads SQL NULL and JSON null both as None."""

    arity = 1
    output_field = TextField()

    def as_sql(self, compiler: Any, connection: Any, *_: Any, **__: Any) -> Any:
        template = database_of(connection).json_text("%(expressions)s")
        return super().as_sql(compiler, connection, template=template)


@dataclass(frozen=True)
class QuerySetReader:
    """Chooses how querysets are read for one export.

    `texts` are the types whose preformatted text the encoder takes; None if it takes only values.
    """

    texts: frozenset[type] | None = None
    windows: bool = False

    def source(self, queryset: Any, columns: tuple[Column, ...] | None) -> Source:
        """Return the source that reads `columns`, by default all, from `queryset`; raise for unknown names.

        If every column is a field, only those are selected, as tuples. Otherwise rows are instances; relations
        that columns name are joined, or prefetched batch by batch if the query allows no join. Combined, grouped
        and raw queries run unchanged; in them JSON null is None, as in Django.
        """
        queryset = pinned(queryset)
        if isinstance(queryset, RawQuerySet):
            if self.windows:
                raise SourceError("windows=True requires a queryset: a raw query cannot be rewritten")
            database = database_of(connections[queryset.db])
            return RawSource(queryset=queryset, database=database, requested=columns)
        if gives_values(queryset):
            return self._of_values(queryset, columns)
        return self._of_model(queryset, columns)

    def _of_model(self, queryset: Any, columns: tuple[Column, ...] | None) -> Source:
        annotated = annotations(queryset.query)
        if columns is None:
            columns = as_columns([*default_names(queryset.model, loaded_names(queryset)), *annotated])
        found = find_all(columns, queryset.model, annotated)
        if not gives_instances(queryset) or query_features(queryset.query).combinator:
            return self._unchanged(queryset, found)
        if all(column.selectable for column in found):
            return self._selected(queryset, found, annotated)
        return self._instances(queryset, found)

    def _of_values(self, queryset: Any, columns: tuple[Column, ...] | None) -> Source:
        query = queryset.query
        names = selected_names(query)
        if columns is None:
            columns = as_columns(names if chooses_names(query) else _not_sensitive(names, queryset.model))
        for column in columns:
            if column.name is not None and column.name not in names:
                raise unknown_column(column.name, names, "the values() or values_list() queryset")
        annotated = annotations(query)
        found = [_find_selected(column, queryset.model, annotated) for column in columns]
        if all(column.name for column in columns) and not any(is_composite(column.field) for column in found):
            if not selection_affects_rows(query):
                return self._selected(queryset, found, annotated)
            return self._tuples(queryset, found, names)
        readers = [_selected_reader(queryset, names, column) for column in found]
        return self._records(
            queryset,
            found,
            row_reader(found, readers),
            reason="rows are read as values() or values_list() yields them",
        )

    def _selected(self, queryset: Any, found: Sequence[ModelColumn], annotated: Mapping[str, Any]) -> Source:
        names = [str(column.column.name) for column in found]
        if any(is_composite(column.field) for column in found):
            return self._composites(queryset, found, names)
        selection = list(dict.fromkeys(names))  # a query selects each name once
        if merges_rows(queryset.query):
            # DISTINCT over fewer columns would merge rows that differ in the others.
            selection += [name for name in ("pk", *annotated) if name not in names]
        return self._tuples(queryset.values_list(*selection), found, selection)

    def _tuples(self, queryset: Any, found: Sequence[ModelColumn], names: Sequence[str]) -> Source:
        """Read the columns as tuples of a queryset that selects `names`."""
        queryset = without_prefetches(queryset)
        statement = compiled(queryset)
        positions = [names.index(str(column.column.name)) for column in found]
        connection = connections[queryset.db]
        return TupleSource(
            alias=queryset.db,
            database=database_of(connection),
            statement=statement,
            columns=outputs(found),
            tuple_columns=[
                tuple_column(column, statement, position, self.texts, connection)
                for column, position in zip(found, positions, strict=True)
            ]
            if statement
            else [],
            gives_raw=self.texts is not None,
            keyset=self._keyset(queryset),
        )

    def _composites(self, queryset: Any, found: Sequence[ModelColumn], names: Sequence[str]) -> Source:
        readers = [itemgetter(position) for position in range(len(found))]
        return self._records(
            queryset.values_list(*names),
            found,
            row_reader(found, map(_cell_reader, found, readers)),
            reason="Django builds the tuple of a composite primary key",
        )

    def _instances(self, queryset: Any, found: Sequence[ModelColumn]) -> Source:
        """Read instances: the database joins relations, and gives JSON text and transforms under private names."""
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
        narrowed = without_peers(_narrowed(queryset, found))
        follows_all = follows_all_relations(queryset.query)  # naming relations would override that
        if joined and not follows_all:
            narrowed = narrowed.select_related(*joined)
        return self._records(
            narrowed.annotate(**private),
            found,
            row_reader(found, readers),
            prefetch=(*prefetches(queryset), *(relations(found) if follows_all else generic_relations(found))),
            reason=f"column {computed!r} is computed in Python: rows are read as instances",
        )

    def _unchanged(self, queryset: Any, found: Sequence[ModelColumn]) -> Source:
        return self._records(
            without_peers(queryset),
            found,
            row_reader(found),
            prefetch=(*prefetches(queryset), *relations(found)),
            reason="the queryset cannot select other columns: rows are read as instances",
        )

    def _records(
        self,
        queryset: Any,
        found: Sequence[ModelColumn],
        read: ReadRows,
        *,
        prefetch: tuple[Any, ...] = (),
        reason: str,
    ) -> Source:
        """Read the columns from the records that Django makes."""
        queryset = without_prefetches(queryset)
        return InstanceSource(
            keyset=self._keyset(queryset),
            queryset=delegating(queryset),
            database=database_of(connections[queryset.db]),
            columns=outputs(found),
            read=read,
            prefetch=prefetch,
            reason=reason,
        )

    def _keyset(self, queryset: Any) -> Keyset | None:
        return keyset_of(queryset) if self.windows else None


def _narrowed(queryset: Any, found: Sequence[ModelColumn]) -> Any:
    """Return the queryset with only the required fields loaded, where that is safe.

    Code of the model or the caller may read any field of its instance. That instance is loaded whole, despite
    only() or defer(), since each deferred field would cost a query per row.
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


def _find_selected(column: Column, model: type[Model], annotated: Mapping[str, Any]) -> ModelColumn:
    try:
        return find(column, model, annotated)
    except ColumnError:  # a relation to many rows, for which values() may repeat rows
        return ModelColumn(column, attribute=str(column.name), annotated=True)


def _selected_reader(queryset: Any, names: Sequence[str], column: ModelColumn) -> Reader:
    if column.column.name is None:
        return column.reader()
    if gives_single_values(queryset):
        read: Reader = lambda value: value  # noqa: E731
    else:
        name = column.column.name
        read = itemgetter(name if gives_dicts(queryset) else names.index(name))
    return _cell_reader(column, read)


def _cell_reader(column: ModelColumn, read: Reader) -> Reader:
    if not column.json:
        return read
    return lambda record: None if (value := read(record)) is None else as_json(value)


def _not_sensitive(names: Iterable[str], model: type[Model]) -> list[str]:
    shown = default_names(model)
    fields = {field.attname for field in model._meta.concrete_fields}
    return [name for name in names if name in shown or name not in fields]
