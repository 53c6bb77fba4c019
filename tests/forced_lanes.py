"""Encoders that take one lane and no faster one: an encoder of another class declares its lanes itself."""

from dataclasses import fields

from upstream.streaming import Csv, Json, JsonLines, Xlsx


class TextCsv(Csv):
    """Declares the text lane, and not COPY."""

    takes_texts, lane_options = Csv.takes_texts, Csv.lane_options


class TextJson(Json):
    """Declares the text lane, and not COPY."""

    takes_texts, lane_options = Json.takes_texts, Json.lane_options


class TextJsonLines(JsonLines):
    """Declares the text lane, and not COPY."""

    takes_texts, lane_options = JsonLines.takes_texts, JsonLines.lane_options


class TextXlsx(Xlsx):
    """Declares the text lane, and not COPY."""

    takes_texts, lane_options = Xlsx.takes_texts, Xlsx.lane_options


class PythonCsv(Csv):
    """Declares no lane."""


class PythonJson(Json):
    """Declares no lane."""


class PythonJsonLines(JsonLines):
    """Declares no lane."""


class PythonXlsx(Xlsx):
    """Declares no lane."""


LANES = {
    "copy": {},
    "text": {Csv: TextCsv, Json: TextJson, JsonLines: TextJsonLines, Xlsx: TextXlsx},
    "python": {Csv: PythonCsv, Json: PythonJson, JsonLines: PythonJsonLines, Xlsx: PythonXlsx},
}


def in_lane(encoder, lane):
    """Return the encoder with the options it has, of the class that takes that lane."""
    kind = LANES[lane].get(type(encoder), type(encoder))
    return kind(**{option.name: getattr(encoder, option.name) for option in fields(encoder)})
