"""One state of the database for several connections, and what its statistics know of a column."""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Any

from django.db import DatabaseError, connections

from upstream.streaming.databases import sharing
from upstream.streaming.errors import SourceError

BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
NAME = re.compile(r"[0-9A-Fa-f-]+")
# How servers say that there is no such snapshot, or that its owner is gone: up to 17, from 18 on, and in between.
ENDED = ("22023", "42704", "55000")
# Statistics are fresh if fewer than a tenth of the rows were changed since. Frequent values are not in the bounds.
HISTOGRAM = """
    SELECT histogram_bounds::text::text[] FROM pg_stats JOIN pg_stat_user_tables USING (schemaname)
    WHERE relname = tablename AND relid = to_regclass(%s) AND attname = %s AND most_common_vals IS NULL
    AND coalesce(last_analyze, last_autoanalyze) IS NOT NULL AND n_mod_since_analyze * 10 <= n_live_tup
"""


@contextmanager
def share(alias: str) -> Iterator[str]:
    """Hold a snapshot in a transaction on a connection of its own, and yield its name."""
    _refuse_transaction(alias)
    with closing(connections[alias].copy()) as own, own.cursor() as cursor:
        cursor.execute(f"{BEGIN}; SET LOCAL idle_in_transaction_session_timeout = 0")
        cursor.execute("SELECT pg_export_snapshot()")
        [name] = cursor.fetchone()
        yield name
        cursor.execute("ROLLBACK")  # now; the server notices a closed connection only later


@contextmanager
def join(alias: str, name: str, settings: Sequence[str]) -> Iterator[None]:
    """Open the transaction of exports with the snapshot `name`; SourceError if the one who shares it has ended."""
    _refuse_transaction(alias)
    if not NAME.fullmatch(name):
        raise SourceError(f"{name!r} is not the name of a snapshot")
    statements = "; ".join([BEGIN, f"SET TRANSACTION SNAPSHOT '{name}'", *settings])
    with ExitStack() as opened:
        try:
            opened.enter_context(sharing.snapshot(alias, statements))
        except DatabaseError as error:
            if getattr(error.__cause__, "sqlstate", "") not in ENDED:
                raise
            raise SourceError(
                "the snapshot of the dump has ended with whoever held it: dump again, or allow a new one"
            ) from error
        yield


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
