"""SQL expressions that give, byte for byte, the cells that `Xlsx` writes.

What a text needs besides its markup, such as marks of control characters, is left to the encoder (`SheetRows`): to
look for it takes the server longer than all else that it does for a cell, and the client has the time.
"""

from collections.abc import Sequence
from typing import Any

from upstream.streaming.databases.postgresql.expressions import (
    CELLS,
    INTEGERS,
    STRINGS,
    VALUES,
    Session,
    kind_and_sql,
)
from upstream.streaming.databases.protocol import (
    DAY_ZERO,
    FIRST_DAY,
    FORMULA_STARTS,
    MAX_DIGITS,
    MAX_PLACES,
    MAX_SCALE,
    TEXT_END,
    TEXT_START,
    CellStyle,
    text_start,
)

EMPTY = "'<c/>'"
NUMBER_END = "</v></c>"
LARGEST = 10**MAX_DIGITS
PLAIN_TEXT, QUOTED = f"'{TEXT_START}'", f"'{text_start(CellStyle.QUOTED)}'"
MARKUP = "replace(replace(replace({t}, '&', '&amp;'), '<', '&lt;'), '>', '&gt;')"
SIGNS = ", ".join(f"'{sign}'" for sign in FORMULA_STARTS)
# Compared with these first, most texts need no look at their first character, which takes longer.
FIRST_LETTER, FIRST_WIDE_SIGN = "A", "\uff0b"
TEXT = f"""CASE WHEN {{t}} >= '{FIRST_LETTER}' AND {{t}} < '{FIRST_WIDE_SIGN}' AND strpos({{t}}, E'\\n') = 0
 THEN {PLAIN_TEXT} || {MARKUP} || '{TEXT_END}'
 WHEN {{t}} <> '' THEN CASE WHEN left({{t}}, 1) IN ({SIGNS})
  THEN CASE WHEN strpos({{t}}, E'\\n') = 0 THEN {QUOTED} ELSE '{text_start(CellStyle.QUOTED_WRAPPED)}' END
  ELSE CASE WHEN strpos({{t}}, E'\\n') = 0 THEN {PLAIN_TEXT} ELSE '{text_start(CellStyle.WRAPPED)}' END END
 || replace({MARKUP}, E'\\n', '&#10;') || '{TEXT_END}' ELSE {EMPTY} END"""
# Text of digits, dates, ... needs neither: its references are not evaluated more than once.
SIMPLE_TEXT = f"{PLAIN_TEXT} || {{t}} || '{TEXT_END}'"
DIGITS = f"{QUOTED} || {{t}} || '{TEXT_END}'"

DATE = f"{{x}} - date '{DAY_ZERO}'"
FRACTION = "lpad(((round(date_part('epoch', {x}::time) * 1000000)::int8 * 125 + 54) / 108)::text, 11, '0')"
MOMENT = f"({{x}}::date - date '{DAY_ZERO}') || '.' || {FRACTION}"
OTHERWISE = "WHEN {x} IS NOT NULL THEN "


def sheet_expression(
    field: Any, kind: int | str, sql: str, session: Session, *, style: int | None, converted: bool = False
) -> str | None:
    """Return SQL for the cell of `field`; None if there is none.

    `style` is that of numbers, dates and times, None for that of their kind; the rest is as in `csv_expression`.
    """
    kind, sql = kind_and_sql(field, kind, sql, session, converted=converted)
    if kind in CELL_MAKERS:
        return CELL_MAKERS[kind](kind, style).replace("{x}", sql)
    if kind in STRINGS:
        return TEXT.replace("{t}", f'({sql}::text COLLATE "C")')
    if kind not in VALUES:
        return None
    made = VALUES[kind].sql.replace("{to_json}", "to_json").replace("{x}", sql)
    return f'(SELECT {TEXT.replace("{t}", "t")} FROM (SELECT (({made})::text) COLLATE "C" AS t OFFSET 0) AS s)'  # noqa: S608


def sheet_row(cells: Sequence[str]) -> str:
    """Return SQL for a `<row>`; cells are joined in groups, since each `||` copies everything to its left."""
    parts = ["'<row>'", *[f"({cell})" for cell in cells], "'</row>'"]
    while len(parts) > 1:
        parts = [f"({' || '.join(parts[at : at + 4])})" for at in range(0, len(parts), 4)]
    return parts[0]


def _number_start(usual: CellStyle, style: int | None) -> str:
    chosen = usual if style is None else style
    return f'<c s="{chosen:d}"><v>' if chosen else "<c><v>"


