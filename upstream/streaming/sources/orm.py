"""Everything that depends on the internals of Django's ORM, pinned by `tests/test_orm.py`.

Most names used here are private to Django. If a new version changes them, the tests say which.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from inspect import getattr_static
from itertools import chain, takewhile
from typing import Any, NamedTuple, Protocol

from django.core.exceptions import EmptyResultSet, FieldError
from django.db import connections, models
from django.db.models import ForeignKey, ForeignObjectRel, ManyToManyField, OneToOneRel, Prefetch, QuerySet
from django.db.models.expressions import BaseExpression, Col, ColPairs, OrderBy, RawSQL, Ref
from django.db.models.fields.json import KeyTransform
from django.db.models.fields.related import ForeignObject
from django.db.models.manager import BaseManager
from django.db.models.query import (
    FlatValuesListIterable,
    ModelIterable,
    NamedValuesListIterable,
    RawQuerySet,
    ValuesIterable,
    ValuesListIterable,
)
from django.db.models.sql import RawQuery
from django.db.models.sql.constants import GET_ITERATOR_CHUNK_SIZE, INNER, LOUTER, MULTI
from django.db.models.sql.where import AND, ExtraWhere

from upstream.streaming.databases.protocol import Cursor

Condition = tuple[str, tuple[Any, ...]]

VALUES = (ValuesIterable, ValuesListIterable, NamedValuesListIterable, FlatValuesListIterable)


# Querysets: their properties, and copies that differ in one of them.


def gives_instances(queryset: Any) -> bool:
    """Return whether a queryset yields model instances as Django's own iterable makes them."""
    return queryset._iterable_class is ModelIterable or passes_instances_on(queryset)


def gives_values(queryset: Any) -> bool:
    """Return whether a queryset is of values() or values_list()."""
    return issubclass(queryset._iterable_class, VALUES)


def gives_selected_values(queryset: Any) -> bool:
    """Return whether Django's own iterable yields what values() or values_list() selected."""
    return queryset._iterable_class in VALUES


def gives_dicts(queryset: Any) -> bool:
    """Return whether a queryset is of values()."""
    return issubclass(queryset._iterable_class, ValuesIterable)


def gives_single_values(queryset: Any) -> bool:
    """Return whether a queryset is of values_list(flat=True)."""
    return issubclass(queryset._iterable_class, FlatValuesListIterable)


def replaces_fetched(queryset: Any) -> bool:
    """Return whether a loop over a queryset yields others than `iterator()`: its class overrides `_fetch_all`."""
    return type(queryset)._fetch_all is not QuerySet._fetch_all


def replaced(queryset: Any, records: list[Any]) -> list[Any]:
    """Return what the queryset's class makes of fetched records; it also runs its prefetches."""
    clone = queryset._chain()
    clone._result_cache = records
    clone._fetch_all()
    return list(clone._result_cache)


def own_query(query: Any) -> Any:
    """Return a copy of a query that compiling may change; Django's clones share what values() selects."""
    clone = query.clone()
    _unshare_selection(clone)
    return clone


def _unshare_selection(query: Any) -> None:
    if query.selected is not None:
        query.selected = dict(query.selected)
    for combined in query.combined_queries:
        _unshare_selection(combined)


def copied(queryset: Any) -> Any:
    """Return a copy of a queryset and its query. Its public methods may be overridden to do more than copy."""
    clone = queryset._chain()
    clone._query = own_query(clone.query)  # assigning to `query` may change the iterable class
    return clone


def prefetches(queryset: Any) -> tuple[Any, ...]:
    """Return the lookups of prefetch_related()."""
    return tuple(queryset._prefetch_related_lookups)


def prepared_relations(queryset: Any) -> frozenset[str]:
    """Return the relations whose objects the caller's own querysets choose: Prefetch(name, queryset)."""
    return frozenset(
        lookup.prefetch_to
        for lookup in prefetches(queryset)
        if isinstance(lookup, Prefetch)
        and lookup.queryset is not None
        and lookup.prefetch_to == lookup.prefetch_through
    )


def is_ordered(queryset: Any) -> bool:
    """Return whether a queryset has an order, as its `ordered` tells.

    That would first build the filter of a prefetched queryset, which is never used: half of the reading time.
    """
    query = queryset._query
    by_default = query.default_ordering and query.get_meta().ordering and not query.group_by
    return bool(query.extra_order_by or query.order_by or by_default)


