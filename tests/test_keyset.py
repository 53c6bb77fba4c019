"""Windows against the plain query: the same rows in the same order, whatever the keys and wherever they end."""
# ruff: noqa: DJ001, DJ008  (models of two tests)

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from itertools import chain, cycle, islice
from uuid import UUID

import pytest
from django.db import connections, models, transaction
from django.db.models import Count, Exists, ExpressionWrapper, F, OuterRef, Q, Subquery, Value, Window
from django.db.models.expressions import RawSQL
from django.db.models.functions import Coalesce, Collate, Length, Lower, Now, Random, RowNumber, TruncYear, Upper
from django.test.utils import CaptureQueriesContext, isolate_apps
from hypothesis import given
from hypothesis import strategies as st

from tests.fieldtypes.models import Everything, Parent, Ticket
from tests.strategies import BY_CLASS, field_values, instances
from upstream.streaming.errors import ExportError
from upstream.streaming.sources.keyset import keyset_of, why_not

with isolate_apps("tests.fieldtypes"):

    class Word(models.Model):
        """Text that ignores case where the database can, behind an index."""

        word = models.CharField(max_length=20, null=True)
        single = models.FloatField(null=True)
        day = models.DateField(null=True)

        class Meta:
            app_label = "fieldtypes"
            managed = False
            db_table = "keyset_word"

    class Entry(models.Model):
        """Has a key of two parts."""

        pk = models.CompositePrimaryKey("word", "number")
        word = models.CharField(max_length=20)
        number = models.IntegerField()
        place = models.IntegerField(null=True)

        class Meta:
            app_label = "fieldtypes"
            managed = False
            db_table = "keyset_entry"


WORD_COLUMNS = {
    "sqlite": "word varchar(20) COLLATE NOCASE, single real, day date",
    "postgresql": "word varchar(20), single real, day date",
    "mysql": "word varchar(20) COLLATE utf8mb4_general_ci, single float, day date",
}
INDEX = "CREATE INDEX keyset_word_index ON keyset_word (word, id)"


@pytest.fixture
def tables(database):
    """A function that makes the table of `Word` or `Entry` and fills it, until the test ends."""
    connection = connections[database]
    columns = {
        "keyset_word": f"id integer PRIMARY KEY, {WORD_COLUMNS[connection.vendor]}",
        "keyset_entry": "word varchar(20), number integer, place integer, PRIMARY KEY (word, number)",
    }

    def make(model, rows):
        name = model._meta.db_table
        with connection.cursor() as cursor:
            # Creating a temporary table ends no transaction on MariaDB.
            cursor.execute(f"CREATE TEMPORARY TABLE {name} ({columns[name]})")
            if model is Word:
                cursor.execute(INDEX)
            for row in rows:
                cursor.execute(f"INSERT INTO {name} VALUES ({', '.join(['%s'] * len(row))})", row)
        made.append(name)
        return model.objects.using(database)

    made = []
    yield make
    with connection.cursor() as cursor:
        for name in made:
            cursor.execute(f"DROP TABLE {name}")


def only(database, vendor):
    if connections[database].vendor != vendor:
        pytest.skip(f"a matter of {vendor}")


def store_raw(database, column, values):
    """Store a row for each value, which goes into the column past Django."""
    rows = store(database, *(made(database) for _ in values))
    with connections[database].cursor() as cursor:
        for key, value in zip(rows.values_list("id", flat=True), values, strict=True):
            cursor.execute(f"UPDATE fieldtypes_everything SET {column} = %s WHERE id = %s", (value, key))
    return rows


def plain(queryset):
    """Return the driver's rows of the queryset's own query."""
    compiler = queryset.query.clone().get_compiler(queryset.db)
    return [row[: compiler.col_count] for row in chain.from_iterable(compiler.execute_sql())]


