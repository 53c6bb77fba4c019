"""The ways in which a queryset is exported, and how an export is compared with what Django gave."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from tests import oracle
from tests.django_suite.given import Given
from tests.forced_lanes import in_lane
from upstream.streaming import ByteStream, Column, Csv, Json, JsonLines, stream

FORMATS = {"csv": Csv(), "ndjson": JsonLines(), "json": Json()}
MOST_WINDOWED = 60
COMPUTED = Column(lambda _: "x", header="computed")


class DifferentError(Exception):
    """An export is not what Django gave."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Way(NamedTuple):
    """A way to export a queryset: a format, the options of `stream`, and the cells it adds to Django's own."""

    lane: str
    format: str
    options: dict[str, Any]
    added: tuple[str, ...] = ()

    def open(self, queryset: Any) -> ByteStream:
        return stream(queryset, **self.options)

    def compare(self, data: bytes, expected: Given | None, tied: Callable[[], Sequence[int]]) -> None:
        """Raise DifferentError unless `data` is what Django gave; None is no rows of unknown columns.

        `tied` returns the sizes of the groups of rows that may come in any order.
        """
        header, rows = (_read_csv if self.format == "csv" else _read_json)(data.decode(), self.format)
        if expected is None:
            if rows:
                raise DifferentError("rows", f"{len(rows)} rows, where Django gave none")
            return
        names = [*expected.names, *("computed" for _ in self.added)]
        if header != names and (header or self.format == "csv"):  # no JSON object, no names
            raise DifferentError("header", f"{header}, where Django gave {names}")
        given = expected.cells() if self.format == "csv" else expected.nodes()
        _compare_rows(rows, [[*row, *self.added] for row in given], self.format, tied)


def way_in(lane: str, name: str, columns: list[str] | None) -> Way:
    """Return the way to write a format in a lane; if that is not there, it takes the next one."""
    return Way(lane, name, {"columns": columns, "encoder": in_lane(FORMATS[name], lane)})


def further_ways(names: list[str], *, is_whole: bool, windowed: bool) -> Iterator[Way]:
    """Yield the ways that are no lanes: by instances, which a computed column demands, and in windows."""
    yield Way("instances", "csv", {"columns": [*names, COMPUTED]}, ("x",))
    yield Way("instances", "json", {"columns": [*names, COMPUTED], "encoder": Json()}, ("x",))
    if windowed:
        yield Way("windows", "csv", {"columns": None if is_whole else names, "windows": True, "chunk_size": 2})


def _read_csv(text: str, _: str) -> tuple[list[str], list[list[Any]]]:
    if text and not text.endswith("\r\n"):
        raise DifferentError("format", f"no CRLF at the end: {text[-80:]!r}")
    header, *rows = list(csv.reader(io.StringIO(text, newline=""), strict=True)) or [[]]
    if wrong := next((row for row in rows if len(row) != len(header)), None):
        raise DifferentError("format", f"{len(wrong)} cells under {len(header)} headers: {wrong}")
    return header, rows


def _read_json(text: str, name: str) -> tuple[list[str], list[list[Any]]]:
    if name == "json":
        objects = oracle.strict_json(text)
    else:
        *lines, rest = text.split("\n")
        if rest:
            raise DifferentError("format", f"no line feed at the end: {text[-80:]!r}")
        objects = list(map(oracle.strict_json, lines))
    headers = {tuple(one) for one in objects}
    if len(headers) > 1:
        raise DifferentError("format", f"objects with different keys: {headers}")
    return list(next(iter(headers), ())), [list(one.values()) for one in objects]


def _compare_rows(
    got: list[list[Any]], given: list[list[Any]], name: str, tied: Callable[[], Sequence[int]]
) -> None:
    if len(got) != len(given):
        raise DifferentError("rows", f"{len(got)} rows, where Django gave {len(given)}")
    if all(_is_same(other, row, name) for row, other in zip(got, given, strict=True)):
        return
    if (at := _first_other(got, given, name)) is not None:
        raise DifferentError("cells", f"{got[at]!r:.600}, where Django gave {given[at]!r:.600}")
    start = 0
    for size in tied():
        group = slice(start, start + size)
        if _first_other(got[group], given[group], name) is not None:
            raise DifferentError("order", f"{got!r:.600}, where Django gave {given!r:.600}")
        start += size


def _first_other(got: list[list[Any]], given: list[list[Any]], name: str) -> int | None:
    """Return where the first row is that was not given, in any order; None if all were."""
    missing = list(given)
    for at, row in enumerate(got):
        found = next((place for place, other in enumerate(missing) if _is_same(other, row, name)), None)
        if found is None:
            return at
        del missing[found]
    return None


def _is_same(given: list[Any], got: list[Any], name: str) -> bool:
    return given == got if name == "csv" else oracle.same_json(given, got)
