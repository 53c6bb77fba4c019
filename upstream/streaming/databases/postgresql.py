"""PostgreSQL: server-side cursors that stream."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections, transaction


@contextmanager
def snapshot(alias: str) -> Iterator[None]:
    """Open a READ ONLY, REPEATABLE READ transaction, unless the caller has one open, which then is used.

    In autocommit Django declares its cursors WITH HOLD, and PostgreSQL then stores the whole result before the
    first row: 250 ms against 17 ms for 500,000 rows. Its planner takes a cursor for one whose first tenth is
    read (cursor_tuple_fraction); an export reads all of it.
    """
    connection = connections[alias]
    if not connection.get_autocommit():
        yield
        return
    with transaction.atomic(using=alias):
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            cursor.execute("SET LOCAL cursor_tuple_fraction = 1")
        yield
