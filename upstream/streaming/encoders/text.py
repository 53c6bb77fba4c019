"""What text encoders share: writing columns as cells, and framing cells as rows."""

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

# Types for which a database column may come as preformatted text, equal to that of `values`.
TEXTS = frozenset({Decimal, UUID})

# The only column of records that are written whole.
RECORD = OutputColumn("record")


class CellWriter(Protocol):
    """Writes one column of a batch as cells, from values or from preformatted text of the type `texts_of`."""

    def __call__(self, values: Sequence[Any], texts_of: type | None = None) -> Sequence[str]: ...


def framed(frames: Sequence[str], cells: Sequence[Sequence[str]]) -> bytes:
    """Return a batch as UTF-8; each row is `frames[0] cell frames[1] cell ... frames[-1]`.

    Encodes row by row, in 0.54 us per row: one Chinese character would make a string of the whole batch slow to
    encode (0.99 us).
    """
    parts: list[Iterable[str]] = [repeat(frames[0])]
    for frame, column in zip(frames[1:], cells, strict=True):
        parts += (column, repeat(frame))
    return b"".join(map(str.encode, map("".join, zip(*parts, strict=False))))


def encode_text(
    columns: Columns, batches: Generator[Batch], writers: Sequence[CellWriter], frames: Sequence[str]
) -> Generator[bytes]:
    """Yield each batch as UTF-8: `writers` write its columns, `frames` frame its rows. Closes `batches`.

    An error names its row, counted from 1, and the header of its column.
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
    """Raise ColumnError if two columns have the same header."""
    headers = [column.header for column in columns]
    if duplicates := sorted({header for header in headers if headers.count(header) > 1}):
        raise ColumnError(
            f"two columns are called {duplicates[0]!r}, but the keys of a JSON object must be unique: "
            "rename one with Column(..., header='...')"
        )


def _written(writer: CellWriter, values: Sequence[Any], column: OutputColumn, row: int) -> Sequence[str]:
    try:
        return _loaded(writer, values, column)
    except Exception as error:
        for number, value in enumerate(values, row):
            try:
                _loaded(writer, (value,), column)
            except Exception:  # noqa: BLE001 (the same error, raised again by its row)
                error.add_note(f"while writing row {number}, column {column.header!r}")
                break
        raise


def _loaded(writer: CellWriter, values: Sequence[Any], column: OutputColumn) -> Sequence[str]:
    if column.load is None:
        return writer(values)
    texts_of, loaded = column.load(values)
    return writer(loaded, texts_of)


def _key(record: str) -> str:
    """Return the key of the value that UTF-8 cannot encode in a record's JSON, or RECORD's header."""
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
