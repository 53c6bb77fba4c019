"""djangorestframework-csv, with its streaming renderer as it comes: without a header given it reads all rows first."""

from django.http import StreamingHttpResponse
from rest_framework_csv.renderers import CSVStreamingRenderer

from benchmarks.output import Output
from benchmarks.table.models import Payment
from benchmarks.table.rows import COLUMNS


def write(output: Output) -> None:
    records = (record for record in Payment.objects.values(*COLUMNS).iterator(chunk_size=2000))
    output.drain(StreamingHttpResponse(CSVStreamingRenderer().render(records), content_type="text/csv"))
