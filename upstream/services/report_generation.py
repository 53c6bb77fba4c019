"""Reports of drift: plain structures, and the same as PDF, Excel, CSV or JSON."""

from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any

from upstream.reporting.columns import DRIFT_COLUMNS, NUMBER_FORMATS
from upstream.reporting.pages import PAGES, page_html
from upstream.reporting.reports import Report, drift_report, payer_summary, recovery_stats
from upstream.reporting.sheets import sheets
from upstream.services.data_export import DataExportService
from upstream.streaming import Csv, Json, Table, Xlsx, stream, to_buffer


class ReportGenerationService:
    """Make reports of drift events, and render them.

    Every method is static and keeps no state. Drift events are a queryset, which the database groups, or any
    iterable of dicts or objects with the fields of `DriftEvent`, which is read once; both give the same report.
    Memory grows with the payers and days, not with the events. Suppressed events are counted, and left out of all
    else.

    A report is a dict of texts, numbers, Decimals, dates, lists and dicts. `revenue_at_risk` is the sum of the
    negative impacts, without its sign, and `revenue_gained` that of the positive ones.
    """

    @staticmethod
    def generate_payer_summary(
        drift_events: Any,
        *,
        customer: Any = "",
        period_start: Any = None,
        period_end: Any = None,
        most_payers: int | None = None,
    ) -> Report:
        """Return how many events there are at each payer, and what they cost.

        Args:
            drift_events: a queryset, or an iterable of dicts.
            customer: whom the report is about, for its title.
            period_start, period_end: the first and the last day of the period.
            most_payers: how many payers are listed, those with the most revenue at risk; by default all.

        Returns:
            `totals` over all events, `payers` with a dict for each, and `more_payers`, how many are not listed.

        Raises:
            SourceError: the events are of a wrong kind, or one lacks a needed field, or its impact is no amount.
            ValueError: the period ends before it starts.

        Example:
            >>> event = {"payer": "Medicare", "drift_type": "DENIAL_RATE", "baseline_value": 0.172,
            ...     "current_value": 0.269, "severity": 0.56, "estimated_revenue_impact": Decimal("-85419")}
            >>> report = ReportGenerationService.generate_payer_summary([event])
            >>> [(row["payer"], row["events"], row["revenue_at_risk"]) for row in report["payers"]]
            [('Medicare', 1, Decimal('85419.00'))]
        """
        return payer_summary(
            drift_events,
            most_payers=most_payers,
            customer=customer,
            period_start=period_start,
            period_end=period_end,
        )

    @staticmethod
    def generate_drift_report(
        drift_events: Any,
        *,
        history: Any = None,
        customer: Any = "",
        period_start: Any = None,
        period_end: Any = None,
        most_events: int = 20,
        most_payers: int | None = 10,
    ) -> Report:
        """Return the drift of a period: by severity, kind and payer, week by week, and the events that cost most.

        Args:
            drift_events: those of the period; a queryset, or an iterable of dicts.
            history: those of the weeks up to the period's end, with it; by default the events themselves.
            customer, period_start, period_end: as in `generate_payer_summary`.
            most_events: how many events are listed; these are held in memory.
            most_payers: how many payers are listed; None lists all.

        Returns:
            `totals`, `severity` (high, medium, low), `drift_types`, `payers`, `weeks` (twelve, the empty ones too,
            by their Mondays, up to the period's end), `events`, and how many more there are, `more_payers` and
            `more_events`.

        Raises:
            SourceError, ValueError: as in `generate_payer_summary`.

        Example:
            >>> event = {"payer": "Medicare", "drift_type": "DENIAL_RATE", "baseline_value": 0.172,
            ...     "current_value": 0.269, "severity": 0.56, "estimated_revenue_impact": Decimal("-85419")}
            >>> report = ReportGenerationService.generate_drift_report([event] * 30, most_events=5)
            >>> report["totals"]["events"], len(report["events"]), report["more_events"]
            (30, 5, 25)
        """
        return drift_report(
            drift_events,
            history=history,
            most_events=most_events,
            most_payers=most_payers,
            customer=customer,
            period_start=period_start,
            period_end=period_end,
        )

    @staticmethod
    def generate_recovery_stats(
        drift_events: Any,
        *,
        customer: Any = "",
        period_start: Any = None,
        period_end: Any = None,
        most_payers: int | None = None,
    ) -> Report:
        """Return what became of drift: how much was acknowledged and how soon, and what was gained back.

        Args:
            drift_events, customer, period_start, period_end, most_payers: as in `generate_payer_summary`.

        Returns:
            `totals` and `payers` as in `generate_payer_summary`, with `acknowledged`, `acknowledged_share`,
            `acknowledged_at_risk`, `open_at_risk`, `recovered_share` (gained, of all that was gained or is at
            risk) and `hours_to_acknowledge`, on average. Shares are from 0 to 1, or None where there is nothing.

        Raises:
            SourceError, ValueError: as in `generate_payer_summary`.

        Example:
            >>> ReportGenerationService.generate_recovery_stats([])["totals"]["acknowledged_share"] is None
            True
        """
        return recovery_stats(
            drift_events,
            most_payers=most_payers,
            customer=customer,
            period_start=period_start,
            period_end=period_end,
        )

    @staticmethod
    def format_report_for_export(report: Report, export_format: str = "pdf", *, paper: str = "Letter") -> Any:
        """Return a report as what its export needs.

        Args:
            report: one of the above.
            export_format: "pdf", "xlsx", "csv" or "json".
            paper: "Letter" or "A4", for a PDF.

        Returns:
            For pdf an HTML document, whose charts are in it; for xlsx a mapping of the names of sheets to Tables;
            for csv a list of dicts, one per event or else payer; for json the report.

        Raises:
            ValueError: an unknown format or paper, or a dict that is no report; the text lists what there is.
            MissingDependencyError: charts need the extra `reports`.

        Example:
            >>> report = ReportGenerationService.generate_payer_summary([])
            >>> ReportGenerationService.format_report_for_export(report, "csv")
            []
        """
        _check(report, export_format)
        return page_html(report, paper=paper) if export_format == "pdf" else FORMS[export_format](report)

    @staticmethod
    def render_report(report: Report, export_format: str = "pdf", *, paper: str = "Letter") -> BytesIO:
        """Return a report as a file: a PDF, an Excel workbook of several sheets, CSV or JSON.

        Args:
            report, export_format, paper: as in `format_report_for_export`.

        Returns:
            A BytesIO, rewound to 0.

        Raises:
            ValueError, MissingDependencyError: as in `format_report_for_export`; a PDF needs the extra `pdf` too.

        Example:
            >>> report = ReportGenerationService.generate_payer_summary([])
            >>> ReportGenerationService.render_report(report, "xlsx").read(2)
            b'PK'
        """
        formatted = ReportGenerationService.format_report_for_export(report, export_format, paper=paper)
        if export_format == "pdf":
            return DataExportService.export_to_pdf(formatted)  # type: ignore[return-value]
        if export_format == "xlsx":
            look = Xlsx(title=report["title"], author="Upstream", number_formats=NUMBER_FORMATS, long_texts="cut")
            return to_buffer(stream(formatted, encoder=look))
        return to_buffer(stream(formatted, encoder=Csv() if export_format == "csv" else Json(indent=2)))


def _check(report: Mapping[str, Any], export_format: str) -> None:
    formats = ("pdf", *FORMS)
    if export_format not in formats:
        raise ValueError(f"unknown format {export_format!r}; choose from: {', '.join(formats)}")
    kind = report.get("kind") if isinstance(report, Mapping) else None
    if kind not in PAGES:
        raise ValueError(f"not a report; its kind must be one of {', '.join(PAGES)}, not {kind!r:.100}")


def _rows(report: Report) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = report["events"] if "events" in report else report["payers"]
    return rows


def _sheets(report: Report) -> dict[str, Table]:
    found = sheets(report)
    if events := report.get("events"):
        shown = [column for column in DRIFT_COLUMNS if column.name in events[0]]
        found["Events"] = Table(events, shown)
    return found


def _same(report: Report) -> Report:
    return report


# What each format needs but PDF, whose page has a size.
FORMS: dict[str, Callable[[Report], Any]] = {"xlsx": _sheets, "csv": _rows, "json": _same}
