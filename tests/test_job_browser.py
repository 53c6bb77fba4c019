"""My exports in a real browser: asked for, watched, cancelled and fetched, and how the pages look and read."""

import re
import urllib.request
from uuid import uuid4

import pytest
from playwright.sync_api import expect

from tests import processes
from tests.browsing import PATIENCE, SCREENS, seed, violations
from tests.serving.running import COMMANDS, running

ROWS = 8000
STEP = 2500  # rows; more than a batch has, by which the progress grows
SEED = f"""
from django.contrib.auth.models import User
from upstream.models import Customer
for name in ("ann", "bob", "eve"):
    User.objects.create_superuser(name, password="secret")
numbers = range(1, {ROWS} + 1)
Customer.objects.bulk_create(Customer(pk=number, name=f"Customer {{number}}, ü") for number in numbers)
"""


class Gate:
    """How far an export comes."""

    def __init__(self, path):
        self.path = path
        self.to(0)

    def to(self, row):
        self.path.with_suffix(".new").write_text(str(row))
        self.path.with_suffix(".new").replace(self.path)

    def open(self):
        self.to(ROWS)

    def url(self, name):
        return f"/gated/?format={name}&gate={self.path.name}"


@pytest.fixture(scope="module")
def seeded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    variables = {
        "DATABASE_URL": f"sqlite:///{folder / 'site.sqlite3'}",
        "DJANGO_SETTINGS_MODULE": "tests.background.pages",
        "EXPORTS_DIRECTORY": folder / "files",
        "EXPORTS_GATES": folder,
    }
    seed(variables, ["migrate"], ["shell", "-c", SEED])
    return variables


@pytest.fixture(scope="module")
def site(seeded):
    with running(COMMANDS["gunicorn"], "upstream.wsgi", **seeded) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def gate(seeded):
    """A gate of its own for each test; it stays open after it, so that the next one finds an idle worker."""
    gate = Gate(seeded["EXPORTS_GATES"] / f"gate-{uuid4().hex}")
    yield gate
    gate.open()


def sees(locator, text):
    expect(locator).to_contain_text(text, timeout=PATIENCE)


WRITTEN = "Number(document.querySelector('[data-part=rows]').textContent.split(' ')[0].replace(',', ''))"


def progress(page):
    """Return the rows that a page says are written, and the share that its bar shows."""
    return page.evaluate(f"[{WRITTEN}, document.querySelector('progress').value]")


def fetched(page, path, **headers):
    """Return status, headers and body of what the user of a page gets at a path."""
    cookies = "; ".join(f"{one['name']}={one['value']}" for one in page.context.cookies())
    given = {"Cookie": cookies, **{name.replace("_", "-"): value for name, value in headers.items()}}
    with urllib.request.urlopen(urllib.request.Request(path, headers=given)) as answer:
        return answer.status, answer.headers, answer.read()


def test_an_export_is_watched_until_it_is_done_and_its_file_is_that_of_a_download(visit, site, gate):
    page = visit("ann", gate.url("csv"))
    where = page.url
    assert re.search(r"/exports/[0-9a-f-]{36}/$", where)
    shown = page.locator("[data-live]")
    sees(shown, "Running")
    assert page.get_by_role("progressbar", name="Progress of gated.csv").is_visible()
    gate.to(200)  # the first batch is small
    sees(shown, "of 8,000 rows")
    before = progress(page)
    for step in (1, 2, 3):
        gate.to(step * STEP)
        page.wait_for_function(f"{WRITTEN} > {before[0]}")
        now = progress(page)
        assert now[0] <= step * STEP
        assert now[1] >= before[1]
        before = now
    assert before[1] > 30
    page.goto(gate.url("csv"))  # a second click
    assert page.url == where
    gate.open()
    sees(shown, "Done")
    expect(page.locator("[data-said]")).to_have_text("gated.csv: Done")
    with page.expect_download() as started:
        page.get_by_role("link", name="Download gated.csv").click()
    content = started.value.path().read_bytes()
    assert started.value.suggested_filename == "gated.csv"
    assert content == fetched(page, f"{site}{gate.url('csv')}&export_background=0")[2]
    assert content.count(b"\n") == ROWS + 1

    status, headers, rest = fetched(page, started.value.url, Range="bytes=1000-")
    assert (status, content[:1000] + rest) == (206, content)
    assert headers["Content-Range"] == f"bytes 1000-{len(content) - 1}/{len(content)}"


