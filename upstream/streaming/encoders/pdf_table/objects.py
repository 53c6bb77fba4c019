"""The objects of a PDF file, appended one by one (ISO 32000-1, with a cross-reference stream).

Nothing is written twice and nothing is kept but where each object is, 12 bytes, or 16 for a run of packed ones: a
file of any length can go to a target that cannot seek. What is known only at the end, such as the fonts and the
number of pages, gets a number at once (`reserve`) and is written last.
"""

import hashlib
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from upstream.streaming.errors import LimitError

HEADER = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"
# A page of 21 KB becomes 2.8 KB in 76 us; level 6 takes 193 us for a tenth fewer bytes.
COMPRESSION_LEVEL = 3
KIDS = 64
PACKED = 256  # objects in a stream: so many that an index is one byte
# An entry of the cross-reference stream: its kind, where it is, and the index among packed objects.
ENTRY_BYTES = (1, 6, 1)
FREE, IN_FILE, IN_STREAM = range(3)
UP = b"\2"  # an entry is written as the difference to the one above (PNG): those of packed objects differ by 1
NEXT_PACKED = UP + bytes(sum(ENTRY_BYTES) - 1) + b"\1"
MOST_OBJECTS = 8_388_607  # ISO 32000-1, annex C


def ref(number: int) -> str:
    return f"{number} 0 R"


def text_string(text: str) -> str:
    """Return text as a PDF string: ASCII as it is, anything else in UTF-16 with its mark."""
    if text.isascii() and text.isprintable():
        escaped = text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
        return f"({escaped})"
    return f"<feff{text.encode('utf-16-be').hex()}>"


