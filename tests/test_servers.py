"""Downloads through real servers, read by clients that are not ours."""

import csv
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import zlib
from contextlib import closing, contextmanager
from html import unescape
from http.client import IncompleteRead
from time import sleep

import pytest
from django.conf import settings

from tests import processes
from tests.serving import databases
from tests.serving.running import COMMANDS, connect, get, running, serving
from upstream.integrations.formats import FORMATS

ROWS = 200_000
SAMPLE = 20_000
MEBIBYTE = 1024 * 1024


@pytest.fixture(scope="module")
def served_databases(tmp_path_factory):
    """The databases that the servers read."""
    with databases.databases(tmp_path_factory.mktemp("serving"), ROWS) as entries:
        yield entries


@pytest.fixture(scope="module", params=COMMANDS)
def server(request, served_databases):
    with serving(request.param, served_databases) as port:
        yield port


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def served(request, served_databases):
    """The alias of each database that the servers read."""
    if request.param not in served_databases:
        pytest.skip(settings.MISSING_DATABASES[request.param])
    return request.param


def expected(suffix, number):
    rows = [(row, f'Line {row}, "ü"') for row in range(1, number + 1)]
    if suffix == "json":
        objects = [{"id": row, "text": text} for row, text in rows]
        return json.dumps(objects, ensure_ascii=False, separators=(",", ":")).encode()
    if suffix == "ndjson":
        lines = [
            json.dumps({"id": row, "text": text}, ensure_ascii=False, separators=(",", ":")) for row, text in rows
        ]
        return "".join(line + "\n" for line in lines).encode()
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("id", "text"), *rows] if suffix == "csv" else rows)
    return text.getvalue().encode()


@pytest.mark.parametrize("spool", ["", "&spool"], ids=["live", "spooled"])
@pytest.mark.parametrize("suffix", ["csv", "bare", "json", "ndjson"])
def test_download_is_the_whole_export(server, served, suffix, spool):
    status, headers, body = get(server, f"/lines/{served}.{suffix}?rows={SAMPLE}{spool}")
    assert status == 200
    assert hashlib.sha256(body).digest() == hashlib.sha256(expected(suffix, SAMPLE)).digest()
    assert headers["Transfer-Encoding"] == (None if spool else "chunked")
    assert headers["Content-Length"] == (str(len(body)) if spool else None)


@pytest.mark.parametrize("spool", ["", "&spool"], ids=["live", "spooled"])
def test_compressed_download_is_the_whole_export(server, served, spool):
    url = f"/lines/{served}.csv?rows={SAMPLE}&compression=gzip{spool}"
    _, headers, body = get(server, url, headers={"Accept-Encoding": "gzip"})
    assert headers["Content-Encoding"] == "gzip"
    assert zlib.decompress(body, wbits=31) == expected("csv", SAMPLE)


def test_a_client_that_does_not_accept_the_compression_gets_the_rows_without_it(server):
    _, headers, body = get(server, f"/lines/sqlite.csv?rows={SAMPLE}&compression=gzip")  # it asks for "identity"
    assert "Content-Encoding" not in headers
    assert headers["Vary"] == "Accept-Encoding"
    assert body == expected("csv", SAMPLE)


@pytest.mark.parametrize("spool", ["", "&spool"], ids=["live", "spooled"])
def test_a_request_to_resume_is_refused_and_starts_nothing(server, spool):
    url = f"/lines/sqlite.csv?rows={SAMPLE}{spool}"
    status, headers, body = get(server, url, headers={"Range": "bytes=1000-"})
    assert status == 412
    assert b"cannot be resumed" in body
    assert headers["X-Robots-Tag"] == "noindex"
    assert get(server, url, headers={"Range": "bytes=0-"})[2] == expected("csv", SAMPLE)


RESUMING = {"curl": ["curl", "--silent", "--fail", "-C", "-", "-o"], "wget": ["wget", "-q", "-c", "-t", "2", "-O"]}


