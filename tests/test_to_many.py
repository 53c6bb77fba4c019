"""A column through a relation to many rows lists their values, by queries whose number does not grow."""

import csv
import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from django.contrib import admin
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import connections
from django.db.models import Count, Prefetch
from django.test.utils import CaptureQueriesContext
from django.urls import path, reverse

from tests.asking import create_user
from tests.library.models import Author, Card, Payment
from tests.oracle import named
from tests.orders.models import (
    Buyer,
    Delivery,
    Item,
    Label,
    Listing,
    Order,
    PaperOrder,
    Price,
    Remark,
    RushOrder,
    Visit,
)
from upstream.integrations.admin import ExportModelAdmin
from upstream.integrations.views import ExportView
from upstream.services import DataExportService
from upstream.streaming import Column, ColumnError, Csv, Json, JsonLines, plan, stream
from upstream.streaming.databases.sqlite import PIN
from upstream.streaming.sources.fetches import RELATED_BYTES

ENCODERS = [Csv(), Csv(delimiter="\t"), Json(), Json(indent=2), JsonLines()]
# What a snapshot takes is not a query.
NOT_QUERIES = ("SET ", "SAVEPOINT", "RELEASE", "ROLLBACK", "BEGIN", "COMMIT", "START", "CLOSE", PIN)
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


pytestmark = pytest.mark.usefixtures("fetches_take_no_time")


def fill(using, orders=6):
    """Give every order as many items as its number, and buyers, labels and remarks in turn."""
    buyers = [Buyer.objects.using(using).create(name=name, code=name[0]) for name in ("Ann", "Bob", "Cem")]
    buyers[0].friends.add(buyers[1])
    buyers[0].follows.add(buyers[2], buyers[1])
    labels = [
        Label.everything.using(using).create(word=word, hidden=word == "out") for word in ("new", "paid", "out")
    ]
    kind = ContentType.objects.db_manager(using).get_for_model(Order)
    for number in range(orders):
        order = Order.objects.using(using).create(number=number, buyer=[*buyers, None][number % 4])
        order.labels.set(labels[number % 3 :])
        for place in range(number % 4):
            Item.objects.using(using).create(
                order=order,
                sku=None if place == 1 else f"s{number}-{place}",
                price=Decimal(place * 7 % 3),
                kind="bp"[place % 2],
                sold_at=NOON,
                details={"size": place},
                maker=buyers[place % 3] if place else None,
                scan=f"scans/{place}.png",
            )
        for word in ("late", "big")[: number % 3]:
            Remark.objects.using(using).create(text=word, content_type=kind, object_id=order.pk)


@pytest.fixture
def rows(database):
    fill(database)
    return Order.objects.using(database).order_by("-pk")


def records(queryset, columns, encoder=JsonLines(), **options):  # noqa: B008 (frozen)
    text = b"".join(stream(queryset, columns, encoder, **options)).decode()
    if isinstance(encoder, JsonLines):
        return [list(json.loads(line).values()) for line in text.splitlines()]
    if isinstance(encoder, Json):
        return [list(record.values()) for record in json.loads(text)]
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=encoder.delimiter))[1:]


def counted(queryset, columns, **options):
    """Return the number of queries of an export."""
    with CaptureQueriesContext(connections[queryset.db]) as context:
        b"".join(stream(queryset, columns, **options))
    return len([query for query in context if not query["sql"].startswith(NOT_QUERIES)])


# What a loop over the rows would write, by relations of every kind.
PATHS = {
    "labels__word": lambda order: [label.word for label in order.labels.all()],
    "labels": lambda order: [str(label) for label in order.labels.all()],
    "labels__pk": lambda order: [label.pk for label in order.labels.all()],
    "items__sku": lambda order: [item.sku for item in order.items.all()],
    "items__shout": lambda order: [item.shout for item in order.items.all()],
    "items__get_kind_display": lambda order: [item.get_kind_display() for item in order.items.all()],
    "items__maker": lambda order: [item.maker_id for item in order.items.all()],
    "items__maker__name": lambda order: [item.maker and item.maker.name for item in order.items.all()],
    "items__maker__visits__page": lambda order: [
        visit.page for item in order.items.all() if item.maker for visit in item.maker.visits.all()
    ],
    "items__details": lambda order: [item.details for item in order.items.all()],
    "items__details__size": lambda order: [item.details["size"] for item in order.items.all()],
    "items__scan": lambda order: [item.scan.name for item in order.items.all()],
    "items__scan__url": lambda order: [item.scan.url for item in order.items.all()],
    "remarks__text": lambda order: [remark.text for remark in order.remarks.all()],
    "buyer__orders__number": lambda order: order.buyer and [one.number for one in order.buyer.orders.all()],
    "buyer__orders__items__sku": lambda order: (
        order.buyer and [item.sku for one in order.buyer.orders.all() for item in one.items.all()]
    ),
    "buyer__friends__name": lambda order: order.buyer and [one.name for one in order.buyer.friends.all()],
    "buyer__follows": lambda order: order.buyer and [one.name for one in order.buyer.follows.all()],
    "buyer__followers__name": lambda order: order.buyer and [one.name for one in order.buyer.followers.all()],
}


