"""The admin mixin beside others: their templates, names and pages stay, and what cannot be joined is told."""

from contextlib import contextmanager

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.sites import all_sites
from django.contrib.auth.models import Group, User
from django.core.checks import run_checks
from django.template import engines
from django.test import override_settings
from django.urls import path
from django.utils.functional import cached_property

from upstream.integrations.admin import ExportAdminMixin, ExportModelAdmin
from upstream.integrations.formats import FORMATS

pytestmark = pytest.mark.django_db

urlpatterns = []
PLAIN = "admin/change_list.html"
OWN = "{% extends 'admin/change_list.html' %}{% block object-tools-items %}THEIRS{{ block.super }}{% endblock %}"


@contextmanager
def registered(*bases, model=Group, **attributes):
    """Register a model admin of these bases on a site of its own, and give it."""
    site = admin.AdminSite(name="admin")
    site.register(model, type("Probe", bases, {"list_display": ["name"], **attributes}))
    urlpatterns[:] = [path("probe/", site.urls)]
    try:
        with override_settings(ROOT_URLCONF=__name__):
            yield site.get_model_admin(model)
    finally:
        all_sites.discard(site)  # else it is checked until it is collected


def told():
    return [message.id.removeprefix("upstream_integrations.") for message in run_checks(tags=["exports"])]


@pytest.fixture
def root(client):
    client.force_login(User.objects.create(username="root", is_staff=True, is_superuser=True))
    Group.objects.create(name="x")
    return client


def is_whole(client, *words):
    """Whether the list has the button and these words, and the export has the rows."""
    shown = client.get("/probe/auth/group/")
    assert shown.status_code == 200
    content = shown.content.decode()
    data = {"format": "csv", "profile": "data", "columns": ["name"]}
    assert client.get("/probe/auth/group/export/").status_code == 200
    assert client.post("/probe/auth/group/export/", data).getvalue() == b"name\r\nx\r\n"
    assert "export_selected" in content
    return 'href="/probe/auth/group/export/' in content and all(word in content for word in words)


TEMPLATES = {
    "a name": PLAIN,
    "none": None,
    "a list": ["no/such/template.html", PLAIN],
    "a tuple": (PLAIN,),
    "a property": property(lambda self: PLAIN),
    "a property that gives a list": property(lambda self: ["no/such/template.html", PLAIN]),
    "a cached property": cached_property(lambda self: PLAIN),
    "a method": lambda self: PLAIN,
    "a method of the request": lambda self, request: [PLAIN] if request.user.is_staff else None,
    "a template": property(lambda self: engines["django"].from_string(OWN)),
}


@pytest.mark.parametrize("kind", TEMPLATES)
@pytest.mark.parametrize("place", ["own", "of a mixin before", "of a mixin behind"])
def test_the_button_is_on_a_list_whose_template_is_anything(root, kind, place):
    template = TEMPLATES[kind]
    if isinstance(template, cached_property):
        template.__set_name__(None, "change_list_template")
    theirs = {"change_list_template": template}
    other = type("Other", (), theirs)
    bases = {
        "own": (ExportModelAdmin,),
        "of a mixin before": (other, ExportModelAdmin),
        "of a mixin behind": (ExportAdminMixin, other, admin.ModelAdmin),
    }[place]
    with registered(*bases, **(theirs if place == "own" else {})):
        assert is_whole(root, *(["THEIRS"] if kind == "a template" else []))


def test_a_template_that_is_set_when_the_admin_is_made_stays_below(root):
    class Setting:
        def __init__(self, *args):
            super().__init__(*args)
            self.change_list_template = engines["django"].from_string(OWN)

    for bases in ((Setting, ExportModelAdmin), (ExportAdminMixin, Setting, admin.ModelAdmin)):
        with registered(*bases):
            assert is_whole(root, "THEIRS")


@pytest.mark.parametrize("actions", [property(lambda self: []), ("delete_selected",), [], ["export_selected"]])
def test_the_action_is_there_however_actions_are_declared(root, actions):
    with registered(ExportModelAdmin, actions=actions):
        assert is_whole(root)


def test_no_actions_means_none(root):
    with registered(ExportModelAdmin, actions=None):
        assert b"export_selected" not in root.get("/probe/auth/group/").content


