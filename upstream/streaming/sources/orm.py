"""Everything that depends on the internals of Django's ORM, pinned by `tests/test_orm.py`.

Most names used here are private to Django. If a new version changes them, the tests say which.
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


# Querysets: their properties, and copies that differ in one of them.


def gives_instances(queryset: Any) -> bool:
    """Return whether a queryset yields model instances, made by Django's own iterable."""
    return queryset._iterable_class is ModelIterable


def gives_values(queryset: Any) -> bool:
    """Return whether a queryset is of values() or values_list()."""
    return issubclass(queryset._iterable_class, VALUES)


def gives_dicts(queryset: Any) -> bool:
    """Return whether a queryset is of values()."""
    return issubclass(queryset._iterable_class, ValuesIterable)


def gives_single_values(queryset: Any) -> bool:
    """Return whether a queryset is of values_list(flat=True)."""
    return issubclass(queryset._iterable_class, FlatValuesListIterable)


def prefetches(queryset: Any) -> tuple[Any, ...]:
    """Return the lookups of prefetch_related()."""
    return tuple(queryset._prefetch_related_lookups)


def without_prefetches(queryset: Any) -> Any:
    """Return the queryset without prefetches, which the engine runs. prefetch_related(None) fails on unions."""
    clone = queryset.all()
    clone._prefetch_related_lookups = ()
    return clone


def pinned(queryset: Any) -> Any:
    """Return the queryset with its database fixed; a router may choose another one on each call."""
    clone = queryset.using(queryset.db)
    clone._prefetch_related_lookups = queryset._prefetch_related_lookups
    return clone


def without_peers(queryset: Any) -> Any:
    """Return the queryset without FETCH_PEERS (Django 6.1), which keeps all instances in memory."""
    mode = getattr(queryset, "_fetch_mode", None)
    return queryset.fetch_mode(models.FETCH_ONE) if mode is not None and mode.track_peers else queryset


def selected_names(query: Any) -> list[str]:
    """Return the names that values() or values_list() select, in order."""
    return list(query.selected or (*query.extra_select, *query.values_select, *query.annotation_select))


def chooses_names(query: Any) -> bool:
    """Return whether the caller named the selection of values() or values_list()."""
    return bool(query.selected)


def annotations(query: Any) -> dict[str, Any]:
    """Map names that a query adds to its model to their output fields; None for JSON keys and unknown types."""
    fields = dict.fromkeys((*query.extra_select, *query.annotation_select))
    for name, expression in query.annotation_select.items():
        with suppress(AttributeError, FieldError):  # an expression without an output field
            fields[name] = None if isinstance(expression, KeyTransform) else expression.output_field
    return fields


class QueryFeatures(NamedTuple):
    """What a query does to rows besides filtering and ordering them; `start` and `end` are those of its slice."""

    combinator: str | None
    is_distinct: bool
    is_grouped: bool
    locks_rows: bool
    has_extra_tables: bool
    start: int
    end: int | None


def query_features(query: Any) -> QueryFeatures:
    """Return what a query does to rows besides filtering and ordering them."""
    return QueryFeatures(
        combinator=query.combinator,
        is_distinct=query.distinct,
        is_grouped=query.group_by is not None,
        locks_rows=query.select_for_update,
        has_extra_tables=bool(query.extra_tables),
        start=query.low_mark,
        end=query.high_mark,
    )


def merges_rows(query: Any) -> bool:
    """Return whether DISTINCT compares the whole selection, so that fewer columns would merge more rows."""
    return bool(query.distinct and not query.distinct_fields)


def selection_affects_rows(query: Any) -> bool:
    """Return whether selecting other columns could change which rows a query returns."""
    return bool(query.combinator or query.group_by or query.distinct)


def follows_all_relations(query: Any) -> bool:
    """Return whether select_related() was called without names: it follows all non-null relations."""
    return query.select_related is True


def loaded_names(queryset: Any) -> set[str] | None:
    """Return the attribute names that only() and defer() leave to load; None for all."""
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
    """Return whether a field is a primary key of several columns, which Django reads as a tuple."""
    return isinstance(field, CompositePrimaryKey)


# Statements: a queryset compiled once, and the converters of its columns.


# Functions of (value, expression, connection), and the expression.
Converters = tuple[Sequence[Any], Any]


