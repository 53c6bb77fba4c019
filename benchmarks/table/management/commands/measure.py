"""Runs one case and prints what it took, as JSON."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import connection
from django.utils.module_loading import import_string

from benchmarks.cases import CASES
from benchmarks.memory import peak_bytes
from benchmarks.output import Output
from benchmarks.table.models import selection

# What a header line has beside names and commas, at most.
LINE_BYTES = 4


class Command(BaseCommand):
    help = __doc__
    requires_system_checks: list[str] = []  # noqa: RUF012 (as Django declares it)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("case", choices=CASES)
        parser.add_argument("--save", type=Path, help="keep what the case writes; else it is counted and dropped")

    def handle(self, *, case: str, save: Path | None, **_: Any) -> None:
        write = import_string(CASES[case].adapter)
        first_row_bytes = len(",".join(selection(CASES[case].table)[1])) + LINE_BYTES
        connection.ensure_connection()
        with save.open("wb") if save else BytesIO() as file:
            output = Output(file if save else None, first_row_bytes=first_row_bytes)
            write(output, **CASES[case].options)
            output.finish(peak_bytes())
        self.stdout.write(json.dumps(output.measured()))
