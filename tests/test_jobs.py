"""Exports in the background: each is made once, whole, as its requester may see it, whatever dies on the way."""

import gzip
import hashlib
import json
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, timedelta
from pathlib import Path
from uuid import uuid4
from zoneinfo import ZoneInfo

import django
import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile
from django.core.files.storage import InMemoryStorage
from django.db import OperationalError, connections, transaction
from django.db.models import Value
from django.db.models.functions import Now
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.urls import get_urlconf, set_urlconf
from django.utils import timezone, translation

from tests import processes
from tests.background.urls import CANARY
from upstream.integrations import background
from upstream.integrations.limits import Limits
from upstream.integrations.permissions import MissingPermissionError
from upstream.integrations.signals import export_failed, export_finished, export_started
from upstream.jobs import files, offers, requests, running, states, threads, workers
from upstream.jobs.asking import TooManyJobsError, ask, ask_by_request, cancel, is_allowed, retry
from upstream.jobs.beats import Beat, LeaseLostError
from upstream.jobs.checks import check_jobs
from upstream.jobs.files import PrivateStorage, name_of
from upstream.jobs.janitor import SILENT, clean
from upstream.jobs.links import LinkError, job_of, token_for
from upstream.jobs.loop import Loop
from upstream.jobs.models import ExportJob, State
from upstream.jobs.requests import NotRepeatableError
from upstream.jobs.running import run, run_job
from upstream.jobs.signals import job_failed, job_finished
from upstream.models import Customer
from upstream.streaming import Csv, ExportError, JsonLines, SourceError, stream

PATIENCE = 120  # seconds; no test takes as long, but the machine may be busy


class Unknown(Csv):
    """An encoder of the site's own."""


class To:
    """Routes everything to one database."""

    def __init__(self, alias):
        self.alias = alias

    def db_for_read(self, _model, **_):
        return self.alias

    db_for_write = db_for_read

    def allow_relation(self, *_, **__):
        return True


@pytest.fixture
def options(settings, tmp_path):
    """Set options of the site's jobs."""

    def change(**changed):
        settings.UPSTREAM_JOBS = {**settings.UPSTREAM_JOBS, **changed}

    change(directory=str(tmp_path / "exports"))
    return change


@pytest.fixture
def site(transactional_database, settings, options):
    """The alias of each database in turn, which has all tables of the site."""
    settings.DATABASE_ROUTERS = [To(transactional_database)]
    settings.ROOT_URLCONF = "tests.background.urls"
    return transactional_database


@pytest.fixture
def one_site(db, settings, options):
    settings.ROOT_URLCONF = "tests.background.urls"


def user_named(name, *codenames, **flags):
    user = User.objects.create(username=name, email=f"{name}@example.com", **flags)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    return user


def customers(count):
    Customer.objects.bulk_create(Customer(name=f"Customer {number}, ü") for number in range(count))
    return Customer.objects.order_by("pk")


def asked(user=None, count=5, **options):
    """Return a job that waits."""
    user = user or user_named(f"user-{uuid4().hex}", "export_customer")
    rows = customers(count) if not Customer.objects.exists() else Customer.objects.order_by("pk")
    return ask(user, rows, ["id", "name"], **options)


def many(user, count):
    """Return jobs that differ by their file names alone: each is a request of its own."""
    rows = Customer.objects.order_by("pk")
    return [ask(user, rows, ["id", ("name", f"Name {number}")]) for number in range(count)]


def content(job):
    with files.storage().open(job.file) as file:
        return file.read()


def stored():
    """Return the names of all files in the storage of exports."""
    return sorted(path.name for path in Path(PrivateStorage().location).rglob("*") if path.is_file())


def work():
    return Loop(1).work_once()


def again(job):
    job.refresh_from_db()
    return job


def let_lease_end(job):
    ExportJob.objects.filter(pk=job.pk).update(leased_until=timezone.now() - timedelta(hours=1))


def at_once(function, times):
    """Call a function in so many threads at the same moment, and return what they return."""
    barrier = threading.Barrier(times)

    def call(number):
        barrier.wait(PATIENCE)
        try:
            return function(number)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(call, range(times)))


