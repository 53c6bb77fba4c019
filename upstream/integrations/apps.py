from importlib import import_module

from django.apps import AppConfig
from django.db.models.signals import post_migrate

from upstream.integrations.permissions import create_export_permissions


class IntegrationsConfig(AppConfig):
    """Views, admin classes, a command and system checks on top of the engine; it has no tables."""

    name = "upstream.integrations"
    label = "upstream_integrations"

    def ready(self) -> None:
        import_module("upstream.integrations.checks")  # registers them
        import_module(
            "upstream.streaming.targets.requests"
        )  # before the first request, whose headers it remembers
        post_migrate.connect(create_export_permissions, dispatch_uid="upstream_integrations.permissions")
