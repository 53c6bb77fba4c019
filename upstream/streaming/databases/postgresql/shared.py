"""One state of the database for several connections, and what its statistics know of a column."""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Any

from django.db import DatabaseError, connections

from upstream.streaming.databases import sharing
from upstream.streaming.errors import SourceError

BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
NAME = re.compile(r"[0-9A-Fa-f-]+")
TRANSACTION_TIMEOUT_VERSION = 170000
# Of the server's errors for a snapshot that it does not know (any more), by their SQLSTATE.
GONE = ("22023", "42704", "55000")
# TRUNCATE and an ALTER TABLE that writes rows anew give a table a new file, without the rows of older snapshots.
FILES = """
    WITH names AS (SELECT to_regclass(name) AS id FROM unnest(%s::text[]) AS name),
    tables AS (SELECT id FROM names UNION SELECT relid FROM names, pg_partition_tree(id))
    SELECT md5(string_agg(concat(id::oid, ' ', pg_relation_filenode(id)), ',' ORDER BY id::oid)) FROM tables
"""
# Statistics are fresh if fewer than a tenth of the rows were changed since. Frequent values are not in the bounds.
HISTOGRAM = """
    SELECT histogram_bounds::text::text[] FROM pg_stats JOIN pg_stat_user_tables USING (schemaname)
    WHERE relname = tablename AND relid = to_regclass(%s) AND attname = %s AND most_common_vals IS NULL
    AND coalesce(last_analyze, last_autoanalyze) IS NOT NULL AND n_mod_since_analyze * 10 <= n_live_tup
"""


@contextmanager
def share(alias: str, groups: Sequence[Sequence[str]]) -> Iterator[Sequence[str]]:
    """Hold a snapshot in a transaction on a connection of its own, and yield its name for each group of tables.

    Nothing limits its time but the caller. Nothing waits for it either, not even what empties a table for all who
    see an older state: `join` notices that.
    """
    _refuse_transaction(alias)
    connections[alias].ensure_connection()
    # On the caller's connection, whose search_path may lead to other tables of the same name.
    files = [_files(connections[alias].connection, tables) for tables in groups]
    with closing(sharing.separate(alias)) as own, own.cursor() as cursor:
        cursor.execute("; ".join([BEGIN, *_without_limits(own)]))
        cursor.execute("SELECT pg_export_snapshot()")
        [name] = cursor.fetchone()
        try:
            yield [f"{name}@{one}" for one in files]
        finally:
            with suppress(DatabaseError):  # it is lost: who has joined the snapshot keeps it
                cursor.execute("ROLLBACK")  # now; the server notices a closed connection only later


def _without_limits(connection: Any) -> Iterator[str]:
    """Yield what lifts the limits of a transaction that is idle, or that takes long."""
    yield "SET LOCAL idle_in_transaction_session_timeout = 0"
    if connection.pg_version >= TRANSACTION_TIMEOUT_VERSION:
        yield "SET LOCAL transaction_timeout = 0"


@contextmanager
def join(alias: str, name: str, tables: Sequence[str], settings: Sequence[str]) -> Iterator[None]:
    """Open the transaction of exports with the snapshot `name`; SourceError if it does not show the same rows."""
    _refuse_transaction(alias)
    snapshot, _, files = name.partition("@")
    if not NAME.fullmatch(snapshot):
        raise SourceError(f"{name!r} is not the name of a snapshot")
    connection = connections[alias]
    statements = [BEGIN, f"SET TRANSACTION SNAPSHOT '{snapshot}'", *settings, *_without_limits(connection)]
    with ExitStack() as stack:
        try:
            stack.enter_context(sharing.snapshot(alias, "; ".join(statements)))
        except DatabaseError as error:
            if _sqlstate(error) not in GONE:
                raise
            raise SourceError(
                f"the snapshot {snapshot!r} of {alias!r} has ended with the connection that held it, or it is one "
                f"of another server: {str(error).strip()}"
            ) from error
        yield
        if files != _files(connection.connection, tables):  # what was read is locked until here
            raise SourceError(
                f"one of the tables {', '.join(tables)} was truncated or written anew after the snapshot, which "
                "shows none of its rows any more: dump again, and overwrite"
            )


def _files(raw: Any, tables: Sequence[str]) -> str:
    """Return what changes when one of the tables gets a new file."""
    with sharing.raw_cursor(raw) as cursor:
        cursor.execute(FILES, [[f'"{name}"' if not name.startswith('"') else name for name in tables]])
        [files] = cursor.fetchone()
    return files or ""


def _sqlstate(error: DatabaseError) -> str | None:
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)  # psycopg 3, or psycopg2


def histogram(connection: Any, table: str, column: str) -> list[str]:
    """Return the bounds of the column's histogram, which cut it into parts of equal size; none if they are old."""
    with connection.cursor() as cursor:
        cursor.execute(HISTOGRAM, [connection.ops.quote_name(table), column])
        found = cursor.fetchall()
    return list(found[0][0] or ()) if len(found) == 1 else []


def _refuse_transaction(alias: str) -> None:
    if sharing.is_in_transaction(connections[alias]):
        raise SourceError(
            f"a transaction is open on {alias!r}, so no snapshot can be shared: "
            "call this outside of transaction.atomic()"
        )
