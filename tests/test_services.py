"""The servers of the tests: what stands behind an alias, and that none outlives its owner."""

import os
import signal
from pathlib import Path

import pytest
from django.db import connections, transaction

from tests import processes, services
from tests.fieldtypes.models import Parent


def backend(alias):
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]


def test_pgbouncer_reaches_the_same_tables_over_other_connections(pgbouncer):
    Parent.objects.using("postgresql").create(name="a")
    with transaction.atomic(using=pgbouncer):
        assert backend(pgbouncer) != backend("postgresql")
        Parent.objects.using(pgbouncer).update(name="b")
        assert Parent.objects.using("postgresql").get().name == "a"
    assert Parent.objects.using("postgresql").get().name == "b"


def test_pgbouncer_gives_a_connection_for_a_transaction_at_most(pgbouncer):
    other = connections[pgbouncer].copy()
    try:
        first = backend(pgbouncer)
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            assert cursor.fetchone() == (first,)
    finally:
        other.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_server_ends_with_its_owner_however_that_ends(number):
    if "mariadb" not in connections.databases:
        pytest.skip(services.mariadb()[1])
    code = f"""
import os, signal
from benchmarks.servers import mariadb
with mariadb() as url:
    print(url, flush=True)
    os.kill(os.getpid(), {int(number)})
"""
    output = processes.run("-c", code).stdout.decode()
    socket = Path(output.strip().split("unix_socket=")[1].replace("%2F", os.sep))
    assert socket.name == "socket"
    assert processes.eventually(lambda: not socket.parent.exists())
