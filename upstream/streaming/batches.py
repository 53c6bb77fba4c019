"""Batches: rows grouped so that neither many rows nor wide ones need much memory."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from types import NoneType
from typing import Any, TypeVar

Record = TypeVar("Record")
Fetch = Callable[[int], tuple[list[Record], int]]

CHUNK_SIZE = 2000  # as QuerySet.iterator() has it
BATCH_BYTES = 4 * 1024 * 1024
FIRST_BATCH_ROWS = 100  # made in 5 ms where 2,000 take 100

SIZED = (str, bytes, bytearray, memoryview)
LENGTHS = frozenset(SIZED)
WEIGHTY = (*SIZED, dict, list, tuple)


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When a batch is full: at so many rows, at so many bytes, or after so long that a reader would wait."""

    rows: int = CHUNK_SIZE
    bytes: int = BATCH_BYTES
    seconds: float = 0.1


def batched(fetch: Fetch[Record], limits: BatchLimits, largest_fetch: int) -> Generator[list[Record]]:
    """Yield batches of what `fetch` returns for a number of rows: the records, and their weight in bytes.

    The first fetch is for one row; each next one is at most eight times as large, and never for more than a
    quarter of the bytes a batch may hold, going by the rows that came before: wide rows are met by small fetches.
    The first batch is small, for whoever waits for the first byte.
    """
    step = 1
    full = min(FIRST_BATCH_ROWS, limits.rows)
    while True:
        batch: list[Record] = []
        weight, started = 0, perf_counter()
        while len(batch) < full and weight < limits.bytes and perf_counter() - started < limits.seconds:
            records, fetched = fetch(min(step, full - len(batch)))
            if not records:
                if batch:
                    yield batch
                return
            batch += records
            weight += fetched
            room = limits.bytes // 4 * len(records) // (fetched or 1)
            step = max(1, min(8 * step, largest_fetch, room))
        yield batch
        full = limits.rows


@dataclass(slots=True)
class Taker:
    """Takes records from an iterator; an error of the source gets the number of the last row before it."""

    records: Iterator[Any]
    taken: int = 0

    def __call__(self, rows: int) -> list[Any]:
        records: list[Any] = []
        try:
            records.extend(islice(self.records, rows))  # what came before an error stays in the list
        except Exception as error:
            error.add_note(f"the source failed after row {self.taken + len(records)}")
            raise
        self.taken += len(records)
        return records


def weigh(rows: Sequence[Sequence[Any]]) -> int:
    """Return the size of the texts and bytes in `rows`; numbers and dates weigh too little to count."""
    return sum(map(_column_weight, zip(*rows, strict=True)))


def _column_weight(column: Sequence[Any]) -> int:
    types = set(map(type, column)) - {NoneType}
    if types <= LENGTHS:
        return sum(map(len, filter(None, column)))
    if any(issubclass(kind, WEIGHTY) for kind in types):
        return sum(map(_weight, column))
    return 0


def _weight(value: Any) -> int:
    if isinstance(value, SIZED):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_weight, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_weight, value))
    return 0
