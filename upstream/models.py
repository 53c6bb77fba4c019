"""Payer drift: claims, changes in how insurers decide and pay them, the runs that found these, alerts and reports.

A foreign key has ``db_index=False`` if an index or constraint of its model begins with it.
"""

from collections.abc import Iterable

from django.conf import settings
from django.db import models
from django.db.models import CheckConstraint, F, Index, Q, UniqueConstraint
from django.utils import timezone


def _one_of(field: str, values: Iterable[str], *, name: str) -> CheckConstraint:
    return CheckConstraint(condition=Q((f"{field}__in", list(values))), name=name)


def _fraction(field: str, *, name: str) -> CheckConstraint:
    return CheckConstraint(condition=Q((f"{field}__gte", 0), (f"{field}__lte", 1)), name=name)


def _in_order(first: str, last: str, *, name: str) -> CheckConstraint:
    return CheckConstraint(condition=Q((f"{last}__gte", F(first))), name=name)


def _newest_of_all_and_of_customers(state: str, condition: Q) -> tuple[Index, Index]:
    return (
        Index(fields=["created_at"], condition=condition, name=f"driftevent_{state}"),
        Index(fields=["customer", "created_at"], condition=condition, name=f"driftevent_cust_{state}"),
    )


class Outcome(models.TextChoices):
    PAID = "PAID", "Paid"
    DENIED = "DENIED", "Denied"
    OTHER = "OTHER", "Other"


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


class ArtifactKind(models.TextChoices):
    WEEKLY_DRIFT_PDF = "weekly_drift_pdf", "Weekly drift report (PDF)"
    WEEKLY_SUMMARY_XLSX = "weekly_summary_xlsx", "Weekly summary (Excel)"
    DRIFT_EVENTS_CSV = "drift_events_csv", "Drift events (CSV)"
    DRIFT_EVENTS_XLSX = "drift_events_xlsx", "Drift events (Excel)"


class AlertStatus(models.TextChoices):
    PENDING = "pending", "Pending"
    SENT = "sent", "Sent"
    ACKNOWLEDGED = "acknowledged", "Acknowledged"
    RESOLVED = "resolved", "Resolved"
    FAILED = "failed", "Failed"


class Customer(models.Model):
    name = models.CharField(max_length=255)
    users = models.ManyToManyField(
        settings.AUTH_USER_MODEL,
        related_name="customers",
        blank=True,
        help_text="They see the rows of this customer.",
    )

    class Meta:
        constraints = (UniqueConstraint(fields=["name"], name="customer_name_unique"),)

    def __str__(self) -> str:
        return self.name


class ClaimUpload(models.Model):
    """A file of claims that was imported; the same file is imported once."""

    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="claim_uploads", db_index=False)
    filename = models.CharField(max_length=255)
    sha256 = models.CharField("SHA-256", max_length=64)
    status = models.CharField(max_length=16, choices=RunStatus, default=RunStatus.PENDING)
    uploaded_at = models.DateTimeField(default=timezone.now, editable=False)
    accepted_rows = models.PositiveIntegerField(default=0)
    rejected_rows = models.PositiveIntegerField(default=0)
    warning_rows = models.PositiveIntegerField(default=0, help_text="Accepted rows with something to look at")
    error_message = models.TextField(blank=True, default="")

    class Meta:
        constraints = (
            UniqueConstraint(fields=["customer", "sha256"], name="claimupload_customer_sha256"),
            _one_of("status", RunStatus.values, name="claimupload_status_valid"),
        )
        indexes = (Index(fields=["customer", "uploaded_at"], name="claimupload_customer_uploaded"),)

    def __str__(self) -> str:
        return self.filename


class ClaimRecord(models.Model):
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="claims", db_index=False)
    upload = models.ForeignKey(ClaimUpload, on_delete=models.CASCADE, related_name="claims", null=True, blank=True)
    payer = models.CharField(max_length=255)
    cpt = models.CharField("CPT code", max_length=16)
    cpt_group = models.CharField("CPT group", max_length=64)
    submitted_date = models.DateField()
    decided_date = models.DateField(null=True, blank=True)
    outcome = models.CharField(max_length=8, choices=Outcome)
    billed_amount = models.DecimalField(max_digits=12, decimal_places=2, null=True, blank=True)
    allowed_amount = models.DecimalField(max_digits=12, decimal_places=2, null=True, blank=True)
    paid_amount = models.DecimalField(max_digits=12, decimal_places=2, null=True, blank=True)

    class Meta:
        constraints = (
            _one_of("outcome", Outcome.values, name="claimrecord_outcome_valid"),
            _in_order("submitted_date", "decided_date", name="claimrecord_date_order"),
        )
        indexes = (Index(fields=["customer", "decided_date"], name="claimrecord_customer_decided"),)

    def __str__(self) -> str:
        return f"{self.get_outcome_display()} claim of {self.submitted_date} at {self.payer} ({self.cpt})"


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
        indexes = (
            Index(fields=["customer", "period_end"], name="reportrun_customer_period"),
            Index(fields=["period_end"], name="reportrun_period"),
        )

    def __str__(self) -> str:
        return f"{self.get_run_type_display()} report {self.period_start} to {self.period_end}"


