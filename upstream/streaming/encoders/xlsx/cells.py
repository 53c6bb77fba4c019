"""Cells of a sheet: how each value is written as XML.

Numbers, booleans, dates and moments are what they are to a spreadsheet; what it could not keep as it is, and
anything else, is text (ECMA-376, 18.3.1.4). Texts are inline, and never formulas.
"""

import re
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, time, tzinfo
from decimal import Decimal
from html import unescape
from itertools import chain
from math import isfinite
from numbers import Integral, Rational, Real
from operator import attrgetter, itemgetter
from types import NoneType
from typing import Any, Literal
from uuid import UUID

from upstream.streaming.databases.protocol import (
    DAY_ZERO,
    FIRST_DAY,
    FORMULA_STARTS,
    MAX_DIGITS,
    MAX_PLACES,
    MAX_SCALE,
    TEXT_END,
    TEXT_START,
    CellStyle,
    text_start,
)
from upstream.streaming.encoders.text import is_wrapped, unwrapped
from upstream.streaming.errors import ColumnError
from upstream.streaming.values import Forms

EMPTY = "<c/>"
NEW_LINE = "\n"
WRAPPED = text_start(CellStyle.WRAPPED)
MAX_UNITS = 32_767  # of UTF-16
CUT = "…"
WriteCells = Callable[[Sequence[Any]], Sequence[str]]

STARTS = frozenset(FORMULA_STARTS)
ODD_STARTS = STARTS | {""}
# What XML cannot hold, and a text that looks like such a mark (ECMA-376, 22.9.2.19); readers turn CR into LF.
MARKED = re.compile("[\x00-\x08\x0b-\x1f\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")
BOOLEANS = {True: '<c t="b"><v>1</v></c>', False: '<c t="b"><v>0</v></c>'}

# The same in bytes of UTF-8, and what a text made of other bytes has none of.
MARKED_BYTES = re.compile(b"[\x00-\x08\x0b-\x1f]|\xef\xbf[\xbe\xbf]|_(?=x[0-9A-Fa-f]{4}_)")
ORDINARY = bytes(byte for byte in range(256) if byte >= ord(" ") or byte in b"\t\n")
TEXT_CELL = re.compile(rb"(<t [^>]*>)([^<]*)(?=</t>)")

LARGEST = 10**MAX_DIGITS
FIRST_DATE, ZERO = date.fromisoformat(FIRST_DAY), date.fromisoformat(DAY_ZERO)
FIRST_MOMENT, MOMENT_ZERO = datetime.fromisoformat(FIRST_DAY), datetime.fromisoformat(DAY_ZERO)
ZERO_ORDINAL = ZERO.toordinal()

LongTexts = Literal["error", "cut"]
to_first = itemgetter(slice(1))


def escaped(text: str) -> str:
    """Return text as XML, with what XML cannot hold as _xHHHH_."""
    return MARKED.sub(lambda found: f"_x{ord(found[0]):04X}_", _without_markup(text)).replace("\n", "&#10;")


