"""Downloads that fail, on every server and behind a proxy: the client is told, or was warned beforehand."""

import json
import os
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version

import pytest
from django.conf import settings
from django.utils.version import get_version_tuple

from tests import opening, processes
from tests.serving import databases, faults
from tests.serving.running import COMMANDS, get, running, serving

WAYS = {way.name: way for way in faults.WAYS}
GRACE_SECONDS = 2  # as the servers of the tests are told


@pytest.fixture(scope="module")
def served_databases(tmp_path_factory):
    with databases.databases(tmp_path_factory.mktemp("faults"), 2000) as entries:
        yield entries


@pytest.fixture(scope="module", params=COMMANDS)
def server(request, served_databases):
    with serving(request.param, served_databases) as port:
        yield port


@contextmanager
def reaching(server, way):
    with faults.reaching(server, way) as (port, reason):
        if port is None:
            pytest.skip(reason)
        yield port


@pytest.fixture(scope="module", params=WAYS)
def reached(request, server):
    """A way to the server, and the port where it begins."""
    way = WAYS[request.param]
    with reaching(server, way) as port:
        yield way, port


# One document for all ways in a quick run: how its bytes came about makes no difference to a server.
FORMATS = [
    pytest.param(suffix, marks=pytest.mark.heavy if suffix in ("parquet", "pdf") else ())
    for suffix in faults.SUFFIXES
]


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_failure_of_the_source_has_its_verdict(reached, server, suffix):
    way, port = reached
    found = list(faults.failing_sources(port, server, way, suffix))
    assert len(found) == len(faults.DELIVERIES) * len(faults.POINTS)
    assert [run for run in found if run[2] != faults.expected(way, run[0], run[1])] == []
    assert not {run[2] for run in found if run[0] != "live"} & {"short", "whole"}


@pytest.mark.parametrize("delivery", faults.DELIVERIES)
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_download_that_does_not_fail_is_whole(reached, suffix, delivery):
    way, port = reached
    url = f"/numbers.{suffix}?rows={faults.ROWS}&delivery={delivery}"
    assert faults.verdict(port, way, url, get(port, url)[2]) == "whole"


# From the first bytes to the last but those that follow the last row.
BROKEN_AT = (100, 1000, faults.ROWS)


@pytest.mark.parametrize("suffix", faults.DOCUMENTS)
def test_no_reader_opens_what_arrived_of_a_document_that_broke(server, suffix):
    url = f"/numbers.{suffix}?rows={faults.ROWS}"
    whole = get(server, url)[2]
    assert all(opening.opened(suffix, whole).values())
    for point in BROKEN_AT:
        broken = f"{url}&how=raise&at={point}&delivery=live"
        found, received = faults.download(server, WAYS["HTTP/1.1"], broken, whole)
        assert found == "broken"
        assert received
        assert set(opening.opened(suffix, received).values()) == {None}


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl")
@pytest.mark.parametrize("suffix", ["csv", "xlsx"])
def test_curl_agrees(reached, suffix, tmp_path):
    way, port = reached
    for delivery in faults.DELIVERIES:
        url = f"http://127.0.0.1:{port}/numbers.{suffix}?how=raise&at=1000&delivery={delivery}"
        command = ["curl", "--silent", "--fail", f"--http{way.version}", "--output", tmp_path / "body", url]
        code = subprocess.run(command, check=False).returncode
        assert code == {"broken": 18, "refused": 22, "short": 0}[faults.expected(way, delivery, 1000)]


WSGI = "django.core.wsgi:get_wsgi_application"
ASGI = "django.core.asgi:get_asgi_application"
GRANIAN_WSGI = ["-m", "granian", "--interface=wsgi", "--log-level=critical", "--port={port}", "{application}"]
GUNICORN_SYNC = [
    "-m",
    "gunicorn",
    "--workers=1",
    "--log-level=critical",
    "--bind=127.0.0.1:{port}",
    "{application}",
]
OTHERS = {
    "gunicorn's sync worker": (GUNICORN_SYNC, f"{WSGI}()"),
    "granian in WSGI mode": ([*GRANIAN_WSGI, "--factory"], WSGI),
    "runserver": (["-m", "django", "runserver", "--noreload", "127.0.0.1:{port}"], ""),
    "waitress": (["-m", "waitress", "--listen=127.0.0.1:{port}", "--call", "{application}"], WSGI),
    "hypercorn": (["-m", "hypercorn", "--bind=127.0.0.1:{port}", "{application}"], f"{ASGI}()"),
}
HIDING = {"runserver"}
if get_version_tuple(version("granian")) < (2, 8, 9):
    HIDING.add("granian in WSGI mode")
