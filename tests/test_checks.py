"""System checks say what makes exports slow, or others wait for them."""

import pytest
from django.core.checks import run_checks
from django.db import connections

from tests.fieldtypes.models import Parent
from upstream.streaming import plan


def ids(alias):
    return [message.id for message in run_checks(databases=[alias]) if message.id.startswith("upstream")]


@pytest.mark.django_db(transaction=True)
def test_sqlite_outside_of_wal_mode_is_told():
    assert ids("default") == ["upstream_integrations.W001"]
    with connections["default"].cursor() as cursor:
        cursor.execute("PRAGMA journal_mode = WAL").fetchall()
        assert ids("default") == []
        cursor.execute("PRAGMA journal_mode = DELETE").fetchall()


def test_a_database_with_all_that_exports_need_is_no_warning(transactional_database):
    if transactional_database != "default":
        assert ids(transactional_database) == []


def test_a_driver_without_its_c_part_is_told_by_the_check_and_the_plan(database, monkeypatch):
    if connections[database].vendor != "postgresql":
        pytest.skip("psycopg is for PostgreSQL")
    monkeypatch.setattr("psycopg.pq.__impl__", "python")
    assert ids(database) == ["upstream_integrations.W002"]
    assert "psycopg[binary]" in plan(Parent.objects.using(database)).note


def test_tables_without_transactions_are_told(database):
    if connections[database].vendor != "mysql":
        pytest.skip("other databases have one kind of table")
    with connections[database].cursor() as cursor:
        cursor.execute("SELECT @@default_storage_engine")
        [before] = cursor.fetchone()
        cursor.execute("SET SESSION default_storage_engine = MyISAM")
        assert ids(database) == ["upstream_integrations.W003"]
        cursor.execute(f"SET SESSION default_storage_engine = {before}")


def test_nothing_is_asked_of_databases_that_are_not_named(django_assert_num_queries):
    assert [message for message in run_checks() if message.id.startswith("upstream")] == []
