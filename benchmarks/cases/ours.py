"""The engine of this project."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from django.db.models import Subquery

from benchmarks.cases import WIDE_ROWS
from benchmarks.output import Output
from benchmarks.table.models import Letter, Payment
from benchmarks.table.rows import COLUMNS, SMALL_LETTER, WIDE_LETTER
from upstream.streaming import Csv, Json, JsonLines, stream, to_file


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
    _write_letters(output, Csv(), SMALL_LETTER)


def csv_wide_rows(output: Output) -> None:
    _write_letters(output, Csv(), WIDE_LETTER)


def ndjson_small_rows(output: Output) -> None:
    _write_letters(output, JsonLines(), SMALL_LETTER)


def ndjson_wide_rows(output: Output) -> None:
    _write_letters(output, JsonLines(), WIDE_LETTER)


def _write(output: Output, encoder: Any, **options: Any) -> None:
    output.drain(stream(Payment.objects.all(), COLUMNS, encoder, **options))


def _write_letters(output: Output, encoder: Any, letter: int) -> None:
    """Write the same letter again and again: the database sends it with each row."""
    text = Subquery(Letter.objects.filter(pk=letter).values("text"))
    payments = Payment.objects.filter(pk__lte=WIDE_ROWS).annotate(text=text)
    output.drain(stream(payments, ["id", "text"], encoder))
