"""Which other models a column shows: whoever exports it needs the permission to view them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.apps import apps
from django.db.models import IntegerField, UUIDField
from django.db.models.expressions import Col, RawSQL

from upstream.streaming.sources.model_columns import field_named


def shown_by_name(model: Any, name: str, query: Any) -> tuple[Any, ...]:
    """Return the other models whose values the column `name` of `query`, a query of `model`, shows.

    What cannot be proven to stay on known models shows every model: a path that leads on from a property or a
    method, a generic foreign key, and an annotation of raw SQL. A property or method by itself shows none: its
    author decides.
    """
    return _others(model, _by_name(model, name, query))


def shown_by_text(model: Any, field: Any) -> tuple[Any, ...]:
    """Return the other models that the text of the row at the end of a relation shows."""
    return _others(model, every_model() if field.related_model is None else [field.related_model])


def every_model() -> list[Any]:
    """Return all installed models."""
    return list(apps.get_models())


def _others(model: Any, shown: Iterable[Any]) -> tuple[Any, ...]:
    """Return `shown`, each once, without the model itself and the models that it inherits from."""
    own = {model, *model._meta.get_parent_list()}
    concrete = {kind._meta.concrete_model for kind in own}
    return tuple(dict.fromkeys(kind for kind in shown if kind._meta.concrete_model not in concrete))


def _by_name(model: Any, name: str, query: Any) -> list[Any]:
    parts = name.split("__")
    for called in (name, parts[0]):
        if called in query.annotations:
            return list(_by_expression(query.annotations[called]))
        if called in query.extra:
            return every_model()
    return _by_path(model, parts)


def _by_path(model: Any, parts: Sequence[str]) -> list[Any]:
    shown: list[Any] = []
    for position, part in enumerate(parts, 1):
        field, is_last = field_named(model, part), position == len(parts)
        if field is None:
            return shown if is_last else every_model()
        if not field.is_relation:  # what follows are parts of its value
            return shown
        if field.related_model is None:
            return every_model()
        if is_last and field.concrete and not field.many_to_many:  # else it shows the text of rows
            return [*shown, *_by_key(field)]
        model = field.related_model
        shown.append(model)
    return shown


def _by_key(field: Any) -> list[Any]:
    """Return the models that the key in a foreign key shows: none if it only says which row it is."""
    target = field
    while target.is_relation:
        model, target = target.related_model, target.target_field
        if not target.primary_key:
            return [model]
    return [] if target is field or isinstance(target, IntegerField | UUIDField) else [target.model]


def _by_expression(expression: Any) -> Iterator[Any]:
    """Yield the models of all columns that an expression of a query is made of."""
    if isinstance(expression, Col):
        yield from _by_column(expression.target)
    elif hasattr(expression, "alias_map"):
        yield from _by_query(expression)
    elif isinstance(expression, RawSQL) or not hasattr(expression, "get_source_expressions"):
        yield from every_model()
    else:
        sources = (*expression.get_source_expressions(), *getattr(expression, "children", ()))
        for source in sources:
            if source is not None:
                yield from _by_expression(source)


def _by_column(field: Any) -> Iterator[Any]:
    if field.model._meta.auto_created:  # the table of a many-to-many relation
        yield from [field.related_model] if field.is_relation else []
        return
    yield field.model
    if field.is_relation:
        yield from _by_key(field)


def _by_query(query: Any) -> Iterator[Any]:
    """Yield the models that a subquery reads."""
    yield query.model
    joins = (join.join_field for join in query.alias_map.values() if getattr(join, "join_field", None))
    for field in joins:
        ends = (field.model, field.related_model)
        yield from (end for end in ends if end is not None and not end._meta.auto_created)
    for part in (*query.annotations.values(), query.where, *query.combined_queries):
        yield from _by_expression(part)
