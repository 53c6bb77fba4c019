"""Fetches from the database whose sizes are decided while they run.

`QuerySet.iterator(chunk_size=...)` fixes the size of every fetch beforehand: 2,000 rows of 5 MB are 10 GB. Here
the queryset's own iterator runs over a query that asks a `SizedCursor` how many rows to fetch next.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from functools import cache
from itertools import chain
from operator import itemgetter
from time import perf_counter
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connections
from django.db.models import prefetch_related_objects
from django.db.models.query import RawQuerySet
from django.db.models.sql import RawQuery
from django.db.models.sql.constants import GET_ITERATOR_CHUNK_SIZE, MULTI

from upstream.streaming.batches import CELL_BYTES, BatchLimits, Fetch, Fetched, Taker, batched, weigh, weigh_column
from upstream.streaming.databases import open_cursor
from upstream.streaming.databases.spool import Cursor
from upstream.streaming.keyset import WindowedRows

Rows = list[tuple[Any, ...]]
ReadRows = Callable[[Sequence[Any], int], Rows]

# Fetches from a database in our own process cost next to nothing, and small ones meet wide rows early.
LOCAL_FETCH_ROWS = 64


def largest_fetch(connection: Any, chunk_size: int) -> int:
    """Return how many rows to ask for at most at a time, where a batch has `chunk_size`."""
    return LOCAL_FETCH_ROWS if connection.vendor == "sqlite" else chunk_size


class CursorFetch:
    """Fetches a cursor's rows, cut by `cut`; the columns at the positions `long` are what they weigh."""

    def __init__(self, cursor: Cursor, cut: Callable[[Any], Any] | None, long: Sequence[int]) -> None:
        self._cursor, self._cut = cursor, cut
        self._long = [itemgetter(position) for position in long]
        self._taken = 0

    def __call__(self, rows: int) -> Fetched[Any]:
        started = perf_counter()
        try:
            records = self._cursor.fetchmany(rows)
        except Exception as error:
            error.add_note(f"the source failed after row {self._taken}")
            raise
        seconds = perf_counter() - started
        self._taken += len(records)
        if self._cut:
            records = list(map(self._cut, records))
        cells = sum(map(len, records))
        long = sum(weigh_column(list(map(get, records))) for get in self._long)
        return Fetched(records, CELL_BYTES * cells + long, seconds)


class ReadFetch:
    """Reads what was fetched at once, so that a batch is weighed with all that its rows hold."""

    def __init__(self, fetch: Fetch[Any], read: ReadRows) -> None:
        self._fetch, self._read = fetch, read
        self._row = 1

    def __call__(self, rows: int) -> Fetched[Any]:
        fetched = self._fetch(rows)
        read = self._read(fetched.records, self._row)
        self._row += len(read)
        return Fetched(read, max(fetched.weight, weigh(read)), fetched.seconds)


def batches_of_rows(
    fetch: Fetch[Any], largest: int, read: ReadRows, prefetch: tuple[Any, ...], limits: BatchLimits
) -> Generator[Rows]:
    """Yield the records of `fetch` as batches of rows, with the relations of a batch prefetched together."""
    if not prefetch:
        return batched(ReadFetch(fetch, read), limits, largest)
    return _prefetched(fetch, largest, read, prefetch, limits)


def _prefetched(
    fetch: Fetch[Any], largest: int, read: ReadRows, prefetch: tuple[Any, ...], limits: BatchLimits
) -> Generator[Rows]:
    first_row = 1
    with closing(batched(fetch, limits, largest)) as batches:
        for records in batches:
            prefetch_related_objects(records, *prefetch)
            yield read(records, first_row)
            first_row += len(records)


