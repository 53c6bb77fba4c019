"""Rows of Everything for tests that care for a few of its fields."""

from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

from tests.fieldtypes.models import Everything


def make(database, char, **values):
    """Store a row called `char`; what a field must hold and is not given is nothing."""
    values = {
        "text": "",
        "boolean": False,
        "integer": 0,
        "floating": 0,
        "decimal": 0,
        "date": date(2026, 1, 1),
        "time": time(0),
        "datetime": datetime(2026, 1, 1, tzinfo=UTC),
        "duration": timedelta(0),
        "uuid": UUID(int=0),
        "binary": b"",
        "json": {},
        **values,
    }
    return Everything.objects.using(database).create(char=char, **values)
