"""What people write for a list of records who have no library: a file by the modules `csv` and `json`."""

import csv
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from benchmarks.cases.native import new_file
from benchmarks.output import Output
from benchmarks.table.lists import dicts, tuples


def csv_dicts(output: Output, table: str) -> None:
    records, columns = dicts(table)
    with _text_file(output) as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(records)


def csv_tuples(output: Output, table: str) -> None:
    rows, columns = tuples(table)
    with _text_file(output) as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def ndjson_dicts(output: Output, table: str) -> None:
    records, _ = dicts(table)
    _write_ndjson(output, records)


def ndjson_tuples(output: Output, table: str) -> None:
    rows, columns = tuples(table)
    _write_ndjson(output, (dict(zip(columns, row, strict=True)) for row in rows))


def _write_ndjson(output: Output, records: Iterable[Any]) -> None:
    """Write with `str` what JSON has not: Decimals, UUIDs, dates and moments."""
    with _text_file(output) as file:
        file.writelines(json.dumps(record, ensure_ascii=False, default=str) + "\n" for record in records)


@contextmanager
def _text_file(output: Output) -> Iterator[TextIO]:
    """Start the clock, give a file to write, and take it over."""
    output.restart()
    with new_file(output) as path, path.open("w", newline="", encoding="utf-8") as file:
        yield file