class Statement(NamedTuple):
    """A query as the ORM compiles it; it selects `expressions`, and further columns if `has_more`."""

    sql: str
    params: Any
    expressions: tuple[Any, ...]
    has_more: bool
    converters: Mapping[int, Converters]


def compiled(queryset: Any) -> Statement | None:
    """Return the queryset's statement; None if the ORM knows that no row can match."""
    compiler = queryset.query.get_compiler(queryset.db)
    try:
        sql, params = compiler.as_sql()
    except EmptyResultSet:
        return None
    expressions = tuple(expression for expression, *_ in compiler.select[: compiler.col_count])
    return Statement(sql, params, expressions, compiler.has_extra_select, compiler.get_converters(expressions))


def is_column(expression: Any) -> bool:
    """Return whether an expression is a table column."""
    return isinstance(expression, Col)


def converts_itself(expression: Any, connection: Any) -> bool:
    """Return whether the field or the expression has converters besides the backend's own."""
    if isinstance(expression, Col):
        return bool(expression.get_db_converters(connection))
    usual = getattr_static(BaseExpression, "convert_value")
    is_usual = getattr_static(type(expression), "convert_value", None) is usual
    return not is_usual or bool(expression.output_field.get_db_converters(connection))


def internal_type(expression: Any) -> str:
    """Return the internal type of an expression's output field; "" if it has none."""
    try:
        return str(expression.output_field.get_internal_type())
    except (AttributeError, FieldError):
        return ""


# Delegation: Django iterates a queryset, while a runner executes its statement and fetches its rows.


class Runner(Protocol):
    """Executes the statement of a delegating queryset."""

    def execute(self, sql: str, params: Any) -> Cursor:
        """Execute the statement."""

    def fetches(self, cursor: Cursor, width: int | None) -> Iterator[list[Any]]:
        """Yield the cursor's rows, one list per fetch, cut to their first `width` values."""


def delegating(queryset: Any) -> Any:
    """Return a copy of the queryset whose statement is compiled here, once, and executed by a runner."""
    is_raw = isinstance(queryset, RawQuerySet)
    clone = queryset.using(queryset.db) if is_raw else queryset.all()
    kind: Any = type(clone.query)
    clone.query.__class__ = _delegating_query(kind)
    if not is_raw:
        clone.query.compile_once(clone.db)
    return clone


def delegated_sql(queryset: Any) -> str:
    """Return the statement of a delegating queryset; empty if the ORM knows that no row can match."""
    statement = queryset.query.own_statement
    return str(statement[0]) if statement else ""


def iterate(queryset: Any, runner: Runner, chunk_size: int) -> Iterator[Any]:
    """Iterate a delegating queryset as Django does, over the rows that the runner fetches."""
    queryset.query.runner = runner
    records: Iterator[Any] = (
        queryset.iterator() if isinstance(queryset, RawQuerySet) else queryset.iterator(chunk_size=chunk_size)
    )
    return records


@cache
def _delegating_query(query: Any) -> Any:
    return type(
        query.__name__, (_DelegatingRawQuery if issubclass(query, RawQuery) else _DelegatingQuery, query), {}
    )


@cache
def _delegating_compiler(compiler: Any) -> Any:
    return type(compiler.__name__, (_DelegatingCompiler, compiler), {})


class _DelegatingQuery:
    """Mixed into the class of a query instance, as Query.chain() changes that class for an update."""

    runner: Runner
    own_compiler: Any = None
    own_statement: tuple[str, Any] | None = None

    def compile_once(self, using: str) -> None:
        """Compile the statement to execute later."""
        self.own_compiler = self.get_compiler(using)
        with suppress(EmptyResultSet):
            self.own_statement = self.own_compiler.as_sql()

    def get_compiler(self, using: Any = None, connection: Any = None, elide_empty: bool = True) -> Any:
        if self.own_compiler is not None and self.own_compiler.query is self and using == self.own_compiler.using:
            return self.own_compiler
        compiler = super().get_compiler(using, connection, elide_empty)  # type: ignore[misc]
        kind: Any = type(compiler)
        compiler.__class__ = _delegating_compiler(kind)
        return compiler


class _DelegatingCompiler:
    query: Any
    col_count: int
    has_extra_select: bool

    def execute_sql(
        self, result_type: str = MULTI, chunked_fetch: bool = False, chunk_size: int = GET_ITERATOR_CHUNK_SIZE
    ) -> Any:
        if result_type != MULTI:  # chunked_fetch only reflects DISABLE_SERVER_SIDE_CURSORS
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