@pytest.mark.parametrize("encoder", ENCODERS, ids=range(len(ENCODERS)))
def test_it_lists_what_a_loop_over_the_related_rows_finds(rows, encoder):
    exported = records(rows, ["number", *(Column(path, join="; ") for path in PATHS)], encoder)
    for order, (number, *cells) in zip(rows, exported, strict=True):
        assert int(number) == order.number
        for name, cell in zip(PATHS, cells, strict=True):
            wanted = PATHS[name](order) or []
            if isinstance(encoder, Csv):
                texts = (
                    json.dumps(one, separators=(",", ":")) if isinstance(one, dict) else str(one)
                    for one in wanted
                    if one is not None
                )
                wanted = "; ".join(texts)
            assert cell == wanted, name


@pytest.mark.parametrize("windows", [False, True])
def test_the_number_of_queries_does_not_grow_with_the_rows(database, windows):
    columns = ["number", *PATHS]
    rows = Order.objects.using(database).order_by("pk")
    fill(database)
    for buyer in Buyer.objects.using(database):
        Visit.objects.using(database).create(buyer=buyer, page="/")
    few = counted(rows, columns, windows=windows)
    buyer = rows[0].buyer_id
    Order.objects.using(database).bulk_create(Order(number=number, buyer_id=buyer) for number in range(60))
    new = rows.filter(items=None).values_list("pk", flat=True)
    Item.objects.using(database).bulk_create(Item(order_id=pk, sku="x", scan="x.png") for pk in list(new))
    more_windows = 5 if windows else 0  # a window of rows is a statement of its own
    assert few <= counted(rows, columns, windows=windows) <= few + more_windows <= 17


def test_it_reads_by_one_query_more_for_each_relation(rows):
    assert counted(rows, ["number", "note"]) == 1
    assert counted(rows, ["number", "labels__word", "labels__pk", "labels"]) == 2
    assert counted(rows, ["number", "buyer__orders__items__sku"]) == 3


@pytest.mark.parametrize("chunk_size", [1, 2, 5, 2000])
def test_batches_do_not_change_the_bytes(rows, chunk_size):
    columns = [Column("labels__word", join="; "), "items__sku", "buyer__orders__number"]
    whole = b"".join(stream(rows, columns))
    assert b"".join(stream(rows, columns, chunk_size=chunk_size)) == whole
    assert b"".join(stream(rows, columns, batch_bytes=1)) == whole
    assert b"".join(stream(rows, columns, windows=True)) == whole


