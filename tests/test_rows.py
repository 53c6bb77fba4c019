# ruff: noqa: DJ008
"""Columns never change rows nor their order, and the queryset decides what it selects."""

import csv
import io
import json

import pytest
from django.db import connections, models, transaction
from django.db.models import Count, F, FilteredRelation, Prefetch, Q
from django.db.models.expressions import RawSQL
from django.db.models.functions import Abs, Lower
from django.db.models.query import FlatValuesListIterable, ModelIterable, ValuesIterable, ValuesListIterable
from django.test.utils import isolate_apps

from tests.forced_lanes import LANES, in_lane
from tests.orders.models import Booking, Buyer, Spot
from upstream.streaming import Column, Csv, Json, JsonLines, SourceError, plan, stream, to_buffer


class Shouted:
    """Reads a field in capitals, as a field of translations reads another language."""

    def __init__(self, name):
        self.name = name

    def __get__(self, instance, owner=None):
        return self if instance is None else instance.__dict__[self.name].upper()

    def __set__(self, instance, value):
        instance.__dict__[self.name] = value


class PlainSubclass(models.CharField):
    """Changes nothing of a value."""


with isolate_apps("tests.fieldtypes"):

    class Author(models.Model):
        name = PlainSubclass(max_length=20)

        class Meta:
            app_label = "fieldtypes"
            db_table = "rows_author"
            ordering = ("name",)

        def shout(self):
            return self.name.upper()

    class Writer(Author):
        class Meta:
            app_label = "fieldtypes"
            proxy = True

    class Book(models.Model):
        title = models.CharField(max_length=20)
        pages = models.IntegerField()
        author = models.ForeignKey(Author, models.CASCADE, related_name="books")
        critic = models.ForeignKey(Author, models.DO_NOTHING, db_constraint=False, related_name="+")

        class Meta:
            app_label = "fieldtypes"
            db_table = "rows_book"
            ordering = ("author", "id")

        def shout(self):
            return self.title.upper()

    class NotZoe(models.Manager):
        def get_queryset(self):
            return super().get_queryset().exclude(name="zoe")

    class Visible(models.Model):
        """An author whom no relation shows if they are called zoe."""

        name = models.CharField(max_length=20)
        objects = NotZoe()

        class Meta:
            app_label = "fieldtypes"
            db_table = "rows_author"
            base_manager_name = "objects"

    class Essay(models.Model):
        title = models.CharField(max_length=20)
        author = models.ForeignKey(Visible, models.CASCADE)

        class Meta:
            app_label = "fieldtypes"
            db_table = "rows_book"

    class Line(models.Model):
        """Rows of a view, several of which share a key."""

        number = models.IntegerField(primary_key=True)
        word = models.CharField(max_length=20)

        class Meta:
            app_label = "fieldtypes"
            db_table = "rows_line"
            managed = False

    class Order(models.Model):
        pk = models.CompositePrimaryKey("shop", "number")
        shop = models.IntegerField()
        number = models.IntegerField()
        status = models.CharField(max_length=20)

        class Meta:
            app_label = "fieldtypes"
            db_table = "rows_order"

    class Item(models.Model):
        shop = models.IntegerField()
        order_number = models.IntegerField()
        name = models.CharField(max_length=20)
        order = models.ForeignObject(
            Order, models.CASCADE, from_fields=("shop", "order_number"), to_fields=("shop", "number")
        )

        class Meta:
            app_label = "fieldtypes"
            db_table = "rows_item"

        def shout(self):
            return self.name.upper()