def without_prefetches(queryset: Any) -> Any:
    """Return the queryset without prefetches, which the engine runs. prefetch_related(None) fails on unions."""
    clone = copied(queryset)
    clone._prefetch_related_lookups = ()
    return clone


def pinned(queryset: Any) -> Any:
    """Return a copy of the queryset with its database fixed; a router may choose another one on each call."""
    if isinstance(queryset, RawQuerySet):
        clone: Any = queryset.using(queryset.db)
        clone._prefetch_related_lookups = prefetches(queryset)
    else:
        clone = copied(queryset)
        clone._db = queryset.db
    return clone


def without_peers(queryset: Any) -> Any:
    """Return the queryset without FETCH_PEERS (Django 6.1), which keeps all instances in memory."""
    mode = getattr(queryset, "_fetch_mode", None)
    return queryset.fetch_mode(models.FETCH_ONE) if mode is not None and mode.track_peers else queryset


def selected_names(queryset: Any) -> list[str]:
    """Return the names of what values() or values_list() yield, in order; flat=True yields the first alone."""
    query = queryset.query
    names = list(query.selected or (*query.extra_select, *query.values_select, *query.annotation_select))
    return names[:1] if gives_single_values(queryset) else names


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


def fields_of_annotation(query: Any, name: str) -> Iterator[Any]:
    """Yield the fields whose values an annotation is made of, those of its subqueries too."""
    pending = [query.annotation_select.get(name)]
    while pending:
        part = pending.pop()
        if isinstance(part, Col):
            yield part.target
        elif hasattr(part, "annotation_select"):  # a query
            pending += [*part.select, *part.annotation_select.values(), *part.combined_queries]
        elif hasattr(part, "get_source_expressions"):
            pending += part.get_source_expressions()


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


def locks_by_name(query: Any) -> bool:
    """Return whether select_for_update(of=...) names relations, which the query must then select."""
    return bool(query.select_for_update_of)


def takes_joins(query: Any) -> bool:
    """Return whether joins may be added: FOR UPDATE would lock their rows, raw SQL may name a column of both."""
    locks_all = query.select_for_update and not query.select_for_update_of
    has_extra = query.extra or query.extra_tables or query.extra_order_by
    expressions = (query.where, *query.annotations.values(), *query.order_by)
    return not (locks_all or has_extra or any(map(_has_raw_sql, expressions)))


def hides_related(model: Any) -> bool:
    """Return whether the attributes that lead to a model may hide rows: its base manager is none of Django's."""
    return type(model._base_manager).get_queryset is not BaseManager.get_queryset


def _has_raw_sql(expression: Any) -> bool:
    return any(isinstance(node, RawSQL | ExtraWhere) for node in _nodes(expression))


def _nodes(expression: Any) -> Iterator[Any]:
    """Yield an expression or condition, and all its parts; conditions have no `flatten()`."""
    yield expression
    if hasattr(expression, "get_source_expressions"):
        for part in expression.get_source_expressions():
            yield from _nodes(part)


def follows_all_relations(query: Any) -> bool:
    """Return whether select_related() was called without names: it follows all non-null relations."""
    return query.select_related is True


def fetched_relations(queryset: Any) -> set[str]:
    """Return the names of relations along what select_related() and prefetch_related() fetch, each step alone."""
    names = {name for lookup in map(_prefetch_path, prefetches(queryset)) for name in lookup.split("__")}
    related = getattr(queryset.query, "select_related", False)
    if related is True:
        return names | {
            field.name for field in queryset.model._meta.fields if field.is_relation and not field.null
        }
    return names | set(_keys(related or {}))


def _prefetch_path(lookup: Any) -> str:
    return str(getattr(lookup, "prefetch_to", lookup))


def _keys(tree: Mapping[str, Any]) -> Iterator[str]:
    for name, inner in tree.items():
        yield name
        yield from _keys(inner)


def loaded_names(queryset: Any) -> list[str]:
    """Return the attribute names of the fields that Django loads, which only() and defer() may limit."""
    compiler = own_query(queryset.query).get_compiler(queryset.db)
    columns = compiler.get_default_columns(compiler.query.get_select_mask())
    return [column.target.attname for column in columns]


def raw_names(queryset: Any) -> tuple[list[str], list[str]]:
    """Return the attribute names that an executed raw query loads, and the names of its annotations."""
    loaded, _, annotated = queryset.resolve_model_init_order()
    return loaded, [name for name, _ in annotated]


# Statements: a queryset compiled once, and the converters of its columns.


