"""Encoders that take one lane and no faster one: an encoder of another class declares its lanes itself."""

from dataclasses import fields

from upstream import streaming

ENCODERS = [getattr(streaming, name) for name in ("Csv", "Json", "JsonLines", "Parquet", "Pdf", "Xlsx")]


def _declaring(kind, word, **declared):
    return type(word + kind.__name__, (kind,), {"__module__": __name__, **declared})


LANES = {
    "copy": {},
    "text": {
        kind: _declaring(kind, "Text", takes_texts=kind.takes_texts, lane_options=kind.lane_options)
        for kind in ENCODERS
    },
    "python": {kind: _declaring(kind, "Python") for kind in ENCODERS},
}


def in_lane(encoder, lane):
    """Return the encoder with the options it has, of the class that takes that lane."""
    kind = LANES[lane].get(type(encoder), type(encoder))
    return kind(**{option.name: getattr(encoder, option.name) for option in fields(encoder)})
