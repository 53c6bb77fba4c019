"""SQLite: a cursor that reads one state of the database, whoever writes meanwhile."""

from collections.abc import Container, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from upstream.streaming.databases.spool import Cursor, Guard, SpooledCursor

# Instructions of SQLite's machine between two looks at the clock: about a millisecond.
STEPS_BETWEEN_CLOCKS = 100_000
# A statement that, left unfinished, keeps its connection at the state of the database that it began with.
PIN = "SELECT 1 FROM sqlite_master, (SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3)"
# What a statement of an export is called inside the statement around it.
ROWS = "upstream_rows"


class SteadyCursor:
    """A cursor that other statements of its connection cannot disturb.

    What the connection writes while it reads a table may show up in it, repeat rows or leave them out
    (https://sqlite.org/isolation.html): before such a statement the rows that are left go to disk. What other
    connections write is never seen; unless the database is in WAL mode they wait until the cursor is closed.
    """

    def __init__(self, connection: Any, sql: str, params: Any, seconds: float | None = None) -> None:
        cursor = connection.cursor()
        self._raw = connection.connection
        self._is_limited = seconds is not None
        if seconds is not None:
            end = monotonic() + seconds
            self._raw.set_progress_handler(lambda: monotonic() > end, STEPS_BETWEEN_CLOCKS)
        self._rows: Cursor = cursor
        try:
            cursor.execute(sql, params)
        except BaseException:
            self._close_rows()
            raise
        self._guard = Guard(connection, self._make_way, _only_reads)

    @property
    def description(self) -> Any:
        return self._rows.description  # type: ignore[attr-defined]

    def fetchmany(self, size: int, /) -> list[tuple[Any, ...]]:
        return self._rows.fetchmany(size)

    def close(self) -> None:
        self._guard.end()
        self._close_rows()

    def _close_rows(self) -> None:
        if self._is_limited:
            self._raw.set_progress_handler(None, 0)
        self._rows.close()

    def _make_way(self) -> None:
        self._guard.end()
        self._rows = SpooledCursor(self._rows)


@contextmanager
def snapshot(connection: Any) -> Iterator[None]:
    """Let the connection's statements see one state of the database, until it writes itself."""
    cursor = connection.cursor()
    guard = Guard(connection, cursor.close, _only_reads)
    try:
        cursor.execute(PIN)
        cursor.fetchone()
        yield
    finally:
        guard.end()
        cursor.close()


def _only_reads(sql: str) -> bool:
    return sql.lstrip()[:6].upper() == "SELECT" or sql.startswith(f"WITH {ROWS}(")


def undeclared(sql: str, width: int, positions: Container[int]) -> str:
    """Return the statement with the columns at `positions` as expressions, which the driver does not convert.

    SQLite keeps the order of a subquery that is all its outer query reads from.
    """
    names = [f"c{position}" for position in range(width)]
    selected = (f"+{name}" if position in positions else name for position, name in enumerate(names))
    return f"WITH {ROWS}({', '.join(names)}) AS ({sql}) SELECT {', '.join(selected)} FROM {ROWS}"  # noqa: S608