# Functions of (value, expression, connection), and the expression.
Converters = tuple[Sequence[Any], Any]


class Statement(NamedTuple):
    """A query as the ORM compiles it; it selects `expressions`, and further columns if `has_more`.

    `expressions` has one item for each column that the driver returns. `positions` maps the names that the query
    selects to theirs. A name is left out if the compiled statement does not select its column, or if the name has
    several columns.
    """

    sql: str
    params: Any
    expressions: tuple[Any, ...]
    has_more: bool
    converters: Mapping[int, Converters]
    positions: Mapping[str, int]


def compiled(queryset: Any) -> Statement | None:
    """Return the statement of a values() queryset; None if the ORM knows that no row can match."""
    compiler = own_query(queryset.query).get_compiler(queryset.db)
    names, columns = _meant(compiler.query), len(compiler.query.select)
    try:
        sql, params = compiler.as_sql()
    except EmptyResultSet:
        return None
    selected = [(expression, alias) for expression, _, alias in compiler.select[: compiler.col_count]]
    expressions = tuple(chain.from_iterable(_columns(expression) for expression, _ in selected))
    return Statement(
        sql,
        params,
        expressions,
        compiler.has_extra_select or len(compiler.query.select) > columns,  # a union also selects what orders it
        compiler.get_converters(expressions),
        dict(_positions(names, selected)),
    )


def _meant(query: Any) -> dict[str, Any]:
    """Map the names that a values() query selects to their expressions; None for those of extra()."""
    if query.selected is None:
        fields = zip(query.values_select, query.select, strict=False)
        return {**dict.fromkeys(query.extra_select), **dict(fields), **query.annotation_select}
    meant = {}
    for name, item in query.selected.items():
        if isinstance(item, int):
            meant[name] = query.select[item]
        else:
            meant[name] = query.annotations[item] if isinstance(item, str) else None
    return meant


def _positions(meant: Mapping[str, Any], selected: Sequence[tuple[Any, str | None]]) -> Iterator[tuple[str, int]]:
    """Yield each name whose expression, or alias in extra(), is selected, and its position."""
    for name, meaning in meant.items():
        position = 0
        for expression, alias in selected:
            columns = _columns(expression)
            if alias == name if meaning is None else alias in (None, name) and expression == meaning:
                if len(columns) == 1:
                    yield name, position
                break
            position += len(columns)


def _columns(expression: Any) -> list[Any]:
    """Return the columns of an expression: several for a composite key."""
    return list(expression.get_cols()) if isinstance(expression, ColPairs) else [expression]


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


# Selections: what a queryset selects is replaced, its rows and their order stay.


def selecting(queryset: Any, names: Sequence[str]) -> Any:
    """Return the queryset as values() of `names`: fields, and names that the query defines.

    values() itself would give ORDER BY the names of its columns. Subclasses of QuerySet may override it.
    """
    clone = copied(queryset)
    query = clone._query
    iterated = _join_as_iterated(query, clone.db)
    defined = {*query.extra_select, *query.annotation_select}
    kept: list[Any] = []
    if merges_rows(query):
        kept = _compared(query, iterated)
    else:
        query.set_extra_mask([name for name in query.extra_select if name in names])
        query.set_annotation_mask(
            [
                name
                for name, annotation in query.annotation_select.items()
                if name in names or _is_needed(query, name, annotation)
            ]
        )
    query.select_related = False
    query.clear_deferred_loading()
    query.clear_select_fields()
    query.default_cols, query.selected = False, None
    fields = [name for name in names if name not in defined]
    with _outer_joins(query, clone.db):
        _select(query, fields, connections[clone.db])
    query.select = (*query.select, *kept)
    query.values_select = (*fields, *(f"upstream_kept_{position}" for position in range(len(kept))))
    clone._iterable_class = ValuesIterable
    clone._fields = tuple(names)
    return clone


def _select(query: Any, names: Iterable[str], connection: Any) -> None:
    """Select fields as `Query.add_fields()` does, but a key of a related row only if there is that row.

    Django reads the key from this side of the relation, also where no constraint guarantees the row.
    """
    columns: list[Any] = []
    for name in names:
        info = query.setup_joins(name.split("__"), query.get_meta(), query.get_initial_alias(), allow_many=False)
        # The key in a row is there whether or not its own row is; the key of a further row only with that row.
        is_key = info.final_field.is_relation
        steps = list(zip(info.path, info.joins[1:], strict=True))
        ends = steps[: -1 if is_key else None]
        guaranteed = takewhile(lambda step: _is_constrained(query.alias_map[step[1]], connection), reversed(ends))
        trimmed = len(list(guaranteed)) + is_key
        path = info.path[len(info.path) - trimmed :]
        targets, alias, _ = query.trim_joins(info.targets, info.joins, path)
        columns += [info.transform_function(target, alias) for target in targets]
    if columns:
        query.set_select(columns)


