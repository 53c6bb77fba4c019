"""The pages of the Upstream application and the downloads they link; test_access.py tells who sees them."""

import csv
import datetime as dt
import html
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import openpyxl
import pypdf
import pytest
from django.contrib.auth.models import User
from django.core import mail
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import call_command
from django.db import connection
from django.db.models import F, Sum
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests import asking
from upstream.integrations.labels import label_of
from upstream.models import (
    AlertEvent,
    AlertRule,
    AlertStatus,
    Customer,
    DriftEvent,
    ExportLog,
    ReportArtifact,
    ReportSchedule,
)
from upstream.reporting.wording import dollars
from upstream.templatetags.wording import day, short_dollars
from upstream.views.dashboard import Dashboard
from upstream.views.exports import COLUMNS

pytestmark = pytest.mark.django_db

DOWNLOADS = {
    "csv": "text/csv",
    "json": "application/json",
    "ndjson": "application/x-ndjson",
}
ROWS = 1100
WEEK = dt.timedelta(weeks=1)
MODELS = ("customer", "driftevent", "alertevent", "alertrule", "reportrun", "reportartifact", "reportschedule")


@pytest.fixture
def seeded() -> None:
    call_command("seed_demo", rows=ROWS, stdout=io.StringIO())


def body(response: Any) -> bytes:
    return b"".join(response.streaming_content)


def expected() -> Iterator[dict[str, Any]]:
    yield from DriftEvent.objects.order_by("pk").values(*COLUMNS)


def as_json(row: dict[str, Any]) -> dict[str, Any]:
    impact = row["estimated_revenue_impact"]
    dates = {name: value.isoformat() for name, value in row.items() if hasattr(value, "isoformat")}
    return row | dates | {"estimated_revenue_impact": None if impact is None else str(impact)}


CHOSEN = ("drift_type", "trend_direction")


