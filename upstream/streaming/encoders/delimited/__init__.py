"""CSV, TSV and other delimited text (RFC 4180)."""

from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date, datetime, tzinfo
from decimal import Decimal
from typing import Any, ClassVar, Final, Literal

from upstream.streaming.batches import Batch
from upstream.streaming.databases.protocol import DelimitedRows
from upstream.streaming.encoders.delimited.cells import Cells, quoted
from upstream.streaming.encoders.delimited.whole import WholeRows
from upstream.streaming.encoders.protocol import Columns, FastLane, Seam, short_repr
from upstream.streaming.encoders.text import (
    TEXTS,
    TEXTS_OF_MOMENTS,
    UTF_8,
    CellWriter,
    Encoding,
    TextRows,
    codec_name,
)
from upstream.streaming.errors import ColumnError
from upstream.streaming.values import Forms, text_forms

BOM = "\ufeff"
LINE_END: Final = "\r\n"
UNICODE = ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")  # those without a mark of their own
# Names of media types that differ from Python's.
CHARSETS = {
    "cp932": "windows-31j",
    "utf-8-sig": "utf-8",
    **{f"cp{number}": f"windows-{number}" for number in range(1250, 1259)},
}
# A file that begins with ID is a SYLK file to Excel.
SYLK = "ID"


