"""Choose how a queryset is read, so that no row needs a query of its own."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter, itemgetter
from typing import Any

from django.db import connections
from django.db.models import F, ForeignObject, Func, Model, TextField
from django.db.models.query import RawQuerySet

from upstream.streaming.columns import Column, Reader, as_columns, unknown_column
from upstream.streaming.databases import database_of
from upstream.streaming.errors import ColumnError, SourceError
from upstream.streaming.sources.fetches import ReadRows
from upstream.streaming.sources.instances import InstanceSource, OwnRecordsSource, RawSource, named
from upstream.streaming.sources.keyset import Keyset, keyset_of
from upstream.streaming.sources.model_columns import (
    ModelColumn,
    as_json,
    default_annotations,
    default_names,
    find,
    find_all,
    outputs,
    prefetched_relations,
    relations,
    row_reader,
)
from upstream.streaming.sources.orm import (
    annotations,
    chooses_names,
    compiled,
    delegating,
    fields_of_annotation,
    follows_all_relations,
    gives_dicts,
    gives_instances,
    gives_selected_values,
    gives_single_values,
    gives_values,
    has_unique_key,
    hides_related,
    loaded_names,
    loading,
    locks_by_name,
    merges_rows,
    names_of_rows,
    pinned,
    prefetches,
    prepared_relations,
    query_features,
    replaced,
    replaces_fetched,
    selected_names,
    selecting,
    takes_joins,
    without_peers,
    without_prefetches,
)
from upstream.streaming.sources.protocol import Source
from upstream.streaming.sources.row_queries import query_warnings
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
        that columns name are joined, or prefetched batch by batch if they lead to many rows or the query allows no
        join. Combined, grouped and raw queries run unchanged; in them JSON null is None, as in Django.
        """
        queryset = pinned(queryset)
        if isinstance(queryset, RawQuerySet):
            if self.windows:
                raise SourceError("windows=True requires a queryset: a raw query cannot be rewritten")
            database = database_of(connections[queryset.db])
            computed = [ModelColumn(column) for column in columns or () if column.name is None]
            warnings = query_warnings(computed, queryset)
            return RawSource(queryset=queryset, database=database, requested=columns, warnings=warnings)
        if gives_values(queryset):
            return self._of_values(queryset, columns)
        return self._of_model(queryset, columns)

    def _of_model(self, queryset: Any, columns: tuple[Column, ...] | None) -> Source:
        if replaces_fetched(queryset):
            return self._replaced(queryset, columns)
        annotated = annotations(queryset.query)
        if columns is None:
            names = [*default_names(queryset.model, loaded_names(queryset)), *annotated]
            columns = as_columns(_not_sensitive(names, queryset))
        found = find_all(columns, queryset.model, annotated)
        if not gives_instances(queryset) or query_features(queryset.query).combinator:
            return self._unchanged(queryset, found)
        prefetched = _prefetched(queryset, found)
        if locks_by_name(queryset.query) or prefetched or not all(column.selectable for column in found):
            return self._instances(queryset, found, prefetched)
        return self._selected(queryset, found)

    def _of_values(self, queryset: Any, columns: tuple[Column, ...] | None) -> Source:
        """Read the selection as it is: other names in it would change what ORDER BY and DISTINCT refer to."""
        names = selected_names(queryset)
        if not gives_selected_values(queryset):
            return self._iterated(queryset, columns)
        if columns is None:
            chosen = chooses_names(queryset.query)
            columns = as_columns(names if chosen else _not_sensitive(names, queryset))
        for column in columns:
            if column.name is not None and column.name not in names:
                raise unknown_column(column.name, names, "the values() or values_list() queryset")
        found = [_find_selected(column, queryset.model, annotations(queryset.query)) for column in columns]
        return self._tuples(queryset, found) or self._records(
            queryset,
            found,
            row_reader(found, [_selected_reader(queryset, names, column) for column in found]),
            reason="rows are read as values() or values_list() yields them",
        )

    def _selected(self, queryset: Any, found: Sequence[ModelColumn]) -> Source:
        names = list(dict.fromkeys(str(column.column.name) for column in found))  # each name once
        queryset = selecting(queryset, names)
        readers = [_cell_reader(column, itemgetter(str(column.column.name))) for column in found]
        return self._tuples(queryset, found) or self._records(
            queryset,
            found,
            row_reader(found, readers),
            reason="Django builds the tuple of a composite primary key",
        )

    def _tuples(self, queryset: Any, found: Sequence[ModelColumn]) -> Source | None:
        """Read a values() queryset as tuples; None unless its statement selects each column under its name."""
        queryset = without_prefetches(queryset)
        statement = compiled(queryset)
        positions: list[int] = []
        if statement:
            known = [statement.positions.get(str(column.column.name)) for column in found]
            positions = [position for position in known if position is not None]
            if len(positions) < len(found):
                return None
        connection = connections[queryset.db]
        columns = [
            tuple_column(column, statement, position, self.texts, connection)
            for column, position in zip(found, positions, strict=False)  # none without a statement
            if statement
        ]
        return TupleSource(
            alias=queryset.db,
            database=database_of(connection),
            statement=statement,
            columns=tuple(column.output for column in columns) if statement else outputs(found),
            tuple_columns=columns,
            gives_raw=self.texts is not None,
            keyset=self._keyset(queryset),
        )

    def _iterated(self, queryset: Any, columns: tuple[Column, ...] | None) -> Source:
        """Read the rows that an iterable class of the queryset's own makes of values() or values_list()."""
        names = names_of_rows(queryset, selected_names(queryset))
        shown = _not_sensitive(names, queryset)
        if columns is None and shown != names:
            columns = as_columns(shown)
        convert = partial(named, names, single=gives_single_values(queryset))
        return self._own_records(without_prefetches(queryset), columns, names, convert, several=False)

    def _replaced(self, queryset: Any, columns: tuple[Column, ...] | None) -> Source:
        """Read the records that the queryset's class puts in place of the instances it fetches."""
        names = default_names(queryset.model, loaded_names(queryset))
        convert = partial(replaced, queryset)
        several = bool(prefetches(queryset))
        return self._own_records(without_prefetches(queryset), columns, names, convert, several=several)

    def _own_records(
        self,
        queryset: Any,
        columns: tuple[Column, ...] | None,
        names: Sequence[str],
        convert: Callable[[list[Any]], list[Any]],
        *,
        several: bool,
    ) -> Source:
        return OwnRecordsSource(
            queryset=delegating(queryset),
            database=database_of(connections[queryset.db]),
            requested=columns,
            names=names,
            convert=convert,
            several=several,
            keyset=self._keyset(queryset),
        )

    def _instances(self, queryset: Any, found: Sequence[ModelColumn], prefetched: Sequence[ModelColumn]) -> Source:
        """Read instances: the database joins relations, and gives JSON text and transforms under private names.

        Columns of `prefetched` relations are read from the objects that prefetches find.
        """
        private = {
            f"upstream_{position}": JsonText(F(name)) if column.json_text else F(name)
            for position, column in enumerate(found)
            if (name := column.column.name)
            and column.field
            and column.selectable
            and column not in prefetched
            and (column.json_text or column.keys)
        }
        readers = [
            attrgetter(f"upstream_{position}") if f"upstream_{position}" in private else column.reader()
            for position, column in enumerate(found)
        ]
        follows_all = follows_all_relations(queryset.query)  # naming relations would override that
        joined = [column for column in found if column.query_path and column not in prefetched]
        paths = () if follows_all else tuple({column.query_path: None for column in joined})
        names = None if prefetched else _narrowed(queryset, found)
        return self._records(
            without_peers(loading(queryset, names, paths, private)),
            found,
            row_reader(found, readers),
            prefetch=(
                *prefetches(queryset),
                *dict.fromkeys((*relations(found if follows_all else prefetched), *prefetched_relations(found))),
            ),
            reason=_why_instances(found, prefetched),
            warnings=query_warnings(found, queryset),
        )

    def _unchanged(self, queryset: Any, found: Sequence[ModelColumn]) -> Source:
        return self._records(
            without_peers(queryset),
            found,
            row_reader(found),
            prefetch=(*prefetches(queryset), *relations(found)),
            reason="the queryset cannot select other columns: rows are read as instances",
            warnings=query_warnings(found, queryset),
        )

    def _records(
        self,
        queryset: Any,
        found: Sequence[ModelColumn],
        read: ReadRows,
        *,
        prefetch: tuple[Any, ...] = (),
        reason: str,
        warnings: tuple[str, ...] = (),
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
            warnings=warnings,
        )

    def _keyset(self, queryset: Any) -> Keyset | None:
        return keyset_of(queryset) if self.windows else None


