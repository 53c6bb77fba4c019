"""Turns: the threads of a server make their chunks a few at a time, since all together they hinder each other.

Threads that compute take the interpreter's lock from each other, and sqlite3 gives it away at every row. Fifty
downloads at once from SQLite take 26 s so, and 6 s in turns (50 x 50,000 rows, gunicorn with 64 threads, 2 cores);
of PostgreSQL's COPY 1.6 and 2.1 s, but an ordinary page beside them waits for 1.1 s, and in turns 0.3 s.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, Lock, get_ident
from time import monotonic

# With 1, the fifty take 4.9 s, but nobody computes while one waits for its database; with 4 they take 8 s.
NUMBER = 2
# A chunk takes 5 to 20 ms to compute. Whoever takes longer waits for a database, and lets the next begin.
SECONDS = 0.05


class Turns:
    """A few threads at a time, in the order they came, each for a short time: then the next begins beside it."""

    def __init__(self, number: int = NUMBER, seconds: float = SECONDS) -> None:
        self._number, self._seconds = number, seconds
        self._lock = Lock()
        self._waiting: deque[Condition] = deque()
        self._since: dict[int, float] = {}

    @contextmanager
    def take(self) -> Iterator[None]:
        """Wait for a turn, and have it while the block runs; inside a turn of its own a thread goes on at once."""
        thread = get_ident()
        if thread in self._since:
            yield
            return
        with self._lock:
            self._queue()
            self._since[thread] = monotonic()
        try:
            yield
        finally:
            with self._lock:
                del self._since[thread]
                self._call_next()

    def _queue(self) -> None:
        called = Condition(self._lock)
        self._waiting.append(called)
        try:
            while self._waiting[0] is not called:
                called.wait()
            while (seconds := self._seconds_left()) > 0:
                called.wait(seconds)
        finally:  # one that is interrupted must not keep the others waiting
            self._waiting.remove(called)
            self._call_next()

    def _call_next(self) -> None:
        if self._waiting:
            self._waiting[0].notify()

    def _seconds_left(self) -> float:
        """Return in how many seconds a turn is over, if none ends before; 0 if there is one to be had."""
        starts = sorted(self._since.values())[-self._number :]
        return starts[0] + self._seconds - monotonic() if len(starts) == self._number else 0
