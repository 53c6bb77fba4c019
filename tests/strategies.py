"""Hypothesis strategies that draw from the whole range of every field and every Python type.

A database's `vendor` decides what it cannot hold: PostgreSQL no NUL in text, SQLite no NaN, MariaDB ("mysql") no
NaN, no infinity, no negative zero, and not every UUID.
"""

import string
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from fractions import Fraction
from functools import cache
from ipaddress import ip_address
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from django.db import models
from django.utils.functional import lazystr
from hypothesis import strategies as st

from tests.fieldtypes import models as fieldtypes
from tests.fieldtypes.fields import Colour

POSTGRESQL = "postgresql"
MARIADB = "mysql"

# fmt: off
TEXTS = [
    *("", " ", "  both ends  ", "\ttab", "NULL", "null", "\\N", "\\.", "None", "nan", "True", "0012", "1e5"),
    *('"', '""', '"quoted"', 'in "the" middle', "'", "a,b", "a;b", "a\tb", "a|b", "\\", 'back\\"slash', "\\n"),
    *("\r", "\n", "\r\n", "\n\r", "a\rb", "a\nb", "a\r\nb", "ends\r", "ends\n", '"\r\n",', ",", ";", ",,", "#x"),
    *("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "'=1", "|cmd", "%x", "=cmd|' /C calc'!A0"),
    *("é", "e\u0301", "日本語", "😀", "👩\u200d👧", "\U0001d518", "\u2028", "\u2029", "\x85", "\x0b", "\x1c"),
    *("\ufeff", "\ufffd", "\uffff", "\U0010ffff", "\u202eright to left", "\x7f", "\x01", "{}", "[1]", "</script>"),
    *("x\x00y", "\x00", "ß" * 60, 'a,"\r\n' * 12),
]
# fmt: on
MARKS = ",;\"'\r\n\t\\ =+-@|\x00\x1f\x7f\x85\u2028\ufeff"
ZONES = [
    UTC,
    ZoneInfo("UTC"),
    ZoneInfo("Asia/Kathmandu"),
    ZoneInfo("America/St_Johns"),
    timezone(timedelta(hours=-12)),
    timezone(timedelta(hours=14, minutes=-1)),
    timezone(timedelta(seconds=3723)),
]
FLOATS = [
    *(0.0, -0.0, 1.0, -1.0, 0.1, 1 / 3, 100.0, 123456.0, 1e15, 999999999999999.9, 1e16, 9007199254740993.0),
    *(1e17, 1.5e300, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 1e-4, 1e-5, 0.00012, 0.000012),
    *(0.30000000000000004, 2.0**53, 2.0**63, 1e22, 123456789012345680.0, 4503599627370497.5),
]
# The last integers that readers of doubles keep, and the first that they may round.
SAFE_EDGES = [2**53 - 1, 2**53, 1 - 2**53, -(2**53)]
LARGE = [*SAFE_EDGES, 2**53 + 1, 2**63, 2**64, -(2**64)]
SQLITE_INTERVAL = timedelta(microseconds=2**63 - 1)  # a duration is a 64-bit number of microseconds there


@cache
def texts(vendor="", max_size=30, nul=True):
    """Text with everything that framing could trip over."""
    held = nul and vendor != POSTGRESQL
    marks = MARKS if held else MARKS.replace("\x00", "")
    known = [text for text in TEXTS if len(text) <= max_size and (held or "\x00" not in text)]
    smallest = 0 if held else 1
    letters = st.sampled_from(marks) | st.characters(min_codepoint=smallest, exclude_categories=["Cs"])
    return st.sampled_from(known) | st.text(letters, max_size=min(max_size, 12))


def floats(vendor=""):
    if vendor == MARIADB:
        drawn = st.sampled_from(FLOATS) | st.floats(allow_nan=False, allow_infinity=False)
        return drawn.map(lambda value: value + 0.0)  # -0.0 becomes 0.0
    return st.sampled_from(FLOATS) | st.floats(allow_nan=vendor != "sqlite")


def uuids(vendor=""):
    drawn = st.uuids(allow_nil=True)
    # MariaDB keeps these bits in other places, and refuses what it could not put back.
    return drawn.filter(lambda key: key.bytes[6] < 0x80 or key.bytes[8] > 0x80) if vendor == MARIADB else drawn


def datetimes(aware=True):
    """Moments of all years in UTC; other zones leave out the days at both ends, which UTC does not have."""
    in_utc = st.datetimes(timezones=st.just(UTC))
    anywhere = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.sampled_from(ZONES))
    known = st.sampled_from(
        [
            datetime(1, 1, 1, tzinfo=UTC),
            datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
            datetime(2026, 1, 31, 8, 15, tzinfo=UTC),
            datetime(2026, 1, 31, 8, 15, 0, 250000, tzinfo=UTC),
            datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=UTC),
            datetime(2025, 10, 26, 2, 30, tzinfo=ZoneInfo("Europe/Rome"), fold=1),
        ]
    )
    return known | in_utc | anywhere if aware else st.datetimes()


