from django.apps import AppConfig


class DumpsConfig(AppConfig):
    """The commands `dump_data` and `verify_dump`; it has no tables."""

    name = "upstream.dumps"
    label = "upstream_dumps"
