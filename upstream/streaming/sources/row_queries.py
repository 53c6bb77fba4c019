"""Warn of columns whose code may run a query for each row: told by the names in it, without running it."""

from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from inspect import getattr_static
from types import CodeType, FunctionType, ModuleType
from typing import Any

from django.db.models import Model
from django.db.models.manager import ManagerDescriptor
from django.utils.functional import cached_property as django_cached_property

from upstream.streaming.sources.model_columns import ModelColumn, accessor_name, field_named, relations
from upstream.streaming.sources.orm import fetched_relations

# Methods of managers that run a query although their rows were prefetched.
QUERIES = frozenset({
    "aggregate", "annotate", "defer", "distinct", "earliest", "exclude", "filter", "latest", "only", "order_by",
    "reverse", "select_related", "using", "values", "values_list",
})  # fmt: skip


def query_warnings(found: Iterable[ModelColumn], queryset: Any) -> tuple[str, ...]:
    """Return a warning for each column whose code names a relation that the queryset does not fetch."""
    columns = list(found)
    fetched = {*fetched_relations(queryset), *_parts(relations(columns))}
    suspects = ((column, _suspect(column, queryset.model, fetched)) for column in columns)
    return tuple(
        f"column {column.column.header!r} may run a query for each row, for {name!r}: name what it reads in "
        "select_related() or prefetch_related(), or read it by its path, with join= for many rows"
        for column, name in suspects
        if name
    )


def _parts(lookups: Iterable[str]) -> Iterator[str]:
    for lookup in lookups:
        yield from lookup.split("__")


def _suspect(column: ModelColumn, model: type[Model], fetched: Collection[str]) -> str | None:
    """Return the name by which the code of a column may run a query; None if it has no such code."""
    if column.column.name:
        for name in filter(None, column.query_path.split("__")):
            model = field_named(model, name).related_model
    if column.many:
        return _suspect(column.many.column, column.many.model, fetched)
    if column.column.name and (column.field is not None or column.annotated):
        return None
    code: Any = _code_of(model, column.attribute) if column.column.name else column.column.source
    return _Search(model, fetched).name_in(model.__str__ if code is str else code)


def _code_of(model: type[Model], name: str) -> Any:
    """Return the function behind a property or a method of the model; None for anything else."""
    found = getattr_static(model, name, None)
    if isinstance(found, property):
        return found.fget
    if isinstance(found, cached_property | django_cached_property):
        return found.func
    return getattr(found, "__func__", found)


class _Search:
    """Looks for names of relations in functions, and in those that they name."""

    def __init__(self, model: type[Model], fetched: Collection[str]) -> None:
        self._fetched = fetched
        self._models = [model]
        self._seen: set[CodeType] = set()

    def name_in(self, function: Any) -> str | None:
        """Return a name in the function by which it may run a query."""
        function = getattr(function, "__func__", function)
        if not isinstance(function, FunctionType) or function.__code__ in self._seen:
            return None
        self._seen.add(function.__code__)
        names = list(dict.fromkeys(_names(function.__code__)))
        for model in self._models:  # which grows with each relation that is found
            for name in names:
                if found := self._by_attribute(model, name, names):
                    return found
        return next(filter(None, map(self.name_in, _called(function, names))), None)

    def _by_attribute(self, model: type[Model], name: str, names: Collection[str]) -> str | None:
        relation = _relations(model).get(name)
        if relation is None:
            is_manager = isinstance(getattr_static(model, name, None), ManagerDescriptor)
            return name if is_manager else self.name_in(_code_of(model, name))
        to_many = relation.one_to_many or relation.many_to_many
        if name not in self._fetched or (to_many and not QUERIES.isdisjoint(names)):
            return name
        if relation.related_model and relation.related_model not in self._models:
            self._models.append(relation.related_model)
        return None


def _names(code: CodeType) -> Iterator[str]:
    """Yield the global names and attributes in compiled code, that of its inner functions included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _called(function: FunctionType, names: Iterable[str]) -> Iterator[Any]:
    """Yield the functions of the same package that a function names."""
    package = _package(function)
    cells = (cell.cell_contents for cell in function.__closure__ or ())
    for found in (*(function.__globals__.get(name) for name in names), *cells):
        inner = [vars(found).get(name) for name in names] if isinstance(found, ModuleType) else [found]
        for one in inner:
            if isinstance(one, FunctionType) and _package(one) == package:
                yield one


def _package(function: FunctionType) -> str:
    return (function.__module__ or "").partition(".")[0]  # code of exec() has no module


def _relations(model: type[Model]) -> dict[str, Any]:
    """Map the attributes of instances that lead to rows of other tables to their relations."""
    found = [field for field in model._meta.get_fields() if field.is_relation]
    return {accessor_name(relation): relation for relation in found}
