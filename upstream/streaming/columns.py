"""Columns: what to read from each record, and the header to write it under."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NoReturn

from upstream.streaming.errors import ColumnError, lone_surrogate

Reader = Callable[[Any], Any]
# Loads a column of the driver's raw values: returns None and values, or a type and its preformatted text.
Load = Callable[[Sequence[Any]], tuple[type | None, Sequence[Any]]]


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

    `load` is set only for encoders that take raw values; without it, the cells are values already. `type` is None
    if nothing but the values tells their type.
    """

    header: str
    json: bool = False
    load: Load | None = None
    type: CellType | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """One column of an export.

    `source` is a name to read from each record, or a callable that takes the record (a model instance, dict or
    row). Names follow relations, dict keys and attributes with `__`; methods are called without arguments.
    `header` defaults to the name, or to the callable's `__name__`. `value` converts what was read before it is
    written.

        Column("customer__name", header="Customer", value=str.upper)
        Column(lambda event: event.current_end - event.current_start, header="Days")
    """

    source: str | Callable[[Any], Any]
    header: str | None = None
    value: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        if not self.source or not (isinstance(self.source, str) or callable(self.source)):
            raise ColumnError(f"a column must be a name or a callable, not {self.source!r}")
        if self.value is not None and not callable(self.value):
            raise ColumnError(f"column {self.source!r}: value must be a callable, not {self.value!r}")
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
        return OutputColumn(header, json, type=type)

    @property
    def name(self) -> str | None:
        """The name to read; None for a callable."""
        return self.source if isinstance(self.source, str) else None


def as_columns(columns: Iterable[str | Column | Callable[[Any], Any]]) -> tuple[Column, ...]:
    """Return `columns` as Column objects; a single string is an error, since it would be read letter by letter."""
    if isinstance(columns, str):
        raise ColumnError(f"columns must be a list of names: [{columns!r}]")
    resolved = tuple(column if isinstance(column, Column) else Column(column) for column in columns)
    if not resolved:
        raise ColumnError("an export needs at least one column")
    return resolved


def unknown_column(name: str, known: Collection[str], where: str) -> ColumnError:
    """Return the error for a name that does not exist on `where`, with close matches or the known names."""
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    names = ", ".join(sorted(known)[:40])
    hint = f": did you mean {' or '.join(map(repr, close))}?" if close else f"; choose from: {names}"
    return ColumnError(f"unknown column {name!r} on {where}{hint}")


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
    found = getattr(value, name)
    return result_of(found, value, name) if callable(found) else found


def result_of(found: Any, value: Any, name: str) -> Any:
    """Call a callable attribute and return the result; classes and `do_not_call_in_templates` are not called."""
    if isinstance(found, type) or hasattr(found, "do_not_call_in_templates"):
        return found
    if getattr(found, "alters_data", False):
        raise ColumnError(f"{type(value).__name__}.{name}() alters data and cannot be a column")
    return found()
