"""Read records from CSV and JSON files, in memory that does not grow with the file."""

import csv
import gzip
import io
import sys
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from os import PathLike
from pathlib import Path
from typing import IO, Any

import ijson

from upstream.streaming._optional import optional
from upstream.streaming.errors import SourceError

PathOrFile = str | PathLike[str] | IO[bytes]

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
ZSTD_STEP_BYTES = 4096  # decompressed in memory, to at most a few thousand times as much
UTF8_BOM = b"\xef\xbb\xbf"


def read_csv(
    path_or_file: PathOrFile, *, delimiter: str = ",", null_marker: str | None = None
) -> Generator[dict[str, str | None]]:
    """Yield the records of a UTF-8 CSV file as dicts, from the names in the header row to strings.

    `path_or_file` is a path, or a file opened in binary mode, which stays open. It may be compressed with gzip or
    zstd, and may start with a byte-order mark. Cells equal to `null_marker` are None. Empty lines are skipped. A
    row with more or fewer cells than the header raises a SourceError that names it: nothing is cut off or added.

        >>> path = to_file(stream([{"id": 1, "name": "Ann"}]), "rows.csv")
        >>> list(read_csv(path))
        [{'id': '1', 'name': 'Ann'}]
    """
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise ValueError(f"delimiter must be one character, and no quote or line break, not {delimiter!r}")
    return _csv_records(path_or_file, delimiter, null_marker)


def _csv_records(
    path_or_file: PathOrFile, delimiter: str, null_marker: str | None
) -> Generator[dict[str, str | None]]:
    csv.field_size_limit(sys.maxsize)  # for the whole interpreter; the default is 128 KiB
    with opened(path_or_file) as file, io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
        rows = csv.reader(text, delimiter=delimiter, strict=True)
        header = next(rows, [])
        if len(set(header)) < len(header):
            raise SourceError(f"the header names a column twice: {', '.join(header)}")
        for number, row in enumerate(filter(None, rows), 1):
            if len(row) != len(header):
                raise SourceError(f"row {number} has {len(row)} cells, but the header has {len(header)}")
            cells = row if null_marker is None else (None if cell == null_marker else cell for cell in row)
            yield dict(zip(header, cells, strict=True))


def read_json(path_or_file: PathOrFile, path: str = "item", *, use_float: bool = False) -> Generator[Any]:
    """Yield the records of a JSON or NDJSON file, each as soon as it has been read.

    `path` is an ijson prefix: "item" selects the elements of a top-level array, "data.rows.item" those of a nested
    one. With the default path, a file that does not start with an array is read as NDJSON. Numbers with a decimal
    point are Decimals with the same digits, or floats with `use_float`. `path_or_file` is a path, or a file opened
    in binary mode, which stays open; it may be compressed with gzip or zstd. If it is a path, and `path` does not
    exist in the file, SourceError is raised.

        >>> path = to_file(stream([{"id": 1, "name": "Ann"}], encoder=Json()), "rows.json")
        >>> list(read_json(path))
        [{'id': 1, 'name': 'Ann'}]
    """
    return _json_records(path_or_file, path, use_float)


def _json_records(path_or_file: PathOrFile, path: str, use_float: bool) -> Generator[Any]:
    found = False
    with opened(path_or_file) as file:
        start = _first_character(file)
        lines = path == "item" and start not in (b"[", b"")
        if start:
            for record in ijson.items(file, "" if lines else path, multiple_values=lines, use_float=use_float):
                found = True
                yield record
    if not found and isinstance(path_or_file, str | PathLike):
        _check_path(path_or_file, path)


def _first_character(file: io.BufferedReader) -> bytes:
    """Skip white space; return the next character, empty at the end."""
    while (seen := file.peek(1)) and not seen.lstrip():
        file.read(len(seen))
    return seen.lstrip()[:1]


def _check_path(name: str | PathLike[str], path: str) -> None:
    """Raise SourceError unless `path` leads to an (empty) array, or the file is empty."""
    with opened(name) as file:
        if not _first_character(file):
            return
        outer = path.removesuffix("item").removesuffix(".")
        if not any(prefix == outer for prefix, _, _ in ijson.parse(file)):
            raise SourceError(f"{name} has nothing at {path!r}: check the path")


@contextmanager
def opened(path_or_file: PathOrFile) -> Iterator[Any]:
    """Yield the decompressed file after its byte-order mark; a file that the caller opened stays open."""
    with ExitStack() as stack:
        file: Any = path_or_file
        if isinstance(path_or_file, str | PathLike):
            file = stack.enter_context(Path(path_or_file).open("rb"))
        compressed = stack.enter_context(io.BufferedReader(_Raw(file)))
        magic = compressed.read(len(ZSTD_MAGIC))
        whole = stack.enter_context(io.BufferedReader(_Raw(compressed, magic)))
        plain = stack.enter_context(io.BufferedReader(_Raw(_decompressed(whole, magic))))
        start = plain.read(len(UTF8_BOM))
        yield stack.enter_context(io.BufferedReader(_Raw(plain, b"" if start == UTF8_BOM else start)))


def _decompressed(file: Any, magic: bytes) -> Any:
    if magic.startswith(GZIP_MAGIC):
        return gzip.GzipFile(fileobj=file)
    if not magic.startswith(ZSTD_MAGIC):
        return file
    if sys.version_info >= (3, 14):
        return optional("compression.zstd", "compression").ZstdFile(file)
    return _ZstdFile(file)


class _ZstdFile:
    """Decompresses the frames of a zstd file; zstandard's own reader accepts a truncated one as complete."""

    def __init__(self, file: Any) -> None:
        self._file = file
        zstandard = optional("zstandard", "compression")
        self._new_frame, self._error = zstandard.ZstdDecompressor().decompressobj, zstandard.ZstdError
        self._frame: Any = None
        self._compressed = self._plain = b""

    def read(self, size: int) -> bytes:
        while not self._plain:
            compressed = self._compressed or self._file.read(ZSTD_STEP_BYTES)
            if not compressed:
                if self._frame is not None:
                    raise EOFError("the zstd file is truncated")
                return b""
            self._frame = self._frame or self._new_frame()
            try:
                self._plain, self._compressed = self._frame.decompress(compressed), b""
            except self._error as error:
                raise SourceError(f"the zstd file is damaged: {error}") from error
            if self._frame.eof:
                self._compressed, self._frame = self._frame.unused_data, None
        data, self._plain = self._plain[:size], self._plain[size:]
        return data


class _Raw(io.RawIOBase):
    """Adapts anything with a `read` to BufferedReader, after the bytes `start`; `close()` leaves it open."""

    def __init__(self, file: Any, start: bytes = b"") -> None:
        self._file, self._start = file, start

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = self._start or self._file.read(len(buffer))
        self._start = b""
        if isinstance(data, str):
            raise SourceError("the file is open in text mode: open it in binary mode")
        buffer[: len(data)] = data
        return len(data)
