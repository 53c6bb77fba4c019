"""Drift events alert by rules, once, and reach people by mail and webhooks that are tried again."""

import datetime as dt
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from django.core.mail import EmailMessage
from django.db import connections
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.servers import free_port
from tests import drift, receiving
from tests.receiving import certificate_of, webhook
from upstream import settings as own_settings
from upstream.models import AlertRule, Customer, DriftEvent
from upstream.services import AlertProcessingService, delivery
from upstream.services.alert_claims import TAKEOVER

NOON = dt.datetime(2026, 11, 28, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
RULE = {"id": 1, "name": "Denials", "enabled": True, "threshold_value": 0.4, "drift_type_filter": ""}
EVENT = {"id": 9, "payer": "Summit Mutual", "drift_type": "DENIAL_RATE", "severity": 0.5, "suppressed": False}

evaluate = AlertProcessingService.evaluate_alert_rules
priority = AlertProcessingService.compute_alert_priority
suppress = AlertProcessingService.should_suppress_alert
process = AlertProcessingService.process_alert_delivery


def alerts(event=None, rule=None):
    found = evaluate([EVENT | (event or {})], [RULE | (rule or {})])
    return [(alert["alert_rule"], alert["drift_event"]) for alert in found]


class TestRules:
    def test_an_event_as_severe_as_the_threshold_alerts(self):
        assert alerts({"severity": 0.4}) == [(1, 9)]
        assert alerts({"severity": 0.39}) == []

    def test_a_rule_for_a_type_alerts_of_no_other(self):
        assert alerts(rule={"drift_type_filter": "DENIAL_RATE"}) == [(1, 9)]
        assert alerts(rule={"drift_type_filter": "DECISION_TIME"}) == []

    def test_disabled_rules_and_suppressed_events_do_not_alert(self):
        assert alerts(rule={"enabled": False}) == alerts({"suppressed": True}) == []

    def test_a_rule_alerts_of_its_own_customer_only(self):
        assert alerts({"customer_id": 1}, {"customer_id": 1}) == [(1, 9)]
        assert alerts({"customer_id": 2}, {"customer_id": 1}) == []
        assert alerts({}, {"customer_id": 1}) == [(1, 9)]

    def test_events_are_iterated_once_and_rules_for_each(self):
        events = (EVENT | {"id": number} for number in range(3))
        found = evaluate(events, iter([RULE, RULE | {"id": 2}]))
        assert [(alert["drift_event"], alert["alert_rule"]) for alert in found] == [
            *((0, 1), (0, 2), (1, 1), (1, 2), (2, 1), (2, 2))
        ]

    def test_instances_give_what_dicts_give(self):
        event = DriftEvent(**EVENT, customer_id=3)
        rule = AlertRule(**RULE, customer_id=3)
        [found], [same] = evaluate([event], [rule]), evaluate([EVENT | {"customer": 3}], [RULE | {"customer": 3}])
        assert {name: found[name] for name in same if same[name] is not None} == {
            name: value for name, value in same.items() if value is not None
        }


class TestPriority:
    @given(
        st.fixed_dictionaries(
            {},
            optional={
                "severity": st.floats(-1, 2),
                "estimated_revenue_impact": st.one_of(st.none(), st.integers(-(10**9), 10**9)),
                "consecutive_periods": st.integers(0, 99),
                "trend_direction": st.sampled_from(["improving", "stable", "worsening"]),
            },
        )
    )
    def test_it_is_a_whole_number_from_0_to_10(self, alert):
        assert type(priority(alert)) is int
        assert 0 <= priority(alert) <= 10

    def test_the_worst_is_10_and_nothing_is_0(self):
        worst = {"severity": 1, "estimated_revenue_impact": -100_000, "consecutive_periods": 3}
        assert priority(worst | {"trend_direction": "worsening"}) == 10
        assert priority(worst | {"trend_direction": "improving"}) == 4
        assert priority({}) == 0

    @given(st.floats(0, 1), st.floats(0, 1))
    def test_the_more_severe_is_no_less_urgent(self, one, other):
        low, high = sorted([one, other])
        assert priority({"severity": low}) <= priority({"severity": high})


def raised(hours_ago, **other):
    return {"payer": "Summit Mutual", "triggered_at": NOON - hours_ago * HOUR, **other}


class TestSuppression:
    ALERT = raised(0, id=1)

    def test_an_alert_within_the_cooldown_silences_one_like_it(self):
        assert suppress(self.ALERT, [raised(3.9)])
        assert not suppress(self.ALERT, [raised(4)])
        assert suppress(self.ALERT, [raised(4)], cooldown_hours=5)

    def test_as_many_as_the_threshold_within_the_window_are_noise(self):
        days = [raised(24), raised(48), raised(7 * 24)]
        assert suppress(self.ALERT, days)
        assert not suppress(self.ALERT, days[:2])
        assert not suppress(self.ALERT, [*days[:2], raised(7 * 24 + 0.1)])
        assert suppress(self.ALERT, days[:2], noise_threshold=2)
        assert not suppress(self.ALERT, days, noise_window_days=3)

    @pytest.mark.parametrize("name", ["alert_rule", "payer", "cpt_group", "drift_type"])
    def test_alerts_of_another_kind_do_not_count(self, name):
        alert = self.ALERT | {name: "this"}
        assert suppress(alert, [raised(1) | {name: "this"}])
        assert not suppress(alert, [raised(1) | {name: "that"}])

    def test_the_alert_itself_and_later_ones_do_not_count(self):
        assert not suppress(self.ALERT, [self.ALERT, raised(-1)])

    def test_times_in_different_zones_are_compared_as_moments(self):
        east = dt.timezone(dt.timedelta(hours=9))
        assert suppress(self.ALERT, [{**raised(0), "triggered_at": (NOON - 3 * HOUR).astimezone(east)}])
        assert not suppress(self.ALERT, [{**raised(0), "triggered_at": (NOON - 5 * HOUR).astimezone(east)}])

    def test_a_time_without_a_zone_is_refused(self):
        naive = NOON.replace(tzinfo=None)
        for alert, history in ((raised(0) | {"triggered_at": naive}, []), (self.ALERT, [{"triggered_at": naive}])):
            with pytest.raises(ValueError, match="time zone"):
                suppress(alert, history)


@pytest.fixture
def resolver(monkeypatch):
    """Names and what is answered each time they are looked up; the last answer stays."""
    answers, look_up = {}, socket.getaddrinfo

    def getaddrinfo(host, port, *arguments, **options):
        if host not in answers:
            return look_up(host, port, *arguments, **options)
        now = answers[host].pop(0) if len(answers[host]) > 1 else answers[host][0]
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port)) for address in now]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return answers


