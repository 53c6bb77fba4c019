"""Lanes: who turns rows into bytes, and why.

"copy": the database renders whole rows. "text": the driver's own tuples, whose columns the encoder loads batch by
batch, to values or finished texts. "python": records that only Python can read.
"""

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from django.db import connections

from upstream.streaming.batches import BatchLimits
from upstream.streaming.databases import database_of
from upstream.streaming.databases.protocol import Rendering, Selection
from upstream.streaming.encoders.protocol import Capabilities, Columns, Encoder, Frame, WriteDocument
from upstream.streaming.sources.documents import Document
from upstream.streaming.sources.protocol import OpenSource, Source

LaneName = Literal["copy", "text", "python"]
Row = TypeVar("Row")


class CountRows(Protocol):
    """Passes batches on, of tuples or of rendered rows, and counts their rows."""

    def __call__(self, batches: Generator[list[Row]], /) -> Generator[list[Row]]: ...


class OpenLane(NamedTuple):
    """The lane that runs, and its bytes."""

    name: LaneName
    chunks: Generator[bytes]


class Lane(Protocol):
    """A way from rows to bytes; `reason` says why there is none that is faster."""

    @property
    def name(self) -> LaneName: ...

    @property
    def reason(self) -> str: ...

    def open(self, limits: BatchLimits, count: CountRows) -> AbstractContextManager[OpenLane]:
        """Run it. Leaving the context releases all that it holds."""


def choose(source: Source, encoder: Encoder, capabilities: Capabilities) -> Lane:
    """Return the fastest lane that gives the encoder's bytes for that source."""
    name: LaneName = "text" if source.gives_raw else "python"
    selection = source.selection
    if selection is None:
        return EncodedLane(name, source.reason, source, encoder)
    rendering = _rendering(selection, capabilities)
    if isinstance(rendering, str):
        slower = (source.reason, rendering, "" if source.gives_raw else capabilities.refusals["text"])
        reason = "; ".join(dict.fromkeys(filter(None, slower)))
        return EncodedLane(name, reason, source, encoder)
    assert capabilities.frame is not None
    assert source.columns is not None
    otherwise = EncodedLane(name, source.reason, source, encoder)
    return RenderedLane(rendering, source.columns, capabilities.frame, otherwise)


def _rendering(selection: Selection, capabilities: Capabilities) -> Rendering | str:
    """Return what renders the rows of a selection as the encoder writes them, or why nothing does."""
    if "copy" in capabilities.refusals:
        return capabilities.refusals["copy"]
    connection = connections[selection.alias]
    return database_of(connection).rendering(connection, selection, capabilities.row_format)


@dataclass(frozen=True)
class EncodedLane:
    """Rows that the encoder writes."""

    name: LaneName
    reason: str
    source: Source
    encoder: Encoder

    @contextmanager
    def open(self, limits: BatchLimits, count: CountRows) -> Iterator[OpenLane]:
        with self.source.open(limits) as (columns, batches):
            yield OpenLane(self.name, self.encoder.encode(columns, count(batches)))


@dataclass(frozen=True)
class RenderedLane:
    """Rows that the database writes, or `otherwise` the encoder."""

    rendering: Rendering
    columns: Columns
    frame: Frame
    otherwise: EncodedLane
    name: LaneName = "copy"
    reason: str = "the database renders every column as it is written"

    @contextmanager
    def open(self, limits: BatchLimits, count: CountRows) -> Iterator[OpenLane]:
        with self.rendering.open(limits) as batches:
            if batches is not None:
                yield OpenLane(self.name, self.frame(self.columns, count(batches)))
                return
        with self.otherwise.open(limits, count) as lane:
            yield lane


@dataclass(frozen=True)
class DocumentLane:
    """A mapping that the encoder writes as one object, and that it opens values of as rows."""

    document: Document
    write: WriteDocument
    name: LaneName = "python"
    reason: str = "the source is a mapping, written as one object; each queryset in it is read on its own"

    @contextmanager
    def open(self, limits: BatchLimits, count: CountRows) -> Iterator[OpenLane]:
        @contextmanager
        def open_rows(value: Any) -> Iterator[OpenSource]:
            with self.document.open_rows(value, limits) as (columns, batches):
                yield OpenSource(columns, count(batches))

        yield OpenLane(self.name, self.write(self.document.mapping, open_rows))
