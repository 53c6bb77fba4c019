"""The values of filters: read from text as their field reads them, and within what a database can take."""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from functools import partial
from math import isfinite
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import BooleanField, DecimalField, FloatField, JSONField
from django.utils.timezone import is_naive, make_aware

from upstream.integrations.choices import quoted_parts

BOOLEANS = {"true": True, "t": True, "1": True, "yes": True, "false": False, "f": False, "0": False, "no": False}
COMPARISONS = frozenset({"", "exact", "gt", "gte", "lt", "lte", "in", "range"})
# The lookups that compare JSON with a text.
TEXT_LOOKUPS = frozenset(
    {"has_key", "icontains", "iexact", "startswith", "istartswith", "endswith", "iendswith", "regex", "iregex"}
)
# No URL that a server accepts by default is as long.
LONGEST_TEXT = 100_000
# MariaDB reads no deeper JSON.
DEEPEST_JSON = 32
# An exponent beyond makes a text of as many digits; no column holds such a number.
LARGEST_EXPONENT = 1000
LARGEST_INTEGER = 2**63 - 1


def value_of(field: Any, lookups: list[str], text: str) -> Any:
    """Return the value in `text` for a filter on `field` with these transforms and lookups.

    `in` and `range` take values separated by commas; `"a, b",c` are two values. A value that no database could
    take raises ValueError, as does one that the field rejects; the time and the memory for that do not grow with
    the number it stands for.
    """
    _check_text(text)
    lookup = lookups[-1] if lookups else ""
    if lookup == "isnull":
        return _boolean(text)
    if isinstance(field, JSONField):
        value = _json_value(lookup, text)
        return _json_null() if value is None and lookups in ([], ["exact"]) else value
    if len(lookups) > 1 or lookup not in COMPARISONS:
        return text
    return _parts(lookup, text, partial(_read, field))


def _json_null() -> Any:
    """Return JSON's null for a comparison: JSONNull from Django 6.1 on, before that a Value."""
    return models.JSONNull() if hasattr(models, "JSONNull") else models.Value(None, JSONField())


def check_parameters(parameters: Iterable[Any]) -> None:
    """Raise ValueError for a parameter of a statement that a driver could not pass on."""
    for value in parameters:
        if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
            raise ValueError("the number is too large")


def _check_text(text: str) -> None:
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"the value is longer than {LONGEST_TEXT:,} characters")
    if "\x00" in text:
        raise ValueError("the value contains a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("the value contains half of a surrogate pair") from error


def _parts(
    lookup: str, text: str, read: Callable[[str], Any], split: Callable[[str], list[str]] = quoted_parts
) -> Any:
    if lookup not in ("in", "range"):
        return read(text)
    values = [read(part) for part in split(text)]
    if lookup == "range" and len(values) != 2:
        raise ValueError("a range needs two values separated by a comma")
    return values


def _read(field: Any, text: str) -> Any:
    field = getattr(field, "target_field", field)
    if isinstance(field, BooleanField):
        return _boolean(text)
    if isinstance(field, DecimalField):
        _check_exponent(text)
    value = field.to_python(text)
    if isinstance(field, FloatField) and not isfinite(value):
        raise ValueError(f"{text!r} is not a finite number")
    is_local = settings.USE_TZ and isinstance(value, datetime) and is_naive(value)
    return make_aware(value) if is_local else value


def _check_exponent(text: str) -> None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return  # the field says so
    lowest = number.as_tuple().exponent
    is_within = isinstance(lowest, int) and lowest > -LARGEST_EXPONENT and number.adjusted() < LARGEST_EXPONENT
    if number.is_finite() and not is_within:
        raise ValueError(f"{text[:40]!r} has more than {LARGEST_EXPONENT:,} digits")


def _boolean(text: str) -> bool:
    if text.lower() not in BOOLEANS:
        raise ValueError(f"{text[:40]!r} is neither true nor false")
    return BOOLEANS[text.lower()]


def _json_value(lookup: str, text: str) -> Any:
    if lookup in TEXT_LOOKUPS:
        return text
    value = _json(text)
    if lookup in ("has_keys", "has_any_keys"):
        return [str(key) for key in value] if isinstance(value, list) else text.split(",")
    return value if isinstance(value, list) else _parts(lookup, text, _json, _json_parts)


def _json_parts(text: str) -> list[str]:
    return text.split(",")  # the quotes are JSON's; a value with a comma is written in an array


def _json(text: str) -> Any:
    """Return what a JSON text stands for; any other text, such as a bare word or NaN, stands for itself."""
    try:
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite)
    except RecursionError as error:
        raise ValueError(_too_deep()) from error
    except ValueError:
        return text
    _check_json(value)
    return value


def _no_number(name: str) -> Any:
    raise ValueError(f"JSON has no {name}")


def _finite(text: str) -> float:
    number = float(text)
    return number if isfinite(number) else _no_number(text)


def _check_json(value: Any, depth: int = 1) -> None:
    if isinstance(value, str):
        _check_text(value)
    if isinstance(value, Mapping | list):
        if depth > DEEPEST_JSON:
            raise ValueError(_too_deep())
        for inner in (*value, *value.values()) if isinstance(value, Mapping) else value:
            _check_json(inner, depth + 1)


def _too_deep() -> str:
    return f"the JSON is nested more than {DEEPEST_JSON} levels deep"
