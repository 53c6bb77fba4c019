"""All that depends on the inside of Django's ORM, pinned by `tests/test_orm.py`.

Django calls most of what stands here private. A new version may change it, and the tests then say what.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from inspect import getattr_static
from itertools import chain
from typing import Any, NamedTuple, Protocol

from django.core.exceptions import EmptyResultSet, FieldError
from django.db import connections, models
from django.db.models import CompositePrimaryKey, OneToOneRel
from django.db.models.expressions import BaseExpression, Col, ColPairs, OrderBy, Ref
from django.db.models.fields.json import KeyTransform
from django.db.models.fields.related import ForeignObject
from django.db.models.query import (
    FlatValuesListIterable,
    ModelIterable,
    NamedValuesListIterable,
    RawQuerySet,
    ValuesIterable,
    ValuesListIterable,
)
from django.db.models.sql import RawQuery
from django.db.models.sql.constants import GET_ITERATOR_CHUNK_SIZE, MULTI
from django.db.models.sql.where import AND, ExtraWhere

from upstream.streaming.databases.protocol import Cursor

Condition = tuple[str, tuple[Any, ...]]

VALUES = (ValuesIterable, ValuesListIterable, NamedValuesListIterable, FlatValuesListIterable)


# Querysets: what they are, and copies that differ in one thing.


def gives_instances(queryset: Any) -> bool:
    """Whether it gives model instances, made by Django's own iterable."""
    return queryset._iterable_class is ModelIterable


def gives_values(queryset: Any) -> bool:
    """Whether it is one of values() or values_list()."""
    return issubclass(queryset._iterable_class, VALUES)


def gives_dicts(queryset: Any) -> bool:
    """Whether it is one of values()."""
    return issubclass(queryset._iterable_class, ValuesIterable)


def gives_single_values(queryset: Any) -> bool:
    """Whether it is one of values_list(flat=True)."""
    return issubclass(queryset._iterable_class, FlatValuesListIterable)


def prefetches(queryset: Any) -> tuple[Any, ...]:
    """Return what prefetch_related() was told."""
    return tuple(queryset._prefetch_related_lookups)


def without_prefetches(queryset: Any) -> Any:
    """Return the queryset without its prefetches: they are ours to run. prefetch_related(None) fails on unions."""
    clone = queryset.all()
    clone._prefetch_related_lookups = ()
    return clone


def pinned(queryset: Any) -> Any:
    """Return the queryset with its database decided: a router may choose another each time it is asked."""
    clone = queryset.using(queryset.db)
    clone._prefetch_related_lookups = queryset._prefetch_related_lookups
    return clone


def without_peers(queryset: Any) -> Any:
    """Return the queryset without FETCH_PEERS (Django 6.1), which keeps a list of all instances."""
    mode = getattr(queryset, "_fetch_mode", None)
    return queryset.fetch_mode(models.FETCH_ONE) if mode is not None and mode.track_peers else queryset


def selected_names(query: Any) -> list[str]:
    """Return the names that values() or values_list() select, in their order."""
    return list(query.selected or (*query.extra_select, *query.values_select, *query.annotation_select))


def chooses_names(query: Any) -> bool:
    """Whether the caller named what values() or values_list() select."""
    return bool(query.selected)


def annotations(query: Any) -> dict[str, Any]:
    """Return the output fields of what the query adds to its model; None for keys of JSON documents."""
    fields = dict.fromkeys((*query.extra_select, *query.annotation_select))
    for name, expression in query.annotation_select.items():
        with suppress(AttributeError, FieldError):  # an expression of no declared type
            fields[name] = None if isinstance(expression, KeyTransform) else expression.output_field
    return fields


class Nature(NamedTuple):
    """What a query does to rows, beside filtering and ordering them."""

    combinator: str | None
    is_distinct: bool
    is_grouped: bool
    locks_rows: bool
    has_extra_tables: bool
    start: int
    end: int | None


def nature(query: Any) -> Nature:
    """Return what a query does to rows; `start` and `end` are those of its slice."""
    return Nature(
        combinator=query.combinator,
        is_distinct=query.distinct,
        is_grouped=query.group_by is not None,
        locks_rows=query.select_for_update,
        has_extra_tables=bool(query.extra_tables),
        start=query.low_mark,
        end=query.high_mark,
    )


