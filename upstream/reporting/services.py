"""Reports of a run as artifacts: CSV for programs, PDF for people."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.apps import apps

from upstream.reporting.artifacts import Made, make_artifact
from upstream.reporting.columns import DRIFT_FILTERS, DRIFT_NAMES, filtered
from upstream.reporting.pages import PAPERS, page_html
from upstream.reporting.reports import WEEKS, Report, drift_report
from upstream.reporting.runs import SUCCESS
from upstream.streaming import stream
from upstream.streaming.pdf import render_pdf

# What a page shows, whatever the run has: so the time and memory of a PDF have a bound.
MOST_EVENTS = 20
MOST_PAYERS = 10


def generate_drift_events_csv(report_run: Any, params: Mapping[str, Any] | None = None) -> Any:
    """Save the drift events of a report run as CSV, by primary key, and return the `ReportArtifact`.

    `params` are filters: `payer`, `cpt_group`, `drift_type`, `trend`, `severity_min`, `severity_max`, `suppressed`
    and `open` (not acknowledged); the artifact keeps them. An unknown one raises ChoiceError, a value that its
    field cannot take ColumnError. Rows are streamed, so memory does not grow with them. The run's drift must have
    been computed, else ReportRunError is raised. Any other failure is recorded in the run as well (see
    `make_artifact`).
    """
    params = params or {}

    def make() -> Made:
        events = filtered(report_run.drift_events.all(), params, DRIFT_FILTERS)
        chunks = stream(events.order_by("pk"), DRIFT_NAMES)
        return Made(chunks, lambda: chunks.rows)

    return make_artifact(report_run, "drift_events_csv", ".csv", params, make)


def generate_weekly_drift_pdf(report_run_id: Any, *, paper: str = "Letter") -> Any:
    """Save the report of a run as PDF, on "Letter" or "A4" `paper`, and return the `ReportArtifact`.

    It shows the 20 costliest events and 10 payers, and says how many more there are; so it takes a second or two,
    however many there are. The artifact's `rows` are all events of the run. `DoesNotExist` is raised for a key
    that no run has; otherwise errors are as in `generate_drift_events_csv`.
    """
    runs = apps.get_model("upstream", "ReportRun")._default_manager
    return weekly_drift_pdf(runs.select_related("customer").get(pk=report_run_id), paper=paper)


def weekly_drift_pdf(report_run: Any, *, paper: str = "Letter") -> Any:
    """Do what `generate_weekly_drift_pdf` does, for the run itself, on whichever database it is."""

    def make() -> Made:
        if paper not in PAPERS:
            raise ValueError(f"unknown paper {paper!r}; choose from: {', '.join(PAPERS)}")
        report = report_of(report_run)
        totals = report["totals"]
        pdf = render_pdf(page_html(report, paper=paper))
        return Made([pdf], lambda: totals["events"] + totals["suppressed"])

    return make_artifact(report_run, "weekly_drift_pdf", ".pdf", {"paper": paper}, make)


def report_of(report_run: Any) -> Report:
    """Return the drift report of a run, with the twelve weeks that end with its period."""
    customer = report_run.customer
    history = customer.drift_events.filter(
        report_run__run_type=report_run.run_type,
        report_run__status=SUCCESS,
        current_end__gt=report_run.period_end - timedelta(weeks=WEEKS),
        current_end__lte=report_run.period_end,
    )
    return drift_report(
        report_run.drift_events.all(),
        history=history,
        most_events=MOST_EVENTS,
        most_payers=MOST_PAYERS,
        customer=customer,
        period_start=report_run.period_start,
        period_end=report_run.period_end,
    )
