"""The rows of a claims file, one at a time: a broken one is told, and reading goes on behind it."""

import csv
import io
import sys
import zlib
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from typing import IO

from upstream.services.claim_columns import ClaimFileError
from upstream.streaming import SourceError
from upstream.streaming.sources.files import opened

# A quote that is left open would otherwise take the rest of the file for one cell.
MAX_LINES = 100
MAX_CHARACTERS = 1024 * 1024
# What a damaged or wrong file makes the reader raise; what comes after cannot be read.
UNREADABLE = (SourceError, EOFError, OSError, zlib.error)


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """A row whose cells cannot be told apart, or not be assigned to columns; `reason` holds none of them."""

    reason: str


def read_rows(file: IO[bytes]) -> Generator[list[str] | BrokenRow]:
    """Yield the header of a CSV file, and then each row: as many cells as the header has, or why there are none.

    Empty lines are skipped. A row is broken if it has more or fewer cells than the header, a quote in a wrong
    place, bytes that are not UTF-8, more than 100 lines or 1,048,576 characters, or if it is the header once more.
    Where its end cannot be told, a broken row ends with its first line. Memory holds one row.

    A header that is broken, and a file that cannot be decompressed, raise ClaimFileError.
    """
    csv.field_size_limit(sys.maxsize)  # for the whole interpreter, as `read_csv` does; rows have their own limit
    lines = None
    try:
        with (
            opened(file) as plain,
            io.TextIOWrapper(plain, encoding="utf-8", errors="surrogateescape", newline="") as text,
        ):
            lines = _Lines(text)
            yield from _rows(lines)
    except UNREADABLE as error:
        where = f" (after line {lines.number})" if lines else ""
        raise ClaimFileError(f"the file cannot be read: {error}{where}") from error


def _rows(lines: "_Lines") -> Generator[list[str] | BrokenRow]:
    records = _records(lines)
    line, header, fault = next(records, (0, [], ""))
    if fault:
        raise ClaimFileError(f"line {line}, the header, {fault}")
    if header:
        yield header
    for line, cells, found in records:
        fault = found or _misfit(cells, header)
        yield BrokenRow(f"line {line} {fault}") if fault else cells


def _records(lines: "_Lines") -> Generator[tuple[int, list[str], str]]:
    """Yield the number of the first line, the cells, and what is wrong, of all that is between empty lines."""
    reader = csv.reader(lines, strict=True)
    while True:
        line = lines.begin()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except (csv.Error, _TooLongError) as error:
            lines.go_back()
            yield line, [], _words(error)
        else:
            if cells:
                yield line, cells, "is not UTF-8: save the file as CSV UTF-8" if lines.are_damaged else ""


def _words(error: Exception) -> str:
    if isinstance(error, _TooLongError):
        return f"begins a row of more than {MAX_LINES} lines or {MAX_CHARACTERS:,} characters: is a quote open?"
    if "end of data" in str(error):
        return "has a quote that is not closed"
    return f"has a quote in a wrong place: {error}"


def _misfit(cells: list[str], header: list[str]) -> str:
    if len(cells) != len(header):
        return f"has {len(cells)} cells, but the header has {len(header)}"
    return "is the header once more" if cells == header else ""


class _TooLongError(Exception):
    """A row goes on and on."""


class _Lines:
    """The lines of a text for csv.reader, which may go back to the second line of a row."""

    def __init__(self, text: IO[str]) -> None:
        self.number = 0
        self.are_damaged = False
        self._text = text
        self._row: list[str] = []
        self._again: deque[str] = deque()
        self._characters = 0

    def begin(self) -> int:
        """Begin a row, and return the number of its first line."""
        self._row, self._characters, self.are_damaged = [], 0, False
        return self.number + 1

    def go_back(self) -> None:
        """Let the next row begin with the second line of this one."""
        again = self._row[1:]
        self._again.extendleft(reversed(again))
        self.number -= len(again)

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._read()
        if not line:
            raise StopIteration
        self.number += 1
        self._row.append(line)
        self._characters += len(line)
        if len(self._row) > MAX_LINES or self._characters > MAX_CHARACTERS:
            raise _TooLongError
        if not line.isascii():
            self.are_damaged |= _is_damaged(line)
        return line

    def _read(self) -> str:
        """Return a line, or the beginning of one that is too long, whose rest is skipped."""
        line = rest = self._text.readline(MAX_CHARACTERS + 1)
        while len(rest) > MAX_CHARACTERS and not rest.endswith(("\n", "\r")):
            rest = self._text.readline(MAX_CHARACTERS + 1)
        return line


def _is_damaged(line: str) -> bool:
    """Return whether bytes of a line were not UTF-8: as surrogates, they cannot be encoded."""
    try:
        line.encode()
    except UnicodeEncodeError:
        return True
    return False
