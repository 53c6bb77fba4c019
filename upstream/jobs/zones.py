"""Time zones as JSON data: by name, or by the offset of those that have none."""

from datetime import timedelta, tzinfo
from typing import Any

from django.utils import timezone


def current_zone() -> str | int:
    """Return the current time zone for `zone_of`: its key, or the minutes of a fixed offset."""
    zone: Any = timezone.get_current_timezone()
    offset = None if getattr(zone, "key", None) else zone.utcoffset(None)
    return str(zone) if offset is None else offset // timedelta(minutes=1)


def zone_of(data: str | int) -> str | tzinfo:
    """Return a time zone for `timezone.override`."""
    return timezone.get_fixed_timezone(data) if isinstance(data, int) else data
