"""An interrupt such as Ctrl-C, at any moment of an export, leaves nothing behind but a connection that works."""

import asyncio
import gc
import os
import random
import signal
import sys
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import asgiref.local
import pytest
from django.db import connections

from tests.fieldtypes.models import Parent
from upstream.streaming import Column, Csv, Json, JsonLines, stream, to_file
from upstream.streaming.databases import database_of, recover
from upstream.streaming.databases.sharing import GUARDED_METHODS, guard_of
from upstream.streaming.targets import files

pytestmark = [
    pytest.mark.timeout(method="thread"),  # the other method uses the timer that these tests use
    # Python drops an interrupt that falls into a __del__, and says so.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

OPEN_FILES = Path(files.OPEN_FILES)
ROWS = 3000
WAYS = {
    "fields": stream,
    "function": lambda rows: stream(rows, [Column("name", value=str.upper)]),
    "instances": lambda rows: stream(rows[:500], [Column(lambda row: row.name, header="name")]),
    "document": lambda rows: stream({"a": rows.values("name"), "b": rows[:500]}, encoder=Json()),
    "windows": lambda rows: stream(rows, windows=True, chunk_size=500),
}


@pytest.fixture(autouse=True)
def interrupts(monkeypatch):
    """Make the timer's signal an interrupt, and drop what Python says of one that falls into a __del__.

    Pytest would keep it for later, and would be interrupted there. A cursor whose end was interrupted is dropped
    here as well, not in a later test.
    """
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    before = signal.signal(signal.SIGALRM, interrupt)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    gc.collect()


def interrupt(signum, frame):
    """Raise KeyboardInterrupt, but a moment later where asgiref would never release a lock of Django's.

    Its Local takes the lock before the `try` that releases it. Another thread that asks for the language would
    then wait for ever.
    """
    if frame.f_code.co_filename == asgiref.local.__file__:
        signal.setitimer(signal.ITIMER_REAL, 1e-5)
    else:
        signal.default_int_handler(signum, frame)


def interrupted(seconds, call):
    """Call, interrupt it after `seconds`, and return whether that came before its end."""
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            call()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        return True
    return False


def open_descriptors():
    return {int(one.name) for one in OPEN_FILES.iterdir()}


@contextmanager
def stored(using):
    Parent.objects.using(using).bulk_create(Parent(name=f"{number}" * 5) for number in range(ROWS))
    yield Parent.objects.using(using).order_by("pk")


def check_usable(using):
    """Assert that the connection is what it was, and reads and writes."""
    connection = connections[using]
    assert not connection.in_atomic_block
    assert not connection.execute_wrappers
    assert not vars(connection).keys() & set(GUARDED_METHODS)
    assert not guard_of(connection).readers
    assert connection.get_autocommit()
    parents = Parent.objects.using(using)
    assert parents.count() == ROWS
    parents.filter(name="none").update(name="none")
    assert database_of(connection).is_idle(connection)


@pytest.mark.parametrize("way", WAYS)
def test_the_connection_works_and_no_file_is_left(transactional_database, tmp_path, way):
    draw = random.Random(5)
    hits = 0
    with stored(transactional_database) as rows:
        for _ in range(60):
            hits += interrupted(
                draw.choice([0.003, 0.03]) * draw.random() + 1e-5,
                lambda: to_file(WAYS[way](rows), tmp_path / "rows"),
            )
            check_usable(transactional_database)
            assert {path.name for path in tmp_path.iterdir()} <= {"rows"}
    assert hits > 20


def test_an_interrupt_is_raised_even_if_the_driver_fails_to_clean_up(transactional_database):
    def broken(record):
        try:
            raise KeyboardInterrupt
        finally:
            raise ValueError("what the interrupt left behind")

    with stored(transactional_database) as rows, pytest.raises(KeyboardInterrupt):
        b"".join(stream(rows, [Column(broken, header="broken")]))
    check_usable(transactional_database)


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_an_interrupt_while_sqlite_looks_at_the_clock_is_raised():
    with stored("default"):
        slow = Parent.objects.raw(
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 3000000) "
            "SELECT max(x) AS id, 'a' AS name FROM n"
        )
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            b"".join(stream(slow, ["id", "name"], timeout=60))
        check_usable("default")


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("columns", [None, ["nested"]], ids=["whole records", "a column"])
@pytest.mark.parametrize("encoder", [Csv(), JsonLines(), Json(), Json(indent=2)], ids=repr)
def test_an_interrupt_in_a_value_of_a_record_is_raised_and_not_taken_for_a_value_without_json(
    encoder, columns, interrupt
):
    class Slow:
        shots = 1

        def __str__(self):
            self.shots -= 1
            if self.shots == 0:
                raise interrupt
            return "text"

    records = [{"nested": {"value": Slow()}} for _ in range(3)]
    with pytest.raises(interrupt):
        b"".join(stream(records, columns, encoder))


def test_an_interrupt_that_the_caller_handles_already_is_not_raised_again(transactional_database):
    with stored(transactional_database) as rows:
        try:
            raise KeyboardInterrupt  # noqa: TRY301 (it stands for one that came before)
        except KeyboardInterrupt:
            with pytest.raises(ZeroDivisionError):
                b"".join(stream(rows, [Column(lambda record: 1 / 0, header="broken")]))
    check_usable(transactional_database)


def test_errors_that_follow_what_is_no_interrupt_are_raised_as_they_are():
    def late(_record):
        async def wait():
            async with asyncio.timeout(0.001):
                await asyncio.sleep(1)

        asyncio.run(wait())

    def converted(_record):
        try:
            sys.exit(2)
        except SystemExit as error:
            raise ValueError("a tool of the caller's ended") from error

    for function, expected in ((late, TimeoutError), (converted, ValueError)):
        with pytest.raises(expected):
            b"".join(stream([{"a": 1}], [Column(function, header="a")]))


def test_closing_a_source_that_fails_to_clean_up_raises_its_error():
    def rows():
        try:
            yield {"a": 1}
            yield {"a": 2}
        finally:
            raise OSError("the source cannot be closed")

    with pytest.raises(OSError, match="cannot be closed"), stream(rows(), chunk_size=1) as chunks:
        next(chunks)


def test_a_connection_whose_transaction_was_cut_is_opened_anew(transactional_database):
    alias = transactional_database
    with stored(alias):
        raw = connections[alias].connection
        cursor = raw.cursor()
        cursor.execute("BEGIN")
        cursor.close()
        recover([alias])
        assert connections[alias].connection is not raw
        check_usable(alias)


def test_a_healthy_connection_stays_open(transactional_database):
    with stored(transactional_database):
        raw = connections[transactional_database].connection
        recover([transactional_database])
        assert connections[transactional_database].connection is raw


@pytest.mark.skipif(not OPEN_FILES.exists(), reason="descriptors are not listed here")
@pytest.mark.parametrize("step", ["unnamed", "named", "directory", "link"])
def test_no_descriptor_is_lost(tmp_path, step):
    names = map(str, count())

    def link():
        with files._open_unnamed(tmp_path) as file:
            files._link(file, tmp_path / next(names))

    steps = {
        "unnamed": lambda: files._open_unnamed(tmp_path).close(),
        "named": lambda: files.open_new(tmp_path / next(names)).close(),
        "directory": lambda: files.sync_directory(tmp_path),
        "link": link,
    }
    draw = random.Random(9)
    before = open_descriptors()
    hits = sum(interrupted(draw.random() * 5e-5 + 1e-6, steps[step]) for _ in range(3000))
    left = open_descriptors() - before
    for number in left:
        with suppress(OSError):
            os.close(number)
    assert hits > 100
    assert not left
