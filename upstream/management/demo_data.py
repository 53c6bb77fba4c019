"""Demo data: unsaved instances of the Upstream models, the same for the same seed, number of rows and day.

The last period ends two days before `today`, so that its runs and events are of yesterday, in every time zone.
Keys are computed from the number of the drift event, so no generator needs the rows of another.
"""

import datetime as dt
import random
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import combinations, count
from typing import Any
from zoneinfo import ZoneInfo

from upstream.models import (
    AlertEvent,
    AlertRule,
    AlertStatus,
    Customer,
    DriftEvent,
    DriftType,
    ReportRun,
    RunStatus,
    RunType,
    Trend,
)

EVENTS_PER_RUN = 25
RUNS_PER_CUSTOMER = 40
BASELINE = dt.timedelta(weeks=12)
DAY = dt.timedelta(days=1)

ZONES = [ZoneInfo(f"America/{city}") for city in ("New_York", "Chicago", "Denver", "Los_Angeles", "Puerto_Rico")]
# Their numbers, 41 and 11, have no common divisor: the names of 451 customers differ.
PLACES = [
    *(
        "Lakeside",
        "Cedar Valley",
        "North Harbor",
        "Bayview",
        "Stonebridge",
        "Riverbend",
        "Maple Grove",
        "San Germán",
    ),
    *("Fox Hollow", "Pine Ridge", "Mayagüez", "Summit", "Old Town", "Harbor Point", "Willow Creek", "Piñon Hills"),
    *("Brookfield", "Eastgate", "Prairie View", "Clearwater", "Granite Falls", "Mill Pond", "Bayamón", "Ashford"),
    *("Sugar Land", "Red Rock", "Orchard Park", "Elm Street", "Cañon City", "Blue Heron", "Kingsway", "Westfield"),
    *(
        "Silver Lake",
        "Meadowbrook",
        "Copper Basin",
        "Union Square",
        "Seaside",
        "La Cañada",
        "Juniper",
        "Tall Pines",
    ),
    "Lincoln Park",
]
PRACTICES = [
    *("Orthopedics", "Imaging, Inc.", "Family Medicine", "Heart & Vascular", "Dermatology", "Physical Therapy"),
    *("Surgery Center, LLC", "Women's Health", "Pediatrics", "Eye Institute", "Gastroenterology"),
]
PAYERS = [
    "Medicare",
    "Medicaid",
    "Summit Mutual",
    "Harborview Health Plan",
    "Pioneer Employers' Trust",
    "Keystone Gold, HMO",
    "BlueRidge Health of Ohio, Inc.",
    'Northern Lights "Prime" PPO',
    "Salud Caribeña, Inc.",
    "Seguros Peñasco",
    "Great Plains Care Network",
    "Evergreen Life & Health",
]
CPT_GROUPS = [
    "Office visits 99213-99215",
    "MRI of the brain 70551-70553",
    "Knee arthroscopy 29880-29881",
    "Physical therapy 97110-97140",
    "Echocardiography 93303-93308",
    "Metabolic panel 80048-80053",
    "Colonoscopy 45378-45398",
    "Cataract surgery 66982-66984",
]
ROOT_CAUSES = [
    (
        "policy_change",
        "Prior authorization list changed.\nClaims before the 1st of the month follow the old list.",
    ),
    ("coding", "Modifier 25 missing on 3 of 10 claims;\r\nsee “Office visits, established patient”."),
    ("staffing", "Medical review desk in Bayamón is understaffed"),
    ("fee_schedule", 'New fee schedule, table "B": rates are down by 4.5 %'),
    ("portal", "Eligibility portal timed out.\n\nRetries succeeded the next day."),
    ("documentation", "Operative notes missing, or attached as scans > 10 MB"),
]
ROOT_CAUSE_LISTS = [
    [{"cause": cause, "note": note} for cause, note in causes]
    for length in range(4)
    for causes in combinations(ROOT_CAUSES, length)
]
ALERT_ERRORS = [
    "SMTP 451: try again later\nGave up after 3 attempts",
    'Webhook answered 503:\n{"error": "Too many requests, retry in 60 s …"}',
    "Recipient rejected: <billing@example.com>,\r\nmailbox full",
]


@dataclass(frozen=True, slots=True)
class Measure:
    """A drift type's share of the events, its usual range and decimals, and whether a rise is bad."""

    share: int
    low: float
    high: float
    decimals: int
    rise_is_bad: bool


