"""The admin's exports in a real browser: what is clicked, what is saved, and how it looks and reads."""

import csv
import io
import json
import sqlite3
from contextlib import closing

import pytest
from django.utils.timezone import localdate

from tests.browsing import new_context, seed
from tests.serving.running import COMMANDS, running

ROWS = 400
LIST = "/admin/upstream/driftevent/"
USERS = """
from django.contrib.auth.models import Permission, User
User.objects.create_superuser("root", password="secret")
for name, codenames in {
    "viewer": ["view_driftevent"],
    "exporter": ["view_driftevent", "export_driftevent"],
}.items():
    user = User.objects.create_user(name, password="secret", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
"""
COLUMNS = {
    "id": "ID",
    "created_at": "Created at",
    "customer__name": "Customer name",
    "payer": "Payer",
    "severity": "Severity",
    "estimated_revenue_impact": "Estimated revenue impact",
    "suppressed": "Suppressed",
}
EVENTS = """
    SELECT event.id, event.created_at, customer.name, event.payer, event.severity, event.estimated_revenue_impact,
        event.suppressed
    FROM upstream_driftevent AS event JOIN upstream_customer AS customer ON customer.id = event.customer_id
    WHERE {} ORDER BY event.created_at DESC, event.id DESC
"""
FORMULAS = ("=", "+", "-", "@", "\t", "\r")


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    path = tmp_path_factory.mktemp("browser") / "demo.sqlite3"
    variables = {"DATABASE_URL": f"sqlite:///{path}"}
    seed(variables, ["migrate"], ["seed_demo", "--rows", ROWS], ["shell", "-c", USERS])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE upstream_driftevent SET payer = '=1+1, \"ü\"\nx' WHERE id % 7 = 0")
    return path


@pytest.fixture(scope="module")
def site(events):
    variables = {"DATABASE_URL": f"sqlite:///{events}", "UPSTREAM_SECRET_KEY": "tests"}
    with running(COMMANDS["gunicorn"], "upstream.wsgi", **variables) as port:
        yield f"http://127.0.0.1:{port}"


def stored(events, condition="1"):
    """Return the rows of the database that a list shows, read without Django."""
    with closing(sqlite3.connect(events)) as connection:
        return connection.execute(EVENTS.format(condition)).fetchall()


def as_texts(row, *, disarmed=False):
    number, created, customer, payer, severity, impact, suppressed = row
    if disarmed and payer.startswith(FORMULAS):
        payer = f"'{payer}"
    # To the second, as spreadsheets take it for a moment; the zone of the site is UTC.
    created = created.partition(".")[0] if disarmed else f"{created}+00:00"
    # SQLite holds a decimal as a float, of which two places are the field's.
    cells = (number, created, customer, payer, severity, impact and f"{impact:.2f}", bool(suppressed))
    return ["" if cell is None else str(cell) for cell in cells]


def as_values(row):
    number, created, customer, payer, severity, impact, suppressed = row
    impact = None if impact is None else f"{impact:.2f}"
    values = (number, f"{created.replace(' ', 'T')}+00:00", customer, payer, severity, impact, bool(suppressed))
    return dict(zip(COLUMNS, values, strict=True))


def choose(page, **choices):
    """Leave only the columns of the tests chosen, and press the choices of the other groups."""
    group = page.get_by_role("group", name="Columns")
    group.get_by_role("button", name="Select none").click()
    for label in COLUMNS.values():
        group.get_by_role("checkbox", name=label, exact=True).check()
    for name, choice in choices.items():
        page.get_by_role("group", name=name).get_by_role("radio", name=choice).check()


def save(page):
    with page.expect_download() as started:
        page.get_by_role("button", name="Export").click()
    return started.value.suggested_filename, started.value.path().read_bytes()


FOUND = "payer LIKE '%ar%' OR cpt_group LIKE '%ar%' OR customer.name LIKE '%ar%'"
FILTERED = f"drift_type = 'DENIAL_RATE' AND ({FOUND})"


def filtered(page):
    """Go from the list, by its filters and its search, to the page that exports it."""
    page.get_by_role("link", name="Denial rate").click()
    page.get_by_role("textbox", name="Search").fill("ar")
    page.get_by_role("button", name="Search").click()
    page.locator(".object-tools").get_by_role("link", name="Export").click()


