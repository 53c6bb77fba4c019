"""Progress of the parts of a dump on a terminal."""

from time import monotonic
from typing import Any, Self

from upstream.dumps.sites import Plan

MEBIBYTE = 1024 * 1024
PAUSE_SECONDS = 0.2
CLEAR_LINE = "\r\x1b[K"


class Meters:
    """A line for each part that is written, and one for all that goes on; it is the `report` of `run`."""

    def __init__(self, stream: Any) -> None:
        """Write to `stream`, or nothing if it is None."""
        self.parts = 0
        self._folders: dict[int, str] = {}
        self._stream = stream
        self._rows: dict[int, int] = {}
        self._bytes: dict[int, int] = {}
        self._started = monotonic()
        self._shown = 0.0

    def show_parts(self, plan: Plan) -> None:
        """Show how many parts there are, and of which model each is."""
        self.parts = len(plan.numbers)
        self._folders = {number: f" of {one.folder}" for one in plan.plans if one.folder for number in one.numbers}

    def __call__(self, number: int, rows: int, size: int, is_done: bool) -> None:
        self._rows[number] = rows
        if is_done:
            self._bytes[number] = size
            self._write(
                f"part {number}{self._folders.get(number, '')}: {rows:,} rows, {size / MEBIBYTE:,.1f} MiB\n"
            )
        elif monotonic() - self._shown > PAUSE_SECONDS:
            self._shown = monotonic()
            self._write(str(self))

    def __str__(self) -> str:
        done, seconds = len(self._bytes), self._seconds()
        left = f", {seconds / done * (self.parts - done):.0f} s left" if done and self.parts else ""
        rows, size = sum(self._rows.values()), sum(self._bytes.values())
        speed = f"{rows:,} rows, {rows / seconds:,.0f} rows/s"
        return f"{done} of {self.parts or '?'} parts, {speed}, {size / MEBIBYTE:,.1f} MiB written{left}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._write("")

    def _write(self, text: str) -> None:
        if self._stream is not None:
            self._stream.write(f"{CLEAR_LINE}{text}")
            self._stream.flush()

    def _seconds(self) -> float:
        return monotonic() - self._started or 1
