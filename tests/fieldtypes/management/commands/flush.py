"""Django's `flush` for tests: empty the tables that have rows, and keep what `migrate` wrote.

Django empties every table of every database after a test outside a transaction, and makes all content types and
permissions anew. That took most of the time of such tests, and a third of the whole suite's.
"""

from functools import cache

from django.core.management.color import no_style
from django.core.management.commands import flush
from django.db import connections

KEPT = {"django_content_type", "auth_permission"}


class Command(flush.Command):
    def handle(self, **options):
        connection = connections[options["database"]]
        if filled := tables_with_rows(connection):
            statements = connection.ops.sql_flush(no_style(), filled, allow_cascade=True)
            connection.ops.execute_sql_flush(statements)


def tables_with_rows(connection):
    """Ask by one statement for all tables."""
    tables = emptied_tables(connection.alias)
    asked = " UNION ALL ".join(
        f"SELECT %s FROM (SELECT 1 AS one) AS a_row WHERE EXISTS (SELECT 1 FROM {name})"
        for name in map(connection.ops.quote_name, tables)
    )
    with connection.cursor() as cursor:
        cursor.execute(asked, tables)
        return [table for (table,) in cursor.fetchall()]


@cache
def emptied_tables(alias):
    tables = connections[alias].introspection.django_table_names(only_existing=True, include_views=False)
    return sorted(set(tables) - KEPT)
