from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from upstream.dumps import verify
from upstream.dumps.manifests import tables_of
from upstream.streaming import ExportError


class Command(BaseCommand):
    help = "Read a dump again, with other readers than its writers, and compare it with its manifest."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "place", metavar="PLACE", help="a directory, s3://bucket/prefix or storage:alias/prefix"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        try:
            manifest = verify(options["place"])
        except (ExportError, OSError) as error:
            raise CommandError(str(error)) from error
        tables = tables_of(manifest)
        of = tables[0]["model"] if len(tables) == 1 else f"{len(tables)} models"
        self.stdout.write(f"{options['place']}: verified, {manifest['rows']:,} rows of {of}")
