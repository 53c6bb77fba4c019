"""stream(): join the stages of an export.

source --> batches of rows --> encoder --> compressor --> target
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, suppress
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from threading import get_ident
from time import monotonic
from typing import Any, Self, TypeVar

from django.conf import settings
from django.db import DatabaseError
from django.utils.timezone import activate as activate_zone
from django.utils.timezone import get_current_timezone
from django.utils.translation import activate as activate_language
from django.utils.translation import get_language

from upstream.streaming.batches import BATCH_BYTES, CHUNK_SIZE, BatchLimits
from upstream.streaming.columns import Names
from upstream.streaming.compression import Compression, check_compression, compressed
from upstream.streaming.databases import ends_with_caller, recover
from upstream.streaming.databases.sharing import is_exporting
from upstream.streaming.encoders.delimited import Csv
from upstream.streaming.encoders.protocol import Encoder, capabilities_of
from upstream.streaming.errors import LimitError
from upstream.streaming.lanes import LaneName
from upstream.streaming.plans import Plan, check_size, plan

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
Row = TypeVar("Row")

PROGRESS_SECONDS = 0.25
# What to do about an error of the database, by words in its text.
WAYS_OUT = {
    "timeout": "if the client reads slowly, use stream(windows=True) or to_response(spool=True)",
    "read only transaction": "the query writes, and an export reads in a READ ONLY transaction: "
    "export in a transaction of your own (transaction.atomic()), or use stream(windows=True)",
}


class ByteStream(Iterator[bytes]):
    """The chunks of one export, produced on demand and readable once.

    It runs in the context of the call to `stream`: language, time zone and context variables. Nothing is acquired
    before the first chunk is requested. `close()` releases the cursor and the transaction at once; so do the last
    chunk, an error, and leaving a `with` block. Targets refuse a stream that is over with StreamOverError.

        >>> with stream([{"id": 1}]) as chunks:
        ...     first = next(chunks)
        >>> first, chunks.rows, chunks.lane, chunks.is_over
        (b'id\\r\\n1\\r\\n', 1, 'python', True)
    """

    def __init__(self, plan: Plan, compression: Compression | None, tally: Tally) -> None:
        self.plan = plan
        self.compression = compression
        self._tally = tally
        self._chunks = _run(plan, compression, tally)
        self._call = _Call()
        self.is_over = False
        """Whether it has ended, failed or been closed."""

    @property
    def content_type(self) -> str:
        """The media type of the uncompressed bytes."""
        return self.plan.encoder.content_type

    @property
    def lane(self) -> LaneName:
        """The planned lane until the first chunk is requested, then the lane that runs."""
        return self._tally.lane or self.plan.lane

    @property
    def rows(self) -> int:
        """The number of rows passed to the encoder so far."""
        return self._tally.rows

    @property
    def size(self) -> int:
        """The number of bytes produced so far, after compression."""
        return self._tally.size

    @property
    def ends_with_caller(self) -> bool:
        """Whether its cursor, if opened now, would be closed by the end of the caller's transaction."""
        return any(map(ends_with_caller, self.plan.databases))

    def uncompress(self) -> None:
        """Leave the compression out; only before the first chunk."""
        self.compression, self._chunks = None, _run(self.plan, None, self._tally)

    def __next__(self) -> bytes:
        chunk: bytes = self._advance(next, self._chunks)
        return chunk

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.is_over = True
        self._advance(self._chunks.close)

    def _advance(self, function: Callable[..., Any], *arguments: Any) -> Any:
        handled = sys.exception()
        try:
            return self._call.run(function, *arguments)
        except BaseException as error:
            self.is_over = True
            if interrupt := _interrupt_of(error, handled):
                self._call.run(self._recover)
                if interrupt is not error:
                    raise interrupt from None
            raise

    def _recover(self) -> None:
        """Release, after an interrupt, also what the stages could not."""
        with suppress(Exception):  # the interrupt is what the caller has to see
            self._chunks.close()
        recover(self.plan.databases)


def _interrupt_of(error: BaseException, handled: BaseException | None) -> BaseException | None:
    """Return the interrupt, such as Ctrl-C, that an error is or that it hides: a driver may fail to clean up.

    `handled` is what the caller was handling before. An error that is raised `from` an interrupt stands for it.
    """
    if not isinstance(error, Exception):
        return error
    shown: BaseException | None = error
    while shown is not None and shown is not handled:
        hidden = shown.__context__
        # Generators that are closed and tasks that are cancelled are no interrupts.
        if isinstance(hidden, KeyboardInterrupt | SystemExit) and hidden not in (shown.__cause__, handled):
            return hidden
        shown = hidden
    return None


class _Call:
    """The context of a call, to the last row: context variables, and Django's language and time zone."""

    def __init__(self) -> None:
        self._context = copy_context()
        self._context.run(is_exporting.set, True)
        self._thread = get_ident()
        self._language = get_language() if settings.configured else None
        self._zone = get_current_timezone() if settings.configured else None

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if self._thread != get_ident():
            self._thread = get_ident()
            self._context.run(self._activate)
        return self._context.run(function, *arguments)

    def _activate(self) -> None:
        """Activate language and time zone in another thread, where Django does not see those of the first."""
        if self._zone:
            activate_zone(self._zone)
        if self._language:
            activate_language(self._language)


