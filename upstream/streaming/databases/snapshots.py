"""Snapshots: read-only transactions, in which all statements of an export see one state of the database."""

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
    """A transaction of ours, and how many exports are inside it."""

    transaction: transaction.Atomic
    exports: int = 0


_snapshots: WeakKeyDictionary[BaseDatabaseWrapper, Snapshot] = WeakKeyDictionary()


@contextmanager
def snapshot(alias: str, beginning: str) -> Iterator[None]:
    """Open a transaction that begins with `beginning`, unless the caller has one open, which then is used.

    Exports that are read in turn on one connection share it, and the last one to end ends it.
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
    """Whether the transaction on the connection is one of ours."""
    return connection in _snapshots


def is_in_transaction(connection: Any) -> bool:
    """Whether a transaction is open on the connection, ours or the caller's."""
    return bool(connection.in_atomic_block or (connection.connection and not connection.autocommit))


def is_in_callers_transaction(connection: Any) -> bool:
    """Whether the caller has a transaction open on the connection."""
    return is_in_transaction(connection) and not is_open(connection)


def ends_with_a_block(connection: Any) -> bool:
    """Whether the caller's transaction ends with an `atomic` block of the caller's, rather than with a test."""
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
    else:  # nothing was written, and what the caller left for on_commit is to run
        atomic.__exit__(None, None, None)


def _abandon(connection: BaseDatabaseWrapper) -> None:
    """End a transaction from another thread, whose own connection an Atomic would end: drop the connection."""
    logger.warning("an export on %r was closed in another thread: its connection is dropped", connection.alias)
    raw, connection.connection = connection.connection, None
    connection.in_atomic_block = False
    if raw is not None:
        raw.close()
