"""Selections: querysets all of whose columns the query itself selects, read as the driver's own rows."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from inspect import getattr_static
from operator import itemgetter
from typing import Any, NamedTuple

from django.core.exceptions import EmptyResultSet
from django.db import connections
from django.db.models import CharField
from django.db.models.expressions import BaseExpression, Col

from upstream.streaming.batches import BatchLimits, batched
from upstream.streaming.columns import Load, OutputColumn, read_column
from upstream.streaming.cursors import CursorFetch, ReadFetch, largest_fetch
from upstream.streaming.databases import OpenedCursor, open_cursor
from upstream.streaming.databases.loaders import Loader, find_loader
from upstream.streaming.keyset import WindowedRows
from upstream.streaming.lookups import ModelColumn, as_json, outputs

Rows = list[tuple[Any, ...]]
Opened = tuple[tuple[OutputColumn, ...], Generator[Rows]]
Convert = Callable[[Any], Any]

# A longer text counts when a batch is weighed; two thousand shorter ones make no batch large.
SHORT_TEXT = 100
SHORT_TYPES = frozenset({
    "AutoField", "BigAutoField", "SmallAutoField", "IntegerField", "BigIntegerField", "SmallIntegerField",
    "PositiveIntegerField", "PositiveBigIntegerField", "PositiveSmallIntegerField", "BooleanField", "FloatField",
    "DateField", "DateTimeField", "TimeField", "DurationField", "UUIDField", "GenericIPAddressField",
})  # fmt: skip


class Statement(NamedTuple):
    """A query as the ORM compiles it: its columns are `expressions`, and further ones where it `has_more`."""

    sql: str
    params: Any
    expressions: tuple[Any, ...]
    has_more: bool
    converters: Mapping[int, tuple[Sequence[Any], Any]]


def compiled(queryset: Any) -> Statement | None:
    """Return the queryset's statement; None where the ORM knows that no row can match."""
    compiler = queryset.query.get_compiler(queryset.db)
    try:
        sql, params = compiler.as_sql()
    except EmptyResultSet:
        return None
    expressions = tuple(expression for expression, *_ in compiler.select[: compiler.col_count])
    return Statement(sql, params, expressions, compiler.has_extra_select, compiler.get_converters(expressions))


@dataclass(frozen=True, kw_only=True)
class SelectionSource:
    """A queryset of tuples: `found` are the columns, which stand at `positions` of its statement's rows.

    `texts` are the types of which the encoder takes finished texts; None where it takes nothing raw.
    """

    queryset: Any
    found: tuple[ModelColumn, ...]
    positions: tuple[int, ...]
    texts: frozenset[type] | None
    reason: str
    windows: bool = False

    @property
    def columns(self) -> tuple[OutputColumn, ...]:
        return outputs(self.found)

    @property
    def database(self) -> str:
        """The alias of the database it reads from."""
        return str(self.queryset.db)

    @property
    def sql(self) -> str:
        """The statement with its placeholders; empty where the ORM knows that no row can match."""
        statement = compiled(self.queryset)
        return statement.sql if statement else ""

    @contextmanager
    def open(self, limits: BatchLimits) -> Iterator[Opened]:
        statement = compiled(self.queryset)
        if statement is None:
            yield self.columns, _nothing()
            return
        connection = connections[self.database]
        expressions = [statement.expressions[position] for position in self.positions]
        loaders = [self._loader(*pair, connection) for pair in zip(self.found, expressions, strict=True)]
        raw_types = {
            position: loader.raw_type
            for position, loader in zip(self.positions, loaders, strict=True)
            if loader and loader.raw_type and not statement.has_more
        }
        cursor, raw, conversions = self._cursor(connection, statement, raw_types, limits)
        with closing(cursor):
            loads = [
                _load(
                    loader if loader and (not loader.raw_type or at in raw) else None,
                    _converters(column, statement.converters.get(at), connection),
                    conversions.get(at) or (loader.convert if loader and at in raw else None),
                )
                for column, loader, at in zip(self.found, loaders, self.positions, strict=True)
            ]
            fetch = CursorFetch(cursor, self._cut(statement), self._long(expressions))
            with closing(self._batches(fetch, loads, largest_fetch(connection, limits.rows), limits)) as batches:
                yield self._outputs(loads), batches

    def _cursor(
        self, connection: Any, statement: Statement, raw_types: Mapping[int, str], limits: BatchLimits
    ) -> OpenedCursor:
        if self.windows:
            return OpenedCursor(WindowedRows(self.queryset, connection))
        return open_cursor(
            connection,
            statement.sql,
            statement.params,
            width=len(statement.expressions),
            raw_types=raw_types,
            seconds=limits.seconds_left(),
        )

    def _batches(
        self, fetch: CursorFetch, loads: Sequence[Load | None], largest: int, limits: BatchLimits
    ) -> Generator[Rows]:
        if all(map(self._stays_raw, self.found)):
            return batched(fetch, limits, largest)
        read = [None if self._stays_raw(column) else load for column, load in zip(self.found, loads, strict=True)]
        return batched(ReadFetch(fetch, _Reader(self.found, read)), limits, largest)

    def _stays_raw(self, column: ModelColumn) -> bool:
        """Whether the encoder loads the column."""
        return self.texts is not None and column.column.value is None

    def _outputs(self, loads: Sequence[Load | None]) -> tuple[OutputColumn, ...]:
        return tuple(
            column.column.output(json=column.json, load=load if self._stays_raw(column) else None)
            for column, load in zip(self.found, loads, strict=True)
        )

    def _loader(self, column: ModelColumn, expression: Any, connection: Any) -> Loader | None:
        if column.json or converts_itself(expression, connection):
            return None
        loader = find_loader(connection, expression.output_field, is_column=isinstance(expression, Col))
        taken = self.texts if self.texts and self._stays_raw(column) else frozenset[type]()
        return None if loader and loader.texts_of and loader.texts_of not in taken else loader

    def _cut(self, statement: Statement) -> Callable[[Any], Any] | None:
        """Return what takes the columns out of a row, or None where they are all of it."""
        if self.positions == tuple(range(len(statement.expressions))) and not statement.has_more:
            return None
        if self.positions == tuple(range(len(self.positions))):
            return itemgetter(slice(len(self.positions)))
        if len(self.positions) == 1:
            [position] = self.positions
            return lambda row: (row[position],)
        return itemgetter(*self.positions)

    def _long(self, expressions: Sequence[Any]) -> tuple[int, ...]:
        return tuple(position for position, expression in enumerate(expressions) if not _is_short(expression))