def _prefetched(queryset: Any, found: Sequence[ModelColumn]) -> list[ModelColumn]:
    """Return the columns whose relations the query cannot join, or in which a manager or Prefetch chooses rows."""
    through = [column for column in found if column.query_path]
    if not takes_joins(queryset.query):
        return through
    prepared, model = prepared_relations(queryset), queryset.model
    return [column for column in through if _is_prepared(column, prepared) or _is_managed(column, model)]


def _is_prepared(column: ModelColumn, prepared: frozenset[str]) -> bool:
    relations = column.relations
    return any("__".join(relations[:end]) in prepared for end in range(1, len(relations) + 1))


def _is_managed(column: ModelColumn, model: type[Model]) -> bool:
    names = column.query_path.split("__")
    return any(hides_related(_model_at(model, "__".join(names[:end]))) for end in range(1, len(names) + 1))


def _why_instances(found: Sequence[ModelColumn], prefetched: Sequence[ModelColumn]) -> str:
    computed = next((column for column in found if not column.selectable), None)
    if computed and computed.many:
        reason = f"the rows of column {computed.column.header!r} are prefetched"
    elif computed:
        reason = f"column {computed.column.header!r} is computed in Python"
    elif prefetched:
        reason = f"column {prefetched[0].column.header!r} is prefetched"
    else:
        reason = "select_for_update(of=...) names relations"
    return f"{reason}: rows are read as instances"


