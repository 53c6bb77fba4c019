"""Every benchmark still runs, and what it measures is the right output."""

import csv
import datetime as dt
import gzip
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import pypdf
import pytest
import python_calamine
from pyarrow import parquet

from benchmarks import simulation
from benchmarks.__main__ import main
from benchmarks.cases import CASES
from benchmarks.databases import NAMES, ROOT, Entry, opened, run_django
from benchmarks.report import MIB, as_table, figures
from benchmarks.servers import UnavailableError
from benchmarks.table.rows import (
    COLUMNS,
    FLIGHT_COLUMNS,
    NOTES,
    TYPED_COLUMNS,
    WIDE_CHARACTERS,
    airlines,
    customers,
    dozens,
    drafts,
    flights,
    payments,
    reports,
    surveys,
)
from benchmarks.targets import TARGETS, as_lines, verdicts
from tests import services

ROWS = 12
WIDE = [case for case in CASES if CASES[case].own_rows]
# A spreadsheet has numbers where others have texts: it is read as the rest are.
OURS = [
    case
    for case in CASES
    if case not in WIDE
    and CASES[case].adapter.rsplit(".", 1)[0] in ("benchmarks.cases.ours", "benchmarks.cases.dumps")
    and CASES[case].format != "Excel"
]
SERVED = [case for case in CASES if ".cases.servers." in CASES[case].adapter and CASES[case].format != "Excel"]
PDFS = [case for case in CASES if CASES[case].format == "PDF"]
LISTS = [case for case in CASES if CASES[case].most_rows and case not in PDFS]
OTHERS = [case for case in CASES if case not in (*WIDE, *OURS, *SERVED, *PDFS)]
TABLES = {
    "payments": payments,
    "typed": payments,
    "flights": flights,
    "200-columns": surveys,
    "long-texts": reports,
    "nulls": drafts,
}
PARENTS = {"payments": ("customer", customers), "typed": ("customer", customers), "flights": ("airline", airlines)}
COLUMNS_OF = {"payments": COLUMNS, "typed": TYPED_COLUMNS, "flights": FLIGHT_COLUMNS}

Record = dict[str, Any]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("benchmarks")


def expected(case: str) -> list[Record]:
    table = CASES[case].table
    parent, parents = PARENTS.get(table, ("", tuple))
    names = {one["id"]: one["name"] for one in parents()}
    records = list(TABLES[table](ROWS))
    for fields in records if parent else ():
        fields[f"{parent}__name"] = names[fields[f"{parent}_id"]]
        if "function" in case:
            fields[COLUMNS_OF[table][-1]] = dozens(fields[COLUMNS_OF[table][-1]])
        if table == "flights" and case in LISTS:
            fields["scheduled_at"] = fields["scheduled_at"].isoformat()
    return [{name: fields[name] for name in COLUMNS_OF.get(table, fields)} for fields in records]


@pytest.fixture
def measured(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Record]:
    """Run a case, on a database that it is for, and return its figures, with what it wrote as `output`."""

    def run(case: str) -> Record:
        if missing := CASES[case].missing:
            pytest.skip(f"needs {missing}")
        database = (*CASES[case].databases, "sqlite")[0]
        use_test_servers(monkeypatch, database)
        path = tmp_path / "output"
        figures: Record = json.loads(run_django(table(database, cache), "measure", case, "--save", str(path)))
        return {**figures, "output": path.read_bytes()}

    return run


@pytest.fixture
def written(measured: Callable[[str], Record]) -> Callable[[str], bytes]:
    """Run a case and return what it wrote."""

    def run(case: str) -> bytes:
        figures = measured(case)
        assert figures["bytes"] == len(figures["output"])
        assert figures["seconds"] > 0
        assert figures["peak_bytes"] is None or figures["peak_bytes"] > 10_000_000
        return figures["output"]

    return run


def table(database: str, cache: Path) -> Entry:
    with opened(database, cache) as made:
        return made.table(ROWS)


def read_csv(data: bytes) -> list[Record]:
    header, *rows = csv.reader(StringIO(data.decode("utf-8-sig"), newline=""))
    return [dict(zip(header, row, strict=True)) for row in rows]


def read_json(data: bytes) -> list[Record]:
    if data.startswith(b"["):
        records: list[Record] = json.loads(data)
        return [record if "id" in record else {"id": record["pk"], **record["fields"]} for record in records]
    return [json.loads(line) for line in data.split(b"\n")[:-1]]


def read_workbook(data: bytes) -> list[Record]:
    book = python_calamine.CalamineWorkbook.from_filelike(BytesIO(data))
    header, *rows = book.get_sheet_by_index(0).to_python()
    whole = [
        [int(cell) if isinstance(cell, float) and cell.is_integer() else cell for cell in row] for row in rows
    ]
    return [dict(zip(map(str, header), row, strict=True)) for row in whole]


