"""Keyset windows: a query read by short statements, each for the next rows after the last key.

No cursor and no transaction is open between two of them. The key is the query's own ordering with the primary key
behind it; databases compare it, by their own collations. What follows a key (a, b, pk) is a few ranges in turn:

    a = 1 AND b = 2 AND pk > 3,  then  a = 1 AND b > 2,  then  a = 1 AND b IS NULL,  then  a > 1,  then  a IS NULL

An index on the ordering serves each of them from its first row on, however many rows share a value. No database
makes as much of one condition with OR: it reads from the start of the table, or of the rows that share a value.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

from django.core.exceptions import EmptyResultSet, FieldError
from django.db import connections
from django.db.models import OneToOneRel
from django.db.models.expressions import ColPairs, OrderBy, Ref
from django.db.models.fields.related import ForeignObject
from django.db.models.query import RawQuerySet
from django.db.models.sql.where import AND, ExtraWhere

from upstream.streaming.errors import SourceError

Row = tuple[Any, ...]
Condition = tuple[str, Row]

# How a value is selected so that it can be bound again without loss.
EXACT = {
    # Text: a literal takes the type of what it is compared with, be it jsonb, an infinite date or a REAL.
    "postgresql": "({})::text",
    # As it is stored: an expression has no declared type, by which the driver would convert it.
    "sqlite": "+({})",
    "mysql": "{}",
}
# The driver reads a zero date as NULL, and only six digits of a single-precision number.
EXACT_ON_MYSQL = {
    **dict.fromkeys(("DateField", "DateTimeField", "TimeField"), "CAST({} AS CHAR)"),
    "FloatField": "({}) + 0e0",
}
LONG = 256  # characters of four bytes: https://mariadb.com/kb/en/server-system-variables/#max_sort_length
CHANGING = re.compile(
    r"""\b(RAND|RANDOM|\w*UUID(V?[47])?|NOW|SYSDATE|CLOCK_TIMESTAMP|STATEMENT_TIMESTAMP|TRANSACTION_TIMESTAMP)\s*\(
    | (?<!["`])\bCURRENT_(TIMESTAMP|DATE|TIME)\b | 'NOW'""",
    re.IGNORECASE | re.VERBOSE,
)
WINDOW_FUNCTION = re.compile(r"\bOVER\s*\(", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Key:
    """An expression that the rows are sorted by."""

    sql: str
    params: Row
    exact: str
    descending: bool
    nulls_first: bool
    nullable: bool = True
    is_added: bool = False
    """To the query's own ordering, to break its ties."""

    @property
    def order(self) -> str:
        return f"{self.sql} {'DESC' if self.descending else 'ASC'}"

    def at(self, value: Any) -> Condition:
        """Return the condition of rows that share this value."""
        return self._is_null if value is None else (f"({self.sql}) = %s", (*self.params, value))

    def after(self, value: Any) -> list[Condition]:
        """Return the conditions of rows that come after this value, in order."""
        if value is None:
            return [(f"({self.sql}) IS NOT NULL", self.params)] if self.nulls_first else []
        beyond = (f"({self.sql}) {'<' if self.descending else '>'} %s", (*self.params, value))
        return [beyond, self._is_null] if self.nullable and not self.nulls_first else [beyond]

    @property
    def _is_null(self) -> Condition:
        return f"({self.sql}) IS NULL", self.params


def why_not(queryset: Any) -> str | None:
    """Return why a queryset cannot be read in windows, to follow the word because; None where it can."""
    return next(_reasons(queryset), None)


def check_windows(queryset: Any) -> None:
    """Raise SourceError for a queryset that cannot be read in windows."""
    if reason := why_not(queryset):
        raise SourceError(
            f"this queryset cannot be read in windows, because {reason}: change that, or read it on a cursor"
        )


def _reasons(queryset: Any) -> Iterator[str]:
    if isinstance(queryset, RawQuerySet):
        yield "a raw query is run as it is written"
    query, connection = queryset.query, connections[queryset.db]
    if connection.vendor not in EXACT:
        yield f"windows are made for PostgreSQL, SQLite, MySQL and MariaDB, not for {connection.vendor}"
    if query.combinator:
        yield f"{query.combinator}() combines several queries"
    if query.distinct:
        yield "distinct() merges rows"
    if query.group_by is not None:
        yield "its rows are groups, made by aggregation"
    if query.select_for_update:
        yield "select_for_update() would lose its locks with each window"
    if query.extra_tables:
        yield "extra(tables=...) may repeat rows"
    with suppress(EmptyResultSet):
        yield from _reasons_in_sql(*_compiled(query, connection))


def _reasons_in_sql(compiler: Any, order_by: list[Any]) -> Iterator[str]:
    query, connection = compiler.query, compiler.connection
    for alias, table in query.alias_map.items():
        if query.alias_refcount[alias] and table.parent_alias and not _is_to_one(table.join_field):
            yield f"it joins {table.table_name}, which may repeat its rows"
    nodes = chain.from_iterable(annotation.flatten() for annotation in query.annotations.values())
    if any(getattr(node, "set_returning", False) for node in nodes):
        yield "an annotation may repeat its rows"
    selected = (sql for _, (sql, _), _ in compiler.select)
    expressions = list(chain.from_iterable(_expressions(order) for order, _ in order_by))
    ordered = [compiler.compile(expression)[0] for expression in expressions]
    if compiler.qualify or any(map(WINDOW_FUNCTION.search, (*selected, *ordered))):
        yield "a window function needs all rows at once"
    if any(map(CHANGING.search, ordered)):
        yield "its order would change from one statement to the next"
    for order, _ in order_by:
        if type(order) is not OrderBy:
            yield f"{type(order).__name__} is an ordering of its own kind"
    if connection.vendor == "mysql" and not all(map(_is_sorted_as_compared, expressions)):
        yield "MySQL and MariaDB sort JSON, long texts and what has no declared type not as they compare it"


def _is_to_one(join: Any) -> bool:
    forwards = isinstance(join, ForeignObject) and (join.many_to_one or join.one_to_one)
    return bool(forwards) or isinstance(join, OneToOneRel)


def _is_sorted_as_compared(expression: Any) -> bool:
    """Return whether MySQL sorts this by more than its beginning: a value's first 1,024 bytes are all it takes."""
    kind = _kind(expression)
    if kind == "CharField":
        return (expression.output_field.max_length or LONG) < LONG
    return kind not in ("", "Field", "TextField", "BinaryField", "JSONField")


class WindowedRows:
    """The rows of a queryset in its order, or by primary key where it has none.

    They are tuples of what the queryset selects, as the driver gives them, before Django's converters. Only the
    last key is held between calls: rows that change meanwhile are seen as they are when their window is read, and
    none is given twice unless its key was moved on.
    """

    def __init__(self, queryset: Any, connection: Any) -> None:
        check_windows(queryset)
        self._query = queryset.query
        self._connection = connection
        self._offset = self._query.low_mark
        high = self._query.high_mark
        self._left = None if high is None else high - self._offset
        self._last: Row | None = None
        self._ended = False
        with suppress(EmptyResultSet):  # as fetchmany() will find
            self._keys = _keys(*_compiled(self._query, connection))

    def fetchmany(self, rows: int) -> list[Row]:
        """Return the next rows, at most so many; none at the end."""
        wanted = rows if self._left is None else min(rows, self._left)
        if self._ended or not wanted:
            return []
        window: list[Row] = []
        for conditions in self._ranges():
            window += self._select(conditions, wanted - len(window))
            if len(window) == wanted:
                break
        else:
            self._ended = True
        if window:
            self._last = window[-1][-len(self._keys) :]
        if self._left is not None:
            self._left -= len(window)
        return [row[: -len(self._keys)] for row in window]

    def close(self) -> None:
        """End it; there is nothing open to close."""
        self._ended = True

    def _ranges(self) -> Iterator[list[Condition]]:
        """Yield the conditions of each range of rows after the last key, in order."""
        if self._last is None:
            yield []
            return
        same = [key.at(value) for key, value in zip(self._keys, self._last, strict=True)]
        for depth in reversed(range(len(self._keys))):
            for after in self._keys[depth].after(self._last[depth]):
                yield [*same[:depth], after]

    def _select(self, conditions: list[Condition], rows: int) -> list[Row]:
        query = self._query.clone()
        for sql, params in conditions:
            query.where.add(ExtraWhere([sql], params), AND)
        offset = self._offset if self._last is None else 0
        query.clear_limits()
        query.set_limits(offset, offset + rows)
        compiler = query.get_compiler(connection=self._connection)
        kind: Any = type(compiler)
        compiler.__class__ = _window_compiler(kind)
        compiler.window_keys = self._keys
        try:
            sql, params = compiler.as_sql()
        except EmptyResultSet:  # the ORM knows that nothing can match
            return []
        with self._connection.cursor() as cursor:
            cursor.execute(sql, params)
            return list(cursor.fetchall())


def _compiled(query: Any, connection: Any) -> tuple[Any, list[Any]]:
    """Return a compiler of the query made ready, and the terms it orders by."""
    compiler = query.clone().get_compiler(connection=connection)
    _, order_by, _ = compiler.pre_sql_setup()
    return compiler, order_by


def _keys(compiler: Any, order_by: list[Any]) -> tuple[_Key, ...]:
    """Return the terms of the ordering up to the whole primary key, whose missing parts are added behind them.

    They take the direction of the last term: one index then serves both, read backwards where that is descending.
    """
    table = compiler.query.get_initial_alias()
    missing = {(table, field): field.get_col(table) for field in compiler.query.model._meta.pk_fields}
    keys: list[_Key] = []
    for order, _ in order_by:
        for expression in _expressions(order):
            column = getattr(expression, "alias", None), getattr(expression, "target", None)
            if missing:
                keys.append(_key(compiler, order, expression, nullable=missing.pop(column, None) is None))
    descending = bool(keys) and keys[-1].descending
    added = (
        _key(compiler, OrderBy(column, descending), column, nullable=False, is_added=True)
        for column in missing.values()
    )
    return (*keys, *added)


def _expressions(order: Any) -> list[Any]:
    """Return what an ORDER BY term sorts by: several columns where that is a composite key."""
    expression = order.expression
    if isinstance(expression, Ref):  # to a selected column, by its name or position
        expression = expression.get_source_expressions()[0]
    return list(expression.get_cols()) if isinstance(expression, ColPairs) else [expression]


def _key(compiler: Any, order: Any, expression: Any, **flags: bool) -> _Key:
    sql, params = compiler.compile(expression)
    vendor, by_default = compiler.connection.vendor, compiler.connection.features.order_by_nulls_first
    exact = EXACT_ON_MYSQL.get(_kind(expression)) if vendor == "mysql" else None
    return _Key(
        sql=sql,
        params=tuple(params),
        exact=(exact or EXACT[vendor]).format(sql),
        descending=order.descending,
        nulls_first=bool(order.nulls_first) or (not order.nulls_last and order.descending != by_default),
        **flags,
    )


def _kind(expression: Any) -> str:
    """Return the class name of the Django field that the expression gives, or nothing."""
    try:
        return str(expression.output_field.get_internal_type())
    except (AttributeError, FieldError):
        return ""


@cache
def _window_compiler(compiler: Any) -> Any:
    return type(compiler.__name__, (_WindowCompiler, compiler), {})


class _WindowCompiler:
    """Selects the keys behind all other columns, and sorts by the primary key last."""

    window_keys: tuple[_Key, ...]

    def pre_sql_setup(self, with_col_aliases: bool = False) -> Any:
        select, order_by, group_by = super().pre_sql_setup(with_col_aliases)  # type: ignore[misc]
        keys = self.window_keys
        select += [(None, (key.exact, key.params), f"upstream_key_{n}") for n, key in enumerate(keys)]
        order_by += [(None, (key.order, key.params, False)) for key in keys if key.is_added]
        return select, order_by, group_by
