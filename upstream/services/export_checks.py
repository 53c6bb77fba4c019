"""Read an exported file again with readers that are not ours, in memory that does not grow with the file."""

import csv
import hashlib
import io
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, zip_longest
from os import PathLike
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import ijson

from upstream.streaming import read_json
from upstream.streaming._optional import optional
from upstream.streaming.errors import ExportError, MissingDependencyError
from upstream.streaming.sources.files import opened
from upstream.streaming.targets.buffers import closing_chunks

StrPath = str | PathLike[str]

BLOCK_BYTES = 256 * 1024
COMPRESSIONS = (".gz", ".zst")
COMPARED = ("rows", "columns", "bytes", "sha256")
# What the readers raise for a file that is damaged or cut off; pyarrow's ArrowInvalid is a ValueError.
DAMAGED = (
    ExportError,
    ValueError,
    OSError,
    EOFError,
    KeyError,
    SyntaxError,
    csv.Error,
    zlib.error,
    BadZipFile,
    ijson.JSONError,
)


@dataclass
class Reading:
    """What a reader found; `rows` is None where a format does not tell its rows."""

    rows: int | None = 0
    columns: list[str] | None = None
    differences: list[str] = field(default_factory=list)


def check_export(
    path: StrPath,
    manifest: Mapping[str, Any] | StrPath | None,
    source: Iterable[bytes] | None,
    delimiter: str | None,
) -> dict[str, Any]:
    """Return what `DataQualityService.verify_export` returns."""
    file = Path(path)
    kind = _kind_of(file)
    checksum, size = _sha256(file)
    read = partial(_read_delimited, delimiter=delimiter) if delimiter else READERS[kind]
    try:
        reading = read(file)
    except MissingDependencyError:
        raise
    except DAMAGED as error:
        reading = Reading(None, differences=[f"cannot be read as {kind}: {error}"])
    found = {
        "path": str(path),
        "format": kind,
        "rows": reading.rows,
        "columns": reading.columns,
        "bytes": size,
        "sha256": checksum,
    }
    differences = [*reading.differences, *_from_manifest(found, file, manifest), *_from_source(file, source)]
    return found | {"differences": differences, "valid": not differences}


def _kind_of(file: Path) -> str:
    suffixes = [suffix for suffix in file.suffixes if suffix.lower() not in COMPRESSIONS]
    kind = suffixes[-1].lower().removeprefix(".") if suffixes else ""
    if kind not in READERS:
        raise ValueError(f"{file.name}: its suffix tells the format, and must be one of .{', .'.join(READERS)}")
    return kind


def _sha256(file: Path) -> tuple[str, int]:
    with file.open("rb") as opened_file:
        digest = hashlib.file_digest(opened_file, "sha256")
        return digest.hexdigest(), opened_file.tell()


def _read_delimited(file: Path, delimiter: str) -> Reading:
    csv.field_size_limit(sys.maxsize)  # for the whole interpreter; the default is 128 KiB
    with opened(file) as plain, io.TextIOWrapper(plain, encoding="utf-8", newline="") as text:
        rows = csv.reader(text, delimiter=delimiter, strict=True)
        header = next(rows, None)
        if header is None:
            return Reading()
        return _tallied(
            header, rows, lambda row: len(row) == len(header), "other than the header's number of cells"
        )


def _read_json(file: Path) -> Reading:
    with closing(read_json(file)) as records:
        first = next(records, None)
        if first is None:
            return Reading()
        keys = list(first) if isinstance(first, dict) else None
        same = (lambda record: isinstance(record, dict) and list(record) == keys) if keys else lambda _: True
        return _tallied(keys, chain([first], records), same, "keys other than the first record's")


def _read_workbook(file: Path) -> Reading:
    """Count the rows below the header of each sheet; a sheet that goes on from another repeats its header."""
    workbook = optional("openpyxl", "verify").load_workbook(file, read_only=True)
    reading = Reading()
    try:
        for sheet in workbook.worksheets:
            sheet.reset_dimensions()  # count the rows that are there, not those that are declared
            rows = sheet.iter_rows(values_only=True)
            header = next(rows, None)
            if reading.columns is None and header is not None:
                reading.columns = [str(name) for name in header]
            reading.rows = (reading.rows or 0) + sum(1 for _ in rows)
    finally:
        workbook.close()
    return reading


def _read_parquet(file: Path) -> Reading:
    """Read every cell, a batch at a time: the number of rows alone would be that of the footer."""
    with optional("pyarrow.parquet", "parquet").ParquetFile(file) as table:
        rows = sum(len(batch) for batch in table.iter_batches(batch_size=10_000))
        names = list(table.schema_arrow.names)
        declared = table.metadata.num_rows
    return Reading(rows, names, [] if rows == declared else [f"has {rows:,} rows, but declares {declared:,}"])


def _read_pdf(file: Path) -> Reading:
    """Tell whether the document begins and ends as one; its rows are drawn, and cannot be counted."""
    with file.open("rb") as document:
        begins = document.read(5) == b"%PDF-"
        document.seek(max(0, file.stat().st_size - 1024))
        ends = b"%%EOF" in document.read()
    return Reading(None, differences=[] if begins and ends else ["cannot be read as pdf: it is not complete"])


READERS: dict[str, Callable[[Path], Reading]] = {
    "csv": partial(_read_delimited, delimiter=","),
    "tsv": partial(_read_delimited, delimiter="\t"),
    "json": _read_json,
    "ndjson": _read_json,
    "jsonl": _read_json,
    "xlsx": _read_workbook,
    "parquet": _read_parquet,
    "pdf": _read_pdf,
}


def _tallied(columns: list[str] | None, rows: Iterable[Any], fits: Callable[[Any], bool], what: str) -> Reading:
    """Count the rows, and tell of the first that does not fit."""
    reading = Reading(0, columns)
    for number, row in enumerate(rows, 1):
        reading.rows = number
        if not reading.differences and not fits(row):
            reading.differences.append(f"row {number:,} has {what}")
    return reading


def _from_manifest(
    found: Mapping[str, Any], file: Path, manifest: Mapping[str, Any] | StrPath | None
) -> Iterator[str]:
    """Tell where the file is not what its manifest, or the entry of its name in `parts`, says."""
    if manifest is None:
        return
    told: Any = manifest
    if not isinstance(manifest, Mapping):
        with closing(read_json(manifest)) as documents:
            told = next(documents)
    if "parts" in told:
        told = next((part for part in told["parts"] if part["name"] == file.name), {})
        if not told:
            yield f"is not in the manifest: {file.name}"
    for name in COMPARED:
        if name in told and told[name] != found[name]:
            yield f"has {name} {found[name]!r}, but the manifest says {told[name]!r}"


def _from_source(file: Path, source: Iterable[bytes] | None) -> Iterator[str]:
    """Tell where the bytes of the file first differ from those of `source`."""
    if source is None:
        return
    position = 0
    with closing_chunks(source), file.open("rb") as written:
        for chunk in source:
            block = written.read(len(chunk))
            if block != chunk:
                at = next(at for at, (one, other) in enumerate(zip_longest(block, chunk)) if one != other)
                yield f"differs from its source at byte {position + at:,}"
                return
            position += len(chunk)
        if written.read(1):
            yield f"goes on after its source has ended, at byte {position:,}"
