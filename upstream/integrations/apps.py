from importlib import import_module

from django.apps import AppConfig


class IntegrationsConfig(AppConfig):
    """Django's ways in to the engine: commands and system checks. It has no tables."""

    name = "upstream.integrations"
    label = "upstream_integrations"

    def ready(self) -> None:
        import_module("upstream.integrations.checks")  # which registers them