LIVE = {"gunicorn's sync worker"}


@pytest.mark.parametrize("name", OTHERS)
def test_only_a_server_that_is_proven_sends_live_unless_it_is_told_to(name, served_databases):
    way = WAYS["HTTP/1.1"]
    with running(*OTHERS[name], **databases.variables(served_databases)) as port:
        url = "/numbers.csv?how=raise&at=1000&delivery="
        whole = get(port, "/numbers.csv")[2]
        verdicts = {kind: faults.verdict(port, way, url + kind, whole) for kind in faults.DELIVERIES}
    assert verdicts == {
        "live": "short" if name in HIDING else "broken",
        "spooled": "refused",
        "automatic": "broken" if name in LIVE else "refused",
    }


@pytest.fixture(params=databases.SESSIONS)
def alias(request, served_databases):
    if request.param not in served_databases:
        pytest.skip(settings.MISSING_DATABASES[request.param])
    return request.param


class TestDatabaseConnectionKilled:
    @pytest.mark.parametrize("suffix", ["csv", pytest.param("xlsx", marks=pytest.mark.heavy)])
    def test_midway_breaks_a_live_download(self, reached, served_databases, alias, suffix):
        way, port = reached

        def kill():
            assert databases.kill_sessions(served_databases, alias)

        url = f"/long-lines/{alias}?delivery=live&suffix={suffix}"
        found, received = faults.download(port, way, url, meanwhile=kill)
        assert found == ("broken" if way.shows_breaks else "short")
        if suffix == "xlsx":
            assert set(opening.opened(suffix, received).values()) == {None}

    def test_refuses_a_download_that_is_being_spooled(self, reached, served_databases, alias):
        way, port = reached
        with ThreadPoolExecutor(1) as client:
            answer = client.submit(faults.verdict, port, way, f"/long-lines/{alias}?delivery=spooled")
            assert processes.eventually(lambda: any(databases.sessions(served_databases, alias).values()))
            # Again and again: the first that was seen may be one that the test before has ended.
            while not answer.done():
                databases.kill_sessions(served_databases, alias)
            assert answer.result() == "refused"


# Rows of 30 MB: more than what lies between a server and a client that waits.
LARGE = {"csv": 60_000, "xlsx": 120_000}
ENDED = [
    pytest.param("HTTP/1.1", signal.SIGKILL, "csv", id="SIGKILL"),
    pytest.param("HTTP/1.1", signal.SIGKILL, "xlsx", id="SIGKILL, a workbook", marks=pytest.mark.heavy),
    pytest.param("nginx by HTTP/1.0", signal.SIGKILL, "csv", id="SIGKILL behind nginx by HTTP/1.0"),
    pytest.param("nginx by HTTP/1.1", signal.SIGKILL, "csv", id="SIGKILL behind nginx", marks=pytest.mark.heavy),
    pytest.param("HTTP/1.1", signal.SIGTERM, "csv", id="SIGTERM", marks=pytest.mark.heavy),
    pytest.param("HTTP/1.0", signal.SIGTERM, "csv", id="SIGTERM by HTTP/1.0", marks=pytest.mark.heavy),
]


@pytest.mark.heavy_with("uvicorn")
@pytest.mark.parametrize("delivery", ["live", "spooled"])
@pytest.mark.parametrize(("name", "sent", "suffix"), ENDED)
@pytest.mark.parametrize("kind", COMMANDS)
def test_a_server_that_is_ended_breaks_its_downloads(kind, name, sent, delivery, suffix, served_databases):
    way, rows = WAYS[name], LARGE[suffix]
    url = f"/numbers.{suffix}?rows={rows}&delivery={delivery}"
    stuck = f"{url}&how=wait&at={rows - 1}" if delivery == "live" else url
    with serving(kind, served_databases) as server, reaching(server, way) as port:
        whole = get(server, url)[2]
        worker = json.loads(get(server, "/resources")[2])
        manages = sent == signal.SIGTERM and kind != "uvicorn"  # which has no process that manages others

        def end():
            os.kill(worker["parent" if manages else "pid"], sent)
            time.sleep(GRACE_SECONDS + 1 if sent == signal.SIGTERM else 0.2)

        found, received = faults.download(port, way, stuck, whole, meanwhile=end)
    shown = way.shows_breaks or delivery == "spooled"
    assert found in ({"broken"} if shown else {"broken", "short"})
    if suffix == "xlsx":
        assert set(opening.opened(suffix, received).values()) == {None}
