"""Rounds to figures, and figures to a table."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.cases import CASES

MIB = 1024 * 1024
MB = 1000 * 1000

# (case, rows) -> what each round measured
Rounds = dict[tuple[str, int], list[dict[str, Any]]]

COLUMNS = {
    "case": "case",
    "format": "format",
    "lane": "lane",
    "rows": "rows",
    "rows/s": "rows_per_second",
    "x recipe": "ratio",
    "x CPU": "cpu_ratio",
    "first byte ms": "first_byte_ms",
    "first row ms": "first_row_ms",
    "peak MiB": "peak_mib",
    "growth MiB": "growth_mib",
    "CPU s": "cpu_seconds",
    "MB": "megabytes",
    "": "note",
}
EXPLANATION = """\
lane: who turned rows into bytes, PostgreSQL (copy), the encoder from the driver's tuples (text) or from
Python's objects (python). rows/s: the median of the rounds. x recipe: the median, over the rounds, of the
speed divided by that of the recipe of the same format and table in the same round; servers are compared with
csv-file or xlsx, dumps with one export of the same order, JSON with the NDJSON recipe, what reads instances with
the recipe that does, and lists with the modules csv and json (stdlib). x CPU: the same of processor time. first
byte, first row: from the call until they could be sent; a header line comes earlier. peak: the largest resident
memory of the process (for servers, of the worker). growth: of that peak, from the smallest table to this one; for
wide rows (5 MB each), from as many small ones. CPU: of the process that writes, that of psql and sqlite3 for
theirs; not of servers. Files are synced, theirs and ours; psql's clock starts when it has connected."""


def figures(rounds: Rounds, notes: Mapping[tuple[str, int], str]) -> list[dict[str, Any]]:
    """Return one record for each case and size, in the order in which cases are declared."""
    order = list(CASES)
    keys = sorted({*rounds, *notes}, key=lambda key: (order.index(key[0]), key[1]))
    return [
        {"case": name, "format": CASES[name].format, "rows": CASES[name].rows(rows)}
        | {"note": notes.get((name, rows), "")}
        | (_figures(name, rows, rounds) if (name, rows) in rounds else {})
        for name, rows in keys
    ]


def _figures(name: str, rows: int, rounds: Rounds) -> dict[str, Any]:
    measured, compared = rounds[name, rows], rounds.get((CASES[name].speed_of, rows), [])
    return {
        "lane": measured[0]["lane"],
        "rows_per_second": round(CASES[name].rows(rows) / median(one["seconds"] for one in measured)),
        "ratio": paired(compared, measured, "seconds"),
        "cpu_ratio": paired(compared, measured, "cpu_seconds"),
        "first_byte_ms": _median(measured, "first_byte_seconds", 1, 1000),
        "first_row_ms": _median(measured, "first_row_seconds", 1, 1000),
        "peak_mib": peak_mib(measured),
        "growth_mib": growth(name, rows, rounds),
        "cpu_seconds": _median(measured, "cpu_seconds", 2),
        "megabytes": round(measured[0]["bytes"] / MB, 1),
        "rounds": measured,
    }


def _median(measured: Sequence[dict[str, Any]], what: str, digits: int, factor: int = 1) -> float | None:
    known = [one[what] for one in measured if one[what] is not None]
    return round(factor * median(known), digits) if known else None


def paired(measured: Sequence[dict[str, Any]], compared: Sequence[dict[str, Any]], what: str) -> float | None:
    """Return the median, over the rounds, of one case's figure divided by another's in the same round."""
    pairs = zip(measured, compared, strict=False)
    ratios = [one[what] / other[what] for one, other in pairs if one[what] is not None and other[what]]
    return round(median(ratios), 2) if ratios else None


def growth(name: str, rows: int, rounds: Rounds) -> float | None:
    """Return by how many MiB the peak grew from the smallest table to that of `rows`."""
    if peak_of := CASES[name].peak_of:
        smaller = rounds.get((peak_of, rows))
    else:
        smallest = min(size for case, size in rounds if case == name)
        smaller = rounds[name, smallest] if smallest < rows else None
    peak, other = _peak(rounds[name, rows]), _peak(smaller or [])
    return None if peak is None or other is None else _mib(peak - other)


def peak_mib(measured: Iterable[dict[str, Any]]) -> float | None:
    return _mib(_peak(measured))


def _peak(measured: Iterable[dict[str, Any]]) -> int | None:
    return max((one["peak_bytes"] for one in measured if one["peak_bytes"] is not None), default=None)


def _mib(size: int | None) -> float | None:
    return None if size is None else round(size / MIB, 1)


def as_table(records: Sequence[dict[str, Any]]) -> str:
    """Return the records as aligned text: words to the left, numbers to the right."""
    lines = [list(COLUMNS), *[[_text(record.get(key)) for key in COLUMNS.values()] for record in records]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    is_text = [header in ("case", "format", "lane", "") for header in COLUMNS]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if left else cell.rjust(width)
            for cell, width, left in zip(line, widths, is_text, strict=True)
        ).rstrip()
        for line in lines
    )


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int | float) else str(value)
