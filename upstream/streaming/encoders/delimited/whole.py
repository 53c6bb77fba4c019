"""Rows of delimited text by a few calls in C, instead of a text for each cell.

orjson writes each row as an array. Without its brackets and quotes, and with `null` as the options say, that is
delimited text:

    [1,"a",null]   -->   1,a,

This holds as long as no cell contains a mark: a character that has a meaning in either. Where some do, other
characters, which the rows do not contain, stand in for the marks until the end. Each column is checked before
it is written, and the finished text by counting.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import is_
from typing import Any

import orjson

from upstream.streaming.batches import Batch
from upstream.streaming.columns import transposed
from upstream.streaming.encoders.delimited.cells import BETWEEN, MARKS, Cells, JsonColumn
from upstream.streaming.encoders.protocol import Columns
from upstream.streaming.encoders.text import UnprovenError, load

# What may stand in for a mark: single bytes without a meaning, those first that texts contain least.
STAND_INS = "\x7f^`~|$#@<>{}*%!?&;=_"


@dataclass(slots=True)
class WholeRows:
    """Writes rows at once; raises if it cannot prove that the bytes are right.

    `starts`: the next batch begins the file, whose first cell is written in a way of its own.
    """

    columns: Columns
    cells: Sequence[Cells]
    line_end: bytes
    starts: bool

    def __call__(self, rows: Batch) -> bytes:
        if self.starts:
            self.starts = False
            raise UnprovenError
        read = transposed(rows)
        columns = [
            cells.as_json(loaded, texts_of)
            for cells, (texts_of, loaded) in zip(self.cells, map(load, self.columns, read), strict=True)
        ]
        stand_ins = StandIns(columns, self.cells[0])
        values = [stand_ins.cells(column) if column.values is None else column.values for column in columns]
        if any(len(column) != len(rows) for column in values):
            raise UnprovenError
        arrays = map(orjson.dumps, rows if all(map(is_, values, read)) else zip(*values, strict=True))
        text = self.line_end.join([b"", *[array[1:-1] for array in arrays], b""])
        if text.count(b",") != len(rows) * (len(read) - 1) or b"\\" in text:
            raise UnprovenError
        null = stand_ins.put_in(self.cells[0].null).encode()
        if columns[0].has_null:
            text = text.replace(self.line_end + b"null", self.line_end + null)
        if any(column.has_null for column in columns[1:]):
            text = text.replace(b",null", b"," + null)
        return stand_ins.put_back(text[len(self.line_end) :])


class StandIns:
    """Characters that stand in for the marks of some rows."""

    def __init__(self, columns: Sequence[JsonColumn], first: Cells) -> None:
        self.delimiter, self.keeps_quotes = first.options.delimiter, first.keeps_quotes
        texts = [first.null, *[column.text for column in columns]]
        marks = [mark for mark in MARKS if any(mark in text for text in texts)]
        if any(column.is_raw for column in columns) and '"' not in marks:
            marks.append('"')
        free = (one for one in STAND_INS if one != self.delimiter and not any(one in text for text in texts))
        self.by_mark = dict(zip(marks, free, strict=False))
        if len(self.by_mark) < len(marks):
            raise UnprovenError

    def cells(self, column: JsonColumn) -> Sequence[Any]:
        """Return the cells of a column, with stand-ins in the place of marks."""
        cells = self.put_in(column.text, doubles_quotes=column.is_raw).split(BETWEEN)
        if column.is_raw == self.keeps_quotes:  # JSON's quotes are theirs, or go again
            return cells
        if column.is_raw:
            marks = (mark for mark in (self.delimiter, '"', "\n", "\r") if mark in column.text)
            return enclosed(cells, [self.by_mark.get(mark, mark) for mark in marks], self.by_mark['"'])
        if any(cell.startswith("null") for cell in cells):  # it would be replaced like None
            raise UnprovenError
        return list(map(orjson.Fragment, cells))

    def put_in(self, text: str, *, doubles_quotes: bool = False) -> str:
        for mark, stand_in in self.by_mark.items():
            text = text.replace(mark, stand_in * 2 if doubles_quotes and mark == '"' else stand_in)
        return text

    def put_back(self, text: bytes) -> bytes:
        """Return the text with its marks and delimiters, and without the quotes of JSON unless they are kept."""
        if len(delimiter := self.delimiter.encode()) > 1:
            text, delimiter = text.replace(b",", delimiter), b","
        table = bytes.maketrans(
            "".join([",", *self.by_mark.values()]).encode(), delimiter + "".join(self.by_mark).encode()
        )
        return text.translate(table, b"" if self.keeps_quotes else b'"')


def enclosed(cells: Sequence[str], ends: Sequence[str], quote: str) -> list[str]:
    """Return the cells, in quotes if they contain one of up to four characters."""
    if not ends:
        return list(cells)
    a, b, c, d = (*ends, *[ends[0]] * 3)[:4]
    return [quote + cell + quote if a in cell or b in cell or c in cell or d in cell else cell for cell in cells]
