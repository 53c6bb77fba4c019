"""djangorestframework-csv: its streaming renderer as it comes, which reads all rows to find the header."""

from django.http import StreamingHttpResponse
from rest_framework_csv.renderers import CSVStreamingRenderer

from benchmarks.output import Output
from benchmarks.table.models import Payment
from benchmarks.table.rows import COLUMNS


def write(output: Output) -> None:
    records = (record for record in Payment.objects.values(*COLUMNS).iterator(chunk_size=2000))
    output.drain(StreamingHttpResponse(CSVStreamingRenderer().render(records), content_type="text/csv"))
