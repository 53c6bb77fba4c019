"""Reading on real databases: bounded, steady, and no burden on the connection it happens on."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC
from itertools import zip_longest

import pytest
from django.conf import settings
from django.db import DataError, connection, connections, transaction
from django.db.models import (
    DateTimeField,
    DecimalField,
    ExpressionWrapper,
    F,
    Func,
    IntegerField,
    TextField,
    UUIDField,
    Value,
)
from django.db.models.expressions import RawSQL

from tests.fieldtypes.models import Parent
from upstream.streaming import (
    Column,
    Csv,
    DeadlineError,
    ExportError,
    Json,
    JsonLines,
    SourceError,
    plan,
    stream,
)

ROWS = 400
LINES = [f"p{number}" for number in range(ROWS)]

# What is asked for decides the lane: PostgreSQL renders two plain columns, but no function of Python's.
EXPORTS = {
    "columns": ["name", "name"],
    "a function": ["name", Column("name", value=str)],
    "instances": ["name", Column(lambda parent: parent.name, header="same")],
}
every_export = pytest.mark.parametrize("columns", EXPORTS.values(), ids=EXPORTS)


@pytest.fixture
def parents(transactional_database):
    return fill(transactional_database)


def fill(alias):
    Parent.objects.using(alias).bulk_create(Parent(name=name) for name in LINES)
    return Parent.objects.using(alias).order_by("pk")


def present(request, alias):
    """Return the alias, whose tables are empty and will be emptied; skip where there is no such database."""
    if alias not in connections.databases:
        pytest.skip(settings.MISSING_DATABASES[alias])
    request.getfixturevalue("transactional_db")
    return alias


def opened(source, columns, **options):
    return closing(stream(source, columns, Csv(header=False), chunk_size=options.pop("chunk_size", 5), **options))


def names(chunks):
    return [line.split(",")[0] for line in b"".join(chunks).decode().splitlines()]


@contextmanager
def another_connection(alias):
    other = connections[alias].copy()
    try:
        yield other
    finally:
        other.close()


def journal_mode(mode):
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA journal_mode = {mode}")
        assert cursor.fetchall() == [(mode,)]


def wide_text():
    return Func(Value("x"), Value(100_000), function="REPEAT", output_field=TextField())


def is_postgresql(alias):
    return connections[alias].vendor == "postgresql"


class TestTheCallersOwnStatements:
    """What the caller does on its connection between two chunks works, and changes nothing of the export."""

    @every_export
    def test_reads_see_the_database_and_the_export_goes_on(self, parents, columns):
        with opened(parents, columns) as chunks:
            first = next(chunks)
            assert parents.count() == ROWS
            assert parents.get(name="p7").name == "p7"
            assert names([first, *chunks]) == LINES

    @pytest.mark.parametrize("chunk_size", [5, 7])
    def test_a_read_leaves_json_whole_where_the_rows_fill_the_last_batch_and_where_not(self, parents, chunk_size):
        with closing(stream(parents, ["name"], Json(), chunk_size=chunk_size)) as chunks:
            first = next(chunks)
            assert parents.count() == ROWS
            assert json.loads(b"".join([first, *chunks])) == [{"name": name} for name in LINES]

    @every_export
    def test_writes_do_not_show_in_the_export(self, parents, columns):
        if is_postgresql(parents.db):
            pytest.skip("the export's own transaction is read-only there")
        with opened(parents, columns) as chunks:
            first = next(chunks)
            parents.model.objects.using(parents.db).bulk_create(Parent(name=f"new{n}") for n in range(50))
            parents.filter(name__in=LINES[-100:]).update(name="changed")
            parents.filter(name__in=LINES[200:250]).delete()
            assert names([first, *chunks]) == LINES
        assert parents.filter(name="changed").count() == 100

    @every_export
    def test_writes_inside_a_transaction_do_not_show_either(self, parents, columns):
        with transaction.atomic(using=parents.db), opened(parents, columns) as chunks:
            first = next(chunks)
            parents.filter(name__in=LINES[-100:]).update(name="changed")
            parents.filter(name__in=LINES[200:250]).delete()
            assert names([first, *chunks]) == LINES
        assert parents.filter(name="changed").count() == 100

    @every_export
    def test_rows_that_only_this_transaction_sees_are_exported(self, parents, columns):
        with transaction.atomic(using=parents.db):
            Parent.objects.using(parents.db).create(name="uncommitted")
            with opened(parents, columns) as chunks:
                assert names(chunks) == [*LINES, "uncommitted"]

    @every_export
    def test_a_transaction_goes_on_after_an_export_was_left_early(self, parents, columns):
        with transaction.atomic(using=parents.db):
            with opened(parents, columns) as chunks:
                next(chunks), next(chunks)
            parents.filter(name="p1").update(name="written")
        assert parents.filter(name="written").exists()

    @every_export
    def test_exports_that_are_read_in_turn_on_one_connection(self, parents, columns):
        with opened(parents, columns) as one, opened(parents.reverse(), columns, chunk_size=7) as other:
            pairs = list(zip_longest(one, other, fillvalue=b""))
        assert names(chunk for chunk, _ in pairs) == LINES
        assert names(chunk for _, chunk in pairs) == LINES[::-1]

    def test_a_generator_that_queries_for_each_row_of_another_export(self, parents):
        def rows():
            with opened(parents, EXPORTS["columns"]) as chunks:
                for line in names(chunks):
                    yield {"pk": parents.get(name=line).pk}

        assert len(b"".join(stream(rows())).splitlines()) == ROWS + 1

    def test_a_blocked_connection_stays_blocked(self, parents):
        def refuse(*_):
            raise PermissionError

        with connections[parents.db].execute_wrapper(refuse), pytest.raises(PermissionError):
            list(stream(parents, EXPORTS["columns"]))


class TestTheEndOfTheCallersTransaction:
    """It is what it would be without an export that was begun inside, and neither read to its end nor closed."""

    @every_export
    def test_a_commit_keeps_what_was_written(self, parents, columns):
        with opened(parents, columns) as chunks:
            with transaction.atomic(using=parents.db):
                parents.filter(name="p0").update(name="written")
                next(chunks)
            assert parents.filter(name="written").exists()
        assert "commit" not in vars(connections[parents.db])

    @every_export
    def test_an_exception_undoes_what_was_written_and_passes(self, parents, columns):
        with opened(parents, columns) as chunks:
            with pytest.raises(KeyError), transaction.atomic(using=parents.db):
                parents.filter(name="p0").update(name="written")
                next(chunks)
                raise KeyError
            assert list(parents.values_list("name", flat=True)) == LINES

    def test_the_rest_of_a_copy_can_be_read_after_the_commit(self, parents):
        with opened(parents, EXPORTS["columns"]) as chunks:
            with transaction.atomic(using=parents.db):
                first = next(chunks)
            assert names([first, *chunks]) == LINES


class TestOtherConnections:
    @pytest.fixture
    def parents(self, parents):
        """In SQLite's WAL mode, without which readers and writers wait for each other."""
        if connections[parents.db].vendor != "sqlite":
            yield parents
            return
        journal_mode("wal")
        yield parents
        journal_mode("delete")

    @every_export
    def test_what_they_commit_meanwhile_is_not_seen(self, parents, columns):
        with another_connection(parents.db) as other:
            with opened(parents, columns) as chunks:
                first = next(chunks)
                with other.cursor() as cursor:
                    cursor.execute("DELETE FROM fieldtypes_parent WHERE name LIKE 'p3%'")
                    cursor.execute("UPDATE fieldtypes_parent SET name = 'changed' WHERE name LIKE 'p2%'")
                assert names([first, *chunks]) == LINES
            assert parents.filter(name="changed").exists()


