"""Every form of queryset is written as a loop over it would, by queries whose number does not grow."""

import csv
import io
import json
import re
from contextlib import contextmanager
from contextvars import copy_context
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connections, transaction
from django.db.models import (
    Avg,
    Case,
    CharField,
    Count,
    ExpressionWrapper,
    F,
    FloatField,
    JSONField,
    Max,
    OuterRef,
    Prefetch,
    Q,
    Subquery,
    Value,
    When,
)
from django.db.models.functions import Cast, Coalesce, Concat, Length, NullIf, TruncDate, Upper
from django.db.models.query import ModelIterable
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fieldtypes.models import Everything, Parent, Secretive, Ticket, Visit
from tests.strategies import everything, json_null, store
from upstream.streaming import Column, ColumnError, Csv, Json, JsonLines, plan, stream
from upstream.streaming.databases.postgresql import snapshot
from upstream.streaming.databases.sharing import is_exporting
from upstream.streaming.databases.sqlite import PIN
from upstream.streaming.sources.model_columns import OWNERS, SECRETS

# Without arguments it is deprecated in Django 6.1, and still in use.
pytestmark = [
    pytest.mark.filterwarnings(r"ignore:Calling select_related\(\) with no arguments"),
    pytest.mark.usefixtures("fetches_take_no_time"),
]

ENCODERS = [Csv(), Json(), JsonLines()]
# What a snapshot and a transaction take is not a query.
NOT_QUERIES = ("SET ", "SAVEPOINT", "RELEASE", "ROLLBACK", "BEGIN", "COMMIT", PIN)
# Reserved words of SQL, which need no quotes, each database's own, behind the name of the table.
CHAR, INTEGER = "fieldtypes_everything.char", "fieldtypes_everything.integer"


def row(**values):
    known = {
        "char": "a",
        "text": "b",
        "boolean": True,
        "integer": 1,
        "floating": 1.0,
        "decimal": Decimal("1.5"),
        "date": date(2026, 1, 31),
        "time": time(8, 15),
        "datetime": datetime(2026, 1, 31, 8, 15, tzinfo=UTC),
        "duration": timedelta(hours=1),
        "uuid": UUID(int=1),
        "binary": b"\x00\xff",
        "json": {},
    }
    return Everything(**{**known, **values})


@pytest.fixture
def rows(database):
    """Twelve rows, of which every third has no parent, and every fourth has a ticket."""
    fill(database, 12)
    return Everything.objects.using(database).order_by("pk")


