"""Querysets as data: the model, the conditions and the order, in JSON, without pickling anything.

A queryset is written down, rebuilt, and accepted only if both compile to the same SQL with the same parameters. So
what this module does not know of the ORM can make it refuse a queryset, but never dump other rows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from django.apps import apps
from django.core.exceptions import EmptyResultSet, FieldDoesNotExist, FieldError
from django.db import connections
from django.db.models import F, Manager, Q, QuerySet
from django.db.models.expressions import OrderBy

from upstream.dumps.values import from_json, to_json
from upstream.streaming import ColumnError, SourceError
from upstream.streaming.sources.model_columns import is_sensitive
from upstream.streaming.sources.orm import (
    gives_instances,
    gives_values,
    prefetches,
    query_features,
    replaces_fetched,
)

Data = Mapping[str, Any]


def to_data(source: Any) -> Data:
    """Return a queryset as JSON data; raise SourceError for what cannot be rebuilt from data."""
    if isinstance(source, Manager):
        source = source.all()
    if not isinstance(source, QuerySet):
        raise SourceError(
            f"a dump reads a queryset, not {type(source).__name__}: export it with to_file(stream(...))"
        )
    _check(source)
    data = {
        "model": source.model._meta.label,
        "database": source.db,
        "where": _tree(source.query, source.query.where),
        "order": [*_order(source)],
    }
    if _statement(source) != _statement(from_data(data)):
        raise _refusal("its conditions cannot be rebuilt from names and values")
    return data


def from_data(data: Data) -> QuerySet[Any]:
    """Return the queryset that `to_data` wrote down."""
    rows: QuerySet[Any] = QuerySet(apps.get_model(data["model"]), using=data["database"])
    try:
        return rows.filter(_condition(data["where"])).order_by(*data["order"])
    except FieldError as error:
        raise _refusal(str(error)) from error


def key_names(model: Any) -> list[str]:
    """Return the columns of the primary key by the names that read them: several for a composite key."""
    return [field.attname for field in model._meta.pk_fields]


def tables(rows: QuerySet[Any], columns: Iterable[str]) -> list[str]:
    """Return the tables that the rows, their filters and columns of these names read, as far as names tell."""
    model: Any = rows.model
    models = {model, *model._meta.get_parent_list()}
    joined = {table.table_name for table in rows.query.alias_map.values()}
    for column in columns:
        for related in _related(model, column.split("__")):
            models |= {related, *related._meta.get_parent_list()}
    return sorted({one._meta.db_table for one in models} | joined)


def _related(model: Any, path: Sequence[str]) -> Iterator[Any]:
    """Yield the models that a path leads through: also those between many and many."""
    for name in path:
        try:
            field = model._meta.get_field(name)
        except FieldDoesNotExist:  # what a model is asked for by another name than a field's
            return
        if not field.is_relation or field.related_model is None:
            return
        through = getattr(field.remote_field, "through", None) or getattr(field, "through", None)
        if through:
            yield through
        model = field.related_model
        yield model


def _refusal(reason: str) -> SourceError:
    return SourceError(
        f"this queryset cannot be planned as a dump because {reason}: a plan holds filters of fields by plain "
        "values, and an order of fields"
    )


def _check(queryset: QuerySet[Any]) -> None:
    features = query_features(queryset.query)
    for is_so, reason in (
        (features.combinator, f"{features.combinator}() combines several queries"),
        (features.is_distinct, "distinct() merges rows"),
        (features.is_grouped or queryset.query.annotations, "it has annotations"),
        (features.locks_rows, "select_for_update() locks rows"),
        (any(not isinstance(one, str) for one in prefetches(queryset)), "it has Prefetch() objects"),
        (not (gives_instances(queryset) or gives_values(queryset)), "its class changes what it yields"),
        (replaces_fetched(queryset), "its class changes what it yields"),
        (features.start or features.end is not None, "it is a slice"),
        (queryset.query.extra or features.has_extra_tables, "it uses extra()"),
    ):
        if is_so:
            raise _refusal(reason)


def _statement(queryset: QuerySet[Any]) -> Any:
    """Return the SQL for the keys of the rows, in any order, and its parameters; None if there can be none."""
    query = queryset.order_by().values_list("pk").query
    try:
        sql, parameters = query.get_compiler(connection=connections[queryset.db]).as_sql()
    except EmptyResultSet:
        return None
    return sql, [getattr(value, "obj", value) for value in parameters]  # psycopg's Jsonb equals only itself


def _order(queryset: QuerySet[Any]) -> Iterator[str]:
    terms: Any = queryset.query.order_by
    for term in terms:
        if isinstance(term, str) and term not in ("?", "-?"):
            yield from _own_key(queryset.model, term)
        elif isinstance(term, F):
            yield from _own_key(queryset.model, _name(term))
        elif isinstance(term, OrderBy) and isinstance(term.expression, F) and not _places_nulls(term):
            yield from _own_key(queryset.model, f"{'-' * term.descending}{_name(term.expression)}")
        else:
            raise _refusal("it is ordered by an expression")


def _name(reference: Any) -> str:
    name: str = reference.name
    return name


def _places_nulls(term: Any) -> bool:
    return bool(term.nulls_first or term.nulls_last)


def _own_key(model: Any, term: str) -> list[str]:
    if term.lstrip("-") != "pk":
        return [term]
    return [f"{term[:-2]}{name}" for name in key_names(model)]


def _tree(query: Any, node: Any) -> Any:
    """Return a node of a WHERE clause: a combination of nodes, or a lookup by its path and value."""
    if hasattr(node, "connector"):
        children = [_tree(query, child) for child in node.children if not _comes_by_itself(node, child)]
        return {"all" if node.connector == Q.AND else str(node.connector): children, "not": node.negated}
    if not (hasattr(node, "lookup_name") and hasattr(node, "rhs")):
        raise _refusal(f"{type(node).__name__} is no filter of a field")
    path = [*_path(query, node.lhs), node.lookup_name]
    if hasattr(node.rhs, "as_sql") or hasattr(node.rhs, "query"):
        raise _refusal(f"{'__'.join(path)} is compared with an expression or a subquery")
    return {"path": path, "value": to_json(node.rhs)}


def _comes_by_itself(node: Any, child: Any) -> bool:
    """Return whether Django itself adds a child: NOT (a = 1 AND a IS NOT NULL) is what exclude(a=1) makes."""
    is_not_null = getattr(child, "lookup_name", "") == "isnull" and child.rhs is False
    return bool(node.negated and is_not_null and any(_reads(other, child.lhs) for other in node.children))


def _reads(lookup: Any, column: Any) -> bool:
    return getattr(lookup, "lookup_name", "isnull") != "isnull" and lookup.lhs == column


def _path(query: Any, expression: Any) -> Iterator[str]:
    if hasattr(expression, "target") and hasattr(expression, "alias"):
        if is_sensitive(expression.target):
            raise ColumnError(f"{expression.target.name!r} is a sensitive field: a plan would hold its values")
        yield from _joins(query, expression.alias)
        yield expression.target.name
    elif hasattr(expression, "lhs"):  # a transform, such as a part of a date, or a key of JSON
        yield from _path(query, expression.lhs)
        yield str(getattr(expression, "key_name", "") or expression.lookup_name)
    else:
        raise _refusal(f"it filters by {type(expression).__name__}")


def _joins(query: Any, alias: str) -> Iterator[str]:
    table = query.alias_map[alias]
    if table.parent_alias:
        yield from _joins(query, table.parent_alias)
        if not getattr(table.join_field.remote_field, "parent_link", False):
            yield table.join_field.name


def _condition(data: Data) -> Q:
    if "path" in data:
        return Q(("__".join(data["path"]), from_json(data["value"])))
    [connector] = data.keys() - {"not"}
    found = Q(*map(_condition, data[connector]), _connector=Q.AND if connector == "all" else connector)
    return ~found if data["not"] else found
