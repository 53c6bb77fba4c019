"""Exports made by the workers of Django's tasks framework, which Django has from 6.0 on."""

import logging
from datetime import timedelta
from importlib import import_module
from typing import Any
from uuid import UUID

from django.utils import timezone

from upstream.jobs import states
from upstream.jobs.janitor import Regularly
from upstream.jobs.models import ExportJob
from upstream.jobs.running import run_job
from upstream.jobs.workers import WORKERS

logger = logging.getLogger(__name__)
janitor = Regularly()
tasks: Any = import_module("django.tasks")  # what mypy does not know before Django 6.0


def run_export_job(identity: str) -> str | None:
    """Run a job, and return its new state, or None if another worker has it; then clean up, if it is time."""
    state = run_job(UUID(identity))
    try:
        janitor.clean()
    except Exception as error:  # noqa: BLE001 (the job has ended; the text may hold values)
        logger.error("exports cannot be cleaned up: %s", type(error).__name__)
    return state


task = tasks.task(run_export_job)


def enqueue(job: ExportJob) -> None:
    """Give a job to the default backend of tasks, for later if it waits for its next attempt."""
    pause = states.pause_before(job)
    if pause and task.get_backend().supports_defer:
        task.using(run_after=timezone.now() + timedelta(seconds=pause)).enqueue(str(job.pk))
        return
    task.enqueue(str(job.pk))


WORKERS["tasks"] = enqueue
