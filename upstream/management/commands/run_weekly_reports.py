import datetime as dt
import logging
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db.models import Q
from django.utils.timezone import localdate

from upstream.models import ReportRun, ReportSchedule
from upstream.reporting.runs import words_of
from upstream.reporting.wording import counted, dollars, period
from upstream.services.alert_processing import AlertProcessingService
from upstream.services.report_mail import is_mailed, mail_report, recipients_of
from upstream.services.report_scheduler import WEEK, ReportSchedulerService, last_week

logger = logging.getLogger(__name__)

ARTIFACTS = ("pdf", "xlsx", "csv")


class Command(BaseCommand):
    help = (
        "Make the report of the last full week, Monday to Sunday, for each customer with an enabled schedule, "
        "send its alerts, and mail it. It can run again: what was sent is not sent twice. If one customer fails, "
        "the others go on, and the exit code is 1."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--customer", metavar="NAME", help="Only this customer.")
        parser.add_argument(
            "--week",
            type=dt.date.fromisoformat,
            metavar="YYYY-MM-DD",
            help="The week with this day; by default the last one that is over.",
        )
        parser.add_argument(
            "--no-mail", action="store_true", help="Make the reports and raise the alerts, and send none."
        )
        parser.add_argument("--again", action="store_true", help="Make and mail also what was mailed already.")

    def handle(self, *, customer: str | None, week: dt.date | None, no_mail: bool, again: bool, **_: Any) -> None:
        start, end = _week_of(week)
        failures = []
        for schedule in _schedules(customer):
            try:
                done = _report(schedule, start, end, mails=not no_mail, again=again)
            except Exception as error:
                logger.exception("the weekly report of %s failed", schedule.customer)
                failures.append(f"{schedule.customer} ({words_of(error)})")
            else:
                self.stdout.write(f"{schedule.customer}: {done}")
        if failures:
            raise CommandError(f"{counted(len(failures), 'weekly reports')} failed: {'; '.join(failures)}")


def _week_of(day: dt.date | None) -> tuple[dt.date, dt.date]:
    start, end = last_week(localdate() if day is None else day + WEEK + dt.timedelta(days=1))
    if end >= localdate():
        raise CommandError(f"the week of {day}, {period(start, end)}, is not over; choose an earlier --week")
    return start, end


def _schedules(customer: str | None) -> Any:
    schedules = ReportSchedule.objects.filter(enabled=True).select_related("customer").order_by("customer__name")
    if customer is None:
        return schedules
    if not schedules.filter(customer__name=customer).exists():
        raise CommandError(f"no customer called {customer!r} has an enabled report schedule")
    return schedules.filter(customer__name=customer)


def _report(schedule: ReportSchedule, start: dt.date, end: dt.date, *, mails: bool, again: bool) -> str:
    """Make and mail one report, and return in words what was done."""
    recipients = recipients_of(schedule.recipients)
    run: ReportRun = ReportSchedulerService.schedule_weekly_report(schedule.customer, start, end)
    if is_mailed(run) and not again:
        if mails:
            _send_alerts(run)
        return f"mailed before, {period(start, end)}"
    ReportSchedulerService.compute_report_drift(run)
    alerts = AlertProcessingService.create_alert_events(run)
    if mails:
        _send_alerts(run)
    for kind in ARTIFACTS:
        ReportSchedulerService.generate_report_artifact(run, kind)
    summary = run.summary_json
    done = (
        f"{counted(summary['drift_events'], 'drift events')}, {dollars(float(summary['revenue_at_risk']))} at risk"
    )
    done = f"{period(start, end)}, {done}, {counted(alerts, 'new alerts')}"
    if not mails:
        return f"{done}, not mailed"
    is_sent = mail_report(run, recipients, again=again)
    return f"{done}, mailed to {', '.join(recipients)}" if is_sent else f"{done}, {_unsent(recipients)}"


def _send_alerts(run: ReportRun) -> None:
    """Send the alerts of a run, and those of any run that a process was killed over."""
    was_begun = Q(sending_since__isnull=False)
    AlertProcessingService.deliver_alert_events(
        run.customer.alert_events.filter(Q(drift_event__report_run=run) | was_begun)
    )


def _unsent(recipients: list[str]) -> str:
    return "mailed by another process" if recipients else "its schedule has no recipients"
