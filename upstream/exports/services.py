"""Excel workbooks of one customer's drift and alerts."""

from tempfile import SpooledTemporaryFile
from typing import Any

from django.db.models import F

from upstream.reporting.columns import (
    ALERT_COLUMNS,
    ALERT_FILTERS,
    DRIFT_COLUMNS,
    DRIFT_FILTERS,
    IMPACT,
    NUMBER_FORMATS,
    Filters,
    filtered,
)
from upstream.reporting.reports import drift_report
from upstream.reporting.sheets import sheets
from upstream.streaming import ByteStream, Table, Xlsx, stream
from upstream.streaming.targets.buffers import drain

SPOOL_BYTES = 1024 * 1024


class ExportFile(SpooledTemporaryFile[bytes]):
    """A rewound binary file with an export of `rows` rows: in memory up to 1 MiB, then on disk without a name.

    It is gone when it is closed.
    """

    def __init__(self, chunks: ByteStream) -> None:
        super().__init__(max_size=SPOOL_BYTES)
        try:
            drain(chunks, self)
            self.seek(0)
        except BaseException:
            self.close()
            raise
        self.rows = chunks.rows


class ExportService:
    """Export a customer's drift and alerts as Excel workbooks, for people: plain headers, formats, totals.

    Rows are streamed, so memory does not grow with them. Each workbook is returned as an `ExportFile`, which the
    caller closes. Filters are those declared in `upstream.reporting.columns`; another name raises ChoiceError,
    which lists them, and a value that the field cannot take raises ColumnError.

        >>> with ExportService(customer).export_drift_events_excel(run, {"severity_min": 0.5}) as file:
        ...     first = file.read(2)
        >>> first
        b'PK'
    """

    def __init__(self, customer: Any) -> None:
        self.customer = customer

    def export_drift_events_excel(self, report_run: Any, filters: Filters | None = None) -> ExportFile:
        """Export the drift events of one of the customer's report runs, those that cost most first.

        The filters are `payer`, `cpt_group`, `drift_type`, `trend`, `severity_min`, `severity_max`, `suppressed`
        and `open` (not acknowledged). A run of another customer raises ValueError.
        """
        self._check_own(report_run)
        events = filtered(report_run.drift_events.all(), filters, DRIFT_FILTERS)
        return _exported(_in_order(events), DRIFT_COLUMNS, "Drift events", totals=[IMPACT])

    def export_alert_events_excel(self, filters: Filters | None = None) -> ExportFile:
        """Export the customer's alerts, the newest first.

        The filters are `status`, `rule`, `payer`, `drift_type`, `severity_min`, `from` and `until` (before it).
        """
        alerts = filtered(self.customer.alert_events.all(), filters, ALERT_FILTERS)
        return _exported(alerts.order_by("-triggered_at", "-pk"), ALERT_COLUMNS, "Alerts")

    def export_weekly_summary_excel(self, report_run: Any) -> ExportFile:
        """Export a report run as a workbook: a summary, the payers, kinds and levels of drift, and every event.

        Suppressed events are among the details, and not in the sums.
        """
        self._check_own(report_run)
        events = report_run.drift_events.all()
        report = drift_report(
            events,
            most_events=0,
            most_payers=None,
            customer=self.customer,
            period_start=report_run.period_start,
            period_end=report_run.period_end,
        )
        document = {**sheets(report), "Details": Table(_in_order(events), DRIFT_COLUMNS)}
        return ExportFile(stream(document, encoder=_look("Weekly summary")))

    def log_export(self, user: Any, export_type: str, record_count: int) -> Any:
        """Record who exported what in the customer's export log, and return the entry.

        `user` is None, or an anonymous one, where nobody is known.
        """
        if record_count < 0:
            raise ValueError(f"record_count must be 0 or more, not {record_count}")
        known = user if user is not None and user.is_authenticated else None
        return self.customer.export_logs.create(user=known, export_type=export_type, record_count=record_count)

    def _check_own(self, report_run: Any) -> None:
        if report_run.customer_id != self.customer.pk:
            raise ValueError(f"report run {report_run.pk} is not one of {self.customer}")


def _in_order(events: Any) -> Any:
    """Return drift events with the most revenue at risk first; an impact at risk is negative."""
    return events.order_by(F("estimated_revenue_impact").asc(nulls_last=True), "-severity", "pk")


def _exported(rows: Any, columns: Any, sheet: str, **options: Any) -> ExportFile:
    return ExportFile(stream(rows, columns, _look(sheet, columns, sheet=sheet, **options)))


def _look(title: str, columns: Any = (), **options: Any) -> Xlsx:
    """Return the encoder; its formats are those of the columns, or all for a workbook of several sheets."""
    headers = {column.header for column in columns}
    formats = {header: form for header, form in NUMBER_FORMATS.items() if header in headers or not columns}
    return Xlsx(title=title, author="Upstream", number_formats=formats, long_texts="cut", **options)
