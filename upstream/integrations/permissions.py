"""The permission to export a model, beside Django's own to add, change, delete and view it."""

from typing import Any

from django.apps import AppConfig
from django.apps import apps as installed
from django.contrib.auth import get_permission_codename
from django.db import DEFAULT_DB_ALIAS, router

ACTION = "export"


def export_permission(model: Any) -> str:
    """Return the full name of the permission to export a model."""
    return f"{model._meta.app_label}.{get_permission_codename(ACTION, model._meta)}"


def view_permission(model: Any) -> str:
    """Return the full name of the permission to view a model."""
    return f"{model._meta.app_label}.{get_permission_codename('view', model._meta)}"


def create_export_permissions(
    app_config: AppConfig, using: str = DEFAULT_DB_ALIAS, apps: Any = installed, **_: Any
) -> None:
    """Create, after `migrate`, the permission to export each model of an app that has one to view it."""
    try:
        content_types, permissions = apps.get_model("contenttypes.ContentType"), apps.get_model("auth.Permission")
    except LookupError:  # not installed, or not migrated yet
        return
    if not app_config.models_module or not router.allow_migrate_model(using, permissions):
        return
    models = [model for model in app_config.get_models() if "view" in model._meta.default_permissions]
    types: Any = content_types._default_manager.db_manager(using)
    permissions._default_manager.using(using).bulk_create(
        (
            permissions(
                content_type=types.get_for_model(model, for_concrete_model=False),
                codename=get_permission_codename(ACTION, model._meta),
                name=f"Can export {model._meta.verbose_name_raw}"[:255],
            )
            for model in models
        ),
        ignore_conflicts=True,
    )
