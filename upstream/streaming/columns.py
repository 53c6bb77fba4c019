"""Columns: what to read from each record, and the header to write it under."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NoReturn

from django.db.models import QuerySet
from django.db.models.manager import BaseManager
from django.utils.functional import Promise

from upstream.streaming.errors import ColumnError, lone_surrogate

Reader = Callable[[Any], Any]
# Loads a column of the driver's raw values: returns None and values, or a type and its preformatted text.
Load = Callable[[Sequence[Any]], tuple[type | None, Sequence[Any]]]

# zip() makes an iterator for each row, and Python's garbage collector runs after 700 new objects: 2,000 rows at
# once take four times as long.
TRANSPOSED_ROWS = 500

# What leads to the rows of a relation, or of a query.
MANY_ROWS = (BaseManager, QuerySet)


@dataclass(frozen=True, slots=True)
class CellType:
    """The type of a column's values besides None: `kind` is a Python type.

    A Decimal has at most `digits` digits, `places` of them after the point. A datetime `is_aware` or not. A list
    has `items`.
    """

    kind: type
    digits: int = 0
    places: int = 0
    is_aware: bool = False
    items: "CellType | None" = None


@dataclass(frozen=True, slots=True)
class OutputColumn:
    """A column as encoders see it; `json` means that its cells are JSON text, or None.

    `load` is set only for encoders that take raw values; without it, the cells are values already. `join` is the
    separator for cells that are lists, for formats that cannot hold a list; without it, they are JSON text there.
    `type` is None if nothing but the values tells their type. `is_exact` says that no cell is of a subclass
    that somebody else made, such as an Enum that is also a str.
    """

    header: str
    json: bool = False
    load: Load | None = None
    join: str | None = None
    type: CellType | None = None
    is_exact: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """One column of an export.

    `source` is a name to read from each record, or a callable that takes the record (a model instance, dict or
    row). Names follow relations, dict keys and attributes with `__`; methods are called without arguments.
    `header` defaults to the name, or to the callable's `__name__`. `value` converts what was read before it is
    written.

    A name that leads to many rows, such as `tags__name`, gives a list with the value of each row of
    `record.tags.all()`, in its order or else in that of the keys; `tags` alone gives the text of each row. `value`
    converts each value. The related rows are prefetched: those of one batch of records are held at a time, whole.

    JSON writes a list as an array. `join` is the separator that text formats put between its values, without those
    that are None; without `join` they write the array as JSON text. It also joins lists that are read otherwise.

        >>> column = Column("customer__name", header="Customer", value=str.upper)
        >>> column.header
        'Customer'
        >>> rows = [{"id": 1, "tags": ["new", "paid"]}]
        >>> to_buffer(stream(rows, ["id", Column("tags", join="; ")])).getvalue()
        b'id,tags\\r\\n1,new; paid\\r\\n'
    """

    source: str | Callable[[Any], Any]
    header: str | None = None
    value: Callable[[Any], Any] | None = None
    join: str | None = None

    def __post_init__(self) -> None:
        if not self.source or not (isinstance(self.source, str) or callable(self.source)):
            raise ColumnError(f"a column must be a name or a callable, not {self.source!r}")
        if self.value is not None and not callable(self.value):
            raise ColumnError(f"column {self.source!r}: value must be a callable, not {self.value!r}")
        if not isinstance(self.join, str | None):
            raise ColumnError(f"column {self.source!r}: join must be a text such as '; ', not {self.join!r}")
        if self.header is None:
            object.__setattr__(self, "header", self._default_header())

    def _default_header(self) -> str:
        if isinstance(self.source, str):
            return self.source
        name: str = getattr(self.source, "__name__", "")
        if not name.isidentifier():
            raise ColumnError(f"{self.source!r} has no name: set one with Column(..., header='...')")
        return name

    def output(self, *, json: bool = False, type: CellType | None = None) -> OutputColumn:  # noqa: A002
        """Return the column as encoders see it; a lazily translated header is translated now."""
        header = str(self.header)
        try:
            header.encode()
        except UnicodeEncodeError as error:
            raise lone_surrogate(f"the header {header!r}", header, error) from error
        return OutputColumn(header, json, join=self.join, type=type)

    @property
    def name(self) -> str | None:
        """The name to read; None for a callable."""
        return self.source if isinstance(self.source, str) else None


# What a column is given as: names with their headers are pairs among the others, or a mapping.
Names = Mapping[Any, str] | Iterable[str | Column | Callable[[Any], Any] | tuple[Any, str]]


def as_columns(columns: Names) -> tuple[Column, ...]:
    """Return `columns` as Column objects; a single string is an error, since it would be read letter by letter."""
    if isinstance(columns, str):
        raise ColumnError(f"columns must be a list of names: [{columns!r}]")
    entries = with_headers(columns)
    resolved = tuple(column if isinstance(column, Column) else Column(column) for column in entries)
    if not resolved:
        raise ColumnError("an export needs at least one column")
    return resolved


def with_headers(columns: Any) -> list[Any]:
    """Return the entries of `columns`, with names that have headers, in a mapping or as pairs, as Columns."""
    if isinstance(columns, Mapping):
        return [_with_header(pair) for pair in columns.items()]
    return [_with_header(entry) if isinstance(entry, tuple) else entry for entry in columns]


def _with_header(pair: tuple[Any, ...]) -> Column:
    if len(pair) != 2 or not isinstance(pair[1], str | Promise):
        raise ColumnError(f"a column with a header is a pair of texts such as ('id', 'Number'), not {pair!r:.100}")
    return Column(pair[0], header=pair[1])  # type: ignore[arg-type]


@dataclass(frozen=True)
class Table:
    """A source of rows with its columns, as a value of a mapping: the arguments of `stream` by the same names.

    >>> table = Table([{"id": 1, "name": "Ada"}], ["name"])
    >>> to_buffer(stream({"Buyers": table, "Days": [{"day": 5}]}, encoder=Json())).getvalue()
    b'{"Buyers":[{"name":"Ada"}],"Days":[{"day":5}]}'
    """

    source: Any
    columns: Names | None = None

    def __post_init__(self) -> None:
        if self.columns is not None:
            object.__setattr__(self, "columns", as_columns(self.columns))


def unknown_column(name: str, known: Collection[str], where: str) -> ColumnError:
    """Return the error for a name that does not exist on `where`, with close matches or the known names."""
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    names = ", ".join(sorted(known)[:40])
    hint = f": did you mean {' or '.join(map(repr, close))}?" if close else f"; choose from: {names}"
    return ColumnError(f"unknown column {name!r} on {where}{hint}")


@dataclass(frozen=True, slots=True)
class KeyReader:
    """Reads one key of a mapping, whatever it looks like; None if it is missing."""

    key: Any

    def __call__(self, record: Mapping[Any, Any]) -> Any:
        return record.get(self.key)


def path_reader(names: Sequence[str]) -> Reader:
    """Return a function that follows `names` through attributes, keys and positions; it stops at None.

    Methods are called without arguments; those marked `alters_data` raise ColumnError.
    """

    def read(record: Any) -> Any:
        for name in names:
            record = step(record, name)
            if record is None:
                return None
        return record

    return read


def read_column(reader: Reader, records: Sequence[Any], header: str, first_row: int) -> list[Any]:
    """Return what `reader` reads from each record; an error gets a note that names its row and column.

    A StopIteration is raised as a RuntimeError, since `map` and generators take it for the end of their input.
    """
    values: list[Any] = []
    try:
        values.extend(map(reader, records))  # values read before an error stay in the list
        if len(values) < len(records):
            _raise_stop(reader, records[len(values)])
    except Exception as error:
        error.add_note(f"while reading row {first_row + len(values)}, column {header!r}")
        raise
    return values


def transposed(rows: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    """Return the columns of rows of one length."""
    columns: list[Any] = list(zip(*rows[:TRANSPOSED_ROWS], strict=True))
    if len(rows) > TRANSPOSED_ROWS:
        columns = list(map(list, columns))
        for start in range(TRANSPOSED_ROWS, len(rows), TRANSPOSED_ROWS):
            more = zip(*rows[start : start + TRANSPOSED_ROWS], strict=True)
            for column, values in zip(columns, more, strict=True):
                column.extend(values)
    return columns


def map_all(function: Callable[[Any], Any], values: Sequence[Any]) -> list[Any]:
    """Return `function` of each value; a StopIteration is raised as a RuntimeError."""
    results = list(map(function, values))
    if len(results) < len(values):
        _raise_stop(function, values[len(results)])
    return results


def stopped(error: StopIteration | None = None) -> RuntimeError:
    """Return the error for a cell's function that raised StopIteration."""
    stop = RuntimeError("a cell raised StopIteration, as next() does at the end: write next(iterator, default)")
    stop.__cause__ = error
    return stop


