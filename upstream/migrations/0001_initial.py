import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Customer",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("name", models.CharField(max_length=255)),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("name",), name="customer_name_unique")],
            },
        ),
        migrations.CreateModel(
            name="ReportRun",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                (
                    "customer",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="report_runs",
                        to="upstream.customer",
                    ),
                ),
                (
                    "run_type",
                    models.CharField(
                        choices=[("weekly", "Weekly"), ("monthly", "Monthly"), ("custom", "Custom")],
                        max_length=16,
                    ),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("pending", "Pending"),
                            ("running", "Running"),
                            ("success", "Success"),
                            ("failed", "Failed"),
                        ],
                        default="pending",
                        max_length=16,
                    ),
                ),
                ("period_start", models.DateField()),
                ("period_end", models.DateField()),
                ("started_at", models.DateTimeField(blank=True, null=True)),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
                ("summary_json", models.JSONField(blank=True, default=dict)),
            ],
            options={
                "indexes": [models.Index(fields=["customer", "period_end"], name="reportrun_customer_period")],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("run_type__in", ["weekly", "monthly", "custom"])),
                        name="reportrun_type_valid",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("status__in", ["pending", "running", "success", "failed"])),
                        name="reportrun_status_valid",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("period_end__gte", models.F("period_start"))),
                        name="reportrun_period_order",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("finished_at__gte", models.F("started_at"))),
                        name="reportrun_finish_order",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="DriftEvent",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                (
                    "customer",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="drift_events",
                        to="upstream.customer",
                    ),
                ),
                (
                    "report_run",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="drift_events",
                        to="upstream.reportrun",
                    ),
                ),
                ("payer", models.CharField(max_length=255)),
                ("cpt_group", models.CharField(max_length=64, verbose_name="CPT group")),
                (
                    "drift_type",
                    models.CharField(
                        choices=[
                            ("DENIAL_RATE", "Denial rate"),
                            ("DECISION_TIME", "Decision time"),
                            ("PAYMENT_AMOUNT", "Payment amount"),
                            ("APPROVAL_RATE", "Approval rate"),
                            ("PROCESSING_DELAY", "Processing delay"),
                            ("AUTH_FAILURE_RATE", "Authorization failure rate"),
                        ],
                        max_length=32,
                    ),
                ),
                ("baseline_value", models.FloatField()),
                ("current_value", models.FloatField()),
                ("delta_value", models.FloatField()),
                ("severity", models.FloatField(help_text="0 to 1")),
                ("confidence", models.FloatField(help_text="0 to 1")),
                ("baseline_start", models.DateField()),
                ("baseline_end", models.DateField()),
                ("current_start", models.DateField()),
                ("current_end", models.DateField()),
                (
                    "estimated_revenue_impact",
                    models.DecimalField(blank=True, decimal_places=2, max_digits=12, null=True),
                ),
                (
                    "trend_direction",
                    models.CharField(
                        choices=[
                            ("improving", "Improving"),
                            ("stable", "Stable"),
                            ("worsening", "Worsening"),
                        ],
                        default="stable",
                        max_length=16,
                    ),
                ),
                ("consecutive_periods", models.PositiveIntegerField(default=1)),
                ("suppressed", models.BooleanField(default=False)),
                ("potential_root_causes", models.JSONField(blank=True, default=list)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
            ],
            options={
                "get_latest_by": "created_at",
                "indexes": [
                    models.Index(fields=["created_at"], name="driftevent_created"),
                    models.Index(fields=["customer", "created_at"], name="driftevent_customer_created"),
                    models.Index(fields=["drift_type", "created_at"], name="driftevent_type_created"),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "drift_type__in",
                                [
                                    "DENIAL_RATE",
                                    "DECISION_TIME",
                                    "PAYMENT_AMOUNT",
                                    "APPROVAL_RATE",
                                    "PROCESSING_DELAY",
                                    "AUTH_FAILURE_RATE",
                                ],
                            )
                        ),
                        name="driftevent_type_valid",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("trend_direction__in", ["improving", "stable", "worsening"])),
                        name="driftevent_trend_valid",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("severity__gte", 0), ("severity__lte", 1)),
                        name="driftevent_severity_range",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("confidence__gte", 0), ("confidence__lte", 1)),
                        name="driftevent_confidence_range",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("baseline_end__gte", models.F("baseline_start"))),
                        name="driftevent_baseline_order",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("current_end__gte", models.F("current_start"))),
                        name="driftevent_current_order",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="AlertRule",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                (
                    "customer",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="alert_rules",
                        to="upstream.customer",
                    ),
                ),
                ("name", models.CharField(max_length=255)),
                ("enabled", models.BooleanField(default=True)),
                ("threshold_value", models.FloatField(help_text="The lowest severity that alerts, 0 to 1")),
                (
                    "drift_type_filter",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("DENIAL_RATE", "Denial rate"),
                            ("DECISION_TIME", "Decision time"),
                            ("PAYMENT_AMOUNT", "Payment amount"),
                            ("APPROVAL_RATE", "Approval rate"),
                            ("PROCESSING_DELAY", "Processing delay"),
                            ("AUTH_FAILURE_RATE", "Authorization failure rate"),
                        ],
                        default="",
                        help_text="Empty: every drift type",
                        max_length=32,
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("customer", "name"), name="alertrule_customer_name"),
                    models.CheckConstraint(
                        condition=models.Q(("threshold_value__gte", 0), ("threshold_value__lte", 1)),
                        name="alertrule_threshold_range",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "drift_type_filter__in",
                                [
                                    "",
                                    "DENIAL_RATE",
                                    "DECISION_TIME",
                                    "PAYMENT_AMOUNT",
                                    "APPROVAL_RATE",
                                    "PROCESSING_DELAY",
                                    "AUTH_FAILURE_RATE",
                                ],
                            )
                        ),
                        name="alertrule_filter_valid",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="AlertEvent",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                (
                    "customer",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="alert_events",
                        to="upstream.customer",
                    ),
                ),
                (
                    "alert_rule",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.RESTRICT,
                        related_name="alert_events",
                        to="upstream.alertrule",
                    ),
                ),
                (
                    "drift_event",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="alert_events",
                        to="upstream.driftevent",
                    ),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("pending", "Pending"),
                            ("sent", "Sent"),
                            ("acknowledged", "Acknowledged"),
                            ("resolved", "Resolved"),
                            ("failed", "Failed"),
                        ],
                        default="pending",
                        max_length=16,
                    ),
                ),
                ("triggered_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("notification_sent_at", models.DateTimeField(blank=True, null=True)),
                ("payload", models.JSONField(blank=True, default=dict)),
                ("error_message", models.TextField(blank=True, default="")),
            ],
            options={
                "indexes": [
                    models.Index(fields=["customer", "triggered_at"], name="alertevent_customer_triggered"),
                    models.Index(fields=["status", "triggered_at"], name="alertevent_status_triggered"),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("alert_rule", "drift_event"), name="alertevent_rule_event"),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("status__in", ["pending", "sent", "acknowledged", "resolved", "failed"])
                        ),
                        name="alertevent_status_valid",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("notification_sent_at__gte", models.F("triggered_at"))),
                        name="alertevent_sent_order",
                    ),
                ],
            },
        ),
    ]