def merges_rows(query: Any) -> bool:
    """Whether DISTINCT compares all that is selected, so that fewer columns would merge more rows."""
    return bool(query.distinct and not query.distinct_fields)


def selects_as_it_is(query: Any) -> bool:
    """Whether the query would give other rows if it selected other columns."""
    return bool(query.combinator or query.group_by or query.distinct)


def follows_all_relations(query: Any) -> bool:
    """Whether select_related() was called without names: it follows all but nullable relations."""
    return query.select_related is True


def loaded_names(queryset: Any) -> set[str] | None:
    """Return the attribute names that only() and defer() leave to load, or None for all."""
    names, deferred = queryset.query.deferred_loading
    if deferred and not names:
        return None
    return {
        field.attname
        for field in queryset.model._meta.concrete_fields
        if field.primary_key or ((field.name in names or field.attname in names) != deferred)
    }


def raw_names(queryset: Any) -> tuple[list[str], list[str]]:
    """Return the attribute names that an executed raw query loads, and the names of its annotations."""
    loaded, _, annotated = queryset.resolve_model_init_order()
    return loaded, [name for name, _ in annotated]


def is_composite(field: Any) -> bool:
    """Whether the field is a primary key of several columns, a tuple that Django makes."""
    return isinstance(field, CompositePrimaryKey)


# Statements: a queryset compiled once, and what Django does to the values of its columns.


# Functions of a value, an expression and a connection; and the expression.
Converters = tuple[Sequence[Any], Any]


class Statement(NamedTuple):
    """A query as the ORM compiles it: its columns are `expressions`, and further ones where it `has_more`."""

    sql: str
    params: Any
    expressions: tuple[Any, ...]
    has_more: bool
    converters: Mapping[int, Converters]


def compiled(queryset: Any) -> Statement | None:
    """Return the queryset's statement; None where the ORM knows that no row can match."""
    compiler = queryset.query.get_compiler(queryset.db)
    try:
        sql, params = compiler.as_sql()
    except EmptyResultSet:
        return None
    expressions = tuple(expression for expression, *_ in compiler.select[: compiler.col_count])
    return Statement(sql, params, expressions, compiler.has_extra_select, compiler.get_converters(expressions))


def is_column(expression: Any) -> bool:
    """Whether an expression is a column of a table."""
    return isinstance(expression, Col)


def converts_itself(expression: Any, connection: Any) -> bool:
    """Whether the field or the expression converts what the backend's own converters give."""
    if isinstance(expression, Col):
        return bool(expression.get_db_converters(connection))
    usual = getattr_static(BaseExpression, "convert_value")
    is_usual = getattr_static(type(expression), "convert_value", None) is usual
    return not is_usual or bool(expression.output_field.get_db_converters(connection))


def internal_type(expression: Any) -> str:
    """Return the internal type of the field that the expression gives, or nothing."""
    try:
        return str(expression.output_field.get_internal_type())
    except (AttributeError, FieldError):
        return ""


# Steering: Django iterates a queryset, and we execute its statement and fetch its rows.


class Runner(Protocol):
    """Executes the statement of a steered queryset."""

    def execute(self, sql: str, params: Any) -> Cursor:
        """Execute the statement."""

    def fetches(self, cursor: Cursor, width: int | None) -> Iterator[list[Any]]:
        """Yield the rows of the cursor, a list for each fetch, cut to their first `width` values."""


def steered(queryset: Any) -> Any:
    """Return a copy of the queryset whose statement is compiled once, here, and executed by its runner."""
    is_raw = isinstance(queryset, RawQuerySet)
    clone = queryset.using(queryset.db) if is_raw else queryset.all()
    kind: Any = type(clone.query)
    clone.query.__class__ = _steered_query(kind)
    if not is_raw:
        clone.query.compile_once(clone.db)
    return clone


def steered_sql(queryset: Any) -> str:
    """Return the statement of a steered queryset; empty where the ORM knows that no row can match."""
    statement = queryset.query.own_statement
    return str(statement[0]) if statement else ""


