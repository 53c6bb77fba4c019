"""Files of records back to records, in memory that does not grow with the file."""

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
ZSTD_STEP_BYTES = 4096  # what it unpacks to is held: zstd packs at most some thousandfold
UTF8_BOM = b"\xef\xbb\xbf"


def read_csv(
    path_or_file: PathOrFile, *, delimiter: str = ",", null_marker: str | None = None
) -> Generator[dict[str, str | None]]:
    """Yield the records of a CSV file in UTF-8, as dicts of the header row's names to texts.

    The file, a path or one opened in binary mode, may be gzip or zstd and may begin with a byte-order mark.
    Cells equal to `null_marker` are None. Empty lines are skipped; a row with more or fewer cells than the header
    is a SourceError that names it, for nothing is cut or made up.
    """
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise ValueError(f"delimiter is one character, no quote and no line break: {delimiter!r}")
    return _csv_records(path_or_file, delimiter, null_marker)


def _csv_records(
    path_or_file: PathOrFile, delimiter: str, null_marker: str | None
) -> Generator[dict[str, str | None]]:
    csv.field_size_limit(sys.maxsize)  # 128 KiB by default, for the whole interpreter
    with _open(path_or_file) as file, io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
        rows = csv.reader(text, delimiter=delimiter, strict=True)
        header = next(rows, [])
        if len(set(header)) < len(header):
            raise SourceError(f"the header names a column twice: {', '.join(header)}")
        for number, row in enumerate(filter(None, rows), 1):
            if len(row) != len(header):
                raise SourceError(f"row {number} has {len(row)} cells, the header {len(header)}")
            cells = row if null_marker is None else (None if cell == null_marker else cell for cell in row)
            yield dict(zip(header, cells, strict=True))


def read_json(path_or_file: PathOrFile, path: str = "item", *, use_float: bool = False) -> Generator[Any]:
    """Yield the records of a JSON or NDJSON file, each as soon as it has been read.

    `path` leads to them as ijson spells it: "item" is each element of an array that is the whole document,
    "data.rows.item" of one inside it. With the default path, a file that does not begin with an array is read as
    NDJSON. Numbers with a point are Decimals, digit for digit, or floats with `use_float`. The file, a path or one
    opened in binary mode, may be gzip or zstd. A path that leads to nothing in a file given by name is a
    SourceError.
    """
    return _json_records(path_or_file, path, use_float)


def _json_records(path_or_file: PathOrFile, path: str, use_float: bool) -> Generator[Any]:
    found = False
    with _open(path_or_file) as file:
        start = _first_character(file)
        lines = path == "item" and start not in (b"[", b"")
        if start:
            for record in ijson.items(file, "" if lines else path, multiple_values=lines, use_float=use_float):
                found = True
                yield record
    if not found and isinstance(path_or_file, str | PathLike):
        _check_path(path_or_file, path)


def _first_character(file: io.BufferedReader) -> bytes:
    """Move past white space; return the next character, or nothing at the end."""
    while (seen := file.peek(1)) and not seen.lstrip():
        file.read(len(seen))
    return seen.lstrip()[:1]


def _check_path(name: str | PathLike[str], path: str) -> None:
    """Raise unless `path` leads to an array, which then is empty, or the file itself is."""
    with _open(name) as file:
        if not _first_character(file):
            return
        outer = path.removesuffix("item").removesuffix(".")
        if not any(prefix == outer for prefix, _, _ in ijson.parse(file)):
            raise SourceError(f"nothing in {name} is at {path!r}")


@contextmanager
def _open(path_or_file: PathOrFile) -> Iterator[Any]:
    """Give the decompressed file, past its byte-order mark; what the caller opened stays open."""
    with ExitStack() as stack:
        file: Any = path_or_file
        if isinstance(path_or_file, str | PathLike):
            file = stack.enter_context(Path(path_or_file).open("rb"))
        packed = stack.enter_context(io.BufferedReader(_Raw(file)))
        magic = packed.read(len(ZSTD_MAGIC))
        whole = stack.enter_context(io.BufferedReader(_Raw(packed, magic)))
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
    """The frames of a zstd file; zstandard's own reader takes one that is cut off for one that ends there."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._new_frame = optional("zstandard", "compression").ZstdDecompressor().decompressobj
        self._frame: Any = None
        self._packed = self._plain = b""

    def read(self, size: int) -> bytes:
        while not self._plain:
            packed = self._packed or self._file.read(ZSTD_STEP_BYTES)
            if not packed:
                if self._frame is not None:
                    raise EOFError("the zstd file is cut off")
                return b""
            self._frame = self._frame or self._new_frame()
            self._plain, self._packed = self._frame.decompress(packed), b""
            if self._frame.eof:
                self._packed, self._frame = self._frame.unused_data, None
        data, self._plain = self._plain[:size], self._plain[size:]
        return data


class _Raw(io.RawIOBase):
    """`start`, and then whatever has a `read`, so that it can be buffered; closing this does not close that."""

    def __init__(self, file: Any, start: bytes = b"") -> None:
        self._file, self._start = file, start

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = self._start or self._file.read(len(buffer))
        self._start = b""
        if isinstance(data, str):
            raise SourceError("the file is opened as text: open it in binary mode")
        buffer[: len(data)] = data
        return len(data)
