"""An export reads as it is read from, holds no more than a batch, and lets go of everything however it ends."""

import gc
import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import cycle, pairwise
from time import monotonic, sleep
from unittest.mock import Mock

import pytest
from django.db import DatabaseError, OperationalError, connections, transaction
from django.db.models import Count, F, Value
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from tests.fieldtypes.models import Parent
from tests.oracle import named
from tests.processes import eventually
from tests.strategies import Plain, texts
from upstream.streaming import (
    Column,
    ColumnError,
    Csv,
    ExportError,
    Json,
    JsonLines,
    LimitError,
    SourceError,
    plan,
    stream,
    to_buffer,
)
from upstream.streaming.databases.sharing import guard_of
from upstream.streaming.encoders.protocol import capabilities_of

ENCODERS = [
    pytest.param(Csv(), id="csv"),
    pytest.param(Csv(header=False), id="csv without header"),
    pytest.param(Json(), id="json"),
    pytest.param(Json(indent=2), id="json with lines"),
    pytest.param(JsonLines(), id="ndjson"),
]
COLUMNS = pytest.mark.parametrize("columns", [["n"], None], ids=["named", "records"])
every_encoder = pytest.mark.parametrize("encoder", ENCODERS)


def recording(events, rows):
    """Yield `rows` numbered dicts, telling `events` of each and of the end."""
    try:
        for number in range(rows):
            events.append(f"row {number}")
            yield {"n": number}
        events.append("exhausted")
    finally:
        events.append("closed")


def rows_read(events):
    return sum(event.startswith("row") for event in events)


class TestInterleaving:
    @every_encoder
    @COLUMNS
    @pytest.mark.parametrize("chunk_size", [1, 5])
    def test_no_more_is_read_than_the_chunks_that_were_taken_hold(self, encoder, columns, chunk_size):
        events = []
        chunks = stream(recording(events, 40), columns, encoder, chunk_size=chunk_size)
        for taken, _ in enumerate(chunks, 1):
            assert rows_read(events) <= taken * chunk_size

    def test_source_and_consumer_take_turns(self):
        events = []
        for chunk in stream(recording(events, 3), ["n"], JsonLines(), chunk_size=1):
            events.append(chunk.decode().strip())  # noqa: PERF401 (the source appends in between)
        assert events == ["row 0", '{"n":0}', "row 1", '{"n":1}', "row 2", '{"n":2}', "exhausted", "closed"]

    @every_encoder
    def test_nothing_is_read_before_the_first_chunk_is_asked_for(self, encoder):
        events = []
        chunks = stream(recording(events, 3), ["n"], encoder)
        assert events == []
        chunks.close()
        assert events == []

    def test_no_query_runs_before_the_first_chunk_is_asked_for(self, database, django_assert_num_queries):
        with django_assert_num_queries(0, using=database):
            stream(Parent.objects.using(database), ["name"]).close()
            plan(Parent.objects.using(database).annotate(n=Count("children")), ["name", "n", "label"])

    @pytest.mark.parametrize("encoder", [Csv(), JsonLines()], ids=["csv", "ndjson"])
    def test_rows_of_a_slow_source_are_given_as_they_come(self, encoder):
        def slow():
            for number in range(6):
                sleep(0.12)
                started.append(number)
                yield {"n": number}

        started = []
        for chunk in stream(slow(), ["n"], encoder):
            given = [int(number) for number in re.findall(rb"\d+", chunk)]
            assert not given or len(started) == max(given) + 1
            assert len(given) <= 1


