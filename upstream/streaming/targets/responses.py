"""Bytes to an HTTP response: live, or spooled to disk first; right under WSGI and ASGI."""

import hashlib
import mimetypes
from base64 import b64encode
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryFile
from time import monotonic
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import StreamingHttpResponse
from django.utils.http import content_disposition_header

from upstream.streaming.compression import CONTENT_TYPES, SUFFIXES
from upstream.streaming.errors import ExportError
from upstream.streaming.pipeline import ByteStream
from upstream.streaming.targets.buffers import close_chunks
from upstream.streaming.targets.filenames import clean_filename
from upstream.streaming.targets.turns import Turns

BLOCK_BYTES = 256 * 1024
# Under ASGI a hop to the request's thread costs about 0.2 ms: what comes in one is gathered up to so much.
HOP_BYTES = 64 * 1024
HOP_SECONDS = 0.05
# As a content encoding it keeps GZipMiddleware from compressing anew, and from taking the length away.
IDENTITY = "identity"
# The downloads of all the threads of a server.
TURNS = Turns()


class ExportResponse(StreamingHttpResponse):
    """A streamed download, right under WSGI and ASGI.

    Under ASGI Django makes a list of a synchronous body; here each piece is taken in the request's own thread,
    where its database connection lives, and the thread closes the body whatever happens.
    """

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self.is_async:  # a middleware has put an asynchronous body in place of ours
            async for chunk in super().__aiter__():
                yield chunk
            return
        gather = sync_to_async(_gather, thread_sensitive=True)
        chunks: Any = iter(self.streaming_content)  # type: ignore[arg-type]
        wanted = 1  # the first chunk is there already
        try:
            while (part := await gather(chunks, wanted)) is not None:
                yield part
                wanted = HOP_BYTES
        except Exception:
            # Django's handler closes the response on success and when the client goes, but not on an error.
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
) -> ExportResponse:
    """Return a download of `chunks` under the name `filename`.

    Live by default: the first chunk is made before this returns, so that a failing query is an honest 500; the
    rest is made while it is sent, and an error breaks the connection. On PostgreSQL that needs a view outside of
    transactions (ATOMIC_REQUESTS), which end before the body is sent: else it is an ExportError. With
    `spool=True` the whole export is made on disk first and sent with Content-Length and Repr-Digest (RFC 9530):
    every cut is detected. With `head=True`, the answer to a HEAD request, nothing is made: the chunks are closed
    unread, and the headers are those of a live download.

    A stream with `compression` is a download of compressed data if `filename` ends with .gz or .zst, else it is
    sent with Content-Encoding, for the browser to undo. `content_type` defaults to the stream's own, or to that
    of the name. From an asynchronous view call it through `sync_to_async`.
    """
    name = clean_filename(filename)
    kind, encoding = _media_type(chunks, name, content_type)
    response = ExportResponse(content_type=kind)
    response["Content-Disposition"] = content_disposition_header(as_attachment, name) or "inline"
    response["Cache-Control"] = "private, no-store"
    response["X-Content-Type-Options"] = "nosniff"
    response["Accept-Ranges"] = "none"
    if encoding:
        response["Content-Encoding"] = encoding
    if spool and not head:
        body = _Spooled(chunks)
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
        response.streaming_content = _Live(chunks)
    return response


def _check_outlives_view(chunks: Iterable[bytes]) -> None:
    if isinstance(chunks, ByteStream) and chunks.ends_with_caller:
        raise ExportError(
            "a transaction is open (ATOMIC_REQUESTS?) that ends before the body is sent, and the cursor with it: "
            "@transaction.non_atomic_requests, or to_response(..., spool=True)"
        )


def _media_type(chunks: Iterable[bytes], name: str, content_type: str | None) -> tuple[str, str | None]:
    """Return the content type and the content encoding; where the name tells of the compression, there is none."""
    compression = chunks.compression if isinstance(chunks, ByteStream) else None
    own = chunks.content_type if isinstance(chunks, ByteStream) else None
    if compression and SUFFIXES.get(Path(name).suffix) == compression:
        return content_type or CONTENT_TYPES[compression], IDENTITY
    guessed = mimetypes.guess_type(name)[0]
    return content_type or own or guessed or "application/octet-stream", compression


class _Live(Iterator[bytes]):
    """Chunks of which the first is made at once, and the others in turns with those of other threads.

    It closes them even if nobody ever asks for another.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
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
        if self._first:
            return self._first.pop()
        with TURNS.take():
            return next(self._chunks)

    def close(self) -> None:
        close_chunks(self._chunks)
        if self._source is not self._chunks:
            close_chunks(self._source)


class _Spooled(Iterator[bytes]):
    """All chunks, made and kept in an unnamed file on disk, with their size in bytes and their SHA-256."""

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

    def __next__(self) -> bytes:
        block = b"" if self._file.closed else self._file.read(BLOCK_BYTES)
        if not block:
            self.close()
            raise StopIteration
        return block

    def close(self) -> None:
        self._file.close()


def _gather(chunks: Iterator[bytes], wanted: int) -> bytes | None:
    """Return the next chunks, `wanted` bytes or what comes while one may wait; None at the end."""
    parts: list[bytes] = []
    size, started = 0, monotonic()
    while size < wanted and monotonic() - started < HOP_SECONDS:
        part = next(chunks, None)
        if part is None:
            return b"".join(parts) if parts else None
        parts.append(part)
        size += len(part)
    return b"".join(parts)
