"""Views that export what they list: what a user may choose, who may, and what is told of it."""

import json
import socket
from contextlib import closing, nullcontext
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import django_filters
import pytest
from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db import DatabaseError, DataError, connection, connections, transaction
from django.db.models import Count, IntegerField
from django.db.models.functions import Cast
from django.http import HttpResponse, QueryDict
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.http import urlencode
from django.views.generic import ListView
from django_filters.views import FilterView
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.asking import NAMES, Told, ask, close_answers, refused, rows, text
from tests.fieldtypes.making import make
from tests.fieldtypes.models import Everything, Living, Parent, Secretive
from tests.orders.models import Item, Label, Order
from upstream.integrations.filters import parse_filter
from upstream.integrations.formats import FORMATS, Format
from upstream.integrations.signals import export_finished, export_started
from upstream.integrations.views import ExportMixin, ExportView
from upstream.models import Customer
from upstream.streaming import Column, ColumnError, Csv

pytestmark = pytest.mark.usefixtures("answers")

FIELDS = ["report_runs", "customer", "id", "name", "password", "pk", "_state", "objects", "_connector"]
LOOKUPS = ["startswith", "gt", "isnull", "regex", "in", "date", "id"]
NAMES_OF_MANY_KINDS = st.one_of(
    st.text(st.characters(exclude_characters=",", exclude_categories=["Cs"])),
    st.lists(st.sampled_from(FIELDS + LOOKUPS), min_size=2, max_size=4).map("__".join),
)


class Customers(ExportView):
    model = Customer
    permission = None
    columns = (
        "id",
        Column("name", header="Name", value=str.upper),
        Column(lambda c: len(c.name), header="Length"),
    )
    ordering_fields = {"name": "name", "number": "id"}
    filter_fields = {"after": "name__gt", "name": "name"}


@pytest.mark.usefixtures("customers")
class TestChoices:
    def test_all_declared_columns_are_exported_by_default(self):
        header, *found = rows(ask(Customers))
        assert header == ["id", "Name", "Length"]
        assert [row[1:] for row in found] == [[name.upper(), str(len(name))] for name in NAMES]

    @pytest.mark.parametrize("query", ["?columns=length,name", "?columns=length&columns=name"])
    def test_columns_come_as_they_are_chosen(self, query):
        assert rows(ask(Customers, query)) == [
            ["Length", "Name"],
            *([str(len(name)), name.upper()] for name in NAMES),
        ]

    def test_columns_of_a_mapping_are_chosen_by_its_names(self):
        class Named(Customers):
            columns = {"customer": Column("name", header="Customer"), "key": "id"}

        assert rows(ask(Named, "?columns=customer"))[0] == ["Customer"]
        assert "choose from: customer, key" in refused(ask(Named, "?columns=name"))

    def test_columns_that_are_not_declared_are_those_of_the_source(self):
        class Plain(Customers):
            columns = None
            queryset = Customer.objects.annotate(events=Count("drift_events"))

        assert rows(ask(Plain))[0] == ["id", "name", "events"]
        assert rows(ask(Plain, "?columns=events"))[0] == ["events"]

    @pytest.mark.parametrize(
        "name",
        ["report_runs__status", "name__contains", "pk", "_state", "__class__", "objects", "Name", "'", "a\x00b"],
    )
    @pytest.mark.parametrize("parameter", ["columns", "order_by"])
    def test_what_was_not_declared_is_a_400_that_lists_what_was_and_no_query(self, parameter, name):
        with CaptureQueriesContext(connection) as queries:
            words = refused(ask(Customers, f"?{parameter}={name}"))
        assert "choose from: " in words
        assert {"columns": "id, name, length", "order_by": "name, number"}[parameter] in words
        assert not queries

    @given(st.sampled_from(["columns", "order_by", "format"]), NAMES_OF_MANY_KINDS)
    def test_whatever_was_not_declared_reaches_no_query(self, parameter, name):
        assume(name.strip().removeprefix("-") not in {"", "id", "name", "length", "number", *FORMATS})
        with CaptureQueriesContext(connection) as queries:
            answer = ask(Customers, f"?{urlencode({parameter: name})}")
        close_answers()
        assert answer.status_code == 400
        assert not queries

    def test_a_parameter_that_was_not_declared_is_a_400(self):
        words = refused(ask(Customers, "?nmae=Cigna"))
        assert "'nmae'; choose from: format, columns, order_by, after, name" in words

    @pytest.mark.parametrize(
        ("query", "expected"),
        [("-name", NAMES[::-1]), ("name", NAMES), ("-number", NAMES[::-1]), ("name,-number", NAMES)],
    )
    def test_rows_come_in_a_declared_order(self, query, expected):
        assert [row[0] for row in rows(ask(Customers, f"?columns=name&order_by={query}"))[1:]] == [
            name.upper() for name in expected
        ]

    @pytest.mark.parametrize(
        ("query", "expected"),
        [("?after=Aetna", ["CIGNA", "HUMANA"]), ("?name=Cigna", ["CIGNA"]), ("?name=Cigna&name=Aetna", [])],
    )
    def test_rows_are_those_of_the_declared_filters(self, query, expected):
        assert [row[0] for row in rows(ask(Customers, f"{query}&columns=name"))[1:]] == expected

    def test_a_value_that_a_filter_cannot_read_is_a_400(self):
        class Filtered(Customers):
            filter_fields = {"key": "id"}

        assert refused(ask(Filtered, "?key=abc")) == "key: “abc” value must be an integer.\n"

    def test_two_columns_of_one_name_are_told_to_the_developer(self):
        class Twice(Customers):
            columns = ("name", Column("name", header="Again"))

        with pytest.raises(ImproperlyConfigured, match="mapping"):
            ask(Twice)


