"""PostgreSQL: server-side cursors in a snapshot, and rows that the server renders and sends with COPY.

What depends on psycopg's internals is here and in `copy.py`, pinned by `tests/test_drivers.py`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from decimal import Decimal
from importlib import import_module
from itertools import count
from typing import Any, ClassVar
from uuid import UUID

from django.conf import settings
from django.db import DataError

from upstream.streaming.databases import sharing
from upstream.streaming.databases.loaders import (
    Loader,
    MakeLoader,
    complete_utc_datetimes,
    in_zone_of,
    keep_texts,
    load_aware_datetimes,
)
from upstream.streaming.databases.postgresql import shared
from upstream.streaming.databases.postgresql.copy import TEXT_SETTINGS
from upstream.streaming.databases.postgresql.rendering import find_copy
from upstream.streaming.databases.protocol import Database, OpenCursor, Reading, Rendering, Selection

SNAPSHOT = shared.BEGIN
# By default its planner assumes that only a tenth of a cursor is read; an export reads all of it, maybe slowly.
SETTINGS = (
    "SET LOCAL cursor_tuple_fraction = 1",
    "SET LOCAL idle_in_transaction_session_timeout = 0",
    TEXT_SETTINGS,
)

IDLE = 0  # PQTRANS_IDLE of libpq, as both drivers give it
_cursor_numbers = count(1)


def _to_datetime(value: str) -> datetime:
    try:
        return datetime.fromisoformat(value)
    except ValueError as error:
        raise DataError(f"timestamp {value!r} is out of Python's range") from error


def _decimal(_connection: Any, _field: Any, _is_column: bool) -> Loader:
    return Loader(load_texts=keep_texts, texts_of=Decimal, raw_type="numeric", convert=Decimal)


def _uuid(_connection: Any, _field: Any, _is_column: bool) -> Loader:
    return Loader(load_texts=keep_texts, texts_of=UUID, raw_type="uuid", convert=UUID)


def _datetime(connection: Any, _field: Any, _is_column: bool) -> Loader | None:
    if not settings.USE_TZ:
        return None
    load = in_zone_of(connection, load_aware_datetimes, complete_utc_datetimes)
    return None if load is None else Loader(**load, raw_type="timestamptz", convert=_to_datetime)


class PostgreSQL(Database):
    """PostgreSQL, with psycopg 3, or psycopg2 without COPY."""

    loaders: ClassVar[Mapping[str, MakeLoader]] = {
        "DateTimeField": _datetime,
        "DecimalField": _decimal,
        "UUIDField": _uuid,
    }

    def reading(self, connection: Any, *, several: bool) -> Reading:
        is_callers = sharing.is_in_callers_transaction(connection)
        in_snapshot = sharing.SNAPSHOT_NOTE if several else ""
        notes = [driver_note(connection), "it runs in the caller's transaction" if is_callers else in_snapshot]
        return Reading(
            bounded=True,
            consistency="statement" if is_callers else "snapshot",
            note="; ".join(filter(None, notes)),
        )

    def hold(self, alias: str, *, several: bool, seconds: float | None) -> AbstractContextManager[None]:  # noqa: ARG002
        return snapshot(alias, seconds)

    def share_snapshot(
        self, alias: str, groups: Sequence[Sequence[str]] = ((),)
    ) -> AbstractContextManager[Sequence[str]]:
        return shared.share(alias, groups)

    def join_snapshot(self, alias: str, name: str, tables: Sequence[str] = ()) -> AbstractContextManager[None]:
        return shared.join(alias, name, tables, SETTINGS)

    def quantiles(self, connection: Any, table: str, column: str) -> Sequence[str]:
        return shared.histogram(connection, table, column)

    def ends_with_caller(self, connection: Any) -> bool:
        return sharing.ends_with_atomic_block(connection)

    def open_cursor(
        self,
        connection: Any,
        sql: str,
        params: Any,
        *,
        raw_types: Mapping[int, str],
        width: int,  # noqa: ARG002
        seconds: float | None,  # noqa: ARG002 (set in the transaction that hold() opens)
    ) -> OpenCursor:
        return _open_cursor(connection, sql, params, raw_types)

    def exact(self, sql: str, kind: str) -> str:  # noqa: ARG002
        return f"({sql})::text"  # a literal takes the type it is compared with: jsonb, infinite date, REAL

    def sorts_as_it_compares(self, kind: str, max_length: int | None) -> bool:  # noqa: ARG002
        return True

    def is_idle(self, connection: Any) -> bool:
        return bool(connection.connection.info.transaction_status == IDLE)

    def canceller(self, connection: Any) -> Callable[[], None]:
        cancel: Callable[[], None] = connection.connection.cancel
        return cancel

    def json_text(self, sql: str) -> str:
        return f"({sql})::text"

    def rendering(self, connection: Any, selection: Selection, row_format: object) -> Rendering | str:
        if not has_copy(connection):
            return f"{connection.display_name} renders rows only with psycopg 3"
        return find_copy(connection, selection, row_format)


def snapshot(alias: str, seconds: float | None = None) -> AbstractContextManager[None]:
    """Open a READ ONLY, REPEATABLE READ transaction whose statements may take at most `seconds`.

    In autocommit mode Django declares cursors WITH HOLD, and PostgreSQL then stores the whole result before the
    first row: 250 ms against 17 ms for 500,000 rows.
    """
    limit = [] if seconds is None else [f"SET LOCAL statement_timeout = {max(1, int(seconds * 1000))}"]
    return sharing.snapshot(alias, "; ".join([SNAPSHOT, *SETTINGS, *limit]))


def has_copy(connection: Any) -> bool:
    """Return whether the driver is psycopg 3; psycopg2 has neither its COPY nor loaders per cursor."""
    return bool(connection.Database.__name__ == "psycopg")


def driver_note(connection: Any) -> str:
    """Return why the driver makes exports slower than necessary, or ""."""
    if not has_copy(connection):
        return "psycopg2 exports without COPY: pip install 'psycopg[binary]', which is several times as fast"
    if import_module("psycopg.pq").__impl__ == "python":
        return "psycopg runs without its C library: pip install 'psycopg[binary]', which is several times as fast"
    return ""


def _open_cursor(connection: Any, sql: str, params: Any, raw_types: Mapping[int, str]) -> OpenCursor:
    """Execute a statement on a server-side cursor of the open transaction.

    The cursor ends with the transaction, so it also works with PgBouncer's transaction mode and with
    DISABLE_SERVER_SIDE_CURSORS. The columns at the positions in `raw_types` come as the server's text, unless one
    of them has another type, or another column has one of these types.
    """
    if raw_types and has_copy(connection):
        cursor = _executed_cursor(connection, sql, params, set(raw_types.values()))
        if _are_of_types(cursor, raw_types):
            return OpenCursor(sharing.YieldingCursor(connection, cursor, _disturbs(connection)), raw_types)
        cursor.close()
    cursor = _executed_cursor(connection, sql, params, ())
    return OpenCursor(sharing.YieldingCursor(connection, cursor, _disturbs(connection)))


def _disturbs(connection: Any) -> Callable[[str, bool], bool]:
    """Return which statements a cursor gives way to: none in the caller's transaction, else all but exports'."""
    if sharing.is_in_callers_transaction(connection):
        return lambda _sql, _by_export: False
    return lambda _sql, by_export: not by_export


def _executed_cursor(connection: Any, sql: str, params: Any, text_types: Iterable[str]) -> Any:
    name = f"upstream_{next(_cursor_numbers)}"
    cursor = connection._cursor(name=name)  # noqa: SLF001 (chunked_cursor() obeys DISABLE_SERVER_SIDE_CURSORS)
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
    """Return whether the columns in `raw_types` have these types, and no others, even in arrays or ranges."""
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
