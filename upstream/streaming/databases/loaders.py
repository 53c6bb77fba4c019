"""Loaders: turn a column of driver values into values or preformatted text, with loops in C.

Django converts value by value in Python, and an encoder then undoes it: with five such columns, that is half the
time of an export. A loader returns what the driver's and Django's converters would return, or the text that
`values` gives it. If a column of a batch contains anything else, the converters read it.

Text that is stored as it is written is proven for the whole column at once, and kept: the shape of all its lines
is compared as one string, and msgspec reads the days and times.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import repeat
from operator import add
from typing import Any

import msgspec
import orjson
from django.conf import settings

Values = Sequence[Any]
LoadValues = Callable[[Values], Values]

TEXT: frozenset[type] = frozenset({str})
BITS = bytes((0, 1))
NUMBER_CHARACTERS = b"-.,0123456789"
DIGITS_TO_ZEROS = bytes.maketrans(b"0123456789", b"0" * 10)
HEXADECIMAL_TO_ZEROS = bytes.maketrans(b"0123456789abcdef", b"0" * 16)
UUID_FORM, UUID_DIGITS = "00000000-0000-0000-0000-000000000000", 32
POSITIONS_OF_DIGITS = [position for position, mark in enumerate(UUID_FORM) if mark == "0"]
# A double represents all decimal numbers of this many digits distinctly.
EXACT_DIGITS = 15
DATE, SECONDS, FRACTION = "0000-00-00", " 00:00:00", ".000000"
OFFSET = "+00:00"


class UnsupportedValueError(ValueError):
    """A column contains a value that its loader does not support."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loader:
    """How to load a column; its functions raise ValueError for None, and if the converters must do it.

    `load` returns values. `load_texts` returns preformatted text of the type `texts_of`, for encoders that take
    it, and may leave what it does not support to `load`. If `raw_type` is set, they require columns of that driver
    type unconverted; `convert` is the conversion skipped, for a single value.
    """

    load: LoadValues | None = None
    load_texts: LoadValues | None = None
    texts_of: type | None = None
    raw_type: str = ""
    convert: Callable[[Any], Any] | None = None


# Makes the loader for a connection and a field; the flag says whether the values come from a table column.
MakeLoader = Callable[[Any, Any, bool], Loader | None]


def _check(values: Values, kinds: frozenset[type]) -> None:
    if not set(map(type, values)) <= kinds:
        raise UnsupportedValueError


def _joined(values: Values) -> str:
    """Return a column of text in one string, a line for each value."""
    try:
        return "\n".join(values)
    except TypeError as error:
        raise UnsupportedValueError from error


def load_booleans(values: Values) -> Values:
    try:
        bits = bytes(values)
    except TypeError as error:  # no integer
        raise UnsupportedValueError from error
    if bits.strip(BITS):
        raise UnsupportedValueError
    return list(map(bool, values))


def load_dates(values: Values) -> Values:
    _check(values, TEXT)
    return list(map(date.fromisoformat, values))


def load_naive_datetimes(values: Values) -> Values:
    _check(values, TEXT)
    datetimes = list(map(datetime.fromisoformat, values))
    if any(value.tzinfo for value in datetimes):
        raise UnsupportedValueError
    return datetimes


def load_utc_datetimes(values: Values) -> Values:
    """Load naive text as datetimes in UTC: 109 ns each, against 1,000 with parse_datetime and make_aware."""
    _check(values, TEXT)
    if min(map(len, values)) < len("2026-01-31 08:15"):  # fromisoformat reads a date + offset as a date and a time
        raise UnsupportedValueError
    return list(map(datetime.fromisoformat, map(add, values, repeat(OFFSET))))


def load_aware_datetimes(values: Values) -> Values:
    """Load text with the offset of UTC, as PostgreSQL writes it; psycopg and Django take 1,000 ns each."""
    _check(values, TEXT)
    datetimes = list(map(datetime.fromisoformat, values))
    if any(value.tzinfo is not UTC for value in datetimes):
        raise UnsupportedValueError
    return datetimes


def keep_texts(values: Values) -> Values:
    _check(values, TEXT)
    return values


def keep_dates(values: Values) -> Values:
    """Keep dates that are stored as Python writes them."""
    _check_form(_joined(values), len(values), DATE)
    _check_days(values, list[date])
    return values


def keep_naive_datetimes(values: Values) -> Values:
    """Keep datetimes that are stored as Python writes them."""
    _check_datetimes(_joined(values), values)
    return values


def add_utc_offsets(values: Values) -> Values:
    """Add the offset of UTC to datetimes that are stored as Python writes them without one: 90 ns each."""
    return _with_utc_offsets(_joined(values), values)


def shorten_utc_datetimes(values: Values) -> Values:
    """Write datetimes in UTC of which a server gives all six digits: without a fraction if it is zero."""
    return _with_utc_offsets(_joined(values).replace(FRACTION, ""), values)


