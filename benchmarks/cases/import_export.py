"""django-import-export: a resource, and its data set as CSV."""

from import_export.resources import ModelResource

from benchmarks.output import Output
from benchmarks.table.models import Payment
from benchmarks.table.rows import COLUMNS


class PaymentResource(ModelResource):
    class Meta:
        model = Payment
        fields = COLUMNS
        export_order = COLUMNS


def write(output: Output) -> None:
    payments = Payment.objects.select_related("customer")
    output.write(PaymentResource().export(payments).csv.encode())
