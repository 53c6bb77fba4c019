"""JSON (RFC 8259): one array, one object, or one object per line (NDJSON)."""

import json
import re
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, tzinfo
from decimal import Decimal
from functools import cache
from typing import Any, ClassVar, Literal

import msgspec
import orjson

from upstream.streaming.batches import FIRST_BATCH_ROWS, Batch
from upstream.streaming.columns import OutputColumn, Table
from upstream.streaming.databases.protocol import JsonObjects
from upstream.streaming.encoders.json.whole import WholeObjects, WholeRecords, items, lines
from upstream.streaming.encoders.protocol import Columns, FastLane, OpenRows, Seam, short_repr
from upstream.streaming.encoders.text import (
    TEXTS,
    TEXTS_OF_MOMENTS,
    UTF_8,
    CellWriter,
    TextRows,
    at_once,
    check_unique,
    write_column,
)
from upstream.streaming.errors import lone_surrogate
from upstream.streaming.values import MAX_SAFE_INTEGER, SCALARS, Forms, Integers, RawJson, json_forms, quote_json

PLAIN = (*SCALARS, list, tuple)
# What errors call the only column of records that are written whole.
RECORD = OutputColumn("record")
PENDING_CHARACTERS = 64 * 1024
# Checks JSON in a third of the time that orjson takes to make its values, but nests no deeper than Python does.
VALIDATE = msgspec.json.Decoder(msgspec.Raw).decode
# Digits that may be an integer beyond MAX_SAFE_INTEGER.
LONG_INTEGER = re.compile(f"[0-9]{{{len(str(MAX_SAFE_INTEGER))}}}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Json:
    """One JSON array of objects, in UTF-8, with non-ASCII characters unescaped.

    Compact by default; `indent` and `separators` lay it out as `json.dumps` does. Decimals are strings, so
    that no reader rounds them, or with `decimals="number"` numbers with the same digits. NaN and the infinities
    are the strings "NaN", "Infinity" and "-Infinity", since JSON has no such numbers. `time_zone` converts
    aware datetimes. The closing bracket is written only after the last row, so a broken export does not parse.

    Integers are numbers with all their digits, but JavaScript, jq 1.6 and other readers of doubles round those
    beyond 2**53 - 1. With `integers="safe"`, these, of either sign, are strings (RFC 7493, section 2.2), at any
    depth and inside JSON fields too. All others stay numbers, as counts and amounts should. A column that a reader
    wants in one type can be all strings: `Column("id", value=str)`.

    A mapping as the source is written as one object; its values may be querysets and iterables of any length, or a
    `Table` of one of these with columns.

        >>> to_buffer(stream([{"id": 1, "tags": ["new"]}], encoder=Json())).getvalue()
        b'[{"id":1,"tags":["new"]}]'
    """

    indent: int | str | None = None
    separators: tuple[str, str] | None = None
    decimals: Literal["string", "number"] = "string"
    integers: Integers = "number"
    time_zone: tzinfo | None = None

    __repr__ = short_repr

    takes_records: ClassVar[bool] = True
    lane_options: ClassVar[Mapping[FastLane, Collection[str]]] = {
        "copy": ("decimals", "integers"),
        "text": ("indent", "separators", "decimals", "integers", "time_zone"),
    }
    content_type: ClassVar[str] = "application/json"
    suffix: ClassVar[str] = ".json"

    def __post_init__(self) -> None:
        _check_numbers(self)
        if isinstance(self.indent, bool) or not isinstance(self.indent, int | str | None):
            raise ValueError(f"indent must be a number of spaces, a string or None, not {self.indent!r}")
        marks = self._marks()
        if not isinstance(marks, tuple) or list(map(type, marks)) != [str, str]:
            raise ValueError(f"separators must be two strings, as in json.dumps, not {self.separators!r}")

    @property
    def takes_texts(self) -> frozenset[type]:
        return _texts(self.time_zone)

    @property
    def row_format(self) -> JsonObjects:
        return JsonObjects(self.decimals, self.integers)

    @property
    def seam(self) -> Seam:
        comma, _ = self._marks()
        return Seam(head=b"[", between=comma.encode(), end=f"{self._line(0)}]".encode())

    def check(self, columns: Columns) -> None:
        check_unique(columns)

    def encode(self, columns: Columns | None, batches: Generator[Batch]) -> Generator[bytes]:
        return self._array(columns, batches, level=0)

    def frame(self, columns: Columns, batches: Generator[list[bytes]]) -> Generator[bytes]:  # noqa: ARG002 (each row names them)
        """Yield objects rendered by a database, framed as `encode` frames them. Closes `batches`."""
        before = b"["
        with closing(batches):
            for rows in batches:
                yield before + b",".join(rows)
                before = b","
        yield b"]" if before == b"," else b"[]"

    def encode_document(self, document: Mapping[Any, Any], open_rows: OpenRows) -> Generator[bytes]:
        """Yield `document` as one object; `open_rows` opens those of its values that are sources of rows."""
        writer = _DocumentWriter(self, open_rows)
        with closing(writer.object(document, level=0)) as chunks:
            yield from chunks
        if rest := writer.flush():
            yield rest

    def _array(self, columns: Columns | None, batches: Generator[Batch], level: int) -> Generator[bytes]:
        comma, colon = self._marks()
        line, cell_line = self._line(level + 1), self._line(level + 2)
        if columns is None:
            forms = self._forms(level + 1)
            whole = WholeRecords(self, forms, items) if self._is_compact() else None
            chunks = _encode_records(batches, forms, comma + line, "", whole)
        else:
            keys = [cell_line + quote_json(column.header) + colon for column in columns]
            frames = _object_frames(comma + line + "{", keys, comma, line + "}")
            forms = self._forms(level + 2)
            writers = _writers(columns, forms)
            objects = WholeObjects.of(self, columns, writers, forms, items) if self._is_compact() else None
            chunks = TextRows(columns, writers, frames, write_rows=objects).encode(batches)
        started = False
        with closing(chunks):
            for chunk in chunks:
                yield chunk if started else b"[" + chunk.removeprefix(comma.encode())
                started = True
        yield (self._line(level) + "]").encode() if started else b"[]"

    def _marks(self) -> tuple[str, str]:
        return self.separators or (",", ":" if self.indent is None else ": ")

    def _is_compact(self) -> bool:
        return self.indent is None and self._marks() == (",", ":")

    def _line(self, level: int) -> str:
        return "" if self.indent is None else "\n" + self._indent() * level

    def _indent(self) -> str:
        return self.indent if isinstance(self.indent, str) else " " * (self.indent or 0)

    def _forms(self, level: int) -> Forms:
        return json_forms(
            time_zone=self.time_zone,
            decimals=self.decimals,
            integers=self.integers,
            indent=None if self.indent is None else self._indent(),
            separators=self._marks(),
            level=level,
        )


@dataclass(frozen=True, kw_only=True)
class JsonLines:
    """NDJSON: one compact JSON object per line, each ended by LF. Its options work as in Json.

    >>> to_buffer(stream([{"id": 1}, {"id": 2}], encoder=JsonLines())).getvalue()
    b'{"id":1}\\n{"id":2}\\n'
    """

    decimals: Literal["string", "number"] = "string"
    integers: Integers = "number"
    time_zone: tzinfo | None = None

    __repr__ = short_repr

    takes_records: ClassVar[bool] = True
    lane_options: ClassVar[Mapping[FastLane, Collection[str]]] = {
        "copy": ("decimals", "integers"),
        "text": ("decimals", "integers", "time_zone"),
    }
    seam: ClassVar[Seam] = Seam()
    content_type: ClassVar[str] = "application/x-ndjson"
    suffix: ClassVar[str] = ".ndjson"

    def __post_init__(self) -> None:
        _check_numbers(self)

    @property
    def takes_texts(self) -> frozenset[type]:
        return _texts(self.time_zone)

    @property
    def row_format(self) -> JsonObjects:
        return JsonObjects(self.decimals, self.integers)

    def check(self, columns: Columns) -> None:
        check_unique(columns)

    def encode(self, columns: Columns | None, batches: Generator[Batch]) -> Generator[bytes]:
        forms = json_forms(time_zone=self.time_zone, decimals=self.decimals, integers=self.integers)
        if columns is None:
            return _encode_records(batches, forms, "", "\n", WholeRecords(self, forms, lines))
        keys = [quote_json(column.header) + ":" for column in columns]
        frames = _object_frames("{", keys, ",", "}\n")
        writers = _writers(columns, forms)
        whole = WholeObjects.of(self, columns, writers, forms, lines)
        return TextRows(columns, writers, frames, write_rows=whole).encode(batches)

    def frame(self, columns: Columns, batches: Generator[list[bytes]]) -> Generator[bytes]:  # noqa: ARG002 (each row names them)
        """Yield objects rendered by a database, framed as `encode` frames them. Closes `batches`."""
        with closing(batches):
            for rows in batches:
                yield b"\n".join([*rows, b""])


class _DocumentWriter:
    """Writes one object; buffers small values until rows follow or the buffer is worth a chunk."""

    def __init__(self, json: Json, open_rows: OpenRows) -> None:
        self.json, self.open_rows = json, open_rows
        self.forms = cache(json._forms)  # noqa: SLF001
        self.pending: list[str] = []
        self.pending_size = 0

    def object(self, document: Mapping[Any, Any], level: int) -> Generator[bytes]:
        comma, colon = self.json._marks()  # noqa: SLF001
        line = self.json._line  # noqa: SLF001
        before = "{"
        for key, value in document.items():
            self._buffer(f"{before}{line(level + 1)}{self._key(key)}{colon}")
            yield from self._value(value, level + 1)
            before = comma
        self._buffer("{}" if before == "{" else line(level) + "}")

    def _value(self, value: Any, level: int) -> Generator[bytes]:
        if isinstance(value, Mapping):
            yield from self.object(value, level)
        elif isinstance(value, Table) or (
            isinstance(value, Iterable) and not isinstance(value, SCALARS) and not _is_small(value)
        ):
            with self.open_rows(value) as (columns, batches):
                for chunk in self.json._array(columns, batches, level):  # noqa: SLF001
                    yield self.flush() + chunk
        else:
            self._buffer(self.forms(level).text(value))
            if self.pending_size > PENDING_CHARACTERS:
                yield self.flush()

    def _key(self, key: Any) -> str:
        if type(key) is str:
            return quote_json(key)
        return json_forms().text({key: None}).removeprefix("{").removesuffix(":null}")

    def _buffer(self, text: str) -> None:
        self.pending.append(text)
        self.pending_size += len(text)

    def flush(self) -> bytes:
        """Return the buffer as UTF-8, and clear it."""
        text = "".join(self.pending)
        self.pending.clear()
        self.pending_size = 0
        return _utf8(text)


def _is_small(value: Iterable[Any]) -> bool:
    """Return whether `value` is a short list of plain values, not worth opening as a source of rows."""
    return (
        isinstance(value, list | tuple)
        and len(value) <= FIRST_BATCH_ROWS
        and not any(hasattr(item, "_fields") or not isinstance(item, PLAIN) for item in value)
    )


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise lone_surrogate("the document", text, error) from error


def _texts(time_zone: tzinfo | None) -> frozenset[type]:
    return TEXTS.union(TEXTS_OF_MOMENTS) - ({datetime} if time_zone else set())


def _check_numbers(encoder: Json | JsonLines) -> None:
    if encoder.decimals not in ("string", "number"):
        raise ValueError(f'decimals must be "string" or "number", not {encoder.decimals!r}')
    if encoder.integers not in ("number", "safe"):
        raise ValueError(f'integers must be "number" or "safe", not {encoder.integers!r}')


def _encode_records(
    batches: Generator[Batch], forms: Forms, before: str, after: str, whole: WholeRecords | None
) -> Generator[bytes]:
    """Yield each batch of whole records as JSON, with `before` or `after` each record. Closes `batches`."""
    row = 1
    mark = (before or after).encode()
    with closing(batches):
        for batch in batches:
            text = at_once(batch, whole) if whole else None
            if text is None:
                records = [record for (record,) in batch]
                texts = forms.records(records) or _records_one_by_one(records, forms, row)
                text = mark.join([b"", *texts] if before else [*texts, b""])
            yield text
            row += len(batch)


def _records_one_by_one(records: Sequence[Any], forms: Forms, row: int) -> list[bytes]:
    texts = write_column(forms.column, records, RECORD, row)
    try:
        return list(map(str.encode, texts))
    except UnicodeEncodeError as error:
        places = ((f"row {number}, column {_key(text)!r}", text) for number, text in enumerate(texts, row))
        raise UTF_8.located(error, places) from error


def _key(record: str) -> str:
    """Return the key of the value that UTF-8 cannot encode in a record's JSON, or RECORD's header."""
    value = json.loads(record)
    for key, item in value.items() if isinstance(value, dict) else ():
        try:
            json.dumps(item, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return str(key)
    return RECORD.header


def _object_frames(opening: str, keys: Sequence[str], comma: str, closing: str) -> list[str]:
    return [opening + keys[0], *[comma + key for key in keys[1:]], closing]


def _writers(columns: Columns, forms: Forms) -> list[CellWriter]:
    return [_JsonColumn(forms) if column.json else forms.column for column in columns]


class _JsonColumn:
    """Writes JSON text unchanged if it suits the layout; otherwise parses it and lays it out again."""

    def __init__(self, forms: Forms) -> None:
        self.forms = forms
        self.compact = forms.text([0, 0]) == "[0,0]"
        self.is_safe = forms.text(MAX_SAFE_INTEGER + 1).startswith('"')

    def __call__(self, values: Sequence[str | None], texts_of: type | None = None) -> list[str]:  # noqa: ARG002
        texts = ["null" if text is None else text for text in values]
        return texts if self._suit(texts) else list(map(self._laid_out, texts))

    def _suit(self, texts: Sequence[str]) -> bool:
        has_long = self.is_safe and any(map(LONG_INTEGER.search, texts))
        return self.compact and not has_long and _are_single_lines(texts)

    def _laid_out(self, text: str) -> str:
        if self._suit([text]):
            return text
        return self.forms.text(json.loads(text, parse_float=RawJson, parse_int=self._integer))

    def _integer(self, digits: str) -> RawJson:
        is_text = self.is_safe and Decimal(digits).copy_abs() > MAX_SAFE_INTEGER
        return RawJson(f'"{digits}"' if is_text else digits)


def _are_single_lines(texts: Sequence[str]) -> bool:
    """Return whether each text is JSON on one line; databases that store text allow line breaks, and some NaN."""
    joined = "".join(texts)
    return not ("\n" in joined or "\r" in joined) and any(_takes(load, texts) for load in (VALIDATE, orjson.loads))


def _takes(load: Callable[[str], Any], texts: Sequence[str]) -> bool:
    try:
        deque(map(load, texts), maxlen=0)
    except (ValueError, RecursionError):
        return False
    return True
