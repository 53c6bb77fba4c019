"""django-queryset-csv, with the streaming response that its documentation names."""

from djqscsv import render_to_csv_response

from benchmarks.output import Output
from benchmarks.table.models import Payment
from benchmarks.table.rows import COLUMNS


def write(output: Output) -> None:
    output.drain(render_to_csv_response(Payment.objects.values(*COLUMNS), use_verbose_names=False))
