"""Drift is what the claims say: the database's aggregates, the tests' verdicts and the events that are kept."""

import datetime as dt
import random
from decimal import Decimal

import pytest
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from upstream.models import AlertEvent, AlertRule, ClaimRecord, Customer, DriftEvent, ReportRun
from upstream.services.claim_measures import MEASURES, Days, compare
from upstream.services.payer_drift import BASELINE, DAY, find_causes, find_drifts, save_drift, windows_of

START, END = dt.date(2026, 11, 2), dt.date(2026, 11, 8)
WINDOWS = windows_of(START, END)


@pytest.fixture
def customer(database):
    return Customer.objects.using(database).create(name="Lakeside")


def claim(customer, decided, *, days=14, **fields):
    usual = {
        "payer": "Summit",
        "cpt": "29881",
        "cpt_group": "Knee",
        "outcome": "PAID",
        "paid_amount": Decimal(100),
    }
    submitted = decided - days * DAY if decided else START
    return ClaimRecord(customer=customer, submitted_date=submitted, decided_date=decided, **usual | fields)


def claims_of(customer, start, end, size, *, denied=0.0, **fields):
    """Return claims that are decided evenly in a window, the first of them denied."""
    length = (end - start).days + 1
    for number in range(size):
        outcome = {"outcome": "DENIED", "paid_amount": None} if number < round(denied * size) else {}
        yield claim(customer, start + (number * 7 % length) * DAY, **{**fields, **outcome})


def store(customer, baseline=None, current=None, **fields):
    """Store a baseline and a current window of claims, by default the same."""
    usual = {"size": 600, "denied": 0.17}
    before = claims_of(customer, WINDOWS.baseline_start, WINDOWS.baseline_end, **usual | fields | (baseline or {}))
    now = claims_of(customer, START, END, **usual | {"size": 200} | fields | (current or {}))
    ClaimRecord.objects.using(customer._state.db).bulk_create([*before, *now])


def run_of(customer, start=START, end=END, **fields):
    runs = ReportRun.objects.using(customer._state.db)
    return runs.create(customer=customer, run_type="weekly", period_start=start, period_end=end, **fields)


class TestAggregates:
    claims = st.fixed_dictionaries(
        {
            "payer": st.sampled_from(["Summit", 'Northern "Prime", PPO', "Peñasco"]),
            "cpt_group": st.sampled_from(["Knee", "MRI"]),
            "outcome": st.sampled_from(["PAID", "DENIED", "OTHER"]),
            "paid_amount": st.none() | st.decimals(0, 9_999_999_999, places=2),
            "days": st.integers(0, 40) | st.just(700_000),
        }
    )
    decided = st.none() | st.integers(-3, 93).map(lambda day: WINDOWS.baseline_start + day * DAY)

    @given(st.lists(st.tuples(decided, claims), max_size=25))
    def test_are_those_of_a_loop_over_the_claims(self, database, drawn):
        with transaction.atomic(using=database):
            customer = Customer.objects.using(database).create(name="Lakeside")
            rows = [claim(customer, day, **fields) for day, fields in drawn]
            ClaimRecord.objects.using(database).bulk_create(rows)
            found = {
                one.group: one.samples for one in compare(customer.claims.all(), WINDOWS, ("payer", "cpt_group"))
            }
            transaction.set_rollback(True, using=database)
        groups = expected(rows)
        assert found.keys() == groups.keys()
        for group, measures in groups.items():
            for drift_type, sides in measures.items():
                for numbers, sample in zip(sides, found[group][drift_type], strict=True):
                    assert sample.size == len(numbers)
                    assert sample.total == pytest.approx(sum(numbers))
                    assert sample.squares == pytest.approx(sum(number * number for number in numbers))

    def test_need_one_statement(self, customer, django_assert_num_queries):
        store(customer)
        with django_assert_num_queries(1, using=customer._state.db):
            list(compare(customer.claims.all(), WINDOWS, ("payer", "cpt_group")))

    def test_count_days_over_centuries(self, customer):
        claim(customer, dt.date(2026, 3, 1), days=2).save(using=customer._state.db)
        claim(customer, dt.date(9999, 12, 31), days=3_600_000).save(using=customer._state.db)
        days = customer.claims.annotate(days=Days("decided_date", "submitted_date")).order_by("pk")
        assert [float(row.days) for row in days] == [2, 3_600_000]


def expected(rows):
    """Return the numbers of each sample by group and drift type, baseline and current, computed in Python."""
    groups = {}
    for row in rows:
        if row.decided_date is None or not WINDOWS.baseline_start <= row.decided_date <= END:
            continue
        side = int(row.decided_date >= START)
        values = groups.setdefault(
            (row.payer, row.cpt_group), {measure.drift_type: ([], []) for measure in MEASURES}
        )
        if row.outcome != "OTHER":
            values["DENIAL_RATE"][side].append(int(row.outcome == "DENIED"))
            values["DECISION_TIME"][side].append((row.decided_date - row.submitted_date).days)
        if row.outcome == "PAID" and row.paid_amount is not None:
            values["PAYMENT_AMOUNT"][side].append(float(row.paid_amount))
    return groups