@pytest.mark.usefixtures("customers")
class TestFormats:
    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("csv", "text/csv; charset=utf-8"),
            ("tsv", "text/tab-separated-values; charset=utf-8"),
            ("json", "application/json"),
            ("ndjson", "application/x-ndjson"),
        ],
    )
    def test_format_is_chosen_by_its_name_or_by_accept(self, name, kind):
        by_name = ask(Customers, f"?format={name}&columns=name")
        by_accept = ask(Customers, "?columns=name", headers={"Accept": kind.partition(";")[0]})
        for response in (by_name, by_accept):
            assert response["Content-Type"] == kind
            assert response["Content-Disposition"] == f'attachment; filename="customer.{name}"'
        assert text(by_name) == text(by_accept)

    def test_rows_are_the_same_in_every_format(self):
        expected = [{"Name": name.upper()} for name in NAMES]
        assert json.loads(text(ask(Customers, "?format=json&columns=name"))) == expected
        lines = text(ask(Customers, "?format=ndjson&columns=name")).splitlines()
        assert [json.loads(line) for line in lines] == expected

    def test_unknown_format_is_a_400_that_lists_the_known(self):
        assert "choose from: csv, tsv, json, ndjson, xlsx" in refused(ask(Customers, "?format=xls"))

    def test_format_that_accept_does_not_allow_is_a_406(self):
        assert "text/csv" in refused(ask(Customers, headers={"Accept": "image/png"}), 406)

    @pytest.mark.parametrize("accept", ["*/*", "text/html,*/*;q=0.8", "text/*"])
    def test_browsers_get_the_first_format(self, accept):
        with_accept = ask(Customers, headers={"Accept": accept})
        assert with_accept["Content-Type"].startswith("text/csv")
        assert "Accept" in with_accept["Vary"]
        with_accept.close()

    def test_formats_of_ones_own_stand_beside_those_of_the_package(self):
        class Own(Customers):
            formats = ("json", Format("psv", "Pipes", Csv(delimiter="|")))

        response = ask(Own, "?format=psv&columns=name,length")
        assert response["Content-Disposition"] == 'attachment; filename="customer.csv"'
        assert text(response).startswith("Name|Length\r\n")

    def test_profile_is_that_of_the_view(self):
        class ForPeople(Customers):
            profile = "excel"

        assert text(ask(ForPeople)).startswith('\ufeff"ID",Name,Length\r\n')

    def test_a_view_for_people_has_labels_local_times_and_joined_lists(self, db):
        order = Order.objects.create(number=1)
        order.labels.set([Label.objects.create(word="new"), Label.objects.create(word="paid")])
        Item.objects.create(order=order, sku="7", kind="b", sold_at=datetime(2026, 1, 31, 23, tzinfo=UTC))

        class ForPeople(ExportView):
            model = Item
            permission = None
            profile = "excel"
            columns = ["kind", "sold_at", "order__labels__word", Column("sku", header="No.")]

        for_data = type("ForData", (ForPeople,), {"profile": "data"})
        with timezone.override(ZoneInfo("Europe/Rome")):
            header, row = rows(ask(ForPeople))
            names, data = rows(ask(for_data))
        assert header == ["\ufeffKind", "Sold at", "Order labels word", "No."]
        assert row == ["A book", "2026-02-01 00:00:00", "new, paid", "7"]
        assert names == ["kind", "sold_at", "order__labels__word", "No."]
        assert data == ["b", "2026-01-31 23:00:00+00:00", '["new","paid"]', "7"]


