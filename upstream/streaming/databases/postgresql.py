"""PostgreSQL: server-side cursors that stream."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper


@dataclass
class Snapshot:
    """A transaction of ours, and how many exports are inside it."""

    transaction: transaction.Atomic
    exports: int = 0


_snapshots: WeakKeyDictionary[BaseDatabaseWrapper, Snapshot] = WeakKeyDictionary()


@contextmanager
def snapshot(alias: str) -> Iterator[None]:
    """Open a READ ONLY, REPEATABLE READ transaction, unless the caller has one open, which then is used.

    Exports that are read in turn on one connection share it, and the last one to end ends it.

    In autocommit Django declares its cursors WITH HOLD, and PostgreSQL then stores the whole result before the
    first row: 250 ms against 17 ms for 500,000 rows. Its planner takes a cursor for one whose first tenth is
    read (cursor_tuple_fraction); an export reads all of it.
    """
    connection = connections[alias]
    if connection not in _snapshots:
        if not connection.get_autocommit():
            yield
            return
        _snapshots[connection] = _begin(connection)
    shared = _snapshots[connection]
    shared.exports += 1
    try:
        yield
    finally:
        shared.exports -= 1
        if not shared.exports:
            del _snapshots[connection]
            shared.transaction.__exit__(*sys.exc_info())


def _begin(connection: BaseDatabaseWrapper) -> Snapshot:
    atomic = transaction.atomic(using=connection.alias)
    atomic.__enter__()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            cursor.execute("SET LOCAL cursor_tuple_fraction = 1")
    except BaseException:
        atomic.__exit__(*sys.exc_info())
        raise
    return Snapshot(atomic)
