"""Querysets read as the records that Django makes: instances, dicts, tuples or single values."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import connections

from upstream.streaming.batches import BatchLimits, Fetch, Fetched, batched
from upstream.streaming.columns import Column, OutputColumn, as_columns
from upstream.streaming.databases.protocol import Cursor, Database
from upstream.streaming.errors import ColumnError, SourceError
from upstream.streaming.sources.fetches import IteratorFetch, ReadRows, batches_of_rows
from upstream.streaming.sources.keyset import Keyset
from upstream.streaming.sources.model_columns import (
    ModelColumn,
    default_names,
    find_all,
    outputs,
    relations,
    row_reader,
)
from upstream.streaming.sources.orm import delegated_sql, delegating, prefetches, raw_names
from upstream.streaming.sources.protocol import OpenSource
from upstream.streaming.sources.records import RecordSource


@dataclass(frozen=True, kw_only=True)
class InstanceSource:
    """A delegating queryset, its columns, and how its records become rows."""

    queryset: Any
    database: Database
    columns: tuple[OutputColumn, ...]
    read: ReadRows
    prefetch: tuple[Any, ...]
    reason: str
    keyset: Keyset | None
    warnings: tuple[str, ...] = ()
    selection: None = None
    gives_raw: bool = False

    @property
    def databases(self) -> Mapping[str, bool]:
        return {self.queryset.db: bool(self.prefetch)}

    @property
    def sql(self) -> str:
        return delegated_sql(self.queryset)

    @contextmanager
    def open(self, limits: BatchLimits) -> Iterator[OpenSource]:
        fetch = _fetch(self.queryset, self.database, self.keyset, limits)
        largest = self.database.fetch_rows or limits.rows
        with closing(fetch), closing(batches_of_rows(fetch, largest, self.read, self.prefetch, limits)) as batches:
            yield OpenSource(self.columns, batches)


@dataclass(frozen=True, kw_only=True)
class RawSource:
    """A RawQuerySet; its columns are known only once it runs."""

    queryset: Any
    database: Database
    requested: tuple[Column, ...] | None
    columns: None = None
    reason: str = "a raw query yields model instances"
    warnings: tuple[str, ...] = ()
    selection: None = None
    gives_raw: bool = False

    @property
    def databases(self) -> Mapping[str, bool]:
        return {self.queryset.db: bool(prefetches(self.queryset))}

    @property
    def sql(self) -> str:
        return str(self.queryset.raw_query)

    @contextmanager
    def open(self, limits: BatchLimits) -> Iterator[OpenSource]:
        queryset = delegating(self.queryset)
        largest = self.database.fetch_rows or limits.rows
        with closing(_fetch(queryset, self.database, None, limits)) as fetch:
            found = _raw_columns(queryset, self.requested)
            prefetch = (*prefetches(self.queryset), *relations(found))
            with closing(batches_of_rows(fetch, largest, row_reader(found), prefetch, limits)) as batches:
                yield OpenSource(outputs(found), batches)


@dataclass(frozen=True, kw_only=True)
class OwnRecordsSource:
    """A queryset whose class makes records of its own: what they hold is known only once it runs.

    `convert` makes them of a batch of those that are iterated. `names` are the columns if there are none.
    """

    queryset: Any
    database: Database
    requested: tuple[Column, ...] | None
    names: Sequence[str]
    convert: Callable[[list[Any]], list[Any]]
    several: bool
    keyset: Keyset | None
    columns: None = None
    reason: str = "the queryset's class makes records of its own"
    warnings: tuple[str, ...] = ()
    selection: None = None
    gives_raw: bool = False

    @property
    def databases(self) -> Mapping[str, bool]:
        return {self.queryset.db: self.several}

    @property
    def sql(self) -> str:
        return delegated_sql(self.queryset)

    @contextmanager
    def open(self, limits: BatchLimits) -> Iterator[OpenSource]:
        largest = self.database.fetch_rows or limits.rows
        with closing(_fetch(self.queryset, self.database, self.keyset, limits)) as fetch:

            def fetch_converted(rows: int) -> Fetched[Any]:
                fetched = fetch(rows)
                return Fetched(self.convert(fetched.records), fetched.weight, fetched.seconds)

            first = fetch_converted(1)
            if not first.records:
                columns = self.requested or as_columns(self.names)
                yield OpenSource(tuple(column.output() for column in columns), batched(fetch, limits, largest))
                return
            layout = RecordSource((), self.requested, False, False).layout(first.records[0])
            waiting = [first]
            again: Fetch[Any] = lambda rows: waiting.pop() if waiting else fetch_converted(rows)  # noqa: E731
            with closing(batches_of_rows(again, largest, layout.read, layout.prefetch, limits)) as batches:
                yield OpenSource(layout.columns, batches)


def named(names: Sequence[str], records: list[Any], *, single: bool) -> list[Any]:
    """Return rows of a values() queryset as mappings; tuples, or `single` values, have `names` in order."""
    if not records or isinstance(records[0], Mapping):
        return records
    if hasattr(records[0], "_asdict"):
        return [record._asdict() for record in records]  # noqa: SLF001 (public in spite of its name)
    rows = [(record,) for record in records] if single else records
    if len(rows[0]) != len(names):
        raise SourceError(
            f"the queryset yields rows of {len(rows[0])} values for the names {', '.join(names)}: "
            "use values(), whose rows have names"
        )
    return [dict(zip(names, row, strict=True)) for row in rows]


def _fetch(queryset: Any, database: Database, keyset: Keyset | None, limits: BatchLimits) -> IteratorFetch:
    def execute(sql: str, params: Any) -> Cursor:
        if keyset:
            return keyset.open()
        connection, seconds = connections[queryset.db], limits.seconds_left()
        return database.open_cursor(connection, sql, params, raw_types={}, width=0, seconds=seconds).cursor

    return IteratorFetch(queryset, execute, limits.rows)


def _raw_columns(queryset: Any, requested: tuple[Column, ...] | None) -> list[ModelColumn]:
    loaded, annotated = raw_names(queryset)
    names = dict.fromkeys(annotated)
    columns = requested or as_columns([*default_names(queryset.model, loaded), *names])
    found = find_all(columns, queryset.model, names)
    fields = queryset.model._meta.get_field
    for column in found:
        needed = [column.attribute] if column.field else []
        if column.many:
            needed = [fields(name).attname for name in column.many.found_by or ()]
        if not column.relations and not set(needed).issubset(loaded):
            raise ColumnError(
                f"the raw query does not select {column.column.name!r}: add it to the query, "
                "or each row would run another query"
            )
    return found
