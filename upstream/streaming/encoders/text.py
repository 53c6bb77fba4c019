"""What the encoders of text share: columns written as cells, cells framed as rows."""

import json
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from decimal import Decimal
from itertools import repeat
from typing import Any, Protocol
from uuid import UUID

from upstream.streaming.batches import Batch
from upstream.streaming.columns import OutputColumn
from upstream.streaming.encoders.protocol import Columns
from upstream.streaming.errors import ColumnError, TextError, lone_surrogate

# The types that columns of a database may be finished texts of, as `values` would write them.
TEXTS = frozenset({Decimal, UUID})

# Stands for the records themselves where they are written whole.
RECORD = OutputColumn("record")


class CellWriter(Protocol):
    """Writes the cells of one column, a batch at a time: values, or the finished texts of values of a type."""

    def __call__(self, values: Sequence[Any], texts_of: type | None = None) -> Sequence[str]: ...


def framed(frames: Sequence[str], cells: Sequence[Sequence[str]]) -> bytes:
    """Return a batch as UTF-8: each row is `frames[0] cell frames[1] cell ... frames[-1]`.

    Row by row, since one character of Chinese would make the text of the whole batch a slow one: 0.54 us a row,
    against 0.99.
    """
    parts: list[Iterable[str]] = [repeat(frames[0])]
    for frame, column in zip(frames[1:], cells, strict=True):
        parts += (column, repeat(frame))
    return b"".join(map(str.encode, map("".join, zip(*parts, strict=False))))


def encode_text(
    columns: Columns, batches: Generator[Batch], writers: Sequence[CellWriter], frames: Sequence[str]
) -> Generator[bytes]:
    """Yield each batch as UTF-8: its columns written by `writers`, its rows framed by `frames`.

    An error gets the number of its row, counted from 1, and the header of its column.
    """
    row = 1
    with closing(batches):
        for batch in batches:
            cells = [
                _written(writer, values, column, row)
                for writer, values, column in zip(writers, zip(*batch, strict=True), columns, strict=True)
            ]
            try:
                yield framed(frames, cells)
            except UnicodeEncodeError as error:
                raise _located(error, columns, cells, row) from error
            row += len(batch)


def check_unique(columns: Columns) -> None:
    """Raise ColumnError where two columns have one header."""
    headers = [column.header for column in columns]
    if duplicates := sorted({header for header in headers if headers.count(header) > 1}):
        raise ColumnError(
            f"two columns are called {duplicates[0]!r}, and a JSON object holds a name once: "
            "Column(..., header='...')"
        )


def _written(writer: CellWriter, values: Sequence[Any], column: OutputColumn, row: int) -> Sequence[str]:
    try:
        return _loaded(writer, values, column)
    except Exception as error:
        for number, value in enumerate(values, row):
            try:
                _loaded(writer, (value,), column)
            except Exception:  # noqa: BLE001 (the same error, found again)
                error.add_note(f"while writing row {number}, column {column.header!r}")
                break
        raise


def _loaded(writer: CellWriter, values: Sequence[Any], column: OutputColumn) -> Sequence[str]:
    if column.load is None:
        return writer(values)
    texts_of, loaded = column.load(values)
    return writer(loaded, texts_of)


def _key(record: str) -> str:
    """Return the name of the value in a JSON object that UTF-8 cannot carry, if it is one of its own."""
    value = json.loads(record)
    for key, item in value.items() if isinstance(value, dict) else ():
        try:
            json.dumps(item, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return str(key)
    return RECORD.header


def _located(error: UnicodeEncodeError, columns: Columns, cells: Sequence[Sequence[str]], row: int) -> TextError:
    for number, texts in enumerate(zip(*cells, strict=True), row):
        for column, text in zip(columns, texts, strict=True):
            try:
                text.encode()
            except UnicodeEncodeError as cause:
                header = _key(text) if column is RECORD else column.header
                return lone_surrogate(f"row {number}, column {header!r}", text, cause)
    raise error
