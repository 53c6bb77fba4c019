"""Dumps: parts of any number, joined, are the bytes of one export, whatever dies on the way."""

import gzip
import importlib
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from functools import partial
from io import StringIO
from pathlib import Path
from queue import SimpleQueue
from uuid import UUID

import pytest
import zstandard
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import connections, transaction
from django.db.models import F, Prefetch, Q, Value
from django.db.models.functions import Lower

from tests import processes
from tests.dumping import (
    COLUMNS,
    ROWS,
    exported,
    fails_at,
    joined,
    kill,
    stored,
    waiting_for,
    writing,
)
from tests.fieldtypes.models import Secretive, Ticket
from tests.orders.models import Buyer, Item, Label, Listing, Order, Seat
from upstream.dumps import (
    Directory,
    DumpPlan,
    IncompleteError,
    TargetError,
    VerificationError,
    WorkerError,
    begin,
    commit,
    cuts,
    plan_dump,
    plan_site,
    querysets,
    resume,
    run,
    run_part,
    runners,
    targets,
    threads,
    verify,
    workers,
)
from upstream.dumps.management.commands import dump_data
from upstream.dumps.plans import MOST_PARTS
from upstream.dumps.processes import ProcessWorker
from upstream.dumps.progress import Meters
from upstream.streaming import Column, Csv, ExportError, Json, JsonLines, Pdf, SourceError, stream

FORMATS = {
    "csv": Csv(),
    "tsv": Csv(delimiter="\t", lineterminator="\n"),
    "bare": Csv(header=False),
    "excel": Csv(profile="excel", decimal_separator=","),
    "utf-16": Csv(encoding="utf-16"),
    "ndjson": JsonLines(),
    "json": Json(),
    "indented": Json(indent=2),
}
# How often what must never go wrong is tried.
TOTALS = int(os.environ.get("UPSTREAM_TOTAL_ROUNDS", "2"))
TWICE = int(os.environ.get("UPSTREAM_TWICE_ROUNDS", "3"))


@pytest.fixture
def rows(transactional_database):
    return stored(transactional_database)


def staged(place):
    """Return what a dump leaves beside its directory until it is whole."""
    return [path.name for path in place.parent.iterdir() if path.name.startswith(".")]


class TestTheBytes:
    @pytest.mark.parametrize("encoder", FORMATS.values(), ids=FORMATS)
    def test_of_the_parts_joined_are_those_of_one_export(self, rows, encoder, place):
        plan = plan_dump(rows, COLUMNS, encoder, place, parts=4)
        assert len(plan.ranges) == 4

        manifest = run(plan)

        assert joined(place) == exported(rows, encoder)
        assert manifest["rows"] == ROWS
        assert all(part["rows"] > 10 for part in manifest["parts"])
        assert verify(place) == manifest
        assert not staged(place)

    @pytest.mark.parametrize("encoder", [Csv(), Json()], ids=["csv", "json"])
    def test_of_compressed_parts_joined_are_one_stream(self, database, encoder, place):
        rows = stored("default")
        for compression, suffix, read in (("gzip", ".gz", gzip.decompress), ("zstd", ".zst", unzstd)):
            plan = plan_dump(rows, COLUMNS, encoder, place, parts=3, compression=compression)
            manifest = run(plan, overwrite=True)
            assert read(joined(place)) == exported(rows, encoder)
            assert all(part["name"].endswith(encoder.suffix + suffix) for part in manifest["parts"])
            assert verify(place) == manifest

    def test_can_be_one_file(self, rows, place):
        manifest = run(plan_dump(rows, COLUMNS, Json(), place, parts=3, joined=True))

        assert {path.name for path in place.iterdir()} == {"manifest.json", "orders.listing.json"}
        assert (place / manifest["file"]).read_bytes() == exported(rows, Json())
        assert verify(place) == manifest

    @pytest.mark.parametrize("encoder", [Json(), Json(indent=1), JsonLines()], ids=["json", "indented", "ndjson"])
    @pytest.mark.parametrize("left", [0, 40, 190], ids=["all", "the end", "the start"])
    def test_are_whole_if_rows_are_deleted_after_the_plan(self, rows, encoder, left, place):
        plan = plan_dump(rows, COLUMNS, encoder, place, parts=4, compression="gzip")
        gone = rows.order_by("id").values_list("id", flat=True)
        rows.filter(id__in=list(gone[:left] if left == 190 else gone[left:])).delete()

        manifest = run(plan)

        assert verify(place)["rows"] == rows.count() == manifest["rows"]
        if rows.exists():
            assert gzip.decompress(joined(place)) == exported(rows, encoder)

    def test_of_an_empty_table_are_those_of_an_empty_export(self, transactional_database, place):
        rows = Listing.objects.using(transactional_database)
        run(plan_dump(rows, COLUMNS, Json(indent=1), place))
        assert joined(place) == b"[]"
        assert verify(place)["rows"] == 0


def unzstd(data):
    return zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()