class TestDownloads:
    @pytest.mark.parametrize(("label", "delimiter", "suffix"), [("CSV", ",", "csv"), ("TSV", "\t", "tsv")])
    @pytest.mark.parametrize("profile", ["Spreadsheet", "Data"])
    def test_rows_of_the_list_are_saved_cell_by_cell(self, visit, events, label, delimiter, suffix, profile):
        page = visit("root", LIST)
        filtered(page)
        choose(page, Format=label, Profile=profile)
        name, content = save(page)
        header, *rows = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), delimiter=delimiter)
        is_for_people = profile == "Spreadsheet"
        assert name == f"driftevent_{localdate()}.{suffix}"
        assert content.startswith(b"\xef\xbb\xbf") == is_for_people
        assert header == list(COLUMNS.values() if is_for_people else COLUMNS)
        assert rows == [as_texts(row, disarmed=is_for_people) for row in stored(events, FILTERED)]
        assert 5 < len(rows) < ROWS

    @pytest.mark.parametrize("label", ["JSON", "NDJSON"])
    def test_values_of_the_list_are_saved_one_by_one(self, visit, events, label):
        page = visit("root", LIST)
        filtered(page)
        page.get_by_role("group", name="Format").get_by_role("radio", name=label, exact=label == "JSON").check()
        choose(page)
        name, content = save(page)
        found = json.loads(content) if label == "JSON" else [json.loads(line) for line in content.splitlines()]
        assert name == f"driftevent_{localdate()}.{label.lower()}"
        assert found == [as_values(row) for row in stored(events, FILTERED)]

    def test_selected_rows_are_saved_by_the_action(self, visit, events):
        page = visit("root", LIST)
        chosen = []
        for row in page.locator("#result_list tbody tr").all()[3:6]:
            box = row.get_by_role("checkbox")
            box.check()
            chosen.append(box.get_attribute("value"))
        page.get_by_label("Action:").select_option(label="Export selected drift events")
        page.locator(".actions button[name=index]").click()  # "Go", or as of Django 6.1 "Run"
        count = page.locator(".export-count").inner_text()
        assert count == "Selected for export: 3 drift events."
        choose(page, Format="CSV", Profile="Data")
        _, *rows = csv.reader(io.StringIO(save(page)[1].decode(), newline=""))
        assert rows == [as_texts(row) for row in stored(events, f"event.id IN ({','.join(chosen)})")]

    def test_the_page_says_how_many_rows_it_will_be(self, visit, events):
        page = visit("root", LIST)
        filtered(page)
        count = page.locator(".export-count").inner_text()
        assert count.startswith(f"To be exported: {len(stored(events, FILTERED))} drift events,")

    def test_the_page_names_the_filters_and_the_search(self, visit):
        page = visit("root", LIST)
        filtered(page)
        words = page.locator(".export-filters li").all_inner_texts()
        assert words == ["Search: ar", "Drift type: Denial rate"]

    def test_all_of_it_can_be_done_with_the_keyboard(self, visit, events):
        page = visit("root", LIST)
        page.locator(".object-tools").get_by_role("link", name="Export").focus()
        page.keyboard.press("Enter")
        page.get_by_role("radio", name="CSV").focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")  # JSON
        for _ in ("profile", "all", "none", "first column"):
            page.keyboard.press("Tab")
        page.keyboard.press("Space")  # the first column goes
        with page.expect_download() as started:
            page.keyboard.press("Enter")
        found = json.loads(started.value.path().read_bytes())
        assert len(found) == len(stored(events))
        assert "id" not in found[0]
        assert "payer" in found[0]


class TestChoosing:
    def test_all_and_none_of_the_columns_are_chosen_by_a_button(self, visit):
        page = visit("root", f"{LIST}export/")
        group = page.get_by_role("group", name="Columns")
        boxes = group.get_by_role("checkbox")
        group.get_by_role("button", name="Select none").click()
        assert not any(box.is_checked() for box in boxes.all())
        boxes.nth(1).check()
        assert [box.is_checked() for box in boxes.all()].count(True) == 1
        group.get_by_role("button", name="Select all").click()
        assert all(box.is_checked() for box in boxes.all())

    def test_without_scripts_there_are_the_boxes_alone(self, visit):
        page = visit("root", f"{LIST}export/", java_script_enabled=False)
        assert page.get_by_role("button", name="Select all").count() == 0
        page.get_by_role("group", name="Columns").get_by_role("checkbox").first.uncheck()
        assert save(page)[1].startswith(b"PK")

    def test_an_export_of_nothing_cannot_be_asked_for(self, visit):
        page = visit("root", f"{LIST}export/?q=nothing+of+the+kind")
        assert page.get_by_role("button", name="Export").is_disabled()
        assert page.get_by_text("There is nothing to export. No row matches the filters.").is_visible()


