"""Memory does not grow with the rows, nor much with their width: the peak of a fresh process for each case."""

import sys

import pytest
from django.conf import settings

from tests import processes, services
from tests.serving import databases

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peaks of memory are read from /proc"),
]

FEW, MANY = 10_000, 150_000
MEBIBYTE = 1024 * 1024


@pytest.fixture(scope="module")
def entries(tmp_path_factory):
    with databases.databases(tmp_path_factory.mktemp("memory"), MANY) as entries, services.pgbouncer() as found:
        pooled, reason = found
        settings.MISSING_DATABASES.setdefault("pgbouncer", reason)
        yield {**entries, "pgbouncer": {**pooled, "NAME": databases.NAME}} if pooled else entries


@pytest.fixture(params=["sqlite", "postgresql", "pgbouncer", "mariadb"])
def peak(request, entries, tmp_path):
    """Measure the peak of an export of that many rows, in bytes; `columns` is code."""
    if request.param not in entries:
        pytest.skip(settings.MISSING_DATABASES[request.param])

    def peak(rows, *, model="Line", columns="None", encoder="Csv()", inside="nullcontext()", **options):
        code = f"""
from contextlib import nullcontext
import django
django.setup()
from django.db.transaction import atomic
from benchmarks.memory import peak_bytes
from tests.serving.models import Line, Wide
from upstream.streaming import *

counts = []
rows = {model}.objects.using({request.param!r}).filter(id__lte={rows})
options = dict({options!r}, progress=lambda rows, size: counts.append(rows))
with {inside}:
    to_file(stream(rows, {columns}, {encoder}, **options), {str(tmp_path / "x")!r})
print(peak_bytes(), counts[-1])
"""
        peak_bytes, exported = map(int, processes.printed(code, variables=databases.variables(entries)).split())
        assert exported == rows
        return peak_bytes

    return peak


# PgBouncer hands on what PostgreSQL sends, whatever the width of the rows.
wide = pytest.mark.parametrize("peak", ["sqlite", "postgresql", "mariadb"], indirect=True)

CASES = {
    "csv": {},
    "json": {"encoder": "Json()"},
    "indented json": {"encoder": "Json(indent=2)"},
    "ndjson": {"encoder": "JsonLines()"},
    "xlsx": {"encoder": 'Xlsx(long_texts="cut")'},
    "csv.gz": {"compression": "gzip"},
    "ndjson.zst": {"encoder": "JsonLines()", "compression": "zstd"},
    "a function": {"columns": '["id", Column("text", value=str.upper)]'},
    "instances": {"columns": '["id", "shout"]'},
    "windows": {"windows": True},
    "the caller's transaction": {"inside": "atomic(using=rows.db)"},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_peak_does_not_grow_with_the_rows(peak, case):
    assert peak(MANY, **case) - peak(FEW, **case) < 8 * MEBIBYTE


PARQUET = {
    "parquet": {},
    "in the text lane": {"columns": '["id", Column("text", value=str.upper)]'},
    "instances": {"columns": '["id", "shout"]'},
}


@pytest.mark.parametrize("case", PARQUET.values(), ids=PARQUET)
def test_peak_grows_by_a_row_group_and_by_what_writes_it(peak, case):
    encoder = {"encoder": "Parquet(row_group_bytes=2 * 1024 * 1024)"}
    few, more, many = (peak(rows, **case, **encoder) for rows in (FEW, MANY // 3, MANY))
    assert more - few < 24 * MEBIBYTE  # 6 to 14 were seen
    assert many - more < 16 * MEBIBYTE


@wide
def test_peak_grows_by_a_row_group_where_each_row_has_5_mb(peak):
    encoder = {"encoder": "Parquet()"}
    rows = databases.WIDE_ROWS
    assert peak(rows, model="Wide", **encoder) - peak(rows, **encoder) < 160 * MEBIBYTE


@wide
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_peak_grows_little_where_each_row_has_5_mb(peak, case):
    rows = databases.WIDE_ROWS
    assert peak(rows, model="Wide", **case) - peak(rows, **case) < 64 * MEBIBYTE
