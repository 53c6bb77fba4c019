"""Who sees, changes and downloads what: each URL of the application, for each kind of user."""

import datetime as dt
from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission, User
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.urls import get_resolver, reverse
from django.utils.timezone import localdate

from tests.asking import create_user
from upstream.models import AlertEvent, AlertRule, Customer, DriftEvent, ReportArtifact, ReportRun, ReportSchedule

pytestmark = pytest.mark.django_db

LOGIN = "login"
KINDS = ("anonymous", "stranger", "member", "other", "staff", "viewer", "exporter", "editor", "root")


def fill(customer):
    """Give a customer a row of each kind."""
    day = localdate()
    period = {"period_start": day - dt.timedelta(days=6), "period_end": day}
    run = ReportRun.objects.create(customer=customer, run_type="weekly", status="success", **period)
    rule = AlertRule.objects.create(customer=customer, name="Denials", threshold_value=0.4)
    event = DriftEvent.objects.create(
        customer=customer,
        report_run=run,
        payer="Summit Mutual",
        cpt_group="Office visits",
        drift_type="DENIAL_RATE",
        baseline_value=0.172,
        current_value=0.268,
        delta_value=0.096,
        severity=0.56,
        confidence=0.9,
        baseline_start=day - dt.timedelta(days=90),
        baseline_end=day - dt.timedelta(days=7),
        current_start=day - dt.timedelta(days=6),
        current_end=day,
        estimated_revenue_impact=Decimal("-85419.20"),
    )
    AlertEvent.objects.create(customer=customer, alert_rule=rule, drift_event=event)
    return run


@pytest.fixture
def own(db):
    """The customer of "member", whose rows the URLs name; "other" is a member of another."""
    others = [Customer.objects.create(name=name) for name in ("Aspen Imaging", "Birch Dermatology")]
    customer = Customer.objects.create(name="Cedar Women's Health")
    runs = [fill(one) for one in (*others, customer)]
    path = default_storage.save("reports/drift.csv", ContentFile(b"id\r\n1\r\n"))
    ReportArtifact.objects.create(
        report_run=runs[-1], kind="drift_events_csv", path=path, sha256="0" * 64, rows=1, bytes=7
    )
    yield customer
    default_storage.delete(path)


@pytest.fixture
def visitor(own, client):
    """A function that gives a client, logged in as a kind of user."""

    def permissions(*actions):
        found = Permission.objects.filter(content_type__app_label="upstream")
        return [one for one in found if one.codename.split("_")[0] in actions]

    def visitor(kind):
        if kind == "anonymous":
            return client
        user = User.objects.create(username=kind, is_staff=kind in KINDS[4:], is_superuser=kind == "root")
        if kind in ("member", "other"):
            user.customers.add(own if kind == "member" else Customer.objects.get(name="Aspen Imaging"))
        actions = {"viewer": ("view",), "exporter": ("view", "export"), "editor": ("view", "add", "change")}
        user.user_permissions.set(permissions(*actions.get(kind, ())))
        client.force_login(user)
        return client

    return visitor


def outcomes(**known):
    """Return what each kind of user gets; `others` is for those that are not named."""
    return {kind: known.get(kind, known["others"]) for kind in KINDS}


EVERYONE = outcomes(anonymous=LOGIN, others=200)
VIEWED = outcomes(anonymous=LOGIN, stranger=404, other=404, staff=404, others=200)
EDITED = outcomes(anonymous=LOGIN, stranger=404, other=404, staff=404, viewer=403, exporter=403, others=200)
ADDED = outcomes(anonymous=LOGIN, stranger=403, staff=403, viewer=403, exporter=403, others=200)
EXPORTED = outcomes(anonymous=LOGIN, stranger=403, staff=403, viewer=403, editor=403, others=200)
SAVED = outcomes(anonymous=LOGIN, stranger=404, other=404, staff=404, viewer=403, editor=403, others=200)
CHANGED = {kind: 302 if outcome == 200 else outcome for kind, outcome in EDITED.items()}

