"""Encoders as data: the class by its name, and the options that differ from their defaults."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from upstream.dumps.values import from_json, to_json
from upstream.streaming import Csv, Json, JsonLines, SourceError
from upstream.streaming.encoders.protocol import Encoder

ENCODERS: Mapping[str, Any] = {kind.__name__: kind for kind in (Csv, Json, JsonLines)}


def to_data(encoder: Encoder) -> Mapping[str, Any]:
    """Return an encoder as JSON data; raise SourceError for one whose files cannot be joined."""
    name = type(encoder).__name__
    if ENCODERS.get(name) is not type(encoder):
        raise SourceError(
            f"a dump cannot write {name}: choose {', '.join(ENCODERS)}, whose parts make one file when joined"
        )
    options = {one.name: getattr(encoder, one.name) for one in fields(encoder)}  # type: ignore[arg-type]
    defaults = {one.name: one.default for one in fields(encoder)}  # type: ignore[arg-type]
    changed = {name: to_json(value) for name, value in options.items() if value != defaults[name]}
    return {"name": name, "options": changed}


def from_data(data: Mapping[str, Any]) -> Encoder:
    """Return the encoder that `to_data` wrote down."""
    options = {name: from_json(value) for name, value in data["options"].items()}
    if "separators" in options:
        options["separators"] = tuple(options["separators"])
    encoder: Encoder = ENCODERS[data["name"]](**options)
    return encoder
