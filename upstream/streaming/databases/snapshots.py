"""Snapshots: read-only transactions, in which all statements of an export see one state of the database.

Django does not know of them. To Django the connection stays in autocommit, so that whatever else uses it goes
through at once and is committed: before that, the guard of the connection ends the snapshot.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from django.db import connections

from upstream.streaming.databases.guards import guard_of


class Snapshot:
    """A transaction of ours, and how many exports are inside it."""

    def __init__(self, connection: Any, beginning: Sequence[str]) -> None:
        connection.ensure_connection()
        self._connection = connection
        self._raw = connection.connection
        self.exports = 0
        self.is_over = False
        try:
            with connection.wrap_database_errors:
                for sql in beginning:
                    self._execute(sql)
        except BaseException:
            self._roll_back()
            raise
        guard_of(connection).add(self)

    def is_disturbed_by(self, sql: str, *, by_export: bool) -> bool:  # noqa: ARG002
        return not by_export

    def give_way(self) -> None:
        self.is_over = True
        self._roll_back()

    def end(self) -> None:
        """End the transaction, in whatever thread; close the connection of a thread that has ended."""
        guard_of(self._connection).remove(self)
        self.give_way()
        if self._is_orphaned():
            self._connection.inc_thread_sharing()
            self._connection.close()  # a pool gets it back

    def _is_orphaned(self) -> bool:
        owner = self._connection._thread_ident  # noqa: SLF001 (what Django compares)
        return all(thread.ident != owner for thread in threading.enumerate())

    def _roll_back(self) -> None:
        if self._connection.connection is not self._raw:  # it was closed, and the transaction with it
            return
        try:
            self._execute("ROLLBACK")
        except Exception:  # noqa: BLE001 (the server may have gone)
            with suppress(Exception):
                self._raw.close()

    def _execute(self, sql: str) -> None:
        """Execute a statement by the driver alone: Django's cursors are for the thread that has the connection."""
        cursor = self._raw.cursor()
        try:
            cursor.execute(sql)
        finally:
            cursor.close()


@contextmanager
def snapshot(alias: str, *beginning: str) -> Iterator[None]:
    """Open a transaction by the statements of `beginning`, unless the caller has one open, which then is used.

    Exports that are read in turn on one connection share it, and the last one to end ends it.
    """
    connection = connections[alias]
    if is_in_callers_transaction(connection):
        yield
        return
    shared = _open_on(connection) or Snapshot(connection, beginning)
    shared.exports += 1
    try:
        yield
    finally:
        shared.exports -= 1
        if not (shared.exports or shared.is_over):
            shared.end()


def _open_on(connection: Any) -> Snapshot | None:
    return next((one for one in guard_of(connection).readers if isinstance(one, Snapshot)), None)


def is_open(connection: Any) -> bool:
    """Whether a transaction of ours is open on the connection."""
    return _open_on(connection) is not None


def is_in_callers_transaction(connection: Any) -> bool:
    """Whether the caller has a transaction open on the connection."""
    return bool(connection.in_atomic_block or (connection.connection and not connection.autocommit))


def is_in_transaction(connection: Any) -> bool:
    """Whether a transaction is open on the connection, ours or the caller's."""
    return is_open(connection) or is_in_callers_transaction(connection)


def ends_with_a_block(connection: Any) -> bool:
    """Whether the caller's transaction ends with an `atomic` block of the caller's, rather than with a test."""
    blocks = [block for block in connection.atomic_blocks if not block._from_testcase]  # noqa: SLF001
    return bool(blocks)
