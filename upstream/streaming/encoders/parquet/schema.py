"""The type of a column: of its field, as the caller declares it, or of its first values."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from upstream.streaming.columns import CellType, OutputColumn
from upstream.streaming.encoders.parquet.arrow import BINARY, arrow, kind_of, plain
from upstream.streaming.encoders.text import write_column
from upstream.streaming.errors import ColumnError

MOST_DIGITS = 76  # of the widest Decimal in Arrow
USUAL_DIGITS = 38  # of one that all readers know


def decided_type(column: OutputColumn, values: Sequence[Any]) -> Any:
    """Return the type that holds the first values of a column whose type is not known."""
    present = [value for value in write_column(_plain_values, values, column, 1) if value is not None]
    kinds = {*map(kind_of, present)} - ({int} if {float, Decimal}.intersection(map(kind_of, present)) else set())
    if not kinds:
        return arrow().null()
    zones = {value.tzinfo is not None for value in present if isinstance(value, datetime)}
    if len(kinds) > 1 or len(zones) > 1:
        what = (
            "with and without a time zone" if len(zones) > 1 else ", ".join(sorted(one.__name__ for one in kinds))
        )
        raise ColumnError(
            f"column {column.header!r} has values of several types ({what}): convert them with "
            f"Column(..., value=...), or declare their type with Parquet(types={{{column.header!r}: ...}})"
        )
    [kind] = kinds
    if kind is Decimal:
        return _decimal_type(map(Decimal, present))
    return type_of(CellType(bytes if kind in BINARY else kind, is_aware=zones == {True}))


def _plain_values(values: Sequence[Any], texts_of: type | None) -> list[Any]:
    if texts_of is None:
        return list(map(plain, values))
    return [text and texts_of(text) for text in values]


def _decimal_type(values: Iterable[Decimal]) -> Any:
    """Return the type that holds all `values`, with as many digits before the point as there can be."""
    places = digits = 0
    for value in filter(Decimal.is_finite, values):
        places = max(places, -int(value.as_tuple().exponent))
        digits = max(digits, value.adjusted() + 1)
    most = USUAL_DIGITS if digits + places <= USUAL_DIGITS else MOST_DIGITS
    return type_of(CellType(Decimal, digits=most, places=min(places, most)))


def declared_type(header: str, given: Any) -> Any:
    try:
        return arrow().field(header, given).type
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Parquet(types=...) must give {header!r} a type of pyarrow or its alias, not {given!r}"
        ) from error


def type_of(cell: CellType) -> Any:
    """Return the type for values of a model field."""
    pa = arrow()
    if cell.kind is Decimal:
        if cell.digits > MOST_DIGITS:
            return pa.string()
        make = pa.decimal128 if cell.digits <= USUAL_DIGITS else pa.decimal256
        return make(cell.digits, cell.places)
    if cell.kind is datetime:
        return pa.timestamp("us", "UTC" if cell.is_aware else None)
    if cell.items:
        return pa.list_(type_of(cell.items))
    return {
        str: pa.string(),
        bool: pa.bool_(),
        int: pa.int64(),  # also on SQLite, and for sums, whatever the size of the field
        float: pa.float64(),
        date: pa.date32(),
        time: pa.time64("us"),
        timedelta: pa.duration("us"),
        UUID: pa.uuid(),
        bytes: pa.binary(),
    }[cell.kind]