class SizedCursor:
    """Runs one queryset by fetches of the size asked for, and weighs them; closing it closes the cursor."""

    def __init__(self, queryset: Any, limits: BatchLimits, *, windows: bool = False) -> None:
        self.windows = WindowedRows(queryset, connections[queryset.db]) if windows else None
        self.connection = connections[queryset.db]
        self.limits = limits
        self.queryset = self._attached(queryset)
        self._rows = 1
        self._weight = 0
        self._cursor: Cursor | None = None
        sizes = {} if isinstance(queryset, RawQuerySet) else {"chunk_size": limits.rows}
        self._records: Generator[Any] = self.queryset.iterator(**sizes)
        self._take = Taker(self._records)

    def __call__(self, rows: int) -> Fetched[Any]:
        """Fetch the next records, at most `rows`."""
        self._rows, self._weight = rows, 0
        records = self._take(rows)
        return Fetched(records, self._weight, self._take.seconds)

    def close(self) -> None:
        self._records.close()
        if self._cursor is not None:
            self._cursor.close()

    def fetches(self, sql: str, params: Any, width: int | None = None) -> Iterator[list[Any]]:
        """Execute a statement, and yield its rows, a list for each fetch, cut to their first `width` values."""
        return self.rest(self.opened(sql, params), width)

    def opened(self, sql: str, params: Any) -> Cursor:
        """Execute a statement, and return its cursor, which is closed with this."""
        seconds = self.limits.seconds_left()
        self._cursor = self.windows or open_cursor(self.connection, sql, params, seconds=seconds).cursor
        return self._cursor

    def rest(self, cursor: Cursor, width: int | None = None) -> Iterator[list[Any]]:
        """Yield the rows that are left."""
        while rows := cursor.fetchmany(self._rows):
            self._weight = weigh(rows)
            yield [row[:width] for row in rows] if width else rows

    def _attached(self, queryset: Any) -> Any:
        is_raw = isinstance(queryset, RawQuerySet)
        clone = queryset.using(queryset.db) if is_raw else queryset.all()
        kind: Any = type(clone.query)
        clone.query.__class__ = _sized_query(kind)
        clone.query.sized_cursor = self
        return clone


@cache
def _sized_query(query: Any) -> Any:
    return type(query.__name__, (_SizedRawQuery if issubclass(query, RawQuery) else _SizedQuery, query), {})


@cache
def _sized_compiler(compiler: Any) -> Any:
    return type(compiler.__name__, (_SizedCompiler, compiler), {})


class _SizedQuery:
    """Mixed into the class of a query, as Query.chain() itself turns a query into one for updates."""

    def get_compiler(self, using: Any = None, connection: Any = None, elide_empty: bool = True) -> Any:
        compiler = super().get_compiler(using, connection, elide_empty)  # type: ignore[misc]
        kind: Any = type(compiler)
        compiler.__class__ = _sized_compiler(kind)
        return compiler


class _SizedCompiler:
    query: Any
    col_count: int
    has_extra_select: bool

    def execute_sql(
        self, result_type: str = MULTI, chunked_fetch: bool = False, chunk_size: int = GET_ITERATOR_CHUNK_SIZE
    ) -> Any:
        if result_type != MULTI:  # chunked_fetch says no more than what DISABLE_SERVER_SIDE_CURSORS does
            return super().execute_sql(result_type, chunked_fetch, chunk_size)  # type: ignore[misc]
        try:
            sql, params = self.as_sql()  # type: ignore[attr-defined]
        except EmptyResultSet:
            return iter(())
        return self.query.sized_cursor.fetches(sql, params, self.col_count if self.has_extra_select else None)


class _SizedRawQuery(RawQuery):
    sized_cursor: SizedCursor
    cursor: Any

    def __iter__(self) -> Iterator[Any]:
        if self.cursor is None:
            self._execute_query()
        return chain.from_iterable(self.sized_cursor.rest(self.cursor))

    def _execute_query(self) -> None:
        """Execute on a cursor that is read row by row, where RawQuery takes one that holds the whole result."""
        adapt = connections[self.using].ops.adapt_unknown_value
        params: Any = self.params
        if isinstance(params, Mapping):
            params = {name: adapt(value) for name, value in params.items()}
        elif params is not None:
            params = tuple(map(adapt, params))
        self.cursor = self.sized_cursor.opened(self.sql, params)
