"""ReportSchedulerService and run_weekly_reports: one run a week, one worker a run, one mail a report."""

import socket
import threading
from datetime import date, datetime, timedelta
from decimal import Decimal

import django
import openpyxl
import pytest
from aiosmtpd.controller import Controller
from django.core import mail
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.db import connections
from django.utils import timezone

from upstream.models import Customer, ReportRun, ReportSchedule, RunStatus
from upstream.reporting.runs import ReportRunError
from upstream.services import ReportSchedulerService, report_mail, report_scheduler

START, END = date(2026, 5, 4), date(2026, 5, 10)
schedule = ReportSchedulerService.schedule_weekly_report
compute = ReportSchedulerService.compute_report_drift
make = ReportSchedulerService.generate_report_artifact


@pytest.fixture(autouse=True)
def media(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path
    return tmp_path


def with_claims(customer, week_end=END):
    """Give a customer claims of thirteen weeks; in the last, Medicare denies half of them instead of a tenth."""
    claims = []
    for back in range(13):
        decided = week_end - timedelta(weeks=back)
        for number in range(60):
            is_denied = number % (10 if back else 2) == 0
            claims.append(
                customer.claims.model(
                    customer=customer,
                    payer="Medicare",
                    cpt="70551",
                    cpt_group="MRI of the brain 70551-70553",
                    submitted_date=decided - timedelta(days=20),
                    decided_date=decided,
                    outcome="DENIED" if is_denied else "PAID",
                    billed_amount=Decimal(900),
                    allowed_amount=Decimal(700),
                    paid_amount=Decimal(0 if is_denied else 650),
                )
            )
    customer.claims.bulk_create(claims)
    return customer


@pytest.fixture
def customer(transactional_database):
    return with_claims(Customer.objects.using(transactional_database).create(name="Lakeside Orthopedics"))


@pytest.fixture
def run(customer):
    return schedule(customer, START, END)


def in_threads(alias, *functions):
    """Run functions at the same time, each with a connection of its own; return what each returned or raised."""
    found = []

    def call(function):
        try:
            found.append(function())
        except Exception as error:  # noqa: BLE001
            found.append(error)
        finally:
            connections[alias].close()

    threads = [threading.Thread(target=call, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


class TestSchedule:
    def test_a_week_has_one_run_however_often_it_is_asked_for(self, customer):
        first, second = (schedule(customer, START, END) for _ in range(2))
        assert first == second
        assert (first.run_type, first.status) == ("weekly", "pending")
        assert (first.period_start, first.period_end) == (START, END)

    def test_workers_that_ask_at_the_same_time_get_one_run(self, customer, transactional_database):
        found = in_threads(transactional_database, *[lambda: schedule(customer, START, END)] * 6)
        assert {run.pk for run in found} == {customer.report_runs.get().pk}

    def test_runs_of_other_types_and_weeks_are_others(self, customer):
        customer.report_runs.create(run_type="custom", period_start=START, period_end=END)
        schedule(customer, START, END)
        schedule(customer, START - timedelta(weeks=1), END - timedelta(weeks=1))
        assert customer.report_runs.count() == 3

    @pytest.mark.parametrize(
        ("start", "end", "words"),
        [
            (START, START, "seven days, but 2026-05-04 to 2026-05-04 are 1"),
            (END, START, "seven days"),
            (START, END + timedelta(days=1), "are 8"),
            (datetime(2026, 5, 4), END, "as dates"),
            ("2026-05-04", END, "as dates"),
            (date(2999, 1, 1), date(2999, 1, 7), "not over"),
        ],
    )
    def test_a_period_that_is_no_week_or_not_over_is_refused(self, start, end, words, db):
        with pytest.raises(ValueError, match=words):
            schedule(Customer.objects.create(name="a"), start, end)
        assert not ReportRun.objects.exists()

    def test_a_week_is_over_on_the_day_after_its_last(self, db):
        today = timezone.localdate()
        customer = Customer.objects.create(name="a")
        with pytest.raises(ValueError, match="not over"):
            schedule(customer, today - timedelta(days=6), today)
        assert schedule(customer, today - timedelta(days=7), today - timedelta(days=1))

    def test_a_customer_that_is_gone_is_an_error(self, db):
        customer = Customer.objects.create(name="a")
        Customer.objects.all().delete()
        customer.pk = 1
        with pytest.raises(ReportRunError, match="gone"):
            schedule(customer, START, END)


class TestCompute:
    def test_a_run_goes_to_success_with_its_drift_and_a_summary(self, run):
        assert compute(run) is run
        [event] = run.drift_events.filter(drift_type="DENIAL_RATE")
        assert (event.payer, round(event.current_value, 2)) == ("Medicare", 0.5)
        assert run.status == RunStatus.SUCCESS
        assert run.started_at <= run.finished_at
        assert run.summary_json["drift_events"] == run.drift_events.count()
        assert Decimal(run.summary_json["revenue_at_risk"]) > 0

    def test_computed_again_it_has_the_same_events_once(self, run):
        events = set(compute(run).drift_events.values_list("payer", "drift_type"))
        assert set(compute(run).drift_events.values_list("payer", "drift_type")) == events
        assert run.drift_events.count() == len(events)

    def test_a_failure_is_recorded_raised_and_leaves_the_old_events(self, run, monkeypatch):
        found = compute(run).drift_events.count()

        def fail(report_run):
            report_run.drift_events.all().delete()
            raise LookupError("no such\n claims")

        with monkeypatch.context() as patched:
            patched.setattr(report_scheduler, "save_drift", fail)
            with pytest.raises(LookupError, match="no such"):
                compute(run)
        run.refresh_from_db()
        assert run.status == RunStatus.FAILED
        assert run.finished_at
        assert run.summary_json == {"error": "LookupError: no such claims"}
        assert run.drift_events.count() == found
        assert "error" not in compute(run).summary_json

    def test_two_workers_do_not_compute_one_run_at_once(self, run, transactional_database, monkeypatch):
        began, may_end = threading.Event(), threading.Event()
        save = report_scheduler.save_drift

        def slow(report_run):
            began.set()
            assert may_end.wait(20)
            return save(report_run)

        monkeypatch.setattr(report_scheduler, "save_drift", slow)

        def second():
            assert began.wait(20)
            try:
                return compute(ReportRun.objects.using(transactional_database).get(pk=run.pk))
            finally:
                may_end.set()

        found = in_threads(transactional_database, lambda: compute(run), second)
        assert sorted(type(one).__name__ for one in found) == ["ReportRun", "ReportRunError"]
        run.refresh_from_db()
        assert run.status == RunStatus.SUCCESS

    @pytest.mark.parametrize(("age", "is_free"), [(timedelta(hours=1), False), (timedelta(hours=3), True)])
    def test_a_run_whose_worker_died_can_be_taken_over_after_two_hours(self, age, is_free, run):
        run.status, run.started_at = RunStatus.RUNNING, timezone.now() - age
        run.save()
        if is_free:
            assert compute(run).status == RunStatus.SUCCESS
        else:
            with pytest.raises(ReportRunError, match="another worker"):
                compute(run)

    @pytest.mark.parametrize("fails", [False, True])
    def test_what_a_worker_computes_after_it_was_taken_for_dead_is_dropped(self, fails, run, monkeypatch):
        later = timezone.now() + timedelta(hours=3)

        def overtaken(report_run):
            report_run.drift_events.all().delete()
            if fails:
                raise LookupError("late")
            return 0

        compute(run)
        found = run.drift_events.count()
        claimed = report_scheduler._claimed

        def taken_over(report_run):
            started_at = claimed(report_run)
            ReportRun.objects.using(run._state.db).filter(pk=run.pk).update(started_at=later)
            return started_at

        monkeypatch.setattr(report_scheduler, "_claimed", taken_over)
        monkeypatch.setattr(report_scheduler, "save_drift", overtaken)
        with pytest.raises(LookupError if fails else ReportRunError):
            compute(run)
        run.refresh_from_db()
        assert (run.status, run.started_at) == (RunStatus.RUNNING, later)
        assert run.drift_events.count() == found


class TestArtifact:
    @pytest.mark.parametrize(
        ("artifact_type", "kind", "start"),
        [
            ("pdf", "weekly_drift_pdf", b"%PDF-"),
            ("xlsx", "weekly_summary_xlsx", b"PK"),
            ("events_xlsx", "drift_events_xlsx", b"PK"),
            ("csv", "drift_events_csv", b"id,payer"),
        ],
    )
    def test_each_type_is_a_file_with_its_facts(self, artifact_type, kind, start, run):
        artifact = make(compute(run), artifact_type)
        with default_storage.open(artifact.path) as file:
            data = file.read()
        assert data.startswith(start)
        assert artifact.kind == kind
        assert (artifact.rows, artifact.bytes) == (run.drift_events.count(), len(data))
        assert make(run, artifact_type).pk == artifact.pk

    def test_the_workbook_has_the_summary_and_the_details(self, run):
        artifact = make(compute(run), "xlsx")
        with default_storage.open(artifact.path) as file:
            names = openpyxl.load_workbook(file).sheetnames
        assert (names[0], names[-1]) == ("Summary", "Details")

    @pytest.mark.parametrize(
        ("artifact_type", "params", "words"),
        [
            ("docx", None, "'docx'; choose from: pdf, xlsx, events_xlsx, csv"),
            ("pdf", {"colour": 1}, "'colour' of a pdf; it takes: paper"),
            ("pdf", {"paper": "A5"}, "choose from: Letter, A4"),
            ("xlsx", {"payer": "a"}, "takes no parameters"),
            ("events_xlsx", {"colour": 1}, "choose from: payer"),
            ("csv", {"colour": 1}, "choose from: payer"),
        ],
    )
    def test_unknown_types_and_parameters_are_refused(self, artifact_type, params, words, run, media):
        compute(run)
        with pytest.raises(ValueError, match=words):
            make(run, artifact_type, params)
        assert not [path for path in media.rglob("*") if path.is_file()]

    def test_a_failure_is_recorded_in_the_run(self, run, monkeypatch):
        compute(run)
        monkeypatch.setattr("upstream.reporting.services.render_pdf", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            make(run, "pdf")
        run.refresh_from_db()
        assert run.summary_json["artifact_errors"]["weekly_drift_pdf"].startswith("ZeroDivisionError")
        assert run.status == RunStatus.SUCCESS


def use_server(settings, port):
    """Send mail to the SMTP server at a port, by the settings that this Django has."""
    backend = "django.core.mail.backends.smtp.EmailBackend"
    if django.VERSION >= (6, 1):
        options = {"host": "127.0.0.1", "port": port}
        settings.MAILERS = {"default": {"BACKEND": backend, "OPTIONS": options}}
    else:
        settings.EMAIL_BACKEND, settings.EMAIL_HOST, settings.EMAIL_PORT = backend, "127.0.0.1", port


LAST_START, LAST_END = report_scheduler.last_week(timezone.localdate())


@pytest.mark.parametrize(
    ("today", "start"),
    [
        (date(2026, 11, 22), date(2026, 11, 9)),  # a Sunday, whose week is not over
        (date(2026, 11, 23), date(2026, 11, 16)),
        (date(2026, 11, 28), date(2026, 11, 16)),
    ],
)
def test_the_last_week_ended_on_the_last_sunday(today, start):
    assert report_scheduler.last_week(today) == (start, start + timedelta(days=6))


class TestCommand:
    @pytest.fixture
    def customers(self, transactional_db):
        customers = [with_claims(Customer.objects.create(name=name), LAST_END) for name in ("Ann", "Bob")]
        for customer in customers:
            recipients = f"{customer.name}@example.com\n\nboss@example.com\n".lower()
            ReportSchedule.objects.create(customer=customer, recipients=recipients)
        return customers

    def runs(self):
        return ReportRun.objects.order_by("customer__name")

    def test_each_customer_gets_drift_alerts_artifacts_and_one_mail(self, customers):
        customers[0].alert_rules.create(name="Any", threshold_value=0.1)
        call_command("run_weekly_reports")
        assert [(run.status, run.period_end) for run in self.runs()] == [("success", LAST_END)] * 2
        assert [run.artifacts.count() for run in self.runs()] == [3, 3]
        assert customers[0].alert_events.exists()
        assert [message.to for message in mail.outbox] == [
            ["ann@example.com", "boss@example.com"],
            ["bob@example.com", "boss@example.com"],
        ]
        [attachment] = mail.outbox[0].attachments
        assert attachment[0] == f"Payer drift Ann {LAST_END}.pdf"
        assert attachment[1].startswith(b"%PDF-")
        assert "at risk" in mail.outbox[0].subject
        assert "10.0 % to 50.0 %, +40.0 points" in mail.outbox[0].body

    def test_run_again_it_mails_nobody_twice_unless_told_to(self, customers, capsys):
        call_command("run_weekly_reports")
        call_command("run_weekly_reports")
        assert len(mail.outbox) == 2
        assert "mailed before" in capsys.readouterr().out
        call_command("run_weekly_reports", again=True)
        assert len(mail.outbox) == 4
        assert self.runs().count() == 2

    @pytest.mark.parametrize("weeks_before", [0, 1])
    def test_run_again_for_any_week_it_sends_the_alerts_that_a_killed_process_left(self, weeks_before, customers):
        customers[0].alert_rules.create(name="Any", threshold_value=0.1, email_recipients="al@example.com")
        call_command("run_weekly_reports")
        [begun] = alerts = customers[0].alert_events.all()
        long_ago = timezone.now() - timedelta(minutes=16)
        mail.outbox.clear()
        alerts.update(status="pending", notification_sent_at=None, sending_since=long_ago)
        call_command("run_weekly_reports", f"--week={LAST_START - timedelta(weeks=weeks_before)}")
        assert ["al@example.com"] in [message.to for message in mail.outbox]
        begun.refresh_from_db()
        assert begun.status == "sent"

    def test_without_mail_reports_are_made_and_can_be_mailed_later(self, customers):
        call_command("run_weekly_reports", no_mail=True)
        assert mail.outbox == []
        assert [run.artifacts.count() for run in self.runs()] == [3, 3]
        call_command("run_weekly_reports")
        assert len(mail.outbox) == 2

    def test_one_customer_and_one_week_can_be_chosen(self, customers):
        call_command("run_weekly_reports", "--customer=Bob", f"--week={LAST_START - timedelta(days=3)}")
        [run] = self.runs()
        assert (run.customer.name, run.period_end) == ("Bob", LAST_START - timedelta(days=1))

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--customer=Nobody"], "'Nobody' has an enabled report schedule"),
            ([f"--week={timezone.localdate()}"], "is not over"),
        ],
    )
    def test_an_unknown_customer_and_a_week_that_is_not_over_are_errors(self, arguments, words, customers):
        with pytest.raises(CommandError, match=words):
            call_command("run_weekly_reports", *arguments)

    def test_a_disabled_schedule_and_one_without_recipients_mail_nobody(self, customers, capsys):
        ReportSchedule.objects.filter(customer=customers[0]).update(enabled=False)
        ReportSchedule.objects.filter(customer=customers[1]).update(recipients="")
        call_command("run_weekly_reports")
        assert [run.customer.name for run in self.runs()] == ["Bob"]
        assert mail.outbox == []
        assert "no recipients" in capsys.readouterr().out

    def test_one_customers_failure_stops_no_other_and_is_named_at_the_end(self, customers):
        ReportSchedule.objects.filter(customer=customers[0]).update(recipients="not an address")
        with pytest.raises(
            CommandError, match=r"1 weekly report failed: Ann \(ValueError: 'not an address'"
        ) as raised:
            call_command("run_weekly_reports")
        assert raised.value.returncode == 1
        assert [message.to[0] for message in mail.outbox] == ["bob@example.com"]

    def test_a_mail_server_gets_it_and_one_that_is_down_is_tried_by_the_next_run(self, customers, settings):
        received = []

        class Handler:
            async def handle_DATA(self, server, session, envelope):  # noqa: N802 (aiosmtpd's name)
                received.append(envelope)
                return "250 OK"

        use_server(settings, 1)
        with pytest.raises(CommandError, match="2 weekly reports failed"):
            call_command("run_weekly_reports")
        assert not any(report_mail.is_mailed(run) for run in self.runs())
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        use_server(settings, port)
        server = Controller(Handler(), hostname="127.0.0.1", port=port)
        server.start()
        try:
            call_command("run_weekly_reports")
        finally:
            server.stop()
        assert [envelope.rcpt_tos[0] for envelope in received] == ["ann@example.com", "bob@example.com"]
        assert all(report_mail.is_mailed(run) for run in self.runs())

    def test_a_second_mail_that_fails_leaves_what_is_written_of_the_first(self, customers, settings):
        call_command("run_weekly_reports")
        first = [run.summary_json["mailed"] for run in self.runs()]
        use_server(settings, 1)
        with pytest.raises(CommandError, match="2 weekly reports failed"):
            call_command("run_weekly_reports", again=True)
        assert [run.summary_json["mailed"] for run in self.runs()] == first

    def test_a_quiet_week_is_mailed_as_one(self, customers):
        run = compute(schedule(customers[0], LAST_START - timedelta(weeks=2), LAST_END - timedelta(weeks=2)))
        make(run, "pdf")
        assert report_mail.mail_report(run, ["x@example.com"])
        [message] = mail.outbox
        assert message.subject.endswith(": No drift was found")
        assert "No drift was found." in message.body

    def test_computed_again_a_mailed_run_stays_mailed(self, customers):
        call_command("run_weekly_reports")
        run = self.runs()[0]
        assert report_mail.is_mailed(compute(run))
        assert report_mail.mail_report(run, ["x@example.com"]) is False
