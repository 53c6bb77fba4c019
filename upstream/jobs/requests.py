"""Requests for exports as data, and run again by a worker, as the user who made them.

The view decides again: about permissions, the rows that the user may see, columns, filters and order. It is called
without middleware, so what a site's middleware does for its views is for the option `prepare`.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from inspect import iscoroutinefunction
from io import BytesIO
from string import punctuation
from typing import Any
from urllib.parse import quote, unquote_plus, urlencode

from asgiref.sync import async_to_sync
from django.contrib.messages.storage.cookie import CookieStorage
from django.contrib.sessions.backends.base import SessionBase
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.core.handlers.wsgi import WSGIRequest
from django.http import Http404, HttpRequest
from django.urls import get_resolver, get_script_prefix, get_urlconf, set_script_prefix, set_urlconf
from django.utils import timezone, translation

from upstream.integrations.background import PARAMETERS, Export, receiving
from upstream.jobs.options import Options
from upstream.jobs.zones import current_zone, zone_of
from upstream.streaming import ExportError

KIND = "request"
BACKGROUND, JOB = PARAMETERS
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data", "")
# What the admin calls the boxes of selected rows, whether it is installed or not.
SELECTED = "_selected_action"
CSRF = "csrfmiddlewaretoken"
WORDS = {
    302: "whoever asked for it is no longer let in",
    401: "whoever asked for it is no longer let in",
    403: "whoever asked for it lacks a permission by now",
    404: "its page is not there any more",
    400: "its filters, columns or order are no longer valid",
}


class NotRepeatableError(ExportError, ValueError):
    """A request cannot be run again later."""


class RefusedError(ExportError, PermissionError):
    """The view refused an export when its request was run again."""


def to_data(request: HttpRequest) -> dict[str, Any]:
    """Return a request as JSON data; raise NotRepeatableError if it has selected rows, files or no form."""
    form = {
        name: values
        for name, values in request.POST.lists()
        if name != CSRF and not all(_is_of_offers(name, value) for value in values)
    }
    if SELECTED in form:
        raise NotRepeatableError("an export of selected rows is made at once: their keys are not stored")
    if request.FILES or (request.method not in ("GET", "HEAD") and request.content_type not in FORMS):
        raise NotRepeatableError("only requests with nothing but a form can be run again")
    urlconf = getattr(request, "urlconf", None)
    return {
        "kind": KIND,
        "method": request.method,
        "path": request.path_info,
        "query": query_of(request),
        "form": form,
        "accept": request.headers.get("Accept"),
        "host": request.get_host(),
        "secure": request.is_secure(),
        "script": get_script_prefix(),
        "urlconf": urlconf if isinstance(urlconf, str) else None,
        "language": translation.get_language(),
        "time_zone": current_zone(),
    }


def query_of(request: HttpRequest) -> str:
    """Return the parameters of the view as the client wrote them: without those of offers."""
    written = str(request.META.get("QUERY_STRING", ""))
    if not written.isascii():  # not every client encodes what it should
        raw = written.encode("latin-1" if isinstance(request, WSGIRequest) else "utf-8")
        written = quote(raw, safe=punctuation)
    return "&".join(part for part in written.split("&") if not _is_of_offers(*_parsed(part)))


def _parsed(part: str) -> tuple[str, str]:
    name, _, value = part.partition("=")
    return unquote_plus(name), unquote_plus(value)


def _is_of_offers(name: str, value: str) -> bool:
    """Whether a parameter is for the offer; with another value it may be one of the view's own."""
    return name == JOB or (name == BACKGROUND and value in ("", "0", "1"))


@contextmanager
def repeated(data: Mapping[str, Any], user: Any) -> Iterator[Export]:
    """Run a request again as `user`, and yield the export that its view makes of it; nothing of it is read yet.

    Language, time zone, URLs and what `prepare` returned hold in the block. Raises RefusedError if the view
    answers anything else.
    """
    with ExitStack() as stack:
        stack.enter_context(translation.override(data["language"]))
        stack.enter_context(timezone.override(zone_of(data["time_zone"])))
        stack.enter_context(_urls(data))
        request = _request(data, user)
        if prepare := Options.of_site().function("prepare"):
            held = prepare(request)
            if isinstance(held, AbstractContextManager):
                stack.enter_context(held)
        yield _export(request)


def _request(data: Mapping[str, Any], user: Any) -> Any:
    body = urlencode(data["form"], doseq=True).encode()
    host, _, port = data["host"].partition(":")
    scheme = "https" if data["secure"] else "http"
    request: Any = WSGIRequest(
        {
            "REQUEST_METHOD": data["method"],
            "SCRIPT_NAME": _in_latin(data["script"].rstrip("/")),
            "PATH_INFO": _in_latin(data["path"]),
            "QUERY_STRING": data["query"],
            "CONTENT_TYPE": FORMS[0] if data["method"] == "POST" else "",
            "CONTENT_LENGTH": str(len(body)),
            **({} if data["accept"] is None else {"HTTP_ACCEPT": data["accept"]}),
            "HTTP_HOST": data["host"],
            "SERVER_NAME": host,
            "SERVER_PORT": port or ("443" if data["secure"] else "80"),
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "",
            "wsgi.url_scheme": scheme,
            "wsgi.input": BytesIO(body),
        }
    )
    request.user = request._force_auth_user = user  # noqa: SLF001 (how REST framework is told the user)
    request._dont_enforce_csrf_checks = True  # noqa: SLF001 (the first request was checked)
    request.session = SessionBase()
    request._messages = CookieStorage(request)  # noqa: SLF001 (nobody sees them)
    if data["urlconf"]:
        request.urlconf = data["urlconf"]

    async def auser() -> Any:
        return user

    request.auser = auser
    return request


def _in_latin(path: str) -> str:
    """Return a path as WSGI has it: its bytes as characters."""
    return path.encode().decode("latin-1")


@contextmanager
def _urls(data: Mapping[str, Any]) -> Iterator[None]:
    """Let `reverse()` make the URLs of the request's site in the block."""
    before, urlconf = get_script_prefix(), get_urlconf()
    set_script_prefix(data["script"])
    set_urlconf(data["urlconf"])
    try:
        yield
    finally:
        set_urlconf(urlconf)
        set_script_prefix(before)


def _export(request: Any) -> Export:
    received: list[Export] = []
    token = receiving.set(received.append)
    try:
        status = _status(request)
    except Http404:
        status = 404
    except PermissionDenied:
        status = 403
    except (BadRequest, SuspiciousOperation):
        status = 400
    finally:
        receiving.reset(token)
    if not received:
        reason = WORDS.get(status, f"its page answered with status {status} instead of an export")
        raise RefusedError(f"the export was refused: {reason}")
    return received[0]


def _status(request: Any) -> int:
    match = get_resolver(getattr(request, "urlconf", None)).resolve(request.path_info)
    request.resolver_match = match
    view: Any = match.func
    if iscoroutinefunction(view) or getattr(view, "view_is_async", False):
        view = async_to_sync(view)
    response = view(request, *match.args, **match.kwargs)
    for close in response._resource_closers:  # noqa: SLF001 (close() would end a request, and so all connections)
        close()
    status: int = response.status_code
    return status
