"""The figures that were asked for, as data, and which of them were met."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from benchmarks.cases import CASES, OTHER_TABLES, named
from benchmarks.report import MIB, Rounds, growth, paired, peak_mib
from upstream.streaming.encoders.parquet import ROW_GROUP_BYTES

# Below it, what is measured is how processes start.
SMALLEST_ROWS = 10_000


@dataclass(frozen=True, kw_only=True)
class Target:
    """A figure of `case`, which is at most `most` or at least `least`; where there is one, `aim` is better still.

    "time" and "cpu" are those of `case` divided by those of `against`, "speed" and "cpu speed" the inverse.
    "growth" is that of the peak in MiB, "peak" the peak itself, "slowdown" the processor time for a row divided
    by that on the smallest table, "first byte" its time divided by that on the smallest table, "wait" its seconds.
    """

    figure: Literal["time", "speed", "cpu", "cpu speed", "growth", "peak", "slowdown", "first byte", "wait"]
    case: str
    against: str = ""
    most: float | None = None
    least: float | None = None
    aim: float | None = None
    databases: tuple[str, ...] = ()

    @property
    def asked(self) -> str:
        bound = f"at least {self.least:g}" if self.most is None else f"at most {self.most:g}"
        return f"{bound} (aim {self.aim:g})" if self.aim else bound

    def is_met_by(self, measured: float) -> bool:
        return (self.most is None or measured <= self.most) and (self.least is None or measured >= self.least)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was measured for a target on one database, and with how many rows."""

    database: str
    figure: str
    case: str
    against: str
    rows: int
    measured: float
    asked: str
    is_met: bool


def _beaten(case: str, least: float, *databases: str) -> Target:
    return Target(figure="speed", case=case, against=CASES[case].speed_of, least=least, databases=databases)


def _in_both(bound: str, case: str, against: str, database: str, plain: float, mixed: float) -> Iterator[Target]:
    """Yield a figure of the table of flights and one of that of payments, in wall time and in processor time."""
    for table, asked in (("flights", plain), ("payments", mixed)):
        names = {"case": named(case, table), "against": named(against, table), "databases": (database,)}
        for figure in ("time", "cpu") if bound == "most" else ("speed", "cpu speed"):
            yield Target(figure=figure, **names, **{bound: asked})


# What is asked of flights, and of payments.
TABLES = (
    ("most", "csv-file", "raw-cursor-csv", "sqlite", 1.25, 0.7),
    ("least", "csv", "csv-recipe", "sqlite", 3, 4),
    ("least", "ndjson", "ndjson-recipe", "sqlite", 5, 5),
    ("most", "csv-file", "sqlite-shell-csv", "sqlite", 2, 1.7),
    ("least", "csv", "csv-recipe", "mariadb", 4, 4.5),
    ("least", "ndjson", "ndjson-recipe", "mariadb", 5, 5.5),
    ("least", "csv-function", "csv-function-recipe", "postgresql", 2.5, 3.5),
    ("least", "csv-dicts", "csv-dicts-stdlib", "sqlite", 2, 1.5),
    ("least", "ndjson-dicts", "ndjson-dicts-stdlib", "sqlite", 4, 3),
    ("least", "csv-tuples", "csv-tuples-stdlib", "sqlite", 1.5, 1.5),
)
# Each lane, as far as a database has it.
STREAMS = tuple(f"{kind}{lane}" for kind in ("csv", "ndjson") for lane in ("", "-text-lane", "-instances"))
PLAIN = ("csv-flights", "ndjson-flights")
WHOLE = ("json", "xlsx", "csv-file", "ndjson-file")
SERVED = ("csv-gunicorn", "csv-uvicorn", "csv-granian")  # whose speed is divided by that of a file
SERVED_WORKBOOKS = ("xlsx-gunicorn", "xlsx-uvicorn")
HARD = tuple(
    name
    for name, case in CASES.items()
    if name.startswith(tuple(f"{kind}-{table}" for kind in ("csv", "ndjson") for table in OTHER_TABLES))
    and case.speed_of
)
# How many times the time of ours the peers take.
WORKBOOKS = {
    "postgresql": {"xlsxwriter": 12, "openpyxl": 14, "pyexcelerate": 8},
    "sqlite": {"xlsxwriter": 6, "openpyxl": 7, "pyexcelerate": 4},
}
TARGETS = (
    Target(figure="time", case="csv-file", against="psql-csv", most=1.25, aim=1.05, databases=("postgresql",)),
    Target(figure="time", case="ndjson-file", against="psql-ndjson", most=1.25, aim=1, databases=("postgresql",)),
    Target(figure="cpu", case="csv-file", against="psql-csv", most=2, databases=("postgresql",)),
    *[target for asked in TABLES for target in _in_both(*asked)],
    _beaten("dump-2-workers", 1.3, "postgresql"),
    Target(figure="speed", case="dump-2-workers", against="psql-csv", least=1, databases=("postgresql",)),
    _beaten("csv", 7, "postgresql"),
    _beaten("ndjson", 5, "postgresql"),
    _beaten("parquet", 4, "postgresql"),
    *[
        Target(figure="time", case=f"xlsx-{name}", against="xlsx", least=least, databases=(database,))
        for database, asked in WORKBOOKS.items()
        for name, least in asked.items()
    ],
    Target(figure="time", case="xlsx", against="csv", most=2.5, databases=("postgresql",)),
    *[Target(figure="growth", case=case, most=8) for case in (*STREAMS, *WHOLE, *PLAIN)],
    # A row group.
    *[
        Target(figure="growth", case=case, most=ROW_GROUP_BYTES / MIB)
        for case in ("parquet", "parquet-text-lane", "parquet-instances")
    ],
    *[Target(figure="first byte", case=case, most=1.5) for case in (*STREAMS, *PLAIN)],
    _beaten("pdf-report", 10),
    Target(figure="peak", case="pdf-report", most=120),
    Target(figure="growth", case="pdf", most=8),
    Target(figure="slowdown", case="pdf", most=1.05),
    *[_beaten(case, 1) for case in HARD],
    *[_beaten(case, 0.7) for case in SERVED],
    *[Target(figure="wait", case=case, most=0.05) for case in (*SERVED, *SERVED_WORKBOOKS)],
)