def read(case: str, data: bytes) -> list[Record]:
    """Return what a case wrote, by its key: a join gives rows in any order."""
    if case.startswith("psql-ndjson"):
        data = data.replace(rb"\\", b"\\")  # COPY's text format doubles them
    if CASES[case].format == "CSV, gzip":
        data = gzip.decompress(data)
    if CASES[case].format == "Parquet":
        return sorted(parquet.read_table(BytesIO(data)).to_pylist(), key=lambda record: record["id"])
    readers = {"CSV": read_csv, "Excel": read_workbook}
    records = readers.get(CASES[case].format.split(",")[0], read_json)(data)
    return sorted(records, key=lambda record: int(record["id"]))


ALIKE = (
    "id", "amount", "name", "note", "text", "quantity",
    "airline", "tail", "destination", "departure", "distance",
)  # fmt: skip


def alike(records: list[Record]) -> list[Record]:
    """Return what all of them write alike; how they write dates, floats and nested values is their own affair."""
    return [
        {
            name: Decimal(str(value or 0))
            if name in ("amount", "departure_delay")
            else ""
            if value is None
            else str(value)
            for name, value in record.items()
            if name.split("_")[0] in ALIKE
        }
        for record in records
    ]


def in_csv(name: str, value: Any) -> Any:
    if value is None:
        return ""
    return value if name.startswith("details") else str(value)


def in_parquet(_name: str, value: Any) -> Any:
    return value


def in_json(name: str, value: Any) -> Any:
    as_text = {"reference": str, "amount": str, "due": dt.date.isoformat}
    as_text |= dict.fromkeys(("created", "moment", "scheduled"), dt.datetime.isoformat)
    write = as_text.get(name.split("_", 1)[0])
    return value if value is None or isinstance(value, str) or write is None else write(value)


@pytest.mark.heavy
@pytest.mark.parametrize("case", OTHERS)
def test_others_write_every_row(case: str, written: Callable[[str], bytes]) -> None:
    records = read(case, written(case))
    assert alike(records) == alike(expected(case))
    if (columns := COLUMNS_OF.get(CASES[case].table)) and case != "dumpdata":
        assert {name.split(".")[0] for name in records[0]} == set(columns)


@pytest.mark.heavy
@pytest.mark.parametrize("case", [*OURS, *SERVED])
def test_ours_are_the_values_of_the_table(case: str, written: Callable[[str], bytes]) -> None:
    kind = CASES[case].format.split(",")[0]
    write = {"CSV": in_csv, "Parquet": in_parquet}.get(kind, in_json)
    for record, fields in zip(read(case, written(case)), expected(case), strict=True):
        for name, text in record.items() if kind in ("CSV", "Parquet") else ():
            record[name] = json.loads(text) if text and name.startswith("details") else text
        assert record == {name: write(name, fields[name]) for name in record}
        assert set(record) == set(COLUMNS_OF.get(CASES[case].table, record))


@pytest.mark.parametrize("case", PDFS)
def test_pdfs_have_a_line_for_every_row(case: str, written: Callable[[str], bytes]) -> None:
    pages = pypdf.PdfReader(BytesIO(written(case))).pages
    text = "".join("".join(page.extract_text().split()) for page in pages)
    for fields in expected(case):
        assert f"{fields['reference']}"[:8] in text
        assert f"{fields['due']:%Y-%m-%d}" in text


@pytest.mark.parametrize("case", WIDE)
def test_letters_are_small_or_wide(
    case: str, written: Callable[[str], bytes], request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(partial(csv.field_size_limit, csv.field_size_limit(WIDE_CHARACTERS)))
    letters = {record["text"] for record in read(case, written(case))}
    assert len(letters) == 1
    assert len(letters.pop()) == (WIDE_CHARACTERS if "wide" in case else len(NOTES[0]))


@pytest.mark.parametrize("rows", TABLES.values())
def test_rows_are_the_same_every_time(rows: Callable[[int], Iterator[Record]]) -> None:
    assert list(rows(20))[:10] == list(rows(10))


def test_flights_are_plain_and_some_are_cancelled() -> None:
    fields = list(flights(4000))
    texts = "".join(text for one in [*fields, *airlines()] for text in one.values() if isinstance(text, str))
    cancelled = [one for one in fields if one["cancelled"]]
    assert not set(texts) & set(',"\n\\')
    assert texts.isascii()
    assert 0.02 < len(cancelled) / len(fields) < 0.03
    assert {one["departure"] for one in cancelled} == {one["departure_delay"] for one in cancelled} == {None}
    assert all(one["departure"] % 100 < 60 and one["departure"] < 2400 for one in fields if not one["cancelled"])
    assert 0 < sum(one["tail_number"] is None for one in fields) < 100


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


@pytest.mark.heavy
@pytest.mark.parametrize("case", [case for case in OURS if CASES[case].databases or "instances" in case])
def test_slower_lanes_are_taken(case: str, measured: Callable[[str], Record]) -> None:
    assert measured(case)["lane"] == ("python" if "instances" in case or case in LISTS else "text")


@pytest.mark.heavy
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
        "cpu_seconds": seconds / 2,
        "lane": "text",
        "bytes": 5_000_000,
    }


