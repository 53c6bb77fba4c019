"""Cut the rows of a queryset into ranges of a key, each with about as many rows as the others.

Every bound is the key of a row, and the database itself sorts them: no collation and no order of UUIDs is known
here. The first and the last range are open, so that no row is outside of them.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import connections
from django.db.models import QuerySet, Window
from django.db.models.functions import RowNumber

from upstream.dumps.values import from_json, to_json
from upstream.streaming.databases import database_of

# Gaps between keys take up most of these, and leave the others to the rows.
PROBES_PER_PART = 8
MOST_PROBES = 30_000  # what they find goes into one statement, where SQLite allows 32,766 values
# A probe took 0.16 to 0.37 ms on SQLite, MariaDB and PostgreSQL, and a walk over 100 keys 0.1 to 0.2 ms.
ROWS_PER_PROBE = 100
Range = tuple[Any, Any]


def ranges(rows: QuerySet[Any], key: str, parts: int) -> list[Range]:
    """Return at most `parts` ranges of `key`, ascending: from the first value up to, without, the second.

    Without filters, a database's fresh statistics need no look at the rows. Integers and UUIDs are probed
    between the smallest and the largest, which takes an index look-up per probe. Others are counted in order, as
    are those of so few rows that it takes less.
    """
    rows = rows.order_by(key)
    lowest = rows.values_list(key, flat=True).first()
    if parts < 2 or lowest is None:
        return [(None, None)]
    for find in (_from_statistics, _from_probes, _from_counts):
        found = _sorted(rows, key, find(rows, key, parts))
        bounds = _evenly([value for value in found if value != lowest], parts - 1)
        if len(bounds) == parts - 1:
            break
    return list(pairwise([None, *bounds, None]))


def _sorted(rows: QuerySet[Any], key: str, candidates: Iterable[Any]) -> list[Any]:
    """Return which of the candidates are keys of rows, as the database sorts them.

    They pass through the JSON of a plan first, by which a local time that never was becomes another.
    """
    values = [from_json(to_json(value)) for value in candidates]
    if not values:
        return []
    return list(rows.filter(**{f"{key}__in": values}).values_list(key, flat=True).distinct())


def _evenly(values: Sequence[Any], wanted: int) -> list[Any]:
    if len(values) <= wanted:
        return list(values)
    step = (len(values) + 1) / (wanted + 1)
    return [values[round(step * number) - 1] for number in range(1, wanted + 1)]


def _field(rows: QuerySet[Any], key: str) -> Any:
    """Return the field whose values a key holds, that of the row it refers to for a foreign key."""
    field: Any = rows.model._meta.get_field(key)
    while field.remote_field:
        field = field.target_field
    return field


def _from_statistics(rows: QuerySet[Any], key: str, _parts: int) -> list[Any]:
    if rows.query.where:
        return []  # they are those of all rows
    connection = connections[rows.db]
    own: Any = rows.model._meta.get_field(key)
    texts = database_of(connection).quantiles(connection, own.model._meta.db_table, own.column)
    try:
        return list(map(_field(rows, key).to_python, texts))
    except ValidationError:
        return []


def _from_probes(rows: QuerySet[Any], key: str, parts: int) -> list[Any]:
    """Return the keys next to equal steps from the smallest to the largest."""
    keys = rows.values_list(key, flat=True)
    ends: list[Any] = [keys.first(), keys.last()]
    make: Callable[[int], Any] = int
    if all(isinstance(end, UUID) for end in ends):
        ends, make = [end.int for end in ends], _uuid
    elif not all(type(end) is int for end in ends):
        return []
    steps = min(PROBES_PER_PART * parts, MOST_PROBES)
    most = steps * ROWS_PER_PROBE
    if not rows[most : most + 1].exists():
        return []
    low, high = sorted(ends)
    probes = {make(low + (high - low) * step // steps) for step in range(1, steps)}
    found = (keys.filter(**{f"{key}__gte": probe}).first() for probe in probes)
    return [value for value in found if value is not None]


def _uuid(number: int) -> UUID:
    return UUID(int=number, version=4)  # MariaDB takes no others than those of RFC 9562


def _from_counts(rows: QuerySet[Any], key: str, parts: int) -> list[Any]:
    """Return the keys at equal numbers of rows, by one walk over all of them."""
    count = rows.count()
    places = {1 + count * number // parts for number in range(1, parts)}
    numbered = rows.annotate(upstream_number=Window(RowNumber(), order_by=key))
    return list(numbered.filter(upstream_number__in=places).values_list(key, flat=True))