@pytest.mark.usefixtures("customers")
class TestComposition:
    def test_a_list_view_lists_and_exports(self):
        class Listed(ExportMixin, ListView):
            model = Customer
            permission = None

            def render_to_response(self, context, **kwargs):
                return HttpResponse(f"{len(context['object_list'])} customers")

        assert text(ask(Listed)) == "3 customers"
        assert len(rows(ask(Listed, "?format=csv"))) == 4

    def test_login_required_comes_first(self, django_user_model):
        class Private(LoginRequiredMixin, Customers):
            pass

        assert ask(Private).status_code == 302
        assert ask(Private, user=django_user_model.objects.create(username="a")).status_code == 200

    def test_a_filter_view_exports_what_it_filters(self):
        class CustomerFilter(django_filters.FilterSet):
            class Meta:
                model = Customer
                fields = {"name": ["startswith"], "id": ["exact"]}

        class Filtered(ExportMixin, FilterView):
            filterset_class = CustomerFilter
            permission = None

        assert [row[1] for row in rows(ask(Filtered, "?format=csv&name__startswith=C"))] == ["name", "Cigna"]
        assert "id" in refused(ask(Filtered, "?format=csv&id=abc"))

    def test_an_iterable_is_exported_too(self):
        class Numbers(ExportView):
            permission = None
            filename = "numbers"

            def get_queryset(self):
                return ({"n": n} for n in range(3))

        response = ask(Numbers, "?format=csv")
        assert response["Content-Disposition"] == 'attachment; filename="numbers.csv"'
        assert rows(response) == [["n"], ["0"], ["1"], ["2"]]
        assert "not known beforehand" in refused(ask(Numbers, "?columns=n"))

    def test_secrets_are_left_out_unless_they_are_declared(self, django_user_model):
        django_user_model.objects.create(username="a", password="hash")

        class Users(ExportView):
            model = User
            permission = None

        assert "password" not in rows(ask(Users))[0]
        assert "choose from: " in refused(ask(Users, "?columns=password"))


class TestPermission:
    @pytest.mark.parametrize(
        ("who", "status"),
        [("anonymous", 302), ("staff", 403), ("view", 403), ("export", 200), ("superuser", 200)],
    )
    def test_only_who_may_export_the_model_may(self, visitors, who, status, client):
        class Guarded(Customers):
            permission = "export"

        if status == 403:
            with pytest.raises(PermissionDenied):
                ask(Guarded, user=visitors[who])
        else:
            assert ask(Guarded, user=visitors[who]).status_code == status

    def test_who_may_not_is_not_told_what_is_declared(self, visitors):
        class Guarded(Customers):
            permission = "export"

        assert ask(Guarded, "?unknown=1", user=visitors["anonymous"]).status_code == 302

    def test_a_permission_of_ones_own_can_be_named(self, visitors):
        class Viewed(Customers):
            permission = "upstream.view_customer"

        assert ask(Viewed, user=visitors["view"]).status_code == 200

    def test_an_export_of_no_model_has_to_name_its_permission(self, visitors):
        class Numbers(ExportView):
            def get_queryset(self):
                return [{"n": 1}]

        with pytest.raises(ImproperlyConfigured, match="permission = "):
            ask(Numbers, user=visitors["staff"])


