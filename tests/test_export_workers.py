"""Workers of exports as processes of their own: on each database, killed, stopped, and two at a time."""

import hashlib
import json
import os
import random
import signal
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import django
import pytest
from django.contrib.auth.models import Permission, User
from django.core.files.base import ContentFile
from django.db import connections
from django.http import HttpResponse
from django.test import Client

from tests import processes
from tests.test_jobs import To
from upstream.integrations import background
from upstream.jobs.asking import ask, ask_by_request, cancel
from upstream.jobs.files import PrivateStorage, name_of
from upstream.jobs.janitor import Regularly, clean
from upstream.jobs.models import ACTIVE, ExportJob, State
from upstream.models import Customer
from upstream.streaming import Csv, stream

KEYS = ("ENGINE", "NAME", "USER", "PASSWORD", "HOST", "PORT", "OPTIONS")
# How often a worker is killed, per database; UPSTREAM_TEST_KILLS=200 is what the guide tells of.
KILLS = int(os.environ.get("UPSTREAM_TEST_KILLS", "4"))
PATIENCE = 120  # seconds; what is waited for takes a few, but the machine may be busy


@pytest.fixture
def site(transactional_database, settings, tmp_path, monkeypatch):
    """The alias of each database in turn, with all tables of the site."""
    settings.DATABASE_ROUTERS = [To(transactional_database)]
    settings.ROOT_URLCONF = "tests.background.urls"
    settings.UPSTREAM_JOBS = {
        "worker": "command",
        "directory": str(tmp_path / "exports"),
        "lease_seconds": 600,
        "retry_seconds": 0.01,
        "per_user": 1000,
    }
    monkeypatch.setattr(background, "_offers", [lambda export: told(ask_by_request(export))])
    with journal(transactional_database):
        yield transactional_database


@contextmanager
def journal(alias):
    """Let SQLite write while it is read, as the site's own settings do; other tests have it as it was."""
    if connections[alias].vendor != "sqlite":
        yield
        return
    try:
        assert pragma(alias, "journal_mode=WAL") == "wal"
        yield
    finally:
        assert pragma(alias, "journal_mode=DELETE") == "delete"


def pragma(alias, text):
    with connections[alias].cursor() as cursor:
        return cursor.execute(f"PRAGMA {text}").fetchone()[0]


def told(job):
    return HttpResponse(str(job.pk), status=202)


