"""The command `export_data`, run as people run it: exit codes, signals, pipes, terminals."""

import csv
import errno
import gzip
import io
import json
import os
import pty
import resource
import shutil
import signal
import sqlite3
import subprocess
import termios
import threading
from contextlib import closing
from pathlib import Path

import pytest
import zstandard
from django.core.management import CommandError, call_command
from django.db import connections

from tests import processes
from tests.fieldtypes.models import Parent, Secretive
from tests.oracle import sheets_of
from tests.orders.models import Buyer, Listing
from tests.test_files import names, skip_without_unnamed_files
from upstream.integrations.management.commands import export_data
from upstream.integrations.stored_models import stored_models
from upstream.models import DriftType

EVENTS = 1000
MODEL = "upstream.DriftEvent"
FIELDS = "id,payer,severity"
MANAGE = processes.ROOT / "manage.py"


@pytest.fixture(scope="module")
def database_file(tmp_path_factory):
    """A database with the demo rows, as the commands make it."""
    path = tmp_path_factory.mktemp("export") / "demo.sqlite3"
    for command in (["migrate"], ["seed_demo", "--rows", EVENTS]):
        result = processes.run(MANAGE, *command, variables={"DATABASE_URL": f"sqlite:///{path}"})
        assert result.returncode == 0, result.stderr.decode()
    return path


@pytest.fixture(scope="module")
def large_database_file(database_file, tmp_path_factory):
    """The same with 60 times the events: an export of it takes a while."""
    path = shutil.copy(database_file, tmp_path_factory.mktemp("large") / "demo.sqlite3")
    with closing(sqlite3.connect(path)) as connection:
        columns = [name for _, name, *_ in connection.execute("PRAGMA table_info(upstream_driftevent)")][1:]
        connection.execute(
            f"INSERT INTO upstream_driftevent ({','.join(columns)}) "
            f"WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 60) "
            f"SELECT {','.join(columns)} FROM upstream_driftevent, n"
        )
        connection.commit()
    return path


@pytest.fixture
def events(database_file):
    """All events in the order of their keys, read without Django."""
    with closing(sqlite3.connect(database_file)) as connection:
        return list(connection.execute(f"SELECT {FIELDS} FROM upstream_driftevent ORDER BY id"))


@pytest.fixture
def export(database_file):
    def export(*arguments, model=MODEL, **options):
        variables = {"DATABASE_URL": f"sqlite:///{database_file}"}
        return processes.run(MANAGE, "export_data", model, *arguments, variables=variables, **options)

    return export


@pytest.fixture
def started(large_database_file):
    """Start an export that takes a while."""
    running = []

    def start(*arguments, **options):
        variables = {"DATABASE_URL": f"sqlite:///{large_database_file}"}
        running.append(processes.start(MANAGE, "export_data", MODEL, *arguments, variables=variables, **options))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()


def exported(result):
    assert result.returncode == 0, result.stderr.decode()
    assert result.stderr == b""
    return result.stdout


def rows(data, **options):
    return [tuple(row) for row in csv.reader(io.StringIO(data.decode(), newline=""), **options)]


def texts(events):
    return [tuple(map(str, event)) for event in events]


def refused(result):
    """Return the message of a run that was refused; a traceback is none."""
    message = result.stderr.decode()
    assert result.returncode == 1
    assert "Traceback" not in message
    assert result.stdout == b""
    return message


# What is exported, and where to


def test_csv_of_all_fields_goes_to_standard_output(export, events, database_file):
    header, *found = rows(exported(export("--order-by=id")))
    with closing(sqlite3.connect(database_file)) as connection:
        assert list(header) == [
            name for _, name, *_ in connection.execute("PRAGMA table_info(upstream_driftevent)")
        ]
    payer = header.index("payer")
    assert [(row[0], row[payer]) for row in found] == [(str(key), payer) for key, payer, _ in events]