class TestByteBounds:
    WIDE = "x" * 1_000_000

    def read_ahead(self, widths, **options):
        """Return the most bytes that were read of the source before a chunk that held them was given."""
        read = []

        def rows():
            for width in widths:
                read.append(width)
                yield {"text": self.WIDE[:width]}

        ahead, given = 0, 0
        for chunk in stream(rows(), ["text"], JsonLines(), **options):
            ahead = max(ahead, sum(read) - given)
            given += len(chunk)
        return ahead

    def test_wide_rows_are_read_one_by_one_up_to_the_bytes_of_a_batch(self):
        assert self.read_ahead([1_000_000] * 30) <= 5_000_000
        assert self.read_ahead([1_000_000] * 30, batch_bytes=1) <= 1_000_000

    def test_wide_rows_after_narrow_ones_are_met_by_one_fetch(self):
        assert self.read_ahead([10] * 1000 + [100_000] * 200) <= 64 * 100_000 + 4_300_000

    def test_wide_text_beside_numbers_in_one_column_counts_too(self):
        def rows():
            for number in range(400):
                yield {"mixed": self.WIDE[:100_000] if number % 8 else 1}

        chunks = stream(rows(), ["mixed"], JsonLines())
        assert max(map(len, chunks)) <= 2 * 4 * 1024 * 1024 + 64 * 100_000

    def test_wide_rows_of_a_database_are_read_in_small_batches(self, database):
        Parent.objects.using(database).bulk_create(
            Parent(name="n", details=self.WIDE[:200_000]) for _ in range(60)
        )
        sizes = [
            len(chunk) for chunk in stream(Parent.objects.using(database), ["details"], batch_bytes=1_000_000)
        ]
        assert max(sizes) <= 1_400_000
        assert sum(sizes) > 60 * 200_000

    @pytest.mark.parametrize(
        ("name", "value"), [("name", lambda name: name * 200_000), ("details", lambda details: details[:1])]
    )
    def test_what_a_function_makes_counts_and_so_does_what_it_takes(self, database, name, value):
        Parent.objects.using(database).bulk_create(
            Parent(name="n", details=self.WIDE[:200_000]) for _ in range(60)
        )
        read = []
        columns = [Column(name, value=value), Column("id", value=read.append)]
        with stream(Parent.objects.using(database), columns, batch_bytes=1_000_000) as chunks:
            next(chunks)
            assert chunks.lane == "text"
        assert len(read) <= 7

    def test_many_columns_of_little_each_make_small_batches_too(self, database):
        Parent.objects.using(database).bulk_create(Parent(name="n") for _ in range(1500))
        columns = {f"c{number}": Value(number) for number in range(200)}
        rows = Parent.objects.using(database).annotate(**columns)
        chunks = stream(rows, [*columns], Csv(header=False, quoting="all"))
        assert chunks.plan.lane == "text"
        sizes = [chunk.count(b"\n") for chunk in chunks]
        assert sum(sizes) == 1500
        assert max(sizes) < 500


class TestChunks:
    @every_encoder
    @given(
        rows=st.lists(st.tuples(st.none() | texts(), st.integers() | st.floats()), max_size=12),
        chunk_size=st.integers(1, 13),
        batch_bytes=st.integers(1, 60),
    )
    def test_their_size_does_not_show(self, encoder, rows, chunk_size, batch_bytes):
        dicts = [{"a": first, "b": second} for first, second in rows]
        for columns in (["a", "b"], None):
            whole = b"".join(stream(dicts, columns, encoder))
            parts = stream(iter(dicts), columns, encoder, chunk_size=chunk_size, batch_bytes=batch_bytes)
            assert whole == b"".join(parts)

    @every_encoder
    def test_no_chunk_is_empty(self, encoder):
        assert all(stream([{"n": 1}] * 5, ["n"], encoder, chunk_size=2))

    @every_encoder
    def test_no_rows_make_a_complete_document(self, encoder):
        expected = {"csv": b"n\r\n", "json": b"[]", "ndjson": b""}
        kind = encoder.suffix.strip(".")
        for source in ([], iter([]), (row for row in ())):
            got = b"".join(stream(source, ["n"], encoder))
            assert got == (expected[kind] if getattr(encoder, "header", True) else b"")

    def test_a_stream_can_be_read_once(self):
        chunks = stream([{"n": 1}])
        assert b"".join(chunks) == b"n\r\n1\r\n"
        assert list(chunks) == []
        with pytest.raises(ExportError, match=r"call stream\(\) again"):
            to_buffer(chunks)


@contextmanager
def watcher(alias):
    """Give a second connection to the same database."""
    connection = connections[alias].copy()
    try:
        if connection.vendor == "sqlite":
            connection.settings_dict = {**connection.settings_dict, "OPTIONS": {"timeout": 0}}
        yield connection
    finally:
        connection.close()


