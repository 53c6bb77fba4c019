"""The engine of this project."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from django.db.models import F
from django.db.models.functions import Repeat

from benchmarks.cases import WIDE_ROWS
from benchmarks.output import Output
from benchmarks.table.models import Payment
from benchmarks.table.rows import COLUMNS
from upstream.streaming import Csv, Json, JsonLines, stream, to_file

# A note has about a hundred characters: 5 MB of them, quotes and line breaks included.
WIDE_TIMES = 50_000


def csv(output: Output) -> None:
    _write(output, Csv())


def csv_gzip(output: Output) -> None:
    _write(output, Csv(), compression="gzip")


def csv_file(output: Output) -> None:
    with TemporaryDirectory() as directory:
        path = to_file(stream(Payment.objects.all(), COLUMNS, Csv()), Path(directory) / "payments.csv")
        with path.open("rb") as file:
            output.add_file(file)


def json(output: Output) -> None:
    _write(output, Json())


def ndjson(output: Output) -> None:
    _write(output, JsonLines())


def csv_small_rows(output: Output) -> None:
    _write_notes(output, Csv(), times=1)


def csv_wide_rows(output: Output) -> None:
    _write_notes(output, Csv(), times=WIDE_TIMES)


def ndjson_small_rows(output: Output) -> None:
    _write_notes(output, JsonLines(), times=1)


def ndjson_wide_rows(output: Output) -> None:
    _write_notes(output, JsonLines(), times=WIDE_TIMES)


def _write(output: Output, encoder: Any, **options: Any) -> None:
    output.drain(stream(Payment.objects.all(), COLUMNS, encoder, **options))


def _write_notes(output: Output, encoder: Any, times: int) -> None:
    payments = Payment.objects.filter(pk__lte=WIDE_ROWS).annotate(text=Repeat(F("note"), times))
    output.drain(stream(payments, ["id", "text"], encoder))