def _raise_stop(function: Callable[[Any], Any], value: Any) -> NoReturn:
    """Raise the StopIteration that `map` took for its end, as a RuntimeError; the cause is raised again for it."""
    try:
        function(value)
    except StopIteration as error:
        raise stopped(error) from error
    raise stopped()


@dataclass(frozen=True, slots=True)
class RowReader:
    """Turns records into rows: applies each column's reader, then its `value`."""

    columns: tuple[Column, ...]
    readers: tuple[Reader, ...]

    def __call__(self, records: Sequence[Any], first_row: int) -> list[tuple[Any, ...]]:
        cells = []
        for column, reader in zip(self.columns, self.readers, strict=True):
            values = read_column(reader, records, str(column.header), first_row)
            if column.value:
                values = read_column(column.value, values, str(column.header), first_row)
            cells.append(values)
        return list(zip(*cells, strict=True))


def step(value: Any, name: str) -> Any:
    """Return what `name` is of a value: a key, a position, an attribute, or the result of a method."""
    if isinstance(value, Mapping):
        return value.get(name)
    if name.isdigit() and isinstance(value, Sequence) and not isinstance(value, str):
        return value[int(name)] if int(name) < len(value) else None
    try:
        found = getattr(value, name)
    except AttributeError as error:
        if isinstance(value, MANY_ROWS):
            raise _behind_code(name) from error
        raise
    if callable(found):
        return result_of(found, value, name)
    if isinstance(value, MANY_ROWS):  # which have attributes of their own, such as `name`
        raise _behind_code(name)
    return found


def _behind_code(name: str) -> ColumnError:
    return ColumnError(
        f"{name!r} belongs to many rows behind a property or a generic relation, which cannot be prefetched: "
        "begin with a relation of the model, or write a function, such as "
        f"Column(lambda row: [one.{name} for one in ...], header='...', join='; ')"
    )


def result_of(found: Any, value: Any, name: str) -> Any:
    """Call a callable attribute and return the result; classes and `do_not_call_in_templates` are not called."""
    if isinstance(found, type) or hasattr(found, "do_not_call_in_templates"):
        return found
    if getattr(found, "alters_data", False):
        raise ColumnError(f"{type(value).__name__}.{name}() alters data and cannot be a column")
    return found()