def windows(queryset, *sizes):
    """Yield the windows of these sizes, one after the other and again from the first on."""
    rows = keyset_of(queryset).open()
    for size in islice(cycle(sizes), 100):
        window = rows.fetchmany(size)
        assert len(window) <= size
        if not window:
            assert rows.fetchmany(size) == []
            return
        yield window
    pytest.fail("the windows do not end")


def joined(queryset, *sizes):
    return list(chain.from_iterable(windows(queryset, *sizes)))


def check(queryset, expected=None):
    """Check that windows of several sizes give what the expected query, or the same one, gives without windows."""
    rows = plain(queryset if expected is None else expected)
    for size in {1, 2, 3, len(rows), len(rows) + 1} - {0}:
        assert joined(queryset, size) == rows


def made(using, **values):
    """Return an unsaved row of `Everything`, of nothing but `values` where it may be."""
    known = {
        "boolean": False,
        "integer": 0,
        "floating": 0.0,
        "decimal": Decimal(0),
        "date": date(2026, 1, 31),
        "time": time(8, 15),
        "datetime": datetime(2026, 1, 31, 8, 15, tzinfo=UTC),
        "duration": timedelta(0),
        "uuid": UUID(int=1),
        "json": {},
    }
    row = Everything(**{**known, **values})
    row._state.db = using
    return row


def store(using, *rows):
    for model in (Parent, Ticket):
        related = [getattr(row, model.__name__.lower()) for row in rows]
        model.objects.using(using).bulk_create({id(one): one for one in related if one}.values())
    Everything.objects.using(using).bulk_create(rows)
    return Everything.objects.using(using)


EXPRESSIONS = {
    "upper": ("text", Upper("text")),
    "length": ("char_or_null", Length("char_or_null")),
    "sum": ("small_integer", F("small_integer") + F("integer")),
    "third of a decimal": ("decimal_or_null", F("decimal_or_null") / 3),
    "sum of floats": ("floating_or_null", F("floating_or_null") + 0.1),
    "filled": ("text_or_null", Coalesce("text_or_null", Value("100% 'm'"))),
    "exists": ("char", Exists(Parent.objects.filter(name=OuterRef("char")))),
    "subquery": ("ticket", Subquery(Ticket.objects.filter(id=OuterRef("ticket_id")).values("code"))),
    "condition": ("integer_or_null", ExpressionWrapper(Q(integer_or_null__gt=0), models.BooleanField())),
    "year": ("date_or_null", TruncYear("date_or_null")),
    "transform": ("datetime_or_null", F("datetime_or_null__time")),
    "json key": ("json", F("json__a")),
}
# What rows can be sorted by, and the attribute on which that depends.
ATTRIBUTES = {
    **{field.name: field.name for field in Everything._meta.concrete_fields if type(field) in BY_CLASS},
    **dict.fromkeys(("parent", "parent_id", "parent__name", "parent__details"), "parent"),
    **dict.fromkeys(("ticket", "ticket__code"), "ticket"),
    **{name: attribute for name, (attribute, _) in EXPRESSIONS.items()},
}
# It has no infinite numbers, and takes no UUID whose version is none.
IN_MARIADB = {
    models.FloatField: st.floats(allow_nan=False, allow_infinity=False),
    models.UUIDField: st.uuids(version=4),
}
JSON = {"json", "json_or_null", "json key", "parent__details"}
LONG = {"text", "text_or_null", "binary", "binary_or_null", "upper", "filled"}


def values_of(attribute, vendor):
    if attribute == "parent":
        return st.none() | instances(Parent, vendor)
    if attribute == "ticket":
        return st.none() | instances(Ticket, vendor)
    if attribute == "json":
        small = st.none() | st.integers(-3, 3) | st.floats(-1, 1) | st.text("ab", max_size=2)
        return st.dictionaries(st.just("a"), small, max_size=1)
    field = Everything._meta.get_field(attribute)
    if vendor == "mysql" and type(field) in IN_MARIADB:
        return st.none() | IN_MARIADB[type(field)] if field.null else IN_MARIADB[type(field)]
    return field_values(field, vendor)