GET = {
    "dashboard": EVERYONE,
    "customers": EVERYONE,
    "drift": EVERYONE,
    "alerts": EVERYONE,
    "rules": EVERYONE,
    "reports": EVERYONE,
    "new_rule": ADDED,
    "drift_event": VIEWED,
    "report": VIEWED,
    "artifact": VIEWED,
    "rule": EDITED,
    "schedule": EDITED,
    "drift_events": EXPORTED,
    "alert_export": EXPORTED,
    "rule_export": EXPORTED,
    "report_export": EXPORTED,
    "customer_export": EXPORTED,
    "payers": VIEWED,
    "recovery": VIEWED,
    "payers_export": SAVED,
    "recovery_export": SAVED,
}
POST = {
    ("change_drift", "acknowledge"): CHANGED,
    ("change_drift", "suppress"): CHANGED,
    ("change_drift", "restore"): CHANGED,
    ("change_alerts", "acknowledge"): CHANGED,
    ("change_alerts", "resolve"): CHANGED,
    ("change_rules", "enable"): CHANGED,
    ("change_rules", "disable"): CHANGED,
}
# Permissions of staff, and what the form of a customer's schedule answers.
SCHEDULES = {
    ("view_customer", "change_customer"): 403,
    ("view_customer", "view_reportschedule"): 403,
    ("view_customer", "change_reportschedule"): 200,
    ("view_customer", "view_reportschedule", "change_reportschedule"): 200,
    ("view_reportschedule", "change_reportschedule"): 404,
}
FORMS = {"rule": CHANGED, "schedule": CHANGED}
# Their URLs name a customer, and the format of the files.
REPORTS = {"payers", "recovery", "payers_export", "recovery_export"}
WITHOUT_LOGIN = {"login", "logout"}
ROWS = {
    "drift_event": DriftEvent,
    "report": ReportRun,
    "rule": AlertRule,
    "change_drift": DriftEvent,
    "change_alerts": AlertEvent,
    "change_rules": AlertRule,
}


def key_of(name, customer):
    if name == "schedule":
        return customer.pk
    if name == "artifact":
        return ReportArtifact.objects.get(report_run__customer=customer).pk
    return ROWS[name].objects.filter(customer=customer).first().pk


def url_of(name, customer):
    if name in REPORTS:
        return f"{reverse(name)}?customer={customer.pk}&format=xlsx"
    return reverse(
        name, args=[key_of(name, customer)] if name in (*FORMS, "drift_event", "report", "artifact") else ()
    )


def outcome_of(response):
    is_login = response.status_code == 302 and response["Location"].startswith("/accounts/login/?next=")
    if response.streaming:
        response.getvalue()
    return LOGIN if is_login else response.status_code


def cells(table):
    return [
        pytest.param(*(key if isinstance(key, tuple) else (key,)), kind, row[kind], id=f"{key}-{kind}")
        for key, row in table.items()
        for kind in KINDS
    ]


def test_every_url_of_the_application_is_in_the_matrix():
    names = {pattern.name for pattern in get_resolver("upstream.urls").url_patterns if hasattr(pattern, "name")}
    assert names == {*GET, *(name for name, _ in POST), *WITHOUT_LOGIN}


@pytest.mark.parametrize(("name", "kind", "expected"), cells(GET))
def test_pages_and_downloads(visitor, own, name, kind, expected):
    assert outcome_of(visitor(kind).get(url_of(name, own))) == expected


@pytest.mark.parametrize(("name", "action", "kind", "expected"), cells(POST))
def test_changes(visitor, own, name, action, kind, expected):
    row = ROWS[name].objects.filter(customer=own).first()
    before = ROWS[name].objects.filter(pk=row.pk).values().get()
    response = visitor(kind).post(reverse(name), {"action": action, "row": row.pk})
    assert outcome_of(response) == expected
    if expected != 302:
        assert ROWS[name].objects.filter(pk=row.pk).values().get() == before


