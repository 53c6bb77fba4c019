"""The lease of a running job, renewed by a thread of its own: a long first query tells nothing."""

import logging
import threading
from time import monotonic
from typing import Any, Self

from django.db import Error, connections

from upstream.jobs import states
from upstream.jobs.models import ExportJob
from upstream.jobs.options import Options
from upstream.streaming.databases import database_of

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0
# A database with one writer may be locked by the export itself, and whoever waits for it blocks readers.
WAIT_MILLISECONDS = 200


class LeaseLostError(Exception):
    """The job was cancelled, or another worker has it."""


class Beat(threading.Thread):
    """Renews the lease of a job and tells its `rows` and `bytes`, on a connection of its own.

    The export's connection is in a read-only transaction. An error here does not end the export: whether it still
    has its lease is decided by the database when it ends. Once `stop` is set, the job is given back at once.
    """

    def __init__(self, job: ExportJob, stop: threading.Event) -> None:
        super().__init__(name=f"upstream-lease-{job.pk}", daemon=True)
        self.rows = self.bytes = 0
        self._job, self._stop_event = job, stop
        self._over, self._lost = threading.Event(), threading.Event()
        self._told = 0
        self._renewed = monotonic()
        self._pause = Options.of_site().lease_seconds / 4

    def __enter__(self) -> Self:
        # In a transaction, as in a test, nobody else sees the job, nor that its lease is over.
        if not connections[states.alias()].in_atomic_block:
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self.is_alive():
            self.join()

    def check(self) -> None:
        """Raise LeaseLostError if the job is no longer this worker's."""
        if self._stop_event.is_set() or self._lost.is_set():
            raise LeaseLostError

    def run(self) -> None:
        try:
            while not self._over.wait(min(PAUSE_SECONDS, self._pause)) and not self._lost.is_set():
                self._beat()
        finally:
            connections.close_all()  # those of this thread

    def _beat(self) -> None:
        rows, is_stopping = self.rows, self._stop_event.is_set()
        if rows == self._told and monotonic() - self._renewed < self._pause and not is_stopping:
            return
        try:
            self._hurry()
            if is_stopping:
                states.release(self._job)
            if is_stopping or not states.renew(self._job, rows, self.bytes):
                self._lost.set()
            self._told, self._renewed = rows, monotonic()
        except Error as error:
            logger.info("the lease of export %s could not be renewed: %s", self._job.pk, type(error).__name__)
            connections.close_all()

    def _hurry(self) -> None:
        connection: Any = connections[states.alias()]
        if connection.connection is None and database_of(connection).has_one_writer:
            with connection.cursor() as cursor:
                cursor.execute(f"PRAGMA busy_timeout = {WAIT_MILLISECONDS}")
