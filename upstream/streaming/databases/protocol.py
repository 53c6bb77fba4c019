"""The Database protocol: what the engine asks of a database.

A database is one module of this package, and one line in `databases.DATABASES`. Members that it omits have their
defaults here; `default.py` omits all that it can.
"""

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from upstream.streaming.batches import BatchLimits
from upstream.streaming.columns import CellType
from upstream.streaming.databases.loaders import Loader, MakeLoader
from upstream.streaming.values import Integers

Consistency = Literal["snapshot", "statement", "window", "source"]
Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Reading:
    """How a source is read.

    `bounded` means that the client holds at most one batch in memory. `consistency` is "snapshot" if all
    statements of the export see one state of the database, "statement" if each sees its own, "window" if each
    window of rows does, and "source" if it depends on the caller's iterable. `note` is advice for the caller.
    """

    bounded: bool
    consistency: Consistency
    note: str = ""


class Cursor(Protocol):
    """An executed statement. `close()` ends it at once, however many rows remain."""

    def fetchmany(self, size: int, /) -> list[tuple[Any, ...]]:
        """Return the next rows, at most `size`; an empty list at the end."""

    def close(self) -> None: ...


class OpenCursor(NamedTuple):
    """A cursor, the positions of its unconverted columns, and by position the driver conversions that it skips.

    `conversions` take precedence over `Loader.convert`. `is_exact` says that the driver gives no value of a
    subclass that somebody else made, such as an Enum that is also a str.
    """

    cursor: Cursor
    raw: Collection[int] = ()
    conversions: Mapping[int, Convert] = {}
    is_exact: bool = False


class SelectedColumn(NamedTuple):
    """A column of an export as its statement selects it.

    `is_column` says that its expression is a table column. `python_only` says why only Python can produce its
    value; if it is empty, `field` is the output field of the expression, else None. `type` is that of the values,
    as far as it is known.
    """

    header: str
    position: int
    field: Any
    is_column: bool
    python_only: str = ""
    type: CellType | None = None


class Selection(NamedTuple):
    """A statement that selects `width` columns, and the exported ones among them, in order.

    `alias` names its database. `is_plain` says that all its expressions are table columns.
    """

    alias: str
    sql: str
    params: Sequence[Any]
    width: int
    columns: Sequence[SelectedColumn]
    is_plain: bool


@dataclass(frozen=True, slots=True)
class TypedRows:
    """A row format: comma-separated cells with the server's plain text, for a reader of typed columns.

    NULL is an empty cell, "" a quoted one. Booleans are t and f, durations microseconds, and binary values
    hexadecimal. The reader refuses what Python cannot represent, such as an infinite date.
    """


@dataclass(frozen=True, slots=True)
class DelimitedRows:
    """A row format: cells as `Csv` writes them, with minimal quoting.

    `guarded` means that no cell may be text that a spreadsheet runs as a formula (see `formulas.Guard`).
    """

    delimiter: str
    guarded: bool = False


@dataclass(frozen=True, slots=True)
class JsonObjects:
    """A row format: one compact JSON object per row, with Decimals as strings or numbers.

    `integers="safe"` means that those beyond `values.MAX_SAFE_INTEGER` are strings, at any depth.
    """

    decimals: Literal["string", "number"] = "string"
    integers: Integers = "number"


class CellStyle(IntEnum):
    """The styles of cells, by their numbers in a workbook; see `SheetRows`."""

    PLAIN = 0
    HEADER = 1
    QUOTED_HEADER = 2
    DATE = 3
    DATETIME = 4
    TIME = 5
    QUOTED = 6  # text that a spreadsheet would take for a formula or a number if it were typed
    WRAPPED = 7  # text of several lines
    QUOTED_WRAPPED = 8
    DECIMAL = 9  # of one decimal place; up to MAX_PLACES, each further place adds 1
    TOTAL = 19  # of no decimal place
    NUMBER_HEADER = 30  # of numbers, dates and times, which stand at the right
    CUSTOM = 31  # the first number format of the caller's, for cells; the next is for its total


@dataclass(frozen=True, slots=True)
class SheetRows:
    """A row format: the `<row>` elements of a sheet, as `Xlsx` writes them, without line breaks.

    Texts are left as they are but for markup and line feeds: the encoder marks what XML cannot hold, and cuts or
    refuses texts that are too long. `local` means that moments are converted to another zone than UTC. `styles`
    are those of numbers, dates and times in columns with a number format of their own, by header.
    """

    local: bool = False
    styles: Mapping[str, int] = field(default_factory=dict)


# A spreadsheet keeps 15 digits: larger integers, and Decimals of more digits, are written as text.
MAX_DIGITS = 15
# Decimals of more places may be smaller than any double.
MAX_SCALE = 100
# Decimals of more places have no style of their own.
MAX_PLACES = 10
# Spreadsheets count the days of 1900 as if it were a leap year: earlier days are text.
FIRST_DAY = "1900-03-01"
DAY_ZERO = "1899-12-30"
# A text that starts with one of them would be a formula if it were typed; the last four are full-width.
FORMULA_STARTS = "=+-@\uff1d\uff0b\uff0d\uff20"


