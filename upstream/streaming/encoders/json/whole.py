"""Rows as JSON objects by one call in C, which makes no text of a cell.

msgspec writes structs, whose class holds the keys. They take the values as they were read if it spells their type
as the table of forms does; all others become JSON first, and it writes that unchanged.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from itertools import starmap
from operator import attrgetter, is_
from types import NoneType
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from upstream.streaming.batches import Batch
from upstream.streaming.columns import OutputColumn
from upstream.streaming.encoders.protocol import Columns
from upstream.streaming.encoders.text import CellWriter, UnprovenError, load
from upstream.streaming.values import MAX_SAFE_INTEGER, Forms, are_like_repr

if TYPE_CHECKING:
    from upstream.streaming.encoders.json import Json, JsonLines

WriteStructs = Callable[[list[msgspec.Struct]], bytes]

# Types that msgspec spells as the table of forms does. It does so with floats where orjson does, and with naive
# datetimes.
LIKE_FORMS = frozenset({str, bool, date, UUID})
# How msgspec ends a datetime in UTC, and how the table of forms does.
ZULU, UTC_END = b'Z"', b'+00:00"'
ZONE = attrgetter("tzinfo")
ENCODER = msgspec.json.Encoder()


def lines(structs: list[msgspec.Struct]) -> bytes:
    """Return structs as objects, each followed by LF."""
    return ENCODER.encode_lines(structs)


def items(structs: list[msgspec.Struct]) -> bytes:
    """Return structs as objects, each after a comma."""
    return b"," + ENCODER.encode(structs)[1:-1]


@lru_cache
def struct_of(headers: tuple[str, ...]) -> type[msgspec.Struct]:
    """Make the class of objects with these keys; raise TypeError or ValueError if JSON escapes one of them."""
    names = {f"column_{number}": header for number, header in enumerate(headers)}
    return msgspec.defstruct("Row", list(names), rename=names, gc=False)


@dataclass(slots=True)
class WholeObjects:
    """Writes rows at once as compact objects; raises if that is not certain to be right.

    `keeps_utc`: datetimes in UTC are written by msgspec, until a text that ends as they do is among the rows.
    """

    columns: Columns
    writers: Sequence[CellWriter]
    forms: Forms
    options: "Json | JsonLines"
    struct: type[msgspec.Struct]
    write: WriteStructs
    keeps_utc: bool

    @classmethod
    def of(
        cls,
        options: "Json | JsonLines",
        columns: Columns,
        writers: Sequence[CellWriter],
        forms: Forms,
        write: WriteStructs,
    ) -> "WholeObjects | None":
        """Return what writes the columns at once; None if JSON escapes one of their headers."""
        try:
            struct = struct_of(tuple(column.header for column in columns))
        except (TypeError, ValueError):
            return None
        return cls(columns, writers, forms, options, struct, write, options.time_zone in (None, UTC))

    def __call__(self, rows: Batch) -> bytes:
        if self.keeps_utc:
            try:
                return self._written(rows)
            except UnprovenError:
                self.keeps_utc = False
        return self._written(rows)

    def _written(self, rows: Batch) -> bytes:
        read = list(zip(*rows, strict=True))
        columns = [
            self._column(column, writer, values)
            for column, writer, values in zip(self.columns, self.writers, read, strict=True)
        ]
        structs = starmap(self.struct, rows if all(map(is_, columns, read)) else zip(*columns, strict=True))
        return _utc_as_offset(self.write(list(structs)), sum(map(_moments_in_utc, columns)))

    def _column(self, column: OutputColumn, writer: CellWriter, read: Sequence[Any]) -> Sequence[Any]:
        """Return the values of a column, or their JSON."""
        texts_of, values = load(column, read)
        kept = None if column.json else self._kept(values, texts_of)
        cells = list(map(msgspec.Raw, writer(values, texts_of))) if kept is None else kept
        if len(cells) != len(read):
            raise UnprovenError
        return cells

    def _kept(self, values: Sequence[Any], texts_of: type | None) -> Sequence[Any] | None:
        """Return values or plain texts that msgspec spells as the table of forms does; None if it may not."""
        if texts_of is not None:
            return values if self.forms.quotes(texts_of) else None
        kinds = set(map(type, values)) - {NoneType}
        if kinds <= LIKE_FORMS:
            return values
        if kinds == {Decimal}:
            return self._decimals(values)
        keeps = (
            (kinds == {int} and self._keeps_integers(values))
            or (kinds == {float} and are_like_repr(values))
            or (kinds == {datetime} and self._keeps_zones(values))
        )
        return values if keeps else None

    def _keeps_integers(self, values: Sequence[int | None]) -> bool:
        if self.options.integers == "number":
            return True
        return max(map(abs, filter(None, values)), default=0) <= MAX_SAFE_INTEGER

    def _keeps_zones(self, values: Sequence[datetime | None]) -> bool:
        zones = set(map(ZONE, filter(None, values)))
        return zones == {None} or (self.keeps_utc and zones == {UTC})

    def _decimals(self, values: Sequence[Decimal | None]) -> Sequence[str | None] | None:
        """Return the digits of Decimals; None if one has an exponent, or if they become numbers."""
        if self.options.decimals == "number":
            return None
        texts = [None if value is None else Decimal.__str__(value) for value in values]
        return None if "E" in "".join(filter(None, texts)) else texts


def _moments_in_utc(column: Sequence[Any]) -> int:
    """Return how many datetimes in UTC are in a column that is all of one type."""
    first = next(filter(None, column), None)
    return len(column) - column.count(None) if type(first) is datetime and first.tzinfo else 0


def _utc_as_offset(text: bytes, moments: int) -> bytes:
    """Return the text with the end of each datetime in UTC as the table of forms writes it."""
    if not moments:
        return text
    if text.count(ZULU) != moments:  # another text ends so
        raise UnprovenError
    return text.replace(ZULU, UTC_END)
