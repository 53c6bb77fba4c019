"""Exports in Django's admin: who may, which rows and columns, what the page shows, what the log says."""

import csv
import io
import json
import re
from datetime import date
from itertools import count
from uuid import UUID

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.cache import cache
from django.core.signals import request_finished
from django.db import close_old_connections, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.timezone import localdate, override

from tests import opening
from tests.asking import Told, create_user
from tests.fieldtypes.models import Ticket
from tests.test_querysets import row as everything
from upstream.integrations.admin import ExportModelAdmin
from upstream.integrations.formats import FORMATS, Format
from upstream.integrations.limits import Limits
from upstream.models import AlertEvent, Customer, DriftEvent, ReportRun
from upstream.streaming import Column, ColumnError, Parquet, Pdf, Xlsx

pytestmark = pytest.mark.django_db

NAMES = ["Aetna", "Cigna", "=1+1"]
ROWS = 250
ENCODERS = {
    "xlsx": Xlsx(),
    "parquet": Parquet(row_group_rows=100, types={"status": "string", "is_weekly": "bool"}),
    "pdf": Pdf(),
}


site = admin.AdminSite(name="probe")


def shout(run):
    return str(run.customer).upper()


@admin.register(ReportRun, site=site)
class RunAdmin(ExportModelAdmin):
    list_display = (
        "__str__",
        "customer",
        "status",
        "linked",
        "is_weekly",
        shout,
        "period_start",
        "customer__name",
    )
    list_filter = ("status", "customer")
    search_fields = ("customer__name",)
    ordering = ("pk",)
    list_per_page = 20

    @admin.display(description="the link")
    def linked(self, run):
        return format_html('<a href="/x">{} &amp; more</a>', run.status)

    @admin.display(boolean=True)
    def is_weekly(self, run):
        return run.run_type == "weekly"


@admin.register(Customer, site=site)
class CustomerAdmin(ExportModelAdmin):
    search_fields = ("name",)
    list_display = ("name",)
    export_columns = (Column("name", header="Customer", value=str.upper), "id")
    export_formats = ("json", "csv")
    change_list_template = "admin/change_list.html"


@admin.register(DriftEvent, site=site)
class EventAdmin(ExportModelAdmin):
    """Nothing but what a ModelAdmin has by itself."""


@admin.register(Ticket, site=site)
class TicketAdmin(ExportModelAdmin):
    list_display = ("pk", "everything")
    ordering = ("pk",)


urlpatterns = [path("probe/", site.urls)]


@pytest.fixture
def probe(settings):
    settings.ROOT_URLCONF = __name__


