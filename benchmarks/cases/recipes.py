"""What people write who have no library: the streaming recipe of Django's documentation.

https://docs.djangoproject.com/en/stable/howto/outputting-csv/#streaming-large-csv-files
"""

import csv
from collections.abc import Iterator
from itertools import chain

from django.core.serializers.json import DjangoJSONEncoder
from django.http import StreamingHttpResponse

from benchmarks.output import Output
from benchmarks.table.models import Payment
from benchmarks.table.rows import COLUMNS


class Echo:
    """A file that only gives back what is written to it."""

    def write(self, value: str) -> str:
        return value


def csv_rows(output: Output) -> None:
    writer = csv.writer(Echo())
    rows = chain([COLUMNS], Payment.objects.values_list(*COLUMNS).iterator(chunk_size=2000))
    output.drain(StreamingHttpResponse((writer.writerow(row) for row in rows), content_type="text/csv"))


def ndjson_rows(output: Output) -> None:
    output.drain(StreamingHttpResponse(_lines(), content_type="application/x-ndjson"))


def _lines() -> Iterator[str]:
    encoder = DjangoJSONEncoder(ensure_ascii=False)
    for record in Payment.objects.values(*COLUMNS).iterator(chunk_size=2000):
        yield encoder.encode(record) + "\n"