def test_an_export_is_cancelled_and_tried_again(visit, gate):
    page = visit("bob", gate.url("tsv"))
    shown = page.locator("[data-live]")
    sees(shown, "Running")
    page.get_by_role("button", name="Cancel gated.tsv").click()
    sees(page.locator("main"), "Cancelled gated.tsv.")
    assert page.get_by_role("progressbar").count() == 0
    gate.open()
    page.get_by_role("button", name="Try gated.tsv again").click()
    sees(shown, "Done")


def test_the_list_follows_each_of_its_exports_and_keeps_the_focus(visit, gate):
    page = visit("bob", gate.url("json"))
    page.goto(gate.url("ndjson"))
    page.goto("/exports/")
    first, second = page.locator("[data-job]").nth(1), page.locator("[data-job]").nth(0)
    sees(first, "Running")
    sees(second, "Waiting")
    page.get_by_role("button", name="Cancel gated.json", exact=True).focus()
    gate.to(STEP)
    sees(first, "of 8,000 rows")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Cancel gated.json"
    gate.open()
    sees(first, "Done")
    sees(second, "Done")
    assert page.get_by_role("button", name="Cancel").count() == 0


def test_without_scripts_a_link_shows_how_far_it_is(visit, gate):
    page = visit("eve", gate.url("csv"), java_script_enabled=False)
    gate.to(STEP)

    def has_come():
        page.get_by_role("link", name="Show how far it is now").click()
        return "of 8,000 rows" in page.locator("main").inner_text()

    assert processes.eventually(has_come, 120)
    page.get_by_role("button", name="Cancel gated.csv").click()
    assert "Cancelled gated.csv." in page.locator("main").inner_text()


def test_a_menu_of_the_application_leads_a_large_export_to_its_page(visit, gate):
    page = visit("eve", "/customers/")
    page.locator(".menu summary").click()
    page.get_by_role("link", name="Excel").click()
    page.get_by_role("heading", name="customers.xlsx").wait_for()
    sees(page.locator("[data-live]"), "Done")
    page.get_by_role("link", name="My exports").first.click()
    page.get_by_role("heading", name="My exports").wait_for()


@pytest.mark.heavy_with("dark", "light")
@pytest.mark.parametrize("screen", SCREENS)
def test_the_pages_can_be_read_by_everyone_while_exports_wait_run_and_have_ended(visit, gate, screen, tmp_path):
    page = visit("ann", gate.url("csv"), **SCREENS[screen])
    waiting = page.goto(gate.url("json")).url
    for path in ("/exports/", waiting):
        page.goto(path)
        page.screenshot(path=tmp_path / "page.png", full_page=True)
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= SCREENS[screen]["viewport"]["width"]


@pytest.mark.heavy_with("dark", "light")
@pytest.mark.parametrize("screen", SCREENS)
def test_a_project_has_pages_of_its_own_from_right_to_left(visit, seeded, site, gate, screen):
    visit("ann", gate.url("xlsx"), **SCREENS[screen])
    with running(COMMANDS["gunicorn"], "upstream.wsgi", **seeded, EXPORTS_LANGUAGE="ar") as port:
        other = visit("ann", "/exports/", f"http://127.0.0.1:{port}", locale="ar", **SCREENS[screen])
        assert other.locator("html").get_attribute("dir") == "rtl"
        assert other.locator("[data-job]").count() > 0
        assert violations(other) == []
        assert other.evaluate("document.documentElement.scrollWidth") <= SCREENS[screen]["viewport"]["width"]
        name, badge = (
            other.locator("h2 a").first.bounding_box(),
            other.locator(".exports-actions").first.bounding_box(),
        )
        if screen != "small":
            assert badge["x"] < name["x"]


def test_nothing_is_inline_and_nothing_fails(visit, site, gate):
    page = visit("ann", "/exports/")
    seen, broken = [], []
    page.on("request", lambda request: seen.append(request.url))
    page.on("response", lambda response: broken.append(response.url) if response.status >= 400 else None)
    page.on("console", lambda message: broken.append(message.text) if message.type == "error" else None)
    with page.expect_request(lambda request: "live=1" in request.url):
        page.goto(gate.url("csv"))
    sees(page.locator("[data-live]"), "Running")
    assert [url for url in seen if not url.startswith(site)] == []
    assert broken == []
    assert page.locator("main script:not([src]), main [style], main [onclick]").count() == 0
