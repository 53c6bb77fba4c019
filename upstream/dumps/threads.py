"""A worker in a thread of this process: it starts at once, and shares the interpreter with the others."""

import traceback
from contextlib import suppress
from queue import SimpleQueue
from threading import Event, Thread
from time import monotonic
from typing import Any

from django.db import connections

from upstream.dumps.serving import Kind, Tell, serve
from upstream.dumps.sites import Plan
from upstream.streaming.databases import database_of
from upstream.streaming.databases.sharing import separate

# How long a statement that was cancelled may take to end, before it is cancelled again.
CANCEL_SECONDS = 0.5
GRACE_SECONDS = 5  # a target that is slow to write may keep a thread longer: it stops at its next chunk


class StoppedError(BaseException):
    """Nobody waits for the part any more: it ends what is open for it, as an interrupt does."""


class ThreadWorker:
    """A thread, with a connection of its own outside of any pool, which might have none left."""

    def __init__(self, plan: Plan, tell: Tell) -> None:
        self._plan, self._tell = plan, tell
        self._numbers: SimpleQueue[int | None] = SimpleQueue()
        self._stopped = Event()
        self._connection: Any = None
        # An interrupt may come before anybody can end it, which must not keep the interpreter from its own end.
        self._thread = Thread(target=self._work, daemon=True)
        self._thread.start()

    def give(self, number: int) -> None:
        self._numbers.put(number)

    def end(self) -> None:
        self._stopped.set()
        self._numbers.put(None)
        end = monotonic() + GRACE_SECONDS
        while self._thread.is_alive() and monotonic() < end:
            with suppress(Exception):  # its connection may not be open yet, or be lost
                database_of(self._connection).canceller(self._connection)()
            self._thread.join(CANCEL_SECONDS)

    def _work(self) -> None:
        try:
            self._connection = connections[self._plan.alias] = separate(self._plan.alias)
            serve(self._plan, iter(self._numbers.get, None), self._told)
        except StoppedError:
            pass
        except BaseException:  # noqa: BLE001 (told to the thread that waits)
            self._tell("died", traceback.format_exc())
        finally:
            connections.close_all()

    def _told(self, kind: Kind, content: Any) -> None:
        if self._stopped.is_set():
            raise StoppedError
        self._tell(kind, content)
