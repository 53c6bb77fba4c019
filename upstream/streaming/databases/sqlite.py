"""SQLite: a cursor that reads one state of the database despite concurrent writes."""

from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from datetime import date
from decimal import Decimal
from functools import partial
from importlib import import_module
from time import monotonic
from typing import Any, ClassVar
from uuid import UUID

from django.db import connections

from upstream.streaming.databases.loaders import (
    Loader,
    MakeLoader,
    add_utc_offsets,
    decimals_of_doubles,
    in_zone_of,
    keep_dates,
    load_booleans,
    load_dates,
    load_hexadecimal_uuids,
    load_utc_datetimes,
)
from upstream.streaming.databases.protocol import Database, OpenCursor, Reading
from upstream.streaming.databases.sharing import YieldingCursor, guard_of

# Instructions of SQLite's virtual machine between two checks of the clock: about a millisecond.
STEPS_BETWEEN_CLOCKS = 100_000
# An unfinished statement, which keeps its connection at the state of the database at its start.
PIN = "SELECT 1 FROM sqlite_master, (SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3)"
# A connection always sees its own writes, also in a transaction; those of others it does not see then.
SNAPSHOT_NOTE = "once this connection writes between two chunks, further statements see what it wrote"
# The module of the converters that Django registers; that of booleans is a method, and has none.
DJANGO = "django.db.backends.sqlite3.base"
# The name of an export's statement in the statement that wraps it.
STATEMENT = "upstream_rows"


def _declared(kind: str, *, is_column: bool) -> dict[str, Any]:
    """Return how the driver converts columns declared as `kind`: it takes any stored value as text.

    The driver keeps converting expressions, since only SQLite knows their declared type.
    """
    if not is_column:
        return {}
    convert = import_module("sqlite3").converters[kind.upper()]
    return {"raw_type": kind, "convert": partial(_by_text, convert)}


def _by_text(convert: Callable[[bytes], Any], value: Any) -> Any:
    text = value if isinstance(value, bytes) else str(value).encode()
    return convert(text) if text else None


def _boolean(_connection: Any, _field: Any, is_column: bool) -> Loader:
    return Loader(load=load_booleans, **_declared("bool", is_column=is_column))


def _date(_connection: Any, _field: Any, is_column: bool) -> Loader:
    declared = _declared("date", is_column=is_column)
    return Loader(load=load_dates, load_texts=keep_dates, texts_of=date, **declared)


def _datetime(connection: Any, _field: Any, is_column: bool) -> Loader | None:
    load = in_zone_of(connection, load_utc_datetimes, add_utc_offsets)
    return None if load is None else Loader(**load, **_declared("datetime", is_column=is_column))


def _decimal(_connection: Any, field: Any, is_column: bool) -> Loader | None:
    if not is_column or field.max_digits is None or field.decimal_places is None:
        return None
    return Loader(load_texts=decimals_of_doubles(field), texts_of=Decimal)


def _uuid(_connection: Any, _field: Any, _is_column: bool) -> Loader:
    return Loader(load_texts=load_hexadecimal_uuids, texts_of=UUID)


class SQLite(Database):
    """SQLite, with Python's sqlite3."""

    loaders: ClassVar[Mapping[str, MakeLoader]] = {
        "BooleanField": _boolean,
        "DateField": _date,
        "DateTimeField": _datetime,
        "DecimalField": _decimal,
        "UUIDField": _uuid,
    }
    matches_regex_in_python: ClassVar[bool] = True
    has_one_writer: ClassVar[bool] = True
    fetch_rows: ClassVar[int | None] = 64  # small fetches cost little in-process, and notice wide rows early

    def reading(self, connection: Any, *, several: bool) -> Reading:  # noqa: ARG002
        if not several:
            return Reading(bounded=True, consistency="statement")
        return Reading(bounded=True, consistency="snapshot", note=SNAPSHOT_NOTE)

    def hold(self, alias: str, *, several: bool, seconds: float | None) -> AbstractContextManager[None]:  # noqa: ARG002
        return pinned(connections[alias]) if several else nullcontext()

    def open_cursor(
        self,
        connection: Any,
        sql: str,
        params: Any,
        *,
        raw_types: Mapping[int, str],
        width: int,
        seconds: float | None,
    ) -> OpenCursor:
        if raw_types:
            sql = without_declared_types(sql, width, raw_types)
        cursor = IsolatedCursor(connection, sql, params, seconds)
        return OpenCursor(cursor, raw_types, is_exact=_is_exact(connection.connection))

    def exact(self, sql: str, kind: str) -> str:  # noqa: ARG002
        return f"+({sql})"  # the stored value: the driver converts by declared type, and an expression has none

    def is_idle(self, connection: Any) -> bool:
        return not connection.connection.in_transaction

    def canceller(self, connection: Any) -> Callable[[], None]:
        interrupt: Callable[[], None] = connection.connection.interrupt
        return interrupt

    def sorts_as_it_compares(self, kind: str, max_length: int | None) -> bool:  # noqa: ARG002
        return True


