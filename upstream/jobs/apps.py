from django.apps import AppConfig


class JobsConfig(AppConfig):
    """Exports in the background, with two tables: the jobs, and the parts of those that are written in parts."""

    name = "upstream.jobs"
    label = "upstream_jobs"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Exports"

    def ready(self) -> None:
        from upstream.dumps.runners import RUNNERS  # noqa: PLC0415 (apps are loaded by now)
        from upstream.jobs.celery import run_dump  # noqa: PLC0415

        RUNNERS["celery"] = run_dump
