"""Excel workbooks (Office Open XML, ECMA-376), written in one go: no temporary file, no seeking."""

from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import timedelta, tzinfo
from typing import Any, BinaryIO, ClassVar, Self

from django.conf import settings
from django.utils.timezone import get_current_timezone

from upstream.streaming.batches import Batch
from upstream.streaming.databases.protocol import CellStyle, SheetRows
from upstream.streaming.encoders.protocol import Columns, FastLane, OpenRows, Seam, short_repr
from upstream.streaming.encoders.text import TEXTS, TextRows
from upstream.streaming.encoders.xlsx import parts
from upstream.streaming.encoders.xlsx.cells import LongTexts, SheetCells, completed
from upstream.streaming.encoders.xlsx.sheets import MAX_COLUMNS, MAX_ROWS, ROW, ROW_END
from upstream.streaming.encoders.xlsx.totals import Total
from upstream.streaming.encoders.xlsx.workbook import Look, RenderedTable, join, write
from upstream.streaming.errors import ColumnError
from upstream.streaming.values import text_forms

SHEET = "Sheet1"  # as spreadsheets call the first one


@dataclass(frozen=True, kw_only=True)
class Xlsx:
    """An Excel workbook, streamed: it starts with the first rows, and takes the memory of a batch.

    Numbers, booleans, dates, times and moments are what they are to a spreadsheet; moments are in `time_zone`, by
    default the current one. What a spreadsheet would change is text, which is never a formula: integers and
    Decimals of more than 15 digits, days before 1900-03-01. None and the empty string are empty cells. A text of
    more than 32,767 characters is an error, or with `long_texts="cut"` cut, and ends in an ellipsis.

    The first row is the header, which stays in sight and filters; `header=False` leaves it out. Columns are as
    wide as the first rows need. `number_formats` gives columns, by header, a format in Excel's codes, such as
    "#,##0.00". `totals` are the headers of columns that a last row sums up.

    A sheet is called `sheet`, by default like the `title`, or "Sheet1". One that is full, with `sheet_rows` rows
    or 2 GB, is continued on the next, with the header again. A mapping as the source is a workbook of several
    sheets, by their names: its values are sources of rows, or a `Table` with columns; formats and totals apply to
    the sheets that have their headers. `title` and `author` are properties of the document. The same rows give the
    same bytes.

        >>> workbook = to_buffer(stream([{"Payer": "Medicare", "Days": 3}], encoder=Xlsx(totals=["Days"])))
        >>> workbook.read(4)
        b'PK\\x03\\x04'
    """

    __repr__ = short_repr

    header: bool = True
    sheet: str | None = None
    sheet_rows: int = MAX_ROWS
    time_zone: tzinfo | None = None
    number_formats: Mapping[str, str] = field(default_factory=dict)
    totals: Sequence[str] = ()
    long_texts: LongTexts = "error"
    right_to_left: bool = False
    title: str = ""
    author: str = ""

    takes_texts: ClassVar[frozenset[type]] = TEXTS
    lane_options: ClassVar[Mapping[FastLane, Collection[str]]] = {
        "copy": (
            *("header", "sheet", "sheet_rows", "time_zone", "number_formats", "long_texts", "right_to_left"),
            *("title", "author"),
        ),
        "text": (
            *("header", "sheet", "sheet_rows", "time_zone", "number_formats", "totals", "long_texts"),
            *("right_to_left", "title", "author"),
        ),
    }
    content_type: ClassVar[str] = parts.CONTENT_TYPE
    suffix: ClassVar[str] = ".xlsx"
    is_compressed: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.sheet is not None:
            parts.check_name(self.sheet)
        least = 1 + self.header + bool(self.totals)
        if not isinstance(self.sheet_rows, int) or not least <= self.sheet_rows <= MAX_ROWS:
            raise ValueError(f"sheet_rows must be from {least} to {MAX_ROWS:,}, not {self.sheet_rows!r}")
        if self.long_texts not in ("error", "cut"):
            raise ValueError(f'long_texts must be "error" or "cut", not {self.long_texts!r}')
        if isinstance(self.totals, str):
            raise ValueError(f"totals must be a list of headers: [{self.totals!r}]")

    @property
    def takes_positions(self) -> bool:
        return not self.header

    @property
    def row_format(self) -> SheetRows:
        return SheetRows(local=not _is_utc(self._zone()), styles=self._styles())

    @property
    def seam(self) -> Seam | None:
        """Workbooks are joined sheet by sheet; none if each would sum up its own rows."""
        return None if self.totals else Seam(join_files=self._joined)

    def settle(self, _columns: Columns, batches: Generator[Batch]) -> Self:
        """Return the encoder for the current time zone, wherever it writes."""
        batches.close()
        return replace(self, time_zone=self._zone())

    def check(self, columns: Columns) -> None:
        self.check_part(columns)
        headers = {column.header for column in columns}
        for option in ("number_formats", "totals"):
            if unknown := sorted(set(getattr(self, option)) - headers):
                raise ColumnError(f"{option} names {unknown[0]!r}, but no column has that header")

    def check_part(self, columns: Columns) -> None:
        if len(columns) > MAX_COLUMNS:
            raise ColumnError(f"a sheet has at most {MAX_COLUMNS:,} columns, and these are {len(columns):,}")

    def encode(self, columns: Columns | None, batches: Generator[Batch]) -> Generator[bytes]:
        return write(self._look(), self._one(self._table(self._sheet, columns or (), batches)))

    def frame(self, columns: Columns, batches: Generator[list[bytes]]) -> Generator[bytes]:
        """Yield rows rendered by a database, framed as `encode` frames them. Closes `batches`."""
        rows = completed(batches, [column.header for column in columns], self.long_texts)
        return write(self._look(), self._one(RenderedTable(self._sheet, columns, rows, {})))

    def encode_document(self, document: Mapping[Any, Any], open_rows: OpenRows) -> Generator[bytes]:
        """Yield a workbook of several sheets; `open_rows` opens the source of each."""
        return write(self._look(), self._tables(document, open_rows))

    def _joined(self, files: Iterable[BinaryIO]) -> Generator[bytes]:
        return join(self._look(), self._sheet, files)

    @property
    def _sheet(self) -> str:
        return self.sheet or (parts.clean_name(self.title) if self.title else SHEET)

    def _look(self) -> Look:
        return Look(
            header=self.header,
            most_rows=self.sheet_rows,
            formats=self.number_formats,
            styles=self._styles(),
            right_to_left=self.right_to_left,
            title=self.title,
            author=self.author,
        )

    def _one(self, table: RenderedTable) -> Generator[RenderedTable]:
        with closing(table.rows):
            yield table

    def _tables(self, document: Mapping[Any, Any], open_rows: OpenRows) -> Generator[RenderedTable]:
        if not document:  # a workbook has at least one sheet
            yield RenderedTable(self._sheet, (), _nothing(), {})
        for name, value in document.items():
            with open_rows(value) as (columns, batches):
                yield self._table(parts.clean_name(str(name)), columns or (), batches)

    def _table(self, name: str, columns: Columns, batches: Generator[Batch]) -> RenderedTable:
        """Return a source with the writers of its columns, which sum up as they write."""
        totals = {at: Total() for at, column in enumerate(columns) if column.header in self.totals}
        forms, zone, styles = text_forms(), self._zone(), self._styles()
        writers = [
            SheetCells(
                forms,
                zone,
                self.long_texts,
                styles.get(column.header),
                totals[at].add if at in totals else None,
            )
            for at, column in enumerate(columns)
        ]
        frames = [ROW, *[""] * (len(columns) - 1), ROW_END]
        return RenderedTable(name, columns, TextRows(columns, writers, frames).encode_rows(batches), totals)

    def _zone(self) -> tzinfo | None:
        if self.time_zone is None and settings.configured:
            return get_current_timezone()
        return self.time_zone

    def _styles(self) -> dict[str, int]:
        """Return the styles of columns with number formats, by header."""
        return {header: CellStyle.CUSTOM + 2 * at for at, header in enumerate(self.number_formats)}


def _nothing() -> Generator[list[bytes]]:
    yield from ()


def _is_utc(zone: tzinfo | None) -> bool:
    """Return whether moments that the database gives, in UTC, stay as they are."""
    return zone is None or zone.utcoffset(None) == timedelta(0)