def use_mail(settings, address):
    for name, value in own_settings.mail_settings(address).items():
        setattr(settings, name, value)


@contextmanager
def mail_to(settings, *answers):
    """Send mail to a server that answers DATA with these in turn, then accepts; yield what it took."""
    with receiving.mail_server(*answers) as (address, taken):
        use_mail(settings, address)
        yield taken


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(delivery, "FIRST_PAUSE_SECONDS", 0.01)


ALERT = {"id": 5, "rule": "Denials", "payer": "Summit\r\nMutual", "cpt_group": "Imaging", "severity": 0.5}


class TestWebhooks:
    def send(self, *statuses):
        with webhook(*statuses) as (url, requests):
            answer = process(ALERT, [{"type": "webhook", "url": url}])
        [result] = answer["results"]
        assert answer["delivered"] == result["delivered"]
        assert result["attempts"] == len(requests)
        return result, requests

    def test_it_gets_the_alert_as_json(self):
        result, [(path, headers, body)] = self.send()
        assert result["delivered"]
        assert (path, headers["Content-Type"], body) == ("/alerts", "application/json", ALERT)

    def test_it_is_tried_again_with_the_same_key(self):
        result, requests = self.send(503, 429)
        assert result["delivered"]
        assert [headers["Idempotency-Key"] for _, headers, _ in requests] == ["5"] * 3

    def test_it_is_given_up_after_three_attempts(self):
        result, _ = self.send(500, 502, 504)
        assert (result["delivered"], result["attempts"], result["error"]) == (False, 3, "answered 504")

    @pytest.mark.parametrize("status", [400, 401, 404, 410])
    def test_what_will_not_change_is_not_tried_again(self, status):
        result, _ = self.send(status)
        assert (result["delivered"], result["attempts"]) == (False, 1)

    def test_its_answer_is_not_read(self):
        with webhook(size=10**12) as (url, requests):
            [result] = process(ALERT, [{"type": "webhook", "url": url}])["results"]
        assert (result["delivered"], len(requests)) == (True, 1)

    def test_a_name_that_is_no_hosts_is_told(self):
        [result] = process(ALERT, [{"type": "webhook", "url": "http://a..b/"}])["results"]
        assert (result["delivered"], result["attempts"]) == (False, 1)

    def test_a_redirect_is_not_followed(self):
        result, requests = self.send(307)
        assert (result["delivered"], len(requests)) == (False, 1)

    def test_a_server_that_is_not_there_is_told(self):
        url = f"http://127.0.0.1:{free_port()}/"
        [result] = process(ALERT, [{"type": "webhook", "url": url}])["results"]
        assert (result["delivered"], result["attempts"]) == (False, 3)
        assert result["error"]

    @pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]"])
    def test_link_local_addresses_are_refused(self, host):
        [result] = process(ALERT, [{"type": "webhook", "url": f"http://{host}/latest"}])["results"]
        assert (result["attempts"], "link-local" in result["error"]) == (1, True)

    @pytest.mark.parametrize(("url", "words"), [("http://two words/", "two words"), ("http://\\", "no host")])
    def test_a_url_without_a_host_is_told(self, url, words):
        [result] = process(ALERT, [{"type": "webhook", "url": url}])["results"]
        assert (result["attempts"], words in result["error"]) == (1, True)

    def test_the_address_that_was_checked_is_the_one_that_gets_it(self, resolver):
        with webhook() as (url, requests):
            port = urlsplit(url).port
            with webhook(host="127.0.0.2", port=port) as (_, inner):
                resolver["rebinding.test"] = [["127.0.0.1"], ["127.0.0.2"]]
                answer = process(ALERT, [{"type": "webhook", "url": f"http://rebinding.test:{port}/alerts?a=1"}])
        assert answer["delivered"]
        assert inner == []
        [(path, headers, _)] = requests
        assert (path, headers.get_all("Host")) == ("/alerts?a=1", [f"rebinding.test:{port}"])

    def test_each_attempt_is_checked_anew(self, resolver):
        with webhook(503) as (url, requests):
            port = urlsplit(url).port
            resolver["rebinding.test"] = [["127.0.0.1"], ["169.254.169.254"]]
            [result] = process(ALERT, [{"type": "webhook", "url": f"http://rebinding.test:{port}/"}])["results"]
        assert (result["attempts"], len(requests)) == (2, 1)
        assert "link-local" in result["error"]

    def test_one_link_local_address_among_others_is_refused(self, resolver):
        with webhook() as (url, requests):
            port = urlsplit(url).port
            resolver["mixed.test"] = [["127.0.0.1", "169.254.169.254"]]
            [result] = process(ALERT, [{"type": "webhook", "url": f"http://mixed.test:{port}/"}])["results"]
        assert (result["attempts"], requests) == (1, [])

    def test_an_address_that_takes_no_connection_is_followed_by_the_next(self, resolver):
        with webhook(host="127.0.0.2") as (url, requests):
            port = urlsplit(url).port
            resolver["two.test"] = [["127.0.0.1", "127.0.0.2"]]
            [result] = process(ALERT, [{"type": "webhook", "url": f"http://two.test:{port}/"}])["results"]
        assert (result["delivered"], result["attempts"], len(requests)) == (True, 1, 1)

    @pytest.mark.parametrize(("host", "is_its_own"), [("hooks.test", True), ("other.test", False)])
    def test_a_certificate_has_to_be_that_of_the_host(self, host, is_its_own, resolver, tmp_path, monkeypatch):
        resolver[host] = [["127.0.0.1"]]
        certificate, key = certificate_of("hooks.test", tmp_path)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with webhook(certificate=(certificate, key)) as (url, requests):
            port = urlsplit(url).port
            [result] = process(ALERT, [{"type": "webhook", "url": f"https://{host}:{port}/"}])["results"]
        assert (result["delivered"], len(requests)) == (is_its_own, is_its_own)
        assert is_its_own or "doesn't match" in result["error"]


