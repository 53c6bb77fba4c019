"""The permission to export a model, in addition to Django's own: add, change, delete and view."""

from collections.abc import Callable
from typing import Any

from django.apps import AppConfig
from django.apps import apps as installed
from django.contrib.auth import get_permission_codename
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db import DEFAULT_DB_ALIAS, router

ACTION = "export"


class MissingPermissionError(PermissionDenied):
    """A user lacks the permissions `names`."""

    def __init__(self, *names: str) -> None:
        super().__init__(missing_words(*names))
        self.names = names


def missing_words(*names: str) -> str:
    """Return the words that tell a user which permissions are missing."""
    return f"missing permission: {', '.join(names)}"


def export_permission(model: Any) -> str:
    """Return the full name of the permission to export a model."""
    return _full_name(ACTION, model)


def view_permission(model: Any) -> str:
    """Return the full name of the permission to view a model."""
    return _full_name("view", model)


def required_permission(declared: str | None, find_model: Callable[[], Any], attribute: str) -> str | None:
    """Return the full name of the permission that a view declares, or None if it needs none.

    "export" stands for the permission to export the model, and `find_model` is called only for it. If there is no
    model, ImproperlyConfigured names the view's `attribute`, such as "EventExport.permission".
    """
    if declared != ACTION:
        return declared
    model = find_model()
    if model is None:
        raise ImproperlyConfigured(
            f"{attribute} = {ACTION!r} needs a model, and this export has none; "
            f"set {attribute} = 'app_label.codename', or None to let everyone export"
        )
    return export_permission(model)


def has_permission(user: Any, name: str | None) -> bool:
    """Whether the user has the permission. Everyone has the permission None; the user None has no other."""
    return name is None or (user is not None and bool(user.has_perm(name)))


def may_view(user: Any, model: Any) -> bool:
    """Whether the user may view the model: as in Django's admin, who may change it may view it."""
    return any(has_permission(user, _full_name(action, model)) for action in ("view", "change"))


def create_export_permissions(
    app_config: AppConfig, using: str = DEFAULT_DB_ALIAS, apps: Any = installed, **_: Any
) -> None:
    """Create the permission to export each model that has one to view it; called after `migrate` for each app."""
    try:
        content_types, permissions = apps.get_model("contenttypes.ContentType"), apps.get_model("auth.Permission")
    except LookupError:  # not installed or not migrated yet
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


def _full_name(action: str, model: Any) -> str:
    return f"{model._meta.app_label}.{get_permission_codename(action, model._meta)}"
