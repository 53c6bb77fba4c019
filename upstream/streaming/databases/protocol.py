"""What the engine asks of a database.

A database is one module of this package, and one line in the table of `databases`. What it leaves out has its
default here; `default.py` is a database that leaves out all it can.
"""

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from upstream.streaming.batches import BatchLimits
from upstream.streaming.databases.loaders import Loader, MakeLoader

Consistency = Literal["snapshot", "statement", "window", "source"]
Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Reading:
    """How a source is read.

    `bounded`: no more than a batch is in memory, on our side of the connection. `consistency`: "snapshot" where
    all statements of the export see one state of the database, "statement" where each sees its own, "window" where
    each window of rows does, "source" where the caller's iterable decides. `note` is advice for the caller.
    """

    bounded: bool
    consistency: Consistency
    note: str = ""


class Cursor(Protocol):
    """An executed statement. Closing it ends the statement at once, however many rows are left."""

    def fetchmany(self, size: int, /) -> list[tuple[Any, ...]]:
        """Return the next rows, at most `size`; none at the end."""

    def close(self) -> None: ...


class OpenCursor(NamedTuple):
    """A cursor, the positions of the columns that come raw, and the driver's conversions that it left out."""

    cursor: Cursor
    raw: Collection[int] = ()
    conversions: Mapping[int, Convert] = {}


class SelectedColumn(NamedTuple):
    """A column of an export as its statement selects it.

    `field` is the output field of its expression. `is_column` says that the expression is a column of a table.
    `python_only` says why only Python can make its value, or is empty.
    """

    header: str
    position: int
    field: Any
    is_column: bool
    python_only: str = ""


class Selection(NamedTuple):
    """A statement of `width` columns, and those of them that are exported, in their order.

    `alias` is that of its database. `is_plain` says that every expression of it is a column of a table.
    """

    alias: str
    sql: str
    params: Sequence[Any]
    width: int
    columns: Sequence[SelectedColumn]
    is_plain: bool


@dataclass(frozen=True, slots=True)
class DelimitedRows:
    """A row format: cells as `Csv` writes them, quoted where they must be.

    Strings that start with one of `guarded` get an apostrophe in front.
    """

    delimiter: str
    guarded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JsonObjects:
    """A row format: one compact JSON object a row, with Decimals as strings or as numbers."""

    decimals: Literal["string", "number"] = "string"


RenderedRows = Generator[list[bytes]]


class Rendering(Protocol):
    """A statement whose rows the database itself writes, in a format that it was asked for."""

    def open(self, limits: BatchLimits) -> AbstractContextManager[RenderedRows | None]:
        """Execute it, and give batches of rows without their line ends; None where it proves impossible."""


class Hold(Protocol):
    """Opens what an export holds open on a database; no statement may take over `seconds`."""

    def __call__(self, *, seconds: float | None) -> AbstractContextManager[None]: ...


class Database(Protocol):
    """A kind of database: how it is read, and what it can do for an export.

    `connection` is Django's. No method connects unless it says so.
    """

    loaders: ClassVar[Mapping[str, MakeLoader]] = {}
    """How columns are loaded as a whole, by the internal type of their field."""

    fetch_rows: ClassVar[int | None] = None
    """How many rows to fetch at most at a time; None is as many as a batch has."""

    def reading(self, connection: Any, *, several: bool) -> Reading:
        """Return how one statement is read, or `several` of one export."""

    def hold(self, alias: str, *, several: bool, seconds: float | None) -> AbstractContextManager[None]:  # noqa: ARG002
        """Open what an export holds open: a transaction, for instance. No statement may take over `seconds`."""
        return nullcontext()

    def ends_with_caller(self, connection: Any) -> bool:  # noqa: ARG002
        """Whether a cursor that is opened now dies with the caller's transaction."""
        return False

    def open_cursor(
        self,
        connection: Any,
        sql: str,
        params: Any,
        *,
        raw_types: Mapping[int, str],
        width: int,
        seconds: float | None,
    ) -> OpenCursor:
        """Execute a statement, to be read in memory that does not grow with its rows.

        The columns at the positions in `raw_types` come unconverted where the driver can do that, and where they
        are of those types; `width` is the number of all columns. The statement may take `seconds`.
        """

    def find_loader(self, connection: Any, field: Any, *, is_column: bool) -> Loader | None:
        """Return the loader for values of `field`, whose converters are none but the backend's own.

        `is_column` says that they come from a table's column, not from an expression over columns.
        """
        make = self.loaders.get(field.get_internal_type())
        return make(connection, field, is_column) if make else None

    def exact(self, sql: str, kind: str) -> str:  # noqa: ARG002
        """Return SQL for `sql`, of a field's internal type `kind`, whose value can be bound again without loss."""
        return sql

    def sorts_as_it_compares(self, kind: str, max_length: int | None) -> bool:  # noqa: ARG002
        """Whether ORDER BY and `>` agree on values of that internal type, "" where there is none."""
        return kind not in ("", "Field", "BinaryField", "JSONField", "TextField")

    def json_text(self, sql: str) -> str:
        """Return SQL for the text of `sql`, a JSON column."""
        return sql

    def rendering(self, connection: Any, selection: Selection, row_format: object) -> Rendering | str:  # noqa: ARG002
        """Return what writes the rows of a selection in `row_format`, or why the database cannot."""
        return f"{connection.display_name} renders no rows"
