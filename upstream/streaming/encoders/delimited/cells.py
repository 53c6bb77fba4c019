"""One column of a batch as the cells of delimited text."""

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain
from numbers import Number
from types import NoneType
from typing import TYPE_CHECKING, Any

import orjson

from upstream.streaming.encoders.formulas import Guard
from upstream.streaming.encoders.text import Kinds, is_wrapped, unwrapped
from upstream.streaming.values import CONTAINERS, PLAIN_TYPES, Forms, are_like_repr, joined

if TYPE_CHECKING:
    from upstream.streaming.encoders.delimited import Csv

# All characters that the text of a plain type may contain.
PLAIN_CHARACTERS = frozenset("0123456789abcdefghijklmnopqrstuvwxyzFINT+-.: ")

# Types that are not strings, or whose text cannot be a formula; the guard would break JSON.
NEVER_FORMULAS = (*PLAIN_TYPES, *CONTAINERS)

# What `Cells.at_once` writes by a way of its own.
TEXT = frozenset({str})
NULLABLE_TEXT = TEXT | {NoneType}
NUMBERS = frozenset({int, float, NoneType})
BOOLEANS = frozenset({bool, NoneType})

Protect = Callable[[Sequence[str]], Sequence[str]]


# Separates the cells of a column while they are one text.
BETWEEN = "\x00"
QUOTED_BETWEEN = f'"{BETWEEN}"'
# Characters in a cell from which on another copy of all costs more than a call for each.
LONG_CELL = 250


class Cells:
    """Writes one column of each batch as cells. How a type is quoted and guarded is decided once."""

    def __init__(
        self, options: "Csv", forms: Forms, *, single: bool, json: bool = False, join: str | None = None
    ) -> None:
        self.options = options
        self.forms = forms
        self.json = json
        self.join = join
        self.protections: dict[type, Protect] = {}
        self.quoted_texts = {options.null_marker} if options.null_marker else set()
        if options.quote_empty or single:  # readers skip empty lines
            self.quoted_texts.add("")
        if single:  # the end of the data for PostgreSQL before version 18
            self.quoted_texts.add("\\.")
        self.guard = Guard(options.delimiter) if options.profile == "excel" and not json else None
        self.keeps_quotes = options.quoting != "minimal"
        self.is_local = options.decimal_separator != "." or bool(options.date_format or options.datetime_format)
        # Whether numbers and dates need no quotes.
        self.keeps_plain = options.delimiter not in PLAIN_CHARACTERS and not (
            options.null_marker and PLAIN_CHARACTERS.issuperset(options.null_marker)
        )
        marks_null = bool(options.null_marker) or options.quote_empty
        self.null = options.null_marker
        if not marks_null and (single or options.quoting != "minimal"):
            self.null = '""'
        self.is_null_blank = not (self.null or self.quoted_texts)
        # Whether the digits of numbers are their cells, also those that orjson writes together with None.
        self.keeps_digits = self.keeps_plain and not self.is_local and options.quoting != "all"
        self.splits_null = "," not in self.null

    def __call__(self, values: Sequence[Any], texts_of: type | None = None) -> Sequence[str]:
        if texts_of is not None:
            return self._texts(values, texts_of)
        if self.join is not None:
            values = joined(values, self.join, self.forms.text)
        types = set(map(type, values))
        if any(map(is_wrapped, types)):
            return self(list(map(unwrapped, values)))
        return self._with_nulls(values, types)

    def _with_nulls(self, values: Sequence[Any], types: AbstractSet[type]) -> Sequence[str]:
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

    def _cells(self, values: Sequence[Any], types: AbstractSet[type]) -> Sequence[str]:
        if len(types) > 1:
            return list(chain.from_iterable(self._cells((value,), {type(value)}) for value in values))
        if not types:
            return []
        (kind,) = types
        return self._protected(self.forms.column_of(kind, values), kind)

    def _protected(self, texts: Sequence[str], kind: type) -> Sequence[str]:
        if kind not in self.protections:
            self.protections[kind] = self._protection(kind)
        return self.protections[kind](texts)

    def _protection(self, kind: type) -> Protect:
        """Return the function that guards and quotes the text of one type, as far as necessary."""
        numeric = issubclass(kind, Number)
        if self._is_quoted(kind):
            quote: Protect = _quote_all
        elif kind in PLAIN_TYPES and self.keeps_plain and not self.is_local:
            quote = _unchanged
        else:
            quote = self._quote_minimal
        guard = self.guard
        if guard and numeric:
            return lambda cells: quote(guard(cells) if _has_words(cells) else cells)
        return quote if guard is None or issubclass(kind, NEVER_FORMULAS) else lambda cells: quote(guard(cells))

    def _is_quoted(self, kind: type) -> bool:
        """Return whether all cells of a type are in quotes."""
        return self.options.quoting == "all" or (self.keeps_quotes and not issubclass(kind, Number))

    def at_once(
        self, values: Sequence[Any], texts_of: type | None = None, kinds: Kinds | None = None
    ) -> Sequence[str]:
        """Return the cells as a call does, by a few calls in C if the column has numbers or texts.

        orjson writes the digits of numbers, in a tenth of the time of a text for each.
        """
        if texts_of is not None:
            return self(values, texts_of)
        if kinds is None:
            kinds = frozenset(map(type, values))
        if kinds == TEXT:
            return self._protected(values, str)
        if kinds == NULLABLE_TEXT and self.is_null_blank:
            return self._protected([text or "" for text in values], str)
        if kinds <= NUMBERS and self.keeps_digits and (self.splits_null or NoneType not in kinds):
            digits = self._digits(values, kinds)
            if digits is not None:
                return digits
        return self._with_nulls(values, kinds) if kinds <= BOOLEANS else self(values)

    def _digits(self, values: Sequence[Any], kinds: Kinds) -> list[str] | None:
        """Return the cells of integers and floats; None if their digits may not be those of the table of forms."""
        try:
            text = orjson.dumps(values)
        except TypeError:  # a long integer
            return None
        if float in kinds and not are_like_repr(values, text):
            return None
        digits = text[1:-1].decode()
        return (digits.replace("null", self.null) if NoneType in kinds else digits).split(",")

    def _quote_minimal(self, cells: Sequence[str]) -> Sequence[str]:
        joined, always = BETWEEN.join(cells), self.quoted_texts
        marks = [mark for mark in (self.options.delimiter, '"', "\n", "\r") if mark in joined]
        if '"' in marks:
            cells = _doubled(cells, joined)
        if any(map(cells.__contains__, always)):
            return [
                f'"{cell}"' if cell in always or any(map(cell.__contains__, marks)) else cell for cell in cells
            ]
        return _enclosed(cells, marks) if marks else cells


