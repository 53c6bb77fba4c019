"""What text encoders share: writing columns as cells, and framing cells as rows."""

import codecs
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, Sized
from contextlib import closing
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from itertools import repeat
from types import NoneType
from typing import Any, NamedTuple, Protocol, TypeVar, Union
from uuid import UUID

import msgspec
from django.db.models.fields.files import FieldFile

from upstream.streaming.batches import Batch
from upstream.streaming.columns import OutputColumn, stopped, transposed
from upstream.streaming.encoders.protocol import Columns
from upstream.streaming.errors import ColumnError, ExportError, unencodable
from upstream.streaming.values import MISSING

# Types for which a database column may come as preformatted text, equal to that of `values`.
TEXTS = frozenset({Decimal, UUID})
# Those that few encoders take: others need their values, or write them in another form.
TEXTS_OF_MOMENTS = frozenset({date, datetime})


Encode = Callable[[str], bytes]


def codec_name(name: str) -> str:
    """Return Python's name of a text encoding; raise ValueError for an unknown one."""
    try:
        codec = codecs.lookup(name)
        "".encode(codec.name)  # LookupError for hex, rot13 and others that encode no text
    except (LookupError, TypeError) as error:
        raise ValueError(
            f"encoding must be a text encoding of Python's, such as 'cp1252', not {name!r}"
        ) from error
    return codec.name


class Encoding(NamedTuple):
    """An encoding of one file: `encode` continues where the last call ended, `end` returns what is left."""

    name: str
    encode: Encode
    end: Callable[[], bytes]

    @classmethod
    def of(cls, name: str) -> "Encoding":
        if name == UTF_8.name:
            return UTF_8
        encoder = codecs.getincrementalencoder(name)()
        return cls(name, encoder.encode, lambda: encoder.encode("", True))

    def located(self, error: UnicodeEncodeError, texts: Iterable[tuple[str, str]]) -> Exception:
        """Return the error for the first of (place, text) that the encoding lacks; `error` without one."""
        for where, text in texts:
            try:
                text.encode(self.name)
            except UnicodeEncodeError as cause:
                return unencodable(where, text, cause.start, self.name)
        return error


UTF_8 = Encoding("utf-8", str.encode, bytes)


Cells = TypeVar("Cells", bound=Sized)
WriteCells = Callable[[Sequence[Any], type | None], Cells]
# Writes rows at once, in UTF-8; raises if it is not certain that writing them cell by cell gives the same.
WriteRows = Callable[[Batch], bytes]
# Rows that are written at once: 400 stay in the processor's cache, and take up to a tenth less time than 2,000.
ROWS_AT_ONCE = 400

Kinds = frozenset[type]
# Types that msgspec tells apart. It takes subclasses for them.
PLAIN = frozenset({str, int, float, bool, NoneType})


class UnprovenError(ValueError):
    """Rows contain what is only certain to be right if it is written cell by cell."""


class CellWriter(Protocol):
    """Writes one column of a batch as cells, from values or from preformatted text of the type `texts_of`."""

    def __call__(self, values: Sequence[Any], texts_of: type | None = None) -> Sequence[str]: ...


def framed(frames: Sequence[str], cells: Sequence[Sequence[str]], encode: Encode = str.encode) -> list[bytes]:
    """Return the rows of a batch; each is `frames[0] cell frames[1] cell ... frames[-1]`.

    Encodes row by row, in 0.54 us per row: one Chinese character would make a string of the whole batch slow to
    encode (0.99 us).
    """
    parts: list[Iterable[str]] = [repeat(frames[0])]
    for frame, column in zip(frames[1:], cells, strict=True):
        parts += (column, repeat(frame))
    return list(map(encode, map("".join, zip(*parts, strict=False))))


def at_once(batch: Batch, write_rows: WriteRows) -> bytes | None:
    """Return what `write_rows` makes of a batch; None if it has to be written cell by cell."""
    try:
        starts = range(0, len(batch), ROWS_AT_ONCE)
        return b"".join([write_rows(batch[start : start + ROWS_AT_ONCE]) for start in starts])
    except Exception:  # noqa: BLE001 (writing cell by cell raises it again, and says where)
        return None


class RowKinds:
    """Knows which types each column holds, if a driver that makes only Python's own types gives it unconverted.

    It learns them from the first rows, and from the first ones that hold others. To see that later rows hold no
    others takes 9 ns a cell, a third of what it takes to ask each cell for its type.
    """

    def __init__(self, columns: Columns) -> None:
        are_told = [column.is_exact and not (column.load or column.json) for column in columns]
        self._kinds: list[Kinds | None] = [frozenset() if is_told else None for is_told in are_told]
        self._holder: Any = None

    def __call__(self, rows: Batch) -> Sequence[Kinds | None]:
        """Return for each column the types that it may hold, with int if with float; None if not known."""
        if self._kinds.count(None) == len(self._kinds):
            return self._kinds
        if self._holder is None:
            self._learn(rows)
        try:
            msgspec.convert((rows,), self._holder)
        except msgspec.ValidationError:
            self._learn(rows)
        return self._kinds

    def _learn(self, rows: Batch) -> None:
        for position, column in enumerate(transposed(rows)):
            known = self._kinds[position]
            if known is not None:
                found = known.union(map(type, column))
                found |= {int} if float in found else set()  # msgspec takes an int for a float
                self._kinds[position] = found if found <= PLAIN else None
        # The class keeps what msgspec makes of a type, which takes it as long as to look at a few rows.
        row: Any = tuple[tuple(map(_annotation, self._kinds))]  # type: ignore[misc]
        self._holder = msgspec.defstruct("Rows", [("rows", list[row])], array_like=True)


