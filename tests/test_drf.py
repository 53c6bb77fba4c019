"""List endpoints of Django REST framework as exports: rows, columns, who may, and what errors look like."""

import csv
import io
import json
import sys
import types
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import wraps
from importlib import import_module
from urllib.parse import parse_qs, urlencode, urlsplit
from uuid import UUID
from zoneinfo import ZoneInfo

import django_filters
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.paginator import Paginator
from django.db import connection, connections, models
from django.db.models import Count, F, Prefetch, QuerySet
from django.db.models.signals import post_init
from django.test.utils import CaptureQueriesContext
from django.urls import path
from django.utils.dateparse import parse_duration
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework import serializers
from rest_framework.authentication import BasicAuthentication, SessionAuthentication
from rest_framework.decorators import action
from rest_framework.filters import OrderingFilter, SearchFilter
from rest_framework.generics import ListAPIView
from rest_framework.pagination import CursorPagination, PageNumberPagination
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.schemas.inspectors import ViewInspector
from rest_framework.test import APIRequestFactory, force_authenticate
from rest_framework.throttling import SimpleRateThrottle
from rest_framework.urlpatterns import format_suffix_patterns
from rest_framework.views import APIView
from rest_framework.viewsets import ModelViewSet

from tests import asking
from tests.asking import NAMES, Told
from tests.fieldtypes.models import Everything, Level, Parent, Secretive, Ticket, Word
from upstream.integrations.drf import (
    EXPORT_RENDERERS,
    CsvRenderer,
    ExportListMixin,
    JsonArrayRenderer,
)
from upstream.integrations.limits import Limits
from upstream.integrations.serializer_columns import _keeps_digits
from upstream.models import AlertRule, Customer, DriftEvent, ReportRun
from upstream.streaming import ColumnError, JsonLines, MissingDependencyError, Xlsx, plan, stream

pytestmark = pytest.mark.usefixtures("answers")


class Pages(PageNumberPagination):
    page_size = 2


class CustomerSerializer(serializers.ModelSerializer):
    class Meta:
        model = Customer
        fields = ("id", "name")


class Customers(ExportListMixin, ModelViewSet):
    queryset = Customer.objects.order_by("id")
    serializer_class = CustomerSerializer
    pagination_class = Pages
    renderer_classes = (JSONRenderer,)
    authentication_classes = ()
    permission_classes = ()
    export_permission = None


class Events(Customers):
    queryset = DriftEvent.objects.order_by("id")


def serializing(fields=None, model=Customer, view=Customers, **members):
    """Return a view whose serializer has these members; `fields` default to the declared ones."""
    declared = [name for name, member in members.items() if isinstance(member, serializers.Field)]
    meta = type("Meta", (), {"model": model, "fields": declared if fields is None else fields})
    serializer = type("Serializer", (serializers.ModelSerializer,), {**members, "Meta": meta})
    return type(
        "View", (view,), {"serializer_class": serializer, "queryset": model._default_manager.order_by("pk")}
    )


def ask(view, query="", user=None, method="get", actions=None, accept=None, **kwargs):
    """Put a request to a view, and return its rendered answer."""
    headers = {"HTTP_ACCEPT": accept} if accept else {}
    request = getattr(APIRequestFactory(), method)(f"/x{query}", **headers)
    if user is not None:
        force_authenticate(request, user)
    is_set = hasattr(view, "action_map") or hasattr(view, "get_extra_actions")
    made = view.as_view(actions or {"get": "list"}) if is_set else view.as_view()
    answer = made(request, **kwargs)
    asking._answers.append(answer)
    return answer.render() if isinstance(answer, Response) else answer


def rows(answer):
    return asking.rows(answer)


def objects(answer):
    return [json.loads(line) for line in asking.text(answer).splitlines()]


def listed(view, query="", **options):
    """Return what the view's own JSON list has, on all of its pages."""
    unpaged = type("Unpaged", (view,), {"pagination_class": None})
    answer = ask(unpaged, query, **options)
    assert answer.status_code == 200, answer.content
    return json.loads(answer.content)


def refused(answer, status=400):
    """Return the JSON of an answer that is no download."""
    assert answer.status_code == status
    assert answer["Content-Type"] == "application/json"
    assert "Content-Disposition" not in answer
    return json.loads(answer.content)


def columns(view, query="?format=ndjson"):
    """Return the queryset and the columns of the export that a request asks for, without making it."""
    found = []

    class Looked(view):
        def get_export_columns(self, queryset):
            chosen = super().get_export_columns(queryset)
            found.append((queryset, chosen))
            return chosen

    ask(Looked, query, method="head", actions={"head": "list"})
    return found[0]


def mapped(view):
    """Return the columns that are read from the database: their headers and names."""
    return {column.header: column.name for column in columns(view)[1] if column.name}


@pytest.fixture
def events(customers):
    def event(number):
        customer = customers[number % 3]
        run = ReportRun.objects.create(
            customer=customer, run_type="weekly", period_start=date(2024, 1, 1), period_end=date(2024, 1, 7)
        )
        dates = dict.fromkeys(("baseline_start", "baseline_end", "current_start", "current_end"), date(2024, 1, 1))
        return DriftEvent.objects.create(
            customer=customer,
            report_run=run,
            payer=f"Payer, {number}",
            cpt_group="A",
            drift_type="DENIAL_RATE",
            baseline_value=0.5,
            current_value=number,
            delta_value=number / 3,
            severity=0.25,
            confidence=1,
            estimated_revenue_impact=Decimal(number) / 4 if number % 2 else None,
            potential_root_causes=[{"cause": "é", "n": number}],
            created_at=datetime(2024, 1, 1, 12, 30, number, tzinfo=UTC),
            **dates,
        )

    return [event(number) for number in range(7)]


