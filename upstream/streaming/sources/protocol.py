"""The Source protocol: where the rows of an export come from."""

from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from upstream.streaming.batches import Batch, BatchLimits
from upstream.streaming.columns import OutputColumn
from upstream.streaming.databases.protocol import Selection


class OpenSource(NamedTuple):
    """The columns and batches of an open source; if `columns` is None, each row is a 1-tuple of a whole record."""

    columns: tuple[OutputColumn, ...] | None
    batches: Generator[Batch]


class Source(Protocol):
    """Rows that can be opened once."""

    @property
    def columns(self) -> tuple[OutputColumn, ...] | None:
        """The columns; None if only the open source knows them."""

    @property
    def databases(self) -> Mapping[str, bool]:
        """The aliases that are read, mapped to whether several statements read each."""

    @property
    def sql(self) -> str:
        """The statement with its placeholders; empty if there is none."""

    @property
    def reason(self) -> str:
        """Why its rows are read in this way."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What may make its reading slow, such as code of a column that may run a query for each row."""

    @property
    def selection(self) -> Selection | None:
        """The statement that selects every column, for a database that can render its rows; else None."""

    @property
    def gives_raw(self) -> bool:
        """Whether rows are the driver's own tuples, with columns that the encoder loads."""

    def open(self, limits: BatchLimits) -> AbstractContextManager[OpenSource]:
        """Open the source. Leaving the context releases everything it holds."""
