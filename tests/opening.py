"""Programs other than ours that open documents: each says how many rows or pages one has, or raises.

`READERS` are those of each format, by name. Those of PDFs are strict or mend what they can, as browsers do.
"""

import io
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path

import duckdb
import openpyxl
import pikepdf
import polars as pl
import pypdf
import pypdfium2
import pytest
import python_calamine
from pyarrow.parquet import read_table

OFFICE = shutil.which("soffice") or shutil.which("libreoffice")


class NotOpenedError(Exception):
    """A program refused a document, and this is what it said."""


def _zip_module(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        return archive.read("xl/worksheets/sheet1.xml").count(b"<row")


def _openpyxl(data):
    book = openpyxl.load_workbook(io.BytesIO(data), read_only=True)
    return sum(1 for _ in book.worksheets[0].rows)


def _calamine(data):
    book = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(data))
    return len(book.get_sheet_by_index(0).to_python())


def _libreoffice(data):
    """Convert a workbook as LibreOffice does without a screen: it exits with 0 whatever came of it."""
    if OFFICE is None:
        pytest.skip("LibreOffice is not installed: apt-get install libreoffice-calc-nogui")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "x.xlsx"
        path.write_bytes(data)
        own = f"-env:UserInstallation=file://{directory}/profile"
        said = _output(OFFICE, "--headless", own, "--convert-to", "csv", "--outdir", directory, path)
        if not path.with_suffix(".csv").exists():
            raise NotOpenedError(said)
        return len(path.with_suffix(".csv").read_text().splitlines())


def _pyarrow(data):
    return read_table(io.BytesIO(data)).num_rows


def _duckdb(data):
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file, duckdb.connect() as connection:
        file.write(data)
        file.flush()
        return connection.read_parquet(file.name).count("*").fetchall()[0][0]


def _polars(data):
    return pl.read_parquet(io.BytesIO(data)).height


def _qpdf(data):
    if not shutil.which("qpdf"):
        pytest.skip("qpdf is not installed: apt-get install qpdf")
    with tempfile.NamedTemporaryFile(suffix=".pdf") as file:
        file.write(data)
        file.flush()
        _output("qpdf", "--check", file.name)
        return int(_output("qpdf", "--show-npages", file.name))


def _pypdf(data):
    return len(pypdf.PdfReader(io.BytesIO(data), strict=True).pages)


def _pikepdf(data):
    with pikepdf.open(io.BytesIO(data)) as document:
        return len(document.pages)


def _pdfium(data):
    document = pypdfium2.PdfDocument(data)
    try:
        return len(document)
    finally:
        document.close()


def _output(*command):
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    if result.returncode:
        raise NotOpenedError(result.stderr or result.stdout)
    return result.stdout


READERS = {
    "xlsx": {"zipfile": _zip_module, "openpyxl": _openpyxl, "calamine": _calamine, "libreoffice": _libreoffice},
    "parquet": {"pyarrow": _pyarrow, "duckdb": _duckdb, "polars": _polars},
    "pdf": {"qpdf": _qpdf, "pypdf": _pypdf, "pikepdf": _pikepdf, "pdfium": _pdfium},
}
# LibreOffice takes three seconds to start.
SLOW = ("libreoffice",)


def opened(suffix, data, *, slow=False):
    """Return what each reader finds in the data: its rows or pages, or None if it does not take them."""
    readers = {name: read for name, read in READERS[suffix].items() if slow or name not in SLOW}
    return {name: _opened(read, data) for name, read in readers.items()}


def _opened(read, data):
    try:
        return read(data)
    except Exception:  # noqa: BLE001 (each reader has errors of its own)
        return None