def is_held(alias, watching):
    """Whether an export on `alias` holds a statement, transaction or connection, as another connection sees it."""
    with watching.cursor() as cursor:
        if watching.vendor == "mysql":  # an export there has a connection of its own, or a transaction
            known = [connections[alias].connection.thread_id(), watching.connection.thread_id()]
            cursor.execute(
                "SELECT count(*) FROM information_schema.processlist WHERE db = DATABASE() AND id NOT IN (%s, %s)",
                known,
            )
            return cursor.fetchone() != (0,) or bool(guard_of(connections[alias]).readers)
        if watching.vendor == "postgresql":
            pid = connections[alias].connection.info.backend_pid
            cursor.execute("SELECT state FROM pg_stat_activity WHERE pid = %s", [pid])
            return cursor.fetchone() != ("idle",)
        try:
            cursor.execute("UPDATE fieldtypes_parent SET name = name")
        except OperationalError:  # the database is locked
            return True
        return False


def is_let_go(alias, watching):
    # MariaDB notices a moment later that a connection was closed.
    return eventually(lambda: not is_held(alias, watching), seconds=5 if watching.vendor == "mysql" else 0)


def failing_at(number):
    def value(name):
        if name == f"p{number}":
            raise KeyError("gone")
        return name

    return value


class TestLettingGo:
    """The connection is free at once, whatever ends the export."""

    @pytest.fixture
    def parents(self, transactional_database):
        Parent.objects.using(transactional_database).bulk_create(Parent(name=f"p{n}") for n in range(400))
        return Parent.objects.using(transactional_database).order_by("pk")

    @pytest.fixture
    def watching(self, transactional_database, parents):
        with watcher(transactional_database) as connection:
            yield connection

    FORMS = {
        "tuples": lambda parents: (parents, ["name"]),
        "instances": lambda parents: (parents, ["name", "label"]),
        "values": lambda parents: (parents.values("name"), None),
        "prefetched": lambda parents: (parents.prefetch_related("children"), ["name", "label"]),
        "raw": lambda parents: (Parent.objects.raw("SELECT * FROM fieldtypes_parent", using=parents.db), ["name"]),
    }

    @every_encoder
    @pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
    def test_an_abandoned_export(self, transactional_database, parents, watching, form, encoder):
        source, columns = form(parents)
        chunks = stream(source, columns, encoder, chunk_size=1)
        for _ in range(3):
            next(chunks)
        assert is_held(transactional_database, watching)
        chunks.close()
        assert is_let_go(transactional_database, watching)
        assert parents.update(name="written afterwards") == 400

    @pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
    def test_an_abandoned_export_leaves_nothing_to_the_garbage_collector(
        self, transactional_database, parents, form, monkeypatch
    ):
        errors = []
        gc.collect()
        monkeypatch.setattr(sys, "unraisablehook", errors.append)
        source, columns = form(parents)
        chunks = stream(source, columns, chunk_size=1)
        for _ in range(3):
            next(chunks)
        chunks.close()
        connections[transactional_database].close()
        del chunks, source
        gc.collect()
        assert errors == []

    def test_an_export_left_by_a_with_statement(self, transactional_database, parents, watching):
        with stream(parents, ["name"], chunk_size=1) as chunks:
            next(chunks), next(chunks)
            assert is_held(transactional_database, watching)
        assert is_let_go(transactional_database, watching)

    @pytest.mark.parametrize(
        "column",
        [Column("name", value=failing_at(9)), Column(lambda parent: failing_at(9)(parent.name), header="n")],
    )
    def test_an_export_that_fails(self, transactional_database, parents, watching, column):
        with pytest.raises(KeyError) as caught:
            list(stream(parents, [column], chunk_size=3))
        assert any("row 10" in note for note in caught.value.__notes__)
        assert is_let_go(transactional_database, watching)
        assert parents.update(name="written afterwards") == 400

    def test_a_complete_export(self, transactional_database, parents, watching):
        list(stream(parents, ["name"]))
        assert is_let_go(transactional_database, watching)

    def test_a_query_that_fails(self, transactional_database, parents, watching):
        with pytest.raises(DatabaseError):
            list(stream(parents.extra(where=["no_such_column = 1"]), ["name"]))
        assert is_let_go(transactional_database, watching)
        assert parents.count() == 400

    def test_a_query_that_fails_gives_no_chunk_before(self, transactional_database, parents):
        for encoder in (Csv(), Csv(header=False), Json(), JsonLines()):
            query = parents.extra(where=["no_such_column = 1"])
            with closing(stream(query, ["name"], encoder)) as chunks, pytest.raises(DatabaseError):
                next(chunks)

    @every_encoder
    def test_closing_closes_the_generator_it_reads(self, encoder):
        for compression in (None, "gzip"):
            events = []
            chunks = stream(recording(events, 10**6), ["n"], encoder, chunk_size=50, compression=compression)
            next(chunks)
            assert "closed" not in events
            chunks.close()
            assert events[-1] == "closed"
            assert "exhausted" not in events

    def test_rows_of_one_export_show_one_state_of_the_database(self, transactional_database, parents, watching):
        if watching.vendor == "sqlite":
            pytest.skip("SQLite keeps writers out while it reads")
        chunks = stream(parents, ["name"], JsonLines(), chunk_size=1)
        first = next(chunks)
        with watching.cursor() as cursor:
            cursor.execute("UPDATE fieldtypes_parent SET name = 'changed'")
        assert b"changed" not in first + b"".join(chunks)


