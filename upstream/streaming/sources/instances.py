"""Querysets whose records Django makes, instances and others: read as batches of rows."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import connections

from upstream.streaming.batches import Batch, BatchLimits
from upstream.streaming.columns import Column, OutputColumn, as_columns
from upstream.streaming.databases import database_of
from upstream.streaming.databases.protocol import Cursor
from upstream.streaming.errors import ColumnError
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
from upstream.streaming.sources.orm import prefetches, raw_names, steered, steered_sql
from upstream.streaming.sources.protocol import OpenSource


@dataclass(frozen=True, kw_only=True)
class InstanceSource:
    """A steered queryset, the columns it gives, and how its records become rows."""

    queryset: Any
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
        return steered_sql(self.queryset)

    @contextmanager
    def open(self, limits: BatchLimits) -> Iterator[OpenSource]:
        with (
            closing(_fetch(self.queryset, limits, self.keyset)) as fetch,
            closing(_batches(self.queryset, fetch, self.read, self.prefetch, limits)) as batches,
        ):
            yield OpenSource(self.columns, batches)


@dataclass(frozen=True, kw_only=True)
class RawSource:
    """A RawQuerySet: which columns it has is known only once it runs."""

    queryset: Any
    requested: tuple[Column, ...] | None
    columns: None = None
    reason: str = "a raw query gives model instances"
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
        queryset = steered(self.queryset)
        with closing(_fetch(queryset, limits, None)) as fetch:
            found = _raw_columns(queryset, self.requested)
            prefetch = (*prefetches(self.queryset), *relations(found))
            with closing(_batches(queryset, fetch, row_reader(found), prefetch, limits)) as batches:
                yield OpenSource(outputs(found), batches)


def _fetch(queryset: Any, limits: BatchLimits, keyset: Keyset | None) -> IteratorFetch:
    connection = connections[queryset.db]

    def execute(sql: str, params: Any) -> Cursor:
        if keyset:
            return keyset.open()
        return (
            database_of(connection)
            .open_cursor(connection, sql, params, raw_types={}, width=0, seconds=limits.seconds_left())
            .cursor
        )

    return IteratorFetch(queryset, execute, limits.rows)


def _batches(
    queryset: Any, fetch: IteratorFetch, read: ReadRows, prefetch: tuple[Any, ...], limits: BatchLimits
) -> Generator[Batch]:
    largest = database_of(connections[queryset.db]).fetch_rows(limits.rows)
    return batches_of_rows(fetch, largest, read, prefetch, limits)


def _raw_columns(queryset: Any, requested: tuple[Column, ...] | None) -> list[ModelColumn]:
    loaded, annotated = raw_names(queryset)
    names = dict.fromkeys(annotated)
    columns = requested or as_columns([*default_names(queryset.model, loaded), *names])
    found = find_all(columns, queryset.model, names)
    for column in found:
        if column.field and not column.relations and column.attribute not in loaded:
            raise ColumnError(f"the raw query does not select {column.column.name!r}: each row would query for it")
    return found