@st.composite
def orderings(draw, names):
    terms = []
    for name in names:
        nulls = draw(st.sampled_from([{}, {"nulls_first": True}, {"nulls_last": True}]))
        expression = EXPRESSIONS[name][1] if name in EXPRESSIONS else F(name)
        terms.append(draw(st.sampled_from([expression.asc, expression.desc]))(**nulls))
    return terms


@st.composite
def keys_and_rows(draw, vendor):
    """Draw an ordering, and rows in which few values stand under it, so that many are equal or NULL."""
    known = sorted(ATTRIBUTES.keys() - JSON - LONG) if vendor == "mysql" else sorted(ATTRIBUTES)
    names = draw(st.lists(st.sampled_from(known), min_size=1, max_size=3, unique=True))
    attributes = {ATTRIBUTES[name] for name in names}
    pools = {name: draw(st.lists(values_of(name, vendor), min_size=1, max_size=4)) for name in sorted(attributes)}
    rows = draw(
        st.lists(st.fixed_dictionaries({k: st.sampled_from(pool) for k, pool in pools.items()}), max_size=12)
    )
    for row in rows:
        if row.get("ticket"):  # one for each
            row["ticket"] = Ticket(code=row["ticket"].code)
    return draw(orderings(names)), rows


SELECTIONS = {
    "columns": lambda rows: rows.values_list("text", "datetime", "id"),
    "columns that are sorted by as well": lambda rows: rows.values_list(
        "decimal", "floating_or_null", "json", "date"
    ),
    "instances": lambda rows: rows,
    "instances with relations": lambda rows: rows.select_related("parent", "ticket"),
    "few fields": lambda rows: rows.only("char", "parent__name").select_related("parent"),
    "annotations": lambda rows: rows.annotate(shout=Upper("char"), name=F("parent__name")).values_list(
        "name", "id", "shout"
    ),
    "a filter": lambda rows: rows.filter(Q(parent__name__lt="b") | Q(parent=None) | Q(integer=0)),
}


class TestAnyKey:
    @given(st.data())
    def test_windows_are_the_query(self, database, data):
        vendor = connections[database].vendor
        terms, rows = data.draw(keys_and_rows(vendor))
        sizes = data.draw(st.lists(st.integers(1, 14), min_size=1, max_size=3))
        low, length = data.draw(st.tuples(st.integers(0, 5), st.none() | st.integers(0, 14)))
        name = data.draw(st.sampled_from(sorted(SELECTIONS)))
        with transaction.atomic(using=database):
            stored = SELECTIONS[name](store(database, *(made(database, **row) for row in rows)))
            tie_break = "-id" if terms[-1].descending else "id"
            high = None if length is None else low + length
            expected = plain(stored.order_by(*terms, tie_break)[low:high])
            found = joined(stored.order_by(*terms)[low:high], *sizes)
            # repr() tells NaN from other numbers and finds it equal to itself.
            assert list(map(repr, found)) == list(map(repr, expected))
            transaction.set_rollback(True, using=database)

    @given(st.data())
    def test_rows_that_come_and_go_repeat_none_and_lose_none(self, database, data):
        values = st.none() | st.integers(-2, 2)
        term = data.draw(orderings(["small_integer"]))
        with transaction.atomic(using=database):
            drawn = data.draw(st.lists(values, min_size=4, max_size=12))
            rows = store(database, *(made(database, small_integer=value) for value in drawn))
            staying = set(rows.values_list("id", flat=True))
            seen = []
            for window in windows(rows.order_by(*term).values_list("id"), 2):
                seen += [key for (key,) in window]
                gone = data.draw(st.sampled_from([*sorted(staying), None]))
                rows.filter(id=gone).delete()
                staying.discard(gone)
                if len(seen) < 20:  # else new rows could come for ever
                    rows.bulk_create([made(database, small_integer=data.draw(values))])
            transaction.set_rollback(True, using=database)
        assert len(seen) == len(set(seen))
        assert staying <= set(seen)