class TestTogether:
    def test_two_exports_that_are_read_in_turn_give_all_their_rows(self, transactional_database):
        Parent.objects.using(transactional_database).bulk_create(Parent(name=f"p{n}") for n in range(60))
        parents = Parent.objects.using(transactional_database).order_by("pk")
        short = stream(parents[:10], ["name"], chunk_size=5)
        long = stream(parents, ["name"], chunk_size=5)
        with short, long:
            read = [next(short), next(short), next(long), next(long)]
            assert len(b"".join([*read[:2], *short]).splitlines()) == 11
            assert len(b"".join([*read[2:], *long]).splitlines()) == 61


class TestWithinATransaction:
    @pytest.mark.parametrize("columns", [["name"], ["name", "label"]], ids=["tuples", "instances"])
    def test_uncommitted_rows_are_seen_and_the_transaction_goes_on(self, transactional_database, columns):
        parents = Parent.objects.using(transactional_database)
        with transaction.atomic(using=transactional_database):
            parents.create(name="uncommitted")
            assert b"uncommitted" in b"".join(stream(parents, columns))
            chunks = stream(parents, columns, chunk_size=1)
            next(chunks)
            chunks.close()
            parents.create(name="later")
        assert sorted(parents.values_list("name", flat=True)) == ["later", "uncommitted"]

    def test_a_failed_export_leaves_it_usable(self, transactional_database):
        parents = Parent.objects.using(transactional_database)
        with transaction.atomic(using=transactional_database):
            parents.create(name="p0")
            with pytest.raises(KeyError):
                list(stream(parents, [Column("name", value=failing_at(0))]))
            parents.create(name="later")
        assert parents.count() == 2


class Unprintable:
    def __str__(self):
        raise ZeroDivisionError("no text")


