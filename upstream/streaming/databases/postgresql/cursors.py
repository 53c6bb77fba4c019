"""How PostgreSQL's statements are read: server-side cursors in a snapshot, and what about psycopg they rely on."""

from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from importlib import import_module
from itertools import count
from typing import Any

from upstream.streaming.databases import snapshots
from upstream.streaming.databases.protocol import Cursor

SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
# What the text of values depends on. Roles, databases and sessions may have set it otherwise.
SETTINGS = {
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
}
TEXT_SETTINGS = "; ".join(f"SET LOCAL {name} = {value}" for name, value in SETTINGS.items())

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
