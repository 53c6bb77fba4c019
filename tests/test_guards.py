"""What else uses the connection of an export goes through at once, and the export is whole and of one state."""

import csv
import gc
import io
import threading
from contextlib import closing, contextmanager, nullcontext, suppress
from contextvars import ContextVar

import pytest
from django.db import DatabaseError, connections, transaction
from django.db.models import F, IntegerField
from django.db.models.expressions import RawSQL
from django.utils import timezone, translation

from tests import processes
from tests.fieldtypes.models import Parent
from tests.strategies import POSTGRESQL
from upstream.streaming import Column, Csv, Json, StreamOverError, plan, stream, to_buffer, to_file, to_response
from upstream.streaming.databases.sharing import guard_of

ROWS = 500
COLUMNS = {
    "fields": ["name"],
    "two fields": ["id", "name"],
    "a function": [Column("name", value=str.lower)],
    "computed": [Column(lambda parent: parent.name, header="name")],
}
every_export = pytest.mark.parametrize("columns", COLUMNS.values(), ids=COLUMNS)


@pytest.fixture
def parents(transactional_database):
    alias = transactional_database
    Parent.objects.using(alias).bulk_create(Parent(name=f"n{number:03}") for number in range(ROWS))
    yield Parent.objects.using(alias).order_by("name")
    assert not guard_of(connections[alias]).readers
    assert not connections[alias].in_atomic_block
    assert Parent.objects.using(alias).count() >= 0


def names(data):
    return [row["name"] for row in csv.DictReader(io.StringIO(data.decode(), newline=""))]


def expected():
    return [f"n{number:03}" for number in range(ROWS)]


def update(alias):
    Parent.objects.using(alias).filter(name__lt="n010").update(name=F("id"))


@contextmanager
def rolled_back(alias):
    with suppress(KeyError), transaction.atomic(using=alias):
        yield
        raise KeyError


def roll_back(alias):
    with rolled_back(alias):
        update(alias)


def in_a_block(alias):
    with transaction.atomic(using=alias):
        update(alias)


def in_two_blocks(alias):
    with transaction.atomic(using=alias):
        update(alias)
        with rolled_back(alias):
            Parent.objects.using(alias).all().delete()


def by_hand(alias):
    transaction.set_autocommit(False, using=alias)
    update(alias)
    transaction.commit(using=alias)
    transaction.set_autocommit(True, using=alias)


def close(alias):
    connections[alias].close()


def read(alias):
    assert Parent.objects.using(alias).count() == ROWS


USES = {
    "a write": (update, True),
    "an atomic block": (in_a_block, True),
    "blocks in each other": (in_two_blocks, True),
    "a block that is rolled back": (roll_back, False),
    "a transaction by hand": (by_hand, True),
    "a query": (read, False),
    "the connection closed": (close, False),
}


@every_export
@pytest.mark.parametrize("use", USES)
def test_it_goes_through_at_once_and_the_export_is_whole(parents, columns, use):
    run, writes = USES[use]
    with closing(stream(parents, columns, chunk_size=50)) as chunks:
        data = next(chunks)
        run(parents.db)
        committed = Parent.objects.using(parents.db).exclude(name__startswith="n").count()
        assert committed == (10 if writes else 0)
        data += b"".join(chunks)
    assert names(data) == expected()


@every_export
def test_it_goes_through_while_nothing_was_read_of_the_export_yet(parents, columns):
    chunks = stream(parents, columns, chunk_size=50)
    response = to_response(chunks, "x.csv")
    in_a_block(parents.db)
    assert names(response.getvalue()) == expected()
    response.close()