class ReportSchedule(models.Model):
    """Who gets a report for each week; a customer without one gets none."""

    customer = models.OneToOneField(Customer, on_delete=models.CASCADE, related_name="report_schedule")
    enabled = models.BooleanField(default=True)
    recipients = models.TextField(
        blank=True, default="", help_text="E-mail addresses that get the report, one on each line"
    )

    def __str__(self) -> str:
        return f"Weekly reports of {self.customer}"


class ReportArtifact(models.Model):
    """A file that was made of a report run; making one of that kind again replaces it."""

    report_run = models.ForeignKey(ReportRun, on_delete=models.CASCADE, related_name="artifacts", db_index=False)
    kind = models.CharField(max_length=32, choices=ArtifactKind)
    path = models.CharField(max_length=512, help_text="Its name in the default storage")
    sha256 = models.CharField("SHA-256", max_length=64)
    rows = models.PositiveIntegerField()
    bytes = models.PositiveBigIntegerField()
    params = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = (
            UniqueConstraint(fields=["report_run", "kind"], name="reportartifact_run_kind"),
            _one_of("kind", ArtifactKind.values, name="reportartifact_kind_valid"),
        )

    def __str__(self) -> str:
        return self.get_kind_display()


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
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, related_name="+", null=True, blank=True
    )
    baseline_claims = models.PositiveIntegerField(null=True, blank=True, help_text="Size of the baseline's sample")
    current_claims = models.PositiveIntegerField(null=True, blank=True, help_text="Size of the current sample")
    p_value = models.FloatField("p-value", null=True, blank=True, help_text="0 to 1")

    class Meta:
        get_latest_by = "created_at"
        constraints = (
            _one_of("drift_type", DriftType.values, name="driftevent_type_valid"),
            _one_of("trend_direction", Trend.values, name="driftevent_trend_valid"),
            _fraction("severity", name="driftevent_severity_range"),
            _fraction("confidence", name="driftevent_confidence_range"),
            _fraction("p_value", name="driftevent_p_value_range"),
            _in_order("baseline_start", "baseline_end", name="driftevent_baseline_order"),
            _in_order("current_start", "current_end", name="driftevent_current_order"),
        )
        indexes = (
            Index(fields=["created_at"], name="driftevent_created"),
            Index(fields=["customer", "created_at"], name="driftevent_customer_created"),
            Index(fields=["drift_type", "created_at"], name="driftevent_type_created"),
            Index(fields=["payer", "created_at"], name="driftevent_payer_created"),
            Index(fields=["customer", "payer", "created_at"], name="driftevent_customer_payer"),
            Index(fields=["customer", "drift_type", "created_at"], name="driftevent_customer_type"),
            # All that the reports of a customer's payers need: they read no row of the table.
            Index(
                fields=[
                    *("customer", "current_end", "payer", "suppressed", "estimated_revenue_impact"),
                    *("trend_direction", "severity", "acknowledged_at", "created_at"),
                ],
                name="driftevent_customer_facts",
            ),
            # Where the database has partial indexes, the dashboard reads these alone: all it needs is in them.
            Index(
                fields=["current_end", "payer", "customer", "estimated_revenue_impact", "suppressed"],
                condition=Q(suppressed=False, estimated_revenue_impact__lt=0),
                name="driftevent_at_risk",
            ),
            Index(
                fields=["customer", "current_end", "payer", "estimated_revenue_impact", "suppressed"],
                condition=Q(suppressed=False, estimated_revenue_impact__lt=0),
                name="driftevent_customer_at_risk",
            ),
            # Few rows have these states, so that a page of them is not found by looking at the others.
            *_newest_of_all_and_of_customers("suppressed", Q(suppressed=True)),
            *_newest_of_all_and_of_customers("acknowledged", Q(acknowledged_at__isnull=False)),
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
    email_recipients = models.TextField(
        blank=True, default="", help_text="E-mail addresses that get the alerts, one on each line"
    )
    webhook_url = models.URLField("webhook URL", blank=True, default="", help_text="Gets each alert as JSON")

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
    sending_since = models.DateTimeField(
        null=True, blank=True, help_text="When a process began to send it; empty when that is done"
    )
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
            Index(fields=["triggered_at"], name="alertevent_triggered"),
            Index(
                fields=["triggered_at", "status"],
                condition=~Q(status=AlertStatus.ACKNOWLEDGED) & ~Q(status=AlertStatus.RESOLVED),
                name="alertevent_open",
            ),
        )

    def __str__(self) -> str:
        return f"{self.get_status_display()} alert of {self.triggered_at:%Y-%m-%d}"


class ExportLog(models.Model):
    """Who exported what, and how many rows."""

    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="export_logs", db_index=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, related_name="+", null=True, blank=True
    )
    export_type = models.CharField(max_length=64)
    record_count = models.PositiveIntegerField()
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        indexes = (Index(fields=["customer", "created_at"], name="exportlog_customer_created"),)

    def __str__(self) -> str:
        return f"{self.export_type}, {self.record_count:,} rows"