def complete_utc_datetimes(values: Values) -> Values:
    """Complete the fractions and offsets of datetimes in UTC as PostgreSQL writes them, such as 08:15:00.5+00."""
    lines = _joined(values) + "\n"
    if lines.count("+00\n") != len(values):
        raise UnsupportedValueError
    naive = lines.replace("+00\n", "\n")[:-1].split("\n")
    if len(naive) != len(values):
        raise UnsupportedValueError
    if "." in lines:
        exact = len(DATE + SECONDS + FRACTION)
        naive = [text.ljust(exact, "0") if "." in text else text for text in naive]
    return _with_utc_offsets("\n".join(naive), naive)


def _with_utc_offsets(joined: str, values: Values) -> Values:
    _check_datetimes(joined, values)
    return (joined.replace("\n", OFFSET + "\n") + OFFSET).split("\n")


def _check_datetimes(joined: str, values: Values) -> None:
    """Raise ValueError unless the lines are naive datetimes as Python writes them, one for each value.

    It writes a fraction of six digits, or none if it is zero.
    """
    _check_form(joined, len(values), DATE + SECONDS, DATE + SECONDS + FRACTION)
    if "." in joined and FRACTION in joined:
        raise UnsupportedValueError
    _check_days(values, list[datetime])


def _check_days(values: Values, kind: Any) -> None:
    """Raise ValueError for days and times that no calendar and no clock has: msgspec takes 25 ns for each."""
    try:
        msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise UnsupportedValueError from error


def _lines(form: str, count: int) -> bytes:
    return ((form + "\n") * count)[:-1].encode()


def _check_form(joined: str, count: int, *forms: str) -> None:
    """Raise ValueError unless these are `count` lines, each with digits where one of the forms has zeros."""
    shape = joined.encode().translate(DIGITS_TO_ZEROS)
    if any(shape == _lines(form, count) for form in forms):
        return
    shapes = shape.split(b"\n")
    if len(shapes) != count or not set(shapes) <= set(map(str.encode, forms)):
        raise UnsupportedValueError


def keep_uuids(values: Values) -> Values:
    """Keep UUIDs that are stored as Python writes them."""
    if _joined(values).encode().translate(HEXADECIMAL_TO_ZEROS) != _lines(UUID_FORM, len(values)):
        raise UnsupportedValueError
    return values


def load_hexadecimal_uuids(values: Values) -> Values:
    """Insert the dashes into all UUIDs at once, digit by digit: 95 ns each, against 970 with UUID()."""
    source = _joined(values).encode()
    if source.translate(HEXADECIMAL_TO_ZEROS) != _lines("0" * UUID_DIGITS, len(values)):
        raise UnsupportedValueError
    width, width_of_texts = UUID_DIGITS + 1, len(UUID_FORM) + 1
    texts = bytearray(_lines(UUID_FORM, len(values)))
    for digit, position in enumerate(POSITIONS_OF_DIGITS):
        texts[position::width_of_texts] = source[digit::width]
    return texts.decode().split("\n")


def load_uuids(values: Values) -> Values:
    """Load UUIDs with or without dashes."""
    try:
        return keep_uuids(values)
    except UnsupportedValueError:
        return load_hexadecimal_uuids(values)


def decimals_of_doubles(field: Any) -> LoadValues:
    """Return the loader of decimals stored as doubles: 110 ns each, against 1,500 with Decimal contexts.

    Django rounds to 15 digits, then to the field's decimal places. The shortest text that converts back to the
    same double, if it has no more digits than that, has Django's digits, but for zeros at the end.
    """
    places = field.decimal_places
    longest, point = min(EXACT_DIGITS, field.max_digits) + bool(places), -places - 1

    def filled(text: str) -> str:
        whole, _, fraction = text.partition(".")
        if len(fraction) > places and fraction != "0":
            raise UnsupportedValueError
        return f"{whole}.{fraction:0<{places}}" if places else whole

    def load(values: Values) -> Values:
        try:
            joined = orjson.dumps(values)[1:-1]
        except TypeError as error:  # a long integer, bytes
            raise UnsupportedValueError from error
        if joined.translate(None, NUMBER_CHARACTERS):  # text, an exponent, an infinity
            raise UnsupportedValueError
        texts = joined.decode().split(",")
        try:
            texts = [text if text[point] == "." else filled(text) for text in texts]
        except IndexError:
            texts = list(map(filled, texts))
        if max(map(len, texts)) > longest:
            raise UnsupportedValueError
        return texts

    return load


def in_zone_of(connection: Any, in_utc: LoadValues, in_utc_texts: LoadValues) -> dict[str, Any] | None:
    """Return how a Loader loads datetimes of a connection: as naive ones without USE_TZ; None in zones but UTC."""
    if not settings.USE_TZ:
        return {"load": load_naive_datetimes, "load_texts": keep_naive_datetimes, "texts_of": datetime}
    if connection.timezone is not UTC:
        return None
    return {"load": in_utc, "load_texts": in_utc_texts, "texts_of": datetime}
