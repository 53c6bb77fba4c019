"""Pages of long lists, found by the key where they begin: no page counts rows or skips them."""

import datetime as dt
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.http import Http404, QueryDict
from django.utils.timezone import is_naive, make_aware

PAGE_ROWS = 25


@dataclass(frozen=True)
class KeysetPage:
    """The rows of a page, the newest first, and the keys of those around it; "" where there are none."""

    rows: list[Any]
    newer: str = ""
    older: str = ""

    @property
    def count(self) -> int | None:
        """How many rows there are, if these are all."""
        return None if self.newer or self.older else len(self.rows)


def keyset_page(queryset: QuerySet[Any], field: str, parameters: QueryDict) -> KeysetPage:
    """Return a page in descending order of `field`: as `before=` or `after=` of a request ask, or the newest.

    A field that an index orders makes each page as fast as the first. Prefetch what is related: with a join
    MariaDB may begin with the other table, and sort all rows.
    """
    after, before = parameters.get("after", ""), parameters.get("before", "")
    if after:
        rows = _read(queryset.filter(_beyond(queryset, field, after, "gt")).order_by(field, "pk"))
        if page := rows[:PAGE_ROWS][::-1]:
            return KeysetPage(page, _key(page[0], field) if len(rows) > PAGE_ROWS else "", _key(page[-1], field))
    elif before:
        rows = _read(queryset.filter(_beyond(queryset, field, before, "lt")).order_by(f"-{field}", "-pk"))
        if page := rows[:PAGE_ROWS]:
            return KeysetPage(page, _key(page[0], field), _key(page[-1], field) if len(rows) > PAGE_ROWS else "")
    return _first(queryset, field)


def _first(queryset: QuerySet[Any], field: str) -> KeysetPage:
    rows = _read(queryset.order_by(f"-{field}", "-pk"))
    page = rows[:PAGE_ROWS]
    return KeysetPage(page, older=_key(page[-1], field) if len(rows) > PAGE_ROWS else "")


def _read(queryset: QuerySet[Any]) -> list[Any]:
    return list(queryset[: PAGE_ROWS + 1])


def _key(row: Any, field: str) -> str:
    return f"{getattr(row, field).isoformat()}_{row.pk}"


def _beyond(queryset: QuerySet[Any], field: str, key: str, lookup: str) -> Q:
    """Return the condition for rows beyond a key; its first part is one that an index takes."""
    text, _, number = key.rpartition("_")
    try:
        value = _in_utc(queryset.model._meta.get_field(field).to_python(text))
        pk = int(number)
    except (ValidationError, ValueError, OverflowError) as error:
        raise Http404("there is no such page") from error
    return Q((f"{field}__{lookup}e", value)) & (Q((f"{field}__{lookup}", value)) | Q((f"pk__{lookup}", pk)))


def _in_utc(value: Any) -> Any:
    """Return a moment in UTC, as databases get it; OverflowError if it is out of their range there."""
    if not isinstance(value, dt.datetime):
        return value
    return (make_aware(value) if is_naive(value) else value).astimezone(dt.UTC)