def failing_rows():
    yield {"n": 1}
    raise ZeroDivisionError


def breaking_later():
    yield from ({"n": n} for n in range(5000))
    raise ZeroDivisionError


class TestSignals:
    def view(self, rows, **attributes):
        members = {"permission": None, "formats": ("csv",), "get_queryset": lambda self: rows, **attributes}
        return type("Exported", (ExportView,), members)

    def test_a_whole_download_is_told_with_its_rows_and_bytes(self):
        view = self.view([{"n": n} for n in range(25)])
        with Told(view) as told:
            size = len(text(ask(view)))
        (first, started), (last, finished) = told
        assert (first, last) == ("started", "finished")
        assert started["filename"] == finished["filename"] == "export.csv"
        assert started["request"] is finished["request"]
        assert finished["outcome"] == "complete"
        assert (finished["rows"], finished["bytes"], finished["error"]) == (25, size, None)
        assert finished["seconds"] > 0

    @pytest.mark.parametrize("spool", [False, True], ids=["live", "spooled"])
    def test_a_reader_that_goes_is_told_as_aborted(self, spool):
        view = self.view(({"n": n} for n in range(50_000)), spool=spool)
        with Told(view) as told:
            response = ask(view)
            read = len(next(iter(response)))
            response.close()
            response.close()
        [_, (name, details)] = told
        assert name == "failed"
        assert (details["outcome"], details["error"], details["bytes"]) == ("aborted", None, read)

    @pytest.mark.parametrize("spool", [False, True], ids=["live", "spooled"])
    def test_a_response_that_nobody_read_is_told_as_aborted(self, spool):
        view = self.view([{"n": 1}], spool=spool)
        with Told(view) as told:
            ask(view).close()
        assert [(name, details.get("outcome")) for name, details in told] == [
            ("started", None),
            ("failed", "aborted"),
        ]

    def test_an_error_midway_is_told_with_what_was_sent(self):
        view = self.view(breaking_later(), spool=False)
        with Told(view) as told, pytest.raises(ZeroDivisionError):
            ask(view).getvalue()
        [_, (name, details)] = told
        assert (name, details["outcome"], type(details["error"])) == ("failed", "failed", ZeroDivisionError)
        assert details["rows"] > 0
        assert details["bytes"] > 0

    def test_an_error_before_the_first_byte_is_told_and_raised(self):
        view = self.view(failing_rows(), spool=True)
        with Told(view) as told, pytest.raises(ZeroDivisionError):
            ask(view)
        [_, (name, details)] = told
        assert (name, details["outcome"], details["rows"], details["bytes"]) == ("failed", "failed", 0, 0)

    def test_a_receiver_that_fails_changes_nothing(self):
        view = self.view([{"n": 1}])

        def fail(**_):
            raise ValueError("the receiver")

        export_started.connect(fail, sender=view)
        export_finished.connect(fail, sender=view)
        assert text(ask(view)) == "n\r\n1\r\n"

    def test_head_is_no_download(self):
        view = self.view(failing_rows())
        with Told(view) as told:
            response = ask(view, method="head")
        assert response["Content-Disposition"] == 'attachment; filename="export.csv"'
        assert response.getvalue() == b""
        assert told == []


def test_head_asks_the_database_nothing(db):
    with CaptureQueriesContext(connection) as queries:
        response = ask(Customers, method="head")
    assert response["Content-Disposition"] == 'attachment; filename="customer.csv"'
    assert not queries


@pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
def test_only_reading_is_allowed(method):
    assert ask(Customers, method=method).status_code == 405


GUNICORN = {
    "SERVER_NAME": "example.com",
    "SERVER_SOFTWARE": "gunicorn/27.0.1",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "gunicorn.socket": socket.socket.__new__(socket.socket),
}


