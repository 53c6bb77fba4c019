"""Batches: rows grouped so that neither many rows nor wide rows need much memory."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice, zip_longest
from time import monotonic, perf_counter
from types import NoneType
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from upstream.streaming.errors import DeadlineError

Record = TypeVar("Record")
Row = tuple[Any, ...]
Batch = list[Row]


class Fetched(NamedTuple, Generic[Record]):
    """The result of a fetch: records, their estimated bytes, and the seconds it took."""

    records: list[Record]
    weight: int
    seconds: float


Fetch = Callable[[int], Fetched[Record]]

CHUNK_SIZE = 2000  # the default of QuerySet.iterator()
BATCH_BYTES = 4 * 1024 * 1024
FIRST_BATCH_ROWS = 100  # take 5 ms; 2,000 rows take 100

SIZED = (str, bytes, bytearray, memoryview)
LENGTHS = frozenset(SIZED)
POINTER_BYTES = 8  # per list item: lists of numbers can be long
# Per cell, for the driver's value and its text, besides the characters. With 0, a process that exports 2,000 rows
# of 200 columns needs 135 MiB; with 64 it needs 65 MiB and is an eighth faster.
CELL_BYTES = 64
WEIGHTY = (*SIZED, dict, list, tuple)
# Longer rows, and rows that are fetched one by one, are weighed without a copy of their text.
SHORT_ROW_BYTES = 4 * 1024
MOST_ROWS_COPIED = 64
# Writes a copy that is only measured.
COPY = msgspec.msgpack.Encoder()


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When a batch is full: at `rows` rows, at `bytes` bytes, or after `seconds` seconds of fetching."""

    rows: int = CHUNK_SIZE
    bytes: int = BATCH_BYTES
    seconds: float = 0.1
    deadline: float | None = None
    """When the export must have ended, by `time.monotonic`."""

    def seconds_left(self) -> float | None:
        """Return the seconds left, None without a deadline; raise DeadlineError when it has passed."""
        if self.deadline is None:
            return None
        left = self.deadline - monotonic()
        if left <= 0:
            raise DeadlineError("the export exceeded its timeout: raise it, or export fewer rows")
        return left


def batched(fetch: Fetch[Record], limits: BatchLimits, largest_fetch: int) -> Generator[list[Record]]:
    """Yield batches of the records that `fetch` returns for a number of rows.

    The first fetch takes one row, each later one at most eight times as many as the one before. Its size is
    estimated from that one, to take no more than a quarter of a batch's bytes and no longer than a batch may: wide
    or slow rows are fetched in small numbers. The first batch is small, so that the first byte comes early. Wide
    rows in a fetch sized for narrow ones become several batches.
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
            by_weight = limits.bytes // 4 * len(fetched.records) // (fetched.weight or 1)
            by_time = int(limits.seconds * len(fetched.records) / (fetched.seconds or 1e-9))
            step = max(1, min(8 * step, largest_fetch, by_weight, by_time))
            if fetched.weight > 2 * limits.bytes and len(fetched.records) > 1:
                if batch:
                    yield batch
                for part in _parts(fetched, limits.bytes):
                    limits.seconds_left()
                    yield part
                batch, weight, seconds = [], 0, 0.0
                continue
            batch += fetched.records
            weight += fetched.weight
            seconds += fetched.seconds
        yield batch
        full = limits.rows


def _parts(fetched: Fetched[Record], most: int) -> Iterator[list[Record]]:
    """Yield the records of a fetch in parts that weigh about `most`."""
    rows = max(1, most * len(fetched.records) // fetched.weight)
    for start in range(0, len(fetched.records), rows):
        yield fetched.records[start : start + rows]


@dataclass(slots=True)
class Taker:
    """Takes records from an iterator; an error of the source gets a note that names the last row before it."""

    records: Iterator[Any]
    taken: int = 0
    seconds: float = 0.0
    """The duration of the last call."""

    def __call__(self, rows: int) -> list[Any]:
        records: list[Any] = []
        started = perf_counter()
        try:
            records.extend(islice(self.records, rows))  # records before an error stay in the list
        except Exception as error:
            error.add_note(f"the source failed after row {self.taken + len(records)}")
            raise
        self.taken += len(records)
        self.seconds = perf_counter() - started
        return records


def weigh(rows: Sequence[Sequence[Any]]) -> int:
    """Estimate the bytes in `rows`: the length of text and bytes, plus a constant per cell.

    Short rows count with all that they need as MessagePack, but without the pointers of lists in them: to write it
    takes about a third of the time that it takes to ask each cell for its type.
    """
    weight, weighed = _weigh_short(rows) if len(rows) > 1 else (0, 0)
    if weighed < len(rows):
        weight += sum(map(weigh_column, zip_longest(*rows[weighed:])))
    return CELL_BYTES * sum(map(len, rows)) + weight


def _weigh_short(rows: Sequence[Sequence[Any]]) -> tuple[int, int]:
    """Return the weight of the first rows as MessagePack, and their number; the others are long, or cannot be it.

    It weighs one row, then eight, then 64 at a time: so few long ones are copied at once.
    """
    weight, weighed, size = 0, 0, 1
    with suppress(Exception):  # objects, an integer that is too large, a lone surrogate
        while part := rows[weighed : weighed + size]:
            copied = len(COPY.encode(part))
            if copied > SHORT_ROW_BYTES * len(part):
                break
            weight += copied
            weighed += len(part)
            size = min(8 * size, MOST_ROWS_COPIED)
    return weight, weighed


def weigh_records(records: Sequence[Any]) -> int:
    """Estimate the bytes in records as `weigh` does: dicts, sequences, objects or single values."""
    kinds = set(map(type, records))
    if all(issubclass(kind, dict) for kind in kinds):
        return weigh([tuple(record.values()) for record in records])
    if all(issubclass(kind, list | tuple) for kind in kinds):
        return weigh(records)
    return weigh([tuple(getattr(record, "__dict__", {0: record}).values()) for record in records])


def weigh_column(column: Sequence[Any]) -> int:
    """Estimate the bytes in one column: the length of text and bytes, also inside dicts and lists."""
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
