"""Rows rendered by PostgreSQL: the COPY statement that writes a row format, byte for byte."""

import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from upstream.streaming.batches import BatchLimits
from upstream.streaming.databases.postgresql.copy import CopyReader
from upstream.streaming.databases.postgresql.expressions import (
    Session,
    Timestamptz,
    csv_expression,
    has_expression,
    holds_integers,
    is_safe,
    json_expression,
    json_row,
    may_be_infinite,
    timestamptz_of,
    typed_expression,
)
from upstream.streaming.databases.postgresql.sheets import sheet_expression, sheet_row
from upstream.streaming.databases.protocol import (
    DelimitedRows,
    JsonObjects,
    RenderedRows,
    Rendering,
    SelectedColumn,
    Selection,
    SheetRows,
    TypedRows,
)
from upstream.streaming.databases.sharing import guard_of

logger = logging.getLogger(__name__)

# JSON escapes control characters, so COPY finds nothing to quote or to double; in a sheet it may.
QUOTE = b"\x01"
WHOLE_ROWS = r"DELIMITER E'\x02', QUOTE E'\x01'"


class Cell(NamedTuple):
    """A selected column, with its type (OID) and its name in SQL."""

    column: SelectedColumn
    kind: int
    name: str

    def expression(self, make: Callable[..., Any], session: Session, **options: Any) -> Any:
        """Return the SQL of the cell, by one of the functions that make expressions of a field."""
        is_converted = not self.column.is_column
        return make(self.column.field, self.kind, self.name, session, converted=is_converted, **options)


def find_copy(connection: Any, selection: Selection, row_format: object) -> Rendering | str:
    """Return the COPY of a selection, or why there is none; column types are checked when it is opened."""
    if type(row_format) not in ROWS:
        return f"PostgreSQL does not render {type(row_format).__name__}"
    if connection.execute_wrappers:
        return "execute wrappers do not see COPY"
    timestamptz = timestamptz_of(connection)
    if isinstance(row_format, SheetRows) and row_format.local and timestamptz == "utc":
        timestamptz = None
    reasons = (
        f"column {column.header!r} {why}" for column in selection.columns if (why := _why_not(column, timestamptz))
    )
    why_not = (
        _why_not_delimited(row_format, selection)
        or next(reasons, "")
        or _why_not_typed(row_format, selection)
        or _why_not_safe(row_format, selection)
    )
    return why_not or Copy(connection, selection, row_format)


def _why_not(column: SelectedColumn, timestamptz: Timestamptz) -> str:
    if column.python_only:
        return column.python_only
    if has_expression(column.field, timestamptz):
        return ""
    is_local = timestamptz is None and has_expression(column.field, "utc")
    return "is read in a time zone other than UTC" if is_local else "has no form in SQL"


def _why_not_delimited(row_format: object, selection: Selection) -> str:
    if not isinstance(row_format, DelimitedRows):
        return ""
    if not row_format.delimiter.isascii():
        return "COPY requires a delimiter of one byte"
    if len(selection.columns) == 1:
        return "COPY quotes a single column differently"
    if not row_format.guarded:
        return ""
    guarded = (column.header for column in selection.columns if not (column.python_only or is_safe(column.field)))
    return next((f"column {header!r} is guarded against formulas in Python" for header in guarded), "")


def _why_not_typed(row_format: object, selection: Selection) -> str:
    if not isinstance(row_format, TypedRows):
        return ""
    unknown = (column.header for column in selection.columns if column.type is None or column.type.items)
    return next((f"the type of column {header!r} depends on its values" for header in unknown), "")


def _why_not_safe(row_format: object, selection: Selection) -> str:
    if not (isinstance(row_format, JsonObjects) and row_format.integers == "safe"):
        return ""
    inside = (column.header for column in selection.columns if holds_integers(column.field))
    return next((f"integers inside column {header!r} are compared in Python" for header in inside), "")


