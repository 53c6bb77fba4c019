"""Values as the admin's list words them, for spreadsheets.

A choice is its label, a list its items, a duration the days and hours. Numbers stay, since a spreadsheet formats
them itself, and so does what is empty, for which the list shows `empty_value_display`.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db.models import DurationField
from django.utils.hashable import make_hashable

Shown = Callable[[Any], Any]


def as_shown(field: Any) -> Shown | None:
    """Return the function from a value of `field` to what the list shows, or None if that is the value itself."""
    if choices := getattr(field, "flatchoices", None):
        return _labels({value: str(label) for value, label in make_hashable(choices)})
    is_list = hasattr(field, "base_field")  # an array of PostgreSQL's
    return computed_as_shown if is_list or isinstance(field, DurationField) else None


def computed_as_shown(value: Any) -> Any:
    """Return what the list shows for the value of a function."""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value) if isinstance(value, timedelta) else value


def _labels(labels: dict[Any, str]) -> Shown:
    """Return the function from a choice to its label; what is no choice stays, where the list shows nothing."""
    return lambda value: labels.get(make_hashable(value), computed_as_shown(value))
