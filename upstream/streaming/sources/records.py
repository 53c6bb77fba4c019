"""Iterables of records of any kind, read as batches of rows."""

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from inspect import GEN_CLOSED, getgeneratorstate
from itertools import count
from numbers import Number
from operator import attrgetter, itemgetter, methodcaller
from typing import Any

from django.db.models import Model

from upstream.streaming.batches import Batch, BatchLimits, Fetched, Taker, weigh_records
from upstream.streaming.columns import (
    Column,
    KeyReader,
    OutputColumn,
    Reader,
    RowReader,
    as_columns,
    path_reader,
    unknown_column,
)
from upstream.streaming.errors import ColumnError, SourceError
from upstream.streaming.sources.fetches import ReadRows, batches_of_rows
from upstream.streaming.sources.model_columns import default_names, find_all, outputs, relations, row_reader
from upstream.streaming.sources.plain_records import ReadPlain, dict_reader, object_reader, sequence_reader
from upstream.streaming.sources.protocol import OpenSource
from upstream.streaming.values import SCALARS

# Records come from our own process: small fetches cost little, and notice wide ones early.
FETCH_MADE = 64
# Those of a list are in memory anyway, if no cell is computed. An export then takes a twentieth less time.
FETCH_LISTED = 256


@dataclass(frozen=True, slots=True)
class Layout:
    """How the records of a source become rows, derived from the first one.

    `read` takes all records, and raises for those it cannot read; `read_plain` takes plain ones in less time.
    """

    columns: tuple[OutputColumn, ...] | None
    read: ReadRows
    read_plain: ReadPlain | None = None
    prefetch: tuple[str, ...] = ()

    @property
    def computes(self) -> bool:
        """Whether cells may be made by code of the caller's."""
        return self.columns is not None and self.read_plain is None


