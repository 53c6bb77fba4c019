"""Sheets: rows framed as XML, with widths from the first of them, rolled over before a sheet is full."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import unescape
from itertools import accumulate
from typing import NamedTuple
from unicodedata import east_asian_width

from upstream.streaming.databases.protocol import CellStyle
from upstream.streaming.encoders.xlsx.cells import STARTS, text_cell

MAX_ROWS, MAX_COLUMNS = 1_048_576, 16_384
# A signed 32-bit size of the sheet's XML, as some readers have it.
SHEET_BYTES = 2_000_000_000

# The widths of columns are those of the first rows: so many, or of so many bytes. They are waited for, however
# slowly they come: the same rows give the same sheet. What stands before the sheets has left by then.
SAMPLE_ROWS = 100
SAMPLE_BYTES = 64 * 1024
MIN_WIDTH, MAX_WIDTH = 9, 60  # in digits of the default font
FILTER_WIDTH = 3  # the button of a header
PADDING = 1.5
DATE_WIDTHS = {CellStyle.DATE: 10, CellStyle.DATETIME: 19, CellStyle.TIME: 8}
CELL = re.compile(
    rb'<c(?P<type> t="\w+")?(?: s="(?P<style>\d+)")?(?:/>|><(?P<kind>v|is)>(?:<t[^>]*>)?(?P<text>[^<]*))'
)

ROW, ROW_END = "<row>", "</row>"
NAMESPACE = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
START = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
FROZEN = (
    '<pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/>'
    '<selection pane="bottomLeft" activeCell="A2" sqref="A2"/>'
)
# Columns of so many digits fill an upright page; others lie, and of more than so many, several stand side by side.
UPRIGHT_WIDTH, LYING_WIDTH = 100, 300
PAGE = (
    '<pageMargins left="0.5" right="0.5" top="0.6" bottom="0.6" header="0.3" footer="0.3"/>'
    '<pageSetup orientation="{orientation}" fitToWidth="{pages}" fitToHeight="0"/>'
    "<headerFooter><oddFooter>&amp;L&amp;A&amp;R&amp;P / &amp;N</oddFooter></headerFooter>"
)


@dataclass
class Rows:
    """The rendered rows of a source, of which those that were looked at are still to come."""

    batches: Iterator[list[bytes]]
    pending: list[bytes] = field(default_factory=list)

    def has_more(self) -> bool:
        while not self.pending:
            batch = next(self.batches, None)
            if batch is None:
                return False
            self.pending = batch
        return True

    def take(self, rows: int, size: int) -> list[bytes]:
        """Return the next rows, at most `rows`, and of at most `size` bytes."""
        if not self.has_more():
            return []
        taken = self.pending
        if len(taken) <= rows and sum(map(len, taken)) <= size:
            self.pending = []
            return taken
        fitting = sum(total <= size for total in accumulate(map(len, taken[:rows])))
        self.pending = taken[fitting:]
        return taken[:fitting]

    def sample(self) -> list[bytes]:
        """Return the first rows; the same ones however they come in batches."""
        while len(self.pending) < SAMPLE_ROWS and sum(map(len, self.pending)) < SAMPLE_BYTES:
            batch = next(self.batches, None)
            if batch is None:
                break
            self.pending = self.pending + batch
        before = accumulate(map(len, self.pending), initial=0)
        return [row for row, size in zip(self.pending[:SAMPLE_ROWS], before, strict=False) if size < SAMPLE_BYTES]


class SheetColumn(NamedTuple):
    """The width of a column, and whether it holds numbers, dates or times, which stand at the right."""

    width: float
    is_number: bool


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the sheets of one source look."""

    headers: Sequence[str]
    header: bool
    right_to_left: bool

    @property
    def last_column(self) -> str:
        return column_name(max(1, len(self.headers)))

    def area(self, rows: int) -> str:
        return f"A1:{self.last_column}{max(1, rows)}"

    def columns(self, sample: Sequence[bytes]) -> list["SheetColumn"]:
        """Return how each column looks, from its header and the first rows."""
        widths = [float(MIN_WIDTH)] * len(self.headers)
        if self.header:
            widths = [max(MIN_WIDTH, display_width(header) + FILTER_WIDTH) for header in self.headers]
        numbers: set[int] = set()
        others: set[int] = set()
        for row in sample:
            for at, cell in enumerate(CELL.finditer(row)):
                widths[at] = max(widths[at], _cell_width(cell))
                if cell["text"] is not None:
                    (numbers if cell["kind"] == b"v" and not cell["type"] else others).add(at)
        return [
            SheetColumn(min(width, MAX_WIDTH) + PADDING, at in numbers - others) for at, width in enumerate(widths)
        ]

    def start(self, columns: Sequence[SheetColumn]) -> bytes:
        """Return what comes before the rows; which sheet is selected is not told, so that it can be copied."""
        view = ' rightToLeft="1"' if self.right_to_left else ""
        frozen = FROZEN if self.header else ""
        widths = "".join(
            f'<col min="{at}" max="{at}" width="{column.width:g}" customWidth="1"/>'
            for at, column in enumerate(columns, 1)
        )
        return (
            f'{START}<worksheet xmlns="{NAMESPACE}"><sheetPr><pageSetUpPr fitToPage="1"/></sheetPr>'
            f'<sheetViews><sheetView{view} workbookViewId="0">{frozen}</sheetView></sheetViews>'
            f'<sheetFormatPr defaultRowHeight="15"/>{f"<cols>{widths}</cols>" if columns else ""}<sheetData>'
            f"{self._header_row(columns)}"
        ).encode()

    def end(self, columns: Sequence[SheetColumn], rows: int, total_row: str) -> bytes:
        """Return what comes after so many rows, the header's included."""
        filters = f'<autoFilter ref="{self.area(rows)}"/>' if self.header else ""
        area = self.area(rows + bool(total_row))
        ignored = f'<ignoredErrors><ignoredError sqref="{area}" numberStoredAsText="1"/></ignoredErrors>'
        width = sum(column.width for column in columns)
        page = PAGE.format(
            orientation="portrait" if width <= UPRIGHT_WIDTH else "landscape", pages=1 + int(width / LYING_WIDTH)
        )
        return f"{total_row}</sheetData>{filters}{page}{ignored}</worksheet>".encode()

    def _header_row(self, columns: Sequence[SheetColumn]) -> str:
        if not self.header:
            return ""
        cells = "".join(
            text_cell(text, _header_style(text, column))
            for text, column in zip(self.headers, columns, strict=True)
        )
        return f'<row ht="21" customHeight="1">{cells}{ROW_END}'


def _header_style(text: str, column: SheetColumn) -> CellStyle:
    if text[:1] in STARTS:
        return CellStyle.QUOTED_HEADER
    return CellStyle.NUMBER_HEADER if column.is_number else CellStyle.HEADER


def column_name(number: int) -> str:
    """Return the letters of a column, counted from 1."""
    letters = ""
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def display_width(text: str) -> int:
    """Return the width of the longest line, in digits; East Asian characters have two."""
    return max(sum(1 + (east_asian_width(one) in "WF") for one in line) for line in text.split("\n"))


def _cell_width(cell: re.Match[bytes]) -> int:
    style, kind, text = int(cell["style"] or 0), cell["kind"], cell["text"]
    if text is None:
        return 0
    if kind == b"v" and style in DATE_WIDTHS:
        return DATE_WIDTHS[CellStyle(style)]
    return display_width(unescape(text[: 8 * MAX_WIDTH].decode(errors="ignore")))