class TestDrift:
    def test_in_the_denial_rate_is_found_with_its_figures(self, customer):
        store(customer, current={"denied": 0.27})

        [drift] = find_drifts(customer.claims.all(), START, END)

        assert drift.key == ("Summit", "Knee", "DENIAL_RATE")
        assert (drift.baseline.mean, drift.current.mean) == (0.17, 0.27)
        assert (drift.baseline.size, drift.current.size) == (600, 200)
        table = [[102, 498], [54, 146]]
        own = stats.chi2_contingency(table, correction=False).pvalue
        assert drift.p_value == pytest.approx(3 * own)  # the smallest of three tests
        assert drift.severity == pytest.approx(0.5)
        assert drift.trend == "worsening"
        # Twenty more of 200 are denied than would have been, each of which would have paid 100 dollars.
        assert drift.revenue_impact == pytest.approx(-2000)

    def test_in_the_decision_time_is_found_and_costs_nothing(self, customer):
        random_days = random.Random(0)
        for start, end, size, days in [
            (WINDOWS.baseline_start, WINDOWS.baseline_end, 300, 14),
            (START, END, 50, 21),
        ]:
            ClaimRecord.objects.using(customer._state.db).bulk_create(
                claim(customer, row.decided_date, days=days + random_days.randrange(-5, 6))
                for row in claims_of(customer, start, end, size)
            )

        [drift] = find_drifts(customer.claims.all(), START, END)

        assert drift.measure.drift_type == "DECISION_TIME"
        assert drift.current.mean - drift.baseline.mean == pytest.approx(7, abs=1)
        assert (drift.trend, drift.revenue_impact) == ("worsening", None)

    @pytest.mark.parametrize(("paid", "trend", "impact"), [(88, "worsening", -1200), (112, "improving", 1200)])
    def test_in_the_payment_is_won_or_lost_by_every_claim(self, customer, paid, trend, impact):
        store(customer, denied=0, current={"paid_amount": Decimal(paid), "size": 100})

        [drift] = find_drifts(customer.claims.all(), START, END)

        assert drift.measure.drift_type == "PAYMENT_AMOUNT"
        assert (drift.trend, drift.revenue_impact) == (trend, impact)
        assert drift.severity == pytest.approx(0.24)

    def test_is_not_found_where_nothing_changed(self, customer):
        store(customer)
        assert find_drifts(customer.claims.all(), START, END) == []

    def test_is_not_found_by_chance(self, customer):
        chance = random.Random(0)
        ClaimRecord.objects.using(customer._state.db).bulk_create(
            claim(
                customer,
                WINDOWS.baseline_start + chance.randrange(91) * DAY,
                cpt_group=f"Group {number % 10}",
                days=chance.randrange(1, 30),
                outcome="DENIED" if chance.random() < 0.17 else "PAID",
                paid_amount=Decimal(chance.randrange(50, 500)),
            )
            for number in range(10_000)
        )
        assert find_drifts(customer.claims.all(), START, END) == []

    @pytest.mark.parametrize(("baseline", "current"), [(29, 200), (600, 9)])
    def test_of_few_claims_is_not_reported(self, customer, baseline, current):
        store(customer, {"size": baseline, "denied": 0}, {"size": current, "denied": 1})
        assert find_drifts(customer.claims.all(), START, END) == []

    def test_that_is_certain_but_small_is_not_reported(self, customer):
        store(customer, denied=0, current={"paid_amount": Decimal(96)})
        assert find_drifts(customer.claims.all(), START, END) == []

    def test_compares_with_twelve_weeks_and_nothing_before_or_after(self, customer):
        store(customer)
        before, after = WINDOWS.baseline_start - DAY, END + DAY
        ClaimRecord.objects.using(customer._state.db).bulk_create(
            [
                *claims_of(customer, before, before, 500, denied=1),
                *claims_of(customer, after, after, 500, denied=1),
            ]
        )
        assert find_drifts(customer.claims.all(), START, END) == []
        assert WINDOWS.baseline_end - WINDOWS.baseline_start + DAY == BASELINE

    def test_of_another_customer_is_not_ones_own(self, customer):
        other = Customer.objects.using(customer._state.db).create(name="Bayview")
        store(customer)
        store(other, current={"denied": 0.5})
        assert find_drifts(customer.claims.all(), START, END) == []

    def test_comes_with_the_most_severe_first(self, customer):
        store(customer, payer="Mild", current={"denied": 0.27})
        store(customer, payer="Severe", current={"denied": 0.37})
        drifts = find_drifts(customer.claims.all(), START, END)
        assert [drift.payer for drift in drifts] == ["Severe", "Mild"]

    @pytest.mark.parametrize(
        ("before", "after", "drift_type"),
        [
            ({"paid_amount": Decimal(0)}, {"paid_amount": Decimal(90)}, "PAYMENT_AMOUNT"),
            ({"days": 0}, {"days": 7}, "DECISION_TIME"),
        ],
    )
    def test_from_a_mean_of_0_has_the_highest_severity(self, customer, before, after, drift_type):
        store(customer, before, after, denied=0)
        [drift] = find_drifts(customer.claims.all(), START, END)
        assert (drift.measure.drift_type, drift.severity) == (drift_type, 1)
        assert find_causes(customer.claims.all(), WINDOWS, [drift])[drift.key][0]["share"] == 1

    def test_whose_payments_nobody_knows_has_no_price(self, customer):
        store(customer, paid_amount=None, current={"denied": 0.27})
        [drift] = find_drifts(customer.claims.all(), START, END)
        assert drift.revenue_impact is None


