"""The Upstream application in Django's admin; every list can be exported."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from upstream.integrations.admin import ExportModelAdmin
from upstream.models import AlertEvent, AlertRule, Customer, DriftEvent, ReportRun
from upstream.views import DriftEventExport

admin.site.site_header = admin.site.site_title = "Upstream"


@admin.register(Customer)
class CustomerAdmin(ExportModelAdmin):
    list_display = ("name",)
    search_fields = ("name",)
    ordering = ("name",)


@admin.register(ReportRun)
class ReportRunAdmin(ExportModelAdmin):
    list_display = ("customer", "run_type", "status", "period_start", "period_end", "duration")
    list_filter = ("status", "run_type")
    search_fields = ("customer__name",)
    list_select_related = ("customer",)
    ordering = ("-period_end", "customer__name")
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
        "rounded_severity",
        "impact",
        "suppressed",
    )
    list_filter = ("drift_type", "trend_direction", "suppressed")
    search_fields = ("payer", "cpt_group", "customer__name")
    list_select_related = ("customer",)
    raw_id_fields = ("report_run",)
    ordering = ("-created_at",)
    # The list has no room for all of them.
    export_columns = DriftEventExport.columns

    @admin.display(description="Severity", ordering="severity")
    def rounded_severity(self, event: DriftEvent) -> str:
        return f"{event.severity:.2f}"

    @admin.display(description="Revenue impact", ordering="estimated_revenue_impact", empty_value="")
    def impact(self, event: DriftEvent) -> str | None:
        impact = event.estimated_revenue_impact
        return None if impact is None else f"{'-' if impact < 0 else ''}${abs(impact):,}"


@admin.register(AlertRule)
class AlertRuleAdmin(ExportModelAdmin):
    list_display = ("name", "customer", "threshold_value", "drift_type_filter", "enabled")
    list_filter = ("enabled", "drift_type_filter")
    list_select_related = ("customer",)
    search_fields = ("name", "customer__name")
    ordering = ("customer__name", "name")


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
    list_filter = ("status",)
    search_fields = ("customer__name",)
    raw_id_fields = ("drift_event",)
    ordering = ("-triggered_at",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[AlertEvent]:
        return super().get_queryset(request).select_related("customer", "alert_rule", "drift_event")
