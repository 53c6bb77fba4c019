"""Limit how long one statement of Django's runs, on every database."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from threading import Timer
from time import monotonic
from typing import Any

from django.db import DatabaseError, connections, transaction

from upstream.streaming import DeadlineError
from upstream.streaming.databases import database_of

EXCEEDED = "counting the rows exceeded the export's timeout: narrow it with filters"


@contextmanager
def statement_limit(alias: str, seconds: float | None) -> Iterator[None]:
    """Cancel the statement of the block after `seconds`, and raise DeadlineError; None is no limit.

    It is cancelled from another thread: a timeout of the database would need a transaction, or change the session.
    In a transaction it has a savepoint, since PostgreSQL refuses all that follows a statement that was cancelled.
    """
    if seconds is None:
        yield
        return
    connection: Any = connections[alias]
    connection.ensure_connection()
    savepoint = transaction.atomic(using=alias) if connection.in_atomic_block else nullcontext()
    with savepoint, _cancelled_after(connection, seconds):
        yield


@contextmanager
def _cancelled_after(connection: Any, seconds: float) -> Iterator[None]:
    end = monotonic() + seconds
    timer = Timer(max(0, seconds), database_of(connection).canceller(connection))
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
