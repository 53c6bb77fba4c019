"""Share a Django connection with whatever else uses it while an export reads from it.

Middleware may save a session or reset a tenant, the caller may query between two chunks. Such a use runs at once,
as if there were no export: the export's cursors give way to it, which spools their remaining rows to disk, and its
transaction ends. Uses that bypass Django's connection and cursors are not seen.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Protocol

from django.db import connections

from upstream.streaming.databases.protocol import Cursor
from upstream.streaming.databases.spool import SpooledCursor

# What a plan says of several statements in one snapshot.
SNAPSHOT_NOTE = (
    "once anything else uses the connection between two chunks, further statements see the current data"
)

# Methods that begin or end a transaction or the session; execute wrappers do not see them.
GUARDED_METHODS = ("commit", "rollback", "set_autocommit", "close")

# Set in the context in which an export runs: what is executed there is its own.
is_exporting: ContextVar[bool] = ContextVar("is_exporting", default=False)


class Reader(Protocol):
    """Something that an export has open on a connection."""

    def is_disturbed_by(self, sql: str, *, by_export: bool) -> bool:
        """Return whether it must give way to a statement, executed by an export or by something else."""

    def give_way(self) -> None:
        """Leave the connection. Errors are not raised here but to whoever reads on."""


class Guard:
    """Watch one connection as long as it has readers.

    Readers give way in reverse order: cursors before the transaction that they were opened in.
    """

    def __init__(self, connection: Any) -> None:
        self.readers: list[Reader] = []
        self._connection = connection
        self._lock = threading.RLock()  # an export may be closed in another thread

    def add(self, reader: Reader) -> None:
        with self._lock:
            if not self.readers:
                self._install()
            self.readers.append(reader)

    def remove(self, reader: Reader) -> None:
        with self._lock:
            if reader in self.readers:
                self.readers.remove(reader)
                if not self.readers:
                    self._uninstall()

    def free(self) -> None:
        """Make all cursors give way, for a statement during which the connection can execute no other."""
        self._give_way(lambda reader: isinstance(reader, YieldingCursor))

    def release(self) -> None:
        """Leave the connection, after an interrupt that may have fallen between any two steps of its readers."""
        self._give_way(lambda _: True)
        self._uninstall()

    def __call__(self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:
        text, by_export = str(sql), is_exporting.get()
        self._give_way(lambda reader: reader.is_disturbed_by(text, by_export=by_export))
        return execute(sql, params, many, context)

    def _give_way(self, is_disturbed: Callable[[Reader], bool]) -> None:
        with self._lock:
            for reader in reversed(self.readers.copy()):
                if reader in self.readers and is_disturbed(reader):
                    self.remove(reader)
                    reader.give_way()

    def _install(self) -> None:
        connection = self._connection
        connection.execute_wrappers = _Wrappers(connection.execute_wrappers, self)
        for name in GUARDED_METHODS:
            setattr(connection, name, self._guarded(getattr(type(connection), name)))

    def _guarded(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*arguments: Any, **options: Any) -> Any:
            self._give_way(lambda _: True)
            return method(self._connection, *arguments, **options)

        return guarded

    def _uninstall(self) -> None:
        connection = self._connection
        connection.execute_wrappers = list(connection.execute_wrappers)
        for name in GUARDED_METHODS:
            vars(connection).pop(name, None)


class _Wrappers(list[Any]):
    """The execute wrappers of a connection, with a guard outside of them however they are pushed and popped."""

    def __init__(self, wrappers: list[Any], guard: Guard) -> None:
        super().__init__(wrappers)
        self._guard = guard

    def __reversed__(self) -> Iterator[Any]:
        # Django wraps a statement in this order: the last is outermost and sees it first.
        yield from super().__reversed__()
        yield self._guard


def guard_of(connection: Any) -> Guard:
    """Return the guard of a connection; it lives as long as the connection."""
    guard: Guard = vars(connection).setdefault("upstream_guard", Guard(connection))
    return guard


class YieldingCursor:
    """An executed cursor that gives way: its remaining rows are then spooled to disk."""

    def __init__(self, connection: Any, rows: Any, disturbs: Callable[[str, bool], bool]) -> None:
        """Take the cursor `rows`; `disturbs(sql, by_export)` returns whether it must give way to a statement."""
        self._guard = guard_of(connection)
        self._take(rows)
        self._disturbs = disturbs
        self._guard.add(self)

    @property
    def description(self) -> Any:
        """The columns, as DB-API 2.0 (PEP 249) describes them."""
        return self._rows.description  # type: ignore[attr-defined]

    def is_disturbed_by(self, sql: str, *, by_export: bool) -> bool:
        return self._disturbs(sql, by_export)

    def give_way(self) -> None:
        try:
            self._take(SpooledCursor(self._rows))
        except BaseException as error:
            self._take(_FailedCursor(error))
            if not isinstance(error, Exception):  # Ctrl-C is also for the caller
                raise

    def _take(self, rows: Cursor) -> None:
        self._rows = rows
        self._fetch = rows.fetchmany  # Django makes it anew each time it is asked for

    def fetchmany(self, size: int, /) -> list[tuple[Any, ...]]:
        return self._fetch(size)

    def close(self) -> None:
        self._guard.remove(self)
        self._rows.close()


class _FailedCursor:
    """Raise to the reader what went wrong when its cursor gave way."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def fetchmany(self, _size: int, /) -> list[tuple[Any, ...]]:
        raise self._error

    def close(self) -> None:
        """Do nothing."""


