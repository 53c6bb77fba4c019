"""Drift in the words of a revenue manager: "17.2 % to 26.9 %, +9.6 points, $85,419 at risk"."""

from datetime import date
from decimal import Decimal
from typing import Any

from django.template import Library

from upstream.models import AlertStatus, DriftType, RunStatus

register = Library()

RATES = (DriftType.DENIAL_RATE, DriftType.APPROVAL_RATE, DriftType.AUTH_FAILURE_RATE)
DAYS = (DriftType.DECISION_TIME, DriftType.PROCESSING_DELAY)
# The lowest severity of each level, the highest first; a rule's threshold is on the same scale.
LEVELS = {"high": 0.5, "medium": 0.25, "low": 0.0}
MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"
BYTE_UNITS = ("bytes", "kB", "MB", "GB", "TB")
TONES: dict[str, str] = {
    RunStatus.FAILED: "warn",
    RunStatus.PENDING: "wait",
    RunStatus.SUCCESS: "good",
    AlertStatus.RESOLVED: "good",
}


@register.filter
def baseline(event: Any) -> str:
    """Return an event's baseline in its unit, such as 17.2 %."""
    return measured(event.baseline_value, event.drift_type)


@register.filter
def current(event: Any) -> str:
    """Return an event's current value in its unit."""
    return measured(event.current_value, event.drift_type)


@register.filter
def change(event: Any) -> str:
    """Return an event's change in its unit, such as +9.6 points."""
    delta, kind = event.delta_value, event.drift_type
    sign = MINUS if delta < 0 else "+"
    if kind in RATES:
        return f"{sign}{abs(delta) * 100:.1f} points"
    if kind in DAYS:
        return f"{sign}{abs(delta):.1f} days"
    return f"{sign}${abs(delta):,.0f}"


def measured(value: float, kind: str) -> str:
    """Return a value of a drift type: a percentage, a number of days or an amount."""
    if kind in RATES:
        return f"{value * 100:.1f}\N{NO-BREAK SPACE}%"
    if kind in DAYS:
        return f"{value:.1f} days"
    return dollars(value)


@register.filter
def dollars(amount: Decimal | float | None) -> str:
    """Return an amount without cents, and a dash where there is none."""
    if amount is None:
        return DASH
    return f"{MINUS if amount < 0 else ''}${abs(amount):,.0f}"


@register.filter
def short_dollars(amount: Decimal | float | None) -> str:
    """Return an amount; from a million on in three digits and a unit, such as $12.3M."""
    size = abs(float(amount or 0))
    if size < 1e6:
        return dollars(amount or 0)
    number, unit = (size / 1e9, "B") if size >= 1e9 else (size / 1e6, "M")
    decimals = 0 if number >= 100 else 1 if number >= 10 else 2
    return f"{MINUS if (amount or 0) < 0 else ''}${number:.{decimals}f}{unit}"


@register.filter
def impact(amount: Decimal | None) -> str:
    """Return what an estimated revenue impact means."""
    if amount is None:
        return "no estimate"
    return f"{dollars(abs(amount))} {'at risk' if amount < 0 else 'gained'}"


@register.filter
def level(severity: float) -> str:
    """Return the level of a severity: high, medium or low."""
    return next(name for name, lowest in LEVELS.items() if severity >= lowest)


@register.filter
def tone(status: str) -> str:
    """Return the class that colours a status."""
    return TONES.get(status, "plain")


@register.filter
def day(moment: date | None) -> str:
    """Return a day as Nov 27, 2026."""
    return f"{moment:%b} {moment.day}, {moment.year}" if moment else DASH


@register.filter
def file_size(size: float) -> str:
    """Return a number of bytes with its unit."""
    for unit in BYTE_UNITS[:-1]:
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} {BYTE_UNITS[-1]}"


@register.filter
def counted(number: int, noun: str) -> str:
    """Return "1 alert" or "1,200 alerts"; `noun` is the plural, its singular lacks the s."""
    return f"{number:,} {noun.removesuffix('s') if number == 1 else noun}"


@register.filter
def number(value: int) -> str:
    """Return a number with its thousands apart."""
    return f"{value:,}"


@register.filter
def percentage(share: float) -> str:
    """Return a share of 1 as a percentage."""
    return f"{share * 100:.0f}\N{NO-BREAK SPACE}%"


@register.filter
def chance(p_value: float) -> str:
    """Return how likely a difference like this is without any drift."""
    return (
        "less than 1 in 1,000 by chance"
        if p_value < 0.001
        else f"{p_value * 100:.1f}\N{NO-BREAK SPACE}% by chance"
    )


@register.filter
def cause(found: Any) -> str:
    """Return the words of a proposed cause: a text, or the note of a dict."""
    if isinstance(found, dict):
        found = found.get("note") or found.get("cause") or ""
    return str(found)


@register.filter
def reach(rule: Any) -> str:
    """Return whom a rule reaches: "2 addresses, webhook"."""
    addresses = len(rule.email_recipients.split())
    told = [f"{addresses} address{'' if addresses == 1 else 'es'}"] if addresses else []
    return ", ".join([*told, "webhook"] if rule.webhook_url else told) or "nobody"
