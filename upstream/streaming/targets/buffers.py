"""Bytes to a buffer or an open file, and the end of a stream that a target takes."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import IO, Any


def to_buffer(chunks: Iterable[bytes]) -> BytesIO:
    """Return all of `chunks` in a buffer, rewound. The memory is that of the whole export."""
    buffer = BytesIO()
    drain(chunks, buffer)
    buffer.seek(0)
    return buffer


def drain(chunks: Iterable[bytes], file: IO[bytes]) -> None:
    """Write `chunks` to an open file; close them whatever happens."""
    with closing_chunks(chunks):
        for chunk in chunks:
            file.write(chunk)


@contextmanager
def closing_chunks(chunks: Iterable[bytes]) -> Iterator[None]:
    """Close `chunks` when the block ends."""
    try:
        yield
    finally:
        close_chunks(chunks)


def close_chunks(chunks: Any) -> None:
    """Close `chunks` if they can be closed: a generator or a ByteStream, not a list."""
    if close := getattr(chunks, "close", None):
        close()