class TestThePlan:
    def test_is_json_that_holds_all_it_needs(self, rows, place):
        plan = plan_dump(rows.filter(shelf__lt=5), COLUMNS, Csv(delimiter=";"), place, parts=3)
        again = DumpPlan.from_data(json.loads(json.dumps(plan.as_data())))
        begin(again)
        commit(again, [run_part(again, number) for number in (2, 0, 1)])
        assert joined(place) == exported(rows.filter(shelf__lt=5), Csv(delimiter=";"))

    def test_of_another_version_is_refused(self, db, place):
        data = plan_dump(Listing.objects.all(), COLUMNS, Csv(), place).as_data()
        with pytest.raises(ExportError, match="version 0"):
            DumpPlan.from_data({**data, "version": 0})

    @pytest.mark.parametrize(
        "narrow",
        [
            lambda rows: rows.filter(price__gte=Decimal("1.5"), sold_at__year=2026),
            lambda rows: rows.exclude(sku="a"),
            lambda rows: rows.filter(Q(sku="a") | ~Q(kind__in=["b", "p"]) & Q(sold_at__isnull=True)),
            lambda rows: rows.filter(order__buyer__name__startswith="a", maker=None),
            lambda rows: rows.filter(details__colour="red"),
            lambda rows: rows.filter(sold_at__date=date(2026, 1, 31)),
            lambda rows: rows.filter(order__in=[1, 2]).exclude(pk__in={3}),
            lambda rows: rows.filter(pk__in=[]),
            lambda rows: rows.filter(Q(sku="a") ^ Q(kind=Item.Kind.BOOK)),
        ],
    )
    def test_rebuilds_filters_to_the_same_sql(self, database, narrow, place):
        rows = narrow(Item.objects.using(database)).order_by("pk")
        plan = plan_dump(rows, ["id"], Csv(), place, parts=1)
        again = DumpPlan.from_data(json.loads(json.dumps(plan.as_data()))).rows()
        assert b"".join(stream(again, ["id"])) == b"".join(stream(rows, ["id"]))

    @pytest.mark.parametrize(
        ("source", "words"),
        [
            (lambda: [{"id": 1}], "reads a queryset, not list"),
            (lambda: Order.objects.all()[:5], "it is a slice"),
            (lambda: Order.objects.order_by("pk").distinct(), "distinct"),
            (lambda: Order.objects.annotate(one=Value(1)), "annotations"),
            (lambda: Order.objects.union(Order.objects.all()), "union"),
            (lambda: Order.objects.filter(number=F("id")), "an expression or a subquery"),
            (lambda: Order.objects.filter(buyer__in=Buyer.objects.all()), "an expression or a subquery"),
            (lambda: Order.objects.prefetch_related(Prefetch("labels", Label.objects.all())), "Prefetch"),
            (lambda: Order.objects.order_by(Lower("note")), "ordered by an expression"),
            (lambda: Order.objects.order_by("?"), "ordered by an expression"),
            (lambda: Order.objects.extra(where=["1=1"]), "no filter of a field"),
            (lambda: Order.objects.order_by("buyer_id"), "may be NULL"),
            (lambda: Order.objects.order_by("buyer__name"), "no field of Order itself"),
            (lambda: Order.objects.filter(items__sku="a"), "may repeat its rows"),
            (lambda: Secretive.objects.filter(password="x"), "sensitive"),
        ],
    )
    def test_refuses_what_it_cannot_rebuild_or_cut(self, db, source, words, place):
        with pytest.raises(ExportError, match=words):
            plan_dump(source(), ["id"], Csv(), place)
        assert not place.parent.exists()

    @pytest.mark.parametrize(
        ("columns", "encoder", "words"),
        [
            ([Column("note", value=str.upper)], Csv(), "made by a function"),
            ([len], Csv(), "made by a function"),
            (["nope"], Csv(), "unknown column"),
            (["note"], Pdf(), "cannot write Pdf"),
        ],
    )
    def test_refuses_what_no_other_process_can_write(self, db, columns, encoder, words, place):
        with pytest.raises(ExportError, match=words):
            plan_dump(Order.objects.all(), columns, encoder, place)

    def test_tells_no_value_of_its_filters_in_the_manifest(self, db, place):
        stored("default")
        run(plan_dump(Listing.objects.filter(title__contains="canary"), None, Csv(), place))
        assert "canary" not in (place / "manifest.json").read_text()


@pytest.fixture(params=[1, cuts.ROWS_PER_PROBE], ids=["probed", "counted"])
def either_way(request, monkeypatch):
    """Find the bounds of a few rows as those of many, and as it is."""
    monkeypatch.setattr(cuts, "ROWS_PER_PROBE", request.param)


class TestCuts:
    def dumped(self, rows, place, **options):
        plan = plan_dump(rows, None, JsonLines(), place, **{"parts": 5, **options})
        assert len(plan.ranges) == 5
        counts = [part["rows"] for part in run(plan)["parts"]]
        assert joined(place) == b"".join(stream(plan.rows(), encoder=JsonLines()))
        return counts

    @pytest.mark.usefixtures("either_way")
    def test_uuids_of_any_order(self, transactional_database, place):
        draw = random.Random(14)
        Ticket.objects.using(transactional_database).bulk_create(
            Ticket(id=UUID(int=draw.getrandbits(128), version=4), code=f"{number}") for number in range(200)
        )
        counts = self.dumped(Ticket.objects.using(transactional_database), place)
        assert sum(counts) == 200
        assert min(counts) > 10

    @pytest.mark.usefixtures("either_way")
    def test_a_composite_key_by_its_first_field(self, transactional_database, place):
        Seat.objects.using(transactional_database).bulk_create(
            Seat(row=row, number=number, name="x") for row in range(40) for number in range(5)
        )
        counts = self.dumped(Seat.objects.using(transactional_database), place)
        assert sum(counts) == 200
        assert min(counts) >= 35

    def test_a_descending_order_of_texts_that_repeat(self, transactional_database, place):
        Buyer.objects.using(transactional_database).bulk_create(
            Buyer(name=f"n{number % 50:02}", code=str(number)) for number in range(200)
        )
        counts = self.dumped(Buyer.objects.using(transactional_database).order_by("-name"), place)
        assert sum(counts) == 200
        assert min(counts) >= 36

    @pytest.mark.usefixtures("either_way")
    def test_by_what_a_filter_leaves(self, rows, place):
        assert min(self.dumped(rows.filter(id__gt=100), place)) > 5

    def test_local_times_that_never_were(self, db, place, monkeypatch):
        """Of the hour that is skipped in spring, a database without time zones may hold any minute."""
        connection = connections["default"]
        monkeypatch.setitem(connection.settings_dict, "TIME_ZONE", "Europe/Rome")
        for name in ("timezone", "timezone_name"):
            monkeypatch.delitem(connection.__dict__, name, raising=False)
        try:
            user = get_user_model().objects.create(username="x")
            LogEntry.objects.bulk_create(LogEntry(id=one, user=user, action_flag=1) for one in range(1, 181))
            with connection.cursor() as cursor:
                for minute in range(180):
                    moment = f"2026-03-29 {2 + minute // 60:02}:{minute % 60:02}:00"
                    cursor.execute(
                        "UPDATE django_admin_log SET action_time = %s WHERE id = %s", [moment, minute + 1]
                    )
            rows = LogEntry.objects.order_by("action_time")
            manifest = run(plan_dump(rows, ["id"], JsonLines(), place, parts=5))
        finally:
            for name in ("timezone", "timezone_name"):
                connection.__dict__.pop(name, None)
        assert len(manifest["parts"]) > 2
        assert [json.loads(line)["id"] for line in joined(place).splitlines()] == list(range(1, 181))

    def test_many_in_no_more_steps_than_a_statement_has_values(
        self, rows, place, django_assert_max_num_queries, monkeypatch
    ):
        monkeypatch.setattr(cuts, "ROWS_PER_PROBE", 1)
        monkeypatch.setattr(cuts, "MOST_PROBES", 60)
        with django_assert_max_num_queries(75, connection=connections[rows.db]):
            assert len(plan_dump(rows, None, JsonLines(), place, parts=40).ranges) == 40

    def test_few_rows_by_one_walk(self, rows, place, django_assert_max_num_queries):
        with django_assert_max_num_queries(12, connection=connections[rows.db]):
            plan = plan_dump(rows, None, JsonLines(), place, parts=40)
        assert {part["rows"] for part in run(plan)["parts"]} == {ROWS // 40}

    @pytest.mark.heavy
    @pytest.mark.parametrize("order", ["id", "title"])
    def test_most_parts_within_the_limits_of_sqlite(self, db, order, place, monkeypatch):
        Listing.objects.bulk_create(
            Listing(id=3 * number, shelf=1, place=number, title=f"{number:06}") for number in range(1, 100_001)
        )
        monkeypatch.setattr(cuts, "ROWS_PER_PROBE", 1)
        rows = Listing.objects.filter(title__gt="").order_by(order)
        sqlite = connections["default"].connection
        limit = sqlite.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 32_766)
        try:
            assert len(plan_dump(rows, None, JsonLines(), place, parts=MOST_PARTS).ranges) == MOST_PARTS
        finally:
            sqlite.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, limit)

    @pytest.mark.django_db(databases="__all__", transaction=True)
    def test_by_fresh_statistics_of_postgresql(self, place, django_assert_max_num_queries):
        if "postgresql" not in connections.databases:
            pytest.skip("there is no PostgreSQL")
        Listing.objects.using("postgresql").bulk_create(
            Listing(id=number**2, shelf=1, place=number, title="x") for number in range(1, 1001)
        )
        with connections["postgresql"].cursor() as cursor:
            cursor.execute("SELECT pg_stat_force_next_flush()")  # else it counts the rows as new after ANALYZE
            cursor.execute("ANALYZE orders_listing")
        with django_assert_max_num_queries(4, connection=connections["postgresql"]):
            plan_dump(Listing.objects.using("postgresql"), None, JsonLines(), place, parts=5)
        counts = self.dumped(Listing.objects.using("postgresql"), place)
        assert min(counts) > 150


