"""What is read again: bytes without their compression, by other libraries than those that wrote them."""

import gzip
import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from io import BufferedReader, RawIOBase
from tempfile import TemporaryFile
from typing import Any, BinaryIO

from django.conf import settings

from upstream.streaming._optional import optional
from upstream.streaming.compression import Compression

READ_BYTES = 256 * 1024


class Chunks(RawIOBase):
    """A file of chunks, read once from start to end."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks: Iterator[bytes] = iter(chunks)
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._left = chunk
        taken = self._left[: len(buffer)]
        buffer[: len(taken)] = taken
        self._left = self._left[len(taken) :]
        return len(taken)


def opened(chunks: Iterable[bytes], compression: Compression | None) -> BinaryIO:
    """Return chunks, which may be several compressed files one after the other, as one uncompressed file."""
    raw: Any = BufferedReader(Chunks(chunks), READ_BYTES)
    if compression == "gzip":
        return gzip.GzipFile(fileobj=raw)  # type: ignore[return-value]
    if compression == "zstd":
        return _zstd(raw)
    return raw  # type: ignore[no-any-return]


@contextmanager
def spooled(chunks: Iterable[bytes]) -> Iterator[BinaryIO]:
    """Yield chunks as a file on disk, for readers that seek."""
    with TemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR) as file:
        file.writelines(chunks)
        file.seek(0)
        yield file


def uncompressed(chunks: Iterable[bytes], compression: Compression | None) -> Generator[bytes]:
    """Yield chunks without their compression."""
    with opened(chunks, compression) as file:
        while chunk := file.read(READ_BYTES):
            yield chunk


def _zstd(raw: Any) -> BinaryIO:
    if sys.version_info >= (3, 14):
        return import_module("compression.zstd").ZstdFile(raw)  # type: ignore[no-any-return]
    zstandard: Any = optional("zstandard", "compression")
    reader = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
    return BufferedReader(reader, READ_BYTES)
