"""One column of a batch as the cells of delimited text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import chain
from numbers import Number
from types import NoneType
from typing import TYPE_CHECKING, Any
from uuid import UUID

from upstream.streaming.encoders.formulas import Guard
from upstream.streaming.encoders.text import is_wrapped, unwrapped
from upstream.streaming.values import CONTAINERS, PLAIN_TYPES, Forms, are_like_repr, joined

if TYPE_CHECKING:
    from upstream.streaming.encoders.delimited import Csv

# All characters that the text of a plain type may contain.
PLAIN_CHARACTERS = frozenset("0123456789abcdefghijklmnopqrstuvwxyzFINT+-.: ")

# Types that are not strings, or whose text cannot be a formula; the guard would break JSON.
NEVER_FORMULAS = (*PLAIN_TYPES, *CONTAINERS)

# Types that JSON writes as their str(), besides those of text.
JSON_TEXTS = (UUID, date)

Protect = Callable[[Sequence[str]], Sequence[str]]


# Separates the cells of a column while they are one text.
BETWEEN = "\x00"
# Characters that JSON escapes, and the comma; it escapes others too, but they are too rare to be searched for.
MARKS = '",\\\n\r\t'


@dataclass(frozen=True, slots=True)
class JsonColumn:
    """A column as values whose JSON is its cells, apart from the quotes of strings and the text of None.

    `text` is all of its strings. If they contain marks, `values` is None, and the cells are those strings. They
    are not in quotes yet if `is_raw`. `has_null` tells of None among the values.
    """

    values: Sequence[Any] | None
    text: str = ""
    is_raw: bool = False
    has_null: bool = False


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
        self.marks = {*MARKS, options.delimiter}
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
        self.is_null_blank = self.null == ('""' if self.keeps_quotes else "")

    def __call__(self, values: Sequence[Any], texts_of: type | None = None) -> Sequence[str]:
        if texts_of is not None:
            return self._texts(values, texts_of)
        if self.join is not None:
            values = joined(values, self.join, self.forms.text)
        types = set(map(type, values))
        if any(map(is_wrapped, types)):
            return self(list(map(unwrapped, values)))
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

    def as_json(self, values: Sequence[Any], texts_of: type | None = None) -> JsonColumn:
        """Return a column as JSON; see JsonColumn."""
        kinds = {texts_of} if texts_of else set(map(type, values))
        has_null = None in values if texts_of else NoneType in kinds
        keeps_null = has_null and not self.is_null_blank
        kinds.discard(NoneType)
        if not kinds:
            return JsonColumn(values, has_null=True)
        if len(kinds) == 1 and self.join is None:
            [kind] = kinds
            if kind is str and not (keeps_null or self._quotes_one_of(values)):
                texts = [text or "" for text in values] if has_null else values
                guarded = self.guard(texts) if self.guard else texts
                if guarded is texts or not self._quotes_one_of(guarded):
                    return self._strings_as_json(guarded)
            if not self.json and self._are_like_json(values, kind, texts_of):
                return JsonColumn(values, has_null=has_null)
            if kind in PLAIN_TYPES and not (keeps_null or self.is_local):
                if not self.keeps_quotes:
                    return JsonColumn(self(values, texts_of))
                if self._is_quoted(kind) and not (texts_of or self.guard):
                    return JsonColumn(self.forms.column(values))  # JSON adds the quotes
        return JsonColumn(None, BETWEEN.join(self(values, texts_of)))

    def _quotes_one_of(self, texts: Sequence[str | None]) -> bool:
        """Return whether one of the texts is in quotes whatever it contains."""
        return any(map(texts.__contains__, self.quoted_texts))

    def _strings_as_json(self, texts: Sequence[str]) -> JsonColumn:
        text = BETWEEN.join(texts)
        if any(map(text.__contains__, self.marks)):
            return JsonColumn(None, text, is_raw=True)
        return JsonColumn(texts, text)

    def _are_like_json(self, values: Sequence[Any], kind: type, texts_of: type | None) -> bool:
        if self.keeps_quotes and self._is_quoted(kind) is (kind in (int, float)):
            return False
        if self.guard and texts_of and issubclass(kind, Number):  # it changes -Infinity
            return False
        if kind is int:
            return True
        if kind is float:
            return not self.is_local and are_like_repr(values)
        return not self.is_local and (texts_of is not None or kind in JSON_TEXTS)

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


def _has_words(numbers: Sequence[str]) -> bool:
    """Return whether an infinity or NaN is among numbers: their text is no number to a spreadsheet."""
    joined = "".join(numbers)
    return "n" in joined or "N" in joined


def quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"'


def _unchanged(cells: Sequence[str]) -> Sequence[str]:
    return cells


def _quote_all(cells: Sequence[str]) -> list[str]:
    return [quoted(cell) for cell in cells]
