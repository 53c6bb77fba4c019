"""What commands share: the options that select rows and columns of a model, and how a command ends."""

import signal
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from threading import current_thread, main_thread
from typing import Any

from django.apps import apps
from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Model, QuerySet

from upstream.integrations.choices import listed, quoted_parts
from upstream.integrations.filters import parse_filter, parse_ordering
from upstream.streaming import Column


class Terminated(BaseException):
    """SIGTERM as an exception, so that everything open is closed."""


def seconds(text: str) -> float:
    """Parse a number of seconds greater than 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not number > 0:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds greater than 0")
    return number


def rows(text: str) -> int:
    """Parse a number of rows, 1 or more."""
    return at_least_one(text, "rows")


def at_least_one(text: str, things: str) -> int:
    """Parse a number of things, 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a number of {things}, 1 or more")
    return int(text)


# The options that select rows and columns of one model.
SELECTION = ("columns", "filter", "exclude", "order_by", "manager")


def add_selection(parser: ArgumentParser) -> None:
    """Add the options that `selected` and `named_columns` read."""
    add = parser.add_argument
    conditions: dict[str, Any] = {"action": "append", "default": [], "metavar": "NAME=VALUE"}
    add("--columns", action="append", metavar="NAMES", help="such as id,customer__name=Customer")
    add("--filter", **conditions, help="export only rows that match, such as status__in=open,closed")
    add("--exclude", **conditions, help="leave out rows that match")
    add("--order-by", action="append", metavar="NAMES", help="such as --order-by=-severity,id")
    add("--manager", metavar="NAME", help="manager whose rows to export, default: the model's default manager")
    add("--database", default=DEFAULT_DB_ALIAS, choices=tuple(connections), help="database to read")


def model_of(label: str) -> type[Model]:
    """Return the model with a label such as app_label.Model."""
    try:
        return apps.get_model(label)
    except (LookupError, ValueError):
        labels = [model._meta.label for model in apps.get_models()]
        close = get_close_matches(label, labels, n=3) or sorted(labels)
        raise CommandError(f"unknown model {label!r}; choose from: {', '.join(close)}") from None


def selected(model: type[Model], options: dict[str, Any]) -> QuerySet[Model]:
    """Return the rows that the options select, in their order."""
    database = options["database"]
    queryset: QuerySet[Model] = _manager(model, options["manager"]).using(database)
    for text in options["filter"]:
        queryset = queryset.filter(parse_filter(model, text, using=database))
    for text in options["exclude"]:
        queryset = queryset.exclude(parse_filter(model, text, using=database))
    if ordering := listed(options["order_by"] or ()):
        queryset = queryset.order_by(*(parse_ordering(model, name) for name in ordering))
    return queryset


def named_columns(options: dict[str, Any]) -> list[Column]:
    """Return the columns that the options name, each as `name` or `name=header`."""
    parts = (part for text in options["columns"] or () for part in _parts(text))
    return [_column(part) for part in parts if part.strip()]


def words_of(error: BaseException) -> str:
    """Return what an error says, with its notes."""
    return "\n".join([str(error), *getattr(error, "__notes__", ())])


@contextmanager
def ending_with_signals() -> Iterator[None]:
    """Exit as a shell expects, 128 and its number, when SIGINT or SIGTERM ends what is open in the block."""
    try:
        with terminable():
            yield
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except Terminated:
        sys.exit(128 + signal.SIGTERM)


@contextmanager
def terminable() -> Iterator[None]:
    """Raise Terminated in the block when SIGTERM comes."""

    def end(*_: object) -> None:
        raise Terminated

    if current_thread() is not main_thread():  # only the main thread can set handlers
        yield
        return
    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _manager(model: type[Model], name: str | None) -> Any:
    if name is None:
        return model._default_manager
    known = {manager.name: manager for manager in model._meta.managers}
    if name not in known:
        raise CommandError(f"{model._meta.label} has no manager {name!r}; choose from: {', '.join(known)}")
    return known[name]


def _parts(text: str) -> list[str]:
    try:
        return quoted_parts(text)
    except ValueError as error:
        raise CommandError(f"--columns: {error}") from error


def _column(text: str) -> Column:
    name, equals, header = text.partition("=")
    return Column(name.strip(), header if equals else None)