class TestOrder:
    @pytest.fixture
    def rows(self, database):
        parents = [Parent(name=name) for name in "bab"]
        numbers = [3, None, 1, 3, 2, None, 1, 3]
        return store(
            database,
            *(
                made(
                    database,
                    char=str(number),
                    small_integer=number,
                    integer=place % 3,
                    datetime_or_null=datetime(2026 - place % 2, 1, place + 1, tzinfo=UTC),
                    parent=[*parents, None][place % 4],
                    ticket=Ticket(code=str(place % 3)) if place % 3 else None,
                )
                for place, number in enumerate(numbers)
            ),
        )

    @pytest.mark.parametrize(
        ("names", "total"),
        [
            ([], ["id"]),  # Meta.ordering
            (["pk"], ["pk"]),
            (["-id", "integer"], ["-id"]),
            (["small_integer"], ["small_integer", "id"]),
            (["-small_integer"], ["-small_integer", "-id"]),
            (["integer", "-small_integer"], ["integer", "-small_integer", "-id"]),
            (["integer", "-id", "char"], ["integer", "-id"]),
            (["parent__name"], ["parent__name", "id"]),
            (["-parent__name", "ticket__code"], ["-parent__name", "ticket__code", "id"]),
            (["parent"], ["parent_id", "id"]),
            (["ticket"], ["ticket_id", "id"]),
            (["datetime_or_null__year"], ["datetime_or_null__year", "id"]),
            ([Upper("char").desc()], [Upper("char").desc(), "-id"]),
            ([F("small_integer").desc(nulls_last=True)], [F("small_integer").desc(nulls_last=True), "-id"]),
            ([Value(1), "char"], ["char", "id"]),
        ],
    )
    @pytest.mark.parametrize("selection", ["instances", "values"])
    def test_it_is_the_querys_own_and_total(self, rows, names, total, selection):
        ordered, expected = rows.order_by(*names) if names else rows, rows.order_by(*total)
        if selection == "values":
            ordered, expected = (queryset.values_list("char", "small_integer") for queryset in (ordered, expected))
        check(ordered, expected)
        check(ordered.reverse(), expected.reverse())
        check(ordered[2:7], expected[2:7])

    def test_without_any_it_is_the_primary_key(self, rows):
        check(rows.order_by(), rows.order_by("id"))

    def test_an_annotation_is_one_selected_or_not(self, rows):
        total = rows.annotate(key=Coalesce("small_integer", 2)).order_by("-key", "-id")
        check(total.order_by("-key"), total)
        check(total.order_by("-key").values_list("char"), total.values_list("char"))
        check(total.order_by("-key").values_list("char", "key"), total.values_list("char", "key"))
        check(rows.alias(key=Length("char")).order_by("key"), rows.order_by(Length("char"), "id"))

    def test_extra_terms_are_some(self, rows):
        extra = rows.extra(select={"twice": "small_integer * 2"})
        if connections[rows.db].vendor == "mysql":
            assert "values of unknown type" in why_not(extra.extra(order_by=["-twice"]))
            return
        check(extra.extra(order_by=["-twice"]), extra.order_by("-small_integer", "-id"))
        check(rows.extra(order_by=["-fieldtypes_everything.integer"]), rows.order_by("-integer", "-id"))
        check(rows.extra(where=["small_integer > %s"], params=[1]), rows.filter(small_integer__gt=1))

    def test_one_that_a_query_has_with_parameters_is_bound_each_time(self, rows):
        key = Coalesce("parent__name", Value("100%"))
        check(rows.order_by(key), rows.order_by(key, "id"))

    def test_it_follows_a_relation_back_to_one_row(self, rows):
        tickets = Ticket.objects.using(rows.db)
        check(tickets.order_by("everything__small_integer"), tickets.order_by("everything__small_integer", "id"))

    def test_the_primary_key_is_no_key_twice(self, rows):
        for name in ("pk", "-id", F("id").desc(), F("pk").asc(nulls_last=True)):
            with CaptureQueriesContext(connections[rows.db]) as captured:
                check(rows.order_by(name).values_list("char"))
            assert max(query["sql"].count("upstream_key") for query in captured) == 1


