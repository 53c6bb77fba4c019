"""Celery: real workers on a real Redis, whatever is delivered twice, late or never, and whatever dies."""

import json
import os
import random
import shutil
import signal
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from tests import processes, services
from tests.orders.models import Listing
from tests.processes import eventually
from tests.routing import JobsIn
from upstream.dumps import Directory, WorkerError, plan_dump, resume, run, verify
from upstream.jobs import celery, dispatch, parts
from upstream.jobs.models import ExportJob, ExportPart, State
from upstream.streaming import Csv, ExportError, Json, stream

pytest.importorskip("celery")

from celery import Celery, _state

ROWS = 200
COLUMNS = ["title", "id", "shelf"]
# Of each test that does something at random moments: few rounds, or as many as are asked for.
ROUNDS = int(os.environ.get("UPSTREAM_CELERY_ROUNDS", "0"))
WAIT_SECONDS = 90


class Site:
    """A broker, workers in processes of their own, and how this process reaches them."""

    def __init__(self, directory, jobs):
        self.directory, self.jobs = directory, jobs
        self.socket = directory / "redis"  # a link, so that a new server takes the place of one that died
        self.options = {"lease": 3.0, "beat": 0.3, "lost": 3.0}
        self.started = []
        self._redis = ExitStack()

    @property
    def broker(self):
        return f"redis+socket://{self.socket}"

    def start_redis(self):
        url, reason = self._redis.enter_context(services.redis())
        if url is None:
            pytest.skip(reason)
        fresh = self.directory / "redis.new"
        fresh.symlink_to(url.removeprefix("unix://"))
        fresh.replace(self.socket)

    def redis(self):
        return Celery(broker=self.broker).connection_for_write().default_channel.client

    def kill_redis(self):
        client = self.redis()
        os.kill(client.info()["process_id"], signal.SIGKILL)
        client.close()
        self.start_redis()

    def variables(self, **options):
        names = {alias: str(connections[alias].settings_dict["NAME"]) for alias in connections}
        told = {"broker": self.broker, "jobs": self.jobs, "databases": names, **self.options, **options}
        temporary = self.directory / "temporary"
        temporary.mkdir(exist_ok=True)
        return {
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "UPSTREAM_TEST_SITE": json.dumps(told),
            "TMPDIR": temporary,
        }

    def start(self, *arguments, **options):
        """Start a process of this site, in a group of its own, which ends with the test."""
        log = (self.directory / f"log-{len(self.started)}").open("wb")
        with log:
            process = processes.start(
                *arguments, variables=self.variables(**options), stdout=log, stderr=log, start_new_session=True
            )
        process.log = Path(log.name)
        self.started.append(process)
        return process

    def work(self, pool="prefork", concurrency=2, **options):
        quiet = ("--loglevel", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat")
        return self.start(
            *("-m", "celery", "-A", "tests.celery_site", "worker", "-P", pool, "-c", concurrency, *quiet),
            **options,
        )

    def logs(self):
        return "\n".join(process.log.read_text(errors="replace")[-3000:] for process in self.started)

    def end(self):
        for process in self.started:
            kill(process)
        self._redis.close()


def kill(process):
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture
def place(tmp_path):
    return tmp_path / "there" / "dump"


@pytest.fixture
def sites(tmp_path, settings, monkeypatch):
    """Make the site whose jobs are in the database of an alias; one in a test."""
    with ExitStack() as ending:

        def make(alias):
            site = Site(tmp_path, alias)
            ending.callback(site.end)
            site.start_redis()
            settings.DATABASE_ROUTERS = [JobsIn(alias)]
            for module, name, value in (
                (parts, "LEASE_SECONDS", site.options["lease"]),
                (parts, "BEAT_SECONDS", site.options["beat"]),
                (dispatch, "BEAT_SECONDS", site.options["beat"]),
                (dispatch, "LOST_SECONDS", site.options["lost"]),
                (dispatch, "PAUSE_SECONDS", 0.1),
                (dispatch, "POLL_SECONDS", 0.05),
            ):
                monkeypatch.setattr(module, name, value)
            app = Celery("tests", broker=site.broker, set_as_current=True)
            ending.callback(_state._set_current_app, None)
            ending.callback(app.close)
            return site

        yield make


@pytest.fixture
def site(transactional_db, sites):
    return sites("default")


def stored(database):
    Listing.objects.using(database).bulk_create(
        Listing(id=key, shelf=key % 7, place=key, title=f'ID "{key}", é\n') for key in range(1, ROWS + 1)
    )
    return Listing.objects.using(database)


def exported(rows, encoder=None):
    return b"".join(stream(rows.order_by("id"), COLUMNS, encoder or Csv()))


def is_exact(place, rows, encoder=None):
    """Check that a dump is whole, with each row once, and that nothing else is left of it."""
    manifest = verify(place)
    joined = b"".join((place / part["name"]).read_bytes() for part in manifest["parts"])
    assert joined == exported(rows, encoder)
    assert manifest["rows"] == rows.count() == ROWS
    assert [path.name for path in place.parent.iterdir()] == [place.name]
    assert not ExportJob.objects.exists()
    assert not ExportPart.objects.exists()


class TestDumps:
    @pytest.mark.parametrize(("pool", "concurrency"), [("prefork", 2), ("solo", 1), ("threads", 2)])
    def test_are_written_by_workers_in_one_state_of_the_database(
        self, transactional_database, sites, pool, concurrency, place
    ):
        rows, site, told = stored(transactional_database), sites(transactional_database), []
        site.work(pool, concurrency)

        plan = plan_dump(rows, COLUMNS, Csv(), place, parts=4)
        manifest = run(plan, runner="celery", report=lambda *given: told.append(given))

        assert manifest["consistency"] == ("snapshot" if rows.db == "postgresql" else "part")
        assert [number for number, *_, is_done in told if is_done].sort() == [0, 1, 2, 3].sort()
        is_exact(place, rows)
