"""A ZIP archive that is written in one go, to a target that cannot seek."""

from collections.abc import Callable, Generator
from contextlib import closing
from io import SEEK_CUR
from struct import Struct, pack
from typing import BinaryIO
from zipfile import ZipInfo

from upstream.streaming.compression import checksum, deflated
from upstream.streaming.errors import LimitError

# Excel refuses ZIP64 in what is streamed: sizes and offsets have 32 bits.
MAX_BYTES = 0xFFFF_FFFF
# What is left for the parts that follow the sheets.
MARGIN = 1024 * 1024
# 1980-01-01, the first moment that ZIP knows: the same rows give the same bytes.
TIME, DATE = 0, 0x21
VERSION = 20
DEFLATE = 8
# Checksum and sizes follow the data of an entry, with a signature.
SIZES_FOLLOW = 8

# What stands before the name of an entry, and the lengths of the name and of what follows it, at its end.
HEADER = Struct("<26xHH")
COPY_BYTES = 256 * 1024

# Signatures, and after them little-endian fields: APPNOTE.TXT, 4.3.7, 4.3.9, 4.3.12 and 4.3.16.
LOCAL = b"PK\3\4"
DESCRIPTOR = b"PK\7\b"
CENTRAL = b"PK\1\2"
END = b"PK\5\6"


class Archive:
    """Yields the bytes of entries one after the other, and last the directory, without which nothing opens it."""

    def __init__(self) -> None:
        self._offset = 0
        self._directory: list[bytes] = []
        self._crc32 = checksum()

    def whole(self, name: str, data: bytes) -> bytes:
        """Return the bytes of an entry whose data is known."""
        packed = b"".join(deflated(piece for piece in (data,)))
        fields = pack("<HHHHHLLL", VERSION, 0, DEFLATE, TIME, DATE, self._crc32(data, 0), len(packed), len(data))
        self._add(name, fields, self._offset)
        return self._written(_local(name, fields) + packed)

    def streamed(self, name: str, chunks: Generator[bytes]) -> Generator[bytes]:
        """Yield the bytes of an entry while its data comes; closes `chunks`."""
        unknown = pack("<HHHHHLLL", VERSION, SIZES_FOLLOW, DEFLATE, TIME, DATE, 0, 0, 0)
        before, start, packed_size = _local(name, unknown), self._offset, 0
        raw = _Counted(chunks)
        with closing(deflated(raw.counting(self._crc32))) as packed:
            for data in packed:
                packed_size += len(data)
                yield self._fitting(before + data)
                before = b""
        sizes = pack("<LLL", raw.crc, packed_size, raw.size)
        yield self._written(DESCRIPTOR + sizes)
        self._add(name, unknown[:10] + sizes, start)

    def copied(self, name: str, archive: BinaryIO, entry: ZipInfo) -> Generator[bytes]:
        """Yield the bytes of an entry of another archive, as it is compressed, under a name of its own."""
        start, left = self._offset, entry.compress_size
        archive.seek(entry.header_offset)
        lengths = HEADER.unpack(archive.read(HEADER.size))
        archive.seek(sum(lengths), SEEK_CUR)
        fields = pack("<HHHHHLLL", VERSION, 0, entry.compress_type, TIME, DATE, entry.CRC, left, entry.file_size)
        yield self._fitting(_local(name, fields))
        while left:
            data = archive.read(min(left, COPY_BYTES))
            if not data:
                raise EOFError(f"{entry.filename} ends early")
            left -= len(data)
            yield self._fitting(data)
        self._add(name, fields, start)

    def end(self) -> bytes:
        """Return the directory."""
        directory, count = b"".join(self._directory), len(self._directory)
        return directory + END + pack("<HHHHLLH", 0, 0, count, count, len(directory), self._offset, 0)

    def _fitting(self, data: bytes) -> bytes:
        if self._offset + len(data) > MAX_BYTES - MARGIN:
            raise LimitError("the workbook exceeds 4 GiB: export fewer rows, or as CSV")
        return self._written(data)

    def _written(self, data: bytes) -> bytes:
        self._offset += len(data)
        return data

    def _add(self, name: str, fields: bytes, start: int) -> None:
        names = pack("<HHHHHLL", len(name), 0, 0, 0, 0, 0, start)
        self._directory.append(CENTRAL + pack("<H", VERSION) + fields + names + name.encode("ascii"))


def _local(name: str, fields: bytes) -> bytes:
    return LOCAL + fields + pack("<HH", len(name), 0) + name.encode("ascii")


class _Counted:
    """Counts what passes, and its checksum."""

    def __init__(self, chunks: Generator[bytes]) -> None:
        self._chunks = chunks
        self.crc = self.size = 0

    def counting(self, crc32: Callable[[bytes, int], int]) -> Generator[bytes]:
        with closing(self._chunks):
            for chunk in self._chunks:
                self.crc = crc32(chunk, self.crc)
                self.size += len(chunk)
                yield chunk
