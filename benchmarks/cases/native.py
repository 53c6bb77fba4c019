"""What databases do themselves: their shells, and the driver's cursor with nothing of Django.

They write a file on the disk that ours is written to, and it is synced as ours is: to_file() gives a file that
survives a power cut, and only the same work is compared.
"""

import csv
import os
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from tempfile import TemporaryDirectory

from django.db import connection

from benchmarks.output import Output
from benchmarks.programs import find_program
from benchmarks.table.models import selection

JOINS = {
    "payments": "benchmarks_payment r JOIN benchmarks_customer p ON p.id = r.customer_id",
    "flights": "benchmarks_flight r JOIN benchmarks_airline p ON p.id = r.airline_id",
}


def psql_csv(output: Output, table: str = "payments") -> None:
    _psql_copy(output, _query(table), "WITH (FORMAT csv, HEADER)")


def psql_ndjson(output: Output, table: str = "payments") -> None:
    """Write JSON in COPY's text format, as people do: whatever has a backslash in it is no JSON."""
    _psql_copy(output, f"SELECT row_to_json(r) FROM ({_query(table)}) r", "")


def raw_cursor_csv(output: Output, table: str = "payments") -> None:
    with (
        new_file(output) as path,
        closing(sqlite3.connect(connection.settings_dict["NAME"])) as database,
        path.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(selection(table)[1])
        writer.writerows(database.execute(_query(table)))


def sqlite_shell_csv(output: Output, table: str = "payments") -> None:
    command = [_program("sqlite3"), "-csv", "-header", connection.settings_dict["NAME"], _query(table)]
    with new_file(output) as path, path.open("wb") as file:
        subprocess.run(command, check=True, stdout=file)
    output.report(peak_bytes=None, cpu_seconds=_cpu_of_children())


def _query(table: str) -> str:
    """Return the SQL of what every case exports of a table: `r` has the rows, `p` the name of their parent."""
    columns = [f"p.name AS {name}" if "__" in name else f"r.{name}" for name in selection(table)[1]]
    return f"SELECT {', '.join(columns)} FROM {JOINS[table]}"


def _psql_copy(output: Output, query: str, form: str) -> None:
    """Start the clock when psql has connected, as for all that runs on Django's connection."""
    command = _psql()
    subprocess.run([*command, "--command=SELECT"], check=True, stdout=subprocess.DEVNULL, env=_environment())
    idle = _cpu_of_children()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment()
    ) as psql:
        assert psql.stdin is not None
        assert psql.stdout is not None
        print("SELECT;\n\\echo connected", file=psql.stdin, flush=True)
        while psql.stdout.readline().strip() != "connected":
            pass
        output.restart()
        with new_file(output) as path:
            psql.stdin.write(f"\\copy ({query}) TO '{path}' {form}\n")
            psql.stdin.close()
            if psql.wait():
                raise subprocess.CalledProcessError(psql.returncode, command)
    output.report(peak_bytes=None, cpu_seconds=_cpu_of_children() - 2 * idle)


def _psql() -> Sequence[str]:
    known = connection.settings_dict
    names = {"HOST": "host", "PORT": "port", "USER": "username", "NAME": "dbname"}
    address = [f"--{name}={known[key]}" for key, name in names.items() if known.get(key)]
    return [_program("psql"), "--no-psqlrc", "--quiet", "--tuples-only", "--set=ON_ERROR_STOP=1", *address]


def _environment() -> dict[str, str]:
    password = connection.settings_dict.get("PASSWORD")
    return {**os.environ, "PGCLIENTENCODING": "UTF8", **({"PGPASSWORD": password} if password else {})}


def _cpu_of_children() -> float:
    """Return the seconds of processes that ended."""
    used = getrusage(RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def new_file(output: Output) -> Iterator[Path]:
    """Give the path of a file to write; sync it, stop the clock and take the file over."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "rows"
        yield path
        with path.open("rb") as file:
            os.fsync(file.fileno())
            output.add_file(file)


def _program(name: str) -> str:
    found = find_program(name)
    assert found is not None
    return found
