"""Makes and fills the tables of an empty database."""

from itertools import islice
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser
from django.db import connection, transaction

from benchmarks.table.models import TABLES, Airline, Customer, Letter
from benchmarks.table.rows import (
    airlines,
    customers,
    drafts,
    flights,
    letters,
    payments,
    reports,
    rows_of,
    surveys,
)

BATCH_ROWS = 5000
ROWS = {
    "payments": payments,
    "flights": flights,
    "200-columns": surveys,
    "long-texts": reports,
    "nulls": drafts,
}


class Command(BaseCommand):
    help = __doc__
    requires_system_checks: list[str] = []  # noqa: RUF012 (as Django declares it)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("rows", type=int)

    def handle(self, *, rows: int, **_: Any) -> None:
        call_command("migrate", run_syncdb=True, verbosity=0)
        with transaction.atomic():
            Customer.objects.bulk_create(Customer(**fields) for fields in customers())
            Airline.objects.bulk_create(Airline(**fields) for fields in airlines())
            Letter.objects.bulk_create(Letter(**fields) for fields in letters())
            for table, made in ROWS.items():
                model, _ = TABLES[table]
                records = (model(**fields) for fields in made(rows_of(table, rows)))
                while batch := list(islice(records, BATCH_ROWS)):
                    model.objects.bulk_create(batch)
        with connection.cursor() as cursor:
            # Left to later, the server's own housekeeping would run in the middle of a measurement.
            if connection.vendor == "mysql":
                cursor.execute(f"ANALYZE TABLE {', '.join(connection.introspection.table_names(cursor))}")
            else:
                cursor.execute("VACUUM ANALYZE" if connection.vendor == "postgresql" else "ANALYZE")
