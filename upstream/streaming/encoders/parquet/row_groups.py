"""Row groups: cut by their rows and bytes, however the rows are batched, and written to a file that forgets."""

from bisect import bisect_left
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from functools import partial
from typing import Any

from upstream.streaming.encoders.parquet.arrow import Array, arrow
from upstream.streaming.encoders.protocol import Columns

OFFSET_BYTES = 4
UNKNOWN_BYTES = 16  # of a cell of a type that only the caller declares


class File:
    """A Parquet file that forgets its bytes as soon as they are taken: pyarrow needs to know only how many."""

    def __init__(self, columns: Columns, types: Sequence[Any], compression: str, level: int | None) -> None:
        headers = [column.header for column in columns]
        self._schema = arrow().schema(list(zip(headers, types, strict=True)))
        self._sink = _Sink()
        self._writer = arrow("pyarrow.parquet").ParquetWriter(
            self._sink,
            self._schema,
            compression=compression,
            compression_level=level,
        )

    def write(self, group: list[Array]) -> bytes:
        """Write a row group, and return its bytes."""
        table = arrow().Table.from_arrays(group, schema=self._schema)
        self._writer.write_table(table, row_group_size=len(table))
        return self._sink.take()

    def end(self) -> bytes:
        """Return the footer, without which no reader opens the file."""
        self._writer.close()
        return self._sink.take()

    def abandon(self) -> None:
        """Release the writer, if it has not ended."""
        self._writer.close()


class _Sink:
    """A file object, as far as pyarrow needs one to write."""

    closed = False

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._written.append(data)
        return len(data)

    def flush(self) -> None:
        """Keep what is written until it is taken."""

    def take(self) -> bytes:
        data = b"".join(self._written)
        self._written.clear()
        return data


def row_groups(
    batches: Generator[list[Array]], weigh_rows: "Weight", rows: int, size: int
) -> Generator[list[Array]]:
    """Yield the columns of each row group; how the rows are batched makes no difference. Closes `batches`."""
    group: list[list[Array]] = []
    count = weight = 0
    with closing(batches):
        for batch in batches:
            rest = batch
            while length := len(rest[0]):
                taken = until_full(length, rows - count, size - weight, partial(weigh_rows, rest))
                group = group or [[] for _ in rest]
                for parts, array in zip(group, rest, strict=True):
                    parts.append(array.slice(0, taken))
                count += taken
                weight += weigh_rows(rest, taken)
                rest = [array.slice(taken) for array in rest]
                if count == rows or weight >= size:
                    yield _joined(group)
                    group, count, weight = [], 0, 0
    if group:
        yield _joined(group)


def until_full(length: int, rows: int, size: int, weight_of_first: Callable[[int], int]) -> int:
    """Return how many of `length` rows fill `rows` or `size`, whichever is less; all of them if they do not."""
    most = min(length, rows)
    if weight_of_first(most) < size:
        return most
    return bisect_left(range(1, most + 1), size, key=weight_of_first) + 1


def _joined(group: list[list[Array]]) -> list[Array]:
    """Return each column as one array, since pages end with arrays; the parts are released one by one."""
    arrays = []
    for parts in group:
        arrays.append(arrow().concat_arrays(parts))
        parts.clear()
    return arrays


class Weight:
    """Weighs the first rows of a batch, in about bytes: a sum over its rows, unlike `nbytes`."""

    def __init__(self, types: Sequence[Any]) -> None:
        self.fixed = sum(map(_fixed_bytes, types))
        self.variable = [position for position, kind in enumerate(types) if _has_content(kind)]

    def __call__(self, arrays: Sequence[Array], rows: int) -> int:
        content = (_content_bytes(arrays[position].slice(0, rows)) for position in self.variable)
        return self.fixed * rows + sum(content)


def _has_content(kind: Any) -> bool:
    types = arrow().types
    return any(is_kind(kind) for is_kind in (types.is_string, types.is_binary, types.is_list))


def _fixed_bytes(kind: Any) -> int:
    """Return the bytes that each cell of a type takes, besides its content."""
    types = arrow().types
    if _has_content(kind):
        return OFFSET_BYTES
    bits = kind.bit_width if types.is_primitive(kind) or types.is_decimal(kind) else 8 * UNKNOWN_BYTES
    return max(1, int(bits) // 8)


def _content_bytes(array: Array) -> int:
    if arrow().types.is_list(array.type):
        items = array.flatten()
        return Weight([items.type])([items], len(items))
    compute = arrow("pyarrow.compute")
    return int(compute.sum(compute.binary_length(array)).as_py() or 0)