class TestOneState:
    """Rows whose sum never changes, and a writer that moves amounts between them all the time."""

    @pytest.fixture
    def writer(self, rows):
        rows.update(place=F("id") % 1000, shelf=F("id"))
        keys, draw = list(rows.values_list("id", flat=True)), random.Random(14)

        def move():
            taken, given = draw.sample(keys, 2)
            with transaction.atomic(using=rows.db):
                rows.filter(id=taken).update(place=F("place") - 1000)
                rows.filter(id=given).update(place=F("place") + 1000)

        with writing(rows.db, move) as moved:
            yield moved

    def test_is_what_all_parts_show_where_the_database_can_share_it(self, rows, writer, place):
        total = sum(rows.values_list("place", flat=True))  # one statement: one state
        plan = plan_dump(rows, ["id", "place"], JsonLines(), place, parts=8)

        manifest = run(plan, report=waiting_for(writer))

        shown = sum(json.loads(line)["place"] for line in joined(place).splitlines())
        assert manifest["consistency"] == ("snapshot" if rows.db == "postgresql" else "part")
        if rows.db == "postgresql":
            assert shown == total

    @pytest.mark.parametrize("kind", ["threads", "processes"])
    def test_has_the_right_total_each_time(self, postgresql, writer, kind, tmp_path, monkeypatch):
        if kind == "processes":
            monkeypatch.setattr(workers, "COPY_THREADS", 1)
        total = sum(postgresql.values_list("place", flat=True))
        for number in range(TOTALS):
            place = tmp_path / str(number)
            plan = plan_dump(postgresql, ["id", "place"], JsonLines(), place, parts=6)
            run(plan, workers=2, report=waiting_for(writer))
            shown = [json.loads(line) for line in joined(place).splitlines()]
            assert sum(row["place"] for row in shown) == total
            assert len(shown) == ROWS

    @pytest.mark.parametrize("transactional_database", ["default"], indirect=True, ids=["sqlite"])
    def test_of_a_part_is_read_by_several_processes_of_sqlite_while_another_writes(self, rows, place):
        with connections["default"].cursor() as cursor:
            cursor.execute("PRAGMA journal_mode = WAL")

        def write():
            rows.filter(id=random.randint(1, 100)).update(shelf=F("shelf") + 1)

        try:
            with writing("default", write) as written:
                plan = plan_dump(rows, COLUMNS, JsonLines(), place, parts=8)
                manifest = run(plan, workers=3, report=waiting_for(written))
        finally:
            with connections["default"].cursor() as cursor:
                cursor.execute("PRAGMA journal_mode = DELETE")
        ids = [json.loads(line)["id"] for line in joined(place).splitlines()]
        assert ids == list(rows.order_by("id").values_list("id", flat=True))
        assert manifest["consistency"] == "part"

    def test_is_that_of_a_part_that_runs_again(self, rows, place):
        plan = plan_dump(rows, COLUMNS, Csv(), place, parts=3)
        begin(plan)
        with plan.holding_snapshot() as plan:
            first = run_part(plan, 1)
            rows.update(title="changed")
            again = run_part(plan, 1)
        assert first.name != again.name
        assert (first.sha256 == again.sha256) == (rows.db == "postgresql")

    def test_ends_with_the_one_who_holds_it(self, rows, place):
        plan = plan_dump(rows, COLUMNS, Csv(), place, parts=3)
        begin(plan)
        with plan.holding_snapshot() as plan:
            run_part(plan, 0)
        if not plan.snapshot:
            assert rows.db != "postgresql"
            return
        with pytest.raises(ExportError, match="has ended with the connection that held it"):
            run_part(plan, 1)

    @pytest.fixture
    def postgresql(self, rows):
        if rows.db != "postgresql":
            pytest.skip("only PostgreSQL shares a snapshot")
        return rows

    @pytest.mark.parametrize("workers", [0, 2])
    def test_is_not_that_of_a_table_that_was_truncated_meanwhile(self, postgresql, workers, place):
        def truncate(_number, _rows, _size, is_done):
            with connections["postgresql"].cursor() as cursor:
                cursor.execute("TRUNCATE orders_listing" if is_done else "SELECT")

        plan = plan_dump(postgresql, COLUMNS, Csv(), place, parts=8)
        with pytest.raises(ExportError, match="was truncated or written anew"):
            run(plan, workers=workers, report=truncate)
        assert not place.exists()

    def test_is_that_of_the_tables_on_the_path_of_the_caller(self, postgresql, place):
        def execute(sql):
            with connections["postgresql"].cursor() as cursor:
                cursor.execute(sql)

        few = "SELECT * FROM orders_listing WHERE id < 50"
        execute(f"CREATE SCHEMA tenant; CREATE TABLE tenant.orders_listing AS {few}")
        try:
            execute("SET search_path TO tenant")
            manifest = run(plan_dump(postgresql, COLUMNS, Csv(), place, parts=3))
        finally:
            execute("RESET search_path; DROP SCHEMA tenant CASCADE")
        assert (manifest["rows"], manifest["consistency"]) == (49, "snapshot")

    def test_of_rows_without_a_key_is_not_cut(self, postgresql, place):
        def execute(sql):
            with connections["postgresql"].cursor() as cursor:
                cursor.execute(sql)

        execute("ALTER TABLE orders_listing ALTER shelf DROP NOT NULL")
        execute("UPDATE orders_listing SET shelf = NULL WHERE id < 9")
        try:
            ordered = postgresql.order_by("shelf")
            with pytest.raises(SourceError, match="'shelf', which it is ordered by first, is NULL in some rows"):
                plan_dump(ordered, COLUMNS, Csv(), place, parts=4)
            assert run(plan_dump(ordered, COLUMNS, Csv(), place, parts=1))["rows"] == ROWS
        finally:
            postgresql.filter(id__lt=9).delete()
            execute("ALTER TABLE orders_listing ALTER shelf SET NOT NULL")

    def test_is_kept_by_what_writes_rows_into_its_own_file(self, postgresql, place):
        before = exported(postgresql)

        def change(*_):
            postgresql.update(title="x")
            postgresql.filter(id__lt=9).delete()
            with connections["postgresql"].cursor() as cursor:
                cursor.execute("VACUUM ANALYZE orders_listing")

        run(plan_dump(postgresql, COLUMNS, Csv(), place, parts=8), workers=1, report=change)
        assert joined(place) == before

    @pytest.mark.heavy_with("transaction_timeout")
    @pytest.mark.parametrize("limit", ["idle_in_transaction_session_timeout", "transaction_timeout"])
    def test_outlives_the_limits_of_transactions(self, postgresql, limit, place):
        def execute(sql):
            with connections["postgresql"].cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall() if sql.startswith("SELECT") else None

        def is_old():
            is_held = "xact_start < now() - interval '4s' AND datname = current_database()"
            return execute(f"SELECT 1 FROM pg_stat_activity WHERE {is_held}")

        def wait(_number, _rows, _size, is_done):
            assert not is_done or processes.eventually(is_old, 60)

        if limit == "transaction_timeout" and connections["postgresql"].pg_version < 170000:
            pytest.skip("this server has no such limit")
        plan = plan_dump(postgresql, COLUMNS, Csv(), place, parts=3)
        name = connections["postgresql"].settings_dict["NAME"]
        execute(f"ALTER DATABASE {name} SET {limit} = '3s'")
        try:
            manifest = run(plan, workers=1, report=wait)
        finally:
            execute(f"ALTER DATABASE {name} RESET {limit}")
        assert manifest["consistency"] == "snapshot"
        assert joined(place) == exported(postgresql)

    def test_is_shared_through_a_pooler_of_transactions(self, pgbouncer, place):
        rows = stored(pgbouncer)
        told = []

        def change(*_):
            rows.update(title="changed")
            told.append(list(Listing.objects.using(pgbouncer).values_list("title", flat=True).distinct()))

        before = exported(rows)
        manifest = run(plan_dump(rows, COLUMNS, Csv(), place, parts=6), workers=2, report=change)
        assert joined(place) == before
        assert manifest["consistency"] == "snapshot"
        assert told[-1] == ["changed"]

    def test_is_shared_by_the_workers_of_dask(self, postgresql, place):
        distributed = importlib.import_module("distributed")
        before, name = exported(postgresql), connections["postgresql"].settings_dict["NAME"]
        with (
            distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
            distributed.Client(cluster) as client,
        ):
            client.run(processes.set_up, "postgresql", name)
            plan = plan_dump(postgresql, COLUMNS, Csv(), place, parts=4)
            change = partial(postgresql.update, title="changed")
            manifest = run(plan, executor=client.get_executor(), report=lambda *_: change())
        assert joined(place) == before
        assert manifest["consistency"] == "snapshot"

    def test_knows_all_tables_that_its_rows_come_from(self, db):
        orders = Order.objects.filter(items__sku="a").order_by("id")
        assert querysets.tables(orders, ["id", "buyer__name", "labels__name", "buyer__nope", "note"]) == [
            "orders_buyer", "orders_item", "orders_label", "orders_order", "orders_order_labels",
        ]  # fmt: skip

    def test_cannot_be_shared_from_a_transaction(self, rows, place):
        plan = plan_dump(rows, COLUMNS, Csv(), place)
        with transaction.atomic(using=rows.db):
            if rows.db != "postgresql":
                assert run(plan)["rows"] == ROWS
                return
            with pytest.raises(ExportError, match="call this outside of transaction"):
                run(plan)
        assert not staged(place)

    def test_is_told_to_be_that_of_a_window(self, rows, place):
        manifest = run(plan_dump(rows, COLUMNS, Csv(), place, parts=3, windows=True))
        assert manifest["consistency"] == "window"
        assert joined(place) == exported(rows)


