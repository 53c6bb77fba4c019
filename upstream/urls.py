from django.apps import apps
from django.contrib import admin
from django.contrib.auth import views as auth
from django.urls import include, path

from upstream.views import alerts, dashboard, drift, exports, pages, reports, summaries

urlpatterns = [
    path("", dashboard.Dashboard.as_view(), name="dashboard"),
    path("customers/", dashboard.Customers.as_view(), name="customers"),
    path("customers/export/", exports.CustomerExport.as_view(), name="customer_export"),
    path("drift/", drift.DriftFeed.as_view(), name="drift"),
    path("drift/change/", drift.ChangeDrift.as_view(), name="change_drift"),
    path("drift/<int:pk>/", drift.DriftPage.as_view(), name="drift_event"),
    path("drift-events/", exports.DriftEventExport.as_view(), name="drift_events"),
    path("alerts/", alerts.AlertInbox.as_view(), name="alerts"),
    path("alerts/change/", alerts.ChangeAlerts.as_view(), name="change_alerts"),
    path("alerts/export/", exports.AlertEventExport.as_view(), name="alert_export"),
    path("rules/", alerts.AlertRules.as_view(), name="rules"),
    path("rules/new/", alerts.AlertRulePage.as_view(), name="new_rule"),
    path("rules/change/", alerts.ChangeRules.as_view(), name="change_rules"),
    path("rules/export/", exports.AlertRuleExport.as_view(), name="rule_export"),
    path("rules/<int:pk>/", alerts.AlertRulePage.as_view(), name="rule"),
    path("reports/", reports.ReportRuns.as_view(), name="reports"),
    path("reports/export/", exports.ReportRunExport.as_view(), name="report_export"),
    path("reports/<int:pk>/", reports.ReportRunPage.as_view(), name="report"),
    path("reports/payers/", summaries.SummaryPage.as_view(kind=summaries.PAYERS), name="payers"),
    path("reports/payers/export/", summaries.SummaryExport.as_view(kind=summaries.PAYERS), name="payers_export"),
    path("reports/recovery/", summaries.SummaryPage.as_view(kind=summaries.RECOVERY), name="recovery"),
    path(
        "reports/recovery/export/",
        summaries.SummaryExport.as_view(kind=summaries.RECOVERY),
        name="recovery_export",
    ),
    path("reports/artifacts/<int:pk>/", reports.ArtifactFile.as_view(), name="artifact"),
    path("reports/schedules/<int:pk>/", reports.SchedulePage.as_view(), name="schedule"),
    path("exports/", include("upstream.jobs.urls")),
    path("accounts/login/", pages.Login.as_view(), name="login"),
    path("accounts/logout/", auth.LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
]

if apps.is_installed("drf_spectacular"):
    urlpatterns.append(path("api/", include("upstream.api")))
