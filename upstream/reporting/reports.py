"""Reports as plain structures: dicts and lists of texts, numbers, Decimals and dates."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from upstream.reporting.facts import BY_PAYER, ZERO, Facts, Tally, by_week, gather
from upstream.reporting.wording import LEVELS

Report = dict[str, Any]

WEEKS = 12


def payer_summary(drift_events: Any, *, most_payers: int | None = None, **about: Any) -> Report:
    """Return `ReportGenerationService.generate_payer_summary`'s report."""
    facts = gather(drift_events, by=BY_PAYER)
    return {
        "kind": "payer_summary",
        "title": "Payers",
        **_about(**about),
        "totals": _totals(facts),
        "payers": list(_payers(facts.payers, most_payers)),
        "more_payers": _rest(len(facts.payers), most_payers),
    }


def drift_report(
    drift_events: Any,
    *,
    history: Any = None,
    most_events: int = 20,
    most_payers: int | None = 10,
    period_end: date | None = None,
    **about: Any,
) -> Report:
    """Return `ReportGenerationService.generate_drift_report`'s report."""
    facts = gather(drift_events, most=most_events)
    days = facts.days if history is None else gather(history).days
    weeks = by_week(days, weeks=WEEKS, last=period_end)
    return {
        "kind": "drift",
        "title": "Payer drift",
        **_about(period_end=period_end, **about),
        "totals": _totals(facts),
        "severity": [{"level": name, **_sums(facts.levels.get(name, Tally()))} for name in LEVELS],
        "drift_types": [
            {"drift_type": name, **_sums(tally)} for name, tally in _by_cost(facts.drift_types.items())
        ],
        "payers": list(_payers(facts.payers, most_payers)),
        "more_payers": _rest(len(facts.payers), most_payers),
        "weeks": [{"week": monday, **_sums(tally)} for monday, tally in weeks],
        "events": facts.costliest,
        "more_events": _rest(facts.total.events, most_events),
    }


def recovery_stats(drift_events: Any, *, most_payers: int | None = None, **about: Any) -> Report:
    """Return `ReportGenerationService.generate_recovery_stats`'s report."""
    facts = gather(drift_events, by=BY_PAYER)
    return {
        "kind": "recovery",
        "title": "Recovery",
        **_about(**about),
        "totals": {**_totals(facts), **_recovery(facts.total)},
        "payers": [
            {"payer": payer, **_sums(tally), **_recovery(tally)}
            for payer, tally in _by_cost(facts.payers.items())[:most_payers]
        ],
        "more_payers": _rest(len(facts.payers), most_payers),
    }


def _about(customer: Any = "", period_start: date | None = None, period_end: date | None = None) -> Report:
    if period_start and period_end and period_end < period_start:
        raise ValueError(f"the period ends on {period_end}, before it starts on {period_start}")
    return {"customer": str(customer), "period_start": period_start, "period_end": period_end}


def _totals(facts: Facts) -> Report:
    return {"payers": len(facts.payers), **_sums(facts.total), "suppressed": facts.suppressed}


def _sums(tally: Tally) -> Report:
    return {
        "events": tally.events,
        "worsening": tally.worsening,
        "improving": tally.improving,
        "revenue_at_risk": tally.at_risk,
        "revenue_gained": tally.gained,
        "average_severity": round(tally.average_severity, 4),
        "highest_severity": tally.highest,
    }


def _payers(payers: Mapping[str, Tally], most: int | None) -> Iterator[Report]:
    for payer, tally in _by_cost(payers.items())[:most]:
        yield {"payer": payer, **_sums(tally)}


def _recovery(tally: Tally) -> Report:
    moved = tally.at_risk + tally.gained
    return {
        "acknowledged": tally.acknowledged,
        "acknowledged_share": _share(tally.acknowledged, tally.events),
        "acknowledged_at_risk": tally.acknowledged_at_risk,
        "open_at_risk": tally.at_risk - tally.acknowledged_at_risk,
        "recovered_share": _share(tally.gained, moved),
        "hours_to_acknowledge": _hours(tally),
    }


def _share(part: Decimal | int, whole: Decimal | int) -> float | None:
    return round(float(part / whole), 4) if whole else None


def _hours(tally: Tally) -> float | None:
    if not tally.acknowledged:
        return None
    return round(tally.wait.total_seconds() / 3600 / tally.acknowledged, 2)


def _by_cost(groups: Iterable[tuple[str, Tally]]) -> list[tuple[str, Tally]]:
    """Return groups, those with the most revenue at risk first, then those with the most events, then by name."""
    return sorted(groups, key=lambda group: (ZERO - group[1].at_risk, -group[1].events, group[0]))


def _rest(number: int, most: int | None) -> int:
    return 0 if most is None else max(0, number - most)
