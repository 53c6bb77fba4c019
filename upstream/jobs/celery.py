"""Celery as the queue of dumps and of jobs; it is imported once something is sent."""

import logging
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any
from uuid import UUID

from upstream.dumps import Part
from upstream.dumps.serving import Report
from upstream.dumps.sites import Plan
from upstream.jobs import dispatch, states
from upstream.jobs.models import ExportJob
from upstream.jobs.workers import WORKERS
from upstream.streaming import ExportError
from upstream.streaming._optional import optional

logger = logging.getLogger(__name__)


class BrokerError(ExportError, ConnectionError):
    """Celery's broker cannot be reached."""


def run_dump(plan: Plan, numbers: Iterable[int], *, attempts: int, report: Report | None) -> Generator[Part]:
    """Have parts of a dump written by Celery's workers: the runner `celery` of `upstream.dumps.run`."""
    return dispatch.run(send_parts, plan, numbers, attempts=attempts, report=report)


def send_parts(job: UUID, numbers: Sequence[int]) -> None:
    """Send one task for each part. A message holds the key of the job and the number, and nothing of the rows."""
    with _sending() as tasks:
        celery: Any = import_module("celery")
        celery.group(tasks.run_part.si(str(job), number) for number in numbers).apply_async()


def enqueue(job: ExportJob) -> None:
    """Send the task of a job that waits, for later if it waits for its next attempt.

    If the broker is away, the job waits until the janitor finds it.
    """
    try:
        with _sending() as tasks:
            tasks.run_job.apply_async([str(job.pk)], countdown=states.pause_before(job) or None)
    except BrokerError as error:
        logger.warning("export %s waits for the janitor: %s", job.pk, error)


WORKERS["celery"] = enqueue


@contextmanager
def _sending() -> Iterator[Any]:
    """Yield the module of the tasks; raise BrokerError if the broker cannot be reached in the block."""
    optional("celery", "celery")
    kombu: Any = import_module("kombu.exceptions")
    try:
        yield import_module("upstream.jobs.tasks")
    except kombu.OperationalError as error:
        words = f"Celery's broker cannot be reached ({error}): start it, or see the broker_url of your Celery app"
        raise BrokerError(words) from error