class TestRows:
    """Rows and their order stay, whatever columns are named."""

    def test_rows_are_neither_repeated_nor_dropped_nor_moved(self, rows):
        plain = [[number] for number in rows.values_list("number", flat=True)]
        assert [cells[:1] for cells in records(rows, ["number", "items__sku", "labels__word"])] == plain
        assert [cells[:1] for cells in records(rows[1:4], ["number", "items__sku"])] == plain[1:4]

    def test_no_table_of_many_rows_is_joined(self, rows):
        assert "item" not in plan(rows, ["number", "items__sku"]).sql

    def test_a_filter_through_the_relation_does_not_narrow_what_is_listed(self, rows):
        found = rows.filter(items__sku__endswith="-2").distinct()
        wanted = [[order.number, PATHS["items__sku"](order)] for order in found]
        assert records(found, ["number", "items__sku"]) == wanted
        assert len(wanted[0][1]) == 3

    def test_annotated_rows(self, rows):
        counts = rows.annotate(size=Count("items")).order_by("pk")
        assert all(size == len(skus) for size, skus in records(counts, ["size", "items__sku"]))

    def test_combined_rows(self, rows):
        both = rows.filter(number__lt=2).order_by().union(rows.filter(number__gt=4).order_by()).order_by("number")
        wanted = [[order.number, PATHS["items__sku"](order)] for order in both]
        assert records(both, ["number", "items__sku"]) == wanted
        assert len(wanted) == 3

    def test_raw_rows(self, rows, database):
        raw = Order.objects.using(database).raw("SELECT id, number FROM orders_order ORDER BY id")
        wanted = [[order.number, PATHS["items__sku"](order)] for order in rows.reverse()]
        assert records(raw, ["number", "items__sku"]) == wanted

    def test_raw_rows_without_the_field_that_finds_the_others_are_refused(self, database):
        fill(database)
        raw = Buyer.objects.using(database).raw("SELECT id, name FROM orders_buyer")
        with pytest.raises(ColumnError, match="does not select 'visits__page'"):
            records(raw, ["name", "visits__page"])

    def test_instances_of_the_callers_own(self, rows, database):
        wanted = [[order.number, PATHS["items__sku"](order)] for order in rows]
        with CaptureQueriesContext(connections[database]) as queries:
            assert records(list(rows), ["number", "items__sku"]) == wanted
        assert len(queries) == 1

    def test_values_repeat_rows_as_the_caller_asked(self, rows):
        repeated = rows.values("number", "items__sku").order_by("number", "items__pk")
        assert records(repeated, None) == [list(row.values()) for row in repeated]
        columns = ["number", Column("items__sku", join="; ")]
        assert records(repeated, columns) == [list(row.values()) for row in repeated]


class TestPrepared:
    """What Django's `all()` gives is what is listed."""

    def test_a_default_manager_hides_rows(self, rows):
        listed = {word for _, words in records(rows, ["number", "labels__word"]) for word in words}
        assert listed == {"new", "paid"}

    def test_the_callers_prefetch_chooses_and_orders(self, rows, database):
        items = Item.objects.using(database).filter(kind="b").order_by("pk")
        prepared = rows.prefetch_related(Prefetch("items", queryset=items))
        wanted = [[order.number, [item.sku for item in order.items.all()]] for order in prepared]
        assert records(prepared, ["number", "items__sku"]) == wanted
        assert wanted != records(rows, ["number", "items__sku"])
        assert counted(prepared, ["number", "items__sku"]) == 2

    def test_a_prefetch_on_the_way(self, rows, database):
        few = Order.objects.using(database).filter(number__lt=3)
        prepared = rows.select_related("buyer").prefetch_related(Prefetch("buyer__orders", queryset=few))
        wanted = [[len(order.buyer.orders.all()) if order.buyer else 0] for order in prepared]
        assert [[len(numbers)] for [numbers] in records(prepared, ["buyer__orders__number"])] == wanted

    def test_without_an_ordering_they_come_by_key(self, rows, database):
        order = rows[0]
        order.labels.set(Label.objects.using(database).all())
        [words, keys] = records(rows.filter(pk=order.pk), ["labels__word", "labels__pk"])[0]
        assert words == ["new", "paid"]
        assert keys == sorted(keys)

    def test_an_overridden_all_is_refused(self):
        with pytest.raises(ColumnError, match=r"all\(\) is overridden for 'careful'.*Column\(lambda"):
            plan(Order.objects.all(), ["careful__amount"])