@dataclass(frozen=True)
class RecordSource:
    """An iterable of dicts, sequences, named tuples, dataclasses, model instances or other objects."""

    records: Iterable[Any]
    requested: tuple[Column, ...] | None
    takes_records: bool
    takes_positions: bool
    columns: None = None
    databases: Mapping[str, bool] = field(default_factory=dict, init=False)
    sql: str = ""
    warnings: tuple[str, ...] = ()
    reason: str = "the source is an iterable of Python objects"
    selection: None = None
    gives_raw: bool = False

    @contextmanager
    def open(self, limits: BatchLimits) -> Iterator[OpenSource]:
        records = iter(self.records)
        with ExitStack() as stack:
            if isinstance(records, Generator):
                if getgeneratorstate(records) == GEN_CLOSED:
                    raise SourceError("the generator was read or closed before: make a new one for each export")
                stack.enter_context(closing(records))
            take = Taker(records)
            first = take(1)
            layout = self.layout(first[0]) if first else self._empty()

            def fetch(rows: int) -> Fetched[Any]:
                taken = first.copy() or take(rows)
                first.clear()
                weight = weigh_records(taken) if layout.prefetch else 0  # otherwise ReadFetch weighs the rows
                return Fetched(taken, weight, take.seconds)

            is_there = isinstance(self.records, list | tuple) and not layout.computes
            largest = FETCH_LISTED if is_there else FETCH_MADE
            batches = batches_of_rows(fetch, largest, layout.read, layout.prefetch, limits)
            yield OpenSource(layout.columns, stack.enter_context(closing(batches)))

    def _empty(self) -> Layout:
        nothing: tuple[OutputColumn, ...] | None = None if self.takes_records else ()
        columns = _outputs(self.requested) if self.requested else nothing
        return Layout(columns, lambda _records, _row: [])

    def layout(self, first: Any) -> Layout:
        """Return how to read records like `first`; raise if they lack the requested columns."""
        if isinstance(first, Model):
            return self._instances(first)
        if self.requested is None and self.takes_records and not (_has_attributes(first) and _attributes(first)):
            layout = Layout(None, lambda records, _row: list(zip(records, strict=True)))
            kinds = {_kind(first), "mapping", "sequence", "single value"}
            return replace(layout, read=_rejecting_other_kinds(kinds, layout.read))
        layout = self._named(first)
        read = _rejecting_other_kinds({_kind(first)}, layout.read)
        return replace(layout, read=_trying(layout.read_plain, read) if layout.read_plain else read)

    def _named(self, first: Any) -> Layout:
        kind = _kind(first)
        if kind == "mapping":
            return self._mappings(first)
        return self._sequences(first) if kind == "sequence" else self._objects(first)

    def _instances(self, first: Model) -> Layout:
        model = type(first)
        fields = {field.attname for field in model._meta.concrete_fields}
        annotations = dict.fromkeys(name for name in vars(first) if name not in fields and name[0] != "_")
        names = [*default_names(model, vars(first)), *annotations]
        found = find_all(self.requested or as_columns(names), model, annotations)
        return Layout(outputs(found), row_reader(found), prefetch=relations(found))

    def _mappings(self, first: Mapping[Any, Any]) -> Layout:
        if self.requested:
            self._check_keys(first)
            layout = _layout(self.requested, lambda name: _key_reader(first, name))
            if not _is_named(first):
                return layout
            read = _rejecting_keys_without_names(layout.read)
            keys = _keys(first, self.requested)
            return replace(layout, read=read, read_plain=dict_reader(keys, others=True) if keys else None)
        if not first:
            raise ColumnError(
                "the first record has no keys, so the columns are unknown: name them with columns=[...]"
            )
        columns = tuple(Column(KeyReader(key), header=str(key)) for key in first)
        layout = _layout(columns, lambda name: _key_reader(first, name))
        read = _rejecting_new_keys(frozenset(first), layout.read)
        return replace(layout, read=read, read_plain=dict_reader(list(first), others=False))

    def _check_keys(self, first: Mapping[Any, Any]) -> None:
        """Raise ColumnError for names that the first record lacks, if all are missing or one resembles a key."""
        names = [column.name for column in self.requested or () if column.name]
        missing = [name for name in names if name not in first and name.split("__")[0] not in first]
        known = [key for key in first if isinstance(key, str)]
        for name in missing:
            if len(missing) == len(names) or get_close_matches(name, known):
                raise unknown_column(name, known, "the first row")

    def _sequences(self, first: Sequence[Any]) -> Layout:
        if self.requested is None and not self.takes_positions:
            raise ColumnError("rows without names need columns=[...] (or Csv(header=False))")
        columns = self.requested or as_columns(map(str, range(len(first))))
        named = [column for column in columns if column.name]
        positions = count()
        readers = tuple(itemgetter(next(positions)) if column.name else _callable(column) for column in columns)
        read = RowReader(columns, readers)
        if not named:
            return Layout(_outputs(columns), read)
        plain = len(named) == len(columns) and not any(column.value for column in columns)
        return Layout(
            _outputs(columns),
            _rejecting_other_lengths(len(named), read),
            sequence_reader(len(columns)) if plain else None,
        )

    def _objects(self, first: Any) -> Layout:
        known = _attributes(first)
        columns = self.requested or as_columns(known)
        layout = _layout(columns, lambda name: _attribute_reader(first, name, known))
        names = [column.name for column in columns if column.name and not column.value]
        return replace(layout, read_plain=object_reader(first, names) if len(names) == len(columns) else None)


def _layout(columns: tuple[Column, ...], reader: Callable[[str], Reader]) -> Layout:
    readers = tuple(reader(column.name) if column.name else _callable(column) for column in columns)
    return Layout(_outputs(columns), RowReader(columns, readers))


def _outputs(columns: Iterable[Column]) -> tuple[OutputColumn, ...]:
    return tuple(column.output() for column in columns)


def _callable(column: Column) -> Reader:
    assert callable(column.source)
    return methodcaller("get", column.source.key) if isinstance(column.source, KeyReader) else column.source


def _key_reader(first: Mapping[Any, Any], name: str) -> Reader:
    return path_reader(name.split("__")) if _is_path(first, name) else methodcaller("get", name)


def _is_path(first: Mapping[Any, Any], name: str) -> bool:
    return name not in first and "__" in name and name.split("__", maxsplit=1)[0] in first


