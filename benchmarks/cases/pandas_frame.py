"""pandas: the whole table as one frame."""

from pandas import DataFrame

from benchmarks.output import Output
from benchmarks.table.models import Payment
from benchmarks.table.rows import COLUMNS


def write(output: Output) -> None:
    rows = Payment.objects.values_list(*COLUMNS).iterator(chunk_size=2000)
    DataFrame.from_records(rows, columns=COLUMNS).to_csv(output, mode="wb", index=False)