class TestModels:
    def test_inherited_relations(self, database):
        fill(database)
        order = RushOrder.objects.using(database).create(number=9)
        Item.objects.using(database).create(order=order, sku="fast")
        courier = Buyer.objects.using(database).get(name="Bob")
        Delivery.objects.using(database).create(order=order, courier=courier, on=date(2026, 1, 31))
        rows = RushOrder.objects.using(database)
        columns = ["hours", "items__sku", "couriers__name", "deliveries__on", "deliveries__courier__name"]
        assert records(rows, columns) == [[1, ["fast"], ["Bob"], ["2026-01-31"], ["Bob"]]]
        assert counted(rows, columns) == 5
        assert records(Order.objects.using(database).filter(number=9), ["rushorder__couriers"]) == [[["Bob"]]]

    def test_proxies(self, rows, database):
        proxies = PaperOrder.objects.using(database).order_by("-pk")
        columns = ["number", "items__sku", "labels__word", "remarks__text"]
        assert records(proxies, columns[:3]) == records(rows, columns[:3])

    def test_a_relation_to_another_field_than_the_key(self, rows, database):
        buyers = Buyer.objects.using(database).order_by("name")
        for buyer in buyers:
            Visit.objects.using(database).create(buyer=buyer, page=f"/{buyer.name}")
        wanted = [[name, [f"/{name}"]] for name in ("Ann", "Bob", "Cem")]
        assert records(buyers, ["name", "visits__page"]) == wanted
        assert counted(buyers, ["name", "visits__page"]) == 2

    def test_a_relation_by_two_columns(self, database):
        listing = Listing.objects.using(database).create(shelf=1, place=2, title="x")
        Listing.objects.using(database).create(shelf=1, place=3, title="y")
        for amount in (5, 3):
            Price.objects.using(database).create(shelf=1, place=2, amount=amount, listing=listing)
        rows = Listing.objects.using(database).order_by("pk")
        assert records(rows, ["title", "prices__amount"]) == [["x", [3, 5]], ["y", []]]
        assert counted(rows, ["title", "prices__amount"]) == 2

    def test_only_the_needed_fields_of_the_rows_are_loaded(self):
        sql = plan(Order.objects.all(), ["number", "items__sku"]).sql
        assert "note" not in sql
        assert "number" in sql
        assert '"code"' in plan(Buyer.objects.all(), ["visits__page"]).sql


class TestValues:
    def one(self, rows, column, encoder=Csv()):  # noqa: B008 (frozen)
        [[cell]] = records(rows.filter(number=3), [column], encoder)
        return cell

    def test_none_is_left_out_of_text_and_null_in_arrays(self, rows):
        skus = self.one(rows, "items__sku", JsonLines())
        assert None in skus
        assert self.one(rows, Column("items__sku", join="|")) == "|".join(filter(None, skus))

    def test_no_rows_are_an_empty_text_and_an_empty_array(self, rows):
        assert records(rows.filter(buyer=None), ["buyer__orders__number"], JsonLines()) == [[[]]]
        empty = rows.filter(number=0)
        assert records(empty, ["number", Column("items__sku", join=";")], Csv()) == [["0", ""]]
        assert records(empty, ["number", "items__sku"], JsonLines()) == [[0, []]]

    def test_without_join_text_formats_write_the_array(self, rows):
        assert json.loads(self.one(rows, "items__sku")) == self.one(rows, "items__sku", JsonLines())

    def test_value_converts_each_value(self, rows):
        column = Column("labels__word", join="+", value=str.upper)
        [[cell]] = records(rows.filter(number=4), [column], Csv())
        assert cell == "PAID"
        [[cell]] = records(rows.filter(number=4), [column], JsonLines())
        assert cell == ["PAID"]

    def test_values_have_the_forms_of_their_encoder(self, rows):
        local = Csv(profile="excel", decimal_separator=",", datetime_format="%d.%m.%Y", bom=False)
        assert self.one(rows, Column("items__price", join=" "), local) == "2,00 1,00 0,00"
        assert self.one(rows, Column("items__sold_at", join=" "), local) == "31.01.2026 31.01.2026 31.01.2026"
        assert self.one(rows, Column("items__price", join=" ")) == "2.00 1.00 0.00"
        assert self.one(rows, "items__price", Json(decimals="number")) == [2.0, 1.0, 0.0]

    def test_the_guard_protects_joined_text(self, rows):
        def formula(word):
            return "=1+1"

        guarded = Csv(profile="excel", bom=False)
        assert self.one(rows, Column("items__pk", join=" ", value=formula), guarded).startswith("'=1+1")
        assert "'=1+1" in self.one(rows, Column("items__kind", join="; ", value=lambda k: f"{k};=1+1"), guarded)
        assert self.one(rows, Column("items__pk", join=" ", value=formula)).startswith("=1+1")

    def test_an_error_names_row_and_column(self, rows):
        with pytest.raises(ZeroDivisionError) as caught:
            records(rows.reverse(), [Column("items__pk", header="Keys", value=lambda _: 1 / 0)])
        assert caught.value.__notes__ == ["while reading row 2, column 'Keys'"]

    def test_a_value_that_stops_iteration_drops_nothing(self, rows):
        with pytest.raises(RuntimeError, match="StopIteration"):
            records(rows, [Column("items__pk", value=lambda _: next(iter(())))])


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("labels__wrod", "unknown column 'wrod' on Label: did you mean 'word'"),
            ("lables__word", "did you mean 'labels'"),
            ("labels__orders__nmber", "'number'"),
            ("items__sold_at__year", "transform of the database.*Column\\('items__sold_at', value="),
            ("items__delete", "alters data"),
            ("label", "did you mean 'labels'"),
        ],
    )
    def test_a_wrong_path_says_what_to_write(self, name, words):
        with pytest.raises(ColumnError, match=words):
            stream(Order.objects.all(), [name])

    def test_the_attribute_of_instances_is_told_apart_from_the_name_of_a_column(self):
        with pytest.raises(ColumnError, match=r"Buyer.delivery_set is called 'delivery' in columns"):
            stream(Buyer.objects.all(), ["delivery_set__on"])

    @pytest.mark.parametrize("name", ["payer__friends__name", "payer__orders__number"])
    def test_behind_a_property_it_says_to_write_a_function(self, rows, name):
        with pytest.raises(ColumnError, match=r"belongs to many rows behind a property.*Column\(lambda"):
            records(rows, [name])

    def test_join_is_a_text(self):
        with pytest.raises(ColumnError, match="join must be a text"):
            Column("labels__word", join=5)


