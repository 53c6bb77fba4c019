import signal
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from typing import Any

from django.core.management.base import BaseCommand

from upstream.integrations.arguments import seconds
from upstream.jobs.janitor import clean
from upstream.jobs.loop import Loop

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Command(BaseCommand):
    help = "Make the exports that were asked for in the background; any number of these may run at once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        add = parser.add_argument
        add("--poll", type=seconds, default=1.0, metavar="SECONDS", help="how often to look for jobs; default: 1")
        add("--once", action="store_true", help="end when no job is ready")
        add("--clean", action="store_true", help="only clean up, which running workers do as well")

    def handle(self, *_args: Any, **options: Any) -> None:
        if options["clean"]:
            self.stdout.write(str(clean()))
            return
        loop = Loop(options["poll"])
        with _stopping(loop):
            if options["once"]:
                self.stdout.write(f"exports: {loop.work_once()}")
            else:
                loop.work()


@contextmanager
def _stopping(loop: Loop) -> Iterator[None]:
    """Stop the loop at the first signal that ends processes; a second one ends this process as always."""
    if current_thread() is not main_thread():  # only the main thread can set handlers
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def stop(number: int, _frame: Any) -> None:
        signal.signal(number, before[signal.Signals(number)])
        loop.stop()

    for number in SIGNALS:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
