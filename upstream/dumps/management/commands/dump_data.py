import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from django.db.models import Model

from upstream.dumps import Target, plan_dump, plan_site, resume, run, target_named, verify
from upstream.dumps.manifests import Manifest, tables_of
from upstream.dumps.progress import Meters
from upstream.dumps.runners import RUNNERS, is_unfinished, staged_plan
from upstream.dumps.sites import Plan
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
from upstream.integrations.stored_models import stored_models
from upstream.streaming import ExportError
from upstream.streaming.compression import SUFFIXES
from upstream.streaming.encoders.protocol import capabilities_of

CELERY = "celery"  # the name under which an app adds its runner
# Those whose files make one whole, and which of them gzip and zstd make smaller.
NAMES = [name for name, known in FORMATS.items() if capabilities_of(known.encoder).seam]
LOOSE = [name for name in NAMES if not capabilities_of(FORMATS[name].encoder).is_compressed]
# What decides about rows and bytes; an unfinished dump has decided.
OF_PLAN = ("model", "all", "only", "without", "format", "parts", "one_file", "windows", *SELECTION)
# What is for one model, and what is for all of them.
OF_ONE_MODEL = ("model", "one_file", *SELECTION)
OF_ALL = ("only", "without")


class Command(BaseCommand):
    help = "Dump the rows of a model, or of all, in parts that make one whole, with a manifest."

    def add_arguments(self, parser: ArgumentParser) -> None:
        add = parser.add_argument
        self._refuse = parser.error
        number = partial(at_least_one, things="parts or workers")
        add("model", nargs="?", metavar="app_label.Model")
        add("--all", action="store_true", help="dump all models whose tables migrate makes, each to a folder")
        labels: dict[str, Any] = {"action": "append", "default": [], "metavar": "APP[.MODEL]"}
        add("--only", **labels, help="of all models only these")
        add("--without", **labels, help="of all models leave these out")
        add("--to", required=True, metavar="PLACE", help="a directory, s3://bucket/prefix or storage:alias/prefix")
        add(
            "--format",
            metavar="FORMAT",
            help=f"{', '.join(NAMES)}; {', '.join(LOOSE)} also with .gz or .zst; default: csv",
        )
        add_selection(parser)
        add("--parts", type=number, metavar="N", help="at most that many parts; default: 4 for each worker")
        add("--workers", type=number, default=1, metavar="N", help="processes; default: 1, which is this one")
        add("--celery", action="store_true", help="let Celery's workers write the parts")
        add("--one-file", action="store_true", help="join the parts to one file in the end")
        add("--windows", action="store_true", help="read by many short statements, with nothing open between them")
        add("--resume", action="store_true", help="carry out what is missing of a dump, if anything is")
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
        if options["resume"]:
            self._leave_out(options, OF_PLAN, "an unfinished dump has its plan already", "--resume")
            if options["overwrite"]:
                self._refuse("--resume keeps what --overwrite discards: choose one")
        elif options["all"]:
            self._leave_out(options, OF_ONE_MODEL, "it is for one model (--parts 1 gives each a file)", "--all")
        elif options["model"]:
            self._leave_out(options, OF_ALL, "it chooses from --all models", "a model")
        else:
            self._refuse("name a model, or --all models, or --resume")
        if options["celery"] and options["workers"] > 1:
            self._refuse("--celery has workers of its own: leave out --workers")
        if options["celery"] and CELERY not in RUNNERS:
            raise CommandError('no installed app runs dumps on Celery: add "upstream.jobs" to INSTALLED_APPS')

    def _leave_out(self, options: dict[str, Any], names: Sequence[str], reason: str, beside: str) -> None:
        given = [name for name in names if options[name] not in (None, [], False)]
        if given:
            name = given[0] if given[0] == "model" else f"--{given[0].replace('_', '-')}"
            self._refuse(f"{reason}: leave out {name} with {beside}")

    def _dump(self, options: dict[str, Any]) -> None:
        workers = options["workers"] if options["workers"] > 1 else 0
        visible = not options["no_progress"] and sys.stderr.isatty()
        with Meters(sys.stderr if visible else None) as meters:
            runner = CELERY if options["celery"] else ""
            running: dict[str, Any] = {"workers": workers, "runner": runner, "report": meters}
            target, allow = target_named(options["to"]), options["allow_new_snapshot"]
            planned = None if options["resume"] else self._planned(options)
            if plan := planned or _unfinished(target):
                meters.show_parts(plan)
            if planned:
                manifest = run(planned, overwrite=options["overwrite"], **running)
            else:
                manifest = resume(target, allow_new_snapshot=allow, **running)
        if options["verify"]:
            verify(options["to"])
        self.stdout.write(
            f"{options['to']}: {manifest['rows']:,} rows in {_told_parts(manifest)}, "
            f"{manifest['bytes']:,} bytes, consistency {manifest['consistency']}"
            + (f", by {chosen_workers(plan, workers)}" if plan and workers else "")
            + (", verified" if options["verify"] else "")
        )

    def _planned(self, options: dict[str, Any]) -> Plan:
        encoder, compression = _format(options["format"] or "csv")
        common: dict[str, Any] = {
            "parts": options["parts"] or 4 * options["workers"],
            "compression": compression,
            "windows": options["windows"],
        }
        if options["all"]:
            models, database = _models(options), options["database"]
            return plan_site(models, encoder, options["to"], database=database, **common)
        rows, columns = selected(model_of(options["model"]), options), named_columns(options) or None
        return plan_dump(rows, columns, encoder, options["to"], joined=options["one_file"], **common)


def _unfinished(target: Target) -> Plan | None:
    """Return the plan of an unfinished dump; None if there is none, since the dump may be whole already."""
    return staged_plan(target) if is_unfinished(target) else None


def _models(options: dict[str, Any]) -> list[type[Model]]:
    """Return those of all models that the options choose."""
    models = stored_models(options["database"])
    known = {name for model in models for name in _labels(model)}
    for label in (*options["only"], *options["without"]):
        if label.lower() not in known:
            raise CommandError(f"{label!r} is neither an app nor a model with a table in {options['database']!r}")
    only, without = ({label.lower() for label in options[name]} for name in OF_ALL)
    return [model for model in models if (not only or only & _labels(model)) and not without & _labels(model)]


def _labels(model: type[Model]) -> set[str]:
    return {model._meta.app_label.lower(), model._meta.label_lower}


def _told_parts(manifest: Manifest) -> str:
    tables = tables_of(manifest)
    parts = f"{sum(len(table['parts']) for table in tables)} parts"
    return parts if len(tables) == 1 else f"{parts} of {len(tables)} models"


def _way_on(options: dict[str, Any]) -> str:
    with suppress(ExportError, OSError):  # what is told already may be the reason
        if is_unfinished(target_named(options["to"])):
            return f"\nwhat is written is kept: --to {options['to']} --resume continues"
    return ""


def _format(text: str) -> Any:
    """Return the encoder and the compression for a name such as csv.gz."""
    name, dot, ending = text.partition(".")
    compression = SUFFIXES.get(dot + ending)
    if name == "pdf":
        raise CommandError("a PDF is one document, with the number of its last page on each: use export_data")
    if name not in NAMES or (dot and (compression is None or name not in LOOSE)):
        able = ", ".join(f"{name}[{'|'.join(SUFFIXES)}]" if name in LOOSE else name for name in NAMES)
        raise CommandError(f"--format {text} cannot be dumped in parts; choose from: {able}")
    return FORMATS[name].encoder, compression
