"""One body of tests, every database: `database` and `transactional_database` run a test once on each."""

import gc
import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings as django_settings
from django.core.signals import request_finished
from django.db import close_old_connections, connections
from hypothesis import HealthCheck, Phase, settings

from tests import asking, services
from tests.browsing import chromium, sessions, visit  # noqa: F401 (fixtures)
from tests.handling import serve  # noqa: F401 (a fixture)
from upstream.streaming import batches
from upstream.streaming.sources import fetches

LONG = {
    "test_celery", "test_claim_memory", "test_django_suite", "test_dump_targets", "test_export_data",
    "test_exports_services", "test_faults", "test_lanes", "test_load", "test_memory", "test_walk",
}  # fmt: skip
DATABASES = [pytest.param("default", id="sqlite"), "postgresql", "mariadb"]

# A shell lets jobs in the background ignore Ctrl-C, and so would the processes that tests send it to.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile(
    "default",
    deadline=None,
    print_blob=True,
    max_examples=30,
    # Shrinking rows of forty fields takes minutes already; explaining and further bugs would double that.
    phases=set(Phase) - {Phase.explain},
    report_multiple_bugs=False,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,  # a database fixture stays; each example undoes what it wrote
        HealthCheck.too_slow,  # an example is a handful of rows of forty fields
    ],
)
settings.register_profile("ci", settings.get_profile("default"), max_examples=100, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_collection_finish() -> None:
    """Spare the garbage collector the thousands of tests: to look through them takes 0.4 s each time."""
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the files that take minutes begin first, so that the workers end together."""
    items.sort(key=lambda item: item.path.stem not in LONG)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give tests with a database fixture access to all databases; mark those that are heavy with a value."""
    fixtures = getattr(item, "fixturenames", ())
    transactional = not {"transactional_database", *MIRRORS}.isdisjoint(fixtures)
    if (transactional or "database" in fixtures) and not item.get_closest_marker("django_db"):
        item.add_marker(pytest.mark.django_db(databases="__all__", transaction=transactional))
    values = getattr(getattr(item, "callspec", None), "params", {}).values()
    if any(value in mark.args for mark in item.iter_markers("heavy_with") for value in values):
        item.add_marker(pytest.mark.heavy)


def _present(alias: str) -> str:
    if alias not in connections.databases:
        pytest.skip(django_settings.MISSING_DATABASES[alias])
    return alias


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest) -> str:
    """The alias of each database in turn; what a test writes is rolled back."""
    return _present(request.param)


@pytest.fixture(params=DATABASES)
def transactional_database(request: pytest.FixtureRequest) -> str:
    """The alias of each database in turn, outside any transaction; tables are emptied after the test."""
    alias = _present(request.param)
    if connections[alias].vendor == "mysql":
        connections[alias].close()  # exports read in another way if an earlier test changed the session
    return alias


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The directory of a dump, which is not there yet, in one that is not there either."""
    return tmp_path / "there" / "dump"


@pytest.fixture
def fetches_take_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the clock that ends batches of slow fetches, each with prefetches of its own: for counting queries."""
    for module in (batches, fetches):
        monkeypatch.setattr(module, "perf_counter", lambda: 0.0)


@pytest.fixture
def customers(db: None) -> list[Any]:
    """The customers of `tests.asking.NAMES`."""
    model = apps.get_model("upstream.Customer")
    return [model._default_manager.create(name=name) for name in asking.NAMES]


@pytest.fixture
def visitors(db: None) -> dict[str, Any]:
    """Users by what they may do with customers; "anonymous" is None."""
    return {
        "anonymous": None,
        "staff": asking.create_user("staff", is_staff=True),
        "view": asking.create_user("view", "view_customer", is_staff=True),
        "export": asking.create_user("export", "export_customer"),
        "superuser": asking.create_user("superuser", is_superuser=True),
    }


@pytest.fixture
def answers() -> Iterator[None]:
    """Close what `tests.asking.ask` gave, and leave the connection open in which the test runs, as Client does."""
    request_finished.disconnect(close_old_connections)
    yield
    asking.close_answers()
    request_finished.connect(close_old_connections)


@pytest.fixture(scope="session")
def _pooler(django_db_setup: None) -> Iterator[services.Found]:
    with services.pgbouncer() as found:  # gone before the test databases: it would keep them from being dropped
        yield found


@pytest.fixture
def pgbouncer(_pooler: services.Found, _django_db_helper: None) -> Iterator[str]:
    """The alias of a PgBouncer in transaction mode: the tables of "postgresql", over connections of its own."""
    entry, reason = _pooler
    if entry is None:
        pytest.skip(reason)
    name = connections["postgresql"].settings_dict["NAME"]
    connections.settings["pgbouncer"].update({**entry, "NAME": name})
    yield "pgbouncer"
    connections["pgbouncer"].close()


@pytest.fixture
def unknown(_django_db_helper: None) -> str:
    """The alias of a database of a made-up vendor: the tables of "default"."""
    connections.settings["unknown"]["NAME"] = connections["default"].settings_dict["NAME"]
    return "unknown"


# By a fixture's name, which is its alias: the database whose tables it has, and its own engine.
MIRRORS = {"pgbouncer": ("postgresql", None), "unknown": ("default", "tests.madeup")}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Register mirrors around a test: before its fixtures run, Django asks which databases there are."""
    used = [alias for alias in MIRRORS if alias in getattr(item, "fixturenames", ())]
    for alias in used:
        behind, engine = MIRRORS[alias]
        if entry := connections.settings.get(behind):
            mirror = {**entry["TEST"], "MIRROR": behind}
            connections.settings[alias] = {**entry, "ENGINE": engine or entry["ENGINE"], "TEST": mirror}
    try:
        return (yield)
    finally:
        for alias in connections.settings.keys() & set(used):
            connections[alias].close()
            del connections[alias], connections.settings[alias]
