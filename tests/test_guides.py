"""Every block of every guide runs, every link leads somewhere, and the door stays short."""

import os
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from contextlib import redirect_stdout
from doctest import ELLIPSIS, OutputChecker
from glob import glob
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import RequestFactory

from benchmarks.__main__ import main as run_benchmarks
from tests import processes, services
from tests.serving.running import get, running
from upstream.models import DriftEvent
from upstream.streaming import databases

ROOT = Path(__file__).resolve().parent.parent
DOOR = "README.md"
DOOR_LINES = 200
GUIDES = sorted(glob("**/README.md", root_dir=ROOT, recursive=True))  # noqa: PTH207 (it leaves hidden folders out)
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
# A drawing is for people; the others are run, or compared with what the block before them printed.
DRAWING = re.compile(r"[\w ]+( --> [\w ]+)+\n")
LANGUAGES = {"", "sh", "python", "text", "nginx"}


class Block(NamedTuple):
    guide: str
    language: str
    text: str
    line: int


def text_of(guide: str) -> str:
    return (ROOT / guide).read_text(encoding="utf-8")


def blocks_of(guide: str) -> list[Block]:
    text = text_of(guide)
    found = FENCED.finditer(text)
    return [Block(guide, block[1], block[2], text.count("\n", 0, block.start(2))) for block in found]


BLOCKS = [block for guide in GUIDES for block in blocks_of(guide)]
SHELL = [line for block in BLOCKS if block.language == "sh" for line in block.text.splitlines()]
RUN: set[str] = set()


def commands(*starts: str) -> pytest.MarkDecorator:
    """Run a test for each shell line of the guides that begins so."""
    lines = [line for line in SHELL if line.startswith(starts)]
    RUN.update(lines)
    return pytest.mark.parametrize("line", lines)


@pytest.fixture
def demo_rows(db, tmp_path, monkeypatch, settings):
    monkeypatch.chdir(tmp_path)
    settings.MEDIA_ROOT = tmp_path / "media"
    monkeypatch.setattr(databases, "DATABASES", dict(databases.DATABASES))  # a guide adds one
    call_command("seed_demo", rows=300, verbosity=0)


@pytest.fixture
def run(demo_rows) -> Callable[[str], dict[str, Any]]:
    """Run the Python blocks of a guide one after the other, compare what they print, and return their names."""

    def run(guide):
        names, printed = {}, ""
        for block in blocks_of(guide):
            if block.language == "python":
                code = compile("\n" * block.line + block.text, ROOT / guide, "exec")
                with redirect_stdout(StringIO()) as output:
                    exec(code, names)
                printed = output.getvalue()
            elif block.language == "text":
                assert OutputChecker().check_output(block.text, printed, ELLIPSIS), printed
        return names

    return run


@pytest.mark.parametrize("guide", GUIDES)
def test_python_blocks_run_one_after_the_other(guide, run):
    run(guide)


def superuser():
    return User.objects.create(username="root", is_staff=True, is_superuser=True)


def asked(**parameters):
    request = RequestFactory().get("/", parameters)
    request.user = superuser()
    return request


def test_the_door_shows_exports_that_answer(run):
    names = run(DOOR)

    assert b"".join(names["download"](RequestFactory().get("/"))).startswith(b"id,Customer,")
    request = asked(format="csv", columns="id,payer", order_by="-severity", severe="0.7")
    assert names["EventExport"].as_view()(request).getvalue().startswith(b"id,payer\r\n")


def test_the_guide_to_the_engine_shows_both_ways_to_answer(run):
    names = run("upstream/streaming/README.md")

    assert b"".join(names["download"](RequestFactory().get("/"))).startswith(b"id,Customer,")
    verified = names["verified_download"](RequestFactory().get("/"))
    assert int(verified["Content-Length"]) == len(b"".join(verified)) > 0
    assert Path("media", names["saved_as"]).read_bytes().startswith(b"id,Customer,")


def test_the_guide_to_encoders_shows_whole_documents(run):
    names = run("upstream/streaming/encoders/README.md")

    assert Path("report.json").read_text().count('"payer"') == names["events"].count() > 0
    assert Path("events.ltsv").read_text().startswith("id:1\tpayer:")


