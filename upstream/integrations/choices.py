"""What a user may choose of an export: names that were declared for it, and nothing else."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.utils.text import slugify

from upstream.streaming import Column, ExportError, plan
from upstream.streaming.columns import as_columns

Columns = Mapping[str, Any] | Iterable[Any]
Names = Mapping[str, str] | Iterable[str]
Chosen = TypeVar("Chosen")


class ChoiceError(ExportError, ValueError):
    """A name that was not declared; the text lists those that were."""


def keyed_columns(source: Any, columns: Columns | None) -> dict[str, Column] | None:
    """Return the columns by the names that users choose them by, in their order.

    A mapping gives the names itself; else they are what each column reads, or for a callable its header as a
    slug. Without columns they are those that the source has by default; None where only its first record tells.
    """
    if isinstance(columns, Mapping):
        return dict(zip(columns, as_columns(columns.values()), strict=True))
    if columns is None:
        columns = plan(source).headers
        if columns is None:
            return None
    declared = as_columns(columns)
    keyed = {column.name or slugify(str(column.header)) or "column": column for column in declared}
    if len(keyed) < len(declared):
        raise ImproperlyConfigured("two columns have the same name: declare them as a mapping of names to columns")
    return keyed


def chosen(what: str, wanted: Iterable[str], declared: Mapping[str, Chosen]) -> list[Chosen]:
    """Return what stands in `declared` under the `wanted` names, in their order; raise ChoiceError for others."""
    names = list(dict.fromkeys(wanted))
    if unknown := [name for name in names if name not in declared]:
        known = ", ".join(declared) or "none"
        raise ChoiceError(f"there is no {what} {', '.join(map(repr, unknown))}; there is {known}")
    return [declared[name] for name in names]


def listed(values: Iterable[str]) -> list[str]:
    """Return the names in `values`, each of which may hold several with commas between."""
    return [name.strip() for value in values for name in value.split(",") if name.strip()]


def as_mapping(names: Names) -> Mapping[str, str]:
    """Return a mapping as it is, and a sequence of names as one from each to itself."""
    return names if isinstance(names, Mapping) else {name: name for name in names}


def chosen_ordering(wanted: Iterable[str], declared: Names) -> list[str]:
    """Return the fields that rows are ordered by; `-` in front of a declared name turns its order round."""
    fields = as_mapping(declared)
    return chosen("ordering", wanted, {**fields, **{f"-{name}": f"-{field}" for name, field in fields.items()}})
