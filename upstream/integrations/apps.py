from django.apps import AppConfig


class IntegrationsConfig(AppConfig):
    """Django's ways in to the engine: commands. It has no tables."""

    name = "upstream.integrations"
    label = "upstream_integrations"
