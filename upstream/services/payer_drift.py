"""Payer drift: what payers decide and pay differently now than in the twelve weeks before, found in SQL."""

import datetime as dt
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from heapq import nlargest
from typing import Any

from django.db import router, transaction

from upstream.reporting.wording import measured
from upstream.services.claim_measures import (
    DENIAL_RATE,
    MEASURES,
    PAYMENT_AMOUNT,
    Comparison,
    Measure,
    Windows,
    compare,
)
from upstream.services.drift_statistics import Sample, adjusted

logger = logging.getLogger(__name__)

BASELINE = dt.timedelta(weeks=12)
DAY = dt.timedelta(days=1)
# Smaller samples hardly tell anything from chance, and the mean of a few payments is that of its largest.
MIN_BASELINE_CLAIMS = 30
MIN_CURRENT_CLAIMS = 10
# Of what is reported, at most this share is expected to be chance.
FALSE_DISCOVERY_RATE = 0.05
# A real change that is smaller changes nothing for anyone: 2 points of denials, 10 % of time, 5 % of payment.
MIN_SEVERITY = 0.1
MOST_CAUSES = 3
MIN_SHARE = 0.1
BATCH_SIZE = 200
MAX_IMPACT = 10**10  # what the column of an event holds

Key = tuple[str, str, str]
ABOUT = ("payer", "cpt_group", "drift_type")


@dataclass(frozen=True, slots=True)
class Drift:
    """A change that is too large for chance. `p_value` is corrected for the number of tests.

    `payment` is the mean of what the payer paid for a claim of the group in the baseline, 0 if that is not known.
    """

    payer: str
    cpt_group: str
    measure: Measure
    baseline: Sample
    current: Sample
    payment: float
    p_value: float

    @property
    def key(self) -> Key:
        return self.payer, self.cpt_group, self.measure.drift_type

    @property
    def change(self) -> float:
        return self.current.mean - self.baseline.mean

    @property
    def severity(self) -> float:
        """The size of the change: 1 is 20 points of denials, half of the payment, or twice the time."""
        return self.measure.severity(self.baseline, self.current)

    @property
    def trend(self) -> str:
        return "worsening" if self.measure.is_worse(self.change) else "improving"

    @property
    def revenue_impact(self) -> float | None:
        """Dollars won or, negative, lost in the current window by the change; None if it moves no money.

        Claims that are denied in excess would have been paid as the baseline's were. Late money is not lost.
        """
        impact = {
            PAYMENT_AMOUNT.drift_type: self.change * self.current.size,
            DENIAL_RATE.drift_type: -self.change * self.current.size * self.payment or None,
        }.get(self.measure.drift_type)
        return None if impact is None or abs(impact) >= MAX_IMPACT else round(impact, 2)


def windows_of(current_start: dt.date, current_end: dt.date) -> Windows:
    """Return a window of days, and the twelve weeks before it as its baseline."""
    return Windows(current_start - BASELINE, current_start - DAY, current_start, current_end)


def find_drifts(claims: Any, current_start: dt.date, current_end: dt.date) -> list[Drift]:
    """Compare what was decided in a window of days with the twelve weeks before, for each payer and CPT group.

    Three drift types can be computed from claims. DENIAL_RATE is the share of denied claims among those paid or
    denied, DECISION_TIME the mean of the days from submission to that decision, PAYMENT_AMOUNT the mean paid
    amount of paid claims. (The approval rate is the other side of the denial rate; for delays and authorizations
    claims hold no facts.) Rates are compared by Pearson's or Fisher's test, means by Welch's, and the p-values
    corrected for their number (Benjamini and Hochberg).

    Args:
        claims: a queryset of claims, such as `customer.claims.all()`. One statement aggregates it.
        current_start, current_end: the first and the last day of the window.

    Returns:
        The drifts, the most severe first. Memory grows with the payers and groups, not with the claims.

    Raises:
        MissingDependencyError: scipy is not installed; the text names the command to run.
    """
    windows = windows_of(current_start, current_end)
    tested = list(_tested(compare(claims, windows, ("payer", "cpt_group"))))
    p_values = adjusted([drift.p_value for drift in tested])
    corrected = [replace(drift, p_value=p_value) for drift, p_value in zip(tested, p_values, strict=True)]
    found = [
        drift for drift in corrected if drift.p_value <= FALSE_DISCOVERY_RATE and drift.severity >= MIN_SEVERITY
    ]
    return sorted(found, key=lambda drift: (-drift.severity, drift.key))


def save_drift(report_run: Any) -> int:
    """Compute the drifts of a report run's period, and make them the run's events; return their number.

    An event that is found again, by its payer, CPT group and drift type, keeps its key and so its alerts, and
    whether it is acknowledged or suppressed; its figures become the new ones. Events that are not found any more
    are deleted. `consecutive_periods` counts on from the run of the same type that ends the day before this one
    starts. All is done in one transaction; the run's status stays as it is.

    Raises:
        MissingDependencyError: scipy is not installed; the text names the command to run.
    """
    database = router.db_for_write(type(report_run), instance=report_run)
    with transaction.atomic(using=database):
        # Two computations of one run at a time would both create its events.
        type(report_run)._default_manager.using(database).select_for_update().get(pk=report_run.pk)
        claims = report_run.customer.claims.using(database)
        events = report_run.drift_events.using(database)
        windows = windows_of(report_run.period_start, report_run.period_end)
        drifts = find_drifts(claims, report_run.period_start, report_run.period_end)
        known, gone = _known(events)
        streaks = _streaks(report_run, database)
        for batch in _batched(drifts):
            causes = find_causes(claims, windows, batch)
            figures = {drift.key: _figures(drift, windows, streaks, causes) for drift in batch}
            _store(report_run, events, figures, known)
        for keys in _batched([*gone, *known.values()]):
            events.filter(pk__in=keys).delete()
    logger.info("report run %s: %d drifts", report_run.pk, len(drifts))
    return len(drifts)