def as_cell(name: str, value: Any) -> Any:
    if name == "potential_root_causes":
        return value
    if isinstance(value, dt.datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    choices = dict(DriftEvent._meta.get_field(name).flatchoices) if name in CHOSEN else {}
    return "" if value is None else str(choices.get(value, value))


@pytest.fixture
def client(client: Client) -> Client:
    """Logged in as one who may see and export all."""
    client.force_login(asking.create_user("root", is_superuser=True))
    return client


def texts_of(page: Any) -> str:
    """Return the words of a page, with one blank between them."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page.content.decode())).split())


def member(client: Client, position: int = 0) -> Customer:
    """Log a member of a customer in, and return the customer."""
    customer = Customer.objects.order_by("pk")[position]
    customer.users.add(user := asking.create_user("member"))
    client.force_login(user)
    return customer


class TestDashboard:
    @pytest.mark.usefixtures("seeded")
    def test_it_says_what_is_at_risk_in_the_newest_week_and_what_changed(self, client: Client) -> None:
        last = DriftEvent.objects.latest("current_end").current_end
        costly = DriftEvent.objects.filter(suppressed=False, estimated_revenue_impact__lt=0)
        newest, before = (
            -sum(event.estimated_revenue_impact for event in costly.filter(current_end=last - WEEK * age))
            for age in (0, 1)
        )
        page = client.get("/")
        assert page.context["at_risk"] == newest > 0
        assert page.context["difference"] == newest - before
        assert f"At risk in the week to {last:%b} {last.day}, {last.year} {short_dollars(newest)}" in texts_of(
            page
        )

    @pytest.mark.usefixtures("seeded")
    def test_payers_and_customers_are_those_with_the_most_at_risk(self, client: Client) -> None:
        last = DriftEvent.objects.latest("current_end").current_end
        week = DriftEvent.objects.filter(
            suppressed=False, estimated_revenue_impact__lt=0, current_end__gt=last - WEEK
        )
        payers: Counter[str] = Counter()
        customers: Counter[str] = Counter()
        for event in week.select_related("customer"):
            payers[event.payer] -= event.estimated_revenue_impact  # type: ignore[assignment, operator]
            customers[event.customer.name] -= event.estimated_revenue_impact  # type: ignore[assignment, operator]
        context = client.get("/").context
        assert [(row["payer"], row["amount"]) for row in context["payers"]] == payers.most_common(6)
        assert [(row["customer__name"], row["amount"]) for row in context["by_customer"]] == customers.most_common(
            6
        )

    @pytest.mark.usefixtures("seeded")
    def test_the_trend_has_twelve_weeks(self, client: Client) -> None:
        trend = client.get("/").context["trend"]
        last = DriftEvent.objects.latest("current_end").current_end
        costly = DriftEvent.objects.filter(suppressed=False, estimated_revenue_impact__lt=0)
        sums = [
            sum(
                float(event.estimated_revenue_impact or 0)
                for event in costly.filter(current_end=last - WEEK * age)
            )
            for age in range(11, -1, -1)
        ]
        assert [bar.value for bar in trend] == pytest.approx([-amount for amount in sums])
        assert max(bar.length for bar in trend) == 135

    @pytest.mark.usefixtures("seeded")
    def test_events_older_than_the_trend_before_one_that_ends_tomorrow_are_left_out(self, client: Client) -> None:
        today = timezone.localdate()
        long_ago = dict.fromkeys(("baseline_start", "baseline_end"), today - dt.timedelta(days=100))
        current = dict.fromkeys(("current_start", "current_end"), today - dt.timedelta(days=90))
        DriftEvent.objects.update(**long_ago, **current)
        newest = DriftEvent.objects.filter(suppressed=False, estimated_revenue_impact__lt=0)[0]
        DriftEvent.objects.filter(pk=newest.pk).update(current_end=today + dt.timedelta(days=1))
        amounts = [bar.value for bar in client.get("/").context["trend"]]
        assert amounts == [0] * 11 + [-float(newest.estimated_revenue_impact or 0)]

    @pytest.mark.usefixtures("seeded")
    def test_suppressed_drift_is_no_longer_at_risk(self, client: Client) -> None:
        before = client.get("/").context
        event = before["largest"][0]
        client.post("/drift/change/", {"action": "suppress", "row": event.pk})
        after = client.get("/").context
        assert after["at_risk"] == before["at_risk"] + event.estimated_revenue_impact
        assert after["found"] == before["found"] - 1

    @pytest.mark.usefixtures("seeded")
    def test_its_download_has_the_events_that_it_counts(self, client: Client) -> None:
        context = client.get("/").context
        [url] = [url for one, url, _ in context["offer"].links if one.name == "ndjson"]
        events = [json.loads(line) for line in body(client.get(url)).splitlines()]
        assert len(events) == context["offer"].rows == context["found"]
        assert -sum(Decimal(event["estimated_revenue_impact"]) for event in events) == context["at_risk"]

    @pytest.mark.usefixtures("seeded")
    def test_a_payer_is_escaped(self, client: Client) -> None:
        DriftEvent.objects.update(payer="<script>alert(1)</script>")
        page = client.get("/").content.decode()
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
        assert "<script" not in page

    def test_an_empty_database_says_how_to_fill_it(self, client: Client) -> None:
        page = client.get("/").content.decode()
        assert "python manage.py seed_demo --rows" in page
        assert "drift-events" not in page

    def test_who_belongs_to_no_customer_is_told_so(self, client: Client) -> None:
        client.force_login(asking.create_user("stranger"))
        for url in PAGES:
            assert "You do not belong to a customer yet" in texts_of(client.get(url)), url


class TestDrift:
    @pytest.mark.usefixtures("seeded")
    def test_all_pages_together_have_each_event_once_in_order(self, client: Client) -> None:
        # Many of one moment: the key decides where a page ends.
        DriftEvent.objects.update(created_at=timezone.now().replace(microsecond=0))
        DriftEvent.objects.filter(pk__lte=30).update(created_at=timezone.now() + WEEK)
        url, found, backwards = "/drift/?weeks=all&state=all&customer=1", [], []
        while url:
            page = client.get(url).context["page"]
            found += [event.pk for event in page.rows]
            url = page.older and f"/drift/?weeks=all&state=all&customer=1&before={quote(page.older)}"
        rows = DriftEvent.objects.filter(customer=1).order_by("-created_at", "-pk").values_list("pk", flat=True)
        assert found == list(rows)
        last = page.rows
        while page.newer:
            page = client.get(f"/drift/?weeks=all&state=all&customer=1&after={quote(page.newer)}").context["page"]
            backwards = [event.pk for event in page.rows] + backwards
        assert backwards == found[: -len(last)]

    @pytest.mark.usefixtures("seeded")
    @pytest.mark.parametrize(
        ("query", "condition"),
        [
            ("payer=Medicare&weeks=all", {"payer": "Medicare", "suppressed": False, "acknowledged_at": None}),
            (
                "drift_type=DENIAL_RATE&weeks=all",
                {"drift_type": "DENIAL_RATE", "suppressed": False, "acknowledged_at": None},
            ),
            ("severity=high&weeks=all", {"severity__gte": 0.5, "suppressed": False, "acknowledged_at": None}),
            ("severity=medium&weeks=all&state=all", {"severity__gte": 0.25}),
            ("state=suppressed&weeks=all", {"suppressed": True}),
            ("state=acknowledged&weeks=all", {"acknowledged_at__isnull": False, "suppressed": False}),
            ("state=all&weeks=all&customer=2", {"customer": 2}),
        ],
    )
    def test_filters_choose_the_same_rows_on_the_page_and_in_its_download(
        self, client: Client, query: str, condition: dict[str, Any]
    ) -> None:
        DriftEvent.objects.filter(pk__lte=40).update(acknowledged_at=timezone.now())
        wanted = list(DriftEvent.objects.filter(**condition).order_by("-created_at", "-pk"))
        context = client.get(f"/drift/?{query}").context
        assert [event.pk for event in context["page"].rows] == [event.pk for event in wanted[:25]]
        assert context["offer"].rows == len(wanted) > 0
        [url] = [url for one, url, _ in context["offer"].links if one.name == "ndjson"]
        found = {json.loads(line)["id"] for line in body(client.get(url)).splitlines()}
        assert found == {event.pk for event in wanted}

    @pytest.mark.parametrize(
        "query", ["before=x", "before=2026-01-01_x", "after=2026-13-01_4", "customer=x", "customer=²"]
    )
    def test_a_page_that_cannot_be_is_not_found(self, client: Client, query: str) -> None:
        assert client.get(f"/drift/?{query}").status_code == 404

    @pytest.mark.parametrize("page", ["/alerts/", "/drift/"])
    @pytest.mark.parametrize("key", ["before=0001-01-01T00:00:00+14:00_1", "after=9999-12-31T23:59:59-14:00_1"])
    def test_a_page_at_a_moment_that_has_no_utc_is_not_found(self, client: Client, page: str, key: str) -> None:
        assert client.get(f"{page}?{key.replace('+', '%2B')}").status_code == 404

    def test_a_wrong_filter_is_told_and_shows_nothing(self, client: Client) -> None:
        page = client.get("/drift/?weeks=9")
        assert "Select a valid choice. 9 is not one of the available choices." in texts_of(page)
        assert "page" not in page.context

    @pytest.mark.usefixtures("seeded")
    def test_the_boxes_of_the_list_choose_its_events(self, client: Client) -> None:
        page = client.get("/drift/?weeks=all&state=all&customer=2")
        keys = re.findall(r'name="row" value="([^"]*)"', page.content.decode())
        assert min(map(int, keys)) > 1000  # where the text of a number has a comma
        client.post("/drift/change/", {"action": "acknowledge", "row": keys})
        assert {str(event.pk) for event in DriftEvent.objects.exclude(acknowledged_at=None)} == {*keys}

    @pytest.mark.usefixtures("seeded")
    def test_acknowledging_says_who_and_when_and_once(self, client: Client) -> None:
        rows = [event.pk for event in DriftEvent.objects.order_by("pk")[:3]]
        answer = client.post(
            "/drift/change/", {"action": "acknowledge", "row": rows, "next": "/drift/"}, follow=True
        )
        assert "Acknowledged 3 drift events." in texts_of(answer)
        event = DriftEvent.objects.select_related("acknowledged_by").get(pk=rows[0])
        assert event.acknowledged_by
        assert event.acknowledged_by.get_username() == "root"
        again = client.post("/drift/change/", {"action": "acknowledge", "row": rows}, follow=True)
        assert "Acknowledged 0 drift events." in texts_of(again)
        assert DriftEvent.objects.get(pk=rows[0]).acknowledged_at == event.acknowledged_at

    @pytest.mark.parametrize(
        "target", ["https://elsewhere.example/", "//elsewhere.example/", "javascript:x", "foo", ""]
    )
    def test_a_button_leads_to_no_other_site(self, client: Client, target: str) -> None:
        answer = client.post("/drift/change/", {"action": "acknowledge", "next": target})
        assert answer.headers["Location"] == "/"

    def test_nothing_chosen_is_told(self, client: Client) -> None:
        answer = client.post("/drift/change/", {"action": "suppress", "next": "/drift/"}, follow=True)
        assert "Choose at least one of the drift events." in texts_of(answer)

    def test_a_form_of_another_site_changes_nothing(self) -> None:
        strict = Client(enforce_csrf_checks=True)
        strict.force_login(asking.create_user("root", is_superuser=True))
        answer = strict.post("/drift/change/", {"action": "suppress", "row": 1})
        assert answer.status_code == 403
        assert "Nothing was changed" in texts_of(answer)

    @pytest.mark.usefixtures("seeded")
    def test_an_event_is_told_in_words(self, client: Client) -> None:
        event = DriftEvent.objects.filter(drift_type="DENIAL_RATE")[0]
        values = {"baseline_value": 0.172, "current_value": 0.268, "delta_value": 0.096}
        DriftEvent.objects.filter(pk=event.pk).update(
            **values, estimated_revenue_impact=Decimal("-85419.20"), potential_root_causes=["A <new> policy"]
        )
        words = texts_of(client.get(f"/drift/{event.pk}/"))
        assert "17.2\N{NO-BREAK SPACE}% to 26.8\N{NO-BREAK SPACE}%, +9.6 points, $85,419 at risk" in client.get(
            f"/drift/{event.pk}/"
        ).content.decode().replace("<strong>", "")
        assert "A <new> policy" in words
        assert "0.172" not in words


class TestAlerts:
    @pytest.mark.usefixtures("seeded")
    def test_an_alert_is_acknowledged_and_then_resolved(self, client: Client) -> None:
        alert = AlertEvent.objects.filter(status="sent")[0]
        for action, status in (
            ("acknowledge", "acknowledged"),
            ("resolve", "resolved"),
            ("acknowledge", "resolved"),
        ):
            client.post("/alerts/change/", {"action": action, "row": alert.pk})
            alert.refresh_from_db()
            assert alert.status == status

    @pytest.mark.usefixtures("seeded")
    @pytest.mark.parametrize("state", ["open", "failed", "acknowledged", "resolved", "all"])
    def test_each_state_has_its_alerts_on_the_page_and_in_its_download(self, client: Client, state: str) -> None:
        statuses = {"open": ["pending", "sent", "failed"], "all": AlertStatus.values}.get(state, [state])
        wanted = list(AlertEvent.objects.filter(status__in=statuses).order_by("-triggered_at", "-pk"))
        context = client.get(f"/alerts/?state={state}").context
        assert [alert.pk for alert in context["page"].rows] == [alert.pk for alert in wanted[:25]]
        [url] = [url for one, url, _ in context["offer"].links if one.name == "ndjson"]
        assert {json.loads(line)["id"] for line in body(client.get(url)).splitlines()} == {
            one.pk for one in wanted
        }

    @pytest.mark.usefixtures("seeded")
    def test_a_rule_is_made_changed_and_disabled(self, client: Client) -> None:
        customer = member(client)
        data = {"customer": customer.pk, "name": "Cuts", "threshold_value": "0.3", "enabled": "on"}
        data |= {"email_recipients": " ann@example.com\n\nbob@example.com ", "webhook_url": "hooks.example.com/x"}
        assert "Saved the rule “Cuts”." in texts_of(client.post("/rules/new/", data, follow=True))
        rule = AlertRule.objects.get(name="Cuts")
        assert rule.email_recipients == "ann@example.com\nbob@example.com"
        assert rule.webhook_url == "https://hooks.example.com/x"
        client.post(f"/rules/{rule.pk}/", {**data, "threshold_value": "0.9"})
        client.post("/rules/change/", {"action": "disable", "row": rule.pk})
        rule.refresh_from_db()
        assert (rule.threshold_value, rule.enabled, rule.customer) == (0.9, False, customer)

    @pytest.mark.usefixtures("seeded")
    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            ({"threshold_value": "2"}, "Constraint “alertrule_threshold_range” is violated."),
            ({"email_recipients": "ann"}, "'ann' is not an e-mail address: write one on each line"),
            ({"webhook_url": "ftp://hooks.example.com/x"}, "A webhook starts with https:// or http://."),
            ({"name": "Denials"}, "Alert rule with this Customer and Name already exists."),
        ],
    )
    def test_a_wrong_rule_is_told_and_not_saved(self, client: Client, wrong: dict[str, str], words: str) -> None:
        customer = member(client)
        data = {"customer": customer.pk, "name": "Cuts", "threshold_value": "0.3"}
        answer = client.post("/rules/new/", {**data, **wrong})
        assert answer.status_code == 400
        assert words in texts_of(answer)
        assert not AlertRule.objects.filter(name="Cuts").exists()

    @pytest.mark.usefixtures("seeded")
    def test_a_test_of_a_rule_reaches_its_addresses(self, client: Client) -> None:
        rule = AlertRule.objects.filter(customer=member(client))[0]
        button = {"action": "test", "row": rule.pk, "next": "/rules/"}
        assert "has no e-mail address and no webhook yet" in texts_of(
            client.post("/rules/change/", button, follow=True)
        )
        AlertRule.objects.filter(pk=rule.pk).update(email_recipients="ann@example.com\nbob@example.com")
        words = texts_of(client.post("/rules/change/", button, follow=True))
        assert f"Sent a test of “{rule.name}” to 1 of 1 channel." in words
        assert {address for message in mail.outbox for address in message.to} == {
            "ann@example.com",
            "bob@example.com",
        }
        assert f"Test of {rule.name}" in mail.outbox[0].subject + mail.outbox[0].body


class TestReports:
    @pytest.mark.usefixtures("seeded")
    def test_an_artifact_is_downloaded_as_it_is_stored(self, client: Client) -> None:
        run = member(client).report_runs.filter(status="success")[0]
        path = default_storage.save("reports/week.csv", ContentFile(b"id\r\n1\r\n"))
        artifact = ReportArtifact.objects.create(
            report_run=run, kind="drift_events_csv", path=path, sha256="0" * 64, rows=1, bytes=7
        )
        url = f"/reports/artifacts/{artifact.pk}/"
        assert url in client.get(f"/reports/{run.pk}/").content.decode()
        answer = client.get(url)
        assert answer.getvalue() == b"id\r\n1\r\n"
        assert answer.headers["Content-Disposition"].startswith('attachment; filename="week')
        default_storage.delete(path)
        assert client.get(url).status_code == 404

    @pytest.mark.usefixtures("seeded")
    def test_a_schedule_is_made_and_changed(self, client: Client) -> None:
        customer = member(client)
        url = f"/reports/schedules/{customer.pk}/"
        client.post(url, {"enabled": "on", "recipients": "ann@example.com"})
        assert "Made each week and sent to ann@example.com." in texts_of(client.get("/reports/"))
        client.post(url, {"recipients": ""})
        assert ReportSchedule.objects.get().enabled is False
        assert client.post(url, {"recipients": "ann"}).status_code == 400

    @pytest.mark.usefixtures("seeded")
    def test_the_download_of_a_run_has_the_events_of_that_run(self, client: Client) -> None:
        run = DriftEvent.objects.order_by("pk")[500].report_run
        offer = client.get(f"/reports/{run.pk}/").context["offer"]
        [url] = [url for one, url, _ in offer.links if one.name == "ndjson"]
        found = [json.loads(line)["id"] for line in body(client.get(url)).splitlines()]
        assert found == list(run.drift_events.order_by("pk").values_list("pk", flat=True))
        assert 0 < offer.rows == len(found) < ROWS


class TestSummaries:
    """The pages of the reports of a customer's payers and of its recovery, and their files."""

    URL = "/reports/{}/?customer=1&start={:%Y-%m-%d}&end={:%Y-%m-%d}"

    @pytest.fixture
    def events(self, seeded: None) -> Any:
        """The events of the last four weeks of a customer, some of them acknowledged."""
        end = timezone.localdate()
        found = DriftEvent.objects.filter(customer=1, current_end__gt=end - 4 * WEEK, current_end__lte=end)
        known = found.filter(pk__in=[event.pk for event in found if event.pk % 3 == 0])
        known.update(acknowledged_at=F("created_at") + dt.timedelta(hours=60))
        return found

    @pytest.mark.parametrize("kind", ["payers", "recovery"])
    def test_a_page_has_the_figures_of_the_drift_of_the_period(
        self, client: Client, events: Any, kind: str
    ) -> None:
        costs: Counter[str] = Counter()
        for event in events.filter(suppressed=False, estimated_revenue_impact__lt=0):
            costs[event.payer] -= event.estimated_revenue_impact
        page = client.get(f"/reports/{kind}/?customer=1")  # the last four weeks are the default
        bars = [(bar["payer"], bar["amount"]) for bar in page.context["bars"]]
        assert bars == costs.most_common(10)
        [payer, amount] = costs.most_common(1)[0]
        assert f"{payer} {dollars(amount)}" in texts_of(page)
        longest = page.context["bars"][0]["parts"]
        assert sum(part["length"] for part in longest) == pytest.approx(100)
        assert sum(part["amount"] for part in longest) == amount

    def test_recovery_tells_what_is_acknowledged_in_words(self, client: Client, events: Any) -> None:
        counted = events.filter(suppressed=False)
        known = counted.exclude(acknowledged_at=None)
        cost = -known.filter(estimated_revenue_impact__lt=0).aggregate(sum=Sum("estimated_revenue_impact"))["sum"]
        words = texts_of(client.get("/reports/recovery/?customer=1"))
        assert f"{100 * len(known) / len(counted):.1f} % of drift events acknowledged" in words
        assert f"Acknowledged {dollars(cost)} at risk, and someone is on it" in words
        assert "Time to acknowledge 2.5 days on average" in words

    def test_only_the_days_from_the_first_to_the_last_count(self, client: Client, events: Any) -> None:
        days = sorted({event.current_end for event in events})
        for start, end in ((days[0], days[0]), (days[0], days[-1]), (days[-1] + 9 * WEEK, days[-1] + 10 * WEEK)):
            chosen = events.filter(current_end__range=(start, end), suppressed=False)
            words = texts_of(client.get(self.URL.format("payers", start, end)))
            assert f"Drift events {len(chosen)} " in words

    @pytest.mark.parametrize(
        ("days", "words"),
        [
            ("start=2026-11-20&end=2026-11-19", "The period ends before it starts."),
            ("start=2024-01-01&end=2026-11-19", "Choose a period of at most a year."),
            ("start=yesterday", "Enter a valid date."),
        ],
    )
    def test_a_wrong_period_is_told_and_nothing_is_shown(
        self, client: Client, events: Any, days: str, words: str
    ) -> None:
        page = client.get(f"/reports/payers/?customer=1&{days}")
        assert words in texts_of(page)
        assert "Drift events" not in texts_of(page)
        file = client.get(f"/reports/payers/export/?customer=1&format=xlsx&{days}")
        assert (file.status_code, file.content.decode()) == (400, f"{words}\n")

    @pytest.mark.parametrize("kind", ["payers", "recovery"])
    def test_its_files_have_what_the_page_shows(self, client: Client, events: Any, kind: str) -> None:
        page = client.get(f"/reports/{kind}/?customer=1")
        payers = {bar["payer"]: bar["amount"] for bar in page.context["bars"]}
        files = {}
        for one, url, size in page.context["offer"].links:
            answer = client.get(url)
            files[one.name] = answer.getvalue()
            assert 0.5 < len(files[one.name]) / size < 2
            assert answer["Content-Type"] == one.media_type
            assert re.search(
                rf'filename="\w+_\d{{4}}-\d\d-\d\d_\d{{4}}-\d\d-\d\d.{one.name}"', answer["Content-Disposition"]
            )
        pdf = " ".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(files["pdf"])).pages)
        assert all(payer in pdf and dollars(amount) in pdf for payer, amount in payers.items())
        book = openpyxl.load_workbook(io.BytesIO(files["xlsx"]), read_only=True)
        header, *rows = book["Payers"].values
        at_risk = {row[0]: row[header.index("At risk (USD)")] for row in rows}
        assert {payer: at_risk[payer] for payer in payers} == {name: float(cost) for name, cost in payers.items()}
        logged = ExportLog.objects.values_list("customer", "user__username", "record_count")
        assert list(logged) == [(1, "root", page.context["offer"].rows)] * 2

    def test_a_customer_has_to_be_chosen_where_there_are_several(self, client: Client, events: Any) -> None:
        page = client.get("/reports/payers/")
        assert "Choose a customer" in texts_of(page)
        assert "words" not in page.context
        assert client.get("/reports/payers/export/?format=xlsx").status_code == 404
        customer = member(client)
        assert customer.name in texts_of(client.get("/reports/payers/"))
        assert client.get("/reports/payers/export/?format=xlsx").status_code == 200

    def test_an_unknown_format_is_told(self, client: Client, events: Any) -> None:
        answer = client.get("/reports/payers/export/?customer=1&format=exe")
        assert (answer.status_code, answer.content) == (400, b"unknown format 'exe'; choose from: pdf, xlsx\n")

    def test_a_quiet_period_has_no_chart_and_no_table(self, client: Client) -> None:
        Customer.objects.create(pk=1, name="Quiet")
        page = client.get("/reports/payers/?customer=1")
        assert "No drift was found." in texts_of(page)
        assert (page.context["bars"], page.context["tables"]) == ([], [])