@every_export
def test_what_was_set_for_the_session_is_put_back_at_once(parents, columns):
    """A tenant: the schema is put back by middleware after the view, before the body is sent."""
    connection = connections[parents.db]
    setting = {"sqlite": "PRAGMA user_version = {}", "mysql": "SET SESSION wait_timeout = {}"}.get(
        connection.vendor, "SET SESSION lock_timeout = {}"
    )
    asked = {"sqlite": "PRAGMA user_version", "mysql": "SELECT @@wait_timeout"}.get(
        connection.vendor, "SHOW lock_timeout"
    )
    with closing(stream(parents, columns, chunk_size=50)) as chunks, connection.cursor() as cursor:
        data = next(chunks)
        cursor.execute(setting.format(12345))
        data += b"".join(chunks)
        cursor.execute(asked)
        assert "12345" in str(cursor.fetchone()).replace("12345ms", "12345")
        cursor.execute(setting.format(28800 if connection.vendor == "mysql" else 0))
    assert names(data) == expected()


class TestExecuteWrappers:
    def wrapper(self, seen):
        def wrapper(execute, sql, params, many, context):
            seen.append(sql)
            return execute(sql, params, many, context)

        return wrapper

    @every_export
    def test_one_around_the_start_of_an_export_ends_where_it_ends(self, parents, columns):
        connection, seen = connections[parents.db], []
        with connection.execute_wrapper(self.wrapper(seen)):
            chunks = stream(parents, columns, chunk_size=50)
            data = next(chunks)
        assert list(connection.execute_wrappers) == []
        seen.clear()
        update(parents.db)
        assert names(data + b"".join(chunks)) == expected()
        assert seen == []

    @every_export
    def test_one_around_the_end_of_an_export_sees_what_follows(self, parents, columns):
        connection, seen = connections[parents.db], []
        chunks = stream(parents, columns, chunk_size=50)
        data = next(chunks)
        with connection.execute_wrapper(self.wrapper(seen)):
            data += b"".join(chunks)
            update(parents.db)
            assert seen
        assert connection.execute_wrappers == []
        assert names(data) == expected()


class TestSeveralReaders:
    @pytest.mark.parametrize("first", COLUMNS)
    @pytest.mark.parametrize("second", COLUMNS)
    def test_two_exports_in_any_order(self, parents, first, second):
        one = stream(parents, COLUMNS[first], chunk_size=50)
        other = stream(parents, COLUMNS[second], chunk_size=50)
        data = [next(one), next(other), next(one), next(other)]
        assert names(data[0] + data[2] + b"".join(one)) == expected()
        assert names(data[1] + data[3] + b"".join(other)) == expected()

    @every_export
    @pytest.mark.parametrize("in_transaction", [False, True])
    def test_an_iterator_of_the_caller_before(self, parents, columns, in_transaction):
        with transaction.atomic(using=parents.db) if in_transaction else nullcontext():
            rows = parents.iterator(chunk_size=10)
            taken = [next(rows).name]
            chunks = stream(parents, columns, chunk_size=50)
            data = next(chunks)
            taken += [row.name for row in rows]
            assert names(data + b"".join(chunks)) == taken == expected()

    @every_export
    def test_an_iterator_of_the_caller_behind(self, parents, columns):
        chunks = stream(parents, columns, chunk_size=50)
        data = next(chunks)
        taken = [row.name for row in parents.iterator(chunk_size=10)]
        assert names(data + b"".join(chunks)) == taken == expected()


