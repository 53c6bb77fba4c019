"""Drift in the words of a revenue manager: "17.2 % to 26.9 %, +9.6 points, $85,419 at risk"."""

from datetime import date
from decimal import Decimal
from typing import NamedTuple

Amount = float | Decimal

MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"


class DriftType(NamedTuple):
    """What a drift type is called, and what its values count: a rate from 0 to 1, days or dollars."""

    label: str
    unit: str


DRIFT_TYPES = {
    "DENIAL_RATE": DriftType("Denial rate", "rate"),
    "DECISION_TIME": DriftType("Decision time", "days"),
    "PAYMENT_AMOUNT": DriftType("Payment amount", "dollars"),
    "APPROVAL_RATE": DriftType("Approval rate", "rate"),
    "PROCESSING_DELAY": DriftType("Processing delay", "days"),
    "AUTH_FAILURE_RATE": DriftType("Authorization failure rate", "rate"),
}
# The lowest severity of each level, the highest first.
LEVELS = {"high": 0.5, "medium": 0.25, "low": 0.0}


def drift_label(drift_type: str) -> str:
    """Return what a drift type is called.

    >>> drift_label("AUTH_FAILURE_RATE")
    'Authorization failure rate'
    """
    known = DRIFT_TYPES.get(drift_type)
    return known.label if known else drift_type.replace("_", " ").capitalize()


def unit_of(drift_type: str) -> str:
    """Return what the values of a drift type count: "rate" (0 to 1), "days" or "dollars"."""
    known = DRIFT_TYPES.get(drift_type)
    return known.unit if known else "rate"


def measured(value: float, drift_type: str) -> str:
    """Return a value of a drift type with its unit.

    >>> measured(0.172, "DENIAL_RATE"), measured(12.04, "DECISION_TIME"), measured(412.6, "PAYMENT_AMOUNT")
    ('17.2 %', '12.0 days', '$413')
    """
    unit = unit_of(drift_type)
    if unit == "rate":
        return percent(value)
    return f"{_signed(value, '.1f')} days" if unit == "days" else dollars(value)


def percent(share: float) -> str:
    """Return a share from 0 to 1 as a percentage with one decimal."""
    return f"{_signed(share * 100, '.1f')} %"


def difference(delta: float, drift_type: str) -> str:
    """Return a change of a drift type's value with its sign and unit; that of a rate is in points.

    >>> difference(0.0963, "DENIAL_RATE"), difference(2.5, "DECISION_TIME"), difference(40, "PAYMENT_AMOUNT")
    ('+9.6 points', '+2.5 days', '+$40')
    """
    sign, size, unit = MINUS if delta < 0 else "+", abs(delta), unit_of(drift_type)
    if unit == "rate":
        return f"{sign}{size * 100:.1f} points"
    return f"{sign}{size:.1f} days" if unit == "days" else f"{sign}${size:,.0f}"


def change(drift_type: str, baseline: float, current: float) -> str:
    """Return how a value moved, in words.

    >>> change("DENIAL_RATE", 0.1724, 0.2687)
    '17.2 % to 26.9 %, +9.6 points'
    """
    moved = f"{measured(baseline, drift_type)} to {measured(current, drift_type)}"
    return f"{moved}, {difference(current - baseline, drift_type)}"


def dollars(amount: Amount | None) -> str:
    """Return an amount without cents, and a dash where there is none.

    >>> dollars(Decimal("85418.60")), dollars(-0.3)
    ('$85,419', '$0')
    """
    if amount is None:
        return NONE
    digits = f"${abs(amount):,.0f}"
    return f"{MINUS}{digits}" if amount < 0 and digits != "$0" else digits


def impact(amount: Amount | None) -> str:
    """Return what an estimated revenue impact means; a negative one is revenue at risk.

    >>> impact(Decimal("-85419.00")), impact(1200), impact(0), impact(None), impact(-0.3)
    ('$85,419 at risk', '$1,200 gained', 'no revenue at stake', 'no estimate', 'less than $1 at risk')
    """
    if amount is None:
        return "no estimate"
    if not amount:
        return "no revenue at stake"
    size = -amount if amount < 0 else amount
    words = dollars(size) if size >= 1 else "less than $1"
    return f"{words} at risk" if amount < 0 else f"{words} gained"


def capitalized(text: str | None) -> str | None:
    """Return a text with a capital letter, and None where there is none."""
    return text and text.capitalize()


def level(severity: float) -> str:
    """Return the level of a severity from 0 to 1: "high", "medium" or "low"."""
    return next((name for name, lowest in LEVELS.items() if severity >= lowest), "low")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, given in the plural.

    >>> counted(1, "events"), counted(5000, "events")
    ('1 event', '5,000 events')
    """
    return f"{number:,} {noun.removesuffix('s') if number == 1 else noun}"


def day(moment: date) -> str:
    """Return a day, such as Nov 27, 2026.

    >>> day(date(2026, 11, 27))
    'Nov 27, 2026'
    """
    return f"{short_day(moment)}, {moment.year}"


def short_day(moment: date) -> str:
    """Return a day without its year, such as Nov 27."""
    return f"{MONTHS[moment.month - 1]} {moment.day}"


def period(start: date, end: date) -> str:
    """Return a period by its first and last day.

    >>> period(date(2026, 11, 16), date(2026, 11, 22)), period(date(2026, 12, 28), date(2027, 1, 3))
    ('Nov 16 to 22, 2026', 'Dec 28, 2026 to Jan 3, 2027')
    """
    if start.year != end.year:
        return f"{day(start)} to {day(end)}"
    last = str(end.day) if start.month == end.month else short_day(end)
    return f"{short_day(start)} to {last}, {end.year}"


def sample(baseline_claims: int | None, current_claims: int | None) -> str:
    """Return the sizes of two samples, or nothing where they are not known.

    >>> sample(14332, 1204)
    '1,204 claims against 14,332'
    """
    if baseline_claims is None or current_claims is None:
        return ""
    return f"{counted(current_claims, 'claims')} against {baseline_claims:,}"


def significance(p_value: float | None) -> str:
    """Return a p-value as it is read, or nothing where there is none.

    >>> significance(0.0312), significance(1e-9)
    ('p = 0.031', 'p < 0.001')
    """
    if p_value is None:
        return ""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def hours(number: float | None) -> str:
    """Return a number of hours; from two days on in days.

    >>> hours(7.25), hours(60)
    ('7.2 hours', '2.5 days')
    """
    if number is None:
        return NONE
    return f"{number:.1f} hours" if number < 48 else f"{number / 24:.1f} days"


def _signed(value: Amount, spec: str) -> str:
    digits = f"{abs(value):{spec}}"
    return f"{MINUS}{digits}" if value < 0 and digits.strip("0.") else digits


# Not those of the process's locale, which strftime has.
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
