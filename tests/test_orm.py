"""What `sources/orm.py` takes for granted of Django's inside: a new version that changes it fails here first."""

import inspect
from contextlib import closing
from itertools import chain

import pytest
from django.core.exceptions import EmptyResultSet
from django.db import DEFAULT_DB_ALIAS, connections, models
from django.db.models import Count, F, FilteredRelation, Prefetch, Q
from django.db.models.expressions import BaseExpression, Col, OrderBy
from django.db.models.fields.json import KT
from django.db.models.functions import Lower
from django.db.models.query import (
    FlatValuesListIterable,
    ModelIterable,
    NamedValuesListIterable,
    RawModelIterable,
    ValuesIterable,
    ValuesListIterable,
)
from django.db.models.sql import Query, RawQuery
from django.db.models.sql.compiler import SQLCompiler
from django.db.models.sql.constants import GET_ITERATOR_CHUNK_SIZE, MULTI

from tests.fieldtypes.models import Everything, Parent
from tests.orders.models import Buyer, Item, Label, Listing, Order, RushOrder
from tests.test_querysets import fill
from upstream.streaming.batches import BatchLimits
from upstream.streaming.databases import database_of
from upstream.streaming.sources import as_source, orm
from upstream.streaming.sources.fetches import IteratorFetch


def parameters(function):
    return [name for name in inspect.signature(function).parameters if name != "self"]


class TestSignatures:
    """Those that we override or call by position."""

    def test_of_compilers(self):
        assert parameters(Query.get_compiler) == ["using", "connection", "elide_empty"]
        assert parameters(SQLCompiler.execute_sql) == ["result_type", "chunked_fetch", "chunk_size"]
        assert parameters(SQLCompiler.pre_sql_setup) == ["with_col_aliases"]
        defaults = inspect.signature(SQLCompiler.execute_sql).parameters
        assert (defaults["result_type"].default, defaults["chunk_size"].default) == (
            MULTI,
            GET_ITERATOR_CHUNK_SIZE,
        )

    def test_of_raw_queries(self):
        assert parameters(RawQuery._execute_query) == []
        assert {"sql", "params", "using", "cursor"} <= vars(RawQuery("SELECT 1", "default", (1,))).keys()

    def test_of_functions_that_convert(self):
        assert list(inspect.signature(BaseExpression.get_db_converters).parameters) == ["self", "connection"]
        assert isinstance(inspect.getattr_static(BaseExpression, "convert_value"), object)


class TestShapes:
    def compiler(self, queryset):
        compiler = queryset.query.clone().get_compiler(queryset.db)
        return compiler, compiler.pre_sql_setup()

    def test_of_what_a_compiler_selects_and_orders_by(self, database):
        rows = Everything.objects.using(database).order_by("-char", "id")
        compiler, (extra_select, order_by, group_by) = self.compiler(rows.values_list("id", "parent__name"))
        assert [type(expression) for expression, *_ in compiler.select] == [Col, Col]
        for _, (sql, params), alias in compiler.select:
            assert (type(sql), tuple(params)) == (str, ())
            assert alias is None or isinstance(alias, str)
        for order, (sql, params, is_reference) in order_by:
            assert (type(order), type(sql), tuple(params), type(is_reference)) == (OrderBy, str, (), bool)
            assert (type(order.descending), order.nulls_first, order.nulls_last) == (bool, None, None)
        assert extra_select == group_by == []
        assert compiler.qualify is None
        assert compiler.connection is connections[database]
        assert compiler.using == database

    def test_of_the_statement(self, database):
        rows = Everything.objects.using(database).extra(select={"one": "1"}).order_by("char").distinct()
        statement = orm.compiled(rows.values_list("id", "boolean", "json__a", "one"))
        assert isinstance(statement.sql, str)
        assert len(statement.expressions) == 4
        assert statement.has_more  # DISTINCT selects what it is ordered by
        for position, (functions, expression) in statement.converters.items():
            assert expression is statement.expressions[position]
            assert all(len(inspect.signature(function).parameters) == 3 for function in functions)
        assert orm.compiled(rows.none()) is None

    def test_of_a_column(self, database):
        compiler, _ = self.compiler(Everything.objects.using(database).values_list("id"))
        column = compiler.select[0][0]
        assert (column.alias, column.target) == (Everything._meta.db_table, Everything._meta.pk)
        assert orm.is_column(column)
        assert orm.internal_type(column) == "AutoField"
        assert column.target.get_col(column.alias) == column

    def test_of_joins(self):
        parents = Parent.objects.filter(children__integer=1)
        compiler, _ = self.compiler(parents)
        joined = [table for table in compiler.query.alias_map.values() if table.parent_alias]
        assert [(table.table_name, compiler.query.alias_refcount[table.table_alias] > 0) for table in joined] == [
            (Everything._meta.db_table, True)
        ]
        assert list(orm.repeating_joins(compiler.query)) == [Everything._meta.db_table]
        children, _ = self.compiler(Everything.objects.select_related("parent"))
        assert list(orm.repeating_joins(children.query)) == []


