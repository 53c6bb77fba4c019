"""Sources of rows. A source is opened once, and yields columns and batches."""

from collections.abc import AsyncIterable, Collection, Iterable, Mapping, Sequence
from typing import Any

from django.db.models import Manager, QuerySet
from django.db.models.query import RawQuerySet

from upstream.streaming.columns import Column
from upstream.streaming.errors import SourceError
from upstream.streaming.sources.protocol import Source
from upstream.streaming.sources.querysets import QuerySetReader, left_out
from upstream.streaming.sources.records import RecordSource


def left_out_of(source: Any, shown: Collection[str]) -> tuple[str, ...]:
    """Return the names of what a queryset holds but its default columns, `shown`, leave out as sensitive."""
    if not isinstance(source, Manager | QuerySet):
        return ()
    return left_out(source.all() if isinstance(source, Manager) else source, shown)


def as_source(
    source: Any,
    wanted: tuple[Column, ...] | None,
    *,
    takes_records: bool = False,
    takes_positions: bool = False,
    texts: frozenset[type] | None = None,
    windows: bool = False,
) -> Source:
    """Return the source that reads the `wanted` columns from `source`; raise early for what it cannot read.

    With `takes_records` and no columns, dicts, sequences and scalars are yielded whole. With `takes_positions`,
    sequences need no column names. `texts` are the types whose preformatted text the encoder takes, from raw
    columns that it loads; None if it takes only values. With `windows`, many short statements read a queryset.
    """
    if isinstance(source, Manager | QuerySet | RawQuerySet):
        queryset = source.all() if isinstance(source, Manager) else source
        return QuerySetReader(texts=texts, windows=windows).source(queryset, wanted)
    if isinstance(source, AsyncIterable):
        raise SourceError("an asynchronous iterable cannot be read: pass the queryset or iterable itself")
    if isinstance(source, str | bytes | Mapping) or not isinstance(source, Iterable):
        raise SourceError(f"a source must be a queryset or an iterable of rows, not {type(source).__name__}")
    if windows:
        raise SourceError(f"windows=True requires a queryset, not {type(source).__name__}")
    records = RecordSource(source, wanted, takes_records, takes_positions)
    if isinstance(source, Sequence) and source:
        records.layout(source[0])
    return records
