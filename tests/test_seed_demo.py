"""``seed_demo`` makes the same plausible, awkward data again and again."""

import datetime as dt
import hashlib
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db.models import F, Model
from django.utils import timezone

from upstream.management import demo_data
from upstream.models import AlertEvent, AlertRule, Customer, DriftEvent, ReportRun

MODELS: list[Any] = [Customer, ReportRun, AlertRule, DriftEvent, AlertEvent]


TODAY = dt.date(2026, 3, 1)


def seed(rows: int, **options: Any) -> str:
    output = StringIO()
    call_command("seed_demo", rows=rows, stdout=output, **({"today": TODAY} | options))
    return output.getvalue()


def digest(database: str = "default") -> str:
    """Return one hash of every value in every Upstream table."""
    sha = hashlib.sha256()
    for model in MODELS:
        for row in model.objects.using(database).order_by("pk").values_list():
            sha.update(repr(row).encode())
    return sha.hexdigest()


def counts(database: str = "default") -> list[int]:
    return [model.objects.using(database).count() for model in MODELS]


def texts(model: type[Model], field: str) -> str:
    return "".join(str(value) for value in model._default_manager.values_list(field, flat=True))


@pytest.mark.django_db
def test_same_rows_and_seed_give_the_same_data() -> None:
    seed(300, seed=7)
    first = digest()
    seed(300, seed=7, replace=True)
    assert digest() == first


@pytest.mark.django_db
def test_another_day_moves_the_dates_and_nothing_else() -> None:
    seed(300)
    moved = DriftEvent.objects.values_list("pk", "payer", "severity", "current_end", "created_at").order_by("pk")
    before = list(moved.all())
    seed(300, today=TODAY + dt.timedelta(days=1), replace=True)
    day = dt.timedelta(days=1)
    assert [(pk, payer, severity, end - day) for pk, payer, severity, end, _ in moved] == [
        row[:4] for row in before
    ]
    assert {(new[4] - old[4]).days for new, old in zip(moved.all(), before, strict=True)} == {1}


@pytest.mark.django_db
def test_the_newest_rows_are_of_yesterday_and_none_of_the_future() -> None:
    call_command("seed_demo", rows=2000, stdout=StringIO())
    now = timezone.now()
    assert now - dt.timedelta(days=2) < DriftEvent.objects.latest().created_at < now
    for model, field in [
        (AlertEvent, "notification_sent_at"),
        (ReportRun, "finished_at"),
        (ReportRun, "started_at"),
    ]:
        assert not model.objects.filter(**{f"{field}__gt": now}).exists()


def test_names_of_customers_differ_however_many_there_are() -> None:
    names = [customer.name for customer in demo_data.customers(1_000_000)]
    assert len(set(names)) == len(names) == 1000
    assert not [name for name in names[:400] if any(character.isdigit() for character in name)]


@pytest.mark.django_db
def test_batch_size_does_not_change_the_data() -> None:
    seed(300, batch_size=1000)
    first = digest()
    seed(300, batch_size=7, replace=True)
    assert digest() == first


@pytest.mark.django_db
def test_another_seed_gives_other_data() -> None:
    seed(300, seed=1)
    first = digest()
    seed(300, seed=2, replace=True)
    assert digest() != first


def test_every_database_gets_the_same_rows(database: str) -> None:
    seed(60, database=database)
    assert counts(database)[3] == 60
    assert [event.pk for event in DriftEvent.objects.using(database).order_by("pk")] == list(range(1, 61))


def test_next_row_after_the_demo_data_gets_a_free_key(database: str) -> None:
    seed(60, database=database)
    customers = Customer.objects.using(database)
    seeded = set(customers.values_list("pk", flat=True))
    assert customers.create(name="New").pk not in seeded