def iterate(queryset: Any, runner: Runner, chunk_size: int) -> Iterator[Any]:
    """Iterate a steered queryset as Django does, over what the runner fetches."""
    queryset.query.runner = runner
    records: Iterator[Any] = (
        queryset.iterator() if isinstance(queryset, RawQuerySet) else queryset.iterator(chunk_size=chunk_size)
    )
    return records


@cache
def _steered_query(query: Any) -> Any:
    return type(query.__name__, (_SteeredRawQuery if issubclass(query, RawQuery) else _SteeredQuery, query), {})


@cache
def _steered_compiler(compiler: Any) -> Any:
    return type(compiler.__name__, (_SteeredCompiler, compiler), {})


class _SteeredQuery:
    """Mixed into the class of a query, as Query.chain() itself turns a query into one for updates."""

    runner: Runner
    own_compiler: Any = None
    own_statement: tuple[str, Any] | None = None

    def compile_once(self, using: str) -> None:
        """Compile the statement that is executed later."""
        self.own_compiler = self.get_compiler(using)
        with suppress(EmptyResultSet):
            self.own_statement = self.own_compiler.as_sql()

    def get_compiler(self, using: Any = None, connection: Any = None, elide_empty: bool = True) -> Any:
        if self.own_compiler is not None and self.own_compiler.query is self and using == self.own_compiler.using:
            return self.own_compiler
        compiler = super().get_compiler(using, connection, elide_empty)  # type: ignore[misc]
        kind: Any = type(compiler)
        compiler.__class__ = _steered_compiler(kind)
        return compiler


class _SteeredCompiler:
    query: Any
    col_count: int
    has_extra_select: bool

    def execute_sql(
        self, result_type: str = MULTI, chunked_fetch: bool = False, chunk_size: int = GET_ITERATOR_CHUNK_SIZE
    ) -> Any:
        if result_type != MULTI:  # chunked_fetch says no more than what DISABLE_SERVER_SIDE_CURSORS does
            return super().execute_sql(result_type, chunked_fetch, chunk_size)  # type: ignore[misc]
        statement = self._statement()
        if statement is None:
            return iter(())
        runner = self.query.runner
        return runner.fetches(runner.execute(*statement), self.col_count if self.has_extra_select else None)

    def _statement(self) -> tuple[str, Any] | None:
        if self.query.own_compiler is self:
            return self.query.own_statement  # type: ignore[no-any-return]
        try:
            return self.as_sql()  # type: ignore[attr-defined, no-any-return]
        except EmptyResultSet:
            return None


class _SteeredRawQuery(RawQuery):
    runner: Runner
    cursor: Any

    @property
    def own_statement(self) -> tuple[str, Any]:
        return self.sql, self.params

    def __iter__(self) -> Iterator[Any]:
        if self.cursor is None:
            self._execute_query()
        return chain.from_iterable(self.runner.fetches(self.cursor, None))

    def _execute_query(self) -> None:
        """Execute on a cursor that is read row by row, where RawQuery takes one that holds the whole result."""
        adapt = connections[self.using].ops.adapt_unknown_value
        params: Any = self.params
        if isinstance(params, Mapping):
            params = {name: adapt(value) for name, value in params.items()}
        elif params is not None:
            params = tuple(map(adapt, params))
        self.cursor = self.runner.execute(self.sql, params)


# Windows: the order of a query, and its statement between two keys.


class WindowKey(Protocol):
    """A term of the ordering of windows."""

    @property
    def order(self) -> str:
        """Its ORDER BY term."""

    @property
    def params(self) -> tuple[Any, ...]: ...
    @property
    def exact(self) -> str:
        """SQL whose value can be bound again without loss."""

    @property
    def is_added(self) -> bool:
        """Whether the query itself does not order by it."""