TABLES = {
    "rows_author": ("id integer PRIMARY KEY, name varchar(20)", [(1, "zoe"), (2, "ann"), (3, "bob")]),
    "rows_book": (
        "id integer PRIMARY KEY, title varchar(20), pages integer, author_id integer, critic_id integer",
        [(1, "a", 5, 1, 2), (2, "b", 5, 2, 99), (3, "c", 7, 2, 1), (4, "d", 5, 3, 98)],
    ),
    "rows_line": ("number integer, word varchar(20)", [(n // 3, f"w{n}") for n in range(11)]),
    "rows_order": ("shop integer, number integer, status varchar(20)", [(1, 7, "sent"), (1, 8, "open")]),
    "rows_item": (
        "id integer PRIMARY KEY, shop integer, order_number integer, name varchar(20)",
        [(1, 1, 7, "pen"), (2, 1, 9, "ink")],
    ),
}


@pytest.fixture
def alias(database):
    """A database in which the tables of these models are filled."""
    with connections[database].cursor() as cursor:
        for name, (columns, rows) in TABLES.items():
            # Creating a temporary table ends no transaction on MariaDB.
            cursor.execute(f"CREATE TEMPORARY TABLE {name} ({columns})")
            for row in rows:
                cursor.execute(f"INSERT INTO {name} VALUES ({', '.join(['%s'] * len(row))})", row)
    yield database
    with connections[database].cursor() as cursor:
        for name in TABLES:
            cursor.execute(f"DROP TABLE {name}")


def text(source, columns=None, encoder=Csv(), **options):  # noqa: B008 (frozen)
    return b"".join(stream(source, columns, encoder, **options)).decode()


def cells(source, columns=None, **options):
    return list(csv.reader(io.StringIO(text(source, columns, **options), newline="")))


def keys(source, columns, **options):
    return [int(row[0]) for row in cells(source, columns, **options)[1:]]


def only_on(alias, vendor):
    if connections[alias].vendor != vendor:
        pytest.skip(f"a matter of {vendor}")


COLUMNS = {
    "fields": ["id", "title"],
    "the relation": ["id", "author", "critic"],
    "across it": ["id", "author__name", "critic__name"],
    "a method": ["id", "shout", "critic__name"],
    "a method across it": ["id", "critic__shout", "author__name"],
    "a callable": ["id", "author", Column(lambda book: book.title, header="title")],
}
BOOKS = {
    "Meta.ordering": lambda books: books,
    "by the relation": lambda books: books.order_by("author", "id"),
    "by the relation, reversed": lambda books: books.order_by("author", "id").reverse(),
    "by the expression": lambda books: books.order_by(F("author").desc(), "id"),
    "by a relation without a constraint": lambda books: books.order_by("critic", "id"),
    "a slice": lambda books: books.order_by("author", "id")[1:3],
    "selecting the relation": lambda books: books.select_related("author").order_by("id"),
    "selecting one without a constraint": lambda books: books.select_related("critic").order_by("id"),
    "filtering by one without a constraint": lambda books: books.filter(critic__name="zoe"),
    "distinct": lambda books: books.order_by("author", "id").distinct(),
    "only": lambda books: books.only("title").order_by("author", "id"),
    "grouped": lambda books: books.annotate(n=Count("author__name")).order_by("author", "id"),
    "grouped, selecting the relation": lambda books: (
        books.select_related("author").annotate(n=Count("pages")).order_by("id")
    ),
    "grouped, selecting both": lambda books: (
        books.select_related("author", "critic").annotate(n=Count("pages")).order_by("id")
    ),
    "locked": lambda books: books.select_for_update().order_by("id"),
    "a condition in SQL": lambda books: books.extra(where=["id > 1"]).order_by("id"),
    "a column in SQL": lambda books: books.extra(select={"twice": "id * 2"}).order_by("-twice"),
    "an expression in SQL": lambda books: books.annotate(twice=Abs(RawSQL("id * 2", ()))).order_by("-twice"),
    "an order in SQL": lambda books: books.order_by(RawSQL("id", ()).desc()),
}


@pytest.mark.parametrize("columns", COLUMNS.values(), ids=COLUMNS)
@pytest.mark.parametrize("shape", BOOKS.values(), ids=BOOKS)
def test_the_rows_are_those_of_the_queryset_whatever_columns_are_asked_for(alias, shape, columns):
    books = shape(Book.objects.using(alias))
    expected = [book.id for book in books]
    assert keys(books, columns) == keys(books, columns, encoder=Csv(profile="excel")) == expected


@pytest.mark.parametrize("columns", COLUMNS.values(), ids=COLUMNS)
def test_windows_too(alias, columns):
    books = Book.objects.using(alias).order_by("author", "id")
    assert keys(books, columns, windows=True, chunk_size=1) == [book.id for book in books]


def test_windows_of_an_annotated_condition(alias):
    books = Book.objects.using(alias).annotate(is_long=Q(pages__gt=5)).order_by("id")
    assert text(books, ["id", "title"], windows=True, chunk_size=1) == text(books, ["id", "title"])


@pytest.mark.parametrize(
    "column", ["id", Column(lambda essay: essay.id, header="id")], ids=["a field", "computed"]
)
def test_a_base_manager_hides_rows_from_columns_through_relations(alias, column):
    essays = Essay.objects.using(alias).order_by("id")
    assert [row[1] for row in cells(essays, [column, "author__name"])[1:]] == ["", "ann", "ann", "bob"]
    joined = essays.select_related("author")  # which reads past the manager, as Django does
    expected = [essay.author.name for essay in joined]
    assert (
        [row[1] for row in cells(joined, [column, "author__name"])[1:]] == expected == ["zoe", "ann", "ann", "bob"]
    )


def test_a_missing_row_is_an_empty_cell(alias):
    books = Book.objects.using(alias).order_by("id")
    assert text(books, ["id", "critic__name"]) == "id,critic__name\r\n1,ann\r\n2,\r\n3,zoe\r\n4,\r\n"
    assert "LEFT OUTER" in plan(books, ["critic__name"]).sql
    called = Column(lambda book: book.id, header="id")
    assert text(books, ["id", "critic__id"]) == text(books, [called, "critic__id"])
    assert text(books, ["id", "critic__id"]) == "id,critic__id\r\n1,2\r\n2,\r\n3,1\r\n4,\r\n"
    assert "INNER" in plan(books, ["author__name"]).sql  # a constraint guarantees its row


def test_joins_that_change_no_rows_are_not_made(alias):
    books = Book.objects.using(alias).select_related("author").order_by("id")
    assert "JOIN" not in plan(books, ["title", "author__id"]).sql


@pytest.mark.parametrize("columns", [["id"], ["id", "name"], ["id", "shout"], ["id", lambda author: 1]])
def test_rows_that_a_filtered_relation_repeats(alias, columns):
    columns = [Column(column, header="called") if callable(column) else column for column in columns]
    wide = FilteredRelation("books", condition=Q(books__pages__gt=1))
    authors = Author.objects.using(alias).annotate(wide=wide).select_related("wide").order_by("id")
    expected = [author.id for author in authors]
    assert len(expected) > 3
    assert keys(authors, columns) == expected
    read = Column(lambda author: author.wide.title, header="title")
    assert cells(authors, ["id", read])[1:] == [[str(a.id), a.wide.title] for a in authors]


@pytest.mark.parametrize("columns", [["pages"], ["title"], ["pages", "author__name"]])
def test_distinct_compares_what_the_queryset_selects(alias, columns):
    assert len(cells(Book.objects.using(alias).distinct(), columns)) == 1 + 4
    lines = Line.objects.using(alias).distinct()
    assert len(cells(lines, ["number"])) == 1 + 11


def test_an_order_of_values_stays_with_fewer_columns(alias):
    books = Book.objects.using(alias).order_by("author", "id").values_list("title", "author")  # by the key
    expected = [row[0] for row in books]
    assert [row[0] for row in cells(books, ["title"])[1:]] == expected == ["a", "b", "c", "d"]


def test_distinct_on_an_annotation_that_is_no_column(alias):
    only_on(alias, "postgresql")
    books = Book.objects.using(alias).annotate(low=Lower("author__name")).distinct("low").order_by("low", "id")
    assert keys(books, ["id"]) == [book.id for book in books]


def test_locks_of_a_relation(alias):
    only_on(alias, "postgresql")
    books = Book.objects.using(alias).select_related("author").select_for_update(of=("author",)).order_by("id")
    with transaction.atomic(using=alias):
        assert keys(books, ["id", "title"]) == [book.id for book in books]


class TestTies:
    @pytest.mark.parametrize("size", [1, 2, 3, 4, 100])
    def test_are_read_whole(self, alias, size):
        lines = Line.objects.using(alias)
        found = cells(lines, ["number", "word"], windows=True, chunk_size=size)[1:]
        assert sorted(found) == sorted([str(n // 3), f"w{n}"] for n in range(11))
        assert [row[0] for row in found] == sorted(row[0] for row in found)

    def test_with_a_limit(self, alias):
        assert len(cells(Line.objects.using(alias).order_by("number")[:5], windows=True, chunk_size=2)) == 1 + 5

    def test_with_an_offset_windows_are_refused(self, alias):
        with pytest.raises(SourceError, match="its key may not be unique"):
            plan(Line.objects.using(alias).order_by("number")[2:5], windows=True)


class Reordering(ValuesIterable):
    """Selects more than it yields, in another order, as packages of translations do."""

    def __iter__(self):
        for record in super().__iter__():
            yield {name: f"<{record[name]}>" for name in self.queryset.asked}


class ReorderingTuples(Reordering):
    def __iter__(self):
        for record in super().__iter__():
            yield tuple(record.values())


class Doubling(ValuesListIterable):
    def __iter__(self):
        for first, *rest in super().__iter__():
            yield (f"{first}{first}", *rest)


class Louder(ModelIterable):
    def __iter__(self):
        for record in super().__iter__():
            record.name += "!"
            yield record


class Passing(ModelIterable):
    def __iter__(self):
        yield from ModelIterable(self.queryset)


class Bending(models.QuerySet):
    asked = ()

    def _clone(self):
        clone = super()._clone()
        clone.asked = self.asked
        return clone

    def values(self, *names):
        return self._bent(Reordering, *names)

    def values_list(self, *names):
        return self._bent(ReorderingTuples, *names)

    def _bent(self, iterable, *names):
        clone = models.QuerySet.values(self, *sorted({"id", "name", *names}))
        clone._iterable_class, clone.asked = iterable, names
        return clone


class Replacing(models.QuerySet):
    """Gives other objects than it fetches, as packages that record history do."""

    def _fetch_all(self):
        super()._fetch_all()
        for author in self._result_cache:
            author.__class__ = Writer


def of_class(queryset, iterable):
    clone = queryset.all()
    clone._iterable_class = iterable
    return clone


class TestIterables:
    def test_values_list_of_a_subclass_is_not_asked_for_columns(self, alias):
        authors = Bending(Author, using=alias).order_by("id")
        assert cells(authors[:1], ["name", "id"]) == [["name", "id"], ["zoe", "1"]]
        assert plan(authors, ["name", "id"]).lane != "python"

    def test_its_own_values_are_read_as_it_iterates_them(self, alias):
        authors = Bending(Author, using=alias).order_by("id")[:1]
        expected = '{"name":"<zoe>","id":"<1>"}\n'
        assert text(authors.values("name", "id"), encoder=JsonLines()) == expected
        assert text(authors.values_list("name", "id"), encoder=JsonLines()) == expected
        assert cells(authors.values_list("name", "id"), ["id"]) == [["id"], ["<1>"]]

    def test_tuples_of_its_own(self, alias):
        authors = of_class(Author.objects.using(alias).order_by("id").values_list("name", "id"), Doubling)
        assert cells(authors)[:2] == [["name", "id"], ["zoezoe", "1"]]

    def test_windows_of_its_own(self, alias):
        authors = of_class(Author.objects.using(alias).order_by("id").values_list("name", "id"), Doubling)
        assert [row[1] for row in cells(authors, windows=True, chunk_size=1)[1:]] == ["1", "2", "3"]

    def test_single_values_that_were_annotated_later(self, alias):
        pages = Book.objects.using(alias).order_by("pages").values_list("pages", flat=True)
        counted = pages.annotate(n=Count("id"))
        assert counted._iterable_class is FlatValuesListIterable
        assert cells(counted) == [["pages"], *([str(n)] for n in counted)]

    def test_instances_are_fast_only_where_the_iterable_provably_passes_them_on(self, alias):
        authors = Author.objects.using(alias).order_by("id")
        assert plan(of_class(authors, Passing), ["name"]).lane != "python"
        assert cells(of_class(authors, Louder), ["name"])[1:] == [["zoe!"], ["ann!"], ["bob!"]]

    def test_records_that_a_loop_puts_in_place_of_those_fetched(self, alias):
        authors = Replacing(Author, using=alias).order_by("id").prefetch_related("books")
        kind = Column(lambda author: f"{type(author).__name__}{len(author.books.all())}", header="kind")
        expected = [["1", "zoe", "Writer1"], ["2", "ann", "Writer2"], ["3", "bob", "Writer1"]]
        assert cells(authors, ["id", "name", kind], chunk_size=2)[1:] == expected
        assert cells(authors)[:2] == [["id", "name"], ["1", "zoe"]]
        assert cells(authors.filter(id=0)) == [["id", "name"]]

    def test_a_count_beside_a_composite_key(self, alias):
        orders = Order.objects.using(alias).order_by("number").values("pk").annotate(n=Count("status"))
        assert cells(orders, ["n"])[1:] == [["1"], ["1"]]
        assert cells(orders)[1:] == [["[1,7]", "1"], ["[1,8]", "1"]]


class TestPrepared:
    def test_a_prefetch_that_filters_a_relation_to_one(self, alias):
        shown = Prefetch("author", Author.objects.using(alias).filter(name="ann"))
        books = Book.objects.using(alias).prefetch_related(shown).order_by("id")
        expected = [["1", ""], ["2", "ann"], ["3", "ann"], ["4", ""]]
        assert cells(books, ["id", "author__name"])[1:] == expected
        called = Column(lambda book: book.title, header="title")
        assert [row[:2] for row in cells(books, ["id", "author__name", called])[1:]] == expected

    def test_a_foreign_object_of_several_columns(self, alias):
        items = Item.objects.using(alias).order_by("id")
        assert cells(items, ["name", "order__status"])[1:] == [["pen", "sent"], ["ink", ""]]
        assert cells(items, ["shout", "order__status"])[1:] == [["PEN", "sent"], ["INK", ""]]

    def test_an_annotation_whose_name_has_a_period(self, alias):
        books = Book.objects.using(alias).annotate(**{"a.b": F("pages")}).order_by("id")[:1]
        assert cells(books, ["a.b", "shout"])[1:] == [["5", "A"]]


@pytest.mark.parametrize(
    "books",
    [
        lambda books: books.only(),
        lambda books: books.defer("title").only("title"),
        lambda books: books.only("title").defer("title"),
        lambda books: books.select_related("author").only("title", "author__name"),
        lambda books: books.defer("author", "pages"),
        lambda books: books.only("author"),
    ],
)
def test_only_and_defer_load_what_django_loads(alias, books):
    books = books(Book.objects.using(alias).order_by("id"))
    deferred = books[0].get_deferred_fields()
    fields = [field.attname for field in Book._meta.concrete_fields if field.attname not in deferred]
    assert cells(books)[0] == fields


@pytest.mark.parametrize("names", [("pk",), ("status",), ()])
def test_only_with_a_composite_key(alias, names):
    orders = Order.objects.using(alias).only(*names)
    deferred = orders[0].get_deferred_fields()
    assert cells(orders)[0] == [name for name in ("shop", "number", "status") if name not in deferred]


def test_planning_leaves_the_querysets_as_they_were(alias):
    books = Book.objects.using(alias)
    one, other = books.filter(pages=5).order_by(), books.filter(pages=7).order_by()
    union = one.union(other).order_by("-title").values_list("pages", flat=True)
    for queryset in (union, books.order_by("author"), books.select_related("critic").distinct()):
        before = str(queryset.all().query) if queryset is not union else None
        for _ in range(2):
            plan(queryset)
            text(queryset)
        assert before in (None, str(queryset.query))
    assert list(union) == [5, 7, 5, 5]
    assert str(one.query) == str(books.filter(pages=5).order_by().query)


def test_a_field_whose_attribute_the_class_overrides_is_read_from_instances(alias, monkeypatch):
    monkeypatch.setattr(Author, "name", Shouted("name"))
    authors = Author.objects.using(alias).order_by("id")
    assert cells(authors, ["id", "name"])[1:] == [["1", "ZOE"], ["2", "ANN"], ["3", "BOB"]]
    books = Book.objects.using(alias).order_by("id")[:1]
    assert cells(books, ["title", "author__name"])[1:] == [["a", "ZOE"]]
    assert cells(authors.values("name"))[1] == ["zoe"]  # values() gives what is stored


def test_a_subclass_of_a_field_that_changes_nothing_stays_fast(alias):
    assert plan(Author.objects.using(alias), ["name"]).lane != "python"


@pytest.mark.parametrize("name", ["spot__buyer_id", "spot__buyer", "spot__buyer__id", "spot__number"])
def test_the_key_in_a_row_that_is_not_there_is_empty_in_every_lane(database, name):
    buyer = Buyer.objects.using(database).create(name="Ada", code="a")
    spot = Spot.objects.using(database).create(buyer=buyer, number=1)
    for number in (1, 2):
        Booking.objects.using(database).create(buyer=buyer, number=number)
    bookings = Booking.objects.using(database).order_by("number")
    there = spot.number if name == "spot__number" else buyer.pk
    for lane in LANES:
        assert to_buffer(stream(bookings, [name], in_lane(Json(), lane))).getvalue() == (
            f'[{{"{name}":{there}}},{{"{name}":null}}]'.encode()
        )
    columns = [name, Column(lambda booking: booking.number, header="n")]
    read = json.loads(to_buffer(stream(bookings, columns, Json())).getvalue())
    assert [row[name] for row in read] == [there, None]
