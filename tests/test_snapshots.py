"""Several statements of one export show one state of the database, whatever others write meanwhile."""

import json
import time
from contextlib import closing

import pytest
from django.db import InternalError, OperationalError, connections, transaction
from django.db.models import Prefetch
from django.db.models.expressions import RawSQL

from tests.fieldtypes.models import Everything, Parent
from tests.test_querysets import row
from tests.test_reading import SLOW, another_connection, journal_mode
from upstream.streaming import Column, DeadlineError, Json, plan, stream

ROWS = 300


@pytest.fixture
def parents(transactional_database):
    """Parents of one child each; SQLite is in WAL mode, where readers and writers do not wait for each other."""
    alias = transactional_database
    is_sqlite = connections[alias].vendor == "sqlite"
    if is_sqlite:
        journal_mode("wal")
    Parent.objects.using(alias).bulk_create(Parent(name=f"p{number}") for number in range(ROWS))
    parents = Parent.objects.using(alias).order_by("pk")
    Everything.objects.using(alias).bulk_create(row(parent=parent) for parent in parents)
    yield parents
    if is_sqlite:
        journal_mode("delete")


def delete_children(alias):
    with another_connection(alias) as other, other.cursor() as cursor:
        cursor.execute("DELETE FROM fieldtypes_everything")


def counted(parents):
    columns = ["name", Column(lambda parent: len(parent.children.all()), header="children")]
    return parents.prefetch_related("children"), columns


def test_prefetched_relations_are_of_the_moment_of_their_rows(parents):
    with closing(stream(*counted(parents), Json(), chunk_size=50)) as chunks:
        first = next(chunks)
        delete_children(parents.db)
        records = json.loads(first + b"".join(chunks))
    assert [record["children"] for record in records] == [1] * ROWS
    assert not Everything.objects.using(parents.db).exists()


def test_all_querysets_of_a_document_are_of_one_moment(parents):
    children = Everything.objects.using(parents.db).values("integer")
    with closing(stream({"parents": parents, "children": children}, encoder=Json(), chunk_size=50)) as chunks:
        first = next(chunks)
        delete_children(parents.db)
        document = json.loads(first + b"".join(chunks))
    assert len(document["children"]) == len(document["parents"]) == ROWS


def test_what_the_caller_writes_between_two_chunks_is_seen_by_further_statements_as_the_plan_says(parents):
    children = Everything.objects.using(parents.db)
    document = {"parents": parents, "children": children.values("integer")}
    assert "further statements see" in plan(document, encoder=Json()).note
    assert "further statements see" not in plan({"parents": parents}, encoder=Json()).note
    with closing(stream(document, encoder=Json(), chunk_size=50)) as chunks:
        first = next(chunks)
        children.all().delete()
        read = json.loads(first + b"".join(chunks))
    assert (len(read["parents"]), len(read["children"])) == (ROWS, 0)


def test_after_a_lost_connection_the_next_statement_has_another(parents):
    connection = connections[parents.db]
    if connection.vendor != "postgresql":
        pytest.skip("only PostgreSQL ends the connection of another user")
    with closing(stream(*counted(parents), Json(), chunk_size=50)) as chunks:
        next(chunks)
        with another_connection(parents.db) as other, other.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [connection.connection.info.backend_pid])
        with pytest.raises(OperationalError):
            list(chunks)
    assert Parent.objects.using(parents.db).count() == ROWS


def test_the_plan_says_snapshot_where_there_are_several_statements(parents):
    one = "snapshot" if connections[parents.db].vendor == "postgresql" else "statement"
    assert plan(parents).consistency == one
    assert plan({"parents": parents}, encoder=Json()).consistency == one
    assert plan(*counted(parents)).consistency == "snapshot"
    assert plan({"a": parents, "b": {"c": parents}}, encoder=Json()).consistency == "snapshot"
    prefetched = parents.prefetch_related(Prefetch("children"))
    assert plan({"a": prefetched}, encoder=Json()).consistency == "snapshot"


def test_a_statement_in_a_snapshot_ends_in_time(parents):
    slow = RawSQL(f"({SLOW[connections[parents.db].vendor]})", ())
    queryset, columns = counted(parents.annotate(slow=slow))
    started = time.monotonic()
    with pytest.raises(DeadlineError):
        list(stream(queryset, columns, timeout=0.5))
    assert time.monotonic() - started < 5
    assert connections[parents.db].get_autocommit()
    assert parents.count() == ROWS


def test_what_the_snapshot_held_is_free_when_the_export_ends(parents):
    connection = connections[parents.db]
    for read in (1, ROWS):
        with closing(stream(*counted(parents), chunk_size=50)) as chunks:
            for _ in zip(range(read), chunks, strict=False):
                pass
        assert connection.get_autocommit()
        assert not connection.execute_wrappers
        with transaction.atomic(using=parents.db):
            Parent.objects.using(parents.db).filter(name="p0").update(name="p0")


def test_a_query_that_writes_says_how_it_can_be_exported(transactional_database):
    connection = connections[transactional_database]
    if connection.vendor != "postgresql":
        pytest.skip("here no query of a table writes")
    with connection.cursor() as cursor:
        cursor.execute("CREATE SEQUENCE upstream_line")
    Parent.objects.using(connection.alias).create(name="a")
    numbered = Parent.objects.using(connection.alias).order_by("pk")
    numbered = numbered.annotate(line=RawSQL("nextval('upstream_line')", ()))
    with pytest.raises(InternalError, match="read-only transaction") as caught:
        b"".join(stream(numbered, ["name", "line"]))
    [note] = [note for note in caught.value.__notes__ if "transaction" in note]
    assert "transaction.atomic()" in note
    with transaction.atomic(using=connection.alias):
        assert b"".join(stream(numbered, ["name", "line"])).startswith(b"name,line\r\na,")
    assert b"".join(stream(numbered, ["name", "line"], windows=True)).startswith(b"name,line\r\na,")
    with connection.cursor() as cursor:
        cursor.execute("DROP SEQUENCE upstream_line")