@pytest.mark.usefixtures("customers")
class TestFormats:
    @pytest.mark.parametrize(("name", "delimiter"), [("csv", ","), ("tsv", "\t")])
    def test_all_pages_are_in_one_table(self, name, delimiter):
        answer = ask(Customers, f"?format={name}")
        assert answer["Content-Disposition"] == f'attachment; filename="customer.{name}"'
        found = list(csv.reader(io.StringIO(asking.text(answer)), delimiter=delimiter))
        assert found == [["id", "name"], *([str(one.id), one.name] for one in Customer.objects.order_by("id"))]

    @pytest.mark.parametrize(("name", "suffix"), [("ndjson", "ndjson"), ("json-array", "json")])
    def test_all_pages_are_in_one_document(self, name, suffix):
        answer = ask(Customers, f"?format={name}")
        assert answer["Content-Disposition"] == f'attachment; filename="customer.{suffix}"'
        found = objects(answer) if name == "ndjson" else json.loads(asking.text(answer))
        assert found == [{"id": one.id, "name": one.name} for one in Customer.objects.order_by("id")]

    @pytest.mark.parametrize("query", ["", "?format=json"])
    def test_the_list_in_pages_stays_what_it_is(self, query):
        found = json.loads(ask(Customers, query).content)
        assert (found["count"], len(found["results"])) == (3, 2)

    @pytest.mark.parametrize(
        ("accept", "kind"),
        [
            ("text/csv", "text/csv; charset=utf-8"),
            ("text/tab-separated-values", "text/tab-separated-values; charset=utf-8"),
            ("application/x-ndjson", "application/x-ndjson"),
            ("application/json", "application/json"),
            ("*/*", "application/json"),
            ("text/html, text/csv;q=0.9", "text/csv; charset=utf-8"),
        ],
    )
    def test_accept_chooses_the_format_and_its_answers_vary(self, accept, kind):
        answer = ask(Customers, accept=accept)
        assert answer["Content-Type"] == kind
        assert ("Content-Disposition" in answer) == (kind != "application/json")
        assert "Accept" in answer["Vary"]

    def test_json_is_never_the_array_unless_it_is_asked_for(self):
        class Last(Customers):
            renderer_classes = (CsvRenderer, JSONRenderer)

        assert json.loads(ask(Last, accept="application/json").content)["count"] == 3
        assert rows(ask(Last, accept="*/*"))[0] == ["id", "name"]

    def test_renderers_are_added_once(self):
        class Own(Customers):
            renderer_classes = (JSONRenderer, JsonArrayRenderer)

        kinds = [type(one) for one in Own().get_renderers()]
        assert kinds[:2] == [JSONRenderer, JsonArrayRenderer]
        assert sorted(kinds[1:], key=EXPORT_RENDERERS.index) == [*EXPORT_RENDERERS]

    def test_profile_and_filename_are_those_of_the_view(self):
        class ForPeople(Customers):
            export_profile = "excel"
            export_filename = "payers"

        answer = ask(ForPeople, "?format=csv")
        assert answer["Content-Disposition"] == 'attachment; filename="payers.csv"'
        assert asking.text(answer).startswith("\ufeffid,")

    def test_generic_views_export_too(self):
        class Listed(ExportListMixin, ListAPIView):
            queryset = Customer.objects.order_by("-name")
            serializer_class = CustomerSerializer
            export_permission = None

        assert [row[1] for row in rows(ask(Listed, "?format=csv"))[1:]] == NAMES[::-1]

    @pytest.mark.parametrize("spool", [False, True])
    def test_spool_is_that_of_the_view(self, spool):
        class Spooled(Customers):
            pass

        Spooled.export_spool = spool
        assert ("Content-Length" in ask(Spooled, "?format=csv")) == spool


ALL = [field.name for field in DriftEvent._meta.concrete_fields]


