"""Loaders against what they stand for: the text of the converted value, or nothing, so that converters decide."""

from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from itertools import product
from uuid import UUID

import pytest
from django.db import connection, models
from django.db.models.expressions import Col
from hypothesis import example, given
from hypothesis import strategies as st

from upstream.streaming.databases import loaders

YEARS = ("0000", "0001", "0999", "1900", "2000", "2023", "2024", "2100", "9999")
NUMBERS = [f"{number:02d}" for number in range(100)]
DATES = [f"{year}-{month}-{day}" for year, month, day in product(YEARS, NUMBERS[:20], NUMBERS[:45])]
TIMES = [f"{hour}:00:00" for hour in NUMBERS] + [
    f"08:{at}" for two in NUMBERS for at in (f"{two}:00", f"00:{two}")
]
FRACTIONS = [".000000", ".000001", ".123456", ".999999", ".1", ".123", ".1234567", ".", ",123456", ".12345x"]
ODD = [
    "", "x", " 2026-01-31", "2026-01-31 ", "2026-1-05", "20260131", "2026-01-31T08:15:00", "2026-01-31 08:15",
    "2026-01-31 08:15:00Z", "2026-01-31 08:15:00+00:00", "2026-01-31+01:00", "2026-W05-6", "\u0662026-01-31",
    "2026-01-31\n2026-02-01", "2026-01-31\n", "\ud800026-01-31", "2026-01-31 08:15:00\n", "2026/01/31",
    "2026-01-31 08:15:00\n2026-02-01 08:15:00", "2026-01-31 08.15.00", "2026-01-31 +8:15:00", "-026-01-31",
]  # fmt: skip
DATETIMES = (
    [f"{day} 08:15:00" for day in DATES]
    + [f"2026-01-31 {time}" for time in TIMES]
    + [f"{day} 08:15:00{fraction}" for fraction in FRACTIONS for day in ("0001-01-01", "2026-01-31", "9999-12-31")]
)


def loaded(load, values):
    """Return what `load` makes of a column, or None if it leaves it to the converters."""
    try:
        return list(load(values))
    except ValueError:
        return None


def text_of(read, value):
    try:
        return str(read(value))
    except ValueError:
        return None


def with_offset(value):
    return datetime.fromisoformat(value).replace(tzinfo=UTC)


class TestMoments:
    @pytest.mark.parametrize(
        ("keep", "read", "values"),
        [
            (loaders.keep_dates, date.fromisoformat, DATES),
            (loaders.keep_naive_datetimes, datetime.fromisoformat, DATETIMES),
            (loaders.add_utc_offsets, with_offset, DATETIMES),
        ],
    )
    def test_those_that_are_stored_as_written_are_kept_and_no_others(self, keep, read, values):
        for value in values + ODD:
            texts, text = loaded(keep, [value]), text_of(read, value)
            is_kept = text is not None and text.removesuffix("+00:00") == value
            assert texts == ([text] if is_kept else None), value

    @pytest.mark.parametrize("neighbour", ["2026-01-31 08:15:00", "2026-01-31 08:15:00.123456"])
    def test_one_among_others_is_seen_wherever_it_is(self, neighbour):
        for value in DATETIMES[::7] + ODD:
            for values in (
                [value, neighbour, neighbour],
                [neighbour, value, neighbour],
                [neighbour, neighbour, value],
            ):
                texts = loaded(loaders.add_utc_offsets, values)
                alone = loaded(loaders.add_utc_offsets, [value])
                assert texts == (alone and [one + "+00:00" for one in values]), values

    def test_lines_and_lengths_of_two_values_do_not_pass_for_those_of_others(self):
        whole, exact = "2026-01-31 08:15:00", "2026-01-31 08:15:00.123456"
        for values in (
            [f"{whole}\n{whole}", ""], ["", f"{whole}\n{whole}"], [f"{whole}\n{exact}", whole],
            [whole[:-1], whole + "0"], [exact[:10], whole + whole],
        ):  # fmt: skip
            assert loaded(loaders.add_utc_offsets, values) is None
        assert loaded(loaders.keep_dates, ["2026-01-3", "12026-02-01"]) is None

    def test_what_is_no_text_is_left_to_the_converters(self):
        for value in (20260131, 1.5, b"2026-01-31", date(2026, 1, 31), None):
            for keep in (loaders.keep_dates, loaders.keep_naive_datetimes, loaders.add_utc_offsets):
                assert loaded(keep, ["2026-01-31", value]) is None

    def test_none_is_left_to_the_caller(self):
        field = models.DecimalField(max_digits=5, decimal_places=2)
        loads = [
            load
            for name, load in vars(loaders).items()
            if name.startswith(("keep_", "load_", "add_", "shorten_", "complete_"))
        ]
        assert {loaders.keep_texts, loaders.load_uuids, loaders.add_utc_offsets} <= set(loads)
        for load in [*loads, loaders.decimals_of_doubles(field)]:
            for values in ([None], [None, "2026-01-31 08:15:00"], [1, None], [1.5, None]):
                assert loaded(load, values) is None, (load, values)

    @given(st.lists(st.datetimes(), min_size=1))
    @example([datetime.min, datetime.max, datetime(2026, 1, 31), datetime(2026, 1, 31, 8, 15, 0, 120)])
    @example([datetime(2024, 2, 28), datetime(2024, 2, 29)])
    def test_drawn_datetimes_as_each_database_writes_them(self, moments):
        texts = [str(moment.replace(tzinfo=UTC)) for moment in moments]
        naive = list(map(str, moments))
        exact = [moment.isoformat(" ", "microseconds") for moment in moments]
        trimmed = [text.rstrip("0") + "+00" if "." in text else text + "+00" for text in naive]
        assert loaded(loaders.add_utc_offsets, naive) == texts
        assert loaded(loaders.shorten_utc_datetimes, exact) == texts
        assert loaded(loaders.complete_utc_datetimes, trimmed) == texts

    @pytest.mark.parametrize(
        "value",
        ["infinity", "-infinity", "2026-01-31 08:15:00", "2026-01-31 08:15:00+01", "2026-01-31 08:15:00+00:30",
         "2026-01-31 08:15:00\n2026-02-01 08:15:00+00", "10000-01-01 00:00:00+00",
         "0044-03-15 00:00:00+00 BC", "2026-01-31 08:15:00.1234567+00"],
    )  # fmt: skip
    def test_others_of_postgresql_are_left_to_the_converters(self, value):
        assert loaded(loaders.complete_utc_datetimes, ["2026-01-31 08:15:00+00", value]) is None


