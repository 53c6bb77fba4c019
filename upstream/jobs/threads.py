"""The worker inside of each process that asks for exports: one daemon thread, which the first of them starts."""

import atexit
import os
import threading

from upstream.jobs.loop import Loop
from upstream.jobs.workers import WORKERS

POLL_SECONDS = 5.0
LONGEST_SECONDS = 60.0
GRACE_SECONDS = 5.0


class _Embedded:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: Loop | None = None
        self._process = 0

    def wake(self) -> None:
        with self._lock:
            is_here = self._thread and self._thread.is_alive() and self._process == os.getpid()
            if is_here and self._loop:
                self._loop.wake()
                return
            self._loop, self._process = Loop(POLL_SECONDS, LONGEST_SECONDS), os.getpid()
            self._thread = threading.Thread(target=self._loop.work, name="upstream-exports", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Give the running job back and end the thread, unless it is in a query for too long."""
        with self._lock:
            if self._loop and self._thread and self._process == os.getpid():
                self._loop.stop()
                self._thread.join(GRACE_SECONDS)
                self._loop = self._thread = None


_embedded = _Embedded()
wake, stop = _embedded.wake, _embedded.stop
atexit.register(stop)
WORKERS["thread"] = lambda _job: wake()
