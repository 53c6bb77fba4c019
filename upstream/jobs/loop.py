"""The loop of a worker: it takes jobs from their table, one after the other, and cleans up from time to time."""

import logging
import threading

from django.db import connections

from upstream.jobs import states
from upstream.jobs.janitor import Regularly
from upstream.jobs.running import run

logger = logging.getLogger(__name__)


class Loop:
    """Runs jobs until it is stopped; `wake` makes it look for jobs at once."""

    def __init__(self, poll_seconds: float, longest_seconds: float | None = None) -> None:
        """Look for jobs each `poll_seconds`, or in growing pauses up to `longest_seconds` while there are none."""
        self._poll = poll_seconds
        self._longest = longest_seconds or poll_seconds
        self._wake, self._stop = threading.Event(), threading.Event()
        self._janitor = Regularly()

    def wake(self) -> None:
        self._wake.set()

    def stop(self) -> None:
        """Give the running job back, and end."""
        self._stop.set()
        self._wake.set()

    def work(self) -> None:
        """Run jobs until `stop` is called."""
        try:
            self._work()
        finally:
            connections.close_all()  # those of its thread

    def _work(self) -> None:
        pause = self._poll
        while not self._stop.is_set():
            if self._tolerant():
                pause = self._poll
                continue
            connections.close_all()  # none is held while there is nothing to do
            pause = self._poll if self._wake.wait(pause) else min(self._longest, 2 * pause)
            self._wake.clear()

    def work_once(self) -> int:
        """Run the jobs that are ready, and return how many; those that wait for their next attempt stay."""
        count = 0
        while not self._stop.is_set() and self.next():
            count += 1
        return count

    def next(self) -> bool:
        """Run the next job; return False if there is none."""
        _leave_broken_connections()
        job = states.claim()
        if job is None:
            return False
        logger.info("export %s begins, attempt %d", job.pk, job.attempts)
        state = run(job, self._stop)
        logger.info("export %s ended: %s", job.pk, state or "its lease was lost")
        return True

    def _tolerant(self) -> bool:
        """Run the next job, and clean up if it is time; after an error, such as of the database, try again."""
        is_busy = False
        try:
            is_busy = self.next()
            self._janitor.clean()  # however many jobs wait
        except Exception as error:  # noqa: BLE001 (a worker goes on; the text may hold values)
            logger.error("exports cannot be taken or cleaned up: %s", type(error).__name__)
            connections.close_all()
        return is_busy


def _leave_broken_connections() -> None:
    """Close the connections that broke or are too old, but none in a transaction, such as that of a test."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()