def test_ratio_is_the_median_of_pairs_and_growth_is_of_the_largest_peak() -> None:
    rounds = {
        ("csv-recipe", 100): [one_round(seconds, 40) | {"cpu_seconds": 2} for seconds in (4, 6, 9)],
        ("csv", 10): [one_round(1, 50)],
        ("csv", 100): [one_round(2, 51), one_round(2, 54), one_round(2, 52)],
    }
    recipe, small, large = figures(rounds, {})
    assert (recipe["ratio"], small["ratio"], large["ratio"]) == (None, None, 3)
    assert (recipe["cpu_ratio"], small["cpu_ratio"], large["cpu_ratio"]) == (None, None, 2)
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


def test_targets_are_judged_at_the_largest_size_that_has_both_of_their_cases() -> None:
    rounds = {
        ("csv-file", 10_000): [one_round(1, 50)],
        ("psql-csv", 10_000): [one_round(1, 50)],
        ("csv-file", 100_000): [one_round(6, 50), one_round(13, 50), one_round(13, 59)],
        ("psql-csv", 100_000): [one_round(5, 50), one_round(10, 50), one_round(10, 50)],
        ("csv-file", 1_000_000): [one_round(100, 59)],
    }
    found = {(one.figure, one.against): one for one in verdicts("postgresql", rounds)}
    time, growth = found["time", "psql-csv"], found["growth", ""]
    assert (time.rows, time.measured, time.is_met, time.asked) == (100_000, 1.3, False, "at most 1.25 (aim 1.05)")
    assert (growth.rows, growth.measured, growth.is_met, growth.asked) == (1_000_000, 9, False, "at most 8")
    assert found["cpu", "psql-csv"].is_met
    assert [one.figure for one in verdicts("mariadb", rounds)] == ["growth"]
    assert as_lines([found["cpu", "psql-csv"], time])[-2].startswith("NOT MET postgresql time")


def test_speed_is_asked_in_wall_time_and_in_processor_time() -> None:
    rounds = {
        ("csv-flights-recipe", 10_000): [one_round(7, 50) | {"cpu_seconds": 2.5}],
        ("csv-flights", 10_000): [one_round(2, 50) | {"cpu_seconds": 1}],
    }
    found = [(one.figure, one.measured, one.asked, one.is_met) for one in verdicts("sqlite", rounds)]
    assert found == [("speed", 3.5, "at least 3", True), ("cpu speed", 2.5, "at least 3", False)]
    assert [one.asked for one in verdicts("mariadb", rounds)] == ["at least 4", "at least 4"]


def test_few_rows_tell_nothing() -> None:
    assert verdicts("postgresql", {(case, 1000): [one_round(1, 50)] for case in CASES}) == []


def test_targets_name_cases_that_their_databases_have() -> None:
    for target in TARGETS:
        for case in filter(None, (target.case, target.against)):
            assert all(map(CASES[case].is_for, target.databases)), target


def test_simulated_dumps_on_workers_that_fail_have_exact_manifests():
    options = ["--rows", "200000000", "--parts", "60", "--workers", "6", "--seeds", "2"]
    command = [sys.executable, "-W", "error", "-m", "benchmarks.simulation", *options]
    told = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    assert len(told) == 4
    assert all(line.endswith("; exact") for line in told[1:])
    assert ", 0 killed, " in told[1]


def test_what_differs_from_an_exact_manifest_is_seen():
    def part(start, end, name):
        content = json.dumps([start, end]).encode()
        told = {"name": name, "rows": end - start, "sha256": hashlib.sha256(content).hexdigest()}
        return told, {name: content}

    def found(parts, rows=simulation.ROWS, **left):
        told, stored = zip(*parts, strict=True)
        manifest = {"rows": rows, "parts": list(told)}
        objects = {name: content for one in stored for name, content in one.items()}
        text = json.dumps(manifest).encode()
        store = simulation.Store(staged=left, objects=objects | {"manifest.json": text})
        return simulation.differences(manifest, store, simulation.ROWS, 2)

    first, second = part(0, 10, "a"), part(10, simulation.ROWS, "b")
    assert found([first, second]) == []
    assert "a is not what comes next" in found([second, first])
    assert "not as many parts as planned" in found([first, first, second])
    assert "not all rows" in found([first, second], rows=simulation.ROWS - 1)
    assert "b is not what comes next" in found([first, part(9, simulation.ROWS, "b")])
    assert "leftovers" in found([first, second], c=b"")