MEASURES = {
    DriftType.DENIAL_RATE: Measure(6, 0.04, 0.3, 4, True),
    DriftType.DECISION_TIME: Measure(3, 2, 30, 1, True),
    DriftType.PAYMENT_AMOUNT: Measure(5, 60, 4000, 2, False),
    DriftType.APPROVAL_RATE: Measure(4, 0.3, 0.6, 4, False),
    DriftType.PROCESSING_DELAY: Measure(2, 1, 21, 1, True),
    DriftType.AUTH_FAILURE_RATE: Measure(1, 0.01, 0.2, 4, True),
}
DRIFT_TYPES = [drift_type for drift_type, measure in MEASURES.items() for _ in range(measure.share)]
ALERT_STATUSES = list(AlertStatus)
RULES = [
    ("Any severe drift", "", 0.6),
    ("Denials", DriftType.DENIAL_RATE, 0.4),
    ('Payments, "urgent"', DriftType.PAYMENT_AMOUNT, 0.3),
]


def customers(rows: int) -> Iterator[Customer]:
    for number in range(1, _customer_count(rows) + 1):
        yield Customer(id=number, name=_customer_name(number - 1))


def report_runs(seed: int, rows: int, today: dt.date) -> Iterator[ReportRun]:
    """Yield the runs that found the drift events, then one unsuccessful run per customer."""
    rng = _random(seed, "report runs")
    for number in range(1, _run_count(rows) + 1):
        yield _successful_run(number, rows, today, rng)
    for customer in range(1, _customer_count(rows) + 1):
        yield _unsuccessful_run(_run_count(rows) + customer, customer, today, rng)


def alert_rules(rows: int) -> Iterator[AlertRule]:
    for customer in range(1, _customer_count(rows) + 1):
        for position, (name, drift_type, threshold) in enumerate(RULES):
            yield AlertRule(
                id=_rule_id(customer, position),
                customer_id=customer,
                name=name,
                enabled=_is_enabled(customer, position),
                threshold_value=threshold,
                drift_type_filter=drift_type,
            )


def drift_events(seed: int, rows: int, today: dt.date) -> Iterator[tuple[DriftEvent, list[AlertEvent]]]:
    """Yield each drift event with the alerts that it triggered."""
    rng = _random(seed, "drift events")
    alert_ids = count(1)
    for run in range(1, _run_count(rows) + 1):
        shared = _fields_of_run(run, today)
        first = (run - 1) * EVENTS_PER_RUN + 1
        for number in range(first, first + _event_count(run, rows)):
            event = _drift_event(number, shared, rng)
            rules = _triggered_rules(event)
            yield event, [_alert_event(next(alert_ids), rule, event, rng) for rule in rules]


def _customer_name(position: int) -> str:
    name = f"{PLACES[position % len(PLACES)]} {PRACTICES[position % len(PRACTICES)]}"
    site = position // (len(PLACES) * len(PRACTICES)) + 1
    return name if site == 1 else f"{name}, Site {site}"


def _random(seed: int, table: str) -> random.Random:
    return random.Random(f"{seed} {table}")  # noqa: S311


