"""Patterns in claims that somebody should look at, found in one pass and in memory that the rows do not change."""

from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from math import expm1, isfinite, log1p
from typing import Any

from django.db.models import Manager, QuerySet

from upstream.services.claim_values import parsed_amount, parsed_date
from upstream.streaming.batches import BatchLimits
from upstream.streaming.columns import as_columns
from upstream.streaming.sources import as_source

FIELDS = (
    "payer",
    "submitted_date",
    "decided_date",
    "outcome",
    "billed_amount",
    "allowed_amount",
    "paid_amount",
)
# Shares of a payer's claims, or of all for the first, from which on a pattern is told.
CONCENTRATION = 0.5
SAME_DAY = 0.25
DENIED = 0.5
ZERO = 0.05
# Tukey's outer fence: beyond the third quartile by three times the distance between the quartiles.
FENCE = 3
# An amount is counted within 5 % of itself: some 250 counters span a cent and ten billion dollars.
STEP = 0.05
# Payers beyond these are counted together: dirty data may have a "payer" in every row.
MAX_PAYERS = 10_000
OTHERS = "(all other payers)"


def find_patterns(claims: Iterable[Any], min_count: int, today: date) -> list[dict[str, Any]]:
    """Return what `DataQualityService.flag_suspicious_patterns` returns."""
    payers: dict[str, _Payer] = {}
    with closing(_rows(claims)) as rows:
        for payer, *facts in rows:
            name = str(payer or "").strip() or "(no payer)"
            if name not in payers and len(payers) >= MAX_PAYERS:
                name = OTHERS
            if (tally := payers.get(name)) is None:
                tally = payers[name] = _Payer()
            tally.add(facts, today)
    total = sum(tally.claims for tally in payers.values())
    found = [
        _described(pattern, name, count, of)
        for name, tally in payers.items()
        for pattern, count, of in tally.patterns(total, alone=len(payers) == 1 or name == OTHERS)
        if count >= min_count
    ]
    return sorted(found, key=lambda one: (-one["count"], one["pattern"], one["payer"]))


def _rows(claims: Iterable[Any]) -> Generator[tuple[Any, ...]]:
    """Yield the values of FIELDS of each claim: a dict, an object, or a row of a queryset."""
    if isinstance(claims, Manager | QuerySet):
        queryset = claims.all()
        is_whole = not (queryset.query.is_sliced or queryset.query.combinator)
        # Windows by the key hold nothing open; the order makes no difference. A slice is read by one statement.
        queryset = queryset.order_by("pk") if is_whole else queryset
        source = as_source(queryset, as_columns(FIELDS), windows=is_whole)
        with source.open(BatchLimits()) as (_, batches):
            for batch in batches:
                yield from batch
        return
    for claim in claims:
        if isinstance(claim, Mapping):
            yield tuple(claim.get(name) for name in FIELDS)
        else:
            yield tuple(getattr(claim, name, None) for name in FIELDS)


@dataclass(slots=True)
class _Payer:
    """The counts of one payer's claims."""

    claims: int = 0
    same_day: int = 0
    decided: int = 0
    denied: int = 0
    paid: int = 0
    zero: int = 0
    future: int = 0
    billed: Counter[int] = field(default_factory=Counter)
    """How many amounts fall into each step of the logarithmic scale."""

    def add(self, facts: Sequence[Any], today: date) -> None:
        submitted, decided, outcome, billed, allowed, paid = facts
        first, last = _date(submitted), _date(decided)
        result = str(outcome or "").strip().upper()
        amounts = _amount(billed), _amount(allowed), _amount(paid)
        self.claims += 1
        self.decided += last is not None
        self.same_day += last is not None and first == last
        self.future += any(day is not None and day > today for day in (first, last))
        self.denied += result == "DENIED"
        self.paid += result == "PAID"
        self.zero += result == "PAID" and 0 in amounts
        if (amount := amounts[0]) is not None and amount >= 0:
            self.billed[round(log1p(float(amount)) / STEP)] += 1

    def patterns(self, total: int, *, alone: bool) -> Iterator[tuple[str, int, int]]:
        """Yield the patterns that are above their share, each with how many claims show it, of how many."""
        if not alone and self.claims > CONCENTRATION * total:
            yield "payer_concentration", self.claims, total
        for pattern, count, of, share in (
            ("same_day_processing", self.same_day, self.decided, SAME_DAY),
            ("denial_rate", self.denied, self.claims, DENIED),
            ("zero_amounts", self.zero, self.paid, ZERO),
            ("future_dates", self.future, self.claims, 0),
            ("outliers", self._outliers(), self.billed.total(), 0),
        ):
            if count and count >= share * of:
                yield pattern, count, of

    def _outliers(self) -> int:
        """Count the billed amounts beyond Tukey's outer fence, above which one in 400,000 normal values lies."""
        count = self.billed.total()
        steps = sorted(self.billed)
        low, high = (expm1(STEP * self._step_at(steps, share * count)) for share in (0.25, 0.75))
        fence = high + FENCE * (high - low)
        return sum(self.billed[step] for step in steps if expm1(STEP * step) > fence * (1 + STEP))

    def _step_at(self, steps: list[int], rank: float) -> int:
        seen = 0
        for step in steps:
            seen += self.billed[step]
            if seen >= rank:
                return step
        return 0


def _described(pattern: str, payer: str, count: int, of: int) -> dict[str, Any]:
    words = {
        "payer_concentration": "of all claims are of this payer",
        "same_day_processing": "of the decided claims were decided on the day of their submission",
        "denial_rate": "of the claims were denied",
        "zero_amounts": "of the paid claims have an amount of 0",
        "future_dates": "of the claims have a date in the future",
        "outliers": "of the billed amounts are far above the others of this payer",
    }[pattern]
    share = count / of
    return {
        "pattern": pattern,
        "payer": payer,
        "count": count,
        "of": of,
        "share": share,
        "message": f"{payer}: {share:.1%} {words} ({count:,} of {of:,})",
    }


def _date(value: Any) -> date | None:
    """Return a date; None for what is none, which `validate_claim_data` tells of."""
    if isinstance(value, datetime):
        return value.date()
    if value is None or isinstance(value, date):
        return value
    try:
        return parsed_date(str(value))
    except ValueError:
        return None


def _amount(value: Any) -> float | None:
    if value is None or isinstance(value, bool):
        return None
    try:
        amount = float(value if isinstance(value, int | float | Decimal) else parsed_amount(str(value)))
    except (ValueError, OverflowError):
        return None
    return amount if isfinite(amount) else None