class TestCommit:
    def test_takes_one_attempt_of_each_part_and_drops_the_others(self, rows, place):
        plan = plan_dump(rows, COLUMNS, Csv(), place, parts=3)
        begin(plan)
        attempts = [run_part(plan, number) for number in (2, 1, 0, 1, 2, 0)]

        manifest = commit(plan, attempts)

        assert [part["name"] for part in manifest["parts"]] == [attempts[at].name for at in (2, 1, 0)]
        assert {path.name for path in place.iterdir()} == {
            "manifest.json",
            *(part["name"] for part in manifest["parts"]),
        }
        assert joined(place) == exported(rows)

    def test_refuses_a_dump_with_a_part_missing(self, rows, place):
        plan = plan_dump(rows, COLUMNS, Csv(), place, parts=3)
        begin(plan)
        other = run_part(plan_dump(rows, COLUMNS, Csv(), place, parts=3), 1)
        with pytest.raises(IncompleteError, match=r"parts \[1\] of the dump are missing"):
            commit(plan, [run_part(plan, 0), other, run_part(plan, 2)])
        assert not place.exists()

    def test_that_was_interrupted_is_completed_by_another(self, rows, place, monkeypatch):
        plan = plan_dump(rows, COLUMNS, Csv(), place, parts=3)
        rename = Path.replace
        for step in range(4):
            left = [step]

            def interrupted(path, target, left=left):
                left[0] -= 1
                if left[0] < 0:
                    raise KeyboardInterrupt
                return rename(path, target)

            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(Path, "replace", interrupted)
                run(plan, overwrite=True)
            assert not place.exists()
        assert resume(Directory(str(place)))["rows"] == ROWS
        assert joined(place) == exported(rows)
        assert not staged(place)


