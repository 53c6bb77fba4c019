"""HTTP responses, live or spooled to disk first, for WSGI and ASGI."""

import asyncio
import hashlib
import mimetypes
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from contextlib import ExitStack, aclosing, closing
from pathlib import Path
from tempfile import TemporaryFile
from time import monotonic
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, StreamingHttpResponse
from django.utils.cache import patch_vary_headers

from upstream.streaming.compression import CONTENT_TYPES, SUFFIXES
from upstream.streaming.errors import ExportError, StreamOverError
from upstream.streaming.pipeline import ByteStream
from upstream.streaming.targets.buffers import check_not_over, close_chunks
from upstream.streaming.targets.filenames import clean_filename, content_disposition
from upstream.streaming.targets.requests import Asked, asked, end_with_request
from upstream.streaming.turns import Turns

BLOCK_BYTES = 256 * 1024
# Under ASGI a hop to the request's thread costs about 0.2 ms, so each gathers chunks up to this size or time.
HOP_BYTES = 64 * 1024
HOP_SECONDS = 0.05
# This Content-Encoding keeps GZipMiddleware from compressing again and from removing Content-Length.
IDENTITY = "identity"
# Nobody keeps an export, resumes it, takes it for a page, or finds it by a search engine.
HEADERS = {
    "Cache-Control": "private, no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
    "Accept-Ranges": "none",
}
CLOSED = "this download was closed before its end: its request has ended, or its response was closed"
# Shared by the downloads of all threads of a server process.
TURNS = Turns()


class ExportResponse(StreamingHttpResponse):
    """A streamed download that works under WSGI and ASGI.

    Under ASGI, Django reads a synchronous body into a list. Here chunks are produced in the request's own thread,
    where its database connection lives; the same thread closes the body, also on an error.

    `ends_at`, by `time.monotonic`, is when a body whose client does not read is closed under ASGI.

        >>> response = to_response(stream([{"id": 1}]), "rows.csv")
        >>> isinstance(response, ExportResponse), b"".join(response)
        (True, b'id\\r\\n1\\r\\n')
    """

    ends_at: float | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        timer = None
        if self.ends_at is not None and task is not None:
            timer = loop.call_later(max(0, self.ends_at - monotonic()), task.cancel)
        try:
            async with aclosing(self._parts()) as parts:
                async for part in parts:
                    yield part
        finally:
            if timer:
                timer.cancel()

    async def _parts(self) -> AsyncGenerator[bytes]:
        if self.is_async:  # a middleware replaced the body by an asynchronous one
            async for chunk in super().__aiter__():
                yield chunk
            return
        gather = sync_to_async(_gather, thread_sensitive=True)
        chunks: Any = iter(self.streaming_content)  # type: ignore[arg-type]
        wanted = 1  # the first chunk is ready
        try:
            while (part := await gather(chunks, wanted)) is not None:
                yield part
                wanted = HOP_BYTES
        except Exception:
            # Django's handler closes the response on success and on a disconnect, but not on an error.
            await sync_to_async(self.close, thread_sensitive=True)()
            raise
        finally:
            await sync_to_async(self._close_body, thread_sensitive=True)()

    def _close_body(self) -> None:
        with ExitStack() as stack:
            for close in self._resource_closers:  # type: ignore[attr-defined]
                stack.callback(close)


def to_response(
    chunks: Iterable[bytes],
    filename: str,
    *,
    content_type: str | None = None,
    spool: bool = False,
    head: bool = False,
    as_attachment: bool = True,
    request: HttpRequest | None = None,
) -> ExportResponse:
    """Return a download of `chunks` with the name `filename`; the response closes them.

    Live by default: the first chunk is produced before this returns, so a failing query is an honest 500. The rest
    is produced while it is sent, and an error breaks the connection. On PostgreSQL a live view must run outside
    transactions (ATOMIC_REQUESTS), since they end before the body is sent; inside one this raises ExportError.
    With `spool=True` the whole export is written to disk first, then sent with Content-Length and Repr-Digest
    (RFC 9530), so that a client can detect any truncation. With `head=True`, for HEAD requests, the chunks are
    closed unread; the headers are those of a live download.

    A stream with `compression` is a download of compressed data if `filename` ends in .gz or .zst; otherwise it is
    sent with Content-Encoding, and the browser decompresses it, or uncompressed to a client whose Accept-Encoding
    does not name the compression. `content_type` defaults to that of the stream, or of the name.

    A request to resume a download (`Range` from the middle) is answered with 412, and a prefetch with 503; the
    chunks are closed unread. `request` defaults to the one that this thread is handling, if
    `upstream.integrations` is in INSTALLED_APPS. In an asynchronous view, call `ato_response`.

        >>> def download(request):
        ...     return to_response(stream([{"id": 1}]), "rows.csv")
        >>> download(None)["Content-Type"]
        'text/csv; charset=utf-8'
    """
    check_not_over(chunks)
    headers = asked(request)
    if headers and headers.refusal and not head:
        close_chunks(chunks)
        return _refusal(*headers.refusal)
    name = clean_filename(filename)
    kind, encoding = _media_type(chunks, name, content_type)
    response = ExportResponse(content_type=kind, headers=HEADERS)
    response["Content-Disposition"] = content_disposition(name, as_attachment=as_attachment)
    if encoding and encoding != IDENTITY:
        patch_vary_headers(response, ["Accept-Encoding"])
        encoding = _accepted(chunks, encoding, headers)
    if encoding:
        response["Content-Encoding"] = encoding
    if spool and not head:
        body = _Spooled(chunks)
        end_with_request(body)
        response["Content-Length"] = str(body.size)
        response["Repr-Digest"] = f"sha-256=:{b64encode(body.digest).decode()}:"
        response.setdefault("Content-Encoding", IDENTITY)
        response.streaming_content = body
        return response
    response["X-Accel-Buffering"] = "no"
    if head:
        close_chunks(chunks)
    else:
        _check_outlives_view(chunks)
        live = _Live(chunks)
        end_with_request(live)
        response.streaming_content = live
    return response