class TestMail:
    CHANNEL = {"type": "email", "to": ["ann@example.com", "bob@example.com"]}

    def test_all_recipients_get_one_message(self, settings):
        with mail_to(settings) as taken:
            answer = process(ALERT, [self.CHANNEL])
        assert answer["delivered"]
        [(recipients, text)] = taken
        assert recipients == self.CHANNEL["to"]
        assert "Subject: [Upstream] Denials: Summit Mutual Imaging" in text
        assert "Cpt group: Imaging" in text

    def test_it_says_what_changed_in_words(self, mailoutbox):
        values = {
            "drift_type": "DENIAL_RATE",
            "baseline_value": 0.1724,
            "current_value": 0.2687,
            "delta_value": 0.0963,
        }
        process(ALERT | values | {"estimated_revenue_impact": "-85419.00", "p_value": None}, [self.CHANNEL])
        first, *rest = mailoutbox[0].body.splitlines()
        assert first == "Denial rate: 17.2 % to 26.9 %, +9.6 points, $85,419 at risk"
        assert "Severity: 50.0 %" in rest
        assert not any(name in mailoutbox[0].body for name in ("0.1724", "Delta", "None"))

    @pytest.mark.parametrize(("code", "attempts"), [("451 try later", 2), ("550 no", 1)])
    def test_what_may_pass_is_tried_again(self, settings, code, attempts):
        with mail_to(settings, code) as taken:
            [result] = process(ALERT, [self.CHANNEL])["results"]
        assert (result["attempts"], result["delivered"], len(taken)) == (attempts, attempts == 2, attempts - 1)

    def test_a_server_that_hangs_is_given_up_before_another_process_takes_over(self, settings, monkeypatch):
        attempt = own_settings.MAIL_TIMEOUT_SECONDS + delivery.TIMEOUT_SECONDS
        assert dt.timedelta(seconds=delivery.ATTEMPTS * attempt) < TAKEOVER / 2
        monkeypatch.setattr(own_settings, "MAIL_TIMEOUT_SECONDS", 0.2)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            host, port = silent.getsockname()
            use_mail(settings, f"{host}:{port}")
            [result] = process(ALERT, [self.CHANNEL])["results"]
        assert (result["attempts"], result["delivered"]) == (3, False)
        assert "timed out" in result["error"]

    def test_a_server_that_is_not_there_is_told(self, settings):
        with mail_to(settings):
            pass
        [result] = process(ALERT, [self.CHANNEL])["results"]
        assert (result["attempts"], result["delivered"]) == (3, False)