def stream(
    source: Any,
    columns: Names | None = None,
    encoder: Encoder = Csv(),  # noqa: B008 (frozen)
    *,
    chunk_size: int = CHUNK_SIZE,
    batch_bytes: int = BATCH_BYTES,
    windows: bool = False,
    timeout: float | None = None,
    max_rows: int | None = None,
    max_bytes: int | None = None,
    compression: Compression | None = None,
    progress: Progress | None = None,
) -> ByteStream:
    """Export `source` as an iterator of bytes, one chunk per batch of rows.

    `source` is a QuerySet, a RawQuerySet, or an iterable of dicts, sequences, named tuples, dataclasses or
    objects. Json also takes a mapping, and writes it as one object. `columns` are names (`__` follows relations,
    keys and attributes), callables, Columns, and pairs of a name and its header, or a mapping of names to headers;
    by default the model's fields except sensitive ones, the queryset's selection, or the keys of the first record.
    Rows keep the order of the source.

        >>> rows = [{"id": 1, "name": "Ann", "tags": ["new", "paid"]}]
        >>> chunks = stream(rows, ["id", ("name", "Name"), Column("tags", join="; ")], Csv(delimiter="|"))
        >>> to_buffer(chunks).getvalue()
        b'id|Name|tags\\r\\n1|Ann|new; paid\\r\\n'
        >>> to_buffer(stream(rows, {"id": "Number", "name": "Name"}, JsonLines())).getvalue()
        b'{"Number":1,"Name":"Ann"}\\n'

    A queryset is read by one statement; outside the caller's transactions, its prefetches and the querysets of a
    mapping see the same state of the database. PostgreSQL reads in a read-only transaction, unless the caller has
    one open; MySQL and MariaDB on a separate connection, or several statements in a transaction like PostgreSQL's,
    in which rows are spooled to disk first. Whatever else uses the connection between two chunks runs at once and
    is committed: before it, the remaining rows are spooled to disk and the transaction ends. With `windows`, many
    short statements each read the next rows after the last key: nothing stays open between them, and each sees
    the current data.

    `timeout` limits the export's duration in seconds, including its reader's pauses; then DeadlineError is raised.
    LimitError is raised before the batch that exceeds `max_rows`, or the chunk that exceeds `max_bytes`.

    A batch holds at most `chunk_size` rows and about `batch_bytes` bytes, which bounds memory; a single row is
    never split. Columns through relations to many rows also hold the related rows of a batch, as instances; where
    they are many, they are prefetched for fewer rows at a time. `compression` is "gzip" or "zstd". `progress` is
    called with the rows and bytes so far, at most four times a second and once at the end.

    Invalid arguments raise ColumnError, SourceError or ValueError here. Errors of the source are raised by the
    iterator, unchanged, with a note that names the row.
    """
    check_compression(compression)
    if progress is not None and not callable(progress):
        raise ValueError(f"progress must be a callable that takes rows and bytes, not {progress!r}")
    for name, limit in (("max_rows", max_rows), ("max_bytes", max_bytes)):
        if limit is not None:
            check_size(name, limit)
    planned = plan(
        source,
        columns,
        encoder,
        chunk_size=chunk_size,
        batch_bytes=batch_bytes,
        windows=windows,
        timeout=timeout,
    )
    if compression and capabilities_of(encoder).is_compressed:
        raise ValueError(f"{type(encoder).__name__} is compressed inside: leave out compression={compression!r}")
    if not planned.bounded:
        logger.warning("the memory use of this export grows with its rows: %s", planned.note)
    elif planned.note:
        logger.info("note on this export: %s", planned.note)
    return ByteStream(planned, compression, Tally(progress, max_rows, max_bytes))


def _run(plan: Plan, compression: Compression | None, tally: Tally) -> Generator[bytes]:
    limits = replace(plan.limits, deadline=plan.timeout and monotonic() + plan.timeout)
    encoded = _encoded(plan, limits, tally)
    try:
        with closing(tally.counting_bytes(compressed(encoded, compression) if compression else encoded)) as chunks:
            yield from chunks
    except DatabaseError as error:
        limits.seconds_left()  # the database may have cancelled a slow statement: then raise DeadlineError
        words = str(error).lower().replace("-", " ")
        for note in (note for word, note in WAYS_OUT.items() if word in words):
            error.add_note(note)
        raise


def _encoded(plan: Plan, limits: BatchLimits, tally: Tally) -> Generator[bytes]:
    with ExitStack() as stack:
        for hold in plan.holds:
            stack.enter_context(hold(seconds=limits.seconds_left()))
        tally.lane, chunks = stack.enter_context(plan.path.open(limits, tally.counting_rows))
        yield from chunks


@dataclass
class Tally:
    """Counts rows and bytes, reports progress, and enforces `max_rows` and `max_bytes`."""

    progress: Progress | None
    max_rows: int | None
    max_bytes: int | None
    rows: int = field(default=0, init=False)
    size: int = field(default=0, init=False)
    lane: LaneName | None = field(default=None, init=False)

    def counting_rows(self, batches: Generator[list[Row]]) -> Generator[list[Row]]:
        with closing(batches):
            for batch in batches:
                if self.max_rows is not None and self.rows + len(batch) > self.max_rows:
                    raise LimitError(f"the export has more than {self.max_rows:,} rows: narrow it down")
                self.rows += len(batch)
                yield batch

    def counting_bytes(self, chunks: Generator[bytes]) -> Generator[bytes]:
        started = reported = monotonic()
        with closing(chunks):
            for chunk in chunks:
                if self.max_bytes is not None and self.size + len(chunk) > self.max_bytes:
                    raise LimitError(f"the export has more than {self.max_bytes:,} bytes: narrow it down")
                self.size += len(chunk)
                if self.progress and monotonic() - reported >= PROGRESS_SECONDS:
                    reported = monotonic()
                    self.progress(self.rows, self.size)
                yield chunk
        if self.progress:
            self.progress(self.rows, self.size)
        logger.debug("exported %d rows, %d bytes in %.3f s", self.rows, self.size, monotonic() - started)
