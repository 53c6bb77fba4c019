"""The response to a request for an export: within limits, and reported by signals."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from socket import SHUT_RDWR
from time import monotonic
from typing import Any
from weakref import ref

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from upstream.integrations.background import Export, answer, receiving
from upstream.integrations.limits import BusyError, Limits, Slots, keeper
from upstream.integrations.servers import breaks_show, client_socket
from upstream.integrations.signals import Ending, Outcome, export_failed, export_finished, export_started
from upstream.streaming import ByteStream, Column, DeadlineError, LimitError, stream, to_response
from upstream.streaming.encoders.protocol import Encoder
from upstream.streaming.targets.requests import Asked, end_with_request, is_in_request

# After this time beyond its limit a download whose client does not read is cut: one that reads has ended before.
GRACE_SECONDS = 1.0


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
    is_repeatable: bool | None = None,
) -> HttpResponseBase:
    """Return the response to `request` with the rows of `source`; HEAD is answered without a query.

    Call it in views and actions of your own: it is what the views and admin classes of this app call. `sender` is
    the class that sends the signals, such as the view or the model. Permissions are the caller's to check.

    `spool` is the option of `to_response`. By default a download is spooled if a live one could break off
    unnoticed: over other servers than gunicorn, uvicorn and granian's ASGI mode, over HTTP/1.0, and in a
    transaction that ends before the body is sent.

    `limits` default to the site's. A limit exceeded before the first byte is answered with 429; any other error
    before it is raised, and an error after it breaks the connection. A request to resume a download is refused
    with 412, a prefetch with 503.

    `record` is called before the first signal, and the function it returns before the last, even if the client
    disconnects, or the response is never sent.

    With `upstream.jobs` a large export is made in the background, and the response leads to its job. This needs a
    request that can be run again: `is_repeatable` says so, by default of every GET for a queryset or a list.
    """
    limits = limits or Limits.of_site()
    export = Export(
        request=request,
        source=source,
        columns=columns,
        encoder=encoder,
        filename=filename,
        sender=sender,
        limits=limits,
        spool=spool,
        record=record,
        is_repeatable=_is_repeatable(request, source) if is_repeatable is None else is_repeatable,
    )
    if receive := receiving.get():
        receive(export)
        return HttpResponse(status=204)
    if (offered := answer(export)) is not None:
        return offered
    if refused := Asked(request.method or "", request.headers).refusal:
        return refusal(*refused)
    read = partial(stream, source, columns, encoder, max_rows=limits.rows, max_bytes=limits.bytes)
    chunks = read(timeout=limits.seconds)
    if request.method == "HEAD":
        return to_response(chunks, filename, head=True)
    if spool is None:
        spool = not breaks_show(request) or chunks.ends_with_caller
    watch = _Watch(request, chunks, filename, sender, limits, record)
    try:
        watch.start()
        if limits.rows is not None and isinstance(source, QuerySet):
            limits.check_rows(source, watch.seconds_left())
            watch.chunks = read(timeout=watch.seconds_left())
        response = to_response(watch.chunks, filename, spool=spool, request=request)
    except (BusyError, LimitError, DeadlineError) as error:
        watch.end("refused", error)
        return refusal(429, str(error), {"Retry-After": str(limits.retry_after)})
    except BaseException as error:
        watch.end("failed", error)
        raise
    if "Content-Length" in response:
        watch.length = int(response["Content-Length"])
    response.streaming_content = _Body(iter(response), watch)
    response.ends_at = watch.ends_at and watch.ends_at + GRACE_SECONDS
    end_with_request(watch)  # at last: it may end here, with all that it took
    return response


def _is_repeatable(request: HttpRequest, source: Any) -> bool:
    """Whether the rows of a request can be compared with those of the same request, without being read."""
    return request.method == "GET" and isinstance(source, QuerySet | list | tuple)


def refusal(status: int, text: str, headers: dict[str, str] | None = None) -> HttpResponse:
    """Return a short plain-text response that says why there is no download."""
    return HttpResponse(
        f"{text}\n",
        status=status,
        content_type="text/plain; charset=utf-8",
        headers={"X-Robots-Tag": "noindex", "Cache-Control": "no-store", **(headers or {})},
    )


@dataclass(eq=False)
class _Watch:
    """One download from its request to its end, which is reported once."""

    request: HttpRequest
    chunks: ByteStream
    filename: str
    sender: type
    limits: Limits
    record: Callable[[], Callable[[Ending], None]] | None
    ended: Callable[[Ending], None] | None = None
    sent: int = 0
    length: int | None = None
    started: float = field(default_factory=monotonic)
    is_over: bool = False
    cut_at: float | None = None

    def __post_init__(self) -> None:
        self.slots = Slots(self.limits, self.request)
        self.ends_at = self.limits.seconds and self.started + self.limits.seconds
        self.renew = self.slots.renew

    def seconds_left(self) -> float | None:
        """Return the seconds left, None without a limit; raise DeadlineError if there are none."""
        if self.ends_at is None:
            return None
        left = self.ends_at - monotonic()
        if left <= 0:
            raise DeadlineError(f"the export exceeded its timeout of {self.limits.seconds:g} seconds")
        return left

    def start(self) -> None:
        if self.record:
            self.ended = self.record()
        _close_with(self.request, self)
        self.slots.take()
        if self.slots.held:
            keeper.add(self)
        export_started.send_robust(self.sender, **self._named())

    def send(self) -> None:
        """Have the download cut when its time is over: its server may wait for the client for ever."""
        if self.ends_at is not None and self.cut_at is None:
            self.cut_at = self.ends_at + GRACE_SECONDS
            keeper.add(self)

    def cut(self) -> None:
        """Shut the socket to the client down, so that the server's thread gets an error and closes the body."""
        socket = client_socket(self.request)
        if socket is not None and not self.is_over:
            with suppress(OSError):
                socket.shutdown(SHUT_RDWR)

    def end(self, outcome: Outcome, error: BaseException | None = None) -> None:
        if self.is_over:
            return
        self.is_over = True
        keeper.remove(self)
        with ExitStack() as last_first:
            last_first.callback(self._tell, outcome, error)
            last_first.callback(self.slots.free)
            last_first.callback(self.chunks.close)

    def close(self) -> None:
        """End a download whose response is closed, or never sent."""
        try:
            if self.sent != self.length:
                self.seconds_left()
        except DeadlineError as error:
            self.end("failed", error)
        else:
            self.end("complete" if self.sent == self.length else "aborted")

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


def _close_with(request: HttpRequest, watch: _Watch) -> None:
    """Close a download with its request.

    Middleware may raise or answer something else; then nobody closes the response that the view returned. Whatever
    response is sent instead closes the request.
    """
    close, watching = request.close, ref(watch)

    def close_both() -> None:
        try:
            if watch := watching():
                watch.close()
        finally:
            close()

    request.close = close_both  # type: ignore[method-assign]


class _Body(Iterator[bytes]):
    """The body of a response: counts the bytes sent, and reports how the body ended."""

    def __init__(self, body: Iterator[bytes], watch: _Watch) -> None:
        self._body = body
        self._watch = watch

    def __next__(self) -> bytes:
        try:
            self._watch.send()
            if self._watch.sent != self._watch.length:
                self._watch.seconds_left()
            block = next(self._body)
        except StopIteration:
            self._watch.end("complete")
            raise
        except BaseException as error:
            self._watch.end("failed", error)
            raise
        self._watch.sent += len(block)
        return block

    def close(self) -> None:
        self._watch.close()

    def __del__(self) -> None:
        if not is_in_request(self._watch):
            self.close()
