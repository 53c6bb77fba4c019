"""pyarrow, imported when it is needed, and what the values of columns are to it."""

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from typing import Any
from uuid import UUID

from upstream.streaming._optional import optional
from upstream.streaming.encoders.text import unwrapped
from upstream.streaming.errors import ColumnError
from upstream.streaming.values import amount_of

# An array of a column of a batch; pyarrow has no types for mypy.
Array = Any

EXTRA = "parquet"
BINARY = (bytes, bytearray, memoryview)
# The kinds of values that decide the type of a column, the first that fits; any other value is text.
KINDS = (bool, int, float, Decimal, datetime, date, time, timedelta, UUID, *BINARY)


@cache
def arrow(module: str = "pyarrow") -> Any:
    return optional(module, EXTRA)


@cache
def pool() -> Any:
    """Return the memory pool for what a row group needs: the system's, since pyarrow's keeps what is released."""
    return arrow().system_memory_pool()


class MisfitError(Exception):
    """A value is of another kind than its column."""


def misfit(reason: str, header: str, kind: Any) -> ColumnError:
    return ColumnError(
        f"column {header!r} is of the type {kind}, and a value does not fit ({reason}): "
        f"declare another type with Parquet(types={{{header!r}: ...}})"
    )


def described(value: Any) -> str:
    return f"of the type {type(value).__name__}: {value!r:.60}"


def plain(value: Any) -> Any:
    """Return what a value holds: that of an Enum, a file, an array of NumPy's, or an amount of money."""
    if isinstance(value, BINARY):
        return value
    value = unwrapped(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    amount = amount_of(value)
    return value if amount is None else amount


def kind_of(value: Any) -> type:
    """Return which of KINDS a value is; str for any other, which is written as its text."""
    kind = next((kind for kind in KINDS if isinstance(value, kind)), str)
    return str if kind is time and value.tzinfo is not None else kind
