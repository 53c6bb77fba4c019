"""Celery's tasks, where its autodiscovery looks for them; nothing of this package imports Celery before."""

from uuid import UUID

from celery import shared_task

from upstream.jobs import parts


# Late, so that a worker that is killed leaves the message to another. That it comes twice does no harm.
@shared_task(name="upstream.jobs.run_part", acks_late=True, reject_on_worker_lost=True, ignore_result=True)
def run_part(job: str, number: int) -> None:
    """Write a part of a dump, unless another worker does or has."""
    parts.write(UUID(job), number)
