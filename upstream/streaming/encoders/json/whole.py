"""Rows as JSON objects by one call in C, which makes no text of a cell.

msgspec writes structs, whose class holds the keys. They take the values as they were read if it spells their type
as the table of forms does; all others become JSON first, and it writes that unchanged.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from itertools import starmap
from operator import attrgetter, is_
from types import NoneType
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from upstream.streaming.batches import Batch
from upstream.streaming.columns import OutputColumn, transposed
from upstream.streaming.encoders.protocol import Columns
from upstream.streaming.encoders.text import PLAIN, CellWriter, Kinds, RowKinds, UnprovenError, load
from upstream.streaming.values import CONTAINERS, MAX_SAFE_INTEGER, Forms, are_like_repr

if TYPE_CHECKING:
    from upstream.streaming.encoders.json import Json, JsonLines

WriteStructs = Callable[[list[msgspec.Struct]], bytes]

# Types that msgspec spells as the table of forms does. It does so with floats where orjson does, and with naive
# datetimes.
LIKE_FORMS = frozenset({str, bool, date, UUID})
NUMBERS = frozenset({int, float})
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


@dataclass(frozen=True, slots=True)
class WholeObjects:
    """Writes rows at once as compact objects; raises if that is not certain to be right."""

    columns: Columns
    writers: Sequence[CellWriter]
    forms: Forms
    options: "Json | JsonLines"
    struct: type[msgspec.Struct]
    write: WriteStructs
    kinds: RowKinds

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
        return cls(columns, writers, forms, options, struct, write, RowKinds(columns))

    def __call__(self, rows: Batch) -> bytes:
        read = transposed(rows)
        columns = [
            self._column(column, writer, values, kinds)
            for column, writer, values, kinds in zip(
                self.columns, self.writers, read, self.kinds(rows), strict=True
            )
        ]
        are_kept = all(map(is_, columns, read))
        return self.write(list(starmap(self.struct, rows if are_kept else zip(*columns, strict=True))))

    def _column(
        self, column: OutputColumn, writer: CellWriter, read: Sequence[Any], kinds: Kinds | None
    ) -> Sequence[Any]:
        """Return the values of a column, or their JSON."""
        texts_of, values = load(column, read)
        kept = None if column.json else self._kept(values, texts_of, kinds)
        cells = self._raw(writer, values, texts_of) if kept is None else kept
        if len(cells) != len(read):
            raise UnprovenError
        return cells

    def _kept(self, values: Sequence[Any], texts_of: type | None, kinds: Kinds | None) -> Sequence[Any] | None:
        """Return values or plain texts that msgspec spells as the table of forms does; None if it may not."""
        if texts_of is not None:
            return self.forms.strings(values, texts_of)
        kinds = (frozenset(map(type, values)) if kinds is None else kinds) - {NoneType}
        if kinds <= LIKE_FORMS:
            return values
        if kinds == {Decimal}:
            return self._decimals(values)
        keeps = (
            kinds <= NUMBERS and self._keeps_integers(values, kinds) and self._keeps_floats(values, kinds)
        ) or (kinds == {datetime} and not any(map(ZONE, filter(None, values))))
        return values if keeps else None

    def _raw(self, writer: CellWriter, values: Sequence[Any], texts_of: type | None) -> list[msgspec.Raw]:
        """Return the JSON of a column: that of dicts or lists by one call for all."""
        texts = self.forms.records(values) if type(values[0]) in CONTAINERS else None
        return list(map(msgspec.Raw, texts or writer(values, texts_of)))

    def _keeps_integers(self, values: Sequence[Any], kinds: Kinds) -> bool:
        if self.options.integers == "number" or int not in kinds:
            return True
        return max(map(abs, filter(None, values)), default=0) <= MAX_SAFE_INTEGER

    def _keeps_floats(self, values: Sequence[Any], kinds: Kinds) -> bool:
        if float not in kinds:
            return True
        try:
            return are_like_repr(values)
        except TypeError:  # a long integer is among them
            return False

    def _decimals(self, values: Sequence[Decimal | None]) -> Sequence[str | None] | None:
        """Return the digits of Decimals; None if one has an exponent, or if they become numbers."""
        if self.options.decimals == "number":
            return None
        texts = [None if value is None else Decimal.__str__(value) for value in values]
        joined = "".join(filter(None, texts))
        return None if "E" in joined or "e" in joined else texts  # the context decides which of them it is


class WholeRecords:
    """Writes whole records at once, if they are dicts with the same names in the same order.

    It writes their values as columns, which takes up to a third less time than `Forms.records` where they are
    Decimals, moments, dicts and the like, but longer where JSON has all of them.
    """

    def __init__(self, options: "Json | JsonLines", forms: Forms, write: WriteStructs) -> None:
        self._options, self._forms, self._write = options, forms, write
        self._names: tuple[Any, ...] = ()
        self._objects: WholeObjects | None = None

    def __call__(self, rows: Batch) -> bytes:
        records = [record for (record,) in rows]
        if set(map(type, records)) != {dict} or PLAIN.issuperset(map(type, records[0].values())):
            raise UnprovenError
        names = tuple(records[0])
        # Many names are rather keys of data, for which a class costs more than it saves.
        if len(names) > len(records) or set(map(tuple, records)) != {names}:
            raise UnprovenError
        if names != self._names:
            self._names, self._objects = names, self._writing(names)
        if self._objects is None:
            raise UnprovenError
        return self._objects(list(map(tuple, map(dict.values, records))))

    def _writing(self, names: tuple[Any, ...]) -> WholeObjects | None:
        """Return what writes the values of these names; None if they are not all names, or if JSON escapes one."""
        if set(map(type, names)) != {str}:
            return None
        columns = tuple(map(OutputColumn, names))
        writers = [self._forms.column] * len(columns)
        return WholeObjects.of(self._options, columns, writers, self._forms, self._write)