class TestChannels:
    def test_one_that_fails_does_not_stop_the_others(self):
        with webhook(404) as (bad, _), webhook() as (good, requests):
            answer = process(ALERT, [{"type": "webhook", "url": bad}, {"type": "webhook", "url": good}])
        assert [one["delivered"] for one in answer["results"]] == [False, True]
        assert not answer["delivered"]
        assert len(requests) == 1

    @pytest.mark.parametrize(
        "channel",
        [
            *({}, {"type": "fax"}, {"type": "email"}, {"type": "email", "to": "ann@example.com"}),
            *({"type": "email", "to": ["ann"]}, {"type": "email", "to": ["a@example.com\nBcc: b@example.com"]}),
            *({"type": "webhook"}, {"type": "webhook", "url": "file:///etc/passwd"}),
            *(
                {"type": "webhook", "url": "http:///nowhere"},
                {"type": "webhook", "url": "https://example.com:99999/"},
            ),
        ],
    )
    def test_what_cannot_be_a_channel_is_refused_before_anything_is_sent(self, channel):
        with webhook() as (url, requests), pytest.raises(ValueError, match=r"channel|address"):
            process(ALERT, [{"type": "webhook", "url": url}, channel])
        assert requests == []

    def test_no_channel_delivers_nothing(self):
        assert process(ALERT, []) == {"delivered": False, "results": []}

    def test_a_rule_has_those_that_it_names(self):
        rule = AlertRule(
            email_recipients="ann@example.com\r\nbob@example.com\n", webhook_url="https://example.com/"
        )
        assert AlertProcessingService.channels_of(rule) == [
            {"type": "email", "to": ["ann@example.com", "bob@example.com"]},
            {"type": "webhook", "url": "https://example.com/"},
        ]