class TestFacts:
    def test_of_iterables(self):
        rows = Parent.objects.all()
        kinds = {
            ModelIterable: rows,
            ValuesIterable: rows.values(),
            ValuesListIterable: rows.values_list("id", "name"),
            NamedValuesListIterable: rows.values_list("id", named=True),
            FlatValuesListIterable: rows.values_list("id", flat=True),
        }
        for kind, queryset in kinds.items():
            assert queryset._iterable_class is kind
            assert orm.gives_instances(queryset) == (kind is ModelIterable)
            assert orm.gives_values(queryset) == (kind is not ModelIterable)
            assert orm.gives_dicts(queryset) == (kind is ValuesIterable)
            assert orm.gives_single_values(queryset) == (kind is FlatValuesListIterable)

    def test_of_prefetches(self):
        rows = Parent.objects.prefetch_related("children")
        assert orm.prefetches(rows) == ("children",)
        assert orm.prefetches(orm.without_prefetches(rows)) == ()
        assert orm.prefetches(orm.pinned(rows)) == ("children",)
        assert orm.prefetches(rows) == ("children",)
        assert orm.pinned(rows).db == DEFAULT_DB_ALIAS

    def test_of_the_fields_that_find_rows(self):
        named = {
            (Order, "items"): {"id"},
            (Order, "labels"): {"id"},
            (Label, "orders"): {"id"},
            (Buyer, "visits"): {"code"},
            (Buyer, "follows"): {"id"},
            (Listing, "prices"): {"shelf", "place"},
            (RushOrder, "labels"): {"id"},
            (RushOrder, "deliveries"): {"order_ptr"},
            (Order, "remarks"): None,
        }
        for (model, name), fields in named.items():
            assert orm.finding_fields(model._meta.get_field(name)) == fields, name

    def test_of_orders(self, database):
        rows = Order.objects.using(database)
        for queryset in (
            *(rows.all(), rows.order_by("pk"), rows.extra(order_by=["number"]), rows.reverse(), rows.order_by()),
            *(Item.objects.all(), Item.objects.order_by(), Item.objects.values("sku").annotate(n=Count("pk"))),
            Order(pk=1).items.all(),
            Order(pk=1).labels.all(),
        ):
            assert orm.is_ordered(queryset) == queryset.ordered

    @pytest.mark.filterwarnings(r"ignore:Calling select_related\(\) with no arguments")
    def test_of_the_relations_that_are_fetched(self):
        rows = Order.objects.select_related("buyer").prefetch_related("labels", Prefetch("items", to_attr="found"))
        assert orm.fetched_relations(rows) == {"buyer", "labels", "found"}
        deep = Item.objects.select_related("order__buyer").prefetch_related("maker__visits")
        assert orm.fetched_relations(deep) == {"order", "buyer", "maker", "visits"}
        assert orm.fetched_relations(Item.objects.select_related()) == {"order"}
        assert orm.fetched_relations(Item.objects.raw("SELECT 1")) == set()

    def test_of_the_features_of_queries(self):
        rows = Parent.objects.all()
        assert orm.query_features(rows.query) == orm.QueryFeatures(None, False, False, False, False, 0, None)
        assert orm.query_features(rows[2:5].query)[-2:] == (2, 5)
        assert orm.query_features(rows.union(rows).query).combinator == "union"
        assert orm.query_features(rows.distinct().query).is_distinct
        assert orm.query_features(rows.values("name").annotate(n=Count("id")).query).is_grouped
        assert orm.query_features(rows.select_for_update().query).locks_rows
        assert orm.query_features(rows.extra(tables=["fieldtypes_ticket"]).query).has_extra_tables

    @pytest.mark.parametrize(
        ("rows", "names"),
        [
            (Parent.objects.values_list("name", "id"), ["name", "id"]),
            (Parent.objects.values("id").annotate(n=Lower("name")), ["id", "n"]),
            (Parent.objects.annotate(n=Lower("name")).values("n", "id"), ["n", "id"]),
            (Parent.objects.values_list("id", Lower("name")), ["id", "lower1"]),
            (Parent.objects.extra(select={"one": "1"}).values("id", "one"), ["id", "one"]),
            (Parent.objects.values(), ["id", "name", "details"]),
        ],
    )
    def test_of_what_values_select(self, rows, names):
        found = orm.selected_names(rows)
        assert sorted(found) == sorted(names)
        if rows._iterable_class is ValuesListIterable and not rows.query.extra_select:
            assert found == names or not orm.chooses_names(rows.query)

    def test_of_annotations(self):
        rows = Everything.objects.annotate(low=Lower("char"), key=F("json__a"), words=KT("json__a"))
        rows = rows.alias(unseen=Lower("char")).extra(select={"one": "1"})
        found = orm.annotations(rows.query)
        assert set(found) == {"low", "key", "words", "one"}
        assert found["key"] is found["one"] is None
        assert isinstance(found["low"], models.CharField)

    @pytest.mark.parametrize(
        ("rows", "names"),
        [
            (Parent.objects.all(), ["id", "name", "details"]),
            (Parent.objects.only("name"), ["id", "name"]),
            (Parent.objects.only(), ["id", "name", "details"]),
            (Parent.objects.defer("name"), ["id", "details"]),
            (Parent.objects.defer("name").only("name"), ["id", "name", "details"]),
            (Everything.objects.only("parent"), ["id", "parent_id"]),
            (
                Everything.objects.select_related("parent").only("char", "parent__name"),
                ["id", "char", "parent_id"],
            ),
        ],
    )
    def test_of_loaded_names(self, rows, names):
        assert orm.loaded_names(rows) == names

    def test_of_what_clones_share(self):
        rows = Parent.objects.values("name", "id")
        assert rows.all().query.selected is rows.query.selected  # compiling one union may change another
        copy = orm.copied(rows.union(rows))
        assert copy._query.selected == rows.query.selected
        assert all(
            query.selected is not rows.query.selected for query in (copy._query, *copy._query.combined_queries)
        )

    def test_of_positions(self, database):
        rows = Everything.objects.using(database).annotate(low=Lower("char")).extra(select={"one": "1"})
        names = ["low", "parent__name", "one", "id"]
        assert orm.compiled(rows.values(*names)).positions == dict(zip(names, range(4), strict=True))
        selected = orm.compiled(orm.selecting(rows, names))
        assert selected.positions == {"one": 0, "parent__name": 1, "id": 2, "low": 3}
        assert [type(column) for column in selected.expressions[1:3]] == [Col, Col]

    def test_a_name_whose_column_is_not_selected_has_no_position(self, database):
        rows = Parent.objects.using(database).values("name", "id")
        rows.query.select = rows.query.select[::-1]
        assert orm.compiled(rows).positions == {"name": 0, "id": 1}  # Django's own reading agrees with it
        name, key = rows.query.select
        assert dict(orm._positions({"name": name, "id": key}, [(key, "name"), (name, "id")])) == {}

    def test_of_iterables_that_pass_instances_on(self, database, django_assert_num_queries):
        class Passing(ModelIterable):
            def __iter__(self):
                yield from super().__iter__()

        class Copying(ModelIterable):
            def __iter__(self):
                yield from list(super().__iter__())

        class Counting(ModelIterable):
            def __iter__(self):
                self.queryset.count()
                yield from super().__iter__()

        rows = Parent.objects.using(database)
        with django_assert_num_queries(0, connection=connections[database]):
            for kind, passes in {ModelIterable: True, Passing: True, Copying: False}.items():
                rows._iterable_class = kind
                assert orm.passes_instances_on(rows) is passes
        rows._iterable_class = Counting  # its statement is refused
        assert not orm.passes_instances_on(rows)

    def test_of_locks_and_of_fetching(self):
        rows = Everything.objects.all()
        assert orm.locks_by_name(rows.select_for_update(of=("self",)).query)
        assert not orm.locks_by_name(rows.select_for_update().query)
        assert not orm.replaces_fetched(rows)
        assert parameters(models.QuerySet._fetch_all) == []

    def test_of_select_related(self):
        rows = Everything.objects.all()
        assert not orm.follows_all_relations(rows.select_related("parent").query)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("warnings.warn", lambda *_, **__: None)  # deprecated in Django 6.1
            assert orm.follows_all_relations(rows.select_related().query)

    def test_of_fetch_modes(self):
        if not hasattr(models, "FETCH_PEERS"):
            pytest.skip("Django has fetch modes from 6.1 on")
        rows = Parent.objects.fetch_mode(models.FETCH_PEERS)
        assert rows._fetch_mode.track_peers
        assert not orm.without_peers(rows)._fetch_mode.track_peers
        assert orm.without_peers(Parent.objects.all())._fetch_mode is Parent.objects.all()._fetch_mode

    def test_of_raw_queries(self, database):
        Parent.objects.using(database).create(name="x")
        raw = Parent.objects.raw("SELECT id, name, 1 AS one FROM fieldtypes_parent", using=database)
        assert orm.raw_names(raw) == (["id", "name"], ["one"])
        assert RawModelIterable(raw).queryset is raw


