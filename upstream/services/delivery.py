"""Send an alert to one channel, and try again where that may help."""

import random
import smtplib
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from hashlib import sha256
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.core.mail import EmailMessage
from django.core.validators import validate_email

from upstream.reporting.wording import change, drift_label, impact, percent
from upstream.services.data_export import DataExportService
from upstream.streaming._optional import optional
from upstream.streaming.errors import MissingDependencyError

ATTEMPTS = 3
FIRST_PAUSE_SECONDS = 0.5
TIMEOUT_SECONDS = 10
# Answers after which the same request may succeed later (RFC 9110, RFC 6585).
TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})

Facts = Mapping[str, Any]


class DeliveryError(Exception):
    """A channel did not take an alert; `is_transient` says whether another attempt may help."""

    def __init__(self, message: str, *, is_transient: bool) -> None:
        super().__init__(message)
        self.is_transient = is_transient


def addresses_of(text: str) -> list[str]:
    """Return the addresses in a text, one on each line, each once."""
    return list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))


def check_channel(channel: Mapping[str, Any]) -> None:
    """Raise ValueError for what cannot be a channel."""
    kind = channel.get("type")
    if kind == "email":
        addresses = channel.get("to")
        if not addresses or isinstance(addresses, str):
            raise ValueError('a channel of type "email" needs "to", a list of addresses')
        for address in addresses:
            try:
                validate_email(address)
            except ValidationError:
                raise ValueError(f"{address!r} is not an e-mail address: write one on each line") from None
    elif kind == "webhook":
        if not _is_web_address(str(channel.get("url", ""))):
            raise ValueError('a channel of type "webhook" needs "url", which starts with https:// or http://')
    else:
        raise ValueError(f'a channel has the type "email" or "webhook", not {kind!r}')


def _is_web_address(text: str) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:  # a port beyond 65,535, half a bracket
        return False


def deliver(facts: Facts, channel: Mapping[str, Any]) -> dict[str, Any]:
    """Send an alert to a channel, up to ATTEMPTS times; return what became of it."""
    send: Callable[[Facts, Mapping[str, Any]], None] = _mail if channel["type"] == "email" else _post
    target = ", ".join(channel["to"]) if channel["type"] == "email" else channel["url"]
    error = ""
    attempt = 0
    while attempt < ATTEMPTS:
        attempt += 1
        try:
            send(facts, channel)
        except DeliveryError as failure:
            error = str(failure)
            if not failure.is_transient:
                break
            if attempt < ATTEMPTS:
                # Jitter: the alerts of one run would else all return to a busy server at once.
                time.sleep(FIRST_PAUSE_SECONDS * 2 ** (attempt - 1) * random.uniform(1, 1.5))  # noqa: S311
        else:
            error = ""
            break
    return {"type": channel["type"], "target": target, "delivered": not error, "attempts": attempt, "error": error}


def _mail(facts: Facts, channel: Mapping[str, Any]) -> None:
    message = EmailMessage(_subject(facts), "\n".join(_lines(facts)), to=list(channel["to"]))
    try:
        message.send()
    except smtplib.SMTPRecipientsRefused as error:
        codes = [code for code, _ in error.recipients.values()]
        raise DeliveryError(f"refused: {error}", is_transient=any(code < 500 for code in codes)) from error
    except smtplib.SMTPResponseException as error:
        words = f"SMTP {error.smtp_code}: {error.smtp_error!r}"
        raise DeliveryError(words, is_transient=error.smtp_code < 500) from error
    except OSError as error:  # those of connections, and the others of smtplib
        raise DeliveryError(f"{type(error).__name__}: {error}", is_transient=True) from error


def _subject(facts: Facts) -> str:
    where = facts.get("payer") or "an unnamed payer"
    what = facts.get("rule") or drift_label(facts.get("drift_type") or "drift")
    return " ".join(f"[Upstream] {what}: {where} {facts.get('cpt_group') or ''}".split())


def _lines(facts: Facts) -> Iterator[str]:
    """Yield what changed, in words if its values are known, and then the other facts."""
    rest = {name: value for name, value in facts.items() if value not in (None, "")}
    if {"drift_type", "baseline_value", "current_value"} <= rest.keys():
        kind, baseline, current = (rest.pop(name) for name in ("drift_type", "baseline_value", "current_value"))
        amount = rest.pop("estimated_revenue_impact", None)
        at_stake = impact(None if amount is None else Decimal(amount))
        yield f"{drift_label(kind)}: {change(kind, float(baseline), float(current))}, {at_stake}"
        rest.pop("delta_value", None)
    for name in ("severity", "confidence"):
        if name in rest:
            rest[name] = percent(float(rest[name]))
    yield from (f"{name.replace('_', ' ').capitalize()}: {value}" for name, value in rest.items())


def _post(facts: Facts, channel: Mapping[str, Any]) -> None:
    """Post the alert as JSON; redirects are not followed, since they could lead to where the URL may not."""
    try:
        urllib3 = optional("urllib3", "alerts")
    except MissingDependencyError as error:  # mail to others may have been sent already
        raise DeliveryError(str(error), is_transient=False) from error
    url = channel["url"]
    _refuse_link_local(url)
    body = str(DataExportService.export_to_json(dict(facts), indent=None)).encode()
    key = str(facts.get("id") or sha256(body).hexdigest())
    headers = {"Content-Type": "application/json", "Idempotency-Key": key, "User-Agent": "Upstream"}
    try:
        with urllib3.PoolManager() as pool:
            # The answer's body is never read: it may be of any length.
            options = {"timeout": TIMEOUT_SECONDS, "retries": False, "redirect": False, "preload_content": False}
            answer = pool.request("POST", url, body=body, headers=headers, **options)
            answer.close()
    except urllib3.exceptions.HTTPError as error:
        raise DeliveryError(f"{type(error).__name__}: {error}", is_transient=True) from error
    if not 200 <= answer.status < 300:
        raise DeliveryError(f"answered {answer.status}", is_transient=answer.status in TRANSIENT_STATUSES)


def _refuse_link_local(url: str) -> None:
    """Refuse addresses such as 169.254.169.254, where clouds tell a machine its credentials."""
    parts = urlsplit(url)
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port, proto=socket.IPPROTO_TCP)
    except UnicodeError as error:
        raise DeliveryError(f"{parts.hostname} is no name of a host", is_transient=False) from error
    except OSError as error:
        raise DeliveryError(f"{parts.hostname} is not known: {error}", is_transient=True) from error
    if any(_is_link_local(str(address[0])) for *_, address in found):
        raise DeliveryError(f"{parts.hostname} is a link-local address", is_transient=False)


def _is_link_local(text: str) -> bool:
    address = ip_address(text.partition("%")[0])
    return (getattr(address, "ipv4_mapped", None) or address).is_link_local
