"""The demo's claims go the whole way: files, imports with rejected rows, and the drifts that their story tells."""

import csv
import datetime as dt
from io import StringIO
from pathlib import Path

import pytest
from django.contrib.auth import authenticate
from django.core.management import CommandError, call_command

from upstream.management import demo_claims
from upstream.management.demo_claims import PRACTICES, claims, monday_before_last
from upstream.models import (
    ClaimRecord,
    ClaimUpload,
    Customer,
    DriftEvent,
    ReportRun,
    ReportSchedule,
    RunStatus,
)

TODAY = dt.date(2026, 11, 28)
LAST_WEEK = dt.date(2026, 11, 16)


def seed(directory, **options):
    call_command("seed_demo", rows=25, claims=directory, stdout=StringIO(), **{"today": TODAY} | options)


def compute(practice, **options):
    call_command("compute_drift", practice.name, stdout=StringIO(), **{"today": TODAY} | options)


@pytest.fixture(autouse=True)
def few_weeks(monkeypatch):
    monkeypatch.setattr(demo_claims, "WEEKS", 1)


@pytest.mark.heavy
@pytest.mark.django_db
def test_the_demo_goes_the_whole_way(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_claims, "WEEKS", 14)
    seed(tmp_path)
    for practice in PRACTICES:
        path = tmp_path / practice.filename
        call_command("import_claims", practice.name, str(path), rejected=f"{path}.rejected", stdout=StringIO())
        compute(practice, weeks=2)
        check_upload(ClaimUpload.objects.get(customer__name=practice.name), f"{path}.rejected")
        check_last_week(practice)
    check_story()

    call_command("seed_demo", rows=25, replace=True, stdout=StringIO())

    for model in (ClaimRecord, ClaimUpload, ReportSchedule, Customer.users.through):
        assert not model.objects.exists()


def check_upload(upload, rejected):
    assert upload.status == RunStatus.SUCCESS
    assert upload.rejected_rows == (upload.accepted_rows + upload.rejected_rows) // 400 >= 20
    assert 0 < upload.warning_rows < upload.accepted_rows / 100
    with Path(rejected).open(encoding="utf-8-sig", newline="") as file:
        assert len({row["reasons"] for row in csv.DictReader(file)}) == 6


def check_last_week(practice):
    """The drifts of the week are those of the story."""
    run = ReportRun.objects.get(customer__name=practice.name, period_start=LAST_WEEK)
    assert (run.period_end, run.status) == (LAST_WEEK + dt.timedelta(days=6), RunStatus.SUCCESS)
    assert set(run.drift_events.values_list("payer", "cpt_group")) == {
        (change.payer, change.cpt_group) for change in practice.changes if not change.until
    }


def check_story():
    denials = DriftEvent.objects.get(drift_type="DENIAL_RATE", payer="Summit Mutual")
    assert denials.baseline_value == pytest.approx(0.17, abs=0.01)
    assert denials.current_value == pytest.approx(0.27, abs=0.015)
    assert denials.potential_root_causes[0]["cpt"] == "29881"
    assert denials.estimated_revenue_impact < -5000
    late = DriftEvent.objects.filter(drift_type="DECISION_TIME", payer="Harborview Health Plan")
    assert [event.consecutive_periods for event in late.order_by("current_start")] == [1, 2]


def test_same_seed_and_day_give_the_same_claims():
    for practice in PRACTICES:
        first, again, other = (list(claims(practice, seed, TODAY)) for seed in (0, 0, 1))
        assert first == again != other


@pytest.mark.parametrize("weekday", range(7))
def test_no_claim_is_of_the_future(weekday):
    today = TODAY + dt.timedelta(days=weekday)
    rows = [row for row in claims(PRACTICES[0], 0, today) if isinstance(row["submitted_date"], dt.date)]
    assert max(row["submitted_date"] for row in rows) < today
    decided = [row["decided_date"] for row in rows if isinstance(row["decided_date"], dt.date)]
    assert today - dt.timedelta(days=3) <= max(decided) < today


@pytest.mark.parametrize("day", range(1, 15))
def test_the_last_week_is_over_and_begins_with_a_monday(day):
    today = dt.date(2026, 11, day)
    monday = monday_before_last(today)
    assert monday.weekday() == 0
    assert 7 <= (today - monday).days <= 13


@pytest.mark.django_db
def test_a_user_sees_the_first_practice_and_replacing_the_data_keeps_one_user(tmp_path):
    seed(tmp_path)
    seed(tmp_path, replace=True)
    user = authenticate(username="lakeside", password="demo")
    assert (user.is_staff, user.is_superuser) == (False, False)
    assert list(user.customers.all()) == [Customer.objects.get(name="Lakeside Medical Group")]
    assert ReportSchedule.objects.count() == len(PRACTICES)


@pytest.mark.django_db
def test_without_claims_there_are_no_practices():
    call_command("seed_demo", rows=25, stdout=StringIO())
    assert Customer.objects.count() == 1


@pytest.mark.django_db
def test_weeks_are_one_or_more():
    Customer.objects.create(name="Lakeside")
    with pytest.raises(CommandError, match="--weeks must be 1 or more, not 0"):
        call_command("compute_drift", "Lakeside", weeks=0)
