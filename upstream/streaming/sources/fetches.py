"""Fetches from the database, each sized by the rows before it.

`QuerySet.iterator(chunk_size=...)` fixes the size of all fetches beforehand: 2,000 rows of 5 MB are 10 GB.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from operator import itemgetter
from time import perf_counter
from typing import Any, NamedTuple

from django.db.models import prefetch_related_objects

from upstream.streaming.batches import (
    CELL_BYTES,
    Batch,
    BatchLimits,
    Fetch,
    Fetched,
    Taker,
    batched,
    weigh,
    weigh_column,
)
from upstream.streaming.columns import transposed
from upstream.streaming.databases.protocol import Cursor
from upstream.streaming.sources.orm import iterate

# An instance of a model with few fields.
RELATED_BYTES = 1024

ReadRows = Callable[[Sequence[Any], int], Batch]
ReadValues = Callable[[Sequence[Any], int], Sequence[Any]]
Execute = Callable[[str, Any], Cursor]


class CursorFetch:
    """Fetches a cursor's rows and applies `cut`; only the columns at the positions `long` count by length."""

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
        weight = CELL_BYTES * len(records) * len(records[0]) if records else 0
        for get in self._long:
            weight += weigh_column(list(map(get, records)))
        return Fetched(records, weight, seconds)


class ReadColumn(NamedTuple):
    """How to read the values at a position of each row, and whether they count by length."""

    position: int
    read: ReadValues
    is_weighed: bool


class ReadColumnsFetch:
    """Reads columns of rows as soon as they are fetched, so that a batch's size includes what is read.

    `fetch` does not weigh these columns.
    """

    def __init__(self, fetch: Fetch[Any], columns: Sequence[ReadColumn]) -> None:
        self._fetch, self._columns = fetch, columns
        self._row = 1

    def __call__(self, rows: int) -> Fetched[Any]:
        records, weight, seconds = self._fetch(rows)
        if not records:
            return Fetched(records, weight, seconds)
        cells = transposed(records)
        for position, read, is_weighed in self._columns:
            values = read(cells[position], self._row)
            if is_weighed:
                weight += max(weigh_column(cells[position]), weigh_column(values))
            cells[position] = values
        self._row += len(records)
        return Fetched(list(zip(*cells, strict=True)), weight, seconds)


class ReadFetch:
    """Reads records as soon as they are fetched, so that a batch's size includes all cells of its rows."""

    def __init__(self, fetch: Fetch[Any], read: ReadRows) -> None:
        self._fetch, self._read = fetch, read
        self._row = 1

    def __call__(self, rows: int) -> Fetched[Any]:
        fetched = self._fetch(rows)
        read = self._read(fetched.records, self._row)
        self._row += len(read)
        return Fetched(read, max(fetched.weight, weigh(read)), fetched.seconds)


class IteratorFetch:
    """Fetches the records that a queryset's own iterator makes, as many as requested.

    The queryset is delegating: its compiler calls `execute` for its cursor, and `fetches` for the cursor's rows.
    `close()` closes the iterator and the cursor.
    """

    def __init__(self, queryset: Any, execute: Execute, chunk_size: int) -> None:
        self._execute = execute
        self._cursor: Cursor | None = None
        self._rows = 1
        self._weight = 0
        self._records: Any = iterate(queryset, self, chunk_size)
        self._take = Taker(self._records)

    def __call__(self, rows: int) -> Fetched[Any]:
        self._rows, self._weight = rows, 0
        records = self._take(rows)
        return Fetched(records, self._weight, self._take.seconds)

    def close(self) -> None:
        self._records.close()
        if self._cursor is not None:
            self._cursor.close()

    def execute(self, sql: str, params: Any) -> Cursor:
        """Execute a statement on a cursor that `close()` closes."""
        self._cursor = self._execute(sql, params)
        return self._cursor

    def fetches(self, cursor: Cursor, width: int | None) -> Iterator[list[Any]]:
        """Yield the cursor's rows, one list per fetch, cut to their first `width` values."""
        while rows := cursor.fetchmany(self._rows):
            self._weight = weigh(rows)
            yield [row[:width] for row in rows] if width else rows


def batches_of_rows(
    fetch: Fetch[Any], largest: int, read: ReadRows, prefetch: tuple[Any, ...], limits: BatchLimits
) -> Generator[Batch]:
    """Yield the records of `fetch` as batches of rows; relations are prefetched once per batch."""
    if not prefetch:
        return batched(ReadFetch(fetch, read), limits, largest)
    return _prefetched(fetch, largest, read, prefetch, limits)


def _prefetched(
    fetch: Fetch[Any], largest: int, read: ReadRows, prefetch: tuple[Any, ...], limits: BatchLimits
) -> Generator[Batch]:
    """Prefetch for as many records at a time as the rows related to those before let a batch hold."""
    first_row, most = 1, limits.rows
    with closing(batched(fetch, limits, largest)) as batches:
        for batch in batches:
            while batch:
                records = batch[:most]
                del batch[:most]
                prefetch_related_objects(records, *prefetch)
                rows = read(records, first_row)
                first_row += len(rows)
                weight = RELATED_BYTES * sum(map(_related, records)) or 1
                most = max(1, min(limits.rows, limits.bytes * len(records) // weight))
                del records
                yield rows


def _related(record: Any) -> int:
    """Return how many rows of relations to many were prefetched for a record."""
    found = getattr(record, "_prefetched_objects_cache", {}).values()
    return sum(1 + _related(row) for rows in found for row in rows)
