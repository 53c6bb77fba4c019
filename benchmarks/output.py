"""Where a case writes: it notes when the first row came, and how many bytes there were."""

import io
from collections.abc import Iterable
from time import perf_counter
from typing import Any, BinaryIO

# More than any case's header line, and less than any of them with its first row.
FIRST_ROW_BYTES = 200


class Output(io.RawIOBase):
    """A file that counts what is written to it, and keeps it in `file` if there is one."""

    def __init__(self, file: BinaryIO | None = None) -> None:
        self.file = file
        self.restart()

    def restart(self) -> None:
        """Start the clock, again where a case had to get ready."""
        self.started = perf_counter()
        self.first_byte: float | None = None
        self.first_row: float | None = None
        self.ended: float | None = None
        self.peak_bytes: int | None = None
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        size = len(data)
        self.size += size
        self.first_byte = self.first_byte or perf_counter()
        if self.first_row is None and self.size > FIRST_ROW_BYTES:
            self.first_row = perf_counter()
        if self.file:
            self.file.write(data)
        return size

    def drain(self, chunks: Iterable[bytes]) -> None:
        """Write all chunks, at next to no cost for each, since some cases make one of every row."""
        rest = iter(chunks)
        for chunk in rest:
            self.write(chunk)
            if self.first_row:
                break
        for chunk in rest:
            self.size += len(chunk)
            if self.file:
                self.file.write(chunk)

    def add_file(self, file: BinaryIO) -> None:
        """Take over what a case wrote to a file of its own; the first row of that nobody could read earlier."""
        self.ended = perf_counter()
        while block := file.read(io.DEFAULT_BUFFER_SIZE):
            self.size += len(block)
            if self.file:
                self.file.write(block)

    def finish(self, peak_bytes: int | None) -> None:
        """Stop the clock, unless the case did."""
        self.ended = self.ended or perf_counter()
        self.peak_bytes = self.peak_bytes or peak_bytes

    def measured(self) -> dict[str, float | None]:
        assert self.ended is not None
        return {
            "seconds": self.ended - self.started,
            "first_byte_seconds": self.first_byte and self.first_byte - self.started,
            "first_row_seconds": self.first_row and self.first_row - self.started,
            "bytes": self.size,
            "peak_bytes": self.peak_bytes,
        }