def durations(vendor=""):
    shortest, longest = (-SQLITE_INTERVAL, SQLITE_INTERVAL) if vendor else (timedelta.min, timedelta.max)
    known = [timedelta(0), timedelta(microseconds=-1), timedelta(days=-1, seconds=1), timedelta(days=400)]
    return st.sampled_from(known) | st.timedeltas(shortest, longest)


def decimals(digits, places, vendor=""):
    # SQLite keeps a REAL: Django itself cannot read back what its 15 digits round up to one digit more.
    digits -= 1 if vendor == "sqlite" else 0
    largest = Decimal((0, (9,) * digits, -places))
    known = [Decimal(text).quantize(Decimal(1).scaleb(-places)) for text in ("0", "-0", "1", "-1", "1000")]
    return st.sampled_from([*known, largest, -largest]) | st.decimals(-largest, largest, places=places)


def json_values(vendor="", nul=True, top_null=True):
    """Values of a JSONField; big integers, every text, and nesting."""
    finite = st.sampled_from(FLOATS) | st.floats(allow_nan=False, allow_infinity=False)
    integers = st.sampled_from([*LARGE, 10**40]) | st.integers()
    strings = texts(vendor, 20, nul)
    scalars = st.none() | st.booleans() | integers | finite | strings
    nested = st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(strings, inner, max_size=3),
        max_leaves=6,
    )
    return nested if top_null else nested.filter(lambda value: value is not None)


def json_null():
    """Return what Django stores as JSON's null, where None would be SQL's NULL."""
    if hasattr(models, "JSONNull"):
        return models.JSONNull()
    return models.Value(None, models.JSONField())


def _integers(low, high):
    known = [number for number in (low, high, 0, 1, *SAFE_EDGES) if low <= number <= high]

    def values(field, vendor, nul):
        return st.sampled_from(known) | st.integers(low, high)

    return values


def _texts(field, vendor, nul):
    if field.choices:
        return st.sampled_from([value for value, _ in field.choices])
    return texts(vendor, field.max_length or 100, nul)


def _ip_addresses(field, vendor, nul):
    known = ["0.0.0.0", "255.255.255.255", "10.0.0.1"]
    if field.protocol == "IPv4":
        return st.sampled_from(known) | st.ip_addresses(v=4).map(str)
    return st.sampled_from([*known, "::", "::1", "::ffff:10.0.0.1", "2001:db8::"]) | st.ip_addresses().map(str)


BY_CLASS = {
    models.BooleanField: lambda field, vendor, nul: st.booleans(),
    models.SmallIntegerField: _integers(-(2**15), 2**15 - 1),
    models.IntegerField: _integers(-(2**31), 2**31 - 1),
    models.BigIntegerField: _integers(-(2**63), 2**63 - 1),
    models.PositiveSmallIntegerField: _integers(0, 2**15 - 1),
    models.PositiveIntegerField: _integers(0, 2**31 - 1),
    models.PositiveBigIntegerField: _integers(0, 2**63 - 1),
    models.FloatField: lambda field, vendor, nul: floats(vendor),
    models.DecimalField: lambda field, vendor, nul: decimals(field.max_digits, field.decimal_places, vendor),
    models.DateField: lambda field, vendor, nul: st.dates(),
    models.TimeField: lambda field, vendor, nul: st.times(),
    models.DateTimeField: lambda field, vendor, nul: datetimes(),
    models.DurationField: lambda field, vendor, nul: durations(vendor),
    models.UUIDField: lambda field, vendor, nul: uuids(vendor),
    models.BinaryField: lambda field, vendor, nul: st.binary(max_size=20),
    models.JSONField: lambda field, vendor, nul: json_values(vendor, nul, top_null=False) | st.builds(json_null),
    models.GenericIPAddressField: _ip_addresses,
    **dict.fromkeys(
        (
            models.CharField,
            models.TextField,
            models.SlugField,
            models.EmailField,
            models.URLField,
            models.FileField,
            models.FilePathField,
        ),
        _texts,
    ),
}


def field_values(field, vendor, nul=True):
    """Draw what `field` holds on a database of `vendor`: NULL where it may, else its class's whole range."""
    values = BY_CLASS[type(field)](field, vendor, nul)
    return st.none() | values if field.null else values


def instances(model, vendor, nul=True, **known):
    """Draw unsaved instances of `model`, with `known` strategies for its relations."""
    plain = {
        field.name: field_values(field, vendor, nul)
        for field in model._meta.concrete_fields
        if not (field.primary_key or field.generated or field.is_relation or field.name in known)
    }
    return st.builds(model, **plain, **known)


