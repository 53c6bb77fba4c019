"""Lanes: who turns rows into bytes, and why.

"copy": PostgreSQL renders whole rows, and sends them by COPY. "text": the driver's own tuples, whose columns are
loaded batch-wise, as values or as finished texts. "python": records that only Python can read.
"""

import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import fields
from typing import Any, Literal, NamedTuple

from django.db import connections
from django.db.models import CharField, FileField, FilePathField, TextField
from django.db.models.expressions import Col

from upstream.streaming.batches import BatchLimits
from upstream.streaming.databases import postgresql
from upstream.streaming.databases.forms import Session, csv_form, has_forms, json_form, json_row
from upstream.streaming.encoders.delimited import FORMULA_STARTS, Csv
from upstream.streaming.encoders.json import Json, JsonLines
from upstream.streaming.lookups import ModelColumn
from upstream.streaming.selections import SelectionSource, compiled, converts_itself

logger = logging.getLogger(__name__)

Lane = Literal["copy", "text", "python"]

# Neither stands in JSON, whose control characters are escaped: COPY finds nothing to quote or to double.
JSON_COPY = r"DELIMITER E'\x02', QUOTE E'\x01'"
# The options of encoders that it can be told, or that are not about rows.
COPY_OPTIONS = frozenset({"delimiter", "header", "bom", "profile", "decimals"})
STRING_FIELDS = (CharField, TextField, FileField, FilePathField)


class Choice(NamedTuple):
    """A lane, and why no faster one."""

    lane: Lane
    reason: str


def choose(source: Any, encoder: Any, *, windows: bool) -> Choice:
    """Return the fastest lane that gives the encoder's bytes for that source."""
    if not isinstance(source, SelectionSource):
        return Choice("python", source.reason)
    slower = "windows are read as tuples" if windows else _no_copy(source, encoder)
    if slower is None:
        return Choice("copy", "PostgreSQL renders every column as it is written")
    if source.texts is None:
        return Choice("python", f"{source.reason}; {slower}")
    return Choice("text", f"{source.reason}; {slower}")


def _no_copy(source: SelectionSource, encoder: Any) -> str | None:
    """Return why PostgreSQL cannot render the rows, or None."""
    connection: Any = connections[source.database]
    if connection.vendor != "postgresql" or not postgresql.has_copy(connection):
        return f"{connection.display_name} renders no rows"
    statement = compiled(source.queryset)
    if statement is None:
        return "the ORM knows that no row can match"
    expressions = [statement.expressions[position] for position in source.positions]
    columns = zip(source.found, expressions, strict=True)
    without = (
        f"column {column.column.header!r} {why}"
        for column, one in columns
        if (why := _no_form(column, one, connection))
    )
    return _no_option(encoder, len(expressions)) or next(without, None)


def _no_form(column: ModelColumn, expression: Any, connection: Any) -> str | None:
    if column.column.value:
        return "goes through a function"
    if column.json and not column.json_text:
        return "is decoded by its field"
    if not column.json and converts_itself(expression, connection):
        return "is converted by its field or expression"
    return None if has_forms(expression.output_field) else "has no form in SQL"


def _no_option(encoder: Any, columns: int) -> str | None:
    """Return what of the encoder COPY cannot do, or None."""
    if type(encoder) not in (Csv, Json, JsonLines):
        return f"{type(encoder).__name__} is written in Python"
    changed = {f.name for f in fields(encoder) if getattr(encoder, f.name) != f.default} - COPY_OPTIONS
    if changed:
        return f"{', '.join(sorted(changed))}: COPY has no such option"
    if isinstance(encoder, Csv) and not encoder.delimiter.isascii():
        return "COPY takes delimiters of one byte"
    return "COPY quotes a single column in its own way" if isinstance(encoder, Csv) and columns == 1 else None


@contextmanager
def rendered(source: Any, encoder: Any, limits: BatchLimits) -> Iterator[Generator[list[Any]] | None]:
    """Give batches of rows as PostgreSQL renders them; None where it turns out that it cannot.

    Execute wrappers see no COPY: where the connection has some, rows are read by a statement that they do see.
    """
    connection: Any = connections[source.database]
    sql = None if connection.execute_wrappers else _copy_statement(source, encoder, connection)
    if sql is None:
        logger.info("this export is not for COPY: its rows are read as tuples")
        yield None
        return
    copy = postgresql.CopyRows(connection, sql, rows=limits.rows, size=limits.bytes)
    with closing(copy), closing(_batches(copy, limits)) as batches:
        yield batches


def framed(source: Any, encoder: Any, rows: Generator[list[Any]]) -> Generator[bytes]:
    """Yield what the encoder would have written, made of rows that were rendered."""
    chunks: Generator[bytes] = encoder.frame(source.columns, rows)
    return chunks


def _batches(rows: postgresql.CopyRows, limits: BatchLimits) -> Generator[list[Any]]:
    for batch in rows:
        limits.seconds_left()
        yield batch


def _copy_statement(source: SelectionSource, encoder: Any, connection: Any) -> str | None:
    statement = compiled(source.queryset)
    if statement is None:
        return None
    query: str = connection.ops.compose_sql(statement.sql, tuple(statement.params))
    types = postgresql.column_types(connection, query)
    row = _row(source, encoder, [(statement.expressions[at], types[at], f"c{at}") for at in source.positions])
    if row is None:
        return None
    if not all(isinstance(expression, Col) for expression in statement.expressions):
        query = f"SELECT * FROM ({query}) AS r OFFSET 0"  # noqa: S608 (made once a row, however often a form names it)
    names = ", ".join(f"c{position}" for position in range(len(statement.expressions)))
    options = _quoted_delimiter(encoder) if isinstance(encoder, Csv) else JSON_COPY
    rows = f"SELECT {row} FROM ({query}) AS q({names})"  # noqa: S608
    return f"COPY ({rows}) TO STDOUT (FORMAT csv, ENCODING 'UTF8', {options})"


def _row(source: SelectionSource, encoder: Any, cells: Sequence[tuple[Any, int, str]]) -> str | None:
    """Return the SQL of one row from each cell's expression, type (oid) and name; None if one has no form."""
    session = Session.of(connections[source.database])
    if isinstance(encoder, Csv):
        forms = [_cell(encoder, session, *cell) for cell in cells]
        return None if None in forms else ", ".join(filter(None, forms))
    values = [
        json_form(
            expression.output_field,
            kind,
            sql,
            session,
            decimals=encoder.decimals,
            converted=not isinstance(expression, Col),
        )
        for expression, kind, sql in cells
    ]
    headers = [str(column.column.header) for column in source.found]
    return None if None in values else json_row(headers, [value for value in values if value])


def _cell(encoder: Csv, session: Session, expression: Any, kind: int, sql: str) -> str | None:
    field = expression.output_field
    form = csv_form(field, kind, sql, session, converted=not isinstance(expression, Col))
    if form is None or encoder.profile == "data" or not isinstance(field, STRING_FIELDS):
        return form
    starts = ", ".join(f"chr({ord(start)})" for start in FORMULA_STARTS)
    return f"CASE WHEN left({form}, 1) IN ({starts}) THEN '''' || {form} ELSE {form} END"


def _quoted_delimiter(encoder: Csv) -> str:
    return f"DELIMITER E'\\x{ord(encoder.delimiter):02x}'"
