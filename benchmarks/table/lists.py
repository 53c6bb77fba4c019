"""Lists of records, as programs hold them: the first rows of a table, made before the clock starts."""

import gc
from collections.abc import Iterator
from typing import Any

from benchmarks.cases import LIST_ROWS
from benchmarks.table.models import selection


def tuples(table: str) -> tuple[list[tuple[Any, ...]], tuple[str, ...]]:
    """Return rows and the names of their columns."""
    columns = selection(table)[1]
    rows = list(_rows(table))
    gc.collect()  # what making them left behind is nobody's figure
    return rows, columns


def dicts(table: str) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Return records and the names of their columns."""
    columns = selection(table)[1]
    records = [dict(zip(columns, row, strict=True)) for row in _rows(table)]
    gc.collect()
    return records, columns


def _rows(table: str) -> Iterator[tuple[Any, ...]]:
    """Yield flights as JSON has them, with a text for the moment, and Python's values of the other tables."""
    queryset, columns = selection(table)
    rows = queryset.order_by("pk").values_list(*columns)[:LIST_ROWS].iterator(chunk_size=2000)
    if table != "flights":
        return rows
    at = columns.index("scheduled_at")
    return ((*row[:at], row[at].isoformat(), *row[at + 1 :]) for row in rows)
