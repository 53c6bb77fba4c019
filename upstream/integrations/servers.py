"""The servers on which a live download is proven to break visibly, and the sockets to their clients."""

import sys
from collections.abc import Mapping
from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest

# The first that never appends an error page to a broken download.
GUNICORN = 27
# gevent's and eventlet's sockets are of their own modules.
SOCKETS = ("socket", "ssl")
TEST_CLIENT = "testserver"


def breaks_show(request: HttpRequest) -> bool:
    """Whether the client is proven to notice that a body without a length broke off.

    That needs chunked encoding, so HTTP/1.1 on all the way, and a server that closes the connection without the
    final chunk: gunicorn, uvicorn, or granian in its ASGI mode. Others end a broken body like a whole one, or are
    not tested. Django's test client raises the error.
    """
    if isinstance(request, ASGIRequest):
        return request.scope.get("http_version") == "1.1" and _is_proven(request.scope)
    meta = request.META
    if meta.get("SERVER_NAME") == TEST_CLIENT:
        return meta.get("SERVER_PROTOCOL") == "HTTP/1.1"
    name, _, version = meta.get("SERVER_SOFTWARE", "").partition("/")
    major = version.partition(".")[0]
    is_proven = name == "gunicorn" and major.isdigit() and int(major) >= GUNICORN
    return (
        is_proven and type(client_socket(request)).__module__ in SOCKETS and meta["SERVER_PROTOCOL"] == "HTTP/1.1"
    )


def client_socket(request: HttpRequest) -> Any:
    """Return the socket to the client, None if the server does not tell it."""
    return request.META.get("gunicorn.socket")


def _is_proven(scope: Mapping[str, Any]) -> bool:
    """Whether a scope is of a server that is proven; ASGI servers do not tell their names."""
    extensions = scope.get("extensions")
    if (scope.get("server") or [None])[0] == TEST_CLIENT:
        return True
    if "granian" in sys.modules:
        return "http.response.pathsend" in (extensions or ())
    is_uvicorn = extensions is None and "state" in scope and "spec_version" in scope.get("asgi", {})
    return is_uvicorn and "uvicorn" in sys.modules
