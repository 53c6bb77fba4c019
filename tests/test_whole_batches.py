"""A batch written at once, by a few calls in C, has the bytes that writing it cell by cell has."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal, localcontext
from enum import Enum
from itertools import cycle, islice, product
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import ways
from tests.strategies import (
    FLOATS,
    LARGE,
    PYTHON_VALUES,
    SPECIAL_DECIMALS,
    ZONES,
    Label,
    Mixed,
    Moment,
    Plain,
    Point,
    Priority,
    Shout,
    Tone,
    json_values,
    texts,
)
from tests.strategies import TEXTS as STRANGE
from upstream.streaming import Csv, Json, JsonLines
from upstream.streaming.columns import OutputColumn
from upstream.streaming.encoders.text import ROWS_AT_ONCE, TextRows

ROME = ZoneInfo("Europe/Rome")


class Textless:
    """An object without a text."""

    def __repr__(self):
        return "<Textless at 0x1>"


DELIMITED = [
    *(Csv(), Csv(delimiter=";"), Csv(delimiter="\t"), Csv(delimiter="|", lineterminator="\n"), Csv(delimiter="§")),
    *(Csv(quoting="all"), Csv(quoting="nonnumeric", delimiter=";"), Csv(quoting="all", null_marker="NULL")),
    *(Csv(null_marker="\\N"), Csv(null_marker="a, b", delimiter=";"), Csv(quote_empty=True), Csv(header=False)),
    *(Csv(null_marker="null"), Csv(null_marker="~^", quote_empty=True), Csv(delimiter="^"), Csv(delimiter="1")),
    *(Csv(null_marker="null_", quoting="all"), Csv(profile="excel", null_marker="'=1+1")),
    *(Csv(profile="excel"), Csv(profile="excel", decimal_separator=",", delimiter=";", quoting="nonnumeric")),
    *(Csv(profile="excel", date_format="%d/%m,%y", datetime_format='%H "h"'), Csv(timespec="microseconds")),
    *(Csv(encoding="cp1252"), Csv(encoding="utf-16"), Csv(encoding="iso2022_jp"), Csv(time_zone=ROME)),
]
OBJECTS = [
    *(JsonLines(), JsonLines(decimals="number"), JsonLines(integers="safe"), JsonLines(time_zone=ROME)),
    *(JsonLines(time_zone=UTC), Json(), Json(decimals="number", integers="safe"), Json(indent=2)),
    Json(separators=(", ", ": ")),
]
ENCODERS = [*DELIMITED, *OBJECTS]
# The first cell may be a mark of its own, the layout has spaces.
CELL_BY_CELL = [Csv(header=False), *OBJECTS[-2:]]

MOMENT = datetime(2026, 1, 31, 8, 15, 59, 250000)
IN_UTC = MOMENT.replace(tzinfo=UTC)
OFFSETS = [MOMENT.replace(tzinfo=zone) for zone in ZONES]
KEY = UUID("00000000-0000-4e70-8000-00000000e710")
LETTERS = [chr(number) for number in range(128)]
# Characters that a cell is quoted or escaped for, in one of the formats.
MARKS = '",\\\n\r\t;|'
# What replacements look for, and what could be taken for the frame of a row.
FRAMES = [
    *("null", ",null", "\r\nnull", "true", "],[", "[", "]", "\\N", "\\.", "ID", '",', '","', "\\", "\\\\", '\\"'),
    *(
        "\\u0000",
        "NaN",
        "1",
        "1e5",
        "Z",
        '5Z"',
        '"Z"',
        "ends in Z",
        '+00:00"',
        "}\n{",
        "},{",
        "a, b",
        "NULL",
        "~^",
    ),
]
EVERY_MARK = [MARKS, *MARKS, *[f"a{mark}b" for mark in MARKS], "\x00", *[f"{mark}\x00" for mark in MARKS]]

# Columns, by what they hold.
VALUES = {
    "integers": [1, 0, -7, 2**31, 2**53 - 1, -(2**53) + 1],
    "long integers": [*LARGE, 2**70, -(2**70), 10**40],
    "one unsafe integer": [1, 2**53, 3],
    "huge integers": [1, 10**5000],
    "booleans": [True, False],
    "floats": [1.0, -0.0, 0.5, 100.25, 123456.75],
    "floats of every spelling": FLOATS,
    **{f"a float {number!r}": [1.5, number] for number in [*FLOATS, 1e-7, 0.00001, -0.00012, 1e21, float("nan"),
                                                          float("inf"), float("-inf")]},
    "letters": ["a", "bc", "é", "日本語", "😀"],
    "empty texts": ["", "a", ""],
    "only empty texts": [""],
    "strange texts": STRANGE,
    "frames": FRAMES,
    **{f"the text {text!r}": ["a", text] for text in FRAMES},
    **{f"the letter {letter!r}": ["a", letter, letter * 2, f"x{letter}y"] for letter in LETTERS},
    "every letter": LETTERS,
    "every mark": EVERY_MARK,
    **{f"the mark {mark!r} beside NUL": ["a", mark, "\x00", f"x{mark}\x00y"] for mark in MARKS},
    "formulas": ["=1+1", "a;=b", "-1", "+x", "@", "\t=1"],
    "long texts": ['a "quoted" text, ' * 30, "plain " * 60],
    "lone surrogates": ["a", "b\ud800", "c"],
    "only a lone surrogate": ["\udfff"],
    "subclasses of str": [Shout("a"), Shout('b, "c"')],
    "subclasses and texts": ["a", Shout('b, "c"')],
    "enums of integers": list(Priority),
    "enums of texts": list(Tone),
    "enums of texts with other values": list(Label),
    "enums": list(Mixed),
    "Decimals": [Decimal("1.10"), Decimal("-0.00"), Decimal(12)],
    "Decimals of every spelling": [Decimal(text) for text in SPECIAL_DECIMALS],
    "endless Decimals": [Decimal("1E+30000")],
    "UUIDs": [KEY, UUID(int=0), UUID(int=2**128 - 1)],
    "dates": [date(2026, 1, 31), date(1, 1, 1), date(9999, 12, 31)],
    "times": [time(8, 15), time(8, 15, 0, 5), time(8, tzinfo=UTC)],
    "durations": [timedelta(0), timedelta(days=-1, microseconds=5)],
    "naive datetimes": [MOMENT, datetime(1, 1, 1), datetime(2026, 1, 1, fold=1)],
    "datetimes in UTC": [IN_UTC, datetime(1, 1, 3, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)],
    "datetimes without an offset": [MOMENT.replace(tzinfo=timezone(timedelta(0), "Z")), IN_UTC],
    "only datetimes without an offset": [MOMENT.replace(tzinfo=timezone(timedelta(0), "Z"))],
    "datetimes in London": [MOMENT.replace(tzinfo=ZoneInfo("Europe/London"))],
    "datetimes of every zone": [MOMENT, *OFFSETS],
    **{f"datetimes in {moment.tzinfo}": [moment] for moment in OFFSETS},
    "datetimes of another class": [Moment(2026, 1, 31), Moment(2026, 1, 31, tzinfo=UTC)],
    "dates and datetimes": [date(2026, 1, 31), MOMENT],
    "bytes": [b"", b"\x00\xff", bytearray(b"a"), memoryview(b"b")],
    "dicts": [{"a": 1, "b": [None, "x, y"]}, {}, {"t": IN_UTC, "big": 2**60}],
    "lists": [[1, 2], [], ["a", 'b"'], (1.5, None), {3}, [1e-7], [float("nan")]],
    "tuples": [Point(1, "a")],
    "lists and tuples": [[1, 2], (1.5, None), [1e-7], ["a\x1e", "null"]],
    "dicts of every float": [{"a": number} for number in [*FLOATS, float("nan"), 1e-7]],
    "dicts of long integers": [{"a": number, "b": [number]} for number in LARGE],
    "dicts of other keys": [{1: 2, None: "null"}, {"a": None}],
    "dicts of lone surrogates": [{"a": 1}, {"a": "\ud800"}],
    "objects": [Plain("null"), Plain('a, "b"'), Plain("")],
    "an object without a text": [1, Textless()],
    "an iterator": [iter([1])],
    "mixed": [1, "a", 1.5, True, None, Decimal("1E+3"), KEY, MOMENT, b"x", [1], "1,5"],
    "integers and floats": [1, 1.5, 10**25, 1e-7],
    "integers and booleans": [1, True, 0, False],
    "texts and integers": ["1", 1, '"'],
}  # fmt: skip
RAW = {  # as a database gives them
    "UUIDs": (UUID, [str(KEY), str(UUID(int=0))]),
    "Decimals": (Decimal, ["1.10", "-0.00", "12", "NaN", "Infinity", "-Infinity"]),
}
DOCUMENTS = {
    "JSON": ['{"a": [1, "x,y"]}', "[]", '"text"', "1", "null"],
    "JSON of one line each": ['{"a":"5Z"}', '["\\u0000",1.50]', "18446744073709551617"],
    "JSON of many lines": ['{\n "a": 1\n}', "[1,\r2]"],
    "no JSON": ["[1]", "NaN", "[NaN]"],
    "no JSON at all": ["[1]", "{"],
}


def loader(kind: type | None) -> Callable:
    return lambda values: (kind, values)


COLUMNS = {
    **{name: (OutputColumn("c"), values) for name, values in VALUES.items()},
    **{f"joined {name}": (OutputColumn("c", join=", "), VALUES[name]) for name in ("lists", "letters", "mixed")},
    **{f"texts of {name}": (OutputColumn("c", load=loader(kind)), values) for name, (kind, values) in RAW.items()},
    **{f"loaded {name}": (OutputColumn("c", load=loader(None)), VALUES[name]) for name in ("letters", "frames")},
    **{name: (OutputColumn("c", json=True), values) for name, values in DOCUMENTS.items()},
    "too few cells": (OutputColumn("c", load=lambda values: (None, values[1:])), [1, 2, 3]),
    "a header with a quote": (OutputColumn('a "b"'), ["a", "b"]),
    "a header with a break": (OutputColumn("a\nb"), ["a", "b"]),
    "an empty header": (OutputColumn(""), ["a", "b"]),
    "a header with a mark": (OutputColumn('5Z"'), VALUES["datetimes in UTC"]),
    "a header that ends in Z": (OutputColumn("5Z"), VALUES["datetimes in UTC"]),
    "a lone surrogate as a header": (OutputColumn("\ud800"), ["a", "b"]),
}
FAILING = {
    *("lone surrogates", "dicts of lone surrogates", "only a lone surrogate", "a lone surrogate as a header"),
    *("an object without a text", "an iterator", "too few cells", "no JSON at all", "endless Decimals"),
}
# What the types of a column are learned from.
LEARNED = [
    *("integers", "long integers", "one unsafe integer", "booleans", "floats", "floats of every spelling"),
    *("letters", "only empty texts", "subclasses of str", "enums of texts", "enums of texts with other values"),
    *("enums of integers", "dates", "UUIDs", "Decimals", "bytes", "dicts"),
    *("integers and floats", "integers and booleans", "texts and integers"),
]
EXACT = {
    name for name in LEARNED if not any(isinstance(value, Enum) or type(value) is Shout for value in VALUES[name])
}
CLEAN = OutputColumn("id"), [1, 2, 3]
PLAIN = {
    "id": [1, 2, 3], "name": ["Bayview Express", None, "Lakeside Air"], "note": ['said "no", twice', "b\nc", "d"],
    "delay": [1.0, None, -0.5], "cancelled": [True, False, None], "due": [date(2026, 1, 31), None],
    "key": [KEY, None], "at": [IN_UTC, None, datetime(2026, 1, 1, tzinfo=UTC)], "none": [None],
}  # fmt: skip


def outcome(encoder, columns, batches):
    """Return what is written of batches, or the error and its notes."""
    try:
        return b"".join(encoder.encode(columns, (batch for batch in batches)))
    except Exception as error:  # noqa: BLE001 (compared)
        return type(error), str(error), getattr(error, "__notes__", [])


def cell_by_cell(encoder, columns, batches):
    with pytest.MonkeyPatch.context() as patch:
        ways.only("cell by cell", patch)
        return outcome(encoder, columns, batches)


def check(encoder, columns, *batches):
    expected = cell_by_cell(encoder, columns, batches)
    assert outcome(encoder, columns, batches) == expected
    return expected


def table(*columns, rows=0):
    """Return columns and one batch of them, as long as the longest."""
    rows = rows or max(len(values) for _, values in columns)
    cells = [islice(cycle(values), rows) for _, values in columns]
    named = [_renamed(column, number) for number, (column, _) in enumerate(columns)]
    return named, list(zip(*cells, strict=True))


def _renamed(column, number):
    header = column.header if column.header != "c" else f"c{number}"
    return OutputColumn(header, json=column.json, load=column.load, join=column.join)


def with_nulls(values):
    return [cell for value in values for cell in (value, None)]


@pytest.mark.parametrize("encoder", ENCODERS, ids=repr)
class TestColumns:
    def test_alone_in_a_table(self, encoder):
        for column, values in COLUMNS.values():
            for cells in (values, with_nulls(values), [None, *values[:1]], values[:1]):
                check(encoder, *table((column, cells)))

    def test_beside_clean_columns(self, encoder):
        for column, values in COLUMNS.values():
            for cells in (values, with_nulls(values)):
                check(encoder, *table(CLEAN, (column, cells), (OutputColumn("c"), ["x", "y"])))

    def test_beside_columns_of_their_kind(self, encoder):
        for column, values in COLUMNS.values():
            check(encoder, *table(*[(_renamed(column, number), with_nulls(values)) for number in range(2)]))

    def test_beside_a_text_of_every_mark_and_a_datetime_in_utc(self, encoder):
        marks = OutputColumn("marks"), ["\t,\"'\r\n\\;|", "5Z", "x\x00"]
        for column, values in COLUMNS.values():
            check(encoder, *table((column, values), marks, (OutputColumn("at"), VALUES["datetimes in UTC"])))

    def test_all_in_one_table(self, encoder):
        columns = [(_renamed(column, number), values) for number, (name, (column, values)) in
                   enumerate(COLUMNS.items()) if name not in FAILING and column.header == "c"]  # fmt: skip
        assert isinstance(check(encoder, *table(*columns)), bytes) or encoder.encoding != "utf-8"

    def test_a_text_alone_in_its_batch(self, encoder):
        for text in [*STRANGE, *FRAMES, *LETTERS, *EVERY_MARK]:
            check(encoder, [OutputColumn("a")], [(text,)])
            check(encoder, [OutputColumn("a"), OutputColumn("b")], [(text, text)])
            check(encoder, [OutputColumn("a"), OutputColumn("b")], [(None, text), (text * 2, 1)])

    def test_what_changes_between_batches(self, encoder):
        columns, first = table(*[(OutputColumn("c"), values) for values in PLAIN.values()])
        others = [
            table(*[(OutputColumn("c"), VALUES[name])] * len(columns)) for name in VALUES if name not in FAILING
        ]
        batches = [first, *[batch for _, other in others for batch in (other, first)]]
        check(encoder, columns, *batches)

    def test_whatever_a_column_held_before(self, encoder):
        for first, name, nulls in product(LEARNED, LEARNED, (list, with_nulls)):
            columns, learned = table(CLEAN, (OutputColumn("c"), VALUES[first]))
            _, batch = table(CLEAN, (OutputColumn("c"), nulls(VALUES[name])))
            if {first, name} <= EXACT:
                columns = [replace(column, is_exact=True) for column in columns]
            check(encoder, columns, learned, batch, learned)

    def test_beside_a_column_of_only_none(self, encoder):
        for column, values in COLUMNS.values():
            check(encoder, *table(CLEAN, (OutputColumn("none"), [None]), (column, with_nulls(values))))

    def test_more_rows_than_are_written_at_once(self, encoder):
        for name in ("strange texts", "frames", "every letter", "mixed", "floats of every spelling", "dates"):
            clean = [(OutputColumn("c"), values) for values in PLAIN.values()]
            columns, batch = table(*clean, (OutputColumn("c"), VALUES["letters"]), rows=ROWS_AT_ONCE * 2 + 1)
            for dirty in (0, ROWS_AT_ONCE, 2 * ROWS_AT_ONCE):
                batch[dirty] = (*batch[dirty][:-1], VALUES[name][-1])
            check(encoder, columns, batch, batch[: ROWS_AT_ONCE + 1])

    @pytest.mark.parametrize("cell", ["\ud800", Textless(), Decimal("1E+30000")], ids=ascii)
    def test_an_error_names_the_same_row_and_column(self, encoder, cell):
        columns, batch = table(CLEAN, (OutputColumn("c"), ["a", None]), rows=ROWS_AT_ONCE * 2 + 1)
        for position in (0, ROWS_AT_ONCE - 1, ROWS_AT_ONCE, ROWS_AT_ONCE * 2):
            bad = [*batch[:position], (1, cell), *batch[position + 1 :]]
            _, message, notes = check(encoder, columns, batch, bad)
            assert f"row {len(batch) + position + 1}, column 'c1'" in " ".join([message, *notes])


CELLS = {
    **PYTHON_VALUES,
    "texts of marks": st.text(st.sampled_from(MARKS + "a\x00Zé[]"), max_size=6),
    "JSON values": json_values(),
    "lists": st.lists(texts() | st.none(), max_size=3),
}


@st.composite
def tables(draw):
    """Draw columns and batches of rows: most columns are of one kind, some with None."""
    kinds = draw(st.lists(st.sampled_from([*CELLS]), min_size=1, max_size=4))
    cells = [CELLS[kind] | st.none() if draw(st.booleans()) else CELLS[kind] for kind in kinds]
    if draw(st.booleans()):
        cells[0] = st.one_of(*CELLS.values())
    batch = st.lists(st.tuples(*cells), min_size=1, max_size=4)
    columns = [
        OutputColumn(f"c{number}", join=draw(st.sampled_from([None, ", "]))) for number in range(len(cells))
    ]
    return columns, draw(st.lists(batch, min_size=1, max_size=2))


@given(tables())
def test_drawn_tables_are_written_as_cell_by_cell(drawn):
    columns, batches = drawn
    for encoder in ENCODERS:
        check(encoder, columns, *batches)


def test_decimals_of_a_context_with_small_exponents_are_written_as_cell_by_cell():
    with localcontext(capitals=0):
        for encoder in ENCODERS:
            check(encoder, *table(CLEAN, (OutputColumn("c"), [Decimal("1E+3"), None, Decimal("1.5")])))


class TestTheWayTaken:
    """What is silently written cell by cell is right, and slow."""

    @pytest.fixture(autouse=True)
    def _only_at_once(self, monkeypatch):
        def refuse(*_):
            raise AssertionError("written cell by cell")

        monkeypatch.setattr(TextRows, "_rows", refuse)

    @pytest.mark.parametrize("encoder", [one for one in ENCODERS if one not in CELL_BY_CELL], ids=repr)
    def test_plain_tables_are_written_at_once(self, encoder):
        columns, batch = table(*[(OutputColumn("c"), values) for values in PLAIN.values()], rows=1000)
        assert b"".join(encoder.encode(columns, (one for one in [batch])))

    @pytest.mark.parametrize("encoder", OBJECTS[:-2], ids=repr)
    def test_objects_of_every_column_are_written_at_once(self, encoder):
        escaped = {"a header with a quote", "a header with a break", "a header with a mark", "huge integers"}
        for name, (column, values) in COLUMNS.items():
            if name not in FAILING | escaped:
                columns, batch = table((column, with_nulls(values)))
                assert b"".join(encoder.encode(columns, (one for one in [batch]))), name

    @pytest.mark.parametrize("mark", MARKS, ids=ascii)
    def test_texts_with_one_mark_are_written_at_once(self, mark):
        columns, batch = table(CLEAN, (OutputColumn("c"), ["a", f"b{mark}c", None]))
        assert isinstance(outcome(Csv(), columns, [batch]), bytes)

    def test_after_the_first_cell_of_a_file_too(self, monkeypatch):
        columns, batch = table(CLEAN, (OutputColumn("c"), VALUES["letters"]))
        monkeypatch.setattr(TextRows, "_rows", lambda *_: [b"first\r\n"])
        written = outcome(Csv(header=False), columns, [batch, batch])
        assert written == b"first\r\n" + outcome(Csv(), columns, [batch]).partition(b"\r\n")[2]
