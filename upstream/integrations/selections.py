"""The keys of selected rows, as a browser sends them."""

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from math import isfinite
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import DecimalValidator
from django.db import connections
from django.db.models import DecimalField, IntegerField

# What fields, and the conversions for a database, raise for a text that is no value of theirs.
UNREADABLE = (ValidationError, ValueError, TypeError, ArithmeticError)


class SelectionError(ValueError):
    """A key in a selection is no value of the primary key."""


def selected_keys(field: Any, texts: Iterable[str], using: str) -> list[Any]:
    """Return the keys in `texts` as values of the primary key `field`; raise SelectionError for any that is none.

    So is a key that the database `using` could not take: a number beyond the column, a NUL, a lone surrogate.
    """
    while field.is_relation:
        field = field.target_field
    return [_key(field, text, connections[using]) for text in texts]


def _key(field: Any, text: str, connection: Any) -> Any:
    try:
        text.encode()
        key = _storable(field, field.to_python(text), connection)
        field.get_db_prep_value(key, connection)
    except UNREADABLE as error:
        raise SelectionError(f"{text[:100]!a} is no key") from error
    if key is None or "\0" in text:
        raise SelectionError(f"{text[:100]!a} is no key")
    return key


def _storable(field: Any, value: Any, connection: Any) -> Any:
    """Return a value that the column can hold, or raise one of UNREADABLE."""
    if isinstance(field, IntegerField):
        least, most = connection.ops.integer_field_range(field.get_internal_type())
        if (least is not None and value < least) or (most is not None and value > most):
            raise OverflowError(value)
    if isinstance(value, float | Decimal) and not isfinite(value):
        raise ValueError(value)
    if isinstance(field, DecimalField):
        DecimalValidator(field.max_digits, field.decimal_places)(value)
    if isinstance(value, datetime) and settings.USE_TZ:
        if value.tzinfo is None:  # the list writes keys with their offset
            raise ValueError(value)
        return value.astimezone(UTC)
    return value
