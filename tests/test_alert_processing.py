"""Drift events alert by rules, once, and reach people by mail and webhooks that are tried again."""

import datetime as dt
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import orjson
import pytest
from aiosmtpd.controller import Controller
from django.db import connection
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.servers import free_port
from tests.test_models import drift_event
from upstream.models import AlertEvent, AlertRule, DriftEvent
from upstream.services import AlertProcessingService, delivery
from upstream.settings import mail_settings

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


@contextmanager
def webhook(*statuses, size=0):
    """Run a server that answers with these statuses in turn, then 200; yield its URL and what it was sent.

    It says that its answer has so many bytes.
    """
    requests, answers = [], list(statuses)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            requests.append((self.path, self.headers, orjson.loads(body)))
            self.send_response(answers.pop(0) if answers else 200)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(size))
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/alerts", requests
        server.shutdown()


@contextmanager
def mail_server(settings, *answers):
    """Run an SMTP server that answers DATA with these in turn, then accepts; yield the messages it took."""
    taken, left = [], list(answers)

    class Handler:
        async def handle_DATA(self, server, session, envelope):  # noqa: N802 (its name in aiosmtpd)
            if left and not left[0].startswith("250"):
                return left.pop(0)
            taken.append((envelope.rcpt_tos, envelope.content.decode()))
            return "250 OK"

    port = free_port()
    for name, value in mail_settings(f"127.0.0.1:{port}").items():
        setattr(settings, name, value)
    server = Controller(Handler(), "127.0.0.1", port)
    server.start()
    try:
        yield taken
    finally:
        server.stop()


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


class TestMail:
    CHANNEL = {"type": "email", "to": ["ann@example.com", "bob@example.com"]}

    def test_all_recipients_get_one_message(self, settings):
        with mail_server(settings) as taken:
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
        with mail_server(settings, code) as taken:
            [result] = process(ALERT, [self.CHANNEL])["results"]
        assert (result["attempts"], result["delivered"], len(taken)) == (attempts, attempts == 2, attempts - 1)

    def test_a_server_that_is_not_there_is_told(self, settings):
        with mail_server(settings):
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
def run():
    event = drift_event(severity=0.9)
    event.save()
    return event.report_run


def more_events(run, count, **fields):
    first = run.drift_events.first()
    for number in range(count):
        event = drift_event(severity=0.9, cpt_group=f"Group {number}", **fields)
        event.report_run, event.customer = run, first.customer
        yield event


@pytest.mark.django_db
class TestEvents:
    def rule(self, run, **fields):
        return run.customer.alert_rules.create(**{"name": "Severe", "threshold_value": 0.6} | fields)

    def test_each_event_alerts_once_by_a_rule_however_often_it_is_asked(self, run):
        self.rule(run)
        assert AlertProcessingService.create_alert_events(run) == 1
        assert AlertProcessingService.create_alert_events(run) == 0
        alert = AlertEvent.objects.get()
        assert (alert.status, alert.payload["rule"]) == ("pending", "Severe")

    def test_thousands_of_events_take_few_statements(self, run, django_assert_max_num_queries):
        self.rule(run)
        DriftEvent.objects.bulk_create(more_events(run, 1_200))
        with django_assert_max_num_queries(30):
            assert AlertProcessingService.create_alert_events(run) == 1_201

    def test_what_was_told_an_hour_ago_is_not_told_again(self, run):
        rule = self.rule(run)
        AlertProcessingService.create_alert_events(run)
        again = drift_event(severity=0.9)
        again.save()
        assert AlertProcessingService.create_alert_events(again.report_run) == 0
        rule.alert_events.update(triggered_at=timezone.now() - 5 * HOUR)
        assert AlertProcessingService.create_alert_events(again.report_run) == 1

    def test_pending_alerts_are_sent_once(self, run, mailoutbox):
        self.rule(run, email_recipients="ann@example.com")
        AlertProcessingService.create_alert_events(run)
        assert AlertProcessingService.deliver_alert_events(AlertEvent.objects.all()) == {"sent": 1, "failed": 0}
        assert AlertProcessingService.deliver_alert_events(AlertEvent.objects.all()) == {"sent": 0, "failed": 0}
        [message] = mailoutbox
        assert message.to == ["ann@example.com"]
        alert = AlertEvent.objects.get()
        assert (alert.status, alert.error_message) == ("sent", "")
        assert alert.notification_sent_at >= alert.triggered_at

    def test_what_failed_says_why(self, run):
        with webhook(404) as (url, _):
            self.rule(run, webhook_url=url)
            AlertProcessingService.create_alert_events(run)
            assert AlertProcessingService.deliver_alert_events(AlertEvent.objects.all()) == {
                "sent": 0,
                "failed": 1,
            }
        alert = AlertEvent.objects.get()
        assert (alert.status, alert.error_message) == ("failed", f"{url}: answered 404")

    def test_one_that_cannot_be_sent_does_not_stop_the_others(self, run, mailoutbox):
        self.rule(run, webhook_url="ftp://example.com/")
        self.rule(run, name="Other", email_recipients="ann@example.com")
        AlertProcessingService.create_alert_events(run)
        assert AlertProcessingService.deliver_alert_events(AlertEvent.objects.all()) == {"sent": 1, "failed": 1}
        assert "https://" in AlertEvent.objects.get(status="failed").error_message

    def test_what_failed_is_sent_again_if_asked_to(self, run):
        with webhook(404) as (url, _):
            self.rule(run, webhook_url=url)
            AlertProcessingService.create_alert_events(run)
            for again, counts in ((False, (0, 1)), (False, (0, 0)), (True, (1, 0))):
                sent = AlertProcessingService.deliver_alert_events(AlertEvent.objects.all(), again=again)
                assert tuple(sent.values()) == counts

    def test_a_webhook_without_its_extra_fails_and_mail_goes_out_once(self, run, mailoutbox, monkeypatch):
        self.rule(run, email_recipients="ann@example.com", webhook_url="https://example.com/")
        AlertProcessingService.create_alert_events(run)
        monkeypatch.setitem(sys.modules, "urllib3", None)
        for _ in range(2):
            AlertProcessingService.deliver_alert_events(AlertEvent.objects.all())
        assert len(mailoutbox) == 1
        assert "upstream[alerts]" in AlertEvent.objects.get().error_message

    def test_an_alert_of_a_rule_without_channels_stays_in_the_inbox(self, run):
        self.rule(run)
        AlertProcessingService.create_alert_events(run)
        assert AlertProcessingService.deliver_alert_events(AlertEvent.objects.all()) == {"sent": 0, "failed": 0}
        assert AlertEvent.objects.get().status == "pending"


@pytest.mark.django_db(transaction=True)
def test_two_processes_raise_an_alert_once():
    event = drift_event(severity=0.9)
    event.save()
    event.report_run.customer.alert_rules.create(name="Severe", threshold_value=0.6)
    DriftEvent.objects.bulk_create(more_events(event.report_run, 50))

    def create(_):
        try:
            return AlertProcessingService.create_alert_events(event.report_run)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(create, range(2)))
    assert AlertEvent.objects.count() == 51