def test_the_guide_to_integrations_shows_views_that_answer(run, capsys):
    names = run("upstream/integrations/README.md")

    request = asked(format="csv", columns="id,payer", order_by="-severity")
    assert names["EventExport"].as_view()(request).getvalue().startswith(b"id,payer\r\n")
    assert capsys.readouterr().out.startswith("driftevent.csv: complete, ")
    listed = names["EventViewSet"].as_view({"get": "list"}, export_permission=None)(request)
    assert listed.getvalue().startswith(b"id,payer\r\n")
    assert names["EventAdmin"](DriftEvent, names["site"]).has_export_permission(request)


def test_the_guide_to_services_shows_a_pdf(run):
    assert Path(run("upstream/services/README.md")["path"]).read_bytes().startswith(b"%PDF-")


@commands("make ")
def test_make_targets_exist(line):
    target = shlex.split(line, comments=True)
    assert subprocess.run([*target, "--dry-run"], cwd=ROOT, capture_output=True, check=False).returncode == 0


@commands("pip install ")
def test_extras_exist(line):
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    name, extras = re.fullmatch(r"(\w+)\[([\w,]+)\]", shlex.split(line)[-1]).groups()
    assert name == declared["name"]
    assert set(extras.split(",")) <= declared["optional-dependencies"].keys()


@commands("python manage.py ")
def test_commands_run(line, demo_rows, capsysbinary):
    command, *pipe = line.split("|")
    _, _, *arguments = shlex.split(command, comments=True)

    call_command(*arguments)

    assert capsysbinary.readouterr().out or Path("severe.csv.gz").exists() or any(Path("dump").iterdir())
    assert pipe in ([], [" head"])


@commands("python -m benchmarks ")
def test_benchmarks_take_their_options(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    _, _, _, *options = shlex.split(line, comments=True)

    assert run_benchmarks([*options, "--rows=12", "--rounds=1", "--cache=cache"]) == 0

    assert "csv-recipe" in capsys.readouterr().out
    assert Path("figures.json").exists()


@commands("gunicorn ", "uvicorn ", "granian ")
def test_servers_start_and_serve(line, tmp_path):
    variables = {"DATABASE_URL": f"sqlite:///{tmp_path}/demo.sqlite3"}
    assert processes.run("manage.py", "migrate", variables=variables).returncode == 0
    address = ["--bind=127.0.0.1:{port}"] if line.startswith("gunicorn") else ["--port={port}"]
    with running(["-m", *shlex.split(line), *address], **variables) as port:
        status, _, body = get(port, "/drift-events/?format=csv")
    assert status == 200
    assert body.startswith(b"id,created_at,")


@pytest.mark.parametrize("block", [block.text for block in BLOCKS if block.language == "nginx"])
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
    assert [block for block in BLOCKS if block.language not in LANGUAGES] == []
    assert [block for block in BLOCKS if not block.language and not DRAWING.fullmatch(block.text)] == []
    assert [line for line in SHELL if line not in RUN] == []
    assert sum(text_of(guide).count("```") for guide in GUIDES) == 2 * len(BLOCKS)


def prose_of(guide: str) -> str:
    """Return a guide without its code."""
    return re.sub(r"`[^`\n]*`", "", FENCED.sub("", text_of(guide)))


def links_of(guide: str) -> list[str]:
    return [link for link in LINK.findall(prose_of(guide)) if "://" not in link]


def target_of(link: str, guide: str) -> str:
    """Return the file, by its path from the top, that a link of a guide leads to."""
    path = link.partition("#")[0]
    return os.path.relpath((ROOT / guide).parent / path if path else ROOT / guide, ROOT)


def anchors_of(guide: str) -> set[str]:
    """Return what GitHub makes of the headings."""
    headings = HEADING.findall(FENCED.sub("", text_of(guide)))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("guide", GUIDES)
def test_links_lead_somewhere(guide):
    for link in links_of(guide):
        target, anchor = target_of(link, guide), link.partition("#")[2]
        assert (ROOT / target).exists(), link
        assert not anchor or anchor in anchors_of(target), link


def test_the_door_leads_to_every_guide_and_each_of_them_back():
    others = {*GUIDES} - {DOOR}
    assert {target_of(link, DOOR) for link in links_of(DOOR)} >= others
    assert all(DOOR in {target_of(link, guide) for link in links_of(guide)} for guide in others)


def test_the_door_is_short():
    assert len(text_of(DOOR).splitlines()) <= DOOR_LINES