def _doubled(cells: Sequence[str], joined: str) -> list[str]:
    """Return the cells with their quotes doubled: short ones in one text, long ones without copies of it."""
    if len(joined) < LONG_CELL * len(cells):
        doubled = joined.replace('"', '""').split(BETWEEN)
        if len(doubled) == len(cells):  # none contains what separates them
            return doubled
    return [cell.replace('"', '""') for cell in cells]


def _enclosed(cells: Sequence[str], marks: Sequence[str]) -> list[str]:
    """Return the cells, in quotes if they contain one of up to four marks."""
    a, b, c, d = (*marks, *[marks[0]] * 3)[:4]
    if len(marks) == 1:
        return [f'"{cell}"' if a in cell else cell for cell in cells]
    return [f'"{cell}"' if a in cell or b in cell or c in cell or d in cell else cell for cell in cells]


def _has_words(numbers: Sequence[str]) -> bool:
    """Return whether an infinity or NaN is among numbers: their text is no number to a spreadsheet."""
    joined = "".join(numbers)
    return "n" in joined or "N" in joined


def quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"'


def _unchanged(cells: Sequence[str]) -> Sequence[str]:
    return cells


def _quote_all(cells: Sequence[str]) -> list[str]:
    """Put cells in quotes: in one text, in a third of the time."""
    text = BETWEEN.join(cells).replace('"', '""')
    found = f'"{text.replace(BETWEEN, QUOTED_BETWEEN)}"'.split(BETWEEN)
    return found if len(found) == len(cells) else list(map(quoted, cells))  # some contain what separates them