class TestParameterNamedFormat:
    """The view has a use of its own for the parameter."""

    @pytest.fixture
    def view(self, customers):
        class CustomerFilter(django_filters.FilterSet):
            format = django_filters.CharFilter(field_name="name")

        class Filtered(ExportMixin, FilterView):
            queryset = Customer.objects.order_by("id")
            filterset_class = CustomerFilter
            permission = None

            def render_to_response(self, context, **_):
                return HttpResponse(" ".join(row.name for row in context["object_list"]))

        return Filtered

    @pytest.mark.parametrize(("query", "shown"), [("?format=Cigna", ["Cigna"]), ("?format=", NAMES)])
    def test_a_filter_of_that_name_stays_one(self, view, query, shown):
        assert ask(view, query).content.decode().split() == shown

    def test_formats_are_still_asked_for_by_it(self, view):
        view.columns = ["name"]
        assert ask(view, "?format=csv").status_code == 200

    def test_another_name_can_be_chosen(self, view):
        view.format_parameter, view.columns = "as", ["name"]
        assert text(ask(view, "?format=Cigna&as=csv")) == "name\r\nCigna\r\n"
        assert ask(view, "?format=csv").content == b""
        assert "unknown as 'xml'" in refused(ask(view, "?as=xml"))

    def test_a_view_that_only_exports_knows_it_by_that_name(self, customers):
        view = type("Named", (Customers,), {"format_parameter": "as"})
        assert len(rows(ask(view, "?as=csv"))) == 4
        assert "unknown parameter 'format'" in refused(ask(view, "?format=csv"))


class TestDelivery:
    @pytest.mark.parametrize(
        ("environ", "spooled"),
        [
            ({}, False),  # Django's test client
            ({"SERVER_PROTOCOL": "HTTP/1.0"}, True),
            (GUNICORN, False),
            ({**GUNICORN, "SERVER_PROTOCOL": "HTTP/1.0"}, True),
            ({**GUNICORN, "SERVER_SOFTWARE": "gunicorn/26.1.0"}, True),
            ({**GUNICORN, "gunicorn.socket": object()}, True),  # as under gevent
            ({**GUNICORN, "SERVER_SOFTWARE": "WSGIServer/0.2"}, True),
            ({**GUNICORN, "SERVER_SOFTWARE": "Granian"}, True),
            ({**GUNICORN, "SERVER_SOFTWARE": "Apache/2.4.62 (Debian)"}, True),
            ({**GUNICORN, "SERVER_SOFTWARE": "waitress"}, True),
            ({**GUNICORN, "SERVER_SOFTWARE": "Cheroot/11.1.2 Server"}, True),
            ({"SERVER_NAME": "example.com"}, True),  # as by uWSGI, which does not tell its name
        ],
    )
    def test_a_download_is_live_only_on_servers_whose_breaks_are_proven_to_show(self, customers, environ, spooled):
        with_environ = ask(Customers, **environ)
        assert ("Content-Length" in with_environ) == spooled
        assert len(rows(with_environ)) == 4

    def test_it_can_be_decided(self, customers):
        class Spooled(Customers):
            spool = True

        response = ask(Spooled)
        assert int(response["Content-Length"]) == len(response.getvalue())

    def test_a_transaction_around_the_view_makes_it_spooled(self, transactional_database):
        class Parents(ExportView):
            queryset = Parent.objects.using(transactional_database)
            permission = None

        with transaction.atomic(using=transactional_database):
            response = ask(Parents)
            response.close()
        is_postgresql = connections[transactional_database].vendor == "postgresql"
        assert ("Content-Length" in response) == is_postgresql