class TestSlices:
    @given(st.integers(0, 9), st.none() | st.integers(0, 9), st.lists(st.integers(1, 9), min_size=1, max_size=3))
    def test_a_slice_is_a_slice(self, database, low, length, sizes):
        with transaction.atomic(using=database):
            rows = store(database, *(made(database, integer=place % 2) for place in range(7)))
            rows = rows.order_by("integer").values_list("id", "integer")
            high = None if length is None else low + length
            assert joined(rows[low:high], *sizes) == list(rows.order_by("integer", "id")[low:high])
            transaction.set_rollback(True, using=database)

    def test_no_statement_asks_for_more_rows_than_are_wanted(self, database):
        rows = store(database, *(made(database) for _ in range(7)))[1:6]
        with CaptureQueriesContext(connections[database]) as captured:
            joined(rows, 3)
        limits = [query["sql"].partition(" LIMIT ")[2] for query in captured if "LIMIT" in query["sql"]]
        assert limits == ["3 OFFSET 1", "2"]


MOMENT = datetime(2026, 1, 31, 8, 15, tzinfo=UTC)
INSTANTS = [MOMENT, *(MOMENT + timedelta(microseconds=n) for n in (999_999, 1, 2, 500_000))]
# Values that a key must tell apart, the last bit of each included.
NEIGHBOURS = {
    "floating": [0.3, 0.1 + 0.2, 0.30000000000000010, 1e300, 5e-324, -0.0, 0.0, 2.0**53, 2.0**53 + 2],
    "decimal": [
        Decimal(text) for text in ("1.000001", "1.000002", "12345678901.000001", "12345678901.000002", "-1")
    ],
    "big_integer": [2**53, 2**53 + 1, 2**63 - 1, 2**63 - 2, -(2**63), 1 - 2**63],
    "datetime": INSTANTS,
    "datetime_or_null": [*INSTANTS, None],
    "time": [instant.time() for instant in INSTANTS],
    "date": [date(1, 1, 1), date(9999, 12, 31), date(2026, 2, 28), date(2026, 3, 1)],
    "duration": [timedelta(microseconds=n) for n in (0, 1, -1, 2**53, 2**53 + 1)],
    "uuid": [UUID(int=4 << 76 | 8 << 60 | n) for n in (1, 2, 1 << 32, 1 << 96)],
    "char": ["", " ", "a", "A", "a ", "ä", "\\", "'", "%s", "%", "b\n", "日本", "😀"],
    "boolean_or_null": [True, False, None],
}


