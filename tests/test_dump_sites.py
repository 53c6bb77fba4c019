"""Dumps of all models: one snapshot, one manifest, and a folder for each model."""

import json
import os
import random
import signal
from io import BytesIO, StringIO

import duckdb
import polars as pl
import pytest
import python_calamine
from django.apps import apps
from django.contrib.auth.models import Group, User
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.db import connections, transaction
from django.db.models import F
from django.utils import timezone

from tests.dumping import joined, kill, waiting_for, writing
from tests.fieldtypes.models import Living, Parent, Secretive
from tests.orders.models import Buyer, Item, Label, Listing, Order, Seat
from upstream.dumps import (
    Directory,
    IncompleteError,
    SitePlan,
    VerificationError,
    begin,
    commit,
    plan_site,
    resume,
    run,
    run_part,
    verify,
)
from upstream.dumps.progress import Meters
from upstream.integrations.stored_models import stored_models
from upstream.streaming import Csv, ExportError, Json, JsonLines, Parquet, Pdf, Xlsx, stream

ROUNDS = int(os.environ.get("UPSTREAM_SNAPSHOT_ROUNDS", "5"))
MODELS = [Buyer, Label, Listing, Seat]


def stored(database):
    """Store what has a composite key, one row, a default manager that hides rows, and tables without rows."""
    Listing.objects.using(database).bulk_create(
        Listing(id=number, shelf=number % 7, place=number, title=f"é {number}") for number in range(1, 121)
    )
    Seat.objects.using(database).bulk_create(
        Seat(row=row, number=number, name="x") for row in range(30) for number in range(2)
    )
    Buyer.objects.using(database).create(id=7, name="Zoë", code="z")
    Label.everything.using(database).create(word="shown")
    Label.everything.using(database).create(word="hidden", hidden=True)


def planned(database, place, encoder=None, models=None, **options):
    options = {"parts": 3, "uncut_rows": 10, **options}
    return plan_site(models, encoder or Csv(), place, database=database, **options)


def names_in(place):
    return {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}


