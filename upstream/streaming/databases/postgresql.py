"""PostgreSQL: cursors that stream inside a snapshot, and COPY."""

from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from importlib import import_module
from itertools import count
from typing import Any

from django.db import DatabaseError

from upstream.streaming.databases import snapshots
from upstream.streaming.databases.forms import SETTINGS
from upstream.streaming.databases.spool import Cursor, Guard, Spool

# What COPY hands over at a time: below 64 KiB the calls begin to show, above it nothing is gained.
COPY_BYTES = 128 * 1024
FIRST_COPY_BYTES = 8 * 1024
SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
# What the text of values depends on; roles, databases and sessions may have set it otherwise.
TEXT_SETTINGS = "; ".join(f"SET LOCAL {name} = {value}" for name, value in SETTINGS.items())

WAIT_TO_READ = 1  # psycopg.waiting.Wait.R

_cursor_numbers = count(1)


def snapshot(alias: str, seconds: float | None = None) -> AbstractContextManager[None]:
    """Open a READ ONLY, REPEATABLE READ transaction, in which no statement takes longer than `seconds`.

    In autocommit Django declares its cursors WITH HOLD, and PostgreSQL then stores the whole result before the
    first row: 250 ms against 17 ms for 500,000 rows. Its planner takes a cursor for one whose first tenth is
    read (cursor_tuple_fraction); an export reads all of it.
    """
    limit = [] if seconds is None else [f"SET LOCAL statement_timeout = {max(1, int(seconds * 1000))}"]
    beginning = [SNAPSHOT, "SET LOCAL cursor_tuple_fraction = 1", TEXT_SETTINGS, *limit]
    return snapshots.snapshot(alias, "; ".join(beginning))


def has_copy(connection: Any) -> bool:
    """Whether the driver is psycopg 3; Django takes psycopg2 too, which reads all types as Python values."""
    return bool(connection.Database.__name__ == "psycopg")


def driver_note(connection: Any) -> str:
    """Return what about the driver makes exports slower than they could be, or nothing."""
    if not has_copy(connection):
        return "psycopg2 has no COPY for exports: pip install 'psycopg[binary]' is several times as fast"
    if import_module("psycopg.pq").__impl__ == "python":
        return "psycopg runs without its C part: pip install 'psycopg[binary]' is several times as fast"
    return ""


def open_cursor(
    connection: Any, sql: str, params: Any, raw_types: Mapping[int, str]
) -> tuple[Cursor, Collection[int]]:
    """Execute a statement on a server-side cursor of the open transaction; return the positions that come raw.

    It lives no longer than the transaction, so that PgBouncer's transaction mode and
    DISABLE_SERVER_SIDE_CURSORS are no hindrance. The columns at the positions in `raw_types` come as the server's
    own text, unless one is of another type than its expression says, or others have to be converted from it.
    """
    if not (raw_types and has_copy(connection)):
        return _executed_cursor(connection, sql, params, ()), ()
    cursor = _executed_cursor(connection, sql, params, set(raw_types.values()))
    if _are_of_types(cursor, raw_types):
        return cursor, raw_types
    cursor.close()
    return _executed_cursor(connection, sql, params, ()), ()


def _executed_cursor(connection: Any, sql: str, params: Any, text_types: Iterable[str]) -> Any:
    name = f"upstream_{next(_cursor_numbers)}"
    cursor = connection._cursor(name=name)  # noqa: SLF001 (chunked_cursor() heeds DISABLE_SERVER_SIDE_CURSORS)
    try:
        if has_copy(connection):
            loader = import_module("psycopg.types.string").TextLoader
            for kind in ("json", *text_types):  # json is read as Django reads jsonb
                cursor.cursor.adapters.register_loader(kind, loader)
        cursor.execute(sql, params)
    except BaseException:
        cursor.close()
        raise
    return cursor


def _are_of_types(cursor: Any, raw_types: Mapping[int, str]) -> bool:
    """Whether those columns have those types, and no others have them, in arrays or ranges maybe."""
    registry = cursor.cursor.adapters.types
    known = [registry[name] for name in set(raw_types.values())]
    theirs = {info.oid for info in known} | {info.array_oid for info in known}
    ranges = [info for info in registry if getattr(info, "subtype_oid", 0) in theirs]
    theirs |= {oid for info in ranges for oid in (info.oid, info.array_oid)}
    codes = enumerate(column.type_code for column in cursor.description)
    return all(
        code == registry[raw_types[position]].oid if position in raw_types else code not in theirs
        for position, code in codes
    )


def column_types(connection: Any, sql: str) -> list[int]:
    """Return the type (oid) of each column of a statement without parameters, which is planned and not run."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM ({sql}) AS q LIMIT 0")  # noqa: S608
        return [column.type_code for column in cursor.description]


class CopyRows:
    """The rows that a COPY ... TO STDOUT statement sends, each as the server framed it, without its line end.

    They come in lists of at most `rows` rows, and of about `size` bytes or less.

    While it runs its connection is free for nothing else: before any other statement of Django's there, the rows
    that are left go to disk. It runs inside a savepoint, so that to end it early leaves the transaction whole.
    """

    def __init__(self, connection: Any, sql: str, *, rows: int, size: int) -> None:
        self._connection = connection
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
        self._guard = Guard(connection, self._make_way, commits=True)

    def __iter__(self) -> Iterator[list[Any]]:
        while self._running:
            if rows := self._read():
                yield rows
        if self._spool:
            yield from self._spool

    def close(self) -> None:
        """End the statement at once, however many rows are left."""
        self._guard.end()
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

    def _make_way(self) -> None:
        self._guard.end()
        if self._running and not self._raw.closed:  # a lost connection concerns whoever reads on
            self._spool = Spool(filter(None, iter(self._read_while_running, None)))  # the last may have no rows

    def _read_while_running(self) -> list[Any] | None:
        return self._read() if self._running else None

    def _cancel(self) -> None:
        with self._connection.wrap_database_errors:
            self._raw.cancel_safe()
        while self._running:  # until the server says that it was cancelled
            self._read()

    def _ended(self) -> None:
        self._running = False
        self._guard.end()
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