class TestADirectory:
    def test_that_is_not_empty_is_replaced_only_if_told_so_and_at_the_end(self, rows, place):
        place.mkdir(parents=True)
        (place / "kept").write_text("old")
        plan = plan_dump(rows, COLUMNS, Csv(), place, parts=3)
        with pytest.raises(TargetError, match="not empty"):
            run(plan)

        def still_there(*_):
            assert (place / "kept").read_text() == "old"

        run(plan, overwrite=True, report=still_there)
        assert joined(place) == exported(rows)
        assert not (place / "kept").exists()

    def test_that_gets_content_meanwhile_keeps_it(self, rows, place):
        plan = plan_dump(rows, COLUMNS, Csv(), place, parts=3)

        def intrude(*_):
            place.mkdir(exist_ok=True)
            (place / "theirs").write_text("kept")

        with pytest.raises(TargetError, match="no longer empty"):
            run(plan, report=intrude)
        assert [path.name for path in place.iterdir()] == ["theirs"]
        (place / "theirs").unlink()
        resume(Directory(str(place)))
        assert joined(place) == exported(rows)

    def test_gets_nothing_from_a_part_that_runs_on_after_the_end(self, rows, place):
        plan = plan_dump(rows, COLUMNS, Csv(), place, parts=3)
        run(plan)
        with pytest.raises(OSError, match="No such file"):
            run_part(plan, 1)
        assert not staged(place)

    def test_is_written_by_one_dump_at_a_time(self, rows, place):
        plan = plan_dump(rows, COLUMNS, Csv(), place, parts=3)

        def another(*_):
            with pytest.raises(TargetError, match="another dump is being written"):
                run(plan, overwrite=True)

        run(plan, report=another)
        assert joined(place) == exported(rows)

    def test_keeps_the_old_dump_if_the_one_after_an_interrupted_change_fails(self, rows, place, monkeypatch):
        run(plan_dump(rows, COLUMNS, Csv(), place, parts=2))
        old, replace = joined(place), Path.replace

        def interrupted(self, target):
            if target == place:
                raise KeyboardInterrupt
            return replace(self, target)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Path, "replace", interrupted)
            run(plan_dump(rows, COLUMNS, Csv(), place, parts=3), overwrite=True)
        assert not place.exists()
        with pytest.raises(ExportError):
            run(plan_dump(rows, COLUMNS, Csv(encoding="ascii"), place, parts=2), overwrite=True)

        assert joined(place) == old
        assert not staged(place)

    def test_clears_away_what_is_its_own_and_no_other_dump(self, db, tmp_path):
        rows, others = (
            stored("default"),
            [".x1.upstream-dump.y", ".[x]1.upstream-dump.y", ".x1.upstream-dump.0123abcd"],
        )
        left = tmp_path / ".[x]1.upstream-dump.0123abcd"
        for name in (*others, left.name):
            (tmp_path / name).mkdir()
        run(plan_dump(rows, COLUMNS, Csv(), tmp_path / "[x]1", parts=2))
        assert {path.name for path in tmp_path.iterdir()} == {"[x]1", *others}

    def test_has_an_unfinished_dump_that_is_told(self, rows, place):
        plan = plan_dump(rows, COLUMNS, Csv(), place, parts=3)
        with pytest.raises(RuntimeError):
            run(plan, report=fails_at(1))
        assert not place.exists()
        with pytest.raises(TargetError, match="unfinished"):
            run(plan)
        run(plan, overwrite=True)
        assert joined(place) == exported(rows)


class TestAnotherTarget:
    """An object store in memory: nothing of it is a file, and the core knows nothing of it."""

    staged, shown = {}, {}

    class Shelf:
        def as_data(self):
            return {"kind": "shelf"}

        @contextmanager
        def claim(self, *, resume, overwrite):
            yield

        def write(self, name, chunks):
            TestAnotherTarget.staged[name] = b"".join(chunks)

        def names(self):
            return sorted(TestAnotherTarget.staged)

        def read(self, name):
            yield TestAnotherTarget.staged[name]

        def publish(self, names, manifest, *, joined=""):
            TestAnotherTarget.shown.update({name: self.staged()[name] for name in names}, manifest=manifest)
            TestAnotherTarget.staged.clear()

        def staged(self):
            return TestAnotherTarget.staged

        def manifest(self):
            return TestAnotherTarget.shown.get("manifest")

        def discard(self):
            TestAnotherTarget.staged.clear()

    def test_takes_a_dump(self, rows, monkeypatch):
        monkeypatch.setitem(targets.TARGETS, "shelf", self.Shelf)
        plan = plan_dump(rows, COLUMNS, Json(), self.Shelf(), parts=3)
        with pytest.raises(RuntimeError):
            run(plan, report=fails_at(1))
        manifest = resume(self.Shelf(), allow_new_snapshot=True)
        assert b"".join(self.shown[part["name"]] for part in manifest["parts"]) == exported(rows, Json())
        assert json.loads(self.shown["manifest"]) == manifest
        self.shown.clear()


