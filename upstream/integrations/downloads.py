"""download(): the answer to a request for an export, within its limits, told to whoever listens."""

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

# Servers that end a body cleanly, or only by closing the connection, though it broke off (wsgiref, runserver).
HIDING_SERVERS = ("WSGIServer/", "Granian")


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a download ended; `rows` and `bytes` were sent, `seconds` passed since the request was taken up."""

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
    """Return the download of `source` that `request` asks for; HEAD is answered without a query.

    `spool` is as for `to_response`; by default it is true where a client would not see that a live download broke
    off: HTTP/1.0, servers that hide it, and a transaction around the view that ends before the body is sent.
    What is over a limit before the first byte is a 429. `limits` are those of the site by default. The signals
    come from `sender`; before them `record` is called as the download begins, and what it returns as it ends, even
    where its reader goes away. Other errors before the first byte are raised, later ones break the connection.
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
    """Return a short answer that says why there is no download."""
    return HttpResponse(f"{text}\n", status=status, content_type="text/plain; charset=utf-8", headers=headers)


def breaks_show(request: HttpRequest) -> bool:
    """Whether the next reader, a client or a proxy, sees that a body without a length broke off.

    HTTP/1.0, which granian calls 1, has no chunks whose last would be missing.
    """
    if isinstance(request, ASGIRequest):
        return request.scope.get("http_version") not in ("1.0", "1")
    hides = request.META.get("SERVER_SOFTWARE", "").startswith(HIDING_SERVERS)
    return not hides and request.META.get("SERVER_PROTOCOL") not in ("HTTP/1.0", "HTTP/1")


@dataclass
class _Watch:
    """One download from the request to its end, which comes once."""

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
    """The body of a response, counted; whatever ends it is told."""

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
