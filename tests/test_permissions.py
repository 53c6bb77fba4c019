"""`migrate` creates a permission to export each model."""

import sqlite3
from contextlib import closing

import pytest
from django.apps import apps
from django.contrib.auth.models import Permission
from django.core.management import call_command

from tests import processes
from upstream.integrations.permissions import export_permission
from upstream.models import DriftEvent

pytestmark = pytest.mark.django_db


def codenames():
    return set(Permission.objects.filter(codename__startswith="export_").values_list("codename", flat=True))


def test_every_model_that_can_be_viewed_has_one():
    expected = {
        f"export_{model._meta.model_name}"
        for model in apps.get_models()
        if "view" in model._meta.default_permissions
    }
    assert codenames() == expected
    assert {"export_driftevent", "export_user"} <= expected


def test_it_belongs_to_the_model_and_says_what_it_allows():
    permission = Permission.objects.get(codename="export_driftevent")
    assert permission.content_type.model_class() is DriftEvent
    assert permission.name == "Can export drift event"
    assert export_permission(DriftEvent) == "upstream.export_driftevent"


def test_migrating_again_changes_nothing():
    before = list(Permission.objects.order_by("pk").values())
    call_command("migrate", verbosity=0)
    assert list(Permission.objects.order_by("pk").values()) == before


def test_one_that_is_missing_is_created_by_the_next_migrate():
    Permission.objects.filter(codename="export_driftevent").delete()
    call_command("migrate", verbosity=0)
    assert "export_driftevent" in codenames()


def test_apps_can_be_migrated_one_after_the_other(tmp_path):
    variables = {"DATABASE_URL": f"sqlite:///{tmp_path}/site.sqlite3"}
    for arguments in (["contenttypes"], ["auth"], ["upstream"], []):
        result = processes.run("manage.py", "migrate", *arguments, variables=variables)
        assert result.returncode == 0, result.stderr.decode()
    with closing(sqlite3.connect(tmp_path / "site.sqlite3")) as connection:
        found = connection.execute("SELECT codename FROM auth_permission WHERE codename LIKE 'export_%'")
        assert {"export_driftevent", "export_user"} <= {codename for (codename,) in found}
