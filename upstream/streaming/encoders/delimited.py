"""CSV, TSV and other delimited text (RFC 4180)."""

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from itertools import chain
from numbers import Number
from types import NoneType
from typing import Any, ClassVar, Literal

from django.db.models.fields.files import FieldFile

from upstream.streaming.batches import Batch
from upstream.streaming.databases.protocol import DelimitedRows
from upstream.streaming.encoders.protocol import Columns, FastLane
from upstream.streaming.encoders.text import TEXTS, encode_text
from upstream.streaming.errors import ColumnError
from upstream.streaming.values import CONTAINERS, PLAIN_TYPES, Forms, text_forms

BOM = "\ufeff"
LINE_END = "\r\n"
# Characters at which a spreadsheet starts a formula (OWASP, CSV injection).
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
# All characters that the text of a plain type may contain.
PLAIN_CHARACTERS = frozenset("0123456789abcdefghijklmnopqrstuvwxyzFINT+-.: ")

# Types that are not strings, or whose text cannot be a formula.
NEVER_FORMULAS = (*PLAIN_TYPES, *CONTAINERS, timedelta, bytes, bytearray, memoryview)

Protect = Callable[[Sequence[str]], Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Csv:
    """Delimited text: RFC 4180 framing with CRLF, UTF-8, a header row.

    `delimiter` is one character (a tab makes TSV). `quoting` is "minimal", "all" or "nonnumeric", as in the
    csv module. None is an empty cell. To distinguish it from the empty string, set a `null_marker` (any other cell
    with that text is quoted), or `quote_empty=True`, which writes the empty string as `""`.

    `profile="data"`, the default, changes no value. `profile="excel"` writes for people: it adds a byte-order mark
    (unless `bom=False`) and an apostrophe before strings and headers that a spreadsheet would run as a formula
    (OWASP, CSV injection), and allows a `decimal_separator`, and a `date_format` and `datetime_format` in strftime
    codes. `time_zone` converts aware datetimes; by default they keep their own zone.
    """

    delimiter: str = ","
    quoting: Literal["minimal", "all", "nonnumeric"] = "minimal"
    null_marker: str = ""
    quote_empty: bool = False
    header: bool = True
    bom: bool | None = None
    profile: Literal["data", "excel"] = "data"
    time_zone: tzinfo | None = None
    decimal_separator: str = "."
    date_format: str = ""
    datetime_format: str = ""

    lane_options: ClassVar[Mapping[FastLane, Collection[str]]] = {
        "copy": ("delimiter", "header", "bom", "profile"),
        "text": (
            *("delimiter", "quoting", "null_marker", "quote_empty", "header", "bom", "profile"),
            *("time_zone", "decimal_separator", "date_format", "datetime_format"),
        ),
    }

    def __post_init__(self) -> None:
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n':
            raise ValueError(
                f"delimiter must be one character, and no quote or line break, not {self.delimiter!r}"
            )
        if self.quoting not in ("minimal", "all", "nonnumeric"):
            raise ValueError(f'quoting must be "minimal", "all" or "nonnumeric", not {self.quoting!r}')
        if self.profile not in ("data", "excel"):
            raise ValueError(f'profile must be "data" or "excel", not {self.profile!r}')
        if any(mark in self.null_marker for mark in (self.delimiter, '"', "\r", "\n")):
            raise ValueError(
                f"null_marker must not contain the delimiter, a quote or a line break: {self.null_marker!r}"
            )
        local = self.decimal_separator != "." or self.date_format or self.datetime_format
        if local and self.profile != "excel":
            raise ValueError('decimal_separator, date_format and datetime_format require profile="excel"')

    @property
    def content_type(self) -> str:
        kind = "tab-separated-values" if self.delimiter == "\t" else "csv"
        return f"text/{kind}; charset=utf-8"

    @property
    def suffix(self) -> str:
        return ".tsv" if self.delimiter == "\t" else ".csv"

    @property
    def takes_positions(self) -> bool:
        return not self.header

    @property
    def takes_texts(self) -> frozenset[type]:
        return TEXTS if self.decimal_separator == "." else TEXTS - {Decimal}

    @property
    def row_format(self) -> DelimitedRows:
        return DelimitedRows(self.delimiter, FORMULA_STARTS if self.profile == "excel" else ())

    def check(self, columns: Columns) -> None:
        if len(columns) == 1 and self.quote_empty and not self.null_marker:
            raise ColumnError(
                "with only one column, None would be an empty line, which readers skip: set a null_marker"
            )

    def encode(self, columns: Columns | None, batches: Generator[Batch]) -> Generator[bytes]:
        if not columns:  # no names, and no row to take them from
            return
        single, forms = len(columns) == 1, self._forms()
        writers = [_Cells(self, forms, json=column.json, single=single) for column in columns]
        frames = ["", *[self.delimiter] * (len(columns) - 1), LINE_END]
        prologue = self._prologue(columns)
        with closing(encode_text(columns, batches, writers, frames)) as chunks:
            # Yielded together with the first rows: a failing query must fail before the first byte.
            if first := prologue + next(chunks, b""):
                yield first
            yield from chunks

    def frame(self, columns: Columns, batches: Generator[list[bytes]]) -> Generator[bytes]:
        """Yield rows rendered by a database, framed as `encode` frames them. Closes `batches`."""
        prologue, line_end = self._prologue(columns), LINE_END.encode()
        with closing(batches):
            for rows in batches:
                yield prologue + line_end.join([*rows, b""])
                prologue = b""
        if prologue:
            yield prologue

    def _forms(self) -> Forms:
        return text_forms(
            time_zone=self.time_zone,
            decimal_separator=self.decimal_separator,
            date_format=self.date_format,
            datetime_format=self.datetime_format,
        )

    def _prologue(self, columns: Columns) -> bytes:
        bom = BOM if self.bom or (self.bom is None and self.profile == "excel") else ""
        if not self.header:
            return bom.encode()
        cells = _Cells(self, self._forms(), single=len(columns) == 1)([column.header for column in columns])
        return (bom + self.delimiter.join(cells) + LINE_END).encode()


class _Cells:
    """Writes one column of each batch as cells. How a type is quoted and guarded is decided once."""

    def __init__(self, options: Csv, forms: Forms, *, single: bool, json: bool = False) -> None:
        self.options = options
        self.forms = forms
        self.json = json
        self.protections: dict[type, Protect] = {}
        self.quoted_texts = {options.null_marker} if options.null_marker else set()
        if options.quote_empty or single:  # readers skip empty lines
            self.quoted_texts.add("")
        marks_null = bool(options.null_marker) or options.quote_empty
        self.null = options.null_marker
        if not marks_null and (single or options.quoting != "minimal"):
            self.null = '""'

    def __call__(self, values: Sequence[Any], texts_of: type | None = None) -> Sequence[str]:
        if texts_of is not None:
            return self._texts(values, texts_of)
        types = set(map(type, values))
        if any(issubclass(kind, Enum | FieldFile) for kind in types):
            return self(list(map(_unwrapped, values)))
        if NoneType not in types:
            return self._cells(values, types)
        present = [value for value in values if value is not None]
        cells = iter(self._cells(present, types - {NoneType}))
        return [self.null if value is None else next(cells) for value in values]

    def _texts(self, texts: Sequence[str | None], kind: type) -> Sequence[str]:
        if None not in texts:
            return self._protected(texts, kind)  # type: ignore[arg-type]
        cells = iter(self._protected([text for text in texts if text is not None], kind))
        return [self.null if text is None else next(cells) for text in texts]

    def _cells(self, values: Sequence[Any], types: set[type]) -> Sequence[str]:
        if len(types) > 1:
            return list(chain.from_iterable(self._cells((value,), {type(value)}) for value in values))
        if not types:
            return []
        (kind,) = types
        return self._protected(self.forms.column(values), kind)

    def _protected(self, texts: Sequence[str], kind: type) -> Sequence[str]:
        if kind not in self.protections:
            self.protections[kind] = self._protection(kind)
        return self.protections[kind](texts)

    def _protection(self, kind: type) -> Protect:
        """Return the function that guards and quotes the text of one type, as far as necessary."""
        options = self.options
        numeric = issubclass(kind, Number)
        if options.quoting == "all" or (options.quoting == "nonnumeric" and not numeric):
            quote: Protect = _quote_all
        elif kind in PLAIN_TYPES and self._keeps_plain():
            return _unchanged
        else:
            quote = self._quote_minimal
        is_text = not (self.json or numeric or issubclass(kind, NEVER_FORMULAS))
        if options.profile == "excel" and is_text:
            return lambda cells: quote([_guarded(cell) for cell in cells])
        return quote

    def _keeps_plain(self) -> bool:
        options = self.options
        local = options.decimal_separator != "." or options.date_format or options.datetime_format
        marker = options.null_marker
        return not (
            local or options.delimiter in PLAIN_CHARACTERS or (marker and PLAIN_CHARACTERS.issuperset(marker))
        )

    def _quote_minimal(self, cells: Sequence[str]) -> Sequence[str]:
        delimiter, always = self.options.delimiter, self.quoted_texts
        joined = "".join(cells)
        has_breaks = "\n" in joined or "\r" in joined
        if not (always or has_breaks or delimiter in joined or '"' in joined):
            return cells
        if not (always or has_breaks):
            return [
                '"' + cell.replace('"', '""') + '"' if '"' in cell or delimiter in cell else cell for cell in cells
            ]
        return [
            '"' + cell.replace('"', '""') + '"'
            if '"' in cell or delimiter in cell or "\n" in cell or "\r" in cell or cell in always
            else cell
            for cell in cells
        ]


def _unwrapped(value: Any) -> Any:
    """Return the value of an Enum member or the name of a FieldFile: its type decides how it is written."""
    if isinstance(value, Enum):
        return _unwrapped(value.value)
    return value.name if isinstance(value, FieldFile) else value


def _quote(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"'


def _unchanged(cells: Sequence[str]) -> Sequence[str]:
    return cells


def _quote_all(cells: Sequence[str]) -> list[str]:
    return [_quote(cell) for cell in cells]


def _guarded(cell: str) -> str:
    return "'" + cell if cell.startswith(FORMULA_STARTS) else cell