class TestCustomers:
    @pytest.mark.usefixtures("seeded")
    @pytest.mark.parametrize("text", ["", "cedar"])
    def test_a_download_has_the_customers_that_the_page_lists(self, client: Client, text: str) -> None:
        context = client.get("/customers/", {"q": text}).context
        [url] = [url for one, url, _ in context["offer"].links if one.name == "ndjson"]
        found = [json.loads(line) for line in body(client.get(url)).splitlines()]
        assert [row["name"] for row in found] == [
            one.name for one in Customer.objects.filter(name__icontains=text)
        ]
        assert context["offer"].rows == len(found) > 0


PAGES = ["/", "/drift/", "/alerts/", "/rules/", "/reports/", "/customers/"]
SUMMARIES = ["/reports/payers/?customer=1", "/reports/recovery/?customer=1"]
# Django's limit of a page for a revenue manager: what it costs does not grow with the rows.
MOST_QUERIES = 10


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize(
    "url", [*PAGES, "/rules/new/", "/rules/1/", "/drift/40/", "/reports/1/", "/reports/schedules/1/", *SUMMARIES]
)
@pytest.mark.parametrize("kind", ["root", "staff", "member"])
def test_a_page_takes_few_queries_and_loads_nothing_from_elsewhere(
    client: Client, url: str, kind: str, django_assert_max_num_queries: Any
) -> None:
    if kind == "staff":
        every = [f"{action}_{one}" for action in ("view", "add", "change", "export") for one in MODELS]
        client.force_login(asking.create_user("staff", *every, is_staff=True))
    if kind == "member":
        member(client)
    with django_assert_max_num_queries(MOST_QUERIES):
        page = client.get(url, headers={"Accept-Language": "de"})
    assert page.status_code == 200
    text = page.content.decode()
    assert re.findall(r'(?:src|href)="(?:https?:)?//', text) == []
    assert "<script" not in text
    assert not re.search(r"\d[.,]\d{4}", texts_of(page))  # a raw float


