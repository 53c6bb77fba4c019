"""The labels of columns, as the admin's lists have them."""

from dataclasses import replace
from typing import Any

from django.contrib.admin.utils import label_for_field
from django.db.models import QuerySet
from django.utils.text import capfirst

from upstream.integrations.html_text import text_of
from upstream.integrations.shown import as_shown, computed_as_shown
from upstream.streaming import Column, ColumnError, plan
from upstream.streaming.columns import Names, as_columns
from upstream.streaming.sources.model_columns import find
from upstream.streaming.sources.orm import annotations


def for_people(queryset: Any, columns: Names | None = None) -> list[Column] | None:
    """Return columns of a queryset as people read them: labels as headers, and the labels of choices.

    Lists are joined by ", ", those of properties too. A header, `value` or `join` of the author's own stays.
    `columns` are as in `stream`; without them they are its default columns. Other sources have no labels: their
    columns are returned as they are, None included.
    """
    if not isinstance(queryset, QuerySet):
        return None if columns is None else list(as_columns(columns))
    named = as_columns(columns if columns is not None else plan(queryset).headers or ())
    return [_in_words(labelled(column, queryset.model), queryset) for column in named]


def labelled(column: Column, model: Any) -> Column:
    """Return a column with its label as the header, unless it has a header of its own."""
    is_named = column.header == column.name
    return replace(column, header=label_of(column.name, model)) if is_named else column


def _in_words(column: Column, queryset: Any) -> Column:
    if column.value:
        return column
    try:
        found = find(column, queryset.model, annotations(queryset.query))
    except ColumnError:  # the export reports it
        return column
    if found.many and column.join is None:
        column = replace(column, join=", ")
    is_computed = found.end.field is None and not found.end.annotated
    return replace(column, value=computed_as_shown if is_computed else as_shown(found.end.field))


def label_of(name: Any, model: Any, model_admin: Any = None) -> str:
    """Return the label of a name, or of another entry of `list_display`: a verbose name, in one line of text."""
    try:
        label: Any = label_for_field(name, model, model_admin)
    except AttributeError:  # an annotation, say
        label = str(name).replace("__", " ").replace("_", " ")
    return capfirst(text_of_label(label))


def text_of_label(label: Any) -> str:
    """Return a label, which may be HTML, as one line of text."""
    text = text_of(label.__html__(), line_break=" ") if hasattr(label, "__html__") else str(label)
    return " ".join(text.split())
