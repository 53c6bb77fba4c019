"""Limits how many threads encode at once; more contend for the GIL, which sqlite3 releases at every row.

Fifty concurrent downloads from SQLite take 26 s without the limit and 6 s with it (50 x 50,000 rows, gunicorn with
64 threads, 2 cores). From PostgreSQL by COPY they take 1.6 s and 2.1 s, but an ordinary page waits 1.1 s meanwhile
without the limit, and 0.3 s with it.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, Lock, get_ident
from time import monotonic

# With 1, the fifty take 4.9 s, but no thread encodes while one waits for its database; with 4 they take 8 s.
NUMBER = 2
# A chunk takes 5 to 20 ms to encode. A thread that takes longer waits for its database: the next one may start.
SECONDS = 0.05


class Turns:
    """Admits `number` threads at a time, in order of arrival; a turn expires after `seconds`."""

    def __init__(self, number: int = NUMBER, seconds: float = SECONDS) -> None:
        self._number, self._seconds = number, seconds
        self._lock = Lock()
        self._waiting: deque[Condition] = deque()
        self._since: dict[int, float] = {}

    @contextmanager
    def take(self) -> Iterator[None]:
        """Wait for a turn and hold it during the block; a thread that already holds one does not wait."""
        thread = get_ident()
        if thread in self._since:
            yield
            return
        try:
            with self._lock:
                self._queue()
                self._since[thread] = monotonic()
            yield
        finally:
            with self._lock:
                self._since.pop(thread, None)  # there is none if the wait was interrupted
                self._notify_next()

    def _queue(self) -> None:
        called = Condition(self._lock)
        self._waiting.append(called)
        try:
            while self._waiting[0] is not called:
                called.wait()
            while (seconds := self._seconds_left()) > 0:
                called.wait(seconds)
        finally:  # an interrupted thread must not block the others
            self._waiting.remove(called)
            self._notify_next()

    def _notify_next(self) -> None:
        if self._waiting:
            self._waiting[0].notify()

    def _seconds_left(self) -> float:
        """Return the seconds until a turn expires, unless one ends earlier; 0 if one is free."""
        starts = sorted(self._since.values())[-self._number :]
        return starts[0] + self._seconds - monotonic() if len(starts) == self._number else 0