class TestStates:
    def test_two_clicks_at_once_make_one_job(self, site):
        user, rows = user_named("ada", "export_customer"), customers(3)

        found = at_once(lambda _: ask(user, rows.all(), ["id"]).pk, 6)

        assert ExportJob.objects.count() == 1
        assert set(found) == {ExportJob.objects.get().pk}

    def test_two_clicks_in_transactions_make_one_job(self, site):
        user, rows = user_named("ada", "export_customer"), customers(3)

        def click(_):
            with transaction.atomic(site):
                list(User.objects.all())  # from here on the transaction may see one state
                return ask(user, rows.all(), ["id"]).pk

        # SQLite lets no transaction write that has read before another wrote.
        found = at_once(click, 2) if site != "default" else [click(0), click(1)]
        assert ExportJob.objects.count() == 1
        assert set(found) == {ExportJob.objects.get().pk}

    def test_a_click_after_the_end_makes_another_job(self, one_site):
        job = asked()
        work()
        second = asked(job.requester)
        assert second != job
        assert again(job).state == State.DONE
        assert second.state == State.QUEUED

    def test_users_have_jobs_of_their_own(self, one_site):
        assert asked() != asked()

    def test_each_job_is_claimed_once_however_many_claim(self, site):
        customers(1)
        jobs = many(user_named("ada", "export_customer"), 20)

        def claims(_):
            taken = []
            while job := states.claim():
                taken.append(job.pk)
            return taken

        found = [key for taken in at_once(claims, 4) for key in taken]
        assert sorted(found) == sorted(job.pk for job in jobs)
        assert set(ExportJob.objects.values_list("attempts", flat=True)) == {1}

    def test_the_oldest_is_claimed_first(self, site):
        customers(1)
        jobs = many(user_named("ada", "export_customer"), 3)
        assert [states.claim().pk for _ in jobs] == [job.pk for job in jobs]

    def test_whoever_lost_its_lease_changes_nothing(self, site):
        asked()
        first = states.claim()
        let_lease_end(first)
        second = states.claim()
        assert second.pk == first.pk
        assert second.lease != first.lease
        before = ExportJob.objects.values().get()

        assert not states.renew(first, 10, 10)
        assert not states.commit(first, 10, 10)
        assert not states.finish(first, "file", 10, 10, "")
        assert states.fail(first, "failed", is_final=True) is None
        assert not states.release(first)

        assert ExportJob.objects.values().get() == before
        assert states.renew(second, 10, 10)

    def test_progress_never_goes_back_even_in_another_attempt(self, site):
        asked()
        first = states.claim()
        states.renew(first, 100, 1000)
        states.renew(first, 50, 500)
        assert again(first).rows == 100
        states.fail(first, "failed", is_final=False)
        ExportJob.objects.update(leased_until=None)
        second = states.claim()
        assert second.rows == 100
        states.renew(second, 10, 10)
        assert (again(second).rows, second.bytes) == (100, 1000)
        states.renew(second, 101, 1001)
        assert again(second).rows == 101
        states.finish(second, "file", 90, 900, "")
        assert again(second).rows == 90  # what the file holds

    def test_a_failed_attempt_waits_longer_each_time_and_fails_at_the_last(self, site, options):
        options(attempts=3, retry_seconds=1000)
        job = asked()
        pauses = []
        for _ in range(2):
            held = states.claim()
            started = timezone.now()
            assert states.fail(held, "failed", is_final=False) == State.QUEUED
            assert states.claim() is None
            pauses.append((again(job).leased_until - started).total_seconds())
            ExportJob.objects.update(leased_until=None)
        assert pauses == [pytest.approx(1000, abs=PATIENCE), pytest.approx(2000, abs=PATIENCE)]
        assert states.fail(states.claim(), "failed", is_final=False) == State.FAILED
        assert again(job).error == "failed"
        assert job.fingerprint is None

    def test_the_pause_is_told_in_seconds_whatever_time_zone_the_database_thinks_in(self, site, options):
        options(retry_seconds=1000)
        zone = {"postgresql": "SET TIME ZONE 'Asia/Tokyo'", "mysql": "SET time_zone = '+09:00'"}
        if change := zone.get(connections[site].vendor):
            with connections[site].cursor() as cursor:
                cursor.execute(change)
        try:
            job = asked()
            assert states.pause_before(job) == 0
            states.fail(states.claim(), "failed", is_final=False)
            assert states.pause_before(again(job)) == 1000
            ExportJob.objects.update(leased_until=Now() - Value(timedelta(seconds=1)))
            assert states.pause_before(again(job)) == 0
            assert states.claim() == job
        finally:
            connections[site].close()

    def test_a_job_given_back_is_taken_at_once_and_counts_no_attempt(self, site):
        asked()
        states.release(states.claim())
        assert states.claim().attempts == 1

    def test_a_job_that_waits_can_be_cancelled_and_asked_for_again(self, site):
        job = asked()
        assert cancel(job)
        assert not cancel(job)
        assert states.claim() is None
        assert again(job).fingerprint is None
        assert retry(job)
        assert states.claim() == job

    def test_a_job_is_not_retried_beside_the_same_one(self, site):
        job = asked()
        cancel(job)
        other = asked(job.requester)
        assert not retry(again(job))
        assert again(job).state == State.CANCELLED
        cancel(other)
        assert retry(again(job))

    def test_a_job_that_is_done_or_runs_is_not_retried(self, one_site):
        job = asked()
        assert not retry(job)
        work()
        assert not retry(again(job))

    def test_nobody_has_more_jobs_than_allowed(self, one_site, options):
        options(per_user=2)
        customers(1)
        user = user_named("ada", "export_customer")
        many(user, 2)
        with pytest.raises(TooManyJobsError, match="2 exports are waiting"):
            many(user, 3)
        assert len(many(user, 2)) == 2  # those that wait already
        assert asked()  # somebody else's
        cancel(ExportJob.objects.filter(requester=user)[0])
        many(user, 2)

    def test_nobody_has_more_jobs_than_allowed_by_asking_again(self, one_site, options):
        customers(1)
        first, *_ = many(user_named("ada", "export_customer"), 3)
        cancel(first)
        options(per_user=2)
        with pytest.raises(TooManyJobsError, match="2 exports are waiting"):
            retry(again(first))
        assert again(first).state == State.CANCELLED
        options(per_user=3)
        assert retry(first)