class TestASite:
    def test_has_a_folder_for_each_model_whose_parts_are_one_export(self, transactional_database, place):
        stored(transactional_database)
        manifest = run(planned(transactional_database, place, Json()))

        tables = {table["model"]: table for table in manifest["models"]}
        assert list(tables) == [model._meta.label for model in stored_models(transactional_database)]
        for label, table in tables.items():
            rows = apps.get_model(label)._base_manager.using(transactional_database).order_by("pk")
            assert joined(place, table) == b"".join(stream(rows, None, Json())), label
            assert {part["name"].split("/")[0] for part in table["parts"]} == {label.lower()}
            assert table["rows"] == rows.count()
        assert [len(tables[label]["parts"]) for label in ("orders.Listing", "orders.Seat", "orders.Buyer")] == [
            *(3, 3, 1)
        ]
        parts = [part for table in tables.values() for part in table["parts"]]
        assert names_in(place) == {"manifest.json", *(part["name"] for part in parts)}
        assert manifest["rows"] == sum(part["rows"] for part in parts)
        assert manifest["bytes"] == sum(part["bytes"] for part in parts)
        assert manifest["consistency"] == ("snapshot" if transactional_database == "postgresql" else "part")
        assert verify(place) == manifest
        assert [path.name for path in place.parent.iterdir()] == ["dump"]

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("encoder", [Csv(), JsonLines(), Parquet(), Xlsx()], ids=lambda one: one.suffix[1:])
    def test_is_read_by_others_in_any_format(self, encoder, place):
        stored("default")
        manifest = run(planned("default", place, encoder, MODELS))
        assert [table["rows"] for table in manifest["models"]] == [1, 2, 120, 60]
        pattern = f"{place}/orders.listing/*{encoder.suffix}"
        if encoder.suffix == ".xlsx":
            books = map(python_calamine.CalamineWorkbook.from_path, (place / "orders.listing").iterdir())
            assert sum(len(book.get_sheet_by_index(0).to_python()) - 1 for book in books) == 120
        elif encoder.suffix == ".csv":
            first, *others = sorted((place / "orders.listing").iterdir())  # only the first has the header
            whole = BytesIO(b"".join(path.read_bytes() for path in (first, *others)))
            assert pl.read_csv(whole)["id"].to_list() == list(range(1, 121))
        else:
            read = "read_json_auto" if encoder.suffix == ".ndjson" else "read_parquet"
            assert duckdb.sql(f"SELECT count(*), sum(id) FROM {read}('{pattern}')").fetchall() == [(120, 7260)]
        assert verify(place) == manifest

    def test_holds_rows_that_managers_hide_so_that_no_reference_dangles(self, transactional_database, place):
        stored(transactional_database)
        run(planned(transactional_database, place, JsonLines(), [Label]))
        [path] = (place / "orders.label").iterdir()
        assert [json.loads(line)["word"] for line in path.read_bytes().splitlines()] == ["shown", "hidden"]

    @pytest.mark.django_db
    def test_leaves_out_proxies_and_has_the_tables_of_relations(self, place):
        order, label = Order.objects.create(number=1), Label.objects.create(word="a")
        order.labels.add(label)
        Parent.objects.create(name="x")
        manifest = run(planned("default", place))
        rows = {table["model"]: table["rows"] for table in manifest["models"]}
        assert rows["orders.Order_labels"] == rows["fieldtypes.Parent"] == 1
        assert Living._meta.label not in rows
        assert "orders.PaperOrder" not in rows

    @pytest.mark.django_db
    def test_tells_no_secret_in_data_or_bounds(self, settings, place):
        settings.UPSTREAM_SENSITIVE_FIELDS = ["word"]
        Label.objects.create(word="canary-1")
        User.objects.create_user("ann", password="canary-2")
        Secretive.objects.create(name="a", password="canary-3", api_token="canary-4")
        Session.objects.bulk_create(
            Session(session_key=f"canary-{number:05}", session_data="canary", expire_date=timezone.now())
            for number in range(40)
        )
        plan = planned("default", place)
        assert "canary" not in json.dumps(plan.as_data())
        manifest = run(plan)
        assert [name for name in names_in(place) if b"canary" in (place / name).read_bytes()] == []
        [sessions] = [table for table in manifest["models"] if table["model"] == "sessions.Session"]
        assert [part["rows"] for part in sessions["parts"]] == [40]
        assert sessions["columns"] == ["expire_date"]

    @pytest.mark.django_db
    def test_takes_querysets_for_models(self, place):
        stored("default")
        listings = Listing.objects.filter(shelf=3).order_by("-id")
        manifest = run(plan_site([listings, Buyer], JsonLines(), place, parts=2, uncut_rows=3))
        assert joined(place, manifest["models"][0]) == b"".join(stream(listings, None, JsonLines()))
        assert [len(table["parts"]) for table in manifest["models"]] == [2, 1]

    @pytest.mark.parametrize(
        ("sources", "words"),
        [
            (list, "no model to dump"),
            (lambda: [Buyer, Buyer.objects.filter(id=1)], "orders.buyer has several"),
            (
                lambda: [Buyer.objects.all()[:3], Label, Seat.objects.distinct()],
                r"buyer: .* slice(?s:.*)orders.seat: ",
            ),
        ],
    )
    def test_refuses_what_is_no_site(self, db, sources, words, place):
        with pytest.raises(ExportError, match=words):
            plan_site(sources(), Csv(), place)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"encoder": Pdf()}, "^a dump cannot write Pdf"),
            ({"encoder": Xlsx(), "compression": "gzip"}, "^Xlsx is compressed inside"),
            ({"parts": 0}, "^parts must be a number from 1"),
        ],
    )
    def test_refuses_options_once_and_not_for_each_model(self, db, options, words, place):
        with pytest.raises((ValueError, ExportError), match=words):
            planned("default", place, **options)

    def test_is_shown_by_the_models_of_its_parts(self, db, place):
        stored("default")
        shown = StringIO()
        with Meters(shown) as meters:
            meters.show_parts(planned("default", place, models=MODELS))
            meters(3, 40, 2**20, True)
        assert "part 3 of orders.listing: 40 rows, 1.0 MiB\n" in shown.getvalue()
        assert str(meters).startswith("1 of 8 parts, 40 rows")

    @pytest.mark.django_db(databases="__all__")
    def test_refuses_several_databases(self, place):
        if "postgresql" not in connections.databases:
            pytest.skip("there is no PostgreSQL")
        with pytest.raises(ExportError, match="reads one database"):
            plan_site([Buyer.objects.using("postgresql"), Label], Csv(), place)


