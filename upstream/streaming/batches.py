"""Batches: rows grouped so that neither many rows nor wide ones need much memory."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from time import monotonic, perf_counter
from types import NoneType
from typing import Any, Generic, NamedTuple, TypeVar

from upstream.streaming.errors import DeadlineError

Record = TypeVar("Record")
Row = tuple[Any, ...]
Batch = list[Row]


class Fetched(NamedTuple, Generic[Record]):
    """What a fetch gave: records, the bytes they weigh, and the seconds it took."""

    records: list[Record]
    weight: int
    seconds: float


Fetch = Callable[[int], Fetched[Record]]

CHUNK_SIZE = 2000  # as QuerySet.iterator() has it
BATCH_BYTES = 4 * 1024 * 1024
FIRST_BATCH_ROWS = 100  # made in 5 ms where 2,000 take 100

SIZED = (str, bytes, bytearray, memoryview)
LENGTHS = frozenset(SIZED)
POINTER_BYTES = 8  # lists of numbers can be long
# A cell as the driver's value and as text, beside its letters. With 0, 2,000 rows of 200 columns make a process of
# 135 MiB, with 64 one of 65 MiB that is an eighth faster.
CELL_BYTES = 64
WEIGHTY = (*SIZED, dict, list, tuple)


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When a batch is full: at so many rows, at so many bytes, or after so long that a reader would wait."""

    rows: int = CHUNK_SIZE
    bytes: int = BATCH_BYTES
    seconds: float = 0.1
    deadline: float | None = None
    """When the export has to have ended, by `time.monotonic`."""

    def seconds_left(self) -> float | None:
        """Return how long the export may still take; raise if its time is over."""
        if self.deadline is None:
            return None
        left = self.deadline - monotonic()
        if left <= 0:
            raise DeadlineError("the export took longer than its timeout: raise it, or export fewer rows")
        return left


def batched(fetch: Fetch[Record], limits: BatchLimits, largest_fetch: int) -> Generator[list[Record]]:
    """Yield batches of what `fetch` gives when it is asked for a number of rows.

    The first fetch is for one row; each next one is at most eight times as large, and going by the rows that
    came before never for more than a quarter of the bytes a batch may hold, nor for longer than it may take: wide
    rows and slow ones are met by small fetches. The first batch is small, for whoever waits for the first byte.
    """
    step = 1
    full = min(FIRST_BATCH_ROWS, limits.rows)
    while True:
        batch: list[Record] = []
        weight, seconds = 0, 0.0
        while len(batch) < full and weight < limits.bytes and seconds < limits.seconds:
            limits.seconds_left()
            fetched = fetch(min(step, full - len(batch)))
            if not fetched.records:
                if batch:
                    yield batch
                return
            batch += fetched.records
            weight += fetched.weight
            seconds += fetched.seconds
            by_weight = limits.bytes // 4 * len(fetched.records) // (fetched.weight or 1)
            by_time = int(limits.seconds * len(fetched.records) / (fetched.seconds or 1e-9))
            step = max(1, min(8 * step, largest_fetch, by_weight, by_time))
        yield batch
        full = limits.rows


@dataclass(slots=True)
class Taker:
    """Takes records from an iterator; an error of the source gets the number of the last row before it."""

    records: Iterator[Any]
    taken: int = 0
    seconds: float = 0.0
    """How long the last call took."""

    def __call__(self, rows: int) -> list[Any]:
        records: list[Any] = []
        started = perf_counter()
        try:
            records.extend(islice(self.records, rows))  # what came before an error stays in the list
        except Exception as error:
            error.add_note(f"the source failed after row {self.taken + len(records)}")
            raise
        self.taken += len(records)
        self.seconds = perf_counter() - started
        return records


def weigh(rows: Sequence[Sequence[Any]]) -> int:
    """Return the size of `rows`: that of their texts and bytes, and as much for each cell whatever it holds."""
    return CELL_BYTES * sum(map(len, rows)) + sum(map(weigh_column, zip_longest(*rows)))


def weigh_records(records: Sequence[Any]) -> int:
    """Return the size of the texts and bytes that records hold: dicts, sequences, objects or single values."""
    kinds = set(map(type, records))
    if all(issubclass(kind, dict) for kind in kinds):
        return weigh([tuple(record.values()) for record in records])
    if all(issubclass(kind, list | tuple) for kind in kinds):
        return weigh(records)
    return weigh([tuple(getattr(record, "__dict__", {0: record}).values()) for record in records])


def weigh_column(column: Sequence[Any]) -> int:
    """Return the size of the texts and bytes in one column."""
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
        return sum(map(_weight, value)) + POINTER_BYTES * len(value)
    return 0
