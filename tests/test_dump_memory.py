"""The memory of a dump's workers does not grow with its rows: peaks of fresh processes."""

import json
import os
import sys

import pytest
from django.conf import settings

from tests import processes
from tests.serving import databases

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peaks of memory are read from /proc"),
]

FEW, MANY = 20_000, int(os.environ.get("UPSTREAM_MEMORY_ROWS", "400_000"))
MEBIBYTE = 1024 * 1024
DUMP = """
import json, sys
import django
django.setup()
from benchmarks.memory import peak_bytes
from tests.processes import children
from tests.serving.models import Line
from upstream.dumps import plan_dump, run, workers
from upstream.streaming import Csv

alias, rows, place, threads = sys.argv[1:]
# No mixture, in which the thread may write all of a small dump while processes start.
workers.chosen_workers = lambda _plan, number: workers.Workers(number * int(threads), number * (1 - int(threads)))
peaks = {}

def report(*told):
    peaks["coordinator"] = peak_bytes()
    for child in children():
        try:
            peaks[child] = peak_bytes(child)
        except (FileNotFoundError, KeyError):  # it has just ended
            pass

lines = Line.objects.using(alias).filter(id__lte=int(rows))
manifest = run(plan_dump(lines, None, Csv(), place, parts=8), workers=2, report=report)
assert manifest["rows"] == int(rows)
worker = max((peak for name, peak in peaks.items() if name != "coordinator"), default=0)
print(json.dumps([peaks["coordinator"], worker]))
"""


@pytest.fixture(scope="module")
def entries(tmp_path_factory):
    with databases.databases(tmp_path_factory.mktemp("memory"), MANY) as entries:
        yield entries


@pytest.mark.parametrize(
    ("alias", "threads"),
    [("sqlite", 0), ("postgresql", 1), ("postgresql", 0), ("mariadb", 0)],
    ids=["sqlite", "postgresql in threads", "postgresql in processes", "mariadb"],
)
def test_the_peak_of_a_worker_does_not_grow_with_the_rows(entries, alias, threads, tmp_path):
    if alias not in entries:
        pytest.skip(settings.MISSING_DATABASES[alias])

    def peaks(rows):
        options = {"variables": databases.variables(entries)}
        return json.loads(processes.printed(DUMP, alias, rows, tmp_path / f"{rows}", threads, **options))

    few, many = peaks(FEW), peaks(MANY)
    grown = [(more - less) / MEBIBYTE for less, more in zip(few, many, strict=True)]
    print(f"MiB more with {MANY:,} rows than with {FEW:,}: coordinator {grown[0]:.1f}, process {grown[1]:.1f}")
    assert grown[0] < 8
    assert grown[1] < 8
    assert bool(few[1]) == bool(many[1]) == (not threads)
