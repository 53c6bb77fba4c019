"""End a download with its request, even if its response is never sent."""

from typing import Any, Protocol
from weakref import WeakKeyDictionary, ref

from asgiref.sync import SyncToAsync
from django.core.signals import request_finished
from django.http import HttpRequest


class Left(Protocol):
    """A download that may be left before its end."""

    def leave(self) -> None:
        """End it, if it has not ended."""


# By the context that Django's ASGI handler makes for each request, as it makes a thread.
_by_context: WeakKeyDictionary[Any, list[Left]] = WeakKeyDictionary()


def end_with_request(request: HttpRequest, download: Left) -> None:
    """Call `download.leave()` when the request ends, in the request's thread.

    Middleware may raise or answer something else; then nobody closes the response that the view returned. Whatever
    response is sent instead closes the request. Under ASGI there is none if the client has left: then only the
    signal `request_finished` is sent.
    """
    close, downloading = request.close, ref(download)

    def leave_and_close() -> None:
        if left := downloading():
            left.leave()
        close()

    request.close = leave_and_close  # type: ignore[method-assign]
    if (context := _context()) is not None:
        _by_context.setdefault(context, []).append(download)


def is_in_request(download: Left) -> bool:
    """Whether the end of its request, which is to come, will end a download."""
    return any(download in downloads for downloads in list(_by_context.values()))


def _context() -> Any:
    return SyncToAsync.thread_sensitive_context.get(None)


def _leave(**_: Any) -> None:
    context = _context()
    if context is not None:
        for download in _by_context.pop(context, ()):
            download.leave()


request_finished.connect(_leave, dispatch_uid="upstream_integrations.requests")
