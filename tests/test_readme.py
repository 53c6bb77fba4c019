"""Every block of the README runs."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import RequestFactory

from tests import processes, services
from tests.serving.running import get, running
from upstream.models import DriftEvent

ROOT = Path(__file__).resolve().parent.parent
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
PYTHON = [block for language, block in BLOCKS if language == "python"]
NGINX = [block for language, block in BLOCKS if language == "nginx"]
SHELL = [line for language, block in BLOCKS if language == "sh" for line in block.splitlines()]


@pytest.fixture
def demo_rows(db, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call_command("seed_demo", rows=300, verbosity=0)


def test_python_blocks_run_one_after_the_other(demo_rows, capsys):
    names: dict = {}
    for block in PYTHON:
        exec(compile(block, "README.md", "exec"), names)

    assert "lane:" in capsys.readouterr().out
    request = RequestFactory().get("/", {"format": "csv", "columns": "id,payer", "order_by": "-severity"})
    request.user = User.objects.create(username="root", is_staff=True, is_superuser=True)
    assert names["EventExport"].as_view()(request).getvalue().startswith(b"id,payer\r\n")
    assert capsys.readouterr().out.startswith("driftevent.csv: complete, ")
    listed = names["EventViewSet"].as_view({"get": "list"}, export_permission=None)(request)
    assert listed.getvalue().startswith(b"id,payer\r\n")
    assert names["EventAdmin"](DriftEvent, names["site"]).has_export_permission(request)
    assert b"".join(names["download"](RequestFactory().get("/"))).startswith(b"id,Customer,")
    verified = names["verified_download"](RequestFactory().get("/"))
    assert int(verified["Content-Length"]) == len(b"".join(verified)) > 0
    assert Path("report.json").read_text().count('"payer"') == names["events"].count() > 0
    assert Path(names["path"]).read_bytes().startswith(b"%PDF-")


@pytest.mark.parametrize("line", [line for line in SHELL if line.startswith("make ")])
def test_make_targets_exist(line):
    target = shlex.split(line, comments=True)
    assert subprocess.run([*target, "--dry-run"], cwd=ROOT, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("line", [line for line in SHELL if line.startswith("python ")])
def test_commands_run(line, demo_rows, capsysbinary):
    command, *pipe = line.split("|")
    _, _, *arguments = shlex.split(command, comments=True)

    call_command(*arguments)

    assert capsysbinary.readouterr().out or Path("severe.csv.gz").exists()
    assert pipe in ([], [" head"])


SERVERS = [line for line in SHELL if line.split()[0] in ("gunicorn", "uvicorn", "granian")]


@pytest.mark.parametrize("line", SERVERS, ids=lambda line: line.split()[0])
def test_servers_start_and_serve(line, tmp_path):
    variables = {"DATABASE_URL": f"sqlite:///{tmp_path}/demo.sqlite3"}
    assert processes.run("manage.py", "migrate", variables=variables).returncode == 0
    address = ["--bind=127.0.0.1:{port}"] if line.startswith("gunicorn") else ["--port={port}"]
    with running(["-m", *shlex.split(line), *address], **variables) as port:
        status, _, body = get(port, "/drift-events/?format=csv")
    assert status == 200
    assert body.startswith(b"id,created_at,")


@pytest.mark.parametrize("block", NGINX)
def test_nginx_takes_its_settings(block, tmp_path):
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    if program is None:
        assert not services.is_required()
        pytest.skip("there is no nginx; it is in the system package nginx")
    settings = tmp_path / "nginx.conf"
    settings.write_text(f"pid {tmp_path}/pid; events {{}} http {{ access_log off; server {{ {block} }} }}")
    command = [program, "-t", "-q", "-e", tmp_path / "log", "-p", tmp_path, "-c", settings]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_every_block_is_run_by_a_test():
    known = [*(line for line in SHELL if line.startswith(("make ", "python "))), *SERVERS]
    assert {language for language, _ in BLOCKS} == {"", "sh", "python", "nginx"}
    assert sorted(known) == sorted(SHELL)