@contextmanager
def worker(site, settings, *arguments, code=None, **variables):
    """Run `run_export_jobs`, or a piece of code, with the test's database; it ends with the block."""
    entry = {key: connections[site].settings_dict[key] for key in KEYS}
    process = processes.start(
        *(("-c", code) if code else ("manage.py", "run_export_jobs", "--poll=0.05")),
        *arguments,
        variables={
            "DJANGO_SETTINGS_MODULE": "tests.background.settings",
            "BACKGROUND_DATABASES": json.dumps({"default": entry, site: entry}, default=str),
            "BACKGROUND_OPTIONS": json.dumps(settings.UPSTREAM_JOBS),
            **variables,
        },
        stdout=-1,
        stderr=-2,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def user_named(name):
    user = User.objects.create(username=name)
    user.user_permissions.set(Permission.objects.filter(codename="export_customer"))
    return user


def customers(count):
    Customer.objects.bulk_create(Customer(name=f"Customer {number}, ü") for number in range(count))


def asked(user, number=0):
    """Return a job that waits, another one for each number."""
    return ask(user, Customer.objects.order_by("pk"), ["id", ("name", f"Name {number}")])


def clicked(user, path):
    client = Client()
    client.force_login(user)
    return ExportJob.objects.get(pk=client.get(path).content.decode())


def expected(number=0):
    return b"".join(stream(Customer.objects.order_by("pk"), ["id", ("name", f"Name {number}")], Csv()))


def state_of(job):
    job.refresh_from_db()
    return job.state


def wait_for(job, *states):
    assert processes.eventually(lambda: state_of(job) in states, PATIENCE), (job.state, job.error)


def stored():
    root = Path(PrivateStorage().location)
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def are_all_done(jobs):
    return not ExportJob.objects.filter(pk__in=[job.pk for job in jobs], state__in=ACTIVE).exists()


def check_files(jobs):
    """Check that each job has one whole file, and that there is no other."""
    for number, job in enumerate(jobs):
        assert state_of(job) == State.DONE, (job.error, job.attempts)
        content = (Path(PrivateStorage().location) / job.file).read_bytes()
        assert content == expected(number)
        assert (job.sha256, job.bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    assert stored() == {job.file for job in jobs}


@pytest.mark.heavy_with("default", "mariadb")
def test_two_workers_make_100_jobs_each_once_and_progress_never_goes_back(site, settings):
    customers(200)
    user = user_named("ada")
    jobs = [asked(user, number) for number in range(100)]
    shown = {}
    with worker(site, settings), worker(site, settings):
        end = monotonic() + 2 * PATIENCE
        while not are_all_done(jobs) and monotonic() < end:
            for key, rows in ExportJob.objects.values_list("pk", "rows"):
                shown.setdefault(key, [0]).append(rows)
            sleep(0.05)
    check_files(jobs)
    assert set(ExportJob.objects.values_list("attempts", "rows")) == {(1, 200)}
    assert all(rows == sorted(rows) for rows in shown.values())
    assert str(clean()) == "nothing to clean up"


@pytest.mark.heavy_with("default", "mariadb")
def test_a_worker_killed_anywhere_loses_no_job_and_leaves_nothing(site, settings):
    settings.UPSTREAM_JOBS = {**settings.UPSTREAM_JOBS, "lease_seconds": 1, "attempts": 10_000}
    customers(5000)
    user, chance = user_named("ada"), random.Random(14)
    jobs = []
    for number in range(KILLS):
        jobs.append(asked(user, number))
        with worker(site, settings) as process:
            processes.eventually(lambda job=jobs[-1]: state_of(job) != State.QUEUED, PATIENCE)
            sleep(chance.random() * 0.05)
            process.send_signal(signal.SIGKILL)
            process.wait(PATIENCE)
    with worker(site, settings):
        assert processes.eventually(lambda: are_all_done(jobs), PATIENCE + KILLS)
    clean()
    check_files(jobs)


@pytest.mark.heavy_with("mariadb")
def test_a_worker_that_is_told_to_stop_gives_its_job_to_the_next_at_once(site, settings, tmp_path):
    customers(5)
    job = clicked(user_named("ada"), "/waiting/?format=csv")
    gate = tmp_path / "gate.open"
    variables = {"BACKGROUND_GATE": str(gate)}
    with worker(site, settings, **variables) as first:
        assert processes.eventually(gate.with_suffix(".reached").exists, PATIENCE)
        assert state_of(job) == State.RUNNING
        first.send_signal(signal.SIGTERM)
        wait_for(job, State.QUEUED)  # though its lease would hold for ten minutes, and it is in a row still
        with worker(site, settings, **variables):
            wait_for(job, State.RUNNING)
            gate.touch()
            assert first.wait(PATIENCE) == 0
            wait_for(job, State.DONE)
    assert job.attempts == 1
    assert stored() == {job.file}


@pytest.mark.heavy_with("default", "mariadb")
def test_a_job_cancelled_while_it_runs_makes_way_for_the_next(site, settings):
    customers(50_000)  # more than a minute of rows
    user = user_named("ada")
    slow = clicked(user, "/slow/?format=csv")
    with worker(site, settings):
        assert processes.eventually(lambda: state_of(slow) == State.RUNNING and slow.rows, PATIENCE)
        assert cancel(slow)
        following = asked(user)
        wait_for(following, State.DONE)
    assert state_of(slow) == State.CANCELLED
    assert stored() == {following.file}


EMBEDDED = """
import sys, time
import django
django.setup()
from django.contrib.auth.models import User
from upstream.jobs.asking import ask
from upstream.jobs.models import ExportJob
from upstream.models import Customer
job = ask(User.objects.get(), Customer.objects.order_by("pk"), ["id", ("name", "Name 0")])
while job.state != "done" and sys.argv[1:] != ["leave"]:
    time.sleep(0.05)
    job.refresh_from_db()
print("leaving", flush=True)
"""


def test_the_process_that_asks_makes_the_export_by_itself(site, settings):
    del settings.UPSTREAM_JOBS["worker"]  # so by default
    customers(50)
    user_named("ada")
    with worker(site, settings, code=EMBEDDED) as process:
        assert process.wait(PATIENCE) == 0, process.stdout.read()
    check_files([ExportJob.objects.get()])


def test_a_process_that_ends_leaves_its_job_to_others(site, settings):
    # If the thread does not get to it in time, its lease has to end.
    settings.UPSTREAM_JOBS = {**settings.UPSTREAM_JOBS, "worker": "thread", "lease_seconds": 10}
    customers(5)
    user_named("ada")
    with worker(site, settings, "leave", code=EMBEDDED) as process:
        assert process.wait(PATIENCE) == 0
    with worker(site, settings):
        wait_for(ExportJob.objects.get(), State.DONE)
    clean()  # the process may have ended while its thread was writing
    check_files([ExportJob.objects.get()])


def test_a_worker_works_once_if_told(site, settings):
    customers(5)
    job = asked(user_named("ada"))
    with worker(site, settings, "--once") as process:
        assert process.stdout.read().splitlines()[-1] == b"exports: 1"  # after warnings of system checks
        assert process.wait(PATIENCE) == 0
    check_files([job])


@pytest.mark.django_db(transaction=True)
def test_a_task_runs_a_job_once(settings, tmp_path):
    if django.VERSION < (6, 0):
        pytest.skip("Django has tasks from 6.0 on")
    settings.UPSTREAM_JOBS = {"worker": "tasks", "directory": str(tmp_path / "exports")}
    customers(5)
    job = asked(user_named("ada"))  # the default backend runs it at once
    check_files([job])


@pytest.mark.django_db(transaction=True)
def test_a_task_cleans_up_after_its_job_but_not_after_each(settings, tmp_path, monkeypatch):
    if django.VERSION < (6, 0):
        pytest.skip("Django has tasks from 6.0 on")
    settings.UPSTREAM_JOBS = {"worker": "tasks", "directory": str(tmp_path / "exports")}
    customers(5)
    user = user_named("ada")
    first = asked(user)
    monkeypatch.setattr("upstream.jobs.django_tasks.janitor", Regularly())
    for number, files in ((1, 2), (2, 4)):
        state_of(first)
        PrivateStorage().save(name_of(first.pk, f"{number}" * 16, ".csv"), ContentFile(b"left"))
        state_of(asked(user, number))
        assert len(stored()) == files
