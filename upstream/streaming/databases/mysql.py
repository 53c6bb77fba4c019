"""MySQL and MariaDB: unbuffered cursors, since the driver's default holds the whole result."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from datetime import date
from decimal import Decimal
from functools import partial
from importlib import import_module
from logging import getLogger
from typing import Any, ClassVar
from uuid import UUID

from upstream.streaming.databases.loaders import (
    Loader,
    MakeLoader,
    in_zone_of,
    keep_dates,
    keep_texts,
    load_booleans,
    load_dates,
    load_utc_datetimes,
    load_uuids,
    shorten_utc_datetimes,
)
from upstream.streaming.databases.protocol import Cursor, Database, OpenCursor, Reading
from upstream.streaming.databases.sharing import (
    SNAPSHOT_NOTE,
    close_orphan,
    is_in_callers_transaction,
    is_in_transaction,
    raw_cursor,
    snapshot,
)
from upstream.streaming.databases.spool import SpooledCursor

logger = getLogger(__name__)

# The server drops a client that reads nothing for 60 seconds; a download may stall longer.
WRITE_TIMEOUT_SECONDS = 24 * 60 * 60
# Django's default is READ COMMITTED, in which each statement sees its own state.
SNAPSHOT = ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION READ ONLY")
# Types of MySQLdb.constants.FIELD_TYPE that the driver converts in Python; loaders read them as text.
TEXT_TYPES = ("DECIMAL", "NEWDECIMAL", "DATE", "DATETIME", "TIMESTAMP")
# The driver reads a zero date as NULL, and single-precision numbers with only six digits.
EXACT = {
    **dict.fromkeys(("DateField", "DateTimeField", "TimeField"), "CAST({} AS CHAR)"),
    "FloatField": "({}) + 0e0",
}
# Variables that differ between two sessions that were set alike.
CHANGING_VARIABLES = frozenset({
    "error_count", "identity", "insert_id", "last_gtid", "last_insert_id", "pseudo_thread_id", "rand_seed1",
    "rand_seed2", "timestamp", "warning_count",
})  # fmt: skip
LONG = 256  # characters of four bytes: https://mariadb.com/kb/en/server-system-variables/#max_sort_length


def _boolean(_connection: Any, _field: Any, _is_column: bool) -> Loader:
    return Loader(load=load_booleans)


def _date(_connection: Any, _field: Any, is_column: bool) -> Loader | None:
    if not is_column:  # a constant is text, and stays text
        return None
    return Loader(load=load_dates, load_texts=keep_dates, texts_of=date, raw_type="DATE")


def _datetime(connection: Any, _field: Any, is_column: bool) -> Loader | None:
    load = in_zone_of(connection, load_utc_datetimes, shorten_utc_datetimes) if is_column else None
    return None if load is None else Loader(**load, raw_type="DATETIME")


def _decimal(_connection: Any, _field: Any, _is_column: bool) -> Loader:
    return Loader(load_texts=keep_texts, texts_of=Decimal, raw_type="DECIMAL")


def _uuid(_connection: Any, _field: Any, _is_column: bool) -> Loader:
    return Loader(load_texts=load_uuids, texts_of=UUID)


class MySQL(Database):
    """MySQL and MariaDB, with mysqlclient."""

    loaders: ClassVar[Mapping[str, MakeLoader]] = {
        "BooleanField": _boolean,
        "DateField": _date,
        "DateTimeField": _datetime,
        "DecimalField": _decimal,
        "UUIDField": _uuid,
    }

    def reading(self, connection: Any, *, several: bool) -> Reading:
        if not (several or is_in_transaction(connection)):
            return Reading(bounded=True, consistency="statement")
        is_callers = is_in_callers_transaction(connection)
        notes = ["in a transaction all rows are spooled to disk first"] + [SNAPSHOT_NOTE] * (not is_callers)
        return Reading(bounded=True, consistency="statement" if is_callers else "snapshot", note="; ".join(notes))

    def hold(self, alias: str, *, several: bool, seconds: float | None) -> AbstractContextManager[None]:  # noqa: ARG002
        return snapshot(alias, *SNAPSHOT) if several else nullcontext()

    def open_cursor(
        self,
        connection: Any,
        sql: str,
        params: Any,
        *,
        raw_types: Mapping[int, str],
        width: int,  # noqa: ARG002
        seconds: float | None,
    ) -> OpenCursor:
        cursor = open_cursor(connection, sql, params, texts=bool(raw_types), seconds=seconds)
        conversions = skipped_conversions(connection, cursor)
        return OpenCursor(cursor, conversions, conversions)

    def exact(self, sql: str, kind: str) -> str:
        return EXACT.get(kind, "{}").format(sql)

    def is_idle(self, connection: Any) -> bool:
        try:
            return list(_rows(connection.connection, "SELECT @@in_transaction")) == [(0,)]
        except connection.connection.Error:  # rows of another statement are unread, or MySQL, which does not tell
            return False

    def canceller(self, connection: Any) -> Callable[[], None]:
        return partial(_kill_query, connection, connection.connection.thread_id())

    def json_text(self, sql: str) -> str:
        return f"CAST({sql} AS CHAR)"

    def sorts_as_it_compares(self, kind: str, max_length: int | None) -> bool:
        """Return whether values fit into the first 1,024 bytes, which are all that it sorts by."""
        if kind == "CharField":
            return (max_length or LONG) < LONG
        return super().sorts_as_it_compares(kind, max_length)


class UnbufferedCursor:
    """Rows as the server sends them, on a separate connection, so that no other statement has to wait."""

    def __init__(
        self, connection: Any, own: Any, sql: str, params: Any, *, texts: bool, seconds: float | None
    ) -> None:
        """Execute the statement on `own`, a copy of `connection` that is closed with the cursor."""
        self._connection, self._own = connection, own
        self.texts = texts
        try:
            with own.cursor() as cursor:
                cursor.execute(f"SET SESSION net_write_timeout = {WRITE_TIMEOUT_SECONDS}")
                if seconds is not None:
                    cursor.execute(*_statement_limit(own, seconds))
            self._rows = _unbuffered(own, sql, params)
        except BaseException:
            own.close()
            raise

    @property
    def description(self) -> Any:
        return self._rows.description

    def fetchmany(self, size: int, /) -> list[tuple[Any, ...]]:
        return list(self._rows.fetchmany(size))

    def close(self) -> None:
        # Not the cursor, which would read all remaining rows. Nor Django's connection, which refuses if an event
        # loop runs: the garbage collector may close a forgotten export in its thread.
        raw, self._own.connection = self._own.connection, None
        if raw is not None:
            raw.close()
            close_orphan(self._connection)


def open_cursor(connection: Any, sql: str, params: Any, *, texts: bool, seconds: float | None) -> Cursor:
    """Execute a statement on an unbuffered cursor.

    In a transaction, only its own connection sees its state; and if the session was changed (USE, SET, a role,
    temporary tables, variables), only its own connection has the change. There all rows are spooled to disk before
    the first is returned, since the connection can execute nothing else while rows arrive.
    """
    connection.ensure_connection()
    own = None if is_in_transaction(connection) else _separate_connection(connection, texts=texts)
    if own is not None:
        return UnbufferedCursor(connection, own, sql, params, texts=texts, seconds=seconds)
    if seconds is not None and connection.mysql_is_mariadb:  # MySQL limits only sessions
        sql = f"SET STATEMENT max_statement_time = {seconds:.6f} FOR {sql}"
    return SpooledCursor(_unbuffered(connection, sql, params))


def _separate_connection(connection: Any, *, texts: bool) -> Any:
    """Return a new connection whose session equals that of `connection`; None if that is not certain."""
    if _has_objects(connection.connection):
        return None
    own = connection.copy()
    if texts:
        own.settings_dict["OPTIONS"]["conv"] = _text_conversions(connection)
    own.execute_wrappers = list(connection.execute_wrappers)
    for name in ("queries_log", "force_debug_cursor"):
        setattr(own, name, getattr(connection, name))
    own.inc_thread_sharing()  # any thread may end the export and close it
    try:
        own.ensure_connection()
        if _session(own.connection) == _session(connection.connection):
            return own
        logger.info("the session of %r was changed: the export is spooled to disk first", connection.alias)
    except BaseException:
        own.close()
        raise
    own.close()
    return None


def _has_objects(raw: Any) -> bool:
    """Return whether the session may have temporary tables or user variables. Takes 0.3 ms."""
    try:
        status = dict(_rows(raw, "SHOW SESSION STATUS WHERE Variable_name IN ('Com_create_temporary_table')"))
        [[variables]] = _rows(raw, "SELECT COUNT(*) FROM information_schema.USER_VARIABLES")
    except raw.Error:  # MySQL has neither: its session is not known
        return True
    return status != {"Com_create_temporary_table": "0"} or variables > 0


def _session(raw: Any) -> tuple[Any, ...]:
    """Return the database, the role and the variables of a session. Takes 3 ms."""
    variables = dict(_rows(raw, "SHOW SESSION VARIABLES"))
    for name in CHANGING_VARIABLES:
        variables.pop(name, None)
    return (*_rows(raw, "SELECT DATABASE(), CURRENT_ROLE()"), variables)


def _rows(raw: Any, sql: str) -> Any:
    """Return the rows of a statement, executed on the driver's connection: it is no query of the caller's."""
    with raw_cursor(raw) as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def _kill_query(connection: Any, number: int) -> None:
    with closing(connection.copy()) as other, other.cursor() as cursor:
        cursor.execute("KILL QUERY %s", [number])


def _unbuffered(connection: Any, sql: str, params: Any) -> Any:
    connection.ensure_connection()
    wrapper = import_module("django.db.backends.mysql.base").CursorWrapper
    unbuffered = connection.connection.cursor(import_module("MySQLdb.cursors").SSCursor)
    cursor = connection._prepare_cursor(wrapper(unbuffered))  # noqa: SLF001 (with Django's errors, log and wrappers)
    cursor.execute(sql, params)
    return cursor


def _statement_limit(connection: Any, seconds: float) -> tuple[str, list[Any]]:
    if connection.mysql_is_mariadb:
        return "SET SESSION max_statement_time = %s", [seconds]
    return "SET SESSION max_execution_time = %s", [max(1, int(seconds * 1000))]


def _text_conversions(connection: Any) -> dict[int, Any]:
    types = import_module("MySQLdb.constants").FIELD_TYPE
    known = connection.get_connection_params()["conv"]
    return {**known, **{getattr(types, name): str for name in TEXT_TYPES}}


def skipped_conversions(connection: Any, cursor: Cursor) -> dict[int, Any]:
    """Return, by position, the driver's conversions that were skipped for columns read as text."""
    if not (isinstance(cursor, UnbufferedCursor) and cursor.texts):
        return {}
    types = import_module("MySQLdb.constants").FIELD_TYPE
    as_text = {getattr(types, name) for name in TEXT_TYPES}
    known = connection.get_connection_params()["conv"]
    columns = enumerate(column[1] for column in cursor.description)
    return {position: known[code] for position, code in columns if code in as_text}
