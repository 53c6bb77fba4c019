"""Rows to pages: rows stand below each other until the page is full, and the page is written."""

from collections.abc import Sequence
from typing import NamedTuple

from upstream.streaming.encoders.pdf_table.fonts import DocumentFonts
from upstream.streaming.encoders.pdf_table.layout import MARGIN, PADDING, Layout
from upstream.streaming.encoders.pdf_table.objects import ObjectWriter, Outline, PageTree, ref
from upstream.streaming.encoders.pdf_table.structure import Untagged
from upstream.streaming.encoders.pdf_table.typeset import Line, Typesetter

LINE_HEIGHT = 1.35  # of the font size
ROW_GAP = 0.24  # above and below a row, of the font size
ASCENT = 1.0  # from the top of a line to its baseline, of the font size
TITLE_SIZE = 15.0
TITLE_LINES = 3
FOOTER_SIZE = 7.5
FOOTER_BASELINE = 22.0
BOTTOM = 38.0  # where the rows of a page end
# A row that does not fit the rest of a page moves to the next one, unless more than this part would stay empty.
MOST_EMPTY = 0.25
HEADER_PART = 0.3  # of a page, at most
PAGES_PER_BOOKMARK = 10
LONGEST_BOOKMARK = 60

INK, HEADER_INK, GREY = "0.13 0.16 0.2 rg", "0.1 0.18 0.3 rg", "0.42 0.46 0.52 rg"
HEADER_FILL, ZEBRA_FILL = "0.895 0.922 0.953 rg", "0.965 0.972 0.981 rg"
HEADER_RULE, END_RULE = "0.1 0.18 0.3 RG 0.8 w", "0.7 0.74 0.8 RG 0.5 w"

Cells = Sequence[Sequence[Line]]


class Style(NamedTuple):
    """What pages show besides the table; `page_label` is cut at the total number of pages."""

    title: str
    page_label: str
    total_label: str | None
    empty_text: str
    right_to_left: bool
    page_entries: str


