"""Filters and orderings from text, checked against the fields of a model."""

import json
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

from django.conf import settings
from django.core.exceptions import FieldError, ValidationError
from django.db.models import BooleanField, JSONField, Model, Q
from django.utils.timezone import is_naive, make_aware

from upstream.streaming import ColumnError
from upstream.streaming.columns import unknown_column
from upstream.streaming.sources.model_columns import field_named, is_sensitive, known_names

BOOLEANS = {"true": True, "t": True, "1": True, "yes": True, "false": False, "f": False, "0": False, "no": False}
COMPARISONS = frozenset({"", "exact", "gt", "gte", "lt", "lte", "in", "range"})


def parse_filter(model: type[Model], text: str) -> Q:
    """Return the condition for a text: `severity__gte=0.7`, `status__in=sent,failed` or `note__isnull=yes`."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ColumnError(f"{text!r} is not a filter; write NAME=VALUE, such as severity__gte=0.7")
    return condition(model, name, value, called=f"filter {text!r}")


def condition(model: type[Model], name: str, text: str, *, called: str) -> Q:
    """Return the condition that `name`, a path to a field with or without a lookup, matches the value in `text`.

    The field parses the value; `in` and `range` take values separated by commas. A row is selected once, however
    many related rows match. An unknown or sensitive name, or a value that the field rejects, raises ColumnError;
    the text of a rejected value begins with `called`.
    """
    fields, lookups = _follow(model, name)
    try:
        found = Q(**{name: _value(fields[-1], lookups, text)})
        matching = model._default_manager.filter(found)
    except (FieldError, ValidationError, ValueError, TypeError) as error:
        words = "; ".join(error.messages) if isinstance(error, ValidationError) else error
        raise ColumnError(f"{called}: {words}") from error
    if any(field.one_to_many or field.many_to_many for field in fields):
        return Q(pk__in=matching.values("pk"))
    return found


def parse_ordering(model: type[Model], name: str) -> str:
    """Return `name`, a path to a field with `-` before it for descending order; raise unless it can order rows."""
    fields, lookups = _follow(model, name.removeprefix("-"))
    if lookups or any(field.one_to_many or field.many_to_many for field in fields):
        raise ColumnError(f"rows cannot be ordered by {name!r}; name a field, or a field of one related row")
    return name


def _follow(model: type[Model], name: str) -> tuple[list[Any], list[str]]:
    """Return the fields along the path `name`, and the transforms and lookups after them."""
    parts = name.split("__")
    fields: list[Any] = []
    at: type[Model] | None = model
    for part in parts:
        field = field_named(at, part) if at else None
        if field is None:
            if at and not (fields and _is_lookup(fields[-1], part)):
                raise unknown_column(part, known_names(at), at.__name__)
            break
        if is_sensitive(field.name):
            raise ColumnError(f"{name!r} names a sensitive field; filters and orderings could reveal its values")
        fields.append(field)
        at = field.related_model if field.is_relation else None
    return fields, parts[len(fields) :]


def _is_lookup(field: Any, name: str) -> bool:
    return bool(hasattr(field, "get_lookup") and (field.get_lookup(name) or field.get_transform(name)))


def _value(field: Any, lookups: list[str], text: str) -> Any:
    lookup = lookups[-1] if lookups else ""
    if lookup == "isnull":
        return _boolean(text)
    read: Callable[[str], Any] = _json
    if isinstance(field, JSONField):
        if isinstance(_json(text), list):
            return _json(text)
    elif len(lookups) > 1 or lookup not in COMPARISONS:
        return text
    else:
        read = partial(_read, field)
    if lookup not in ("in", "range"):
        return read(text)
    values = [read(part) for part in text.split(",")]
    if lookup == "range" and len(values) != 2:
        raise ValueError("a range needs two values separated by a comma")
    return values


def _read(field: Any, text: str) -> Any:
    if isinstance(field, BooleanField):
        return _boolean(text)
    value = getattr(field, "target_field", field).to_python(text)
    is_local = settings.USE_TZ and isinstance(value, datetime) and is_naive(value)
    return make_aware(value) if is_local else value


def _boolean(text: str) -> bool:
    if text.lower() not in BOOLEANS:
        raise ValueError(f"{text!r} is neither true nor false")
    return BOOLEANS[text.lower()]


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
