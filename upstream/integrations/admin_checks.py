"""System checks of model admins that export. They run wherever the mixin is imported, installed or not."""

from collections.abc import Iterable, Iterator
from typing import Any

from django.apps import apps
from django.contrib.admin import ModelAdmin
from django.contrib.admin.sites import all_sites
from django.core.checks import CheckMessage, Error

APP = "upstream.integrations"


def check_model_admins(mixin: type, **_: Any) -> Iterable[CheckMessage]:
    """Check the registered model admins with the `mixin`: where it stands, and what stands beside it."""
    found = [one for site in all_sites for one in site._registry.values() if isinstance(one, mixin)]  # noqa: SLF001
    if found and not apps.is_installed(APP):
        names = ", ".join(sorted(type(one).__name__ for one in found))
        yield Error(
            f"{names} export, but {APP!r} is not in INSTALLED_APPS: templates and permissions are missing.",
            hint=f'Add "{APP}" to INSTALLED_APPS, and run migrate.',
            id="upstream_integrations.E010",
        )
    for model_admin in found:
        yield from _check(model_admin, mixin)


def _check(model_admin: Any, mixin: type) -> Iterator[CheckMessage]:
    kind = type(model_admin)
    order = kind.__mro__
    if order.index(ModelAdmin) < order.index(mixin):
        yield Error(
            f"{kind.__name__}: {mixin.__name__} comes after ModelAdmin, whose methods hide those of the mixin.",
            hint=f"Name it first: class {kind.__name__}({mixin.__name__}, ...)",
            obj=kind,
            id="upstream_integrations.E011",
        )
    elif _shares_its_page(model_admin):
        yield Error(
            f"{kind.__name__}: another class exports at the address export/ or by the URL name"
            f" {model_admin.export_url_name!r} too, so that one of the two pages cannot be reached.",
            hint="Leave one of them out. Of django-import-export, ImportMixin goes together with this one.",
            obj=kind,
            id="upstream_integrations.E012",
        )


def _shares_its_page(model_admin: Any) -> bool:
    patterns = model_admin.get_urls()
    name = model_admin.export_url_name
    same = [one for one in patterns if getattr(one, "name", None) == name or str(one.pattern) == "export/"]
    return len(same) > 1
