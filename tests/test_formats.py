"""A format is added by one line in FORMATS: views, the admin, REST framework and the command then offer it."""

import io
import sys
from contextlib import closing
from importlib import import_module
from pathlib import Path

import openpyxl
import pypdf
import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.urls import path
from django.utils.timezone import localdate
from django.utils.translation import get_language, override
from rest_framework.serializers import ModelSerializer
from rest_framework.test import APIRequestFactory
from rest_framework.viewsets import ReadOnlyModelViewSet

from tests.asking import NAMES, ask, create_user, text
from upstream import integrations
from upstream.integrations.admin import ExportModelAdmin
from upstream.integrations.drf import ExportListMixin
from upstream.integrations.formats import FORMATS, Format
from upstream.integrations.views import ExportView
from upstream.models import Customer
from upstream.streaming import Csv, Pdf, Xlsx

pytestmark = pytest.mark.usefixtures("answers", "customers")

TABLE = "|name|\n" + "".join(f"|{name}|\n" for name in NAMES)


class Pipes:
    """An encoder of tables as Markdown has them."""

    content_type = "text/markdown; charset=utf-8"
    suffix = ".md"

    def encode(self, columns, batches):
        yield self.line(column.header for column in columns)
        with closing(batches):
            for batch in batches:
                yield b"".join(map(self.line, batch))

    @staticmethod
    def line(cells):
        return f"|{'|'.join(map(str, cells))}|\n".encode()


@pytest.fixture(autouse=True)
def one_more_line(monkeypatch):
    monkeypatch.setitem(FORMATS, "pipes", Format("pipes", "Pipes", Pipes()))


@pytest.fixture
def imported(monkeypatch):
    """A function that imports a module of `upstream.integrations` as if FORMATS had always had that line."""

    def imported(name):
        full_name = f"upstream.integrations.{name}"
        monkeypatch.setattr(integrations, name, import_module(full_name))  # so that it is back after the test
        monkeypatch.delitem(sys.modules, full_name)
        return import_module(full_name)

    return imported


def saved(answer, name="customer.md"):
    """Return the text of a download, once its headers are those of the format."""
    assert answer["Content-Type"] == Pipes.content_type
    assert answer["Content-Disposition"] == f'attachment; filename="{name}"'
    return text(answer)


def of_view(_client, _path, name, profile):
    class Users(ExportView):
        queryset = User.objects.order_by("pk")
        columns = ("username",)
        permission = None

    Users.profile = profile
    return ask(Users, f"?format={name}").getvalue()


def of_admin(client, _path, name, profile):
    client.force_login(User.objects.get(username="root"))
    chosen = {"format": name, "profile": profile, "columns": ["username"]}
    headers = {"Accept-Language": get_language()}
    return client.post("/admin/auth/user/export/", chosen, headers=headers).getvalue()


def of_rest_framework(_client, _path, name, profile):
    class UserSerializer(ModelSerializer):
        class Meta:
            model = User
            fields = ("username",)

    class Users(ExportListMixin, ReadOnlyModelViewSet):
        queryset = User.objects.order_by("pk")
        serializer_class = UserSerializer
        export_permission = None
        export_profile = profile

    return Users.as_view({"get": "list"})(APIRequestFactory().get(f"/?format={name}")).getvalue()


def of_command(_client, path, name, profile):
    output = str(path / f"users.{name}")
    call_command("export_data", "auth.User", columns=["username"], output=output, profile=profile)
    return Path(output).read_bytes()


@pytest.mark.parametrize("profile", ["data", "excel"])
@pytest.mark.parametrize("way", [of_view, of_admin, of_rest_framework, of_command])
class TestDocuments:
    @pytest.fixture(autouse=True)
    def users(self, settings, db):
        site = admin.AdminSite()
        site.register(User, type("UserAdmin", (ExportModelAdmin,), {"list_display": ("username",)}))
        settings.ROOT_URLCONF = (path("admin/", site.urls),)
        create_user("root", is_staff=True, is_superuser=True)

    @pytest.mark.parametrize(
        ("language", "title", "is_reversed"),
        [("en", "Users", False), ("de", "Benutzer", False), ("he", "משתמשים", True)],
    )
    def test_excel_has_the_name_of_the_model_in_the_current_language(
        self, client, tmp_path, way, profile, language, title, is_reversed
    ):
        with override(language):
            book = openpyxl.load_workbook(io.BytesIO(way(client, tmp_path, "xlsx", profile)))
        assert (book.properties.title, book.sheetnames) == (title, [title])
        assert bool(book.active.sheet_view.rightToLeft) is is_reversed

    def test_pdf_is_in_the_current_language(self, client, tmp_path, way, profile):
        with override("de"):
            reader = pypdf.PdfReader(io.BytesIO(way(client, tmp_path, "pdf", profile)))
        assert (reader.metadata.title, reader.trailer["/Root"]["/Lang"]) == ("Benutzer", "de")
        assert "Seite 1 von 1" in " ".join(reader.pages[0].extract_text().split())


