"""Querysets whose records Django makes, instances and others: read as batches of rows."""

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import EmptyResultSet

from upstream.streaming.batches import BatchLimits
from upstream.streaming.columns import Column, OutputColumn, as_columns
from upstream.streaming.cursors import ReadRows, SizedCursor, batches_of_rows, largest_fetch
from upstream.streaming.errors import ColumnError
from upstream.streaming.lookups import ModelColumn, default_names, find_all, outputs, relations, row_reader

Rows = list[tuple[Any, ...]]
Opened = tuple[tuple[OutputColumn, ...], Generator[Rows]]


@dataclass(frozen=True, kw_only=True)
class QuerySetSource:
    """A queryset made ready: the query it runs, the columns it gives, and how its records become rows."""

    queryset: Any
    columns: tuple[OutputColumn, ...]
    read: ReadRows
    prefetch: tuple[Any, ...] = ()
    reason: str
    windows: bool = False

    @property
    def database(self) -> str:
        """The alias of the database it reads from."""
        return str(self.queryset.db)

    @property
    def sql(self) -> str:
        """The statement with its placeholders; empty where the ORM knows that no row can match."""
        try:
            return str(self.queryset.query.get_compiler(self.database).as_sql()[0])
        except EmptyResultSet:
            return ""

    @contextmanager
    def open(self, limits: BatchLimits) -> Iterator[Opened]:
        with (
            closing(SizedCursor(self.queryset, limits, windows=self.windows)) as cursor,
            closing(_batches(cursor, self.read, self.prefetch, limits)) as batches,
        ):
            yield self.columns, batches


@dataclass(frozen=True, kw_only=True)
class RawSource:
    """A RawQuerySet: which columns it has is known only once it runs."""

    queryset: Any
    requested: tuple[Column, ...] | None
    columns: None = None
    reason: str = "a raw query gives model instances"

    @property
    def database(self) -> str:
        return str(self.queryset.db)

    @property
    def sql(self) -> str:
        return str(self.queryset.raw_query)

    @property
    def prefetch(self) -> tuple[Any, ...]:
        """What is known of it beforehand."""
        return tuple(self.queryset._prefetch_related_lookups)

    @contextmanager
    def open(self, limits: BatchLimits) -> Iterator[Opened]:
        with closing(SizedCursor(self.queryset, limits)) as cursor:
            found = _raw_columns(cursor.queryset, self.requested)
            prefetch = (*self.prefetch, *relations(found))
            with closing(_batches(cursor, row_reader(found), prefetch, limits)) as batches:
                yield outputs(found), batches


def _batches(
    cursor: SizedCursor, read: ReadRows, prefetch: tuple[Any, ...], limits: BatchLimits
) -> Generator[Rows]:
    return batches_of_rows(cursor, largest_fetch(cursor.connection, limits.rows), read, prefetch, limits)


def _raw_columns(queryset: Any, requested: tuple[Column, ...] | None) -> list[ModelColumn]:
    loaded, _, annotations = queryset.resolve_model_init_order()
    names = {name: None for name, _ in annotations}
    columns = requested or as_columns([*default_names(queryset.model, loaded), *names])
    found = find_all(columns, queryset.model, names)
    for column in found:
        if column.field and not column.relations and column.attribute not in loaded:
            raise ColumnError(f"the raw query does not select {column.column.name!r}: each row would query for it")
    return found
