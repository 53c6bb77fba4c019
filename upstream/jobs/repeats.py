"""Whether a request that is run again makes the same export: a worker has no session and no middleware."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db.models import Prefetch, QuerySet
from django.utils.dateparse import parse_datetime

from upstream.integrations.background import Export
from upstream.jobs.requests import NotRepeatableError, repeated
from upstream.streaming import plan

# Queries for the last days have the moment of now among their parameters.
SAME_MOMENT = timedelta(minutes=1)


def check_repeatable(export: Export, data: Mapping[str, Any], user: Any) -> None:
    """Run the request of an export again, and raise NotRepeatableError if it makes another export, or fails.

    No row is read. Compared are the rows by their SQL, or a list by what it holds, the headers and the encoder.
    """
    try:
        with repeated(data, user) as again:
            is_same = _is_same(export, again)
    except Exception as error:
        raise NotRepeatableError("the request cannot be run again: its view needs more than its user") from error
    if not is_same:
        raise NotRepeatableError("the request makes another export when it is run again")


def _is_same(export: Export, again: Export) -> bool:
    return (
        _is_same_source(export.source, again.source)
        and _headers(export) == _headers(again)
        and _is_same_encoder(export.encoder, again.encoder)
    )


def _is_same_source(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if not isinstance(one, QuerySet):  # others say by `is_repeatable` what cannot be seen without reading them
        return not isinstance(one, list | tuple) or one == other
    if _kind(one) != _kind(other):
        return False
    (sql, parameters), (other_sql, other_parameters) = _compiled(one), _compiled(other)
    return sql == other_sql and _are_same(parameters, other_parameters) and _prefetches(one) == _prefetches(other)


def _kind(rows: Any) -> list[Any]:
    return [rows.model, rows.db, rows._iterable_class, rows._fields]  # noqa: SLF001


def _compiled(rows: Any) -> tuple[str, Sequence[Any]]:
    """Return the SQL of a queryset with its parameters; that of one known to be empty is the empty text."""
    try:
        sql, parameters = rows.query.clone().get_compiler(rows.db).as_sql()
    except EmptyResultSet:
        return "", ()
    return sql, parameters


def _prefetches(rows: Any) -> list[str]:
    return [
        f"{lookup.prefetch_to} {'' if lookup.queryset is None else _compiled(lookup.queryset)}"
        if isinstance(lookup, Prefetch)
        else lookup
        for lookup in rows._prefetch_related_lookups  # noqa: SLF001
    ]


def _are_same(parameters: Sequence[Any], others: Sequence[Any]) -> bool:
    return len(parameters) == len(others) and all(map(_is_same_value, parameters, others))


def _is_same_value(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if str(one) == str(other):
        return True
    try:
        moment, second = parse_datetime(str(one)), parse_datetime(str(other))
        return moment is not None and second is not None and abs(second - moment) < SAME_MOMENT
    except (ValueError, TypeError):
        return False


def _headers(export: Export) -> list[str]:
    return [*map(str, plan(export.source, export.columns, export.encoder).headers or ())]


def _is_same_encoder(one: Any, other: Any) -> bool:
    """Whether two encoders are alike; those of others need not be comparable."""
    is_alike = type(one) is type(other) and hasattr(one, "__dict__")
    return one == other or (is_alike and vars(one) == vars(other))
