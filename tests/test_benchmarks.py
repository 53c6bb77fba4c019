"""Every benchmark still runs, and what it measures is the right output."""

import csv
import datetime as dt
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.cases import CASES
from benchmarks.databases import NAMES, ROOT, Entry, opened, run_django
from benchmarks.report import MIB, as_table, figures
from benchmarks.servers import UnavailableError
from benchmarks.table.rows import COLUMNS, NOTES, WIDE_CHARACTERS, customers, payments
from tests import services

ROWS = 12
WIDE = [case for case in CASES if CASES[case].own_rows]
OURS_CSV = ["csv", "csv-file", "csv-gzip", "csv-gunicorn", "csv-uvicorn"]
OURS_JSON = ["ndjson", "json"]
OTHERS = [case for case in CASES if case not in (*WIDE, *OURS_CSV, *OURS_JSON)]

Record = dict[str, Any]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("benchmarks")


@pytest.fixture(scope="module")
def table(cache: Path) -> Entry:
    with opened("sqlite", cache) as database:
        return database.table(ROWS)


@pytest.fixture(scope="module")
def expected() -> list[Record]:
    names = {customer["id"]: customer["name"] for customer in customers()}
    return [fields | {"customer__name": names[fields["customer_id"]]} for fields in payments(ROWS)]


@pytest.fixture
def written(table: Entry, tmp_path: Path) -> Callable[[str], bytes]:
    """Run a case and return what it wrote."""

    def run(case: str) -> bytes:
        if not CASES[case].is_installed:
            pytest.skip(f"needs the package {CASES[case].package}")
        path = tmp_path / "output"
        measured = json.loads(run_django(table, "measure", case, "--save", str(path)))
        assert measured["bytes"] == path.stat().st_size
        assert measured["seconds"] > 0
        assert measured["peak_bytes"] is None or measured["peak_bytes"] > 10_000_000
        return path.read_bytes()

    return run


def read_csv(data: bytes) -> list[Record]:
    header, *rows = csv.reader(StringIO(data.decode("utf-8-sig"), newline=""))
    return [dict(zip(header, row, strict=True)) for row in rows]


def read_json(data: bytes) -> list[Record]:
    if data.startswith(b"["):
        records: list[Record] = json.loads(data)
        return [record if "id" in record else {"id": record["pk"], **record["fields"]} for record in records]
    return [json.loads(line) for line in data.splitlines()]


def read(case: str, data: bytes) -> list[Record]:
    if CASES[case].format == "CSV, gzip":
        data = gzip.decompress(data)
    return read_csv(data) if CASES[case].format.startswith("CSV") else read_json(data)


@pytest.mark.parametrize("case", OTHERS)
def test_others_write_every_row(case: str, written: Callable[[str], bytes], expected: list[Record]) -> None:
    records = read(case, written(case))
    # What all of them write alike; how they write dates and nested values is their own affair.
    assert [(int(record["id"]), record["note"], Decimal(record["amount"])) for record in records] == [
        (record["id"], record["note"], record["amount"]) for record in expected
    ]
    assert case == "dumpdata" or {name.split(".")[0] for name in records[0]} == set(COLUMNS)


@pytest.mark.parametrize("case", OURS_CSV)
def test_our_cells_are_those_of_the_table(
    case: str, written: Callable[[str], bytes], expected: list[Record]
) -> None:
    for record, fields in zip(read(case, written(case)), expected, strict=True):
        assert json.loads(record.pop("details")) == fields["details"]
        assert record == {name: "" if fields[name] is None else str(fields[name]) for name in record}


@pytest.mark.parametrize("case", OURS_JSON)
def test_our_values_are_those_of_the_table(
    case: str, written: Callable[[str], bytes], expected: list[Record]
) -> None:
    as_text = {"reference": str, "amount": str, "due": dt.date.isoformat, "created_at": dt.datetime.isoformat}
    for record, fields in zip(read(case, written(case)), expected, strict=True):
        assert record == {
            name: as_text[name](fields[name]) if name in as_text else fields[name] for name in COLUMNS
        }