class TestThePlan:
    def test_is_json_whose_parts_run_anywhere_in_any_order_and_twice(self, transactional_database, place):
        stored(transactional_database)
        text = json.dumps(planned(transactional_database, place, Json(), MODELS).as_data())
        plan = SitePlan.from_data(json.loads(text))
        begin(plan)
        with plan.holding_snapshot() as held:
            numbers = [*held.numbers, *held.numbers]
            random.Random(14).shuffle(numbers)
            results = [run_part(held, number) for number in numbers]
        with pytest.raises(IncompleteError, match=r"parts \[3\]"):
            commit(plan, [part for part in results if part.number != 3])
        manifest = commit(plan, results)
        assert [table["rows"] for table in manifest["models"]] == [1, 2, 120, 60]
        assert verify(place) == manifest

    def test_of_another_version_is_refused(self, db, place):
        data = planned("default", place, models=[Buyer]).as_data()
        with pytest.raises(ExportError, match="version 0"):
            SitePlan.from_data({**data, "plans": [{**data["plans"][0], "version": 0}]})

    def test_has_as_many_numbers_as_parts(self, db, place):
        stored("default")
        plan = planned("default", place, models=MODELS)
        assert [list(one.numbers) for one in plan.plans] == [[0], [1], [2, 3, 4], [5, 6, 7]]
        assert plan.numbers == range(8)
        with pytest.raises(ExportError, match="parts 0 to 7, not 8"):
            run_part(plan, 8)

    @pytest.mark.parametrize("encoder", [Json(), JsonLines()], ids=["json", "ndjson"])
    def test_writes_whole_files_if_rows_are_deleted_after_it(self, transactional_database, encoder, place):
        stored(transactional_database)
        plan = planned(transactional_database, place, encoder, MODELS)
        Listing.objects.using(transactional_database).filter(id__lte=100).delete()
        Seat.objects.using(transactional_database).all().delete()
        manifest = run(plan)
        rows = Listing.objects.using(transactional_database).order_by("id")
        assert joined(place, manifest["models"][2]) == b"".join(stream(rows, None, encoder))
        assert verify(place)["rows"] == 23


class TestOneState:
    """Two models whose amounts add up to the same at any time, and a writer that moves amounts between them."""

    @pytest.mark.django_db(databases="__all__", transaction=True)
    def test_is_what_all_models_show_in_each_of_many_runs(self, place):
        if "postgresql" not in connections.databases:
            pytest.skip("there is no PostgreSQL")
        listings, orders = Listing.objects.using("postgresql"), Order.objects.using("postgresql")
        listings.bulk_create(Listing(id=one, shelf=one, place=one, title="") for one in range(1, 201))
        orders.bulk_create(Order(id=one, number=one) for one in range(1, 201))
        total = 2 * sum(range(1, 201))
        found, moves_within = [], []
        with moving(listings, orders) as moved:
            for _ in range(ROUNDS):
                started = len(moved)
                manifest = run(
                    plan_site([Listing, Order], JsonLines(), place, database="postgresql", parts=2, uncut_rows=10),
                    overwrite=True,
                    report=waiting_for(moved),
                )
                moves_within.append(len(moved) - started)
                assert manifest["consistency"] == "snapshot"
                found.append(
                    sum(
                        json.loads(line)[column]
                        for table, column in zip(manifest["models"], ("place", "number"), strict=True)
                        for line in joined(place, table).splitlines()
                    )
                )
        assert found == [total] * ROUNDS
        assert min(moves_within) > 3


def moving(listings, orders):
    """Move amounts from one model to the other meanwhile."""
    draw = random.Random(14)

    def move():
        amount = draw.randrange(-50, 50)
        with transaction.atomic(using=listings.db):
            listings.filter(id=draw.randrange(1, 201)).update(place=F("place") - amount)
            orders.filter(id=draw.randrange(1, 201)).update(number=F("number") + amount)

    return writing(listings.db, move)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("workers", "lines"), [(0, 3), (2, 9)])
