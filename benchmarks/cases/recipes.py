"""What people write who have no library: the streaming recipe of Django's documentation.

https://docs.djangoproject.com/en/stable/howto/outputting-csv/#streaming-large-csv-files
"""

import csv
from collections.abc import Iterable, Iterator
from itertools import chain
from operator import attrgetter
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.http import StreamingHttpResponse

from benchmarks.output import Output
from benchmarks.table.models import selection
from benchmarks.table.rows import dozens


class Echo:
    """A file that only gives back what is written to it."""

    def write(self, value: str) -> str:
        return value


def csv_rows(output: Output, table: str = "payments") -> None:
    queryset, columns = selection(table)
    _write_csv(output, columns, queryset.values_list(*columns).iterator(chunk_size=2000))


def csv_function(output: Output, table: str = "payments") -> None:
    queryset, columns = selection(table)
    rows = queryset.values_list(*columns).iterator(chunk_size=2000)
    _write_csv(output, columns, ((*row[:-1], dozens(row[-1])) for row in rows))


def csv_instances(output: Output, table: str = "payments") -> None:
    _, columns = selection(table)
    _write_csv(output, columns, _instances(table))


def ndjson_rows(output: Output, table: str = "payments") -> None:
    queryset, columns = selection(table)
    _write_ndjson(output, queryset.values(*columns).iterator(chunk_size=2000))


def ndjson_instances(output: Output, table: str = "payments") -> None:
    _, columns = selection(table)
    _write_ndjson(output, (dict(zip(columns, row, strict=True)) for row in _instances(table)))


def _instances(table: str) -> Iterator[Any]:
    """Yield what is read from instances: so people do it where a column is a method or a property."""
    queryset, columns = selection(table)
    related = [name.split("__")[0] for name in columns if "__" in name]
    read = attrgetter(*[name.replace("__", ".") for name in columns])
    instances = queryset.select_related(*related) if related else queryset
    return map(read, instances.iterator(chunk_size=2000))


def _write_csv(output: Output, columns: Iterable[str], rows: Iterable[Any]) -> None:
    writer = csv.writer(Echo())
    lines = (writer.writerow(row) for row in chain([columns], rows))
    output.drain(StreamingHttpResponse(lines, content_type="text/csv"))


def _write_ndjson(output: Output, records: Iterable[Any]) -> None:
    encoder = DjangoJSONEncoder(ensure_ascii=False)
    lines = (encoder.encode(record) + "\n" for record in records)
    output.drain(StreamingHttpResponse(lines, content_type="application/x-ndjson"))
