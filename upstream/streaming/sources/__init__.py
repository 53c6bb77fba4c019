"""Where rows come from. A source is opened once, and gives columns and batches."""

from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from typing import Any

from django.db.models import Manager, QuerySet
from django.db.models.query import RawQuerySet

from upstream.streaming.columns import Column
from upstream.streaming.errors import SourceError
from upstream.streaming.sources.protocol import Source
from upstream.streaming.sources.querysets import QuerySetReader
from upstream.streaming.sources.records import RecordSource


def as_source(
    source: Any,
    wanted: tuple[Column, ...] | None,
    *,
    takes_records: bool = False,
    takes_positions: bool = False,
    texts: frozenset[type] | None = None,
    windows: bool = False,
) -> Source:
    """Return the source that reads the `wanted` columns from `source`; what can be found wrong is found here.

    With `takes_records`, records that name their own values (dicts) or none (sequences, scalars) are given whole
    where no columns are asked for; with `takes_positions`, sequences need no names. `texts` are the types of which
    the encoder takes finished texts, of columns that it loads itself; None where it takes values only. With
    `windows` a queryset is read by many short statements.
    """
    if isinstance(source, Manager | QuerySet | RawQuerySet):
        queryset = source.all() if isinstance(source, Manager) else source
        return QuerySetReader(texts=texts, windows=windows).source(queryset, wanted)
    if isinstance(source, AsyncIterable):
        raise SourceError("an asynchronous iterable cannot be read here: give the queryset or iterable itself")
    if isinstance(source, str | bytes | Mapping) or not isinstance(source, Iterable):
        raise SourceError(f"a source is a queryset or an iterable of rows, not {type(source).__name__}")
    if windows:
        raise SourceError("windows are for querysets: an iterable is read as it is")
    records = RecordSource(source, wanted, takes_records, takes_positions)
    if isinstance(source, Sequence) and source:
        records.layout(source[0])
    return records