def _nothing() -> Generator[Rows]:
    yield from ()


def converts_itself(expression: Any, connection: Any) -> bool:
    """Whether the field or the expression converts what the backend's own converters give."""
    if isinstance(expression, Col):
        return bool(expression.get_db_converters(connection))
    usual = getattr_static(BaseExpression, "convert_value")
    is_usual = getattr_static(type(expression), "convert_value", None) is usual
    return not is_usual or bool(expression.output_field.get_db_converters(connection))


def _is_short(expression: Any) -> bool:
    field = getattr(expression, "output_field", None)
    if isinstance(field, CharField):
        return field.max_length is not None and field.max_length <= SHORT_TEXT
    return field is not None and field.get_internal_type() in {*SHORT_TYPES, "DecimalField"}


def _converters(column: ModelColumn, known: tuple[Sequence[Any], Any] | None, connection: Any) -> list[Convert]:
    if column.json_text:  # the database's text is the cell
        return []
    functions, expression = known or ((), None)
    converters: list[Convert] = [partial(_converted, convert, expression, connection) for convert in functions]
    if column.json:
        converters.append(lambda value: None if value is None else as_json(value))
    return converters


def _converted(convert: Any, expression: Any, connection: Any, value: Any) -> Any:
    return convert(value, expression, connection)


def _unless_null(convert: Convert, value: Any) -> Any:
    return None if value is None else convert(value)


def _load(loader: Loader | None, converters: Sequence[Convert], left_out: Convert | None) -> Load | None:
    chain: Sequence[Convert] = [partial(_unless_null, left_out), *converters] if left_out else converters
    if not loader:
        return _Converting(chain) if chain else None
    return _Loading(loader, _Converting(chain))


@dataclass(frozen=True, slots=True)
class _Converting:
    """Converts value by value, as Django does."""

    converters: Sequence[Convert]

    def __call__(self, values: Sequence[Any]) -> tuple[None, Sequence[Any]]:
        for convert in self.converters:
            values = list(map(convert, values))
        return None, values


@dataclass(frozen=True, slots=True)
class _Loading:
    """Loads a column at once, or converts it where it holds what the loader does not know."""

    loader: Loader
    otherwise: _Converting

    def __call__(self, values: Sequence[Any]) -> tuple[type | None, Sequence[Any]]:
        present = [value for value in values if value is not None] if None in values else values
        try:
            loaded = self.loader.load(present) if present else present
        except ValueError:
            return self.otherwise(values)
        if present is not values:
            rest = iter(loaded)
            loaded = [None if value is None else next(rest) for value in values]
        return self.loader.texts_of, loaded


@dataclass(frozen=True, slots=True)
class _Reader:
    """Turns raw rows into rows of values where there is a load, and applies the `value` of columns."""

    found: tuple[ModelColumn, ...]
    loads: Sequence[Load | None]

    def __call__(self, rows: Sequence[Any], first_row: int) -> Rows:
        if not rows:
            return []
        columns = zip(zip(*rows, strict=True), self.found, self.loads, strict=True)
        cells = [self._column(values, column, load, first_row) for values, column, load in columns]
        return list(zip(*cells, strict=True))

    def _column(
        self, values: Sequence[Any], column: ModelColumn, load: Load | None, first_row: int
    ) -> Sequence[Any]:
        header = str(column.column.header)
        if load:
            try:
                _, values = load(values)
            except Exception:  # noqa: BLE001 (raised again, by the row it comes from)
                values = read_column(lambda value: load((value,))[1][0], values, header, first_row)
        if column.column.value:
            values = read_column(column.column.value, values, header, first_row)
        return values
