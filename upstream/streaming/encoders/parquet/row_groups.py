"""Row groups: cut by their rows and bytes, however the rows are batched, and written to a file that forgets."""

from bisect import bisect_left
from collections.abc import Callable, Generator, Sequence
from functools import partial
from io import BytesIO
from threading import Lock
from typing import Any

from upstream.streaming.encoders.parquet.arrow import Array, arrow, pool
from upstream.streaming.encoders.protocol import Columns

# A dictionary that grows larger is given up, and the rest of its column written as it is. With the 1 MiB that is
# usual, columns that hardly repeat take twice as long to write, and files of payments are a fifth larger.
DICTIONARY_BYTES = 64 * 1024
# Of the rows whose columns are joined to an array each, about: a page may end with an array. To join whole row
# groups takes 14 MiB more of memory.
PART_BYTES = 1024 * 1024
OFFSET_BYTES = 4
UNKNOWN_BYTES = 16  # of a cell of a type that only the caller declares


class File:
    """A Parquet file that forgets its bytes as soon as they are taken: pyarrow needs to know only how many.

    It has row groups of `rows` rows or about `size` bytes, however the rows are batched.
    """

    def __init__(
        self, columns: Columns, types: Sequence[Any], *, compression: str, level: int | None, rows: int, size: int
    ) -> None:
        headers = [column.header for column in columns]
        self._schema = arrow().schema(list(zip(headers, types, strict=True)))
        self._groups = RowGroups(types, rows, size)
        self._sink = _Sink()
        self._writer = arrow("pyarrow.parquet").ParquetWriter(
            self._sink,
            self._schema,
            compression=compression,
            compression_level=level,
            dictionary_pagesize_limit=DICTIONARY_BYTES,
        )
        self._writing = Lock()
        self._is_abandoned = False

    def add(self, batch: list[Array]) -> Generator[bytes]:
        """Add rows; yield each row group that they complete."""
        yield from map(self._write, self._groups.add(batch))  # which keeps no group while the next one grows

    def end(self) -> Generator[bytes]:
        """Yield the last row group, and the footer, without which no reader opens the file."""
        yield from map(self._write, self._groups.rest())
        self._writer.close()
        yield self._sink.take()

    def abandon(self) -> None:
        """Release the writer, if it has not ended; a write that still runs does so at its end.

        That write may be below this call, where the garbage collector ends an abandoned stream.
        """
        self._is_abandoned = True
        if self._writing.acquire(blocking=False):
            try:
                self._writer.close()
            finally:
                self._writing.release()

    def _write(self, group: list[Array]) -> bytes:
        return self.write(arrow().Table.from_arrays(group, schema=self._schema))

    def write(self, table: Any) -> bytes:
        """Return the bytes of a row group."""
        try:
            with self._writing:
                self._writer.write_table(table, row_group_size=len(table))
                arrow().default_memory_pool().release_unused()  # else the peak is 5 MiB higher
                return self._sink.take()
        finally:
            if self._is_abandoned:
                self.abandon()


class _Sink:
    """A file object, as far as pyarrow needs one to write."""

    closed = False

    def __init__(self) -> None:
        self._written = BytesIO()

    def write(self, data: bytes) -> int:
        return self._written.write(data)

    def flush(self) -> None:
        """Keep what is written until it is taken."""

    def take(self) -> bytes:
        written, self._written = self._written, BytesIO()
        return written.getvalue()  # without a copy


class RowGroups:
    """Cuts rows into row groups, and columns into arrays, in the same places however the rows are batched."""

    def __init__(self, types: Sequence[Any], rows: int, size: int) -> None:
        self._types = types
        self._weigh = Weight(types)
        self._rows, self._size = rows, size
        self._start()

    def add(self, batch: list[Array]) -> Generator[list[Array]]:
        """Add rows; yield the columns of each row group that they complete."""
        while length := len(batch[0]):
            until = min(self._size - self._weight, PART_BYTES - self._loose_weight)
            taken = until_full(length, self._rows - self._count, until, partial(self._weigh, batch))
            weight = self._weigh(batch, taken)
            self._loose.append([array.slice(0, taken) for array in batch])
            batch = [array.slice(taken) for array in batch]
            self._count += taken
            self._weight += weight
            self._loose_weight += weight
            if self._count == self._rows or self._weight >= self._size:
                yield from self.rest()
            elif self._loose_weight >= PART_BYTES:
                self._join()

    def rest(self) -> Generator[list[Array]]:
        """Yield the columns of the rows since the last row group, if there are any, and keep nothing of them."""
        if self._count:
            yield self._taken()

    def _taken(self) -> list[Array]:
        self._join()
        parts = self._parts
        self._start()
        return [arrow().chunked_array(arrays, kind) for arrays, kind in zip(parts, self._types, strict=True)]

    def _start(self) -> None:
        self._parts: list[list[Array]] = [[] for _ in self._types]
        self._loose: list[list[Array]] = []
        self._count = self._weight = self._loose_weight = 0

    def _join(self) -> None:
        """Make one array of the last rows of each column, which releases the batches that they are slices of."""
        for parts, *arrays in zip(self._parts, *self._loose, strict=True):
            if arrays:
                parts.append(arrow().concat_arrays(arrays, pool()))
        self._loose.clear()
        self._loose_weight = 0


def until_full(length: int, rows: int, size: int, weight_of_first: Callable[[int], int]) -> int:
    """Return how many of `length` rows fill `rows` or `size`, whichever is less; all of them if they do not."""
    most = min(length, rows)
    if weight_of_first(most) < size:
        return most
    return bisect_left(range(1, most + 1), size, key=weight_of_first) + 1


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