@pytest.mark.usefixtures("events")
class TestColumns:
    def test_stock_fields_are_read_from_the_database(self):
        assert mapped(serializing(ALL, DriftEvent)) == dict(zip(ALL, ALL, strict=True))

    def test_sources_through_relations_are_paths(self):
        view = serializing(
            model=DriftEvent,
            customer_name=serializers.CharField(source="customer.name"),
            run=serializers.PrimaryKeyRelatedField(source="report_run", read_only=True),
            of=serializers.ReadOnlyField(source="report_run.customer.name"),
            customer_id=serializers.IntegerField(),
            key=serializers.IntegerField(source="pk"),
            payer=serializers.CharField(default="never missing"),
        )
        assert mapped(view) == {
            "customer_name": "customer__name",
            "run": "report_run",
            "of": "report_run__customer__name",
            "customer_id": "customer_id",
            "key": "pk",
            "payer": "payer",
        }
        assert objects(ask(view, "?format=ndjson")) == listed(view)

    def test_what_the_serializer_makes_is_what_its_own_list_has(self):
        view = serializing(
            model=DriftEvent,
            id=serializers.IntegerField(),
            title=serializers.SerializerMethodField(),
            get_title=lambda self, event: f"{event.payer}/{self.context['view'].basename_}",
            customer=CustomerSerializer(),
            day=serializers.DateTimeField(source="created_at", format="%d.%m.%Y"),
            label=serializers.CharField(source="get_drift_type_display"),
            words=serializers.CharField(source="severity"),
            shown=serializers.StringRelatedField(source="report_run"),
            rounded=serializers.DecimalField(
                source="estimated_revenue_impact", max_digits=12, decimal_places=1, allow_null=True
            ),
        )
        view.basename_ = "base"
        assert set(mapped(view)) == {"id"}
        found = objects(ask(view, "?format=ndjson"))
        assert len(found) == 7
        assert found == listed(view)

    def test_a_number_without_digits_of_its_own_may_be_wider_than_its_serializers(self):
        narrow = serializers.DecimalField(max_digits=12, decimal_places=1)
        assert not _keeps_digits(narrow, models.DecimalField(decimal_places=1))  # as from Django 6.1 on
        assert _keeps_digits(narrow, models.DecimalField(max_digits=12, decimal_places=1))

    def test_nested_objects_are_json_in_a_cell(self):
        view = serializing(model=DriftEvent, customer=CustomerSerializer())
        found = [json.loads(cell) for [cell] in rows(ask(view, "?format=csv"))[1:]]
        assert found == [one["customer"] for one in listed(view)]

    def test_write_only_fields_are_no_columns(self):
        view = serializing(("id", "name"), Secretive, extra_kwargs=None)
        view.serializer_class.Meta.fields = ("id", "name", "password")
        view.serializer_class.Meta.extra_kwargs = {"password": {"write_only": True}}
        Secretive.objects.create(name="a", password="hash", api_token="t")
        assert rows(ask(view, "?format=csv"))[0] == ["id", "name"]
        assert "choose from: id, name" in str(refused(ask(view, "?format=csv&columns=password")))

    def test_a_field_that_is_left_out_is_empty(self):
        view = serializing(
            model=DriftEvent,
            id=serializers.IntegerField(),
            nothing=serializers.CharField(source="no_such", required=False),
        )
        assert {tuple(one) for one in listed(view)} == {("id",)}
        assert {one["nothing"] for one in objects(ask(view, "?format=ndjson"))} == {None}

    @pytest.mark.parametrize("name", ["id,payer", "payer,id"])
    def test_columns_come_as_they_are_chosen(self, name):
        view = serializing(ALL, DriftEvent)
        assert rows(ask(view, f"?format=csv&columns={name}"))[0] == name.split(",")

    def test_an_unknown_column_is_a_400_that_lists_the_known_and_no_query(self):
        with CaptureQueriesContext(connection) as queries:
            told = refused(ask(Customers, "?format=csv&columns=id,customer__name"))
        assert told == {"columns": ["unknown column 'customer__name'; choose from: id, name"]}
        assert not queries

    def test_export_columns_are_all_that_can_be_chosen(self):
        class Fewer(Customers):
            export_columns = ("name",)

        assert rows(ask(Fewer, "?format=csv"))[0] == ["name"]
        assert "choose from: name" in str(refused(ask(Fewer, "?format=csv&columns=id")))

    def test_export_columns_that_do_not_exist_are_told_to_the_developer(self):
        class Wrong(Customers):
            export_columns = ("nmae",)

        with pytest.raises(ValueError, match="choose from: id, name"):
            ask(Wrong, "?format=csv")

    @pytest.mark.parametrize(
        ("name", "field"),
        [
            ("format", serializers.DateTimeField(source="created_at", format="%Y")),
            ("zone", serializers.DateTimeField(source="created_at", default_timezone=UTC)),
            ("day", serializers.DateField(source="current_end", format="%d.%m.%Y")),
            ("places", serializers.DecimalField(12, 3, source="estimated_revenue_impact")),
            ("digits", serializers.DecimalField(4, 2, source="estimated_revenue_impact")),
            ("local", serializers.DecimalField(12, 2, localize=True, source="estimated_revenue_impact")),
            ("normal", serializers.DecimalField(12, 2, normalize_output=True, source="estimated_revenue_impact")),
            ("text_of_number", serializers.CharField(source="severity")),
            ("number_of_text", serializers.IntegerField(source="cpt_group")),
            ("whole", serializers.IntegerField(source="severity")),
            ("float_of_whole", serializers.FloatField(source="consecutive_periods")),
            ("text", serializers.BigIntegerField(coerce_to_string=True, source="id")),
            ("choices", serializers.ChoiceField([1, 2], source="cpt_group")),
            ("binary", serializers.JSONField(binary=True, source="potential_root_causes")),
            (
                "key",
                serializers.PrimaryKeyRelatedField(
                    source="customer", pk_field=serializers.CharField(), read_only=True
                ),
            ),
            ("method", serializers.CharField(source="get_drift_type_display")),
            ("star", serializers.JSONField(source="*")),
            ("instance", serializers.ReadOnlyField(source="customer")),
            ("fallback", serializers.CharField(source="customer.name", default="none")),
            ("attribute_name", serializers.CharField(source="customer_id.name", required=False)),
            ("transform", serializers.IntegerField(source="created_at.year")),
            ("key_of_json", serializers.JSONField(source="potential_root_causes.x", required=False)),
            ("many", serializers.PrimaryKeyRelatedField(source="alert_events", many=True, read_only=True)),
            ("own", type("Own", (serializers.CharField,), {})(source="payer")),
            ("namesake", type("CharField", (serializers.CharField,), {})(source="payer")),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_a_field_that_changes_values_goes_through_the_serializer(self, name, field):
        assert mapped(serializing(model=DriftEvent, **{name: field})) == {}

    def test_a_big_integer_that_the_site_writes_as_text_goes_through_the_serializer(self, monkeypatch):
        view = serializing(("id", "current_value"), DriftEvent)
        monkeypatch.setattr("rest_framework.settings.api_settings.COERCE_BIGINT_TO_STRING", True)
        assert set(mapped(view)) == {"current_value"}
        assert objects(ask(view, "?format=ndjson")) == listed(view)

    def test_a_format_of_the_site_goes_through_the_serializer(self, monkeypatch):
        view = serializing(("id", "current_end", "created_at"), DriftEvent)
        monkeypatch.setattr("rest_framework.settings.api_settings.DATE_FORMAT", "%d.%m.%Y")
        assert set(mapped(view)) == {"id", "created_at"}
        assert {one["current_end"] for one in objects(ask(view, "?format=ndjson"))} == {"01.01.2024"}

    def test_a_serializer_of_no_model_goes_through_the_serializer(self):
        class Plain(serializers.Serializer):
            id = serializers.IntegerField()
            shown = serializers.CharField(source="__str__")

        class View(Customers):
            serializer_class = Plain

        assert mapped(View) == {}
        assert objects(ask(View, "?format=ndjson")) == listed(View)

    def test_annotations_go_through_the_serializer(self):
        view = serializing(("id", "events"), events=serializers.IntegerField())
        view.queryset = Customer.objects.annotate(events=Count("drift_events")).order_by("id")
        assert mapped(view) == {"id": "id"}
        assert [one["events"] for one in objects(ask(view, "?format=ndjson"))] == [3, 2, 2]

    @pytest.mark.parametrize(
        "rows",
        [
            lambda: Customer.objects.order_by("id").values("id", "name"),
            lambda: list(Customer.objects.order_by("id")),
            lambda: [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
            lambda: Customer.objects.raw("SELECT id, name FROM upstream_customer ORDER BY id"),
            list,
        ],
        ids=["values", "list of instances", "list of dicts", "raw query", "nothing"],
    )
    def test_rows_that_are_no_queryset_of_instances_are_exported_too(self, rows):
        class View(Customers):
            def get_queryset(self):
                return rows()

        assert set(mapped(View)) == set()
        assert objects(ask(View, "?format=ndjson")) == listed(View)

    def test_a_list_serializer_that_makes_the_list_itself_is_refused(self):
        class Hiding(serializers.ListSerializer):
            def to_representation(self, data):
                return super().to_representation(data.filter(name="Cigna"))

        view = serializing(("id", "name"))
        view.serializer_class.Meta.list_serializer_class = Hiding
        assert "Hiding.to_representation()" in refused(ask(view, "?format=csv"), 501)["detail"]


class Shouting(CustomerSerializer):
    made = 0

    def to_representation(self, instance):
        type(self).made += 1
        return {key: str(value).upper() for key, value in super().to_representation(instance).items()}


@pytest.mark.usefixtures("customers")
class TestRepresentations:
    @pytest.fixture
    def view(self):
        serializer = type("Counting", (Shouting,), {"made": 0})
        return type("View", (Customers,), {"serializer_class": serializer})

    def test_columns_are_those_of_the_whole_representation(self, view):
        assert mapped(view) == {}
        assert objects(ask(view, "?format=ndjson")) == listed(view)

    @pytest.mark.parametrize("query", ["", "&columns=name", "&columns=name,id", "&columns=id"])
    def test_each_is_made_once(self, view, query):
        assert len(rows(ask(view, f"?format=csv{query}"))) == 4
        assert view.serializer_class.made == 3

    @pytest.mark.parametrize("query", ["", "&columns=name", "&columns=name,id", "&columns=id"])
    def test_none_is_held_longer_than_its_batch(self, view, query):
        queryset, chosen = columns(view, f"?format=csv{query}")
        with stream(queryset, chosen, chunk_size=1) as chunks:
            for _ in chunks:
                held = [read for column in chosen for read in column.source.__closure__]
                owners = [cell.cell_contents for cell in held if hasattr(cell.cell_contents, "_held")]
                assert owners
                assert not any(owner._held for owner in owners)

    def test_a_record_that_comes_twice_is_written_twice(self, view):
        one = Customer.objects.first()
        view.get_queryset = lambda self: [one, one]
        first, second = objects(ask(view, "?format=ndjson"))
        assert first == second == {"id": str(one.id), "name": "AETNA"}

    def test_keys_beyond_the_fields_have_to_be_named(self):
        class Adding(CustomerSerializer):
            def to_representation(self, instance):
                return {**super().to_representation(instance), "letters": len(instance.name)}

        class View(Customers):
            serializer_class = Adding
            export_spool = True

        with pytest.raises(ColumnError, match=r"'letters'.*export_columns"):
            ask(View, "?format=csv")
        View.export_columns = ("name", "letters")
        assert rows(ask(View, "?format=csv"))[1] == ["Aetna", "5"]

    def test_keys_of_a_serializer_without_fields_have_to_be_named(self):
        class Bare(serializers.BaseSerializer):
            def to_representation(self, instance):
                return {"n": instance.name}

        class View(Customers):
            serializer_class = Bare

        with pytest.raises(ImproperlyConfigured, match="export_columns"):
            ask(View, "?format=csv")
        View.export_columns = ("n",)
        assert objects(ask(View, "?format=ndjson")) == listed(View)


class EverythingSerializer(serializers.ModelSerializer):
    class Meta:
        model = Everything
        exclude = ("binary", "binary_or_null", "path")


def same(name, ours, theirs):
    """Whether two spellings of a value of that field are the same value."""
    if ours is None or theirs is None:
        return ours is theirs
    if name.startswith("datetime"):
        return datetime.fromisoformat(ours) == datetime.fromisoformat(theirs)
    if name.startswith("duration"):
        return parse_duration(ours) == parse_duration(theirs)
    return ours == theirs


class TestEveryField:
    @pytest.fixture
    def view(self, database):
        parent = Parent.objects.using(database).create(name="p")
        ticket = Ticket.objects.using(database).create(code="t")
        values = {
            "char": 'a,"é\n',
            "text": " both ",
            "boolean": True,
            "integer": -1,
            "floating": 1 / 3,
            "decimal": Decimal("-12.5"),
            "date": date(2024, 2, 29),
            "time": time(1, 2, 3, 400),
            "datetime": datetime(2024, 2, 29, 23, 59, 59, 123456, tzinfo=UTC),
            "duration": timedelta(days=-3, microseconds=5),
            "uuid": UUID(int=2**100 + 7),
            "binary": b"x",
            "json": {"a": [1.0, None, "é"]},
            "file": "a/b.txt",
        }
        full = dict(
            {f"{name}_or_null": value for name, value in values.items()},
            slug="s",
            email="a@b.c",
            url="https://b.c/",
            small_integer=3,
            big_integer=2**60,
            positive_small=1,
            positive=2,
            positive_big=3,
            whole_decimal=Decimal(7),
            ip_address="2001:db8::1",
            ipv4_address="10.0.0.1",
            word=Word.FORMULA,
            level=Level.BELOW,
            parent=parent,
            ticket=ticket,
        )
        for more in ({}, full):
            Everything.objects.using(database).create(**values, **more)

        class Everythings(Customers):
            queryset = Everything.objects.using(database)
            serializer_class = EverythingSerializer

        return Everythings

    def test_values_mean_what_the_list_says(self, view):
        exported, shown = objects(ask(view, "?format=ndjson")), listed(view)
        assert len(exported) == len(shown) == 2
        for ours, theirs in zip(exported, shown, strict=True):
            assert list(ours) == list(theirs)
            assert [
                (name, ours[name], theirs[name]) for name in ours if not same(name, ours[name], theirs[name])
            ] == []

    def test_all_but_files_and_generated_fields_are_read_from_the_database(self, view):
        others = {field.field_name for field in view.serializer_class().fields.values()} - set(mapped(view))
        assert others == {"file", "file_or_null", "next_integer", "upper_slug"}

    def test_an_export_of_mapped_fields_alone_takes_the_fastest_lane(self, view, database):
        fields = [name for name in mapped(view) if name not in ("ip_address", "ipv4_address")]
        fast = serializing(fields, Everything)
        fast.queryset = view.queryset
        lane = "copy" if connections[database].vendor == "postgresql" else "text"
        assert plan(*columns(fast), JsonLines()).lane == lane

    @pytest.mark.parametrize(
        "field",
        [
            serializers.UUIDField(source="uuid", format="hex"),
            serializers.TimeField(source="time", format="%H"),
            serializers.DurationField(source="duration", format="django"),
            serializers.PrimaryKeyRelatedField(
                source="parent", pk_field=serializers.DecimalField(9, 2), read_only=True
            ),
        ],
        ids=lambda field: field.source,
    )
    def test_a_format_of_a_field_is_kept(self, view, field):
        formatted = serializing(model=Everything, id=serializers.IntegerField(), formatted=field)
        formatted.queryset = view.queryset
        assert mapped(formatted) == {"id": "id"}
        assert objects(ask(formatted, "?format=ndjson")) == listed(formatted)

    def test_a_missing_relation_is_empty(self, view):
        related = serializing(
            model=Everything,
            name=serializers.CharField(source="parent.name", allow_null=True),
            code=serializers.CharField(source="ticket.code", required=False),
        )
        related.queryset = view.queryset
        assert mapped(related) == {"name": "parent__name", "code": "ticket__code"}
        assert objects(ask(related, "?format=ndjson")) == [
            {"name": None, "code": None},
            {"name": "p", "code": "t"},
        ]


class RuleSerializer(serializers.ModelSerializer):
    class Meta:
        model = AlertRule
        fields = ("name",)


@pytest.mark.usefixtures("fetches_take_no_time")
@pytest.mark.parametrize("number", [10, 200])
def test_prefetched_relations_take_as_many_queries_for_more_rows(db, number):
    for customer in Customer.objects.bulk_create(Customer(name=f"c{n}") for n in range(number)):
        AlertRule.objects.create(customer=customer, name="r", threshold_value=0.5)
    view = serializing(("id", "alert_rules"), alert_rules=RuleSerializer(many=True))
    view.queryset = Customer.objects.prefetch_related("alert_rules").order_by("id")
    with CaptureQueriesContext(connection) as queries:
        found = objects(ask(view, "?format=ndjson"))
    assert found == listed(view)
    assert [one["alert_rules"] for one in found] == [[{"name": "r"}]] * number
    assert len(queries) <= 4


def test_joined_relations_take_one_query(events):
    view = serializing(
        model=DriftEvent, customer=CustomerSerializer(), run=serializers.DateField(source="report_run.period_end")
    )
    view.queryset = DriftEvent.objects.select_related("customer")
    with CaptureQueriesContext(connection) as queries:
        assert len(objects(ask(view, "?format=ndjson"))) == 7
    assert len(queries) == 1


class CustomerFilter(django_filters.FilterSet):
    class Meta:
        model = Customer
        fields = {"name": ["startswith"], "id": ["exact"]}


@pytest.mark.usefixtures("customers")
class TestFilters:
    class Filtered(Customers):
        filter_backends = (DjangoFilterBackend, SearchFilter, OrderingFilter)
        filterset_class = CustomerFilter
        search_fields = ("name",)
        ordering_fields = ("name",)

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("", NAMES),
            ("&name__startswith=C", ["Cigna"]),
            ("&search=an", ["Humana"]),
            ("&ordering=-name", NAMES[::-1]),
            ("&search=a&ordering=-name&page=2", NAMES[::-1]),
        ],
    )
    def test_rows_are_those_that_the_view_filters(self, query, expected):
        found = [row[1] for row in rows(ask(self.Filtered, f"?format=csv{query}"))[1:]]
        assert found == expected

    def test_a_value_that_a_filter_cannot_read_is_a_400(self):
        assert list(refused(ask(self.Filtered, "?format=csv&id=abc"))) == ["id"]

    def test_the_queryset_of_a_view_is_its_users(self, django_user_model):
        class Own(Customers):
            def get_queryset(self):
                return super().get_queryset().filter(name=self.request.user.username)

        user = django_user_model.objects.create(username="Cigna")
        assert [row[1] for row in rows(ask(Own, "?format=csv", user=user))] == ["name", "Cigna"]


class TestPermission:
    class Guarded(Customers):
        export_permission = "export"
        authentication_classes = (SessionAuthentication,)

    @pytest.mark.parametrize("method", ["get", "head"])
    @pytest.mark.parametrize(
        ("who", "status"),
        [("anonymous", 403), ("staff", 403), ("view", 403), ("export", 200), ("superuser", 200)],
    )
    def test_only_who_may_export_the_model_may(self, visitors, who, status, method):
        answer = ask(self.Guarded, "?format=csv", visitors[who], method, {method: "list"})
        if status == 403:
            refused(answer, 403)
        assert answer.status_code == status

    @pytest.mark.parametrize("who", ["anonymous", "staff", "export"])
    def test_the_list_needs_no_permission_to_export(self, visitors, who):
        assert ask(self.Guarded, user=visitors[who]).status_code == 200

    def test_the_default_is_to_need_it(self):
        assert ExportListMixin.export_permission == "export"

    def test_who_could_log_in_is_asked_to(self, visitors):
        class Basic(self.Guarded):
            authentication_classes = (BasicAuthentication,)

        answer = ask(Basic, "?format=csv")
        refused(answer, 401)
        assert answer["WWW-Authenticate"].startswith("Basic")

    def test_who_may_not_is_not_told_what_is_declared(self, visitors):
        assert "columns" not in refused(ask(self.Guarded, "?format=csv&columns=x", visitors["staff"]), 403)

    def test_a_permission_of_ones_own_can_be_named(self, visitors):
        class Viewed(self.Guarded):
            export_permission = "upstream.view_customer"

        assert ask(Viewed, "?format=csv", visitors["view"]).status_code == 200
        refused(ask(Viewed, "?format=csv", visitors["export"]), 403)

    def test_permissions_of_the_view_hold(self, visitors):
        class Private(Customers):
            permission_classes = (IsAuthenticated,)

        refused(ask(Private, "?format=csv"), 403)
        assert ask(Private, "?format=csv", visitors["staff"]).status_code == 200

    def test_no_user_at_all_may_not(self, visitors, monkeypatch):
        monkeypatch.setattr("rest_framework.settings.api_settings.UNAUTHENTICATED_USER", None)
        refused(ask(self.Guarded, "?format=csv"), 403)

    def test_an_export_of_no_model_has_to_name_its_permission(self, visitors):
        class Numbers(self.Guarded):
            def get_queryset(self):
                return [{"id": 1, "name": "a"}]

        with pytest.raises(ImproperlyConfigured, match="export_permission = "):
            ask(Numbers, "?format=csv", visitors["staff"])


class Once(SimpleRateThrottle):
    rate = "1/hour"

    def get_cache_key(self, request, view):
        return f"once-{request.query_params['who']}"


@pytest.mark.usefixtures("customers")
class TestErrors:
    def test_throttles_of_the_view_hold(self):
        class Throttled(Customers):
            throttle_classes = (Once,)

        assert ask(Throttled, "?format=csv&who=a").status_code == 200
        answer = ask(Throttled, "?format=csv&who=a")
        assert "throttled" in refused(answer, 429)["detail"]
        assert int(answer["Retry-After"]) > 0

    @pytest.mark.parametrize("name", [kind.format for kind in EXPORT_RENDERERS])
    def test_one_object_is_no_export(self, name):
        one = Customer.objects.first()
        answer = ask(Customers, f"?format={name}", actions={"get": "retrieve"}, pk=one.pk)
        assert refused(answer, 200) == {"id": one.pk, "name": one.name}
        assert "Accept" in answer["Vary"]

    def test_errors_are_in_the_views_own_format(self):
        assert refused(ask(Customers, "?format=csv", actions={"get": "retrieve"}, pk=0), 404)
        assert refused(ask(Customers, accept="text/csv", method="post", actions={"post": "create"}), 400)
        assert refused(ask(Customers, accept="text/csv", method="delete"), 405)
        assert refused(ask(Customers, "?format=xls"), 404)
        assert refused(ask(Customers, accept="image/png"), 406)

    def test_errors_are_written_by_the_first_renderer_that_exports_nothing(self):
        class Problems(JSONRenderer):
            media_type = "application/problem+json"

        class Own(Customers):
            renderer_classes = (CsvRenderer, Problems, JSONRenderer)

        answer = ask(Own, "?format=csv&columns=x")
        assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json")

    def test_errors_are_json_where_a_view_has_nothing_but_exports(self):
        class Only(Customers):
            renderer_classes = (CsvRenderer,)

        assert refused(ask(Only, "?columns=x"), 400)
        assert refused(ask(Only, accept="image/png"), 406)

    def test_an_action_that_lists_nothing_is_no_export(self):
        class Counted(Customers):
            @action(detail=False)
            def number(self, request):
                return Response({"number": self.get_queryset().count()})

        assert refused(ask(Counted, "?format=csv", actions={"get": "number"}), 200) == {"number": 3}

    def test_a_renderer_in_a_view_that_exports_nothing_says_that_it_writes_json(self):
        class Plain(APIView):
            renderer_classes = (CsvRenderer,)

            def get(self, request):
                return Response({"a": 1})

        assert refused(ask(Plain, "?format=csv"), 200) == {"a": 1}

    def test_an_unexpected_error_is_raised_before_anything_is_sent(self):
        view = serializing(broken=serializers.SerializerMethodField(), get_broken=lambda self, one: 1 / 0)
        view.export_spool = True
        with pytest.raises(ZeroDivisionError):
            ask(view, "?format=csv")


@pytest.mark.usefixtures("customers")
class TestDownloads:
    def test_head_asks_the_database_nothing(self):
        with CaptureQueriesContext(connection) as queries:
            answer = ask(Customers, "?format=csv", method="head", actions={"head": "list"})
        assert answer["Content-Disposition"] == 'attachment; filename="customer.csv"'
        assert answer.getvalue() == b""
        assert not queries

    def test_signals_come_from_the_view_with_the_user_that_drf_knows(self, django_user_model):
        user = django_user_model.objects.create(username="a")
        view = type("Told", (Customers,), {})
        with Told(view) as told:
            size = len(asking.text(ask(view, "?format=csv", user=user)))
        [(first, started), (last, finished)] = told
        assert (first, last) == ("started", "finished")
        assert started["request"].user == finished["request"].user == user
        assert (finished["rows"], finished["bytes"], finished["filename"]) == (3, size, "customer.csv")
        assert list(finished["columns"]) == ["id", "name"]

    def test_limits_are_for_the_user_that_drf_knows(self, django_user_model):
        users = [django_user_model.objects.create(username=name) for name in "ab"]
        authenticated_late = {"perform_authentication": lambda self, request: None}
        view = type("Limited", (Customers,), {"export_limits": Limits(per_user=1), **authenticated_late})
        running = ask(view, "?format=csv", user=users[0])
        answer = ask(view, "?format=csv", user=users[0])
        assert (answer.status_code, answer["Retry-After"]) == (429, "30")
        assert ask(view, "?format=csv", user=users[1]).status_code == 200
        assert len(rows(running)) == 4

    def test_too_many_rows_are_a_429(self):
        view = type("Limited", (Customers,), {"export_limits": Limits(rows=2)})
        assert b"more than 2 rows" in ask(view, "?format=csv").content


def test_without_rest_framework_the_error_says_what_to_install(monkeypatch):
    for name in ("drf", "serializer_columns"):
        monkeypatch.delitem(sys.modules, f"upstream.integrations.{name}")
    monkeypatch.setitem(sys.modules, "rest_framework", None)
    with pytest.raises(MissingDependencyError, match=r"upstream\[drf\]"):
        import_module("upstream.integrations.drf")


def masked(_value):
    return "***"


def without_name(rows):
    return [{key: value for key, value in row.items() if key != "name"} for row in rows]


class HidingList(serializers.ListSerializer):
    def to_representation(self, data):
        return without_name(super().to_representation(data))


class HidingData(serializers.ListSerializer):
    @property
    def data(self):
        return without_name(super().data)


class HidingItself(CustomerSerializer):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.to_representation = lambda one: {"id": one.id, "name": "***"}


class HidingInstance(serializers.ListSerializer):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.to_representation = lambda data: []


class MaskedPages(Pages):
    def get_paginated_response(self, data):
        return Response({"results": without_name(data)})


class FewerPages(Pages):
    def paginate_queryset(self, queryset, request, view=None):
        return [one for one in super().paginate_queryset(queryset, request, view) if one.name != "Aetna"]


class FewerPaginator(Paginator):
    def page(self, number):
        page = super().page(number)
        page.object_list = page.object_list.exclude(name="Aetna")
        return page


class Enveloped(Pages):
    def get_paginated_response(self, data):
        return Response({"page": {"number": self.page.number, "of": len(data)}, "data": {"items": data}})


class MaskingRenderer(JSONRenderer):
    def render(self, data, *args, **kwargs):
        return super().render(without_name(data) if isinstance(data, list) else data, *args, **kwargs)


class MaskingQuerySet(QuerySet):
    def _fetch_all(self):
        super()._fetch_all()
        for one in self._result_cache:
            one.name = "***"


def changing_field(**attributes):
    """Return a serializer whose field `name` has these attributes of its own."""

    class Changed(CustomerSerializer):
        def get_fields(self):
            fields = super().get_fields()
            for name, value in attributes.items():
                setattr(fields["name"], name, value)
            return fields

    return Changed


def listing_with(kind):
    meta = type("Meta", (CustomerSerializer.Meta,), {"list_serializer_class": kind})
    return type("Serializer", (CustomerSerializer,), {"Meta": meta})


def posted(self, request, *args, **kwargs):
    """Take the names out of what the list answers."""
    answer = Customers.list(self, request, *args, **kwargs)
    for row in getattr(answer, "data", ()):
        row.pop("name")
    return answer


def finalized(self, request, response, *args, **kwargs):
    data = getattr(response, "data", None)
    for row in data if isinstance(data, list) else ():
        row.pop("name")
    return Customers.finalize_response(self, request, response, *args, **kwargs)


def serializing_less(self, instance=None, *args, **kwargs):
    return Customers.get_serializer(self, instance.filter(name="Cigna"), *args, **kwargs)


def serializing_changed(self, instance=None, *args, **kwargs):
    for one in instance:
        one.name = "***"
    return Customers.get_serializer(self, instance, *args, **kwargs)


def with_changed_rows(self, queryset):
    for one in queryset:
        one.name = "***"
    return queryset


@pytest.mark.usefixtures("customers")
class TestNoMoreThanTheList:
    @pytest.fixture(autouse=True)
    def _unpaged(self, monkeypatch):
        monkeypatch.setattr(Customers, "pagination_class", None)

    @pytest.mark.parametrize(
        "members",
        [
            {"serializer_class": changing_field(to_representation=masked)},
            {"serializer_class": changing_field(get_attribute=masked)},
            {"serializer_class": HidingItself},
            {"filter_queryset": lambda self, queryset: [one for one in queryset if one.name != "Aetna"]},
            {"filter_queryset": with_changed_rows},
            {"get_serializer": serializing_less},
            {"get_serializer": serializing_changed},
        ],
        ids=lambda members: next(iter(members)),
    )
    def test_what_is_overridden_is_honoured(self, members):
        view = type("Changed", (Customers,), members)
        shown = listed(view)
        assert objects(ask(view, "?format=ndjson")) == shown
        assert shown != listed(Customers)

    @pytest.mark.parametrize(
        ("members", "method"),
        [
            ({"serializer_class": listing_with(HidingList)}, "HidingList.to_representation()"),
            ({"serializer_class": listing_with(HidingData)}, "HidingData.data()"),
            ({"serializer_class": listing_with(HidingInstance)}, "HidingInstance.to_representation()"),
            ({"list": posted}, "Changed.list()"),
            ({"finalize_response": finalized}, "Changed.finalize_response()"),
            ({"list": method_decorator(never_cache)(Customers.list)}, "Changed.list()"),
            ({"paginate_queryset": lambda self, rows: [*rows][1:]}, "Changed.paginate_queryset()"),
            ({"pagination_class": FewerPages}, "FewerPages.paginate_queryset()"),
            ({"pagination_class": MaskedPages}, "MaskedPages.get_paginated_response()"),
            (
                {"pagination_class": type("P", (Pages,), {"django_paginator_class": FewerPaginator})},
                "FewerPaginator.page()",
            ),
            ({"renderer_classes": (MaskingRenderer,)}, "MaskingRenderer.render()"),
            ({"queryset": MaskingQuerySet(Customer).order_by("id")}, "MaskingQuerySet._fetch_all()"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_what_an_export_cannot_follow_is_refused_with_the_reason(self, members, method):
        view = type("Changed", (Customers,), members)
        told = refused(ask(view, "?format=csv"), 501)["detail"]
        assert told.startswith(f"{method.removesuffix('()') if method.endswith('data()') else method}")
        assert "export_unchanged_by" in told
        view.export_unchanged_by = (method.partition(".")[2].removesuffix("()"),)
        assert ask(view, "?format=csv").status_code == 200

    def test_a_serializer_that_is_no_list_serializer_is_refused(self):
        class One(Customers):
            def get_serializer(self, instance=None, *args, many=False, **kwargs):
                return super().get_serializer(instance, *args, **kwargs)

        assert "gives a CustomerSerializer" in refused(ask(One, "?format=csv"), 501)["detail"]

    def test_an_action_that_calls_list_is_refused_until_it_is_named(self):
        class Own(Customers):
            @action(detail=False)
            def mine(self, request):
                return self.list(request)

        assert "Own.mine()" in refused(ask(Own, "?format=csv", actions={"get": "mine"}), 501)["detail"]
        Own.export_unchanged_by = ("mine",)
        assert ask(Own, "?format=csv", actions={"get": "mine"}).status_code == 200

    def test_an_own_get_is_refused(self):
        class Own(ExportListMixin, ListAPIView):
            queryset = Customer.objects.order_by("id")
            serializer_class = CustomerSerializer
            export_permission = None

            def get(self, request):
                return self.list(request)

        assert "Own.get()" in refused(ask(Own, "?format=csv"), 501)["detail"]

    def test_a_name_that_refuses_nothing_is_told_to_the_developer(self):
        class Wrong(Customers):
            export_unchanged_by = ("lst",)

        with pytest.raises(ImproperlyConfigured, match=r"'lst'; choose from: .*list"):
            ask(Wrong, "?format=csv")

    def test_a_method_patched_into_rest_framework_is_honoured(self, monkeypatch):
        @wraps(serializers.CharField.to_representation)
        def shouted(self, value):
            return value.upper()

        monkeypatch.setattr(serializers.CharField, "to_representation", shouted)
        assert mapped(Customers) == {"id": "id"}
        assert objects(ask(Customers, "?format=ndjson")) == listed(Customers)

    @pytest.mark.parametrize("kind", [Enveloped, type("Renamed", (Pages,), {"page_size": 1})])
    @pytest.mark.parametrize("query", ["", "&page=2"])
    def test_an_envelope_around_the_rows_changes_none(self, kind, query):
        view = type("Paged", (Customers,), {"pagination_class": kind})
        with CaptureQueriesContext(connection) as queries:
            assert len(rows(ask(view, f"?format=csv{query}"))) == 4
        assert len(queries) == 1

    def test_a_renderer_beside_rest_frameworks_own_hides_nothing(self):
        view = type("Changed", (Customers,), {"renderer_classes": (JSONRenderer, MaskingRenderer)})
        assert len(rows(ask(view, "?format=csv"))) == 4

    def test_a_schema_around_list_changes_nothing(self):
        drainage = types.ModuleType("drf_spectacular.drainage")
        exec("def isolate(method):\n    return lambda *args, **kwargs: method(*args, **kwargs)", vars(drainage))
        view = type("Described", (Customers,), {"list": drainage.isolate(Customers.list)})
        assert len(rows(ask(view, "?format=csv"))) == 4
        hidden = type(
            "Hidden", (type("Posted", (Customers,), {"list": posted}),), vars(view) | {"export_unchanged_by": ()}
        )
        assert "list()" in refused(ask(hidden, "?format=csv"), 501)["detail"]


class Discreet(Parent):
    """Shows less than the database holds."""

    class Meta:
        proxy = True
        app_label = "fieldtypes"


@pytest.mark.django_db
class TestModels:
    @pytest.fixture
    def view(self):
        Parent.objects.create(name="secret")
        return serializing(("id", "name"), Discreet)

    def test_a_plain_model_is_read_from_the_database(self, view):
        assert mapped(view) == {"id": "id", "name": "name"}

    @pytest.mark.parametrize("name", ["from_db", "__init__", "__getattribute__", "property", "signal"])
    def test_code_that_changes_instances_is_honoured(self, view, monkeypatch, name):
        def mask(instance):
            instance.__dict__["name"] = "***"
            return instance

        def init(self, *args, **kwargs):
            Parent.__init__(self, *args, **kwargs)
            mask(self)

        own = {
            "from_db": classmethod(lambda kind, *args, **mode: mask(super(Discreet, kind).from_db(*args, **mode))),
            "__init__": init,
            "__getattribute__": lambda self, key: "***" if key == "name" else object.__getattribute__(self, key),
        }
        if name == "signal":
            hide = lambda instance, **_: mask(instance)  # noqa: E731
            post_init.connect(hide, sender=Discreet, weak=False)
            try:
                found, shown = objects(ask(view, "?format=ndjson")), listed(view)
            finally:
                post_init.disconnect(hide, sender=Discreet)
        else:
            if name == "property":
                monkeypatch.setattr(Discreet, "name", property(masked, lambda self, value: None), raising=False)
            else:
                monkeypatch.setattr(Discreet, name, own[name], raising=False)
            found, shown = objects(ask(view, "?format=ndjson")), listed(view)
        assert found == shown == [{"id": Parent.objects.get().pk, "name": "***"}]

    def test_a_model_on_the_way_is_honoured_too(self, customers, monkeypatch, events):
        view = serializing(model=DriftEvent, of=serializers.CharField(source="customer.name"))
        assert mapped(view) == {"of": "customer__name"}
        load = Customer.from_db.__func__

        def shouted(kind, *args, **fetch_mode):
            found = load(kind, *args, **fetch_mode)
            found.name = "***"
            return found

        monkeypatch.setattr(Customer, "from_db", classmethod(shouted))
        assert objects(ask(view, "?format=ndjson")) == listed(view) == [{"of": "***"}] * 7

    def test_a_prefetch_that_hides_rows_is_honoured(self, events):
        view = serializing(model=DriftEvent, of=serializers.CharField(source="customer.name"))
        view.queryset = DriftEvent.objects.prefetch_related(
            Prefetch("customer", Customer.objects.filter(name="Cigna"))
        )
        assert mapped(view) == {}
        assert objects(ask(view, "?format=ndjson")) == listed(view)


@pytest.mark.usefixtures("customers")
class TestCursors:
    class Newest(CursorPagination):
        page_size = 2
        ordering = "-name"

    def test_an_export_has_the_order_of_the_pages(self):
        view = type("View", (Customers,), {"pagination_class": self.Newest, "queryset": Customer.objects.all()})
        first = json.loads(ask(view).content)["results"]
        found = objects(ask(view, "?format=ndjson"))
        assert [one["name"] for one in found] == NAMES[::-1]
        assert found[:2] == first

    def test_the_order_that_a_filter_chooses_goes_before_it(self):
        class Chosen(Customers):
            pagination_class = self.Newest
            filter_backends = (OrderingFilter,)
            ordering_fields = ("name",)

        assert [one["name"] for one in objects(ask(Chosen, "?format=ndjson&ordering=name"))] == NAMES

    def test_a_cursor_in_the_request_changes_nothing(self):
        view = type("View", (Customers,), {"pagination_class": self.Newest})
        url = json.loads(ask(view).content)["next"]
        cursor = parse_qs(urlsplit(url).query)["cursor"][0]
        assert len(objects(ask(view, f"?format=ndjson&{urlencode({'cursor': cursor})}"))) == 3


@pytest.mark.usefixtures("customers")
class TestLinks:
    @pytest.fixture
    def view(self, settings):
        settings.ROOT_URLCONF = types.ModuleType("urls")
        routes = [path("c/<int:pk>/", Customers.as_view({"get": "retrieve"}), name="c")]
        settings.ROOT_URLCONF.urlpatterns = format_suffix_patterns(routes)
        return serializing(
            link=serializers.HyperlinkedIdentityField("c"),
            own=serializers.SerializerMethodField(),
            get_own=lambda self, one: reverse("c", [one.pk], request=self.context["request"]),
        )

    @pytest.mark.parametrize("query", ["?format=ndjson", "?format=ndjson&columns=link,own"])
    def test_links_in_an_export_are_those_of_the_list(self, view, query):
        assert objects(ask(view, query)) == listed(view)

    def test_a_suffix_of_the_url_stays_out_of_links_too(self, view):
        answer = ask(view, accept="application/x-ndjson", format="ndjson")
        assert objects(answer) == listed(view)


@pytest.mark.usefixtures("events")
class TestMoments:
    def test_moments_have_one_form_in_a_file(self):
        view = serializing(
            ("a", "b", "c", "d"),
            DriftEvent,
            a=serializers.DateTimeField(source="created_at"),
            b=serializers.DateTimeField(source="copied"),
            c=serializers.DateTimeField(source="report_run.created_at", default=None),
            d=serializers.ReadOnlyField(source="copied"),
        )
        view.queryset = DriftEvent.objects.annotate(copied=F("created_at")).order_by("id")
        assert mapped(view) == {"a": "created_at"}
        for a, b, _, d in rows(ask(view, "?format=csv"))[1:]:
            assert a == b == d

    def test_a_zone_of_a_field_changes_the_hour_and_not_the_form(self):
        zone = ZoneInfo("Europe/Zurich")
        view = serializing(
            model=DriftEvent,
            a=serializers.DateTimeField(source="created_at"),
            b=serializers.DateTimeField(source="created_at", default_timezone=zone),
        )
        for a, b in rows(ask(view, "?format=csv"))[1:]:
            assert datetime.fromisoformat(a) == datetime.fromisoformat(b)
            assert (a[10], b[10], b[-6:]) == (" ", " ", "+01:00")


@pytest.mark.usefixtures("customers")
class TestFilterValues:
    def test_a_value_that_only_the_database_rejects_is_a_400(self):
        class Pattern(django_filters.FilterSet):
            pattern = django_filters.CharFilter(field_name="name", lookup_expr="regex")

        class Filtered(Customers):
            filter_backends = (DjangoFilterBackend,)
            filterset_class = Pattern

        assert len(rows(ask(Filtered, "?format=csv&pattern=^C"))) == 2
        told = refused(ask(Filtered, "?format=csv&pattern=("))
        assert told["non_field_errors"][0].startswith("the database cannot take a value of the filters")


class FakeSchema(ViewInspector):
    """Describes a view as drf-spectacular does: every operation answers in every format."""

    method = "GET"

    def get_operation(self, path, method):
        kinds = self.view.get_renderers()
        answers = {"200": {"content": {kind.media_type: {"schema": {"$ref": "#/rows"}} for kind in kinds}}}
        formats = {"in": "query", "name": "format", "schema": {"enum": [kind.format for kind in kinds]}}
        return {"responses": {**answers, "204": {}}, "parameters": [formats, {"in": "query", "name": "page"}]}


class TestSchema:
    @pytest.fixture
    def operation(self, monkeypatch):
        def operation(action, method="GET", schema=None):
            monkeypatch.setattr(APIView, "schema", FakeSchema())
            view = Customers()
            view.action = action
            if schema:
                view.schema = schema
            return view.schema.get_operation("/", method)

        return operation

    @pytest.mark.parametrize("schema", [None, FakeSchema()], ids=["of the site", "of the operation"])
    def test_a_list_names_the_files_it_answers_with(self, operation, schema):
        described = operation("list", schema=schema)
        found = {kind: one["schema"] for kind, one in described["responses"]["200"]["content"].items()}
        file = {"type": "string", "format": "binary"}
        assert found == {
            "application/json": {"$ref": "#/rows"},
            "text/csv": file,
            "text/tab-separated-values": file,
            "application/x-ndjson": file,
            Xlsx.content_type: file,
            "application/vnd.apache.parquet": file,
            "application/pdf": file,
        }
        names = {one["name"]: one.get("schema", {}).get("enum") for one in described["parameters"]}
        assert names == {
            "format": ["json", "csv", "tsv", "json-array", "ndjson", "xlsx", "parquet", "pdf"],
            "page": None,
            "columns": None,
        }

    @pytest.mark.parametrize("action", ["retrieve", "create"])
    def test_what_is_no_list_names_no_file(self, operation, action):
        described = operation(action)
        assert list(described["responses"]["200"]["content"]) == ["application/json"]
        assert [one["name"] for one in described["parameters"]] == ["page"]
