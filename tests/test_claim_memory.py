"""Claims are imported, and their drift computed, in memory that does not grow with them."""

import datetime as dt
import json
import os
import random
import sys

import pytest
from django.conf import settings

from tests import processes
from tests.serving import databases
from upstream.streaming import stream, to_file

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peaks of memory are read from /proc"),
]

FEW, MANY = 10_000, int(os.environ.get("UPSTREAM_MEMORY_ROWS", "200_000"))
MEBIBYTE = 1024 * 1024
START = dt.date(2026, 8, 10)
DAYS = 91  # twelve weeks, and one that is compared with them

SETUP = """
import json, sys
import django
from django.conf import settings
apps = ["django.contrib.auth", "django.contrib.contenttypes", "upstream"]
settings.configure(INSTALLED_APPS=apps, DATABASES={"default": json.loads(sys.argv[1])}, USE_TZ=True)
django.setup()
"""
MIGRATE = f"""{SETUP}
from django.core.management import call_command
call_command("migrate", verbosity=0)
"""
IMPORT = f"""{SETUP}
import datetime as dt
from benchmarks.memory import peak_bytes
from upstream.models import Customer
from upstream.services.claim_import import import_claims
from upstream.services.payer_drift import save_drift

path = sys.argv[2]
customer = Customer.objects.create(name=path)
upload = import_claims(customer, path, rejected_path=path + ".rejected")
start = dt.date({START.year}, {START.month}, {START.day}) + dt.timedelta({DAYS} - 7)
run = customer.report_runs.create(run_type="weekly", period_start=start, period_end=start + dt.timedelta(6))
drifts = save_drift(run)
print(json.dumps([upload.accepted_rows, upload.rejected_rows, drifts, peak_bytes()]))
"""


def claims(rows):
    """Yield claims of twelve payers and eight groups; the first payer denies more in the last week."""
    rng = random.Random(0)
    for number in range(rows):
        day = rng.randrange(DAYS)
        payer, group = rng.randrange(12), rng.randrange(8)
        is_denied = rng.random() < (0.4 if day >= DAYS - 7 and payer == 0 else 0.17)
        yield {
            "payer": f"Payer {payer} Health, Inc.",
            "cpt": 97_000 + 10 * group + rng.randrange(5),
            "cpt_group": f"Group {group}",
            "submitted_date": START + dt.timedelta(day - rng.randrange(1, 30)) if number % 100 else "soon",
            "decided_date": START + dt.timedelta(day),
            "outcome": "DENIED" if is_denied else "PAID",
            "billed_amount": rng.randrange(10_000, 90_000) / 100,
            "allowed_amount": None,
            "paid_amount": None if is_denied else rng.randrange(5_000, 10_000) / 100,
        }


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    directory = tmp_path_factory.mktemp("claims")
    return {rows: to_file(stream(claims(rows)), directory / f"{rows}.csv") for rows in (FEW, MANY)}


@pytest.fixture(scope="module")
def entries(tmp_path_factory):
    with databases.databases(tmp_path_factory.mktemp("databases"), 1) as entries:
        yield entries


@pytest.mark.parametrize("alias", ["sqlite", "postgresql"])
def test_peak_of_import_and_drift_does_not_grow_with_the_claims(alias, entries, files):
    if alias not in entries:
        pytest.skip(settings.MISSING_DATABASES[alias])
    entry = json.dumps(entries[alias])
    processes.printed(MIGRATE, entry)

    measured = {
        rows: json.loads(processes.printed(IMPORT, entry, path, timeout=800)) for rows, path in files.items()
    }

    for rows, (accepted, rejected, *_) in measured.items():
        assert (accepted, rejected) == (rows - rows // 100, rows // 100)
    assert measured[MANY][2] == 8  # the first payer's, in each group
    assert measured[MANY][3] - measured[FEW][3] < 16 * MEBIBYTE