@pytest.fixture
def runs(probe):
    customers = [Customer.objects.create(name=name) for name in NAMES]
    statuses = ["pending", "running", "success"]
    return ReportRun.objects.bulk_create(
        ReportRun(
            customer=customers[number % 3],
            run_type="weekly" if number % 2 else "monthly",
            status=statuses[number // 3 % 3],
            period_start=date(2026, 1, 1 + number % 28),
            period_end=date(2026, 2, 1),
        )
        for number in range(ROWS)
    )


@pytest.fixture
def root(client):
    client.force_login(create_user("root", is_staff=True, is_superuser=True))
    return client


def names(model):
    return f"{model._meta.app_label}_{model._meta.model_name}"


def url(model, kind, query=""):
    return reverse(f"probe:{names(model)}_{kind}") + query


def export(client, model, query="", *, status=200, **data):
    """Send the form of the page, all columns chosen unless told otherwise; return the answer."""
    address = url(model, "export", query)
    if "columns" not in data:
        form = client.get(address).context["form"]
        data["columns"] = form.fields["columns"].initial
    answer = client.post(address, {"format": "csv", "profile": "data", **data})
    assert answer.status_code == status, answer.content
    return answer


def body(answer):
    return answer.getvalue().decode()


def rows(answer):
    return list(csv.reader(io.StringIO(body(answer), newline="")))


def column(answer, name):
    return [row[name] for row in csv.DictReader(io.StringIO(body(answer), newline=""))]


def listed(client, model, query=""):
    """Return the primary keys that the changelist shows, over all of its pages."""
    keys = []
    for page in range(1, 100):
        changelist = client.get(url(model, "changelist", f"{query}{'&' if query else '?'}p={page}")).context["cl"]
        keys += [row.pk for row in changelist.result_list]
        if len(keys) >= changelist.result_count:
            return keys
    raise AssertionError


@pytest.mark.usefixtures("runs")
class TestRows:
    @pytest.mark.parametrize(
        "query",
        [
            "",
            "?status__exact=running",
            "?q=Aetna",
            "?o=-7.3",
            "?status__exact=success&q=Cigna&o=7.-3",
            "?customer__id__exact=0",
            "?p=3",
            "?all=",
            "?_facets=True&status__exact=pending",
        ],
    )
    def test_they_are_those_of_the_list_in_its_order_on_all_of_its_pages(self, root, query):
        RunAdmin.export_columns = ("id",)
        try:
            keys = [int(key) for key in column(export(root, ReportRun, query), "id")]
        finally:
            RunAdmin.export_columns = None
        shown = re.sub(r"[?&](p=3|all=)", "", query)
        assert keys == listed(root, ReportRun, shown)

    def test_they_are_queried_by_the_filters_and_counted_nowhere(self, root):
        form = root.get(url(ReportRun, "export")).context["form"]
        with CaptureQueriesContext(connection) as queries:
            answer = root.post(
                url(ReportRun, "export", "?status__exact=running"),
                {
                    "format": "csv",
                    "profile": "data",
                    "export_background": "0",
                    "columns": form.fields["columns"].initial,
                },
            )
            assert len(rows(answer)) > 2
        selects = [query["sql"] for query in queries if 'FROM "upstream_reportrun"' in query["sql"]]
        assert len(selects) == 1
        assert "COUNT" not in selects[0]
        assert " IN (" not in selects[0]
        assert "'running'" in selects[0]

    def test_rows_of_a_relation_that_is_shown_as_text_need_no_query_each(self, root):
        def queries():
            with CaptureQueriesContext(connection) as captured:
                export(root, ReportRun, columns=["customer", "shout"]).getvalue()
            return len(captured)

        before = queries()
        ReportRun.objects.filter(pk__gt=ReportRun.objects.order_by("pk")[100].pk).delete()
        assert queries() == before

    def test_a_filter_that_cannot_be_read_is_a_400(self, root):
        assert root.get(url(ReportRun, "export", "?customer__id__exact=abc")).status_code == 400
        assert root.get(url(ReportRun, "export", "?customer__secret=1")).status_code == 400


def act(client, model, data, query=""):
    return client.post(url(model, "changelist", query), {"action": "export_selected", "index": "0", **data})


@pytest.mark.usefixtures("runs")
class TestSelection:
    def test_selected_rows_are_exported_in_the_order_of_the_list(self, root):
        chosen = [row.pk for row in ReportRun.objects.order_by("-pk")[10:15]]
        page = act(root, ReportRun, {"_selected_action": chosen}, "?o=-7")
        assert page.context["count"] == 5
        assert page.content.decode().count('name="_selected_action"') == 5
        target = re.search(r'<form method="post" action="([^"]+)" id="export-form"', page.content.decode())[1]
        answer = root.post(
            target.replace("&amp;", "&"),
            {"format": "csv", "profile": "data", "columns": ["period_start"], "_selected_action": chosen},
        )
        days = ReportRun.objects.filter(pk__in=chosen).order_by("-period_start", "-pk")
        assert column(answer, "period_start") == [str(run.period_start) for run in days]

    def test_all_rows_of_all_pages_are_the_query_and_no_keys(self, root):
        data = {"_selected_action": [ReportRun.objects.first().pk], "select_across": "1"}
        page = act(root, ReportRun, data, "?status__exact=running")
        assert page.context["count"] == ReportRun.objects.filter(status="running").count()
        assert b'name="_selected_action"' not in page.content
        assert b"status__exact=running" in page.content

    def test_a_row_that_the_list_does_not_show_cannot_be_selected(self, root):
        hidden = ReportRun.objects.filter(status="pending").first().pk
        answer = export(root, ReportRun, "?status__exact=running", columns=["status"], _selected_action=[hidden])
        assert rows(answer) == [["status"]]

    def test_a_selection_that_cannot_be_read_is_a_400(self, root):
        export(root, ReportRun, columns=["status"], _selected_action=["abc"], status=400)


@pytest.mark.usefixtures("runs")
class TestColumns:
    def test_those_of_the_list_are_exported_as_it_shows_them(self, root):
        header, first, *rest = rows(export(root, ReportRun, profile="excel"))
        assert [name.removeprefix("\ufeff") for name in header] == [
            *(
                "Report run",
                "Customer",
                "Status",
                "The link",
                "Is weekly",
                "Shout",
                "Period start",
                "Customer name",
            )
        ]
        assert first[1:] == [*("Aetna", "Pending", "pending & more", "False", "AETNA", "2026-01-01", "Aetna")]
        assert first[0].startswith("Monthly report 2026-01-01")
        assert len(rest) == ROWS - 1

    def test_data_has_names_for_headers_and_every_value_as_it_is(self, root):
        header, *found = rows(export(root, ReportRun))
        assert header == [
            *("reportrun", "customer", "status", "linked", "is_weekly", "shout", "period_start", "customer__name")
        ]
        assert found[2][1] == "=1+1"

    def test_a_spreadsheet_gets_no_formula(self, root):
        assert rows(export(root, ReportRun, profile="excel"))[3][1] == "'=1+1"

    def test_json_is_data_whatever_the_profile(self, root):
        found = json.loads(body(export(root, ReportRun, format="json", profile="excel", columns=["customer"])))
        assert found[2] == {"customer": "=1+1"}

    def test_chosen_ones_come_in_the_order_of_the_list(self, root):
        answer = export(root, ReportRun, columns=["period_start", "status"])
        assert rows(answer)[0] == ["status", "period_start"]

    def test_columns_of_ones_own_keep_their_headers(self, root):
        found = rows(export(root, Customer))
        assert found[0] == ["Customer", "id"]
        assert found[-1][0] == "AETNA"

    def test_a_plain_model_admin_exports_the_text_of_its_rows(self, root):
        assert rows(export(root, DriftEvent)) == [["driftevent"]]

    def test_the_other_end_of_a_one_to_one_relation_is_the_text_of_its_row(self, root):
        tickets = [Ticket.objects.create(id=UUID(int=number)) for number in range(20)]
        for number, ticket in enumerate(tickets[:15]):
            everything(char=f"the row {number}", ticket=ticket).save()
        with CaptureQueriesContext(connection) as queries:
            found = rows(export(root, Ticket, columns=["pk", "everything"]))
        shown = [f"the row {number}" for number in range(15)]
        assert [row[1] for row in found] == ["everything", *shown, *[""] * 5]
        assert sum("fieldtypes_everything" in query["sql"] for query in queries) == 1

    def test_functions_without_a_name_are_told_apart_by_numbers(self, root, monkeypatch):
        columns = (lambda run: 1, lambda run: 2, "status", lambda run: 3)
        monkeypatch.setattr(RunAdmin, "export_columns", columns)
        answer = export(root, ReportRun)
        assert rows(answer)[1] == ["1", "2", "pending", "3"]
        assert json.loads(LogEntry.objects.get().change_message)["columns"] == [
            *("column", "column-2", "status", "column-3")
        ]

    @pytest.mark.parametrize("chosen", [["password"], ["customer__report_runs__id"], ["pk"], ["__class__"], []])
    def test_others_are_a_400_that_shows_what_there_is(self, root, chosen):
        answer = export(root, ReportRun, columns=chosen, status=400)
        assert answer.context["form"].errors["columns"]
        assert b"Period start" in answer.content

    @pytest.mark.parametrize("name", ["xls", "../csv", ""])
    def test_an_unknown_format_is_a_400_that_shows_the_known(self, root, name):
        answer = export(root, Customer, columns=["name"], format=name, status=400)
        assert answer.context["form"].errors["format"]
        assert {label for _, label in answer.context["form"].fields["format"].choices} == {"JSON", "CSV"}


MATRIX = {
    # who: (may see the button, the page)
    "anonymous": (False, 302),
    "visitor": (False, 302),  # logged in, but not of the staff
    "staff": (False, 403),
    "view": (False, 403),
    "export": (False, 403),  # of rows that may not be seen, nothing is exported
    "view and export": (True, 200),
    "superuser": (True, 200),
}


@pytest.mark.usefixtures("runs")
class TestPermission:
    @pytest.fixture(params=MATRIX)
    def visitor(self, request):
        codenames = {
            "view": ["view_reportrun"],
            "export": ["export_reportrun"],
            "view and export": ["view_reportrun", "export_reportrun"],
        }
        client = Client()
        if request.param != "anonymous":
            flags = {"is_staff": request.param != "visitor", "is_superuser": request.param == "superuser"}
            client.force_login(create_user("one", *codenames.get(request.param, ()), **flags))
        return client, *MATRIX[request.param]

    def test_only_who_may_view_and_export_the_model_gets_anything(self, visitor):
        client, may_see, status = visitor
        page = client.get(url(ReportRun, "export"))
        answer = client.post(url(ReportRun, "export"), {"format": "csv", "profile": "data", "columns": ["status"]})
        assert (page.status_code, answer.status_code) == (status, status)
        assert ("Content-Disposition" in answer) == may_see
        if may_see:
            assert len(rows(answer)) == ROWS + 1
        else:
            assert LogEntry.objects.count() == 0

    def test_only_they_see_the_button_and_the_action(self, visitor):
        client, may_see, _ = visitor
        content = client.get(url(ReportRun, "changelist")).content.decode()
        assert ("/export/" in content) == may_see
        assert ("export_selected" in content) == may_see

    def test_a_column_of_another_model_needs_the_permission_to_view_that(self, client):
        client.force_login(create_user("one", "view_reportrun", "export_reportrun", is_staff=True))
        offered = client.get(url(ReportRun, "export")).context["form"].fields["columns"].initial
        assert "status" in offered
        assert not {"customer", "customer__name"} & set(offered)
        for name in ("customer", "customer__name"):
            export(client, ReportRun, columns=[name], status=400)
        User.objects.get().user_permissions.add(
            Permission.objects.get(codename="view_customer", content_type__app_label="upstream")
        )
        assert len(rows(export(client, ReportRun, columns=["customer", "customer__name"]))) == ROWS + 1

    def test_a_form_from_elsewhere_is_refused(self, root):
        strict = Client(enforce_csrf_checks=True)
        strict.force_login(User.objects.get())
        data = {"format": "csv", "profile": "data", "columns": ["status"]}
        assert strict.post(url(ReportRun, "export"), data).status_code == 403


@pytest.mark.usefixtures("runs")
class TestPage:
    def test_it_says_how_many_rows_there_are(self, root):
        content = root.get(url(ReportRun, "export", "?status__exact=running")).content.decode()
        assert f"To be exported: {ReportRun.objects.filter(status='running').count()} report runs," in content

    def test_it_has_the_filters_of_the_list_in_its_form_and_its_way_back(self, root):
        query = "?status__exact=running&q=Aetna"
        content = root.get(url(ReportRun, "export", query)).content.decode()
        assert f'action="{url(ReportRun, "export")}{query.replace("&", "&amp;")}"' in content
        assert f'href="{url(ReportRun, "changelist")}{query.replace("&", "&amp;")}"' in content

    def test_the_button_leads_there_with_the_filters_of_the_list(self, root):
        content = root.get(url(ReportRun, "changelist", "?status__exact=running&p=1")).content.decode()
        assert f'href="{url(ReportRun, "export")}?status__exact=running"' in content

    def test_a_popup_has_no_button(self, root):
        assert b"/export/" not in root.get(url(ReportRun, "changelist", "?_popup=1")).content

    def test_every_group_of_choices_has_its_name_and_every_choice_its_label(self, root):
        content = root.get(url(ReportRun, "export")).content.decode()
        form = content[content.index('id="export-form"') :]
        groups = re.findall(r"<fieldset[^>]*>\s*<legend[^>]*>([^<]+)</legend>", form)
        assert groups == ["Format", "Profile", "Columns", "Delivery"]
        inputs = re.findall(r'<input type="(?:radio|checkbox)"[^>]*id="([^"]+)"', form)
        assert len(inputs) == len(set(inputs)) == len(FORMATS) + 2 + 8 + 3
        assert set(re.findall(r'<label for="([^"]+)"', form)) == set(inputs)

    def test_an_error_is_tied_to_its_group(self, root):
        content = export(root, ReportRun, columns=[], status=400).content.decode()
        assert 'aria-describedby="id_columns_error"' in content
        assert "Choose at least one column." in content
        assert 'role="alert"' in content

    def test_more_rows_than_may_be_are_said_before_they_are_refused(self, root, monkeypatch):
        monkeypatch.setattr(RunAdmin, "export_limits", Limits(rows=10))
        assert b"An export may have at most 10 rows." in root.get(url(ReportRun, "export")).content
        answer = export(root, ReportRun, status=429)
        assert answer["Retry-After"] == "30"

    @pytest.mark.parametrize(
        ("query", "reason"), [("?status__exact=failed", "No row matches the filters."), ("", "The list is empty.")]
    )
    def test_nothing_to_export_disables_the_button_in_words(self, root, query, reason):
        if not query:
            ReportRun.objects.all().delete()
        content = root.get(url(ReportRun, "export", query)).content.decode()
        assert f"There is nothing to export. {reason}" in content
        assert re.search(r'<input type="submit"[^>]* disabled aria-describedby="export-reason">', content)
        assert " disabled" not in root.get(url(Customer, "export")).content.decode()

    def test_no_column_that_may_be_viewed_disables_the_button_in_words(self, client, monkeypatch):
        monkeypatch.setattr(RunAdmin, "export_columns", ("customer", "customer__name"))
        client.force_login(create_user("one", "view_reportrun", "export_reportrun", is_staff=True))
        content = client.get(url(ReportRun, "export")).content.decode()
        assert "All columns show other models, and you lack the permission to view those." in content
        assert 'disabled aria-describedby="export-reason"' in content

    @pytest.mark.parametrize(
        ("may", "missing"),
        [
            ([], ["upstream.view_reportrun", "upstream.export_reportrun"]),
            (["view_reportrun"], ["upstream.export_reportrun"]),
            (["change_reportrun"], ["upstream.export_reportrun"]),
            (["export_reportrun"], ["upstream.view_reportrun"]),
        ],
    )
    def test_a_refusal_names_the_missing_permissions(self, client, may, missing):
        client.force_login(create_user("one", *may, is_staff=True))
        answer = client.get(url(ReportRun, "export"))
        assert answer.status_code == 403
        assert re.findall(r"<code>(.*?)</code>", answer.content.decode()) == missing

    def test_buttons_that_need_the_script_are_hidden_without_it(self, root):
        content = root.get(url(ReportRun, "export")).content.decode()
        assert "data-export-choose hidden>" in content
        assert re.findall("<script[^>]*>(?!</script>)", content) == []  # none that a strict policy would block

    def test_a_list_template_of_ones_own_stays_below_the_button(self, root):
        assert b"/export/" in root.get(url(Customer, "changelist")).content


def logged():
    [entry] = LogEntry.objects.all()
    return entry, json.loads(entry.change_message)


class Recent(admin.SimpleListFilter):
    title = format_html("<b>{}</b> recent", "how")
    parameter_name = "recent"

    def lookups(self, request, model_admin):
        return [("early", "The early ones"), ("late", "The late ones")]

    def value(self):
        return super().value() or "early"

    def queryset(self, request, queryset):
        return queryset.filter(period_start__day__lt=15) if self.value() == "early" else queryset


@pytest.mark.usefixtures("runs")
class TestNarrowed:
    """The page says in words what narrows the list."""

    def narrowed(self, client, query, model=ReportRun):
        return client.get(url(model, "export", query)).context["narrowed_by"]

    @pytest.mark.parametrize(
        ("query", "words"),
        [
            ("", []),
            ("?p=3&all=", []),
            ("?q=Aet", [("Search", "Aet")]),
            ("?status__exact=running", [("Status", "Running")]),
            ("?q=x&status__exact=success", [("Search", "x"), ("Status", "Success")]),
            ("?o=-1", []),
            ("?status__in=running,success", [("Status (in)", "Running, Success")]),
            ("?run_type=weekly", [("Run type", "Weekly")]),
            ("?period_start__year=2026", [("Period start (year)", "2026")]),
            ("?status__exact=odd", [("Status", "odd")]),
        ],
    )
    def test_search_filters_and_lookups_have_the_words_of_the_list(self, root, query, words):
        assert self.narrowed(root, query) == words

    def test_a_related_row_is_called_as_in_the_sidebar(self, root):
        customer = Customer.objects.get(name="Cigna")
        assert self.narrowed(root, f"?customer__id__exact={customer.pk}") == [("Customer", "Cigna")]

    def test_a_filter_that_applies_by_default_is_named_too(self, root, monkeypatch):
        monkeypatch.setattr(RunAdmin, "list_filter", (Recent, ("period_end", admin.DateFieldListFilter)))
        assert self.narrowed(root, "") == [("How recent", "The early ones")]
        assert self.narrowed(root, "?recent=late") == [("How recent", "The late ones")]

    def test_facets_are_not_counted_for_the_words(self, root, monkeypatch):
        monkeypatch.setattr(RunAdmin, "show_facets", admin.ShowFacets.ALWAYS)
        assert self.narrowed(root, "?status__exact=running") == [("Status", "Running")]

    @pytest.mark.parametrize(
        ("query", "words"),
        [
            ("?period_start__year=2026", "2026"),
            ("?period_start__year=2026&period_start__month=1", "January 2026"),
            ("?period_start__year=2026&period_start__month=1&period_start__day=3", "Jan. 3, 2026"),
        ],
    )
    def test_the_hierarchy_of_dates_is_a_date(self, root, monkeypatch, query, words):
        monkeypatch.setattr(RunAdmin, "date_hierarchy", "period_start")
        assert self.narrowed(root, query) == [("Period start", words)]

    def test_words_are_escaped(self, root):
        page = root.get(url(ReportRun, "export", "?q=<b>%26")).content.decode()
        assert "<li>Search: <strong>&lt;b&gt;&amp;</strong></li>" in page

    def test_they_speak_the_language_of_the_reader(self, root):
        page = root.get(url(ReportRun, "export", "?q=x"), headers={"Accept-Language": "de"})
        assert page.context["narrowed_by"] == [("Suchen", "x")]

    def test_an_action_for_all_rows_has_them_and_one_for_some_has_not(self, root):
        def page(**data):
            keys = [ReportRun.objects.filter(status="running").first().pk]
            address = url(ReportRun, "changelist", "?status__exact=running")
            answer = root.post(address, {"action": "export_selected", "_selected_action": keys, **data})
            return answer.context["narrowed_by"]

        assert page(select_across="1") == [("Status", "Running")]
        assert page(select_across="0") == []


@pytest.mark.usefixtures("runs")
class TestLog:
    def test_a_whole_export_is_there_with_who_what_and_how_much(self, root):
        answer = export(root, ReportRun, "?status__exact=running&q=Aetna", columns=["status", "period_start"])
        size = len(answer.getvalue())
        entry, message = logged()
        assert entry.user.username == "root"
        assert entry.content_type.model_class() is ReportRun
        assert str(entry.object_repr) == "Export of report runs"
        assert message.pop("seconds") > 0
        assert message == {
            "outcome": "complete",
            "format": "csv",
            "profile": "data",
            "columns": ["status", "period_start"],
            "filter": "status__exact=running&q=Aetna",
            "rows": ReportRun.objects.filter(status="running", customer__name="Aetna").count(),
            "bytes": size,
        }

    def test_a_selection_is_there_by_its_number(self, root):
        chosen = [row.pk for row in ReportRun.objects.all()[:3]]
        export(root, ReportRun, columns=["status"], _selected_action=chosen).getvalue()
        assert logged()[1]["selected"] == 3

    def test_one_that_nobody_reads_to_its_end_is_aborted(self, root, monkeypatch):
        monkeypatch.setattr(RunAdmin, "export_columns", ("status",))
        answer = export(root, ReportRun)
        assert logged()[1]["outcome"] == "started"
        request_finished.disconnect(close_old_connections)  # as the client does at the end of what it reads
        try:
            answer.close()
        finally:
            request_finished.connect(close_old_connections)
        assert logged()[1]["outcome"] == "aborted"

    def test_one_over_a_limit_is_refused(self, root, monkeypatch):
        monkeypatch.setattr(RunAdmin, "export_limits", Limits(rows=10))
        export(root, ReportRun, status=429)
        message = logged()[1]
        assert (message["outcome"], message["rows"], message["error"]) == ("refused", 0, "LimitError")

    def test_one_that_fails_says_by_what(self, root, monkeypatch):
        def fail(self, run):
            raise ZeroDivisionError

        monkeypatch.setattr(RunAdmin, "is_weekly", fail)
        with pytest.raises(ZeroDivisionError):
            export(root, ReportRun)
        message = logged()[1]
        assert (message["outcome"], message["error"]) == ("failed", "ZeroDivisionError")

    def test_an_export_that_is_not_even_begun_is_not_there(self, root, monkeypatch):
        monkeypatch.setattr(RunAdmin, "export_columns", (Column("no_such_field"),))
        with pytest.raises(ColumnError):
            export(root, ReportRun)
        assert not LogEntry.objects.exists()

    def test_an_export_that_cannot_be_recorded_is_not_made(self, root, monkeypatch):
        def fail(*_args, **_kwargs):
            raise ZeroDivisionError

        monkeypatch.setattr(type(LogEntry.objects), "create", fail)
        with pytest.raises(ZeroDivisionError):
            export(root, ReportRun)


@pytest.mark.usefixtures("runs")
class TestDownload:
    def test_its_name_is_that_of_the_model_with_the_date_here(self, root, settings):
        for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):  # never on the same day
            with override(zone):
                day = localdate()
                answer = export(root, ReportRun)
            assert answer["Content-Disposition"] == f'attachment; filename="reportrun_{day.isoformat()}.csv"'
            answer.getvalue()

    def test_its_name_can_be_chosen(self, root, monkeypatch):
        def name(self, request, queryset, file_format):
            return file_format.filename(queryset, f"{request.user}_{queryset.model.__name__}")

        monkeypatch.setattr(RunAdmin, "get_export_filename", name)
        answer = export(root, ReportRun)
        assert answer["Content-Disposition"] == 'attachment; filename="root_ReportRun.csv"'
        answer.getvalue()

    @pytest.mark.parametrize("spool", [False, True], ids=["live", "spooled"])
    @pytest.mark.parametrize("suffix", ENCODERS)
    def test_a_document_that_breaks_is_opened_by_no_reader_and_leaves_its_place(
        self, root, monkeypatch, suffix, spool
    ):
        cache.clear()
        calls = count()

        def fail_later(self, run):
            if next(calls) == 200:
                raise ZeroDivisionError
            return True

        monkeypatch.setattr(RunAdmin, "is_weekly", fail_later)
        monkeypatch.setattr(RunAdmin, "export_formats", (Format(suffix, suffix, ENCODERS[suffix]), "csv"))
        monkeypatch.setattr(RunAdmin, "export_limits", Limits(per_user=1))
        monkeypatch.setattr(RunAdmin, "export_spool", spool)
        sent = []
        with pytest.raises(ZeroDivisionError):
            sent.extend(export(root, ReportRun, format=suffix, columns=["status", "is_weekly"]))
        assert bool(sent) is not spool
        assert set(opening.opened(suffix, b"".join(sent)).values()) == {None}
        assert logged()[1]["outcome"] == "failed"
        assert len(rows(export(root, ReportRun, columns=["status"]))) == ROWS + 1

    def test_its_signals_come_from_the_model_admin(self, root):
        with Told(RunAdmin) as told:
            export(root, ReportRun).getvalue()
        assert [name for name, _ in told] == ["started", "finished"]

    def test_limits_at_a_time_are_for_each_user(self, root, monkeypatch):
        cache.clear()
        monkeypatch.setattr(RunAdmin, "export_limits", Limits(per_user=1))
        running = export(root, ReportRun)
        export(root, ReportRun, status=429)
        running.getvalue()
        export(root, ReportRun).getvalue()


