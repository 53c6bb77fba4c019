"""Filters and orderings from text, checked against the fields of a model."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.core.exceptions import EmptyResultSet, FieldError, FullResultSet, ValidationError
from django.db import DataError, NotSupportedError, connections, transaction
from django.db.models import Model, Q, QuerySet

from upstream.integrations.filter_values import check_parameters, value_of
from upstream.streaming import ColumnError, ExportError
from upstream.streaming.columns import unknown_column
from upstream.streaming.databases import database_of
from upstream.streaming.sources.model_columns import field_named, is_sensitive, known_names, sensitive_names

# What Django raises for a value or a lookup while it makes the statement. Overflows are ArithmeticErrors.
REJECTED = (FieldError, ValidationError, ValueError, TypeError, ArithmeticError, NotSupportedError, RecursionError)
REGEX_LOOKUPS = ("regex", "iregex")
LONGEST_WORDS = 200
MOST_REPEATS = 2
MOST_BRANCHES = 10
# What repeats, branches or ends a group, and what only looks so: escaped characters, sets, the start of (?:...).
REGEX_PARTS = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?|(?P<repeat>[*+?]|\{\d*,?\d*\})[?+]?|(?P<branch>\|)|(?P<end>\))",
    re.DOTALL,
)


class FilterError(ColumnError):
    """The database cannot take a value of a filter."""


def parse_filter(model: type[Model], text: str, *, using: str | None = None) -> Q:
    """Return the condition for a text: `severity__gte=0.7`, `status__in=sent,failed` or `note__isnull=yes`."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ColumnError(f"{text!r} is not a filter; write NAME=VALUE, such as severity__gte=0.7")
    return condition(model, name, value, called=f"filter {text!r}", using=using)


def condition(model: type[Model], name: str, text: str, *, called: str, using: str | None = None) -> Q:
    """Return the condition that `name`, a path to a field with or without a lookup, matches the value in `text`.

    The field parses the value; `in` and `range` take values separated by commas, and `"a, b",c` is two. The
    condition is one on any rows of the model, whichever its managers hide, and selects a row once, however many
    related rows match.

    An unknown or sensitive name, and a value that the field or the database with the alias `using` cannot take,
    raise ColumnError; the text of a rejected value begins with `called`.
    """
    fields, lookups = _follow(model, name)
    rows: QuerySet[Model] = QuerySet(model, using=using)
    try:
        found = Q(**{name: value_of(fields[-1], lookups, text)})
        if lookups and lookups[-1] in REGEX_LOOKUPS:
            _check_regex(text, connections[rows.db])
        matching = rows.filter(found)
        _check_statement(matching)
    except REJECTED as error:
        raise ColumnError(f"{called}: {_words(error)}") from error
    if any(field.one_to_many or field.many_to_many for field in fields):
        return Q(pk__in=matching.values("pk"))
    return found


def parse_ordering(model: type[Model], name: str) -> str:
    """Return `name`, a path to a field with `-` before it for descending order; raise unless it can order rows."""
    fields, lookups = _follow(model, name.removeprefix("-"))
    if lookups or any(field.one_to_many or field.many_to_many for field in fields):
        raise ColumnError(f"rows cannot be ordered by {name!r}; name a field, or a field of one related row")
    return name


def check_ordering(model: type[Model], name: str) -> None:
    """Raise ColumnError if an ordering, which may name annotations too, follows a path to a sensitive field."""
    _check_not_sensitive(name, _fields_along(model, name.removeprefix("-")))


def _words(error: Exception) -> str:
    """Return what an error says; errors of fields repeat the value, which may be long."""
    if isinstance(error, ArithmeticError):
        return "the value is out of range"
    words = "; ".join(error.messages) if isinstance(error, ValidationError) else str(error)
    return words if len(words) <= LONGEST_WORDS else f"{words[:LONGEST_WORDS]}..."