class TestListsOfRecords:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (["a", None, 1, Decimal("1.50")], "a; 1; 1.50"),
            (("a", "b"), "a; b"),
            ({"b", "a"}, "a; b"),
            ([], ""),
            (None, ""),
            ("abc", "abc"),
            (b"abc", "YWJj"),
            ({"a": 1}, '{"a":1}'),
            ([["a"], {"b": 1}], '["a"]; {"b":1}'),
        ],
        ids=named,
    )
    def test_join_joins_what_is_a_list(self, value, text):
        column = Column("value", join="; ")
        assert records([{"id": 1, "value": value}], ["id", column], Csv()) == [["1", text]]
        if value is not None and not isinstance(value, set | bytes | tuple) and "1.50" not in text:
            assert records([{"id": 1, "value": value}], ["id", column], JsonLines()) == [[1, value]]

    @pytest.mark.parametrize("others", [[], [Column(str, header="text")]], ids=["selected", "of instances"])
    def test_lists_in_json_fields(self, database, others):
        for number, details in enumerate((["a", 1, None, True], {"a": [1]}, "text", [])):
            order = Order.objects.using(database).create(number=number)
            Item.objects.using(database).create(order=order, details=details)
        items = Item.objects.using(database).order_by("pk")
        column = Column("details", join="; ")
        texts = [cells[0] for cells in records(items, [column, "pk", *others], Csv())]
        assert texts == ["a; 1; True", '{"a":[1]}', "text", ""]
        values = [cells[0] for cells in records(items, [column, "pk", *others], JsonLines())]
        assert values == [["a", 1, None, True], {"a": [1]}, "text", []]

    def test_a_value_that_is_no_list_is_the_same_in_every_lane(self, rows):
        plain, joined = ["number", "note", "buyer__name"], Column("buyer__name", join="; ")
        assert b"".join(stream(rows, [*plain[:2], joined])) == b"".join(stream(rows, plain))

    def test_arrays(self):
        numpy = pytest.importorskip("numpy")
        assert records([{"id": 1, "a": numpy.arange(3)}], [Column("a", join="-")], Csv()) == [["0-1-2"]]

    def test_lists_that_functions_return(self, rows):
        column = Column(Order.words, header="words", join="; ")
        prepared = rows.filter(number=3).prefetch_related("labels")
        assert records(prepared, [column, "number"], Csv()) == [["new; paid", "3"]]


