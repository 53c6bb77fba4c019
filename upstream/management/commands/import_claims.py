import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections

from upstream.integrations.progress import metered
from upstream.management.customers import customer_named
from upstream.models import Customer
from upstream.reporting.wording import counted
from upstream.services import DataQualityService
from upstream.services.claim_columns import ClaimFileError
from upstream.services.claim_import import AlreadyImportedError, import_claims


class Command(BaseCommand):
    help = "Import a CSV file of claims of a customer, all or nothing; memory does not grow with the file."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("customer", metavar="CUSTOMER", help="name or id of the customer")
        parser.add_argument("file", metavar="FILE", help="CSV in UTF-8; it may be compressed with gzip or zstd")
        parser.add_argument(
            "--rejected", metavar="PATH", help="CSV file for the rows that are rejected, with the reasons"
        )
        parser.add_argument(
            "--database", default=DEFAULT_DB_ALIAS, choices=tuple(connections), help="database to write"
        )
        parser.add_argument("--no-progress", action="store_true", help="show no progress on the terminal")

    def handle(self, *_args: Any, **options: Any) -> None:
        customer = customer_named(options["customer"], options["database"])
        visible = not options["no_progress"]
        try:
            with metered(visible=visible) as meter:
                upload = import_claims(
                    customer, options["file"], rejected_path=options["rejected"], progress=meter
                )
        except AlreadyImportedError as error:
            self.stdout.write(f"Nothing to do: {error}.")
            return
        except (ClaimFileError, ValueError, OSError, DatabaseError) as error:
            raise CommandError(f"nothing was imported: {error}") from error
        if options["verbosity"] > 1 or (sys.stderr.isatty() and visible):
            self.stderr.write(str(meter), self.style.SUCCESS)
        self.stdout.write(self.style.SUCCESS(_summary(customer, upload, options["rejected"])))
        for pattern in DataQualityService.flag_suspicious_patterns(upload.claims.all()):
            self.stdout.write(f"Look at this: {pattern['message']}")


def _summary(customer: Customer, upload: Any, rejected: str | None) -> str:
    where = f", see {rejected}" if rejected and upload.rejected_rows else ""
    counts = upload.accepted_rows, upload.rejected_rows, upload.warning_rows
    score = DataQualityService.compute_data_quality_score(sum(counts[:2]), *counts)
    accepted, rejected_rows = counted(upload.accepted_rows, "claims"), counted(upload.rejected_rows, "rows")
    return (
        f"{customer}: imported {accepted} of {upload.filename} "
        f"({upload.warning_rows:,} contradict themselves), rejected {rejected_rows}{where}. "
        f"Data quality: {score:.1%}."
    )
