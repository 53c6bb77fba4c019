"""plan(): decide how an export will run, and check its arguments, before anything is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from upstream.streaming.batches import BATCH_BYTES, CHUNK_SIZE, BatchLimits
from upstream.streaming.columns import Names, as_columns
from upstream.streaming.databases import holds, reading
from upstream.streaming.databases.protocol import Consistency, Hold
from upstream.streaming.encoders.delimited import Csv
from upstream.streaming.encoders.protocol import Capabilities, Encoder, capabilities_of
from upstream.streaming.errors import SourceError
from upstream.streaming.lanes import DocumentLane, Lane, LaneName, choose
from upstream.streaming.sources import as_source, left_out_of
from upstream.streaming.sources.documents import Document
from upstream.streaming.sources.protocol import Source


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How an export will run, and why.

    `lane` says who renders the rows: "copy" the database, "text" the encoder from the driver's own tuples,
    "python" the encoder from Python values; `reason` says why no faster lane applies. `bounded` means that memory
    does not grow with the rows. `consistency` says which state of the database they show: "snapshot" one for the
    whole export, "statement" one per statement, "window" one per window of rows, "source" whatever the caller's
    iterable yields. `headers` is None if they depend on the first record. `databases` maps each alias that is read
    to whether several statements read it. `left_out` are the names that default columns leave out since they are
    sensitive; columns may name them. `warnings` name columns whose code may run a query for each row; nothing
    is run to find out. `first_byte` says when the first byte comes, if it does not come with the first rows.

        >>> planned = plan([{"id": 1}], ["id"])
        >>> planned.lane, planned.consistency, planned.headers
        ('python', 'source', ('id',))
    """

    lane: LaneName
    reason: str
    databases: Mapping[str, bool]
    sql: str
    bounded: bool
    consistency: Consistency
    headers: tuple[str, ...] | None
    left_out: tuple[str, ...] = ()
    note: str = ""
    warnings: tuple[str, ...] = ()
    first_byte: str = ""
    encoder: Encoder
    path: Lane = field(repr=False)
    holds: Sequence[Hold] = field(repr=False)
    limits: BatchLimits = field(repr=False)
    timeout: float | None = None
    windows: bool = False

    @property
    def database(self) -> str | None:
        """The aliases that are read, separated by commas; None if there are none."""
        return ", ".join(self.databases) or None

    def __str__(self) -> str:
        lines = {
            "lane": f"{self.lane} ({self.reason})",
            "encoder": repr(self.encoder),
            "columns": ", ".join(self.headers) if self.headers else "taken from the first record",
            "left out": f"{', '.join(self.left_out)} (sensitive; columns may name them)" if self.left_out else "",
            "database": self.database or "none",
            "memory": "bounded" if self.bounded else f"grows with the rows ({self.note})",
            "consistency": self.consistency + (f" ({self.note})" if self.note and self.bounded else ""),
            "first byte": self.first_byte,
            "sql": self.sql or "none",
        }
        pairs = [*lines.items(), *(("warning", text) for text in self.warnings)]
        return "\n".join(f"{name + ':':<13}{text}" for name, text in pairs if text)


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
    """Decide how `stream` would run with the same arguments; raise if they are invalid.

    Nothing is exported and no query runs. `print(plan(...))` shows all of it.

        >>> plan([{"id": 1}], ["id"]).reason
        'the source is an iterable of Python objects'
    """
    check_size("chunk_size", chunk_size)
    check_size("batch_bytes", batch_bytes)
    if timeout is not None and (
        isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0
    ):
        raise ValueError(f"timeout must be a positive number of seconds, not {timeout!r}")
    decide = _of_document if isinstance(source, Mapping) else _of_rows
    lane, databases, sql, headers, left_out, warnings = decide(source, columns, encoder, windows=windows)
    how = reading(databases, windows=windows)
    return Plan(
        lane=lane.name,
        reason=lane.reason,
        databases=databases,
        sql=sql,
        bounded=how.bounded,
        consistency=how.consistency,
        note=how.note,
        warnings=warnings,
        headers=headers,
        left_out=left_out,
        first_byte=capabilities_of(encoder).first_byte,
        encoder=encoder,
        path=lane,
        holds=() if windows else holds(databases),
        limits=BatchLimits(rows=chunk_size, bytes=batch_bytes),
        timeout=timeout,
        windows=windows,
    )


class _Decision(NamedTuple):
    lane: Lane
    databases: Mapping[str, bool]
    sql: str
    headers: tuple[str, ...] | None
    left_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def _of_rows(source: Any, columns: Names | None, encoder: Encoder, *, windows: bool) -> _Decision:
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
    left_out = left_out_of(source, headers) if columns is None and headers else ()
    return _Decision(
        choose(rows, encoder, capabilities), rows.databases, rows.sql, headers, left_out, rows.warnings
    )


def _of_document(
    source: Mapping[Any, Any], columns: Names | None, encoder: Encoder, *, windows: bool
) -> _Decision:
    capabilities = capabilities_of(encoder)
    if windows:
        raise SourceError("a mapping cannot be read in windows: pass the queryset itself to stream()")
    if capabilities.encode_document is None or columns is not None:
        raise SourceError(
            "a mapping is written as one JSON object: use stream(mapping, encoder=Json()) without columns, "
            "or Xlsx() for a workbook; Table(source, columns) gives columns to one of its values"
        )
    check = capabilities.check_part or capabilities.check
    document = Document(source, partial(_source_of_document, capabilities))
    for rows in document.checked(whole=not capabilities.takes_records):
        if rows.columns is not None:
            check(rows.columns)
    return _Decision(DocumentLane(document, capabilities.encode_document, check), document.databases, "", None)


def _source_of_document(capabilities: Capabilities, source: Any, columns: Any) -> Source:
    return as_source(
        source,
        columns,
        takes_records=capabilities.takes_records and columns is None,
        takes_positions=capabilities.takes_positions,
        texts=capabilities.takes_texts,
    )


def check_size(name: str, size: Any) -> None:
    """Raise ValueError unless `size`, the value of the argument `name`, is a positive integer."""
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(f"{name} must be a positive integer, not {size!r}")