@dataclass(frozen=True)
class Ordering:
    """The ORDER BY terms of a query, ready to be compiled."""

    compiler: Any
    terms: Sequence[Any]

    @property
    def query(self) -> Any:
        """The query with the joins that its ordering and select_related() make."""
        return self.compiler.query

    @property
    def selected(self) -> list[str]:
        """The SQL of what the query selects."""
        return [sql for _, (sql, _), _ in self.compiler.select]

    @property
    def filters_by_windows(self) -> bool:
        """Whether conditions look at window functions."""
        return bool(self.compiler.qualify)

    def sql(self, expression: Any) -> tuple[str, tuple[Any, ...]]:
        """Return the SQL of an expression of the query, and its parameters."""
        sql, params = self.compiler.compile(expression)
        return sql, tuple(params)

    def key_columns(self) -> dict[Any, Any]:
        """Return the columns of the primary key, by alias and field as `column_of` gives them."""
        table = self.query.get_initial_alias()
        return {(table, field): field.get_col(table) for field in self.query.model._meta.pk_fields}


def ordering(query: Any, connection: Any) -> Ordering:
    """Return the ordering of a query; raise EmptyResultSet where the ORM knows that no row can match."""
    compiler = query.clone().get_compiler(connection=connection)
    _, order_by, _ = compiler.pre_sql_setup()
    return Ordering(compiler, [order for order, _ in order_by])


def ordered_by(order: Any) -> list[Any]:
    """Return what an ORDER BY term sorts by: several columns where that is a composite key."""
    expression = order.expression
    if isinstance(expression, Ref):  # to a selected column, by its name or position
        expression = expression.get_source_expressions()[0]
    return list(expression.get_cols()) if isinstance(expression, ColPairs) else [expression]


def column_of(expression: Any) -> Any:
    """Return the alias and field of a column; of any other expression nothing that a column has."""
    return getattr(expression, "alias", None), getattr(expression, "target", None)


def is_plain_order(order: Any) -> bool:
    """Whether an ORDER BY term is Django's own."""
    return type(order) is OrderBy


def repeating_joins(query: Any) -> Iterator[str]:
    """Yield the tables that the query joins and that may repeat its rows."""
    for alias, table in query.alias_map.items():
        if query.alias_refcount[alias] and table.parent_alias and not _is_to_one(table.join_field):
            yield table.table_name


def _is_to_one(join: Any) -> bool:
    forwards = isinstance(join, ForeignObject) and (join.many_to_one or join.one_to_one)
    return bool(forwards) or isinstance(join, OneToOneRel)


def returns_sets(query: Any) -> bool:
    """Whether an annotation may give several rows for one."""
    nodes = chain.from_iterable(annotation.flatten() for annotation in query.annotations.values())
    return any(getattr(node, "set_returning", False) for node in nodes)


def window_statement(
    query: Any,
    connection: Any,
    keys: Iterable[WindowKey],
    conditions: Iterable[Condition],
    limits: tuple[int, int],
) -> tuple[str, Any] | None:
    """Return the statement for the rows of `query` that meet `conditions`, with the keys behind all other columns.

    `limits` are its offset and its end, as slices have them. None is a query that the ORM knows to match nothing.
    """
    query = query.clone()
    for sql, params in conditions:
        query.where.add(ExtraWhere([sql], params), AND)
    query.clear_limits()
    query.set_limits(*limits)
    compiler = query.get_compiler(connection=connection)
    kind: Any = type(compiler)
    compiler.__class__ = _window_compiler(kind)
    compiler.window_keys = tuple(keys)
    try:
        return compiler.as_sql()  # type: ignore[no-any-return]
    except EmptyResultSet:
        return None


@cache
def _window_compiler(compiler: Any) -> Any:
    return type(compiler.__name__, (_WindowCompiler, compiler), {})


class _WindowCompiler:
    """Selects the keys behind all other columns, and sorts by the primary key last."""

    window_keys: tuple[WindowKey, ...]

    def pre_sql_setup(self, with_col_aliases: bool = False) -> Any:
        extra_select, order_by, group_by = super().pre_sql_setup(with_col_aliases)  # type: ignore[misc]
        keys = self.window_keys
        extra_select += [(None, (key.exact, key.params), f"upstream_key_{n}") for n, key in enumerate(keys)]
        order_by += [(None, (key.order, key.params, False)) for key in keys if key.is_added]
        return extra_select, order_by, group_by
