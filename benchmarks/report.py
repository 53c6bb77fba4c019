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
    "rows": "rows",
    "rows/s": "rows_per_second",
    "x recipe": "ratio",
    "first byte ms": "first_byte_ms",
    "first row ms": "first_row_ms",
    "peak MiB": "peak_mib",
    "growth MiB": "growth_mib",
    "MB": "megabytes",
    "": "note",
}
EXPLANATION = """\
rows/s: the median of the rounds. x recipe: the median, over the rounds, of the speed divided by that of the recipe
of the same format in the same round; servers are compared with csv-file, JSON with the NDJSON recipe. first byte,
first row: from the call until they could be sent; a header line comes earlier. peak: the largest resident memory
of the process (for servers, of the worker). growth: of that peak, from the smallest table to this one; for wide
rows (5 MB each), from as many small ones."""


def figures(rounds: Rounds, notes: Mapping[tuple[str, int], str]) -> list[dict[str, Any]]:
    """Return one record for each case and size, in the order in which cases are declared."""
    order = list(CASES)
    keys = sorted({*rounds, *notes}, key=lambda key: (order.index(key[0]), key[1]))
    return [
        {"case": case, "format": CASES[case].format, "rows": rows, "note": notes.get((case, rows), "")}
        | (_figures(case, rows, rounds) if (case, rows) in rounds else {})
        for case, rows in keys
    ]


def _figures(name: str, rows: int, rounds: Rounds) -> dict[str, Any]:
    measured = rounds[name, rows]
    return {
        "rows_per_second": round(rows / median(one["seconds"] for one in measured)),
        "ratio": _ratio(measured, rounds.get((CASES[name].speed_of, rows), [])),
        "first_byte_ms": _milliseconds(measured, "first_byte_seconds"),
        "first_row_ms": _milliseconds(measured, "first_row_seconds"),
        "peak_mib": _mib(_peak(measured)),
        "growth_mib": _growth(name, rows, rounds),
        "megabytes": round(measured[0]["bytes"] / MB, 1),
        "rounds": measured,
    }


def _milliseconds(measured: Sequence[dict[str, Any]], what: str) -> float | None:
    seconds = [one[what] for one in measured if one[what] is not None]
    return round(1000 * median(seconds), 1) if seconds else None


def _ratio(measured: Sequence[dict[str, Any]], compared: Sequence[dict[str, Any]]) -> float | None:
    ratios = [other["seconds"] / own["seconds"] for own, other in zip(measured, compared, strict=False)]
    return round(median(ratios), 2) if ratios else None


def _growth(name: str, rows: int, rounds: Rounds) -> float | None:
    if peak_of := CASES[name].peak_of:
        smaller = rounds.get((peak_of, rows))
    else:
        smallest = min(size for case, size in rounds if case == name)
        smaller = rounds[name, smallest] if smallest < rows else None
    peak, other = _peak(rounds[name, rows]), _peak(smaller or [])
    return None if peak is None or other is None else _mib(peak - other)


def _peak(measured: Iterable[dict[str, Any]]) -> int | None:
    return max((one["peak_bytes"] for one in measured if one["peak_bytes"] is not None), default=None)


def _mib(size: int | None) -> float | None:
    return None if size is None else round(size / MIB, 1)


def as_table(records: Sequence[dict[str, Any]]) -> str:
    """Return the records as aligned text: words to the left, numbers to the right."""
    lines = [list(COLUMNS), *[[_text(record.get(key)) for key in COLUMNS.values()] for record in records]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    is_text = [header in ("case", "format", "") for header in COLUMNS]
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
