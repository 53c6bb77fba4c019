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
    try:
        url = urllib3.util.parse_url(channel["url"])
    except urllib3.exceptions.LocationParseError as error:
        raise DeliveryError(str(error), is_transient=False) from error
    if not url.host:
        raise DeliveryError(f"{channel['url']} has no host", is_transient=False)
    body = str(DataExportService.export_to_json(dict(facts), indent=None)).encode()
    key = str(facts.get("id") or sha256(body).hexdigest())
    headers = {"Content-Type": "application/json", "Idempotency-Key": key, "User-Agent": "Upstream"}
    # Connected to by its address, the server still has to be told which host is meant.
    headers["Host"] = url.host if url.port is None else f"{url.host}:{url.port}"
    status = _first_answer(urllib3, url, headers, body)
    if not 200 <= status < 300:
        raise DeliveryError(f"answered {status}", is_transient=status in TRANSIENT_STATUSES)


def _first_answer(urllib3: Any, url: Any, headers: Mapping[str, str], body: bytes) -> int:
    """Post to the first of the host's addresses that takes a connection, and return the status of the answer."""
    error = ""
    for address in _checked_addresses(url):
        try:
            with _pool(urllib3, url, address) as pool:
                # The answer's body is never read: it may be of any length.
                options = {"retries": False, "redirect": False, "preload_content": False}
                answer = pool.urlopen("POST", url.request_uri, body, headers, **options)
                answer.close()
                return int(answer.status)
        except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError) as failure:
            error = _words(failure)  # nothing was sent, so the next address may be asked
        except urllib3.exceptions.HTTPError as failure:
            raise DeliveryError(_words(failure), is_transient=True) from failure
    raise DeliveryError(error, is_transient=True)


def _pool(urllib3: Any, url: Any, address: str) -> Any:
    """Return the connections to one address, whose certificate has to be that of the URL's host."""
    options = {"port": url.port, "timeout": TIMEOUT_SECONDS}
    if url.scheme == "http":
        return urllib3.HTTPConnectionPool(address, **options)
    host = url.host.strip("[]")
    return urllib3.HTTPSConnectionPool(address, server_hostname=host, assert_hostname=host, **options)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _checked_addresses(url: Any) -> list[str]:
    """Return the addresses of a host, unless it has one such as 169.254.169.254, where clouds tell credentials.

    The name is not looked up again to connect: the second answer could be an address that was not checked.
    """
    host = url.host.strip("[]")
    try:
        found = socket.getaddrinfo(host, url.port, proto=socket.IPPROTO_TCP)
    except UnicodeError as error:
        raise DeliveryError(f"{host} is no name of a host", is_transient=False) from error
    except OSError as error:
        raise DeliveryError(f"{host} is not known: {error}", is_transient=True) from error
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    if any(map(_is_link_local, addresses)):
        raise DeliveryError(f"{host} is a link-local address", is_transient=False)
    return addresses


def _is_link_local(text: str) -> bool:
    address = ip_address(text.partition("%")[0])
    return (getattr(address, "ipv4_mapped", None) or address).is_link_local