def _run_count(rows: int) -> int:
    return -(-rows // EVENTS_PER_RUN)


def _event_count(run: int, rows: int) -> int:
    return min(EVENTS_PER_RUN, rows - (run - 1) * EVENTS_PER_RUN)


def _customer_count(rows: int) -> int:
    return -(-_run_count(rows) // RUNS_PER_CUSTOMER)


def _customer_of(run: int) -> int:
    return (run - 1) // RUNS_PER_CUSTOMER + 1


def _week_of(run: int) -> int:
    return (run - 1) % RUNS_PER_CUSTOMER


def _period(week: int, today: dt.date) -> tuple[RunType, dt.date, dt.date]:
    """Return a period that ends with that week; the last week ended two days ago."""
    end = today - 2 * DAY - (RUNS_PER_CUSTOMER - 1 - week) * 7 * DAY
    if week % 4 == 3:
        return RunType.MONTHLY, end - 27 * DAY, end
    if week % 10 == 5:
        return RunType.CUSTOM, end - 9 * DAY, end
    return RunType.WEEKLY, end - 6 * DAY, end


def _start_time(customer: int, period_end: dt.date) -> dt.datetime:
    zone = ZONES[customer % len(ZONES)]
    return dt.datetime.combine(period_end + DAY, dt.time(5, customer % 60), zone)


def _successful_run(number: int, rows: int, today: dt.date, rng: random.Random) -> ReportRun:
    customer = _customer_of(number)
    run_type, start, end = _period(_week_of(number), today)
    started_at = _start_time(customer, end)
    return ReportRun(
        id=number,
        customer_id=customer,
        run_type=run_type,
        status=RunStatus.SUCCESS,
        period_start=start,
        period_end=end,
        started_at=started_at,
        finished_at=started_at + dt.timedelta(minutes=rng.uniform(1, 20)),
        summary_json={"drift_events": _event_count(number, rows)},
    )


def _unsuccessful_run(number: int, customer: int, today: dt.date, rng: random.Random) -> ReportRun:
    run_type, start, end = _period(RUNS_PER_CUSTOMER - 1, today)
    status = rng.choice([RunStatus.PENDING, RunStatus.RUNNING, RunStatus.FAILED])
    started_at = None if status == RunStatus.PENDING else _start_time(customer, end)
    failed_at = started_at and started_at + dt.timedelta(minutes=rng.uniform(1, 20))
    return ReportRun(
        id=number,
        customer_id=customer,
        run_type=run_type,
        status=status,
        period_start=start,
        period_end=end,
        started_at=started_at,
        finished_at=failed_at if status == RunStatus.FAILED else None,
        summary_json={"error": rng.choice(ALERT_ERRORS)} if status == RunStatus.FAILED else {},
    )


def _fields_of_run(run: int, today: dt.date) -> dict[str, Any]:
    customer = _customer_of(run)
    _, start, end = _period(_week_of(run), today)
    return {
        "customer_id": customer,
        "report_run_id": run,
        "baseline_start": start - BASELINE,
        "baseline_end": start - DAY,
        "current_start": start,
        "current_end": end,
        "created_at": _start_time(customer, end),
    }


def _drift_event(number: int, shared: dict[str, Any], rng: random.Random) -> DriftEvent:
    drift_type = rng.choice(DRIFT_TYPES)
    measure = MEASURES[drift_type]
    baseline = round(rng.uniform(measure.low, measure.high), measure.decimals)
    current = round(baseline * (1 + _change(rng)), measure.decimals)
    delta = current - baseline
    severity = min(1.0, abs(delta) / baseline)
    trend = _trend(delta, severity, measure)
    event = DriftEvent(
        id=number,
        payer=rng.choice(PAYERS),
        cpt_group=rng.choice(CPT_GROUPS),
        drift_type=drift_type,
        baseline_value=baseline,
        current_value=current,
        delta_value=delta,
        severity=severity,
        confidence=rng.uniform(0.4, 1),
        estimated_revenue_impact=_revenue_impact(trend, severity, rng),
        trend_direction=trend,
        consecutive_periods=rng.randrange(1, 9),
        suppressed=rng.random() < 0.05,
        potential_root_causes=rng.choice(ROOT_CAUSE_LISTS),
        **shared,
    )
    event.created_at += dt.timedelta(seconds=rng.uniform(1, 60))
    return event


def _change(rng: random.Random) -> float:
    return max(-0.9, min(0.6, rng.gauss(0, 0.3)))


def _trend(delta: float, severity: float, measure: Measure) -> Trend:
    if severity < 0.1:
        return Trend.STABLE
    return Trend.WORSENING if (delta > 0) == measure.rise_is_bad else Trend.IMPROVING


def _revenue_impact(trend: Trend, severity: float, rng: random.Random) -> Decimal | None:
    if rng.random() < 0.25:
        return None
    cents = int(severity * rng.uniform(10_000, 25_000_000))
    return Decimal(-cents if trend == Trend.WORSENING else cents).scaleb(-2)


def _rule_id(customer: int, position: int) -> int:
    return (customer - 1) * len(RULES) + position + 1


def _is_enabled(customer: int, position: int) -> bool:
    return (customer + position) % 7 != 0


def _triggered_rules(event: DriftEvent) -> Iterator[int]:
    if event.suppressed or event.trend_direction != Trend.WORSENING:
        return
    for position, (_, drift_type, threshold) in enumerate(RULES):
        matches = drift_type in ("", event.drift_type) and event.severity >= threshold
        if matches and _is_enabled(event.customer_id, position):
            yield position


def _alert_event(number: int, position: int, event: DriftEvent, rng: random.Random) -> AlertEvent:
    status = rng.choice(ALERT_STATUSES)
    triggered_at = event.created_at + dt.timedelta(seconds=rng.uniform(1, 60))
    was_sent = status not in (AlertStatus.PENDING, AlertStatus.FAILED)
    return AlertEvent(
        id=number,
        customer_id=event.customer_id,
        alert_rule_id=_rule_id(event.customer_id, position),
        drift_event_id=event.pk,
        status=status,
        triggered_at=triggered_at,
        notification_sent_at=triggered_at + dt.timedelta(seconds=rng.uniform(1, 600)) if was_sent else None,
        payload={"rule": RULES[position][0], "payer": event.payer, "severity": event.severity},
        error_message=rng.choice(ALERT_ERRORS) if status == AlertStatus.FAILED else "",
    )