class _DelegatingRawQuery(RawQuery):
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
        """Execute on the runner's cursor; RawQuery's own may hold the whole result."""
        adapt = connections[self.using].ops.adapt_unknown_value
        params: Any = self.params
        if isinstance(params, Mapping):
            params = {name: adapt(value) for name, value in params.items()}
        elif params is not None:
            params = tuple(map(adapt, params))
        self.cursor = self.runner.execute(self.sql, params)


# Windows: the ordering of a query, and its statement for the rows after a key.


class WindowKey(Protocol):
    """A key that windows are ordered by."""

    @property
    def order(self) -> str:
        """Its ORDER BY term."""

    @property
    def params(self) -> tuple[Any, ...]: ...
    @property
    def exact(self) -> str:
        """SQL that selects its value so that it can be bound again without loss."""

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
        """The query, with the joins of its ordering and select_related()."""
        return self.compiler.query

    @property
    def selected(self) -> list[str]:
        """The SQL of the query's selection."""
        return [sql for _, (sql, _), _ in self.compiler.select]

    @property
    def filters_by_windows(self) -> bool:
        """Whether the query filters by window functions."""
        return bool(self.compiler.qualify)

    def sql(self, expression: Any) -> tuple[str, tuple[Any, ...]]:
        """Return the SQL of an expression of the query, and its parameters."""
        sql, params = self.compiler.compile(expression)
        return sql, tuple(params)

    def key_columns(self) -> dict[Any, Any]:
        """Return the columns of the primary key, by alias and field as `column_of` returns them."""
        table = self.query.get_initial_alias()
        return {(table, field): field.get_col(table) for field in self.query.model._meta.pk_fields}


def ordering(query: Any, connection: Any) -> Ordering:
    """Return the ordering of a query; raise EmptyResultSet if the ORM knows that no row can match."""
    compiler = query.clone().get_compiler(connection=connection)
    _, order_by, _ = compiler.pre_sql_setup()
    return Ordering(compiler, [order for order, _ in order_by])


def ordered_by(order: Any) -> list[Any]:
    """Return the expressions that an ORDER BY term sorts by: several for a composite key."""
    expression = order.expression
    if isinstance(expression, Ref):  # refers to a selected column by name or position
        expression = expression.get_source_expressions()[0]
    return list(expression.get_cols()) if isinstance(expression, ColPairs) else [expression]


def column_of(expression: Any) -> Any:
    """Return the alias and field of a column; for other expressions, a pair that no column has."""
    return getattr(expression, "alias", None), getattr(expression, "target", None)


def is_plain_order(order: Any) -> bool:
    """Return whether an ORDER BY term is Django's own."""
    return type(order) is OrderBy


def repeating_joins(query: Any) -> Iterator[str]:
    """Yield the joined tables that may repeat the query's rows."""
    for alias, table in query.alias_map.items():
        if query.alias_refcount[alias] and table.parent_alias and not _is_to_one(table.join_field):
            yield table.table_name


def _is_to_one(join: Any) -> bool:
    forwards = isinstance(join, ForeignObject) and (join.many_to_one or join.one_to_one)
    return bool(forwards) or isinstance(join, OneToOneRel)


def returns_sets(query: Any) -> bool:
    """Return whether an annotation may turn one row into several."""
    nodes = chain.from_iterable(annotation.flatten() for annotation in query.annotations.values())
    return any(getattr(node, "set_returning", False) for node in nodes)


def window_statement(
    query: Any,
    connection: Any,
    keys: Iterable[WindowKey],
    conditions: Iterable[Condition],
    limits: tuple[int, int],
) -> tuple[str, Any] | None:
    """Return the statement for the rows of `query` that meet `conditions`, with the keys after all other columns.

    `limits` are the bounds of a slice. Returns None if the ORM knows that no row can match.
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
    """Selects the keys after all other columns, and adds to the ordering the ones that it lacks."""

    window_keys: tuple[WindowKey, ...]

    def pre_sql_setup(self, with_col_aliases: bool = False) -> Any:
        extra_select, order_by, group_by = super().pre_sql_setup(with_col_aliases)  # type: ignore[misc]
        keys = self.window_keys
        extra_select += [(None, (key.exact, key.params), f"upstream_key_{n}") for n, key in enumerate(keys)]
        order_by += [(None, (key.order, key.params, False)) for key in keys if key.is_added]
        return extra_select, order_by, group_by