class TestErrors:
    """An error of the source passes as it is, and tells of its row."""

    def failing_rows(self, number):
        for row in range(1, number):
            yield {"n": row}
        raise KeyError("gone")

    @every_encoder
    @COLUMNS
    @pytest.mark.parametrize("chunk_size", [1, 7, 2000])
    @pytest.mark.parametrize("row", [1, 2, 20])
    def test_of_the_iterable(self, encoder, columns, chunk_size, row):
        if (
            columns is None
            and not capabilities_of(encoder).takes_records
            and not getattr(encoder, "header", False)
        ):
            columns = ["n"]
        with pytest.raises(KeyError) as caught:
            list(stream(self.failing_rows(row), columns, encoder, chunk_size=chunk_size))
        assert caught.value.args == ("gone",)
        assert caught.value.__notes__ == [f"the source failed after row {row - 1}"]

    @every_encoder
    @pytest.mark.parametrize("chunk_size", [1, 7, 2000])
    @pytest.mark.parametrize("row", [1, 2, 20])
    @pytest.mark.parametrize(
        "column",
        [
            Column(lambda record: 1 / (record["row"] - record["bad"]), header="share"),
            Column("left", header="share", value=lambda left: 1 / left),
        ],
        ids=["callable", "value"],
    )
    def test_of_a_function(self, encoder, chunk_size, row, column):
        rows = [{"row": number, "bad": row, "left": number - row} for number in range(1, 30)]
        with pytest.raises(ZeroDivisionError) as caught:
            list(stream(rows, ["row", column], encoder, chunk_size=chunk_size))
        assert caught.value.__notes__ == [f"while reading row {row}, column 'share'"]

    @every_encoder
    @pytest.mark.parametrize("chunk_size", [1, 7, 2000])
    @pytest.mark.parametrize("row", [1, 2, 20])
    def test_of_a_value_that_has_no_text(self, encoder, chunk_size, row):
        rows = [{"n": number, "value": Unprintable() if number == row else Plain("x")} for number in range(1, 30)]
        with pytest.raises(ZeroDivisionError, match="no text") as caught:
            list(stream(rows, ["n", "value"], encoder, chunk_size=chunk_size))
        assert caught.value.__notes__ == [f"while writing row {row}, column 'value'"]

    @pytest.mark.parametrize("encoder", [Json(), Json(indent=2)], ids=repr)
    @COLUMNS
    def test_broken_json_has_no_closing_bracket(self, encoder, columns):
        data = b""
        with pytest.raises(KeyError):
            for chunk in stream(self.failing_rows(5), columns, encoder, chunk_size=1):
                data += chunk
        assert data.startswith(b"[")
        assert re.findall(rb"\d", data) == [b"1", b"2", b"3", b"4"]
        with pytest.raises(json.JSONDecodeError):
            json.loads(data)

    def test_of_progress(self):
        def progress(rows, size):
            raise InterruptedError("enough")

        with pytest.raises(InterruptedError, match="enough"):
            list(stream([{"n": 1}], progress=progress))


class TestProgress:
    @every_encoder
    def test_it_ends_with_the_totals(self, encoder):
        for compression in (None, "gzip"):
            seen = []
            options = {"progress": lambda *numbers: seen.append(numbers), "compression": compression}  # noqa: B023
            size = len(b"".join(stream([{"n": n} for n in range(25)], ["n"], encoder, chunk_size=10, **options)))
            assert seen == [(25, size)]

    def test_it_is_told_four_times_a_second_at_most(self):
        def rows():
            for number in range(80):
                sleep(0.01)
                yield {"n": number}

        calls = []
        started = monotonic()
        chunks = stream(rows(), chunk_size=1, progress=lambda *numbers: calls.append((monotonic(), *numbers)))
        size = len(b"".join(chunks))
        seconds = monotonic() - started
        *between, last = calls
        assert 1 <= len(between) <= seconds * 4
        moments = [moment for moment, _, _ in between]
        assert all(later - sooner >= 0.24 for sooner, later in pairwise(moments))
        assert last[1:] == (80, size)
        assert [numbers for _, *numbers in calls] == sorted(numbers for _, *numbers in calls)


