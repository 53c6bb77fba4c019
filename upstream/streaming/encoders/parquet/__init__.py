"""Apache Parquet: typed columns in row groups, written with pyarrow."""

from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, ClassVar, Literal, Self, get_args

from upstream.streaming.batches import Batch, weigh
from upstream.streaming.columns import OutputColumn, unknown_column
from upstream.streaming.databases.protocol import TypedRows
from upstream.streaming.encoders.parquet.ahead import ahead
from upstream.streaming.encoders.parquet.arrays import built
from upstream.streaming.encoders.parquet.arrow import arrow
from upstream.streaming.encoders.parquet.rendered import RowReader, gathered
from upstream.streaming.encoders.parquet.row_groups import File, until_full
from upstream.streaming.encoders.parquet.schema import decided_type, declared_type, type_of
from upstream.streaming.encoders.protocol import Columns, FastLane, Seam, short_repr
from upstream.streaming.encoders.text import TEXTS, check_unique
from upstream.streaming.errors import ColumnError

Codec = Literal["zstd", "snappy", "gzip", "lz4", "none"]

LEVELED: tuple[Codec, ...] = ("zstd", "gzip")
ROW_GROUP_ROWS = 131_072  # DuckDB writes 122,880 and pyarrow a million
ROW_GROUP_BYTES = 16 * 1024 * 1024
# What a column without a type of its own may hold before its type is decided.
DECIDING_ROWS = 10_000
DECIDING_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Parquet:
    """Apache Parquet with a schema: the types of a queryset's columns come from its model's fields.

    `types` declares types by header: a pyarrow type, or its alias such as "int32". A column with neither a field
    nor a declared type (a function, an annotated Decimal, a key of JSON, records) gets the type of its values in
    the first 10,000 rows or 4 MiB. A value that does not fit its column's type raises ColumnError.

    A row group ends at `row_group_rows` rows or about `row_group_bytes` bytes before compression. Memory holds one
    row group and what it takes to write it; each is one chunk. Rows that PostgreSQL renders are parsed and written
    in a thread, up to 4 MiB late. `compression` is inside the file: "zstd", "snappy", "gzip", "lz4" or "none",
    with a `compression_level` of the codec. The same rows give the same bytes in one version of pyarrow.

        >>> file = to_buffer(stream([{"payer": "Medicare", "days": 3}], encoder=Parquet(types={"days": "int32"})))
        >>> file.read(4)
        b'PAR1'
    """

    __repr__ = short_repr

    types: Mapping[str, Any] | None = None
    compression: Codec = "zstd"
    compression_level: int | None = None
    row_group_rows: int = ROW_GROUP_ROWS
    row_group_bytes: int = ROW_GROUP_BYTES

    content_type: ClassVar[str] = "application/vnd.apache.parquet"
    suffix: ClassVar[str] = ".parquet"
    is_compressed: ClassVar[bool] = True
    takes_texts: ClassVar[frozenset[type]] = TEXTS
    row_format: ClassVar[TypedRows] = TypedRows()
    lane_options: ClassVar[Mapping[FastLane, Collection[str]]] = dict.fromkeys(
        ("copy", "text"), ("compression", "compression_level", "row_group_rows", "row_group_bytes")
    )

    def __post_init__(self) -> None:
        if self.compression not in get_args(Codec):
            known = ", ".join(map(repr, get_args(Codec)))
            raise ValueError(f"compression must be one of {known}, not {self.compression!r}")
        for name in ("row_group_rows", "row_group_bytes"):
            size = getattr(self, name)
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise ValueError(f"{name} must be a positive integer, not {size!r}")
        if self.compression_level is not None and self.compression not in LEVELED:
            raise ValueError(
                f"compression_level requires compression to be one of {', '.join(map(repr, LEVELED))}"
            )
        if self.types is not None and not isinstance(self.types, Mapping):
            raise ValueError(f"types must map headers to types of pyarrow, not {self.types!r}")

    @property
    def first_byte(self) -> str:
        """When the first row group is full, as the plan says it."""
        return f"after {self.row_group_rows:,} rows or about {self.row_group_bytes:,} bytes: a row group"

    @property
    def seam(self) -> Seam:
        """Files are joined row group by row group."""
        return Seam(join_files=self._joined)

    def settle(self, columns: Columns, batches: Generator[Batch]) -> Self:
        """Return the encoder with a type for each column that has none: that of its first values."""
        with closing(batches):
            types, _ = self._decided(columns, batches)
        decided = {
            column.header: kind
            for column, kind in zip(columns, types, strict=True)
            if self._known_type(column) is None
        }
        return replace(self, types={**(self.types or {}), **decided}) if decided else self

    def check(self, columns: Columns) -> None:
        arrow()  # raises MissingDependencyError
        check_unique(columns, "the columns of a Parquet file")
        headers = [column.header for column in columns]
        for header in self.types or ():
            if header not in headers:
                raise unknown_column(header, headers, "the export, which Parquet(types=...) names")
        for column in columns:
            self._known_type(column)

    def encode(self, columns: Columns | None, batches: Generator[Batch]) -> Generator[bytes]:
        columns = columns or ()
        with closing(batches):
            types, read = self._decided(columns, batches)
            with (
                closing(built(columns, types, _chained(read, batches))) as arrays,
                self._file(columns, types) as file,
            ):
                for batch in arrays:
                    yield from file.add(batch)
                yield from file.end()

    def frame(self, columns: Columns, batches: Generator[list[bytes]]) -> Generator[bytes]:
        """Yield rows rendered by a database, as `encode` writes them. Closes `batches`."""
        types = [self._known_type(column) for column in columns]
        reader = RowReader(columns, types)
        with self._file(columns, types) as file:

            def write(rows: list[bytes]) -> list[bytes]:
                return list(file.add(reader.read(rows)))

            with closing(ahead(write, gathered(batches))) as written:
                for chunks in written:
                    yield from chunks
            yield from file.end()

    def _joined(self, files: Iterable[BinaryIO]) -> Generator[bytes]:
        """Yield one file with the row groups of several; memory holds one of them."""
        parquet, joined = arrow("pyarrow.parquet"), None
        with ExitStack() as open_file:
            for file in files:
                with parquet.ParquetFile(file) as part:
                    if joined is None:
                        schema = part.schema_arrow
                        headers = [OutputColumn(name) for name in schema.names]
                        joined = open_file.enter_context(self._file(headers, schema.types))
                    if part.schema_arrow != schema:
                        raise ColumnError("files with different columns or types make no file of one schema")
                    for number in range(part.num_row_groups):
                        yield joined.write(part.read_row_group(number))
            if joined is not None:
                yield from joined.end()

    def _known_type(self, column: OutputColumn) -> Any:
        """Return the type of a column as far as it is declared, by the caller or by its field."""
        if self.types and column.header in self.types:
            return declared_type(column.header, self.types[column.header])
        return column.type and type_of(column.type)

    def _decided(self, columns: Columns, batches: Generator[Batch]) -> tuple[list[Any], list[Batch]]:
        """Return the type of each column, and the batches that were read to decide it."""
        types = [self._known_type(column) for column in columns]
        read: list[Batch] = []
        rows: Batch = []
        weight = 0
        while None in types and (batch := next(batches, None)):
            read.append(batch)
            taken = until_full(
                len(batch), DECIDING_ROWS - len(rows), DECIDING_BYTES - weight, lambda end: weigh(batch[:end])
            )
            rows += batch[:taken]
            weight += weigh(batch[:taken])
            if len(rows) == DECIDING_ROWS or weight >= DECIDING_BYTES:
                break
        cells = list(zip(*rows, strict=True)) or [()] * len(columns)
        return [
            decided_type(column, values) if known is None else known
            for known, column, values in zip(types, columns, cells, strict=True)
        ], read

    @contextmanager
    def _file(self, columns: Columns, types: Sequence[Any]) -> Iterator[File]:
        file = File(
            columns,
            types,
            compression=self.compression,
            level=self.compression_level,
            rows=self.row_group_rows,
            size=self.row_group_bytes,
        )
        try:
            yield file
        finally:
            file.abandon()


def _chained(read: list[Batch], batches: Generator[Batch]) -> Generator[Batch]:
    """Yield the batches that were read already, each forgotten when it is, and the others."""
    while read:
        yield read.pop(0)
    yield from batches
