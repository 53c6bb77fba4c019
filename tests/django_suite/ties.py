"""Which rows tie in the order of a queryset: the database may give them in any order among themselves."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from django.db.models import QuerySet

from tests.django_suite.given import own


def group_sizes(queryset: Any, rows: int) -> list[int]:
    """Return the sizes of the groups of rows that tie, in order; each row is one where Django cannot tell.

    Django tells by two further orders: the keys break the ties upwards in one and downwards in the other. A group
    ends where both have given the same keys so far.
    """
    if not isinstance(queryset, QuerySet) or not queryset.ordered:
        return [rows]
    if not _takes_keys(queryset):
        return [1] * rows
    upwards, downwards = (_keys(queryset, key) for key in ("pk", "-pk"))
    sizes = list(_shared_sizes(upwards, downwards))
    return sizes if sum(sizes) == rows else [1] * rows


def _takes_keys(queryset: Any) -> bool:
    query = queryset.query
    merges = query.combinator or query.distinct or query.group_by is not None
    return not (merges or query.is_sliced)


def _keys(queryset: Any, key: str) -> list[Any]:
    query, clone = queryset.query, own(queryset)
    if query.extra_order_by:
        clone = clone.extra(order_by=[*query.extra_order_by, key])
    else:
        clone = clone.order_by(*(query.order_by or queryset.model._meta.ordering), key)
    return list(clone.values_list("pk", flat=True))


def _shared_sizes(some: Sequence[Any], others: Sequence[Any]) -> Iterator[int]:
    """Yield how many items further each place is where both sequences have had the same items."""
    ahead: Counter[Any] = Counter()
    size = 0
    for one, other in zip(some, others, strict=False):
        ahead[one] += 1
        ahead[other] -= 1
        size += 1
        if not any(ahead.values()):
            yield size
            size = 0
            ahead.clear()