def loading(
    queryset: Any, names: Iterable[str] | None, relations: Collection[str], annotated: Mapping[str, Any]
) -> Any:
    """Return the queryset of instances with the fields `names` loaded, `relations` joined, more names `annotated`.

    Without `names`, every field is loaded, and the relations of select_related() stay.
    """
    clone = copied(queryset)
    query = clone._query
    _join_as_iterated(query, clone.db)
    query.clear_deferred_loading()
    if names is not None:
        query.select_related = False
        query.add_immediate_loading(names)
    with _outer_joins(query, clone.db):
        for relation in relations:
            query.setup_joins(relation.split("__"), query.get_meta(), query.get_initial_alias(), allow_many=False)
    if relations:
        query.add_select_related(relations)
    return QuerySet.annotate(clone, **annotated) if annotated else clone


def has_unique_key(model: Any) -> bool:
    """Return whether the database guarantees the model's key: an unmanaged model may read a view."""
    return bool(model._meta.concrete_model._meta.managed)


def _compared(query: Any, iterated: Any) -> list[Any]:
    """Return the columns that DISTINCT must compare besides annotations, which all stay selected."""
    if has_unique_key(query.model):
        table = query.get_initial_alias()
        return [field.get_col(table) for field in query.model._meta.pk_fields]
    return [expression for expression, _, alias in iterated.select if alias is None]


def _is_needed(query: Any, name: str, annotation: Any) -> bool:
    """Return whether rows depend on an annotation: DISTINCT ON names it, or it turns one row into several."""
    by_name = any(distinct.split("__")[0] == name for distinct in query.distinct_fields)
    return by_name or _returns_sets(annotation)


def _join_as_iterated(query: Any, using: str) -> Any:
    """Make the joins and groups of iterating a query, and return the compiler that made them.

    They come first, so that a column's outer join cannot take the place of an inner one. A join that neither drops
    nor repeats rows is released again.
    """
    before = dict(query.alias_refcount)
    compiler = query.get_compiler(using)
    with suppress(EmptyResultSet):
        compiler.pre_sql_setup()
        if query.distinct_fields:
            compiler.get_distinct()
    needed = set()
    if query.group_by is True:
        grouped = (expression.get_group_by_cols() for expression, *_ in compiler.select)
        query.group_by = tuple(chain.from_iterable(grouped))
        needed = {column_of(column)[0] for column in query.group_by}
    for alias, join in reversed(query.alias_map.items()):
        if not query.alias_refcount[alias] or not join.parent_alias:
            continue
        if before.get(alias) or alias in needed or _changes_rows(join, connections[using]):
            needed.add(join.parent_alias)
        else:
            query.alias_refcount[alias] = 0
    return compiler


@contextmanager
def _outer_joins(query: Any, using: str) -> Iterator[None]:
    """Turn the joins that are added meanwhile into outer ones, unless a constraint guarantees the other row."""
    before = dict(query.alias_refcount)
    yield
    for alias, join in query.alias_map.items():
        added = query.alias_refcount[alias] and not before.get(alias)
        if not added or join.join_type != INNER:
            continue
        if query.alias_map[join.parent_alias].join_type == LOUTER or not _is_guaranteed(join, connections[using]):
            query.alias_map[alias] = join.promote()


def _changes_rows(join: Any, connection: Any) -> bool:
    drops = join.join_type == INNER and not _is_guaranteed(join, connection)
    return drops or not _finds_one(join.join_field)


def _is_guaranteed(join: Any, connection: Any) -> bool:
    """Return whether a constraint of the database guarantees that each row finds another one."""
    return _is_constrained(join, connection) and not join.join_field.null


def _is_constrained(join: Any, connection: Any) -> bool:
    """Return whether a constraint of the database guarantees that each row with a key finds another one."""
    field = join.join_field
    return bool(
        isinstance(field, ForeignKey)
        and join.join_field.db_constraint
        and not join.filtered_relation
        and connection.features.supports_foreign_keys
        and has_unique_key(field.model)
        and has_unique_key(field.related_model)
    )


