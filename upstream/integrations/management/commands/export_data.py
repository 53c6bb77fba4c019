import os
import signal
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.db.models import Model, QuerySet

from upstream.integrations.choices import listed
from upstream.integrations.filters import parse_filter, parse_ordering
from upstream.integrations.formats import FORMATS, PROFILES, Format, format_of
from upstream.integrations.progress import metered
from upstream.streaming import ByteStream, ExportError, plan, stream, to_file
from upstream.streaming.compression import SUFFIXES
from upstream.streaming.encoders.protocol import Encoder

STDOUT = "-"


class Terminated(BaseException):
    """SIGTERM as an exception, so that everything open is closed."""


def seconds(text: str) -> float:
    """Parse a number of seconds greater than 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not number > 0:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds greater than 0")
    return number


def rows(text: str) -> int:
    """Parse a number of rows, 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a number of rows, 1 or more")
    return int(text)


class Command(BaseCommand):
    help = "Export the rows of a model to a file or standard output; memory does not grow with their number."

    def add_arguments(self, parser: ArgumentParser) -> None:
        add = parser.add_argument
        add("model", metavar="app_label.Model")
        conditions: dict[str, Any] = {"action": "append", "default": [], "metavar": "NAME=VALUE"}
        add("-o", "--output", default=STDOUT, metavar="PATH", help="file, compressed if it ends with .gz or .zst")
        add("--format", choices=list(FORMATS), help="default: by the suffix of the file, else csv")
        add("--columns", action="append", metavar="NAMES", help="such as id,customer__name")
        add("--filter", **conditions, help="export only rows that match, such as severity__gte=0.7")
        add("--exclude", **conditions, help="leave out rows that match")
        add("--order-by", action="append", metavar="NAMES", help="such as --order-by=-severity,id")
        add("--limit", type=rows, metavar="N", help="export at most N rows")
        add("--database", default=DEFAULT_DB_ALIAS, choices=tuple(connections), help="database to read")
        add("--windows", action="store_true", help="read by many short statements, with nothing open between them")
        add("--timeout", type=seconds, metavar="SECONDS", help="stop an export that takes longer")
        add("--chunk-size", type=rows, default=2000, metavar="ROWS", help="rows per batch")
        add("--profile", choices=PROFILES, default="data", help="excel: for spreadsheets, with formulas disarmed")
        add("--no-header", action="store_true", help="leave out the header row")
        add("--explain", action="store_true", help="print how the export would run, without running it")
        add("--no-progress", action="store_true", help="show no progress on the terminal")

    def handle(self, *_args: Any, **options: Any) -> None:
        try:
            self._export(options)
        except KeyboardInterrupt:
            sys.exit(128 + signal.SIGINT)
        except Terminated:
            sys.exit(128 + signal.SIGTERM)
        except BrokenPipeError:
            _discard_standard_output()
            sys.exit(128 + signal.SIGPIPE)
        except (ExportError, OSError, DatabaseError) as error:
            if isinstance(error, OSError) and options["output"] == STDOUT:
                _discard_standard_output()
            raise CommandError("\n".join([str(error), *getattr(error, "__notes__", ())])) from error

    def _export(self, options: dict[str, Any]) -> None:
        queryset = _queryset(options)
        columns = listed(options["columns"] or ()) or None
        path = Path(options["output"])
        compression = SUFFIXES.get(path.suffix)
        encoder = _encoder(options, path.with_suffix("") if compression else path)
        reading = {name: options[name] for name in ("chunk_size", "windows", "timeout")}
        if options["explain"]:
            self.stdout.write(str(plan(queryset, columns, encoder, **reading)))
            return
        with metered(options["limit"], visible=not options["no_progress"]) as meter, _terminable():
            chunks = stream(
                queryset,
                columns,
                encoder,
                compression=compression,
                progress=meter,
                **reading,
            )
            if options["output"] == STDOUT:
                self._write(chunks)
            else:
                to_file(chunks, path)
        if options["verbosity"] > 1 or (sys.stderr.isatty() and not options["no_progress"]):
            self.stderr.write(str(meter), self.style.SUCCESS)

    def _write(self, chunks: ByteStream) -> None:
        binary = getattr(self.stdout, "buffer", None)
        with closing(chunks):
            for chunk in chunks:
                if binary is None:  # call_command(stdout=StringIO())
                    self.stdout.write(chunk.decode(), ending="")
                else:
                    binary.write(chunk)
            self.stdout.flush()


def _discard_standard_output() -> None:
    """Write what is left to nowhere: Python's flush at exit would fail once more, and change the exit code."""
    with suppress(OSError, ValueError):  # a stream in memory has no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _queryset(options: dict[str, Any]) -> QuerySet[Model]:
    model = _model(options["model"])
    database = options["database"]
    queryset = model._default_manager.using(database)
    for text in options["filter"]:
        queryset = queryset.filter(parse_filter(model, text, using=database))
    for text in options["exclude"]:
        queryset = queryset.exclude(parse_filter(model, text, using=database))
    if ordering := listed(options["order_by"] or ()):
        queryset = queryset.order_by(*(parse_ordering(model, name) for name in ordering))
    return queryset[: options["limit"]]


def _model(label: str) -> type[Model]:
    try:
        return apps.get_model(label)
    except (LookupError, ValueError):
        labels = [model._meta.label for model in apps.get_models()]
        close = get_close_matches(label, labels, n=3) or sorted(labels)
        raise CommandError(f"unknown model {label!r}; choose from: {', '.join(close)}") from None


def _encoder(options: dict[str, Any], path: Path) -> Encoder:
    chosen, profile = _format(options, path), options["profile"]
    if profile != "data" and chosen.for_people is None:
        able = ", ".join(known.name for known in FORMATS.values() if known.for_people)
        raise CommandError(f"--profile {profile} is only for {able}, not for {chosen.name}")
    encoder = chosen.encoder_for(profile)
    return _without_header(chosen.name, encoder) if options["no_header"] else encoder


def _without_header(name: str, encoder: Any) -> Encoder:
    option_names = {option.name for option in fields(encoder)} if is_dataclass(encoder) else ()
    if "header" not in option_names:
        raise CommandError(f"--no-header is only for formats with a header row, not for {name}")
    without: Encoder = replace(encoder, header=False)
    return without


def _format(options: dict[str, Any], path: Path) -> Format:
    if name := options["format"]:
        return FORMATS[name]
    if options["output"] == STDOUT:
        return FORMATS["csv"]
    known = format_of(path)
    if known is None:
        raise CommandError(f"no format for {options['output']!r}; choose one with --format {'|'.join(FORMATS)}")
    return known


@contextmanager
def _terminable() -> Iterator[None]:
    def end(*_: object) -> None:
        raise Terminated

    if current_thread() is not main_thread():  # only the main thread can set handlers
        yield
        return
    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
