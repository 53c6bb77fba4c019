"""Documents: mappings written as one object; their values may be querysets and iterables of any length."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.db.models.query import RawQuerySet

from upstream.streaming.batches import BatchLimits
from upstream.streaming.databases import holds
from upstream.streaming.sources.orm import prefetches
from upstream.streaming.sources.protocol import OpenSource, Source


@dataclass(frozen=True)
class Document:
    """A mapping; `as_rows` turns one of its values into a source."""

    mapping: Mapping[Any, Any]
    as_rows: Callable[[Any], Source]

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
    for value in mapping.values():
        if isinstance(value, Mapping):
            yield from _querysets(value)
        elif isinstance(value, QuerySet | RawQuerySet):
            yield value
