"""A whole batch of rows by one call in C, which makes no object for a cell.

orjson writes a batch as one array of arrays. Without its brackets and quotes, and with `null` written as the
options say, that is delimited text:

    [[1,"a",null],[2,"b",3.5]]   -->   1,a,
                                       2,b,3.5

This holds as long as no cell contains a character that has a meaning in either. A column with such cells is
written by `Cells`, with a stand-in for each of these characters; they are put back at the end. What a batch
contains is checked column by column, and the finished text by counting.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import is_
from string import ascii_letters
from typing import Any

import orjson

from upstream.streaming.batches import Batch
from upstream.streaming.encoders.delimited.cells import Cells
from upstream.streaming.encoders.protocol import Columns
from upstream.streaming.encoders.text import UTF_8, Encoding, load

# Characters that end a cell or a row of JSON, or are escaped there.
MARKS = ('"', ",", "\\", *map(chr, range(1, 32)))
# Begins each stand-in: the only such character of ASCII that JSON does not escape, and rare in texts.
ESCAPE = "\x7f"
STAND_INS = {mark: ESCAPE + letter for mark, letter in zip(MARKS, ascii_letters, strict=False)}
# Separates cells while stand-ins are put in.
BETWEEN = "\x00"


class UnprovenError(ValueError):
    """A batch contains what is only certain to be right if it is written cell by cell."""


@dataclass(slots=True)
class StandIns:
    """Puts stand-ins into the cells of a batch, and the marks back into its text."""

    used: set[str] = field(default_factory=set)
    count: int = 0

    def put_in(self, cells: Sequence[str]) -> Sequence[str]:
        text = BETWEEN.join(cells)
        if ESCAPE in text or text.count(BETWEEN) != len(cells) - 1:
            raise UnprovenError
        used = [mark for mark in MARKS if mark in text]
        for mark in used:
            text = text.replace(mark, STAND_INS[mark])
        self.used.update(used)
        self.count += text.count(ESCAPE)
        return text.split(BETWEEN) if used else cells

    def put_back(self, text: bytes) -> bytes:
        for mark in self.used:
            text = text.replace(STAND_INS[mark].encode(), mark.encode())
        return text


@dataclass(slots=True)
class WholeRows:
    """Writes the rows of a batch at once; returns None if it cannot prove that they are right.

    `starts`: the next batch begins the file, whose first cell is written in a way of its own.
    """

    columns: Columns
    cells: Sequence[Cells]
    delimiter: bytes
    line_end: bytes
    encoding: Encoding
    starts: bool

    def __call__(self, batch: Batch) -> bytes | None:
        if self.starts:
            self.starts = False
            return None
        try:
            stand_ins = StandIns()
            text = self._delimited(self._serialized(batch, stand_ins), stand_ins)
            return text if self.encoding is UTF_8 else self.encoding.encode(text.decode())
        except Exception:  # noqa: BLE001 (writing cell by cell raises it again, and says where)
            return None

    def _serialized(self, batch: Batch, stand_ins: StandIns) -> bytes:
        """Return a batch as an array of arrays, in which commas only separate and nothing is escaped."""
        read = list(zip(*batch, strict=True))
        columns = [
            _as_json(cells, *load(column, values), stand_ins)
            for cells, column, values in zip(self.cells, self.columns, read, strict=True)
        ]
        text = orjson.dumps(batch if all(map(is_, columns, read)) else list(zip(*columns, strict=True)))
        commas = len(batch) * len(read) - 1
        if text.count(b",") != commas or b"\\" in text or text.count(ESCAPE.encode()) != stand_ins.count:
            raise UnprovenError
        return text

    def _delimited(self, text: bytes, stand_ins: StandIns) -> bytes:
        """Return an array of arrays as delimited text; each replacement relies on those before."""
        [null] = stand_ins.put_in([self.cells[0].null])
        rows = self.line_end + text[2:-2].replace(b"],[", self.line_end) + self.line_end
        if b"[null" in text:
            rows = rows.replace(self.line_end + b"null", self.line_end + null.encode())
        rows = rows.replace(b",null", b"," + null.encode())
        if not self.cells[0].keeps_quotes:
            rows = rows.translate(None, b'"')
        if self.delimiter != b",":
            rows = rows.replace(b",", self.delimiter)
        return stand_ins.put_back(rows[len(self.line_end) :])


def _as_json(cells: Cells, texts_of: type | None, values: Sequence[Any], stand_ins: StandIns) -> Sequence[Any]:
    """Return a column as values of JSON. Strings lose their quotes later, unless all cells have some."""
    if cells.are_like_json(values, texts_of):
        return values
    texts = stand_ins.put_in(cells(values, texts_of))
    return list(map(orjson.Fragment, texts)) if cells.keeps_quotes else texts
