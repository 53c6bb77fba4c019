"""Rows of delimited text by a few calls in C for each column and for each row."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from upstream.streaming.batches import Batch
from upstream.streaming.columns import transposed
from upstream.streaming.encoders.delimited.cells import Cells
from upstream.streaming.encoders.protocol import Columns
from upstream.streaming.encoders.text import RowKinds, UnprovenError, load


@dataclass(slots=True)
class WholeRows:
    """Writes rows at once; raises if one of them has to be written cell by cell.

    `starts`: the next batch begins the file, whose first cell is written in a way of its own.
    """

    columns: Columns
    cells: Sequence[Cells]
    line_end: bytes
    starts: bool
    kinds: RowKinds = field(init=False)

    def __post_init__(self) -> None:
        self.kinds = RowKinds(self.columns)

    def __call__(self, rows: Batch) -> bytes:
        if self.starts:
            self.starts = False
            raise UnprovenError
        columns = []
        for cells, column, read, kinds in zip(
            self.cells, self.columns, transposed(rows), self.kinds(rows), strict=True
        ):
            texts_of, loaded = load(column, read)
            if len(loaded) != len(read):
                raise UnprovenError
            columns.append(cells.at_once(loaded, texts_of, kinds))
        texts = map(self.cells[0].options.delimiter.join, zip(*columns, strict=True))
        # Encoded one by one: a single Chinese character would make a whole text of many rows slow to encode.
        return self.line_end.join([*map(str.encode, texts), b""])
