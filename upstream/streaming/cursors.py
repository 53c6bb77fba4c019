"""Cursors whose fetches are sized while they run.

`QuerySet.iterator(chunk_size=...)` fixes the size of every fetch beforehand: 2,000 rows of 5 MB are 10 GB. Here
the queryset's own iterator runs over a query that asks a `SizedCursor` how many rows to fetch next.
"""

from collections.abc import Generator, Iterator, Mapping
from functools import cache
from itertools import chain
from typing import Any

from django.db import connections
from django.db.models.query import RawQuerySet
from django.db.models.sql import RawQuery
from django.db.models.sql.constants import CURSOR, GET_ITERATOR_CHUNK_SIZE, MULTI

from upstream.streaming.batches import Fetched, Taker, weigh

# Fetches from a database in our own process cost next to nothing, and small ones meet wide rows early.
LOCAL_FETCH_ROWS = 64


class SizedCursor:
    """Runs one queryset by fetches of the size asked for, and weighs them; closing it closes the cursor."""

    def __init__(self, queryset: Any, chunk_size: int) -> None:
        is_local = connections[queryset.db].vendor == "sqlite"
        self.largest_fetch = LOCAL_FETCH_ROWS if is_local else chunk_size
        self.queryset = self._attached(queryset)
        self._rows = 1
        self._weight = 0
        self._cursor: Any = None
        sizes = {} if isinstance(queryset, RawQuerySet) else {"chunk_size": chunk_size}
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

    def own(self, cursor: Any) -> Any:
        """Return the cursor, which from now on is closed with this."""
        self._cursor = cursor
        return cursor

    def fetches(self, width: int | None = None) -> Iterator[list[Any]]:
        """Yield the rows of the executed cursor, a list for each fetch, cut to their first `width` values."""
        while rows := self._cursor.fetchmany(self._rows):
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
        if not chunked_fetch:
            return super().execute_sql(result_type, chunked_fetch, chunk_size)  # type: ignore[misc]
        cursor = super().execute_sql(CURSOR, chunked_fetch, chunk_size)  # type: ignore[misc]
        if cursor is None:  # the ORM knows that nothing can match
            return iter(())
        self.query.sized_cursor.own(cursor)
        return self.query.sized_cursor.fetches(self.col_count if self.has_extra_select else None)


class _SizedRawQuery(RawQuery):
    sized_cursor: SizedCursor

    def __iter__(self) -> Iterator[Any]:
        if self.cursor is None:
            self._execute_query()
        return chain.from_iterable(self.sized_cursor.fetches())

    def _execute_query(self) -> None:
        """Execute on a server-side cursor, where RawQuery takes one that holds the whole result."""
        connection = connections[self.using]
        adapt = connection.ops.adapt_unknown_value
        params: Any = self.params
        if isinstance(params, Mapping):
            params = {name: adapt(value) for name, value in params.items()}
        elif params is not None:
            params = tuple(map(adapt, params))
        unpooled = not connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS")
        self.cursor = self.sized_cursor.own(connection.chunked_cursor() if unpooled else connection.cursor())
        self.cursor.execute(self.sql, params)