class TestMariaDB:
    @pytest.fixture
    def parents(self, request):
        return fill(present(request, "mariadb"))

    pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)

    def test_a_reader_that_pauses_longer_than_the_server_waits_gets_all_rows(self, parents):
        wide = parents.annotate(text=wide_text())
        with another_connection("mariadb") as other, other.cursor() as cursor:
            cursor.execute("SELECT @@GLOBAL.net_write_timeout")
            [before] = cursor.fetchone()
            cursor.execute("SET GLOBAL net_write_timeout = 1")
            try:
                with opened(wide, ["name", "text"]) as chunks:
                    first = next(chunks)
                    time.sleep(2.5)
                    assert names([first, *chunks]) == LINES
            finally:
                cursor.execute("SET GLOBAL net_write_timeout = %s", [before])

    def test_stopping_early_takes_no_longer_than_the_rows_that_were_read(self, parents):
        endless = (
            Parent.objects.using("mariadb")
            .annotate(n=RawSQL("seq_1_to_1000000000.seq", ()))
            .extra(tables=["seq_1_to_1000000000"])
        )
        started = time.monotonic()
        with opened(endless, ["name", "n"]) as chunks:
            next(chunks), next(chunks)
        assert time.monotonic() - started < 10
        assert parents.count() == ROWS


