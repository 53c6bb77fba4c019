import datetime as dt
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, connections
from django.utils.timezone import localdate

from upstream.management.customers import customer_named
from upstream.reporting.wording import counted
from upstream.services import ReportSchedulerService

DAY = dt.timedelta(days=1)
WEEK = dt.timedelta(weeks=1)


class Command(BaseCommand):
    help = (
        "Compute the payer drift of a customer's latest weeks, the oldest first, as after an import of old claims."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("customer", metavar="CUSTOMER", help="name or id of the customer")
        parser.add_argument(
            "--weeks", type=int, default=1, metavar="N", help="weeks from Monday to Sunday, default: 1"
        )
        parser.add_argument(
            "--today", type=dt.date.fromisoformat, metavar="YYYY-MM-DD", help="the last week is over on this day"
        )
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, choices=tuple(connections))

    def handle(self, *, weeks: int, today: dt.date | None, database: str, **options: Any) -> None:
        if weeks < 1:
            raise CommandError(f"--weeks must be 1 or more, not {weeks}")
        customer = customer_named(options["customer"], database)
        today = today or localdate()
        monday = today - today.weekday() * DAY - WEEK
        for number in reversed(range(weeks)):
            start, end = monday - number * WEEK, monday - number * WEEK + 6 * DAY
            run = ReportSchedulerService.schedule_weekly_report(customer, start, end)
            ReportSchedulerService.compute_report_drift(run)
            drifts = counted(run.summary_json["drift_events"], "drifts")
            self.stdout.write(f"{customer}, {start} to {end}: {drifts}")
