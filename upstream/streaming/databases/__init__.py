"""What each database can promise an export, and how it reads a statement: bounded, steady, ended at once."""

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from django.db import connections

from upstream.streaming.databases import mysql, postgresql, snapshots, sqlite
from upstream.streaming.databases.spool import Cursor

Consistency = Literal["snapshot", "statement", "window", "source"]


@dataclass(frozen=True, slots=True)
class Reading:
    """How a source is read.

    `bounded`: no more than a batch is in memory, on our side of the connection. `consistency`: "snapshot" where
    all statements of the export see one state of the database, "statement" where each sees its own, "window" where
    each window of rows shows its own, "source" where the caller's iterable decides. `note` says what the caller
    should know, or what would make it better.
    """

    bounded: bool
    consistency: Consistency
    note: str = ""


def reading(alias: str | None, *, several: bool = False, windows: bool = False) -> Reading:
    """Return how the database of that alias is read, by one statement or by `several`.

    None is a source outside any database.
    """
    if alias is None:
        return Reading(bounded=True, consistency="source")
    connection: Any = connections[alias]
    if windows:
        return Reading(bounded=True, consistency="window", note="no cursor or transaction is open between windows")
    if connection.vendor not in ("postgresql", "mysql", "sqlite", "oracle"):
        note = f"how {connection.display_name} reads is not known here: ask for windows=True"
        return Reading(bounded=False, consistency="statement", note=note)
    in_transaction = connection.in_atomic_block or (connection.connection and not connection.autocommit)
    is_callers = in_transaction and not snapshots.is_open(connection)
    if connection.vendor == "postgresql":
        notes = [postgresql.driver_note(connection), "it runs in the caller's transaction" if is_callers else ""]
        consistency: Consistency = "statement" if is_callers else "snapshot"
        return Reading(bounded=True, consistency=consistency, note="; ".join(filter(None, notes)))
    goes_to_disk = connection.vendor == "mysql" and (in_transaction or several)
    is_snapshot = not is_callers if goes_to_disk else several and connection.vendor == "sqlite"
    note = "in a transaction all rows go to disk before the first is given" if goes_to_disk else ""
    return Reading(bounded=True, consistency="snapshot" if is_snapshot else "statement", note=note)


def ends_with_caller(alias: str) -> bool:
    """Whether a cursor that is opened now dies with a transaction of the caller's."""
    connection: Any = connections[alias]
    blocks = [block for block in connection.atomic_blocks if not block._from_testcase]  # noqa: SLF001
    return connection.vendor == "postgresql" and bool(blocks) and not snapshots.is_open(connection)


def open_reading(
    alias: str | None, *, several: bool = False, seconds: float | None = None
) -> AbstractContextManager[None]:
    """Give what an export holds open: on PostgreSQL a snapshot, elsewhere where it runs `several` statements."""
    if alias is None:
        return nullcontext()
    vendor = connections[alias].vendor
    if vendor == "postgresql":
        return postgresql.snapshot(alias, seconds)
    if vendor == "mysql" and several:
        return snapshots.snapshot(alias, mysql.SNAPSHOT)
    return sqlite.snapshot(connections[alias]) if vendor == "sqlite" and several else nullcontext()


class OpenedCursor(NamedTuple):
    """A cursor; the positions of columns that come raw, as asked for; and the driver's conversions it left out."""

    cursor: Cursor
    raw: Collection[int] = ()
    conversions: Mapping[int, Callable[[Any], Any]] = {}


def open_cursor(
    connection: Any,
    sql: str,
    params: Any,
    *,
    width: int = 0,
    raw_types: Mapping[int, str] | None = None,
    seconds: float | None = None,
) -> OpenedCursor:
    """Execute a statement for reading row by row, in memory that does not grow with the rows.

    The columns at the positions in `raw_types` come unconverted where the driver can do that, and where they are
    of those types; `width` is the number of all columns. `seconds` is how long the statement may take.
    """
    raw_types = raw_types or {}
    if connection.vendor == "postgresql":
        return OpenedCursor(*postgresql.open_cursor(connection, sql, params, raw_types))
    if connection.vendor == "mysql":
        cursor = mysql.open_cursor(connection, sql, params, texts=bool(raw_types), seconds=seconds)
        conversions = mysql.left_conversions(connection, cursor)
        return OpenedCursor(cursor, conversions, conversions)
    if connection.vendor == "sqlite":
        if raw_types:
            sql = sqlite.undeclared(sql, width, raw_types)
        return OpenedCursor(sqlite.SteadyCursor(connection, sql, params, seconds), raw_types)
    other = connection.chunked_cursor()
    try:
        other.execute(sql, params)
    except BaseException:
        other.close()
        raise
    return OpenedCursor(other)
