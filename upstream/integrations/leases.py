"""One thread that keeps the slots of running downloads, and ends those whose client does not read in time."""

import threading
from collections.abc import Callable
from time import monotonic
from typing import Protocol
from weakref import WeakSet

from django.db import connections


class Kept(Protocol):
    """A running download."""

    cut_at: float | None
    """When to call `cut`, by `time.monotonic`."""

    def renew(self) -> None:
        """Renew what the download holds."""

    def cut(self) -> None:
        """Make the server end the download."""


class Keeper:
    """Renews the leases of downloads, each `pause()` seconds, and cuts those that are overdue.

    It works in a thread of its own, because a download that waits for its client runs no code of ours, and the
    database connection of one that is being spooled is in use. The thread ends when there is nothing to keep.
    """

    def __init__(self, pause: Callable[[], float]) -> None:
        self._pause = pause
        self._changed = threading.Condition()
        self._kept: WeakSet[Kept] = WeakSet()
        self._thread: threading.Thread | None = None

    def add(self, download: Kept) -> None:
        with self._changed:
            self._kept.add(download)
            if not (self._thread and self._thread.is_alive()):  # none is after a fork
                self._thread = threading.Thread(target=self._run, name="upstream-leases", daemon=True)
                self._thread.start()
            self._changed.notify()

    def remove(self, download: Kept) -> None:
        with self._changed:
            self._kept.discard(download)

    def _run(self) -> None:
        renewed = monotonic()
        while self._waits(renewed):
            renewed = self._keep(renewed)

    def _waits(self, renewed: float) -> bool:
        """Wait until something is due; return False if there is nothing to keep."""
        with self._changed:
            if not self._kept:
                self._thread = None
                return False
            due = [renewed + self._pause(), *(one.cut_at for one in self._kept if one.cut_at is not None)]
            self._changed.wait(max(0, min(due) - monotonic()))
            return True

    def _keep(self, renewed: float) -> float:
        """Do what is due, and return when leases were renewed last."""
        with self._changed:
            kept = list(self._kept)
        now = monotonic()
        for download in kept:
            if download.cut_at is not None and download.cut_at <= now:
                download.cut_at = None
                download.cut()
        if now - renewed < self._pause():
            return renewed
        for download in kept:
            download.renew()
        connections.close_all()  # those of this thread: a cache in the database opens one
        return now
