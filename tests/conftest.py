"""One body of tests, every database: `database` and `transactional_database` run a test once on each."""

import os

import pytest
from django.conf import settings as django_settings
from django.db import connections
from hypothesis import HealthCheck, Phase, settings

DATABASES = [pytest.param("default", id="sqlite"), "postgresql"]

settings.register_profile(
    "default",
    deadline=None,
    print_blob=True,
    max_examples=50,
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


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give every test that asks for a database fixture access to all databases."""
    fixtures = getattr(item, "fixturenames", ())
    transactional = "transactional_database" in fixtures
    if (transactional or "database" in fixtures) and not item.get_closest_marker("django_db"):
        item.add_marker(pytest.mark.django_db(databases="__all__", transaction=transactional))


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
    return _present(request.param)
