"""verify(): read a dump again, with other readers than its writers, and compare it with its manifest."""

import hashlib
import json
import os
from collections.abc import Generator, Iterable, Mapping
from contextlib import closing
from io import BufferedReader
from typing import Any, BinaryIO

from upstream.dumps.manifests import tables_of
from upstream.dumps.readers import VerificationError, count_rows
from upstream.dumps.reading import READ_BYTES, Chunks
from upstream.dumps.targets import MANIFEST, Target, target_named

Manifest = Mapping[str, Any]


def verify(target: Target | str | os.PathLike[str]) -> Manifest:
    """Read the dump at `target`, and return its manifest; raise VerificationError at the first difference.

    One pass over the files compares size and SHA-256 of each part, reads them with `csv`, `ijson`, pyarrow or
    openpyxl, and compares columns and numbers of rows. Memory holds a row, or a row group.
    """
    place = target_named(target) if isinstance(target, str | os.PathLike) else target
    text = place.manifest()
    if text is None:
        raise VerificationError(f"{place} has no {MANIFEST}: it is no whole dump")
    manifest: Manifest = json.loads(text)
    _check_names(place, manifest)
    for table in tables_of(manifest):
        rows = count_rows(table, _checked(place, table))
        if rows != table["rows"]:
            raise VerificationError(
                f"{place} has {rows:,} rows of {table['model']}, and not {table['rows']:,} as its manifest says"
            )
    return manifest


def _check_names(place: Target, manifest: Manifest) -> None:
    parts = [part for table in tables_of(manifest) for part in table["parts"]]
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