def fill(database, count):
    start = Everything.objects.using(database).count()
    parents = [Parent(name=f'p{number}, "x"', details={"a": [number, None]}) for number in range(3)]
    Parent.objects.using(database).bulk_create(parents)
    tickets = [Ticket(id=UUID(int=start + number + 1), code=f"t{start + number}") for number in range(0, count, 4)]
    Ticket.objects.using(database).bulk_create(tickets)
    Everything.objects.using(database).bulk_create(
        row(
            char=f"c{number % 5}",
            text=f'text "{number}"',
            integer=number % 4,
            level=number % 3 - 1,
            file=f"files/{number}.pdf" if number % 2 else "",
            json={"a": [{"b": number}], "text": f"t{number}"},
            json_or_null=[None, json_null(), "text", 5][number % 4],
            datetime=datetime(2020 + number % 7, 1, 31, 8, 15, tzinfo=UTC),
            parent=parents[number % 3] if number % 3 else None,
            ticket=tickets[number // 4] if number % 4 == 0 else None,
        )
        for number in range(count)
    )


def written(source, columns=None, encoder=ENCODERS[0], **options):
    return b"".join(stream(source, columns, encoder, **options)).decode()


def table(source, columns=None, **options):
    return list(csv.reader(io.StringIO(written(source, columns, **options), newline="")))


def naive(header, rows):
    """Return CSV as the recipe of any manual makes it: None empty, everything else by str()."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([header, *rows])
    return text.getvalue()


@contextmanager
def counted(database):
    with CaptureQueriesContext(connections[database]) as captured:
        queries = []
        yield queries
    queries += [query["sql"] for query in captured if not query["sql"].startswith(NOT_QUERIES)]


def by_attributes(queryset, *names):
    """Follow dotted names on Django's own instances; a missing relation ends the way."""

    def value(record, name):
        for part in name.split("."):
            record = getattr(record, part, None)
            if record is None:
                return None
        return record() if callable(record) else record

    return [[value(record, name) for name in names] for record in queryset]


def lists(queryset):
    return [list(record.values()) if isinstance(record, dict) else list(record) for record in queryset]


FEW = ["id", "char", "integer", "datetime"]


def few(queryset):
    return naive(FEW, by_attributes(queryset, *FEW))


# Forms of model querysets whose named fields are those of their instances.
INSTANCES = {
    "all": lambda rows: rows,
    "filtered": lambda rows: rows.filter(integer__gt=1),
    "through a relation": lambda rows: rows.filter(parent__name__startswith="p1"),
    "reversed": lambda rows: rows.reverse(),
    "sliced": lambda rows: rows[2:7],
    "sliced to nothing": lambda rows: rows[0:0],
    "none": lambda rows: rows.none(),
    "nothing matches": lambda rows: rows.filter(pk__in=[]),
    "empty": lambda rows: rows.filter(pk__lt=0),
    "distinct": lambda rows: rows.distinct(),
    "distinct over a join": lambda rows: rows.filter(Q(parent__children__integer__gt=0) | Q(integer=0)).distinct(),
    "repeated by a join": lambda rows: rows.filter(parent__children__integer__gt=0).order_by("pk", "char"),
    "union": lambda rows: rows.order_by().filter(pk__gt=3).union(rows.order_by()).order_by("id"),
    "union of all": lambda rows: rows.order_by().union(rows.order_by(), all=True).order_by("id", "integer"),
    "select_related": lambda rows: rows.select_related("parent"),
    "select_related of all": lambda rows: rows.select_related(),
    "prefetch_related": lambda rows: rows.prefetch_related("parent__children"),
    "only": lambda rows: rows.only("char", "integer"),
    "defer": lambda rows: rows.defer("char", "text"),
    "annotated": lambda rows: rows.annotate(shouted=Upper("char")),
    "aggregated": lambda rows: rows.annotate(siblings=Count("parent__children")),
    "alias": lambda rows: rows.alias(shouted=Upper("char")).filter(shouted="C1"),
    "extra": lambda rows: rows.extra(select={"more": f"{INTEGER} + 1"}, where=[f"{INTEGER} > 0"]),
    "random order": lambda rows: rows.order_by("?").order_by("pk"),
}


class TestInstances:
    @pytest.mark.parametrize("form", INSTANCES.values(), ids=INSTANCES)
    def test_tuples_are_written_as_a_loop_over_the_instances_would(self, rows, form):
        assert written(form(rows), FEW) == few(form(rows))

    @pytest.mark.parametrize("form", INSTANCES.values(), ids=INSTANCES)
    def test_instances_are_written_as_a_loop_over_them_would(self, rows, form):
        columns = [*FEW, "shout", Column(lambda record: record.integer * 2, header="double")]
        wanted = [
            [*FEW, "shout", "double"],
            *([*(getattr(r, name) for name in FEW), r.text.upper(), r.integer * 2] for r in form(rows)),
        ]
        assert written(form(rows), columns) == naive(wanted[0], wanted[1:])

    @pytest.mark.parametrize("form", INSTANCES.values(), ids=INSTANCES)
    def test_one_query_reads_them_and_one_each_relation_that_cannot_be_joined(self, database, rows, form):
        queryset = form(rows)
        with counted(database) as queries:
            written(queryset, FEW)
        assert len(queries) <= 1, queries
        with counted(database) as queries:
            written(queryset, [*FEW, "shout", "parent__label", "ticket__code"])
        assert len(queries) <= 3, queries

    def test_distinct_fields_keep_the_first_row_of_each(self, database, rows):
        if connections[database].vendor != "postgresql":
            pytest.skip("only PostgreSQL has DISTINCT ON")
        first = rows.order_by("integer", "-pk").distinct("integer")
        for columns in (["char"], ["char", "label_of"]):
            named = [Column(lambda r: r.text, header=name) if name == "label_of" else name for name in columns]
            assert len(table(first, named)) == 5
        assert written(first, FEW) == few(first)

    @pytest.mark.parametrize("form", ["union", "distinct", "distinct over a join"])
    def test_fewer_columns_keep_every_row(self, rows, form):
        queryset = INSTANCES[form](rows)
        expected = [[str(record.integer)] for record in queryset]
        assert len(expected) > len({cell for [cell] in expected})
        for columns in (["integer"], [Column(lambda record: record.integer, header="integer")]):
            assert table(INSTANCES[form](rows), columns)[1:] == expected

    def test_managers_are_sources(self, database, rows):
        parent = Parent.objects.using(database).get(name__startswith="p1")
        assert written(parent.children, FEW) == few(parent.children.order_by("pk"))
        assert table(Parent.objects.db_manager(database), ["name"]) == table(
            Parent.objects.using(database), ["name"]
        )

    def test_using_decides_the_database(self, database, rows):
        assert plan(rows).database == database
        assert len(table(rows)) == 13

    def test_a_custom_iterable_class_is_used(self, rows):
        class Louder(ModelIterable):
            def __iter__(self):
                for record in super().__iter__():
                    record.char = record.char.upper()
                    yield record

        louder = rows.all()
        louder._iterable_class = Louder
        assert table(louder, ["char"])[1:] == [[record.char.upper()] for record in rows]

    def test_what_the_queryset_has_fetched_before_does_not_matter(self, rows):
        len(rows)
        assert written(rows, FEW) == few(rows)

    def test_a_queryset_can_be_exported_again_and_goes_on_working(self, rows):
        assert written(rows, FEW) == written(rows, FEW)
        assert rows.filter(integer=1).count() == 3
        assert rows.update(integer=1) == 12


class TestValues:
    FORMS = {
        "values": lambda rows: rows.values("integer", "char"),
        "values_list": lambda rows: rows.values_list("integer", "char"),
        "named": lambda rows: rows.values_list("integer", "char", named=True),
        "annotated after": lambda rows: (
            rows.values("integer").annotate(n=Count("pk"), most=Max("id")).order_by("integer")
        ),
        "annotated before": lambda rows: rows.annotate(more=F("integer") + 1).values("more", "char"),
        "annotation first": lambda rows: rows.values_list(Upper("char"), "id"),
        "expressions": lambda rows: rows.values("id", shouted=Upper("char")),
        "average": lambda rows: rows.values("parent_id").annotate(a=Avg("integer")).order_by("parent_id"),
        "distinct": lambda rows: rows.order_by("integer").values("integer").distinct(),
        "union": lambda rows: (
            rows.order_by()
            .values("integer", "char")
            .union(rows.order_by().values("integer", "char"))
            .order_by("integer", "char")
        ),
        "related": lambda rows: rows.values("id", "parent__name", "ticket__code"),
        "to many": lambda rows: rows.values("id", "parent__children__id").order_by("id", "parent__children__id"),
        "sliced": lambda rows: rows.values("id", "char")[3:6],
        "extra": lambda rows: rows.extra(select={"more": f"{INTEGER} + 1"}).values("char", "more"),
        "none": lambda rows: rows.none().values("id", "char"),
    }

    @pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
    def test_the_selection_is_written_as_a_loop_over_it_would(self, database, rows, form):
        header, *cells = table(form(rows))
        assert cells == [["" if value is None else str(value) for value in record] for record in lists(form(rows))]
        with counted(database) as queries:
            assert json.loads(written(form(rows), None, Json())) == [
                dict(zip(header, record, strict=True)) for record in lists(form(rows))
            ]
        assert len(queries) <= 2, "one of the export and one of the loop"

    @pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
    def test_a_callable_beside_it_changes_no_cell(self, rows, form):
        header, *cells = table(form(rows))
        columns = [*header, Column(len, header="width")]
        assert [record[:-1] for record in table(form(rows), columns)] == [header, *cells]

    @pytest.mark.parametrize("form", ["values", "values_list", "named", "annotated after"])
    def test_columns_can_be_left_out_and_turned_round(self, rows, form):
        header, *cells = table(self.FORMS[form](rows))
        assert table(self.FORMS[form](rows), header[::-1]) == [record[::-1] for record in [header, *cells]]
        assert table(self.FORMS[form](rows), header[:1]) == [record[:1] for record in [header, *cells]]

    def test_flat_values_are_a_column(self, rows):
        assert table(rows.values_list("char", flat=True))[1:] == [[record.char] for record in rows]
        assert table(rows.values_list("char", flat=True).distinct().order_by("char"))[1:] == [
            [f"c{n}"] for n in range(5)
        ]
        assert table(rows.dates("datetime", "year")) == [["datefield"], *([f"{2020 + n}-01-01"] for n in range(7))]

    def test_a_name_outside_the_selection_is_refused_with_close_ones(self, rows):
        with pytest.raises(ColumnError, match=r"unknown column 'intger' on .*: did you mean 'integer'"):
            stream(rows.values("integer", "char"), ["intger"])
        with pytest.raises(ColumnError, match="unknown column 'text'"):
            stream(rows.values("integer"), ["text"])


class TestAnnotations:
    def test_they_follow_the_fields_by_default(self, database, rows):
        counted = Parent.objects.using(database).annotate(n=Count("children"), loud=Upper("name")).order_by("pk")
        assert table(counted.defer("details"))[0] == ["id", "name", "n", "loud"]
        wanted = by_attributes(counted, "loud", "n", "label", "id")
        assert written(counted, ["loud", "n", "label", "id"]) == naive(["loud", "n", "label", "id"], wanted)
        assert written(counted, ["n", "id"]) == naive(["n", "id"], by_attributes(counted, "n", "id"))

    def test_annotations_of_many_kinds(self, rows):
        queryset = rows.annotate(
            joined=Concat("char", Value("-"), "char"),
            half=ExpressionWrapper(F("integer") / 2.0, output_field=FloatField()),
            day=TruncDate("datetime"),
            theirs=F("parent__name"),
        )
        names = ["joined", "half", "day", "theirs", "id"]
        assert written(queryset, names) == naive(names, by_attributes(queryset, *names))
        named = [*names, "shout"]
        assert written(queryset, named) == naive(named, by_attributes(queryset, *named))

    def test_extra_columns_are_columns(self, rows):
        queryset = rows.extra(select={"more": f"{INTEGER} + 1", "other": CHAR})
        names = ["char", "more", "id", "other"]
        assert written(queryset, names) == naive(names, by_attributes(queryset, *names))

    def test_a_key_of_a_document_is_the_same_value_in_every_lane(self, rows):
        queryset = rows.annotate(key=F("json__text"))
        expected = [{"key": record.json["text"]} for record in rows]
        double = Column(lambda record: record.integer, header="n")
        assert json.loads(written(queryset, ["key"], Json())) == expected
        assert [{"key": r["key"]} for r in json.loads(written(queryset, ["key", double], Json()))] == expected
        assert [r[:1] for r in table(queryset, ["key", double])] == table(queryset, ["key"])

    def test_aggregated_documents_are_documents(self, database, rows):
        if connections[database].vendor != "postgresql":
            pytest.skip("only PostgreSQL aggregates to JSON in Django 5.2")
        from django.contrib.postgres.aggregates import JSONBAgg  # noqa: PLC0415 (needs psycopg)

        queryset = (
            Parent.objects.using(database).annotate(kids=JSONBAgg("children__id", default=[])).order_by("pk")
        )
        got = json.loads(written(queryset, ["kids"], Json()))
        assert [sorted(map(str, r["kids"])) for r in got] == [sorted(map(str, r.kids)) for r in queryset]


PATHS = {
    "parent": "parent_id",
    "parent_id": "parent_id",
    "parent__id": "parent_id",
    "parent__pk": "parent_id",
    "parent__name": "parent.name",
    "ticket": "ticket_id",
    "ticket__pk": "ticket_id",
    "ticket__code": "ticket.code",
    "pk": "pk",
    "datetime__year": "datetime.year",
    "datetime__date": "datetime.date",
    "level": "level",
}
COMPUTED = {
    "shout": "shout",
    "parent__label": "parent.label",
    "parent__letters": "parent.letters",
    "get_level_display": "get_level_display",
}


class TestPaths:
    @pytest.mark.parametrize("name", PATHS)
    @pytest.mark.parametrize("with_computed", [False, True], ids=["tuples", "instances"])
    def test_fields_of_relations_and_transforms(self, database, rows, name, with_computed):
        columns = [name, "shout"] if with_computed else [name]
        paths = [PATHS[name], "shout"][: len(columns)]
        wanted = naive(columns, by_attributes(rows, *paths)).replace("\r\n\r\n", '\r\n""\r\n')
        with counted(database) as queries:
            assert written(rows, columns) == wanted
        assert len(queries) == 1

    @pytest.mark.parametrize("name", COMPUTED)
    def test_properties_and_methods_also_of_relations(self, database, rows, name):
        wanted = naive(["id", name], by_attributes(rows, "id", COMPUTED[name]))
        with counted(database) as queries:
            assert written(rows, ["id", name]) == wanted
        assert len(queries) == 1

    @pytest.mark.parametrize("name", ["everything", "everything__id", "everything__char", "everything__shout"])
    @pytest.mark.parametrize("with_computed", [False, True], ids=["tuples", "instances"])
    def test_the_far_end_of_a_one_to_one_relation(self, database, rows, name, with_computed):
        Ticket.objects.using(database).create(code="alone", id=UUID(int=999))
        tickets = Ticket.objects.using(database).order_by("id")
        columns = ["code", name, *([Column(lambda ticket: ticket.code * 2, header="twice")] * with_computed)]
        path = {"everything": "everything.pk"}.get(name, name.replace("__", "."))
        with counted(database) as queries:
            got = [record[:2] for record in table(tickets, columns)]
        assert len(queries) == 1
        wanted = [
            [ticket.code, "" if not hasattr(ticket, "everything") else str(by_attributes([ticket], path)[0][0])]
            for ticket in tickets
        ]
        assert got[1:] == wanted

    def test_one_field_can_be_two_columns(self, rows):
        day = Column("datetime", header="day", value=datetime.date)
        hour = Column("datetime", header="hour", value=lambda moment: moment.hour)
        for columns in ([day, "char", hour], [day, "shout", hour]):
            records = table(rows, columns)
            assert records[0][::2] == ["day", "hour"]
            assert [record[::2] for record in records[1:]] == [[str(r.datetime.date()), "8"] for r in rows]

    def test_a_document_can_be_two_columns(self, rows):
        columns = ["json", Column("json", header="again"), Column("json", header="size", value=len)]
        for more in ([], ["shout"]):
            for record in table(rows, [*columns, *more])[1:]:
                assert json.loads(record[0]) == json.loads(record[1])
                assert record[2] == "2"

    @pytest.mark.parametrize("with_computed", [False, True], ids=["tuples", "instances"])
    def test_keys_of_documents(self, database, rows, with_computed):
        columns = [
            "json__a__0__b",
            "json__text",
            "json__none",
            "parent__details__a__0",
            *["shout"] * with_computed,
        ]
        wanted = [
            [str(number), f"t{number}", "", "" if number % 3 == 0 else str(number % 3)]
            for number in range(len(rows))
        ]
        with counted(database) as queries:
            assert [record[:4] for record in table(rows, columns)[1:]] == wanted
        assert len(queries) == 1

    @pytest.mark.parametrize("with_computed", [False, True], ids=["tuples", "instances"])
    def test_null_in_a_document_is_told_from_no_document(self, rows, with_computed):
        columns = ["id", "json_or_null", *["shout"] * with_computed]
        assert [record[1] for record in table(rows, columns)[1:]] == ["", "null", '"text"', "5"] * 3
        assert [r["json_or_null"] for r in json.loads(written(rows, columns, Json()))] == [
            None,
            None,
            "text",
            5,
        ] * 3

    @pytest.mark.parametrize("with_computed", [False, True], ids=["tuples", "instances"])
    def test_files_are_their_names_and_choices_their_values(self, rows, with_computed):
        columns = ["file", "file_or_null", "level", *["shout"] * with_computed]
        for record, got in zip(rows, table(rows, columns)[1:], strict=True):
            assert got[:3] == [record.file.name, "", str(record.level)]

    def test_a_function_is_given_the_name_of_a_file_in_every_lane(self, rows):
        column = Column("file", value=lambda name: name.upper())
        assert [record[0] for record in table(rows, [column, "id"])] == [
            r[0] for r in table(rows, [column, "shout"])
        ]

    def test_what_a_function_reads_of_a_prefetched_relation_takes_no_queries_of_its_own(self, database, rows):
        parents = Parent.objects.using(database).order_by("pk")
        columns = ["name", Column(lambda parent: len(parent.children.all()), header="n")]
        for prefetch in ("children", Prefetch("children", Everything.objects.using(database).filter(integer=1))):
            queryset = parents.prefetch_related(prefetch)
            wanted = [[parent.name, len(parent.children.all())] for parent in queryset]
            with counted(database) as queries:
                assert written(queryset, columns) == naive(["name", "n"], wanted)
            assert len(queries) == 2

    @pytest.mark.parametrize(
        "form", [lambda q: q.only("char"), lambda q: q.defer("text"), lambda q: q.select_related()]
    )
    def test_what_the_queryset_leaves_out_takes_no_query_a_row(self, database, rows, form):
        columns = ["char", "shout", "parent__label", "ticket__code"]
        wanted = naive(columns, by_attributes(rows, "char", "shout", "parent.label", "ticket.code"))
        with counted(database) as queries:
            assert written(form(rows), columns) == wanted
        assert len(queries) <= 3, "one, and one for each relation"


class TestRefusals:
    @pytest.mark.parametrize("name", ["save", "delete", "asave", "parent__delete"])
    def test_what_alters_data_is_no_column(self, name):
        with pytest.raises(ColumnError, match="alters data"):
            stream(Everything.objects.all(), [name])

    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("chr", "'char'"),
            ("parent__nme", "'name'"),
            ("prent__name", "'parent'"),
            ("datetime__yaer", "'year'"),
            ("shuot", "'shout'"),
            ("objects", "choose from: "),
            ("zzzzz", "choose from: "),
        ],
    )
    def test_an_unknown_name_is_refused_with_close_ones(self, name, hint):
        for columns in ([name], [name, lambda record: record]):
            with pytest.raises(ColumnError, match=hint):
                stream(Everything.objects.all(), [Column(c, header="x") for c in columns])


