"""What each database can promise an export, and how it reads a statement: bounded, steady, ended at once."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from django.db import connections

from upstream.streaming.databases.default import DefaultDatabase
from upstream.streaming.databases.mysql import MySQL
from upstream.streaming.databases.postgresql import PostgreSQL
from upstream.streaming.databases.protocol import Database, Hold, Reading
from upstream.streaming.databases.sqlite import SQLite

# By the `vendor` of Django's connections. MariaDB is "mysql" there.
DATABASES: dict[str, Database] = {"mysql": MySQL(), "postgresql": PostgreSQL(), "sqlite": SQLite()}
DEFAULT = DefaultDatabase()


def database_of(connection: Any) -> Database:
    """Return what is known of the database of a connection."""
    return DATABASES.get(connection.vendor, DEFAULT)


def reading(databases: Mapping[str, bool], *, windows: bool = False) -> Reading:
    """Return how a source is read that asks `databases`, aliases mapped to whether several statements do."""
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
    """Return what opens, for some seconds at most, what an export holds open on each of `databases`."""
    return [
        partial(database_of(connections[alias]).hold, alias, several=several)
        for alias, several in databases.items()
    ]


def ends_with_caller(alias: str) -> bool:
    """Whether a cursor that is opened now dies with the caller's transaction."""
    return database_of(connections[alias]).ends_with_caller(connections[alias])
