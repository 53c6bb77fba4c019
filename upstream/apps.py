from importlib import import_module

from django.apps import AppConfig
from django.core.checks import register


class UpstreamConfig(AppConfig):
    """The demo application; other projects install `upstream.integrations`."""

    name = "upstream"
    label = "upstream"
    verbose_name = "Upstream"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        register(import_module("upstream.integrations.checks.settings").check_demo, "exports")
