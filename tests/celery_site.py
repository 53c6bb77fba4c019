"""A site with Celery, for processes of their own: `celery -A tests.celery_site worker` is one of its workers.

UPSTREAM_TEST_SITE says where the broker and the databases are, how long things take, and what goes wrong.
"""

import json
import os
import random
import signal
import time
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import django
from celery import Celery
from celery.signals import task_prerun
from django.conf import settings
from django.db import connections, router

from tests.routing import JobsIn

SITE = json.loads(os.environ["UPSTREAM_TEST_SITE"])
app = Celery("tests", broker=SITE["broker"], set_as_current=True)
app.conf.worker_prefetch_multiplier = 1
app.autodiscover_tasks()
django.setup()

NAMES = ("beats", "dispatch", "exports", "parts")
beats, dispatch, exports, parts = (import_module(f"upstream.jobs.{name}") for name in NAMES)

router.routers = [JobsIn(SITE["jobs"])]
for alias, name in SITE["databases"].items():
    connections[alias].settings_dict["NAME"] = name
settings.UPSTREAM_JOBS = settings.UPSTREAM_JOBS | SITE["options"]
for name, seconds in SITE["dispatch"].items():
    setattr(dispatch, name, seconds)
if SITE.get("heartless"):
    beats.Beat._beat = lambda _self: None

PLACE = Path(SITE["place"])
write, opening = parts.run_part, exports.opened


def marked(name):
    """Add a mark to a file, and return how many it has."""
    with (PLACE / name).open("a") as file:
        file.write("x")
    return (PLACE / name).stat().st_size


def run_part(plan, number, progress):
    begun = marked(f"began-{number}")
    if SITE.get("deadly") == number:
        os.kill(os.getpid(), signal.SIGKILL)
    if number in SITE.get("failing", ()) and begun <= SITE["failures"]:
        raise OSError("no space left")
    while SITE.get("gated") and not (PLACE / "open").exists():
        progress(7, 70)
        time.sleep(0.02)
    if SITE.get("heartless"):
        marked(f"{plan.identity}-{number}")
        while (PLACE / f"{plan.identity}-{number}").stat().st_size < 2:  # another writes the same part
            time.sleep(0.005)
    time.sleep(random.uniform(0, SITE.get("linger", 0)))
    part = write(plan, number, progress)
    time.sleep(random.uniform(0, SITE.get("linger", 0)))
    return part


@contextmanager
def opened(job):
    begun = marked("began-job")
    if SITE.get("deadly") == "job" and begun == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if "job" in SITE.get("failing", ()) and begun <= SITE["failures"]:
        raise OSError("no space left")
    with opening(job) as chunks:
        yield chunks


@task_prerun.connect
def delivered(args, **_):
    marked(f"delivered-{args[-1]}")


parts.run_part, exports.opened = run_part, opened