class TestPostgreSQL:
    @pytest.fixture
    def parents(self, request):
        return fill(present(request, "postgresql"))

    pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)

    @pytest.mark.parametrize("encoder", [Csv(), JsonLines(), Json()])
    def test_an_error_in_a_row_ends_copy_with_djangos_error_and_leaves_the_connection_fit(self, parents, encoder):
        failing = parents.annotate(n=RawSQL("1 / (CASE name WHEN 'p300' THEN 0 ELSE 1 END)", (), IntegerField()))
        assert plan(failing, ["name", "n"], encoder).lane == "copy"
        with pytest.raises(DataError, match="division by zero"):
            list(stream(failing, ["name", "n"], encoder))
        assert parents.count() == ROWS
        with transaction.atomic(using="postgresql"):
            with pytest.raises(DataError):
                list(stream(failing, ["name", "n"], encoder))
            assert parents.count() == ROWS, "the caller's transaction goes on"

    def test_settings_of_the_session_are_as_they_were(self, parents):
        with transaction.atomic(using="postgresql"), connections["postgresql"].cursor() as cursor:
            cursor.execute("SET datestyle = 'SQL, DMY'; SET extra_float_digits = 0")
            with opened(parents, EXPORTS["columns"]) as chunks:
                assert names(chunks) == LINES
            cursor.execute("SELECT current_setting('datestyle'), current_setting('extra_float_digits')")
            assert cursor.fetchone() == ("SQL, DMY", "0")
        connections["postgresql"].close()

    def test_values_do_not_depend_on_settings_of_the_session(self, parents):
        moments = parents.annotate(
            moment=RawSQL("timestamp '2026-02-01 03:04:05'", ()), number=RawSQL("0.1::float8 + 0.2::float8", ())
        ).values_list("moment", "number")[:1]
        expected = list(stream(moments, ["moment", "number"]))
        with connections["postgresql"].cursor() as cursor:
            cursor.execute("SET datestyle = 'SQL, DMY'; SET extra_float_digits = 0")
        assert list(stream(moments, ["moment", "number"])) == expected
        connections["postgresql"].close()

    @every_export
    def test_through_pgbouncer_in_transaction_mode_by_eight_threads(self, parents, columns, pgbouncer):
        def export(_):
            try:
                with opened(parents.using(pgbouncer), columns) as chunks:
                    return names(chunks)
            finally:
                connections[pgbouncer].close()

        assert connections[pgbouncer].settings_dict["DISABLE_SERVER_SIDE_CURSORS"] is True
        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(export, range(24))) == [LINES] * 24

    def test_no_client_holds_the_whole_result_where_server_side_cursors_are_disabled(self, parents, pgbouncer):
        wide = parents.using(pgbouncer).annotate(
            text=Func(Value("x"), Value(100_000), function="REPEAT", output_field=TextField())
        )
        open_cursors = []

        def length(text):
            with connections[pgbouncer].cursor() as cursor:  # by the export itself, which does not give way
                cursor.execute("SELECT count(*) FROM pg_cursors WHERE name LIKE 'upstream%%'")
                open_cursors.extend(cursor.fetchone())
            return len(text)

        with opened(wide, ["name", Column("text", value=length)]) as chunks:
            next(chunks)
        assert set(open_cursors) == {1}


SLOW = {
    "sqlite": """WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000)
        SELECT max(i) FROM n""",
    "postgresql": "SELECT count(*) FROM generate_series(1, 10000000000) AS n",
    "mysql": "SELECT sum(sqrt(seq)) FROM seq_1_to_100000000000",
}


class TestTimeouts:
    @every_export
    def test_a_statement_that_gives_no_row_in_time_is_ended(self, parents, columns):
        slow = parents.annotate(slow=RawSQL(f"({SLOW[connections[parents.db].vendor]})", ()))
        started = time.monotonic()
        with pytest.raises(DeadlineError, match="timeout"):
            list(stream(slow, [*columns, Column("slow")], timeout=0.5))
        assert time.monotonic() - started < 5
        assert parents.count() == ROWS

    @every_export
    def test_a_reader_that_pauses_too_long_is_told(self, parents, columns):
        with opened(parents, columns, timeout=0.2) as chunks:
            next(chunks)
            time.sleep(0.3)
            with pytest.raises(DeadlineError):
                list(chunks)
        assert parents.count() == ROWS

    def test_an_export_in_time_is_whole(self, parents):
        with opened(parents, EXPORTS["columns"], timeout=60) as chunks:
            assert names(chunks) == LINES

    @pytest.mark.parametrize("timeout", [0, -1, True, "1", float("nan")])
    def test_it_is_a_number_over_zero(self, timeout):
        with pytest.raises(ValueError, match="timeout must be a positive number of seconds"):
            stream([{"n": 1}], timeout=timeout)