@pytest.mark.parametrize("spool", ["", "&spool"], ids=["live", "spooled"])
@pytest.mark.parametrize("client", RESUMING)
def test_programs_that_resume_stop_and_leave_their_part_as_it_was(server, client, spool, tmp_path):
    if not shutil.which(client):
        pytest.skip(f"{client} is not installed: apt-get install {client}")
    part = tmp_path / "lines.csv"
    part.write_bytes(b"id,text\r\nof another export" + b"y" * 5000)
    before = part.read_bytes()
    url = f"http://127.0.0.1:{server}/lines/sqlite.csv?rows={SAMPLE}{spool}"
    assert subprocess.run([*RESUMING[client], part, url], check=False).returncode != 0
    assert part.read_bytes() == before


def test_a_prefetch_is_refused_and_starts_nothing(server):
    status, headers, _ = get(server, "/failing/0", headers={"Sec-Purpose": "prefetch;prerender"})
    assert status == 503  # not 500: the source was not read
    assert headers["Cache-Control"] == "private, no-store"


def test_an_asynchronous_view_sends_a_download(server, served):
    assert get(server, f"/awaited/{served}?rows={SAMPLE}")[2] == expected("csv", SAMPLE)


def test_first_bytes_come_before_the_rest_is_made(server):
    with closing(connect(server)) as connection:
        connection.request("GET", "/gated")
        response = connection.getresponse()
        assert len(response.read(64 * 1024)) == 64 * 1024
        assert get(server, "/open")[0] == 200
        assert response.read() == b"end"


@pytest.mark.parametrize("suffix", ["csv", "json", "ndjson"])
def test_query_that_fails_before_the_first_row_is_a_500(server, served, suffix):
    status, headers, _ = get(server, f"/lines/{served}.{suffix}?breaks_at=1")
    assert status == 500
    assert "Content-Disposition" not in headers


def test_failure_before_the_first_chunk_is_a_500(server):
    assert get(server, "/failing/0")[0] == 500


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_query_that_fails_midway_breaks_the_connection(server, served, suffix):
    with pytest.raises(IncompleteRead) as caught:
        get(server, f"/lines/{served}.{suffix}?breaks_at=100000")
    assert expected(suffix, ROWS).startswith(caught.value.partial)
    assert len(caught.value.partial) > 64 * 1024


def test_failure_midway_is_never_in_the_body(server):
    with pytest.raises(IncompleteRead) as caught:
        get(server, "/failing/5")
    assert caught.value.partial == b"x" * 5 * 64 * 1024


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed: apt-get install curl")
def test_curl_reports_a_failure_midway(server, tmp_path):
    url = f"http://127.0.0.1:{server}/failing/5"
    result = subprocess.run(["curl", "--silent", "--output", tmp_path / "x", url], check=False)
    assert result.returncode == 18


@pytest.mark.parametrize("url", ["/failing/5?spool", "/lines/{}.csv?breaks_at=100000&spool"])
def test_spooled_export_that_fails_midway_is_a_500(server, served, url):
    status, headers, _ = get(server, url.format(served))
    assert status == 500
    assert "Content-Disposition" not in headers


@contextmanager
def left(server, url):
    """Read the beginning of a download, and go away."""
    with closing(connect(server)) as connection:
        connection.request("GET", url)
        response = connection.getresponse()
        assert response.read(64 * 1024)
        yield


def test_source_is_closed_when_the_client_goes(server, served):
    with left(server, f"/endless-source/{served}"):
        pass
    assert get(server, "/closed")[2] == b"True"


@pytest.mark.parametrize("alias", databases.SESSIONS)
def test_query_ends_and_its_connection_closes_when_the_client_goes(server, served_databases, alias):
    if alias not in served_databases:
        pytest.skip(settings.MISSING_DATABASES[alias])

    def is_free():
        return databases.sessions(served_databases, alias).keys() <= before.keys()

    # Under uvicorn, a GET that follows a HEAD may leave Django's own connection to the garbage collector.
    assert processes.eventually(lambda: not any(databases.sessions(served_databases, alias).values()))
    before = databases.sessions(served_databases, alias)
    with left(server, f"/long-query/{alias}"):
        assert any(databases.sessions(served_databases, alias).values())
    assert processes.eventually(is_free)


