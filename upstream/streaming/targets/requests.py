"""The request for a download: its headers decide how it is answered, and its end ends the download."""

import logging
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from weakref import WeakSet

from asgiref.sync import SyncToAsync
from django.core.handlers.asgi import ASGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from django.http import HttpRequest
from django.http.request import HttpHeaders

logger = logging.getLogger(__name__)

RESUMED = (
    412,
    "an export cannot be resumed: its rows may have changed since; download it again from the beginning",
)
PREFETCHED = (503, "an export is not made for a prefetch")
FROM_MIDDLE = re.compile(r"0*[1-9]\d*-\d*|-\d+")
ALIASES = {"x-gzip": "gzip"}


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
    environ, scope = _thread.handled
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


@dataclass
class _Served:
    """What a context that Django's ASGI handler makes for a request serves.

    Under uvicorn, a request sent while the answer to the one before it ends has the same context.
    """

    requests: int = 0
    downloads: list[Download] = field(default_factory=list)


class _Thread(threading.local):
    """The request that a thread handles, as WSGI environ or ASGI scope; what it served, if that has ended."""

    handled: tuple[Any, Any] = None, None
    ended: _Served | None = None


_thread = _Thread()
# Those that the end of their request will close.
_in_requests: WeakSet[Download] = WeakSet()


def end_with_request(download: Download) -> None:
    """Close a download when its request ends under ASGI, in the request's thread; at once if it has ended.

    Django's handler closes no response if the client left before there was one: then it only sends the signal
    `request_finished`. In Django 6.1 that may run before the view: both wait for the thread of the middleware
    around them. Under WSGI nothing else holds such a response, and its body ends with it.
    """
    if (served := _served()) is None:
        return
    if _thread.ended is served:
        download.close()
        return
    served.downloads.append(download)
    _in_requests.add(download)


def is_in_request(download: Download) -> bool:
    """Whether the end of its request, which is to come, will close a download."""
    return download in _in_requests


def _served() -> _Served | None:
    """Return what this context serves; None outside of Django's ASGI handler.

    The context keeps it, so that all of it is garbage if `request_finished` is never sent.
    """
    context: Any = SyncToAsync.thread_sensitive_context.get(None)
    return None if context is None else vars(context).setdefault("upstream_served", _Served())


def _is_of_handler(sender: Any) -> bool:
    """Return whether a signal is of a request to a server, not of Django's test client or of a response alone."""
    return isinstance(sender, type) and issubclass(sender, ASGIHandler)


def _weight(parameters: list[str]) -> float:
    try:
        return float(next((one[2:] for one in parameters if one.startswith("q=")), "1"))
    except ValueError:
        return 0.0


def _begin(sender: Any = None, *, environ: Any = None, scope: Any = None, **_: Any) -> None:
    """Remember the request; under ASGI, Django calls this in the thread in which the view runs."""
    _thread.handled = environ, scope
    if _is_of_handler(sender) and (served := _served()):
        served.requests += 1
        _thread.ended = None


def _end(sender: Any = None, **_: Any) -> None:
    _thread.handled = None, None
    if _is_of_handler(sender) and (served := _served()):
        served.requests -= 1
        if served.requests > 0:
            return
        _thread.ended = served
        while served.downloads:
            download = served.downloads.pop()
            _in_requests.discard(download)
            try:
                download.close()
            except Exception:  # the signal's other receivers close connections
                logger.exception("a download failed when its request ended")


request_started.connect(_begin, dispatch_uid="upstream.requests")
# Before Django closes the connection: a download gives way to that, and would read all rows for nobody.
_closes_connections = request_finished.disconnect(close_old_connections)
request_finished.connect(_end, dispatch_uid="upstream.requests")
if _closes_connections:
    request_finished.connect(close_old_connections)
