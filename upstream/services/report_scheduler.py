"""Weekly reports: planned once, computed by one worker at a time, and made into files."""

import logging
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any

from django.db import DatabaseError
from django.db.models import Q
from django.utils import timezone

from upstream.exports.services import ExportFile, ExportService
from upstream.reporting.artifacts import Made, make_artifact
from upstream.reporting.facts import gather
from upstream.reporting.runs import (
    FAILED,
    PENDING,
    RUNNING,
    SUCCESS,
    ReportRunError,
    Summary,
    locked,
    rows_like,
    words_of,
)
from upstream.reporting.services import generate_drift_events_csv, weekly_drift_pdf
from upstream.services.payer_drift import save_drift

logger = logging.getLogger(__name__)

WEEKLY = "weekly"
WEEK = timedelta(days=6)
# A worker that computes for longer is taken for dead. A year of a million claims takes minutes.
TAKEOVER = timedelta(hours=2)
# What stays in the summary of a run that is computed again.
KEPT = ("mailed",)
BLOCK_BYTES = 256 * 1024


class ReportSchedulerService:
    """Plan, compute and make weekly reports; every method can be called again, and gives nothing twice.

    Every method is static and keeps no state. A failure is recorded in the run's `summary_json`, and raised.
    """

    @staticmethod
    def schedule_weekly_report(customer: Any, period_start: date, period_end: date) -> Any:
        """Return the customer's weekly run of a period, which is created pending if there is none.

        Args:
            customer: the `Customer`; its row is locked meanwhile, so that two callers get the same run.
            period_start, period_end: the first and the last day, seven days in all. They must be over.

        Returns:
            The `ReportRun`, in whatever state it is.

        Raises:
            ValueError: the period is not a week, or not over.
            ReportRunError: the customer is gone.

        Example:
            >>> run = ReportSchedulerService.schedule_weekly_report(customer, date(2026, 5, 4), date(2026, 5, 10))
            >>> run.status
            'pending'
        """
        _check_week(period_start, period_end)
        asked = {"run_type": WEEKLY, "period_start": period_start, "period_end": period_end}
        with locked(customer, "name"):
            run = customer.report_runs.filter(**asked).order_by("pk").first()
            return run or customer.report_runs.create(**asked, status=PENDING)

    @staticmethod
    def compute_report_drift(report_run: Any) -> Any:
        """Compute the drift of a run, replacing its events, and return the run.

        The run goes from pending, failed or success to running, and then to success or failed. Only one worker
        computes a run at a time; one that has been running for two hours can be taken over, and then whatever the
        first worker still computes is rolled back. Its old events stay until the new ones are complete.

        Args:
            report_run: the `ReportRun`; its fields are brought up to date.

        Returns:
            `report_run`. Its `summary_json` has `drift_events`, `worsening` and `revenue_at_risk`, a text.

        Raises:
            ReportRunError: another worker computes the run, or has taken it over.
            Exception: whatever the computation raised; `summary_json["error"]` has its words.
        """
        started_at = _claimed(report_run)
        try:
            with locked(report_run, "status"):
                save_drift(report_run)
                _finish(report_run, started_at, SUCCESS, _summary_of(report_run))
        except BaseException as error:
            _record_failure(report_run, started_at, error)
            raise
        report_run.refresh_from_db()
        logger.info("computed report run %s: %s", report_run.pk, report_run.summary_json)
        return report_run

    @staticmethod
    def generate_report_artifact(
        report_run: Any, artifact_type: str = "pdf", params: Mapping[str, Any] | None = None
    ) -> Any:
        """Make a file of a computed run, in the default storage, and return its `ReportArtifact`.

        A file of that kind that was made before is replaced; it is deleted once the new one is committed. On
        failure no file is left, and what was there stays.

        Args:
            report_run: a `ReportRun` with the status success.
            artifact_type: "pdf", the report; "xlsx", the workbook with summary and details; "events_xlsx", a
                workbook of the drift events; "csv", the drift events.
            params: for pdf `paper`, "Letter" or "A4"; for events_xlsx and csv the filters of `ExportService`.

        Returns:
            The `ReportArtifact`: kind, path, sha256, rows, bytes and params.

        Raises:
            ValueError: an unknown type or parameter.
            ReportRunError: the run was not computed.
            Exception: whatever making it raised; `summary_json["artifact_errors"]` has its words, by kind.
        """
        if artifact_type not in ARTIFACTS:
            raise ValueError(f"unknown artifact type {artifact_type!r}; choose from: {', '.join(ARTIFACTS)}")
        artifact = ARTIFACTS[artifact_type](report_run, dict(params or {}))
        report_run.refresh_from_db(fields=["summary_json"])
        return artifact