FORMATS = {
    "x.csv": rows,
    "x.tsv": lambda data: rows(data, delimiter="\t"),
    "x.json": lambda data: [
        tuple(json.loads(data)[0]),
        *(tuple(map(str, row.values())) for row in json.loads(data)),
    ],
    "x.ndjson": lambda data: FORMATS["x.json"](b"[" + b",".join(data.splitlines()) + b"]"),
    "x.jsonl": lambda data: FORMATS["x.ndjson"](data.strip()),
    "x.csv.gz": lambda data: rows(gzip.decompress(data)),
    "x.xlsx": lambda data: [tuple(row) for row in sheets_of(data)[0]],
    "x.ndjson.zst": lambda data: FORMATS["x.ndjson"](zstandard.ZstdDecompressor().stream_reader(data).read()),
}


@pytest.mark.parametrize("name", FORMATS)
def test_name_of_the_file_tells_its_format_and_compression(export, events, name, tmp_path):
    assert exported(export("--columns", FIELDS, "--order-by=id", "-o", tmp_path / name)) == b""
    assert FORMATS[name]((tmp_path / name).read_bytes()) == [tuple(FIELDS.split(",")), *texts(events)]
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("name", ["csv", "tsv", "json", "ndjson", "xlsx"])
def test_format_can_be_told(export, events, name, tmp_path):
    exported(export("--columns", FIELDS, "--order-by=id", "--format", name, "--output", tmp_path / "x.dat"))
    data = (tmp_path / "x.dat").read_bytes()
    assert FORMATS[f"x.{name}"](data) == [tuple(FIELDS.split(",")), *texts(events)]


def test_existing_file_is_replaced(export, tmp_path):
    (tmp_path / "x.csv").write_text("old")
    exported(export("--limit=1", "--columns=id", "-o", tmp_path / "x.csv"))
    assert (tmp_path / "x.csv").read_bytes().startswith(b"id\r\n")


def test_columns_follow_relations_and_may_be_repeated(export):
    header, *found = rows(
        exported(export("--columns", "id, customer__name", "--columns", "get_drift_type_display"))
    )
    assert header == ("id", "customer__name", "get_drift_type_display")
    assert len(found) == EVENTS
    assert all(map(all, found))


def test_filters_and_exclusions_are_joined(export, events):
    result = export(
        "--filter=severity__gte=0.5", "--filter=id__lte=500", "--exclude=payer=Aetna", "--columns", FIELDS
    )
    expected = {event for event in events if event[2] >= 0.5 and event[0] <= 500 and event[1] != "Aetna"}
    assert set(rows(exported(result))[1:]) == set(texts(expected))
    assert 0 < len(expected) < 500


def test_order_and_limit_are_kept(export, events):
    result = export("--order-by=-severity,id", "--limit=10", "--columns", FIELDS, "--chunk-size=3")
    expected = sorted(events, key=lambda event: (-event[2], event[0]))[:10]
    assert rows(exported(result))[1:] == texts(expected)


@pytest.mark.parametrize(
    ("header", "line"),
    [("names", "id,customer__name,payer"), ("labels", '"ID",Customer name,Payer'), ("none", None)],
)
def test_header_is_names_or_labels_or_none(export, header, line):
    first, *_ = exported(export("--columns=id,customer__name,payer", f"--header={header}")).decode().splitlines()
    assert first == line or (line is None and first[0].isdecimal())


def test_labels_are_those_of_all_fields_and_keys_of_json(export):
    [row] = json.loads(exported(export("--header=labels", "--limit=1", "--format=json")))
    assert list(row)[:4] == ["ID", "Customer id", "Report run id", "Payer"]


def test_columns_may_have_headers_of_their_own(export):
    columns = 'id=Number,"customer__name=Customer, or client",payer'
    for header, last in (("names", "payer"), ("labels", "Payer")):
        names, *_ = rows(exported(export("--columns", columns, f"--header={header}", "--limit=1")))
        assert names == ("Number", "Customer, or client", last)


