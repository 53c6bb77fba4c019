"""Checks of gunicorn: the version that is installed, and the settings that it finds where it starts."""

import argparse
import ast
import os
import shlex
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from django.core.checks import CheckMessage, Warning  # noqa: A004
from django.utils.version import get_version_tuple

CONF = "gunicorn.conf.py"
VARIABLE = "GUNICORN_CMD_ARGS"
DEFAULTS = {"worker_class": "sync", "threads": 1, "timeout": 30}
FIRST_WITHOUT_ERROR_PAGE = 27


def check_worker(**_: Any) -> Iterable[CheckMessage]:
    """Check that no worker is killed during a download, as far as the conf file and the environment show."""
    if not os.environ.get(VARIABLE) and not Path(CONF).exists():
        return
    if seconds := _seconds_until_killed():
        yield Warning(
            f"By {CONF} or {VARIABLE}, gunicorn's sync worker cuts downloads that take longer than {seconds} s.",
            hint="Use --worker-class gthread, which a long download does not block, or --timeout 0."
            " This check does not see gunicorn's command line.",
            id="upstream_integrations.W005",
        )


def check_version(**_: Any) -> Iterable[CheckMessage]:
    """Check that gunicorn, if it is installed, adds nothing to downloads that break off."""
    try:
        installed = version("gunicorn")
    except PackageNotFoundError:
        return
    if get_version_tuple(installed) < (FIRST_WITHOUT_ERROR_PAGE,):
        yield Warning(
            f"gunicorn {installed} appends an error page to a download that breaks off, as if it were data.",
            hint=f"Run: pip install 'gunicorn>={FIRST_WITHOUT_ERROR_PAGE}'",
            id="upstream_integrations.W006",
        )


def _seconds_until_killed() -> int:
    """Return the seconds after which a sync worker is killed; 0 if none is killed, or if it is unknown."""
    try:
        settings = {**DEFAULTS, **_settings()}
        threads, timeout = (int(str(settings[name]), 0) for name in ("threads", "timeout"))
    except (OSError, SyntaxError, ValueError, argparse.ArgumentError):
        return 0  # only gunicorn can resolve the value, or it does not start with it
    worker = str(settings["worker_class"])
    is_sync = worker == "sync" or worker.endswith("SyncWorker")
    return timeout if is_sync and threads <= 1 else 0  # with threads, gunicorn turns sync into gthread


def _settings() -> dict[str, Any]:
    """Return the settings of the conf file, overridden by those of the environment."""
    arguments = _arguments()
    named = arguments.pop("config", None)
    if named is None and not Path(CONF).exists():
        return arguments
    return {**_literals(Path((named or CONF).removeprefix("file:"))), **arguments}


def _arguments() -> dict[str, str]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-c", "--config")
    parser.add_argument("-k", "--worker-class")
    parser.add_argument("--threads")
    parser.add_argument("-t", "--timeout")
    known, _ = parser.parse_known_args(shlex.split(os.environ.get(VARIABLE, "")))
    return {name: value for name, value in vars(known).items() if value is not None}


def _literals(path: Path) -> dict[str, Any]:
    """Return the literals that a Python file assigns to names, without running it; other values are None."""
    statements = ast.parse(path.read_bytes()).body
    return {name: _literal(statement) for statement in statements for name in _bound(statement)}


def _bound(statement: ast.stmt) -> Iterator[str]:
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.alias):
            yield from DEFAULTS if node.name == "*" else [node.asname or node.name]


def _literal(statement: ast.stmt) -> Any:
    match statement:
        case ast.Assign(targets=[ast.Name()], value=value) | ast.AnnAssign(value=ast.expr() as value):
            try:
                return ast.literal_eval(value)
            except (TypeError, ValueError):
                return None
    return None
