"""A workbook, from its first byte to its last."""

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple
from zipfile import ZipFile

from upstream.streaming.databases.protocol import CellStyle
from upstream.streaming.encoders.protocol import Columns
from upstream.streaming.encoders.xlsx import parts
from upstream.streaming.encoders.xlsx.archive import Archive
from upstream.streaming.encoders.xlsx.cells import text_cell
from upstream.streaming.encoders.xlsx.sheets import (
    ROW,
    ROW_END,
    SHEET_BYTES,
    Layout,
    Rows,
    SheetColumn,
    column_name,
)
from upstream.streaming.encoders.xlsx.totals import Total

TOTAL = "Total"


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a workbook looks; `styles` are those of the columns with `formats`, by header."""

    header: bool
    most_rows: int
    formats: Mapping[str, str]
    styles: Mapping[str, int]
    right_to_left: bool
    title: str
    author: str


class RenderedTable(NamedTuple):
    """A source of rendered rows, and the totals of its columns by position, complete after the last row."""

    name: str
    columns: Columns
    rows: Generator[list[bytes]]
    totals: Mapping[int, Total]


def write(look: Look, tables: Generator[RenderedTable]) -> Generator[bytes]:
    """Yield a workbook with a sheet or more for each table; closes `tables`."""
    workbook = _Workbook(look)
    with closing(tables):
        for table in tables:
            with closing(workbook.table(table)) as chunks:
                yield from chunks
    yield workbook.end()


def join(look: Look, name: str, files: Iterable[BinaryIO]) -> Generator[bytes]:
    """Yield a workbook with the sheets of several, which were written with this look."""
    workbook = _Workbook(look)
    yield workbook.start()
    for file in files:
        yield from workbook.copies(name, file)
    yield workbook.end()


class _Workbook:
    """A workbook while it is written."""

    def __init__(self, look: Look) -> None:
        self.look = look
        self.archive = Archive()
        self.sheets: list[parts.Sheet] = []
        self.names: set[str] = set()
        self.calculates = False

    def table(self, table: RenderedTable) -> Generator[bytes]:
        """Yield the sheets of one table, at least one."""
        layout = Layout(
            headers=[column.header for column in table.columns],
            header=self.look.header and bool(table.columns),
            right_to_left=self.look.right_to_left,
        )
        rows, first = Rows(table.rows), len(self.sheets)
        rows.has_more()  # a query that fails does so before the first byte
        if not self.sheets:
            yield self.start()
        columns = layout.columns(rows.sample())
        while len(self.sheets) == first or rows.has_more():
            xml = self._sheet(table, layout, rows, columns, self.sheets[first:])
            path = parts.sheet_path(len(self.sheets) + 1)
            with closing(self.archive.streamed(path, xml)) as chunks:
                yield from chunks

    def _sheet(
        self,
        table: RenderedTable,
        layout: Layout,
        rows: Rows,
        columns: Sequence[SheetColumn],
        before: Sequence[parts.Sheet],
    ) -> Generator[bytes]:
        start = layout.start(columns)
        yield start
        count, size = int(layout.header), len(start)
        most = self.look.most_rows - bool(table.totals)
        while taken := rows.take(most - count, SHEET_BYTES - size):
            xml = b"".join(taken)
            count += len(taken)
            size += len(xml)
            yield xml
        self._add(table.name, len(before) + 1, layout.last_column, count, layout.header)
        is_last = not rows.has_more()
        total_row = self._total_row(table, [*before, self.sheets[-1]]) if is_last and table.totals else ""
        yield layout.end(columns, count, total_row)

    def _total_row(self, table: RenderedTable, sheets: Sequence[parts.Sheet]) -> str:
        self.calculates = True
        cells = []
        for at, column in enumerate(table.columns):
            if at in table.totals:
                custom = self.look.styles.get(column.header)
                formula = parts.sum_formula(column_name(at + 1), sheets)
                cells.append(table.totals[at].cell(formula, None if custom is None else custom + 1))
            else:
                cells.append(text_cell("" if at else TOTAL, CellStyle.TOTAL))
        return f"{ROW}{''.join(cells)}{ROW_END}"

    def _add(self, name: str, number: int, last_column: str, rows: int, has_header: bool) -> None:
        name = parts.unique_name(name, self.names, number)
        self.names.add(name.lower())
        self.sheets.append(parts.Sheet(name, last_column, rows, has_header))

    def copies(self, name: str, file: BinaryIO) -> Generator[bytes]:
        """Yield the sheets of another workbook with the same look, as they are compressed."""
        with ZipFile(file) as other:
            for number, size in enumerate(parts.sizes_of(other.read(parts.WORKBOOK)), 1):
                self._add(name, len(self.sheets) + 1, *size)
                entry = other.getinfo(parts.sheet_path(number))
                yield from self.archive.copied(parts.sheet_path(len(self.sheets)), file, entry)

    def start(self) -> bytes:
        """Return what comes before the first sheet."""
        return self._parts(
            {
                "_rels/.rels": parts.package_relationships(),
                "docProps/core.xml": parts.core_properties(self.look.title, self.look.author),
                "docProps/app.xml": parts.application_properties(),
                "xl/styles.xml": parts.styles(list(self.look.formats.values())),
            }
        )

    def end(self) -> bytes:
        """Return what comes after the last sheet; without it, nothing opens the workbook."""
        count = len(self.sheets)
        listed = self._parts(
            {
                parts.WORKBOOK: parts.workbook(self.sheets, calculates=self.calculates),
                "xl/_rels/workbook.xml.rels": parts.workbook_relationships(count),
                "[Content_Types].xml": parts.content_types(count),
            }
        )
        return listed + self.archive.end()

    def _parts(self, data: Mapping[str, bytes]) -> bytes:
        return b"".join(self.archive.whole(name, xml) for name, xml in data.items())