def test_a_filter_takes_several_values_and_commas_within_them(export, events):
    names = sorted({payer for _, payer, _ in events})
    payers = [next(name for name in names if "," in name), next(name for name in names if "," not in name)]
    found = rows(exported(export("--columns=payer", f'--filter=payer__in="{payers[0]}",{payers[1]}')))
    assert {payer for (payer,) in found[1:]} == set(payers)
    between = rows(exported(export("--columns=id", "--filter=id__range=5,9", "--order-by=id")))
    assert [int(key) for (key,) in between[1:]] == [5, 6, 7, 8, 9]


def test_compression_can_be_told(export):
    packed = exported(export("--columns=id", "--order-by=id", "--limit=1", "--compression=gzip"))
    assert gzip.decompress(packed) == b"id\r\n1\r\n"


def test_the_profile_for_people_has_labels_unless_names_are_asked_for(export):
    options = ["--columns=drift_type,id=No.", "--profile=excel", "--limit=1", "--order-by=id"]
    header, [kind, _] = rows(exported(export(*options)).decode("utf-8-sig").encode())
    assert header == ("Drift type", "No.")
    assert kind in DriftType.labels
    names, row = rows(exported(export(*options, "--header=names")).decode("utf-8-sig").encode())
    assert names == ("drift_type", "No.")
    assert row[0] == kind


def test_profile_excel_begins_with_a_byte_order_mark(export):
    data = exported(export("--columns=id", "--limit=1", "--profile=excel"))
    assert data.startswith('\ufeff"ID"\r\n'.encode())


def test_database_can_be_named(export):
    assert len(rows(exported(export("--database=default", "--columns=id")))) == EVENTS + 1


def test_explain_prints_the_plan_and_exports_nothing(export, tmp_path):
    printed = exported(export("--explain", "--columns=id", "-o", tmp_path / "x.csv")).decode()
    for name in ("lane:", "encoder:", "memory:", "consistency:", "sql:"):
        assert name in printed
    assert "upstream_driftevent" in printed
    assert names(tmp_path) == []


def test_windows_and_a_timeout_can_be_asked_for(export):
    printed = exported(export("--explain", "--columns=id,payer", "--windows", "--timeout=5")).decode()
    assert "consistency: window" in printed
    assert exported(export("--columns=id,payer", "--windows", "--timeout=60")) == exported(
        export("--columns=id,payer", "--order-by=id")
    )


def test_empty_selection_is_the_header_row(export):
    assert exported(export("--filter=id=0", "--columns=id,payer")) == b"id,payer\r\n"


# What is refused


@pytest.fixture
def refusal(db):
    """Return the message of the error of a call that is refused before it exports, without a process for it."""

    def refusal(*arguments, model=MODEL):
        with pytest.raises(CommandError) as error:
            call_command("export_data", *([model] if model else []), *arguments)
        return str(error.value)

    return refusal