def verdicts(database: str, rounds: Rounds) -> list[Verdict]:
    """Return a verdict for each target that was measured, at the largest size with both of its cases."""
    return [
        verdict
        for target in TARGETS
        if not target.databases or database in target.databases
        for verdict in _verdict(database, target, rounds)
    ]


def _verdict(database: str, target: Target, rounds: Rounds) -> Iterator[Verdict]:
    sizes = sorted(rows for case, rows in rounds if case == target.case)
    if target.against:
        sizes = [rows for rows in sizes if (target.against, rows) in rounds]
    if not sizes or sizes[-1] < SMALLEST_ROWS:
        return
    measured = _measured(target, sizes, rounds)
    if measured is not None:
        yield Verdict(
            database=database,
            figure=target.figure,
            case=target.case,
            against=target.against,
            rows=CASES[target.case].rows(sizes[-1]),
            measured=measured,
            asked=target.asked,
            is_met=target.is_met_by(measured),
        )


def _measured(target: Target, sizes: Sequence[int], rounds: Rounds) -> float | None:
    ours, theirs = rounds[target.case, sizes[-1]], rounds.get((target.against, sizes[-1]), [])
    if target.figure == "growth":
        return growth(target.case, sizes[-1], rounds)
    if target.figure == "peak":
        return peak_mib(ours)
    if target.figure == "slowdown":
        return _per_row(target.case, sizes[-1], rounds) / _per_row(target.case, sizes[0], rounds)
    if target.figure == "first byte":
        return _first_byte(ours) / _first_byte(rounds[target.case, sizes[0]]) if len(sizes) > 1 else None
    if target.figure == "wait":
        return _first_byte(ours)
    what = "cpu_seconds" if "cpu" in target.figure else "seconds"
    return paired(theirs, ours, what) if "speed" in target.figure else paired(ours, theirs, what)


def _per_row(case: str, rows: int, rounds: Rounds) -> float:
    return median(one["cpu_seconds"] for one in rounds[case, rows]) / CASES[case].rows(rows)


def _first_byte(measured: Sequence[dict[str, Any]]) -> float:
    return median(one["first_byte_seconds"] for one in measured)


def as_lines(judged: Sequence[Verdict]) -> list[str]:
    """Return the verdicts as text, those that are not met first."""
    if not judged:
        return []
    lines = [
        f"{'met' if one.is_met else 'NOT MET':<8}{one.database:<11}{one.figure:<11}"
        f"{' / '.join(filter(None, (one.case, one.against))):<60}{one.rows:>9,}{one.measured:>9,.2f}  {one.asked}"
        for one in sorted(judged, key=lambda one: one.is_met)
    ]
    return ["", "What was asked for:", "", *lines]