def last_week(today: date) -> tuple[date, date]:
    """Return the Monday and the Sunday of the last week that is over."""
    end = today - timedelta(days=today.isoweekday())
    return end - WEEK, end


def _check_week(start: date, end: date) -> None:
    for day in (start, end):
        if not isinstance(day, date) or isinstance(day, datetime):
            raise ValueError(f"a period has a first and a last day, as dates, not {day!r:.100}")
    if end - start != WEEK:
        raise ValueError(f"a week is seven days, but {start} to {end} are {(end - start).days + 1}")
    if end >= timezone.localdate():
        raise ValueError(f"the week from {start} to {end} is not over; choose one that is")


def _claimed(report_run: Any) -> datetime:
    """Set a run running, and return since when; only one of several workers can."""
    now = timezone.now()
    is_dead = Q(started_at__lt=now - TAKEOVER) | Q(started_at=None)
    is_free = Q(status__in=(PENDING, FAILED, SUCCESS)) | (Q(status=RUNNING) & is_dead)
    claim = {"status": RUNNING, "started_at": now, "finished_at": None}
    free = rows_like(report_run).filter(is_free)
    # The update alone would wait on MariaDB and SQLite for the other worker's transaction.
    if not (free.exists() and free.update(**claim)):
        raise ReportRunError(f"report run {report_run.pk} is computed by another worker, or gone; try again later")
    return now


def _finish(report_run: Any, started_at: datetime, status: str, facts: Summary) -> None:
    """End the computation that started then; raise if another worker has taken the run over."""
    mine = rows_like(report_run).filter(status=RUNNING, started_at=started_at)
    summary = mine.values_list("summary_json", flat=True).first() or {}
    kept = {name: summary[name] for name in KEPT if name in summary}
    end = {"status": status, "finished_at": timezone.now(), "summary_json": {**kept, **facts}}
    if not mine.update(**end):
        raise ReportRunError(f"another worker has taken over report run {report_run.pk}; this result is dropped")


def _summary_of(report_run: Any) -> Summary:
    total = gather(report_run.drift_events.all()).total
    at_risk = str(total.at_risk)
    return {"drift_events": total.events, "worsening": total.worsening, "revenue_at_risk": at_risk}


def _record_failure(report_run: Any, started_at: datetime, error: BaseException) -> None:
    try:
        _finish(report_run, started_at, FAILED, {"error": words_of(error)})
        report_run.refresh_from_db()
    except ReportRunError:  # the other worker's result counts
        logger.warning("report run %s was taken over before it failed", report_run.pk)
    except DatabaseError:  # what led here is raised, and says more
        logger.exception("the failure of report run %s could not be recorded", report_run.pk)


def _pdf(report_run: Any, params: dict[str, Any]) -> Any:
    if unknown := sorted(set(params) - {"paper"}):
        raise ValueError(f"unknown parameter {unknown[0]!r} of a pdf; it takes: paper")
    return weekly_drift_pdf(report_run, **params)


def _summary_workbook(report_run: Any, params: dict[str, Any]) -> Any:
    if params:
        raise ValueError(f"an xlsx takes no parameters, not {', '.join(params)}; events_xlsx takes filters")

    def make() -> Made:
        file = ExportService(report_run.customer).export_weekly_summary_excel(report_run)
        return Made(_blocks(file), report_run.drift_events.count)

    return make_artifact(report_run, "weekly_summary_xlsx", ".xlsx", params, make)


def _events_workbook(report_run: Any, params: dict[str, Any]) -> Any:
    def make() -> Made:
        file = ExportService(report_run.customer).export_drift_events_excel(report_run, params)
        return Made(_blocks(file), lambda: file.rows)

    return make_artifact(report_run, "drift_events_xlsx", ".xlsx", params, make)


def _blocks(file: ExportFile) -> Any:
    with file:
        while block := file.read(BLOCK_BYTES):
            yield block


ARTIFACTS = {
    "pdf": _pdf,
    "xlsx": _summary_workbook,
    "events_xlsx": _events_workbook,
    "csv": generate_drift_events_csv,
}
