"""gzip and zstd compression, as one more stage of the stream, and deflate for formats that are ZIP archives."""

import sys
import zlib
from collections.abc import Callable, Generator
from contextlib import closing
from importlib.util import find_spec
from math import inf
from time import monotonic
from typing import Any, Literal, NamedTuple, Protocol

from upstream.streaming._optional import optional

Compression = Literal["gzip", "zstd"]

SUFFIXES: dict[str, Compression] = {".gz": "gzip", ".zst": "zstd"}
CONTENT_TYPES: dict[str, str] = {"gzip": "application/gzip", "zstd": "application/zstd"}
# A compressor's output depends on how its input is split. Splitting it here makes every run give the same bytes.
# Blocks larger than 256 KiB gain nothing with isal and zstd.
BLOCK_BYTES = 256 * 1024
# The first block is small and flushed, so that the first byte is sent with the first rows.
FIRST_BLOCK_BYTES = 16 * 1024
# The rows of a slow source are flushed after this time: proxies give up a connection that is silent for a minute.
FLUSH_SECONDS = 1.0
# isal level 1 takes 0.19 s for 110 MB, zlib level 1 takes 0.77 s and compresses less.
GZIP_LEVEL = 1
ZSTD_LEVEL = 3
GZIP_WINDOW = 31  # 15, the largest window, + 16: with gzip's header (time stamp 0) and trailer
RAW_WINDOW = -15  # the largest window, without header and trailer


class Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self, mode: int = ..., /) -> bytes: ...


class Codec(NamedTuple):
    """A compressor, and the mode of its `flush` that outputs pending data without ending the stream."""

    compressor: Compressor
    flush_block: int


def check_compression(name: str | None) -> None:
    """Raise unless `name` is None or an available compression."""
    if name is not None:
        _codec(name)


def compressed(chunks: Generator[bytes], name: Compression) -> Generator[bytes]:
    """Yield `chunks` compressed, and close them.

    The same input gives the same bytes, unless it is slower than a block in FLUSH_SECONDS: then it is flushed.
    """
    return _compressed(chunks, *_codec(name))


def deflated(chunks: Generator[bytes]) -> Generator[bytes]:
    """Yield `chunks` as raw deflate, for an entry of a ZIP archive; otherwise like `compressed`."""
    return _compressed(chunks, *_deflate(RAW_WINDOW))


def checksum() -> Callable[[bytes, int], int]:
    """Return the fastest CRC-32 there is."""
    crc32: Callable[[bytes, int], int] = _library().crc32
    return crc32


def _compressed(chunks: Generator[bytes], compressor: Compressor, flush_block: int) -> Generator[bytes]:
    flushed = -inf  # the first block is always flushed
    with closing(_blocks(chunks)) as blocks:
        for block in blocks:
            data = compressor.compress(block)
            if monotonic() - flushed > FLUSH_SECONDS:
                data += compressor.flush(flush_block)
                flushed = monotonic()
            if data:
                flushed = monotonic()
                yield data
    yield compressor.flush()


def _blocks(chunks: Generator[bytes]) -> Generator[bytes]:
    pending, size, started = bytearray(), FIRST_BLOCK_BYTES, monotonic()
    with closing(chunks):
        for chunk in chunks:
            pending += chunk
            while len(pending) >= size or (pending and monotonic() - started > FLUSH_SECONDS):
                yield bytes(pending[:size])
                del pending[:size]
                size, started = BLOCK_BYTES, monotonic()
    yield bytes(pending)


def _codec(name: str) -> Codec:
    if name == "gzip":
        return _deflate(GZIP_WINDOW)
    if name == "zstd":
        return _zstd()
    raise ValueError(f'compression must be "gzip", "zstd" or None, not {name!r}')


def _deflate(window: int) -> Codec:
    library = _library()
    return Codec(library.compressobj(level=GZIP_LEVEL, wbits=window), library.Z_SYNC_FLUSH)


def _library() -> Any:
    return optional("isal.isal_zlib", "compression") if find_spec("isal") else zlib


def _zstd() -> Codec:
    if sys.version_info >= (3, 14):
        module: Any = optional("compression.zstd", "compression")
        parameter = module.CompressionParameter
        options = {parameter.compression_level: ZSTD_LEVEL, parameter.checksum_flag: 1}
        return Codec(module.ZstdCompressor(options=options), module.ZstdCompressor.FLUSH_BLOCK)
    zstandard: Any = optional("zstandard", "compression")
    compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True).compressobj()
    return Codec(compressor, zstandard.COMPRESSOBJ_FLUSH_BLOCK)
