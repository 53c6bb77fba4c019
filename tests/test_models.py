"""The database itself refuses what makes no sense, whoever writes it."""

import datetime as dt
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import DataError, IntegrityError, transaction
from django.db.models import Model, RestrictedError

from upstream.models import AlertEvent, AlertRule, Customer, DriftEvent, DriftType, ReportRun

pytestmark = pytest.mark.django_db

JANUARY = dt.date(2026, 1, 1)
NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
REFUSALS = (IntegrityError, DataError)


def customer() -> Customer:
    return Customer.objects.get_or_create(name="Lakeside")[0]


def report_run(**fields: Any) -> ReportRun:
    defaults = {"run_type": "weekly", "period_start": JANUARY, "period_end": JANUARY + 6 * DAY}
    return ReportRun(customer=customer(), **defaults | fields)


def saved_report_run() -> ReportRun:
    run = report_run()
    run.save()
    return run


def drift_event(**fields: Any) -> DriftEvent:
    defaults = {
        "payer": 'Blue Cross, "Prime" of Ohio',
        "cpt_group": "Imaging",
        "drift_type": DriftType.DENIAL_RATE,
        "baseline_value": 0.1,
        "current_value": 0.2,
        "delta_value": 0.1,
        "severity": 0.5,
        "confidence": 0.9,
        "baseline_start": JANUARY - 28 * DAY,
        "baseline_end": JANUARY - DAY,
        "current_start": JANUARY,
        "current_end": JANUARY + 6 * DAY,
    }
    return DriftEvent(customer=customer(), report_run=saved_report_run(), **defaults | fields)


def alert_rule(**fields: Any) -> AlertRule:
    return AlertRule(customer=customer(), **{"name": "Severe", "threshold_value": 0.6} | fields)


def alert_event(**fields: Any) -> AlertEvent:
    rule, event = alert_rule(), drift_event()
    rule.save()
    event.save()
    return AlertEvent(
        customer=customer(), **{"alert_rule": rule, "drift_event": event, "triggered_at": NOON} | fields
    )


def assert_refused(record: Model) -> None:
    with pytest.raises(REFUSALS), transaction.atomic():
        record.save()


@pytest.mark.parametrize("make", [report_run, drift_event, alert_rule, alert_event])
def test_plausible_record_is_valid_and_saved(make: Any) -> None:
    record = make()
    record.full_clean()
    record.save()
    assert type(record).objects.get() == record


@pytest.mark.parametrize("field", ["severity", "confidence"])
@pytest.mark.parametrize("value", [-0.001, 1.001, float("inf"), float("nan"), None])
def test_fraction_outside_0_to_1_is_refused(field: str, value: float | None) -> None:
    assert_refused(drift_event(**{field: value}))


@pytest.mark.parametrize("field", ["severity", "confidence"])
@pytest.mark.parametrize("value", [0, 1])
def test_fraction_may_be_0_and_1(field: str, value: float) -> None:
    drift_event(**{field: value}).save()


@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_threshold_outside_0_to_1_is_refused(value: float) -> None:
    assert_refused(alert_rule(threshold_value=value))


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (report_run, "run_type"),
        (report_run, "status"),
        (drift_event, "drift_type"),
        (drift_event, "trend_direction"),
        (alert_rule, "drift_type_filter"),
        (alert_event, "status"),
    ],
)
def test_value_outside_the_choices_is_refused(make: Any, field: str) -> None:
    assert_refused(make(**{field: "other"}))


@pytest.mark.parametrize("drift_type", ["", *DriftType.values])
def test_rule_filters_one_drift_type_or_none(drift_type: str) -> None:
    alert_rule(drift_type_filter=drift_type).save()


@pytest.mark.parametrize(
    ("make", "field", "value"),
    [
        (report_run, "period_end", JANUARY - DAY),
        (drift_event, "baseline_start", JANUARY),
        (drift_event, "current_end", JANUARY - DAY),
        (alert_event, "notification_sent_at", NOON - DAY),
    ],
)
def test_end_before_start_is_refused(make: Any, field: str, value: dt.date) -> None:
    assert_refused(make(**{field: value}))


def test_run_finished_before_it_started_is_refused() -> None:
    assert_refused(report_run(started_at=NOON, finished_at=NOON - DAY))


def test_run_may_be_unfinished() -> None:
    report_run(started_at=NOON, finished_at=None).save()


def test_period_of_one_day_is_allowed() -> None:
    report_run(period_start=JANUARY, period_end=JANUARY).save()


def test_customer_names_are_unique() -> None:
    assert_refused(Customer(name=customer().name))


def test_rule_names_are_unique_for_a_customer() -> None:
    alert_rule().save()
    assert_refused(alert_rule())
    AlertRule.objects.create(customer=Customer.objects.create(name="Mercy"), name="Severe", threshold_value=1)


def test_rule_alerts_once_about_a_drift_event() -> None:
    first = alert_event()
    first.save()
    assert_refused(AlertEvent(customer=customer(), alert_rule=first.alert_rule, drift_event=first.drift_event))


def test_validation_names_the_constraint_before_the_database_does() -> None:
    with pytest.raises(ValidationError, match="driftevent_severity_range"):
        drift_event(severity=2).full_clean()


def test_rule_with_history_cannot_be_deleted() -> None:
    event = alert_event()
    event.save()
    with pytest.raises(RestrictedError):
        event.alert_rule.delete()


def test_deleting_a_customer_deletes_everything_of_theirs() -> None:
    alert_event().save()
    customer().delete()
    for model in (ReportRun, DriftEvent, AlertRule, AlertEvent):
        assert not model.objects.exists()


def test_records_have_readable_names() -> None:
    event = alert_event()
    assert str(event.customer) == "Lakeside"
    assert str(event.alert_rule) == "Severe"
    assert str(event.drift_event) == 'Denial rate at Blue Cross, "Prime" of Ohio (Imaging)'
    assert str(event.drift_event.report_run) == "Weekly report 2026-01-01 to 2026-01-07"
    assert str(event) == "Pending alert of 2026-01-01"
