"""Querysets read as the records that Django makes: instances, dicts, tuples or single values."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, cast

from django.db import connections

from upstream.streaming.batches import BatchLimits, Fetched, batched
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
from upstream.streaming.sources.orm import (
    delegated_sql,
    delegating,
    gives_single_values,
    prefetches,
    raw_names,
)
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
class ValuesSource:
    """A values() queryset of an iterable class that is not Django's: its rows are known only once it runs.

    `names` are those of its rows, unless they are dicts or named tuples.
    """

    queryset: Any
    database: Database
    requested: tuple[Column, ...] | None
    names: Sequence[str]
    keyset: Keyset | None
    columns: None = None
    reason: str = "the queryset makes its rows in a way of its own"
    selection: None = None
    gives_raw: bool = False

    @property
    def databases(self) -> Mapping[str, bool]:
        return {self.queryset.db: False}

    @property
    def sql(self) -> str:
        return delegated_sql(self.queryset)

    @contextmanager
    def open(self, limits: BatchLimits) -> Iterator[OpenSource]:
        largest = self.database.fetch_rows or limits.rows
        with closing(_fetch(self.queryset, self.database, self.keyset, limits)) as fetch:
            first = fetch(1)
            if not first.records:
                names = self.requested or as_columns(self.names)
                yield OpenSource(tuple(column.output() for column in names), batched(fetch, limits, largest))
                return
            layout = RecordSource((), self.requested, False, False).layout(self._named(first.records[0]))
            waiting = [first]

            def fetch_named(rows: int) -> Fetched[Any]:
                fetched = waiting.pop() if waiting else fetch(rows)
                records = [self._named(record) for record in fetched.records]
                return Fetched(records, fetched.weight, fetched.seconds)

            with closing(batches_of_rows(fetch_named, largest, layout.read, (), limits)) as batches:
                yield OpenSource(layout.columns, batches)

    def _named(self, record: Any) -> Mapping[str, Any]:
        if isinstance(record, Mapping):
            return record
        if hasattr(record, "_asdict"):
            return cast("Mapping[str, Any]", record._asdict())  # noqa: SLF001 (public in spite of its name)
        values = (record,) if gives_single_values(self.queryset) else record
        if len(values) != len(self.names):
            raise SourceError(
                f"the queryset yields rows of {len(values)} values for the names {', '.join(self.names)}: "
                "use values(), whose rows have names"
            )
        return dict(zip(self.names, values, strict=True))


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
    for column in found:
        if column.field and not column.relations and column.attribute not in loaded:
            raise ColumnError(
                f"the raw query does not select {column.column.name!r}: add it to the query, "
                "or each row would run another query"
            )
    return found
