"""The application in a real browser: a morning's work, its looks, and axe-core over every page."""

import re
import sqlite3
from contextlib import closing

import pytest

from tests.browsing import SCREENS, log_in, new_context, seed, violations
from tests.serving.running import COMMANDS, running

USERS = """
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from upstream.models import Customer, ReportArtifact
User.objects.create_superuser("root", password="secret")
customer = Customer.objects.get(pk=2)
customer.users.add(User.objects.create_user("ann", password="secret"))
User.objects.create_user("stranger", password="secret")
run = customer.report_runs.filter(status="success").first()
ReportArtifact.objects.create(
    report_run=run, kind="weekly_drift_pdf", path="reports/none.pdf", sha256="0" * 64, rows=25, bytes=48_211
)
"""
PAGES = {
    "dashboard": "/",
    "drift": "/drift/?weeks=12",
    "nothing found": "/drift/?payer=nobody",
    "wrong filter": "/drift/?weeks=9",
    "event": "/drift/{event}/",
    "alerts": "/alerts/",
    "rules": "/rules/",
    "rule": "/rules/{rule}/",
    "new rule": "/rules/new/?customer=2",
    "reports": "/reports/?customer=2",
    "report": "/reports/{run}/",
    "payers": "/reports/payers/?customer=2",
    "recovery": "/reports/recovery/?customer=2",
    "no customer": "/reports/payers/",
    "wrong period": "/reports/payers/?customer=2&start=2026-11-20&end=2026-11-01",
    "schedule": "/reports/schedules/2/",
    "customers": "/customers/",
    "not found": "/drift/99999999/",
}


@pytest.fixture(scope="module")
def seeded(tmp_path_factory):
    path = tmp_path_factory.mktemp("walk") / "demo.sqlite3"
    variables = {"DATABASE_URL": f"sqlite:///{path}", "UPSTREAM_SECRET_KEY": "tests"}
    seed(variables, ["migrate"], ["seed_demo", "--rows", 2500], ["shell", "-c", USERS])
    return path, variables


@pytest.fixture(scope="module")
def site(seeded):
    with running(COMMANDS["gunicorn"], "upstream.wsgi", **seeded[1]) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def keys(seeded):
    with closing(sqlite3.connect(seeded[0])) as connection:
        [event, run] = connection.execute(
            "SELECT id, report_run_id FROM upstream_driftevent WHERE customer_id = 2 ORDER BY severity DESC, id"
        ).fetchone()
        [rule] = connection.execute("SELECT id FROM upstream_alertrule WHERE customer_id = 2").fetchone()
    return {"event": event, "run": run, "rule": rule}


# The quick part looks once at each page.
WALKS = [
    pytest.param(user, screen, marks=() if (user, screen) == ("ann", "small") else pytest.mark.heavy)
    for user in ("root", "ann")
    for screen in SCREENS
]


@pytest.mark.parametrize(("user", "screen"), WALKS)
def test_every_page_can_be_read_by_everyone(visit, keys, user, screen):
    page = visit(user, **SCREENS[screen])
    for name, path in PAGES.items():
        page.goto(path.format(**keys))
        assert (name, violations(page)) == (name, [])
        assert page.evaluate("document.documentElement.scrollWidth") <= SCREENS[screen]["viewport"]["width"], name


@pytest.mark.heavy_with("dark", "light")
@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize(
    ("user", "path"), [(None, "/accounts/login/"), ("stranger", "/"), ("stranger", "/rules/new/")]
)
def test_whoever_may_see_nothing_can_read_that(visit, user, path, screen):
    page = visit(user, path, **SCREENS[screen])
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= SCREENS[screen]["viewport"]["width"]


def test_the_menu_of_downloads_can_be_read_when_it_is_open(visit):
    page = visit("ann", **SCREENS["small"])
    page.locator(".menu summary").click()
    assert page.get_by_role("link", name="Excel").is_visible()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_morning_from_what_is_at_risk_to_a_rule_without_scripts(visit):
    page = visit("ann", java_script_enabled=False)
    page.locator(".stories a").first.click()
    title = page.get_by_role("heading", level=1).inner_text()
    page.get_by_role("button", name="Acknowledge").click()
    assert page.get_by_role("status").inner_text() == "Acknowledged 1 drift event."
    assert page.get_by_role("button", name="Acknowledge").count() == 0

    page.get_by_role("link", name="Drift", exact=True).click()
    page.get_by_label("State").select_option(label="Acknowledged")
    page.get_by_role("button", name="Filter").click()
    assert page.locator("tbody th a").all_inner_texts() == [title]
    page.get_by_role("checkbox").check()
    page.get_by_role("button", name="Suppress").click()
    assert page.get_by_role("status").inner_text().startswith("Suppressed 1 drift event.")
    assert page.get_by_role("heading", name="No drift to show").is_visible()

    page.get_by_role("link", name="Alerts", exact=True).click()
    page.get_by_role("checkbox").first.check()
    page.get_by_role("button", name="Resolve").click()
    assert page.get_by_role("status").inner_text() == "Resolved 1 alert."

    page.get_by_role("link", name="Rules", exact=True).click()
    page.get_by_role("link", name="New rule").click()
    page.get_by_label("Name").fill("Cuts of payments")
    page.get_by_label("Drift").select_option(label="Payment amount")
    page.get_by_label("Lowest severity").fill("0.35")
    page.get_by_label("E-mail addresses").fill("ann@example.com")
    page.get_by_role("button", name="Save").click()
    assert page.get_by_role("status").inner_text() == "Saved the rule “Cuts of payments”."
    row = page.get_by_role("row").filter(has_text="Cuts of payments")
    assert "severity 0.35 or more (medium)" in row.inner_text()
    assert "1 address" in row.inner_text()


def test_what_a_page_shows_is_downloaded_from_it(visit):
    page = visit("ann", "/drift/?weeks=all&severity=high")
    page.locator(".menu summary").click()
    rows = int(re.search(r"\d+", page.locator(".menu summary").inner_text())[0])
    with page.expect_download() as started:
        page.get_by_role("link", name="CSV", exact=False).first.click()
    assert started.value.suggested_filename == "drift_events.csv"
    lines = started.value.path().read_text().count("Cedar Valley")
    assert lines == rows > 0


def test_everything_can_be_reached_with_the_keyboard_and_the_focus_is_seen(visit):
    page = visit("ann")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    seen = []
    for _ in range(12):
        page.keyboard.press("Tab")
        outline = "getComputedStyle(document.activeElement)"
        assert page.evaluate(f"parseFloat({outline}.outlineWidth)") >= 2
        assert page.evaluate(f"{outline}.outlineStyle") != "none"
        seen.append(page.evaluate("document.activeElement.textContent.trim()"))
    assert {"Dashboard", "Drift", "Alerts", "Rules", "Reports", "Log out"} <= {*seen}


def test_after_logging_out_every_page_asks_for_a_login(chromium, site):
    with closing(new_context(chromium, base_url=site)) as context:
        page = context.new_page()
        log_in(page, "ann")
        page.get_by_role("button", name="Log out").click()
        page.goto("/drift/?weeks=12")
        assert page.get_by_role("heading", name="Log in").is_visible()
        page.get_by_label("Username").fill("ann")
        page.get_by_label("Password").fill("secret")
        page.get_by_role("button", name="Log in").click()
        assert page.url.endswith("/drift/?weeks=12")
