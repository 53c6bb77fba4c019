"""Documents: mappings written as one object or workbook; their values may be sources of rows of any length."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.db.models.query import RawQuerySet

from upstream.streaming.batches import BatchLimits
from upstream.streaming.columns import Table
from upstream.streaming.databases import holds
from upstream.streaming.sources.orm import prefetches
from upstream.streaming.sources.protocol import OpenSource, Source


@dataclass(frozen=True)
class Document:
    """A mapping; `make_source` turns rows and their columns, if these are given, into a source."""

    mapping: Mapping[Any, Any]
    make_source: Callable[[Any, Any], Source]

    def checked(self, *, whole: bool) -> Iterator[Source]:
        """Yield the sources of its tables, or if it is rows as a `whole` of all its values, before any is read."""
        for value in self.mapping.values() if whole else _values(self.mapping):
            if whole or isinstance(value, Table):
                yield self.as_rows(value)

    def as_rows(self, value: Any) -> Source:
        """Return one of its values as a source."""
        table = value if isinstance(value, Table) else Table(value)
        return self.make_source(table.source, table.columns)

    @property
    def databases(self) -> Mapping[str, bool]:
        """The aliases that its querysets read, mapped to whether several statements read each."""
        statements: Counter[str] = Counter()
        for queryset in _querysets(self.mapping):
            statements[queryset.db] += 1 + len(prefetches(queryset))
        return {alias: statements[alias] > 1 for alias in sorted(statements)}

    @contextmanager
    def open_rows(self, value: Any, limits: BatchLimits) -> Iterator[OpenSource]:
        """Open one of its values as rows."""
        source = self.as_rows(value)
        with ExitStack() as stack:
            for hold in holds(source.databases):  # a router may choose another alias than for the plan
                stack.enter_context(hold(seconds=limits.seconds_left()))
            yield stack.enter_context(source.open(limits))


def _querysets(mapping: Mapping[Any, Any]) -> Iterator[Any]:
    for value in _values(mapping):
        source = value.source if isinstance(value, Table) else value
        if isinstance(source, QuerySet | RawQuerySet):
            yield source


def _values(mapping: Mapping[Any, Any]) -> Iterator[Any]:
    for value in mapping.values():
        if isinstance(value, Mapping):
            yield from _values(value)
        else:
            yield value
