"""Custom fields whose Python values are not what the database holds."""

from decimal import Decimal
from enum import Enum

from django.db import models


class Colour(Enum):
    RED = "r"
    GREEN = "g"
    TRICKY = 'a "tricky", one'


class ColourField(models.CharField):
    """Holds the value of a member, gives the member."""

    def from_db_value(self, value, expression, connection):
        return None if value is None else Colour(value)

    def get_prep_value(self, value):
        return value.value if isinstance(value, Colour) else value


class ReversedField(models.TextField):
    """Holds text backwards."""

    def from_db_value(self, value, expression, connection):
        return None if value is None else value[::-1]

    def get_prep_value(self, value):
        return None if value is None else value[::-1]


class CentsField(models.BigIntegerField):
    """Looks like an integer to whoever asks for its internal type, and gives a Decimal."""

    def from_db_value(self, value, expression, connection):
        return None if value is None else Decimal(value).scaleb(-2)

    def get_prep_value(self, value):
        return None if value is None else int(Decimal(value).scaleb(2))


class OffsetField(models.IntegerField):
    """Asks the database for another value than the one that is stored."""

    def select_format(self, compiler, sql, params):
        return f"({sql} + 1000)", params


class SealedField(models.JSONField):
    """A JSONField whose value is not the document that the database holds."""

    def from_db_value(self, value, expression, connection):
        return {"sealed": super().from_db_value(value, expression, connection)}
