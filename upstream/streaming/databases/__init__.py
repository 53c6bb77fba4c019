"""Databases: how each reads a statement, and what it guarantees an export."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from django.db import connections

from upstream.streaming.databases.default import DefaultDatabase
from upstream.streaming.databases.mysql import MySQL
from upstream.streaming.databases.postgresql import PostgreSQL
from upstream.streaming.databases.protocol import Database, Hold, Reading
from upstream.streaming.databases.sharing import guard_of, is_in_callers_transaction
from upstream.streaming.databases.sqlite import SQLite

# By `connection.vendor`, which is "mysql" for MariaDB too.
DATABASES: dict[str, Database] = {"mysql": MySQL(), "postgresql": PostgreSQL(), "sqlite": SQLite()}
DEFAULT = DefaultDatabase()


def database_of(connection: Any) -> Database:
    """Return the Database of a connection; DEFAULT for an unknown vendor."""
    return DATABASES.get(connection.vendor, DEFAULT)


def reading(databases: Mapping[str, bool], *, windows: bool = False) -> Reading:
    """Return how a source is read; `databases` maps its aliases to whether several statements read each."""
    if windows:
        return Reading(bounded=True, consistency="window", note="no cursor or transaction is open between windows")
    how = [
        database_of(connections[alias]).reading(connections[alias], several=several)
        for alias, several in databases.items()
    ]
    if not how:
        return Reading(bounded=True, consistency="source")
    return Reading(
        bounded=all(one.bounded for one in how),
        consistency=how[0].consistency if len(how) == 1 else "statement",
        note="; ".join(filter(None, (one.note for one in how))),
    )


def holds(databases: Mapping[str, bool]) -> list[Hold]:
    """Return a Hold for each of `databases`, aliases mapped to whether several statements read them."""
    return [
        partial(database_of(connections[alias]).hold, alias, several=several)
        for alias, several in databases.items()
    ]


def recover(aliases: Iterable[str]) -> None:
    """Leave connections usable after an interrupt such as Ctrl-C, which may have cut any statement of an export.

    Nothing of an export stays open on them. A connection with a statement or a transaction that is cut is closed,
    and Django opens another for its next statement; in the caller's transaction that is left to its end.
    """
    for connection in map(connections.__getitem__, aliases):
        guard_of(connection).release()
        if connection.connection is None or is_in_callers_transaction(connection):
            continue
        with suppress(Exception):  # the interrupt is what the caller has to see
            if not database_of(connection).is_idle(connection):
                connection.close()


def ends_with_caller(alias: str) -> bool:
    """Return whether a cursor opened now would be closed by the end of the caller's transaction."""
    return database_of(connections[alias]).ends_with_caller(connections[alias])
