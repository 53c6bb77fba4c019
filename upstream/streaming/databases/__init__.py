"""What each database can promise an export, and the transaction that makes it true."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

from django.db import connections

from upstream.streaming.databases import postgresql

Consistency = Literal["snapshot", "statement", "source"]


@dataclass(frozen=True, slots=True)
class Reading:
    """How a source is read.

    `bounded`: no more than a batch is in memory, on our side of the connection. `consistency`: "snapshot" where
    all statements of the export see one state of the database, "statement" where each sees its own, "source"
    where the caller's iterable decides. `note` says what would make it better.
    """

    bounded: bool
    consistency: Consistency
    note: str = ""


def reading(alias: str | None) -> Reading:
    """Return how the database of that alias is read; None is a source outside any database."""
    if alias is None:
        return Reading(bounded=True, consistency="source")
    connection: Any = connections[alias]
    if connection.vendor == "postgresql":
        if connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS"):
            return Reading(
                bounded=False,
                consistency="statement",
                note="DISABLE_SERVER_SIDE_CURSORS: the driver loads the whole result",
            )
        if connection.in_atomic_block or (connection.connection and not connection.autocommit):
            return Reading(bounded=True, consistency="statement", note="it runs in the caller's transaction")
        return Reading(bounded=True, consistency="snapshot")
    if connection.vendor == "mysql":
        return Reading(bounded=False, consistency="statement", note="the driver loads the whole result")
    return Reading(bounded=True, consistency="statement")


def ends_with_caller(alias: str) -> bool:
    """Whether a cursor that is opened now dies with a transaction of the caller's."""
    connection: Any = connections[alias]
    blocks = [block for block in connection.atomic_blocks if not block._from_testcase]  # noqa: SLF001
    return connection.vendor == "postgresql" and bool(blocks) and not postgresql.is_open(connection)


def open_reading(alias: str | None) -> AbstractContextManager[None]:
    """Give the transaction that an export of that database runs in, where it needs one of its own."""
    if alias is not None and connections[alias].vendor == "postgresql":
        return postgresql.snapshot(alias)
    return nullcontext()