class TestMemory:
    def test_heavy_relations_are_prefetched_for_fewer_rows_at_a_time(self, database):
        orders = [Order(number=number) for number in range(300)]
        Order.objects.using(database).bulk_create(orders)
        rows = Order.objects.using(database).order_by("pk")
        pks = rows.values_list("pk", flat=True)
        Item.objects.using(database).bulk_create(Item(order_id=pk, sku="x") for pk in pks for _ in range(4))
        held = 40 * 4 * RELATED_BYTES
        whole = b"".join(stream(rows, ["number", "items__sku"]))
        few = counted(rows, ["number", "items__sku"])
        many = counted(rows, ["number", "items__sku"], batch_bytes=held)
        assert few <= 4
        assert many >= 200 // 40
        assert b"".join(stream(rows, ["number", "items__sku"], batch_bytes=held)) == whole


class TestWarnings:
    def warned(self, columns, rows=None):
        planned = plan(Order.objects.all() if rows is None else rows, columns)
        assert all(f"warning:     {text}" in str(planned) for text in planned.warnings)
        return planned.warnings

    @pytest.mark.parametrize(
        ("source", "name"),
        [
            (lambda order: order.buyer.name, "buyer"),
            (lambda order: [item.sku for item in order.items.all()], "items"),
            (lambda order: Order.words(order) or None, "labels"),
            ("words", "labels"),
            ("payer", "buyer"),
            ("payer__name", "buyer"),
            ("buyer__orders__words", "labels"),
            (Order.words, "labels"),
            (lambda order: helper(order) or None, "buyer"),
        ],
    )
    def test_code_that_reads_a_relation_may_run_a_query(self, source, name):
        [text] = self.warned(["number", Column(source, header="x")])
        assert text.startswith(f"column 'x' may run a query for each row, for {name!r}")
        assert "select_related() or prefetch_related()" in text
        assert "join=" in text

    def test_code_without_a_module(self):
        names = {}
        exec("def read(order): return order.buyer.name", names)
        assert len(self.warned([names["read"]])) == 1

    def test_what_the_queryset_fetches_is_no_reason_to_warn(self):
        rows = Order.objects.select_related("buyer").prefetch_related("labels", Prefetch("items"))
        columns = [
            Column(lambda order: order.buyer.name, header="a"),
            Column(lambda order: [item.sku for item in order.items.all()], header="b"),
            "words",
        ]
        assert len(self.warned(columns)) == 3
        assert self.warned(columns, rows) == ()

    def test_a_filter_of_prefetched_rows_is(self):
        rows = Order.objects.prefetch_related("items")
        [text] = self.warned([Column(lambda order: order.items.filter(kind="b").count(), header="x")], rows)
        assert "'items'" in text

    @pytest.mark.parametrize(
        "source",
        ["number", "buyer__name", "labels__word", "items__get_kind_display", lambda order: order.number + 1, str],
    )
    def test_what_reads_no_relation_is_silent(self, source):
        assert self.warned([Column(source, header="x")]) == ()
        assert "warning" not in str(plan(Order.objects.all(), [Column(source, header="x")]))

    def test_the_text_of_a_row_is_made_by_code_too(self):
        [text] = self.warned([Column(str, header="x")], Payment.objects.all())
        assert "'card'" in text
        [text] = self.warned(["payment"], Card.objects.all())
        assert text.startswith("column 'payment' may run")

    def test_no_code_runs(self, database):
        with CaptureQueriesContext(connections[database]) as queries:
            self.warned([Column(lambda order: 1 / 0, header="x"), "words"])
        assert len(queries) == 0


def helper(order):
    return order.buyer.name


site = admin.AdminSite(name="orders")


@admin.register(Order, site=site)
class OrderAdmin(ExportModelAdmin):
    export_columns = [
        "number",
        "labels",
        "labels__secret",
        Column("items__kind", header="Kinds", join="; "),
        ("items__sold_at", "Sold"),
        ("number", "No."),
    ]


@admin.register(Buyer, site=site)
class BuyerAdmin(ExportModelAdmin):
    export_columns = {"who": ("name", "Who"), "what": "orders__number"}


@admin.register(Card, site=site)
class CardAdmin(ExportModelAdmin):
    """Its model changes values between the row and the instance."""

    export_columns = ["number", "payment", "payment__card__number"]


urlpatterns = [path("orders/", site.urls)]


