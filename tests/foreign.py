"""Programs other than ours that read what we wrote.

A CSV reader takes the bytes and gives all records as lists of text, the header among them; those that can tell
an unquoted cell from a quoted one give None for an unquoted cell that is in `nulls`. A JSON reader takes the
bytes of an array and gives its items.
"""

import atexit
import csv
import io
import tempfile
from functools import cache
from importlib import import_module
from importlib.util import find_spec

import ijson
import orjson

from tests import oracle, services

csv.field_size_limit(2**31 - 1)


def csv_module(data, *, delimiter=","):
    text = io.StringIO(data.decode(), newline="")
    return list(csv.reader(text, delimiter=delimiter, strict=True))


def pandas(data, *, delimiter=","):
    frame = import_module("pandas").read_csv(
        io.BytesIO(data),
        sep=delimiter,
        header=None,
        dtype=str,
        na_filter=False,
        skip_blank_lines=False,
        encoding="utf-8",
    )
    return frame.to_numpy().tolist()


def pyarrow(data, *, delimiter=",", nulls=()):
    arrow = import_module("pyarrow")
    arrow_csv = import_module("pyarrow.csv")
    names = _names(data, delimiter)
    table = arrow_csv.read_csv(
        io.BytesIO(data),
        read_options=arrow_csv.ReadOptions(column_names=names, use_threads=False, block_size=2**26),
        parse_options=arrow_csv.ParseOptions(
            delimiter=delimiter, escape_char=False, newlines_in_values=True, ignore_empty_lines=False
        ),
        convert_options=arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(names, arrow.string()),
            strings_can_be_null=bool(nulls),
            null_values=list(nulls),
            quoted_strings_can_be_null=False,
        ),
    )
    return [list(row) for row in zip(*(column.to_pylist() for column in table.columns), strict=True)]


def duckdb(data, *, delimiter=",", nulls=()):
    with tempfile.NamedTemporaryFile(suffix=".csv") as file:
        file.write(data)
        file.flush()
        relation = _duckdb().read_csv(
            file.name,
            auto_detect=False,
            columns=dict.fromkeys(_names(data, delimiter), "VARCHAR"),
            header=False,
            delimiter=delimiter,
            quotechar='"',
            escapechar='"',
            strict_mode=True,
            null_padding=False,
            parallel=False,
            max_line_size=2**26,
            # By default every empty cell is NULL: another text, which no cell holds, turns that off.
            na_values=list(nulls) or ["\ue000no such cell"],
            allow_quoted_nulls=False,
        )
        return [list(row) for row in relation.fetchall()]


@cache
def _duckdb():
    connection = import_module("duckdb").connect(config={"threads": 1})  # to open one costs more than to read
    atexit.register(_duckdb.cache_clear)
    return connection


def _names(data, delimiter):
    return [f"c{position}" for position in range(len(csv_module(data, delimiter=delimiter)[0]))]


def json_module(data):
    return oracle.strict_json(data.decode())


def ijson_items(data):
    return list(ijson.items(io.BytesIO(data), "item"))


PACKAGES = {"pandas": pandas, "pyarrow": pyarrow, "duckdb": duckdb}
PRESENT = {name: read for name, read in PACKAGES.items() if find_spec(name) or services.is_required()}
CSV_READERS = {"csv": csv_module, **PRESENT}
NULL_READERS = {name: read for name, read in PRESENT.items() if name != "pandas"}
JSON_READERS = {"json": json_module, "orjson": orjson.loads, "ijson": ijson_items}