@pytest.mark.parametrize(("name", "kind", "expected"), cells(FORMS))
def test_forms(visitor, own, name, kind, expected):
    data = {"name": "Changed", "threshold_value": "0.7", "recipients": "ann@example.com"}
    assert outcome_of(visitor(kind).post(url_of(name, own), data)) == expected
    changed = AlertRule.objects.filter(name="Changed").exists() or ReportSchedule.objects.exists()
    assert changed == (expected == 302)


@pytest.mark.parametrize("name", [name for name, row in GET.items() if row in (EVERYONE, EXPORTED)])
def test_lists_and_downloads_name_no_other_customer(visitor, own, name):
    client = visitor("member")
    others = Customer.objects.exclude(pk=own.pk)
    response = client.get(reverse(name), {"state": "all", "weeks": "all"} if name in ("drift", "alerts") else {})
    text = (
        (b"".join(response) if response.streaming else response.content)
        .decode()
        .replace("&#x27;", "'")
        .replace("&amp;", "&")
    )
    assert own.name in text
    assert [other.name for other in others if other.name in text] == []


@pytest.mark.parametrize(
    "name", ["dashboard", "drift", "alerts", "rules", "reports", "new_rule", *sorted(REPORTS)]
)
def test_another_customer_cannot_be_chosen(visitor, own, name):
    client = visitor("other")
    assert client.get(reverse(name), {"customer": own.pk}).status_code == 404


@pytest.mark.parametrize("name", ["payers", "recovery"])
@pytest.mark.parametrize("kind", ["viewer", "member", "exporter"])
def test_a_report_offers_its_file_to_those_who_may_export_alone(visitor, own, name, kind):
    page = visitor(kind).get(url_of(name, own)).content.decode()
    assert "Summit Mutual" in page
    assert (reverse(f"{name}_export") in page) == (kind != "viewer")


def test_rows_of_several_customers_are_changed_together_or_not_at_all(visitor, own):
    client = visitor("member")
    rows = [DriftEvent.objects.filter(customer=own).first(), DriftEvent.objects.exclude(customer=own).first()]
    response = client.post(reverse("change_drift"), {"action": "suppress", "row": [row.pk for row in rows]})
    assert response.status_code == 404
    assert [DriftEvent.objects.get(pk=row.pk).suppressed for row in rows] == [row.suppressed for row in rows]


def test_a_member_cannot_give_a_rule_to_another_customer(visitor, own):
    client = visitor("member")
    other = Customer.objects.exclude(pk=own.pk).first()
    data = {"customer": other.pk, "name": "Mine", "threshold_value": "0.5"}
    assert client.post(reverse("new_rule"), data).status_code == 400
    rule = AlertRule.objects.filter(customer=own).first()
    client.post(reverse("rule", args=[rule.pk]), data)
    assert AlertRule.objects.get(name="Mine").customer == own


@pytest.mark.parametrize(("codenames", "expected"), SCHEDULES.items())
def test_staff_change_schedules_of_customers_they_view_with_the_permission_for_schedules(
    client, own, codenames, expected
):
    client.force_login(create_user("scheduler", *codenames, is_staff=True))
    url = reverse("schedule", args=[own.pk])
    assert outcome_of(client.get(url)) == expected
    client.post(url, {"recipients": "ann@example.com"})
    assert ReportSchedule.objects.exists() == (expected == 200)


@pytest.mark.parametrize("sees_schedules", [True, False])
def test_only_staff_who_view_schedules_read_whether_a_report_is_made(client, own, sees_schedules):
    codenames = ["view_customer", "view_reportrun", *["view_reportschedule"] * sees_schedules]
    client.force_login(create_user("reader", *codenames, is_staff=True))
    page = client.get(reverse("reports"), {"customer": own.pk}).content.decode()
    assert ("No report is made for" in page) == sees_schedules
    assert reverse("schedule", args=[own.pk]) not in page


def test_inactive_users_are_logged_out(visitor, own):
    client = visitor("root")
    User.objects.update(is_active=False)
    assert outcome_of(client.get("/")) == LOGIN