class TestSecrets:
    def test_passwords_are_left_out_of_defaults_and_can_be_named(self, database):
        User.objects.using(database).create(username="ann", password="md5$hash")
        users = User.objects.using(database)
        for source in (users.all(), users.values(), users.only("id", "username", "password")):
            assert "password" not in table(source)[0]
            assert "username" in table(source)[0]
            assert "hash" not in written(source, None, Json())
        assert table(users.all(), ["username", "password"])[1] == ["ann", "md5$hash"]
        assert table(users.values("password"))[1] == ["md5$hash"]

    def test_so_are_the_fields_that_the_setting_names(self, database):
        Secretive.objects.using(database).create(name="a", password="p", api_token="t")
        queryset = Secretive.objects.using(database)
        assert table(queryset)[0] == ["id", "name"]
        with override_settings(UPSTREAM_SENSITIVE_FIELDS=["name"]):
            for source in (queryset.all(), queryset.values(), list(queryset.all())):
                assert table(source)[0] == ["id"]
            raw = Secretive.objects.raw("SELECT * FROM fieldtypes_secretive", using=database)
            assert table(raw)[0] == ["id"]
            assert table(queryset, ["api_token"])[1] == ["t"]

    def test_a_relation_that_the_setting_names_is_left_out_by_its_column_too(self, rows):
        with override_settings(UPSTREAM_SENSITIVE_FIELDS=["parent"]):
            for source in (rows, rows.values(), rows.values_list()):
                assert "parent_id" not in table(source)[0]

    @pytest.mark.parametrize(
        "alias",
        [
            F("password"),
            Upper("password"),
            Concat("username", Value(":"), "password"),
            Coalesce(NullIf("password", Value("")), Value("none")),
            Case(When(is_active=True, then=F("password")), default=Value("")),
            Cast("password", CharField()),
            Subquery(User.objects.filter(pk=OuterRef("pk")).values("password")[:1]),
            Subquery(User.objects.filter(pk=OuterRef("pk")).annotate(a=F("password")).values("a")[:1]),
        ],
        ids=["F", "Upper", "Concat", "Coalesce", "Case", "Cast", "Subquery", "Subquery of an annotation"],
    )
    def test_so_is_a_text_that_is_made_of_one(self, database, alias):
        User.objects.using(database).create(username="ann", password="md5$hash")
        users = User.objects.using(database).annotate(alias=alias)
        for source in (users.all(), users.values(), users.values_list(), users.only("id")):
            assert "alias" not in table(source)[0]
            assert "hash" not in written(source, None, Json()).lower()
            assert "alias" in plan(source).left_out
        assert "hash" in table(users, ["alias"])[1][0].lower()
        assert "hash" in table(users.values("alias"))[1][0].lower()

    @pytest.mark.parametrize(
        "alias", [F("username"), Upper("email"), Length("password"), Q(password=""), Count("password"), Value("x")]
    )
    def test_what_only_tells_of_one_stays(self, database, alias):
        User.objects.using(database).create(username="ann")
        assert table(User.objects.using(database).annotate(alias=alias))[0][-1] == "alias"

    def test_an_alias_that_the_setting_names_is_left_out(self, database):
        users = User.objects.using(database).annotate(alias=F("username"))
        with override_settings(UPSTREAM_SENSITIVE_FIELDS=["alias"]):
            assert "alias" not in table(users)[0]

    def test_a_key_that_opens_something_is_one_under_an_alias_too(self, database):
        visits = Visit.objects.using(database).annotate(
            opened=F("access"), by=F("access__key"), kind=F("access__token_type")
        )
        assert table(visits)[0] == ["id", "pages", "kind"]

    def test_the_guide_names_every_secret(self):
        guide = Path(__file__).resolve().parent.parent / "upstream" / "streaming" / "README.md"
        words = set(re.findall(r"`(\w+)`", guide.read_text()))
        assert {*SECRETS, *OWNERS} <= words

    def test_the_plan_says_what_is_left_out(self, database):
        users = User.objects.using(database)
        assert plan(users).left_out == plan(users.values()).left_out == ("password",)
        assert "left out:    password (sensitive; columns may name them)" in str(plan(users))
        for named in (plan(users, ["password"]), plan(users.values("password")), plan(users.only("username"))):
            assert named.left_out == ()
            assert "left out" not in str(named)
        assert plan(Session.objects.using(database)).left_out == ("session_key", "session_data")
        assert plan([{"password": "x"}]).left_out == ()


