"""A worker in a new process: it has an interpreter of its own, and takes a moment to start."""

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, BinaryIO, get_args

import django
from django.conf import settings
from django.db import connections

from upstream.dumps.serving import Kind, Tell, serve
from upstream.dumps.sites import Plan, plan_from_data
from upstream.streaming import SourceError

# Which database the caller uses, such as a test's; a worker's own settings hold the rest.
ADDRESS = ("NAME", "HOST", "PORT")
GRACE_SECONDS = 5
# It imports what this process imports, but not its main module: that may be a script which makes a dump.
# What other code prints is nothing that is told.
START = """\
import os
output = os.dup(1)
os.dup2(2, 1)
import json, sys
order = json.loads(sys.stdin.buffer.readline())
sys.path[:] = order.pop("path")
from upstream.dumps.processes import work
work(output, **order)
"""


def check_settings() -> None:
    """Raise SourceError if a new process could not have the settings of this one."""
    if not getattr(settings, "SETTINGS_MODULE", None):
        raise SourceError(
            "processes read the settings from DJANGO_SETTINGS_MODULE, which is not set: use workers=0"
        )


class ProcessWorker:
    """A new process, which ends with the one that started it, however that ends.

    Numbers of parts come on its standard input, the end of which is its own, and what it tells goes to its
    standard output: both are lines of JSON.
    """

    def __init__(self, plan: Plan, tell: Tell) -> None:
        address = {name: connections[plan.alias].settings_dict.get(name) for name in ADDRESS}
        order = {
            "path": [path or str(Path.cwd()) for path in sys.path],
            "module": settings.SETTINGS_MODULE,
            "address": address,
            "plan": plan.as_data(),
        }
        self._tell = tell
        self._process: Any = subprocess.Popen(  # noqa: S603 (a constant)
            [sys.executable, "-c", START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,  # Ctrl-C reaches all of a terminal's group; the process that starts this one decides
        )
        self._thread = Thread(target=self._listen, args=(order,), daemon=True)
        self._thread.start()

    def give(self, number: int) -> None:
        self._send(number)

    def end(self) -> None:
        self._process.terminate()
        try:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE_SECONDS)
        finally:
            self._process.kill()
            self._thread.join()
            self._process.stdout.close()
            with suppress(BrokenPipeError):
                self._process.stdin.close()

    def _listen(self, order: Mapping[str, Any]) -> None:
        try:
            self._send(order)
            for line in self._process.stdout:
                if told := _told(line):
                    self._tell(*told)
        except BaseException:
            self._process.kill()
            raise
        finally:
            self._tell("died", f"its process ended with exit code {self._process.wait()}")

    def _send(self, data: Any) -> None:
        with suppress(BrokenPipeError):  # it died: the end of its output tells it
            self._process.stdin.write(json.dumps(data, default=str).encode() + b"\n")
            self._process.stdin.flush()


def _told(line: bytes) -> tuple[Kind, Any] | None:
    """Return what a line tells; None for one that a kill has cut, or that other code printed."""
    try:
        [kind, content] = json.loads(line)
    except (ValueError, TypeError):
        return None
    return (kind, content) if line.endswith(b"\n") and kind in get_args(Kind) else None


def work(output: int, module: str, address: Mapping[str, Any], plan: Mapping[str, Any]) -> None:
    """Be the new process, which tells what it does to the descriptor `output`."""
    file = os.fdopen(output, "wb")
    file.write(b"\n")  # the end of what other code may have printed before
    os.environ["DJANGO_SETTINGS_MODULE"] = module
    django.setup()
    made = plan_from_data(plan)
    connections[made.alias].settings_dict.update(address)
    numbers: SimpleQueue[int] = SimpleQueue()
    Thread(target=_end_with_owner, args=(numbers,), daemon=True).start()

    def tell(*told: Any) -> None:
        try:
            file.write(json.dumps(told).encode() + b"\n")
            file.flush()
        except BrokenPipeError:
            os._exit(1)

    try:
        serve(made, iter(numbers.get, None), tell)
    except BaseException:  # noqa: BLE001 (the end of this process follows)
        traceback.print_exc()
    os._exit(1)


def _end_with_owner(numbers: "SimpleQueue[int]") -> None:
    """Pass numbers on; when there can be no more, leave the part to whoever resumes the dump."""
    file: BinaryIO = sys.stdin.buffer
    for line in file:
        numbers.put(json.loads(line))
    os._exit(1)
