"""COPY ... TO STDOUT: rows as the server frames them, read past psycopg's own Copy object.

What depends on the inside of psycopg stands here and in `__init__.py`, pinned by `tests/test_drivers.py`.
"""

from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from importlib import import_module
from typing import Any

from django.db import DatabaseError

from upstream.streaming.databases.guards import guard_of
from upstream.streaming.databases.spool import Spool

# What COPY hands over at a time: below 64 KiB the calls begin to show, above it nothing is gained.
COPY_BYTES = 128 * 1024
FIRST_COPY_BYTES = 8 * 1024

# What the text of values depends on. Roles, databases and sessions may have set it otherwise.
SETTINGS = {
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
}
TEXT_SETTINGS = "; ".join(f"SET LOCAL {name} = {value}" for name, value in SETTINGS.items())

WAIT_TO_READ = 1  # psycopg.waiting.Wait.R


class CopyReader:
    """The rows that a COPY ... TO STDOUT statement sends, each as the server framed it, without its line end.

    They come in lists of at most `rows` rows, and of about `size` bytes or less.

    While it runs its connection is free for nothing else: before any other statement of Django's there, the rows
    that are left go to disk. It runs inside a savepoint, so that to end it early leaves the transaction whole.
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
        """End the statement at once, however many rows are left."""
        self._guard.remove(self)
        if self._running:
            with suppress(DatabaseError):  # the server may have gone
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
            self._spool = Spool(filter(None, iter(self._read_while_running, None)))  # the last may have no rows
        except BaseException as error:
            self._error = error
            if not isinstance(error, Exception):  # Ctrl-C is for the caller too
                raise

    def _read_while_running(self) -> list[Any] | None:
        return self._read() if self._running else None

    def _cancel(self) -> None:
        with self._connection.wrap_database_errors:
            self._raw.cancel_safe()
        while self._running:  # until the server says that it was cancelled
            self._read()

    def _ended(self) -> None:
        self._running = False
        self._guard.remove(self)
        self._roll_back()

    def _roll_back(self) -> None:
        """Leave the savepoint, and with it the settings; the connection is locked and the statement ended."""
        with suppress(import_module("psycopg").Error):  # a lost connection has lost them too
            self._command("ROLLBACK TO SAVEPOINT upstream_copy; RELEASE SAVEPOINT upstream_copy")

    def _command(self, sql: str) -> None:
        self._raw.wait(_executed(self._raw.pgconn, sql))


def _executed(pgconn: Any, sql: str) -> Generator[Any, Any, None]:
    """Send statements and wait for their results, as psycopg's own generators do."""
    pgconn.send_query(sql.encode())
    _check((yield from import_module("psycopg.generators").execute(pgconn)))


def _copied(pgconn: Any, most: int, size: int) -> Generator[Any, Any, tuple[list[bytes], bool]]:
    """Take rows from the running COPY, at most so many and about `size` bytes; say whether they were the last.

    One call a row and no more, where psycopg's own Copy.read() has two generators and a wait: a quarter of its
    time. Waits only when nothing has come yet. Kept as they come, as memoryviews, rows would be objects that the
    garbage collector goes through: a third of our processor time.
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