class TestExactness:
    """The last key is what the database holds, to the last bit."""

    @pytest.mark.parametrize("name", NEIGHBOURS)
    def test_neighbours_are_told_apart(self, database, name):
        rows = store(database, *(made(database, **{name: value}) for value in NEIGHBOURS[name] * 2))
        check(rows.order_by(name).values_list("id"), rows.order_by(name, "id").values_list("id"))
        check(rows.order_by(f"-{name}").values_list("id"), rows.order_by(f"-{name}", "-id").values_list("id"))

    def test_sqlite_decimals_have_more_digits_than_django_reads(self, database):
        only(database, "sqlite")
        stored = [0.1 + 0.2, 0.3, 0.30000000000000010, 10**15 + 0.1, 2**62 + 1, 2**62, 1e300]
        rows = store_raw(database, "decimal", stored)
        check(rows.order_by("decimal").values_list("id"))

    def test_sqlite_dates_are_the_text_that_is_stored(self, database):
        only(database, "sqlite")
        stored = ["2026-01-31 08:15:00", "2026-01-31 08:15:00.000000", "2026-01-31T08:15:00", "2026-01-31 08:15"]
        rows = store_raw(database, "datetime", stored)
        check(rows.order_by("-datetime").values_list("id"))

    def test_single_precision(self, tables):
        words = tables(
            Word, [(n, "", value, None) for n, value in enumerate([0.1, 0.2, None, 0.1, 1e-30, 3.3e38])]
        )
        check(words.order_by("single"), words.order_by("single", "id"))

    def test_case_is_ignored_where_the_column_ignores_it(self, tables):
        words = tables(Word, [(n, word, 0, None) for n, word in enumerate(["b", "A", "a", None, "B", "a", "C "])])
        check(words.order_by("word"), words.order_by("word", "id"))
        check(words.order_by("-word"), words.order_by("-word", "-id"))

    def test_a_named_collation(self, tables):
        words = tables(Word, [(n, word, 0, None) for n, word in enumerate(["b", "A", "a", None, "B", "é", "e"])])
        name = {"sqlite": "binary", "postgresql": "C", "mysql": "utf8mb4_bin"}[connections[words.db].vendor]
        key = Collate("word", name)
        check(words.order_by(key), words.order_by(key, "id"))

    def test_dates_that_python_does_not_have(self, tables, database):
        days = {
            "sqlite": ["infinity", "0000-00-00", ""],
            "postgresql": ["infinity", "-infinity", "0044-03-15 BC"],
            "mysql": ["0000-00-00", "2026-00-00", "0000-00-00"],
        }[connections[database].vendor]
        words = tables(Word, [(n, "", 0, day) for n, day in enumerate(["2026-01-31", None, *days, *days])])
        check(words.order_by("day").values_list("id"), words.order_by("day", "id").values_list("id"))
        check(words.order_by("-day").values_list("id"), words.order_by("-day", "-id").values_list("id"))

    def test_nan_equals_itself_above_all_numbers(self, database):
        only(database, "postgresql")
        values = [float("nan"), float("inf"), 1.0, float("nan"), float("-inf"), None, float("nan")]
        rows = store(database, *(made(database, floating_or_null=value) for value in values)).values_list("id")
        check(rows.order_by("floating_or_null"), rows.order_by("floating_or_null", "id"))
        check(rows.order_by("-floating_or_null"), rows.order_by("-floating_or_null", "-id"))


class TestCompositeKeys:
    @pytest.mark.parametrize(
        ("names", "total"),
        [
            ([], ["word", "number"]),
            (["pk"], ["word", "number"]),
            (["-pk"], ["-word", "-number"]),
            (["word"], ["word", "number"]),
            (["-number"], ["-number", "-word"]),
            (["place"], ["place", "word", "number"]),
            (["-place", "number"], ["-place", "number", "word"]),
            (["number", "word", "place"], ["number", "word"]),
        ],
    )
    def test_all_parts_break_ties(self, tables, names, total):
        places = [(word, number, (number * 7) % 3 or None) for word in ("b", "a", "c") for number in (3, 1, 2)]
        entries = tables(Entry, places)
        check(entries.order_by(*names), entries.order_by(*total))
        check(entries.order_by(*names).values_list("place"), entries.order_by(*total).values_list("place"))


def through_windows(queryset, size):
    """Return the queryset's instances, built by Django from windows."""
    rows = keyset_of(queryset).open()
    clone = queryset.all()
    compiler = clone.query.get_compiler(queryset.db)

    def execute_sql(*args, **options):
        compiler.pre_sql_setup()
        return iter(partial(rows.fetchmany, size), [])

    compiler.execute_sql = execute_sql
    clone.query.get_compiler = lambda **options: compiler
    return list(clone.iterator(chunk_size=size))


class TestInstances:
    @pytest.mark.parametrize("size", [1, 2, 3, 10])
    def test_they_are_built_with_their_relations(self, database, size, django_assert_num_queries):
        parents = [Parent(name=name, details={"name": name}) for name in "ba"]
        rows = store(database, *(made(database, parent=[*parents, None][n % 3], json=[n]) for n in range(7)))
        rows = rows.select_related("parent").annotate(half=F("id") / 2, upper=Upper("parent__name"))
        found = through_windows(rows.order_by("-parent__name"), size)
        expected = list(rows.order_by("-parent__name", "-id"))
        assert found == expected
        with django_assert_num_queries(0, using=database):
            for one, other in zip(found, expected, strict=True):
                assert one.parent == other.parent
                assert (one.half, one.upper, one.json) == (other.half, other.upper, other.json)


