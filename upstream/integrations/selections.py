"""The keys of selected rows, as a browser sends them."""

from collections.abc import Iterable
from typing import Any

from django.core.exceptions import ValidationError
from django.db import connections
from django.db.models import IntegerField

# What fields, and the conversions of a database, raise for a text that is no value of theirs.
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
        value = field.to_python(text)
        field.get_db_prep_value(value, connection)
    except UNREADABLE as error:
        raise SelectionError(f"{text[:100]!a} is no key") from error
    if value is None or "\0" in text or not _is_in_range(field, value, connection):
        raise SelectionError(f"{text[:100]!a} is no key")
    return value


def _is_in_range(field: Any, value: Any, connection: Any) -> bool:
    if not isinstance(field, IntegerField):
        return True
    least, most = connection.ops.integer_field_range(field.get_internal_type())
    return (least is None or value >= least) and (most is None or value <= most)
