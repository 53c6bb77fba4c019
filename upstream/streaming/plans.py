"""plan(): how an export will run, decided and checked before anything is read."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from django.db.models import QuerySet
from django.db.models.query import RawQuerySet

from upstream.streaming.batches import BATCH_BYTES, CHUNK_SIZE, BatchLimits
from upstream.streaming.columns import Column, OutputColumn, as_columns
from upstream.streaming.databases import Consistency, reading
from upstream.streaming.encoders.delimited import Csv
from upstream.streaming.encoders.json import Json
from upstream.streaming.encoders.protocol import Encoder
from upstream.streaming.errors import SourceError
from upstream.streaming.keyset import check_windows
from upstream.streaming.lanes import Lane, choose
from upstream.streaming.querysets import QuerySetSource
from upstream.streaming.selections import SelectionSource
from upstream.streaming.sources import Source, open_source


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

    lane: Lane
    reason: str
    databases: Mapping[str, bool]
    sql: str
    bounded: bool
    consistency: Consistency
    headers: tuple[str, ...] | None
    note: str = ""
    encoder: Encoder
    source: Source | Mapping[Any, Any] = field(repr=False)
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
    columns: Iterable[str | Column | Callable[[Any], Any]] | None = None,
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
    limits = BatchLimits(rows=chunk_size, bytes=batch_bytes)
    if isinstance(source, Mapping):
        if windows:
            raise SourceError("a mapping is not read in windows: give stream() the queryset itself")
        return _document_plan(source, columns, encoder, limits, timeout)
    wanted = None if columns is None else as_columns(columns)
    if wanted:
        encoder.check([column.output() for column in wanted])
    opened = open_source(
        source,
        wanted,
        takes_records=encoder.takes_records,
        takes_positions=encoder.takes_positions,
        texts=getattr(encoder, "takes_texts", None),
    )
    if opened.columns is not None:
        encoder.check(opened.columns)
    if windows:
        opened = _in_windows(opened)
    several = runs_several(opened)
    how = reading(opened.database, several=several, windows=windows)
    chosen = choose(opened, encoder, windows=windows)
    return Plan(
        lane=chosen.lane,
        reason=chosen.reason,
        databases={opened.database: several} if opened.database else {},
        sql=opened.sql,
        bounded=how.bounded,
        consistency=how.consistency,
        note=how.note,
        headers=_headers(opened.columns, wanted),
        encoder=encoder,
        source=opened,
        limits=limits,
        timeout=timeout,
        windows=windows,
    )


def check_size(name: str, size: Any) -> None:
    """Raise unless `size`, an argument of that name, is a whole number from 1."""
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(f"{name} is a whole number from 1, not {size!r}")


def runs_several(source: Source) -> bool:
    """Whether it runs further statements, for the prefetched relations of each batch."""
    return bool(getattr(source, "prefetch", ()))


def _in_windows(source: Source) -> Source:
    if not isinstance(source, QuerySetSource | SelectionSource):
        raise SourceError("windows are for querysets: a raw query and an iterable are read as they are")
    check_windows(source.queryset)
    return replace(source, windows=True)


def _headers(
    columns: tuple[OutputColumn, ...] | None, wanted: tuple[Column, ...] | None
) -> tuple[str, ...] | None:
    known = columns or (wanted and tuple(column.output() for column in wanted))
    return tuple(column.header for column in known) if known else None


def _document_plan(
    source: Mapping[Any, Any], columns: object, encoder: Encoder, limits: BatchLimits, timeout: float | None
) -> Plan:
    if not isinstance(encoder, Json) or columns is not None:
        raise SourceError("a mapping is one JSON object: stream(mapping, encoder=Json()), without columns")
    databases = _databases(source)
    how = [reading(alias, several=several) for alias, several in databases.items()]
    return Plan(
        lane="python",
        reason="the source is a mapping, written as one object; each queryset in it is read on its own",
        databases=databases,
        sql="",
        bounded=all(one.bounded for one in how),
        consistency=how[0].consistency if len(how) == 1 else "statement" if how else "source",
        note="; ".join(filter(None, (one.note for one in how))),
        headers=None,
        encoder=encoder,
        source=source,
        limits=limits,
        timeout=timeout,
    )


def _databases(document: Mapping[Any, Any]) -> dict[str, bool]:
    """Return the aliases of a document's querysets, and whether each is asked by several statements."""
    statements: Counter[str] = Counter()
    for queryset in _querysets(document):
        statements[queryset.db] += 1 + len(queryset._prefetch_related_lookups)
    return {alias: statements[alias] > 1 for alias in sorted(statements)}


def _querysets(document: Mapping[Any, Any]) -> Iterator[Any]:
    for value in document.values():
        if isinstance(value, Mapping):
            yield from _querysets(value)
        elif isinstance(value, QuerySet | RawQuerySet):
            yield value