def find_causes(claims: Any, windows: Windows, drifts: Sequence[Drift]) -> dict[Key, list[dict[str, Any]]]:
    """Return for each drift, by its key, the CPT codes that contributed most to it, by one statement.

    A code's share is the part of the change that its own change explains; what the codes do not explain comes from
    another mix of them. Each cause is a dict of `cause` ("cpt" or "case_mix"), `share`, `note` and, of a code,
    `cpt`. A share may exceed 1 where another code changed the other way.
    """
    parts: dict[Key, list[tuple[float, str, str]]] = {drift.key: [] for drift in drifts}
    by_group = defaultdict(list)
    for drift in drifts:
        by_group[drift.payer, drift.cpt_group].append(drift)
    payers, groups = ({drift.payer for drift in drifts}, {drift.cpt_group for drift in drifts})
    chosen = claims.filter(payer__in=payers, cpt_group__in=groups)
    for found in compare(chosen, windows, ("payer", "cpt_group", "cpt")):
        payer, cpt_group, cpt = found.group
        for drift in by_group.get((payer, cpt_group), ()):
            parts[drift.key].append(_part(drift, cpt, *found.samples[drift.measure.drift_type]))
    return {drift.key: list(_causes(parts[drift.key])) for drift in drifts}


def _part(drift: Drift, cpt: str, baseline: Sample, current: Sample) -> tuple[float, str, str]:
    """Return a code's share of a drift, the code, and the words for it."""
    drift_type = drift.measure.drift_type
    before = baseline if baseline.size else drift.baseline
    share = current.size * (current.mean - before.mean) / (drift.current.size * drift.change)
    was = measured(baseline.mean, drift_type) if baseline.size else "no claims"
    return share, cpt, f"CPT {cpt}: {was} to {measured(current.mean, drift_type)}, {current.size:,} claims"


def _causes(parts: Sequence[tuple[float, str, str]]) -> Iterator[dict[str, Any]]:
    for share, cpt, note in nlargest(MOST_CAUSES, parts):
        if share >= MIN_SHARE:
            yield {"cause": "cpt", "cpt": cpt, "share": round(share, 3), "note": note}
    mix = 1 - sum(share for share, _, _ in parts)
    if mix >= MIN_SHARE:
        yield {"cause": "case_mix", "share": round(mix, 3), "note": "Other shares of the CPT codes than before"}


def _tested(comparisons: Iterable[Comparison]) -> Iterator[Drift]:
    """Yield what has enough claims to be tested, with its p-value."""
    for found in comparisons:
        payer, cpt_group = found.group
        payment = found.samples[PAYMENT_AMOUNT.drift_type][0].mean
        for measure in MEASURES:
            baseline, current = found.samples[measure.drift_type]
            if baseline.size >= MIN_BASELINE_CLAIMS and current.size >= MIN_CURRENT_CLAIMS:
                p_value = measure.p_value(baseline, current)
                yield Drift(payer, cpt_group, measure, baseline, current, payment, p_value)


def _known(events: Any) -> tuple[dict[Key, int], list[int]]:
    """Return the keys of a run's events by what they are about, and those of events about the same again."""
    known: dict[Key, int] = {}
    gone = []
    for pk, *about in events.order_by("pk").values_list("pk", *ABOUT):
        if known.setdefault((about[0], about[1], about[2]), pk) != pk:
            gone.append(pk)
    return known, gone


def _streaks(report_run: Any, database: str) -> dict[tuple[str, ...], int]:
    """Return the consecutive periods of what drifted in the run before this one, by its key and trend."""
    events = report_run.drift_events.model._default_manager.using(database).filter(
        report_run__customer_id=report_run.customer_id,
        report_run__run_type=report_run.run_type,
        report_run__period_end=report_run.period_start - DAY,
    )
    rows = events.values_list(*ABOUT, "trend_direction", "consecutive_periods")
    return {tuple(key): periods for *key, periods in rows}


def _figures(
    drift: Drift,
    windows: Windows,
    streaks: Mapping[tuple[str, ...], int],
    causes: Mapping[Key, list[dict[str, Any]]],
) -> dict[str, Any]:
    """Return what a new computation changes of an event; the rest is people's, or what it is found by."""
    return {
        "baseline_value": drift.baseline.mean,
        "current_value": drift.current.mean,
        "delta_value": drift.change,
        "severity": drift.severity,
        "confidence": 1 - drift.p_value,
        "p_value": drift.p_value,
        "baseline_claims": drift.baseline.size,
        "current_claims": drift.current.size,
        "estimated_revenue_impact": drift.revenue_impact,
        "trend_direction": drift.trend,
        "consecutive_periods": streaks.get((*drift.key, drift.trend), 0) + 1,
        "potential_root_causes": causes[drift.key],
        **asdict(windows),
    }


def _store(report_run: Any, events: Any, figures: Mapping[Key, dict[str, Any]], known: dict[Key, int]) -> None:
    """Update the events that are known by their keys, and take them out there; create the others."""
    new: list[Any] = []
    found: list[Any] = []
    for key, values in figures.items():
        about = dict(zip(ABOUT, key, strict=True), customer_id=report_run.customer_id, report_run_id=report_run.pk)
        event = events.model(pk=known.pop(key, None), **about, **values)
        (new if event.pk is None else found).append(event)
    events.bulk_create(new)
    if found:
        names = list(next(iter(figures.values())))  # each has the same
        events.bulk_update(found, names)


def _batched(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), BATCH_SIZE):
        yield items[start : start + BATCH_SIZE]