class TestLimits:
    @every_encoder
    @COLUMNS
    @pytest.mark.parametrize("compression", [None, "gzip"])
    def test_an_export_of_just_so_many_rows_and_bytes_is_whole(self, encoder, columns, compression):
        def export(**limits):
            rows = [{"n": n} for n in range(25)]
            return b"".join(stream(rows, columns, encoder, chunk_size=10, compression=compression, **limits))

        whole = export()
        assert export(max_rows=25, max_bytes=len(whole)) == whole
        with pytest.raises(LimitError, match="more than 24 rows"):
            export(max_rows=24)
        with pytest.raises(LimitError, match=f"more than {len(whole) - 1} bytes"):
            export(max_bytes=len(whole) - 1)

    @pytest.mark.parametrize("limits", [{"max_rows": 100}, {"max_bytes": 2000}], ids=["rows", "bytes"])
    def test_what_is_over_is_never_given_and_its_source_is_closed(self, limits):
        events = []
        chunks = stream(recording(events, 5000), ["n"], Csv(header=False), chunk_size=50, **limits)
        with pytest.raises(LimitError):
            list(chunks)
        assert events[-1] == "closed"
        assert rows_read(events) < 1000
        assert chunks.rows <= limits.get("max_rows", chunks.rows)
        assert 0 < chunks.size <= limits.get("max_bytes", chunks.size)

    def test_rows_that_the_database_renders_are_counted_too(self, database):
        for number in range(30):
            Parent.objects.using(database).create(name=f"{number}")
        events = Parent.objects.using(database)
        assert len(b"".join(stream(events, ["name"], max_rows=30)).splitlines()) == 31
        with pytest.raises(LimitError):
            list(stream(events, ["name"], max_rows=29))

    def test_a_stream_tells_how_far_it_is(self):
        chunks = stream(({"n": n} for n in range(1000)), ["n"], chunk_size=10)
        assert (chunks.rows, chunks.size) == (0, 0)
        read = len(next(chunks))
        assert chunks.size == read
        assert 0 < chunks.rows <= 20
        rest = sum(map(len, chunks))
        assert (chunks.rows, chunks.size) == (1000, read + rest)

    @pytest.mark.parametrize("name", ["max_rows", "max_bytes"])
    @pytest.mark.parametrize("limit", [0, -1, True, 1.5, "10"])
    def test_limits_are_whole_numbers_from_one(self, name, limit):
        with pytest.raises(ValueError, match=name):
            stream([{"n": 1}], **{name: limit})


class TestPlan:
    def test_it_tells_how_a_queryset_is_read(self, database):
        parents = Parent.objects.using(database).filter(name="x")
        decided = plan(parents, ["name", Column("pk", header="Key")], Json())
        lane = "copy" if connections[database].vendor == "postgresql" else "text"
        assert (decided.lane, decided.database, decided.bounded) == (lane, database, True)
        assert decided.headers == ("name", "Key")
        assert decided.encoder == Json()
        assert decided.sql.startswith("SELECT")
        assert "fieldtypes_parent" in decided.sql
        assert decided.reason
        text = str(decided)
        for part in (lane, repr(Json()), "name, Key", database, "bounded", decided.consistency, decided.sql):
            assert part in text

    def test_it_names_the_column_that_makes_it_read_instances(self, database):
        assert "'label'" in plan(Parent.objects.using(database), ["name", "label"]).reason

    def test_consistency_is_what_the_database_gives(self, transactional_database):
        parents = Parent.objects.using(transactional_database)
        is_postgresql = connections[transactional_database].vendor == "postgresql"
        assert plan(parents).consistency == ("snapshot" if is_postgresql else "statement")
        with transaction.atomic(using=transactional_database):
            assert plan(parents).consistency == "statement"

    def test_of_an_iterable_only_the_first_record_tells(self):
        decided = plan(iter([{"n": 1}]))
        assert (decided.headers, decided.database, decided.sql, decided.consistency) == (None, None, "", "source")
        assert "taken from the first record" in str(decided)

    def test_it_reads_nothing_of_an_iterable(self):
        events = []
        plan(recording(events, 3), ["n"])
        assert events == []

    def test_memory_that_grows_is_told_and_logged(self, caplog, monkeypatch):
        monkeypatch.setattr(connections["default"], "vendor", "of another make")
        decided = plan(Parent.objects.all())
        stream(Parent.objects.all())
        assert not decided.bounded
        assert "grows with the rows" in str(decided)
        assert "grows with its rows" in caplog.text

    def test_a_stream_tells_its_plan_and_media_type(self):
        chunks = stream([{"n": 1}], ["n"], JsonLines(), compression="gzip")
        assert chunks.plan.encoder == JsonLines()
        assert chunks.content_type == "application/x-ndjson"
        assert chunks.compression == "gzip"


async def asynchronous():
    yield {"n": 1}


