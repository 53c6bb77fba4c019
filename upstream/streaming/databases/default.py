"""Databases without a module of their own; reading them in windows keeps memory flat."""

from collections.abc import Mapping
from typing import Any

from upstream.streaming.databases.protocol import Database, OpenCursor, Reading


class DefaultDatabase(Database):
    """A database known only through Django's backend: SQL Server, Oracle, CockroachDB and others."""

    def reading(self, connection: Any, *, several: bool) -> Reading:  # noqa: ARG002
        note = f"whether {connection.display_name} streams rows is unknown: use windows=True"
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