@pytest.mark.django_db
@pytest.mark.parametrize("rows", [1, 24, 25, 26, 999, 1001, 2500])
def test_rows_counts_drift_events_and_sizes_the_other_tables(rows: int) -> None:
    seed(rows)
    customers, runs, rules, events, _ = counts()
    assert events == rows
    assert customers == -(-rows // 1000)
    assert runs == -(-rows // 25) + customers
    assert rules == 3 * customers


@pytest.mark.django_db
def test_no_rows_leave_every_table_empty() -> None:
    seed(0)
    assert counts() == [0] * 5


@pytest.mark.django_db
def test_tables_that_hold_rows_are_left_alone_without_replace() -> None:
    Customer.objects.create(name="Real customer")
    with pytest.raises(CommandError, match=r"already holds Customer rows.*--replace"):
        seed(10)
    assert counts() == [1, 0, 0, 0, 0]


@pytest.mark.django_db
def test_replace_leaves_nothing_of_the_old_data() -> None:
    seed(1001)
    seed(10, replace=True)
    assert counts()[:4] == [1, 2, 3, 10]


@pytest.mark.django_db(transaction=True)
def test_failure_midway_keeps_the_old_data(monkeypatch: pytest.MonkeyPatch) -> None:
    seed(50)
    before = digest()

    def fail(*args: object) -> None:
        raise OSError("midway")

    monkeypatch.setattr(demo_data, "_alert_event", fail)
    with pytest.raises(OSError, match="midway"):
        seed(5000, replace=True)
    assert digest() == before


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": -1}, "--rows must be 0 or more, not -1"),
        ({"rows": 1, "batch_size": 0}, "--batch-size must be 1 or more, not 0"),
        ({"rows": "many"}, "invalid int value"),
        ({}, "--rows"),
    ],
)
def test_wrong_options_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        call_command("seed_demo", **options)
    assert counts() == [0] * 5


@pytest.mark.django_db
def test_the_number_of_events_is_reported() -> None:
    assert "1,001 drift events" in seed(1001)


@pytest.mark.django_db
def test_text_holds_what_breaks_careless_exports() -> None:
    seed(2000)
    payers = texts(DriftEvent, "payer")
    assert "," in payers
    assert '"' in payers
    assert not payers.isascii()
    for text in (texts(AlertEvent, "error_message"), _notes()):
        assert "\n" in text
        assert not text.isascii()


@pytest.mark.django_db
def test_optional_values_are_sometimes_missing() -> None:
    seed(2000)
    for model, field in [
        (DriftEvent, "estimated_revenue_impact"),
        (AlertEvent, "notification_sent_at"),
        (ReportRun, "finished_at"),
    ]:
        missing = model._default_manager.filter(**{f"{field}__isnull": True}).count()
        assert 0 < missing < model._default_manager.count()


@pytest.mark.django_db
def test_every_choice_and_range_passes_validation() -> None:
    seed(1001)
    for model in MODELS:
        for record in model.objects.all()[:200]:
            record.full_clean(exclude=["payload", "summary_json"])


@pytest.mark.django_db
def test_rows_of_one_event_belong_to_the_same_customer() -> None:
    seed(2500)
    assert not DriftEvent.objects.exclude(customer=F("report_run__customer")).exists()
    assert not AlertEvent.objects.exclude(customer=F("alert_rule__customer")).exists()
    assert not AlertEvent.objects.exclude(customer=F("drift_event__customer")).exists()


@pytest.mark.django_db
def test_alerts_come_from_enabled_rules_whose_threshold_was_reached() -> None:
    seed(2500)
    assert AlertEvent.objects.exists()
    assert not AlertEvent.objects.filter(alert_rule__enabled=False).exists()
    assert not AlertEvent.objects.filter(drift_event__severity__lt=F("alert_rule__threshold_value")).exists()


def test_times_are_made_in_several_zones() -> None:
    events = (event for event, _ in demo_data.drift_events(0, 5000, TODAY))
    assert len({str(event.created_at.tzinfo) for event in events}) > 3


def test_events_are_generated_one_by_one() -> None:
    event, _ = next(demo_data.drift_events(0, 10**12, TODAY))
    assert event.pk == 1


def _notes() -> str:
    lists = DriftEvent.objects.values_list("potential_root_causes", flat=True)
    return "".join(cause["note"] for causes in lists for cause in causes)
