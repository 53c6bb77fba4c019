from django.apps import AppConfig


class UpstreamConfig(AppConfig):
    name = "upstream"
    label = "upstream"
    verbose_name = "Upstream"
    default_auto_field = "django.db.models.BigAutoField"