def _integer(kind: str, style: int | None) -> str:
    cell = f"'{_number_start(CellStyle.PLAIN, style)}' || {{x}} || '{NUMBER_END}'"
    if kind != "int8":
        return f"COALESCE({cell}, {EMPTY})"
    digits = DIGITS.replace("{t}", "{x}")
    return f"CASE WHEN {{x}} > -{LARGEST} AND {{x}} < {LARGEST} THEN {cell} {OTHERWISE}{digits} ELSE {EMPTY} END"


def _numeric(_kind: str, style: int | None) -> str:
    if style is None:
        by_scale = "".join(
            f" WHEN {places} THEN '{_number_start(CellStyle.PLAIN, CellStyle.DECIMAL + places - 1)}'"
            for places in (2, *(other for other in range(1, MAX_PLACES + 1) if other != 2))
        )
        start = f"CASE scale({{x}}){by_scale} ELSE '<c><v>' END"
    else:
        start = f"'{_number_start(CellStyle.PLAIN, style)}'"
    significant = "length(ltrim(translate(trim_scale({x})::text, '-.', ''), '0'))"
    is_short = "{x} < 1e10 AND {x} > -1e10 AND scale({x}) <= 5"
    is_number = (
        f"{{x}} < 1e{MAX_DIGITS} AND {{x}} > -1e{MAX_DIGITS} AND scale({{x}}) <= {MAX_SCALE}"
        f" AND {significant} <= {MAX_DIGITS}"
    )
    return (
        f"CASE WHEN ({is_short}) OR ({is_number}) THEN {start} || {{x}} || '{NUMBER_END}'"
        f" {OTHERWISE}{DIGITS.replace('{t}', '{x}')} ELSE {EMPTY} END"
    )


def _float(kind: str, style: int | None) -> str:
    cell = f"'{_number_start(CellStyle.PLAIN, style)}' || ({CELLS[kind]}) || '{NUMBER_END}'"
    infinite = f"'{text_start(CellStyle.QUOTED)}-inf{TEXT_END}'"
    words = f"CASE WHEN {{x}} < 0 THEN {infinite} ELSE {SIMPLE_TEXT.replace('{t}', f'({CELLS[kind]})')} END"
    return f"CASE WHEN {{x}} > '-Infinity' AND {{x}} < 'Infinity' THEN {cell} {OTHERWISE}{words} ELSE {EMPTY} END"


def _boolean(_kind: str, _style: int | None) -> str:
    true, false = (f"'<c t=\"b\"><v>{digit}</v></c>'" for digit in (1, 0))
    return f"CASE WHEN {{x}} THEN {true} WHEN NOT {{x}} THEN {false} ELSE {EMPTY} END"


def _date(_kind: str, style: int | None) -> str:
    text = SIMPLE_TEXT.replace("{t}", f"({CELLS['date']})")
    return (
        f"CASE WHEN {{x}} BETWEEN '{FIRST_DAY}' AND '9999-12-31'"
        f" THEN '{_number_start(CellStyle.DATE, style)}' || ({DATE}) || '{NUMBER_END}'"
        f" {OTHERWISE}{text} ELSE {EMPTY} END"
    )


def _moment(kind: str, style: int | None) -> str:
    """Return SQL for a moment in UTC: a day number and its fraction, as text as it is written without a zone."""
    text = SIMPLE_TEXT.replace("{t}", f"({CELLS['timestamp']})")
    made = (
        f"CASE WHEN {{x}} >= '{FIRST_DAY}' AND {{x}} < '10000-01-01'"
        f" THEN '{_number_start(CellStyle.DATETIME, style)}' || {MOMENT} || '{NUMBER_END}'"
        f" {OTHERWISE}{text} ELSE {EMPTY} END"
    )
    return made if kind == "timestamp" else made.replace("{x}", "{x}::timestamp")


def _time(_kind: str, style: int | None) -> str:
    rejected, start = VALUES["time"].sql, _number_start(CellStyle.TIME, style)
    return (
        f"CASE WHEN {{x}} < '24:00' THEN '{start}0.' || {FRACTION} || '{NUMBER_END}'"
        f" {OTHERWISE}{rejected} ELSE {EMPTY} END"
    )


def _uuid(_kind: str, _style: int | None) -> str:
    return f"COALESCE({SIMPLE_TEXT.replace('{t}', '{x}')}, {EMPTY})"


CELL_MAKERS = {
    **dict.fromkeys(INTEGERS, _integer),
    "numeric": _numeric,
    **dict.fromkeys(("float8", "float4"), _float),
    "bool": _boolean,
    "date": _date,
    **dict.fromkeys(("timestamp", "timestamptz", "naive timestamptz"), _moment),
    "time": _time,
    "uuid": _uuid,
}
