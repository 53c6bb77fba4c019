"""Guards: an export frees its connection before anything else uses it.

While an export reads, its connection may be needed elsewhere: middleware saves a session or puts a tenant back,
the caller queries between two chunks. Such a use goes through at once, as if there were no export. The rows that
are left go to disk first. What bypasses Django's connection and cursors is not seen.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock, local
from typing import Any, Protocol

from upstream.streaming.databases.protocol import Cursor
from upstream.streaming.databases.spool import SpooledCursor

# What ends or begins a transaction, or the session, and that no execute wrapper sees.
GUARDED_METHODS = ("commit", "rollback", "set_autocommit", "close")


class _Activity(local):
    depth = 0


_activity = _Activity()


@contextmanager
def exporting() -> Iterator[None]:
    """Mark what this thread executes in the block as done by exports."""
    _activity.depth += 1
    try:
        yield
    finally:
        _activity.depth -= 1


class Reader(Protocol):
    """What an export has open on a connection."""

    def is_disturbed_by(self, sql: str, *, by_export: bool) -> bool:
        """Whether it has to give way to a statement, which an export executes or somebody else."""

    def give_way(self) -> None:
        """Take what is left off the connection. It raises nothing: whoever reads on gets the error."""


class Guard:
    """Watches one connection as long as it has readers.

    Readers give way in the opposite order to that in which they came: cursors before the transaction around them.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.readers: list[Reader] = []
        self._lock = RLock()  # an export may be closed in another thread

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
        """Let all cursors give way, for a statement that leaves the connection to no other."""
        self._give_way(lambda reader: isinstance(reader, YieldingCursor))

    def __call__(self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:
        text, by_export = str(sql), _activity.depth > 0
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
    """The execute wrappers of a connection, around which a guard stands whatever is pushed and popped."""

    def __init__(self, wrappers: list[Any], guard: Guard) -> None:
        super().__init__(wrappers)
        self._guard = guard

    def __reversed__(
        self,
    ) -> Iterator[Any]:  # Django puts them around a statement in this order: the last is outermost
        yield from super().__reversed__()
        yield self._guard


def guard_of(connection: Any) -> Guard:
    """Return the guard of a connection, which lives as long as that does."""
    guard: Guard = vars(connection).setdefault("upstream_guard", Guard(connection))
    return guard


class YieldingCursor:
    """A cursor that gives way: what is left of its rows then goes to disk."""

    def __init__(self, connection: Any, rows: Any, disturbs: Callable[[str, bool], bool]) -> None:
        """Take an executed cursor. `disturbs` tells which statements it gives way to: by exports, or by others."""
        self._guard = guard_of(connection)
        self._rows: Cursor = rows
        self._disturbs = disturbs
        self._guard.add(self)

    @property
    def description(self) -> Any:
        """What the driver says of the columns, as DB-API 2.0 has it."""
        return self._rows.description  # type: ignore[attr-defined]

    def is_disturbed_by(self, sql: str, *, by_export: bool) -> bool:
        return self._disturbs(sql, by_export)

    def give_way(self) -> None:
        try:
            self._rows = SpooledCursor(self._rows)
        except BaseException as error:
            self._rows = _FailedCursor(error)
            if not isinstance(error, Exception):  # Ctrl-C is for the caller too
                raise

    def fetchmany(self, size: int, /) -> list[tuple[Any, ...]]:
        return self._rows.fetchmany(size)

    def close(self) -> None:
        self._guard.remove(self)
        self._rows.close()


class _FailedCursor:
    """Raises what went wrong when a cursor gave way."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def fetchmany(self, _size: int, /) -> list[tuple[Any, ...]]:
        raise self._error

    def close(self) -> None:
        """There is nothing to close."""
