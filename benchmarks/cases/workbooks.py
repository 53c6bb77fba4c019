"""Excel workbooks by the packages that people use for them, each in its way for many rows."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.output import Output
from benchmarks.table.models import selection


def _rows() -> Iterator[list[Any]]:
    """Yield rows as all three take them: no zones, and texts for what they do not know."""
    queryset, columns = selection("payments")
    texts = [columns.index(name) for name in ("reference", "details")]
    moment = columns.index("created_at")
    yield list(columns)
    for values in queryset.values_list(*columns).iterator(chunk_size=2000):
        row = list(values)
        row[moment] = row[moment].replace(tzinfo=None)
        for at in texts:
            row[at] = str(row[at])
        yield row


def xlsxwriter(output: Output) -> None:
    library: Any = import_module("xlsxwriter")
    with TemporaryDirectory() as directory:
        path = Path(directory) / "payments.xlsx"
        options = {"constant_memory": True, "default_date_format": "yyyy-mm-dd hh:mm:ss", "strings_to_urls": False}
        with library.Workbook(path, options) as workbook:
            sheet = workbook.add_worksheet()
            for number, row in enumerate(_rows()):
                sheet.write_row(number, 0, row)
        _take(output, path)


def openpyxl(output: Output) -> None:
    library: Any = import_module("openpyxl")
    with TemporaryDirectory() as directory:
        path = Path(directory) / "payments.xlsx"
        workbook = library.Workbook(write_only=True)
        sheet = workbook.create_sheet()
        for row in _rows():
            sheet.append(row)
        workbook.save(path)
        _take(output, path)


def pyexcelerate(output: Output) -> None:
    library: Any = import_module("pyexcelerate")
    with TemporaryDirectory() as directory:
        path = Path(directory) / "payments.xlsx"
        workbook = library.Workbook()
        workbook.new_sheet("payments", data=list(_rows()))
        workbook.save(str(path))
        _take(output, path)


def _take(output: Output, path: Path) -> None:
    with path.open("rb") as file:
        output.add_file(file)