class TestRawQueries:
    def raw(self, database, sql, params=()):
        return Everything.objects.raw(sql, params, using=database)

    def test_fields_annotations_and_relations(self, database, rows):
        raw = self.raw(
            database,
            f"SELECT id, {CHAR}, parent_id, {INTEGER} * 2 AS twice FROM fieldtypes_everything "
            f"WHERE {INTEGER} = %s ORDER BY id",
            [1],
        )
        wanted = [[r.id, r.char, r.parent_id, r.integer * 2] for r in rows.filter(integer=1)]
        assert written(raw) == naive(["id", "char", "parent_id", "twice"], wanted)
        with counted(database) as queries:
            records = table(raw, ["twice", "parent__label"])
        assert records[1:] == [["2", "" if r.parent is None else r.parent.label] for r in rows.filter(integer=1)]
        assert len(queries) == 2

    def test_parameters_may_have_names(self, database, rows):
        sql = f"SELECT * FROM fieldtypes_everything WHERE {INTEGER} = %(n)s ORDER BY id"
        raw = self.raw(database, sql, {"n": 2})
        assert written(raw, FEW) == few(rows.filter(integer=2))

    def test_a_column_that_it_does_not_select_is_refused(self, database, rows):
        raw = self.raw(database, "SELECT id FROM fieldtypes_everything")
        with pytest.raises(ColumnError, match="does not select 'char'"):
            written(raw, ["char"])
        with pytest.raises(ColumnError, match="did you mean 'char'"):
            stream(raw, ["chr"]) and written(raw, ["chr"])

    def test_after_a_refusal_nothing_of_it_stays_open(self, database, rows):
        if connections[database].vendor != "postgresql":
            pytest.skip("only PostgreSQL tells its cursors")
        raw = self.raw(database, "SELECT id FROM fieldtypes_everything")
        with pytest.raises(ColumnError) as refused:
            written(raw, ["char"])
        with connections[database].cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_cursors WHERE name <> ''")
            assert cursor.fetchone() == (0,), refused

    def test_no_rows_give_a_header(self, database):
        raw = self.raw(database, f"SELECT id, {CHAR} FROM fieldtypes_everything WHERE id < 0")
        assert written(raw) == "id,char\r\n"
        assert written(raw, None, Json()) == "[]"


