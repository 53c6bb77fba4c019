"""The request headers that decide how a download is answered: resumed, prefetched, compressed."""

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.core.signals import request_finished, request_started
from django.http import HttpRequest
from django.http.request import HttpHeaders

RESUMED = (
    412,
    "an export cannot be resumed: its rows may have changed since; download it again from the beginning",
)
PREFETCHED = (503, "an export is not made for a prefetch")
FROM_MIDDLE = re.compile(r"0*[1-9]\d*-\d*|-\d+")
ALIASES = {"x-gzip": "gzip"}

_thread = threading.local()


@dataclass(frozen=True)
class Asked:
    """A request's method and headers."""

    method: str
    headers: Mapping[str, str]

    @property
    def refusal(self) -> tuple[int, str] | None:
        """The status and the reason if the request must not start an export.

        wget appends what it gets for a `Range` from the middle, whatever the status of success, and retries on 416
        and 5xx: 412 stops it, and curl. A range from the first byte is an ordinary request, as RFC 9110 allows.
        """
        if self.method == "HEAD":
            return None
        purposes = f"{self.headers.get('Sec-Purpose', '')};{self.headers.get('Purpose', '')}".lower()
        if "prefetch" in (token.strip() for token in purposes.replace(",", ";").split(";")):
            return PREFETCHED
        unit, _, ranges = self.headers.get("Range", "").partition("=")
        from_middle = any(FROM_MIDDLE.fullmatch(one.strip()) for one in ranges.split(","))
        return RESUMED if from_middle and unit.strip().lower() == "bytes" else None

    def accepts(self, coding: str) -> bool:
        """Whether the client said that it accepts a content coding; without Accept-Encoding it did not."""
        weights = {}
        for entry in self.headers.get("Accept-Encoding", "").lower().split(","):
            name, *parameters = (part.strip() for part in entry.split(";"))
            weights[ALIASES.get(name, name)] = _weight(parameters)
        return weights.get(coding, weights.get("*", 0.0)) > 0


def asked(request: HttpRequest | None = None) -> Asked | None:
    """Return what `request` asks, by default the request that this thread is handling; None if there is none."""
    if request is not None:
        return Asked(request.method or "", request.headers)
    environ, scope = getattr(_thread, "handled", (None, None))
    if environ is not None:
        return Asked(environ["REQUEST_METHOD"], HttpHeaders(environ))
    if scope is not None:
        pairs = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        environ = {HttpHeaders.to_wsgi_name(name): value for name, value in pairs.items()}
        return Asked(scope["method"], HttpHeaders(environ))
    return None


def _weight(parameters: list[str]) -> float:
    try:
        return float(next((one[2:] for one in parameters if one.startswith("q=")), "1"))
    except ValueError:
        return 0.0


def _begin(*, environ: Any = None, scope: Any = None, **_: Any) -> None:
    """Remember the request; under ASGI, Django calls this in the thread in which the view runs."""
    _thread.handled = environ, scope


def _end(**_: Any) -> None:
    _thread.handled = None, None


request_started.connect(_begin, dispatch_uid="upstream.requests")
request_finished.connect(_end, dispatch_uid="upstream.requests")
