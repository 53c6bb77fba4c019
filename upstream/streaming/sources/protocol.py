"""What a source is: where the rows of an export come from."""

from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from upstream.streaming.batches import Batch, BatchLimits
from upstream.streaming.columns import OutputColumn
from upstream.streaming.databases.protocol import Selection


class OpenSource(NamedTuple):
    """The columns of an open source and its batches. Without columns rows are whole records."""

    columns: tuple[OutputColumn, ...] | None
    batches: Generator[Batch]


class Source(Protocol):
    """Rows that can be opened once."""

    @property
    def columns(self) -> tuple[OutputColumn, ...] | None:
        """The columns; None where only the open source knows them."""

    @property
    def databases(self) -> Mapping[str, bool]:
        """The aliases that are read, and whether several statements read each."""

    @property
    def sql(self) -> str:
        """The statement with its placeholders; empty where there is none."""

    @property
    def reason(self) -> str:
        """Why its rows are read the way they are."""

    @property
    def selection(self) -> Selection | None:
        """The statement that selects every column, for a database that renders rows; None where none does."""

    @property
    def gives_raw(self) -> bool:
        """Whether rows are the driver's own tuples, whose columns the encoder loads."""

    def open(self, limits: BatchLimits) -> AbstractContextManager[OpenSource]:
        """Read it. Leaving the context releases all that it holds."""