def _annotation(kinds: Kinds | None) -> Any:
    return Any if kinds is None else Union[tuple(kinds)]  # noqa: UP007 (of types that are known when it runs)


@dataclass(frozen=True, slots=True)
class TextRows:
    """Writes batches as text: `writers` write their columns, `frames` frame their rows.

    `write_rows` writes rows at once, if it can. Batches are closed at the end. An error names its row, counted
    from 1, and the header of its column.
    """

    columns: Columns
    writers: Sequence[CellWriter]
    frames: Sequence[str]
    encoding: Encoding = UTF_8
    write_rows: WriteRows | None = None

    def encode(self, batches: Generator[Batch]) -> Generator[bytes]:
        """Yield each batch as text."""
        row = 1
        with closing(batches):
            for batch in batches:
                text = self._at_once(batch, self.write_rows) if self.write_rows else None
                yield b"".join(self._rows(batch, row)) if text is None else text
                row += len(batch)

    def encode_rows(self, batches: Generator[Batch]) -> Generator[list[bytes]]:
        """Yield the rows of each batch."""
        row = 1
        with closing(batches):
            for batch in batches:
                yield self._rows(batch, row)
                row += len(batch)

    def _at_once(self, batch: Batch, write_rows: WriteRows) -> bytes | None:
        """Return a batch as text; None if it has to be written cell by cell."""
        text = at_once(batch, write_rows)
        if text is None or self.encoding is UTF_8:
            return text
        try:
            return self.encoding.encode(text.decode())
        except UnicodeEncodeError:  # writing cell by cell raises it again, and says where
            return None

    def _rows(self, batch: Batch, row: int) -> list[bytes]:
        cells = [
            write_column(writer, values, column, row)
            for writer, values, column in zip(self.writers, transposed(batch), self.columns, strict=True)
        ]
        try:
            return framed(self.frames, cells, self.encoding.encode)
        except UnicodeEncodeError as error:
            raise self.encoding.located(error, _places(self.columns, cells, row)) from error


def is_wrapped(kind: type) -> bool:
    """Return whether values of a type are written as what they hold."""
    return issubclass(kind, Enum | FieldFile) or kind.__name__ in MISSING


def unwrapped(value: Any) -> Any:
    """Return the value of an Enum member, the name of a FieldFile, or None for a missing value of pandas.

    The type of the result decides how it is written.
    """
    if type(value).__name__ in MISSING:
        return None
    if isinstance(value, Enum):
        return unwrapped(value.value)
    return value.name if isinstance(value, FieldFile) else value


def check_unique(columns: Columns, what: str = "the keys of a JSON object") -> None:
    """Raise ColumnError if two columns have the same header; `what` are headers to the format."""
    headers = [column.header for column in columns]
    if duplicates := sorted({header for header in headers if headers.count(header) > 1}):
        raise ColumnError(
            f"two columns are called {duplicates[0]!r}, but {what} must be unique: "
            "rename one with Column(..., header='...')"
        )


def write_column(writer: WriteCells[Cells], values: Sequence[Any], column: OutputColumn, row: int) -> Cells:
    """Return what `writer` makes of a column that begins with `row`; an error gets a note that names its place."""
    try:
        return _written(writer, values, column)
    except Exception as error:
        raised = stopped(error) if isinstance(error, StopIteration) else error
        for number, value in enumerate(values, row):
            try:
                _written(writer, (value,), column)
            except Exception:  # noqa: BLE001 (the same error, raised again by its row)
                raised.add_note(f"while writing row {number}, column {column.header!r}")
                break
        if raised is error:
            raise
        raise raised from error


def load(column: OutputColumn, values: Sequence[Any]) -> tuple[type | None, Sequence[Any]]:
    """Return a column's values, or a type and its preformatted text."""
    return column.load(values) if column.load else (None, values)


def _written(writer: WriteCells[Cells], values: Sequence[Any], column: OutputColumn) -> Cells:
    texts_of, loaded = load(column, values)
    cells = writer(loaded, texts_of)
    if len(cells) != len(values):
        raise ExportError(f"column {column.header!r} has {len(cells)} cells for {len(values)} rows")
    return cells


def _places(columns: Columns, cells: Sequence[Sequence[str]], row: int) -> Iterator[tuple[str, str]]:
    """Yield where each cell is, and its text."""
    for number, texts in enumerate(zip(*cells, strict=True), row):
        for column, text in zip(columns, texts, strict=True):
            yield f"row {number}, column {column.header!r}", text
