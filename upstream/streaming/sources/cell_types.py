"""The types of a model field's values, for formats whose columns are typed."""

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import ForeignKey, GeneratedField

from upstream.streaming.columns import CellType

# By internal type; JSONField is left out, since JSON is text.
KINDS: Mapping[str, type] = {
    **dict.fromkeys(("AutoField", "BigAutoField", "SmallAutoField"), int),
    **dict.fromkeys(("IntegerField", "BigIntegerField", "SmallIntegerField"), int),
    **dict.fromkeys(("PositiveIntegerField", "PositiveBigIntegerField", "PositiveSmallIntegerField"), int),
    **dict.fromkeys(("CharField", "TextField", "SlugField", "FileField", "FilePathField"), str),
    **dict.fromkeys(("GenericIPAddressField", "IPAddressField"), str),
    "BooleanField": bool,
    "FloatField": float,
    "DecimalField": Decimal,
    "DateField": date,
    "DateTimeField": datetime,
    "TimeField": time,
    "DurationField": timedelta,
    "UUIDField": UUID,
    "BinaryField": bytes,
    "ArrayField": list,
}
# What decides about a field's values besides its internal type.
CONVERTERS = ("from_db_value", "get_db_converters")


def cell_type(field: Any, *, is_column: bool = True) -> CellType | None:
    """Return the type of the values of `field`; None if only the values can tell.

    `is_column` says that they come from its table column. A Decimal of an expression may have other digits than
    its output field has.
    """
    if isinstance(field, ForeignKey):
        return cell_type(field.target_field, is_column=is_column)
    if isinstance(field, GeneratedField):
        return cell_type(field.output_field, is_column=is_column)
    kind = None if field is None or _converts_itself(field) else KINDS.get(field.get_internal_type())
    if kind is Decimal:
        if not is_column or field.max_digits is None or field.decimal_places is None:
            return None
        return CellType(Decimal, digits=field.max_digits, places=field.decimal_places)
    if kind is list:
        items = cell_type(field.base_field, is_column=is_column)
        return CellType(list, items=items) if items else None
    return CellType(kind, is_aware=kind is datetime and settings.USE_TZ) if kind else None


def _converts_itself(field: Any) -> bool:
    """Return whether a class of others than Django makes the values."""
    methods = (getattr(type(field), name, None) for name in CONVERTERS)
    return any(method and not method.__module__.startswith("django.") for method in methods)
