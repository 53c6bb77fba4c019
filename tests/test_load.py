"""Many downloads at once, and clients that wait or go: what a server holds, and for how long."""

import json
import sys
from contextlib import ExitStack, closing
from time import sleep

import pytest
from django.conf import settings

from tests import processes, services
from tests.serving import databases
from tests.serving.crowds import Visitor, crowd
from tests.serving.running import COMMANDS, connect, get, serving

MEBIBYTE = 1024 * 1024
ROWS = 200_000
CLIENTS = 50
LIVE, SPOOLED = "long-lines/{}?delivery=live", "wide-lines/{}"

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what is held is read from /proc")


@pytest.fixture(scope="module")
def served_databases(tmp_path_factory):
    with databases.databases(tmp_path_factory.mktemp("load"), ROWS) as entries:
        yield entries


@pytest.fixture(scope="module", params=COMMANDS)
def server(request, served_databases):
    with serving(request.param, served_databases) as port:
        yield port


def present(alias, served_databases):
    if alias not in served_databases:
        pytest.skip(settings.MISSING_DATABASES[alias])
    return alias


def peak(port):
    return int(get(port, "/peak")[2])


def resources(port):
    return json.loads(get(port, "/resources")[2])


CROWDS = [
    *((kind, alias, 5000) for kind in COMMANDS for alias in ("sqlite", "postgresql", "mariadb")),
    *((kind, "postgresql", ROWS) for kind in COMMANDS),
    ("gunicorn", "sqlite", ROWS),
]


@pytest.mark.heavy_with("mariadb", "granian", ROWS)
@pytest.mark.parametrize(("kind", "alias", "rows"), CROWDS)
def test_fifty_downloads_at_once_need_little_memory_and_leave_none_behind(kind, alias, rows, served_databases):
    present(alias, served_databases)
    options = ["--threads=64"] if kind == "gunicorn" else []
    url, page = f"/every-line/{alias}?rows={rows}", f"/page?database={alias}"
    with serving(kind, served_databases, *options) as port:
        whole = get(port, url)[2]
        get(port, page)
        before = peak(port)
        with Visitor(port, page) as visitor:
            clients = crowd(port, url, CLIENTS)
        growth = peak(port) - before
    assert min(client.received for client in clients) > len(whole)
    assert {client.tail for client in clients} == {whole[-9:] + b"\r\n0\r\n\r\n"}
    assert growth / CLIENTS <= 6 * MEBIBYTE
    slowest = max(client.seconds for client in clients)
    assert max(visitor.seconds) < max(1, slowest / 2)
    if rows == ROWS:  # the smaller ones are over in their first turn
        assert max(client.silence for client in clients) < max(2, slowest / 4)


@pytest.mark.parametrize("kind", ["gunicorn", "granian"])
def test_limits_hold_over_all_the_processes_of_a_server(kind, served_databases):
    with services.redis() as (url, reason):
        if url is None:
            pytest.skip(reason)
        with serving(kind, served_databases, "--workers=3", SERVING_REDIS=url) as port:
            for _ in range(2):  # those who left have left their places
                assert processes.eventually(lambda: admitted(port, 12) == 3)


def admitted(port, number):
    """Begin so many downloads, and return how many of them were let in; the others are told when to come again."""
    with ExitStack() as open_ones:
        answers = []
        for _ in range(number):
            connection = open_ones.enter_context(closing(connect(port)))
            connection.request("GET", "/limited")
            answers.append(connection.getresponse())
        assert {answer.status for answer in answers} <= {200, 429}
        assert all(answer.headers["Retry-After"] == "30" for answer in answers if answer.status == 429)
        return sum(answer.status == 200 for answer in answers)


def stuck(server, url):
    """Begin a download and give the connection, of which nobody reads any more."""
    connection = connect(server)
    connection.request("GET", url)
    assert connection.getresponse().read(64 * 1024)
    return connection


@pytest.mark.heavy_with("mariadb", "uvicorn")
@pytest.mark.parametrize(
    ("alias", "path", "seconds"),
    [
        pytest.param("postgresql", LIVE, 2, id="postgresql live"),
        pytest.param("postgresql", SPOOLED, 2, id="postgresql spooled"),
        pytest.param("mariadb", LIVE, 2, id="mariadb live"),
        pytest.param("mariadb", SPOOLED, 2, id="mariadb spooled"),
        pytest.param("postgresql", LIVE, 12, id="postgresql live for long", marks=pytest.mark.heavy),
        pytest.param(
            "postgresql", f"{LIVE}&suffix=xlsx", 2, id="postgresql live as a workbook", marks=pytest.mark.heavy
        ),
    ],
)
def test_a_client_that_waits_holds_little_and_one_that_goes_nothing(
    server, served_databases, alias, path, seconds
):
    present(alias, served_databases)
    url = f"/{path.format(alias)}"
    with closing(stuck(server, url)):  # the first needs what the process keeps from then on
        pass
    assert processes.eventually(lambda: resources(server)["exports"] == 0)
    before = resources(server)
    with closing(stuck(server, url)):
        sleep(seconds)
        waiting = resources(server)
    assert waiting["rss"] - before["rss"] < 12 * MEBIBYTE  # a server's new thread alone may map 8
    assert processes.eventually(lambda: resources(server)["exports"] == 0)
    assert processes.eventually(lambda: resources(server)["files"] <= before["files"])
    # A server's pool may have begun another thread for the requests of this test.
    assert processes.eventually(lambda: resources(server)["threads"] <= before["threads"] + 1)
    assert processes.eventually(lambda: not databases.sessions(served_databases, alias))
