"""The engine of this project."""

from collections.abc import Iterable, Sequence
from datetime import UTC
from importlib import import_module
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from django.db.models import Subquery

from benchmarks.cases import WIDE_ROWS
from benchmarks.output import Output
from benchmarks.table.lists import dicts, tuples
from benchmarks.table.models import Letter, Payment, selection
from benchmarks.table.rows import SMALL_LETTER, WIDE_LETTER, dozens
from upstream.streaming import Column, Csv, Json, JsonLines, Parquet, Xlsx, plan, stream, to_file

# Whose value only the record has: so all columns are read from instances.
KEY = Column(attrgetter("pk"), header="id")


class InText(Parquet):
    """Declares the text lane, and not COPY."""

    takes_texts, lane_options = Parquet.takes_texts, Parquet.lane_options


def csv(output: Output, table: str = "payments") -> None:
    _write(output, Csv(), *selection(table))


def csv_gzip(output: Output) -> None:
    _write(output, Csv(), *selection("payments"), compression="gzip")


def csv_file(output: Output, table: str = "payments") -> None:
    _write_file(output, Csv(), *selection(table))


def csv_function(output: Output, table: str = "payments") -> None:
    queryset, (*others, last) = selection(table)
    _write(output, Csv(), queryset, [*others, Column(last, value=dozens)])


def csv_dicts(output: Output, table: str) -> None:
    _write_list(output, Csv(), *dicts(table))


def csv_tuples(output: Output, table: str) -> None:
    _write_list(output, Csv(), *tuples(table))


def csv_in_utc(output: Output, table: str = "payments") -> None:
    """Write what `csv` does; PostgreSQL's COPY converts no zones, so that its rows are read as tuples."""
    _write(output, Csv(time_zone=UTC), *selection(table))


def csv_instances(output: Output, table: str = "payments") -> None:
    _write_instances(output, Csv(), table)


def json(output: Output) -> None:
    _write(output, Json(), *selection("payments"))


def parquet(output: Output) -> None:
    _write_parquet(output, Parquet(), *selection("payments"))


def parquet_in_text(output: Output) -> None:
    """Write what `parquet` does; a type that only the values tell has no COPY."""
    _write_parquet(output, InText(), *selection("payments"))


def parquet_instances(output: Output) -> None:
    queryset, columns = selection("payments")
    _write_parquet(output, Parquet(), queryset, [KEY, *columns[1:]])


def ndjson(output: Output, table: str = "payments") -> None:
    _write(output, JsonLines(), *selection(table))


def ndjson_file(output: Output, table: str = "payments") -> None:
    _write_file(output, JsonLines(), *selection(table))


def ndjson_dicts(output: Output, table: str) -> None:
    _write_list(output, JsonLines(), *dicts(table))


def ndjson_tuples(output: Output, table: str) -> None:
    _write_list(output, JsonLines(), *tuples(table))


def ndjson_in_utc(output: Output, table: str = "payments") -> None:
    """As `csv_in_utc`."""
    _write(output, JsonLines(time_zone=UTC), *selection(table))


def ndjson_instances(output: Output, table: str = "payments") -> None:
    _write_instances(output, JsonLines(), table)


def xlsx(output: Output) -> None:
    _write(output, Xlsx(), *selection("payments"))


def csv_small_rows(output: Output) -> None:
    _write_letters(output, Csv(), SMALL_LETTER)


def csv_wide_rows(output: Output) -> None:
    _write_letters(output, Csv(), WIDE_LETTER)


def ndjson_small_rows(output: Output) -> None:
    _write_letters(output, JsonLines(), SMALL_LETTER)


def ndjson_wide_rows(output: Output) -> None:
    _write_letters(output, JsonLines(), WIDE_LETTER)


def _write(output: Output, encoder: Any, queryset: Any, columns: Iterable[Any], **options: Any) -> None:
    chunks = stream(queryset, columns, encoder, **options)
    output.drain(chunks)
    output.lane = chunks.lane


def _write_parquet(output: Output, encoder: Any, queryset: Any, columns: Iterable[Any]) -> None:
    # As the rival does before its clock starts.
    modules = ["pyarrow.parquet", "pyarrow.csv", "pyarrow.compute"]
    if plan(queryset, columns, encoder).lane != "copy" and find_spec("pandas"):
        modules.append("pandas")  # which pyarrow imports to build an array from Python's values
    for module in modules:
        import_module(module)
    output.restart()
    _write(output, encoder, queryset, columns)


def _write_file(output: Output, encoder: Any, source: Any, columns: Iterable[Any]) -> None:
    with TemporaryDirectory() as directory:
        chunks = stream(source, columns, encoder)
        path = to_file(chunks, Path(directory) / "rows")
        output.lane = chunks.lane
        with path.open("rb") as file:
            output.add_file(file)


def _write_list(output: Output, encoder: Any, records: Sequence[Any], columns: Iterable[str]) -> None:
    output.restart()
    _write_file(output, encoder, records, columns)


def _write_instances(output: Output, encoder: Any, table: str) -> None:
    queryset, columns = selection(table)
    assert columns[0] == KEY.header
    _write(output, encoder, queryset, [KEY, *columns[1:]])


def _write_letters(output: Output, encoder: Any, letter: int) -> None:
    """Write the same letter again and again: the database sends it with each row."""
    text = Subquery(Letter.objects.filter(pk=letter).values("text"))
    payments = Payment.objects.filter(pk__lte=WIDE_ROWS).annotate(text=text)
    _write(output, encoder, payments, ["id", "text"])
