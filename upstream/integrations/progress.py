"""Progress on a terminal: a line while a run goes on, and a summary at its end."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from upstream.streaming import MissingDependencyError
from upstream.streaming._optional import optional

MEBIBYTE = 1024 * 1024


class Meter:
    """The progress of a run; calling it with the rows and bytes so far updates the line."""

    def __init__(self, line: Any = None, process: Any = None) -> None:
        self.line, self.process = line, process
        self.rows = self.bytes = 0
        self.started = monotonic()

    def __call__(self, rows: int, size: int = 0) -> None:
        self.rows, self.bytes = rows, size
        if self.line is not None:
            self.line.set_postfix_str(self._figures(), refresh=False)
            self.line.update(rows - self.line.n)

    def __str__(self) -> str:
        seconds = monotonic() - self.started
        return (
            f"{self.rows:,} rows in {seconds:.1f} s ({self.rows / (seconds or 1):,.0f} rows/s), {self._figures()}"
        )

    def _figures(self) -> str:
        figures = [f"{self.bytes / MEBIBYTE:,.1f} MiB written"] if self.bytes else []
        if self.process is not None:
            figures.append(f"{self.process.memory_info().rss / MEBIBYTE:.0f} MiB memory")
        return ", ".join(figures)


@contextmanager
def metered(total: int | None = None, *, name: str = "", visible: bool = True) -> Iterator[Meter]:
    """Yield a meter; it shows a line, with a `name`, on standard error if that is a terminal and `visible`."""
    shown = visible and sys.stderr.isatty()
    libraries = _libraries(shown)
    if libraries is None:
        yield Meter()
        return
    tqdm, psutil = libraries
    with tqdm.tqdm(
        desc=name or None, total=total, unit=" rows", unit_scale=True, leave=False, disable=not shown
    ) as line:
        yield Meter(line, psutil.Process())


def _libraries(shown: bool) -> tuple[Any, Any] | None:
    try:
        return optional("tqdm", "cli"), optional("psutil", "cli")
    except MissingDependencyError as error:
        if shown:
            sys.stderr.write(f"no progress is shown: {error}\n")
        return None
