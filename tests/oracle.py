"""What each Python value must look like in CSV and JSON, spelled out once more without the engine.

It imports nothing of the package: agreement between the two is what the tests prove.
"""

import base64
import datetime as dt
import io
import json
import re
import zipfile
from decimal import Decimal
from enum import Enum
from xml.etree import ElementTree as ET

from django.db.models.fields.files import FieldFile

NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def digits(value: Decimal) -> str:
    """Return plain digits with the scale kept, worked out from the number's parts."""
    sign, figures, exponent = value.as_tuple()
    minus = "-" if sign else ""
    if not value.is_finite():
        return minus + {"n": "NaN", "N": "sNaN", "F": "Infinity"}[exponent]
    text = "".join(map(str, figures))
    if exponent >= 0:
        return minus + ((text + "0" * exponent) if value else "0")
    text = text.rjust(1 - exponent, "0")
    return f"{minus}{text[:exponent]}.{text[exponent:]}"


def iso_duration(value: dt.timedelta) -> str:
    sign, value = ("-", -value) if value < dt.timedelta(0) else ("", value)
    hours, seconds = divmod(value.seconds, 3600)
    minutes, seconds = divmod(seconds, 60)
    fraction = f".{value.microseconds:06}" if value.microseconds else ""
    return f"{sign}P{value.days}DT{hours:02}H{minutes:02}M{seconds:02}{fraction}S"


class JsonColumn:
    """A value from a JSONField: JSON text whatever it holds, and null is text too."""

    def __init__(self, value):
        self.value = value

    def __repr__(self):
        return f"JsonColumn({self.value!r})"


def node(value):  # noqa: C901 (the table, line by line)
    """Return what a JSON reader must find for `value`."""
    if isinstance(value, JsonColumn):
        return value.value
    if isinstance(value, Enum):
        return node(value.value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return NOT_FINITE.get(repr(value), value)
    if isinstance(value, Decimal):
        return digits(value)
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return iso_duration(value)
    if isinstance(value, bytes | memoryview):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, FieldFile):
        return value.name
    if isinstance(value, dict):
        return {key if isinstance(key, str) else cell(key): node(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [node(item) for item in value]
    if isinstance(value, set | frozenset):
        return AnyOrder(map(node, value))
    return str(value)


def cell(value):
    """Return the text of the CSV cell for `value`, or AnySpelling where that text is JSON."""
    if isinstance(value, JsonColumn):
        return AnySpelling(value.value)
    if isinstance(value, Enum):
        return cell(value.value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "True" if value else "False"
    if isinstance(value, int):
        return digits(Decimal(value))
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, dt.datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, FieldFile):
        return value.name or ""
    if isinstance(value, dict | list | tuple | set | frozenset):
        return AnySpelling(node(value))
    return str(node(value))


class AnyOrder(list):
    """The items of a set: equal to a list of the same items in whatever order."""

    __hash__ = None

    def __eq__(self, other):
        return isinstance(other, list) and sorted(self, key=repr) == sorted(other, key=repr)


class AnySpelling:
    """Equal to every JSON text of one value: white space, escapes and number notation are free."""

    __hash__ = None

    def __init__(self, value):
        self.value = value

    def __eq__(self, text):
        return isinstance(text, str) and same_json(self.value, strict_json(text))

    def __repr__(self):
        return f"AnySpelling({self.value!r})"


def same_json(expected, got) -> bool:
    """Compare as JSON does: 1 and 1.0 are one number, and true is no number."""
    if isinstance(expected, dict) and isinstance(got, dict):
        return expected.keys() == got.keys() and all(same_json(expected[key], got[key]) for key in expected)
    if isinstance(expected, AnyOrder):
        return expected == got
    if isinstance(expected, list) and isinstance(got, list):
        return len(expected) == len(got) and all(map(same_json, expected, got))
    if isinstance(expected, bool) or isinstance(got, bool):
        return expected is got
    numbers = (int, float, Decimal)
    if isinstance(expected, numbers) and isinstance(got, numbers):
        return _same_number(expected, got)
    return type(expected) is type(got) and expected == got


def _same_number(expected, got) -> bool:
    if isinstance(expected, int) and isinstance(got, int):
        return expected == got
    # repr tells -0.0 from 0.0. A reader may give a Decimal for a float, or a float for more than 64 bits.
    return repr(float(expected)) == repr(float(got))


def strict_json(text):
    """Load JSON, refusing what the standard does not have: NaN, Infinity and a repeated key."""
    return json.loads(text, parse_constant=_refuse, object_pairs_hook=_unique)


def _refuse(constant):
    raise ValueError(f"{constant} is not JSON")


def _unique(pairs):
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"a key is repeated in {pairs}")
    return found


def named(value) -> str:
    """Return a name for a test of a value: the same in every process, without addresses and the order of sets."""
    if isinstance(value, (set, frozenset)):
        return f"{type(value).__name__}({sorted(value)})"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def sheets_of(data):
    """Return the rows of each sheet of a workbook: texts, numbers as the text of their digits, None."""
    return list(map(_rows_of, parts_of(data, "xl/worksheets/")))


def parts_of(data, folder):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [archive.read(name) for name in archive.namelist() if name.startswith(folder)]


def _rows_of(xml):
    rows = ET.fromstring(xml).iterfind(f"{SHEET}sheetData/{SHEET}row")
    return [[_cell_of(cell) for cell in row] for row in rows]


def _cell_of(cell):
    if cell.get("t") == "inlineStr":
        [text] = cell.iterfind(f"{SHEET}is/{SHEET}t")
        return re.sub("_x([0-9A-Fa-f]{4})_", lambda found: chr(int(found[1], 16)), text.text)
    value = cell.find(f"{SHEET}v")
    return None if value is None else value.text
