"""Rows that a database renders (see `TypedRows`), parsed as arrays."""

from bisect import bisect_left
from collections.abc import Generator, Sequence
from contextlib import closing
from functools import partial
from typing import Any

from upstream.streaming.encoders.parquet.arrays import bytes_of_uuids
from upstream.streaming.encoders.parquet.arrow import Array, arrow, misfit
from upstream.streaming.encoders.protocol import Columns
from upstream.streaming.errors import ExportError

PARSED_BYTES = 1024 * 1024


def gathered(batches: Generator[list[bytes]]) -> Generator[list[bytes]]:
    """Yield larger batches: 8,000 rows are parsed in 0.6 of the time that they take in batches of 400."""
    rows: list[bytes] = []
    size = 0
    with closing(batches):
        for batch in batches:
            rows += batch
            size += sum(map(len, batch))
            if size >= PARSED_BYTES:
                yield rows
                rows, size = [], 0
    if rows:
        yield rows


class RowReader:
    """Parses rows of `TypedRows` as arrays, in C: 2 us for a row of 12 cells."""

    def __init__(self, columns: Columns, types: Sequence[Any]) -> None:
        self._columns = columns
        self._row = 1
        self._types = types
        self._names = [str(position) for position in range(len(types))]
        known = {name: _parsed_type(kind) for name, kind in zip(self._names, types, strict=True)}
        csv = self._csv = arrow("pyarrow.csv")
        self._parse = csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)
        self._convert = partial(
            csv.ConvertOptions,
            column_types=known,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            true_values=["t"],
            false_values=["f"],
        )

    def read(self, rows: Sequence[bytes]) -> list[Array]:
        """Return the next rows as arrays; raise ColumnError if a cell does not fit its type."""
        try:
            arrays = self._finished(rows)
        except arrow().ArrowInvalid as error:
            position, after = self._find(rows)
            column = self._columns[position]
            raised = misfit(str(error).rpartition(": ")[2], column.header, self._types[position])
            raised.add_note(f"while writing row {self._row + after}, column {column.header!r}")
            raise raised from error
        self._row += len(rows)
        return arrays

    def _finished(self, rows: Sequence[bytes]) -> list[Array]:
        arrays = self._read(rows, self._names)
        return [_finished(array, kind) for array, kind in zip(arrays, self._types, strict=True)]

    def _find(self, rows: Sequence[bytes]) -> tuple[int, int]:
        """Return the position of a column that does not fit, and that of its row."""
        [column, *_] = (at for at in range(len(self._names)) if not self._fits(rows, at))
        places = range(len(rows))
        return column, bisect_left(places, True, key=lambda at: not self._fits(rows[: at + 1], column))

    def _fits(self, rows: Sequence[bytes], column: int) -> bool:
        try:
            [array] = self._read(rows, [self._names[column]])
            _finished(array, self._types[column])
        except arrow().ArrowInvalid:
            return False
        return True

    def _read(self, rows: Sequence[bytes], names: list[str]) -> list[Array]:
        data = b"\n".join([*rows, b""])
        table = self._csv.read_csv(
            arrow().py_buffer(data),
            read_options=self._csv.ReadOptions(column_names=self._names, block_size=len(data), use_threads=False),
            parse_options=self._parse,
            convert_options=self._convert(include_columns=names),
        )
        if len(table) != len(rows):
            raise ExportError(f"{len(rows)} rendered rows were parsed as {len(table)}")
        return [column.combine_chunks() for column in table.columns]


def _parsed_type(kind: Any) -> Any:
    """Return the type to parse cells as, before `_finished` makes `kind` of it."""
    pa = arrow()
    is_text = kind == pa.uuid() or pa.types.is_binary(kind) or pa.types.is_decimal256(kind)
    return pa.string() if is_text else kind


def _finished(array: Array, kind: Any) -> Array:
    pa = arrow()
    if array.type == kind:
        return array
    if kind == pa.uuid():
        return pa.ExtensionArray.from_storage(kind, bytes_of_uuids(array))
    if pa.types.is_binary(kind):
        return pa.array([text if text is None else bytes.fromhex(text) for text in array.to_pylist()], kind)
    return array.cast(kind)