class TestPermission:
    def test_who_may_only_view_sees_no_button_and_no_page(self, visit, site):
        page = visit("viewer", LIST)
        assert page.locator("#result_list").is_visible()
        assert page.locator(".object-tools").get_by_role("link", name="Export").count() == 0
        assert page.goto(f"{site}{LIST}export/").status == 403
        assert page.get_by_role("alert").inner_text() == "You are not allowed to export this list."
        assert page.locator("#content-main code").all_inner_texts() == ["upstream.export_driftevent"]

    def test_who_may_export_gets_no_names_of_customers_that_they_may_not_view(self, visit):
        page = visit("exporter", LIST)
        page.locator(".object-tools").get_by_role("link", name="Export").click()
        boxes = page.get_by_role("group", name="Columns").get_by_role("checkbox")
        labels = [box.evaluate("box => box.labels[0].innerText.trim()") for box in boxes.all()]
        assert "Payer" in labels
        assert "Customer name" not in labels
        assert save(page)[0] == f"driftevent_{localdate()}.xlsx"

    def test_who_is_not_logged_in_is_asked_to(self, chromium, site):
        with closing(new_context(chromium)) as context:
            page = context.new_page()
            page.goto(f"{site}{LIST}export/")
            assert page.get_by_label("Password").is_visible()


CONTRAST = """element => {
    const luminance = color => {
        const parts = color.match(/[\\d.]+/g).slice(0, 3).map(part => {
            const share = part / 255;
            return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
    };
    let behind = element;
    const transparent = node => /, 0\\)$|transparent/.test(getComputedStyle(node).backgroundColor);
    while (behind.parentElement && transparent(behind)) behind = behind.parentElement;
    const [dark, light] = [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor]
        .map(luminance).sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
}"""


class TestLooks:
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_texts_can_be_read_in_light_and_dark(self, visit, scheme, tmp_path):
        page = visit("root", f"{LIST}export/", color_scheme=scheme)
        page.screenshot(path=tmp_path / f"{scheme}.png", full_page=True)
        texts = page.locator("#export-form label, #export-form .help, .export-count").all()
        assert len(texts) > 20
        # WCAG 2.2, 1.4.3; the headings are in the admin's own colours, which reach 4.5 in light only.
        assert min(text.evaluate(CONTRAST) for text in texts) >= 4.5

    def test_a_small_screen_need_not_be_scrolled_sideways(self, visit, tmp_path):
        page = visit("root", f"{LIST}export/", viewport={"width": 360, "height": 740})
        page.screenshot(path=tmp_path / "small.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360

    def test_an_error_is_read_with_its_group(self, visit):
        page = visit("root", f"{LIST}export/")
        group = page.get_by_role("group", name="Columns")
        for box in group.get_by_role("checkbox").all():
            box.uncheck()
        page.get_by_role("button", name="Export").click()
        assert page.get_by_role("alert").is_visible()
        described = page.get_by_role("group", name="Columns").get_attribute("aria-describedby")
        assert page.locator(f"#{described}").inner_text().strip() == "Choose at least one column."

    def test_nothing_is_loaded_from_elsewhere_and_nothing_fails(self, visit, site):
        def on_console(message):
            is_for_an_icon = message.location["url"].endswith("/favicon.ico")  # asked for by the browser
            if message.type == "error" and not is_for_an_icon:
                broken.append(message.text)

        page = visit("root", LIST)
        seen, broken = [], []
        page.on("request", lambda request: seen.append(request.url))
        page.on("response", lambda response: broken.append(response.url) if response.status >= 400 else None)
        page.on("console", on_console)
        page.locator(".object-tools").get_by_role("link", name="Export").click()
        page.wait_for_load_state("networkidle")
        assert [url for url in seen if not url.startswith(site)] == []
        assert broken == []
        assert any(url.endswith("upstream_integrations/export.css") for url in seen)
