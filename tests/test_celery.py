"""Celery: real workers on a real Redis, whatever is delivered twice, late or never, and whatever dies."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import connections, transaction
from django.db.models import Value
from django.db.models.functions import Now

from tests import processes, services
from tests.orders.models import Buyer, Listing
from tests.processes import eventually
from tests.routing import JobsIn
from upstream.dumps import Directory, Part, WorkerError, plan_dump, plan_site, resume, run, verify
from upstream.dumps.runners import RUNNERS
from upstream.jobs import celery, dispatch, janitor, leases, states
from upstream.jobs.asking import ask
from upstream.jobs.files import storage
from upstream.jobs.models import ExportJob, ExportPart, State
from upstream.jobs.running import insist
from upstream.streaming import Csv, ExportError, Json, stream

pytest.importorskip("celery")
pytest.importorskip("redis")

from celery import Celery, _state, current_app
from redis import Redis

ROWS = 200
COLUMNS = ["title", "id", "shelf"]
# Of each test that does something at random moments: few rounds, or as many as are asked for.
ROUNDS = int(os.environ.get("UPSTREAM_TEST_ROUNDS", "0"))
WAIT_SECONDS = 90
# The leases of whoever dies in a test, or is told by a heartbeat.
SHORT_SECONDS = 3


POSTGRESQL = pytest.mark.parametrize("transactional_database", ["postgresql"], indirect=True)


# A process that carries out a dump.
COORDINATE = """
import json, sys
from tests import celery_site
from upstream.dumps import DumpPlan, run
plan = DumpPlan.from_data(json.loads(sys.stdin.readline()))
run(plan, runner="celery", attempts=50)
"""


class Site:
    """A broker, workers in processes of their own, and how this process reaches them."""

    def __init__(self, directory, jobs):
        self.directory, self.jobs = directory, jobs
        self.socket = directory / "redis"  # a link, so that a new server takes the place of one that died
        # So long that no heartbeat is late on a busy machine; where something dies they are short.
        self.options = {"lease_seconds": 600, "retry_seconds": 0.1}
        self.dispatch = {"LOST_SECONDS": 3, "PAUSE_SECONDS": 0.1, "POLL_SECONDS": 0.05}
        self.started = []
        self.marks = directory / "marks"
        self.marks.mkdir()
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
        return Redis(unix_socket_path=str(self.socket))

    def kill_redis(self):
        with self.redis() as client:
            os.kill(client.info()["process_id"], signal.SIGKILL)
        self.start_redis()

    def flush_redis(self):
        with self.redis() as client:
            client.flushall()

    def messages(self):
        with self.redis() as client:
            return client.llen("celery")

    def variables(self, **options):
        names = {alias: str(connections[alias].settings_dict["NAME"]) for alias in connections}
        told = {"broker": self.broker, "jobs": self.jobs, "databases": names, "place": str(self.marks)}
        told |= {"options": self.options, "dispatch": self.dispatch}
        temporary = self.directory / "temporary"
        temporary.mkdir(exist_ok=True)
        return {
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "UPSTREAM_TEST_SITE": json.dumps(told | options),
            "TMPDIR": temporary,
        }

    def start(self, *arguments, **options):
        """Start a process of this site, in a group of its own, which ends with the test."""
        log = (self.directory / f"log-{len(self.started)}").open("wb")
        with log:
            process = processes.start(
                *arguments,
                variables=self.variables(**options),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
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

    def coordinator(self):
        """Start a process that carries out the plan that it is told."""
        return self.start("-c", COORDINATE)

    def marked(self, name):
        """Return how often something happened in a worker."""
        path = self.marks / name
        return path.stat().st_size if path.exists() else 0

    def end(self):
        for process in self.started:
            kill(process)
        self._redis.close()


def kill(process):
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.stdin.close()
    process.wait()


def tell(process, plan):
    process.stdin.write(json.dumps(plan.as_data()).encode() + b"\n")
    process.stdin.flush()


def children_of(workers):
    """Return the processes that workers have started."""
    mine = {worker.pid for worker in workers}
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            number, rest = stat.parent.name, stat.read_text().rpartition(")")[2].split()
            if int(rest[1]) in mine:
                found.append(int(number))
    return found


def end_connections(alias):
    """End all sessions on a database of PostgreSQL but that of this process."""
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.fixture
def sites(tmp_path, settings, monkeypatch):
    """Make the site whose jobs are in the database of an alias; one in a test."""
    with ExitStack() as ending:

        def make(alias):
            site = Site(tmp_path, alias)
            ending.callback(site.end)
            site.start_redis()
            settings.DATABASE_ROUTERS = [JobsIn(alias)]
            site.options["directory"] = str(tmp_path / "exports")
            settings.UPSTREAM_JOBS = settings.UPSTREAM_JOBS | site.options
            for name, seconds in site.dispatch.items():
                monkeypatch.setattr(dispatch, name, seconds)
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


def nothing_is_left():
    janitor.clean()
    return not ExportJob.objects.exists() and not ExportPart.objects.exists()


class TestDumps:
    def test_are_written_by_workers_in_one_state_of_the_database(self, transactional_database, sites, place):
        rows, site, told = stored(transactional_database), sites(transactional_database), []
        site.work()

        plan = plan_dump(rows, COLUMNS, Csv(), place, parts=4)
        manifest = run(plan, runner="celery", report=lambda *given: told.append(given))

        assert manifest["consistency"] == ("snapshot" if rows.db == "postgresql" else "part")
        assert sorted(number for number, *_, is_done in told if is_done) == [0, 1, 2, 3]
        assert [site.marked(f"began-{number}") for number in range(4)] == [1, 1, 1, 1]
        is_exact(place, rows)

    @pytest.mark.parametrize(("pool", "concurrency"), [("solo", 1), ("threads", 2)])
    def test_are_written_in_any_pool(self, site, pool, concurrency, place):
        rows = stored("default")
        site.work(pool, concurrency)
        run(plan_dump(rows, COLUMNS, Json(), place, parts=4), runner="celery")
        is_exact(place, rows, Json())

    def test_are_written_at_once_on_a_site_that_runs_its_tasks_where_they_are_sent(self, site, place):
        rows = stored("default")
        current_app.conf.task_always_eager = True
        run(plan_dump(rows, COLUMNS, Csv(), place, parts=4), runner="celery")
        is_exact(place, rows)

    def test_are_written_by_the_command(self, site, place, capsys):
        rows = stored("default")
        site.work("solo", 1)
        call_command(
            *("dump_data", "orders.Listing", "--to", place, "--columns", ",".join(COLUMNS)),
            *("--parts", "3", "--celery", "--verify"),
        )
        assert f"{ROWS} rows in 3 parts" in capsys.readouterr().out
        is_exact(place, rows)

    def test_of_several_models_are_written_as_one_dump(self, site, place):
        rows = stored("default")
        site.work("solo", 1)
        manifest = run(plan_site([Listing, Buyer], target=place, parts=3, uncut_rows=10), runner="celery")
        assert [table["model"] for table in manifest["models"]] == ["orders.Listing", "orders.Buyer"]
        assert [table["rows"] for table in manifest["models"]] == [rows.count(), 0]
        assert verify(place) == manifest
        nothing_is_left()

    def test_are_handed_out_again_if_the_broker_has_lost_the_messages(self, site, place, monkeypatch):
        def send(job, numbers):
            celery.send_parts(job, numbers)
            if not site.started:
                site.flush_redis()
                site.work("solo", 1)

        rows = stored("default")
        run_by(send, plan_dump(rows, COLUMNS, Csv(), place, parts=3), monkeypatch)
        is_exact(place, rows)

    def test_show_how_far_their_parts_are(self, site, place):
        def report(number, count, size, is_done):
            told.append((number, count, size))
            (site.marks / "open").touch()

        rows, told = stored("default"), []
        site.work("solo", 1, gated=True)
        run(plan_dump(rows, COLUMNS, Csv(), place, parts=2), runner="celery", report=report)
        assert told[0][1:] == (7, 70)
        is_exact(place, rows)


def run_by(send, plan, monkeypatch, **options):
    """Run a plan, with another way to send its parts to Celery."""

    def runner(*given, **told):
        return dispatch.run(send, *given, **told)

    with monkeypatch.context() as patch:
        patch.setitem(RUNNERS, "celery", runner)
        return run(plan, runner="celery", **options)


class TestDeliveries:
    @pytest.mark.parametrize("heartless", [True, False], ids=["which all write", "of which one writes"])
    def test_of_each_part_twice_at_once_and_in_any_order_give_each_row_once(
        self, site, heartless, place, monkeypatch
    ):
        def send(job, numbers):
            twice = [*numbers, *numbers]
            draw.shuffle(twice)
            for number in twice:
                celery.send_parts(job, [number])

        rows = stored("default")
        if heartless:
            site.options["lease_seconds"] = 0.02
        for _ in range(2):
            site.work("threads", 4, heartless=heartless, linger=0.05)
        for turn in range(ROUNDS or 2):
            draw = random.Random(turn)
            target = place.with_name(f"{turn}") / "dump"
            plan = plan_dump(rows, COLUMNS, Csv(), target, parts=4)
            run_by(send, plan, monkeypatch, attempts=99)
            is_exact(target, rows)
            assert not heartless or all(site.marked(f"{plan.identity}-{number}") > 1 for number in range(4))
        assert heartless or [site.marked(f"began-{number}") for number in range(4)] == [ROUNDS or 2] * 4

    def test_of_a_part_that_is_being_written_end_without_work(self, site, place, monkeypatch):
        """Such as come again because they were not acknowledged within the visibility timeout of Redis."""

        def report(*_):
            if not (site.marks / "open").exists():
                celery.send_parts(ExportJob.objects.get().pk, [0])
                assert eventually(lambda: site.marked("delivered-0") == 2, WAIT_SECONDS)
                (site.marks / "open").touch()

        rows = stored("default")
        monkeypatch.setattr(dispatch, "LOST_SECONDS", 600)  # none is sent while the workers start
        for _ in range(2):
            site.work("solo", 1, gated=True)
        run(plan_dump(rows, COLUMNS, Csv(), place, parts=1), runner="celery", report=report)
        assert (site.marked("delivered-0"), site.marked("began-0")) == (2, 1)
        is_exact(place, rows)

    def test_for_a_dump_that_is_over_end_without_work(self, site, place):
        rows = stored("default")
        celery.send_parts(uuid4(), [5])
        site.work("solo", 1)
        run(plan_dump(rows, COLUMNS, Csv(), place, parts=2), runner="celery")
        assert (site.marked("delivered-5"), site.marked("began-5")) == (1, 0)
        is_exact(place, rows)


class TestFailures:
    def test_that_pass_are_tried_again(self, site, place):
        rows = stored("default")
        site.work("solo", 1, failing=[1, 2], failures=2)
        run(plan_dump(rows, COLUMNS, Csv(), place, parts=4), runner="celery", attempts=3)
        assert [site.marked(f"began-{number}") for number in range(4)] == [1, 3, 3, 1]
        is_exact(place, rows)

    def test_that_stay_end_the_dump_with_their_error_and_keep_its_other_parts(self, site, place):
        rows = stored("default")
        worker = site.work("solo", 1, failing=[2], failures=99)
        plan = plan_dump(rows, COLUMNS, Csv(), place, parts=4)
        with pytest.raises(
            WorkerError, match=r"part 2 failed, the last of 3 times with:\nOSError .*[.]py:\d+"
        ) as raised:
            run(plan, runner="celery", attempts=3)
        assert "no space left" not in str(raised.value)  # such a text may hold values of rows
        assert [site.marked(f"began-{number}") for number in range(4)] == [1, 1, 3, 1]
        assert not place.exists()
        assert not ExportJob.objects.exists()

        kill(worker)
        site.work("solo", 1)
        resume(Directory(str(place)), runner="celery")
        assert [site.marked(f"began-{number}") for number in range(4)] == [1, 1, 4, 1]
        is_exact(place, rows)

    def test_of_this_package_are_not_tried_again(self, site, place):
        rows = stored("default")
        site.work("solo", 1)
        with pytest.raises(WorkerError, match=r"part 0 failed, the last of 1 times with:\nTextError: .*ascii"):
            run(plan_dump(rows, COLUMNS, Csv(encoding="ascii"), place, parts=1), runner="celery")
        assert site.marked("began-0") == 1

    def test_that_kill_their_worker_end_the_dump_too(self, site, place):
        rows = stored("default")
        site.options["lease_seconds"] = SHORT_SECONDS
        worker = site.work("prefork", 1, deadly=1)
        with pytest.raises(WorkerError, match="part 1 failed, the last of 2 times with:\nits worker died"):
            run(plan_dump(rows, COLUMNS, Csv(), place, parts=3), runner="celery", attempts=2)
        assert site.marked("began-1") == 2
        assert site.marked("began-2")
        assert worker.poll() is None

    def test_to_reach_the_broker_are_told_before_anything_waits(self, site, place, monkeypatch):
        rows = stored("default")
        site.socket.unlink()
        with pytest.raises(CommandError, match="Celery's broker cannot be reached"):
            call_command("dump_data", "orders.Listing", "--to", place, "--celery")
        assert rows.exists()
        assert not place.parent.exists() or not [*place.parent.iterdir()]
        assert not ExportJob.objects.exists()

    def test_for_want_of_celery_say_how_to_install_it(self, transactional_db, place, monkeypatch):
        monkeypatch.setitem(sys.modules, "celery", None)
        stored("default")
        with pytest.raises(CommandError, match=r"upstream\[celery\]"):
            call_command("dump_data", "orders.Listing", "--to", place, "--celery")

    @POSTGRESQL
    def test_of_a_transaction_that_no_worker_sees_are_told(self, transactional_database, place):
        rows = stored(transactional_database)
        with transaction.atomic(), pytest.raises(ExportError, match="open on the table of jobs"):
            run(plan_dump(rows, COLUMNS, Csv(), place), runner="celery")


def test_a_cancelled_dump_ends_at_the_next_heartbeats_of_its_workers(site, place):
    def cancel(*_):
        assert states.cancel(ExportJob.objects.get().pk)

    rows = stored("default")
    site.options["lease_seconds"] = SHORT_SECONDS  # heartbeats come four times as often
    site.work("solo", 1, gated=True)
    with pytest.raises(WorkerError, match="cancelled"):
        run(plan_dump(rows, COLUMNS, Csv(), place, parts=4), runner="celery", report=cancel)
    assert not ExportJob.objects.exists()

    # The only worker has left the first part, and has nothing to do with those that waited behind it.
    (began,) = (number for number in range(4) if site.marked(f"began-{number}"))
    (site.marks / "open").touch()
    again = place.with_name("again")
    run(plan_dump(rows, COLUMNS, Csv(), again, parts=4), runner="celery")
    assert sum(site.marked(f"began-{number}") for number in range(4)) == 5
    assert site.marked(f"began-{began}") == 2
    assert verify(again)["rows"] == ROWS


def test_celery_is_not_imported_before_it_is_used():
    code = "import sys, django; django.setup(); print('celery' in sys.modules, 'upstream.jobs' in sys.modules)"
    assert processes.printed(code, variables={"DJANGO_SETTINGS_MODULE": "tests.settings"}) == "False True\n"


class TestJobs:
    """With UPSTREAM_JOBS = {"worker": "celery"}."""

    @pytest.fixture
    def rows(self, site, settings):
        settings.UPSTREAM_JOBS = settings.UPSTREAM_JOBS | {"worker": "celery"}
        site.options["worker"] = "celery"
        return stored("default")

    @pytest.fixture
    def user(self, transactional_db):
        return get_user_model()._default_manager.create_superuser("root")

    def ended(self, job):
        return eventually(lambda: not ExportJob.objects.get(pk=job.pk).is_active, WAIT_SECONDS)

    def is_written(self, job, rows):
        job.refresh_from_db()
        assert (job.state, job.rows, job.error) == (State.DONE, ROWS, "")
        with storage().open(job.file) as file:
            assert file.read() == exported(rows)

    def test_are_sent_once_their_transaction_is_committed_and_run_once(self, site, rows, user):
        with suppress(KeyError), transaction.atomic():
            ask(user, rows, COLUMNS)
            raise KeyError
        with transaction.atomic():
            job = ask(user, rows, COLUMNS)
            assert site.messages() == 0
        assert site.messages() == 1
        celery.enqueue(job)
        celery.enqueue(job)

        site.work("threads", 3)
        assert self.ended(job)
        assert eventually(lambda: site.marked(f"delivered-{job.pk}") == 3, WAIT_SECONDS)
        assert site.marked("began-job") == 1
        self.is_written(job, rows)

    def test_whose_messages_are_lost_are_found_by_the_janitor(self, site, rows, user, monkeypatch):
        monkeypatch.setattr(janitor, "TOLD_AGAIN", timedelta(0))
        job = ask(user, rows, COLUMNS)
        site.flush_redis()
        site.work("solo", 1)
        janitor.clean()
        assert self.ended(job)
        self.is_written(job, rows)

    def test_that_cannot_be_sent_wait(self, site, rows, user, monkeypatch):
        monkeypatch.setattr(janitor, "TOLD_AGAIN", timedelta(0))
        server = site.socket.readlink()
        site.socket.unlink()
        job = ask(user, rows, COLUMNS)
        assert job.state == State.QUEUED
        site.socket.symlink_to(server)
        site.work("solo", 1)
        janitor.clean()
        assert self.ended(job)
        self.is_written(job, rows)

    def test_that_fail_run_again_after_a_pause(self, site, rows, user):
        site.work("solo", 1, failing=["job"], failures=2)
        job = ask(user, rows, COLUMNS)
        assert self.ended(job)
        self.is_written(job, rows)
        assert job.attempts == 3

    def test_whose_worker_is_killed_are_run_by_another(self, site, rows, user):
        job = ask(user, rows, COLUMNS)
        site.options["lease_seconds"] = SHORT_SECONDS
        site.work("prefork", 1, deadly="job")
        assert eventually(lambda: site.marked("began-job"), WAIT_SECONDS)
        assert eventually(lambda: janitor.clean().waiting, WAIT_SECONDS)
        assert self.ended(job)
        self.is_written(job, rows)
        assert job.attempts == 2


class TestTheJanitor:
    def test_leaves_a_dump_alone_that_goes_on(self, site, place):
        def report(*_):
            assert str(janitor.clean()) == "nothing to clean up"
            (site.marks / "open").touch()

        rows = stored("default")
        site.work("solo", 1, gated=True)
        run(plan_dump(rows, COLUMNS, Csv(), place, parts=2), runner="celery", report=report)
        is_exact(place, rows)

    @pytest.mark.heavy_with(True)
    @pytest.mark.parametrize("is_cancelled", [False, True], ids=["running", "cancelled"])
    def test_forgets_a_dump_whose_process_was_killed(self, site, settings, is_cancelled, place):
        rows = stored("default")
        site.options["lease_seconds"] = SHORT_SECONDS
        settings.UPSTREAM_JOBS = settings.UPSTREAM_JOBS | site.options
        site.work("solo", 1, gated=True)
        plan = plan_dump(rows, COLUMNS, Csv(), place, parts=1)
        process = site.coordinator()
        tell(process, plan)
        assert eventually(lambda: site.marked("began-0"), WAIT_SECONDS)
        job = ExportJob.objects.get()
        assert job.request["plan"]["identity"] == plan.identity
        kill(process)
        if is_cancelled:
            assert states.cancel(job.pk)
        assert eventually(nothing_is_left, WAIT_SECONDS)
        # The worker has left the part, and takes the next.
        celery.send_parts(uuid4(), [5])
        assert eventually(lambda: site.marked("delivered-5"), WAIT_SECONDS)


class TestLeases:
    @pytest.fixture
    def job(self, transactional_database, settings):
        settings.DATABASE_ROUTERS = [JobsIn(transactional_database)]
        request = {"plan": {}, "attempts": 3}
        job = ExportJob.objects.create(
            state=State.RUNNING,
            lease="mine",
            format="csv",
            filename="x.csv",
            request=request,
            leased_until=leases.until(),
        )
        ExportPart.objects.create(job=job, number=0)
        return job

    def take(self, job):
        return leases.take(job.pk, 0, 3)

    def end_leases(self, rows):
        rows.update(leased_until=Now() - Value(timedelta(seconds=1)))

    def test_are_taken_by_one_of_many_who_ask_at_once(self, job):
        def take(_):
            try:
                together.wait(WAIT_SECONDS)
                return insist(lambda: self.take(job))
            finally:
                connections.close_all()

        together = threading.Barrier(6)
        with ThreadPoolExecutor(6) as threads:
            taken = [lease for lease in threads.map(take, range(6)) if lease]
        assert [part.attempts for part in taken] == [1]
        assert ExportPart.objects.get().lease == taken[0].lease

    def test_that_are_over_go_to_another_and_the_first_result_wins(self, job):
        first = self.take(job)
        assert self.take(job) is None
        self.end_leases(ExportPart.objects)
        second = self.take(job)
        assert (first.attempts, second.attempts) == (1, 2)
        assert (leases.renew(first, 1, 2), leases.renew(second, 3, 4)) == (False, True)

        assert leases.record(first, written(0, "first"))
        assert not leases.record(second, written(0, "second"))
        assert not leases.renew(second, 5, 6)
        assert self.take(job) is None
        assert ExportPart.objects.get().result["name"] == "first"

    def test_are_given_for_as_many_attempts_as_were_asked_for(self, job):
        for attempt in (1, 2, 3):
            part = self.take(job)
            assert part.attempts == attempt
            assert leases.fail(part, "no space left")
        assert self.take(job) is None

    def test_that_are_given_back_do_not_count(self, job):
        for _ in range(5):
            part = self.take(job)
            assert part.attempts == 1
            assert leases.release(part)

    def test_end_with_the_process_that_asked(self, job):
        part = self.take(job)
        assert leases.renew(part, 0, 0)
        assert not leases.drop_abandoned()
        self.end_leases(ExportJob.objects)
        assert not leases.renew(part, 0, 0)
        assert leases.release(part)
        assert self.take(job) is None
        assert leases.drop_abandoned() == 1
        assert not ExportPart.objects.exists()


def written(number, name):
    return Part(number=number, name=name, rows=1, bytes=2, sha256="", start=None, end=None, snapshot="", dump="d")


def has_begun(coordinator, target):
    """Return whether a part is being written, or all are by now."""
    is_over = target.exists() or coordinator.poll() is not None
    return is_over or ExportPart.objects.filter(attempts__gt=0).exists()


class TestDeath:
    """Whatever dies while a dump is written, it ends with each row once, and with nothing left over."""

    @pytest.mark.heavy
    @POSTGRESQL
    def test_at_any_moment(self, transactional_database, sites, place):
        alias = transactional_database
        rows, site = stored(alias), sites(alias)
        site.options["lease_seconds"] = SHORT_SECONDS
        crew, again = [site.work(linger=0.2), site.work("solo", 1, linger=0.2)], 0
        waiting = site.coordinator()
        victims = ("worker", "child", "coordinator", "redis", "connections")
        for turn in range(ROUNDS or len(victims)):
            draw, victim = random.Random(turn), victims[turn % len(victims)]
            target = place.with_name(f"{turn}") / "dump"
            plan = plan_dump(rows, COLUMNS, Json(), target, parts=6)
            coordinator, waiting = waiting, site.coordinator()
            tell(coordinator, plan)
            assert eventually(partial(has_begun, coordinator, target), WAIT_SECONDS)
            time.sleep(draw.uniform(0, 1))  # any moment
            if victim == "worker":
                kill(crew.pop(0))
                crew.append(site.work(linger=0.2) if turn % 2 else site.work("solo", 1, linger=0.2))
            elif victim == "child":
                for child in children_of(crew)[:1]:
                    os.kill(child, signal.SIGKILL)
            elif victim == "coordinator":
                kill(coordinator)
            elif victim == "redis":
                site.kill_redis()
            else:
                end_connections(alias)
            coordinator.wait(WAIT_SECONDS * 2)
            left = [path for path in target.parent.iterdir() if path != target]
            if left:
                resume(Directory(str(target)), allow_new_snapshot=True, runner="celery", attempts=50)
            elif not target.exists():  # it failed before the first part was written
                run(plan, runner="celery", attempts=50)
            again += bool(left)
            if victim == "coordinator":
                assert eventually(nothing_is_left, WAIT_SECONDS)
            is_exact(target, rows, Json())
        print(f"{turn + 1} deaths, {again} dumps resumed")
