"""Dumps in parts, and the same rows in the same order as one export: from the call until all files are synced."""

from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.output import Output
from benchmarks.table.models import selection
from upstream.dumps import plan_dump, run
from upstream.streaming import stream, to_file

PARTS = 2


def one_export(output: Output) -> None:
    queryset, columns = selection("payments")
    with TemporaryDirectory() as directory:
        chunks = stream(queryset.order_by("id"), columns)
        path = to_file(chunks, Path(directory) / "rows")
        output.lane = chunks.lane
        with path.open("rb") as file:
            output.add_file(file)


def here(output: Output) -> None:
    _dump(output, workers=0)


def two_workers(output: Output) -> None:
    _dump(output, workers=2)


def _dump(output: Output, *, workers: int) -> None:
    queryset, columns = selection("payments")
    with TemporaryDirectory() as directory:
        place = Path(directory) / "dump"
        manifest = run(plan_dump(queryset, columns, target=place, parts=PARTS), workers=workers)
        for part in manifest["parts"]:
            with (place / part["name"]).open("rb") as file:
                output.add_file(file)
