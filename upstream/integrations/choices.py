"""What users may choose for an export: declared names, and nothing else."""

import csv
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
    """A chosen name is not declared; the text lists the declared names."""


def keyed_columns(source: Any, columns: Columns | None) -> dict[str, Column] | None:
    """Return the columns by the names that users choose, in order.

    A mapping gives these names. Otherwise a column is called by the name that it reads or, if it is computed, by
    the slug of its header. Without `columns` they are the source's default columns, or None if only its first
    record tells them.
    """
    if isinstance(columns, Mapping):
        return dict(zip(columns, as_columns(columns.values()), strict=True))
    if columns is None:
        columns = plan(source).headers
        if columns is None:
            return None
    declared = as_columns(columns)
    keyed = {name_of(column): column for column in declared}
    if len(keyed) < len(declared):
        raise ImproperlyConfigured("two columns have the same name; declare them as a mapping of names to columns")
    return keyed


def name_of(column: Column) -> str:
    """Return the name that users choose a column by if none is declared."""
    return column.name or slug_of(str(column.header))


def slug_of(label: str) -> str:
    """Return a label as a name for URLs; it is never empty."""
    return slugify(label) or "column"


def chosen(what: str, wanted: Iterable[str], declared: Mapping[str, Chosen]) -> list[Chosen]:
    """Return the values of the `wanted` names in `declared`, in order; raise ChoiceError for unknown names."""
    names = list(dict.fromkeys(wanted))
    if unknown := [name for name in names if name not in declared]:
        choices = f"choose from: {', '.join(declared)}" if declared else "there is none to choose"
        raise ChoiceError(f"unknown {what} {', '.join(map(repr, unknown))}; {choices}")
    return [declared[name] for name in names]


def listed(values: Iterable[str]) -> list[str]:
    """Return the names in `values`; one value may hold several, separated by commas."""
    return [name.strip() for value in values for name in value.split(",") if name.strip()]


def quoted_parts(text: str) -> list[str]:
    """Return what commas separate in a text; as in CSV, double quotes keep the commas in a part: `"a, b",c`.

    Quotes that do not enclose a whole part are characters as others; a part that does not end with its quote
    raises ValueError.
    """
    if '"' not in text:
        return text.split(",")
    try:
        [parts] = csv.reader([text], strict=True)
    except (csv.Error, ValueError) as error:
        raise ValueError(
            f'the quotes in {text[:100]!r} do not enclose a value; write "a, b",c, and a quote twice'
        ) from error
    return parts


def as_mapping(names: Names) -> Mapping[str, str]:
    """Return a mapping unchanged, and names as a mapping of each to itself."""
    return names if isinstance(names, Mapping) else {name: name for name in names}


def chosen_ordering(wanted: Iterable[str], declared: Names) -> list[str]:
    """Return the fields to order rows by; `-` before a declared name reverses its order."""
    fields = as_mapping(declared)
    return chosen("ordering", wanted, {**fields, **{f"-{name}": f"-{field}" for name, field in fields.items()}})