@dataclass(frozen=True)
class Copy:
    """A selection to render with COPY in a row format."""

    connection: Any
    selection: Selection
    row_format: Any

    @contextmanager
    def open(self, limits: BatchLimits) -> Iterator[RenderedRows | None]:
        sql = None if self.connection.execute_wrappers else self._statement(limits)
        if sql is None:
            logger.info("COPY cannot render this export after all: its rows are read as tuples")
            yield None
            return
        reader = CopyReader(self.connection, sql, rows=limits.rows, size=limits.bytes)
        batches = _batches(reader, limits)
        if isinstance(self.row_format, SheetRows):
            batches = _unquoted(batches)
        with closing(reader), closing(batches):
            yield batches

    def _statement(self, limits: BatchLimits) -> str | None:
        """Return the COPY statement for the server's column types; None if one of them has no expression.

        None also if the role has a statement_timeout, since COPY is one statement for as long as the client reads,
        and if the caller has a cursor open, since no execute wrapper sees its fetches.
        """
        selection, ops = self.selection, self.connection.ops
        query: str = ops.compose_sql(selection.sql, tuple(selection.params))
        guard_of(self.connection).free()
        types, has_timeout, has_cursors = _ask(self.connection, query)
        if has_cursors or (has_timeout and limits.deadline is None):
            return None
        cells = [Cell(column, types[column.position], f"c{column.position}") for column in selection.columns]
        row = ROWS[type(self.row_format)](self.row_format, cells, Session.of(self.connection))
        if row is None:
            return None
        if not selection.is_plain:  # evaluated once per row, however often expressions refer to it
            query = f"SELECT * FROM ({query}) AS r OFFSET 0"  # noqa: S608
        names = ", ".join(f"c{position}" for position in range(selection.width))
        rows = f"SELECT {row.sql} FROM ({query}) AS q({names})"  # noqa: S608
        return f"COPY ({rows}) TO STDOUT (FORMAT csv, ENCODING 'UTF8', {row.options})"


def _ask(connection: Any, sql: str) -> tuple[list[int], bool, bool]:
    """Return the type (OID) of each column of a statement without parameters, which is planned but not run.

    Also return whether statements have a time limit, and whether cursors are open.
    """
    session = "SELECT current_setting('statement_timeout') <> '0' AS t, EXISTS (SELECT FROM pg_cursors) AS c"
    columns = f"SELECT * FROM ({sql}) AS q LIMIT 0"  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM ({session}) AS s LEFT JOIN ({columns}) AS q ON true")  # noqa: S608
        has_timeout, has_cursors, *_ = cursor.fetchone()
        return [column.type_code for column in cursor.description[2:]], has_timeout, has_cursors


class Row(NamedTuple):
    """What COPY selects for a row, and the options that frame the row."""

    sql: str
    options: str


def _batches(reader: CopyReader, limits: BatchLimits) -> Generator[list[bytes]]:
    for batch in reader:
        limits.seconds_left()
        yield batch


def _unquoted(batches: Generator[list[bytes]]) -> Generator[list[bytes]]:
    """Yield rows without the quotes that COPY sets around those with a line break or one of its own marks."""
    with closing(batches):
        for rows in batches:
            if QUOTE in b"".join(rows):
                yield [row[1:-1].replace(2 * QUOTE, QUOTE) if row.startswith(QUOTE) else row for row in rows]
            else:
                yield rows


def _delimited(row_format: DelimitedRows, cells: Sequence[Cell], session: Session) -> Row | None:
    written = [_delimited_cell(row_format, cell, session) for cell in cells]
    if None in written:
        return None
    return Row(", ".join(filter(None, written)), f"DELIMITER E'\\x{ord(row_format.delimiter):02x}'")


def _delimited_cell(row_format: DelimitedRows, cell: Cell, session: Session) -> str | None:
    field = cell.column.field
    sql: str | None = cell.expression(csv_expression, session)
    if sql is None or not row_format.guarded or not may_be_infinite(field):
        return sql
    return f"CASE WHEN ({sql})::text LIKE '-%n%' THEN '''' || ({sql})::text ELSE ({sql})::text END"


def _typed(_row_format: TypedRows, cells: Sequence[Cell], session: Session) -> Row | None:
    written = [cell.expression(typed_expression, session) for cell in cells]
    return None if None in written else Row(", ".join(filter(None, written)), "DELIMITER ','")


def _json_object(row_format: JsonObjects, cells: Sequence[Cell], session: Session) -> Row | None:
    values = [cell.expression(json_expression, session, row_format=row_format) for cell in cells]
    if None in values:
        return None
    return Row(json_row([cell.column.header for cell in cells], [value for value in values if value]), WHOLE_ROWS)


def _sheet_row(row_format: SheetRows, cells: Sequence[Cell], session: Session) -> Row | None:
    styles = row_format.styles
    written = [cell.expression(sheet_expression, session, style=styles.get(cell.column.header)) for cell in cells]
    if None in written:
        return None
    return Row(sheet_row(list(filter(None, written))), WHOLE_ROWS)


# Writes the row of each row format, from its cells.
ROWS: dict[type, Callable[[Any, Sequence[Cell], Session], Row | None]] = {
    TypedRows: _typed,
    DelimitedRows: _delimited,
    JsonObjects: _json_object,
    SheetRows: _sheet_row,
}
