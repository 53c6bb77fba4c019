"""PostgreSQL: cursors that stream inside a snapshot, and rows that the server renders and sends by COPY."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

from django.db import DataError

from upstream.streaming.databases import snapshots
from upstream.streaming.databases.loaders import Loader, MakeLoader, in_zone_of, keep_texts, load_aware_datetimes
from upstream.streaming.databases.postgresql.cursors import driver_note, has_copy, open_cursor, snapshot
from upstream.streaming.databases.postgresql.rendering import find_copy
from upstream.streaming.databases.protocol import Database, OpenCursor, Reading, Rendering, Selection


def _moment(value: str) -> datetime:
    try:
        return datetime.fromisoformat(value)
    except ValueError as error:
        raise DataError(f"timestamp {value!r} is out of the range that Python has") from error


def _decimal(_connection: Any, _field: Any, _is_column: bool) -> Loader:
    return Loader(load=keep_texts, texts_of=Decimal, raw_type="numeric", convert=Decimal)


def _uuid(_connection: Any, _field: Any, _is_column: bool) -> Loader:
    return Loader(load=keep_texts, texts_of=UUID, raw_type="uuid", convert=UUID)


def _datetime(connection: Any, _field: Any, _is_column: bool) -> Loader | None:
    if in_zone_of(connection, load_aware_datetimes) is not load_aware_datetimes:
        return None
    return Loader(load=load_aware_datetimes, raw_type="timestamptz", convert=_moment)


class PostgreSQL(Database):
    """PostgreSQL, by psycopg 3; psycopg2 is read without COPY."""

    loaders: ClassVar[Mapping[str, MakeLoader]] = {
        "DateTimeField": _datetime,
        "DecimalField": _decimal,
        "UUIDField": _uuid,
    }

    def reading(self, connection: Any, *, several: bool) -> Reading:  # noqa: ARG002
        is_callers = snapshots.is_in_callers_transaction(connection)
        notes = [driver_note(connection), "it runs in the caller's transaction" if is_callers else ""]
        return Reading(
            bounded=True,
            consistency="statement" if is_callers else "snapshot",
            note="; ".join(filter(None, notes)),
        )

    def hold(self, alias: str, *, several: bool, seconds: float | None) -> AbstractContextManager[None]:  # noqa: ARG002
        return snapshot(alias, seconds)

    def ends_with_caller(self, connection: Any) -> bool:
        return snapshots.ends_with_a_block(connection)

    def open_cursor(
        self,
        connection: Any,
        sql: str,
        params: Any,
        *,
        raw_types: Mapping[int, str],
        width: int,  # noqa: ARG002
        seconds: float | None,  # noqa: ARG002 (a limit of the transaction that hold() opens)
    ) -> OpenCursor:
        return OpenCursor(*open_cursor(connection, sql, params, raw_types))

    def exact(self, sql: str, kind: str) -> str:  # noqa: ARG002
        return f"({sql})::text"  # a literal takes the type of what it is compared with: jsonb, infinite date, REAL

    def sorts_as_it_compares(self, kind: str, max_length: int | None) -> bool:  # noqa: ARG002
        return True

    def json_text(self, sql: str) -> str:
        return f"({sql})::text"

    def rendering(self, connection: Any, selection: Selection, row_format: object) -> Rendering | str:
        if not has_copy(connection):
            return f"{connection.display_name} renders no rows"
        return find_copy(connection, selection, row_format)
