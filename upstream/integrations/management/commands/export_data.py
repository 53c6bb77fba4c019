import os
import signal
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from dataclasses import fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connections
from django.db.models import Model, QuerySet

from upstream.integrations.arguments import (
    SELECTION,
    add_selection,
    ending_with_signals,
    model_of,
    named_columns,
    rows,
    seconds,
    selected,
    words_of,
)
from upstream.integrations.choices import keyed_columns
from upstream.integrations.formats import FORMATS, PROFILES, Format, format_of
from upstream.integrations.labels import for_people, labelled
from upstream.integrations.progress import metered
from upstream.integrations.stored_models import stored_models
from upstream.streaming import ByteStream, Column, ExportError, plan, stream, to_file
from upstream.streaming.compression import SUFFIXES
from upstream.streaming.databases import database_of
from upstream.streaming.databases.sharing import is_in_callers_transaction
from upstream.streaming.encoders.protocol import Encoder, capabilities_of

STDOUT = "-"
HEADERS = ("names", "labels", "none")
OF_ALL = (
    "export each model to a file of its own in DIR, such as auth.user.csv: all models whose tables migrate makes,"
    " on PostgreSQL in one state of the database"
)
# What names fields of one model, or one file.
OF_ONE_MODEL = ("output", *SELECTION)


class Command(BaseCommand):
    help = "Export the rows of a model to a file or standard output; memory does not grow with their number."

    def add_arguments(self, parser: ArgumentParser) -> None:
        add = parser.add_argument
        self._refuse = parser.error
        add("model", nargs="?", metavar="app_label.Model")
        add("--all", metavar="DIR", help=OF_ALL)
        add("-o", "--output", default=STDOUT, metavar="PATH", help="file, compressed if it ends with .gz or .zst")
        add("--format", choices=list(FORMATS), help="default: by the suffix of the file, else csv")
        add("--compression", choices=tuple(SUFFIXES.values()), help="default: by the suffix of the file")
        add_selection(parser)
        add("--limit", type=rows, metavar="N", help="export at most N rows")
        add("--windows", action="store_true", help="read by many short statements, with nothing open between them")
        add("--timeout", type=seconds, metavar="SECONDS", help="stop an export that takes longer")
        add("--chunk-size", type=rows, default=2000, metavar="ROWS", help="rows per batch")
        add("--profile", choices=PROFILES, default="data", help="excel: for people, without formulas")
        add("--header", choices=HEADERS, help="default: names; labels with --profile excel; none is no header row")
        add("--explain", action="store_true", help="print how the export would run, without running it")
        add("--no-progress", action="store_true", help="show no progress on the terminal")

    def handle(self, *_args: Any, **options: Any) -> None:
        try:
            with ending_with_signals():
                self._export(options)
        except BrokenPipeError:
            _discard_standard_output()
            sys.exit(128 + signal.SIGPIPE)
        except (ExportError, OSError, DatabaseError) as error:
            if isinstance(error, OSError) and options["output"] == STDOUT:
                _discard_standard_output()
            raise CommandError(words_of(error)) from error

    def _export(self, options: dict[str, Any]) -> None:
        if (options["model"] is None) == (options["all"] is None):
            self._refuse("name a model, or --all DIR for all models")
        if options["all"] is not None:
            self._export_all(options)
            return
        path = Path(options["output"])
        suffix = SUFFIXES.get(path.suffix)
        model = model_of(options["model"])
        encoder = _encoder(options, path.with_suffix("") if suffix else path, model)
        compression = options["compression"] or suffix
        _check_compression(encoder, compression)
        self._export_model(model, encoder, path, {**options, "compression": compression})

    def _export_all(self, options: dict[str, Any]) -> None:
        """Export the models one after the other; one that fails is told, and keeps no other from its file."""
        if given := [name for name in OF_ONE_MODEL if options[name] not in (None, [], STDOUT)]:
            self._refuse(f"--{given[0].replace('_', '-')} is for one model, not for --all")
        directory, encoder = Path(options["all"]), _encoder(options, Path())
        _check_compression(encoder, options["compression"])
        suffixes = [suffix for suffix, name in SUFFIXES.items() if name == options["compression"]]
        ending = "".join([encoder.suffix, *suffixes])
        if not options["explain"]:
            directory.mkdir(parents=True, exist_ok=True)
        failed = []
        with _one_state(options) as reading:
            for model in stored_models(options["database"]):
                name = model._meta.label_lower
                try:
                    of_model = _encoder(options, Path(), model)
                    with reading():
                        self._export_model(model, of_model, directory / f"{name}{ending}", options)
                except BrokenPipeError:
                    raise
                except Exception as error:  # noqa: BLE001 (a field's own code may raise anything)
                    failed.append(name)
                    self.stderr.write(f"{name}: {words_of(error)}")
        if failed:
            raise CommandError(f"not exported: {', '.join(failed)}")

    def _export_model(self, model: type[Model], encoder: Encoder, path: Path, options: dict[str, Any]) -> None:
        queryset = selected(model, options)[: options["limit"]]
        columns = _columns(queryset, options)
        name = model._meta.label_lower if options["all"] is not None else ""
        reading = {option: options[option] for option in ("chunk_size", "windows", "timeout")}
        if options["explain"]:
            planned = str(plan(queryset, columns, encoder, **reading))
            self.stdout.write(f"{name}\n{planned}\n\n" if name else planned)
            return
        visible = not options["no_progress"]
        compression = options["compression"]
        to_stdout = options["output"] == STDOUT and not name
        is_binary = bool(compression) or capabilities_of(encoder).is_compressed
        if to_stdout and is_binary and not hasattr(self.stdout, "buffer"):
            raise CommandError("standard output takes text only here: name a file with -o")
        with metered(options["limit"], name=name, visible=visible) as meter:
            chunks = stream(queryset, columns, encoder, compression=compression, progress=meter, **reading)
            if to_stdout:
                self._write(chunks)
            else:
                to_file(chunks, path)
        if options["verbosity"] > 1 or (sys.stderr.isatty() and visible):
            self.stderr.write(f"{name}: {meter}" if name else str(meter), self.style.SUCCESS)

    def _write(self, chunks: ByteStream) -> None:
        binary = getattr(self.stdout, "buffer", None)
        with closing(chunks):
            for chunk in chunks:
                if binary is None:  # call_command(stdout=StringIO())
                    self.stdout.write(chunk.decode(), ending="")
                else:
                    binary.write(chunk)
            self.stdout.flush()


