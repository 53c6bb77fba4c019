"""Cron jobs that overlap: two processes at once do each thing once, on every database."""

import datetime as dt
import json
import signal
import subprocess
import threading
import time
from contextlib import ExitStack

import pytest
from django.db import connections
from django.db.models import F
from django.utils import timezone

from tests import processes
from tests.drift import END, START, drift_event, stored
from tests.receiving import mail_server, webhook
from tests.test_report_scheduler import with_claims
from upstream.models import Customer, ReportSchedule
from upstream.services import AlertProcessingService
from upstream.services.report_scheduler import last_week
from upstream.settings import mail_settings

WEEK, MINUTE = dt.timedelta(weeks=1), dt.timedelta(minutes=1)

SETUP = """
import json, sys
import django
from django.conf import settings
from upstream import settings as own
ours = {name: value for name, value in vars(own).items() if name.isupper()}
settings.configure(**ours | json.loads(sys.argv[1]))
django.setup()
from django.core.management import call_command
from upstream.models import AlertEvent
from upstream.services import AlertProcessingService
print("ready", flush=True)
sys.stdin.readline()
"""
DELIVER = f"{SETUP}print(json.dumps(AlertProcessingService.deliver_alert_events(AlertEvent.objects.all())))"
COMMAND = f"{SETUP}call_command(*sys.argv[2:])"


def started(alias, code, *arguments, **settings):
    """Start a process that waits, before it runs the code, for a line on its standard input."""
    entry = connections[alias].settings_dict
    names = ("ENGINE", "NAME", "USER", "PASSWORD", "HOST", "PORT", "OPTIONS")
    configured = {"DATABASES": {"default": {name: entry[name] for name in names}}, **settings}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return processes.start("-c", code, json.dumps(configured, default=str), *arguments, text=True, **pipes)


def ended(process):
    """Let a process begin that was told to, and return its exit code and what it printed."""
    printed, errors = process.communicate(timeout=120)
    return process.returncode, printed, errors


def both(alias, code, *arguments, **settings):
    """Run the code in two processes at the same time; return the exit code and what was printed, of each."""
    with ExitStack() as stack:
        pair = [stack.enter_context(started(alias, code, *arguments, **settings)) for _ in range(2)]
        assert [process.stdout.readline() for process in pair] == ["ready\n"] * 2
        for process in pair:
            process.stdin.write("go\n")
            process.stdin.flush()
        return [ended(process) for process in pair]


@pytest.fixture
def customer(transactional_database):
    return Customer.objects.using(transactional_database).create(name="Lakeside")


def alerts_of(customer, url, count=30):
    """Raise so many alerts of a customer, to be sent to a URL; return them as a queryset."""
    week = {"period_start": START - 2 * WEEK, "period_end": END - 2 * WEEK}
    run = customer.report_runs.create(run_type="weekly", status="success", **week)
    stored(customer, run, [drift_event(cpt_group=f"Group {number}", severity=0.9) for number in range(count)])
    customer.alert_rules.create(name="Severe", threshold_value=0.6, webhook_url=url)
    assert AlertProcessingService.create_alert_events(run) == count
    return customer.alert_events.all()


def keys_of(requests):
    return sorted(headers["Idempotency-Key"] for _, headers, _ in requests)


class TestAlerts:
    def test_each_is_sent_once_by_two_processes(self, customer, transactional_database):
        with webhook(pause=lambda: time.sleep(0.01)) as (url, requests):
            alerts = alerts_of(customer, url)
            found = both(transactional_database, DELIVER)
        assert [code for code, *_ in found] == [0, 0], found
        assert keys_of(requests) == sorted(f"alert-{alert.pk}" for alert in alerts)
        counts = [json.loads(printed) for _, printed, _ in found]
        assert (sum(one["sent"] for one in counts), sum(one["failed"] for one in counts)) == (30, 0)
        assert set(alerts.values_list("status", flat=True)) == {"sent"}

    def test_one_whose_process_was_killed_is_sent_again_a_quarter_of_an_hour_later(
        self, customer, transactional_database
    ):
        arrived, may_answer = threading.Event(), threading.Event()

        def hang():
            arrived.set()
            may_answer.wait(20)

        with webhook(pause=hang) as (url, requests):
            alerts = alerts_of(customer, url, 3)
            with started(transactional_database, DELIVER) as process:
                process.stdin.write("go\n")
                process.stdin.flush()
                assert arrived.wait(20)
                process.send_signal(signal.SIGKILL)
            may_answer.set()
            [killed] = keys_of(requests)
            assert AlertProcessingService.deliver_alert_events(alerts) == {"sent": 2, "failed": 0}
            assert killed not in keys_of(requests[1:])
            begun = alerts.filter(status="pending", notification_sent_at=None)
            assert begun.update(sending_since=F("sending_since") - 16 * MINUTE) == 1
            assert AlertProcessingService.deliver_alert_events(alerts) == {"sent": 1, "failed": 0}
        assert keys_of(requests).count(killed) == 2
        assert len(requests) == 4


@pytest.mark.heavy  # each of them draws the whole report
def test_a_weekly_report_is_mailed_once_by_two_cron_jobs(customer, transactional_database, tmp_path):
    with_claims(customer, last_week(timezone.localdate())[1])
    with mail_server() as (address, mails), webhook() as (url, requests):
        customer.alert_rules.create(name="Any", threshold_value=0.1, webhook_url=url)
        ReportSchedule.objects.using(transactional_database).create(
            customer=customer, recipients="ann@example.com"
        )
        own = {"MEDIA_ROOT": str(tmp_path), **mail_settings(address)}
        found = both(transactional_database, COMMAND, "run_weekly_reports", **own)
    assert [recipients for recipients, _ in mails] == [["ann@example.com"]]
    assert keys_of(requests) == sorted(f"alert-{alert.pk}" for alert in customer.alert_events.all())
    assert len(requests) == 1
    # The second may find the first at work, which it says; then there is nothing for it to do.
    assert [code for code, *_ in found].count(0) >= 1
    assert all(code == 0 or "ReportRunError" in errors for code, _, errors in found)


def test_a_file_is_imported_once_by_two_processes(customer, transactional_database, tmp_path):
    path = tmp_path / "claims.csv"
    path.write_text("payer,cpt,submitted_date,outcome\n" + "Medicare,99213,2026-10-01,PAID\n" * 5_000)
    found = both(transactional_database, COMMAND, "import_claims", "Lakeside", str(path))
    assert [code for code, *_ in found] == [0, 0], found
    first, second = sorted(printed for _, printed, _ in found)
    assert first.startswith("Lakeside: imported 5,000 claims")
    assert second.startswith("Nothing to do: this file was imported")
    assert customer.claims.count() == 5_000
    assert customer.claim_uploads.get().status == "success"
