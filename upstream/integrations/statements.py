"""Limit how long one statement of Django's runs, on every database."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from threading import Timer
from time import monotonic
from typing import Any

from django.db import DatabaseError, connections

from upstream.streaming import DeadlineError

EXCEEDED = "counting the rows exceeded the export's timeout: narrow it with filters"


@contextmanager
def statement_limit(alias: str, seconds: float | None) -> Iterator[None]:
    """Cancel the statement of the block after `seconds`, and raise DeadlineError; None is no limit.

    It is cancelled from another thread: a timeout of the database would need a transaction, or change the session.
    """
    if seconds is None:
        yield
        return
    connection = connections[alias]
    connection.ensure_connection()
    end = monotonic() + seconds
    timer = Timer(max(0, seconds), _canceller(connection))
    timer.start()
    try:
        yield
    except DatabaseError as error:
        if monotonic() < end:
            raise
        raise DeadlineError(EXCEEDED) from error
    finally:
        timer.cancel()
        timer.join()  # it must not cancel a later statement
    if monotonic() >= end:  # MySQL lets some statements end well
        raise DeadlineError(EXCEEDED)


def _canceller(connection: Any) -> Callable[[], None]:
    """Return a function that cancels the connection's statement from another thread."""
    raw = connection.connection
    if connection.vendor == "postgresql":
        cancel: Callable[[], None] = raw.cancel
    elif connection.vendor == "sqlite":
        cancel = raw.interrupt
    elif connection.vendor == "mysql":
        cancel = partial(_kill, connection, raw.thread_id())
    else:
        cancel = _none
    return cancel


def _kill(connection: Any, number: int) -> None:
    with closing(connection.copy()) as other, other.cursor() as cursor:
        cursor.execute("KILL QUERY %s", [number])


def _none() -> None:
    """Cancel nothing: the time is looked at when the statement has ended."""
