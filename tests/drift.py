"""Drift events as plain dicts, the same for the same seed."""

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

END = date(2026, 11, 22)
START = END - timedelta(days=6)
RATES = ("DENIAL_RATE", "APPROVAL_RATE", "AUTH_FAILURE_RATE")
KINDS = (*RATES, "DECISION_TIME", "PAYMENT_AMOUNT", "PROCESSING_DELAY")
FOUND = datetime(2026, 11, 23, 5, tzinfo=UTC)


def drift_event(**values):
    """Return the event of the field's own example, or one that differs from it in these values."""
    event = {
        "payer": "Medicare",
        "cpt_group": "MRI of the brain 70551-70553",
        "drift_type": "DENIAL_RATE",
        "baseline_value": 0.1724,
        "current_value": 0.2687,
        "severity": 0.56,
        "confidence": 0.9,
        "estimated_revenue_impact": Decimal("-85419.00"),
        "trend_direction": "worsening",
        "consecutive_periods": 1,
        "baseline_claims": 14_332,
        "current_claims": 1_204,
        "p_value": 0.0001,
        "potential_root_causes": [],
        "suppressed": False,
        "acknowledged_at": None,
        "current_start": START,
        "current_end": END,
        "created_at": FOUND,
    }
    return event | values


def drift_events(number, seed=0, payers=12):
    rng = random.Random(seed)
    for _ in range(number):
        baseline = rng.uniform(0.05, 0.5)
        end = END - timedelta(weeks=rng.randrange(14))
        yield drift_event(
            payer=f"Payer {rng.randrange(payers)}",
            drift_type=rng.choice(KINDS),
            baseline_value=baseline,
            current_value=baseline * rng.uniform(0.5, 1.9),
            severity=rng.choice([0.0, 0.2499, 0.25, 0.5, rng.random(), 1.0]),
            estimated_revenue_impact=rng.choice([None, Decimal(rng.randrange(-(10**8), 10**8)).scaleb(-2)]),
            trend_direction=rng.choice(["worsening", "improving", "stable"]),
            consecutive_periods=rng.randrange(1, 5),
            suppressed=rng.random() < 0.1,
            acknowledged_at=rng.choice([None, FOUND + timedelta(minutes=rng.randrange(5000))]),
            current_start=end - timedelta(days=6),
            current_end=end,
        )


def stored(customer, run, events):
    """Save events as those of a run, and return them as a queryset."""
    model = run.drift_events.model
    shared = {"customer": customer, "report_run": run}
    run.drift_events.bulk_create(
        [
            model(
                **event,
                **shared,
                baseline_start=event["current_start"] - timedelta(weeks=12),
                baseline_end=event["current_start"] - timedelta(days=1),
                delta_value=event["current_value"] - event["baseline_value"],
            )
            for event in events
        ]
    )
    return run.drift_events.order_by("pk")
