"""commit(): make the parts of a dump one whole, told by a manifest that is written last."""

import json
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Literal

from upstream.dumps.parts import Part, write_part
from upstream.dumps.plans import DumpPlan
from upstream.dumps.reading import uncompressed
from upstream.streaming import ExportError
from upstream.streaming.encoders.protocol import capabilities_of

Consistency = Literal["snapshot", "part", "window"]
Manifest = dict[str, Any]
# What a manifest tells of a part, besides its range of the key.
OF_PART = ("name", "rows", "bytes", "sha256")


class IncompleteError(ExportError, ValueError):
    """Parts of a dump are missing."""


def commit(plan: DumpPlan, results: Iterable[Part]) -> Manifest:
    """Publish a dump with one attempt of each part, and return its manifest.

    Of several attempts of a part the first in `results` is taken, and the others are dropped. It may be called
    again if it was interrupted. Raises IncompleteError if a part has none.
    """
    target = plan.made_target()
    parts = _first_comma_dropped(plan, _winners(plan, results))
    name = f"{plan.source['model'].lower()}{plan.suffix}" if plan.joined else ""
    manifest = manifest_of(plan, parts, name)
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    target.publish([part.name for part in parts], text.encode(), joined=name)
    return manifest


def manifest_of(plan: DumpPlan, parts: Sequence[Part], joined: str = "") -> Manifest:
    """Return what a manifest tells of a dump: all but the values of its filters."""
    told = [
        {name: getattr(part, name) for name in OF_PART if name != "name" or not joined}
        | {"key": {"name": plan.key, "from": part.start, "before": part.end}}
        for part in parts
    ]
    return {
        "version": plan.version,
        "dump": plan.identity,
        "model": plan.source["model"],
        "columns": [column["header"] for column in plan.columns],
        "order": plan.source["order"],
        "format": plan.encoder,
        "compression": plan.compression,
        "consistency": consistency_of(plan, parts),
        "rows": sum(part.rows for part in parts),
        "bytes": sum(part.bytes for part in parts),
        **({"file": joined} if joined else {}),
        "parts": told,
    }


def consistency_of(plan: DumpPlan, parts: Sequence[Part]) -> Consistency:
    """Return what shows one state of the database: all parts, each part, or each window of rows."""
    if plan.windows:
        return "window"
    snapshots = {part.snapshot for part in parts}
    return "snapshot" if len(snapshots) == 1 and snapshots != {""} else "part"


def _winners(plan: DumpPlan, results: Iterable[Part]) -> list[Part]:
    found: dict[int, Part] = {}
    for part in results:
        if part.dump == plan.identity:
            found.setdefault(part.number, part)
    if missing := [number for number in range(len(plan.ranges)) if number not in found]:
        raise IncompleteError(f"parts {missing} of the dump are missing: run them, then commit")
    return [found[number] for number in range(len(plan.ranges))]


def _first_comma_dropped(plan: DumpPlan, parts: list[Part]) -> list[Part]:
    """Write the first part that has rows again, without what joins it, if those before it have lost all of theirs.

    That can be if rows are deleted between plan and dump; a format with nothing between its rows needs nothing.
    """
    seam = capabilities_of(plan.made_encoder()).seam
    number = next((part.number for part in parts if part.rows), 0)
    if not number or seam is None or not seam.between:
        return parts
    part, target = parts[number], plan.made_target()
    chunks = uncompressed(target.read(part.name), plan.compression)
    first = next(chunks).removeprefix(seam.between)
    again = write_part(plan, number, (chunk for chunk in chain([first], chunks)), lambda: part.rows)
    return [again if one.number == number else one for one in parts]
