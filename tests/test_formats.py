"""A format is added by one line in FORMATS: views, the admin, REST framework and the command then offer it."""

import io
import sys
from contextlib import closing
from importlib import import_module

import pytest
from django.contrib import admin
from django.core.management import CommandError, call_command
from django.urls import path
from django.utils.timezone import localdate
from rest_framework.serializers import ModelSerializer
from rest_framework.test import APIRequestFactory
from rest_framework.viewsets import ReadOnlyModelViewSet

from tests.asking import NAMES, ask, create_user, text
from upstream import integrations
from upstream.integrations.formats import FORMATS, Format
from upstream.models import Customer

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
