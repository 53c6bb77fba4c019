"""Payer drift: changes in how insurers decide and pay, the runs that found them, and the alerts about them.

A foreign key has ``db_index=False`` if an index or constraint of its model begins with it.
"""

from collections.abc import Iterable

from django.db import models
from django.db.models import CheckConstraint, F, Index, Q, UniqueConstraint
from django.utils import timezone


def _one_of(field: str, values: Iterable[str], *, name: str) -> CheckConstraint:
    return CheckConstraint(condition=Q((f"{field}__in", list(values))), name=name)


def _fraction(field: str, *, name: str) -> CheckConstraint:
    return CheckConstraint(condition=Q((f"{field}__gte", 0), (f"{field}__lte", 1)), name=name)


def _in_order(first: str, last: str, *, name: str) -> CheckConstraint:
    return CheckConstraint(condition=Q((f"{last}__gte", F(first))), name=name)


class DriftType(models.TextChoices):
    DENIAL_RATE = "DENIAL_RATE", "Denial rate"
    DECISION_TIME = "DECISION_TIME", "Decision time"
    PAYMENT_AMOUNT = "PAYMENT_AMOUNT", "Payment amount"
    APPROVAL_RATE = "APPROVAL_RATE", "Approval rate"
    PROCESSING_DELAY = "PROCESSING_DELAY", "Processing delay"
    AUTH_FAILURE_RATE = "AUTH_FAILURE_RATE", "Authorization failure rate"


class RunType(models.TextChoices):
    WEEKLY = "weekly", "Weekly"
    MONTHLY = "monthly", "Monthly"
    CUSTOM = "custom", "Custom"


class RunStatus(models.TextChoices):
    PENDING = "pending", "Pending"
    RUNNING = "running", "Running"
    SUCCESS = "success", "Success"
    FAILED = "failed", "Failed"


class Trend(models.TextChoices):
    IMPROVING = "improving", "Improving"
    STABLE = "stable", "Stable"
    WORSENING = "worsening", "Worsening"


class AlertStatus(models.TextChoices):
    PENDING = "pending", "Pending"
    SENT = "sent", "Sent"
    ACKNOWLEDGED = "acknowledged", "Acknowledged"
    RESOLVED = "resolved", "Resolved"
    FAILED = "failed", "Failed"


class Customer(models.Model):
    name = models.CharField(max_length=255)

    class Meta:
        constraints = (UniqueConstraint(fields=["name"], name="customer_name_unique"),)

    def __str__(self) -> str:
        return self.name


class ReportRun(models.Model):
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="report_runs", db_index=False)
    run_type = models.CharField(max_length=16, choices=RunType)
    status = models.CharField(max_length=16, choices=RunStatus, default=RunStatus.PENDING)
    period_start = models.DateField()
    period_end = models.DateField()
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    summary_json = models.JSONField(default=dict, blank=True)

    class Meta:
        constraints = (
            _one_of("run_type", RunType.values, name="reportrun_type_valid"),
            _one_of("status", RunStatus.values, name="reportrun_status_valid"),
            _in_order("period_start", "period_end", name="reportrun_period_order"),
            _in_order("started_at", "finished_at", name="reportrun_finish_order"),
        )
        indexes = (Index(fields=["customer", "period_end"], name="reportrun_customer_period"),)

    def __str__(self) -> str:
        return f"{self.get_run_type_display()} report {self.period_start} to {self.period_end}"


class DriftEvent(models.Model):
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="drift_events", db_index=False)
    report_run = models.ForeignKey(ReportRun, on_delete=models.CASCADE, related_name="drift_events")
    payer = models.CharField(max_length=255)
    cpt_group = models.CharField("CPT group", max_length=64)
    drift_type = models.CharField(max_length=32, choices=DriftType)
    baseline_value = models.FloatField()
    current_value = models.FloatField()
    delta_value = models.FloatField()
    severity = models.FloatField(help_text="0 to 1")
    confidence = models.FloatField(help_text="0 to 1")
    baseline_start = models.DateField()
    baseline_end = models.DateField()
    current_start = models.DateField()
    current_end = models.DateField()
    estimated_revenue_impact = models.DecimalField(max_digits=12, decimal_places=2, null=True, blank=True)
    trend_direction = models.CharField(max_length=16, choices=Trend, default=Trend.STABLE)
    consecutive_periods = models.PositiveIntegerField(default=1)
    suppressed = models.BooleanField(default=False)
    potential_root_causes = models.JSONField(default=list, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        get_latest_by = "created_at"
        constraints = (
            _one_of("drift_type", DriftType.values, name="driftevent_type_valid"),
            _one_of("trend_direction", Trend.values, name="driftevent_trend_valid"),
            _fraction("severity", name="driftevent_severity_range"),
            _fraction("confidence", name="driftevent_confidence_range"),
            _in_order("baseline_start", "baseline_end", name="driftevent_baseline_order"),
            _in_order("current_start", "current_end", name="driftevent_current_order"),
        )
        indexes = (
            Index(fields=["created_at"], name="driftevent_created"),
            Index(fields=["customer", "created_at"], name="driftevent_customer_created"),
            Index(fields=["drift_type", "created_at"], name="driftevent_type_created"),
        )

    def __str__(self) -> str:
        return f"{self.get_drift_type_display()} at {self.payer} ({self.cpt_group})"


class AlertRule(models.Model):
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="alert_rules", db_index=False)
    name = models.CharField(max_length=255)
    enabled = models.BooleanField(default=True)
    threshold_value = models.FloatField(help_text="The lowest severity that alerts, 0 to 1")
    drift_type_filter = models.CharField(
        max_length=32, choices=DriftType, blank=True, default="", help_text="Empty: every drift type"
    )

    class Meta:
        constraints = (
            UniqueConstraint(fields=["customer", "name"], name="alertrule_customer_name"),
            _fraction("threshold_value", name="alertrule_threshold_range"),
            _one_of("drift_type_filter", ["", *DriftType.values], name="alertrule_filter_valid"),
        )

    def __str__(self) -> str:
        return self.name


class AlertEvent(models.Model):
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="alert_events", db_index=False)
    # A rule with history is disabled, not deleted.
    alert_rule = models.ForeignKey(
        AlertRule, on_delete=models.RESTRICT, related_name="alert_events", db_index=False
    )
    drift_event = models.ForeignKey(DriftEvent, on_delete=models.CASCADE, related_name="alert_events")
    status = models.CharField(max_length=16, choices=AlertStatus, default=AlertStatus.PENDING)
    triggered_at = models.DateTimeField(default=timezone.now)
    notification_sent_at = models.DateTimeField(null=True, blank=True)
    payload = models.JSONField(default=dict, blank=True)
    error_message = models.TextField(blank=True, default="")

    class Meta:
        constraints = (
            UniqueConstraint(fields=["alert_rule", "drift_event"], name="alertevent_rule_event"),
            _one_of("status", AlertStatus.values, name="alertevent_status_valid"),
            _in_order("triggered_at", "notification_sent_at", name="alertevent_sent_order"),
        )
        indexes = (
            Index(fields=["customer", "triggered_at"], name="alertevent_customer_triggered"),
            Index(fields=["status", "triggered_at"], name="alertevent_status_triggered"),
        )

    def __str__(self) -> str:
        return f"{self.get_status_display()} alert of {self.triggered_at:%Y-%m-%d}"
