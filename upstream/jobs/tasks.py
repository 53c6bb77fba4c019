"""Celery's tasks, where its autodiscovery looks for them; nothing of this package imports Celery before.

A worker that is killed leaves its message to another: so they are acknowledged late. That they come twice does no
harm, since the tables of jobs and parts decide who does the work.
"""

from uuid import UUID

from celery import shared_task

from upstream.jobs import janitor, parts, running

OPTIONS = {"acks_late": True, "reject_on_worker_lost": True, "ignore_result": True}


@shared_task(name="upstream.jobs.run_part", **OPTIONS)
def run_part(job: str, number: int) -> None:
    """Write a part of a dump, unless another worker does or has."""
    parts.write(UUID(job), number)


@shared_task(name="upstream.jobs.run_job", **OPTIONS)
def run_job(identity: str) -> None:
    """Run a job, unless another worker does or has."""
    running.run_job(UUID(identity))


@shared_task(name="upstream.jobs.clean", ignore_result=True)
def clean() -> None:
    """Clean up after what has died; to be called every few minutes, such as by Celery's beat."""
    janitor.clean()
