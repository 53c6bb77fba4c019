"""A customer's week on every database: claims come in, drift is found, alerts are sent, the report is mailed."""

import random
from datetime import timedelta

import openpyxl
from django.core import mail
from django.core.files.storage import default_storage

from tests.drift import END, START
from tests.receiving import webhook
from upstream.models import Customer
from upstream.services import AlertProcessingService, DataQualityService, ReportSchedulerService
from upstream.services.claim_import import import_claims
from upstream.services.report_mail import mail_report
from upstream.streaming import stream, to_file


def claims():
    """Yield claims of thirteen weeks; in the last one, Medicare denies more of them."""
    rng = random.Random(0)
    for number in range(1_300):
        decided = END - timedelta(days=number % 91)
        is_denied = rng.random() < (0.6 if decided >= START else 0.1)
        yield {
            "payer": "Medicare",
            "cpt": "70551",
            "cpt_group": "MRI of the brain, “plain”",
            "submitted_date": decided - timedelta(days=20) if number % 100 else "soon",
            "decided_date": decided,
            "outcome": "DENIED" if is_denied else "PAID",
            "billed_amount": 900,
            "paid_amount": None if is_denied else 650,
        }


def test_a_week_goes_from_claims_to_a_mailed_report(transactional_database, tmp_path, settings):
    settings.MEDIA_ROOT = tmp_path
    customer = Customer.objects.using(transactional_database).create(name="Lakeside")
    upload = import_claims(customer, to_file(stream(claims()), tmp_path / "claims.csv"))
    assert (upload.accepted_rows, upload.rejected_rows) == (1_287, 13)
    assert DataQualityService.flag_suspicious_patterns(customer.claims.all()) == []

    run = ReportSchedulerService.schedule_weekly_report(customer, START, END)
    ReportSchedulerService.compute_report_drift(run)
    event = run.drift_events.get(drift_type="DENIAL_RATE")
    assert (event.payer, event.cpt_group) == ("Medicare", "MRI of the brain, “plain”")
    assert event.current_value > 0.4 > event.baseline_value

    with webhook() as (url, requests):
        customer.alert_rules.create(
            name="Denials", threshold_value=0.5, drift_type_filter="DENIAL_RATE", webhook_url=url
        )
        assert AlertProcessingService.create_alert_events(run) == 1
        sent = AlertProcessingService.deliver_alert_events(customer.alert_events.all())
    assert sent == {"sent": 1, "failed": 0}
    [(_, _, told)] = requests
    assert (told["customer"], told["cpt_group"]) == ("Lakeside", event.cpt_group)

    made = {kind: ReportSchedulerService.generate_report_artifact(run, kind) for kind in ("pdf", "xlsx", "csv")}
    assert {artifact.rows for artifact in made.values()} == {run.drift_events.count()}
    with default_storage.open(made["xlsx"].path) as file:
        assert openpyxl.load_workbook(file).sheetnames[0] == "Summary"
    assert mail_report(run, ["ann@example.com"])
    assert "Medicare" in mail.outbox[0].body
