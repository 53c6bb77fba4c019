"""COPY ... TO STDOUT: rows as the server frames them, read without psycopg's Copy object.

What depends on psycopg's internals is here and in `__init__.py`, pinned by `tests/test_drivers.py`.
"""

from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from importlib import import_module
from typing import Any

from django.db import DatabaseError

from upstream.streaming.databases.sharing import guard_of
from upstream.streaming.databases.spool import Spool

# The bytes of a list of rows: below 64 KiB the cost of calls shows, above it nothing is gained.
COPY_BYTES = 128 * 1024
FIRST_COPY_BYTES = 8 * 1024

# Settings that the text of values depends on; roles, databases and sessions may have changed them.
SETTINGS = {
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
}
TEXT_SETTINGS = "; ".join(f"SET LOCAL {name} = {value}" for name, value in SETTINGS.items())

WAIT_TO_READ = 1  # psycopg.waiting.Wait.R


class CopyReader:
    """The rows of a COPY ... TO STDOUT statement, each as the server framed it, without its line end.

    They are yielded in lists of at most `rows` rows, and of about `size` bytes or less.

    While it runs, its connection can do nothing else: before any other statement of Django there, the remaining
    rows are spooled to disk. It runs in a savepoint, so that ending it early leaves the transaction usable.
    """

    def __init__(self, connection: Any, sql: str, *, rows: int, size: int) -> None:
        self._connection = connection
        self._guard = guard_of(connection)
        self._raw = connection.connection
        self._running = False
        self._spool: Spool | None = None
        self._rows, self._full = rows, min(size, COPY_BYTES)
        self._size = min(size, FIRST_COPY_BYTES)
        with connection.wrap_database_errors, self._raw.lock:
            self._command(f"SAVEPOINT upstream_copy; {TEXT_SETTINGS}")
            try:
                self._command(sql)
            except BaseException:
                self._roll_back()
                raise
        self._running = True
        self._error: BaseException | None = None
        self._guard.add(self)

    def __iter__(self) -> Iterator[list[Any]]:
        while self._running:
            if rows := self._read():
                yield rows
        if self._spool:
            yield from self._spool
        if self._error:
            raise self._error

    def close(self) -> None:
        """End the statement at once, however many rows remain."""
        self._guard.remove(self)
        if self._running:
            with suppress(DatabaseError):  # the connection may be lost
                self._cancel()
        if self._spool:
            self._spool.close()

    def _read(self) -> list[Any]:
        with self._connection.wrap_database_errors, self._raw.lock:
            try:
                rows, ended = self._raw.wait(_copied(self._raw.pgconn, self._rows, self._size))
            except BaseException:
                self._ended()
                raise
            self._size = self._full
            if ended:
                self._ended()
        return rows  # type: ignore[no-any-return]

    def is_disturbed_by(self, sql: str, *, by_export: bool) -> bool:  # noqa: ARG002
        return True

    def give_way(self) -> None:
        try:
            self._spool = Spool(filter(None, iter(self._read_while_running, None)))  # the last list may be empty
        except BaseException as error:
            self._error = error
            if not isinstance(error, Exception):  # Ctrl-C is also for the caller
                raise

    def _read_while_running(self) -> list[Any] | None:
        return self._read() if self._running else None

    def _cancel(self) -> None:
        with self._connection.wrap_database_errors:
            self._raw.cancel_safe()
        while self._running:  # until the server confirms the cancellation
            self._read()

    def _ended(self) -> None:
        self._running = False
        self._guard.remove(self)
        self._roll_back()

    def _roll_back(self) -> None:
        """Leave the savepoint, which resets the settings; the connection must be locked, the statement ended."""
        with suppress(import_module("psycopg").Error):  # a lost connection has lost them anyway
            self._command("ROLLBACK TO SAVEPOINT upstream_copy; RELEASE SAVEPOINT upstream_copy")

    def _command(self, sql: str) -> None:
        self._raw.wait(_executed(self._raw.pgconn, sql))


def _executed(pgconn: Any, sql: str) -> Generator[Any, Any, None]:
    """Send statements and wait for their results, as psycopg's generators do."""
    pgconn.send_query(sql.encode())
    _check((yield from import_module("psycopg.generators").execute(pgconn)))


def _copied(pgconn: Any, most: int, size: int) -> Generator[Any, Any, tuple[list[bytes], bool]]:
    """Read at most `most` rows and about `size` bytes from the running COPY; return whether they were the last.

    One call per row takes a quarter of the time of psycopg's Copy.read(), which has two generators and a wait.
    Waits only if no data has arrived. Rows are copied to bytes: as memoryviews they would be traversed by the
    garbage collector, for a third of the processor time.
    """
    take = pgconn.get_copy_data
    rows: list[bytes] = []
    while size > 0 and len(rows) < most:
        length, data = take(1)
        if length > 0:
            rows.append(data[:-1].tobytes())
            size -= length
        elif length == 0:
            while not (yield WAIT_TO_READ):
                pass
            pgconn.consume_input()
        else:
            _check((yield from import_module("psycopg.generators").fetch_many(pgconn)))
            return rows, True
    return rows, False


def _check(results: Iterable[Any]) -> None:
    failed = import_module("psycopg.pq").ExecStatus.FATAL_ERROR
    for result in results:
        if result.status == failed:
            raise import_module("psycopg.errors").error_from_result(result)
