"""Celery as the queue; it is imported once something is sent."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any
from uuid import UUID

from upstream.dumps import DumpPlan, Part
from upstream.dumps.workers import Report
from upstream.jobs import dispatch
from upstream.streaming import ExportError
from upstream.streaming._optional import optional


class BrokerError(ExportError, ConnectionError):
    """Celery's broker cannot be reached."""


def run_dump(plan: DumpPlan, numbers: Iterable[int], *, attempts: int, report: Report | None) -> Generator[Part]:
    """Have parts of a dump written by Celery's workers: the runner `celery` of `upstream.dumps.run`."""
    return dispatch.run(send_parts, plan, numbers, attempts=attempts, report=report)


def send_parts(job: UUID, numbers: Sequence[int]) -> None:
    """Send one task for each part. A message holds the key of the job and the number, and nothing of the rows."""
    with _sending() as (celery, tasks):
        celery.group(tasks.run_part.si(str(job), number) for number in numbers).apply_async()


@contextmanager
def _sending() -> Iterator[tuple[Any, Any]]:
    celery = optional("celery", "celery")
    kombu = import_module("kombu.exceptions")
    try:
        yield celery, import_module("upstream.jobs.tasks")
    except kombu.OperationalError as error:
        words = f"Celery's broker cannot be reached ({error}): start it, or see the broker_url of your Celery app"
        raise BrokerError(words) from error
