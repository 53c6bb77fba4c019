"""Pages of the application in a real browser, as a user sees them. A module that uses `visit` has a `site`."""

from contextlib import closing
from functools import cache
from importlib import import_module

import pytest

from tests import processes, services

PATIENCE = 120_000  # milliseconds; the machine may be busy
SCREENS = {
    "light": {"viewport": {"width": 1200, "height": 800}},
    "dark": {"viewport": {"width": 1200, "height": 800}, "color_scheme": "dark"},
    "small": {"viewport": {"width": 360, "height": 740}},
}


def seed(variables, *commands):
    """Make the database of a site by commands of manage.py."""
    for command in commands:
        result = processes.run("manage.py", *command, variables=variables)
        assert result.returncode == 0, result.stderr.decode()


def log_in(page, user):
    page.goto("/accounts/login/")
    page.get_by_label("Username").fill(user)
    page.get_by_label("Password").fill("secret")
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="Dashboard").wait_for()


def new_context(browser, **options):
    context = browser.new_context(**options)
    context.set_default_timeout(PATIENCE)
    return context


@pytest.fixture(scope="module")
def chromium():
    with services.chromium() as (browser, reason):
        if browser is None:
            pytest.skip(reason)
        yield browser


@pytest.fixture(scope="module")
def sessions(chromium, site):
    """A function that logs a user in, once, and gives the cookies of that."""

    @cache
    def session(user):
        with closing(new_context(chromium, base_url=site)) as context:
            log_in(context.new_page(), user)
            return context.storage_state()

    return session


@pytest.fixture
def visit(chromium, site, sessions):
    """A function that gives a page of the site as a user sees it, or as nobody who is logged in does."""
    contexts = []

    def visit(user, path="/", base=site, **options):
        state = sessions(user) if user else None
        contexts.append(new_context(chromium, base_url=base, storage_state=state, **options))
        page = contexts[-1].new_page()
        page.goto(path)
        return page

    yield visit
    for context in contexts:
        context.close()


def violations(page):
    """Return what axe-core finds on a page that not everyone can read."""
    axe = import_module("axe_playwright_python.sync_playwright")  # which not every installation has
    found = axe.Axe().run(page).response["violations"]
    return [(one["id"], [node["html"] for node in one["nodes"]]) for one in found]