class TestStatements:
    def rows(self, database, count=6):
        rows = store(database, *(made(database, integer=n % 2, char=str(n % 3)) for n in range(count)))
        return rows.values_list("id")

    def test_nothing_is_open_between_two_windows(self, transactional_database):
        connection = connections[transactional_database]
        rows = keyset_of(self.rows(transactional_database).order_by("char")).open()
        found = []
        while window := rows.fetchmany(2):
            found += window
            connection.close()
        assert found == list(self.rows(transactional_database, 0).order_by("char", "id"))

    @pytest.mark.parametrize(
        ("names", "most"),
        [(["id"], 1), (["integer"], 3), (["integer", "char"], 5)],
    )
    def test_a_window_takes_two_for_each_key_at_most(self, database, names, most):
        rows = self.rows(database).order_by(*names)
        with CaptureQueriesContext(connections[database]) as captured:
            iterator = windows(rows, 2)
            next(iterator)
            assert len(captured) == 1
            next(iterator)
            assert 1 < len(captured) <= 1 + most

    def test_none_is_run_after_the_end(self, database):
        rows = keyset_of(self.rows(database)).open()
        assert len(rows.fetchmany(7)) == 6
        with CaptureQueriesContext(connections[database]) as captured:
            assert rows.fetchmany(7) == []
        assert not captured.captured_queries

    def test_none_is_run_where_nothing_can_match(self, database):
        with CaptureQueriesContext(connections[database]) as captured:
            for nothing in (self.rows(database, 0).none(), Everything.objects.using(database).filter(id__in=[])):
                assert why_not(nothing) is None
                assert joined(nothing, 2) == []
        assert not [query for query in captured if query["sql"].startswith("SELECT")]

    def test_none_is_run_once_it_is_closed(self, database):
        rows = keyset_of(self.rows(database)).open()
        rows.fetchmany(2)
        rows.close()
        assert rows.fetchmany(2) == []

    @pytest.mark.parametrize("descending", [False, True])
    @pytest.mark.parametrize("word", ["a", None])
    def test_an_index_on_the_ordering_serves_each(self, tables, database, word, descending):
        connection = connections[database]
        words = tables(Word, [(n, word if n % 3 else "b", 0, None) for n in range(60)])
        rows = words.order_by("-word" if descending else "word").values_list("id")
        with CaptureQueriesContext(connection) as captured:
            joined(rows, 7)
        explain = {"sqlite": "EXPLAIN QUERY PLAN", "postgresql": "EXPLAIN", "mysql": "EXPLAIN FORMAT=JSON"}
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                for kind in ("seqscan", "bitmapscan", "sort"):  # what is best for a table of one page
                    cursor.execute(f"SET LOCAL enable_{kind} = off")
            for query in captured.captured_queries[1:]:
                cursor.execute(f"{explain[connection.vendor]} {query['sql']}")
                plan = str(cursor.fetchall())
                if connection.vendor == "postgresql":
                    assert "Index Cond" in plan
                    assert "Sort" not in plan
                    assert "Filter" not in plan
                elif connection.vendor == "sqlite":
                    assert "SEARCH" in plan
                    assert "TEMP B-TREE" not in plan


class SortedLast(models.expressions.OrderBy):
    def as_sql(self, compiler, connection, **options):
        return super().as_sql(compiler, connection, template="%(expression)s + 0 %(ordering)s")