class TestNeverSent:
    @every_export
    def test_a_response_that_nobody_closes_leaves_the_connection_to_others(self, parents, columns):
        response = to_response(stream(parents, columns, chunk_size=50), "x.csv")
        in_a_block(parents.db)
        connections[parents.db].close()
        read(parents.db)
        del response
        gc.collect()

    @every_export
    def test_one_that_is_forgotten_is_ended_by_the_garbage_collector(self, parents, columns):
        response = to_response(stream(parents, columns, chunk_size=50), "x.csv")
        assert guard_of(connections[parents.db]).readers or connections[parents.db].vendor == "mysql"
        del response
        gc.collect()
        assert not guard_of(connections[parents.db]).readers

    @every_export
    def test_one_that_is_closed_in_another_thread_leaves_the_connection_whole(self, parents, columns):
        connection = connections[parents.db]
        raw = connection.connection
        response = to_response(stream(parents, columns, chunk_size=50), "x.csv")
        thread = threading.Thread(target=response.close)
        thread.start()
        thread.join()
        assert connection.connection is raw
        read(parents.db)
        in_a_block(parents.db)

    def test_one_of_a_thread_that_has_ended_closes_its_connection(self, parents):
        if connections[parents.db].vendor == "sqlite":
            pytest.skip("it has no sessions")
        opened = []

        def view():
            opened.extend((to_response(stream(parents, chunk_size=50), "x.csv"), connections[parents.db]))

        thread = threading.Thread(target=view)
        thread.start()
        thread.join()
        response, connection = opened
        assert connection.connection is not None
        response.close()
        assert connection.connection is None


class TestTimeoutsOfARole:
    @pytest.fixture
    def limited(self, parents):
        connection = connections[parents.db]
        if connection.vendor != POSTGRESQL:
            pytest.skip("only PostgreSQL has these settings")
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION idle_in_transaction_session_timeout = 100")
        yield parents
        connection.close()

    @every_export
    def test_a_slow_reader_does_not_end_an_idle_transaction(self, limited, columns):
        chunks = stream(limited, columns, chunk_size=50)
        data = next(chunks)
        threading.Event().wait(0.5)
        assert names(data + b"".join(chunks)) == expected()

    @every_export
    def test_a_slow_reader_does_not_run_into_a_statement_timeout(self, limited, columns):
        with connections[limited.db].cursor() as cursor:
            cursor.execute("SET SESSION statement_timeout = 300")
        chunks = stream(limited, columns, chunk_size=50)
        data = next(chunks)
        threading.Event().wait(0.5)
        assert names(data + b"".join(chunks)) == expected()
        assert chunks.lane != "copy"


shade = ContextVar("shade", default="none")


class TestTheWorldOfTheCall:
    """Language, time zone and context variables of the call hold to the last row, wherever it is read."""

    def columns(self):
        world = {
            "language": lambda _: translation.get_language(),
            "zone": lambda _: timezone.get_current_timezone_name(),
            "shade": lambda _: shade.get(),
        }
        return [Column(read, header=header) for header, read in world.items()]

    def export(self, rows):
        token = shade.set("blue")
        try:
            with translation.override("fr"), timezone.override("Asia/Kathmandu"):
                return stream(rows, self.columns(), chunk_size=1)
        finally:
            shade.reset(token)

    def check(self, data):
        _header, *rows = data.decode().split()
        assert (len(rows), set(rows)) == (5, {"fr,Asia/Kathmandu,blue"})

    def test_beyond_the_call(self):
        self.check(b"".join(self.export([{}] * 5)))

    def test_in_another_language_between_the_chunks(self):
        chunks = self.export([{}] * 5)
        data = b""
        for chunk in chunks:
            data += chunk
            with translation.override("de"), timezone.override("UTC"):
                data += next(chunks, b"")
        self.check(data)

    def test_in_another_thread(self):
        chunks, data = self.export([{}] * 5), []
        thread = threading.Thread(target=lambda: data.append(b"".join(chunks)))
        thread.start()
        thread.join()
        self.check(data[0])

    def test_what_the_export_sets_does_not_reach_the_caller(self):
        def paint(_):
            shade.set("red")
            return 1

        list(stream([{}] * 5, [Column(paint, header="n")]))
        assert shade.get() == "none"