class Seen:
    """A runner that keeps the statements it executes and the sizes of the fetches from them."""

    def __init__(self, alias):
        self.connection = connections[alias]
        self.statements, self.fetched = [], 0

    def execute(self, sql, params):
        self.statements.append(sql)
        cursor = self.connection.cursor()
        cursor.execute(sql, params)
        return cursor

    def fetches(self, cursor, width):
        while rows := cursor.fetchmany(2):
            self.fetched += len(rows)
            yield [row[:width] for row in rows] if width else rows


SHAPES = {
    "instances": lambda rows: rows,
    "joined": lambda rows: rows.select_related("parent", "ticket"),
    "narrowed": lambda rows: rows.only("char").annotate(low=Lower("char")),
    "values": lambda rows: rows.values("id", "parent__name"),
    "tuples": lambda rows: rows.values_list("id", "json"),
    "named": lambda rows: rows.values_list("id", "char", named=True),
    "flat": lambda rows: rows.values_list("char", flat=True),
    "distinct": lambda rows: rows.order_by("char", "id").distinct(),
    "groups": lambda rows: rows.order_by().values("integer").annotate(n=Count("id")).order_by("integer"),
    "a slice": lambda rows: rows[1:4],
    "a union": lambda rows: (
        rows.order_by().filter(integer=1).union(rows.order_by().filter(integer=2)).order_by("id")
    ),
    "filtered relation": lambda rows: rows.annotate(
        one=FilteredRelation("parent", condition=Q(parent__name__gt=""))
    ).values("id", "one__name"),
    "raw": lambda rows: Everything.objects.raw(
        "SELECT *, %s AS two FROM fieldtypes_everything ORDER BY id", [2], using=rows.db
    ),
}