class TestCauses:
    def test_are_the_codes_that_changed(self, customer):
        store(customer, cpt="29880", size=300)
        store(customer, {"size": 300}, {"size": 100, "denied": 0.47}, cpt="29881")
        drifts = find_drifts(customer.claims.all(), START, END)

        [[cause]] = find_causes(customer.claims.all(), WINDOWS, drifts).values()

        assert cause == {
            "cause": "cpt",
            "cpt": "29881",
            "share": 1.0,
            "note": "CPT 29881: 17.0 % to 47.0 %, 100 claims",
        }

    def test_are_another_mix_where_no_code_changed(self, customer):
        store(customer, {"size": 500}, {"size": 50}, cpt="29880", denied=0.1)
        store(customer, {"size": 100}, {"size": 150}, cpt="29881", denied=0.4)
        drifts = find_drifts(customer.claims.all(), START, END)

        [[cause]] = find_causes(customer.claims.all(), WINDOWS, drifts).values()

        assert (cause["cause"], cause["share"]) == ("case_mix", 1.0)

    def test_name_dollars_as_reports_do(self, customer):
        store(customer, denied=0, paid_amount=Decimal("412.60"), current={"paid_amount": Decimal("330.20")})
        drifts = find_drifts(customer.claims.all(), START, END)
        [[cause]] = find_causes(customer.claims.all(), WINDOWS, drifts).values()
        assert cause["note"] == "CPT 29881: $413 to $330, 200 claims"

    def test_may_be_a_code_that_is_new(self, customer):
        store(customer, cpt="29880")
        ClaimRecord.objects.using(customer._state.db).bulk_create(
            claims_of(customer, START, END, 100, denied=0.6, cpt="29999")
        )
        drifts = find_drifts(customer.claims.all(), START, END)

        [[cause]] = find_causes(customer.claims.all(), WINDOWS, drifts).values()

        assert cause["note"] == "CPT 29999: no claims to 60.0 %, 100 claims"

    def test_of_all_drifts_need_one_statement(self, customer, django_assert_num_queries):
        for payer in "abc":
            store(customer, payer=payer, current={"denied": 0.5})
        drifts = find_drifts(customer.claims.all(), START, END)
        with django_assert_num_queries(1, using=customer._state.db):
            assert len(find_causes(customer.claims.all(), WINDOWS, drifts)) == 3


