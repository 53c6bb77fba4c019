from importlib import import_module

from django.apps import AppConfig
from django.db.models.signals import post_migrate

from upstream.integrations.permissions import create_export_permissions


class IntegrationsConfig(AppConfig):
    """Django's ways in to the engine: views, the admin, commands and system checks. It has no tables."""

    name = "upstream.integrations"
    label = "upstream_integrations"

    def ready(self) -> None:
        import_module("upstream.integrations.checks")  # which registers them
        post_migrate.connect(create_export_permissions, dispatch_uid="upstream_integrations.permissions")
