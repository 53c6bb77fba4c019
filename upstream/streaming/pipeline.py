"""stream() and plan(): the stages of an export, checked and joined.

source --> batches of rows --> encoder --> compressor --> target
"""

import logging
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any, Self

from django.db import DatabaseError
from django.db.models import QuerySet
from django.db.models.query import RawQuerySet

from upstream.streaming.batches import BATCH_BYTES, CHUNK_SIZE, BatchLimits
from upstream.streaming.columns import Column, OutputColumn, as_columns
from upstream.streaming.compression import Compression, check_compression, compressed
from upstream.streaming.databases import Consistency, open_reading, reading
from upstream.streaming.encoders.delimited import Csv
from upstream.streaming.encoders.json import Json, OpenRows
from upstream.streaming.encoders.protocol import Batch, Columns, Encoder
from upstream.streaming.errors import SourceError
from upstream.streaming.keyset import check_windows
from upstream.streaming.lanes import Lane, choose, framed, rendered
from upstream.streaming.querysets import QuerySetSource
from upstream.streaming.selections import SelectionSource
from upstream.streaming.sources import Source, open_source

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

PROGRESS_SECONDS = 0.25


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How an export will run, and why.

    `lane` is who turns rows into bytes: "copy" the database, "text" an encoder from the driver's own tuples,
    "python" an encoder from Python's objects; `reason` says why none that is faster. `bounded` says that memory
    does not grow with the rows, `consistency` which state of the database the rows show: "snapshot" one for the
    whole export, "statement" one for each statement, "window" one for each window of rows, "source" whatever the
    caller's iterable gives. `headers` is None where only the first record tells.
    """

    lane: Lane
    reason: str
    database: str | None
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


class ByteStream(Iterator[bytes]):
    """The bytes of one export, made while they are read; it can be read once.

    `close()` releases the cursor and the transaction at once, as the end, an error and leaving a `with` do.
    Nothing is acquired before the first chunk is asked for.
    """

    def __init__(self, plan: Plan, compression: Compression | None, progress: Progress | None) -> None:
        self.plan = plan
        self.compression = compression
        self._chunks = _run(plan, compression, progress)

    @property
    def content_type(self) -> str:
        """The media type of the bytes before compression."""
        return self.plan.encoder.content_type

    def __next__(self) -> bytes:
        return next(self._chunks)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._chunks.close()


def stream(
    source: Any,
    columns: Iterable[str | Column | Callable[[Any], Any]] | None = None,
    encoder: Encoder = Csv(),  # noqa: B008 (frozen)
    *,
    chunk_size: int = CHUNK_SIZE,
    batch_bytes: int = BATCH_BYTES,
    windows: bool = False,
    timeout: float | None = None,
    compression: Compression | None = None,
    progress: Progress | None = None,
) -> ByteStream:
    """Export `source` as an iterator of bytes, one chunk a batch of rows.

    `source` is a queryset of any kind, a RawQuerySet, or an iterable of dicts, sequences, named tuples,
    dataclasses or objects; for Json also a mapping, written as one object. `columns` are names (with `__`
    through relations, keys and attributes), callables or Columns; by default the model's fields but those that
    hold secrets, the queryset's selection, or the keys of the first record. Rows come in the source's order.

    A queryset is read by one statement; prefetched relations, and the querysets of a mapping, show the same state
    of the database. On PostgreSQL its connection is in a read-only transaction from the first chunk to the last,
    unless the caller has one open: what is written through it between chunks is refused. MySQL and MariaDB give
    it a connection of its own; for several statements they do as PostgreSQL does, and as in the caller's
    transaction the rows go to disk first.
    With `windows` it is read by many short statements, each for the next rows after the last key: nothing is held
    open between them, and each sees the rows as they are then.

    `timeout` is how many seconds the export may take, its reader's pauses included; DeadlineError ends it then.

    A batch holds at most `chunk_size` rows and about `batch_bytes` bytes, and that bounds the memory; a single
    row is never split. `compression` is "gzip" or "zstd". `progress` is called with the rows and bytes so far, at
    most four times a second and once at the end.

    Arguments are checked here: ColumnError, SourceError and ValueError come from the call. Errors of the source
    come from the iterator, unchanged, with a note that names the row.
    """
    check_compression(compression)
    if progress is not None and not callable(progress):
        raise ValueError(f"progress is a callable of rows and bytes, not {progress!r}")
    decided = plan(
        source,
        columns,
        encoder,
        chunk_size=chunk_size,
        batch_bytes=batch_bytes,
        windows=windows,
        timeout=timeout,
    )
    if not decided.bounded:
        logger.warning("the memory of this export grows with its rows: %s", decided.note)
    elif decided.note:
        logger.info("how this export is read: %s", decided.note)
    return ByteStream(decided, compression, progress)


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
    for name, size in (("chunk_size", chunk_size), ("batch_bytes", batch_bytes)):
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"{name} is a whole number from 1, not {size!r}")
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
    how = reading(opened.database, several=_prefetches(opened), windows=windows)
    chosen = choose(opened, encoder, windows=windows)
    return Plan(
        lane=chosen.lane,
        reason=chosen.reason,
        database=opened.database,
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
    aliases = _databases(source)
    how = [reading(alias, several=several) for alias, several in aliases.items()]
    return Plan(
        lane="python",
        reason="the source is a mapping, written as one object; each queryset in it is read on its own",
        database=", ".join(aliases) or None,
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


def _prefetches(source: Source) -> bool:
    """Whether it runs further statements, for the relations of each batch."""
    return bool(getattr(source, "prefetch", ()))


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


def _run(plan: Plan, compression: Compression | None, progress: Progress | None) -> Generator[bytes]:
    limits = replace(plan.limits, deadline=plan.timeout and monotonic() + plan.timeout)
    tally = _Tally(progress)
    try:
        with closing(tally.counting_bytes(compressed(_encoded(plan, limits, tally), compression))) as chunks:
            yield from chunks
    except DatabaseError:
        limits.seconds_left()  # a statement that the database ended for its length is out of time, and no failure
        raise


def _encoded(plan: Plan, limits: BatchLimits, tally: "_Tally") -> Generator[bytes]:
    if isinstance(plan.source, Mapping):
        assert isinstance(plan.encoder, Json)
        with ExitStack() as stack:
            for alias, several in _databases(plan.source).items():
                stack.enter_context(open_reading(alias, several=several, seconds=limits.seconds_left()))
            yield from plan.encoder.encode_document(plan.source, _rows_opener(plan.encoder, limits, tally))
        return
    with ExitStack() as stack:
        if not plan.windows:
            stack.enter_context(_opened_reading(plan.source, limits))
        if plan.lane == "copy" and (rows := stack.enter_context(rendered(plan.source, plan.encoder, limits))):
            yield from framed(plan.source, plan.encoder, tally.counting_rows(rows))
            return
        columns, batches = stack.enter_context(plan.source.open(limits))
        if columns:
            plan.encoder.check(columns)
        yield from plan.encoder.encode(columns, tally.counting_rows(batches))


def _rows_opener(encoder: Json, limits: BatchLimits, tally: "_Tally") -> OpenRows:
    @contextmanager
    def open_rows(source: Any) -> Iterator[tuple[Columns | None, Generator[Batch]]]:
        opened = open_source(source, None, takes_records=True, texts=encoder.takes_texts)
        with _opened_reading(opened, limits), opened.open(limits) as (columns, batches):
            yield columns, tally.counting_rows(batches)

    return open_rows


def _opened_reading(source: Source, limits: BatchLimits) -> AbstractContextManager[None]:
    return open_reading(source.database, several=_prefetches(source), seconds=limits.seconds_left())


class _Tally:
    """Counts what passes, and reports it."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress
        self.rows = self.bytes = 0
        self.started = self.reported = monotonic()

    def counting_rows(self, batches: Generator[Batch]) -> Generator[Batch]:
        with closing(batches):
            for batch in batches:
                self.rows += len(batch)
                yield batch

    def counting_bytes(self, chunks: Generator[bytes]) -> Generator[bytes]:
        self.started = self.reported = monotonic()
        with closing(chunks):
            for chunk in chunks:
                self.bytes += len(chunk)
                if self.progress and monotonic() - self.reported >= PROGRESS_SECONDS:
                    self.reported = monotonic()
                    self.progress(self.rows, self.bytes)
                yield chunk
        if self.progress:
            self.progress(self.rows, self.bytes)
        seconds = monotonic() - self.started
        logger.debug("exported %d rows, %d bytes in %.3f s", self.rows, self.bytes, seconds)