async def ato_response(
    chunks: Iterable[bytes] | Callable[[], Iterable[bytes]], filename: str, **options: Any
) -> ExportResponse:
    """Return what `to_response` returns; call this in an asynchronous view.

    `chunks` may be a function that returns them, such as `lambda: stream(...)`. It is called in the request's
    thread, because `stream` may connect to the database.

        >>> async def download(request):
        ...     return await ato_response(lambda: stream([{"id": 1}]), "rows.csv")
        >>> from asgiref.sync import async_to_sync
        >>> async_to_sync(download)(None)["Content-Disposition"]
        'attachment; filename="rows.csv"'
    """

    def respond() -> ExportResponse:
        return to_response(chunks() if callable(chunks) else chunks, filename, **options)

    return await sync_to_async(respond, thread_sensitive=True)()


def _refusal(status: int, text: str) -> ExportResponse:
    kind = "text/plain; charset=utf-8"
    return ExportResponse([f"{text}\n".encode()], status=status, content_type=kind, headers=HEADERS)


def _accepted(chunks: Any, encoding: str, headers: Asked | None) -> str | None:
    """Return the encoding if the client accepts it; otherwise leave the compression out of `chunks`."""
    if headers is None or headers.accepts(encoding):
        return encoding
    chunks.uncompress()
    return None


def _check_outlives_view(chunks: Iterable[bytes]) -> None:
    if isinstance(chunks, ByteStream) and chunks.ends_with_caller:
        raise ExportError(
            "the open transaction (ATOMIC_REQUESTS?) and its cursor end before the body is sent: "
            "use @transaction.non_atomic_requests or to_response(..., spool=True)"
        )


def _media_type(chunks: Iterable[bytes], name: str, content_type: str | None) -> tuple[str, str | None]:
    """Return the content type and the content encoding: "identity" if the name has the compression's suffix."""
    compression = chunks.compression if isinstance(chunks, ByteStream) else None
    own = chunks.content_type if isinstance(chunks, ByteStream) else None
    if compression and SUFFIXES.get(Path(name).suffix) == compression:
        return content_type or CONTENT_TYPES[compression], IDENTITY
    guessed = mimetypes.guess_type(name)[0]
    return content_type or own or guessed or "application/octet-stream", compression


class _Live(Iterator[bytes]):
    """Chunks whose first is produced at once, and the others in turns with other threads.

    `close()` closes the source even if no other chunk was read. A body read on after that would look complete, so
    this raises StreamOverError.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._is_closed = False
        self._source = chunks
        self._chunks = iter(chunks)
        self._first: list[bytes] = []
        try:
            self._first = [next(self._chunks)]
        except StopIteration:
            pass
        except BaseException:
            self.close()
            raise

    def __next__(self) -> bytes:
        if self._is_closed:
            raise StreamOverError(CLOSED)
        if self._first:
            return self._first.pop()
        with TURNS.take():
            return next(self._chunks)

    def close(self) -> None:
        self._is_closed = True
        self._first.clear()
        close_chunks(self._chunks)
        if self._source is not self._chunks:
            close_chunks(self._source)


class _Spooled(Iterator[bytes]):
    """All chunks, spooled to an unnamed file on disk, with their size in bytes and SHA-256."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._file = TemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR)  # noqa: SIM115 (closed with the response)
        digest = hashlib.sha256()
        try:
            with closing(_Live(chunks)) as made:
                for chunk in made:
                    digest.update(chunk)
                    self._file.write(chunk)
            self.size = self._file.tell()
            self._file.seek(0)
        except BaseException:
            self._file.close()
            raise
        self.digest = digest.digest()
        self._is_sent = False

    def __next__(self) -> bytes:
        if self._is_sent:
            raise StopIteration
        if self._file.closed:
            raise StreamOverError(CLOSED)
        block = self._file.read(BLOCK_BYTES)
        if not block:
            self._is_sent = True
            self.close()
            raise StopIteration
        return block

    def close(self) -> None:
        self._file.close()


def _gather(chunks: Iterator[bytes], wanted: int) -> bytes | None:
    """Return the next chunks, joined: at least `wanted` bytes, or those of HOP_SECONDS; None at the end."""
    parts: list[bytes] = []
    size, started = 0, monotonic()
    while size < wanted and monotonic() - started < HOP_SECONDS:
        part = next(chunks, None)
        if part is None:
            return b"".join(parts) if parts else None
        parts.append(part)
        size += len(part)
    return b"".join(parts)
