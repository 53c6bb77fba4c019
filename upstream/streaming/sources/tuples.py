"""Querysets whose query selects every column, read as the driver's tuples, a column of a batch at a time."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from typing import Any

from django.db import connections
from django.db.models import CharField

from upstream.streaming.batches import Batch, BatchLimits, Fetch, batched
from upstream.streaming.columns import CellType, Load, OutputColumn, map_all, read_column
from upstream.streaming.databases import database_of
from upstream.streaming.databases.loaders import Loader, LoadValues
from upstream.streaming.databases.protocol import Cursor, Database, OpenCursor, SelectedColumn, Selection
from upstream.streaming.sources.cell_types import cell_type
from upstream.streaming.sources.fetches import CursorFetch, ReadColumn, ReadColumnsFetch
from upstream.streaming.sources.keyset import Keyset
from upstream.streaming.sources.model_columns import ModelColumn, as_json
from upstream.streaming.sources.orm import Converters, Statement, converts_itself, is_column
from upstream.streaming.sources.protocol import OpenSource

Convert = Callable[[Any], Any]

# Only longer text counts in the size of a batch; two thousand shorter ones do not make it large.
SHORT_TEXT = 100
SHORT_TYPES = frozenset({
    "AutoField", "BigAutoField", "SmallAutoField", "IntegerField", "BigIntegerField", "SmallIntegerField",
    "PositiveIntegerField", "PositiveBigIntegerField", "PositiveSmallIntegerField", "BooleanField", "FloatField",
    "DateField", "DateTimeField", "TimeField", "DurationField", "UUIDField", "GenericIPAddressField",
    "DecimalField",
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TupleColumn:
    """A column that a statement selects, and how its values are converted.

    `loader` loads a whole column. Without one, or if the column contains values it does not support, `converters`
    convert value by value. `value` is the caller's function. `is_raw`: the encoder loads the column, and with
    `takes_texts` takes the loader's text. `dumps_json`: its values are converted to JSON text. `is_long`: its text
    counts in the size of a batch.
    """

    output: OutputColumn
    selected: SelectedColumn
    loader: Loader | None
    converters: Converters | None
    value: Convert | None
    is_raw: bool
    takes_texts: bool
    dumps_json: bool
    is_long: bool

    @property
    def is_weighed(self) -> bool:
        """Whether what is read counts by length: only backends' own converters surely give short values."""
        return self.is_long or self.value is not None or bool(self.converters and not self.loader)

    @property
    def raw_type(self) -> str:
        """The driver's type that the loader requires unconverted; empty if it takes any value."""
        return self.loader.raw_type if self.loader else ""

    def load(self, cursor: OpenCursor, connection: Any) -> Load | None:
        """Return a function that loads the driver's values; None if they need no loading."""
        position = self.selected.position
        comes_raw = position in cursor.raw
        loader = self.loader if comes_raw or not self.raw_type else None
        skipped = cursor.conversions.get(position) or (self.loader.convert if self.loader and comes_raw else None)
        chain: list[Convert] = []
        if skipped:
            chain.append(partial(_unless_null, skipped))
        if self.converters:
            functions, expression = self.converters
            chain += [partial(_converted, convert, expression, connection) for convert in functions]
        if self.dumps_json:
            chain.append(partial(_unless_null, as_json))
        if loader:
            ways = [(loader.texts_of, loader.load_texts)] if self.takes_texts else []
            return _LoadColumn([*ways, (None, loader.load)], _ConvertColumn(chain))
        return _ConvertColumn(chain) if chain else None


