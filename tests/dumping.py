"""What tests of dumps share: listings, the export that a dump equals, a writer meanwhile, a killed dump."""

import json
import threading
from contextlib import contextmanager

from django.db import connections

from tests import processes
from tests.orders.models import Listing
from upstream.streaming import Csv, stream

COLUMNS = ["title", "id", "shelf"]
ROWS = 200

KILLED = """
import json, sys
import django
django.setup()
from django.db import connections
connections["default"].settings_dict["NAME"] = sys.argv[1]
from upstream.dumps import run
from upstream.dumps.sites import plan_from_data
tell = lambda *told: print(told, flush=True)
run(plan_from_data(json.loads(sys.argv[2])), workers=int(sys.argv[3]), report=tell)
"""


def stored(database):
    """Store listings with a gap in their keys; each title would begin a SYLK file, if it began one."""
    keys = [number if number < 150 else number + 10**6 for number in range(1, ROWS + 1)]
    Listing.objects.using(database).bulk_create(
        Listing(id=key, shelf=key % 7, place=key, title=f'ID "{key}", é\n') for key in keys
    )
    return Listing.objects.using(database)


def exported(rows, encoder=None, columns=COLUMNS):
    return b"".join(stream(rows.order_by("id"), columns, encoder or Csv()))


def joined(place, table=None):
    """Return the joined parts of a dump: those of its one model, or of what its manifest tells of one."""
    table = table or json.loads((place / "manifest.json").read_bytes())
    return b"".join((place / part["name"]).read_bytes() for part in table["parts"])


def fails_at(part):
    """Return a report that fails when a part is written."""

    def report(number, rows, size, is_done):
        if number == part and is_done:
            raise RuntimeError("stopped")

    return report


@contextmanager
def writing(database, write):
    """Call `write` over and over in a thread of its own, and yield a list that grows by one with each call."""
    written, stop = [], threading.Event()

    def repeat():
        try:
            while not stop.is_set():
                write()
                written.append(1)
        finally:
            connections[database].close()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        assert processes.eventually(lambda: written)
        yield written
    finally:
        stop.set()
        thread.join()


def waiting_for(written):
    """Return a report that waits until the writer has written once more."""

    def report(*_):
        known = len(written)
        assert processes.eventually(lambda: len(written) > known)

    return report


def kill(plan, workers, lines):
    """Carry out a plan in a process of its own, and kill it as soon as it has told so many lines."""
    name = connections["default"].settings_dict["NAME"]
    process = processes.start(
        *("-c", KILLED, name, json.dumps(plan.as_data()), workers),
        variables={"DJANGO_SETTINGS_MODULE": "tests.settings"},
        stdout=-1,
    )
    with process:
        try:
            for _ in range(lines):
                process.stdout.readline()
        finally:
            process.kill()
