"""The words of `upstream.reporting.wording` as template filters, and those that only pages need."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any

from django.template import Library
from django.utils.timezone import localtime

from upstream.models import AlertStatus, RunStatus
from upstream.reporting import wording

register = Library()
for word in (wording.counted, wording.dollars, wording.impact, wording.level):
    register.filter(word.__name__, word)

BYTE_UNITS = ("bytes", "kB", "MB", "GB", "TB")
TONES: dict[str, str] = {
    RunStatus.FAILED: "warn",
    RunStatus.PENDING: "wait",
    RunStatus.SUCCESS: "good",
    AlertStatus.RESOLVED: "good",
}


def unbroken(words: str) -> str:
    """Return words in which no line ends between a number and its %."""
    return words.replace(" %", "\N{NO-BREAK SPACE}%")


@register.filter
def baseline(event: Any) -> str:
    """Return an event's baseline in its unit, such as 17.2 %."""
    return unbroken(wording.measured(event.baseline_value, event.drift_type))


@register.filter
def current(event: Any) -> str:
    """Return an event's current value in its unit."""
    return unbroken(wording.measured(event.current_value, event.drift_type))


@register.filter
def change(event: Any) -> str:
    """Return an event's change in its unit, such as +9.6 points."""
    return wording.difference(event.delta_value, event.drift_type)


@register.filter
def short_dollars(amount: Decimal | float | None) -> str:
    """Return an amount; from a million on in three digits and a unit, such as $12.3M."""
    size = abs(float(amount or 0))
    if size < 1e6:
        return wording.dollars(amount or 0)
    number, unit = (size / 1e9, "B") if size >= 1e9 else (size / 1e6, "M")
    decimals = 0 if number >= 100 else 1 if number >= 10 else 2
    return f"{wording.MINUS if (amount or 0) < 0 else ''}${number:.{decimals}f}{unit}"


@register.filter
def tone(status: str) -> str:
    """Return the class that colours a status."""
    return TONES.get(status, "plain")


@register.filter
def day(moment: date | None) -> str:
    """Return a day, or that of a moment in the current time zone, as Nov 27, 2026."""
    if isinstance(moment, datetime):
        moment = localtime(moment)
    return wording.day(moment) if moment else wording.NONE


@register.filter
def file_size(size: float) -> str:
    """Return a number of bytes with its unit."""
    for unit in BYTE_UNITS[:-1]:
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} {BYTE_UNITS[-1]}"


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