def _narrowed(queryset: Any, found: Sequence[ModelColumn]) -> set[str] | None:
    """Return the names of the required fields, where loading no others is safe; else None.

    Code of the model or the caller may read any field of its instance. That instance is loaded whole, despite
    only() or defer(), since each deferred field would cost a query per row.
    """
    query, model = queryset.query, queryset.model
    whole = {column.query_path for column in found if not (column.selectable or _finds_by_fields(column, model))}
    merges = merges_rows(query) or query_features(query).is_grouped
    if "" in whole or locks_by_name(query) or (merges and not has_unique_key(model)):
        return None
    names: set[str] = set()
    for path in {column.query_path for column in found if column.query_path}:
        names |= _names_of_relation(model, path)
    for column in found:
        held: Collection[str] = [column.field.name] if column.selectable and not column.annotated else ()
        if column.many:
            held = column.many.found_by or ()
        names |= {"__".join(filter(None, (column.query_path, name))) for name in held}
    for path in whole:
        names |= {f"{path}__{field.name}" for field in _model_at(model, path)._meta.concrete_fields}
    return names


def _finds_by_fields(column: ModelColumn, model: type[Model]) -> bool:
    """Return whether the many rows of a column can be found with known fields of an instance alone."""
    if column.many is None or column.many.found_by is None:
        return False
    owner = _model_at(model, column.query_path) if column.query_path else model
    loads: Any = owner.from_db
    return owner.__init__ is Model.__init__ and loads.__func__ is Model.from_db.__func__  # type: ignore[attr-defined]


def _names_of_relation(model: type[Model], path: str) -> set[str]:
    """Return the name of a relation, and of the fields that it reads if they are several."""
    before, _, name = path.rpartition("__")
    relation = (_model_at(model, before) if before else model)._meta.get_field(name)
    if not isinstance(relation, ForeignObject) or relation.concrete:
        return {path}
    fields = (field.name for field in relation.local_related_fields)
    return {path, *("__".join(filter(None, (before, field))) for field in fields)}


def _model_at(model: type[Model], path: str) -> type[Model]:
    for name in path.split("__"):
        model = model._meta.get_field(name).related_model  # type: ignore[assignment]
    return model


def _find_selected(column: Column, model: type[Model], annotated: Mapping[str, Any]) -> ModelColumn:
    """Resolve a column of values(), which gives what is stored, and repeats rows along relations to many."""
    with suppress(ColumnError):  # what only the query knows
        found = find(column, model, annotated)
        if found.many is None:
            return replace(found, overridden=False)
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


def _not_sensitive(names: Iterable[str], queryset: Any) -> list[str]:
    model, added = queryset.model, annotations(queryset.query)
    shown = {*default_names(model), *default_annotations(added, partial(fields_of_annotation, queryset.query))}
    known = {*(field.attname for field in model._meta.concrete_fields), *added}
    return [name for name in names if name in shown or name not in known]


def left_out(queryset: Any, shown: Collection[str]) -> tuple[str, ...]:
    """Return the names of the fields and annotations that are not among the default columns `shown`."""
    if gives_values(queryset):
        names = names_of_rows(queryset, selected_names(queryset))
    else:
        loaded = loaded_names(queryset)
        fields = (field.attname for field in queryset.model._meta.concrete_fields)
        names = [*(name for name in fields if loaded is None or name in loaded), *annotations(queryset.query)]
    return tuple(name for name in names if name not in shown)
