"""Pdf: tables of any length as PDF, page by page."""

from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, tzinfo
from decimal import Decimal
from enum import Enum
from numbers import Number
from os import PathLike, fspath
from pathlib import Path
from typing import Any, ClassVar

from upstream.streaming._optional import optional
from upstream.streaming.batches import FIRST_BATCH_ROWS, Batch
from upstream.streaming.encoders.pdf_table.files import open_own_fonts
from upstream.streaming.encoders.pdf_table.fonts import DocumentFonts
from upstream.streaming.encoders.pdf_table.layout import PAGE_SIZES, Orientation, Wishes, plan_layout
from upstream.streaming.encoders.pdf_table.objects import ObjectWriter, ref, text_string
from upstream.streaming.encoders.pdf_table.pages import Pages, Style
from upstream.streaming.encoders.pdf_table.properties import Properties
from upstream.streaming.encoders.pdf_table.structure import Tagged, Untagged
from upstream.streaming.encoders.pdf_table.typeset import Typesetter
from upstream.streaming.encoders.protocol import Columns, FastLane, short_repr
from upstream.streaming.encoders.text import TEXTS, write_column
from upstream.streaming.errors import lone_surrogate
from upstream.streaming.values import MISSING, Forms, text_forms

PACKAGES = ("uharfbuzz", "bidi", "pymupdf_fonts")
# The widths of the columns come from the first rows, up to this number of characters.
SAMPLE_ROWS = FIRST_BATCH_ROWS
SAMPLE_CHARACTERS = 200_000
SMALLEST_PAGE = 150
# sRGB without a profile: archives need to know which red a red is.
COLOUR_SPACES = (
    "<</DefaultRGB[/CalRGB<</WhitePoint[.9505 1 1.089]/Gamma[2.2 2.2 2.2]"
    "/Matrix[.4124 .2126 .0193 .3576 .7152 .1192 .1805 .0722 .9505]>>]"
    "/DefaultGray[/CalGray<</WhitePoint[.9505 1 1.089]/Gamma 2.2>>]>>"
)
BLENDING = "/Group<</S/Transparency/CS/DeviceRGB>>"