@dataclass(frozen=True, kw_only=True)
class Csv:
    """Delimited text: RFC 4180 framing with CRLF, UTF-8, a header row.

    `lineterminator` may be LF, and `encoding` any text encoding of Python's; text that it cannot encode raises
    TextError. `timespec="microseconds"` writes datetimes and times in one width; by default they have no fraction
    if it is zero. A cell that PostgreSQL or Excel would take for a mark is quoted: `\\.` alone in its row, and
    `ID...` at the beginning of the file.

    `delimiter` is one character (a tab makes TSV). `quoting` is "minimal", "all" or "nonnumeric", as in the
    csv module. None is an empty cell. To distinguish it from the empty string, set a `null_marker` (any other cell
    with that text is quoted), or `quote_empty=True`, which writes the empty string as `""`.

    `profile="data"`, the default, changes no value. `profile="excel"` writes for people: it adds a byte-order mark
    (unless `bom=False`) and an apostrophe before cells and headers that a spreadsheet would run as a formula
    (OWASP, CSV injection; see `formulas.Guard`), and allows a `decimal_separator`, and a `date_format` and
    `datetime_format` in strftime codes. `time_zone` converts aware datetimes; by default they keep their own zone.

        >>> to_buffer(stream([{"id": 1, "note": "=1+1"}], encoder=Csv(delimiter=";"))).getvalue()
        b'id;note\\r\\n1;=1+1\\r\\n'
        >>> Csv(profile="excel", bom=False)
        Csv(bom=False, profile='excel')
    """

    delimiter: str = ","
    quoting: Literal["minimal", "all", "nonnumeric"] = "minimal"
    null_marker: str = ""
    quote_empty: bool = False
    header: bool = True
    lineterminator: Literal["\r\n", "\n"] = LINE_END
    encoding: str = "utf-8"
    bom: bool | None = None
    profile: Literal["data", "excel"] = "data"
    time_zone: tzinfo | None = None
    timespec: Literal["auto", "microseconds"] = "auto"
    decimal_separator: str = "."
    date_format: str = ""
    datetime_format: str = ""

    __repr__ = short_repr

    lane_options: ClassVar[Mapping[FastLane, Collection[str]]] = {
        "copy": ("delimiter", "header", "lineterminator", "bom", "profile"),
        "text": (
            *("delimiter", "quoting", "null_marker", "quote_empty", "header", "lineterminator", "encoding", "bom"),
            *("profile", "time_zone", "timespec", "decimal_separator", "date_format", "datetime_format"),
        ),
    }

    def __post_init__(self) -> None:
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n':
            raise ValueError(
                f"delimiter must be one character, and no quote or line break, not {self.delimiter!r}"
            )
        if self.quoting not in ("minimal", "all", "nonnumeric"):
            raise ValueError(f'quoting must be "minimal", "all" or "nonnumeric", not {self.quoting!r}')
        if self.profile not in ("data", "excel"):
            raise ValueError(f'profile must be "data" or "excel", not {self.profile!r}')
        if any(mark in self.null_marker for mark in (self.delimiter, '"', "\r", "\n")):
            raise ValueError(
                f"null_marker must not contain the delimiter, a quote or a line break: {self.null_marker!r}"
            )
        if self.lineterminator not in ("\r\n", "\n"):
            raise ValueError(f"lineterminator must be CRLF or LF, not {self.lineterminator!r}")
        if self.timespec not in ("auto", "microseconds"):
            raise ValueError(f'timespec must be "auto" or "microseconds", not {self.timespec!r}')
        object.__setattr__(self, "encoding", codec_name(self.encoding))
        if self.bom is not None and self.encoding not in UNICODE:
            raise ValueError(f"bom has no effect on encoding={self.encoding!r}, which fixes the mark itself")
        local = self.decimal_separator != "." or self.date_format or self.datetime_format
        if local and self.profile != "excel":
            raise ValueError('decimal_separator, date_format and datetime_format require profile="excel"')

    @property
    def content_type(self) -> str:
        kind = "tab-separated-values" if self.delimiter == "\t" else "csv"
        return f"text/{kind}; charset={CHARSETS.get(self.encoding, self.encoding)}"

    @property
    def suffix(self) -> str:
        return ".tsv" if self.delimiter == "\t" else ".csv"

    @property
    def takes_positions(self) -> bool:
        return not self.header

    @property
    def takes_texts(self) -> frozenset[type]:
        changed = {
            Decimal: self.decimal_separator != ".",
            date: self.date_format,
            datetime: self.time_zone or self.datetime_format or self.timespec != "auto",
        }
        return TEXTS.union(TEXTS_OF_MOMENTS) - {kind for kind, is_changed in changed.items() if is_changed}

    @property
    def row_format(self) -> DelimitedRows:
        return DelimitedRows(self.delimiter, guarded=self.profile == "excel")

    @property
    def seam(self) -> Seam:
        return Seam(following=replace(self, header=True))  # without one, its first cell would begin a file

    def check(self, columns: Columns) -> None:
        if len(columns) == 1 and self.quote_empty and not self.null_marker:
            raise ColumnError(
                "with only one column, None would be an empty line, which readers skip: set a null_marker"
            )

    def encode(self, columns: Columns | None, batches: Generator[Batch]) -> Generator[bytes]:
        if not columns:  # no names, and no row to take them from
            return
        forms = self._forms()
        cells = [Cells(self, forms, json=one.json, join=one.join, single=len(columns) == 1) for one in columns]
        writers: list[CellWriter] = [*cells]
        if not self.header:
            writers[0] = _First(cells[0])
        frames = ["", *[self.delimiter] * (len(columns) - 1), self.lineterminator]
        encoding = Encoding.of(self.encoding)
        whole = WholeRows(columns, cells, self.lineterminator.encode(), starts=not self.header)
        prologue = self._prologue(columns, encoding)
        with closing(TextRows(columns, writers, frames, encoding, whole).encode(batches)) as chunks:
            # Yielded together with the first rows: a failing query must fail before the first byte.
            if first := prologue + next(chunks, b""):
                yield first
            yield from chunks
        if rest := encoding.end():
            yield rest

    def frame(self, columns: Columns, batches: Generator[list[bytes]]) -> Generator[bytes]:
        """Yield rows rendered by a database, framed as `encode` frames them. Closes `batches`."""
        prologue, line_end = self._prologue(columns, UTF_8), self.lineterminator.encode()
        starts = not self.header
        with closing(batches):
            for rows in batches:
                if starts and rows[0].startswith(SYLK.encode()):
                    cell, *rest = rows[0].split(mark := self.delimiter.encode(), 1)
                    rows[0] = mark.join((b'"' + cell + b'"', *rest))
                yield prologue + line_end.join([*rows, b""])
                prologue, starts = b"", False
        if prologue:
            yield prologue

    def _forms(self) -> Forms:
        return text_forms(
            time_zone=self.time_zone,
            decimal_separator=self.decimal_separator,
            date_format=self.date_format,
            datetime_format=self.datetime_format,
            timespec=self.timespec,
        )

    def _prologue(self, columns: Columns, encoding: Encoding) -> bytes:
        wants_mark = self.profile == "excel" and self.encoding in UNICODE if self.bom is None else self.bom
        bom = BOM if wants_mark else ""
        if not self.header:
            return encoding.encode(bom)
        write = _First(Cells(self, self._forms(), single=len(columns) == 1))
        headers = [column.header for column in columns]
        try:
            return encoding.encode(bom + self.delimiter.join(write(headers)) + self.lineterminator)
        except UnicodeEncodeError as error:
            raise encoding.located(error, ((f"the header {header!r}", header) for header in headers)) from error


class _First:
    """Writes the first column, and quotes the first cell of the file if Excel would take it for SYLK."""

    def __init__(self, writer: CellWriter) -> None:
        self.writer = writer
        self.is_first = True

    def __call__(self, values: Sequence[Any], texts_of: type | None = None) -> Sequence[str]:
        cells = self.writer(values, texts_of)
        if self.is_first and cells and cells[0].startswith(SYLK):
            cells = [quoted(cells[0]), *cells[1:]]
        self.is_first = False
        return cells
