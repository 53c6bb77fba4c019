"""The options of exports have one set of names, and each works in views, in model admins and in REST framework."""

import csv
import io
import re
from pathlib import Path
from urllib.parse import urlencode

import pytest
from django.contrib import admin
from django.contrib.admin.sites import all_sites
from django.core.exceptions import PermissionDenied
from django.test import RequestFactory
from django.urls import path
from django.utils.timezone import localdate
from rest_framework.serializers import ModelSerializer
from rest_framework.test import APIRequestFactory, force_authenticate
from rest_framework.viewsets import ReadOnlyModelViewSet

from tests import asking
from tests.asking import create_user
from upstream.integrations.admin import ExportAdminMixin, ExportModelAdmin
from upstream.integrations.drf import ExportListMixin
from upstream.integrations.formats import Format
from upstream.integrations.limits import Limits
from upstream.integrations.options import PREFIX, ExportOptions
from upstream.integrations.views import ExportMixin, ExportView
from upstream.models import Customer
from upstream.streaming import Csv

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("answers")]

SHARED = {"columns", "formats", "permission", "profile", "filename", "spool", "limits"}
OWN = {
    ExportMixin: {"format_parameter", "ordering_fields", "filter_fields"},
    ExportListMixin: {"format_parameter", "unchanged_by"},
    ExportAdminMixin: set(),
}
GUIDE = Path(__file__).resolve().parent.parent / "upstream" / "integrations" / "README.md"
PIPES = Format("pipes", "Pipes", Csv(delimiter="|"))

urlpatterns = []


def declared(kind, prefix=""):
    """Return the options that a class declares, by the names that they have without the prefix."""
    names = {name for one in kind.__mro__ if one.__module__.startswith("upstream.") for name in vars(one)}
    values = {name: getattr(kind, name) for name in names if name.startswith(prefix) and name[0] != "_"}
    methods = {name for name, value in values.items() if callable(value)} | {"schema"}
    return {
        name.removeprefix(prefix)
        for name in values.keys() - methods
        if not isinstance(values[name], property) and (prefix or not name.startswith(PREFIX))
    }


def test_the_three_classes_have_the_same_options():
    assert declared(ExportOptions, PREFIX) == SHARED
    of_django = {"login_url", "permission_denied_message", "raise_exception", "redirect_field_name"}
    assert declared(ExportMixin) - of_django == SHARED | OWN[ExportMixin]
    assert declared(ExportMixin, PREFIX) == SHARED | {"format_parameter"}
    for kind in (ExportListMixin, ExportAdminMixin):
        assert declared(kind, PREFIX) - {"url_name"} == SHARED | OWN[kind]


def test_the_guide_names_the_options_and_where_they_are():
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", GUIDE.read_text(), re.MULTILINE)
    listed = {name: where.strip() for name, where in rows if "views" in where or "REST" in where or "all" in where}
    assert {name for name, where in listed.items() if where == "all"} == SHARED
    assert {name for name, where in listed.items() if "views" in where} == OWN[ExportMixin]
    assert {name for name, where in listed.items() if "REST" in where} == OWN[ExportListMixin]


class CustomerSerializer(ModelSerializer):
    class Meta:
        model = Customer
        fields = ("id", "name")


class Viewed(ExportView):
    queryset = Customer.objects.order_by("id")
    columns = ("id", "name")


class Listed(ExportListMixin, ReadOnlyModelViewSet):
    queryset = Customer.objects.order_by("id")
    serializer_class = CustomerSerializer
    permission_classes = ()


class Administered(ExportModelAdmin):
    list_display = ("id", "name")
    ordering = ("id",)


def by_view(user, asked, options):
    return asking.ask(type("View", (Viewed,), options), f"?{urlencode(asked)}", user)


def by_rest(user, asked, options):
    request = APIRequestFactory().get("/x", asked)
    force_authenticate(request, user)
    return type("View", (Listed,), options).as_view({"get": "list"})(request)


def by_admin(user, asked, options):
    site = admin.AdminSite()
    site.register(Customer, type("Admin", (Administered,), options))
    all_sites.discard(site)  # else it is checked until it is collected
    urlpatterns[:] = [path("admin/", site.urls)]
    names = list(options.get("export_columns", ["id", "name"]))
    columns = asked.get("columns", ",".join(names)).split(",")
    request = RequestFactory().post("/x", {"profile": "data", **asked, "columns": columns})
    request.user = user
    return site.get_model_admin(Customer).export_view(request)


# Who exports, and what stands before the names of options there.
WAYS = pytest.mark.parametrize(
    ("way", "prefix"),
    [
        pytest.param(by_view, "", id="view"),
        pytest.param(by_view, PREFIX, id="view with the prefix"),
        pytest.param(by_rest, PREFIX, id="REST framework"),
        pytest.param(by_admin, PREFIX, id="admin"),
    ],
)


@pytest.fixture
def root(settings, customers):
    settings.ROOT_URLCONF = __name__
    return create_user("root", "view_customer", "export_customer", is_staff=True)