class TestUuids:
    @given(st.lists(st.uuids(), min_size=1))
    @example([UUID(int=0), UUID(int=2**128 - 1)])
    def test_they_are_written_with_dashes(self, uuids):
        texts = list(map(str, uuids))
        assert loaded(loaders.load_hexadecimal_uuids, [uuid.hex for uuid in uuids]) == texts
        assert loaded(loaders.load_uuids, [uuid.hex for uuid in uuids]) == texts
        assert loaded(loaders.load_uuids, texts) == texts

    @pytest.mark.parametrize(
        "odd",
        ["", "x", 5, b"0" * 32, "0" * 31, "0" * 33, "0" * 31 + "g", "0" * 31 + "A", "0" * 31 + "\n",
         "0" * 32 + "\n" + "0" * 32, "\u0660" * 32, "00000000-0000-0000-0000-00000000000A", "\ud800" * 32,
         "0000000-00000-0000-0000-000000000000", "{00000000-0000-0000-0000-000000000000}"],
    )  # fmt: skip
    def test_others_are_left_to_the_converters(self, odd):
        uuid = UUID(int=7)
        for load, usual in (
            (loaders.load_hexadecimal_uuids, uuid.hex),
            (loaders.load_uuids, uuid.hex),
            (loaders.load_uuids, str(uuid)),
        ):  # fmt: skip
            for values in ([odd], [odd, usual], [usual, odd]):
                assert loaded(load, values) is None


class TestBooleans:
    def test_they_are_zeros_and_ones(self):
        texts = loaded(loaders.load_booleans, [0, 1, 1])
        assert texts == [False, True, True]
        assert set(map(type, texts)) == {bool}

    @pytest.mark.parametrize("odd", [2, -1, 256, 2**70, 1.0, "1", b"1", "", None])
    def test_others_are_left_to_the_converters(self, odd):
        for values in ([odd], [0, odd, 1], [1, odd]):
            assert loaded(loaders.load_booleans, values) is None


FIELDS = [(12, 2), (5, 2), (15, 0), (20, 1), (20, 10), (4, 4), (30, 15)]
numbers = st.one_of(
    st.floats(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(10**9), 10**9).map(lambda cents: cents / 100),
    st.integers(-(10**6), 10**6),
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**6), max_value=10**6, places=4).map(float),
)


@pytest.mark.skipif(connection.vendor != "sqlite", reason="only SQLite stores decimals as doubles")
class TestDecimals:
    @pytest.mark.parametrize(("digits", "places"), FIELDS)
    @given(values=st.lists(numbers, min_size=1, max_size=4))
    @example(values=[-0.0, 0.0, 0, 5, -5, 0.1, 0.25, 123.45])
    @example(values=[999.99, 99999.99, 1e15, 1e16, 123456789012345.0, 1e-5, 1e-7, 0.0005])
    def test_their_texts_are_those_of_django(self, digits, places, values):
        field = models.DecimalField(max_digits=digits, decimal_places=places)
        convert = connection.ops.get_decimalfield_converter(Col("", field))
        texts = loaded(loaders.decimals_of_doubles(field), values)
        if texts is not None:
            assert texts == [format(convert(value, Col("", field), connection), "f") for value in values]

    @given(st.lists(st.integers(-(10**11), 10**11), min_size=1))
    def test_usual_ones_are_never_left_to_the_converters(self, cents):
        field = models.DecimalField(max_digits=14, decimal_places=2)
        stored = [cent // 100 if cent % 100 == 0 else cent / 100 for cent in cents]
        texts = [format(Decimal(cent).scaleb(-2), "f") for cent in cents]
        assert loaded(loaders.decimals_of_doubles(field), stored) == texts

    @pytest.mark.parametrize("odd", ["1.5", "", "x", b"1", float("nan"), float("inf"), 2**70, True, 1e300, 0.123])
    def test_others_are_left_to_the_converters(self, odd):
        field = models.DecimalField(max_digits=12, decimal_places=2)
        assert loaded(loaders.decimals_of_doubles(field), [1.5, odd]) is None


def test_django_refuses_what_has_too_many_digits_for_its_field():
    field = models.DecimalField(max_digits=5, decimal_places=2)
    if connection.vendor == "sqlite":
        with pytest.raises(InvalidOperation):
            connection.ops.get_decimalfield_converter(Col("", field))(99999.99, Col("", field), connection)
    assert loaded(loaders.decimals_of_doubles(field), [99999.99]) is None