@contextmanager
def raw_cursor(raw: Any) -> Iterator[Any]:
    """Yield a cursor of the driver's connection `raw`; closing it hides neither an error nor an interrupt."""
    cursor = raw.cursor()
    try:
        yield cursor
    except BaseException:
        with suppress(Exception):
            cursor.close()
        raise
    cursor.close()


def separate(alias: str) -> Any:
    """Return a new connection in autocommit, not open yet; none of a pool, which might have no other left."""
    connection = connections[alias].copy()
    connection.settings_dict["AUTOCOMMIT"] = True
    connection.settings_dict["OPTIONS"].pop("pool", None)
    return connection


def close_orphan(connection: Any) -> None:
    """Close a connection whose thread has ended: nobody else does."""
    owner = connection._thread_ident  # noqa: SLF001 (what Django compares)
    if all(thread.ident != owner for thread in threading.enumerate()):
        connection.inc_thread_sharing()
        connection.close()  # returns it to its pool


class Snapshot:
    """A transaction in which all statements of an export see one state of the database.

    Django does not know of it: to Django the connection stays in autocommit, so that whatever else uses it is
    committed at once. Before that, the guard of the connection ends the snapshot.
    """

    def __init__(self, connection: Any, statements: tuple[str, ...]) -> None:
        connection.ensure_connection()
        self.exports = 0
        self.is_over = False
        self._connection = connection
        self._raw = connection.connection
        try:
            with connection.wrap_database_errors:
                for sql in statements:
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
        """End the transaction, in any thread; close the connection of a thread that has ended."""
        guard_of(self._connection).remove(self)
        self.give_way()
        close_orphan(self._connection)

    def _roll_back(self) -> None:
        if self._connection.connection is not self._raw:  # it was closed, and the transaction with it
            return
        try:
            self._execute("ROLLBACK")
        except Exception:  # noqa: BLE001 (the connection may be lost)
            with suppress(Exception):
                self._raw.close()
            if not (self._connection.in_atomic_block or self._connection.settings_dict["OPTIONS"].get("pool")):
                self._connection.connection = None  # Django opens another for its next statement

    def _execute(self, sql: str) -> None:
        """Execute a statement on the driver's connection: Django's belongs to one thread."""
        with raw_cursor(self._raw) as cursor:
            cursor.execute(sql)


@contextmanager
def snapshot(alias: str, *statements: str) -> Iterator[None]:
    """Open a transaction with `statements`, unless the caller has one open, which is then used.

    Exports that read in turn on one connection share it. The last one to end ends it.
    """
    connection = connections[alias]
    if is_in_callers_transaction(connection):
        yield
        return
    shared = _open_snapshot(connection) or Snapshot(connection, statements)
    shared.exports += 1
    try:
        yield
    finally:
        shared.exports -= 1
        if not (shared.exports or shared.is_over):
            shared.end()


def is_in_transaction(connection: Any) -> bool:
    """Return whether a transaction is open on the connection, an export's or the caller's."""
    return _open_snapshot(connection) is not None or is_in_callers_transaction(connection)


def is_in_callers_transaction(connection: Any) -> bool:
    """Return whether the caller has a transaction open on the connection."""
    return bool(connection.in_atomic_block or (connection.connection and not connection.autocommit))


def ends_with_atomic_block(connection: Any) -> bool:
    """Return whether the caller's transaction ends with one of the caller's `atomic` blocks, not with a test."""
    return any(not block._from_testcase for block in connection.atomic_blocks)  # noqa: SLF001


def _open_snapshot(connection: Any) -> Snapshot | None:
    return next((one for one in guard_of(connection).readers if isinstance(one, Snapshot)), None)