def _is_exact(connection: Any) -> bool:
    """Return whether a connection gives only Python's own types: it reads rows as Django has told it."""
    sqlite3 = import_module("sqlite3")
    if not isinstance(connection, sqlite3.Connection):
        return False
    are_djangos = all(getattr(one, "__module__", DJANGO) == DJANGO for one in sqlite3.converters.values())
    return are_djangos and connection.text_factory is str and connection.row_factory is None


class IsolatedCursor(YieldingCursor):
    """A cursor that other statements on its connection cannot disturb.

    Writes on the same connection may show up in an open cursor, repeat rows or skip them
    (https://sqlite.org/isolation.html): before such a statement, the remaining rows are spooled to disk. Writes on
    other connections are never seen; except in WAL mode, they wait until the cursor is closed.
    """

    def __init__(self, connection: Any, sql: str, params: Any, seconds: float | None = None) -> None:
        cursor = connection.cursor()
        self._raw = connection.connection
        self._is_limited = seconds is not None
        if seconds is not None:
            # All in C: SQLite would lose an interrupt such as Ctrl-C that is raised in a function that it calls.
            is_over = map((monotonic() + seconds).__lt__, iter(monotonic, None))
            self._raw.set_progress_handler(is_over.__next__, STEPS_BETWEEN_CLOCKS)
        try:
            cursor.execute(sql, params)
        except BaseException:
            self._end_limit()
            cursor.close()
            raise
        super().__init__(connection, cursor, _writes)

    def close(self) -> None:
        self._end_limit()
        super().close()

    def _end_limit(self) -> None:
        if self._is_limited:
            self._raw.set_progress_handler(None, 0)


class _Pin:
    """An unfinished statement."""

    def __init__(self, connection: Any) -> None:
        self._guard = guard_of(connection)
        self._cursor = connection.cursor()
        self._cursor.execute(PIN)
        self._cursor.fetchone()
        self._guard.add(self)

    def is_disturbed_by(self, sql: str, *, by_export: bool) -> bool:
        return _writes(sql, by_export)

    def give_way(self) -> None:
        self._cursor.close()

    def close(self) -> None:
        self._guard.remove(self)
        self._cursor.close()


@contextmanager
def pinned(connection: Any) -> Iterator[None]:
    """Make the connection's statements see one state of the database, until it writes itself."""
    with closing(_Pin(connection)):
        yield


def _writes(sql: str, _by_export: bool) -> bool:
    return not (sql.lstrip()[:6].upper() == "SELECT" or sql.startswith(f"WITH {STATEMENT}("))


def without_declared_types(sql: str, width: int, positions: Container[int]) -> str:
    """Return the statement with the columns at `positions` as expressions, which the driver does not convert.

    SQLite keeps the order of a subquery if the outer query reads from nothing else.
    """
    names = [f"c{position}" for position in range(width)]
    selected = (f"+{name}" if position in positions else name for position, name in enumerate(names))
    return f"WITH {STATEMENT}({', '.join(names)}) AS ({sql}) SELECT {', '.join(selected)} FROM {STATEMENT}"  # noqa: S608