class TestAdmin:
    @pytest.fixture(autouse=True)
    def orders(self, db, settings):
        settings.ROOT_URLCONF = __name__
        fill("default")

    def page(self, model):
        return reverse(f"orders:{model._meta.app_label}_{model._meta.model_name}_export")

    def enter(self, client, *permissions):
        client.force_login(create_user("one", *permissions, is_staff=True))

    def offered(self, client, model=Order):
        return client.get(self.page(model)).context["form"].fields["columns"].initial

    def export(self, client, *columns, model=Order, **data):
        answer = client.post(self.page(model), {"format": "csv", "profile": "data", "columns": columns, **data})
        assert answer.status_code == 200
        return list(csv.reader(io.StringIO(answer.getvalue().decode("utf-8-sig"), newline="")))

    def test_it_needs_the_permission_to_view_the_other_model(self, client):
        self.enter(client, "view_order", "export_order")
        assert self.offered(client) == ["number", "number-2"]
        for name in ("labels", "labels__secret", "items__kind"):
            answer = client.post(self.page(Order), {"format": "csv", "profile": "data", "columns": [name]})
            assert answer.status_code == 400

    @pytest.mark.parametrize(
        ("permission", "names"),
        [("view_label", ["labels", "labels__secret"]), ("view_item", ["items__kind", "items__sold_at"])],
    )
    def test_that_permission_shows_it(self, client, permission, names):
        self.enter(client, "view_order", "export_order", permission)
        assert [name for name in self.offered(client) if "number" not in name] == names
        assert len(self.export(client, *names)) == 7

    def test_data_are_values_and_spreadsheets_show_what_people_read(self, client, django_assert_max_num_queries):
        self.enter(client, "view_order", "export_order", "view_label", "view_item")
        columns = ["number", "labels", "items__kind", "items__sold_at"]
        with django_assert_max_num_queries(20):
            header, *_, last = self.export(client, *columns)
        assert header == ["number", "labels", "Kinds", "Sold"]
        assert last == ["0", '["#new","#paid"]', "", "[]"]
        assert self.export(client, "items__kind", "items__sold_at")[1] == ["b", '["2026-01-31T12:00:00+00:00"]']
        header, *_, last = self.export(client, *columns, profile="excel")
        assert header == ["Number", "Labels", "Kinds", "Sold"]
        assert last == ["0", "#new, #paid", "", ""]
        assert self.export(client, "items__kind", profile="excel")[3] == ["A book; A pen; A book"]

    def test_a_mapping_gives_the_names_to_choose_by(self, client):
        self.enter(client, "view_buyer", "export_buyer", "view_order")
        assert self.offered(client, Buyer) == ["who", "what"]
        assert self.export(client, "who", "what", model=Buyer)[0] == ["Who", "orders__number"]

    def test_instances_that_change_values_are_shown_as_they_are(self, client):
        card = Card.objects.create(number="1234567", holder=Author.objects.create(name="A", email="a@x"))
        Payment.objects.create(card=card)
        self.enter(client, "view_card", "export_card", "view_payment")
        names = ["number", "payment", "payment__card__number"]
        assert self.export(client, *names, model=Card)[1] == ["****4567", '["by ****4567"]', '["****4567"]']


class TestOtherWays:
    def test_a_view_takes_pairs_and_relations_to_many_rows(self, db, rf):
        fill("default")

        class Orders(ExportView):
            queryset = Order.objects.order_by("-pk")
            columns = ["number", ("buyer__name", "Buyer"), Column("items__kind", join="; ")]
            permission = None

        answer = Orders.as_view()(rf.get("/", {"format": "csv", "columns": "buyer__name,items__kind"}))
        assert answer.getvalue().startswith(b"Buyer,items__kind\r\nBob,b\r\n")
        answer = Orders.as_view()(rf.get("/", {"format": "ndjson"}))
        assert json.loads(answer.getvalue().splitlines()[0])["items__kind"] == ["b"]

    def test_the_command_takes_them(self, db, capfd):
        fill("default")
        output = io.StringIO()
        call_command("export_data", "orders.Order", "--columns", "number,labels__word", stdout=output)
        assert output.getvalue().splitlines()[1] == '0,"[""new"",""paid""]"'

    def test_the_service_takes_a_mapping(self, db):
        fill("default")
        orders = Order.objects.order_by("pk")
        text = DataExportService.queryset_to_csv(orders, {"number": "No.", "labels__word": "Labels"}).getvalue()
        assert text.splitlines()[0] == "No.,Labels"
        assert json.loads(DataExportService.queryset_to_json(orders, ["labels__word"]))[0] == {
            "labels__word": ["new", "paid"]
        }
