"""verify(): read a dump again, with other readers than its writers, and compare it with its manifest."""

import codecs
import csv
import hashlib
import json
import os
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from io import BufferedReader, TextIOWrapper
from typing import Any, BinaryIO

import ijson

from upstream.dumps.encoders import from_data
from upstream.dumps.reading import READ_BYTES, Chunks, opened
from upstream.dumps.targets import MANIFEST, Target, target_named
from upstream.streaming import ExportError

Manifest = Mapping[str, Any]
LONGEST_CELL = 2**31 - 1


class VerificationError(ExportError, ValueError):
    """A dump is not what its manifest says."""


def verify(target: Target | str | os.PathLike[str]) -> Manifest:
    """Read the dump at `target`, and return its manifest; raise VerificationError at the first difference.

    One pass over the files compares size and SHA-256 of each part, reads the parts, joined, as one file of their
    format with `csv` or `ijson`, and compares its columns and its number of rows. Memory holds one row.
    """
    place = target_named(target) if isinstance(target, str | os.PathLike) else target
    text = place.manifest()
    if text is None:
        raise VerificationError(f"{place} has no {MANIFEST}: it is no whole dump")
    manifest: Manifest = json.loads(text)
    _check_names(place, manifest)
    with opened(_checked(place, manifest), manifest["compression"]) as file:
        rows = sum(1 for _ in _rows(file, manifest))
    if rows != manifest["rows"]:
        raise VerificationError(f"{place} has {rows:,} rows, and not {manifest['rows']:,} as its manifest says")
    return manifest


def _check_names(place: Target, manifest: Manifest) -> None:
    parts = manifest["parts"]
    told = {manifest["file"]} if "file" in manifest else {part["name"] for part in parts}
    if told != (there := set(place.published())):
        raise VerificationError(f"{place} has files that differ from its manifest: {sorted(told ^ there)}")
    if manifest["rows"] != sum(part["rows"] for part in parts):
        raise VerificationError(f"the rows of the parts in {MANIFEST} of {place} do not add up")


def _checked(place: Target, manifest: Manifest) -> Generator[bytes]:
    """Yield the bytes of all parts, and raise at the end of one that differs from the manifest."""
    if "file" in manifest:
        named = [(part, f"{manifest['file']}, {part['key']}") for part in manifest["parts"]]
        yield from _checked_file(place, manifest["file"], named)
        return
    for part in manifest["parts"]:
        yield from _checked_file(place, part["name"], [(part, part["name"])])


def _checked_file(place: Target, name: str, parts: Iterable[tuple[Mapping[str, Any], str]]) -> Generator[bytes]:
    with closing(place.read_published(name)) as chunks:
        file: Any = BufferedReader(Chunks(chunks), READ_BYTES)
        for part, shown in parts:
            yield from _checked_part(file, part, shown)
        if file.read(1):
            raise VerificationError(f"{name} is longer than its manifest says")


def _checked_part(file: BinaryIO, part: Mapping[str, Any], name: str) -> Generator[bytes]:
    left, digest = part["bytes"], hashlib.sha256()
    while left:
        chunk = file.read(min(left, READ_BYTES))
        if not chunk:
            raise VerificationError(f"{name} is shorter than its manifest says")
        left -= len(chunk)
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != part["sha256"]:
        raise VerificationError(f"{name} has another SHA-256 than its manifest says")


def _rows(file: BinaryIO, manifest: Manifest) -> Iterator[Any]:
    encoder: Any = from_data(manifest["format"])
    columns, is_lines = manifest["columns"], manifest["format"]["name"] == "JsonLines"
    is_text = manifest["format"]["name"] == "Csv"
    try:
        yield from _csv_rows(file, encoder, columns) if is_text else _json_rows(file, columns, lines=is_lines)
    except (ijson.JSONError, csv.Error, UnicodeError, EOFError) as error:
        raise VerificationError(f"the joined parts are no {type(encoder).__name__}: {error}") from error


def _csv_rows(file: BinaryIO, encoder: Any, columns: list[str]) -> Iterator[list[str]]:
    csv.field_size_limit(LONGEST_CELL)
    text = TextIOWrapper(file, _encoding(encoder), newline="")
    rows = csv.reader(text, delimiter=encoder.delimiter, strict=True)
    headers = next(rows, None) if encoder.header else columns
    if encoder.profile == "data" and headers != columns:
        raise VerificationError(f"the header is {headers}, and not {columns} as the manifest says")
    for number, row in enumerate(rows, 1):
        if len(row) != len(columns):
            raise VerificationError(f"row {number:,} has {len(row)} cells for {len(columns)} columns")
        yield row


def _encoding(encoder: Any) -> str:
    return "utf-8-sig" if codecs.lookup(encoder.encoding).name == "utf-8" else encoder.encoding


def _json_rows(file: Any, columns: list[str], *, lines: bool) -> Iterator[Any]:
    if lines and not file.peek(1):  # to ijson, no value at all is an error
        return
    rows = ijson.items(file, "" if lines else "item", multiple_values=lines)
    for number, row in enumerate(rows, 1):
        if list(row) != columns:
            raise VerificationError(f"row {number:,} has the keys {list(row)}, and not {columns}")
        yield row