def test_what_is_refused_is_a_message_and_an_exit_code(export):
    assert "'severity'" in refused(export("--columns=severty"))
    result = export("--limit=0")
    assert result.returncode == 2
    assert b"usage:" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--columns=severty"], ["'severty'", "'severity'"]),
        (["--columns=customer__nam"], ["'nam'", "'name'"]),
        (["--filter=severty__gte=1"], ["'severty'", "'severity'"]),
        (["--exclude=payr=x"], ["'payr'", "'payer'"]),
        (["--order-by=-severty"], ["'severty'", "'severity'"]),
        (["--filter=severity"], ["NAME=VALUE"]),
        (["--filter=severity__gte=high"], ["severity__gte=high"]),
        (["--filter=severity__unheard=1"], ["unheard"]),
        (["--order-by=alert_events__status"], ["alert_events__status"]),
        (["-o", "x.exe"], ["x.exe", "--format"]),
        (["-o", "x.gz"], ["x", "--format"]),
        (["--manager=all"], ["'all'", "objects"]),
        (['--columns="id'], ["--columns", "quotes"]),
        (["--columns==Id"], ["a column must be a name"]),
        (['--filter=payer__in="a'], ["quotes"]),
        (["--format=json", "--header=none"], ["--header none"]),
        (["--format=ndjson", "--profile=excel"], ["--profile"]),
        (["-o", "x.xlsx.gz"], [".xlsx", "compressed inside"]),
        (["--format=pdf", "--compression=zstd"], [".pdf", "compressed inside"]),
        (["-o", "missing/x.csv"], ["missing/x.csv", os.strerror(errno.ENOENT)]),
        (["-o", ".", "--format=csv"], ["directory"]),
    ],
    ids=" ".join,
)
def test_refusal_says_what_to_do(refusal, arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = refusal(*arguments)
    assert [word for word in words if word not in message] == []
    assert names(tmp_path) == []


@pytest.mark.parametrize("options", [["--format=xlsx"], ["--compression=gzip"]])
def test_bytes_do_not_go_to_a_stream_of_text(db, options):
    output = io.StringIO()
    with pytest.raises(CommandError, match="name a file with -o"):
        call_command("export_data", MODEL, "--columns=id", *options, stdout=output)
    assert output.getvalue() == ""


@pytest.mark.parametrize("model", ["upstream.DriftEvnt", "upstream.Nothing", "DriftEvent", "a.b.c"])
def test_unknown_model_is_refused_with_those_there_are(refusal, model):
    assert "upstream.DriftEvent" in refusal(model=model)


@pytest.mark.parametrize(
    ("model", "arguments"),
    [
        ("auth.User", ["--filter=password__startswith=pbkdf2"]),
        ("auth.User", ["--exclude=password__startswith=pbkdf2"]),
        ("auth.User", ["--order-by=password"]),
        ("auth.Group", ["--filter=user__password__startswith=pbkdf2"]),
        ("auth.Permission", ["--filter=group__user__password__contains=a"]),
        ("auth.Permission", ["--order-by=-group__user__password"]),
    ],
)
def test_nothing_is_found_out_about_passwords(refusal, model, arguments):
    assert "password" in refusal(*arguments, model=model)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--limit=0"],
        ["--chunk-size=x"],
        ["--timeout=0"],
        ["--timeout=soon"],
        ["--database=other"],
        ["--format=xml"],
        ["--header=all"],
        [],
        ["--all=there"],
    ],
)
def test_wrong_arguments_are_refused_by_the_parser(refusal, arguments):
    assert refusal(*arguments, model=MODEL if arguments else None).startswith("Error: ")


# How a run may end


def has_written(process, size=500_000):
    counts = dict(line.split(": ") for line in Path(f"/proc/{process.pid}/io").read_text().splitlines())
    return int(counts["wchar"]) > size


linux = pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="/proc tells how much was written")


@linux
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("name", ["x.csv", "x.json.gz", "x.xlsx"])
def test_signal_ends_the_run_and_leaves_no_file(started, number, code, name, tmp_path):
    process = started("-o", tmp_path / name, stderr=subprocess.PIPE)
    assert processes.eventually(lambda: has_written(process, 100_000))
    process.send_signal(number)
    _, message = process.communicate(timeout=20)
    assert process.returncode == code
    assert message == b""
    assert names(tmp_path) == []


@linux
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_keeps_the_old_file(started, number, code, tmp_path):
    (tmp_path / "x.csv").write_text("old")
    process = started("-o", tmp_path / "x.csv", stderr=subprocess.PIPE)
    assert processes.eventually(lambda: has_written(process))
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == code
    assert (tmp_path / "x.csv").read_text() == "old"
    assert names(tmp_path) == ["x.csv"]