def tuple_column(
    column: ModelColumn, statement: Statement, position: int, texts: frozenset[type] | None, connection: Any
) -> TupleColumn:
    """Return how to read `column`, which the statement selects at `position`.

    `texts` are the types whose preformatted text the encoder takes; None if it takes only values.
    """
    expression = statement.expressions[position]
    converts = not column.json and converts_itself(expression, connection)
    is_raw = texts is not None and column.column.value is None
    loader = None
    if not (column.json or converts):
        is_of_table = is_column(expression)
        loader = database_of(connection).find_loader(connection, expression.output_field, is_column=is_of_table)
    takes_texts = bool(loader and is_raw and texts and loader.texts_of in texts)
    if loader and not (loader.load or takes_texts):
        loader = None
    output = replace(column.output(), type=_type(column, expression))
    python_only = _python_only(column, converts=converts)
    return TupleColumn(
        output=output,
        selected=SelectedColumn(
            output.header,
            position,
            None if python_only else expression.output_field,
            is_column(expression),
            python_only,
            output.type,
        ),
        loader=loader,
        converters=None if column.json_text else statement.converters.get(position),
        value=column.column.value,
        is_raw=is_raw,
        takes_texts=takes_texts,
        dumps_json=column.json and not column.json_text,
        is_long=not _is_short(expression),
    )


def _type(column: ModelColumn, expression: Any) -> CellType | None:
    """Return the type of what is selected: for a transform, not that of the column's field."""
    if column.json:
        return CellType(str)
    if column.column.value:
        return None
    return cell_type(expression.output_field, is_column=is_column(expression) and not column.annotated)


def _python_only(column: ModelColumn, *, converts: bool) -> str:
    if column.column.value:
        return "has a value function"
    if column.column.join is not None:
        return "is joined in Python"
    if column.json and not column.json_text:
        return "is decoded by its field"
    return "is converted by its field or expression" if converts else ""


def _is_short(expression: Any) -> bool:
    field = getattr(expression, "output_field", None)
    if isinstance(field, CharField):
        return field.max_length is not None and field.max_length <= SHORT_TEXT
    return field is not None and field.get_internal_type() in SHORT_TYPES


@dataclass(frozen=True, kw_only=True)
class TupleSource:
    """A queryset read as tuples; its `statement` is None if the ORM knows that no row can match."""

    alias: str
    database: Database
    statement: Statement | None
    columns: tuple[OutputColumn, ...]
    tuple_columns: Sequence[TupleColumn]
    gives_raw: bool
    keyset: Keyset | None
    warnings: tuple[str, ...] = ()

    @property
    def databases(self) -> Mapping[str, bool]:
        return {self.alias: False}

    @property
    def sql(self) -> str:
        return self.statement.sql if self.statement else ""

    @property
    def reason(self) -> str:
        reasons = ["the query selects every column: rows are read as the driver's tuples"]
        if self.statement is None:
            reasons.append("the ORM knows that no row can match")
        elif self.keyset:
            reasons.append("windows are read as tuples")
        return "; ".join(reasons)

    @property
    def selection(self) -> Selection | None:
        if self.statement is None or self.keyset:
            return None
        return Selection(
            alias=self.alias,
            sql=self.statement.sql,
            params=self.statement.params,
            width=len(self.statement.expressions),
            columns=[column.selected for column in self.tuple_columns],
            is_plain=all(map(is_column, self.statement.expressions)),
        )

    @contextmanager
    def open(self, limits: BatchLimits) -> Iterator[OpenSource]:
        if self.statement is None:
            yield OpenSource(self.columns, _nothing())
            return
        connection = connections[self.alias]
        opened = self._open_cursor(self.statement, limits)
        with closing(opened.cursor):
            loads = [column.load(opened, connection) for column in self.tuple_columns]
            fetch = self._fetch(opened.cursor, self._cut(self.statement), loads)
            with closing(batched(fetch, limits, self.database.fetch_rows or limits.rows)) as batches:
                yield OpenSource(self._outputs(loads, is_exact=opened.is_exact), batches)

    def _open_cursor(self, statement: Statement, limits: BatchLimits) -> OpenCursor:
        if self.keyset:
            return OpenCursor(self.keyset.open())
        raw_types = {
            column.selected.position: column.raw_type
            for column in self.tuple_columns
            if column.raw_type and not statement.has_more
        }
        connection = connections[self.alias]
        return self.database.open_cursor(
            connection,
            statement.sql,
            statement.params,
            raw_types=raw_types,
            width=len(statement.expressions),
            seconds=limits.seconds_left(),
        )

    def _fetch(self, cursor: Cursor, cut: Callable[[Any], Any] | None, loads: Sequence[Load | None]) -> Fetch[Any]:
        """Return the fetch of rows in which all columns are read that the encoder does not load."""
        read, long = [], []
        for position, (column, load) in enumerate(zip(self.tuple_columns, loads, strict=True)):
            if not column.is_raw and (load or column.value):
                read.append(ReadColumn(position, _Reader(column, load), column.is_weighed))
            elif column.is_long:
                long.append(position)
        fetch = CursorFetch(cursor, cut, long)
        return ReadColumnsFetch(fetch, read) if read else fetch

    def _outputs(self, loads: Sequence[Load | None], *, is_exact: bool) -> tuple[OutputColumn, ...]:
        return tuple(
            replace(
                column.output,
                load=load if column.is_raw else None,
                is_exact=is_exact and not (load or column.value),
            )
            for column, load in zip(self.tuple_columns, loads, strict=True)
        )

    def _cut(self, statement: Statement) -> Callable[[Any], Any] | None:
        """Return a function that picks the columns out of a row; None if they are the whole row."""
        positions = tuple(column.selected.position for column in self.tuple_columns)
        first = tuple(range(len(positions)))
        if positions == first:
            whole = len(statement.expressions) == len(positions) and not statement.has_more
            return None if whole else itemgetter(slice(len(positions)))
        if len(positions) == 1:
            [position] = positions
            return lambda row: (row[position],)
        return itemgetter(*positions)