@cache
def everything(vendor, nul=True, max_size=3):
    """Draw lists of unsaved `Everything` rows, some with a parent and a ticket; `store` saves them."""
    parents = st.none() | instances(fieldtypes.Parent, vendor, nul)
    tickets = st.none() | st.builds(fieldtypes.Ticket, id=uuids(vendor), code=texts(vendor, 20, nul))
    rows = instances(fieldtypes.Everything, vendor, nul, parent=parents, ticket=tickets)
    return st.lists(rows, max_size=max_size, unique_by=lambda row: row.ticket_id or object())


def disguised(vendor):
    """Draw lists of unsaved `Disguised` rows."""
    row = st.builds(
        fieldtypes.Disguised,
        colour=st.none() | st.sampled_from(Colour),
        backwards=texts(vendor),
        price=st.none() | st.integers(-(10**12), 10**12).map(lambda cents: Decimal(cents).scaleb(-2)),
        shifted=st.integers(-(10**6), 10**6),
        sealed=json_values(vendor, top_null=False),
    )
    return st.lists(row, max_size=3)


def store(rows, using):
    """Save drawn `Everything` rows and what they refer to; return a queryset of all rows, in order."""
    for row in rows:
        row._state.db = using  # a drawn row took the default with its relations
    for relation, model in (("parent", fieldtypes.Parent), ("ticket", fieldtypes.Ticket)):
        related = [getattr(row, relation) for row in rows if getattr(row, relation) is not None]
        model.objects.using(using).bulk_create(related)
    fieldtypes.Everything.objects.using(using).bulk_create(rows)
    return fieldtypes.Everything.objects.using(using).order_by("pk")


class Priority(IntEnum):
    LOW = -5
    HIGH = 5


class Tone(StrEnum):
    EVEN = "even"
    ODD = 'odd, "quoted"'


class Label(str, Enum):  # noqa: UP042 (a StrEnum takes no values but texts)
    """A str that is its label, and has another value, as some people's choices are."""

    def __new__(cls, value, label):
        member = str.__new__(cls, label)
        member._value_ = value
        return member

    OPEN = ("o", "Open, or not")
    CLOSED = (2, "Closed")


class Mixed(Enum):
    NUMBER = 1
    TEXT = "text, more"
    AMOUNT = Decimal("1.50")
    DAY = date(2026, 1, 31)
    NOTHING = None


class Point(NamedTuple):
    x: Any
    y: Any


class Plain:
    """Any other object: it is written as str() gives it."""

    def __init__(self, text):
        self.text = text

    def __str__(self):
        return self.text

    def __repr__(self):
        return f"Plain({self.text!r})"


class Shout(str):
    """A str of another class, as Django's SafeString is."""

    __slots__ = ()


class Moment(datetime):
    """A datetime of another class, as other libraries make them."""


SPECIAL_DECIMALS = [
    "1E+3",
    "1E-10",
    "-0",
    "0E+5",
    "0E-7",
    "NaN",
    "Infinity",
    "-Infinity",
    "1.10",
    "9" * 40,
    "1E+60",
]
NAMES = st.text(string.ascii_letters + "/. ,\"'é\r\n", max_size=12)

PYTHON_VALUES = {
    "None": st.none(),
    "str": texts(),
    "a subclass of str": texts().map(Shout),
    "bool": st.booleans(),
    "int": st.integers() | st.integers(-(10**300), 10**300) | st.sampled_from(LARGE),
    "float": floats(),
    "Decimal": st.sampled_from([Decimal(text) for text in SPECIAL_DECIMALS]) | decimals(30, 12),
    "aware datetime": datetimes(),
    "naive datetime": datetimes(aware=False),
    "a subclass of datetime": st.builds(Moment, st.integers(1, 9999), st.integers(1, 12), st.integers(1, 28)),
    "date": st.dates(),
    "time": st.times(timezones=st.sampled_from([None, UTC, timezone(timedelta(hours=5, minutes=45))])),
    "timedelta": durations(),
    "UUID": st.uuids(),
    "Path": NAMES.map(PurePosixPath),
    "lazy string": texts().map(lazystr),
    "Enum": st.sampled_from([*Mixed, *Colour]),
    "IntEnum": st.sampled_from([*Priority, *fieldtypes.Level]),
    "StrEnum": st.sampled_from([*Tone, *fieldtypes.Word]),
    "bytes": st.binary(max_size=20),
    "memoryview": st.binary(max_size=20).map(memoryview),
    "IP address": st.sampled_from(["10.0.0.1", "::1"]).map(ip_address),
    "any other object": texts().map(Plain) | st.just(Fraction(1, 3)) | st.just(1 - 2j),
}


def _nested(inner):
    return (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(texts(), inner, max_size=3)
        | st.builds(Point, inner, inner)
    )


_scalars = st.one_of(*PYTHON_VALUES.values())
PYTHON_VALUES |= {
    "set": st.sets(st.integers(-3, 300), max_size=3) | st.frozensets(texts(), max_size=3),
    "nested": _nested(st.recursive(_scalars, _nested, max_leaves=5)),
}
