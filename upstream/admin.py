"""The Upstream application in Django's admin; every list can be exported, and what was found cannot be changed."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet, URLField
from django.http import HttpRequest

from upstream.forms import CheckedAlertRule
from upstream.integrations.admin import ExportModelAdmin
from upstream.models import (
    AlertEvent,
    AlertRule,
    ClaimRecord,
    ClaimUpload,
    Customer,
    DriftEvent,
    ExportLog,
    ReportArtifact,
    ReportRun,
    ReportSchedule,
)
from upstream.reporting.wording import dollars
from upstream.templatetags.wording import day, file_size
from upstream.views.exports import AlertEventExport, DriftEventExport

admin.site.site_header = admin.site.site_title = "Upstream"
admin.site.index_title = "Payer drift"


class Facts(ExportModelAdmin):
    """What was found, sent or made: it can be looked at, exported and deleted, but not changed.

    Who deletes a customer deletes these too, and so needs the permission for each of them.
    """

    show_full_result_count = False

    def has_add_permission(self, _request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, _request: HttpRequest, _obj: Any = None) -> bool:
        return False


@admin.register(Customer)
class CustomerAdmin(ExportModelAdmin):
    list_display = ("name",)
    search_fields = ("name",)
    ordering = ("name",)
    filter_horizontal = ("users",)


@admin.register(ClaimUpload)
class ClaimUploadAdmin(Facts):
    list_display = ("filename", "customer", "status", "uploaded_at", "accepted_rows", "rejected_rows")
    list_filter = ("status",)
    search_fields = ("filename", "customer__name")
    list_select_related = ("customer",)
    ordering = ("-uploaded_at",)


@admin.register(ClaimRecord)
class ClaimRecordAdmin(Facts):
    list_display = ("id", "customer", "payer", "cpt", "submitted_date", "outcome", "paid")
    list_filter = ("outcome",)
    search_fields = ("payer", "cpt")
    list_select_related = ("customer",)
    ordering = ("-pk",)

    @admin.display(description="Paid", ordering="paid_amount")
    def paid(self, claim: ClaimRecord) -> str:
        return dollars(claim.paid_amount)


@admin.register(ReportRun)
class ReportRunAdmin(Facts):
    list_display = ("customer", "run_type", "status", "period_start", "period_end", "duration")
    list_filter = ("status", "run_type")
    search_fields = ("customer__name",)
    list_select_related = ("customer",)
    ordering = ("-period_end", "customer__name")

    @admin.display(description="Duration")
    def duration(self, run: ReportRun) -> str:
        if run.started_at is None or run.finished_at is None:
            return ""
        return f"{(run.finished_at - run.started_at).total_seconds():.0f} s"


@admin.register(ReportSchedule)
class ReportScheduleAdmin(ExportModelAdmin):
    list_display = ("customer", "enabled")
    list_filter = ("enabled",)
    search_fields = ("customer__name",)
    list_select_related = ("customer",)
    ordering = ("customer__name",)


@admin.register(ReportArtifact)
class ReportArtifactAdmin(Facts):
    list_display = ("kind", "report_run", "rows", "size", "created_at")
    list_filter = ("kind",)
    list_select_related = ("report_run",)
    ordering = ("-created_at",)

    @admin.display(description="Size", ordering="bytes")
    def size(self, artifact: ReportArtifact) -> str:
        return file_size(artifact.bytes)


@admin.register(DriftEvent)
class DriftEventAdmin(Facts):
    list_display = ("found", "customer", "payer", "drift_type", "rounded_severity", "impact")
    list_filter = ("drift_type", "trend_direction", "suppressed")
    search_fields = ("payer", "cpt_group", "customer__name")
    list_select_related = ("customer",)
    ordering = ("-created_at",)
    # The list has no room for all of them.
    export_columns = DriftEventExport.columns

    @admin.display(description="Found", ordering="created_at")
    def found(self, event: DriftEvent) -> str:
        return day(event.created_at)

    @admin.display(description="Severity", ordering="severity")
    def rounded_severity(self, event: DriftEvent) -> str:
        return f"{event.severity:.2f}"

    @admin.display(description="Revenue impact", ordering="estimated_revenue_impact")
    def impact(self, event: DriftEvent) -> str:
        return dollars(event.estimated_revenue_impact)


@admin.register(AlertRule)
class AlertRuleAdmin(ExportModelAdmin):
    form = CheckedAlertRule
    list_display = ("name", "customer", "threshold_value", "drift_type_filter", "enabled")
    list_filter = ("enabled", "drift_type_filter")
    list_select_related = ("customer",)
    search_fields = ("name", "customer__name")
    ordering = ("customer__name", "name")
    formfield_overrides = {URLField: {"assume_scheme": "https"}}  # noqa: RUF012


@admin.register(AlertEvent)
class AlertEventAdmin(Facts):
    list_display = ("triggered", "customer", "alert_rule", "payer", "status")
    list_filter = ("status",)
    search_fields = ("customer__name",)
    ordering = ("-triggered_at",)
    export_columns = AlertEventExport.columns

    @admin.display(description="Triggered", ordering="triggered_at")
    def triggered(self, alert: AlertEvent) -> str:
        return day(alert.triggered_at)

    @admin.display(description="Payer")
    def payer(self, alert: AlertEvent) -> str:
        return alert.drift_event.payer

    def get_queryset(self, request: HttpRequest) -> QuerySet[AlertEvent]:
        return super().get_queryset(request).select_related("customer", "alert_rule", "drift_event")


@admin.register(ExportLog)
class ExportLogAdmin(Facts):
    list_display = ("created_at", "customer", "user", "export_type", "record_count")
    search_fields = ("customer__name", "export_type")
    list_select_related = ("customer", "user")
    ordering = ("-created_at",)
