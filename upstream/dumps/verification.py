"""verify(): read a dump again, with other readers than its writers, and compare it with its manifest."""

import hashlib
import json
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from upstream.dumps.manifests import tables_of
from upstream.dumps.readers import VerificationError, count_rows
from upstream.dumps.reading import READ_BYTES
from upstream.dumps.targets import MANIFEST, names_in

Manifest = Mapping[str, Any]


def verify(directory: str | Path) -> Manifest:
    """Read the dump in `directory`, and return its manifest; raise VerificationError at the first difference.

    One pass over the files compares size and SHA-256 of each part, reads them with `csv`, `ijson`, pyarrow or
    openpyxl, and compares columns and numbers of rows. Memory holds a row, or a row group.
    """
    place = Path(directory)
    try:
        manifest: Manifest = json.loads((place / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise VerificationError(f"{place} has no {MANIFEST}: it is no whole dump") from None
    _check_names(place, manifest)
    for table in tables_of(manifest):
        rows = count_rows(table, _checked(place, table))
        if rows != table["rows"]:
            raise VerificationError(
                f"{place} has {rows:,} rows of {table['model']}, and not {table['rows']:,} as its manifest says"
            )
    return manifest


def _check_names(place: Path, manifest: Manifest) -> None:
    parts = [part for table in tables_of(manifest) for part in table["parts"]]
    told = {manifest["file"]} if "file" in manifest else {part["name"] for part in parts}
    there = {*names_in(place)} - {MANIFEST}
    if told != there:
        raise VerificationError(f"{place} has files that differ from its manifest: {sorted(told ^ there)}")
    if manifest["rows"] != sum(part["rows"] for part in parts):
        raise VerificationError(f"the rows of the parts in {place / MANIFEST} do not add up")


def _checked(place: Path, manifest: Manifest) -> Generator[bytes]:
    """Yield the bytes of all parts, and raise at the end of one that differs from the manifest."""
    if "file" in manifest:
        with (place / manifest["file"]).open("rb") as file:
            for part in manifest["parts"]:
                yield from _checked_part(file, part, f"{manifest['file']}, {part['key']}")
            if file.read(1):
                raise VerificationError(f"{manifest['file']} is longer than its manifest says")
        return
    for part in manifest["parts"]:
        with (place / part["name"]).open("rb") as file:
            yield from _checked_part(file, part, part["name"])
            if file.read(1):
                raise VerificationError(f"{part['name']} is longer than its manifest says")


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