class TestEvents:
    def test_hold_what_was_found(self, customer):
        store(customer, current={"denied": 0.27})
        run = run_of(customer)

        assert save_drift(run) == 1

        event = run.drift_events.get()
        event.full_clean()
        assert (event.customer, event.payer, event.cpt_group) == (customer, "Summit", "Knee")
        assert (event.baseline_start, event.baseline_end) == (WINDOWS.baseline_start, WINDOWS.baseline_end)
        assert (event.current_start, event.current_end) == (START, END)
        assert (event.baseline_claims, event.current_claims) == (600, 200)
        assert event.delta_value == event.current_value - event.baseline_value == pytest.approx(0.1)
        assert event.confidence == 1 - event.p_value
        assert event.estimated_revenue_impact == Decimal(-2000)
        assert event.consecutive_periods == 1
        assert event.potential_root_causes[0]["cpt"] == "29881"
        assert run.status == "pending"

    def test_found_again_are_the_same_and_keep_what_people_did(self, customer):
        store(customer, current={"denied": 0.27})
        run = run_of(customer)
        save_drift(run)
        first = run.drift_events.get()
        now = timezone.now().replace(microsecond=0)
        run.drift_events.update(suppressed=True, acknowledged_at=now)
        rule = AlertRule.objects.using(customer._state.db).create(customer=customer, name="Any", threshold_value=0)
        alert = AlertEvent.objects.using(customer._state.db).create(
            customer=customer, alert_rule=rule, drift_event=first
        )
        ClaimRecord.objects.using(customer._state.db).bulk_create(claims_of(customer, START, END, 50, denied=1))

        assert save_drift(run) == 1

        again = run.drift_events.get()
        assert (again.pk, again.created_at) == (first.pk, first.created_at)
        assert (again.suppressed, again.acknowledged_at) == (True, now)
        assert again.current_claims == 250
        assert again.severity > first.severity
        assert AlertEvent.objects.using(customer._state.db).filter(pk=alert.pk).exists()

    def test_that_are_not_found_again_are_deleted_as_are_doubles(self, customer):
        store(customer, current={"denied": 0.27})
        run = run_of(customer)
        save_drift(run)
        event = run.drift_events.get()
        for drift_type in ("DENIAL_RATE", "AUTH_FAILURE_RATE"):
            event.pk, event.drift_type = None, drift_type
            event.save(using=customer._state.db, force_insert=True)
        assert run.drift_events.count() == 3

        assert save_drift(run) == 1
        assert run.drift_events.get().drift_type == "DENIAL_RATE"

    def test_without_claims_are_none(self, customer):
        assert save_drift(run_of(customer)) == 0

    def test_are_the_same_however_small_the_batches(self, customer, monkeypatch):
        for payer in "abcde":
            store(customer, payer=payer, current={"denied": 0.5})
        run = run_of(customer)
        save_drift(run)
        before = list(run.drift_events.order_by("pk").values())

        monkeypatch.setattr("upstream.services.payer_drift.BATCH_SIZE", 2)
        assert save_drift(run) == 5

        assert list(run.drift_events.order_by("pk").values()) == before

    def test_need_as_many_statements_for_many_drifts_as_for_one(self, customer):
        def statements():
            run = run_of(customer)
            with CaptureQueriesContext(connections[customer._state.db]) as queries:
                save_drift(run)
            return len(queries)

        store(customer, payer="a", current={"denied": 0.5})
        one = statements()
        for payer in "bcdefgh":
            store(customer, payer=payer, current={"denied": 0.5})
        assert statements() == one

    def test_count_the_runs_in_a_row_in_which_they_drifted_the_same_way(self, customer):
        week = dt.timedelta(weeks=1)
        store(customer)
        ClaimRecord.objects.using(customer._state.db).bulk_create(
            row
            for number, denied in enumerate([0.5, 0.5, 0.0], start=1)
            for row in claims_of(customer, START + number * week, END + number * week, 200, denied=denied)
        )
        events = []
        for number in (1, 2, 3):
            run = run_of(customer, START + number * week, END + number * week)
            save_drift(run)
            events.append(run.drift_events.get())
        save_drift(run)
        assert [event.consecutive_periods for event in events] == [1, 2, 1]
        assert [event.trend_direction for event in events] == ["worsening", "worsening", "improving"]
        assert run.drift_events.get().consecutive_periods == 1

    def test_count_no_run_of_another_kind_or_customer(self, customer):
        store(customer, current={"denied": 0.5})
        other = Customer.objects.using(customer._state.db).create(name="Bayview")
        run = run_of(customer)
        save_drift(run)
        event = run.drift_events.get()
        earlier = START - DAY
        monthly = ReportRun.objects.using(customer._state.db).create(
            customer=customer, run_type="monthly", period_start=earlier, period_end=earlier
        )
        for stranger in (monthly, run_of(other, earlier, earlier)):
            event.pk, event.report_run, event.consecutive_periods = None, stranger, 7
            event.save(using=customer._state.db, force_insert=True)

        save_drift(run)

        assert run.drift_events.get().consecutive_periods == 1


@pytest.mark.django_db(transaction=True)
def test_an_error_midway_leaves_the_events_as_they_were(monkeypatch):
    customer = Customer.objects.create(name="Lakeside")
    for payer in "ab":
        store(customer, payer=payer, current={"denied": 0.5})
    run = run_of(customer)
    save_drift(run)
    before = list(DriftEvent.objects.order_by("pk").values())
    ClaimRecord.objects.bulk_create(claims_of(customer, START, END, 50, denied=1, payer="a"))
    monkeypatch.setattr("upstream.services.payer_drift.BATCH_SIZE", 1)
    batches = []

    def fail_on_the_second(claims, windows, drifts):
        batches.append(drifts)
        if len(batches) == 2:
            raise OSError("midway")
        return find_causes(claims, windows, drifts)

    monkeypatch.setattr("upstream.services.payer_drift.find_causes", fail_on_the_second)

    with pytest.raises(OSError, match="midway"):
        save_drift(run)

    assert list(DriftEvent.objects.order_by("pk").values()) == before
