"""What is in the files of a dump, by other readers than their writers as far as there are any."""

import codecs
import csv
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from io import TextIOWrapper
from typing import Any, BinaryIO
from zipfile import BadZipFile

import ijson

from upstream.dumps.encoders import from_data
from upstream.dumps.reading import READ_BYTES, opened, spooled
from upstream.streaming import ExportError
from upstream.streaming._optional import optional

LONGEST_CELL = 2**31 - 1
BATCH_ROWS = 10_000
Count = Callable[[BinaryIO, Any, list[str]], int]
# What readers raise for a file that is damaged; pyarrow's ArrowInvalid is a ValueError.
DAMAGED = (ValueError, KeyError, EOFError, SyntaxError, BadZipFile, zlib.error, ijson.JSONError, csv.Error)


class VerificationError(ExportError, ValueError):
    """A dump is not what its manifest says."""


def count_rows(manifest: Mapping[str, Any], chunks: Generator[bytes]) -> int:
    """Return the number of rows in `chunks`, the bytes of all parts.

    Parts are read joined, as one file of their format, or each from a copy on disk if it is a file of its own.
    Raises VerificationError for what the format does not allow, and for what is not as the manifest says.
    """
    encoder: Any = from_data(manifest["format"])
    name, columns = type(encoder).__name__, manifest["columns"]
    try:
        with opened(chunks, manifest["compression"]) as file:
            if name in ROWS:
                return sum(1 for _ in ROWS[name](file, encoder, columns))
            return sum(_rows_of_files(COUNTS[name], file, encoder, manifest))
    except ExportError:
        raise
    except DAMAGED as error:
        raise VerificationError(f"the parts are no {name}: {error}") from error


def _rows_of_files(count: Count, file: Any, encoder: Any, manifest: Mapping[str, Any]) -> Iterator[int]:
    for part in manifest["parts"]:
        with spooled(_next_bytes(file, part["bytes"])) as copy:
            file.peek(1)  # raises if the part that ends here is not as told
            rows = count(copy, encoder, manifest["columns"])
        if rows != part["rows"]:
            name = part.get("name") or manifest["file"]
            raise VerificationError(f"{name} has {rows:,} rows, and not {part['rows']:,} as its manifest says")
        yield rows


def _next_bytes(file: BinaryIO, count: int) -> Iterator[bytes]:
    while count and (chunk := file.read(min(count, READ_BYTES))):
        count -= len(chunk)
        yield chunk


def _csv_rows(file: BinaryIO, encoder: Any, columns: list[str]) -> Iterator[list[str]]:
    csv.field_size_limit(LONGEST_CELL)
    text = TextIOWrapper(file, _encoding(encoder), newline="")
    rows = csv.reader(text, delimiter=encoder.delimiter, strict=True)
    headers = next(rows, None) if encoder.header else columns
    if encoder.profile == "data":
        _check_headers(headers, columns)
    for number, row in enumerate(rows, 1):
        if len(row) != len(columns):
            raise VerificationError(f"row {number:,} has {len(row)} cells for {len(columns)} columns")
        yield row


def _encoding(encoder: Any) -> str:
    return "utf-8-sig" if codecs.lookup(encoder.encoding).name == "utf-8" else encoder.encoding


def _json_rows(file: Any, _encoder: Any, columns: list[str], *, lines: bool) -> Iterator[Any]:
    if lines and not file.peek(1):  # to ijson, no value at all is an error
        return
    rows = ijson.items(file, "" if lines else "item", multiple_values=lines)
    for number, row in enumerate(rows, 1):
        if list(row) != columns:
            raise VerificationError(f"row {number:,} has the keys {list(row)}, and not {columns}")
        yield row


def _count_parquet(file: BinaryIO, _encoder: Any, columns: list[str]) -> int:
    """Read every cell: the number of rows alone is that of the footer."""
    with optional("pyarrow.parquet", "parquet").ParquetFile(file) as table:
        _check_headers(list(table.schema_arrow.names), columns)
        return sum(len(batch) for batch in table.iter_batches(batch_size=BATCH_ROWS))


def _count_workbook(file: BinaryIO, encoder: Any, columns: list[str]) -> int:
    """Read every cell of all sheets; each has the header."""
    workbook = optional("openpyxl", "verify").load_workbook(file, read_only=True)
    count = 0
    with closing(workbook):
        for sheet in workbook.worksheets:
            sheet.reset_dimensions()  # count the rows that are there
            rows = sheet.iter_rows(values_only=True)
            if encoder.header:
                _check_headers([str(name or "") for name in next(rows, ())], columns)
            count += sum(1 for _ in rows)
    return count


def _check_headers(found: Sequence[str] | None, columns: list[str]) -> None:
    if found != columns:
        raise VerificationError(f"the header is {found}, and not {columns} as the manifest says")


ROWS: Mapping[str, Callable[..., Iterator[Any]]] = {
    "Csv": _csv_rows,
    "Json": partial(_json_rows, lines=False),
    "JsonLines": partial(_json_rows, lines=True),
}
"""For each format whose parts are joined, the rows of a file."""

COUNTS: Mapping[str, Count] = {"Parquet": _count_parquet, "Xlsx": _count_workbook}
"""For each format whose parts are files, the number of rows in one that can seek."""