# fmt: off
REFUSALS = {
    "raw": lambda rows, parents: rows.raw("SELECT * FROM fieldtypes_everything"),
    "union": lambda rows, parents: rows.union(rows),
    "intersection": lambda rows, parents: rows.intersection(rows),
    "distinct": lambda rows, parents: rows.distinct(),
    "groups": lambda rows, parents: rows.values_list("integer").annotate(count=Count("id")),
    "aggregation": lambda rows, parents: parents.annotate(count=Count("children")),
    "select_for_update": lambda rows, parents: rows.select_for_update(),
    "tables": lambda rows, parents: rows.extra(tables=["fieldtypes_parent"]),
    "fieldtypes_everything, which may": lambda rows, parents: parents.filter(children__integer=0),
    "joins": lambda rows, parents: parents.order_by("children__integer"),
    "may repeat": lambda rows, parents: parents.values_list("id", "children__id"),
    "window function": lambda rows, parents: rows.annotate(number=Window(RowNumber())),
    "a window function": lambda rows, parents: rows.order_by(Window(RowNumber(), order_by="-id")),
    "needs all rows": lambda rows, parents: rows.alias(n=Window(RowNumber())).filter(n__lt=3),
    "all rows at once": lambda rows, parents: rows.extra(select={"n": "row_number() over (order by id)"}),
    "order would change": lambda rows, parents: rows.order_by("?"),
    "would change": lambda rows, parents: rows.order_by("integer", Random()),
    "change from one": lambda rows, parents: rows.order_by(Coalesce("datetime_or_null", Now())),
    "change from": lambda rows, parents: rows.annotate(chance=Random()).order_by("chance").values_list("chance"),
    "from one statement": lambda rows, parents: rows.order_by(RawSQL("random()", [])),
    "SortedLast": lambda rows, parents: rows.order_by(SortedLast(F("id"))),
}
# fmt: on


class TestRefusals:
    @pytest.mark.parametrize("text", REFUSALS)
    def test_it_says_why_a_query_cannot_be_read_so(self, database, text):
        queryset = REFUSALS[text](Everything.objects.using(database), Parent.objects.using(database))
        assert text in why_not(queryset)
        with pytest.raises(ExportError, match=r"cannot be read in windows because .*: change"):
            keyset_of(queryset)

    @pytest.mark.parametrize("name", sorted(ATTRIBUTES))
    def test_json_and_long_texts_are_no_keys_where_they_sort_otherwise_than_they_compare(self, database, name):
        key = EXPRESSIONS[name][1] if name in EXPRESSIONS else name
        reason = why_not(Everything.objects.using(database).order_by(key))
        if connections[database].vendor == "mysql" and name in JSON | LONG:
            assert "differently than it compares them" in reason
        else:
            assert reason is None

    def test_mariadb_does_sort_long_texts_by_their_beginning_only(self, database):
        only(database, "mysql")
        rows = store(database, *(made(database, text="x" * 2000 + end) for end in "cba"))
        assert [row.text[-1] for row in rows.order_by("text", "id")] == ["c", "b", "a"]

    def test_rows_that_an_annotation_repeats_are_refused(self):
        class Each(models.Func):
            function = "unnest"
            set_returning = True

        assert "annotation may repeat" in why_not(Parent.objects.annotate(each=Lower(Each("name"))))

    @pytest.mark.parametrize(
        "queryset",
        [
            Everything.objects.filter(parent__name="", ticket__code=""),
            Everything.objects.select_related("parent", "ticket"),
            Ticket.objects.filter(everything__integer=1),
            Parent.objects.exclude(children__char=""),
            Parent.objects.filter(Exists(Everything.objects.filter(parent=OuterRef("pk")))),
            Parent.objects.annotate(
                count=Subquery(
                    Everything.objects.filter(parent=OuterRef("pk"))
                    .values("parent")
                    .annotate(count=Count("pk"))
                    .values("count")
                )
            ),
            Everything.objects.annotate(now=Now(), chance=Random()),
        ],
        ids=range(7),
    )
    def test_what_repeats_no_row_is_no_reason(self, queryset):
        assert why_not(queryset) is None