@pytest.mark.parametrize("case", WIDE)
def test_letters_are_small_or_wide(
    case: str, written: Callable[[str], bytes], request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(partial(csv.field_size_limit, csv.field_size_limit(WIDE_CHARACTERS)))
    letters = {record["text"] for record in read(case, written(case))}
    assert len(letters) == 1
    assert len(letters.pop()) == (WIDE_CHARACTERS if "wide" in case else len(NOTES[0]))


def test_rows_are_the_same_every_time() -> None:
    assert list(payments(20))[:10] == list(payments(10))


def use_test_servers(monkeypatch: pytest.MonkeyPatch, database: str) -> None:
    """Let the benchmarks use the servers of the tests."""
    with services.pgbouncer() as pooler:
        found = {"postgresql": services.postgresql(), "pgbouncer": pooler, "mariadb": services.mariadb()}
    entry, reason = found.get(database, ({}, ""))
    if entry is None:
        pytest.skip(reason)
    for ours, theirs in (("POSTGRESQL", "POSTGRES"), ("MARIADB", "MARIADB")):
        if url := os.environ.get(f"UPSTREAM_TEST_{theirs}_URL"):
            monkeypatch.setenv(f"BENCHMARKS_{ours}_URL", url)


@pytest.mark.parametrize("database", NAMES)
def test_runner_reports_every_case_and_size(
    database: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_test_servers(monkeypatch, database)
    path = tmp_path / "figures.json"
    options = ["--rows=6,12", "--rounds=1", "--cases=csv,csv-recipe", f"--databases={database}"]
    command = [sys.executable, "-m", "benchmarks", *options, f"--cache={cache}", f"--json={path}"]
    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    records = json.loads(path.read_text())["databases"][database]
    assert [(record["case"], record["rows"]) for record in records] == [
        ("csv-recipe", 6), ("csv-recipe", 12), ("csv", 6), ("csv", 12),
    ]  # fmt: skip
    assert [record["ratio"] is None for record in records] == [True, True, False, False]
    assert [record["growth_mib"] is None for record in records] == [True, False, True, False]
    assert all(record["case"] in printed for record in records)


def test_database_that_cannot_be_had_is_left_out_unless_it_was_asked_for(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str, directory: Path) -> None:
        raise UnavailableError(f"{name} is not installed")

    monkeypatch.setattr("benchmarks.__main__.opened", missing)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert main([f"--cache={cache}"]) == 0
    assert capsys.readouterr().err.splitlines() == [f"left out: {name} is not installed" for name in NAMES]
    with pytest.raises(SystemExit, match="mariadb is not installed"):
        main([f"--cache={cache}", "--databases=mariadb"])


def one_round(seconds: float, mib: int, first_row: float | None = 0.25) -> Record:
    return {
        "seconds": seconds,
        "first_byte_seconds": first_row,
        "first_row_seconds": first_row,
        "peak_bytes": mib * MIB,
        "bytes": 5_000_000,
    }


def test_ratio_is_the_median_of_pairs_and_growth_is_of_the_largest_peak() -> None:
    rounds = {
        ("csv-recipe", 100): [one_round(4, 40), one_round(6, 40), one_round(9, 40)],
        ("csv", 10): [one_round(1, 50)],
        ("csv", 100): [one_round(2, 51), one_round(2, 54), one_round(2, 52)],
    }
    recipe, small, large = figures(rounds, {})
    assert (recipe["ratio"], small["ratio"], large["ratio"]) == (None, None, 3)
    assert (small["growth_mib"], large["growth_mib"], large["peak_mib"]) == (None, 4, 54)
    assert (large["rows_per_second"], large["first_row_ms"], large["megabytes"]) == (50, 250, 5)


def test_wide_rows_grow_from_as_many_small_ones() -> None:
    rounds = {("csv-small-rows", 200): [one_round(1, 40)], ("csv-wide-rows", 200): [one_round(1, 90, None)]}
    small, wide = figures(rounds, {})
    assert (small["growth_mib"], wide["growth_mib"], wide["first_row_ms"]) == (None, 50, None)


def test_what_is_left_out_is_in_the_table_with_its_reason() -> None:
    (record,) = figures({}, {("pandas", 1_000_000): "left out: holds all rows in memory"})
    assert as_table([record]).splitlines()[1].split(maxsplit=3) == [
        "pandas", "CSV", "1,000,000", "left out: holds all rows in memory",
    ]  # fmt: skip