class TestExpressionsOfAnotherType:
    """What an expression says that it gives need not be what the database gives: Django's reading decides."""

    FIELDS = (UUIDField(), DecimalField(max_digits=9, decimal_places=2), DateTimeField())
    TEXTS = ("abc", '"', "00000000-0000-0000-0000-000000000005", "1.50", "2026-01-31 08:15:00+00:00")

    @pytest.mark.parametrize("text", TEXTS)
    @pytest.mark.parametrize("field", FIELDS, ids=lambda field: type(field).__name__)
    def test_they_are_read_as_django_reads_them(self, database, field, text):
        Parent.objects.using(database).create(name=text)
        said = ExpressionWrapper(F("name"), output_field=field)
        values = Parent.objects.using(database).annotate(said=said).values_list("said", "id")
        try:
            expected = json.loads(b"".join(stream(list(values), ["said", "id"], JsonLines())))
        except (ArithmeticError, AttributeError, ValueError):
            for columns in (["said"], ["said", "id"]):
                with pytest.raises((ArithmeticError, AttributeError, ValueError)):
                    b"".join(stream(values, columns, JsonLines(time_zone=UTC)))
        else:
            for encoder in (JsonLines(), JsonLines(time_zone=UTC)):
                assert json.loads(b"".join(stream(values, ["said", "id"], encoder))) == expected


class TestWindows:
    """Many short statements in place of one."""

    @every_export
    def test_they_give_the_same_bytes(self, parents, columns):
        for size in (1, 3, 1000):
            with opened(parents, columns, chunk_size=size, windows=True) as chunks:
                assert names(chunks) == LINES

    @every_export
    def test_nothing_is_held_between_them(self, parents, columns):
        with opened(parents, columns, windows=True) as chunks:
            first = next(chunks)
            parents.filter(name__in=LINES[-10:]).update(name="written")
            with another_connection(parents.db) as other, other.cursor() as cursor:
                cursor.execute("UPDATE fieldtypes_parent SET name = 'by another' WHERE name = 'p200'")
            exported = names([first, *chunks])
        assert exported == [*LINES[:200], "by another", *LINES[201:-10], *["written"] * 10]

    def test_the_plan_says_so(self, parents):
        decided = plan(parents, ["name"], windows=True)
        assert (decided.consistency, decided.bounded, decided.lane) == ("window", True, "text")

    @pytest.mark.parametrize(
        "source",
        [
            lambda parents: parents.distinct(),
            lambda parents: parents.union(parents),
            lambda parents: Parent.objects.raw("SELECT * FROM fieldtypes_parent"),
            lambda parents: parents.order_by("?"),
            lambda parents: [{"n": 1}],
            lambda parents: {"parents": parents},
        ],
    )
    def test_what_cannot_be_read_so_is_refused_in_the_call(self, source):
        with pytest.raises(SourceError, match="window"):
            stream(source(Parent.objects.all()), encoder=Json(), windows=True)

    def test_errors_are_the_packages_own(self):
        assert issubclass(SourceError, ExportError)


class TestPlans:
    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"encoder": Csv(quoting="all")}, "quoting"),
            ({"encoder": Json(indent=2)}, "indent"),
            ({"columns": ["name"]}, "single column"),
            ({"columns": ["pk", Column("name", value=str.upper)]}, "'name' has a value function"),
        ],
    )
    def test_they_say_why_copy_is_not_taken(self, change, reason):
        if "postgresql" not in connections.databases:
            pytest.skip("there is no PostgreSQL")
        arguments = {"columns": ["pk", "name"], "encoder": Csv(), **change}
        decided = plan(Parent.objects.using("postgresql"), **arguments)
        assert decided.lane == "text"
        assert reason in decided.reason

    def test_sqlite_never_renders_rows(self):
        assert plan(Parent.objects.all(), ["pk", "name"]).reason.endswith(
            f"{connection.display_name} does not render rows"
        )

    def test_expressions_of_the_database_stay_in_the_fastest_lane(self):
        if "postgresql" not in connections.databases:
            pytest.skip("there is no PostgreSQL")
        parents = Parent.objects.using("postgresql").annotate(twice=F("pk") * 2)[:10]
        assert plan(parents, ["name", "twice"]).lane == "copy"
