"""Keyset windows: short statements read a query, each the next rows after the last key.

No cursor and no transaction is open between two statements. The key is the query's ordering, then the primary key;
databases compare it with their own collations. The rows after a key (a, b, pk) are several ranges, read in turn:

    a = 1 AND b = 2 AND pk > 3,  then  a = 1 AND b > 2,  then  a = 1 AND b IS NULL,  then  a > 1,  then  a IS NULL

An index on the ordering finds the first row of each range, however many rows share a value. With a single
condition that uses OR, every database scans from the start of the table, or of the rows that share a value.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connections
from django.db.models.expressions import OrderBy
from django.db.models.query import RawQuerySet

from upstream.streaming.batches import Row
from upstream.streaming.databases import database_of
from upstream.streaming.errors import SourceError
from upstream.streaming.sources.orm import (
    Condition,
    Ordering,
    column_of,
    has_unique_key,
    internal_type,
    is_plain_order,
    may_repeat_keys,
    ordered_by,
    ordering,
    query_features,
    repeating_joins,
    returns_sets,
    window_statement,
)

# SQL whose value changes from one statement to the next.
VOLATILE = re.compile(
    r"""\b(RAND|RANDOM|\w*UUID(V?[47])?|NOW|SYSDATE|CLOCK_TIMESTAMP|STATEMENT_TIMESTAMP|TRANSACTION_TIMESTAMP)\s*\(
    | (?<!["`])\bCURRENT_(TIMESTAMP|DATE|TIME)\b | 'NOW'""",
    re.IGNORECASE | re.VERBOSE,
)
WINDOW_FUNCTION = re.compile(r"\bOVER\s*\(", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Key:
    """An expression that rows are sorted by."""

    sql: str
    params: Row
    exact: str
    descending: bool
    nulls_first: bool
    nullable: bool = True
    is_added: bool = False
    """Whether it is added to the query's own ordering, to break ties."""

    @property
    def order(self) -> str:
        return f"{self.sql} {'DESC' if self.descending else 'ASC'}"

    def at(self, value: Any) -> Condition:
        """Return the condition for rows with this value."""
        return self._is_null if value is None else (f"({self.sql}) = %s", (*self.params, value))

    def after(self, value: Any) -> list[Condition]:
        """Return the conditions for rows after this value, in order."""
        if value is None:
            return [(f"({self.sql}) IS NOT NULL", self.params)] if self.nulls_first else []
        beyond = (f"({self.sql}) {'<' if self.descending else '>'} %s", (*self.params, value))
        return [beyond, self._is_null] if self.nullable and not self.nulls_first else [beyond]

    @property
    def _is_null(self) -> Condition:
        return f"({self.sql}) IS NULL", self.params


@dataclass(frozen=True)
class Keyset:
    """A queryset that can be read in windows, and the keys that it is ordered by, up to the complete primary key.

    There are no keys if the ORM knows that no row can match. Several rows `may_tie` in all keys unless constraints
    of the database exclude it.
    """

    queryset: Any
    keys: tuple[_Key, ...] = field(repr=False)
    may_tie: bool = False

    def open(self) -> "WindowCursor":
        """Return a cursor over its rows, which executes nothing before the first fetch."""
        return WindowCursor(self, connections[self.queryset.db])


def keyset_of(queryset: Any) -> Keyset:
    """Return the keyset of a queryset; raise SourceError if it cannot be read in windows."""
    if reason := why_not(queryset):
        raise SourceError(
            f"this queryset cannot be read in windows because {reason}: change it, or read it without windows"
        )
    with suppress(EmptyResultSet):
        connection = connections[queryset.db]
        order_by = ordering(queryset.query, connection)
        return Keyset(queryset, _keys(order_by, connection), may_tie=may_repeat_keys(order_by.query))
    return Keyset(queryset, ())


def why_not(queryset: Any) -> str | None:
    """Return why a queryset cannot be read in windows, as a clause for "because ..."; None if it can."""
    return next(_reasons(queryset), None)


def _reasons(queryset: Any) -> Iterator[str]:
    if isinstance(queryset, RawQuerySet):
        yield "a raw query cannot be rewritten"
    query, connection = queryset.query, connections[queryset.db]
    features = query_features(query)
    if features.combinator:
        yield f"{features.combinator}() combines several queries"
    if features.is_distinct:
        yield "distinct() merges rows"
    if features.is_grouped:
        yield "an aggregation groups its rows"
    if features.locks_rows:
        yield "select_for_update() would lose its locks after each window"
    if features.start and not has_unique_key(query.model):
        yield f"it skips rows of {query.model.__name__}, which is unmanaged: its key may not be unique"
    if features.has_extra_tables:
        yield "extra(tables=...) may repeat rows"
    with suppress(EmptyResultSet):
        yield from _reasons_in_sql(ordering(query, connection), connection)


def _reasons_in_sql(order_by: Ordering, connection: Any) -> Iterator[str]:
    for table in repeating_joins(order_by.query):
        yield f"it joins {table}, which may repeat its rows"
    if returns_sets(order_by.query):
        yield "an annotation may repeat its rows"
    expressions = list(chain.from_iterable(map(ordered_by, order_by.terms)))
    ordered = [order_by.sql(expression)[0] for expression in expressions]
    if order_by.filters_by_windows or any(map(WINDOW_FUNCTION.search, (*order_by.selected, *ordered))):
        yield "a window function needs all rows at once"
    if any(map(VOLATILE.search, ordered)):
        yield "its order would change from one statement to the next"
    for order in order_by.terms:
        if not is_plain_order(order):
            yield f"{type(order).__name__} is a custom ordering"
    unlike = {_kind(expression) for expression in expressions if not _sorts_as_it_compares(expression, connection)}
    if unlike:
        kinds = ", ".join(sorted(unlike))
        yield f"{connection.display_name} may sort {kinds} differently than it compares them"


def _sorts_as_it_compares(expression: Any, connection: Any) -> bool:
    kind = internal_type(expression)
    max_length = getattr(expression.output_field, "max_length", None) if kind else None
    return database_of(connection).sorts_as_it_compares(kind, max_length)


def _kind(expression: Any) -> str:
    kind = internal_type(expression)
    return "values of unknown type" if kind in ("", "Field") else f"{kind}s"


class WindowCursor:
    """The rows of a queryset in its order, or by primary key if it has none.

    They are tuples of the queryset's selection as the driver returns them, before Django's converters. Only the
    last key is kept between calls: a row that changes meanwhile shows its state when its window is read, and is
    returned twice only if its key has moved forward. Rows that tie in all keys are read by one statement.
    """

    def __init__(self, keyset: Keyset, connection: Any) -> None:
        self._query = keyset.queryset.query
        self._keys = keyset.keys
        self._may_tie = keyset.may_tie
        self._ready: list[Row] = []
        self._connection = connection
        features = query_features(self._query)
        self._offset = features.start
        self._left = None if features.end is None else features.end - features.start
        self._last: Row | None = None
        self._ended = not keyset.keys

    def fetchmany(self, rows: int) -> list[Row]:
        """Return the next rows, at most `rows`; an empty list at the end."""
        wanted = rows if self._left is None else min(rows, self._left)
        if not (self._ready or self._ended) and wanted:
            self._ready = self._next_window(wanted)
        taken, self._ready = self._ready[:wanted], self._ready[wanted:]
        if self._left is not None:
            self._left -= len(taken)
        return taken

    def _next_window(self, wanted: int) -> list[Row]:
        window: list[Row] = []
        for conditions in self._ranges():
            window += self._select(conditions, wanted - len(window))
            if len(window) == wanted:
                break
        else:
            self._ended = True
        width = len(self._keys)
        if window:
            self._last = last = window[-1][-width:]
            if self._may_tie and not self._ended:
                ties = [key.at(value) for key, value in zip(self._keys, last, strict=True)]
                window = [row for row in window if row[-width:] != last] + self._select(ties, None)
        return [row[:-width] for row in window]

    def close(self) -> None:
        """End the cursor, which holds nothing open."""
        self._ended = True
        self._ready = []

    def _ranges(self) -> Iterator[list[Condition]]:
        """Yield the conditions for each range of rows after the last key, in order."""
        if self._last is None:
            yield []
            return
        same = [key.at(value) for key, value in zip(self._keys, self._last, strict=True)]
        for depth in reversed(range(len(self._keys))):
            for after in self._keys[depth].after(self._last[depth]):
                yield [*same[:depth], after]

    def _select(self, conditions: list[Condition], rows: int | None) -> list[Row]:
        offset = self._offset if self._last is None else 0
        limits = (offset, None if rows is None else offset + rows)
        statement = window_statement(self._query, self._connection, self._keys, conditions, limits)
        if statement is None:
            return []
        with self._connection.cursor() as cursor:
            cursor.execute(*statement)
            return list(cursor.fetchall())


def _keys(order_by: Ordering, connection: Any) -> tuple[_Key, ...]:
    """Return the keys of an ordering up to the complete primary key; its missing columns are added at the end.

    They take the direction of the last term, so that one index serves both, read backwards if it is descending.
    """
    missing = order_by.key_columns()
    keys: list[_Key] = []
    for order in order_by.terms:
        for expression in ordered_by(order):
            if missing:
                is_of_key = missing.pop(column_of(expression), None) is not None
                keys.append(_key(order_by, connection, order, expression, nullable=not is_of_key))
    descending = bool(keys) and keys[-1].descending
    added = (
        _key(order_by, connection, OrderBy(column, descending), column, nullable=False, is_added=True)
        for column in missing.values()
    )
    return (*keys, *added)


def _key(order_by: Ordering, connection: Any, order: Any, expression: Any, **flags: bool) -> _Key:
    sql, params = order_by.sql(expression)
    by_default = connection.features.order_by_nulls_first
    return _Key(
        sql=sql,
        params=params,
        exact=database_of(connection).exact(sql, internal_type(expression)),
        descending=order.descending,
        nulls_first=bool(order.nulls_first) or (not order.nulls_last and order.descending != by_default),
        **flags,
    )