def _nothing() -> Generator[Batch]:
    yield from ()


def _converted(convert: Any, expression: Any, connection: Any, value: Any) -> Any:
    return convert(value, expression, connection)


def _unless_null(convert: Convert, value: Any) -> Any:
    return None if value is None else convert(value)


@dataclass(frozen=True, slots=True)
class _ConvertColumn:
    """Converts value by value, as Django does."""

    converters: Sequence[Convert]

    def __call__(self, values: Sequence[Any]) -> tuple[None, Sequence[Any]]:
        for convert in self.converters:
            values = map_all(convert, values)
        return None, values


@dataclass(frozen=True, slots=True)
class _LoadColumn:
    """Loads a whole column in the first of the ways that supports its values; else converts value by value."""

    ways: Sequence[tuple[type | None, LoadValues | None]]
    fallback: _ConvertColumn

    def __call__(self, values: Sequence[Any]) -> tuple[type | None, Sequence[Any]]:
        # Tried without a look for None, which takes as long as some loaders do, and which they refuse.
        loaded = self._loaded(values) if values else None
        if loaded:
            return loaded
        present = [value for value in values if value is not None]
        if not present:
            return None, values
        loaded = self._loaded(present) if len(present) < len(values) else None
        if loaded is None:
            return self.fallback(values)
        texts_of, rest = loaded[0], iter(loaded[1])
        return texts_of, [None if value is None else next(rest) for value in values]

    def _loaded(self, values: Sequence[Any]) -> tuple[type | None, Sequence[Any]] | None:
        for texts_of, load in self.ways:
            if load:
                with suppress(ValueError):
                    return texts_of, load(values)
        return None


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads a column that the encoder does not load, and applies its `Column.value`."""

    column: TupleColumn
    load: Load | None

    def __call__(self, values: Sequence[Any], first_row: int) -> Sequence[Any]:
        load, header = self.load, self.column.output.header
        if load:
            try:
                _, values = load(values)
            except Exception:  # noqa: BLE001 (raised again by its row)
                values = read_column(lambda value: load((value,))[1][0], values, header, first_row)
        if self.column.value:
            values = read_column(self.column.value, values, header, first_row)
        return values
