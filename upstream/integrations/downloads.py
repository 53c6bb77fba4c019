"""The response to a request for an export: within limits, and reported by signals."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from upstream.integrations.limits import BusyError, Limits, Slots
from upstream.integrations.signals import Outcome, export_failed, export_finished, export_started
from upstream.streaming import ByteStream, Column, DeadlineError, LimitError, stream, to_response
from upstream.streaming.encoders.protocol import Encoder

# Servers that end a broken body cleanly or just close the connection; WSGIServer is wsgiref's and runserver's.
HIDING_SERVERS = ("WSGIServer/", "Granian")


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a download ended: the `rows` and `bytes` sent, and the `seconds` since the request."""

    outcome: Outcome
    rows: int
    bytes: int
    seconds: float
    error: BaseException | None = None


def download(
    request: HttpRequest,
    source: Any,
    columns: Sequence[str | Column] | None,
    encoder: Encoder,
    filename: str,
    *,
    sender: type,
    limits: Limits | None = None,
    spool: bool | None = None,
    record: Callable[[], Callable[[Ending], None]] | None = None,
) -> HttpResponseBase:
    """Return the response to `request` with the rows of `source`; HEAD is answered without a query.

    `spool` is the option of `to_response`. By default a download is spooled if a live one could break off
    unnoticed: over HTTP/1.0, on some servers, and in a transaction that ends before the body is sent.

    `limits` default to the site's. A limit exceeded before the first byte is answered with 429; any other error
    before it is raised, and an error after it breaks the connection.

    The signals come from `sender`. `record` is called before the first signal, and the function it returns before
    the last, even if the client disconnects.
    """
    limits = limits or Limits.of_site()
    chunks = stream(source, columns, encoder, timeout=limits.seconds, max_rows=limits.rows, max_bytes=limits.bytes)
    if request.method == "HEAD":
        return to_response(chunks, filename, head=True)
    if spool is None:
        spool = not breaks_show(request) or chunks.ends_with_caller
    watch = _Watch(request, chunks, filename, sender, Slots(limits, request), record)
    try:
        watch.start()
        limits.check_rows(source)
        response = to_response(chunks, filename, spool=spool)
    except (BusyError, LimitError, DeadlineError) as error:
        watch.end("refused", error)
        return refusal(429, str(error), {"Retry-After": str(limits.retry_after)})
    except BaseException as error:
        watch.end("failed", error)
        raise
    length = response.get("Content-Length")
    response.streaming_content = _Body(iter(response), watch, None if length is None else int(length))
    return response


def refusal(status: int, text: str, headers: dict[str, str] | None = None) -> HttpResponse:
    """Return a short plain-text response that says why there is no download."""
    return HttpResponse(f"{text}\n", status=status, content_type="text/plain; charset=utf-8", headers=headers)


def breaks_show(request: HttpRequest) -> bool:
    """Whether the client, or the proxy in between, notices that a body without a length broke off.

    HTTP/1.0, which granian calls 1, has no chunked encoding, so no final chunk can be missing.
    """
    if isinstance(request, ASGIRequest):
        return request.scope.get("http_version") not in ("1.0", "1")
    hides = request.META.get("SERVER_SOFTWARE", "").startswith(HIDING_SERVERS)
    return not hides and request.META.get("SERVER_PROTOCOL") not in ("HTTP/1.0", "HTTP/1")


@dataclass
class _Watch:
    """One download from its request to its end, which is reported once."""

    request: HttpRequest
    chunks: ByteStream
    filename: str
    sender: type
    slots: Slots
    record: Callable[[], Callable[[Ending], None]] | None
    ended: Callable[[Ending], None] | None = None
    sent: int = 0
    started: float = field(default_factory=monotonic)
    is_over: bool = False

    def start(self) -> None:
        if self.record:
            self.ended = self.record()
        self.slots.take()
        export_started.send_robust(self.sender, **self._named())

    def end(self, outcome: Outcome, error: BaseException | None = None) -> None:
        if self.is_over:
            return
        self.is_over = True
        with ExitStack() as last_first:
            last_first.callback(self._tell, outcome, error)
            last_first.callback(self.slots.free)
            last_first.callback(self.chunks.close)

    def _tell(self, outcome: Outcome, error: BaseException | None) -> None:
        ending = Ending(
            outcome=outcome,
            rows=self.chunks.rows if self.sent else 0,
            bytes=self.sent,
            seconds=monotonic() - self.started,
            error=error,
        )
        if self.ended:
            self.ended(ending)
        signal = export_finished if outcome == "complete" else export_failed
        signal.send_robust(self.sender, **self._named(), **vars(ending))

    def _named(self) -> dict[str, Any]:
        return {"request": self.request, "filename": self.filename, "columns": self.chunks.plan.headers}


class _Body(Iterator[bytes]):
    """The body of a response: counts the bytes sent, and reports how the body ended."""

    def __init__(self, body: Iterator[bytes], watch: _Watch, length: int | None) -> None:
        self._body = body
        self._watch = watch
        self._length = length

    def __next__(self) -> bytes:
        try:
            block = next(self._body)
        except StopIteration:
            self._watch.end("complete")
            raise
        except BaseException as error:
            self._watch.end("failed", error)
            raise
        self._watch.sent += len(block)
        self._watch.slots.renew()
        return block

    def close(self) -> None:
        self._watch.end("complete" if self._watch.sent == self._length else "aborted")