class TestResuming:
    def test_runs_only_what_is_missing(self, rows, place):
        with pytest.raises(RuntimeError):
            run(plan_dump(rows, COLUMNS, Csv(), place, parts=4), report=fails_at(1))
        ran = set()

        manifest = resume(
            Directory(str(place)), allow_new_snapshot=True, report=lambda number, *_: ran.add(number)
        )

        assert ran == {2, 3}
        assert manifest["consistency"] == "part"
        assert joined(place) == exported(rows)
        assert verify(place) == manifest
        assert not staged(place)

    def test_keeps_the_promise_of_one_snapshot_or_refuses(self, rows, place):
        with pytest.raises(RuntimeError):
            run(plan_dump(rows, COLUMNS, Csv(), place, parts=4), report=fails_at(1))
        if rows.db == "postgresql":
            with pytest.raises(ExportError, match="show a snapshot that has ended"):
                resume(Directory(str(place)))
            assert not place.exists()
        else:
            assert resume(Directory(str(place)))["consistency"] == "part"

    def test_of_a_whole_dump_drops_what_its_end_left_over(self, transactional_db, place):
        """The process was killed while it dropped the attempts that were not taken."""
        manifest = run(plan_dump(stored("default"), COLUMNS, Csv(), place, parts=2))
        left = place.with_name(f".{place.name}.upstream-dump.0123abcd")
        left.mkdir()
        (left / "part-00000-89abcdef.result").touch()
        assert resume(Directory(str(place))) == manifest
        assert verify(place) == manifest
        assert not staged(place)

    @pytest.mark.parametrize("of_site", [False, True], ids=["one model", "a site"])
    def test_goes_on_where_the_dump_was_copied_to(self, db, of_site, place, tmp_path):
        rows = stored("default")
        if of_site:
            plan = plan_site([rows], Csv(), place, parts=3, uncut_rows=1)
        else:
            plan = plan_dump(rows, COLUMNS, Csv(), place, parts=3)
        with pytest.raises(RuntimeError):
            run(plan, report=fails_at(1))
        copied = tmp_path / "copied" / place.name
        shutil.copytree(place.parent, copied.parent)

        manifest = resume(Directory(str(copied)))

        assert verify(copied) == manifest
        assert manifest["rows"] == ROWS
        assert not staged(copied)
        assert not place.exists()
        assert resume(Directory(str(place)))["rows"] == ROWS

    def test_needs_an_unfinished_dump(self, place):
        with pytest.raises(ExportError, match="no unfinished dump"):
            resume(Directory(str(place)))
        assert not place.parent.exists()


