"""Databases for other processes to read: a table of lines, and a view whose rows are wide."""

import json
import os
import sqlite3
from contextlib import ExitStack, closing, contextmanager
from importlib import import_module

from django.conf import settings

from benchmarks.servers import connect_mariadb

# Each process that runs tests has its own.
NAME = f"upstream_serving_{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"
WIDE_BYTES = 5 * 1024 * 1024
WIDE_ROWS = 80

SQLITE = """
    CREATE TABLE line (id INTEGER PRIMARY KEY, text TEXT);
    INSERT INTO line
    WITH RECURSIVE numbers(id) AS (VALUES (1) UNION ALL SELECT id + 1 FROM numbers WHERE id < {rows})
    SELECT id, 'Line ' || id || ', "ü"' AS text FROM numbers;
    CREATE VIEW wide AS SELECT id, hex(zeroblob({wide_bytes} / 2)) AS text FROM line WHERE id <= {wide_rows};
"""
POSTGRESQL = """
    CREATE TABLE line AS SELECT id, 'Line ' || id || ', "ü"' AS text FROM generate_series(1, {rows}) AS id;
    ALTER TABLE line ADD PRIMARY KEY (id);
    CREATE VIEW wide AS SELECT id, repeat('0', {wide_bytes}) AS text FROM line WHERE id <= {wide_rows};
"""
MARIADB = """
    CREATE TABLE line (id INT PRIMARY KEY)
    AS SELECT seq AS id, concat('Line ', seq, ', "ü"') AS text FROM seq_1_to_{rows};
    CREATE VIEW wide AS SELECT id, repeat('0', {wide_bytes}) AS text FROM line WHERE id <= {wide_rows};
"""


@contextmanager
def databases(directory, rows):
    """Make them on all servers that can be had, and give their entries in the settings by alias."""
    sizes = {"rows": rows, "wide_bytes": WIDE_BYTES, "wide_rows": WIDE_ROWS}
    path = directory / "serving.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(SQLITE.format(**sizes))
    entries = {"sqlite": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}}
    with ExitStack() as made:
        for alias, make in {"postgresql": _on_postgresql, "mariadb": _on_mariadb}.items():
            if alias in settings.DATABASES:
                known = settings.DATABASES[alias]
                entry = {key: known[key] for key in ("ENGINE", *SETTINGS, "OPTIONS") if key in known}
                entries[alias] = {**entry, "NAME": NAME}
                made.enter_context(make(entries, sizes))
        yield entries


@contextmanager
def _on_postgresql(entries, sizes):
    with postgresql(entries, "postgres") as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {NAME} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {NAME}")
    with postgresql(entries) as connection:
        connection.execute(POSTGRESQL.format(**sizes))
    yield
    with postgresql(entries, "postgres") as connection:
        connection.execute(f"DROP DATABASE {NAME} WITH (FORCE)")


@contextmanager
def _on_mariadb(entries, sizes):
    with closing(mariadb(entries)) as connection, connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {NAME}")
        cursor.execute(f"CREATE DATABASE {NAME} CHARACTER SET utf8mb4")
        cursor.execute(f"USE {NAME}")
        for statement in MARIADB.format(**sizes).split(";")[:-1]:
            cursor.execute(statement)
    yield
    with closing(mariadb(entries)) as connection, connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE {NAME}")


SETTINGS = {"USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}


def postgresql(entries, name=NAME):
    """Connect to the server without Django."""
    entry = entries["postgresql"]
    parameters = {parameter: entry[key] for key, parameter in SETTINGS.items() if entry.get(key)}
    connect = import_module("psycopg").connect
    return connect(dbname=name, autocommit=True, **parameters, **entry.get("OPTIONS", {}))


def mariadb(entries):
    """Connect to the server without Django, and to no database."""
    return connect_mariadb(entries["mariadb"])


# What the server does for the processes that read: (number of the session, whether it is at work).
SESSIONS = {
    "postgresql": "SELECT pid, state <> 'idle' FROM pg_stat_activity"
    " WHERE datname = %s AND pid <> pg_backend_pid()",
    "mariadb": "SELECT id, command = 'Query' FROM information_schema.processlist"
    " WHERE db = %s AND id <> connection_id()",
}
KILL = {"postgresql": "SELECT pg_terminate_backend(%s)", "mariadb": "KILL %s"}
ENDED_MEANWHILE = 1094  # "Unknown thread id": PostgreSQL answers false instead of an error.


def sessions(entries, alias):
    """Return the numbers of the sessions of other processes, and whether each is at work."""
    connect = {"postgresql": postgresql, "mariadb": mariadb}[alias]
    with closing(connect(entries)) as connection, connection.cursor() as cursor:
        cursor.execute(SESSIONS[alias], [NAME])
        return dict(cursor.fetchall())


def kill_sessions(entries, alias, found=None):
    """End the sessions of other processes, or those found, as an administrator would; return how many."""
    found = sessions(entries, alias) if found is None else found
    connect = {"postgresql": postgresql, "mariadb": mariadb}[alias]
    with closing(connect(entries)) as connection, connection.cursor() as cursor:
        for number in found:
            try:
                cursor.execute(KILL[alias], [number])
            except Exception as error:
                if error.args[0] != ENDED_MEANWHILE:
                    raise
    return len(found)


def variables(entries):
    """Return the environment of a process that reads them."""
    return {"DJANGO_SETTINGS_MODULE": "tests.serving.settings", "SERVING_DATABASES": json.dumps(entries)}