class TestSteering:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_django_makes_the_same_records_of_what_the_runner_fetches(self, database, shape):
        fill(database, 7)
        queryset = SHAPES[shape](Everything.objects.using(database).order_by("pk"))
        expected = list(queryset)
        runner = Seen(database)
        delegating = orm.delegating(queryset)
        assert list(orm.iterate(delegating, runner, 100)) == expected
        assert runner.statements == [orm.delegated_sql(delegating)] or isinstance(delegating.query, RawQuery)
        assert runner.fetched == len(expected) > 0
        assert type(queryset.query) in (Query, RawQuery)

    def test_a_query_that_matches_nothing_is_not_executed(self, database):
        runner = Seen(database)
        delegating = orm.delegating(Parent.objects.using(database).none())
        assert orm.delegated_sql(delegating) == ""
        assert list(orm.iterate(delegating, runner, 100)) == []
        assert runner.statements == []

    def test_the_sizes_of_fetches_are_those_asked_for(self, database):
        fill(database, 20)
        asked = []

        class Recording(Seen):
            def execute(self, sql, params):
                cursor = super().execute(sql, params)
                fetchmany = cursor.fetchmany
                cursor_like = type("Cursor", (), {"close": lambda _: cursor.close()})()
                cursor_like.fetchmany = lambda size: asked.append(size) or fetchmany(size)
                return cursor_like

        delegating = orm.delegating(Everything.objects.using(database).order_by("pk"))
        with closing(IteratorFetch(delegating, Recording(database).execute, 100)) as fetch:
            sizes = [len(fetch(size).records) for size in (1, 8, 20, 1)]
        assert (asked[:3], sizes) == ([1, 8, 20], [1, 8, 11, 0])

    def test_a_copy_of_a_delegating_query_compiles_its_own_statement(self, database):
        Parent.objects.using(database).bulk_create([Parent(name="a"), Parent(name="b")])
        delegating = orm.delegating(Parent.objects.using(database).order_by("name"))
        delegating.query.runner = Seen(database)
        assert [parent.name for parent in delegating.filter(name="b")] == ["b"]
        assert delegating.count() == 2