class TestRunners:
    @pytest.fixture(params=["chosen", "processes"])
    def kind(self, request, monkeypatch):
        """Workers as they are chosen, and mostly processes; nothing of them is left."""
        if request.param == "processes":
            monkeypatch.setattr(workers, "COPY_THREADS", 1)
        before = {*processes.children(), *threading.enumerate()}
        yield request.param
        assert before.issuperset({*processes.children(), *threading.enumerate()})

    def test_workers_write_what_one_process_writes(self, rows, kind, place):
        told = []
        manifest = run(
            plan_dump(rows, COLUMNS, Csv(), place, parts=4), workers=2, report=lambda *given: told.append(given)
        )
        assert joined(place) == exported(rows)
        assert manifest["consistency"] == ("snapshot" if rows.db == "postgresql" else "part")
        assert {number for number, *_, is_done in told if is_done} == {0, 1, 2, 3}

    def test_threads_suit_rows_that_the_server_renders(self, rows, place):
        chosen = [
            str(workers.chosen_workers(plan_dump(rows, COLUMNS, encoder, place), number))
            for encoder, number in ((Csv(), 1), (Csv(), 2), (Csv(), 9), (Csv(profile="excel"), 3))
        ]
        if rows.db == "postgresql":
            several = ["2 threads", "2 threads and 7 new processes"]
        else:
            several = ["1 thread and 1 new process", "1 thread and 8 new processes"]
        assert chosen == ["1 thread", *several, "1 thread and 2 new processes"]

    def test_a_killed_process_is_replaced(self, rows, place, monkeypatch):
        monkeypatch.setattr(workers, "COPY_THREADS", 1)
        before, killed = processes.children(), []

        def kill(*_):
            for child in () if killed else processes.children() - before:
                killed.append(child)
                os.kill(child, signal.SIGKILL)

        run(plan_dump(rows, COLUMNS, Csv(), place, parts=8), workers=2, report=kill)
        assert killed
        assert joined(place) == exported(rows)
        assert not staged(place)

    @pytest.mark.django_db(transaction=True)
    def test_an_interrupt_while_workers_end_leaves_none(self, place, monkeypatch):
        plan = plan_dump(stored("default"), COLUMNS, Csv(), place, parts=8)
        monkeypatch.setattr(workers, "COPY_THREADS", 1)
        before, wait, interrupted = {*processes.children(), *threading.enumerate()}, subprocess.Popen.wait, []

        def interrupt(self, timeout=None):
            if timeout and not interrupted:
                interrupted.append(self)
                raise KeyboardInterrupt
            return wait(self, timeout)

        monkeypatch.setattr(subprocess.Popen, "wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(plan, workers=3, report=fails_at(0))
        assert interrupted
        assert before.issuperset({*processes.children(), *threading.enumerate()})

    @pytest.mark.django_db(transaction=True)
    def test_a_thread_whose_target_hangs_is_not_waited_for_and_writes_nothing_more(self, place, monkeypatch):
        plan = plan_dump(stored("default"), COLUMNS, Csv(), place, parts=2)
        begin(plan)
        before, write = Directory(str(place)).names(), Directory.write
        hangs, goes_on = threading.Event(), threading.Event()

        def hang(self, name, chunks):
            hangs.set()
            assert goes_on.wait(300)
            write(self, name, chunks)

        monkeypatch.setattr(Directory, "write", hang)
        monkeypatch.setattr(threads, "GRACE_SECONDS", 0.1)
        worker = threads.ThreadWorker(plan, lambda *_: None)
        try:
            worker.give(0)
            assert hangs.wait(60)
            worker.end()
            assert worker._thread.is_alive()
        finally:
            goes_on.set()
            worker._thread.join(60)
        assert not worker._thread.is_alive()
        assert Directory(str(place)).names() == before

    @pytest.mark.django_db(transaction=True)
    def test_what_other_code_prints_is_nothing_that_a_process_tells(self, place, tmp_path, monkeypatch):
        plan, told = plan_dump(stored("default"), COLUMNS, Csv(), place, parts=2), SimpleQueue()
        begin(plan)
        printed = 'print("hello"); print([1, 2]); print("\\u00e9 no end", end="", flush=True)'
        (tmp_path / "sitecustomize.py").write_text(printed)
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        worker = ProcessWorker(plan, lambda *given: told.put(given))
        try:
            assert told.get(timeout=120) == ("ready", None)
            worker.give(1)
            while (last := told.get(timeout=120))[0] == "progress":
                pass
            assert last[0] == "written"
            assert last[1]["number"] == 1
        finally:
            worker.end()
        assert told.get(timeout=60)[0] == "died"

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.usefixtures("kind")
    def test_a_part_that_cannot_be_written_is_told_with_its_error(self, place):
        stored("default")
        plan = plan_dump(Listing.objects.all(), COLUMNS, Csv(encoding="ascii"), place, parts=2)
        with pytest.raises(WorkerError, match=r"(?s)part \d failed.*TextError"):
            run(plan, workers=2)
        assert not place.exists()

    def test_any_executor_carries_out_a_plan(self, rows, place):
        with ThreadPoolExecutor(1) as executor:
            run(plan_dump(rows, COLUMNS, Csv(), place, parts=4), executor=executor)
            executor.submit(connections.close_all).result()
        assert joined(place) == exported(rows)

    def test_a_runner_that_an_app_adds_carries_out_a_plan_by_its_name(self, rows, place, monkeypatch):
        asked = []

        def backwards(plan, numbers, *, attempts, report):
            asked.append((attempts, report))
            for number in reversed([*numbers]):
                yield run_part(plan, number)

        monkeypatch.setitem(runners.RUNNERS, "celery", backwards)
        with pytest.raises(RuntimeError):
            run(plan_dump(rows, COLUMNS, Csv(), place, parts=4), runner="celery", report=fails_at(2))
        resume(Directory(str(place)), runner="celery", attempts=5, allow_new_snapshot=True)
        assert [attempts for attempts, _ in asked] == [3, 5]
        assert joined(place) == exported(rows)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"runner": "celery"}, "no installed app has added a runner 'celery', there is none"),
            ({"runner": "celery", "workers": 2}, "choose one of workers, executor and runner"),
        ],
    )
    def test_a_runner_that_is_not_there_is_refused(self, db, options, words, place, monkeypatch):
        monkeypatch.setattr(runners, "RUNNERS", {})
        plan = plan_dump(Listing.objects.all(), COLUMNS, Csv(), place, parts=2)
        with pytest.raises(ExportError, match=words):
            run(plan, **options)
        assert not place.parent.exists()

    def test_no_worker_is_asked_for_rows_that_it_cannot_see(self, db, place):
        plan = plan_dump(Listing.objects.all(), COLUMNS, Csv(), place, parts=2)
        with pytest.raises(ExportError, match="no other process or thread sees"):
            run(plan, workers=1)
        assert not place.parent.exists()

    def test_a_part_that_fails_once_runs_again(self, rows, place, monkeypatch):
        plan, write, failed = plan_dump(rows, COLUMNS, Csv(), place, parts=3), Directory.write, []

        def fails_once(self, name, chunks):
            if name.startswith("part-00001") and not failed:
                failed.append(name)
                raise OSError("no space left")
            write(self, name, chunks)

        monkeypatch.setattr(Directory, "write", fails_once)
        run(plan)
        assert failed
        assert joined(place) == exported(rows)


def killed_and_resumed(rows, place, workers, parts_before):
    kill(plan_dump(rows, COLUMNS, Json(), place, parts=8), workers, parts_before)
    assert place.exists() or staged(place)
    if staged(place):
        resume(Directory(str(place)))
    assert verify(place)["rows"] == rows.count()
    assert joined(place) == exported(rows, Json())
    assert not staged(place)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("parts_before", [1, 5])
def test_a_killed_dump_is_resumed_without_loss_or_leftovers(place, parts_before):
    killed_and_resumed(stored("default"), place, 0, parts_before)


@pytest.mark.heavy
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("parts_before", range(1, 9))
@pytest.mark.parametrize("workers", [0, 2])
def test_a_dump_killed_anywhere_is_resumed_without_loss_or_leftovers(place, workers, parts_before):
    killed_and_resumed(stored("default"), place, workers, parts_before)


class TestVerifying:
    @pytest.fixture
    def dump(self, db, place):
        run(plan_dump(stored("default"), COLUMNS, Csv(), place, parts=2))
        return place

    def change(self, dump, **values):
        path = dump / "manifest.json"
        manifest = json.loads(path.read_bytes())
        path.write_text(json.dumps({**manifest, **values}))
        return dump / manifest["parts"][1]["name"]

    def test_finds_a_byte_that_differs(self, dump):
        part = self.change(dump)
        part.write_bytes(part.read_bytes().replace(b"ID", b"IT", 1))
        with pytest.raises(VerificationError, match="SHA-256"):
            verify(dump)

    @pytest.mark.parametrize(
        ("change", "words"), [(lambda data: data[:-1], "shorter"), (b"%b1".__mod__, "longer")]
    )
    def test_finds_a_part_of_another_size(self, dump, change, words):
        part = self.change(dump)
        part.write_bytes(change(part.read_bytes()))
        with pytest.raises(VerificationError, match=words):
            verify(dump)

    def test_finds_files_that_are_missing_or_foreign(self, dump):
        self.change(dump).rename(dump / "elsewhere.csv")
        with pytest.raises(VerificationError, match="elsewhere"):
            verify(dump)

    def test_finds_rows_that_do_not_add_up_and_columns_that_differ(self, dump):
        self.change(dump, columns=["title", "id", "place"])
        with pytest.raises(VerificationError, match="the header is"):
            verify(dump)
        self.change(dump, columns=COLUMNS, rows=ROWS + 1)
        with pytest.raises(VerificationError, match="add up"):
            verify(dump)

    def test_finds_no_dump_without_a_manifest(self, dump):
        (dump / "manifest.json").unlink()
        with pytest.raises(VerificationError, match=r"no manifest\.json"):
            verify(dump)


