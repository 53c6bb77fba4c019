"""The Upstream application in Django's admin; every list can be exported."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from upstream.integrations.admin import ExportModelAdmin
from upstream.models import AlertEvent, AlertRule, Customer, DriftEvent, ReportRun
from upstream.views import DriftEventExport


@admin.register(Customer)
class CustomerAdmin(ExportModelAdmin):
    list_display = ("name",)
    search_fields = ("name",)


@admin.register(ReportRun)
class ReportRunAdmin(ExportModelAdmin):
    list_display = ("customer", "run_type", "status", "period_start", "period_end", "duration")
    list_filter = ("status", "run_type", "customer")
    list_select_related = ("customer",)
    date_hierarchy = "period_end"

    @admin.display(description="Duration")
    def duration(self, run: ReportRun) -> str:
        if run.started_at is None or run.finished_at is None:
            return ""
        return f"{(run.finished_at - run.started_at).total_seconds():.0f} s"


@admin.register(DriftEvent)
class DriftEventAdmin(ExportModelAdmin):
    list_display = (
        "id",
        "created_at",
        "customer",
        "payer",
        "cpt_group",
        "drift_type",
        "severity",
        "impact",
        "suppressed",
    )
    list_filter = ("drift_type", "trend_direction", "suppressed", "customer")
    search_fields = ("payer", "cpt_group")
    list_select_related = ("customer",)
    raw_id_fields = ("report_run",)
    ordering = ("-created_at",)
    # The list has no room for all of them.
    export_columns = DriftEventExport.columns

    @admin.display(description="Revenue impact", ordering="estimated_revenue_impact")
    def impact(self, event: DriftEvent) -> str:
        impact = event.estimated_revenue_impact
        return "" if impact is None else f"$ {impact:,}"


@admin.register(AlertRule)
class AlertRuleAdmin(ExportModelAdmin):
    list_display = ("name", "customer", "threshold_value", "drift_type_filter", "enabled")
    list_filter = ("enabled", "drift_type_filter", "customer")
    list_select_related = ("customer",)
    search_fields = ("name",)


@admin.register(AlertEvent)
class AlertEventAdmin(ExportModelAdmin):
    list_display = (
        "id",
        "triggered_at",
        "customer",
        "alert_rule",
        "drift_event",
        "status",
        "notification_sent_at",
    )
    list_filter = ("status", "customer")
    raw_id_fields = ("drift_event",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[AlertEvent]:
        return super().get_queryset(request).select_related("customer", "alert_rule", "drift_event")
