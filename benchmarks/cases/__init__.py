"""What is measured: functions that write the export to an `Output`, each rival's in a module of its own.

Only the module of the case that runs is imported, so that no case pays for another one's libraries.
"""

from dataclasses import dataclass
from importlib.util import find_spec


@dataclass(frozen=True, kw_only=True)
class Case:
    """`speed_of` is the case that its speed is divided by, `peak_of` the one whose peak is taken off its own.

    Without `peak_of`, growth is from the smallest table to the largest. A case of `own_rows` makes that number
    of rows whatever the size of the table. `bounded` says that memory does not grow with the rows.
    """

    adapter: str
    format: str
    speed_of: str = ""
    peak_of: str = ""
    package: str = "django"
    bounded: bool = True
    rival: bool = False
    own_rows: int | None = None

    @property
    def is_installed(self) -> bool:
        return find_spec(self.package) is not None


WIDE_ROWS = 200


def _ours(function: str, kind: str, **options: str) -> Case:
    return Case(adapter=f"benchmarks.cases.ours.{function}", format=kind, **options)


def _wide(function: str, kind: str, **options: str) -> Case:
    return Case(adapter=f"benchmarks.cases.ours.{function}", format=kind, own_rows=WIDE_ROWS, **options)


def _served(server: str, package: str) -> Case:
    adapter = f"benchmarks.cases.servers.{server}"
    return Case(adapter=adapter, format="CSV", speed_of="csv-file", package=package)


def _recipe(function: str, kind: str) -> Case:
    return Case(adapter=f"benchmarks.cases.recipes.{function}", format=kind)


def _rival(module: str, kind: str, speed_of: str, package: str = "django", *, bounded: bool = False) -> Case:
    return Case(
        adapter=f"benchmarks.cases.{module}.write",
        format=kind,
        speed_of=speed_of,
        package=package,
        bounded=bounded,
        rival=True,
    )


# In this order they run: what is compared stands together, so that the machine treats both alike.
CASES = {
    "csv-recipe": _recipe("csv_rows", "CSV"),
    "csv": _ours("csv", "CSV", speed_of="csv-recipe"),
    "csv-gzip": _ours("csv_gzip", "CSV, gzip", speed_of="csv-recipe"),
    "csv-file": _ours("csv_file", "CSV", speed_of="csv-recipe"),
    "csv-gunicorn": _served("gunicorn", "gunicorn"),
    "csv-uvicorn": _served("uvicorn", "uvicorn"),
    "ndjson-recipe": _recipe("ndjson_rows", "NDJSON"),
    "ndjson": _ours("ndjson", "NDJSON", speed_of="ndjson-recipe"),
    "json": _ours("json", "JSON", speed_of="ndjson-recipe"),
    "dumpdata": _rival("dumpdata", "JSON", "ndjson-recipe", bounded=True),
    "pandas": _rival("pandas_frame", "CSV", "csv-recipe", "pandas"),
    "queryset-csv": _rival("queryset_csv", "CSV", "csv-recipe", "djqscsv"),
    "rest-framework-csv": _rival("rest_framework_csv", "CSV", "csv-recipe", "rest_framework_csv"),
    "import-export": _rival("import_export", "CSV", "csv-recipe", "import_export"),
    "csv-small-rows": _wide("csv_small_rows", "CSV"),
    "csv-wide-rows": _wide("csv_wide_rows", "CSV", peak_of="csv-small-rows"),
    "ndjson-small-rows": _wide("ndjson_small_rows", "NDJSON"),
    "ndjson-wide-rows": _wide("ndjson_wide_rows", "NDJSON", peak_of="ndjson-small-rows"),
}