class ObjectWriter:
    """Appends objects; `take` returns what was written since the last call."""

    def __init__(self) -> None:
        self._next = 1
        self._numbers, self._offsets = array("I"), array("Q")
        self._packed: list[tuple[int, str]] = []
        self._runs = array("I")  # the first number, count, stream and first index of each run of packed objects
        self._pieces = [HEADER]
        self._size = len(HEADER)
        self._digest = hashlib.sha256(HEADER)

    def reserve(self) -> int:
        """Return the number of an object that is written later."""
        number = self.reserve_packed(1)
        self._numbers.append(number)
        self._offsets.append(0)
        return number

    def reserve_packed(self, count: int) -> int:
        """Return the first of the numbers of so many objects that are packed later."""
        number = self._next
        self._next += count
        if self._next > MOST_OBJECTS:
            raise LimitError(
                f"a PDF has at most {MOST_OBJECTS:,} objects: export fewer rows, or leave out tagged=True"
            )
        return number

    def write(self, number: int, body: str | bytes) -> None:
        self._offsets[bisect_left(self._numbers, number)] = self._size
        encoded = body.encode("ascii") if isinstance(body, str) else body
        self._append(b"%d 0 obj\n%b\nendobj\n" % (number, encoded))

    def add(self, body: str) -> int:
        number = self.reserve()
        self.write(number, body)
        return number

    def write_stream(self, number: int, data: bytes, entries: str = "") -> None:
        self.write_plain_stream(number, zlib.compress(data, COMPRESSION_LEVEL), f"/Filter/FlateDecode{entries}")

    def write_plain_stream(self, number: int, data: bytes, entries: str) -> None:
        """Write a stream whose data stays as it is."""
        head = f"<</Length {len(data)}{entries}>>\nstream\n"
        self.write(number, b"%b%b\nendstream" % (head.encode("ascii"), data))

    def add_stream(self, data: bytes, entries: str = "") -> int:
        number = self.reserve()
        self.write_stream(number, data, entries)
        return number

    def pack(self, first: int, bodies: Sequence[str]) -> None:
        """Write small objects, numbered from `first` on, into compressed streams of many."""
        self._packed += enumerate(bodies, first)
        while len(self._packed) >= PACKED:
            self._write_packed()

    def take(self) -> bytes:
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken

    def finish(self, catalog: int, information: int) -> None:
        """Write the cross-reference stream and the end; the identifier is a hash of the bytes before it."""
        if self._packed:
            self._write_packed()
        number = self.reserve()
        start, identifier = self._size, self._digest.hexdigest()[:32]
        self._offsets[-1] = start
        packer, entries = zlib.compressobj(COMPRESSION_LEVEL), bytearray()
        for entry in self._entries():
            entries += packer.compress(entry)
        entries += packer.flush()
        self.write_plain_stream(
            number,
            bytes(entries),
            f"/Type/XRef/Size {self._next}/W[{' '.join(map(str, ENTRY_BYTES))}]/Filter/FlateDecode"
            f"/DecodeParms<</Predictor 12/Columns {sum(ENTRY_BYTES)}>>"
            f"/Root {ref(catalog)}/Info {ref(information)}/ID[<{identifier}><{identifier}>]",
        )
        self._append(b"startxref\n%d\n%%%%EOF\n" % start)

    def _write_packed(self) -> None:
        packed, self._packed = self._packed[:PACKED], self._packed[PACKED:]
        stream = self.reserve()
        for index, (number, _) in enumerate(packed):
            if index and number == packed[index - 1][0] + 1:
                self._runs[-3] += 1
            else:
                self._runs.extend((number, 1, stream, index))
        starts = accumulate((len(body) + 1 for _, body in packed), initial=0)
        head = " ".join(f"{number} {start}" for (number, _), start in zip(packed, starts, strict=False))
        data = "\n".join([head, *(body for _, body in packed)])
        self.write_stream(stream, data.encode("ascii"), f"/Type/ObjStm/N {len(packed)}/First {len(head) + 1}")

    def _entries(self) -> Iterator[bytes]:
        """Yield the entry of each number, from 0 on, as its difference to the one above."""
        above = bytes(sum(ENTRY_BYTES))
        for kind, value, count in self._places():
            entry = b"".join(
                number.to_bytes(size, "big") for number, size in zip((kind, *value), ENTRY_BYTES, strict=True)
            )
            yield UP + bytes((one - other) % 256 for one, other in zip(entry, above, strict=True))
            yield NEXT_PACKED * (count - 1)
            above = entry[:-1] + bytes([entry[-1] + count - 1])

    def _places(self) -> Iterator[tuple[int, tuple[int, int], int]]:
        """Yield the kind, place and index, and count of objects that follow each other, in order of number."""
        yield FREE, (0, 255), 1
        runs, at = self._runs, 0
        for first in sorted(range(0, len(runs), 4), key=runs.__getitem__):
            while at < len(self._numbers) and self._numbers[at] < runs[first]:
                yield IN_FILE, (self._offsets[at], 0), 1
                at += 1
            _, count, stream, index = runs[first : first + 4]
            yield IN_STREAM, (stream, index), count
        for offset in self._offsets[at:]:
            yield IN_FILE, (offset, 0), 1

    def _append(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._size += len(piece)
        self._digest.update(piece)


@dataclass(slots=True)
class _Node:
    number: int
    kids: list[int] = field(default_factory=list)
    pages: int = 0


class PageTree:
    """The tree of pages, written from the leaves: of each level, only the node that is being filled is kept."""

    def __init__(self, writer: ObjectWriter) -> None:
        self._writer = writer
        self._levels = [_Node(writer.reserve())]
        self.pages = 0

    def add(self, page: int, entries: str) -> None:
        """Write a page, whose number was reserved, with these entries of its dictionary."""
        self._writer.write(page, f"<</Type/Page/Parent {ref(self._node(0).number)}{entries}>>")
        self._attach(0, page, 1)
        self.pages += 1

    def finish(self) -> int:
        """Write the nodes that are left, and return the number of the root."""
        for level, node in enumerate(self._levels[:-1]):
            self._close(level, node)
        root = self._levels[-1]
        self._writer.write(root.number, self._dictionary(root))
        return root.number

    def _node(self, level: int) -> _Node:
        """Return the node of a level that takes the next kid."""
        if len(self._levels[level].kids) == KIDS:
            self._close(level, self._levels[level])
            self._levels[level] = _Node(self._writer.reserve())
        return self._levels[level]

    def _attach(self, level: int, kid: int, pages: int) -> None:
        node = self._levels[level]
        node.kids.append(kid)
        node.pages += pages

    def _close(self, level: int, node: _Node) -> None:
        if level + 1 == len(self._levels):
            self._levels.append(_Node(self._writer.reserve()))
        parent = self._node(level + 1)
        self._writer.write(node.number, self._dictionary(node, f"/Parent {ref(parent.number)}"))
        self._attach(level + 1, node.number, node.pages)

    def _dictionary(self, node: _Node, entries: str = "") -> str:
        return f"<</Type/Pages{entries}/Kids[{' '.join(map(ref, node.kids))}]/Count {node.pages}>>"


class Outline:
    """Bookmarks, each written when its successor is known."""

    def __init__(self, writer: ObjectWriter) -> None:
        self._writer = writer
        self._root = writer.reserve()
        self._first = self._last = 0
        self._pending = ""
        self._count = 0

    def add(self, title: str, page: int) -> None:
        number = self._writer.reserve()
        self._write_pending(f"/Next {ref(number)}")
        previous = f"/Prev {ref(self._last)}" if self._last else ""
        self._pending = f"/Title {text_string(title)}/Parent {ref(self._root)}/Dest[{ref(page)}/Fit]{previous}"
        self._first, self._last = self._first or number, number
        self._count += 1

    def finish(self) -> int:
        """Write the last bookmark and the root, and return the number of the root."""
        self._write_pending("")
        ends = f"/First {ref(self._first)}/Last {ref(self._last)}" if self._count else ""
        self._writer.write(self._root, f"<</Type/Outlines{ends}/Count {self._count}>>")
        return self._root

    def _write_pending(self, entries: str) -> None:
        if self._last:
            self._writer.write(self._last, f"<<{self._pending}{entries}>>")
