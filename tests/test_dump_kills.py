"""Dumps that lose processes or connections at any point: what is carried on is whole, and nothing is left over.

UPSTREAM_KILL_ROUNDS says how many points are drawn; twelve have each victim on each database. `-s` shows what was
done about each.
"""

import csv
import os
import random
import signal
import sqlite3
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
from django.conf import settings

from tests import processes
from tests.serving import databases
from upstream.dumps import Directory, verify
from upstream.dumps.parts import RESULT
from upstream.dumps.runners import is_unfinished

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are found in /proc")

ROUNDS = int(os.environ.get("UPSTREAM_KILL_ROUNDS", "4"))
ROWS, PARTS, WORKERS = 30_000, 24, 3
ALIASES = ("postgresql", "sqlite", "mariadb")
VICTIMS = ("coordinator", "worker", "connection", "all")
SECONDS = 120


@pytest.fixture(scope="module")
def entries(tmp_path_factory):
    with databases.databases(tmp_path_factory.mktemp("kills"), ROWS) as entries:
        yield entries


class Dump:
    """A dump by the command, in processes that are found by a mark in their environment."""

    def __init__(self, entries, alias, place):
        self.entries, self.alias, self.place = entries, alias, place
        self.mark = f"UPSTREAM_DUMP_MARK={place}"
        name, value = self.mark.split("=")
        self.variables = {**databases.variables(entries), name: value}
        self.target = Directory(str(place))

    def command(self, *options):
        plan = ["serving.Line", "--database", self.alias, "--parts", PARTS] if "--resume" not in options else []
        return ["-m", "django", "dump_data", *plan, "--to", self.place, "--workers", WORKERS, *options]

    def processes(self):
        found = set()
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended meanwhile, or is another user's
                if self.mark.encode() in (process / "environ").read_bytes().split(b"\0"):
                    found.add(int(process.name))
        return found

    def sessions(self):
        return {} if self.alias == "sqlite" else databases.sessions(self.entries, self.alias)

    def written(self):
        return sum(name.endswith(RESULT) for name in self.target.names())

    def strike(self, victim, coordinator, draw):
        """Kill a victim, and return whether there was one."""
        if victim == "connection" and self.alias == "sqlite":
            coordinator.send_signal(signal.SIGINT)
        elif victim == "connection":
            found = sorted(self.sessions())
            chosen = found if draw.random() < 0.3 else draw.sample(found, min(1, len(found)))
            databases.kill_sessions(self.entries, self.alias, chosen)
        else:
            mine = {coordinator.pid}
            found = {"coordinator": mine, "worker": self.processes() - mine, "all": self.processes()}[victim]
            for number in sorted(found)[:1] if victim == "worker" else found:
                with suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)

    def carry_on(self, draw):
        """Do what the command's own words say, until the dump is whole; return what it took."""
        taken = []
        while not self.place.exists():
            options = ["--resume"] if is_unfinished(self.target) else []
            taken.append(options or ["again"])
            if self.run(*options, refusal="show a snapshot that has ended").returncode:
                assert self.alias == "postgresql"
                assert options
                taken.append(draw.choice([["--overwrite"], ["--resume", "--allow-new-snapshot"]]))
                self.run(*taken[-1])
        return taken

    def run(self, *options, refusal=""):
        ended = processes.run(*self.command(*options), variables=self.variables)
        assert ended.returncode == 0 or (refusal and refusal in ended.stderr.decode()), ended.stderr.decode()
        return ended

    def ids(self, manifest):
        names = [self.place / part["name"] for part in manifest["parts"]]
        lines = [line for name in names for line in csv.reader(name.read_text(encoding="utf-8").splitlines())]
        return [int(number) for number, _text in lines[1:]]


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_dump_killed_at_any_point_is_carried_on_without_loss_duplicates_or_leftovers(entries, number, tmp_path):
    alias, victim = ALIASES[number % 3], VICTIMS[number % 4]
    if alias not in entries:
        pytest.skip(settings.MISSING_DATABASES[alias])
    draw, dump = random.Random(number), Dump(entries, alias, tmp_path / "dump")
    parts_before = draw.randrange(-1, PARTS)  # -1 is before there is anything

    try:
        with processes.start(*dump.command(), variables=dump.variables, stdout=-3, stderr=-3) as coordinator:
            processes.eventually(
                lambda: coordinator.poll() is not None or dump.written() >= max(parts_before, 0), SECONDS
            )
            time.sleep(
                draw.uniform(0, 0.03) if parts_before >= 0 else draw.uniform(0, 1.5)
            )  # the rest of the draw
            dump.strike(victim, coordinator, draw)
            coordinator.wait(SECONDS)
        assert processes.eventually(lambda: not dump.processes(), SECONDS)
        written = dump.written()
        taken = dump.carry_on(draw)
        print(number, alias, victim, f"{written} of {PARTS} parts", coordinator.returncode, *taken)

        manifest = verify(dump.place)
        assert manifest["rows"] == ROWS
        assert dump.ids(manifest) == list(range(1, ROWS + 1))
        assert [path.name for path in tmp_path.iterdir()] == ["dump"]
        assert not dump.processes()
        assert processes.eventually(lambda: not dump.sessions(), SECONDS)
        if alias == "sqlite":
            with closing(sqlite3.connect(entries["sqlite"]["NAME"], timeout=SECONDS)) as connection:
                connection.execute("BEGIN EXCLUSIVE")
    finally:
        for left in dump.processes():
            with suppress(ProcessLookupError):
                os.kill(left, signal.SIGKILL)