@pytest.fixture
def export(way, prefix, root):
    """Ask one of the three for an export, with these options declared."""

    def export(asked=None, user=root, **options):
        declared = {f"{prefix}{name}": value for name, value in options.items()}
        answer = way(user, {"format": "csv", **(asked or {})}, declared)
        asking._answers.append(answer)
        return answer.render() if hasattr(answer, "render") else answer

    return export


def table(answer, delimiter=","):
    return list(csv.reader(io.StringIO(asking.text(answer), newline=""), delimiter=delimiter))


@WAYS
class TestEachOption:
    def test_columns_are_the_ones_to_choose_from(self, export):
        assert table(export(columns=["name"])) == [["name"], *([name] for name in asking.NAMES)]
        assert export({"columns": "id"}, columns=["name"]).status_code == 400

    def test_columns_may_have_public_names(self, export):
        public = {"who": "name", "number": "id"}
        found = table(export({"columns": "who"}, columns=public))
        assert [row[0] for row in found[1:]] == asking.NAMES
        assert len(found[0]) == 1
        assert export({"columns": "name"}, columns=public).status_code == 400

    def test_formats_are_the_ones_to_choose_from(self, export):
        formats = ["csv", PIPES]
        assert table(export({"format": "pipes"}, formats=formats), "|")[0] == ["id", "name"]
        assert export({"format": "ndjson"}, formats=formats).status_code in (400, 404)

    def test_permission_is_by_default_the_one_to_export_the_model(self, export):
        viewer = create_user("viewer", "view_customer", is_staff=True)
        assert export().status_code == 200
        assert "upstream.export_customer" in denial(export, viewer)

    def test_permission_may_be_another_or_none(self, export):
        viewer = create_user("viewer", "view_customer", is_staff=True)
        assert export(user=viewer, permission=None).status_code == 200
        assert export(user=viewer, permission="upstream.view_customer").status_code == 200
        assert "upstream.delete_customer" in denial(export, viewer, permission="upstream.delete_customer")

    def test_profile_is_the_one_that_an_export_has(self, export, way):
        if way is by_admin:  # whose page asks, and proposes it: see below
            return
        assert asking.text(export(profile="excel")).startswith("\ufeff")
        assert not asking.text(export(profile="data")).startswith("\ufeff")

    def test_filename_is_the_name_without_the_suffix(self, export, way):
        date = f"_{localdate()}" if way is by_admin else ""
        assert export()["Content-Disposition"] == f'attachment; filename="customer{date}.csv"'
        named = export(filename="payers")["Content-Disposition"]
        assert named == f'attachment; filename="payers{date}.csv"'

    @pytest.mark.parametrize("spool", [True, False])
    def test_spool_decides_whether_the_download_is_written_to_disk_first(self, export, spool):
        assert ("Content-Length" in export(spool=spool)) == spool

    def test_limits_replace_those_of_the_site(self, export, settings):
        assert export(limits=Limits(rows=2)).status_code == 429
        settings.UPSTREAM_EXPORT_LIMITS = {"rows": 2}
        assert export().status_code == 429
        assert export(limits=Limits(rows=3)).status_code == 200


def denial(export, user, **options):
    """Return the words of the answer that says what is missing."""
    try:
        answer = export(user=user, **options)
    except PermissionDenied as error:
        return str(error)
    assert answer.status_code == 403
    return answer.content.decode()


@pytest.mark.parametrize("profile", ["data", "excel"])
def test_the_page_of_the_admin_proposes_the_profile(client, root, profile):
    client.force_login(root)
    site = admin.AdminSite(name="admin")
    site.register(Customer, type("Admin", (Administered,), {"export_profile": profile}))
    all_sites.discard(site)
    urlpatterns[:] = [path("admin/", site.urls)]
    page = client.get("/admin/upstream/customer/export/").content.decode()
    [checked] = re.findall(r'name="profile" value="(\w+)"[^>]* checked', page)
    assert checked == profile


def test_the_prefixed_name_wins_in_a_view(root):
    assert (
        by_view(root, {"format": "csv"}, {"permission": "no.such", "export_permission": None}).status_code == 200
    )


@pytest.mark.parametrize("name", ["as", "download"])
def test_the_parameter_for_the_format_can_be_called_otherwise_in_rest_framework(root, name):
    def asked(**query):
        return by_rest(root, query, {"export_format_parameter": name})

    assert table(asked(**{name: "csv"}))[0] == ["id", "name"]
    assert "Content-Disposition" not in asked(format="csv")
    assert asked(**{name: "xml"}).status_code == 404


def test_a_class_of_options_serves_all_three(root):
    shared = {
        "export_formats": ["csv"],
        "export_filename": "payers",
        "export_spool": True,
        "export_permission": None,
    }
    for way in (by_view, by_rest, by_admin):
        answer = way(root, {"format": "csv"}, shared)
        asking._answers.append(answer)
        assert answer["Content-Disposition"].startswith('attachment; filename="payers')
        assert "Content-Length" in answer