# One path for each kind of field, and lookups that read values in their own ways.
PATHS = (
    *("char", "char__icontains", "char__regex", "char__length", "text__in", "slug__iexact", "boolean", "integer"),
    *(
        "integer__in",
        "integer__range",
        "big_integer__gte",
        "floating__lt",
        "decimal",
        "decimal__in",
        "decimal__range",
    ),
    *(
        "date",
        "date__year",
        "date__week_day__in",
        "time__gte",
        "datetime",
        "datetime__date",
        "datetime__year__lte",
    ),
    *("datetime__range", "duration__gt", "uuid__in", "binary", "json", "json__a", "json__a__gt", "json__has_key"),
    *(
        "json__has_keys",
        "json__contains",
        "json__contained_by",
        "json__a__regex",
        "ip_address",
        "level",
        "file",
        "pk",
    ),
    *("parent", "parent__in", "parent__name", "parent__details__a", "parent__isnull", "parent__children__integer"),
    *("ticket", "ticket__code__startswith", "next_integer__range"),
)
VALUES = (
    *("", " ", "x", "\x00", "a\x00b", "\ud800", "9" * 30, "-" + "9" * 30, "9" * 5000, "1e400", "-1e400", "nan"),
    *(
        "1e999999999",
        "-1e-999999999",
        "1,1e999999999",
        "1e99999999999999999999",
        "sNaN",
        "Infinity",
        "1_0",
        "٣",
        "0x1",
    ),
    *(",", "1,2", "1,2,3", "0001-01-01", "9999-12-31", "0000-00-00", "10000-01-01", "0001-01-01T00:00:00+14:00"),
    *("9999-12-31T23:59:59-14:00", "25:00", "999999999999 days", "P99999999999999D", "999999999 days"),
    *("[", "(", "*", "(a+)+$", "a{2,1}", "\\", "{", "[" * 3000 + "]" * 3000, '{"a":' * 2000 + "1" + "}" * 2000),
    *('"\\ud800"', '"\\u0000"', '{"a": "\\u0000"}', '["\\u0000"]', "null", "[1, 2]", '{"a": 1e400}', "[NaN]"),
    *("1.2.3.4/33", "fe80::1%eth0", "%", "_", "'", "a" * 3000, "1" * 200_000, ",".join(map(str, range(1200)))),
)


class TestValues:
    @pytest.fixture
    def view(self, database):
        parent = Parent.objects.using(database).create(name="p", details={"a": 1})
        make(database, "a", integer=1, json={"a": "b"}, parent=parent)

        class Everythings(ExportView):
            queryset = Everything.objects.using(database)
            columns = ("id",)
            permission = None
            filter_fields = PATHS

        return Everythings

    def ask(self, view, **values):
        """Put values to a view as they are, whatever a URL could say; return its status and text."""
        request = RequestFactory().get("/")
        request.GET = QueryDict(mutable=True)
        request.GET.update(values)
        alias = view.queryset.db
        with transaction.atomic(using=alias):
            with closing(view.as_view()(request)) as answer:
                answered = answer.status_code, answer.getvalue().decode()
            transaction.set_rollback(True, using=alias)  # a failed query aborts PostgreSQL's transaction
        return answered

    @pytest.mark.parametrize("path", PATHS)
    def test_any_value_of_a_filter_is_rows_or_a_400(self, view, path):
        statuses = {value: self.ask(view, **{path: value})[0] for value in VALUES}
        assert {value: status for value, status in statuses.items() if status not in (200, 400)} == {}

    @pytest.mark.parametrize(
        ("path", "value", "words"),
        [
            ("decimal", "1e999999999", "more than 1,000 digits"),
            ("decimal__in", "1,-1e-999999999", "more than 1,000 digits"),
            ("floating__lt", "1e400", "not a finite number"),
            ("big_integer__gte", "x", "must be an integer"),
            ("integer__in", "9" * 30, "too large"),
            ("duration__gt", "999999999999 days", "out of range"),
            ("char", "a\x00", "NUL"),
            ("char", "\ud800", "surrogate"),
            ("char", "a" * 200_000, "longer than"),
            ("json", "[" * 3000 + "]" * 3000, "levels deep"),
            ("json__a", '"\\u0000"', "NUL"),
            ("date", "x" * 50_000, "..."),
        ],
    )
    def test_the_400_names_the_filter_and_says_why(self, view, path, value, words):
        status, text = self.ask(view, **{path: value})
        assert status == 400
        assert words in text
        assert len(text) < 300

    def test_a_filter_costs_no_query_of_its_own(self, view):
        with CaptureQueriesContext(connections[view.queryset.db]) as queries:
            assert self.ask(view, integer__in="1", json__a="b")[1] == "id\r\n" + f"{view.queryset.get().pk}\r\n"
        assert len([query for query in queries if "WHERE" in query["sql"]]) == 1

    def test_an_error_that_comes_without_the_filter_too_stays_what_it_is(self, view):
        class Broken(view):
            queryset = view.queryset.extra(where=["no_such_column = 1"])

        with pytest.raises(DatabaseError, match="no_such_column"):
            self.ask(Broken, integer="1")

    def test_an_error_of_a_view_without_filters_stays_what_it_is(self, view):
        class Broken(view):
            queryset = view.queryset.annotate(x=Cast("text", IntegerField())).filter(x=0)

        if connections[Broken.queryset.db].vendor != "postgresql":
            pytest.skip("other databases take any text for a number")
        with pytest.raises(DataError):
            self.ask(Broken)

    def test_an_error_of_a_column_stays_what_it_is(self, view):
        class Broken(view):
            columns = (Column(lambda row: row.integer / 0, header="x"),)

        with pytest.raises(ZeroDivisionError):
            self.ask(Broken, integer="1")

    def test_the_error_of_a_filter_set_is_a_400_too(self, view):
        class Filters(django_filters.FilterSet):
            pattern = django_filters.CharFilter(field_name="char", lookup_expr="regex")

        class Filtered(ExportMixin, FilterView):
            queryset = view.queryset
            filterset_class = Filters
            columns = ("id",)
            permission = None

        assert self.ask(Filtered, format="csv", pattern="a")[0] == 200
        status, text = self.ask(Filtered, format="csv", pattern="(")
        assert (status, text.partition(":")[0]) == (400, "the database cannot take a value of the filters")


