"""Measure exports: every case in a fresh process, compared cases in turn (A B, B A, A B).

python -m benchmarks --rows 10000,100000 --databases sqlite --cases csv-recipe,csv --json figures.json
"""

import json
import os
import platform
import signal
import subprocess
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES
from benchmarks.databases import NAMES, cache_directory, opened, run_django
from benchmarks.report import EXPLANATION, Rounds, as_table, figures
from benchmarks.servers import UnavailableError
from benchmarks.table.rows import WIDENESS
from benchmarks.targets import Verdict, as_lines, verdicts

# A hundred thousand rows take some of them a gigabyte and half a minute.
LARGEST_UNBOUNDED = 100_000
# Wide rows are a gigabyte: more than a small run should wait for.
SMALLEST_WIDE = 10_000
MAIN_TABLES = {"payments": "csv", "flights": "csv-flights"}  # and a case that reads all of it
FAILED = "failed"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    # A server that was started is stopped at the end of a `with`: a signal must not skip it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    machine = _machine()
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    reports: dict[str, list[dict[str, Any]]] = {}
    judged: list[Verdict] = []
    for name in options.databases or NAMES:
        try:
            reports[name], found = _report(name, options)
            judged += found
        except UnavailableError as error:
            if options.databases:
                raise SystemExit(str(error)) from error
            print(f"left out: {error}", file=sys.stderr)
        if options.json:  # after each: what was measured stays if the next one breaks
            known = {"machine": machine, "databases": reports, "targets": list(map(asdict, judged))}
            options.json.write_text(json.dumps(known, indent=1) + "\n")
    print(f"\n{EXPLANATION}")
    print("\n".join(as_lines(judged)))
    return int(any(record["note"] == FAILED for records in reports.values() for record in records))


def _options(arguments: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=_sizes, default=_sizes("10000,100000,1000000"), help="sizes of the table")
    parser.add_argument("--rounds", type=int, default=3, help="rivals besides the recipe run once")
    parser.add_argument("--databases", type=_names(*NAMES), help="without it, all that can be had")
    parser.add_argument("--cases", type=_names(*CASES), default=list(CASES))
    parser.add_argument("--tables", type=_names(*WIDENESS), default=list(WIDENESS), help="only their cases")
    parser.add_argument("--all", action="store_true", help="at every size also what holds all rows in memory")
    parser.add_argument("--json", type=Path, help="write every figure and round to this file")
    parser.add_argument("--cache", type=Path, default=cache_directory(), help="where the data is kept")
    return parser.parse_args(arguments)


def _sizes(text: str) -> list[int]:
    return sorted({int(size) for size in text.split(",")})


def _names(*known: str) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := set(chosen).difference(known):
            raise ValueError(unknown)
        return [name for name in known if name in chosen]

    return names


def _report(database: str, options: Namespace) -> tuple[list[dict[str, Any]], list[Verdict]]:
    rounds: Rounds = defaultdict(list)
    notes: dict[tuple[str, int], str] = {}
    with opened(database, options.cache) as opened_database:
        tables = {rows: opened_database.table(rows) for rows in options.rows}
        for entry in tables.values():  # what is read for the first time comes from the disk: nobody's figure
            for table in MAIN_TABLES.keys() & options.tables:
                run_django(entry, "measure", MAIN_TABLES[table])
        for case, rows in _schedule(database, options, notes):
            print(f"{database}: {case}, {CASES[case].rows(rows):,} rows", end="", file=sys.stderr, flush=True)
            try:
                measured = json.loads(run_django(tables.get(rows, tables[options.rows[-1]]), "measure", case))
            except subprocess.CalledProcessError:  # what went wrong stands above on standard error
                notes[case, rows] = FAILED
            else:
                rounds[case, rows].append(measured)
                print(f": {measured['seconds']:.2f} s", file=sys.stderr)
    records = figures(rounds, notes)
    print(f"\n{database}\n\n{as_table(records)}", flush=True)
    return records, verdicts(database, rounds)


def _schedule(database: str, options: Namespace, notes: dict[tuple[str, int], str]) -> Iterator[tuple[str, int]]:
    """Yield what to run next; say in `notes` what is left out, and why."""
    chosen = [
        case for case in options.cases if CASES[case].is_for(database) and CASES[case].table in options.tables
    ]
    for rows in options.rows:
        cases = [case for case in chosen if CASES[case].own_rows is None]
        notes |= {(case, rows): reason for case in cases if (reason := _reason_against(case, rows, options))}
        for number in range(options.rounds):
            once = [case for case in cases if number == 0 or not CASES[case].rival]
            for case in reversed(once) if number % 2 else once:
                if (case, rows) not in notes:
                    yield case, rows
    for case in chosen:
        if (own_rows := CASES[case].own_rows) and options.rows[-1] >= SMALLEST_WIDE:
            yield case, own_rows


def _reason_against(case: str, rows: int, options: Namespace) -> str:
    if missing := CASES[case].missing:
        return f"not installed: {missing}"
    if rows > LARGEST_UNBOUNDED and not (CASES[case].bounded or options.all):
        return "left out: holds all rows in memory (--all runs it)"
    return ""


def _machine() -> dict[str, Any]:
    packages = ("Django", "msgspec", "orjson", "psycopg", "mysqlclient", "isal")
    return {
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "python": platform.python_version(),
        **{package: _version(package) for package in packages},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    sys.exit(main())