class TestRunning:
    def test_the_file_has_the_bytes_of_the_export_and_the_job_tells_them(self, site):
        job = asked(count=3000)
        assert job.state == State.QUEUED

        assert work() == 1

        expected = b"".join(stream(Customer.objects.order_by("pk"), ["id", "name"]))
        assert content(again(job)) == expected
        assert job.state == State.DONE
        assert (job.rows, job.bytes) == (3000, len(expected))
        assert job.sha256 == hashlib.sha256(expected).hexdigest()
        assert (job.filename, job.format, job.columns) == ("customer.csv", "csv", ["id", "name"])
        assert job.model == "upstream.Customer"
        assert job.expires_at - job.finished_at == timedelta(days=7)
        assert job.fingerprint is None
        assert job.attempts == 1

    def test_files_are_for_their_owner_alone(self, one_site):
        job = asked()
        work()
        path = Path(files.storage().path(again(job).file))
        assert path.stat().st_mode & 0o777 == 0o600
        assert {folder.stat().st_mode & 0o777 for folder in (path.parent, path.parent.parent)} == {0o700}
        with pytest.raises(ValueError, match="has no URL"):
            files.storage().url(job.file)

    def test_a_dump_may_be_compressed_and_of_another_format(self, one_site):
        job = asked(encoder=JsonLines(), compression="gzip", filename="rows.gz")
        work()
        expected = b"".join(stream(Customer.objects.order_by("pk"), ["id", "name"], JsonLines()))
        assert gzip.decompress(content(again(job))) == expected
        assert job.file.endswith(".ndjson.gz")
        assert (job.filename, job.format) == ("rows.gz", "ndjson.gz")

    def test_one_planned_in_parts_is_the_same_file(self, one_site):
        job = asked(count=100, parts=4)
        assert len(job.request["plan"]["ranges"]) == 4
        work()
        assert content(again(job)) == b"".join(stream(Customer.objects.order_by("pk"), ["id", "name"]))

    def test_a_long_name_keeps_its_end(self, site):
        job = asked(filename=f"{'ü' * 300}.csv")
        work()
        assert again(job).filename == f"{'ü' * 251}.csv"

    def test_a_job_runs_once_however_often_it_is_delivered(self, site):
        job = asked()
        found = at_once(lambda _: run_job(job.pk), 4)
        assert sorted(filter(None, found)) == [State.DONE]
        assert len(stored()) == 1

    def test_what_cannot_be_planned_is_refused_when_asked(self, one_site):
        user = user_named("ada", "export_customer")
        with pytest.raises(SourceError, match="slice"):
            ask(user, customers(2)[:1])
        with pytest.raises(SourceError, match="cannot write Unknown"):
            ask(user, Customer.objects.all(), encoder=Unknown())
        assert not ExportJob.objects.exists()

    def test_an_error_is_tried_again_and_then_told(self, one_site, options, monkeypatch):
        options(attempts=2, retry_seconds=0.001)
        job = asked()
        failures = []

        def full(self, name, file):
            failures.append(name)
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(PrivateStorage, "_save", full)
        assert run(states.claim()) == State.QUEUED
        assert run_when_ready() == State.FAILED
        assert again(job).error == "the export failed with OSError"
        assert len(set(failures)) == 2
        assert stored() == []
        monkeypatch.undo()

    def test_a_job_that_failed_can_be_retried(self, one_site, options, monkeypatch):
        job = asked()
        monkeypatch.setattr(running, "_write", failing(ExportError("such is life")))
        assert run(states.claim()) == State.FAILED
        assert again(job).error == "such is life"
        monkeypatch.undo()
        assert retry(job)
        assert work() == 1
        assert (again(job).state, job.error, job.rows) == (State.DONE, "", 5)

    def test_a_job_cancelled_while_it_runs_leaves_no_file(self, site, monkeypatch):
        job = asked()
        during(monkeypatch, lambda: cancel(job))
        assert run(states.claim()) is None
        assert again(job).state == State.CANCELLED
        assert stored() == []

    def test_a_job_cancelled_while_its_file_is_saved_leaves_no_file(self, site, monkeypatch):
        job = asked()
        save = PrivateStorage._save

        def cancelled(self, name, file):
            assert again(job).state == State.COMMITTING
            cancel(job)
            return save(self, name, file)

        monkeypatch.setattr(PrivateStorage, "_save", cancelled)
        assert run(states.claim()) is None
        assert again(job).state == State.CANCELLED
        assert stored() == []

    def test_a_worker_that_was_given_up_changes_nothing_of_the_one_that_took_over(self, site, monkeypatch):
        job = asked()
        first = states.claim()
        let_lease_end(first)
        during(monkeypatch, lambda: (monkeypatch.undo(), work()))

        assert run(first) is None

        assert again(job).state == State.DONE
        assert stored() == [Path(job.file).name]
        assert content(job).count(b"\r\n") == 6

    def test_a_worker_that_stops_gives_its_job_back_at_once(self, site, monkeypatch):
        job, stop = asked(), threading.Event()
        during(monkeypatch, stop.set)
        assert run(states.claim(), stop) is None
        assert (again(job).state, job.attempts, job.lease) == (State.QUEUED, 0, "")
        assert stored() == []

    def test_a_database_that_is_away_for_a_moment_loses_no_export(self, site, monkeypatch):
        job = asked()
        finish, failures = states.finish, []

        def fails_once(*arguments):
            if not failures:
                failures.append(1)
                raise OperationalError("database is locked")
            return finish(*arguments)

        monkeypatch.setattr(states, "finish", fails_once)
        assert run(states.claim()) == State.DONE
        assert failures
        assert again(job).state == State.DONE

    def test_an_interrupt_gives_the_job_back_and_is_raised(self, one_site, monkeypatch):
        job = asked()
        monkeypatch.setattr(running, "_finish", failing(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            run(states.claim())
        assert again(job).state == State.QUEUED
        assert stored() == []

    def test_a_storage_that_is_set_up_wrongly_is_told(self, one_site, options, caplog):
        job = asked()
        options(storage="tests.test_jobs.Nowhere")
        assert run(states.claim()) == State.FAILED
        assert again(job).error == "the storage of exports is set up wrongly (ImportError)"
        assert "Nowhere" in caplog.text

    def test_any_storage_will_do(self, one_site, settings, options):
        options(storage="exports")
        entry = {"BACKEND": "django.core.files.storage.InMemoryStorage"}
        settings.STORAGES = {**settings.STORAGES, "exports": entry}
        job = asked()
        work()
        assert content(again(job)).count(b"\r\n") == 6
        cancelled = asked(job.requester)
        name = name_of(cancelled.pk, "0123456789abcdef", ".csv")
        files.storage().save(name, ContentFile(b"left"))
        assert clean().files == 1
        assert not files.storage().exists(name)
        assert files.storage().exists(job.file)


def during(monkeypatch, action):
    """Have something happen once, between two chunks of an export, and thereafter no longer."""
    watched = running._watched

    def watching(job, chunks, digest, beat):
        for chunk in watched(job, chunks, digest, beat):
            if not done:
                done.append(1)
                action()
            yield chunk

    done = []
    monkeypatch.setattr(running, "_watched", watching)


def failing(error):
    def fail(*_, **__):
        raise error

    return fail


def run_when_ready():
    held = []
    assert processes.eventually(lambda: (job := states.claim()) and (held.append(job) or True), PATIENCE)
    return run(held[0])


class TestTheBeat:
    def test_renews_the_lease_and_tells_progress_while_nothing_comes(self, site, options):
        options(lease_seconds=1)
        asked()
        job = states.claim()
        with Beat(job, threading.Event()) as beat:
            before = again(job).leased_until
            beat.rows, beat.bytes = 7, 70
            assert processes.eventually(lambda: again(job).leased_until > before and job.rows == 7, PATIENCE)
            renewed = job.leased_until
            assert processes.eventually(lambda: again(job).leased_until > renewed, PATIENCE)
            beat.check()

    def test_notices_that_a_job_is_cancelled(self, site, options):
        options(lease_seconds=1)
        job = asked()
        with Beat(states.claim(), threading.Event()) as beat:
            cancel(job)
            assert processes.eventually(lambda: is_lost(beat), PATIENCE)

    def test_gives_the_job_back_once_its_worker_stops_even_in_a_long_query(self, site):
        job, stop = asked(), threading.Event()
        with Beat(states.claim(), stop):
            stop.set()
            assert processes.eventually(lambda: again(job).state == State.QUEUED, PATIENCE)

    def test_outlives_a_database_that_is_locked(self, site, options, monkeypatch):
        options(lease_seconds=1)
        asked()
        job = states.claim()
        renew, calls = states.renew, []

        def locked(*arguments):
            calls.append(1)
            if len(calls) < 3:
                raise OperationalError("database is locked")
            return renew(*arguments)

        monkeypatch.setattr(states, "renew", locked)
        with Beat(job, threading.Event()) as beat:
            beat.rows = 3
            assert processes.eventually(lambda: again(job).rows == 3, PATIENCE)
            beat.check()


class TestTheLoop:
    def test_goes_on_after_any_error(self, site, monkeypatch, caplog):
        claim, failures = states.claim, []

        def fails_once():
            if not failures:
                failures.append(1)
                raise RuntimeError(CANARY)
            return claim()

        monkeypatch.setattr(states, "claim", fails_once)
        job, loop = asked(), Loop(0.01)
        thread = threading.Thread(target=loop.work)
        thread.start()
        try:
            assert processes.eventually(lambda: again(job).state == State.DONE, PATIENCE)
        finally:
            loop.stop()
            thread.join(PATIENCE)
        assert "RuntimeError" in caplog.text
        assert CANARY not in caplog.text

    def test_cleans_up_though_a_job_always_waits(self, site):
        job = asked()
        work()
        name = files.storage().save(name_of(job.pk, "f" * 16, ".csv"), ContentFile(b"left"))
        cleaned = []

        class Busy(Loop):
            def next(self):
                if cleaned or not files.storage().exists(name):
                    cleaned.append(1)
                    self.stop()
                return True

        thread = threading.Thread(target=(loop := Busy(0.01)).work)
        thread.start()
        try:
            thread.join(PATIENCE)
        finally:
            loop.stop()
            thread.join(PATIENCE)
        assert cleaned

    def test_of_a_process_takes_what_others_left(self, site, options):
        job = asked()
        workers.wake()
        assert not threads._embedded._thread
        options(worker="thread")
        try:
            workers.wake()
            assert processes.eventually(lambda: again(job).state == State.DONE, PATIENCE)
            following = asked(job.requester, filename="other.csv")
            assert processes.eventually(lambda: again(following).state == State.DONE, PATIENCE)
        finally:
            threads.stop()


def is_lost(beat):
    try:
        beat.check()
    except LeaseLostError:
        return True
    return False


@pytest.fixture
def offered(one_site, monkeypatch):
    """Have all exports of the site made in the background; give what asks for one and returns its job."""
    monkeypatch.setattr(background, "_offers", [lambda export: told(ask_by_request(export))])
    return offer


def told(job):
    return HttpResponse(str(job.pk), status=202)


def offer(user, path, **options):
    client = Client()
    if user:
        client.force_login(user)
    data = options.pop("data", None)
    answer = client.post(path, data, **options) if data else client.get(path, **options)
    assert answer.status_code == 202, answer.content
    return ExportJob.objects.get(pk=answer.content.decode())


def direct(user, path, monkeypatch, data=None, **options):
    """Return the bytes that the download without a job has."""
    with monkeypatch.context() as patched:
        patched.setattr(background, "_offers", [])
        client = Client()
        client.force_login(user)
        return (client.post(path, data, **options) if data else client.get(path, **options)).getvalue()


class TestRequests:
    def test_a_view_is_run_again_as_its_user(self, offered, monkeypatch):
        user = user_named("ada", "export_customer")
        customers(30)
        path = "/customers/?format=csv&columns=name,id&name=1&order_by=-id"
        job = offered(user, path)
        assert (job.model, job.columns, job.format) == ("upstream.Customer", ["name", "id"], "csv")
        assert job.filename == "customer.csv"

        assert work() == 1

        assert content(again(job)) == direct(user, path, monkeypatch)
        assert job.rows == 12

    def test_the_same_request_finds_its_job_and_another_does_not(self, offered):
        user = user_named("ada", "export_customer")
        first = offered(user, "/customers/?format=csv")
        assert offered(user, "/customers/?format=csv") == first
        assert offered(user, "/customers/?format=json") != first
        assert offered(user_named("ben", "export_customer"), "/customers/?format=csv") != first

    def test_rows_are_scoped_when_it_runs(self, offered):
        ada, ben = user_named("ada"), user_named("ben")
        for number, user in enumerate((ada, ben, ada)):
            Customer.objects.create(name=f"{number}").users.add(user)
        job = offered(ada, "/own/?format=csv")
        Customer.objects.get(name="2").users.clear()
        work()
        assert [line.split(b",")[1] for line in content(again(job)).split()] == [b"name", b"0"]

    @pytest.mark.parametrize("path", ["/strings/ß/", "/asynchronous/"])
    def test_any_view_that_downloads_will_do(self, offered, path):
        job = offered(user_named("ada"), path)
        work()
        assert content(again(job)).decode() == "number,text\r\n0,ß\r\n1,ß\r\n2,ß\r\n"
        assert job.filename == "strings.csv"

    def test_language_time_zone_and_format_are_those_of_the_request(self, offered):
        user = user_named("ada", "export_customer")
        customers(1)
        with timezone.override("Asia/Tokyo"):
            job = offered(
                user, "/hinted/", headers={"Accept": "text/tab-separated-values", "Accept-Language": "de"}
            )
        with translation.override("fr"):
            work()
            assert translation.get_language() == "fr"
        assert content(again(job)).split(b"\r\n")[1].split(b"\t")[1] == b"de Asia/Tokyo"

    @pytest.mark.parametrize(
        ("zone", "shown"),
        [(timezone.get_fixed_timezone(-210), "-0330"), (UTC, "+0000"), (ZoneInfo("UTC"), "UTC")],
        ids=["offset", "utc", "key_of_utc"],
    )
    @pytest.mark.parametrize("kind", ["dump", "request"])
    def test_a_time_zone_may_be_an_offset(self, offered, zone, shown, kind):
        user = user_named("ada", "export_customer")
        customers(1)
        with timezone.override(zone):
            job = asked(user) if kind == "dump" else offered(user, "/hinted/?format=csv")
        work()
        assert again(job).state == State.DONE
        if kind == "request":
            assert content(job).decode().split("\r\n")[1].endswith(f" {shown}")

    def test_the_admin_s_form_is_submitted_again_and_recorded(self, offered, monkeypatch):
        user = user_named("ada", is_staff=True, is_superuser=True)
        customers(12)
        form = {"format": "csv", "profile": "excel", "columns": ["name"]}
        path = "/admin/upstream/customer/export/?q=1"
        job = offered(user, path, data=form)
        assert "csrfmiddlewaretoken" not in job.request["form"]
        work()
        assert content(again(job)) == direct(user, path, monkeypatch, form)
        [entry, _] = LogEntry.objects.order_by("pk")
        told = json.loads(entry.change_message)
        assert (told["outcome"], told["rows"], told["filter"]) == ("complete", 3, "q=1")
        assert entry.user == user

    def test_the_signals_of_downloads_are_sent(self, offered, monkeypatch):
        heard = []

        def hear(signal, sender, request, filename, columns, outcome="", rows=None, **_):
            heard.append((signal, sender.__name__, request.user, filename, columns, outcome, rows))

        for one in (export_started, export_finished, export_failed):
            one.connect(hear)  # only as long as this function is there
        user = user_named("ada", "export_customer")
        customers(3)
        job = offered(user, "/customers/?format=csv")
        work()
        named = (user, again(job).filename, tuple(job.columns))
        assert [(told[0], told[2:5], *told[5:]) for told in heard] == [
            (export_started, named, "", None),
            (export_finished, named, "complete", 3),
        ]
        heard.clear()
        offered(user, "/customers/?format=csv")
        monkeypatch.setattr(Beat, "check", failing(LeaseLostError()))
        run(states.claim())
        assert [(told[0], told[5]) for told in heard] == [(export_started, ""), (export_failed, "aborted")]

    def test_the_admin_s_selection_is_never_stored(self, offered):
        user = user_named("ada", is_staff=True, is_superuser=True)
        row = customers(2)[0]
        client = Client(raise_request_exception=True)
        client.force_login(user)
        form = {"format": "csv", "profile": "data", "columns": ["name"], "_selected_action": [str(row.pk)]}
        with pytest.raises(NotRepeatableError):
            client.post("/admin/upstream/customer/export/", form)
        request = RequestFactory().post("/", form)
        with pytest.raises(NotRepeatableError, match="their keys are not stored"):
            requests.to_data(request)
        assert not ExportJob.objects.exists()

    def test_rest_framework_s_lists_are_run_again(self, offered, monkeypatch):
        pytest.importorskip("rest_framework")
        user = user_named("ada")
        for row in customers(5)[:3]:
            row.users.add(user)
        path = "/api/customers/?format=csv&columns=name"
        job = offered(user, path)
        work()
        assert again(job).error == ""
        assert content(job) == direct(user, path, monkeypatch)
        assert job.rows == 3

    def test_requests_that_cannot_be_run_again_are_refused(self, offered, db):
        with pytest.raises(NotRepeatableError, match="nothing but a form"):
            requests.to_data(RequestFactory().post("/", "{}", content_type="application/json"))
        with pytest.raises(NotRepeatableError, match="nothing but a form"):
            requests.to_data(RequestFactory().post("/", {"file": ContentFile(b"x", name="x")}))
        request = RequestFactory().get("/")
        request.user = AnonymousUser()
        export = exported(request)
        with pytest.raises(NotRepeatableError, match="logged in"):
            ask_by_request(export)
        request.user = user_named("ada")
        with pytest.raises(NotRepeatableError, match="cannot be run again"):
            ask_by_request(exported(request, is_repeatable=False))

    def test_running_one_leaves_the_urls_of_the_request_at_hand(self, offered):
        user = user_named("ada", "export_customer")
        job = offered(user, "/customers/?format=csv")
        set_urlconf("tests.urls_of_exports")
        try:
            with requests.repeated(job.request, user):
                assert get_urlconf() is None
            assert get_urlconf() == "tests.urls_of_exports"
        finally:
            set_urlconf(None)

    def test_the_site_prepares_the_request(self, offered, options):
        options(prepare="tests.test_jobs.prepared")
        job = offered(user_named("ada", "export_customer"), "/customers/?format=csv")
        work()
        assert again(job).state == State.DONE
        assert PREPARED == ["/customers/", "entered", "left"]

    def test_the_limits_of_the_view_hold(self, offered, settings):
        customers(10)
        settings.UPSTREAM_EXPORT_LIMITS = {"rows": 5}
        job = offered(user_named("ada", "export_customer"), "/customers/?format=csv")
        work()
        assert (again(job).state, job.attempts) == (State.FAILED, 1)
        assert job.error == "the export has more than 5 rows: narrow it down"
        assert stored() == []


@pytest.mark.parametrize("transactional_database", ["postgresql"], indirect=True)
@pytest.mark.parametrize("query", ["", "&export_background=1"], ids=["long", "asked"])
def test_a_count_that_is_cancelled_leaves_the_transaction_of_its_request_alone(site, options, monkeypatch, query):
    options(seconds=0.05)
    monkeypatch.setattr(offers, "COUNT_SECONDS", 0.05)
    monkeypatch.setitem(connections.settings[site], "ATOMIC_REQUESTS", True)
    customers(2)
    client = Client()
    client.force_login(user_named("ada", "export_customer"))
    answer = client.get(f"/uncountable/?format=csv{query}")
    assert (answer.status_code, answer.json()["total"]) == (202, None)
    assert ExportJob.objects.get().state == State.QUEUED


def exported(request, **options):
    return background.Export(
        **{
            "request": request,
            "source": Customer.objects.order_by("pk"),
            "columns": ["id"],
            "encoder": Csv(),
            "filename": "x.csv",
            "sender": object,
            "limits": Limits(),
            **options,
        }
    )


PREPARED = []


@contextmanager
def prepared(request):
    PREPARED[:] = [request.path, "entered"]
    yield
    PREPARED.append("left")


def withdraw(user):
    user.user_permissions.clear()


def deactivate(user):
    User.objects.filter(pk=user.pk).update(is_active=False)


class TestPermissions:
    def test_are_needed_to_ask(self, one_site):
        user, rows = user_named("ada"), customers(1)
        with pytest.raises(MissingPermissionError, match=r"upstream\.export_customer"):
            ask(user, rows)
        assert not ExportJob.objects.exists()

    @pytest.mark.parametrize(
        ("change", "words"),
        [(withdraw, "permission"), (deactivate, "no longer let in"), (User.delete, "no longer let in")],
        ids=["withdrawn", "deactivated", "deleted"],
    )
    @pytest.mark.parametrize("kind", ["dump", "request"])
    def test_are_needed_when_it_runs(self, offered, change, words, kind):
        user = user_named("ada", "export_customer")
        job = asked(user) if kind == "dump" else offered(user, "/customers/?format=csv")
        change(user)
        work()
        assert (again(job).state, job.attempts) == (State.FAILED, 1)
        assert job.error.startswith("the export was refused: ")
        assert words in job.error
        assert stored() == []

    @pytest.mark.parametrize("change", [withdraw, deactivate], ids=["withdrawn", "deactivated"])
    @pytest.mark.parametrize("kind", ["dump", "request"])
    def test_are_needed_to_fetch_the_file(self, offered, change, kind, django_assert_max_num_queries):
        user = user_named("ada", "export_customer")
        job = asked(user) if kind == "dump" else offered(user, "/customers/?format=csv")
        work()
        with django_assert_max_num_queries(6):  # of permissions, not of rows
            assert is_allowed(again(job), user)
        other = user_named("ben", "export_customer", is_superuser=True)
        assert not is_allowed(job, other)
        assert not is_allowed(job, AnonymousUser())
        change(user)
        assert not is_allowed(job, User.objects.get(pk=user.pk))

    @pytest.mark.parametrize(
        ("how", "words"),
        [
            ("gone", "its page is not there any more"),
            ("invalid", "no longer valid"),
            ("302", "no longer let in"),
            ("401", "no longer let in"),
            ("403", "lacks a permission"),
            ("418", "its page answered with status 418"),
        ],
    )
    def test_a_view_that_refuses_is_told_without_its_words(self, offered, how, words, caplog, monkeypatch):
        job = offered(user_named("ada"), f"/refusing/{how}/")
        monkeypatch.setattr("tests.background.urls.refusals", ["from now on"])
        assert work() == 1
        assert (again(job).state, job.attempts) == (State.FAILED, 1)
        assert words in job.error
        assert CANARY not in job.error + caplog.text


class TestSecrets:
    def test_no_value_of_a_row_gets_into_logs_errors_or_mail(self, offered, options, caplog, monkeypatch):
        options(attempts=1, mail=True)
        Customer.objects.create(name=CANARY)
        caplog.set_level(logging.DEBUG)
        caplog.handler.setLevel(logging.INFO)  # DEBUG has Django's SQL
        job = offered(user_named("ada", "export_customer"), "/broken/?format=csv")
        assert work() == 1
        assert again(job).error == "the export failed with ValueError"
        [message] = mail.outbox
        assert "tests/background/urls.py" in caplog.text  # where it was raised
        assert CANARY not in f"{caplog.text} {message.message()} {job.error}"

    def test_a_file_s_name_holds_none_either(self, one_site):
        job = asked(filename=f"{CANARY}.csv")
        work()
        assert CANARY not in again(job).file


class TestLinks:
    @pytest.fixture
    def job(self, one_site):
        job = asked()
        work()
        return again(job)

    def test_lead_their_user_to_the_job(self, job):
        assert job_of(token_for(job), job.requester) == job

    def test_lead_nobody_else_anywhere(self, job):
        for user in (user_named("ben", is_superuser=True), AnonymousUser()):
            with pytest.raises(LinkError):
                job_of(token_for(job), user)

    def test_cannot_be_made_up(self, job):
        token = token_for(job)
        value, _, rest = token.partition(":")
        for forged in ("", "x", value, f"{uuid4().hex}.{job.requester_id}:{rest}", token[:-1], token + "x"):
            with pytest.raises(LinkError, match="not valid"):
                job_of(forged, job.requester)

    def test_are_no_longer_valid_after_their_time(self, job, options):
        options(link_seconds=0.001)
        token = token_for(job)
        assert processes.eventually(lambda: is_over(token, job.requester), PATIENCE)

    def test_lead_nowhere_once_the_job_has_expired(self, job):
        token = token_for(job)
        states.forget(ExportJob.objects.filter(pk=job.pk))
        with pytest.raises(LinkError):
            job_of(token, job.requester)


def is_over(token, user):
    try:
        job_of(token, user)
    except LinkError as error:
        return "no longer valid" in str(error)
    return False


class Timeless(InMemoryStorage):
    def get_modified_time(self, name):
        raise NotImplementedError


class TestTheJanitor:
    def test_leaves_alone_what_is_in_order(self, site):
        done, held = asked(), None
        work()
        held_job = asked()
        held = states.claim()
        running_file = name_of(held.pk, held.lease, ".csv")
        files.storage().save(running_file, ContentFile(b"being committed"))
        waiting = asked()
        assert str(clean()) == "nothing to clean up"
        assert content(again(done))
        assert files.storage().exists(running_file)
        assert [again(job).state for job in (held_job, waiting)] == [State.RUNNING, State.QUEUED]

    def test_takes_jobs_from_silent_workers(self, site, options):
        options(attempts=2)
        job = asked()
        for _ in range(2):
            held = states.claim()
            let_lease_end(held)
            cleaned = clean()
        assert cleaned.failed == 1
        assert (again(job).state, job.error, job.fingerprint) == (State.FAILED, SILENT, None)

    def test_a_silent_job_waits_again_before_its_last_attempt(self, site):
        asked()
        let_lease_end(states.claim())
        assert clean().waiting == 1
        assert work() == 1

    def test_deletes_expired_files_and_forgets_what_was_asked(self, site):
        job = asked()
        work()
        ExportJob.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
        cleaned = clean()
        assert (cleaned.expired, cleaned.files) == (1, 1)
        assert (again(job).state, job.request, job.file) == (State.EXPIRED, {}, "")
        assert job.rows == 5
        assert stored() == []

    def test_forgets_what_failed_jobs_were_asked_for(self, site):
        job = asked()
        cancel(job)
        ExportJob.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
        assert clean().expired == 1
        assert (again(job).state, job.request) == (State.CANCELLED, {})
        assert not retry(job)

    def test_ends_the_jobs_of_users_who_are_gone(self, site):
        done, waiting = asked(), None
        work()
        waiting = asked()
        User.objects.all().delete()
        cleaned = clean()
        assert (cleaned.cancelled, cleaned.expired, cleaned.files) == (1, 2, 1)
        assert [again(job).state for job in (done, waiting)] == [State.EXPIRED, State.CANCELLED]
        assert {str(job.request) for job in (done, waiting)} == {"{}"}
        assert stored() == []

    def test_deletes_the_rows_of_old_jobs_after_their_files(self, site):
        asked()
        work()
        ExportJob.objects.update(created_at=timezone.now() - timedelta(days=100))
        assert clean().forgotten == 0  # its file is there
        ExportJob.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
        assert clean().forgotten == 1
        assert not ExportJob.objects.exists()
        assert stored() == []

    def test_deletes_files_that_belong_to_no_job_and_none_of_others(self, one_site):
        job = asked()
        held = states.claim()
        place = files.storage()
        orphans = [
            name_of(job.pk, "d" * 16, ".csv"),
            name_of(job.pk, "f" * 16, ".csv.gz"),
            name_of(job.pk, "e" * 16, ".csv_a1B2c3D"),  # a storage may change a name that is taken
        ]
        others = [f"{files.folder()}/notes.txt", "other.csv"]
        for name in (*orphans, *others):
            place.save(name, ContentFile(b"x"))
        spool = Path(place.location) / ".upstream-0123456789abcdef.part"
        spool.touch()
        assert clean().files == 3
        assert sorted(stored()) == sorted(
            [spool.name, "notes.txt", "other.csv"]
        )  # an attempt runs that began before
        states.release(held)
        assert clean().files == 1
        assert sorted(stored()) == ["notes.txt", "other.csv"]

    def test_leaves_the_files_of_a_job_it_does_not_know_for_as_long_as_any_is_kept(self, one_site, options):
        options(keep_days=3)
        place = files.storage()
        name = place.save(name_of(uuid4(), "e" * 16, ".csv"), ContentFile(b"of another tenant's schema"))
        for days, count in ((0, 0), (3.5, 0), (4.5, 1)):
            then = (timezone.now() - timedelta(days=days)).timestamp()
            os.utime(place.path(name), (then, then))
            assert clean().files == count
        assert not place.exists(name)

    def test_leaves_such_files_in_a_storage_that_knows_no_times(self, one_site, options, settings):
        options(storage="exports")
        settings.STORAGES = {**settings.STORAGES, "exports": {"BACKEND": "tests.test_jobs.Timeless"}}
        name = files.storage().save(name_of(uuid4(), "e" * 16, ".csv"), ContentFile(b"x"))
        assert clean().files == 0
        assert files.storage().exists(name)

    def test_leaves_everything_of_another_site_in_the_same_directory(self, one_site, monkeypatch):
        mine = asked()
        work()
        with monkeypatch.context() as other:
            other.setitem(connections["default"].settings_dict, "HOST", "db.staging.example")
            theirs = name_of(again(mine).pk, "f" * 16, ".csv")  # a copy of the database knows the same jobs
            files.storage().save(theirs, ContentFile(b"x"))
        spool = Path(PrivateStorage().location) / ".upstream-0123456789abcdef.part"
        spool.touch()
        assert clean().files == 0
        os.utime(spool, (0, 0))
        os.utime(files.storage().path(theirs), (0, 0))
        assert clean().files == 1
        assert len(stored()) == 2

    def test_deletes_expired_files_after_the_database_was_moved(self, one_site, monkeypatch):
        asked()
        work()
        ExportJob.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
        monkeypatch.setitem(connections["default"].settings_dict, "HOST", "db.new.example")
        assert clean().files == 1
        assert stored() == []

    def test_leaves_the_spools_of_others_in_a_storage_of_others(self, one_site, options, settings):
        settings.STORAGES = {
            **settings.STORAGES,
            "shared": {
                "BACKEND": "django.core.files.storage.FileSystemStorage",
                "OPTIONS": {"location": PrivateStorage().location},
            },
        }
        options(storage="shared")
        asked()
        work()
        spool = Path(PrivateStorage().location) / ".upstream-0123456789abcdef.part"
        spool.touch()
        assert clean().files == 0
        os.utime(spool, (0, 0))
        assert clean().files == 1

    def test_works_without_a_directory(self, one_site):
        assert str(clean()) == "nothing to clean up"


class TestTelling:
    def test_signals_tell_how_a_job_ended(self, one_site, monkeypatch):
        heard = []

        def hear(signal, job, **_):
            heard.append((signal, job.pk, job.state))

        for one in (job_finished, job_failed):
            one.connect(hear)  # only as long as this function is there
        done = asked()
        work()
        failed = asked()
        monkeypatch.setattr(running, "_write", failing(ExportError("such is life")))
        work()
        assert heard == [(job_finished, done.pk, State.DONE), (job_failed, failed.pk, State.FAILED)]

    def test_mail_is_sent_to_the_requester_s_own_address_if_wanted(self, one_site, options):
        asked()
        work()
        assert mail.outbox == []
        options(mail=True)
        user = user_named("grace", "export_customer")
        with translation.override("en"):
            job = asked(user, filename="a\nb.csv")
        work()
        [message] = mail.outbox
        assert message.to == ["grace@example.com"]
        assert message.subject == "Export complete: a b.csv"
        assert message.body.startswith("a b.csv is complete: 5 rows. It is kept until ")
        assert "Customer 1" not in message.body
        assert again(job).state == State.DONE

    def test_mail_may_be_a_function_and_its_failure_changes_nothing(self, one_site, options, caplog):
        options(mail="tests.test_jobs.unmailable")
        job = asked()
        work()
        assert again(job).state == State.DONE
        assert "no mail about export" in caplog.text
        assert CANARY not in caplog.text


def unmailable(job):
    raise OSError(f"{CANARY} {job.pk}")


class TestTheSetting:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"wroker": "thread"}, "unknown option 'wroker'"),
            ({"attempts": 0}, "attempts must be a number greater than 0, not 0, in UPSTREAM_JOBS"),
            ({"keep_days": True}, "keep_days must be a number"),
            ({"storage": "nowhere"}, "E001"),
            ({"prepare": "tests.nowhere.at_all"}, "E001"),
            ({"mail": 3}, "mail must be a function"),
            ({"worker": "horse"}, "unknown worker 'horse'"),
        ],
    )
    def test_is_checked(self, settings, options, words):
        settings.UPSTREAM_JOBS = options
        [error] = check_jobs()
        assert words in f"{error.msg} {error.id}"

    def test_a_worker_that_is_missing_is_told(self, settings):
        settings.UPSTREAM_JOBS = {"worker": "tasks"}
        found = [error.id for error in check_jobs()]
        assert found == ([] if django.VERSION >= (6, 0) else ["upstream_jobs.E003"])

    def test_files_are_not_where_a_server_may_serve_them(self, settings, tmp_path):
        for name in ("MEDIA_ROOT", "STATIC_ROOT", "STATICFILES_DIRS"):
            place = tmp_path / name
            settings.UPSTREAM_JOBS = {"directory": place / "deep"}
            assert check_jobs() == []
            setattr(settings, name, [("prefix", place)] if name == "STATICFILES_DIRS" else place)
            [error] = check_jobs()
            assert error.id == "upstream_jobs.E004"

    def test_a_storage_that_gives_files_to_everyone_is_told(self, settings):
        pytest.importorskip("storages")
        backend = "storages.backends.s3.S3Storage"
        for wrong in ({"querystring_auth": False}, {"default_acl": "public-read"}):
            entry = {"BACKEND": backend, "OPTIONS": {"bucket_name": "x", **wrong}}
            settings.STORAGES = {**settings.STORAGES, "exports": entry}
            settings.UPSTREAM_JOBS = {"storage": "exports"}
            [error] = check_jobs()
            assert error.id == "upstream_jobs.E004"

    def test_without_a_place_nothing_is_guessed(self, settings):
        settings.UPSTREAM_JOBS = {}
        settings.BASE_DIR = "/srv/site"
        assert PrivateStorage().location == "/srv/site/.exports"
        del settings.BASE_DIR
        with pytest.raises(ImproperlyConfigured, match="exports have no place"):
            files.storage()

    def test_an_unknown_worker_is_refused_when_asked(self, one_site, options):
        options(worker="horse")
        with pytest.raises(ImproperlyConfigured, match="unknown worker 'horse'"):
            asked()
        assert not ExportJob.objects.exists()
