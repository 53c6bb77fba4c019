"""System checks for deployments that make exports slow, or others wait for them. Their ids stay as they are."""

from collections.abc import Iterable, Sequence
from typing import Any

from django.core.checks import CheckMessage, Tags, Warning, register  # noqa: A004
from django.db import connections

from upstream.streaming.databases.postgresql import driver_note


@register(Tags.database)
def check_databases(databases: Sequence[str] | None = None, **_: Any) -> Iterable[CheckMessage]:
    """Check the databases that are named: `manage.py check --database default`, or any `migrate`."""
    return [message for alias in databases or () for message in _warnings(alias)]


def _warnings(alias: str) -> Iterable[CheckMessage]:
    connection: Any = connections[alias]
    if connection.vendor == "sqlite" and not connection.is_in_memory_db() and _journal_mode(connection) != "wal":
        yield Warning(
            f"While an export reads {alias!r}, whoever writes to it has to wait: it is not in WAL mode.",
            hint='DATABASES: "OPTIONS": {"init_command": "PRAGMA journal_mode=WAL;"}',
            id="upstream_integrations.W001",
        )
    if connection.vendor == "postgresql" and (note := driver_note(connection)):
        yield Warning(f"{alias!r}: {note}.", id="upstream_integrations.W002")
    if connection.vendor == "mysql" and _engine(connection).lower() != "innodb":
        yield Warning(
            f"New tables of {alias!r} have no transactions: an export there may see half of a change.",
            hint="default_storage_engine = InnoDB",
            id="upstream_integrations.W003",
        )


def _journal_mode(connection: Any) -> str:
    return _value(connection, "PRAGMA journal_mode")


def _engine(connection: Any) -> str:
    return _value(connection, "SELECT @@default_storage_engine")


def _value(connection: Any, sql: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        [[value]] = cursor.fetchall()
    return str(value)