@pytest.mark.parametrize("alias", databases.SESSIONS)
def test_no_query_goes_on_when_clients_go_before_the_answer(server, served_databases, alias):
    if alias not in served_databases:
        pytest.skip(settings.MISSING_DATABASES[alias])
    for milliseconds in range(20):
        with closing(connect(server)) as connection:
            connection.request("GET", f"/long-query/{alias}")
            sleep(milliseconds / 1000)
    assert processes.eventually(lambda: not any(databases.sessions(served_databases, alias).values()))


@pytest.mark.parametrize("spool", ["", "&spool"], ids=["live", "spooled"])
def test_head_has_the_headers_and_no_body(server, served, spool):
    url = f"/lines/{served}.csv?rows=3000{spool}"
    with closing(connect(server)) as connection:
        connection.request("HEAD", url)
        head = connection.getresponse()
        assert head.read() == b""
        assert head.status == 200
        assert head.headers["Content-Disposition"] == 'attachment; filename="lines.csv"'
        # A byte of a body would be taken for the beginning of the next answer.
        connection.request("GET", url)
        assert connection.getresponse().read() == expected("csv", 3000)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peaks of memory are read from /proc")
@pytest.mark.heavy_with("mariadb")
@pytest.mark.parametrize("suffix", ["csv", pytest.param("xlsx", marks=pytest.mark.heavy)])
@pytest.mark.parametrize("kind", COMMANDS)
def test_memory_of_the_server_does_not_grow_with_the_rows(kind, suffix, served, served_databases):
    with serving(kind, served_databases) as port:
        peaks = []
        for rows in (10_000, ROWS):
            get(port, f"/lines/{served}.{suffix}?rows={rows}")
            peaks.append(int(get(port, "/peak")[2]))
    assert peaks[1] - peaks[0] < 8 * MEBIBYTE


# The demo application, as it comes


LOGGED_IN = """
from django.contrib.auth.models import User
from django.test import Client
client = Client()
client.force_login(User.objects.create_superuser("root"))
print("Cookie", client.cookies.output(header="").split(";")[0].strip())
"""


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The variables of a demo application with a database of its own, seeded, and the headers of a login."""
    path = tmp_path_factory.mktemp("demo") / "demo.sqlite3"
    variables = {"DATABASE_URL": f"sqlite:///{path}", "UPSTREAM_SECRET_KEY": "tests"}
    for command in (["migrate"], ["seed_demo", "--rows", "500"], ["shell", "-c", LOGGED_IN]):
        result = processes.run("manage.py", *command, variables=variables)
        assert result.returncode == 0, result.stderr.decode()
    name, cookie = result.stdout.decode().split()[-2:]
    return variables, {name: cookie}


DEMO_COMMANDS = {
    "runserver": (["manage.py", "runserver", "--noreload", "127.0.0.1:{port}"], ""),
    "gunicorn": (COMMANDS["gunicorn"], "upstream.wsgi"),
    "uvicorn": (COMMANDS["uvicorn"], "upstream.asgi:application"),
}


@pytest.mark.parametrize("kind", DEMO_COMMANDS)
def test_demo_application_serves_its_page_and_every_link_on_it(kind, demo):
    variables, login = demo
    with running(*DEMO_COMMANDS[kind], **variables) as port:
        status, _, page = get(port, "/drift/?weeks=all&state=all", headers=login)
        assert status == 200
        assert get(port, "/static/upstream/upstream.css")[0] == 200
        links = re.findall(r'href="(/drift-events/\?format=(\w+)[^"]*)"', page.decode())
        bodies = {suffix: get(port, unescape(url), headers=login) for url, suffix in links}
    assert {suffix: status for suffix, (status, _, _) in bodies.items()} == dict.fromkeys(FORMATS, 200)
    texts = {suffix: bodies[suffix][2].decode() for suffix in ("csv", "json", "ndjson")}
    assert len(list(csv.DictReader(io.StringIO(texts["csv"], newline="")))) == 500
    assert len(json.loads(texts["json"])) == 500
    assert [json.loads(line) for line in texts["ndjson"].splitlines()] == json.loads(texts["json"])
