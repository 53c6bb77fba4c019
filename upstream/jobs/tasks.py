"""Exports made by the workers of Django's tasks framework, which Django has from 6.0 on."""

from importlib import import_module
from typing import Any
from uuid import UUID

from django.utils import timezone

from upstream.jobs.models import ExportJob
from upstream.jobs.running import run_job
from upstream.jobs.workers import WORKERS

tasks: Any = import_module("django.tasks")  # what mypy does not know before Django 6.0


def run_export_job(identity: str) -> str | None:
    """Run a job, and return its new state, or None if another worker has it."""
    return run_job(UUID(identity))


task = tasks.task(run_export_job)


def enqueue(job: ExportJob) -> None:
    """Give a job to the default backend of tasks, for later if it waits for its next attempt."""
    later = job.leased_until
    if later is not None and later > timezone.now() and task.get_backend().supports_defer:
        task.using(run_after=later).enqueue(str(job.pk))
        return
    task.enqueue(str(job.pk))


WORKERS["tasks"] = enqueue