def test_pages_of_other_actions_keep_their_templates(root):
    with registered(ExportModelAdmin):
        data = {"action": "delete_selected", "index": "0", "_selected_action": [Group.objects.get().pk]}
        assert b"Are you sure" in root.post("/probe/auth/group/", data).content


def test_formats_of_another_library_are_not_ours():
    class Theirs:
        export_formats = property(lambda self: [int, str])

    with registered(Theirs, ExportModelAdmin) as found:
        assert {one.name for one in found.get_export_formats()} == FORMATS.keys()
    with registered(Theirs, ExportModelAdmin, export_formats=("json",)) as found:
        assert [one.name for one in found.get_export_formats()] == ["json"]
    with registered(type("Ours", (), {"export_formats": ["csv"]}), ExportModelAdmin) as found:
        assert [one.name for one in found.get_export_formats()] == ["csv"]


class TestChecks:
    def test_the_mixin_by_itself_is_fine(self):
        with registered(ExportModelAdmin):
            assert told() == []

    def test_the_mixin_behind_model_admin_is_an_error(self):
        with registered(admin.ModelAdmin, ExportAdminMixin):
            assert told() == ["E011"]

    def test_the_mixin_without_its_app_is_an_error(self):
        installed = [one for one in apps.app_configs.values() if one.name != "upstream.integrations"]
        with registered(ExportModelAdmin), override_settings(INSTALLED_APPS=[one.name for one in installed]):
            assert "E010" in told()

    @pytest.mark.parametrize("bases", [(0, 1), (1, 0)])
    def test_another_page_at_the_same_place_is_an_error(self, bases):
        class Exporting:
            def get_urls(self):
                return [path("export/", lambda request: None, name="theirs"), *super().get_urls()]

        mixins = (ExportAdminMixin, Exporting)
        with registered(*(mixins[place] for place in bases), admin.ModelAdmin):
            assert told() == ["E012"]


@contextmanager
def installed(*names):
    with override_settings(INSTALLED_APPS=[*names, *(one.name for one in apps.get_app_configs())]):
        yield


class TestDjangoImportExport:
    @pytest.fixture(autouse=True)
    def library(self):
        self.admin = pytest.importorskip("import_export.admin")
        with installed("import_export"):
            yield

    def bases(self, name, *, first):
        theirs = getattr(self.admin, name)
        return (theirs, ExportModelAdmin) if first else (ExportAdminMixin, theirs, admin.ModelAdmin)

    @pytest.mark.parametrize("first", [True, False])
    def test_its_import_goes_together_with_our_export_in_any_order(self, root, first):
        with registered(*self.bases("ImportMixin", first=first)):
            assert is_whole(root, "/probe/auth/group/import/")
            assert root.get("/probe/auth/group/import/").status_code == 200
            assert told() == []

    @pytest.mark.parametrize("first", [True, False])
    @pytest.mark.parametrize("name", ["ExportMixin", "ImportExportMixin", "ExportActionMixin"])
    def test_its_export_beside_ours_is_an_error(self, first, name):
        with registered(*self.bases(name, first=first)):
            assert told() == ["E012"]


@pytest.mark.filterwarnings(r"ignore:Overriding get_actions\(\) without")  # by the library, on Django 6.1
@pytest.mark.parametrize("first", [True, False])
def test_a_sortable_list_has_its_handles_and_our_button(root, first):
    theirs = pytest.importorskip("adminsortable2.admin").SortableAdminMixin
    bases = (theirs, ExportModelAdmin) if first else (ExportAdminMixin, theirs, admin.ModelAdmin)
    with installed("adminsortable2"), registered(*bases, ordering=["id"]):
        assert is_whole(root, "adminsortable2")


def test_a_polymorphic_parent_has_our_button(root):
    theirs = pytest.importorskip("polymorphic.admin").PolymorphicParentModelAdmin
    theirs_alone = {"base_model": Group, "child_models": (Group,), "polymorphic_list": True}
    with installed("polymorphic"), registered(ExportAdminMixin, theirs, **theirs_alone):
        content = root.get("/probe/auth/group/").content.decode()
        assert 'href="/probe/auth/group/export/' in content
