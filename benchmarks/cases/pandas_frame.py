"""pandas: the whole table as one frame, or as frames of many rows."""

import warnings
from typing import Any

from django.db import connection, transaction
from pandas import DataFrame, read_sql

from benchmarks.output import Output
from benchmarks.table.models import Payment
from benchmarks.table.rows import COLUMNS

# About as many rows as a row group of ours.
FRAME_ROWS = 100_000


def write(output: Output) -> None:
    rows = Payment.objects.values_list(*COLUMNS).iterator(chunk_size=2000)
    DataFrame.from_records(rows, columns=COLUMNS).to_csv(output, mode="wb", index=False)


def write_parquet(output: Output) -> None:
    """Write a file of each frame, since a frame cannot be appended to one."""
    sql = str(Payment.objects.values_list(*COLUMNS).query)
    warnings.filterwarnings("ignore", "pandas only supports SQLAlchemy")
    with transaction.atomic():
        for frame in read_sql(sql, _Connection(), chunksize=FRAME_ROWS):
            frame.columns = COLUMNS
            output.write(frame.to_parquet(compression="zstd", index=False))


class _Connection:
    """Gives pandas cursors that hold no whole result, if the database has such."""

    def cursor(self) -> Any:
        return connection.chunked_cursor()
