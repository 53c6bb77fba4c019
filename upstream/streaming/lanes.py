"""Lanes: who renders rows as bytes, and why.

"copy": the database renders whole rows. "text": the encoder takes the driver's own tuples, and loads each column
of a batch as values or preformatted text. "python": the encoder takes Python values.
"""

from collections.abc import Callable, Generator, Iterator
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
    """Counts the rows of batches (tuples or rendered rows) and passes them on."""

    def __call__(self, batches: Generator[list[Row]], /) -> Generator[list[Row]]: ...


class OpenLane(NamedTuple):
    """The lane that runs, and its chunks."""

    name: LaneName
    chunks: Generator[bytes]


class Lane(Protocol):
    """One way to render rows as bytes; `reason` says why no faster one applies."""

    @property
    def name(self) -> LaneName: ...

    @property
    def reason(self) -> str: ...

    def open(self, limits: BatchLimits, count: CountRows) -> AbstractContextManager[OpenLane]:
        """Run the lane. Leaving the context releases everything it holds."""


def choose(source: Source, encoder: Encoder, capabilities: Capabilities) -> Lane:
    """Return the fastest lane that produces the same bytes as the encoder."""
    name: LaneName = "text" if source.gives_raw else "python"
    selection = source.selection
    if selection is None:
        return EncodedLane(name, source.reason, source, encoder, capabilities.check)
    rendering = _rendering(selection, capabilities)
    if isinstance(rendering, str):
        slower = (source.reason, rendering, "" if source.gives_raw else capabilities.refusals["text"])
        reason = "; ".join(dict.fromkeys(filter(None, slower)))
        return EncodedLane(name, reason, source, encoder, capabilities.check)
    assert capabilities.frame is not None
    assert source.columns is not None
    fallback = EncodedLane(name, source.reason, source, encoder, capabilities.check)
    return RenderedLane(rendering, source.columns, capabilities.frame, fallback)


def _rendering(selection: Selection, capabilities: Capabilities) -> Rendering | str:
    """Return the database's rendering of a selection in the encoder's row format, or why there is none."""
    if "copy" in capabilities.refusals:
        return capabilities.refusals["copy"]
    connection = connections[selection.alias]
    return database_of(connection).rendering(connection, selection, capabilities.row_format)


@dataclass(frozen=True)
class EncodedLane:
    """The encoder renders the rows."""

    name: LaneName
    reason: str
    source: Source
    encoder: Encoder
    check: Callable[[Columns], None]

    @contextmanager
    def open(self, limits: BatchLimits, count: CountRows) -> Iterator[OpenLane]:
        with self.source.open(limits) as (columns, batches):
            if columns and self.source.columns is None:  # the plan could not check them
                self.check(columns)
            yield OpenLane(self.name, self.encoder.encode(columns, count(batches)))


@dataclass(frozen=True)
class RenderedLane:
    """The database renders the rows; `fallback` runs if it proves unable to."""

    rendering: Rendering
    columns: Columns
    frame: Frame
    fallback: EncodedLane
    name: LaneName = "copy"
    reason: str = "the database renders every column"

    @contextmanager
    def open(self, limits: BatchLimits, count: CountRows) -> Iterator[OpenLane]:
        with self.rendering.open(limits) as batches:
            if batches is not None:
                yield OpenLane(self.name, self.frame(self.columns, count(batches)))
                return
        with self.fallback.open(limits, count) as lane:
            yield lane


@dataclass(frozen=True)
class DocumentLane:
    """The encoder writes a mapping as one object, and opens some of its values as rows."""

    document: Document
    write: WriteDocument
    check: Callable[[Columns], None]
    name: LaneName = "python"
    reason: str = "the source is a mapping, written as one; each queryset in it is read separately"

    @contextmanager
    def open(self, limits: BatchLimits, count: CountRows) -> Iterator[OpenLane]:
        @contextmanager
        def open_rows(value: Any) -> Iterator[OpenSource]:
            with self.document.open_rows(value, limits) as (columns, batches):
                if columns:
                    self.check(columns)
                yield OpenSource(columns, count(batches))

        yield OpenLane(self.name, self.write(self.document.mapping, open_rows))
