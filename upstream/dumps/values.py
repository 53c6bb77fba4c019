"""Python values as JSON, and back: exactly the types that come back as they went."""

import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.utils.functional import Promise

from upstream.streaming import SourceError

PLAIN = (bool, int, str, type(None))


def _of_microseconds(number: int) -> timedelta:
    return timedelta(microseconds=number)


def _microseconds(value: timedelta) -> int:
    return value // timedelta(microseconds=1)


def _offset(zone: timezone) -> int:
    return _microseconds(zone.utcoffset(None))


def _of_offset(number: int) -> timezone:
    return timezone(_of_microseconds(number))


# By name: a type, its form in JSON, and the way back. A datetime is a date too, so that types have to be equal.
FORMS: Mapping[str, tuple[type, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "float": (float, repr, float),
    "decimal": (Decimal, str, Decimal),
    "datetime": (datetime, datetime.isoformat, datetime.fromisoformat),
    "date": (date, date.isoformat, date.fromisoformat),
    "time": (time, time.isoformat, time.fromisoformat),
    "microseconds": (timedelta, _microseconds, _of_microseconds),
    "uuid": (UUID, str, UUID),
    "bytes": (bytes, bytes.hex, bytes.fromhex),
    "zone": (ZoneInfo, str, ZoneInfo),
    "offset": (timezone, _offset, _of_offset),
}
BY_TYPE = {kind: (name, write) for name, (kind, write, _) in FORMS.items()}


def to_json(value: Any) -> Any:
    """Return a value as what `json` keeps; raise SourceError for a type that would not come back the same."""
    if isinstance(value, Enum):
        return to_json(value.value)
    if isinstance(value, Promise):
        return str(value)
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if type(value) in PLAIN:
        return value
    if type(value) is float and math.isfinite(value):
        return value
    if type(value) in BY_TYPE:
        name, write = BY_TYPE[type(value)]
        return {name: write(value)}
    raise SourceError(f"a dump's plan cannot hold a {type(value).__name__}: use numbers, texts, dates or UUIDs")


def from_json(value: Any) -> Any:
    """Return the value that `to_json` was given; tuples come back as lists."""
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if isinstance(value, dict):
        [(name, form)] = value.items()
        return FORMS[name][2](form)
    return value
