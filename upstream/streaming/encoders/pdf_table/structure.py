"""The structure of a document, for screen readers and for programs that take tables out of PDF files (tagged PDF).

`Document > H1, Table > THead, TBody > TR > TH or TD`, with a TBody for each page. Each cell, and each text beside
the table, is a marked piece of its page's content; lines, fills, repeated headers and page numbers are artifacts.
The elements of a page are written with it; of each page, two numbers are kept. With 100,000 rows of six columns
the tags take 1.8 times the time (4.2 s for 2.4) and three times the bytes (20 MB for 6.6): so they are an option.
"""

from array import array
from collections.abc import Iterable, Sequence

from upstream.streaming.encoders.pdf_table.objects import KIDS, ObjectWriter, ref

COLUMN = "/A<</O/Table/Scope/Column>>"


class Untagged:
    """The structure of a document that has none."""

    def begin_page(self, page: int) -> None:
        """Begin a page, whose content is what is marked until the next one."""

    def artifact(self, operators: Sequence[str]) -> Sequence[str]:
        """Return operators marked as no content."""
        return operators

    def text(self, tag: str, operators: Sequence[str]) -> Sequence[str]:  # noqa: ARG002 (it marks nothing)
        """Return the operators of a text beside the table, marked as one element."""
        return operators

    def header(self, cells: Sequence[str]) -> Sequence[str]:
        """Return the operators of the header's cells, "" if a cell is empty, each marked."""
        return list(filter(None, cells))

    def row(self, cells: Sequence[str], *, is_continued: bool) -> Sequence[str]:  # noqa: ARG002 (it marks nothing)
        """Return the operators of a row's cells, each marked; `is_continued` says that the row began before."""
        return list(filter(None, cells))

    def end_page(self) -> str:
        """Return the entries that the page needs."""
        return ""

    def finish(self) -> str:
        """Write what is left; return the entries of the catalog."""
        return ""


class Tagged(Untagged):
    """The structure of a document with tags."""

    def __init__(self, writer: ObjectWriter) -> None:
        self._writer = writer
        self._root, self._document, self._table = writer.reserve(), writer.reserve(), 0
        self._texts: list[int] = []
        self._groups = array("I")  # THead, and the TBody of each page
        self._parents_of_pages = array("I")
        self._group, self._rows, self._kind = 0, array("I"), ""
        self._row = self._parent = 0
        self._start = ""  # of the elements of the row's cells
        self._kids: list[list[tuple[int, int]]] = []  # the pages and numbers of the marks of each cell

    def begin_page(self, page: int) -> None:
        self._page = page
        self._parents: list[int] = []

    def artifact(self, operators: Sequence[str]) -> Sequence[str]:
        return ["/Artifact BMC", *operators, "EMC"] if operators else []

    def text(self, tag: str, operators: Sequence[str]) -> Sequence[str]:
        number = self._writer.reserve_packed(1)
        self._texts.append(number)
        self._writer.pack(
            number, [f"<</S/{tag}/P {ref(self._document)}/Pg {ref(self._page)}/K {len(self._parents)}>>"]
        )
        self._parents.append(number)
        return [f"/{tag}<</MCID {len(self._parents) - 1}>>BDC", *operators, "EMC"]

    def header(self, cells: Sequence[str]) -> Sequence[str]:
        self._begin_group("THead")
        self._begin_row("TH", COLUMN, len(cells))
        marked = self._marked(cells, "TH")
        self._end_group()
        return marked

    def row(self, cells: Sequence[str], *, is_continued: bool) -> Sequence[str]:
        if not is_continued:
            if not self._group:
                self._begin_group("TBody")
            self._begin_row("TD", "", len(cells))
        return self._marked(cells, "TD")

    def end_page(self) -> str:
        self._end_group()
        parents = self._writer.reserve_packed(1)
        self._writer.pack(parents, [f"[{_refs(self._parents)}]"])
        self._parents_of_pages.append(parents)
        return f"/StructParents {len(self._parents_of_pages) - 1}/Tabs/S"

    def finish(self) -> str:
        self._end_row()
        write, document = self._writer.write, list(self._texts)
        if self._table:
            write(self._table, f"<</S/Table/P {ref(self._document)}/K[{_refs(self._groups)}]>>")
            document.append(self._table)
        write(self._document, f"<</S/Document/P {ref(self._root)}/K[{_refs(document)}]>>")
        parents = f"/ParentTree {ref(self._write_parents())}/ParentTreeNextKey {len(self._parents_of_pages)}"
        write(self._root, f"<</Type/StructTreeRoot/K {ref(self._document)}{parents}>>")
        return f"/StructTreeRoot {ref(self._root)}/MarkInfo<</Marked true>>"

    def _write_parents(self) -> int:
        """Write the tree that leads from pages to the elements of their marks; return the number of its root."""
        leaves = []
        for start in range(0, len(self._parents_of_pages), KIDS):
            numbers = self._parents_of_pages[start : start + KIDS]
            pairs = " ".join(f"{page} {ref(number)}" for page, number in enumerate(numbers, start))
            limits = f"{start} {start + len(numbers) - 1}"
            leaves.append(self._writer.add(f"<</Limits[{limits}]/Nums[{pairs}]>>"))
        return self._writer.add(f"<</Kids[{_refs(leaves)}]>>")

    def _marked(self, cells: Sequence[str], tag: str) -> Sequence[str]:
        """Return the operators of cells, as content of the elements after that of the row."""
        marked, parents = [], self._parents
        for number, (kids, cell) in enumerate(zip(self._kids, cells, strict=True), self._row + 1):
            if cell:
                kids.append((self._page, len(parents)))
                marked.append(f"/{tag}<</MCID {len(parents)}>>BDC {cell} EMC")
                parents.append(number)
        return marked

    def _begin_group(self, kind: str) -> None:
        self._group = self._writer.reserve_packed(1)
        self._kind = kind
        self._table = self._table or self._writer.reserve()
        self._groups.append(self._group)

    def _end_group(self) -> None:
        if self._group:
            self._writer.pack(self._group, [f"<</S/{self._kind}/P {ref(self._table)}/K[{_refs(self._rows)}]>>"])
        self._group, self._rows = 0, array("I")

    def _begin_row(self, tag: str, entries: str, columns: int) -> None:
        self._end_row()
        self._row = self._writer.reserve_packed(1 + columns)
        self._rows.append(self._row)
        self._start, self._kids = f"<</S/{tag}{entries}/P {ref(self._row)}", [[] for _ in range(columns)]
        self._parent = self._group

    def _end_row(self) -> None:
        """Write the elements of the last row, which may have ended on another page than it began."""
        if not self._row:
            return
        cells = range(self._row + 1, self._row + 1 + len(self._kids))
        row = f"<</S/TR/P {ref(self._parent)}/K[{_refs(cells)}]>>"
        self._writer.pack(self._row, [row, *map(self._cell, self._kids)])
        self._row = 0

    def _cell(self, kids: Sequence[tuple[int, int]]) -> str:
        if len(kids) == 1:
            return f"{self._start}/Pg {ref(kids[0][0])}/K {kids[0][1]}>>"
        parts = "".join(f"<</Type/MCR/Pg {ref(page)}/MCID {number}>>" for page, number in kids)
        return f"{self._start}/K[{parts}]>>" if kids else f"{self._start}>>"


def _refs(numbers: Iterable[int]) -> str:
    return " ".join(map(ref, numbers))
