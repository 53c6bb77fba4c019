"""What a newcomer's first commands say, and what they survive."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(*command, **options):
    return subprocess.run(
        [*map(str, command)], capture_output=True, text=True, check=False, **{"cwd": ROOT, **options}
    )


@pytest.fixture
def clone(tmp_path):
    """A place in which nothing was made yet."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def test_serve_before_demo_says_what_to_run_and_fails(clone):
    result = run("make", "serve", cwd=clone)
    assert result.returncode != 0
    assert "make demo" in result.stderr
    assert {path.name for path in clone.iterdir()} == {"Makefile", "pyproject.toml"}


def test_the_port_is_that_of_the_server_and_of_the_address_on_the_screen(clone):
    (clone / ".demo/exports").mkdir(parents=True)
    printed = run("make", "--dry-run", "serve", "PORT=9321", cwd=clone).stdout
    assert "http://127.0.0.1:9321/" in printed
    assert "--bind 127.0.0.1:9321" in printed


def test_a_long_command_that_succeeds_is_one_line():
    result = run(".ci/quietly", "Installing", "sh", "-c", "echo noise; echo more >&2")
    assert (result.returncode, result.stdout, result.stderr) == (0, "Installing ...\n", "")


def test_a_long_command_that_fails_once_is_tried_again(tmp_path):
    result = run(".ci/quietly", "Installing", "sh", "-c", f"mkdir {tmp_path}/tried 2>/dev/null && exit 1; exit 0")
    assert (result.returncode, result.stderr) == (0, "")


def test_a_long_command_that_fails_again_shows_all_it_printed_and_its_code():
    result = run(".ci/quietly", "Installing", "sh", "-c", "echo first; echo last >&2; exit 3")
    assert (result.returncode, result.stderr) == (3, "first\nlast\n")


def test_a_group_is_read_with_those_that_it_includes_by_any_pip():
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    printed = run(sys.executable, ".ci/group", "dev").stdout.splitlines()
    assert printed == [*groups["test"], *groups["bench"], *groups["lint"]]