def finding_fields(relation: Any) -> frozenset[str] | None:
    """Return the names of the fields that rows across a relation are found by; None if these are unknown."""
    with suppress(AttributeError, IndexError, TypeError):
        if isinstance(relation, ManyToManyField | ForeignObjectRel):
            join: Any = relation.path_infos[0].join_field
            joined = join.get_joining_fields()
            return frozenset(field.name for field, _ in joined)
    return None


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
    clone = queryset.using(queryset.db) if is_raw else copied(queryset)
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


class _OneRowOfNulls:
    """A runner that executes nothing: a trial of what an iterable class makes of a row."""

    def __init__(self, queryset: Any) -> None:
        self._compiler = queryset.query.own_compiler

    def execute(self, sql: str, params: Any) -> Any:
        del sql, params

    def fetches(self, cursor: Any, width: int | None) -> Iterator[list[Any]]:
        del cursor, width
        expressions = self._compiler.select[: self._compiler.col_count]
        yield [(None,) * sum(len(_columns(expression)) for expression, *_ in expressions)]


@contextmanager
def _trial(queryset: Any, iterable: Any) -> Iterator[Any]:
    """Iterate one row of NULLs as `iterable` does; whatever would execute a statement fails."""
    clone = delegating(queryset)
    clone.query.runner = _OneRowOfNulls(clone)
    with connections[clone.db].execute_wrapper(_refuse), closing(iter(iterable(clone))) as records:
        yield records


def _refuse(*_: Any, **__: Any) -> Any:
    raise RuntimeError("a trial executes no statement")


def passes_instances_on(queryset: Any) -> bool:
    """Return whether a queryset's own iterable passes on the instances of Django's, by `yield from`."""
    if not issubclass(queryset._iterable_class, ModelIterable):
        return False
    with suppress(Exception), _trial(queryset, queryset._iterable_class) as records:
        next(records)
        source = records
        while (inner := getattr(source, "gi_yieldfrom", None)) is not None:
            source = inner
        is_django = getattr(source, "gi_code", None) is ModelIterable.__iter__.__code__
        return is_django and not list(records)
    return False


def names_of_rows(queryset: Any, names: Sequence[str]) -> list[str]:
    """Return the names of the values that a queryset's own iterable class yields, in order.

    If the class makes its rows of another one's dicts, they have the keys of those; else they are `names`.
    """
    for kind in reversed(queryset._iterable_class.__mro__):
        if issubclass(kind, ValuesIterable) and kind is not ValuesIterable:
            with suppress(Exception), _trial(queryset, kind) as records:
                return list(dict(next(records)))
    return list(names)


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
    return _columns(expression)


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


def may_repeat_keys(query: Any) -> bool:
    """Return whether several rows may have the same primary key: no constraint of the database excludes it."""
    joins = (join for alias, join in query.alias_map.items() if query.alias_refcount[alias] and join.parent_alias)
    return not has_unique_key(query.model) or not all(_finds_one(join.join_field) for join in joins)


def _is_to_one(join: Any) -> bool:
    forwards = isinstance(join, ForeignObject) and (join.many_to_one or join.one_to_one)
    return bool(forwards) or isinstance(join, OneToOneRel)


def _finds_one(join: Any) -> bool:
    """Return whether constraints of the database guarantee that a join finds at most one row."""
    if isinstance(join, OneToOneRel):
        return has_unique_key(join.related_model)
    return _is_to_one(join) and _identifies(
        join.related_model._meta.concrete_model, set(join.foreign_related_fields)
    )


def _identifies(model: Any, fields: set[Any]) -> bool:
    """Return whether the database guarantees at most one row of `model` for values of `fields`."""
    meta = model._meta
    unique = [meta.pk_fields, *([field] for field in meta.concrete_fields if field.unique)]
    together = [*meta.unique_together, *(constraint.fields for constraint in meta.total_unique_constraints)]
    unique += [[meta.get_field(name) for name in names] for names in together]
    return bool(meta.managed) and any(fields.issuperset(key) for key in unique)


def returns_sets(query: Any) -> bool:
    """Return whether an annotation may turn one row into several."""
    return any(map(_returns_sets, query.annotations.values()))


def _returns_sets(annotation: Any) -> bool:
    return any(getattr(node, "set_returning", False) for node in _nodes(annotation))


def window_statement(
    query: Any,
    connection: Any,
    keys: Iterable[WindowKey],
    conditions: Iterable[Condition],
    limits: tuple[int, int | None],
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