def test_every_list_of_the_application_can_be_exported(root):
    for model in (Customer, ReportRun, DriftEvent, AlertEvent):
        address = reverse(f"admin:{names(model)}_export")
        page = root.get(address)
        assert page.status_code == 200
        data = {"format": "csv", "profile": "data", "columns": page.context["form"].fields["columns"].initial}
        header, *found = rows(root.post(address, data))
        assert len(header) == len(data["columns"])
        assert found == []


def test_a_report_run_is_a_fact_that_nobody_changes(root):
    customer = Customer.objects.create(name="Cedar")
    run = ReportRun.objects.create(
        customer=customer, run_type="weekly", status="failed", period_start=localdate(), period_end=localdate()
    )
    address = reverse("admin:upstream_reportrun_change", args=[run.pk])
    assert root.get(address).status_code == 200
    assert root.post(address, {"status": "success"}).status_code == 403
    run.refresh_from_db()
    assert run.status == "failed"


def test_a_customer_is_deleted_with_the_facts_about_it(root):
    customer = Customer.objects.create(name="Cedar")
    customer.report_runs.create(run_type="weekly", period_start=localdate(), period_end=localdate())
    root.post(reverse("admin:upstream_customer_delete", args=[customer.pk]), {"post": "yes"})
    assert not ReportRun.objects.exists()


def test_a_rule_of_the_admin_is_one_whose_alerts_can_be_delivered(root):
    customer = Customer.objects.create(name="Cedar")
    rule = customer.alert_rules.create(name="Cuts", threshold_value=0.5)
    address = reverse("admin:upstream_alertrule_change", args=[rule.pk])
    data = {"customer": customer.pk, "name": "Cuts", "threshold_value": "0.5"}
    refused = root.post(address, {**data, "webhook_url": "ftp://hooks.example.com/x"})
    assert b"A webhook starts with https:// or http://." in refused.content
    assert root.post(address, {**data, "webhook_url": "hooks.example.com/x"}).status_code == 302
    rule.refresh_from_db()
    assert rule.webhook_url == "https://hooks.example.com/x"
