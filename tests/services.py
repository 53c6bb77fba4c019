"""The real servers that tests talk to: found or started once per process, stopped when it ends.

`UPSTREAM_TEST_POSTGRES_URL` and `UPSTREAM_TEST_MARIADB_URL` name servers to use instead of own ones; with
`UPSTREAM_REQUIRE_SERVICES=1` a missing server is an error, where it would otherwise skip the tests that need it.
"""

import atexit
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, TypeVar

from benchmarks import servers
from tests.django_suite import source

DATABASE_KEYS = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
Service = TypeVar("Service")
Found = tuple[dict[str, Any] | None, str]

_started = ExitStack()
atexit.register(_started.close)


class MissingServiceError(RuntimeError):
    """A server that was required cannot be had."""


def is_required() -> bool:
    return os.environ.get("UPSTREAM_REQUIRE_SERVICES") == "1"


@cache
def postgresql() -> Found:
    """Return a Django database entry and "", or None and the reason why there is no server."""
    return _found("PostgreSQL", lambda: _postgresql_entry(_url("UPSTREAM_TEST_POSTGRES_URL", _start_postgresql)))


@cache
def mariadb() -> Found:
    """Return a Django database entry and "", or None and the reason why there is no server."""
    return _found("MariaDB", _mariadb_entry)


@contextmanager
def pgbouncer() -> Iterator[Found]:
    """Give the entry of a PgBouncer in transaction mode in front of `postgresql()`; it ends with the block.

    It holds connections to each database that is used through it, which until then cannot be dropped.
    """
    with ExitStack() as started:
        yield _found("PgBouncer", lambda: _pgbouncer_entry(started))


@contextmanager
def redis() -> Iterator[tuple[str | None, str]]:
    """Give the URL of a Redis of the tests' own, or None and the reason why there is none."""
    with ExitStack() as started:

        def start() -> str:
            import_module("redis")  # the client that Django's cache needs
            return started.enter_context(servers.redis())

        yield _found("Redis", start)


@contextmanager
def nginx(server: int, version: str) -> Iterator[tuple[int | None, str]]:
    """Give the port of an nginx in front of a server, or None and the reason why there is none."""
    with ExitStack() as started:
        yield _found("nginx", lambda: started.enter_context(servers.nginx(server, version)))


@cache
def django_suite() -> tuple[Path | None, str]:
    """Return the folder of the installed Django's own tests, or None and the reason why there is none."""
    return _found("Django's test suite", source.tests_folder)


@contextmanager
def chromium() -> Iterator[tuple[Any, str]]:
    """Give the system's Chromium, driven by Playwright, or None and the reason why there is none."""
    with ExitStack() as started:
        yield _found("Chromium", lambda: _chromium(started))


def _found(service: str, entry: Callable[[], Service]) -> tuple[Service | None, str]:
    try:
        with servers.available(service):
            return entry(), ""
    except servers.UnavailableError as error:
        if is_required():
            raise MissingServiceError(str(error)) from error
        return None, str(error)


def _url(variable: str, start: Callable[[], str]) -> str:
    """Return the URL in the environment, else that of a new server: children of this process share it."""
    if variable not in os.environ:
        os.environ[variable] = start()
    return os.environ[variable]


def _start_postgresql() -> str:
    psycopg = import_module("psycopg")
    # The package gives the directory to its server, and removes both when this process ends.
    url: str = servers.postgresql(Path(mkdtemp(prefix="upstream-pg-")), "delete").get_uri()
    with psycopg.connect(url, autocommit=True) as connection:
        # The data lives no longer than the tests: nothing needs to survive a power cut.
        for option in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(f"ALTER SYSTEM SET {option} = off")
        connection.execute("SELECT pg_reload_conf()")
    return url


def _postgresql_entry(conninfo: str) -> dict[str, Any]:
    options = import_module("psycopg").conninfo.conninfo_to_dict(conninfo)
    known = {setting: str(options.pop(key)) for key, setting in DATABASE_KEYS.items() if key in options}
    return {"ENGINE": "django.db.backends.postgresql", **known, "OPTIONS": options}


def _mariadb_entry() -> dict[str, Any]:
    import_module("MySQLdb")
    parse = import_module("dj_database_url").parse
    entry = parse(_url("UPSTREAM_TEST_MARIADB_URL", lambda: _started.enter_context(servers.mariadb())))
    # Texts that are drawn have to be told apart, also by case and by the blanks at their end.
    return {**entry, "TEST": {"CHARSET": "utf8mb4", "COLLATION": "utf8mb4_nopad_bin"}}


def _pgbouncer_entry(started: ExitStack) -> dict[str, Any]:
    _postgresql, reason = postgresql()
    if _postgresql is None:
        raise OSError(reason)
    conninfo = started.enter_context(servers.pgbouncer(os.environ["UPSTREAM_TEST_POSTGRES_URL"]))
    return {**_postgresql_entry(conninfo), "DISABLE_SERVER_SIDE_CURSORS": True}


def _chromium(started: ExitStack) -> Any:
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        raise FileNotFoundError("there is no Chromium; it is in the system package chromium")
    playwright = started.enter_context(import_module("playwright.sync_api").sync_playwright())
    # It will not sandbox for root, and asks its maker for news unless it is told not to.
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    browser = playwright.chromium.launch(executable_path=program, args=options)
    started.callback(browser.close)
    return browser
