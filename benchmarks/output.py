"""Where a case writes: it notes when the first row came, and how many bytes there were."""

import io
from collections.abc import Iterable
from time import perf_counter, process_time
from typing import Any, BinaryIO


class Output(io.RawIOBase):
    """A file that counts what is written to it, and keeps it in `file` if there is one.

    Of more than `first_row_bytes` a case has written its first row, and no header line only. `lane` is who made
    the bytes, where the engine did.
    """

    def __init__(self, file: BinaryIO | None = None, *, first_row_bytes: int = 0) -> None:
        self.file = file
        self.first_row_bytes = first_row_bytes
        self.lane: str | None = None
        self.restart()

    def restart(self) -> None:
        """Start the clocks, again where a case had to get ready."""
        self.started, self.cpu_started = perf_counter(), process_time()
        self.first_byte: float | None = None
        self.first_row: float | None = None
        self.ended: float | None = None
        self.figures: dict[str, float | None] = {}
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        size = len(data)
        self.size += size
        self.first_byte = self.first_byte or perf_counter()
        if self.first_row is None and self.size > self.first_row_bytes:
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
        self._stop()
        while block := file.read(io.DEFAULT_BUFFER_SIZE):
            self.size += len(block)
            if self.file:
                self.file.write(block)

    def report(self, *, peak_bytes: int | None, cpu_seconds: float | None) -> None:
        """Take the figures of the process that did the work, where it was another one."""
        self._stop()
        self.figures |= {"peak_bytes": peak_bytes, "cpu_seconds": cpu_seconds}

    def finish(self, peak_bytes: int | None) -> None:
        """Stop the clocks, unless the case did; `peak_bytes` is the peak of this process."""
        self._stop()
        self.figures = {"peak_bytes": peak_bytes, **self.figures}

    def _stop(self) -> None:
        if self.ended is None:
            self.ended = perf_counter()
            self.figures["cpu_seconds"] = process_time() - self.cpu_started

    def measured(self) -> dict[str, Any]:
        assert self.ended is not None
        return {
            "seconds": self.ended - self.started,
            "first_byte_seconds": self.first_byte and self.first_byte - self.started,
            "first_row_seconds": self.first_row and self.first_row - self.started,
            "bytes": self.size,
            "lane": self.lane,
            **self.figures,
        }
