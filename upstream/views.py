from typing import Any

from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from upstream.integrations.formats import by_name
from upstream.integrations.views import ExportView
from upstream.models import AlertEvent, AlertRule, Customer, DriftEvent, DriftType, ReportRun

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


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    events = DriftEvent.objects.select_related("customer")
    context = {
        "counts": _counts(),
        "drift_types": _drift_types(),
        "newest": events.order_by("-created_at", "-pk").first(),
        "formats": by_name(DriftEventExport.formats),
    }
    return render(request, "upstream/index.html", context)


class DriftEventExport(ExportView):
    """All drift events, or those that the parameters select; open to everyone."""

    queryset = DriftEvent.objects.order_by("pk")
    columns = COLUMNS
    ordering_fields = ("id", "created_at", "severity")
    filter_fields = {  # noqa: RUF012 (declared as in Django's views)
        "customer": "customer__name",
        "payer": "payer",
        "drift_type": "drift_type",
        "from": "created_at__gte",
        "until": "created_at__lt",
        "severe": "severity__gte",
    }
    filename = "drift_events"
    permission = None


def _counts() -> dict[str, int]:
    return {
        "Customers": Customer.objects.count(),
        "Report runs": ReportRun.objects.count(),
        "Drift events": DriftEvent.objects.count(),
        "Alert rules": AlertRule.objects.count(),
        "Alert events": AlertEvent.objects.count(),
    }


def _drift_types() -> list[dict[str, Any]]:
    """Return each type's label, count and percentage of the largest count, the most frequent first."""
    groups = DriftEvent.objects.values_list("drift_type").annotate(count=Count("*")).order_by("-count")
    counts = {DriftType(drift_type).label: count for drift_type, count in groups}
    largest = max(counts.values(), default=0)
    return [{"label": label, "count": count, "percent": 100 * count / largest} for label, count in counts.items()]