class TestLanes:
    """Tuples and instances: the same columns give the same cells."""

    NAMES = [f.attname for f in Everything._meta.concrete_fields]
    MORE = ["parent__name", "ticket__code", "parent__details", "datetime__year", "date__month"]

    @settings(max_examples=15)
    @given(st.data())
    def test_a_computed_column_changes_no_other_cell(self, database, data):
        drawn = data.draw(everything(connections[database].vendor))
        columns = [*self.NAMES, *self.MORE]
        computed = Column(lambda record: record.pk, header="computed")
        with transaction.atomic(using=database):
            queryset = store(drawn, database)
            assert plan(queryset, columns).lane != "python"
            assert "instances" in plan(queryset, [*columns, computed]).reason
            tuples = table(queryset, columns)
            instances = table(queryset, [*columns, computed])
            records = json.loads(written(queryset, [*columns, computed], Json()))
            assert json.loads(written(queryset, columns, Json())) == [
                {name: value for name, value in record.items() if name != "computed"} for record in records
            ]
            transaction.set_rollback(True, using=database)
        assert tuples == [record[:-1] for record in instances]


def test_the_query_asks_for_no_more_than_the_columns(rows):
    assert '"text"' not in plan(rows, ["id", "char"]).sql
    assert '"text"' not in plan(rows, ["id", "parent__label"]).sql
    assert plan(rows.none(), ["id"]).sql == ""


def test_json_output_of_an_expression_is_json(rows):
    queryset = rows.annotate(document=ExpressionWrapper(F("json"), output_field=JSONField()))
    assert [json.loads(cell) for [cell] in table(queryset, ["document"])[1:]] == [r.json for r in rows]


@pytest.mark.django_db(databases=["postgresql"], transaction=True)
def test_the_snapshot_is_read_only_and_ends():
    if "postgresql" not in connections.databases:
        pytest.skip("there is no PostgreSQL")
    connection = connections["postgresql"]
    context = copy_context()
    context.run(is_exporting.set, True)
    context.run(_check_snapshot, connection)
    with connection.cursor() as cursor:
        cursor.execute("SHOW cursor_tuple_fraction")
        assert cursor.fetchone() == ("0.1",)
    assert connection.get_autocommit()


def _check_snapshot(connection):
    with snapshot("postgresql"), connection.cursor() as cursor:
        for name, value in (("transaction_isolation", "repeatable read"), ("transaction_read_only", "on")):
            cursor.execute(f"SHOW {name}")
            assert cursor.fetchone() == (value,)