class TestEveryPartTwiceAtOnce:
    """As a queue may deliver it: two attempts of each part, and what they give in any order."""

    def dumped(self, rows, executor, tmp_path, number):
        plan, draw = (
            plan_dump(rows, COLUMNS, Json(), tmp_path / f"{number}" / "dump", parts=4),
            random.Random(number),
        )
        begin(plan)
        with plan.holding_snapshot() as held:
            twice = draw.sample([*range(len(held.ranges))] * 2, 2 * len(held.ranges))
            results = [future.result() for future in [executor.submit(run_part, held, part) for part in twice]]
        draw.shuffle(results)
        assert len({part.name for part in results}) == 2 * len(plan.ranges)
        manifest = commit(plan, results)
        place = tmp_path / f"{number}" / "dump"
        assert manifest["rows"] == ROWS
        assert joined(place) == exported(rows, Json())
        assert {path.name for path in place.iterdir()} == {
            "manifest.json",
            *(p["name"] for p in manifest["parts"]),
        }
        assert not staged(place)

    def test_gives_each_row_once_in_threads(self, rows, tmp_path):
        with ThreadPoolExecutor(4) as executor:
            for number in range(TWICE):
                self.dumped(rows, executor, tmp_path, number)
            barrier = threading.Barrier(4)
            for closed in [executor.submit(close_connections, barrier) for _ in range(4)]:
                closed.result()

    @pytest.mark.heavy
    def test_gives_each_row_once_in_processes(self, rows, tmp_path):
        name, context = str(connections[rows.db].settings_dict["NAME"]), multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(3, context, initializer=processes.set_up, initargs=[rows.db, name]) as executor:
            for number in range(TWICE):
                self.dumped(rows, executor, tmp_path, number)


def close_connections(barrier):
    barrier.wait(60)  # so that each thread runs it once
    connections.close_all()


class TestTheCommands:
    def test_dump_and_verify_a_model(self, rows, place, capsys):
        options = ["--columns", "title,id=Number", "--filter", "shelf__lt=5", "--order-by=-id", "--verify"]
        call_command(
            *("dump_data", "orders.Listing", "--to", place, "--format", "ndjson.gz", "--database", rows.db),
            *(*options, "--parts", "3"),
        )
        call_command("verify_dump", place)

        shown = rows.filter(shelf__lt=5).order_by("-id")
        columns = ["title", ("id", "Number")]
        assert gzip.decompress(joined(place)) == b"".join(stream(shown, columns, JsonLines()))
        first, second = capsys.readouterr().out.splitlines()
        assert f"{shown.count():,} rows in 3 parts" in first
        assert first.endswith(", verified")
        assert f"verified, {shown.count():,} rows of orders.Listing" in second

    def test_tell_which_workers_there_were(self, rows, place, capsys):
        call_command("dump_data", "orders.Listing", "--to", place, "--database", rows.db, "--workers", "2")
        workers = "2 threads" if rows.db == "postgresql" else "1 thread and 1 new process"
        assert capsys.readouterr().out.rstrip().endswith(f", by {workers}")
        assert joined(place) == exported(rows, columns=None)

    def test_show_how_far_they_are(self):
        shown = StringIO()
        with Meters(shown) as meters:
            meters.parts = 4
            meters(0, 1000, 4096, False)
            meters(0, 2000, 2**20, True)
        assert "0 of 4 parts, 1,000 rows, " in shown.getvalue()
        assert "part 0: 2,000 rows, 1.0 MiB\n" in shown.getvalue()
        assert re.fullmatch(r"1 of 4 parts, 2,000 rows, [\d,]+ rows/s, 1\.0 MiB written, \d+ s left", str(meters))

    def test_resume_what_was_interrupted(self, db, place, monkeypatch, capsys):
        stored("default")
        write = Directory.write

        def interrupted(self, name, chunks):
            if name.startswith("part-00002"):
                signal.raise_signal(signal.SIGINT)
            write(self, name, chunks)

        monkeypatch.setattr(Directory, "write", interrupted)
        with pytest.raises(SystemExit) as ended:
            call_command("dump_data", "orders.Listing", "--to", place)
        assert ended.value.code == 128 + signal.SIGINT
        assert "--resume continues" in capsys.readouterr().err
        monkeypatch.undo()

        for _ in range(2):  # of a dump that is whole, nothing is missing
            call_command("dump_data", "--to", place, "--resume", "--verify", "--workers", "1")
            assert f"{ROWS} rows in 4 parts" in capsys.readouterr().out

    def test_dump_on_celery_if_an_app_adds_it(self, rows, place, monkeypatch, capsys):
        monkeypatch.setattr(dump_data, "RUNNERS", {})
        dumping = ("dump_data", "orders.Listing", "--to", place, "--celery", "--database", rows.db)
        with pytest.raises(CommandError, match=r'add "upstream\.jobs" to INSTALLED_APPS'):
            call_command(*dumping)
        monkeypatch.undo()

        def runner(plan, numbers, **_):
            yield from [run_part(plan, number) for number in numbers]

        monkeypatch.setitem(runners.RUNNERS, "celery", runner)
        call_command(*dumping)
        assert f"{ROWS} rows in 4 parts" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["orders.Listing", "--format", "xlsx.gz"], "cannot be dumped in parts"),
            (["orders.Listing", "--format", "pdf"], "a PDF is one document"),
            (["orders.Listing", "--format", "csv.rar"], "cannot be dumped in parts"),
            (["orders.Listing", "--resume"], "leave out model"),
            (["--resume", "--format", "csv"], "leave out --format"),
            (["--resume", "--one-file"], "leave out --one-file"),
            (["--resume", "--overwrite"], "choose one"),
            (["orders.Listing", "--celery", "--workers", "2"], "leave out --workers"),
            ([], "name a model"),
            (["orders.Listing", "--workers", "0"], "1 or more"),
            (["orders.Nope"], "unknown model"),
            (["--resume"], "no unfinished dump"),
        ],
    )
    def test_refuse_what_makes_no_sense(self, db, arguments, words, place):
        with pytest.raises(CommandError, match=words):
            call_command("dump_data", "--to", place, *arguments)
        assert not place.exists()
