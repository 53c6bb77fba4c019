"""The downloads of the pages, and how large they will be."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.db.models import QuerySet
from django.dispatch import receiver
from django.http import HttpRequest
from django.urls import reverse

from upstream import access
from upstream.exports.services import ExportService
from upstream.integrations.formats import Format, by_name
from upstream.integrations.signals import export_finished
from upstream.integrations.views import ExportView
from upstream.models import AlertEvent, AlertRule, Customer, DriftEvent, ReportRun

# Beyond these rows a page says "more than": counting them costs a few milliseconds with any number of rows.
COUNTED_ROWS = 10_000
# What a file of the format has besides its rows.
FIXED_BYTES = {"xlsx": 4_400, "parquet": 5_000, "pdf": 9_000}

COLUMNS = [
    "id",
    "created_at",
    "customer__name",
    "report_run_id",
    "payer",
    "cpt_group",
    "drift_type",
    "baseline_value",
    "current_value",
    "delta_value",
    "severity",
    "confidence",
    "baseline_start",
    "baseline_end",
    "current_start",
    "current_end",
    "estimated_revenue_impact",
    "trend_direction",
    "consecutive_periods",
    "suppressed",
    "potential_root_causes",
]


class ScopedExport(ExportView):
    """Exports the rows of the customers that the user may export.

    People follow the links of the pages, so CSV is safe to open in spreadsheets, as workbooks are: labels for
    headers, no formulas. Programs take JSON, NDJSON, Parquet or the API. PDFs have the columns `on_paper` only.
    `bytes_per_row` was measured on 10,000 drift events of the demo data, and what belongs to them; for customers
    and rules, of which these have few, on those of 1,000,000 events.

    A finished download of one customer's rows is in the customer's export log.
    """

    profile = "excel"
    queryset: Any
    url_name: str
    bytes_per_row: Mapping[str, int]
    on_paper: tuple[str, ...] = ()

    def has_export_permission(self) -> bool:
        return access.may(self.request.user, self._model(), "export")

    def get_queryset(self) -> QuerySet[Any]:
        return access.rows(self.request.user, super().get_queryset(), "export")

    @classmethod
    def only_customer(cls, request: HttpRequest) -> Customer | None:
        """Return the customer whose rows alone a request exports, if its user or its parameters say so."""
        wanted = request.GET.getlist("customer_id")
        customers = Customer.objects.all()
        if not access.has_all(request.user, cls.queryset.model, "export"):
            customers = customers.filter(pk__in=access.own_customers(request.user))
        elif not wanted:
            return None
        found = customers.filter(pk__in=wanted)[:2] if wanted else customers[:2]
        return found[0] if len(found) == 1 else None


@receiver(export_finished)
def log_download(sender: type, request: HttpRequest, rows: int, **_: Any) -> None:
    """Log a finished download of the pages, if all its rows are of one customer."""
    if not issubclass(sender, ScopedExport) or request.method != "GET":
        return
    if customer := sender.only_customer(request):
        ExportService(customer).log_export(request.user, sender.filename, rows)


class CustomerExport(ScopedExport):
    """Customers, those whose names contain a text."""

    queryset = Customer.objects.order_by("pk")
    columns = ("id", "name")
    ordering_fields = ("id", "name")
    filter_fields = {"customer_id": "pk", "name": "name__icontains"}  # noqa: RUF012
    filename = "customers"
    url_name = "customer_export"
    bytes_per_row = {"csv": 36, "tsv": 35, "json": 50, "ndjson": 50, "xlsx": 7, "parquet": 4, "pdf": 49}  # noqa: RUF012
    on_paper = columns


class DriftEventExport(ScopedExport):
    """Drift events, those that the parameters select."""

    queryset = DriftEvent.objects.order_by("pk")
    columns = COLUMNS
    ordering_fields = ("id", "created_at", "severity")
    filter_fields = {  # noqa: RUF012 (declared as in Django's views)
        "customer": "customer__name",
        "customer_id": "customer_id",
        "report_run": "report_run_id",
        "payer": "payer",
        "drift_type": "drift_type",
        "from": "created_at__gte",
        "until": "created_at__lt",
        "week_after": "current_end__gt",
        "severe": "severity__gte",
        "impact_below": "estimated_revenue_impact__lt",
        "suppressed": "suppressed",
        "unacknowledged": "acknowledged_at__isnull",
    }
    filename = "drift_events"
    url_name = "drift_events"
    bytes_per_row = {"csv": 515, "tsv": 514, "json": 850, "ndjson": 850, "xlsx": 94, "parquet": 48, "pdf": 200}  # noqa: RUF012
    on_paper = (
        *("customer__name", "payer", "cpt_group", "drift_type", "baseline_value", "current_value", "severity"),
        *("estimated_revenue_impact", "current_end"),
    )


class AlertEventExport(ScopedExport):
    """Alerts with the rule and the drift that triggered them."""

    queryset = AlertEvent.objects.order_by("pk")
    columns = (
        *("id", "triggered_at", "customer__name", "alert_rule__name", "status", "notification_sent_at"),
        *("drift_event_id", "drift_event__payer", "drift_event__cpt_group", "drift_event__drift_type"),
        *("drift_event__severity", "drift_event__estimated_revenue_impact", "error_message"),
    )
    ordering_fields = ("id", "triggered_at")
    filter_fields = {"customer_id": "customer_id", "status": "status__in"}  # noqa: RUF012
    filename = "alerts"
    url_name = "alert_export"
    bytes_per_row = {"csv": 198, "tsv": 197, "json": 496, "ndjson": 496, "xlsx": 60, "parquet": 32, "pdf": 184}  # noqa: RUF012
    on_paper = (
        *("triggered_at", "customer__name", "alert_rule__name", "status", "drift_event__payer"),
        *("drift_event__cpt_group", "drift_event__severity", "drift_event__estimated_revenue_impact"),
    )


class AlertRuleExport(ScopedExport):
    """Alert rules."""

    queryset = AlertRule.objects.order_by("pk")
    columns = (
        *("id", "customer__name", "name", "enabled", "threshold_value", "drift_type_filter"),
        *("email_recipients", "webhook_url"),
    )
    filter_fields = {"customer_id": "customer_id"}  # noqa: RUF012
    filename = "alert_rules"
    url_name = "rule_export"
    bytes_per_row = {"csv": 74, "tsv": 72, "json": 193, "ndjson": 193, "xlsx": 12, "parquet": 5, "pdf": 57}  # noqa: RUF012
    on_paper = columns[1:6]


class ReportRunExport(ScopedExport):
    """Report runs."""

    queryset = ReportRun.objects.order_by("pk")
    columns = (
        *("id", "customer__name", "run_type", "status", "period_start", "period_end", "started_at", "finished_at"),
        "summary_json",
    )
    ordering_fields = ("id", "period_end")
    filter_fields = {"customer_id": "customer_id", "status": "status"}  # noqa: RUF012
    filename = "report_runs"
    url_name = "report_export"
    bytes_per_row = {"csv": 133, "tsv": 133, "json": 274, "ndjson": 274, "xlsx": 30, "parquet": 14, "pdf": 86}  # noqa: RUF012
    on_paper = columns[1:8]


@dataclass(frozen=True)
class Offer:
    """The downloads of a list: its rows, counted up to COUNTED_ROWS; for each format a link and an estimate."""

    rows: int
    is_more: bool
    links: list[tuple[Format, str, int]]


def offer(
    request: HttpRequest,
    view: type[ScopedExport],
    rows: QuerySet[Any],
    parameters: Mapping[str, Any],
    count: int | None = None,
) -> Offer | None:
    """Return the downloads of `rows`, which `parameters` of the view select, if the user may export.

    Rows are counted unless `count` is known, and only those that the user may export.
    """
    user = request.user
    if not access.may(user, rows.model, "export"):
        return None
    if not access.has_all(user, rows.model, "export") and access.has_all(user, rows.model):
        rows, count = access.rows(user, rows, "export"), None
    if count is None:
        count = rows.order_by()[: COUNTED_ROWS + 1].count()
    counted = min(count, COUNTED_ROWS)
    links = []
    for name, one in by_name(view.formats).items():
        columns = {"columns": ",".join(view.on_paper)} if name == "pdf" else {}
        url = f"{reverse(view.url_name)}?{urlencode({'format': name, **columns, **parameters})}"
        links.append((one, url, FIXED_BYTES.get(name, 0) + counted * view.bytes_per_row[name]))
    return Offer(counted, count > COUNTED_ROWS, links)