class Pages:
    """Draws rows on pages, and writes each page when it is full."""

    def __init__(  # noqa: PLR0917 (made in one place)
        self,
        writer: ObjectWriter,
        fonts: DocumentFonts,
        layout: Layout,
        style: Style,
        setters: tuple[Typesetter, Typesetter],
        headers: Sequence[str],
        tags: Untagged,
    ) -> None:
        self._writer, self._layout, self._style, self._tags = writer, layout, style, tags
        self._body, self._head = setters
        self._title = Typesetter(fonts, size=TITLE_SIZE, bold=True)
        self._small = Typesetter(fonts, size=FOOTER_SIZE)
        self._tree, self._outline = PageTree(writer), Outline(writer)
        self.resources, self._total = writer.reserve(), writer.reserve()
        self._line, self._gap = layout.size * LINE_HEIGHT, layout.size * ROW_GAP
        self._space = layout.page_height - MARGIN - BOTTOM
        self._headers = self._header_lines(headers)
        self._most = self._lines_in(self._space - self._height(self._headers))
        self._rows = 0
        self._bookmark = self._label = ""
        self._total_is_left = False
        self._fresh = True
        self._start()

    @property
    def text_widths(self) -> list[int]:
        return [column.text_width for column in self._layout.columns]

    def add(self, cells: Cells, label: str) -> None:
        """Draw a row; one that does not fit is moved to the next page, or continued there.

        `label` is the text of its bookmark, if it gets one.
        """
        self._rows += 1
        self._label = label
        height = max(map(len, cells))
        start = 0
        while start < height:
            room, left = self._lines_in(self._top - BOTTOM), height - start
            if room < left and not self._fresh and not self._splits(room, left):
                self._finish_page()
                self._start()
                continue
            count = max(1, min(room, left))
            part = [lines[start : start + count] for lines in cells] if count < height else cells
            self._draw(part, count, is_continued=start > 0)
            start += count

    def finish(self) -> tuple[int, int]:
        """Write the last page and the total; return the numbers of the page tree and of the outline."""
        if not self._rows:
            self._say_empty()
        self._finish_page()
        self._write_total()
        return self._tree.finish(), self._outline.finish()

    def _say_empty(self) -> None:
        line, x = self._body.line(self._style.empty_text), self._layout.left + self._padding
        if self._style.right_to_left:
            x = self._layout.right - self._padding - line.width * self._layout.size / 1000
        place = f"1 0 0 1 {x:.2f} {self._top - self._line:.2f} Tm {line.operators}"
        tags = self._tags
        if cells := self._layout.columns:  # the row of a table without rows
            place, *_ = tags.row([place, *[""] * (len(cells) - 1)], is_continued=False)
            self._above.append(_shown(GREY, self._body, [place]))
        else:
            self._above += tags.text("P", [_shown(GREY, self._body, [place])])

    @property
    def _padding(self) -> float:
        return PADDING * self._layout.size / 1000

    def _lines_in(self, space: float) -> int:
        """Return how many lines of a row fit a space."""
        return int((space - 2 * self._gap) / self._line + 1e-6)

    def _splits(self, room: int, left: int) -> bool:
        """Return whether a row begins in the rest of a page, rather than on the next page."""
        return room >= MOST_EMPTY * self._most or (left > self._most and room > 1)

    def _height(self, cells: Cells) -> float:
        return max(map(len, cells), default=0) * self._line + 2 * self._gap

    def _draw(self, cells: Cells, count: int, *, is_continued: bool) -> None:
        height = count * self._line + 2 * self._gap
        if self._rows % 2 == 0:
            self._fill(ZEBRA_FILL, height)
        if self._fresh:
            self._note_bookmark()
        shown = self._cells(cells, self._top - self._gap - ASCENT * self._layout.size)
        self._texts += self._tags.row(shown, is_continued=is_continued)
        self._top -= height
        self._fresh = False

    def _cells(self, cells: Cells, baseline: float) -> list[str]:
        """Return the operators that show each of a row's cells, its first line at `baseline`."""
        padding, size, is_reversed = self._padding, self._layout.size / 1000, self._style.right_to_left
        shown = []
        first = f"{baseline:.2f}"
        for column, lines in zip(self._layout.columns, cells, strict=True):
            operators = ""
            for number, line in enumerate(lines):
                if line.width:
                    at_end = column.is_number or line.right_to_left or is_reversed
                    x = column.right - padding - line.width * size if at_end else column.left + padding
                    y = f"{baseline - number * self._line:.2f}" if number else first
                    operators += f"{chr(10) if operators else ''}1 0 0 1 {x:.2f} {y} Tm {line.operators}"
            shown.append(operators)
        return shown

    def _fill(self, colour: str, height: float) -> None:
        left, right = self._layout.left, self._layout.right
        self._fills.append(f"{colour} {left:.2f} {self._top - height:.2f} {right - left:.2f} {height:.2f} re f")

    def _rule(self, stroke: str) -> None:
        y = f"{self._top:.2f}"
        self._below.append(f"{stroke} {self._layout.left:.2f} {y} m {self._layout.right:.2f} {y} l S")

    def _start(self) -> None:
        """Begin a page: on the first one the title, on each the headers."""
        self._fills: list[str] = []
        self._above: list[str] = []
        self._texts: list[str] = []
        self._below: list[str] = []
        self._top = self._layout.page_height - MARGIN
        self._fresh = True
        self._page = self._writer.reserve()
        self._tags.begin_page(self._page)
        if self._style.title and not self._tree.pages:
            self._draw_title()
        if self._headers:
            self._fill(HEADER_FILL, self._height(self._headers))
            self._draw_headers()
            self._top -= self._height(self._headers)
            self._rule(HEADER_RULE)

    def _draw_title(self) -> None:
        width = int((self._layout.page_width - 2 * MARGIN) * 1000 / TITLE_SIZE)
        shown = []
        for line in self._title.lines(self._style.title, width)[:TITLE_LINES]:
            self._top -= TITLE_SIZE
            x = MARGIN
            if self._style.right_to_left or line.right_to_left:
                x = self._layout.page_width - MARGIN - line.width * TITLE_SIZE / 1000
            place = f"1 0 0 1 {x:.2f} {self._top:.2f} Tm {line.operators}"
            shown.append(_shown(HEADER_INK, self._title, [place]))
            self._top -= TITLE_SIZE * (LINE_HEIGHT - 1)
        self._above += self._tags.text("H1", shown)
        self._top -= TITLE_SIZE / 2

    def _header_lines(self, headers: Sequence[str]) -> list[list[Line]]:
        """Return the lines of the headers, as many as leave room for rows; what is left out ends in dots."""
        most = max(1, self._lines_in(self._space * HEADER_PART))
        columns = self._layout.columns
        cells = [self._head.lines(text, one.text_width) for text, one in zip(headers, columns, strict=True)]
        return [lines if len(lines) <= most else [*lines[: most - 1], self._head.line("…")] for lines in cells]

    def _draw_headers(self) -> None:
        height = max(map(len, self._headers))
        baseline = self._top - self._gap - ASCENT * self._layout.size
        blank = Line(0, "")
        standing = [[*[blank] * (height - len(lines)), *lines] for lines in self._headers]
        cells = self._cells(standing, baseline)
        if self._tree.pages:  # on later pages they are for the eyes
            self._above += self._tags.artifact([_shown(HEADER_INK, self._head, list(filter(None, cells)))])
        else:
            self._above.append(_shown(HEADER_INK, self._head, self._tags.header(cells)))

    def _note_bookmark(self) -> None:
        if self._tree.pages % PAGES_PER_BOOKMARK == 0:
            self._bookmark = f"{self._rows:,} · {' '.join(self._label.split()):.{LONGEST_BOOKMARK}}".rstrip(" ·")

    def _finish_page(self) -> None:
        if not self._fresh:
            self._rule(END_RULE)
        self._draw_footer()
        fills, below = self._tags.artifact(self._fills), self._tags.artifact(self._below)
        content = "\n".join([*fills, *self._above, _shown(INK, self._body, self._texts), *below])
        stream = self._writer.add_stream(content.encode("ascii"))
        box = f"[0 0 {self._layout.page_width:g} {self._layout.page_height:g}]"
        entries = f"/MediaBox{box}/Resources {ref(self.resources)}/Contents {ref(stream)}"
        self._tree.add(self._page, f"{entries}{self._style.page_entries}{self._tags.end_page()}")
        if self._bookmark:
            self._outline.add(self._bookmark, self._page)
            self._bookmark = ""

    def _draw_footer(self) -> None:
        """Draw the title and the page number; the total is one object for all pages, written last."""
        layout, style, small = self._layout, self._style, self._small
        number = self._tree.pages + 1
        if style.title and number > 1:
            room = int(layout.page_width * 0.35 * 1000 / FOOTER_SIZE)
            [first, *_] = small.lines(style.title, room)
            x = layout.page_width - MARGIN - first.width * FOOTER_SIZE / 1000 if style.right_to_left else MARGIN
            place = f"1 0 0 1 {x:.2f} {FOOTER_BASELINE:.2f} Tm {first.operators}"
            self._below.append(_shown(GREY, small, [place]))
        label = small.line(style.page_label.replace("{page}", str(number)))
        total = small.width("000" if style.total_label is not None else "")
        space = label.width + total
        x = layout.page_width / 2 - (space if not label.right_to_left else space - 2 * total) * FOOTER_SIZE / 2000
        place = f"1 0 0 1 {x:.2f} {FOOTER_BASELINE:.2f} Tm {label.operators}"
        self._below.append(_shown(GREY, small, [place]))
        if style.total_label is not None:
            self._total_is_left = label.right_to_left
            x += 0 if label.right_to_left else label.width * FOOTER_SIZE / 1000
            self._below.append(f"q 1 0 0 1 {x:.2f} {FOOTER_BASELINE:.2f} cm /N Do Q")

    def _write_total(self) -> None:
        """Write the total, which stands behind the page number: left of it in a label from right to left."""
        text = (self._style.total_label or "").replace("{pages}", str(self._tree.pages))
        line = self._small.line(text)
        width = line.width * FOOTER_SIZE / 1000
        x = -width if self._total_is_left else 0
        content = _shown(GREY, self._small, [f"1 0 0 1 {x:.2f} 0 Tm {line.operators}"])
        box = f"[{x - 1:.2f} -4 {x + width + 1:.2f} 10]"
        entries = f"/Type/XObject/Subtype/Form/BBox{box}/Resources {ref(self.resources)}"
        self._writer.write_stream(self._total, content.encode("ascii"), entries)

    def write_resources(self, entries: str) -> None:
        self._writer.write(self.resources, f"<<{entries}/XObject<</N {ref(self._total)}>>>>")


def _shown(colour: str, setter: Typesetter, operators: Sequence[str]) -> str:
    lines = "\n".join(operators)
    return f"BT {colour} /{setter.resource} {setter.size:g} Tf {lines} ET"