@linux
@pytest.mark.parametrize("name", ["x.csv", "x.xlsx"])
def test_a_killed_run_leaves_no_file(started, name, tmp_path):
    skip_without_unnamed_files(tmp_path)
    process = started("-o", tmp_path / name, stderr=subprocess.PIPE)
    assert processes.eventually(lambda: has_written(process, 100_000))
    process.kill()
    _, message = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGKILL
    assert message == b""
    assert names(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_a_run_that_waits_for_its_reader(started, number):
    process = started(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.read(10) == b"id,custome"
    process.send_signal(number)
    _, message = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert message == b""


@pytest.mark.parametrize("arguments", [[], ["--limit=1"]], ids=["large", "small"])
def test_closed_pipe_ends_the_run_quietly(started, arguments):
    process = started(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if not arguments:
        process.stdout.read(10)
    process.stdout.close()
    message = process.stderr.read()
    process.stderr.close()
    assert process.wait(20) == 141
    assert message == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("arguments", [[], ["--limit=1"]], ids=["large", "small"])
def test_full_disk_is_an_error_that_says_so(export, arguments):
    message = refused(export(*arguments, "-o", "/dev/full", "--format=csv"))
    assert os.strerror(errno.ENOSPC) in message
    assert "/dev/full" in message


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("arguments", [[], ["--limit=1"]], ids=["large", "small"])
def test_full_disk_under_standard_output_is_an_error_that_says_so(export, arguments):
    with Path("/dev/full").open("wb") as full:
        result = export(*arguments, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    message = result.stderr.decode()
    assert result.returncode == 1
    assert os.strerror(errno.ENOSPC) in message
    assert "Traceback" not in message
    assert "Exception ignored" not in message


def test_file_that_may_not_grow_is_an_error_and_leaves_nothing(export, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    message = refused(export("-o", tmp_path / "x.csv", preexec_fn=limit))
    assert os.strerror(errno.EFBIG) in message
    assert "x.csv" in message
    assert names(tmp_path) == []


def test_database_without_tables_is_an_error_that_says_so(tmp_path):
    variables = {"DATABASE_URL": f"sqlite:///{tmp_path / 'empty.sqlite3'}"}
    result = processes.run(MANAGE, "export_data", MODEL, "-o", tmp_path / "x.csv", variables=variables)
    assert "no such table" in refused(result)
    assert not (tmp_path / "x.csv").exists()


# What people see


def on_a_terminal(database_file, *arguments, **variables):
    """Return what a run writes to a terminal on its standard error."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    variables |= {"DATABASE_URL": f"sqlite:///{database_file}", "TERM": "xterm"}
    process = processes.start(
        *(MANAGE, "export_data", MODEL, *arguments),
        variables=variables,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    seen = b""
    try:
        while part := os.read(ours, 1024):
            seen += part
    except OSError:  # the other end of a terminal closes with an error
        pass
    os.close(ours)
    assert process.wait(20) == 0
    return seen.decode()


def test_terminal_shows_progress_and_a_summary(large_database_file, tmp_path):
    seen = on_a_terminal(large_database_file, "-o", tmp_path / "x.csv")
    assert seen.count("\r") > 3
    assert "MiB written" in seen
    assert f"{EVENTS * 61:,} rows in " in seen


def test_terminal_shows_nothing_if_so_wished(database_file):
    assert on_a_terminal(database_file, "--no-progress") == ""


def test_nothing_but_data_is_printed_elsewhere(export):
    assert export("--limit=1").stderr == b""


def test_verbosity_gives_the_summary_anywhere(export, tmp_path):
    result = export("-o", tmp_path / "x.csv", "--verbosity=2")
    assert result.returncode == 0
    assert f"{EVENTS:,} rows in " in result.stderr.decode()


# Called from Python


@pytest.mark.parametrize("name", ["csv", "json", "ndjson"])
def test_call_command_gives_text(database, name):
    Parent.objects.using(database).create(name="Zoë")
    output = io.StringIO()
    call_command(
        "export_data", "fieldtypes.Parent", columns=["name"], format=name, database=database, stdout=output
    )
    expected = {"csv": "name\r\nZoë\r\n", "json": '[{"name":"Zoë"}]', "ndjson": '{"name":"Zoë"}\n'}
    assert output.getvalue() == expected[name]


@pytest.mark.django_db
def test_call_command_raises_what_the_command_line_prints():
    with pytest.raises(CommandError, match="'nam'"):
        call_command("export_data", "fieldtypes.Parent", columns=["nam"], stdout=io.StringIO())


@pytest.mark.django_db
def test_call_command_leaves_signal_handlers_as_they_were():
    before = signal.getsignal(signal.SIGTERM)
    call_command("export_data", "fieldtypes.Parent", stdout=io.StringIO())
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.django_db(transaction=True)
def test_call_command_works_in_any_thread(tmp_path):
    failures = []

    def run():
        try:
            call_command("export_data", "fieldtypes.Parent", columns=["id"], output=str(tmp_path / "x.csv"))
        except BaseException as error:  # noqa: BLE001 (the thread would keep it)
            failures.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    assert failures == []
    assert (tmp_path / "x.csv").read_bytes() == b"id\r\n"


@pytest.mark.django_db
def test_secrets_are_left_out_unless_named():
    Secretive.objects.create(name="a", password="hash", api_token="t")
    output = io.StringIO()
    call_command("export_data", "fieldtypes.Secretive", stdout=output)
    assert "hash" not in output.getvalue()
    call_command("export_data", "fieldtypes.Secretive", columns=["password"], stdout=output)
    assert "hash" in output.getvalue()


@pytest.mark.django_db
def test_a_manager_can_be_named():
    for name in ("gone", "here"):
        Parent.objects.create(name=name)
    found = {}
    for manager in (None, "objects", "everyone"):
        output = io.StringIO()
        call_command("export_data", "fieldtypes.Living", columns=["name"], manager=manager, stdout=output)
        found[manager] = set(output.getvalue().split()[1:])
    assert found == {None: {"here"}, "objects": {"here"}, "everyone": {"gone", "here"}}


# All models


class TestAll:
    @pytest.fixture
    def export_all(self, database_file):
        def export_all(*arguments, **options):
            variables = {"DATABASE_URL": f"sqlite:///{database_file}"}
            return processes.run(MANAGE, "export_data", *arguments, variables=variables, **options)

        return export_all

    def test_each_table_of_the_models_has_a_file_of_its_own(self, export_all, database_file, tmp_path):
        assert exported(export_all("--all", tmp_path / "new" / "dump")) == b""
        with closing(sqlite3.connect(database_file)) as connection:
            for path in (tmp_path / "new" / "dump").iterdir():
                label, suffix = path.name.rsplit(".", 1)
                table = {"admin.logentry": "django_admin_log", "contenttypes.contenttype": "django_content_type"}
                name = table.get(label, label.replace(".", "_").replace("sessions_", "django_"))
                [count] = connection.execute(f"SELECT count(*) FROM {name}").fetchone()
                assert len(rows(path.read_bytes())) == count + 1
                assert suffix == "csv"
            stored = {
                name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            }
        files = names(tmp_path / "new" / "dump")
        assert len(files) == len(stored - {"django_migrations", "sqlite_sequence"})
        assert {"upstream.driftevent.csv", "auth.user_groups.csv", "sessions.session.csv"} <= set(files)

    def test_format_compression_and_header_are_those_asked_for(self, export_all, tmp_path):
        exported(
            export_all("--all", tmp_path, "--format=tsv", "--compression=gzip", "--header=labels", "--limit=3")
        )
        assert {"".join(path.suffixes[-2:]) for path in tmp_path.iterdir()} == {".tsv.gz"}
        found = rows(gzip.decompress((tmp_path / "upstream.customer.tsv.gz").read_bytes()), delimiter="\t")
        assert found[0] == ("ID", "Name")
        assert len(rows(gzip.decompress((tmp_path / "upstream.driftevent.tsv.gz").read_bytes()))) == 4

    def test_secrets_are_left_out(self, export_all, tmp_path):
        exported(export_all("--all", tmp_path))
        assert (tmp_path / "sessions.session.csv").read_bytes() == b"expire_date\r\n"
        assert b"password" not in (tmp_path / "auth.user.csv").read_bytes()

    def test_a_model_that_fails_is_named_and_the_others_are_whole(self, database_file, tmp_path):
        broken = shutil.copy(database_file, tmp_path / "broken.sqlite3")
        with closing(sqlite3.connect(broken)) as connection, connection:
            connection.execute("DROP TABLE auth_group_permissions")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "auth.group_permissions.csv").write_text("yesterday's")
        result = processes.run(
            MANAGE, "export_data", "--all", tmp_path / "out", variables={"DATABASE_URL": f"sqlite:///{broken}"}
        )
        message = refused(result)
        assert "auth.group_permissions: no such table" in message
        assert message.splitlines()[-1].endswith("not exported: auth.group_permissions")
        assert (tmp_path / "out" / "auth.group_permissions.csv").read_text() == "yesterday's"
        assert len(rows((tmp_path / "out" / "upstream.driftevent.csv").read_bytes())) == EVENTS + 1

    def test_progress_names_each_model(self, export_all, tmp_path):
        lines = export_all("--all", tmp_path, "--verbosity=2").stderr.decode().splitlines()
        assert len(lines) == len(names(tmp_path))
        assert [line for line in lines if line.startswith(f"upstream.driftevent: {EVENTS:,} rows in ")]

    def test_explain_tells_each_plan_and_makes_nothing(self, export_all, tmp_path):
        printed = exported(export_all("--all", tmp_path / "dump", "--explain")).decode()
        assert printed.count("consistency: statement") == printed.count("\n\n") > 10
        assert "upstream.driftevent\nlane:" in printed
        assert names(tmp_path) == []

    @pytest.mark.parametrize(
        "arguments",
        [["--columns=id"], ["--filter=id=1"], ["--order-by=id"], ["--manager=objects"], ["-o", "x.csv"]],
    )
    def test_what_is_for_one_model_is_refused(self, refusal, arguments, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert "is for one model, not for --all" in refusal("--all=dump", *arguments, model=None)
        assert names(tmp_path) == []

    def test_a_directory_that_cannot_be_made_is_refused(self, export_all, tmp_path):
        (tmp_path / "file").touch()
        assert "file" in refused(export_all("--all", tmp_path / "file"))

    @linux
    def test_signal_leaves_whole_files_only(self, large_database_file, tmp_path):
        variables = {"DATABASE_URL": f"sqlite:///{large_database_file}"}
        process = processes.start(MANAGE, "export_data", "--all", tmp_path, variables=variables)
        assert processes.eventually(lambda: has_written(process))
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert "upstream.driftevent.csv" not in names(tmp_path)
        assert len(rows((tmp_path / "upstream.alertrule.csv").read_bytes())) > 1
        assert [name for name in names(tmp_path) if not name.endswith(".csv")] == []


def test_all_files_show_one_state_where_the_database_can_share_it(transactional_database, tmp_path, monkeypatch):
    database, write = transactional_database, export_data.to_file
    Buyer.objects.using(database).create(name="before", code="b")
    Listing.objects.using(database).create(shelf=1, place=1, title="before")

    def write_and_change(chunks, path):
        write(chunks, path)
        if path.name == "orders.buyer.csv":
            Listing.objects.using(database).update(title="after")

    monkeypatch.setattr(export_data, "to_file", write_and_change)
    for options, title in (({}, "before" if database == "postgresql" else "after"), ({"windows": True}, "after")):
        Listing.objects.using(database).update(title="before")
        call_command("export_data", all=str(tmp_path), database=database, **options)
        assert rows((tmp_path / "orders.listing.csv").read_bytes())[1][-1] == title


@pytest.mark.django_db(databases="__all__")
def test_models_are_those_whose_tables_the_database_has(settings, database):
    found = {model._meta.label for model in stored_models(database)}
    assert {"fieldtypes.Parent", "auth.User_groups", "library.Book"} <= found
    assert not {"fieldtypes.Living", "serving.Line"} & found  # a proxy, and tables that others make
    settings.DATABASE_ROUTERS = [Elsewhere()]
    assert "fieldtypes.Parent" not in {model._meta.label for model in stored_models(database)}


class Elsewhere:
    def allow_migrate(self, db, app_label, **hints):
        return app_label != "fieldtypes"


def test_help_names_the_options():
    printed = processes.run(MANAGE, "export_data", "--help").stdout.decode()
    for option in ("--output", "--format", "--columns", "--filter", "--order-by", "--limit", "--explain"):
        assert option in printed
