"""Write chunks to a buffer or an open file, and close them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import IO, Any

from upstream.streaming.errors import StreamOverError
from upstream.streaming.pipeline import ByteStream


def to_buffer(chunks: Iterable[bytes]) -> BytesIO:
    """Return all `chunks` in a rewound buffer, which holds the whole export in memory.

    >>> to_buffer(stream([{"id": 1, "name": "Ann"}])).getvalue()
    b'id,name\\r\\n1,Ann\\r\\n'
    """
    buffer = BytesIO()
    drain(chunks, buffer)
    buffer.seek(0)
    return buffer


def drain(chunks: Iterable[bytes], file: IO[bytes]) -> None:
    """Write `chunks` to an open file, and close them, also on an error."""
    with closing_chunks(chunks):
        for chunk in chunks:
            file.write(chunk)


@contextmanager
def closing_chunks(chunks: Iterable[bytes]) -> Iterator[None]:
    """Close `chunks` at the end of the block, also on an error. A stream that is over raises StreamOverError."""
    check_not_over(chunks)
    try:
        yield
    finally:
        close_chunks(chunks)


def check_not_over(chunks: Iterable[bytes]) -> None:
    """Raise StreamOverError for a stream that is over: its export would be empty and look complete."""
    if isinstance(chunks, ByteStream) and chunks.is_over:
        raise StreamOverError("this stream has ended, failed or been closed: call stream() again")


def close_chunks(chunks: Any) -> None:
    """Close `chunks` if they have a `close`, as a generator or a ByteStream does."""
    if close := getattr(chunks, "close", None):
        close()