class TestWindows:
    class Key:
        order, params, exact, is_added = '"fieldtypes_parent"."id" ASC', (), '"fieldtypes_parent"."id"', True

    @pytest.mark.django_db
    def test_the_keys_stand_behind_all_other_columns(self):
        Parent.objects.bulk_create([Parent(name=name) for name in "bac"])
        first = Parent.objects.order_by("pk").first().pk
        query = Parent.objects.order_by("name").values_list("name").query
        condition = ('"fieldtypes_parent"."id" > %s', (first,))
        sql, params = orm.window_statement(query, connections["default"], [self.Key], [condition], (0, 2))
        with connections["default"].cursor() as cursor:
            cursor.execute(sql, params)
            assert cursor.fetchall() == [("a", first + 1), ("c", first + 2)]

    def test_nothing_is_nothing(self):
        query = Parent.objects.none().query
        assert orm.window_statement(query, connections["default"], [self.Key], [], (0, 2)) is None
        with pytest.raises(EmptyResultSet):
            query.get_compiler("default").as_sql()


def test_every_statement_of_every_shape_is_executed_by_the_database_module(transactional_database, monkeypatch):
    """Were a new Django to execute one on its own, its rows would not be bounded: it would be seen here."""
    fill(transactional_database, 7)
    database = type(database_of(connections[transactional_database]))
    open_cursor, opened = database.open_cursor, []

    def counting(self, connection, sql, params, **options):
        opened.append(sql)
        return open_cursor(self, connection, sql, params, **options)

    monkeypatch.setattr(database, "open_cursor", counting)
    rows = Everything.objects.using(transactional_database).order_by("pk")
    for shape in SHAPES.values():
        opened.clear()
        with as_source(shape(rows), None).open(BatchLimits()) as (_, batches):
            assert list(chain.from_iterable(batches))
        assert len(opened) == 1
