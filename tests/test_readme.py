"""Every block of the README runs."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from django.core.management import call_command
from django.test import RequestFactory

ROOT = Path(__file__).resolve().parent.parent
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
PYTHON = [block for language, block in BLOCKS if language == "python"]
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
