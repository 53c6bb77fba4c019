"""The request for a download: its headers decide how it is answered, and its end ends the download."""

import re
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary, ref

from asgiref.sync import SyncToAsync
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
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


class Download(Protocol):
    """A download that its client may leave before its end."""

    def close(self) -> None:
        """End it, if it has not ended."""


# By the context that Django's ASGI handler makes for each request, as it makes a thread.
_by_context: WeakKeyDictionary[Any, list[Download]] = WeakKeyDictionary()


def end_with_request(request: HttpRequest | None, download: Download) -> None:
    """Close a download when the request ends, in the request's thread.

    Middleware may raise or answer something else; then nobody closes the response that the view returned. Whatever
    response is sent instead closes the request. Under ASGI there is none if the client has left: then only the
    signal `request_finished` is sent.
    """
    if request is not None:
        close, downloading = request.close, ref(download)

        def close_both() -> None:
            if left := downloading():
                left.close()
            close()

        request.close = close_both  # type: ignore[method-assign]
    if (context := _context()) is not None:
        _by_context.setdefault(context, []).append(download)


def is_in_request(download: Download) -> bool:
    """Whether the end of its request, which is to come, will end a download."""
    return any(download in downloads for downloads in list(_by_context.values()))


def _context() -> Any:
    return SyncToAsync.thread_sensitive_context.get(None)


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
    if (context := _context()) is not None:
        with ExitStack() as stack:
            for download in _by_context.pop(context, ()):
                stack.callback(download.close)


request_started.connect(_begin, dispatch_uid="upstream.requests")
# Before Django closes the connection: a download gives way to that, and would read all rows for nobody.
closes_connections = request_finished.disconnect(close_old_connections)
request_finished.connect(_end, dispatch_uid="upstream.requests")
if closes_connections:
    request_finished.connect(close_old_connections)
