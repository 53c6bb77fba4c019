"""Any database without a module of its own: read in windows where memory has to stay flat."""

from collections.abc import Mapping
from typing import Any

from upstream.streaming.databases.protocol import Database, OpenCursor, Reading


class DefaultDatabase(Database):
    """A database of which nothing is known but what Django says: SQL Server, Oracle, CockroachDB and others."""

    def reading(self, connection: Any, *, several: bool) -> Reading:  # noqa: ARG002
        note = f"whether {connection.display_name} streams rows is not known: ask for windows=True"
        return Reading(bounded=False, consistency="statement", note=note)

    def open_cursor(
        self,
        connection: Any,
        sql: str,
        params: Any,
        *,
        raw_types: Mapping[int, str],  # noqa: ARG002
        width: int,  # noqa: ARG002
        seconds: float | None,  # noqa: ARG002
    ) -> OpenCursor:
        cursor = connection.chunked_cursor()
        try:
            cursor.execute(sql, params)
        except BaseException:
            cursor.close()
            raise
        return OpenCursor(cursor)
