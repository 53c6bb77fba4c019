"""Reports as the sheets of a workbook, and as rows."""

from collections.abc import Mapping
from typing import Any

from upstream.reporting.reports import Report
from upstream.reporting.wording import drift_label, period
from upstream.streaming import Column, Table

SUMS = {
    "events": "Events",
    "worsening": "Worsening",
    "improving": "Improving",
    "revenue_at_risk": "At risk (USD)",
    "revenue_gained": "Gained (USD)",
    "average_severity": "Average severity",
    "highest_severity": "Highest severity",
}
RECOVERY = {
    "acknowledged": "Acknowledged events",
    "acknowledged_share": "Acknowledged share",
    "acknowledged_at_risk": "Acknowledged at risk (USD)",
    "open_at_risk": "Open at risk (USD)",
    "recovered_share": "Share gained",
    "hours_to_acknowledge": "Hours to acknowledge",
}
FIGURES = {"payers": "Payers", **SUMS, "suppressed": "Suppressed events", **RECOVERY}
# The lists of a report, each with its sheet and the column that names its rows.
LISTS = {
    "payers": ("Payers", Column("payer", header="Payer")),
    "drift_types": ("Kinds of drift", Column("drift_type", header="Drift", value=drift_label)),
    "severity": ("Severity", Column("level", header="Level", value=str.capitalize)),
    "weeks": ("Weeks", Column("week", header="Week from")),
}


def sheets(report: Report) -> dict[str, Table]:
    """Return the sheets of a report: its summary, and one for each of its lists but the events."""
    found = {"Summary": Table(_summary(report), ["Figure", "Value"])}
    for name, (sheet, key) in LISTS.items():
        if rows := report.get(name):
            found[sheet] = Table(rows, [key, *_sums(rows[0])])
    return found


def _summary(report: Report) -> list[dict[str, Any]]:
    start, end = report["period_start"], report["period_end"]
    figures = {
        "Report": report["title"],
        "Customer": report["customer"],
        "Period": period(start, end) if start and end else "",
        **{label: report["totals"][name] for name, label in FIGURES.items() if name in report["totals"]},
    }
    return [{"Figure": label, "Value": value} for label, value in figures.items() if value not in ("", None)]


def _sums(row: Mapping[str, Any]) -> list[Column]:
    return [Column(name, header=label) for name, label in {**SUMS, **RECOVERY}.items() if name in row]
