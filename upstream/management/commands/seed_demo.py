import datetime as dt
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from django.core.management.color import no_style
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.models import Model, QuerySet
from django.utils.timezone import localdate

from upstream.integrations.progress import metered
from upstream.management import demo_claims, demo_data
from upstream.models import (
    AlertEvent,
    AlertRule,
    ClaimRecord,
    ClaimUpload,
    Customer,
    DriftEvent,
    ExportLog,
    ReportArtifact,
    ReportRun,
    ReportSchedule,
)
from upstream.streaming import stream, to_file

T = TypeVar("T")


class Command(BaseCommand):
    help = "Fill the Upstream tables with demo data; the same --rows, --seed and --today give the same data."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--rows", type=int, required=True, help="Number of drift events; the other tables are sized to match."
        )
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument(
            "--today",
            type=dt.date.fromisoformat,
            metavar="YYYY-MM-DD",
            help="The newest rows are of the day before.",
        )
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, choices=tuple(connections))
        parser.add_argument("--batch-size", type=int, default=1000, help="Number of rows in memory at a time.")
        parser.add_argument(
            "--claims",
            type=Path,
            metavar="DIR",
            help="Also add customers with claims: their files, to import, are written to this directory. "
            "The user lakeside, with the password demo, sees the first of them.",
        )
        parser.add_argument("--replace", action="store_true", help="First delete all rows of the Upstream tables.")

    def handle(
        self,
        *,
        rows: int,
        seed: int,
        today: dt.date | None,
        database: str,
        batch_size: int,
        claims: Path | None,
        replace: bool,
        **_: Any,
    ) -> None:
        if rows < 0:
            raise CommandError(f"--rows must be 0 or more, not {rows}.")
        if batch_size < 1:
            raise CommandError(f"--batch-size must be 1 or more, not {batch_size}.")
        with transaction.atomic(using=database):
            if replace:
                _empty_tables(database)
            _require_empty_tables(database)
            today = today or localdate()
            _fill_tables(rows, seed, today, database, batch_size)
            _reset_sequences(database)
            if claims:
                _add_practices(database)
                _write_claims(claims, seed, today)
        self.stdout.write(self.style.SUCCESS(f"Created {rows:,} drift events in database {database!r}."))


def _tables(database: str) -> list[QuerySet[Any]]:
    """Return all tables, those first that others refer to."""
    models: list[type[Model]] = [
        *(Customer, ReportRun, AlertRule, DriftEvent, AlertEvent),
        *(Customer.users.through, ClaimUpload, ClaimRecord, ReportSchedule, ReportArtifact, ExportLog),
    ]
    return [QuerySet(model, using=database) for model in models]


def _empty_tables(database: str) -> None:
    connection = connections[database]
    with connection.cursor() as cursor:
        for table in reversed(_tables(database)):
            name = connection.ops.quote_name(table.model._meta.db_table)
            # QuerySet.delete() would collect the rows in memory to cascade.
            cursor.execute(f"DELETE FROM {name}")  # noqa: S608


def _require_empty_tables(database: str) -> None:
    for table in _tables(database):
        if table.exists():
            raise CommandError(
                f"Database {database!r} already holds {table.model.__name__} rows. "
                "Pass --replace to delete all rows of the Upstream tables."
            )


def _fill_tables(rows: int, seed: int, today: dt.date, database: str, batch_size: int) -> None:
    customers, report_runs, alert_rules, drift_events, alert_events, *_ = _tables(database)
    _create(customers, demo_data.customers(rows), batch_size)
    _create(report_runs, demo_data.report_runs(seed, rows, today), batch_size)
    _create(alert_rules, demo_data.alert_rules(rows), batch_size)
    with metered(rows) as meter:
        for batch in _batched(demo_data.drift_events(seed, rows, today), batch_size):
            drift_events.bulk_create([event for event, _ in batch])
            alert_events.bulk_create([alert for _, alerts in batch for alert in alerts])
            meter(meter.rows + len(batch))


def _add_practices(database: str) -> None:
    names = [practice.name for practice in demo_claims.PRACTICES]
    customers = [Customer.objects.using(database).create(name=name) for name in names]
    users = get_user_model()._default_manager.using(database)
    user, _ = users.get_or_create(username="lakeside", defaults={"email": "lakeside@example.com"})
    user.set_password("demo")
    user.save()
    customers[0].users.add(user)
    for customer in customers:
        ReportSchedule.objects.using(database).create(customer=customer, recipients="lakeside@example.com")
        customer.alert_rules.bulk_create(
            AlertRule(customer=customer, name=name, threshold_value=threshold, drift_type_filter=drift_type)
            for name, drift_type, threshold in demo_data.RULES
        )


def _write_claims(directory: Path, seed: int, today: dt.date) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for practice in demo_claims.PRACTICES:
        rows = demo_claims.claims(practice, seed, today)
        to_file(stream(rows, practice.columns, practice.encoder), directory / practice.filename)


def _create(table: QuerySet[Any], rows: Iterable[Model], batch_size: int) -> None:
    for batch in _batched(rows, batch_size):
        table.bulk_create(batch)


def _batched(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, size)):
        yield batch


def _reset_sequences(database: str) -> None:
    # Rows with explicit keys leave PostgreSQL's sequences at 1.
    connection = connections[database]
    models = [table.model for table in _tables(database)]
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), models):
            cursor.execute(statement)
