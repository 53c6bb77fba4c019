"""What `databases/` takes for granted of the drivers' inside: a new version that changes it fails here first."""

import inspect
import sqlite3
from importlib import import_module

import pytest
from django.db import connections, transaction

from tests.conftest import _present
from tests.strategies import Label
from upstream.streaming.databases import sqlite

on_all_databases = pytest.mark.django_db(databases="__all__")


def names(function):
    return [name for name in inspect.signature(function).parameters if name != "self"]


class TestDjangosConnections:
    def test_count_their_atomic_blocks(self, database):
        connection = connections[database]
        outer = len(connection.atomic_blocks)
        assert all(block._from_testcase for block in connection.atomic_blocks)
        with transaction.atomic(using=database):
            assert len(connection.atomic_blocks) == outer + 1
            assert not connection.atomic_blocks[-1]._from_testcase

    def test_call_their_wrappers_with_four_arguments(self, database):
        seen = []

        def wrapper(execute, *arguments):
            seen.append(arguments)
            return execute(*arguments)

        with connections[database].execute_wrapper(wrapper), connections[database].cursor() as cursor:
            cursor.execute("SELECT 1")
        [(sql, params, many, context)] = seen
        assert (sql, params, many) == ("SELECT 1", None, False)
        assert context["connection"] is connections[database]

    def test_commit_by_an_attribute_that_an_instance_may_have(self, transactional_database):
        connection, calls = connections[transactional_database], []
        connection.commit = lambda: calls.append(1) or type(connection).commit(connection)
        try:
            with transaction.atomic(using=transactional_database):
                connection.cursor().execute("SELECT 1")
        finally:
            del connection.commit
        assert calls == [1]

    def test_know_their_zone_without_a_connection(self, transactional_database):
        connection = connections[transactional_database]
        connection.close()
        assert connection.timezone_name == "UTC"
        assert connection.connection is None


@on_all_databases
class TestSqlite3:
    def test_has_the_converters_of_django(self):
        connection = connections["default"]
        assert connection.vendor == "sqlite"
        assert {"BOOL", "DATE", "DATETIME"} <= sqlite3.converters.keys()

    @pytest.mark.parametrize("name", ["BOOL", "DATE", "VARCHAR"])
    @pytest.mark.parametrize(
        "converter", [lambda text: text, {b"1": True}.get, Label], ids=["function", "get", "Enum"]
    )
    def test_is_exact_unless_it_has_another_converter(self, name, converter, monkeypatch):
        connections["default"].ensure_connection()
        raw = connections["default"].connection
        assert sqlite._is_exact(raw)
        monkeypatch.setitem(sqlite3.converters, name, converter)
        assert not sqlite._is_exact(raw)

    def test_does_not_convert_an_expression(self):
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT +d FROM (SELECT date_joined AS d FROM auth_user) LIMIT 1")
            assert cursor.fetchall() == []
            cursor.execute("CREATE TEMPORARY TABLE declared (d date)")
            cursor.execute("INSERT INTO declared VALUES ('2026-01-31')")
            cursor.execute("SELECT d, +d FROM declared")
            [(converted, plain)] = cursor.fetchall()
            cursor.execute("DROP TABLE declared")
        assert (str(converted), plain) == ("2026-01-31", "2026-01-31")
        assert not isinstance(converted, str)


