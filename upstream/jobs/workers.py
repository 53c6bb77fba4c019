"""Who makes exports: a function per name of the option `worker`, which is told that a job waits."""

from collections.abc import Callable, Mapping
from importlib import import_module

from upstream.jobs.models import ExportJob
from upstream.jobs.options import Options

Enqueue = Callable[[ExportJob], None]


def _wait(_job: ExportJob) -> None:
    """Do nothing: `run_export_jobs` looks for jobs by itself."""


WORKERS: dict[str, Enqueue] = {"command": _wait}
"""By name, what is called after the transaction in which a job was asked for; another worker is another entry."""

MODULES: Mapping[str, str] = {
    "thread": "upstream.jobs.threads",
    "tasks": "upstream.jobs.django_tasks",
    "celery": "upstream.jobs.celery",
}
"""The modules that add a worker to WORKERS; each is imported only where it is used."""

POLLING = ("thread", "command")
"""The workers that look into the table of jobs themselves."""


def names() -> list[str]:
    """Return the names of all workers."""
    return sorted({*WORKERS, *MODULES})


def enqueue(job: ExportJob) -> None:
    """Tell the site's worker that a job waits; `states.pause_before` tells how long."""
    name = Options.of_site().worker
    if name in MODULES:
        import_module(MODULES[name])
    WORKERS[name](job)


def wake() -> None:
    """Have the thread of this process look for jobs, if threads make exports: others may have left theirs."""
    if Options.of_site().worker == "thread":
        import_module(MODULES["thread"]).wake()
