"""Python in processes of its own: nothing of the tests' settings, memory or open files is in them."""

import os
import subprocess
import sys
import time
from pathlib import Path

import django
from django.db import connections

ROOT = Path(__file__).resolve().parent.parent
# What the tests' own environment must not decide for them.
UNSET = ("DJANGO_SETTINGS_MODULE", "DATABASE_URL", "PYTHONWARNINGS")


def environment(**variables):
    kept = {name: value for name, value in os.environ.items() if name not in UNSET}
    return kept | {"PYTHONPATH": str(ROOT), **{name: str(value) for name, value in variables.items()}}


def run(*arguments, variables=None, **options):
    """Run the interpreter with `arguments` to its end, and return its exit code and what it printed."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        check=False,
        **{"cwd": ROOT, "capture_output": True, "timeout": 300, "env": environment(**variables or {}), **options},
    )


def start(*arguments, variables=None, **options):
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        **{"cwd": ROOT, "env": environment(**variables or {}), **options},
    )


def printed(code, *arguments, **options):
    """Return what a piece of code prints, and fail with its error if it has one."""
    result = run("-c", code, *arguments, **options)
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout.decode()


def set_up(alias, name):
    """Make this process, one of an executor's, use the database of that name."""
    django.setup()
    connections[alias].settings_dict["NAME"] = name


def children(pid="self"):
    """Return the running children of a process, by default this one, as far as the system tells."""
    tasks = Path(f"/proc/{pid}/task")
    return {int(child) for task in tasks.glob("*/children") for child in task.read_text().split()}


def eventually(condition, seconds=60):
    """Wait until `condition()` is true; return whether it became so in time."""
    end = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return met
