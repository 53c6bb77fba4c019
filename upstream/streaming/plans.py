"""plan(): how an export will run, decided and checked before anything is read."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from upstream.streaming.batches import BATCH_BYTES, CHUNK_SIZE, BatchLimits
from upstream.streaming.columns import Column, as_columns
from upstream.streaming.databases import holds, reading
from upstream.streaming.databases.protocol import Consistency, Hold
from upstream.streaming.encoders.delimited import Csv
from upstream.streaming.encoders.protocol import Encoder, capabilities_of
from upstream.streaming.errors import SourceError
from upstream.streaming.lanes import DocumentLane, Lane, LaneName, choose
from upstream.streaming.sources import as_source
from upstream.streaming.sources.documents import Document

Names = Iterable[str | Column | Callable[[Any], Any]]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How an export will run, and why.

    `lane` is who turns rows into bytes: "copy" the database, "text" an encoder from the driver's own tuples,
    "python" an encoder from Python's objects; `reason` says why none that is faster. `bounded` says that memory
    does not grow with the rows, `consistency` which state of the database the rows show: "snapshot" one for the
    whole export, "statement" one for each statement, "window" one for each window of rows, "source" whatever the
    caller's iterable gives. `headers` is None where only the first record tells. `databases` maps the aliases
    that are read to whether each is asked by several statements.
    """

    lane: LaneName
    reason: str
    databases: Mapping[str, bool]
    sql: str
    bounded: bool
    consistency: Consistency
    headers: tuple[str, ...] | None
    note: str = ""
    encoder: Encoder
    path: Lane = field(repr=False)
    holds: Sequence[Hold] = field(repr=False)
    limits: BatchLimits = field(repr=False)
    timeout: float | None = None
    windows: bool = False

    @property
    def database(self) -> str | None:
        """The aliases that are read, with commas between; None where there is none."""
        return ", ".join(self.databases) or None

    def __str__(self) -> str:
        lines = {
            "lane": f"{self.lane} ({self.reason})",
            "encoder": repr(self.encoder),
            "columns": ", ".join(self.headers) if self.headers else "told by the first record",
            "database": self.database or "none",
            "memory": "bounded" if self.bounded else f"grows with the rows ({self.note})",
            "consistency": self.consistency + (f" ({self.note})" if self.note and self.bounded else ""),
            "sql": self.sql or "none",
        }
        return "\n".join(f"{name + ':':<13}{text}" for name, text in lines.items())


def plan(
    source: Any,
    columns: Names | None = None,
    encoder: Encoder = Csv(),  # noqa: B008 (frozen)
    *,
    chunk_size: int = CHUNK_SIZE,
    batch_bytes: int = BATCH_BYTES,
    windows: bool = False,
    timeout: float | None = None,
) -> Plan:
    """Decide how `stream` with the same arguments would run; raise for whatever is wrong with them."""
    check_size("chunk_size", chunk_size)
    check_size("batch_bytes", batch_bytes)
    if timeout is not None and (
        isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0
    ):
        raise ValueError(f"timeout is a number of seconds over 0, not {timeout!r}")
    decided = _of_document if isinstance(source, Mapping) else _of_rows
    lane, databases, sql, headers = decided(source, columns, encoder, windows=windows)
    how = reading(databases, windows=windows)
    return Plan(
        lane=lane.name,
        reason=lane.reason,
        databases=databases,
        sql=sql,
        bounded=how.bounded,
        consistency=how.consistency,
        note=how.note,
        headers=headers,
        encoder=encoder,
        path=lane,
        holds=() if windows else holds(databases),
        limits=BatchLimits(rows=chunk_size, bytes=batch_bytes),
        timeout=timeout,
        windows=windows,
    )


class _Decided(NamedTuple):
    lane: Lane
    databases: Mapping[str, bool]
    sql: str
    headers: tuple[str, ...] | None


def _of_rows(source: Any, columns: Names | None, encoder: Encoder, *, windows: bool) -> _Decided:
    capabilities = capabilities_of(encoder)
    wanted = None if columns is None else as_columns(columns)
    outputs = () if wanted is None else tuple(column.output() for column in wanted)
    if outputs:
        capabilities.check(outputs)
    rows = as_source(
        source,
        wanted,
        takes_records=capabilities.takes_records,
        takes_positions=capabilities.takes_positions,
        texts=capabilities.takes_texts,
        windows=windows,
    )
    if rows.columns is not None:
        outputs = rows.columns
        capabilities.check(outputs)
    headers = tuple(column.header for column in outputs) or None
    return _Decided(choose(rows, encoder, capabilities), rows.databases, rows.sql, headers)


def _of_document(source: Mapping[Any, Any], columns: Names | None, encoder: Encoder, *, windows: bool) -> _Decided:
    capabilities = capabilities_of(encoder)
    if windows:
        raise SourceError("a mapping is not read in windows: give stream() the queryset itself")
    if capabilities.encode_document is None or columns is not None:
        raise SourceError("a mapping is one JSON object: stream(mapping, encoder=Json()), without columns")
    as_rows = partial(as_source, wanted=None, takes_records=True, texts=capabilities.takes_texts)
    document = Document(source, as_rows)
    return _Decided(DocumentLane(document, capabilities.encode_document), document.databases, "", None)


def check_size(name: str, size: Any) -> None:
    """Raise unless `size`, an argument of that name, is a whole number from 1."""
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(f"{name} is a whole number from 1, not {size!r}")