@on_all_databases
class TestPsycopg:
    @pytest.fixture(autouse=True)
    def connection(self):
        pytest.importorskip("psycopg")
        self.connection = connections[_present("postgresql")]
        self.connection.ensure_connection()
        self.raw = self.connection.connection
        return self.connection

    def test_waits_for_generators_that_send_and_fetch(self):
        generators = import_module("psycopg.generators")
        assert names(generators.execute) == ["pgconn"]
        assert names(generators.fetch_many) == ["pgconn"]
        assert names(self.raw.wait)[0] == "gen"
        assert import_module("psycopg.waiting").Wait.R == 1
        assert hasattr(self.raw.lock, "__enter__")

    def test_gives_the_data_of_copy_as_a_length_and_a_buffer(self):
        pgconn = self.raw.pgconn
        self.raw.pgconn.send_query(b"COPY (SELECT 1, 'a') TO STDOUT (FORMAT csv)")
        self.raw.wait(import_module("psycopg.generators").execute(pgconn))
        length = 0
        while not length:
            length, data = pgconn.get_copy_data(1)
            if not length:
                pgconn.consume_input()
        assert (length, bytes(data)) == (4, b"1,a\n")
        ended = 0
        while ended != -1:
            ended, _ = pgconn.get_copy_data(1)
            pgconn.consume_input()
        results = self.raw.wait(import_module("psycopg.generators").fetch_many(pgconn))
        assert [result.status for result in results] == [import_module("psycopg.pq").ExecStatus.COMMAND_OK]

    def test_makes_an_exception_of_a_failed_result(self):
        pgconn = self.raw.pgconn
        with transaction.atomic(using="postgresql"):
            pgconn.send_query(b"SELECT 1/0")
            [result] = self.raw.wait(import_module("psycopg.generators").execute(pgconn))
            assert result.status == import_module("psycopg.pq").ExecStatus.FATAL_ERROR
            error = import_module("psycopg.errors").error_from_result(result)
            assert isinstance(error, import_module("psycopg.errors").DivisionByZero)
            transaction.set_rollback(True, using="postgresql")

    def test_registers_loaders_for_one_cursor(self):
        loader = import_module("psycopg.types.string").TextLoader
        cursor = self.connection._cursor(name="upstream_pin")
        try:
            cursor.cursor.adapters.register_loader("numeric", loader)
            registry = cursor.cursor.adapters.types
            assert (registry["numeric"].oid, registry["numeric"].array_oid) == (1700, 1231)
            assert any(getattr(info, "subtype_oid", 0) == 1700 for info in registry)
            with transaction.atomic(using="postgresql"):
                cursor.execute("SELECT 1.50::numeric")
                assert cursor.description[0].type_code == 1700
                assert cursor.fetchmany(1) == [("1.50",)]
                cursor.close()
        finally:
            cursor.close()

    def test_says_whether_its_c_part_is_there(self):
        assert import_module("psycopg.pq").__impl__ in ("python", "c", "binary")
        assert callable(self.raw.cancel_safe)

    def test_knows_the_process_that_a_pooler_makes_up(self):
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            assert cursor.fetchone() == (self.raw.info.backend_pid,)


@on_all_databases
class TestMysqlclient:
    @pytest.fixture(autouse=True)
    def connection(self):
        pytest.importorskip("MySQLdb")
        self.connection = connections[_present("mariadb")]
        self.connection.ensure_connection()
        return self.connection

    def test_has_the_types_whose_conversions_are_left_out(self):
        types = import_module("MySQLdb.constants").FIELD_TYPE
        conversions = self.connection.get_connection_params()["conv"]
        for name in ("DECIMAL", "NEWDECIMAL", "DATE", "DATETIME", "TIMESTAMP"):
            assert callable(conversions[getattr(types, name)])

    def test_has_a_cursor_that_reads_row_by_row(self):
        wrapper = import_module("django.db.backends.mysql.base").CursorWrapper
        unbuffered = self.connection.connection.cursor(import_module("MySQLdb.cursors").SSCursor)
        cursor = self.connection._prepare_cursor(wrapper(unbuffered))
        cursor.execute("SELECT 1 UNION ALL SELECT 2")
        assert cursor.fetchmany(1) == ((1,),)
        assert cursor.fetchmany(5) == ((2,),)
        assert cursor.fetchmany(5) == ()
        cursor.close()

    def test_describes_columns_by_their_type_code(self):
        types = import_module("MySQLdb.constants").FIELD_TYPE
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT CAST(1.5 AS DECIMAL(5, 2)), CAST('2026-01-31' AS DATE)")
            assert [column[1] for column in cursor.description] == [types.NEWDECIMAL, types.DATE]

    def test_copies_a_connection_with_its_settings(self):
        copy = self.connection.copy()
        assert copy.settings_dict == self.connection.settings_dict
        assert copy.settings_dict["OPTIONS"] is not self.connection.settings_dict["OPTIONS"]
        assert copy.connection is None