@dataclass(frozen=True, kw_only=True)
class Pdf:
    """A table as PDF, of any length: pages are written as they fill, so memory does not grow with rows.

    Each page repeats the headers, has the same column widths, and says which page of how many it is. Numbers stand
    at the right, long text is wrapped, and a row that is taller than a page is continued. Widths, and with
    `orientation="auto"` and no `font_size` also orientation and size, are chosen from the first 100 rows, whatever
    batches they come in.

    `title` stands on the first page and in the document's properties, with `author`, `subject`, `language` (such
    as "de") and `created`; without `created` the file contains no time, and equal rows give equal bytes.
    `page_size` is "A3", "A4", "A5", "Letter", or width and height in points of a portrait page. `page_label` is
    the text at the foot of each page: `{page}` is its number, `{pages}` after it the total. An empty table shows
    `empty_text`. `right_to_left` puts the first column at the right.

    `tagged=True` tells screen readers and other programs which text is the title, a header, a row and a cell; with
    a title and a language the document claims to follow PDF/UA-1. It takes 1.8 times the time and three times the
    bytes, since each cell is an object of its own, so it is off by default; LimitError is raised above 8 million
    cells and rows. `archival=True` makes it PDF/A-2, which viewers open read-only: level A if tagged, or else U.

    Fonts are embedded as subsets. That of the text has Latin, Greek, Cyrillic, Arabic, Hebrew, Thai, Georgian and
    Devanagari; other characters come from the fonts of the system. `fonts` are paths of font files that come
    before both; a bold one is used for headers. A character that no font has is a box, and logs a warning.

    `time_zone`, `decimal_separator`, `date_format` and `datetime_format` are those of Csv. Needs the extra `pdf`.

        >>> document = to_buffer(stream([{"Payer": "Medicare", "Days": 3}], encoder=Pdf(title="Drift")))
        >>> document.read(5)
        b'%PDF-'
    """

    __repr__ = short_repr

    title: str = ""
    author: str = ""
    subject: str = ""
    language: str = ""
    created: datetime | None = None
    page_size: str | tuple[float, float] = "A4"
    orientation: Orientation = "auto"
    font_size: float | None = None
    fonts: Sequence[str | PathLike[str]] = ()
    page_label: str = "Page {page} of {pages}"
    empty_text: str = "No rows"
    right_to_left: bool = False
    tagged: bool = False
    archival: bool = False
    time_zone: tzinfo | None = None
    decimal_separator: str = "."
    date_format: str = ""
    datetime_format: str = ""

    content_type: ClassVar[str] = "application/pdf"
    suffix: ClassVar[str] = ".pdf"
    is_compressed: ClassVar[bool] = True
    lane_options: ClassVar[Mapping[FastLane, Collection[str]]] = {
        "text": (
            *(
                "title",
                "author",
                "subject",
                "language",
                "created",
                "page_size",
                "orientation",
                "font_size",
                "fonts",
            ),
            *("page_label", "empty_text", "right_to_left", "tagged", "archival"),
            *("time_zone", "decimal_separator", "date_format", "datetime_format"),
        ),
    }

    def __post_init__(self) -> None:
        if isinstance(self.page_size, str) and self.page_size not in PAGE_SIZES:
            raise ValueError(f"page_size must be one of {', '.join(PAGE_SIZES)}, or (width, height) in points")
        if min(self._points) < SMALLEST_PAGE:
            raise ValueError(
                f"a page must be at least {SMALLEST_PAGE} points wide and high, not {self.page_size!r}"
            )
        if self.orientation not in ("auto", "portrait", "landscape"):
            raise ValueError(f'orientation must be "auto", "portrait" or "landscape", not {self.orientation!r}')
        if self.font_size is not None and not 3 <= self.font_size <= 40:
            raise ValueError(f"font_size must be between 3 and 40 points, not {self.font_size!r}")
        after = self.page_label.partition("{pages}")[2]
        if "{pages}" in after or "{page}" in after:
            raise ValueError(f"page_label must have {{pages}} once, after {{page}}: {self.page_label!r}")
        if isinstance(self.fonts, str):
            raise ValueError(f"fonts must be a list of paths: [{self.fonts!r}]")
        object.__setattr__(self, "fonts", tuple(map(fspath, self.fonts)))
        if missing := [path for path in self.fonts if not Path(path).is_file()]:
            raise ValueError(f"the font {missing[0]!r} is no file")

    @property
    def takes_texts(self) -> frozenset[type]:
        return TEXTS if self.decimal_separator == "." else TEXTS - {Decimal}

    @property
    def _points(self) -> tuple[float, float]:
        return PAGE_SIZES[self.page_size] if isinstance(self.page_size, str) else self.page_size

    def check(self, columns: Columns) -> None:  # noqa: ARG002 (it takes any, with the packages it needs)
        """Raise MissingDependencyError without the extra `pdf`, and ValueError for a file that is no font."""
        for package in PACKAGES:
            optional(package, "pdf")
        open_own_fonts(self.fonts)

    def encode(self, columns: Columns | None, batches: Generator[Batch]) -> Generator[bytes]:
        with closing(batches):
            document = _Document(self, columns or ())
            for batch in batches:
                document.add(batch)
                if chunk := document.writer.take():
                    yield chunk
            document.finish()
            yield document.writer.take()

    def _style(self) -> Style:
        before, total, after = self.page_label.partition("{pages}")
        return Style(
            title=self.title,
            page_label=before,
            total_label=total + after if total else None,
            empty_text=self.empty_text,
            right_to_left=self.right_to_left,
            page_entries=BLENDING if self.archival else "",
        )