@pytest.fixture
def run(database):
    return run_of(Customer.objects.using(database).create(name="Lakeside"))


def run_of(customer, events=1):
    """Return a report run with so many drift events."""
    run = customer.report_runs.create(run_type="weekly", period_start=drift.START, period_end=drift.END)
    drift.stored(
        customer, run, [drift.drift_event(severity=0.9, cpt_group=f"Group {number}") for number in range(events)]
    )
    return run


def send(run):
    return AlertProcessingService.deliver_alert_events(run.customer.alert_events.all())


class TestEvents:
    def rule(self, run, **fields):
        return run.customer.alert_rules.create(**{"name": "Severe", "threshold_value": 0.6} | fields)

    def test_each_event_alerts_once_by_a_rule_however_often_it_is_asked(self, run):
        self.rule(run)
        assert AlertProcessingService.create_alert_events(run) == 1
        assert AlertProcessingService.create_alert_events(run) == 0
        alert = run.customer.alert_events.get()
        assert (alert.status, alert.payload["rule"]) == ("pending", "Severe")

    def test_thousands_of_events_take_few_statements(self, run, database, django_assert_max_num_queries):
        self.rule(run)
        run = run_of(run.customer, 1_200)
        with django_assert_max_num_queries(30, connection=connections[database]):
            assert AlertProcessingService.create_alert_events(run) == 1_200

    def test_what_was_told_an_hour_ago_is_not_told_again(self, run):
        rule = self.rule(run)
        AlertProcessingService.create_alert_events(run)
        again = run_of(run.customer)
        assert AlertProcessingService.create_alert_events(again) == 0
        rule.alert_events.update(triggered_at=timezone.now() - 5 * HOUR)
        assert AlertProcessingService.create_alert_events(again) == 1

    def test_pending_alerts_are_sent_once(self, run, mailoutbox):
        self.rule(run, email_recipients="ann@example.com")
        AlertProcessingService.create_alert_events(run)
        assert send(run) == {
            "sent": 1,
            "failed": 0,
        }
        assert send(run) == {
            "sent": 0,
            "failed": 0,
        }
        [message] = mailoutbox
        assert message.to == ["ann@example.com"]
        alert = run.customer.alert_events.get()
        assert (alert.status, alert.error_message) == ("sent", "")
        assert alert.notification_sent_at >= alert.triggered_at

    def test_what_failed_says_why(self, run):
        with webhook(404) as (url, _):
            self.rule(run, webhook_url=url)
            AlertProcessingService.create_alert_events(run)
            assert send(run) == {
                "sent": 0,
                "failed": 1,
            }
        alert = run.customer.alert_events.get()
        assert (alert.status, alert.error_message) == ("failed", f"{url}: answered 404")

    def test_one_that_cannot_be_sent_does_not_stop_the_others(self, run, mailoutbox):
        self.rule(run, webhook_url="ftp://example.com/")
        self.rule(run, name="Other", email_recipients="ann@example.com")
        AlertProcessingService.create_alert_events(run)
        assert send(run) == {
            "sent": 1,
            "failed": 1,
        }
        assert "https://" in run.customer.alert_events.get(status="failed").error_message

    def test_what_failed_is_sent_again_if_asked_to(self, run):
        with webhook(404) as (url, _):
            self.rule(run, webhook_url=url)
            AlertProcessingService.create_alert_events(run)
            for again, counts in ((False, (0, 1)), (False, (0, 0)), (True, (1, 0))):
                sent = AlertProcessingService.deliver_alert_events(run.customer.alert_events.all(), again=again)
                assert tuple(sent.values()) == counts

    def test_a_webhook_without_its_extra_fails_and_mail_goes_out_once(self, run, mailoutbox, monkeypatch):
        self.rule(run, email_recipients="ann@example.com", webhook_url="https://example.com/")
        AlertProcessingService.create_alert_events(run)
        monkeypatch.setitem(sys.modules, "urllib3", None)
        for _ in range(2):
            AlertProcessingService.deliver_alert_events(run.customer.alert_events.all())
        assert len(mailoutbox) == 1
        assert "upstream[alerts]" in run.customer.alert_events.get().error_message

    def test_an_alert_of_a_rule_without_channels_stays_in_the_inbox(self, run):
        self.rule(run)
        AlertProcessingService.create_alert_events(run)
        assert send(run) == {
            "sent": 0,
            "failed": 0,
        }
        assert run.customer.alert_events.get().status == "pending"

    @pytest.mark.parametrize("is_taken", [True, False])
    def test_it_has_no_time_of_sending_until_it_is_sent(self, run, settings, is_taken):
        self.rule(run, email_recipients="ann@example.com")
        AlertProcessingService.create_alert_events(run)
        found = []
        times = run.customer.alert_events.values_list("notification_sent_at", "sending_since")
        with mail_to(settings, *([] if is_taken else ["550 no"])), during_mail(lambda: found.append(times.get())):
            send(run)
        [(sent_at, since)] = found
        assert (sent_at, since is None) == (None, False)
        sent_at, after = times.get()
        assert (sent_at is not None, after) == (is_taken, None)
        assert not is_taken or sent_at >= since

    def test_one_that_is_acknowledged_while_it_is_sent_stays_so(self, run):
        self.rule(run, email_recipients="ann@example.com")
        AlertProcessingService.create_alert_events(run)
        alerts = run.customer.alert_events.all()
        with during_mail(lambda: alerts.update(status="acknowledged")):
            assert AlertProcessingService.deliver_alert_events(alerts) == {"sent": 1, "failed": 0}
        alert = alerts.get()
        assert alert.status == "acknowledged"
        assert alert.notification_sent_at >= alert.triggered_at

    def test_one_that_was_interrupted_is_sent_by_the_next_call(self, run, mailoutbox):
        self.rule(run, email_recipients="ann@example.com")
        AlertProcessingService.create_alert_events(run)
        alerts = run.customer.alert_events.all()

        def interrupt():
            raise KeyboardInterrupt

        with during_mail(interrupt), pytest.raises(KeyboardInterrupt):
            AlertProcessingService.deliver_alert_events(alerts)
        assert mailoutbox == []
        assert AlertProcessingService.deliver_alert_events(alerts) == {"sent": 1, "failed": 0}

    def test_one_that_is_raised_by_a_clock_ahead_of_ours_is_sent(self, run, mailoutbox):
        self.rule(run, email_recipients="ann@example.com")
        AlertProcessingService.create_alert_events(run)
        alerts = run.customer.alert_events.all()
        alerts.update(triggered_at=timezone.now() + HOUR)
        assert AlertProcessingService.deliver_alert_events(alerts) == {"sent": 1, "failed": 0}

    def test_one_that_is_deleted_while_it_is_sent_is_told(self, run, mailoutbox, caplog):
        self.rule(run, email_recipients="ann@example.com")
        AlertProcessingService.create_alert_events(run)
        alerts = run.customer.alert_events.all()
        with during_mail(alerts.delete):
            AlertProcessingService.deliver_alert_events(alerts)
        assert (len(mailoutbox), alerts.count()) == (1, 0)
        assert "was deleted while it was sent" in caplog.text

    def test_one_that_another_process_took_over_keeps_what_that_wrote(self, run, caplog):
        self.rule(run, email_recipients="ann@example.com")
        AlertProcessingService.create_alert_events(run)
        alerts = run.customer.alert_events.all()
        later = timezone.now() + HOUR
        taken_over = {"status": "sent", "notification_sent_at": later, "sending_since": None}
        with during_mail(lambda: alerts.update(**taken_over)):
            AlertProcessingService.deliver_alert_events(alerts)
        alert = alerts.get()
        assert (alert.status, alert.notification_sent_at) == ("sent", later)
        assert "another process sent it too" in caplog.text


@contextmanager
def during_mail(act):
    """Act when a mail is about to be sent."""
    with pytest.MonkeyPatch.context() as patched:
        send = EmailMessage.send
        patched.setattr(EmailMessage, "send", lambda self, *arguments: (act(), send(self, *arguments))[1])
        yield


def test_two_workers_raise_an_alert_once(transactional_database):
    run = run_of(Customer.objects.using(transactional_database).create(name="Lakeside"), 50)
    run.customer.alert_rules.create(name="Severe", threshold_value=0.6)

    def create(_):
        try:
            return AlertProcessingService.create_alert_events(run)
        finally:
            connections[transactional_database].close()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(create, range(2)))
    assert run.customer.alert_events.count() == 50
