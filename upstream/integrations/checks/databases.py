"""Checks of databases and of the connections to them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from django.core.checks import CheckMessage, Warning  # noqa: A004
from django.db import connections

from upstream.streaming.databases.postgresql import driver_note, has_copy


def check_databases(databases: Sequence[str] | None = None, **_: Any) -> Iterable[CheckMessage]:
    """Check the named databases; no other is connected to."""
    for alias in databases or ():
        connection = connections[alias]
        if connection.vendor in CHECKS:
            yield from CHECKS[connection.vendor](connection)


def _check_sqlite(connection: Any) -> Iterable[CheckMessage]:
    if connection.is_in_memory_db() or _value(connection, "PRAGMA journal_mode") == "wal":
        return
    yield Warning(
        f"{connection.alias!r} is not in WAL mode: while an export reads it, all writers have to wait.",
        hint='DATABASES: "OPTIONS": {"init_command": "PRAGMA journal_mode=WAL;"}',
        id="upstream_integrations.W001",
    )


def _check_postgresql(connection: Any) -> Iterable[CheckMessage]:
    if note := driver_note(connection):
        yield Warning(f"{connection.alias!r}: {note}.", id="upstream_integrations.W002")
    if not connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS") and _is_pooled(connection):
        yield Warning(
            f"{connection.alias!r} is behind a pooler such as PgBouncer. In transaction mode Django's .iterator()"
            " loses its cursor between two batches; exports do not.",
            hint='DATABASES: "DISABLE_SERVER_SIDE_CURSORS": True',
            id="upstream_integrations.W008",
        )


def _check_mysql(connection: Any) -> Iterable[CheckMessage]:
    if _value(connection, "SELECT @@default_storage_engine").lower() == "innodb":
        return
    yield Warning(
        f"New tables in {connection.alias!r} have no transactions: an export may contain half of a change.",
        hint="default_storage_engine = InnoDB",
        id="upstream_integrations.W003",
    )


CHECKS: dict[str, Callable[[Any], Iterable[CheckMessage]]] = {
    "sqlite": _check_sqlite,
    "postgresql": _check_postgresql,
    "mysql": _check_mysql,
}


def _is_pooled(connection: Any) -> bool:
    """Whether another server process answers than the one announced: PgBouncer announces an invented one."""
    if not has_copy(connection):
        return False
    process = _value(connection, "SELECT pg_backend_pid()")
    return process != str(connection.connection.info.backend_pid)


def _value(connection: Any, sql: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        [[value]] = cursor.fetchall()
    return str(value)