@contextmanager
def rejections(filtered: Any, unfiltered: Callable[[], Any]) -> Iterator[None]:
    """Turn an error of the database into a FilterError if the filters of an export are to blame.

    They are if the database also fails to find a first row of the `filtered` queryset, but not one of those that
    `unfiltered` returns. Both are asked only after an error, so that exports cost no query more.
    """
    try:
        yield
    except ExportError:
        raise
    except Exception as error:
        if isinstance(filtered, QuerySet) and _fails(filtered) and _is_by_value(error, filtered, unfiltered()):
            words = _words(error).partition("\n")[0]
            raise FilterError(f"the database cannot take a value of the filters: {words}") from error
        raise


def _is_by_value(error: Exception, filtered: QuerySet[Any], unfiltered: Any) -> bool:
    """Whether there are filters, and rows can be found without them.

    PostgreSQL finds nothing in a transaction that an error aborted; there the kind of the error decides.
    """
    if isinstance(unfiltered, QuerySet) and unfiltered.query.where == filtered.query.where:
        return False
    if connections[filtered.db].in_atomic_block and isinstance(error, DataError):
        return True
    return not _fails(unfiltered)


def _fails(rows: Any) -> bool:
    """Whether the database cannot find the first of these rows."""
    if not isinstance(rows, QuerySet):
        return False
    try:
        with transaction.atomic(using=rows.db):
            rows.exists()
    except Exception:  # noqa: BLE001 (drivers raise errors of their own for values that they cannot pass on)
        return True
    return False


def _check_statement(rows: QuerySet[Any]) -> None:
    """Raise what Django raises for the values in a queryset; the database is not asked."""
    try:
        _, parameters = rows.query.get_compiler(rows.db).as_sql()
    except (EmptyResultSet, FullResultSet):  # no row matches, or every row
        return
    check_parameters(parameters)


def _check_regex(pattern: str, connection: Any) -> None:
    """Raise ValueError for a pattern that Python, where it does the matching, could not match in bounded time."""
    if not database_of(connection).matches_regex_in_python:
        return
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError, FutureWarning) as error:
        raise ValueError(f"{pattern[:40]!r} is not a regular expression: {error}") from error
    parts = list(REGEX_PARTS.finditer(pattern))
    repeats = [part for part in parts if part["repeat"]]
    branches = [part for part in parts if part["branch"]]
    ends = {part.end() for part in parts if part["end"]}
    repeats_group = any(part.start() in ends for part in repeats)
    if repeats_group or len(repeats) > MOST_REPEATS or len(branches) > MOST_BRANCHES:
        raise ValueError(
            f"{pattern[:40]!r} could take too long on {connection.display_name}; repeat no group, "
            f"and use at most {MOST_REPEATS} repetitions and {MOST_BRANCHES} alternatives"
        )


def _follow(model: type[Model], name: str) -> tuple[list[Any], list[str]]:
    """Return the fields along the path `name`, and the transforms and lookups after them."""
    parts = name.split("__")
    fields = _fields_along(model, name)
    _check_not_sensitive(name, fields)
    if len(fields) < len(parts):
        at = _next_model(fields[-1]) if fields else model
        if at and not (fields and _is_lookup(fields[-1], parts[len(fields)])):
            raise unknown_column(parts[len(fields)], known_names(at), at.__name__)
    return fields, parts[len(fields) :]


def _fields_along(model: type[Model], name: str) -> list[Any]:
    fields: list[Any] = []
    at: type[Model] | None = model
    for part in name.split("__"):
        field = field_named(at, part) if at else None
        if field is None:
            break
        fields.append(field)
        at = _next_model(field)
    return fields


def _next_model(field: Any) -> type[Model] | None:
    return field.related_model if field.is_relation else None


def _check_not_sensitive(name: str, fields: list[Any]) -> None:
    """Raise if the path leads over a field that the settings call sensitive, or ends at a sensitive one."""
    names = {name for field in fields for name in (field.name, getattr(field, "attname", field.name))}
    last = fields[-1] if fields else None
    if last is not None and last.is_relation and not last.concrete and last.related_model:
        last = last.related_model._meta.pk  # which such a relation is compared with
    if not names.isdisjoint(sensitive_names()) or (last is not None and is_sensitive(last)):
        raise ColumnError(f"{name!r} names a sensitive field; filters and orderings could reveal its values")


def _is_lookup(field: Any, name: str) -> bool:
    return bool(hasattr(field, "get_lookup") and (field.get_lookup(name) or field.get_transform(name)))
