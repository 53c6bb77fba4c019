"""commit(): make the parts of a dump one whole, told by a manifest that is written last."""

import json
import secrets
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import chain
from typing import Any, BinaryIO, Literal

from upstream.dumps.encoders import seam_of
from upstream.dumps.parts import Digest, Part, write_part
from upstream.dumps.plans import DumpPlan
from upstream.dumps.reading import spooled, uncompressed
from upstream.dumps.sites import Plan
from upstream.streaming import ExportError
from upstream.streaming.encoders.protocol import JoinFiles

Consistency = Literal["snapshot", "part", "window"]
Manifest = dict[str, Any]
# What a manifest tells of a part, besides its range of the key.
OF_PART = ("name", "rows", "bytes", "sha256")


class IncompleteError(ExportError, ValueError):
    """Parts of a dump are missing."""


def commit(plan: Plan, results: Iterable[Part]) -> Manifest:
    """Publish a dump with one attempt of each part, and return its manifest.

    Of several attempts of a part the first in `results` is taken, and the others are dropped. It may be called
    again if it was interrupted. Raises IncompleteError if a part has none.
    """
    winners = _winners(plan, results)
    found = [(one, _of_one(one, [winners[number] for number in one.numbers])) for one in plan.plans]
    head = {"version": plan.version, "dump": plan.identity}
    if isinstance(plan, DumpPlan):
        joined = f"{plan.source['model'].lower()}{plan.suffix}" if plan.joined else ""
        manifest = head | _of_model(*found[0], joined)
    else:
        joined = ""
        manifest = head | _of_models(found)
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    names = [part.name for _, parts in found for part in parts]
    plan.made_target().publish(names, text.encode(), joined=joined)
    return manifest


def tables_of(manifest: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return what a manifest tells of each model."""
    models: Sequence[Mapping[str, Any]] = manifest.get("models", [manifest])
    return models


def _of_one(plan: DumpPlan, parts: list[Part]) -> list[Part]:
    """Return the parts of a model as they are shown."""
    join_files = seam_of(plan.made_encoder()).join_files
    if plan.joined and join_files:
        return [_joined(plan, parts, join_files)]
    return _first_comma_dropped(plan, parts)


def _of_models(found: Sequence[tuple[DumpPlan, Sequence[Part]]]) -> Manifest:
    everything = [part for _, parts in found for part in parts]
    return {
        "consistency": consistency_of(found[0][0], everything),
        "rows": sum(part.rows for part in everything),
        "bytes": sum(part.bytes for part in everything),
        "models": [_of_model(plan, parts) for plan, parts in found],
    }


def _of_model(plan: DumpPlan, parts: Sequence[Part], joined: str = "") -> Manifest:
    """Return what a manifest tells of a model: all but the values of its filters."""
    told = [
        {name: getattr(part, name) for name in OF_PART if name != "name" or not joined}
        | {"key": {"name": plan.key, "from": part.start, "before": part.end}}
        for part in parts
    ]
    return {
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


def _winners(plan: Plan, results: Iterable[Part]) -> list[Part]:
    found: dict[int, Part] = {}
    for part in results:
        if part.dump == plan.identity:
            found.setdefault(part.number, part)
    if missing := [number for number in plan.numbers if number not in found]:
        raise IncompleteError(f"parts {missing} of the dump are missing: run them, then commit")
    return [found[number] for number in plan.numbers]


def _first_comma_dropped(plan: DumpPlan, parts: list[Part]) -> list[Part]:
    """Write the first part that has rows again, without what joins it, if those before it have lost all of theirs.

    That can be if rows are deleted between plan and dump; a format with nothing between its rows needs nothing.
    """
    seam = seam_of(plan.made_encoder())
    part, target = next((part for part in parts if part.rows), parts[0]), plan.made_target()
    if part is parts[0] or not seam.between:
        return parts
    chunks = uncompressed(target.read(part.name), plan.compression)
    first = next(chunks).removeprefix(seam.between)
    again = write_part(plan, part.number, (chunk for chunk in chain([first], chunks)), lambda: part.rows)
    return [again if one is part else one for one in parts]


def _joined(plan: DumpPlan, parts: Sequence[Part], join_files: JoinFiles) -> Part:
    """Write one file of those of all parts, which are whole themselves, and return it as the only part."""
    name, digest = f"whole-{secrets.token_hex(4)}{plan.suffix}", Digest()
    with closing(_files(plan, parts)) as files:
        plan.made_target().write(name, digest.of(join_files(files)))
    snapshots = {part.snapshot for part in parts}
    return replace(
        parts[0],
        name=name,
        rows=sum(part.rows for part in parts),
        bytes=digest.size,
        sha256=digest.sha256.hexdigest(),
        start=None,
        end=None,
        snapshot=snapshots.pop() if len(snapshots) == 1 else "",
    )


def _files(plan: DumpPlan, parts: Sequence[Part]) -> Generator[BinaryIO]:
    target = plan.made_target()
    for part in parts:
        with spooled(target.read(part.name)) as file:
            yield file