def text_start(style: int = CellStyle.PLAIN) -> str:
    """Return how the cell of a text starts. Its spaces are kept whether it has any: to look takes longer."""
    attribute = f' s="{style:d}"' if style else ""
    return f'<c t="inlineStr"{attribute}><is><t xml:space="preserve">'


TEXT_START, TEXT_END = text_start(), "</t></is></c>"

RenderedRows = Generator[list[bytes]]


class Rendering(Protocol):
    """A statement whose rows the database renders in a row format."""

    def open(self, limits: BatchLimits) -> AbstractContextManager[RenderedRows | None]:
        """Execute the statement and yield batches of rows without line ends; None if it proves impossible."""


class Hold(Protocol):
    """Opens what an export holds open on one database; see `Database.hold`."""

    def __call__(self, *, seconds: float | None) -> AbstractContextManager[None]: ...


class Database(Protocol):
    """How a kind of database is read, and what it can do for an export.

    `connection` is Django's. Only `hold`, `open_cursor` and `is_idle` may execute statements, so that planning
    executes none; Django itself may connect to read the server's version.
    """

    loaders: ClassVar[Mapping[str, MakeLoader]] = {}
    """The makers of loaders, by the internal type of a column's field."""

    matches_regex_in_python: ClassVar[bool] = False
    """Whether Python matches regular expressions, in a time that a pattern decides."""

    has_one_writer: ClassVar[bool] = False
    """Whether a transaction that writes keeps all other connections from writing."""

    fetch_rows: ClassVar[int | None] = None
    """The maximum number of rows per fetch; None for that of a batch."""

    def reading(self, connection: Any, *, several: bool) -> Reading:
        """Return how one statement of an export is read, or `several` of them."""

    def hold(self, alias: str, *, several: bool, seconds: float | None) -> AbstractContextManager[None]:  # noqa: ARG002
        """Open what an export holds open, such as a transaction; its end closes it.

        `seconds` limits each statement; a database may leave that to `open_cursor`. None means no limit.
        """
        return nullcontext()

    def share_snapshot(
        self,
        alias: str,  # noqa: ARG002
        groups: Sequence[Sequence[str]] = ((),),
    ) -> AbstractContextManager[Sequence[str]]:
        """Hold one state of the database on a connection of its own, and yield names of it; "" if that cannot be.

        There is a name for each group of tables, by which `join_snapshot` notices what happened to them.
        """
        return nullcontext([""] * len(groups))

    def join_snapshot(self, alias: str, name: str, tables: Sequence[str] = ()) -> AbstractContextManager[None]:  # noqa: ARG002
        """Let all exports in the block read the state that `share_snapshot` named, here or in another process.

        With the `tables` of the name, SourceError is raised at the end if one of them has lost its rows meanwhile
        even in that state.
        """
        return nullcontext()

    def quantiles(self, connection: Any, table: str, column: str) -> Sequence[str]:  # noqa: ARG002
        """Return values, as text, that cut a column into about equal numbers of rows, if fresh ones are known."""
        return ()

    def ends_with_caller(self, connection: Any) -> bool:  # noqa: ARG002
        """Return whether a cursor opened now would be closed by the end of the caller's transaction."""
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
        """Execute a statement on a cursor whose memory does not grow with its rows.

        The columns at the positions in `raw_types` come unconverted, if the driver supports that and if they have
        these types (by the driver's names); `width`, needed only for them, is the number of all columns. The
        statement may take at most `seconds`, None for no limit.
        """

    def find_loader(self, connection: Any, field: Any, *, is_column: bool) -> Loader | None:
        """Return the loader for values of `field`, which has no converters but the backend's; None without one.

        `is_column` says that the values come from a table column, not from another expression.
        """
        make = self.loaders.get(field.get_internal_type())
        return make(connection, field, is_column) if make else None

    def exact(self, sql: str, kind: str) -> str:  # noqa: ARG002
        """Return SQL that selects `sql`, of internal type `kind`, as a value to bind again without loss."""
        return sql

    def sorts_as_it_compares(self, kind: str, max_length: int | None) -> bool:  # noqa: ARG002
        """Return whether ORDER BY and `>` agree on values of internal type `kind`, "" if unknown."""
        return kind not in ("", "Field", "BinaryField", "JSONField", "TextField")

    def is_idle(self, connection: Any) -> bool:  # noqa: ARG002
        """Return whether the connection has no statement and no transaction open; may ask the server."""
        return True

    def canceller(self, connection: Any) -> Callable[[], None]:  # noqa: ARG002
        """Return a function that cancels the connection's running statement from another thread, if it can."""
        return lambda: None

    def json_text(self, sql: str) -> str:
        """Return SQL for the text of the JSON column `sql`."""
        return sql

    def rendering(self, connection: Any, selection: Selection, row_format: object) -> Rendering | str:  # noqa: ARG002
        """Return the rendering of a selection in `row_format`, or why the database cannot render it."""
        return f"{connection.display_name} does not render rows"
