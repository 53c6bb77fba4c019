"""Facts of drift events: counts and sums by payer, drift type, level and day, and the events that cost most.

A queryset is grouped by the database; an iterable is read once. Both give the same facts.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from heapq import heapify, heappushpop
from itertools import count
from typing import Any, NamedTuple, TypeVar

from django.db.models import Case, Count, F, Max, Q, QuerySet, Sum, Value, When
from django.db.models.functions import Coalesce, Least

from upstream.reporting.wording import LEVELS, level
from upstream.streaming import SourceError

Key = TypeVar("Key")

CENT = Decimal("0.01")
ZERO = Decimal("0.00")
# What a report shows of one event; an event that lacks one of the later ones is shown without it.
NEEDED = ("payer", "drift_type", "baseline_value", "current_value", "severity")
SHOWN = (
    *("payer", "cpt_group", "drift_type", "baseline_value", "current_value", "severity", "confidence"),
    *("estimated_revenue_impact", "trend_direction", "consecutive_periods", "baseline_claims", "current_claims"),
    *("p_value", "acknowledged_at", "potential_root_causes"),
)
GROUPED = ("current_end", "payer", "suppressed", "drift_type", "level")
# What suffices for reports of payers, in the order of an index that holds all they need.
BY_PAYER = GROUPED[:3]
READ = (*SHOWN, "suppressed", "current_end", "created_at")


@dataclass(slots=True)
class Tally:
    """What a group of drift events adds up to. `at_risk` is the sum of the negative impacts, without its sign."""

    events: int = 0
    worsening: int = 0
    improving: int = 0
    acknowledged: int = 0
    at_risk: Decimal = ZERO
    gained: Decimal = ZERO
    acknowledged_at_risk: Decimal = ZERO
    severity: float = 0.0
    highest: float = 0.0
    wait: timedelta = timedelta()

    def add(self, other: "Tally") -> None:
        highest = max(self.highest, other.highest)
        for name in TALLIED:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.highest = highest

    @property
    def average_severity(self) -> float:
        return self.severity / self.events if self.events else 0.0


TALLIED = [one.name for one in fields(Tally)]


class Group(NamedTuple):
    """Events that share what a report groups by; what it does not group by is empty."""

    payer: str
    current_end: date | None
    suppressed: bool
    tally: Tally
    drift_type: str = ""
    level: str = ""


@dataclass
class Facts:
    """What reports are made of. Suppressed events are counted, and are in nothing else."""

    total: Tally = field(default_factory=Tally)
    suppressed: int = 0
    payers: dict[str, Tally] = field(default_factory=dict)
    drift_types: dict[str, Tally] = field(default_factory=dict)
    levels: dict[str, Tally] = field(default_factory=dict)
    days: dict[date | None, Tally] = field(default_factory=dict)
    costliest: list[dict[str, Any]] = field(default_factory=list)

    def add(self, group: Group) -> None:
        if group.suppressed:
            self.suppressed += group.tally.events
            return
        self.total.add(group.tally)
        _add(self.payers, group.payer, group.tally)
        _add(self.drift_types, group.drift_type, group.tally)
        _add(self.levels, group.level, group.tally)
        _add(self.days, group.current_end, group.tally)


def _add(groups: dict[Key, Tally], key: Key, tally: Tally) -> None:
    groups.setdefault(key, Tally()).add(tally)


def gather(events: Any, *, most: int = 0, by: tuple[str, ...] = GROUPED) -> Facts:
    """Return the facts of drift events, with the `most` costliest of them.

    `events` is a queryset, or an iterable of dicts or objects, which is read once. Memory grows with the payers
    and days, not with the events. A record that lacks a field that reports need raises SourceError. A queryset is
    grouped `by` these names; facts of the others are left out then.
    """
    if isinstance(events, QuerySet) and _can_group(events):
        return _from_queryset(events, most, by)
    if isinstance(events, QuerySet):
        return _from_records(events.values(*READ).iterator(), most)
    if isinstance(events, Mapping | str) or not isinstance(events, Iterable):
        raise SourceError(f"drift events must be a queryset or an iterable of dicts, not {type(events).__name__}")
    return _from_records(events, most)


def _can_group(events: QuerySet[Any]) -> bool:
    """Whether a further grouping of the queryset counts the same rows: not of a slice, a union, a grouping."""
    query = events.query
    return not (query.is_sliced or query.combinator or query.distinct or query.annotations)


def _from_queryset(events: QuerySet[Any], most: int, by: tuple[str, ...]) -> Facts:
    facts = Facts()
    levels = Case(*(When(severity__gte=lowest, then=Value(name)) for name, lowest in LEVELS.items()))
    grouped = events.order_by().annotate(level=levels).values(*by).annotate(**_measures())
    for row in grouped.iterator():
        tally = Tally(**{name: _or_zero(row[f"sum_{name}"], name) for name in TALLIED})
        facts.add(Group(**{name: row[name] for name in by}, tally=tally))
    if most:
        cost = Least(Coalesce("estimated_revenue_impact", ZERO), ZERO)
        shown = events.filter(suppressed=False).order_by(cost, "-severity", "pk")
        facts.costliest = list(shown.values(*SHOWN)[:most])
    return facts


def _measures() -> dict[str, Any]:
    lost, acknowledged = Q(estimated_revenue_impact__lt=0), Q(acknowledged_at__isnull=False)
    impact = "estimated_revenue_impact"
    measures = {
        # Not of the key, which the index of BY_PAYER does not have.
        "events": Count("payer"),
        "worsening": Count("payer", filter=Q(trend_direction="worsening")),
        "improving": Count("payer", filter=Q(trend_direction="improving")),
        "acknowledged": Count("acknowledged_at"),
        "at_risk": Sum(impact, filter=lost),
        "gained": Sum(impact, filter=Q(estimated_revenue_impact__gt=0)),
        "acknowledged_at_risk": Sum(impact, filter=lost & acknowledged),
        "severity": Sum("severity"),
        "highest": Max("severity"),
        "wait": Sum(F("acknowledged_at") - F("created_at"), filter=acknowledged),
    }
    return {f"sum_{name}": measure for name, measure in measures.items()}


def _or_zero(value: Any, name: str) -> Any:
    if value is None:
        return getattr(Tally(), name)
    return abs(value).quantize(CENT) if isinstance(value, Decimal) else value


def _from_records(events: Iterable[Any], most: int) -> Facts:
    facts, costliest = Facts(), _Costliest(most)
    for number, event in enumerate(events, 1):
        record = _record(event, number)
        impact = _impact(record, number)
        facts.add(_group(record, impact))
        if not record["suppressed"]:
            costliest.add(record, impact)
    facts.costliest = costliest.listed()
    return facts


def _record(event: Any, number: int) -> dict[str, Any]:
    if isinstance(event, Mapping):
        record = {name: event.get(name) for name in READ}
    else:
        record = {name: getattr(event, name, None) for name in READ}
    missing = [name for name in NEEDED if record[name] is None]
    if missing:
        raise SourceError(f"drift event {number} lacks {', '.join(missing)}; it needs {', '.join(NEEDED)}")
    return record


def _impact(record: Mapping[str, Any], number: int) -> Decimal:
    impact = record["estimated_revenue_impact"]
    if impact is None:
        return ZERO
    try:
        amount = Decimal(str(impact)).quantize(CENT)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite():
        raise SourceError(f"the estimated_revenue_impact of drift event {number} is no amount: {impact!r:.100}")
    return amount


def _group(record: Mapping[str, Any], impact: Decimal) -> Group:
    at_risk, is_known = max(-impact, ZERO), record["acknowledged_at"] is not None
    tally = Tally(
        events=1,
        worsening=int(record["trend_direction"] == "worsening"),
        improving=int(record["trend_direction"] == "improving"),
        acknowledged=int(is_known),
        at_risk=at_risk,
        gained=max(impact, ZERO),
        acknowledged_at_risk=at_risk if is_known else ZERO,
        severity=record["severity"],
        highest=record["severity"],
        wait=record["acknowledged_at"] - record["created_at"]
        if is_known and record["created_at"]
        else timedelta(),
    )
    return Group(
        payer=record["payer"],
        current_end=record["current_end"],
        suppressed=bool(record["suppressed"]),
        tally=tally,
        drift_type=record["drift_type"],
        level=level(record["severity"]),
    )


class _Costliest:
    """The events with the most revenue at risk, then the severest, then the first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._heap: list[tuple[Decimal, float, int, dict[str, Any]]] = []
        self._numbers = count()

    def add(self, record: Mapping[str, Any], impact: Decimal) -> None:
        at_risk = max(-impact, ZERO)
        entry = (at_risk, record["severity"], -next(self._numbers), {name: record[name] for name in SHOWN})
        if len(self._heap) < self._most:
            self._heap.append(entry)
            if len(self._heap) == self._most:
                heapify(self._heap)
        elif self._most:
            heappushpop(self._heap, entry)

    def listed(self) -> list[dict[str, Any]]:
        return [entry[-1] for entry in sorted(self._heap, key=_rank, reverse=True)]


def _rank(entry: tuple[Decimal, float, int, dict[str, Any]]) -> tuple[Decimal, float, int]:
    return entry[:3]


def by_week(
    days: Mapping[date | None, Tally], *, weeks: int, last: date | None = None
) -> Iterator[tuple[date, Tally]]:
    """Yield `weeks` weeks by their Mondays, the empty ones too; nothing if no day is known.

    They end with the week of the day `last` or, without it, of the last day that has events.
    """
    known = {day: tally for day, tally in days.items() if day is not None}
    if not known:
        return
    monday = _monday(last or max(known))
    folded = {monday - timedelta(weeks=back): Tally() for back in reversed(range(weeks))}
    for day, tally in known.items():
        if _monday(day) in folded:
            folded[_monday(day)].add(tally)
    yield from folded.items()


def _monday(day: date) -> date:
    return day - timedelta(days=day.weekday())