@pytest.mark.parametrize(
    ("url", "status", "words"), [("/nothing/", 404, "Not found"), ("/rules/new/", 403, "Not for you")]
)
def test_errors_look_like_pages(client: Client, url: str, status: int, words: str) -> None:
    client.force_login(asking.create_user("stranger"))
    page = client.get(url)
    assert page.status_code == status
    assert words in texts_of(page)
    assert "upstream/upstream.css" in page.content.decode()


def test_a_failure_looks_like_a_page(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(Dashboard, "get_context_data", fail)
    client.raise_request_exception = False
    page = client.get("/")
    assert page.status_code == 500
    assert "Something broke" in texts_of(page)
    assert "upstream/upstream.css" in page.content.decode()


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize("name", ["csv", "json", "ndjson", "xlsx", "pdf"])
@pytest.mark.parametrize("page", ["/drift/?weeks=all&state=all", "/alerts/?state=all", "/rules/", "/reports/"])
def test_an_estimate_is_near_the_size_of_the_download(client: Client, page: str, name: str) -> None:
    offer = client.get(page).context["offer"]
    [(url, size)] = [(url, size) for one, url, size in offer.links if one.name == name]
    assert 0.5 < len(body(client.get(url))) / size < 2


@pytest.mark.usefixtures("seeded")
def test_csv_download_holds_every_event_for_people(client: Client) -> None:
    text = body(client.get("/drift-events/?format=csv")).decode("utf-8-sig")
    header, *rows = csv.reader(io.StringIO(text, newline=""))
    assert header == [label_of(name, DriftEvent) for name in COLUMNS]
    causes = COLUMNS.index("potential_root_causes")
    for row in rows:
        row[causes] = json.loads(row[causes])
    assert rows == [[as_cell(name, value) for name, value in event.items()] for event in expected()]


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize("page", ["/", "/drift/?weeks=all&state=all", "/alerts/?state=all"])
@pytest.mark.parametrize("name", ["csv", "tsv"])
def test_a_link_of_a_page_gives_a_spreadsheet_no_formula(client: Client, page: str, name: str) -> None:
    formula = '=HYPERLINK("https://elsewhere.example")'
    DriftEvent.objects.update(payer=formula)
    [url] = [url for one, url, _ in client.get(page).context["offer"].links if one.name == name]
    text = body(client.get(url)).decode("utf-8-sig")
    cells = {
        cell for row in csv.reader(io.StringIO(text, newline=""), delimiter=",\t"[name == "tsv"]) for cell in row
    }
    assert f"'{formula}" in cells
    assert formula not in cells


class TestExportLog:
    @pytest.mark.usefixtures("seeded")
    def test_a_download_of_one_customer_is_in_its_log(self, client: Client) -> None:
        one, other = Customer.objects.order_by("pk")[:2]
        answer = client.get(f"/drift-events/?format=ndjson&customer_id={one.pk}")
        assert not ExportLog.objects.exists()  # it is not finished
        number = len(body(answer).splitlines())
        customer = member(client, 1)
        client.get("/rules/export/?format=csv").getvalue()
        found = ExportLog.objects.order_by("pk").values_list(
            "customer", "user__username", "export_type", "record_count"
        )
        assert list(found) == [
            (one.pk, "root", "drift_events", number),
            (other.pk, "member", "alert_rules", customer.alert_rules.count()),
        ]

    @pytest.mark.usefixtures("seeded")
    def test_a_download_of_several_customers_or_of_none_is_in_no_log(self, client: Client) -> None:
        first, second = Customer.objects.order_by("pk")
        third = Customer.objects.create(name="Third")
        client.get("/drift-events/?format=ndjson").getvalue()
        client.head(f"/drift-events/?format=ndjson&customer_id={first.pk}")
        member(client)
        second.users.add(User.objects.get(username="member"))
        client.get("/drift-events/?format=ndjson").getvalue()
        assert body(client.get(f"/drift-events/?format=ndjson&customer_id={third.pk}")) == b""
        assert not ExportLog.objects.exists()


def test_a_name_with_a_nul_is_searched_for_without_it(client: Client) -> None:
    page = client.get("/customers/?q=%00Cedar")
    assert page.status_code == 200
    assert page.context["q"] == "Cedar"


def test_the_form_to_log_in_is_in_english_as_its_page_says() -> None:
    page = texts_of(Client().get("/accounts/login/", headers={"Accept-Language": "de"}))
    assert "Username" in page
    assert "Benutzername" not in page
    wrong = Client().post("/accounts/login/", {"username": "x"}, headers={"Accept-Language": "de"})
    assert "This field is required." in texts_of(wrong)


def test_days_are_those_of_the_time_zone_that_the_foot_names(client: Client, settings: Any) -> None:
    settings.TIME_ZONE = "Asia/Tokyo"
    assert "Times are in Asia/Tokyo." in texts_of(client.get("/drift/"))
    assert day(dt.datetime(2026, 11, 27, 20, tzinfo=dt.UTC)) == "Nov 28, 2026"


@pytest.mark.usefixtures("seeded")
def test_json_download_holds_every_event(client: Client) -> None:
    assert json.loads(body(client.get("/drift-events/?format=json"))) == [as_json(event) for event in expected()]


@pytest.mark.usefixtures("seeded")
def test_ndjson_download_holds_every_event(client: Client) -> None:
    lines = body(client.get("/drift-events/?format=ndjson")).splitlines()
    assert [json.loads(line) for line in lines] == [as_json(event) for event in expected()]


@pytest.mark.parametrize("suffix", DOWNLOADS)
def test_download_of_an_empty_table_is_still_a_document(client: Client, suffix: str) -> None:
    content = body(client.get(f"/drift-events/?format={suffix}")).decode("utf-8-sig").strip().replace('"ID"', "ID")
    labels = ",".join(label_of(name, DriftEvent) for name in COLUMNS)
    assert content == {"csv": labels, "json": "[]", "ndjson": ""}[suffix]


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize(("suffix", "content_type"), DOWNLOADS.items())
def test_download_streams_as_an_attachment_of_its_type(client: Client, suffix: str, content_type: str) -> None:
    response = client.get(f"/drift-events/?format={suffix}")
    assert response.streaming
    assert response.headers["Content-Type"].split(";")[0] == content_type
    assert response.headers["Content-Disposition"] == f'attachment; filename="drift_events.{suffix}"'
    response.close()


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize("suffix", DOWNLOADS)
def test_head_answers_the_same_headers_without_a_query(client: Client, suffix: str) -> None:
    url = f"/drift-events/?format={suffix}"
    response = client.get(url)
    body(response)
    with CaptureQueriesContext(connection) as queries:
        head = client.head(url)
    assert head.headers == response.headers
    assert not [query for query in queries if "upstream_driftevent" in query["sql"]]
    assert head.getvalue() == b""


@pytest.mark.parametrize("url", ["/", "/drift-events/?format=csv"])
def test_only_reading_is_allowed(client: Client, url: str) -> None:
    assert client.post(url).status_code == 405


def test_unknown_format_is_an_error_that_lists_the_known(client: Client) -> None:
    response = client.get("/drift-events/?format=exe")
    assert response.status_code == 400
    assert b"csv, tsv, json, ndjson, xlsx" in response.content


@pytest.mark.usefixtures("seeded")
def test_download_can_be_filtered_and_ordered(client: Client) -> None:
    response = client.get("/drift-events/?format=ndjson&severe=0.5&drift_type=DENIAL_RATE&order_by=-severity,id")
    events = DriftEvent.objects.filter(severity__gte=0.5, drift_type="DENIAL_RATE").order_by("-severity", "id")
    assert [json.loads(line)["id"] for line in body(response).splitlines()] == [event.pk for event in events]
    assert 0 < len(events) < ROWS