def test_a_killed_dump_is_resumed_without_loss_or_leftovers(place, workers, lines):
    stored("default")
    kill(planned("default", place, Json(), MODELS), workers, lines)
    manifest = verify(place) if place.exists() else resume(Directory(str(place)))
    assert [table["rows"] for table in manifest["models"]] == [1, 2, 120, 60]
    assert verify(place) == manifest
    for table in manifest["models"]:
        rows = apps.get_model(table["model"])._base_manager.order_by("pk")
        assert joined(place, table) == b"".join(stream(rows, None, Json()))
    assert [path.name for path in place.parent.iterdir()] == ["dump"]


class TestVerifying:
    @pytest.fixture
    def dump(self, db, place):
        stored("default")
        run(planned("default", place, models=MODELS))
        return place

    def test_finds_a_difference_in_any_model(self, dump):
        path = next((dump / "orders.seat").iterdir())
        path.write_bytes(path.read_bytes().replace(b"x", b"y", 1))
        with pytest.raises(VerificationError, match=r"orders\.seat/part.*SHA-256"):
            verify(dump)

    def test_finds_what_is_missing_or_foreign_in_any_folder(self, dump):
        path = next((dump / "orders.seat").iterdir())
        path.rename(dump / "orders.label" / path.name)
        with pytest.raises(VerificationError, match=r"orders\.label/part"):
            verify(dump)

    def test_finds_rows_that_do_not_add_up(self, dump):
        manifest = json.loads((dump / "manifest.json").read_bytes())
        manifest["models"][1]["rows"] += 1
        (dump / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(VerificationError, match=r"has 2 rows of orders\.Label, and not 3"):
            verify(dump)


class TestTheCommand:
    @pytest.mark.django_db
    def test_dumps_all_models_or_those_chosen(self, place, capsys):
        stored("default")
        Group.objects.create(name="editors")
        for options, models in (
            ([], None),
            (["--only", "orders", "--without", "orders.Item"], "orders"),
            (["--only", "auth.group", "--only", "orders.Seat"], "some"),
        ):
            call_command("dump_data", "--all", "--to", place, "--overwrite", "--verify", *options)
            folders = {path.name for path in place.iterdir()} - {"manifest.json"}
            every = {model._meta.label_lower for model in stored_models("default")}
            expected = {
                None: every,
                "orders": {label for label in every if label.startswith("orders.")} - {Item._meta.label_lower},
                "some": {"auth.group", "orders.seat"},
            }[models]
            assert folders == expected
        call_command("verify_dump", place)
        told = capsys.readouterr().out.splitlines()
        assert "61 rows in 2 parts of 2 models" in told[2]
        assert told[3].endswith("verified, 61 rows of 2 models")

    @pytest.mark.django_db
    def test_is_interrupted_and_resumed(self, place, monkeypatch, capsys):
        stored("default")
        write = Directory.write

        def interrupted(self, name, chunks):
            if name.startswith("orders.listing/part-00000"):
                signal.raise_signal(signal.SIGINT)
            write(self, name, chunks)

        monkeypatch.setattr(Directory, "write", interrupted)
        with pytest.raises(SystemExit) as ended:
            call_command("dump_data", "--all", "--only", "orders", "--to", place)
        assert ended.value.code == 128 + signal.SIGINT
        assert not place.exists()
        monkeypatch.undo()
        call_command("dump_data", "--to", place, "--resume", "--verify")
        assert "models, " in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["orders.Seat", "--all"], "leave out model with --all"),
            (["--all", "--columns", "id"], "leave out --columns with --all"),
            (["--all", "--one-file"], "--parts 1 gives each a file"),
            (["orders.Seat", "--only", "orders"], "leave out --only with a model"),
            (["--all", "--resume"], "leave out --all with --resume"),
            (["--all", "--only", "order"], "'order' is neither an app nor a model"),
            (["--all", "--only", "orders.seat", "--without", "orders"], "no model to dump"),
            ([], "name a model, or --all"),
        ],
    )
    def test_refuses_what_makes_no_sense(self, db, arguments, words, place):
        with pytest.raises(CommandError, match=words):
            call_command("dump_data", "--to", place, *arguments)
        assert not place.exists()
