"""How an object of S3 is cut into the pieces of a multipart upload."""

from collections.abc import Generator, Iterator, Sequence
from itertools import chain, count, pairwise
from tempfile import SpooledTemporaryFile
from typing import IO, Any, NamedTuple

from django.conf import settings

MEBIBYTE = 1024**2
LEAST_PIECE = 5 * MEBIBYTE  # of S3, for all but the last
MOST_PIECES = 10_000
# Half a minute of a copy inside S3, whose own limit is 5 GiB.
COPIED_BYTES = 1024 * MEBIBYTE
FIRST_PIECE = 8 * MEBIBYTE
PIECES_OF_A_SIZE = 1_000
# A larger piece waits on disk.
MEMORY_BYTES = 16 * MEBIBYTE


class Slice(NamedTuple):
    """Bytes of one of several files: from `start` up to, without, `end`."""

    file: int
    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start


def sizes() -> Iterator[int]:
    """Yield the sizes of the pieces of an upload whose end is not known.

    They begin with 8 MiB, and double after every 1,000 pieces: the first 8 GB are sent in small ones, 10,000 reach
    8 TB, and none is larger than S3's 5 GiB.
    """
    return (FIRST_PIECE << (number // PIECES_OF_A_SIZE) for number in count())


def pieces(chunks: Iterator[bytes]) -> Generator[IO[bytes]]:
    """Yield chunks as files of those sizes, each written to its end; only the last is smaller, and may be empty.

    A file is in memory, and moves to FILE_UPLOAD_TEMP_DIR if it becomes larger than 16 MiB.
    """
    held = b""
    for size in sizes():
        with SpooledTemporaryFile(MEMORY_BYTES, dir=settings.FILE_UPLOAD_TEMP_DIR) as file:
            held = _fill(file, size, held, chunks)
            yield file
            if file.tell() < size:
                return


def _fill(file: Any, size: int, held: bytes, chunks: Iterator[bytes]) -> bytes:
    """Write `held` and chunks to a file until it has `size` bytes or they end; return what is too much."""
    left = size
    for chunk in chain([held], chunks):
        file.write(chunk[:left])
        if len(chunk) >= left:
            return chunk[left:]
        left -= len(chunk)
    return b""


def slices(sizes: Sequence[int], least: int = LEAST_PIECE, most: int = COPIED_BYTES) -> Iterator[list[Slice]]:
    """Cut files of these sizes, joined, into the pieces of an upload: each is one slice to copy, or some to read.

    What is smaller than `least` is read with what follows it, until they have `least` bytes; only the last piece
    may have fewer. A slice has at most `most` bytes, which must be at least twice `least`.
    """
    held: list[Slice] = []
    for file, size in ((file, size) for file, size in enumerate(sizes) if size):
        start = 0
        if held or size < least:
            start = min(size, least - sum(one.size for one in held))
            held.append(Slice(file, 0, start))
            if sum(one.size for one in held) < least:
                continue
            yield held
            held = []
        if size - start < least:
            held = [Slice(file, start, size)] if start < size else []
        else:
            yield from ([one] for one in _evenly(file, start, size, most))
    if held:
        yield held


def _evenly(file: int, start: int, end: int, most: int) -> Iterator[Slice]:
    parts = -(-(end - start) // most)
    bounds = [start + (end - start) * number // parts for number in range(parts + 1)]
    for first, last in pairwise(bounds):
        yield Slice(file, first, last)
