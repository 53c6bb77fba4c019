import sys
from argparse import ArgumentParser
from contextlib import suppress
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from upstream.dumps import plan_dump, resume, run, target_named, verify
from upstream.dumps.progress import Meters
from upstream.dumps.runners import RUNNERS, is_unfinished, staged_plan
from upstream.dumps.workers import chosen_workers
from upstream.integrations.arguments import (
    SELECTION,
    add_selection,
    at_least_one,
    ending_with_signals,
    model_of,
    named_columns,
    selected,
    words_of,
)
from upstream.integrations.formats import FORMATS
from upstream.streaming import ExportError
from upstream.streaming.compression import SUFFIXES

CELERY = "celery"  # the name under which an app adds its runner
NAMES = ("csv", "tsv", "ndjson", "json")
# What decides about rows and bytes; an unfinished dump has decided.
OF_PLAN = ("model", "format", "parts", "one_file", "windows", *SELECTION)


class Command(BaseCommand):
    help = "Dump the rows of a model, in parts that make one file when joined, with a manifest."

    def add_arguments(self, parser: ArgumentParser) -> None:
        add = parser.add_argument
        self._refuse = parser.error
        number = partial(at_least_one, things="parts or workers")
        add("model", nargs="?", metavar="app_label.Model")
        add("--to", required=True, metavar="PLACE", help="a directory, s3://bucket/prefix or storage:alias/prefix")
        add("--format", metavar="FORMAT", help=f"{', '.join(NAMES)}, each also with .gz or .zst; default: csv")
        add_selection(parser)
        add("--parts", type=number, metavar="N", help="at most that many parts; default: 4 for each worker")
        add("--workers", type=number, default=1, metavar="N", help="processes; default: 1, which is this one")
        add("--celery", action="store_true", help="let Celery's workers write the parts")
        add("--one-file", action="store_true", help="join the parts to one file in the end")
        add("--windows", action="store_true", help="read by many short statements, with nothing open between them")
        add("--resume", action="store_true", help="carry out what is missing of an unfinished dump")
        add("--allow-new-snapshot", action="store_true", help="let resumed parts show another state")
        add("--overwrite", action="store_true", help="replace what is there, or unfinished")
        add("--verify", action="store_true", help="read the dump again, and compare it with its manifest")
        add("--no-progress", action="store_true", help="show no progress on the terminal")

    def handle(self, *_args: Any, **options: Any) -> None:
        self._check(options)
        try:
            with ending_with_signals():
                self._dump(options)
        except (ExportError, OSError, DatabaseError) as error:
            raise CommandError(words_of(error) + _way_on(options)) from error
        except SystemExit:
            self.stderr.write(_way_on(options))
            raise

    def _check(self, options: dict[str, Any]) -> None:
        if not options["resume"] and not options["model"]:
            self._refuse("name a model, or --resume")
        given = [name for name in OF_PLAN if options[name] not in (None, [], False)]
        if options["resume"] and given:
            name = given[0] if given[0] == "model" else f"--{given[0].replace('_', '-')}"
            self._refuse(f"an unfinished dump has its plan already: leave out {name} with --resume")
        if options["resume"] and options["overwrite"]:
            self._refuse("--resume keeps what --overwrite discards: choose one")
        if options["celery"] and options["workers"] > 1:
            self._refuse("--celery has workers of its own: leave out --workers")
        if options["celery"] and CELERY not in RUNNERS:
            raise CommandError('no installed app runs dumps on Celery: add "upstream.jobs" to INSTALLED_APPS')

    def _dump(self, options: dict[str, Any]) -> None:
        workers = options["workers"] if options["workers"] > 1 else 0
        visible = not options["no_progress"] and sys.stderr.isatty()
        with Meters(sys.stderr if visible else None) as meters:
            runner = CELERY if options["celery"] else ""
            running: dict[str, Any] = {"workers": workers, "runner": runner, "report": meters}
            target, allow = target_named(options["to"]), options["allow_new_snapshot"]
            plan = staged_plan(target) if options["resume"] else self._planned(options)
            meters.parts = len(plan.ranges)
            if options["resume"]:
                manifest = resume(target, allow_new_snapshot=allow, **running)
            else:
                manifest = run(plan, overwrite=options["overwrite"], **running)
        if options["verify"]:
            verify(options["to"])
        self.stdout.write(
            f"{options['to']}: {manifest['rows']:,} rows in {len(manifest['parts'])} parts, "
            f"{manifest['bytes']:,} bytes, consistency {manifest['consistency']}"
            + (f", by {chosen_workers(plan, workers)}" if workers else "")
            + (", verified" if options["verify"] else "")
        )

    def _planned(self, options: dict[str, Any]) -> Any:
        encoder, compression = _format(options["format"] or "csv")
        return plan_dump(
            selected(model_of(options["model"]), options),
            named_columns(options) or None,
            encoder,
            options["to"],
            parts=options["parts"] or 4 * options["workers"],
            compression=compression,
            windows=options["windows"],
            joined=options["one_file"],
        )


def _way_on(options: dict[str, Any]) -> str:
    with suppress(ExportError, OSError):  # what is told already may be the reason
        if is_unfinished(target_named(options["to"])):
            return f"\nwhat is written is kept: --to {options['to']} --resume continues"
    return ""


def _format(text: str) -> Any:
    """Return the encoder and the compression for a name such as csv.gz."""
    name, dot, ending = text.partition(".")
    compression = SUFFIXES.get(dot + ending)
    if name not in NAMES or (dot and compression is None):
        able = ", ".join(f"{name}[{'|'.join(SUFFIXES)}]" for name in NAMES)
        raise CommandError(f"--format {text} cannot be dumped in parts; choose from: {able}")
    return FORMATS[name].encoder, compression