def test_options_that_an_encoder_has_set_stay():
    own = Xlsx(title="Mine", sheet="Data")
    with override("he"):
        for profile in ("data", "excel"):
            encoder = Format("own", "Own", own, own).encoder_for(profile, User.objects)
            assert (encoder.title, encoder.sheet, encoder.right_to_left) == ("Mine", "Data", True)
        assert Format("csv", "CSV", Csv()).encoder_for("data", User.objects) == Csv()


def test_a_format_that_is_not_localized_keeps_its_encoders_as_they_are():
    with override("he"):
        for encoder in (Pdf(), Pdf(title="Mine"), Xlsx()):
            own = Format("own", "Own", encoder, encoder, localized=False)
            assert own.encoder_for("data", User.objects) == own.encoder_for("excel", User.objects) == encoder


@pytest.mark.parametrize("asked", [{"query": "?format=pipes"}, {"headers": {"Accept": "text/markdown"}}])
def test_views_offer_it(imported, asked):
    class Customers(imported("views").ExportView):
        queryset = Customer.objects.order_by("id")
        columns = ("name",)
        permission = None

    assert saved(ask(Customers, **asked)) == TABLE


def test_the_admin_offers_it(imported, client, settings):
    site = admin.AdminSite()
    members = {"list_display": ("name",), "ordering": ("id",)}
    site.register(Customer, type("CustomerAdmin", (imported("admin").ExportModelAdmin,), members))
    settings.ROOT_URLCONF = (path("admin/", site.urls),)
    client.force_login(create_user("root", is_staff=True, is_superuser=True))
    form = client.get("/admin/upstream/customer/export/").context["form"]
    assert ("pipes", "Pipes") in form.fields["format"].choices
    assert "Pipes" in form.fields["profile"].help_text
    chosen = {"format": "pipes", "profile": "excel", "columns": ["name"]}
    assert saved(client.post("/admin/upstream/customer/export/", chosen), f"customer_{localdate()}.md") == TABLE


@pytest.mark.parametrize("asked", [{"path": "/?format=pipes"}, {"path": "/", "HTTP_ACCEPT": "text/markdown"}])
def test_lists_of_rest_framework_offer_it(imported, asked):
    class CustomerSerializer(ModelSerializer):
        class Meta:
            model = Customer
            fields = ("name",)

    class Customers(imported("drf").ExportListMixin, ReadOnlyModelViewSet):
        queryset = Customer.objects.order_by("id")
        serializer_class = CustomerSerializer
        export_permission = None

    assert saved(Customers.as_view({"get": "list"})(APIRequestFactory().get(**asked))) == TABLE


class TestCommand:
    def export(self, **options):
        output = io.StringIO()
        call_command(
            "export_data", "upstream.Customer", columns=["name"], order_by=["id"], stdout=output, **options
        )
        return output.getvalue()

    def test_it_offers_it_by_name(self):
        assert self.export(format="pipes") == TABLE

    def test_it_offers_it_by_the_suffix_of_the_file(self, tmp_path):
        self.export(output=str(tmp_path / "customers.md"))
        assert (tmp_path / "customers.md").read_text() == TABLE

    @pytest.mark.parametrize("options", [{"header": "none"}, {"profile": "excel"}])
    def test_options_that_it_has_not_are_refused(self, options):
        with pytest.raises(CommandError, match="not for pipes"):
            self.export(format="pipes", **options)

    def test_a_file_of_no_format_is_refused_with_its_name_among_the_others(self, tmp_path):
        with pytest.raises(CommandError, match="pipes"):
            self.export(output=str(tmp_path / "customers.exe"))
