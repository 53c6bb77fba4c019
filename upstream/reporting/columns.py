"""The columns of drift and alert events for people and for programs, and the filters that exports declare."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from django.db.models import QuerySet

from upstream.integrations.choices import chosen
from upstream.integrations.filters import condition
from upstream.reporting.wording import capitalized, drift_label, level, unit_of
from upstream.streaming import Column, ColumnError

Filters = Mapping[str, Any]

# Of drift events, for programs: names and values as they are stored.
DRIFT_NAMES = (
    *("id", "payer", "cpt_group", "drift_type", "baseline_value", "current_value", "delta_value", "severity"),
    *("confidence", "p_value", "baseline_claims", "current_claims", "baseline_start", "baseline_end"),
    *("current_start", "current_end", "estimated_revenue_impact", "trend_direction", "consecutive_periods"),
    *("suppressed", "acknowledged_at", "potential_root_causes"),
)
IMPACT = "Revenue impact (USD)"
# Of drift events, for people.
DRIFT_COLUMNS = (
    Column("payer", header="Payer"),
    Column("cpt_group", header="CPT group"),
    Column("drift_type", header="Drift", value=drift_label),
    Column("drift_type", header="Unit", value=unit_of),
    Column("baseline_value", header="Baseline"),
    Column("current_value", header="Current"),
    Column("delta_value", header="Change"),
    Column("severity", header="Severity"),
    Column("severity", header="Level", value=level),
    Column("p_value", header="p-value"),
    Column("baseline_claims", header="Claims before"),
    Column("current_claims", header="Claims now"),
    Column("estimated_revenue_impact", header=IMPACT),
    Column("trend_direction", header="Trend", value=capitalized),
    Column("consecutive_periods", header="Periods in a row"),
    Column("current_start", header="From"),
    Column("current_end", header="Until"),
    Column("suppressed", header="Suppressed"),
    Column("acknowledged_at", header="Acknowledged"),
)
# Of alert events, for people.
ALERT_COLUMNS = (
    Column("triggered_at", header="Triggered"),
    Column("alert_rule__name", header="Rule"),
    Column("status", header="Status", value=capitalized),
    Column("drift_event__payer", header="Payer"),
    Column("drift_event__cpt_group", header="CPT group"),
    Column("drift_event__drift_type", header="Drift", value=drift_label),
    Column("drift_event__severity", header="Severity"),
    Column("drift_event__estimated_revenue_impact", header=IMPACT),
    Column("notification_sent_at", header="Sent"),
    Column("error_message", header="Error"),
)
NUMBER_FORMATS = {
    **dict.fromkeys(("Severity", "Average severity", "Highest severity"), "0%"),
    **dict.fromkeys(("Baseline", "Current", "Change"), "#,##0.0###"),
    **dict.fromkeys(("Claims before", "Claims now", "Events", "Worsening", "Improving"), "#,##0"),
    **dict.fromkeys((IMPACT, "At risk (USD)", "Gained (USD)"), "#,##0.00"),
    "p-value": "0.000",
}

DRIFT_FILTERS = {
    "payer": "payer",
    "cpt_group": "cpt_group",
    "drift_type": "drift_type",
    "trend": "trend_direction",
    "severity_min": "severity__gte",
    "severity_max": "severity__lte",
    "suppressed": "suppressed",
    "open": "acknowledged_at__isnull",
}
ALERT_FILTERS = {
    "status": "status",
    "rule": "alert_rule__name",
    "payer": "drift_event__payer",
    "drift_type": "drift_event__drift_type",
    "severity_min": "drift_event__severity__gte",
    "from": "triggered_at__gte",
    "until": "triggered_at__lt",
}


def filtered(rows: QuerySet[Any], filters: Filters | None, declared: Mapping[str, str]) -> QuerySet[Any]:
    """Return the rows that all `filters` select; their names are those `declared`, with the fields they ask.

    An unknown name raises ChoiceError with the declared ones, a value that the field cannot take ColumnError.
    """
    if filters is not None and not isinstance(filters, Mapping):
        raise ColumnError(f"filters must be a mapping of names to values, not {filters!r:.100}")
    asked = filters or {}
    fields = chosen("filter", asked, declared)
    for (name, value), field in zip(asked.items(), fields, strict=True):
        called = f"filter {name}={value!r:.100}"
        rows = rows.filter(condition(rows.model, field, _text(called, value), called=called, using=rows.db))
    return rows


def _text(called: str, value: Any) -> str:
    """Return a value as the text that its field reads."""
    if isinstance(value, date):
        return value.isoformat()
    if not isinstance(value, str | bool | int | float | Decimal):
        raise ColumnError(f"{called}: give a text, a number, a boolean or a date")
    return str(value)