class _Document:
    """One PDF file in the making: the first rows are kept until the layout is chosen, then each row is drawn."""

    def __init__(self, options: Pdf, columns: Columns) -> None:
        self.options = options
        self.columns = columns
        self.writer = ObjectWriter()
        self.spaces = f"/ColorSpace{COLOUR_SPACES}" if options.archival else ""
        own = open_own_fonts(options.fonts)
        self.fonts = DocumentFonts(self.writer, own, options.language, self.spaces)
        self.body, self.head = Typesetter(self.fonts), Typesetter(self.fonts, bold=True)
        forms = text_forms(
            time_zone=options.time_zone,
            decimal_separator=options.decimal_separator,
            date_format=options.date_format,
            datetime_format=options.datetime_format,
        )
        self.cells = [_Cells(forms) for _ in columns]
        self.rows = 0
        self.sample: list[tuple[str, ...]] = []
        self.sample_characters = 0
        self.pages: Pages | None = None
        self.tags = Tagged(self.writer) if options.tagged else Untagged()

    def add(self, batch: Batch) -> None:
        first = self.rows + 1
        texts = [
            self._texts(write, values, column, first)
            for write, values, column in zip(self.cells, zip(*batch, strict=True), self.columns, strict=True)
        ]
        self.rows += len(batch)
        rows = zip(*texts, strict=True)
        if self.pages is None:
            for number, row in enumerate(rows):
                self._take_sample(row, number)
                if len(self.sample) == SAMPLE_ROWS or self.sample_characters > SAMPLE_CHARACTERS:
                    self.pages = self._lay_out()
                    break
        if self.pages is not None:
            self._draw(self.pages, rows)

    def finish(self) -> None:
        pages = self.pages or self._lay_out()
        tree, outline = pages.finish()
        pages.write_resources(f"/Font{self.fonts.finish()}{self.spaces}")
        self.writer.finish(*self._end(tree, outline))

    def _end(self, tree: int, outline: int) -> tuple[int, int]:
        """Write the catalog and the properties of the document; return their numbers."""
        options, writer = self.options, self.writer
        properties = Properties(
            title=options.title,
            author=options.author,
            subject=options.subject,
            language=options.language,
            created=options.created,
            is_accessible=bool(options.tagged and options.title and options.language),
            archival_level=("A" if options.tagged else "U") if options.archival else "",
        )
        metadata = writer.reserve()
        writer.write_plain_stream(metadata, properties.xmp(), "/Type/Metadata/Subtype/XML")
        entries = f"/Pages {ref(tree)}/Outlines {ref(outline)}/Metadata {ref(metadata)}{self.tags.finish()}"
        if options.language:
            entries += f"/Lang{text_string(options.language)}"
        if options.title:
            entries += "/ViewerPreferences<</DisplayDocTitle true>>"
        return writer.add(f"<</Type/Catalog{entries}>>"), writer.add(properties.information())

    def _texts(self, write: "_Cells", values: Sequence[Any], column: Any, first: int) -> Sequence[str]:
        texts = write_column(write, values, column, first)
        try:
            "".join(texts).encode()
        except UnicodeEncodeError:
            for number, text in enumerate(texts, first):
                try:
                    text.encode()
                except UnicodeEncodeError as error:
                    where = f"row {number}, column {column.header!r}"
                    raise lone_surrogate(where, text, error) from error
        return texts

    def _take_sample(self, row: tuple[str, ...], number: int) -> None:
        self.sample.append(row)
        self.sample_characters += sum(map(len, row))
        for cells in self.cells:
            cells.sample(number)

    def _lay_out(self) -> Pages:
        """Choose the layout, and draw the first rows."""
        options, headers = self.options, [column.header for column in self.columns]
        numbers = [cells.are_numbers for cells in self.cells]
        texts = list(zip(*self.sample, strict=True)) or [()] * len(headers)
        wishes = [
            Wishes.of(header, column, self.body, self.head, is_number=is_number)
            for header, column, is_number in zip(headers, texts, numbers, strict=True)
        ]
        layout = plan_layout(
            wishes,
            numbers,
            options._points,  # noqa: SLF001
            options.orientation,
            options.font_size,
            right_to_left=options.right_to_left,
        )
        self.body.size = self.head.size = layout.size
        pages = Pages(
            self.writer,
            self.fonts,
            layout,
            options._style(),  # noqa: SLF001
            (self.body, self.head),
            headers,
            self.tags,
        )
        self._draw(pages, iter(self.sample))
        self.sample = []
        for cells in self.cells:
            cells.is_sampled = True
        return pages

    def _draw(self, pages: Pages, rows: Iterator[tuple[str, ...]]) -> None:
        setter = self.body.lines
        widths = pages.text_widths
        for row in rows:
            pages.add([setter(text, width) for text, width in zip(row, widths, strict=True)], row[0])


class _Cells:
    """Writes one column of each batch as text, and notes whether the values of the first rows are numbers."""

    def __init__(self, forms: Forms) -> None:
        self.forms = forms
        self.is_sampled = False
        self.are_numbers = False
        self._others = False
        self._kinds: Sequence[bool | None] = ()

    def __call__(self, values: Sequence[Any], texts_of: type | None = None) -> Sequence[str]:
        if not self.is_sampled:
            self._kinds = [_is_number(value, texts_of) for value in values]
        if texts_of is not None:
            return ["" if text is None else text for text in values]
        return self.forms.column(values)

    def sample(self, number: int) -> None:
        """Take the value at this position of the batch into account."""
        is_number = self._kinds[number]
        self._others |= is_number is False
        self.are_numbers = not self._others and (self.are_numbers or is_number is True)


def _is_number(value: Any, texts_of: type | None) -> bool | None:
    """Return whether a value is a number; None for a missing one, which may be in any column."""
    if value is None or type(value).__name__ in MISSING:
        return None
    if texts_of is not None:
        return issubclass(texts_of, Number)
    if isinstance(value, Enum):
        value = value.value
    is_money = hasattr(value, "amount") and hasattr(value, "currency")
    return is_money or (isinstance(value, Number) and not isinstance(value, bool))
