"""generate_drift_events_csv and generate_weekly_drift_pdf: artifacts, whole and recorded, or not at all."""

import csv
import hashlib
import io
import threading
import time
from decimal import Decimal

import pypdf
import pytest
from django.core.exceptions import ObjectDoesNotExist
from django.core.files.storage import InMemoryStorage, default_storage
from django.db import connections

from tests.drift import END, START, drift_event, drift_events, stored
from tests.processes import eventually
from upstream.integrations.choices import ChoiceError
from upstream.models import ArtifactKind, Customer, ReportRun, RunStatus
from upstream.reporting import runs, services
from upstream.reporting.columns import DRIFT_NAMES
from upstream.reporting.runs import ReportRunError
from upstream.reporting.services import generate_drift_events_csv, generate_weekly_drift_pdf


@pytest.fixture(autouse=True)
def media(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path
    return tmp_path


def new_run(alias="default", status="success", name="Lakeside Orthopedics"):
    customer = Customer.objects.using(alias).create(name=name)
    return customer.report_runs.create(run_type="weekly", period_start=START, period_end=END, status=status)


@pytest.fixture
def run(transactional_database):
    run = new_run(transactional_database)
    stored(run.customer, run, drift_events(30))
    return run


@pytest.fixture
def plain_run(transactional_db):
    run = new_run()
    stored(run.customer, run, drift_events(30))
    return run


def files(media):
    return sorted(path.name for path in media.rglob("*") if path.is_file())


def content(artifact):
    with default_storage.open(artifact.path) as file:
        return file.read()


def test_statuses_are_those_of_the_model():
    assert {runs.PENDING, runs.RUNNING, runs.SUCCESS, runs.FAILED} == set(RunStatus.values)


def test_csv_holds_the_events_by_key_and_its_facts_are_recorded(run):
    artifact = generate_drift_events_csv(run)
    data = content(artifact)
    rows = list(csv.DictReader(io.StringIO(data.decode(), newline="")))
    assert tuple(rows[0]) == DRIFT_NAMES
    assert [int(row["id"]) for row in rows] == list(run.drift_events.order_by("pk").values_list("pk", flat=True))
    assert artifact.kind == ArtifactKind.DRIFT_EVENTS_CSV
    assert (artifact.rows, artifact.bytes) == (30, len(data))
    assert artifact.sha256 == hashlib.sha256(data).hexdigest()
    assert [artifact] == list(run.artifacts.all())


def test_params_of_a_csv_are_filters_and_are_kept(plain_run):
    artifact = generate_drift_events_csv(plain_run, {"severity_min": 0.5})
    assert artifact.rows == plain_run.drift_events.filter(severity__gte=0.5).count() < 30
    artifact.refresh_from_db()
    assert artifact.params == {"severity_min": 0.5}


def test_a_decimal_among_the_params_is_kept_as_its_text(plain_run):
    artifact = generate_drift_events_csv(plain_run, {"severity_min": Decimal("0.5")})
    artifact.refresh_from_db()
    assert artifact.params == {"severity_min": "0.5"}
    assert generate_drift_events_csv(plain_run, artifact.params).rows == artifact.rows


def test_pdf_is_the_report_of_the_run(plain_run):
    artifact = generate_weekly_drift_pdf(plain_run.pk)
    data = content(artifact)
    pages = pypdf.PdfReader(io.BytesIO(data)).pages
    text = " ".join(page.extract_text() for page in pages)
    assert "Lakeside Orthopedics" in text
    assert tuple(map(round, pages[0].mediabox[2:])) == (612, 792)
    assert artifact.kind == ArtifactKind.WEEKLY_DRIFT_PDF
    assert (artifact.rows, artifact.bytes) == (30, len(data))
    assert artifact.params == {"paper": "Letter"}


def test_paper_of_a_pdf_may_be_a4(plain_run):
    artifact = generate_weekly_drift_pdf(plain_run.pk, paper="A4")
    page = pypdf.PdfReader(io.BytesIO(content(artifact))).pages[0]
    assert tuple(map(round, page.mediabox[2:])) == (595, 842)


def test_the_trend_is_that_of_the_customers_successful_weekly_runs(plain_run):
    customer = plain_run.customer
    for status, run_type in (("failed", "weekly"), ("success", "monthly")):
        other = customer.report_runs.create(run_type=run_type, period_start=START, period_end=END, status=status)
        stored(customer, other, [drift_event()] * 500)
    weeks = services.report_of(plain_run)["weeks"]
    shown = plain_run.drift_events.filter(suppressed=False, current_end__gt=END - services.timedelta(weeks=12))
    assert sum(week["events"] for week in weeks) == shown.count()


def test_made_again_it_replaces_the_row_and_the_file(run, media):
    first = generate_drift_events_csv(run)
    stored(run.customer, run, drift_events(5, seed=1))
    second = generate_drift_events_csv(run)
    assert (second.pk, second.rows) == (first.pk, 35)
    assert second.created_at > first.created_at
    assert len(files(media)) == 1
    assert hashlib.sha256(content(second)).hexdigest() == second.sha256


def test_a_failure_leaves_no_file_keeps_the_old_artifact_and_is_recorded(run, media, monkeypatch):
    first = generate_drift_events_csv(run)

    def fail(*_, **__):
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr("upstream.reporting.artifacts._recorded", fail)
        with pytest.raises(OSError, match="disk full"):
            generate_drift_events_csv(run)
    run.refresh_from_db()
    assert run.summary_json["artifact_errors"] == {"drift_events_csv": "OSError: disk full"}
    assert run.status == RunStatus.SUCCESS
    assert files(media) == [first.path.rpartition("/")[2]]
    generate_drift_events_csv(run)
    run.refresh_from_db()
    assert "artifact_errors" not in run.summary_json


def test_a_run_that_is_deleted_meanwhile_leaves_no_file(plain_run, media):
    deleted = ReportRun.objects.get(pk=plain_run.pk)
    plain_run.delete()
    deleted.drift_events.model.objects.all().delete()
    with pytest.raises(ReportRunError, match="is gone"):
        generate_drift_events_csv(deleted)
    assert files(media) == []


@pytest.mark.parametrize("status", ["pending", "running", "failed"])
def test_a_run_that_was_not_computed_has_no_artifact(status, db, media):
    run = new_run(status=status)
    for make in (lambda: generate_drift_events_csv(run), lambda: generate_weekly_drift_pdf(run.pk)):
        with pytest.raises(ReportRunError, match=f"is {status}: call compute_report_drift first"):
            make()
    assert files(media) == []


def test_an_unknown_filter_is_refused_and_recorded(plain_run, media):
    with pytest.raises(ChoiceError, match="choose from: payer"):
        generate_drift_events_csv(plain_run, {"colour": "red"})
    plain_run.refresh_from_db()
    assert "colour" in plain_run.summary_json["artifact_errors"]["drift_events_csv"]


def test_an_unknown_run_and_an_unknown_paper_are_refused(plain_run):
    with pytest.raises(ObjectDoesNotExist):
        generate_weekly_drift_pdf(0)
    with pytest.raises(ValueError, match="choose from: Letter, A4"):
        generate_weekly_drift_pdf(plain_run.pk, paper="A5")


def test_any_storage_will_do(plain_run, monkeypatch):
    storage = InMemoryStorage()
    monkeypatch.setattr(default_storage, "_wrapped", storage)
    generate_drift_events_csv(plain_run)
    second = generate_drift_events_csv(plain_run)
    assert storage.exists(second.path)
    [customer_folder] = storage.listdir("reports")[0]
    assert len(storage.listdir(f"reports/{customer_folder}")[1]) == 1


def test_two_workers_leave_one_artifact_with_its_file(run, transactional_database, media):
    failures = []

    def make():
        try:
            generate_drift_events_csv(ReportRun.objects.using(transactional_database).get(pk=run.pk))
        except Exception as error:  # noqa: BLE001
            failures.append(error)
        finally:
            connections[transactional_database].close()

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    [artifact] = run.artifacts.all()
    assert eventually(lambda: files(media) == [artifact.path.rpartition("/")[2]])


@pytest.mark.parametrize("number", [25, 5_000])
def test_a_weekly_pdf_takes_less_than_five_seconds_of_processor_time(number, db):
    run = new_run()
    stored(run.customer, run, drift_events(number))
    started = time.process_time()
    generate_weekly_drift_pdf(run.pk)
    assert time.process_time() - started < 5