class TestArguments:
    """What is wrong is said by the call, before anything is read."""

    @pytest.mark.parametrize("size", [0, -1, True, False, 1.5, "10", None])
    @pytest.mark.parametrize("name", ["chunk_size", "batch_bytes"])
    def test_sizes_are_whole_numbers_from_one(self, name, size):
        for call in (stream, plan):
            with pytest.raises(ValueError, match=name):
                call([{"n": 1}], **{name: size})

    @pytest.mark.parametrize("compression", ["zip", "", 1, True])
    def test_compression_is_one_of_those_known(self, compression):
        with pytest.raises(ValueError, match="gzip"):
            stream([{"n": 1}], compression=compression)

    @pytest.mark.parametrize("progress", [5, "print"])
    def test_progress_is_callable(self, progress):
        with pytest.raises(ValueError, match="progress"):
            stream([{"n": 1}], progress=progress)

    @pytest.mark.parametrize("source", ["abc", b"abc", None, 5, asynchronous(), {"a": 1}], ids=named)
    def test_sources_hold_rows(self, source):
        with pytest.raises(SourceError):
            stream(source)

    @pytest.mark.parametrize("columns", ["n", [], [""], [5], [None], ["m"]], ids=repr)
    def test_columns_can_be_read(self, columns):
        with pytest.raises(ColumnError):
            stream([{"n": 1}], columns)

    @pytest.mark.parametrize("encoder", [Csv, "csv", None])
    def test_an_encoder_is_an_instance(self, encoder):
        with pytest.raises(ValueError, match=r"encoder must be an instance with .*, such as Csv\(\), not"):
            stream(Parent.objects.all(), ["name"], encoder)

    def test_its_own_errors_are_export_errors_and_builtins(self):
        assert issubclass(ColumnError, ExportError)
        assert issubclass(ColumnError, ValueError)
        assert issubclass(SourceError, TypeError)

    def test_a_name_that_neither_model_nor_query_has_is_refused(self):
        with pytest.raises(ColumnError, match="did you mean 'name'"):
            plan(Parent.objects.annotate(n=F("name")), ["nme"])


class TestThreads:
    def test_closing_in_another_thread_leaves_the_transaction_there_alone(self, transactional_database):
        if connections[transactional_database].vendor != "postgresql":
            pytest.skip("only PostgreSQL exports open a transaction")
        Parent.objects.using(transactional_database).bulk_create(Parent(name=str(n)) for n in range(300))
        chunks = stream(Parent.objects.using(transactional_database), ["name"])
        next(chunks)

        def close_in_a_transaction():
            try:
                with transaction.atomic(using=transactional_database):
                    Parent.objects.using(transactional_database).create(name="before")
                    chunks.close()
                    Parent.objects.using(transactional_database).create(name="after")
            finally:
                connections[transactional_database].close()

        with ThreadPoolExecutor() as pool:
            pool.submit(close_in_a_transaction).result()

        names = Parent.objects.using(transactional_database).filter(name__in=["before", "after"])
        assert names.count() == 2
        with transaction.atomic(using=transactional_database):  # and the connection of this thread works again
            Parent.objects.using(transactional_database).create(name="here")

    def test_what_waits_for_a_commit_runs_when_an_export_is_abandoned(self, transactional_database):
        Parent.objects.using(transactional_database).bulk_create(Parent(name=str(n)) for n in range(300))
        chunks = stream(Parent.objects.using(transactional_database), ["name"])
        next(chunks)
        ran = []
        transaction.on_commit(lambda: ran.append(True), using=transactional_database)
        chunks.close()
        assert ran == [True]


class TestRouting:
    def test_a_router_is_asked_once(self, database, settings):
        settings.DATABASE_ROUTERS = [Alternating()]
        chunks = stream(Parent.objects.all(), ["name"])
        with CaptureQueriesContext(connections[chunks.plan.database]) as queries:
            b"".join(chunks)
        assert any("fieldtypes_parent" in query["sql"] for query in queries)

    @pytest.mark.parametrize("columns", [["name"], ["name", "label"]], ids=["tuples", "instances"])
    def test_a_router_is_asked_as_the_queryset_asks_it(self, db, settings, columns):
        router = Mock()
        router.db_for_read.return_value = None
        settings.DATABASE_ROUTERS = [router]
        owner = Parent(name="hint")
        b"".join(stream(Parent.objects.db_manager(hints={"instance": owner}).all(), columns))
        router.db_for_read.assert_called_once_with(Parent, instance=owner)


class Alternating:
    """Chooses another database each time, as a router over replicas may."""

    def __init__(self):
        self.aliases = cycle(connections)

    def db_for_read(self, model, **hints):
        return next(self.aliases)