@contextmanager
def _one_state(options: dict[str, Any]) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Hold one state of the database, if it can be shared, and yield what lets the exports of a block read it.

    A transaction of the caller has its own, windows have none, and a timeout begins with each transaction.
    """
    connection = connections[options["database"]]
    if options["explain"] or options["windows"] or options["timeout"] or is_in_callers_transaction(connection):
        yield nullcontext
        return
    database = database_of(connection)
    tables = [model._meta.db_table for model in stored_models(connection.alias)]
    with database.share_snapshot(connection.alias, [tables]) as [name]:
        yield partial(database.join_snapshot, connection.alias, name, tables) if name else nullcontext


def _discard_standard_output() -> None:
    """Write what is left to nowhere: Python's flush at exit would fail once more, and change the exit code."""
    with suppress(OSError, ValueError):  # a stream in memory has no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _columns(queryset: QuerySet[Model], options: dict[str, Any]) -> list[Column] | None:
    columns = named_columns(options)
    is_for_people = options["profile"] == "excel"
    if options["header"] != "labels" and not is_for_people:
        return columns or None
    named = columns or list((keyed_columns(queryset, None) or {}).values())
    shown = (for_people(queryset, named) or []) if is_for_people else named
    if options["header"] == "names":
        return [replace(column, header=own.header) for column, own in zip(shown, named, strict=True)]
    return [labelled(column, queryset.model) for column in shown]


def _encoder(options: dict[str, Any], path: Path, model: type[Model] | None = None) -> Encoder:
    chosen, profile = _format(options, path), options["profile"]
    if profile != "data" and chosen.for_people is None:
        able = ", ".join(known.name for known in FORMATS.values() if known.for_people)
        raise CommandError(f"--profile {profile} is only for {able}, not for {chosen.name}")
    encoder = chosen.encoder_for(profile, model and model._default_manager)
    return _without_header(chosen.name, encoder) if options["header"] == "none" else encoder


def _check_compression(encoder: Encoder, compression: Any) -> None:
    if compression and capabilities_of(encoder).is_compressed:
        raise CommandError(
            f"{encoder.suffix} files are compressed inside: leave out --compression, and .gz or .zst of the name"
        )


def _without_header(name: str, encoder: Any) -> Encoder:
    option_names = {option.name for option in fields(encoder)} if is_dataclass(encoder) else ()
    if "header" not in option_names:
        raise CommandError(f"--header none is only for formats with a header row, not for {name}")
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