def _keys(first: Mapping[Any, Any], columns: Sequence[Column]) -> list[str]:
    """Return the key that each column reads; none if one of them reads anything else."""
    sources = [column.source.key if isinstance(column.source, KeyReader) else column.source for column in columns]
    names = [source for source in sources if type(source) is str and not _is_path(first, source)]
    return names if len(names) == len(columns) and not any(column.value for column in columns) else []


def _attribute_reader(first: Any, name: str, known: Sequence[str]) -> Reader:
    names = [name] if hasattr(first, name) else name.split("__")
    if not hasattr(first, names[0]):
        raise unknown_column(name, known, type(first).__name__)
    return path_reader(names) if len(names) > 1 or callable(getattr(first, name)) else attrgetter(name)


def _kind(record: Any) -> str:
    """Return what a record is: its layout reads no other kind."""
    if isinstance(record, Mapping):
        return "mapping"
    if isinstance(record, (*SCALARS, Number)):
        return "single value"
    return "object" if _has_attributes(record) else "sequence"


def _is_named(record: Mapping[Any, Any]) -> bool:
    """Return whether the keys of a mapping are names; an empty one lacks some."""
    return isinstance(next(iter(record), ""), str)


def _has_attributes(record: Any) -> bool:
    """Return whether a record's values are its named attributes, not its items or the record itself."""
    if isinstance(record, (*SCALARS, Mapping)):
        return False
    return hasattr(record, "_fields") or not isinstance(record, Sequence)


def _attributes(record: Any) -> list[str]:
    if isinstance(record, SCALARS):
        raise SourceError(f"a row must be a dict, sequence or object, not {type(record).__name__}: {record!r:.60}")
    if is_dataclass(record):
        return [one.name for one in fields(record)]
    slots = (name for kind in type(record).__mro__ for name in getattr(kind, "__slots__", ()))
    names: Any = getattr(record, "_fields", None) or (*slots, *getattr(record, "__dict__", ()))
    return [name for name in names if not name.startswith("_")]


def _trying(read_plain: ReadPlain, read: ReadRows) -> ReadRows:
    """Return a function that reads records with `read_plain`, or those it cannot read with `read`."""

    def read_rows(records: Sequence[Any], first_row: int) -> Batch:
        rows = read_plain(records)
        return read(records, first_row) if rows is None else rows

    return read_rows


def _rejecting_new_keys(keys: frozenset[Any], read: ReadRows) -> ReadRows:
    """Wrap `read` to raise ColumnError for a dict with new keys, whose values would be lost."""

    def checked(records: Sequence[Any], first_row: int) -> Batch:
        for row, record in enumerate(records, first_row):
            if not keys.issuperset(record):
                new = ", ".join(sorted(repr(key) for key in record if key not in keys))
                raise ColumnError(f"row {row} has keys that row 1 lacks: {new}; name the columns to export")
        return read(records, first_row)

    return checked


def _rejecting_other_kinds(kinds: Collection[str], read: ReadRows) -> ReadRows:
    """Wrap `read` to raise SourceError for a record that is not of one of `kinds`, once for each type."""
    known: set[type] = set()

    def checked(records: Sequence[Any], first_row: int) -> Batch:
        if not known.issuperset(map(type, records)):
            for row, record in enumerate(records, first_row):
                if _kind(record) not in kinds:
                    raise SourceError(
                        f"row {row} is of another kind than row 1, {type(record).__name__}: {record!r:.60}; "
                        "give records of one kind"
                    )
            known.update(map(type, records))
        return read(records, first_row)

    return checked


def _rejecting_keys_without_names(read: ReadRows) -> ReadRows:
    """Wrap `read` to raise SourceError for a mapping whose keys are no names, which would give empty cells."""

    def checked(records: Sequence[Any], first_row: int) -> Batch:
        if not all(map(_is_named, records)):
            row = next(row for row, record in enumerate(records, first_row) if not _is_named(record))
            raise SourceError(f"row {row} has keys that are not names, unlike row 1")
        return read(records, first_row)

    return checked


def _rejecting_other_lengths(length: int, read: ReadRows) -> ReadRows:
    def checked(records: Sequence[Any], first_row: int) -> Batch:
        for row, record in enumerate(records, first_row):
            if len(record) != length:
                raise SourceError(f"row {row} has {len(record)} values for {length} columns")
        return read(records, first_row)

    return checked
