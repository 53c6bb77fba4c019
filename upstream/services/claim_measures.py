"""What payers do with claims, measured in SQL: groups of claims in two windows of time, side by side."""

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, F, FloatField, Func, Q, Sum
from django.db.models.functions import Cast

from upstream.services.drift_statistics import Sample, mean_p_value, rate_p_value

DECIDED = Q(outcome__in=("PAID", "DENIED"))


class Days(Func):
    """The days from its second date to its first.

    Django's own difference of dates is a Python function on SQLite, and elsewhere a duration, which has no square.
    """

    arity = 2
    output_field = FloatField()
    template = "(%(expressions)s)"
    arg_joiner = " - "

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        joiner = ") - julianday("
        return self.as_sql(
            compiler, connection, template="(julianday(%(expressions)s))", arg_joiner=joiner, **context
        )

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        # The square of a century in days is too large for an integer.
        template = "((%(expressions)s)::double precision)"
        return self.as_sql(compiler, connection, template=template, **context)

    def as_mysql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="DATEDIFF(%(expressions)s)", arg_joiner=", ", **context)


@dataclass(frozen=True, slots=True)
class Measure:
    """A drift type that claims can tell of.

    `claims` are those that count. Of a rate, `hits` are the ones among its zeros; of a mean, `value` is averaged.
    A change of `worst` has the severity 1: in points of a rate, or relative to the baseline of a mean.
    """

    drift_type: str
    claims: Q
    worst: float
    rise_is_bad: bool
    hits: Q | None = None
    value: Any = None

    def severity(self, baseline: Sample, current: Sample) -> float:
        change = abs(current.mean - baseline.mean)
        if not change:
            return 0.0
        worst = self.worst if self.hits else self.worst * abs(baseline.mean)
        # Whatever changes from a mean of 0 changes beyond measure.
        return min(1.0, change / worst) if worst else 1.0

    def p_value(self, baseline: Sample, current: Sample) -> float:
        return rate_p_value(baseline, current) if self.hits else mean_p_value(baseline, current)

    def is_worse(self, change: float) -> bool:
        return (change > 0) == self.rise_is_bad

    def aggregates(self, name: str, window: Q) -> dict[str, Any]:
        """Return the aggregates of a sample, by names that begin with `name`."""
        where = self.claims & window
        size = Count("pk", filter=where)
        if self.hits:
            return {f"{name}_size": size, f"{name}_total": Count("pk", filter=where & self.hits)}
        return {
            f"{name}_size": size,
            f"{name}_total": Sum(self.value, filter=where),
            f"{name}_squares": Sum(self.value * self.value, filter=where),
        }

    def sample(self, row: dict[str, Any], name: str) -> Sample:
        """Return the sample of such aggregates."""
        total = float(row[f"{name}_total"] or 0)
        return Sample(row[f"{name}_size"], total, total if self.hits else float(row[f"{name}_squares"] or 0))


DENIAL_RATE = Measure("DENIAL_RATE", claims=DECIDED, hits=Q(outcome="DENIED"), worst=0.2, rise_is_bad=True)
DECISION_TIME = Measure(
    "DECISION_TIME",
    claims=DECIDED,
    value=Days(F("decided_date"), F("submitted_date")),
    worst=1.0,
    rise_is_bad=True,
)
PAYMENT_AMOUNT = Measure(
    "PAYMENT_AMOUNT",
    claims=Q(outcome="PAID", paid_amount__isnull=False),
    value=Cast("paid_amount", FloatField()),
    worst=0.5,
    rise_is_bad=False,
)
MEASURES = (DENIAL_RATE, DECISION_TIME, PAYMENT_AMOUNT)


@dataclass(frozen=True, slots=True)
class Windows:
    """The current days, and those before them that they are compared with; both with their first and last day."""

    baseline_start: dt.date
    baseline_end: dt.date
    current_start: dt.date
    current_end: dt.date


@dataclass(frozen=True, slots=True)
class Comparison:
    """A group of claims: the values it is grouped by, and by drift type its samples, baseline and current."""

    group: tuple[str, ...]
    samples: dict[str, tuple[Sample, Sample]]


def compare(claims: Any, windows: Windows, group_by: Sequence[str]) -> Iterator[Comparison]:
    """Yield the groups of the claims that were decided in the windows, aggregated by one statement."""
    baseline, current = Q(decided_date__lt=windows.current_start), Q(decided_date__gte=windows.current_start)
    aggregates: dict[str, Any] = {}
    for measure in MEASURES:
        aggregates |= measure.aggregates(f"{measure.drift_type}_baseline", baseline)
        aggregates |= measure.aggregates(f"{measure.drift_type}_current", current)
    rows = claims.filter(decided_date__range=(windows.baseline_start, windows.current_end))
    for row in rows.order_by().values(*group_by).annotate(**aggregates).iterator():
        samples = {
            measure.drift_type: (
                measure.sample(row, f"{measure.drift_type}_baseline"),
                measure.sample(row, f"{measure.drift_type}_current"),
            )
            for measure in MEASURES
        }
        yield Comparison(tuple(row[name] for name in group_by), samples)
