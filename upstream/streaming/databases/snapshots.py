"""Snapshots: read-only transactions in which all statements of an export see one state of the database."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from django.db import DatabaseError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

logger = logging.getLogger(__name__)


@dataclass
class Snapshot:
    """A transaction opened by the engine, and the number of exports that use it."""

    transaction: transaction.Atomic
    exports: int = 0


_snapshots: WeakKeyDictionary[BaseDatabaseWrapper, Snapshot] = WeakKeyDictionary()


@contextmanager
def snapshot(alias: str, beginning: str) -> Iterator[None]:
    """Open a transaction that starts with the SQL `beginning`; if the caller has one open, use that.

    Interleaved exports on one connection share the transaction; the last one to end ends it.
    """
    connection = connections[alias]
    if connection not in _snapshots:
        if not connection.get_autocommit():
            yield
            return
        _snapshots[connection] = _begin(connection, beginning)
    shared = _snapshots[connection]
    shared.exports += 1
    try:
        yield
    finally:
        shared.exports -= 1
        if not shared.exports:
            del _snapshots[connection]
            _end(connection, shared.transaction)


def is_open(connection: BaseDatabaseWrapper) -> bool:
    """Return whether the engine opened the transaction of a connection."""
    return connection in _snapshots


def is_in_transaction(connection: Any) -> bool:
    """Return whether a connection has an open transaction, the engine's or the caller's."""
    return bool(connection.in_atomic_block or (connection.connection and not connection.autocommit))


def is_in_callers_transaction(connection: Any) -> bool:
    """Return whether the caller has a transaction open on a connection."""
    return is_in_transaction(connection) and not is_open(connection)


def ends_with_atomic_block(connection: Any) -> bool:
    """Return whether the caller's transaction ends with an `atomic` block, not with a TestCase."""
    blocks = [block for block in connection.atomic_blocks if not block._from_testcase]  # noqa: SLF001
    return bool(blocks) and not is_open(connection)


def _begin(connection: BaseDatabaseWrapper, beginning: str) -> Snapshot:
    atomic = transaction.atomic(using=connection.alias)
    atomic.__enter__()
    try:
        with connection.cursor() as cursor:
            cursor.execute(beginning)
    except BaseException:
        atomic.__exit__(*sys.exc_info())
        raise
    return Snapshot(atomic)


def _end(connection: BaseDatabaseWrapper, atomic: transaction.Atomic) -> None:
    error = sys.exc_info()[1]
    if connections[connection.alias] is not connection:
        _abandon(connection)
    elif isinstance(error, DatabaseError):
        atomic.__exit__(type(error), error, error.__traceback__)
    else:  # nothing was written; commit, so that the caller's on_commit callbacks run
        atomic.__exit__(None, None, None)


def _abandon(connection: BaseDatabaseWrapper) -> None:
    """End a transaction from another thread by closing its connection; Atomic would end that of this thread."""
    logger.warning("an export on %r was closed in another thread: closing its connection", connection.alias)
    raw, connection.connection = connection.connection, None
    connection.in_atomic_block = False
    if raw is not None:
        raw.close()