@pytest.mark.skipif(connections["default"].vendor != "sqlite", reason="other databases match patterns themselves")
@pytest.mark.parametrize(
    ("pattern", "is_taken"),
    [
        *[
            ("^a.*b.+c$", True),
            ("(a|b)c", True),
            (r"a\+\*\?b(?:c)[*+?]", True),
            ("(?i)a*?", True),
            ("x{2,3}", True),
        ],
        *[("(a+)+$", False), ("(a|a)*", False), ("(a?){30}", False), ("a*a*a*b", False), ("a?a?a?", False)],
        *[("(?:a*?)+?", False), ("(a)?", False), ("(a|a)" * 30 + "b", False)],
    ],
)
def test_on_sqlite_a_pattern_repeats_no_group_and_few_characters(pattern, is_taken):
    with nullcontext() if is_taken else pytest.raises(ColumnError, match="SQLite"):
        parse_filter(Parent, f"name__regex={pattern}")


class TestManagers:
    @pytest.fixture
    def living(self, db):
        for name in ("here", "gone"):
            parent = Parent.objects.create(name=name)
            make("default", name, parent=parent, integer=7)

    @pytest.mark.parametrize(
        ("rows_of", "expected"),
        [(Living.objects, ["here"]), (Living.everyone, ["gone", "here"])],
        ids=["hiding", "showing"],
    )
    @pytest.mark.parametrize("query", ["", "?child=7", "?child=7&name=e"])
    def test_a_filter_shows_what_the_views_own_queryset_shows(self, living, rows_of, expected, query):
        class Parents(ExportView):
            queryset = rows_of.order_by("name")
            columns = ("name",)
            permission = None
            filter_fields = {"child": "children__integer", "name": "name__contains"}

        assert [name for [name] in rows(ask(Parents, query))[1:]] == expected


@pytest.mark.usefixtures("db")
class TestSecrets:
    @pytest.mark.parametrize("sign", ["", "-"])
    @pytest.mark.parametrize("names", [["api_token"], {"public": "api_token"}])
    def test_a_sensitive_field_orders_nothing_under_any_name(self, names, sign):
        class Secrets(ExportView):
            model = Secretive
            permission = None
            ordering_fields = names

        assert "sensitive" in refused(ask(Secrets, f"?order_by={sign}{next(iter(names))}"))

    def test_a_sensitive_field_filters_nothing_under_any_name(self):
        class Secrets(ExportView):
            model = Secretive
            permission = None
            filter_fields = {"public": "api_token__startswith"}

        assert "sensitive" in refused(ask(Secrets, "?public=a"))

    def test_annotations_order_as_before(self):
        class Counted(ExportView):
            queryset = Secretive.objects.annotate(api_count=Count("id"))
            permission = None
            columns = ("id",)
            ordering_fields = ["api_count"]

        assert ask(Counted, "?order_by=-api_count").status_code == 200
