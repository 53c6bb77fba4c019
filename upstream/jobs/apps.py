from importlib import import_module

from django.apps import AppConfig

from upstream.dumps.runners import RUNNERS
from upstream.integrations.background import register


class JobsConfig(AppConfig):
    """Exports in the background, with two tables: the jobs, and the parts of those that are written in parts."""

    name = "upstream.jobs"
    label = "upstream_jobs"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Exports"

    def ready(self) -> None:
        import_module("upstream.jobs.checks")  # registers them
        celery = import_module("upstream.jobs.celery")  # which imports Celery once it is used
        RUNNERS["celery"] = celery.run_dump
        register(import_module("upstream.jobs.offers").offer)
