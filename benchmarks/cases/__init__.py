"""What is measured: functions that write the export to an `Output`, each rival's in a module of its own.

Only the module of the case that runs is imported, so that no case pays for another one's libraries.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec

from benchmarks.programs import find_program
from benchmarks.table.rows import rows_of


@dataclass(frozen=True, kw_only=True)
class Case:
    """`speed_of` is the case that its speed is divided by, `peak_of` the one whose peak is taken off its own.

    Without `peak_of`, growth is from the smallest table to the largest. A case of `own_rows` makes that number
    of rows whatever the size of the table, one of `most_rows` at most that. `bounded` says that the memory of the
    export does not grow with the rows; `databases` are the only ones it is for, where it is not for all;
    `options` are the adapter's.
    """

    adapter: str
    format: str
    options: Mapping[str, str] = field(default_factory=dict)
    table: str = "payments"
    speed_of: str = ""
    peak_of: str = ""
    package: str = "django"
    program: str = ""
    databases: tuple[str, ...] = ()
    bounded: bool = True
    rival: bool = False
    own_rows: int | None = None
    most_rows: int | None = None

    @property
    def missing(self) -> str:
        """The name of what it needs and this machine has not; empty where nothing is missing."""
        if find_spec(self.package) is None:
            return self.package
        return self.program if self.program and not find_program(self.program) else ""

    def is_for(self, database: str) -> bool:
        return not self.databases or database in self.databases

    def rows(self, size: int) -> int:
        """Return how many rows it writes of a database of that size."""
        rows = self.own_rows or rows_of(self.table, size)
        return min(rows, self.most_rows or rows)


WIDE_ROWS = 200
REPORT_ROWS = 16_000
LIST_ROWS = 500_000
LISTS = ("csv-dicts", "csv-tuples", "ndjson-dicts")
FORMATS = {"csv": "CSV", "ndjson": "NDJSON"}
WORKBOOKS = ("xlsxwriter", "openpyxl", "pyexcelerate")  # functions, and the packages that they are named after
OTHER_TABLES = ("200-columns", "long-texts", "nulls")
POSTGRESQL = ("postgresql", "pgbouncer")  # the others render no rows: their lane is "text" as it is


def _case(module: str, function: str, kind: str, **more: object) -> Case:
    return Case(adapter=f"benchmarks.cases.{module}.{function}", format=kind, **more)  # type: ignore[arg-type]


def _wide(function: str, kind: str, peak_of: str = "") -> Case:
    return _case("ours", function, kind, own_rows=WIDE_ROWS, peak_of=peak_of)


def _rival(module: str, kind: str, speed_of: str, package: str = "django", *, bounded: bool = False) -> Case:
    return _case(module, "write", kind, speed_of=speed_of, package=package, bounded=bounded, rival=True)


def _workbook(name: str) -> Case:
    return _case("workbooks", name, "Excel", speed_of="xlsx", package=name, bounded=False, rival=True)


def _served_workbook(server: str) -> Case:
    return _case("servers", server, "Excel", options={"name": "xlsx"}, speed_of="xlsx", package=server)


def _rival_report(function: str) -> Case:
    more = {"package": "weasyprint", "bounded": False, "rival": True, "most_rows": REPORT_ROWS}
    return _case("pdf", function, "PDF", **more)


def _lanes(name: str, table: str) -> Iterator[tuple[str, Case]]:
    """Yield the slower lanes of an export; "instances" is the one of Python, next to the recipe for instances."""
    function, kind = name.split("-", 1)[0], FORMATS[name.split("-", 1)[0]]
    to_table = {"table": table, "options": {"table": table}}
    in_text = {"table": table, "speed_of": f"{name}-recipe", "databases": POSTGRESQL}
    yield f"{name}-text-lane", _case("ours", f"{function}_in_utc", kind, options={"table": table}, **in_text)
    recipe = f"{name}-instances-recipe"
    yield recipe, _case("recipes", f"{function}_instances", kind, **to_table)
    yield f"{name}-instances", _case("ours", f"{function}_instances", kind, speed_of=recipe, **to_table)


def _other_table(function: str, table: str) -> Iterator[tuple[str, Case]]:
    name, kind = f"{function}-{table}", FORMATS[function]
    to_table = {"table": table, "options": {"table": table}}
    yield f"{name}-recipe", _case("recipes", f"{function}_rows", kind, **to_table)
    yield name, _case("ours", function, kind, speed_of=f"{name}-recipe", **to_table)
    yield from _lanes(name, table)


def named(name: str, table: str) -> str:
    """Return what a case of payments is called with another table: csv-file, csv-flights-file."""
    kind = next(kind for kind in FORMATS if kind in name)
    return name if table == "payments" else name.replace(kind, f"{kind}-{table}", 1)


def _of(table: str, name: str, adapter: str, against: str = "", **more: object) -> tuple[str, Case]:
    to_table = {"table": table, "options": {"table": table}, "speed_of": against and named(against, table)}
    kind = next(FORMATS[kind] for kind in FORMATS if kind in name)
    return named(name, table), _case(*adapter.split("."), kind, **to_table, **more)


def _csv(table: str) -> Iterator[tuple[str, Case]]:
    yield _of(table, "csv-recipe", "recipes.csv_rows")
    yield _of(table, "csv", "ours.csv", "csv-recipe")
    yield _of(table, "psql-csv", "native.psql_csv", "csv-recipe", program="psql", databases=("postgresql",))
    yield _of(table, "raw-cursor-csv", "native.raw_cursor_csv", "csv-recipe", databases=("sqlite",))
    yield _of(table, "csv-file", "ours.csv_file", "csv-recipe")
    shell = {"program": "sqlite3", "databases": ("sqlite",)}
    yield _of(table, "sqlite-shell-csv", "native.sqlite_shell_csv", "csv-recipe", **shell)


def _csv_function(table: str) -> Iterator[tuple[str, Case]]:
    yield _of(table, "csv-function-recipe", "recipes.csv_function")
    yield _of(table, "csv-function", "ours.csv_function", "csv-function-recipe")


def _ndjson(table: str) -> Iterator[tuple[str, Case]]:
    yield _of(table, "ndjson-recipe", "recipes.ndjson_rows")
    yield _of(table, "ndjson", "ours.ndjson", "ndjson-recipe")
    yield _of(
        table, "psql-ndjson", "native.psql_ndjson", "ndjson-recipe", program="psql", databases=("postgresql",)
    )
    yield _of(table, "ndjson-file", "ours.ndjson_file", "ndjson-recipe")


def _lists(table: str, *names: str) -> Iterator[tuple[str, Case]]:
    """Yield the cases that take no database: the rows are read from one before the clock starts."""
    more = {"databases": ("sqlite",), "most_rows": LIST_ROWS}
    for name in names:
        function = name.replace("-", "_")
        yield _of(table, f"{name}-stdlib", f"stdlib.{function}", **more)
        yield _of(table, name, f"ours.{function}", f"{name}-stdlib", **more)


# In this order they run: what is compared stands together, so that the machine treats both alike.
CASES = {
    **dict(_csv("payments")),
    "dump-one-export": _case("dumps", "one_export", "CSV", speed_of="csv-recipe"),
    "dump-here": _case("dumps", "here", "CSV", speed_of="dump-one-export"),
    "dump-2-workers": _case("dumps", "two_workers", "CSV", speed_of="dump-one-export"),
    "csv-gzip": _case("ours", "csv_gzip", "CSV, gzip", speed_of="csv-recipe"),
    "csv-gunicorn": _case("servers", "gunicorn", "CSV", speed_of="csv-file", package="gunicorn"),
    "csv-uvicorn": _case("servers", "uvicorn", "CSV", speed_of="csv-file", package="uvicorn"),
    "csv-granian": _case("servers", "granian", "CSV", speed_of="csv-file", package="granian"),
    **dict(_csv_function("payments")),
    **dict(_lanes("csv", "payments")),
    **dict(_ndjson("payments")),
    "json": _case("ours", "json", "JSON", speed_of="ndjson-recipe"),
    **dict(_lanes("ndjson", "payments")),
    **dict(_lists("payments", *LISTS)),
    **dict(_csv("flights")),
    **dict(_csv_function("flights")),
    **dict(_ndjson("flights")),
    **dict(_lists("flights", *LISTS)),
    **dict(_lists("typed", "csv-tuples", "ndjson-tuples")),
    **{name: case for table in OTHER_TABLES for kind in FORMATS for name, case in _other_table(kind, table)},
    "xlsx": _case("ours", "xlsx", "Excel", speed_of="csv"),
    "xlsx-gunicorn": _served_workbook("gunicorn"),
    "xlsx-uvicorn": _served_workbook("uvicorn"),
    **{f"xlsx-{name}": _workbook(name) for name in WORKBOOKS},
    "parquet-pandas": _case("pandas_frame", "write_parquet", "Parquet", package="pandas"),
    "parquet": _case("ours", "parquet", "Parquet", speed_of="parquet-pandas", package="pyarrow"),
    "parquet-text-lane": _case(
        "ours", "parquet_in_text", "Parquet", speed_of="parquet-pandas", package="pyarrow", databases=POSTGRESQL
    ),
    "parquet-instances": _case(
        "ours", "parquet_instances", "Parquet", speed_of="parquet-pandas", package="pyarrow"
    ),
    "dumpdata": _rival("dumpdata", "JSON", "ndjson-recipe", bounded=True),
    "pandas": _rival("pandas_frame", "CSV", "csv-recipe", "pandas"),
    "queryset-csv": _rival("queryset_csv", "CSV", "csv-recipe", "djqscsv"),
    "rest-framework-csv": _rival("rest_framework_csv", "CSV", "csv-recipe", "rest_framework_csv"),
    "import-export": _rival("import_export", "CSV", "csv-recipe", "import_export"),
    "weasyprint": _rival_report("weasyprint"),
    "pdf-report": _case("pdf", "report", "PDF", speed_of="weasyprint", most_rows=REPORT_ROWS),
    "pdf": _case("pdf", "table", "PDF"),
    "csv-small-rows": _wide("csv_small_rows", "CSV"),
    "csv-wide-rows": _wide("csv_wide_rows", "CSV", peak_of="csv-small-rows"),
    "ndjson-small-rows": _wide("ndjson_small_rows", "NDJSON"),
    "ndjson-wide-rows": _wide("ndjson_wide_rows", "NDJSON", peak_of="ndjson-small-rows"),
}