class TestReadOnce:
    """A stream that is over is no empty export that looks complete."""

    OVER = {
        "read": b"".join,
        "closed": lambda chunks: chunks.close(),
        "closed midway": lambda chunks: (next(chunks), chunks.close()),
    }

    @pytest.mark.parametrize("way", OVER)
    def test_one_that_is_over_is_refused_by_targets(self, way, tmp_path):
        path = tmp_path / "x.csv"
        path.write_text("yesterday's")
        chunks = stream([{"n": number} for number in range(500)], chunk_size=10)
        self.OVER[way](chunks)
        for read_again in (
            to_buffer,
            lambda again: to_file(again, path),
            lambda again: to_response(again, "x.csv"),
        ):
            with pytest.raises(StreamOverError, match=r"call stream\(\) again"):
                read_again(chunks)
        assert path.read_text() == "yesterday's"

    def test_one_that_broke_is_refused(self, tmp_path):
        def records():
            yield {"n": 1}
            raise OSError("gone")

        chunks = stream(records(), encoder=Json())
        with pytest.raises(OSError, match="gone"):
            to_file(chunks, tmp_path / "x.json")
        with pytest.raises(StreamOverError, match=r"call stream\(\) again"):
            to_file(chunks, tmp_path / "x.json")
        assert not (tmp_path / "x.json").exists()

    def test_one_that_was_begun_may_be_read_on(self):
        chunks = stream([{"n": number} for number in range(500)], chunk_size=10)
        first = next(chunks)
        assert (first + b"".join(chunks)).count(b"\r\n") == 501


def test_the_plan_within_ones_own_transaction_stays_true(transactional_database):
    with transaction.atomic(using=transactional_database):
        Parent.objects.using(transactional_database).create(name="x")
        decided = plan(Parent.objects.using(transactional_database), encoder=Csv())
        assert decided.consistency == "statement"
        assert b"x" in b"".join(stream(Parent.objects.using(transactional_database)))


class TestTheSessionOnMariaDB:
    """A separate connection is taken only if its session equals that of the caller's."""

    @pytest.fixture(autouse=True)
    def on_mariadb(self, parents):
        self.connection = connections[parents.db]
        if self.connection.vendor != "mysql":
            pytest.skip("only MySQL and MariaDB are read on a separate connection")
        self.connection.close()
        yield
        self.connection.close()

    def is_separate(self, rows, expected):
        """Whether an export reads on as many further connections, as another connection sees it."""
        with closing(self.connection.copy()) as watching, watching.cursor() as cursor:

            def others():
                known = (self.connection.connection.thread_id(), watching.connection.thread_id())
                cursor.execute(
                    "SELECT count(*) FROM information_schema.processlist WHERE db = DATABASE() AND id NOT IN %s",
                    [known],
                )
                return cursor.fetchone()[0]

            with closing(stream(rows, ["id"], chunk_size=50)) as chunks:
                next(chunks)
                # MariaDB notices a moment later that a connection was closed.
                return processes.eventually(lambda: others() == expected)

    def test_an_untouched_session_is_read_on_one(self, parents):
        assert self.is_separate(parents, 1)

    def test_what_an_export_and_queries_do_changes_no_session(self, parents):
        list(stream(parents))
        in_a_block(parents.db)
        assert self.is_separate(parents, 1)

    @pytest.mark.parametrize(
        "change",
        [
            "SET @tenant = 7",
            "SET SESSION sql_mode = 'ANSI'",
            "SET SESSION time_zone = '+05:00'",
            "CREATE TEMPORARY TABLE report AS SELECT 1 AS id",
            "USE information_schema",
        ],
    )
    def test_a_changed_session_is_read_on_the_callers(self, parents, change):
        rows = Parent.objects.using(parents.db).annotate(tenant=RawSQL("@tenant", [], output_field=IntegerField()))
        with self.connection.cursor() as cursor:
            cursor.execute(change)
        if change.startswith("USE"):
            with pytest.raises(DatabaseError, match="information_schema"):
                list(stream(rows))
        else:
            assert self.is_separate(parents, 0)
            tenant = 7 if "tenant" in change else None
            written = list(csv.DictReader(io.StringIO(b"".join(stream(rows, ["tenant"])).decode(), newline="")))
            assert {row["tenant"] for row in written} == {str(tenant or "")}