def _without_markup(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def text_cell(text: str, style: int | None = None) -> str:
    """Return the cell of a text, with a style, or else the one that suits it."""
    if not text:
        return EMPTY if style is None else f'<c s="{style}"/>'
    if style is None:
        style = (CellStyle.PLAIN, CellStyle.QUOTED, CellStyle.WRAPPED, CellStyle.QUOTED_WRAPPED)[
            (text[0] in STARTS) + 2 * ("\n" in text)
        ]
    return f"{text_start(style)}{escaped(text)}{TEXT_END}"


def fitting(text: str, long_texts: LongTexts) -> str:
    """Return text that fits a cell: cut, or else refused, if it has too many UTF-16 units."""
    if len(text) <= MAX_UNITS // 2 or (units := len(text.encode("utf-16-le", "surrogatepass")) // 2) <= MAX_UNITS:
        return text
    if long_texts == "cut":
        kept = text.encode("utf-16-le", "surrogatepass")[: 2 * (MAX_UNITS - 1)].decode("utf-16-le", "ignore")
        return kept + CUT
    raise ColumnError(
        f"a cell of a spreadsheet holds {MAX_UNITS:,} characters, and this text has {units:,}: "
        'cut it with Xlsx(long_texts="cut"), or export it as CSV'
    )


def completed(
    batches: Generator[list[bytes]], headers: Sequence[str], long_texts: LongTexts
) -> Generator[list[bytes]]:
    """Yield rows rendered by a database with what it left to do in their texts (see `SheetRows`).

    Closes `batches`.
    """
    number = 1
    with closing(batches):
        for batch in batches:
            rows, joined = batch, b"".join(batch)
            if max(map(len, rows)) > MAX_UNITS:
                rows = [_fitted(row, at, headers, long_texts) for at, row in enumerate(rows, number)]
            if b"_x" in joined or b"\xef\xbf" in joined or joined.translate(None, ORDINARY):
                rows = list(map(_marked, rows))
            number += len(rows)
            yield rows


def _marked(row: bytes) -> bytes:
    return MARKED_BYTES.sub(lambda found: f"_x{ord(found[0].decode()):04X}_".encode(), row)


def _fitted(row: bytes, number: int, headers: Sequence[str], long_texts: LongTexts) -> bytes:
    def fitted(found: re.Match[bytes]) -> bytes:
        if len(found[2]) <= MAX_UNITS:
            return found[0]
        text = unescape(found[2].decode())
        try:
            kept = fitting(text, long_texts)
        except ColumnError as error:
            header = headers[row[: found.start()].count(b"<c") - 1]
            error.add_note(f"while writing row {number}, column {header!r}")
            raise
        return found[0] if kept is text else found[1] + _without_markup(kept).replace(NEW_LINE, "&#10;").encode()

    return TEXT_CELL.sub(fitted, row) if len(row) > MAX_UNITS else row


class SheetCells:
    """Writes one column of each batch as cells.

    `zone` is that of moments, None to keep each in its own. `style` is that of numbers, dates and times, None for
    the one of their kind. `add` takes the numbers of a column that is summed up.
    """

    def __init__(
        self,
        forms: Forms,
        zone: tzinfo | None,
        long_texts: LongTexts,
        style: int | None = None,
        add: Callable[[Sequence[Any]], None] | None = None,
    ) -> None:
        self.forms, self.zone, self.long_texts, self.style, self.add = forms, zone, long_texts, style, add
        self.writers: dict[type, WriteCells] = {
            bool: lambda values: list(map(BOOLEANS.__getitem__, values)),
            int: self._integers,
            float: self._floats,
            Decimal: lambda values: self._decimals(self.forms.column(values)),
            date: self._dates,
            datetime: self._moments,
            time: lambda values: list(map(self._time, values)),
            UUID: lambda values: _plain(self.forms.column(values)),
            str: self._texts,
        }
        self.texts: dict[type, WriteCells] = {Decimal: self._decimals, UUID: _plain}

    def __call__(self, values: Sequence[Any], texts_of: type | None = None) -> Sequence[str]:
        types = set(map(type, values))
        if any(map(is_wrapped, types)):
            return self(list(map(unwrapped, values)), texts_of)
        present = values
        if NoneType in types:
            present = [value for value in values if value is not None]
            types.discard(NoneType)
        cells = self._cells(present, types if texts_of is None else {texts_of}, texts_of)
        if present is values:
            return cells
        rest = iter(cells)
        return [EMPTY if value is None else next(rest) for value in values]

    def _cells(self, values: Sequence[Any], types: set[type], texts_of: type | None) -> Sequence[str]:
        if not values:
            return []
        if len(types) > 1:
            return list(chain.from_iterable(self._cells((value,), {type(value)}, None) for value in values))
        (kind,) = types
        if self.add and texts_of in (None, Decimal):
            self.add(values)
        return self.texts[kind](values) if texts_of else self._writer(kind)(values)

    def _writer(self, kind: type) -> WriteCells:
        if kind not in self.writers:
            self.writers[kind] = self._writer_of_other(kind)
        return self.writers[kind]

    def _writer_of_other(self, kind: type) -> WriteCells:
        base = next((base for base in kind.__mro__ if base in self.writers), None)
        if base is not None:
            return self.writers[base]
        if issubclass(kind, Integral):  # of NumPy
            return lambda values: self._integers(list(map(int, values)))
        if issubclass(kind, Real) and not issubclass(kind, Rational):
            return self._floats
        return self._others

    def _others(self, values: Sequence[Any]) -> Sequence[str]:
        amounts = [getattr(value, "amount", None) if hasattr(value, "currency") else None for value in values]
        texts = self.forms.column(values)
        if any(isinstance(amount, Decimal) for amount in amounts):  # money
            return self._decimals(texts)
        return self._texts(texts)

    def _texts(self, texts: Sequence[str]) -> Sequence[str]:
        joined = "".join(texts)
        has_lines = "\n" in joined
        shown = joined.replace("\n", "") if has_lines else joined
        if not shown.isprintable() or "_x" in joined or max(map(len, texts)) > MAX_UNITS // 2:
            return [text_cell(fitting(text, self.long_texts)) for text in texts]
        has_markup = "&" in joined or "<" in joined or ">" in joined
        if has_lines or not ODD_STARTS.isdisjoint(map(to_first, texts)):
            return [_text_cell_of(text, has_markup) for text in texts]
        return _plain(list(map(_without_markup, texts)) if has_markup else texts)

    def _integers(self, values: Sequence[int]) -> Sequence[str]:
        opening = self._opening()
        if min(values) > -LARGEST and max(values) < LARGEST:
            return [f"{opening}{value:d}</v></c>" for value in values]
        return [
            f"{opening}{value:d}</v></c>" if -LARGEST < value < LARGEST else _digits_cell(self.forms.text(value))
            for value in values
        ]

    def _floats(self, values: Sequence[float]) -> Sequence[str]:
        opening, texts = self._opening(), self.forms.column(values)
        if all(map(isfinite, values)):
            return [f"{opening}{text}</v></c>" for text in texts]
        return [
            f"{opening}{text}</v></c>" if isfinite(value) else text_cell(text)
            for value, text in zip(values, texts, strict=True)
        ]

    def _decimals(self, texts: Sequence[str]) -> Sequence[str]:
        places = _places(texts[0])
        joined = "".join(texts)
        if (
            max(map(len, texts)) <= MAX_DIGITS
            and not ("n" in joined or "N" in joined)
            and _all_have(texts, places)
        ):
            opening = self._opening(_decimal_style(places))
            return [f"{opening}{text}</v></c>" for text in texts]
        return list(map(self._decimal, texts))

    def _decimal(self, text: str) -> str:
        if not is_number(text):
            return _digits_cell(text)
        return f"{self._opening(_decimal_style(_places(text)))}{text}</v></c>"

    def _dates(self, values: Sequence[date]) -> Sequence[str]:
        opening = self._opening(CellStyle.DATE)
        return [
            f"{opening}{value.toordinal() - ZERO_ORDINAL}</v></c>"
            if value >= FIRST_DATE
            else text_cell(value.isoformat())
            for value in values
        ]

    def _moments(self, values: Sequence[datetime]) -> Sequence[str]:
        zero = MOMENT_ZERO
        zones = set(map(attrgetter("tzinfo"), values))
        if zones == {UTC} and self.zone in (None, UTC):
            zero = zero.replace(tzinfo=UTC)  # aware moments of one zone are subtracted without a look at it
        elif zones != {None}:
            return self._moments_of_zones(values)
        if min(values) < FIRST_MOMENT.replace(tzinfo=zero.tzinfo):
            return list(map(self._moment, values))
        opening, cells = self._opening(CellStyle.DATETIME), []
        for since in [value - zero for value in values]:
            fraction = day_fraction(since.seconds * 1_000_000 + since.microseconds)
            cells.append(f"{opening}{since.days}.{fraction:011d}</v></c>")
        return cells

    def _moments_of_zones(self, values: Sequence[datetime]) -> Sequence[str]:
        try:
            return self._moments([self._local(value) for value in values])
        except OverflowError:  # at the ends of time, of which the zone has no more
            return (
                [text_cell(str(value)) for value in values]
                if len(values) == 1
                else [self._moments((value,))[0] for value in values]
            )

    def _moment(self, value: datetime) -> str:
        value = value.replace(tzinfo=None)
        return text_cell(str(value)) if value < FIRST_MOMENT else self._moments((value,))[0]

    def _local(self, value: datetime) -> datetime:
        if value.tzinfo is not None and self.zone is not None:
            value = value.astimezone(self.zone)
        return value.replace(tzinfo=None)

    def _time(self, value: time) -> str:
        if value.tzinfo is not None:
            return text_cell(value.isoformat())
        micros = ((value.hour * 60 + value.minute) * 60 + value.second) * 1_000_000 + value.microsecond
        return f"{self._opening(CellStyle.TIME)}0.{day_fraction(micros):011d}</v></c>"

    def _opening(self, style: int = CellStyle.PLAIN) -> str:
        return f"<c{_attribute(style if self.style is None else self.style)}><v>"


def _text_cell_of(text: str, has_markup: bool) -> str:
    """Return the cell of a text without marks; in a third of the time of `text_cell`."""
    if not text or text[0] in STARTS:
        return text_cell(text)
    if has_markup:
        text = _without_markup(text)
    if "\n" in text:
        return f"{WRAPPED}{text.replace(NEW_LINE, '&#10;')}{TEXT_END}"
    return f"{TEXT_START}{text}{TEXT_END}"


def day_fraction(micros: int) -> int:
    """Return microseconds of a day as its 100,000,000,000th parts, as fine as a double of today is."""
    return (micros * 125 + 54) // 108


def is_number(text: str) -> bool:
    """Return whether the text of a Decimal is a number of which a spreadsheet keeps every digit."""
    if "n" in text or "N" in text or _places(text) > MAX_SCALE:
        return False
    whole, _, fraction = text.lstrip("-").partition(".")
    digits = (whole + fraction.rstrip("0")).lstrip("0")
    return len(digits) <= MAX_DIGITS and len(whole.lstrip("0")) <= MAX_DIGITS


def _places(text: str) -> int:
    return len(text) - 1 - at if (at := text.find(".")) >= 0 else 0


def _all_have(texts: Sequence[str], places: int) -> bool:
    """Return whether all texts have that many decimal places."""
    if not places:
        return "." not in "".join(texts)
    try:
        return set(map(itemgetter(-1 - places), texts)) == {"."}
    except IndexError:
        return False


def _decimal_style(places: int) -> int:
    return CellStyle.DECIMAL + places - 1 if 0 < places <= MAX_PLACES else CellStyle.PLAIN


def _digits_cell(text: str) -> str:
    """Return the cell of a number that is text: a spreadsheet would round it if it were typed."""
    return text_cell(text, CellStyle.QUOTED)


def _plain(texts: Sequence[str]) -> Sequence[str]:
    return [f"{TEXT_START}{text}{TEXT_END}" for text in texts]


def _attribute(style: int) -> str:
    return f' s="{style:d}"' if style else ""
