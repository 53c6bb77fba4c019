"""Batches are bounded by rows, bytes and time, and read no further ahead than that takes."""

import json
import tracemalloc
from decimal import Decimal
from itertools import islice
from time import monotonic, sleep

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import texts
from upstream.streaming import Column, Csv, DeadlineError, JsonLines, stream
from upstream.streaming.batches import (
    CELL_BYTES,
    CHUNK_SIZE,
    SHORT_ROW_BYTES,
    BatchLimits,
    Fetched,
    Taker,
    batched,
    weigh,
)

WEIGHTS = st.lists(st.integers(0, 200), max_size=60)
LIMITS = st.builds(BatchLimits, rows=st.integers(1, 20), bytes=st.integers(1, 400), seconds=st.just(60.0))


class Source:
    """Rows that are their own weights; `asked` and `given` tell of each fetch."""

    def __init__(self, weights):
        self.rows = iter(weights)
        self.asked = []
        self.given = []

    def __call__(self, rows):
        self.asked.append(rows)
        self.given.append(list(islice(self.rows, rows)))
        return Fetched(self.given[-1], sum(self.given[-1]), 0.0)


class TestLimits:
    @given(WEIGHTS, LIMITS, st.integers(1, 64))
    def test_every_row_comes_once_and_in_order_in_batches_that_hold_something(self, weights, limits, largest):
        batches = list(batched(Source(weights), limits, largest))
        assert [row for batch in batches for row in batch] == weights
        assert all(batches)

    @given(WEIGHTS, LIMITS, st.integers(1, 64))
    def test_no_batch_has_more_rows_than_allowed(self, weights, limits, largest):
        assert all(len(batch) <= limits.rows for batch in batched(Source(weights), limits, largest))

    @given(WEIGHTS, LIMITS, st.integers(1, 64))
    def test_a_batch_that_is_full_of_bytes_is_given_before_another_fetch(self, weights, limits, largest):
        source, told = Source(weights), 0
        for batch in batched(source, limits, largest):
            before_last = sum(map(sum, source.given[:-1])) - told
            assert before_last < limits.bytes
            told += sum(batch)

    def test_a_fetch_of_wide_rows_where_narrow_ones_were_expected_is_given_in_parts(self):
        source = Source([1] * 1000 + [500] * 200)
        batches = list(batched(source, BatchLimits(bytes=4000, seconds=60), 100))
        assert [500] * 100 in source.given
        assert [len(batch) for batch in batches] == [100, 900, *[8] * 12, 4, *[8] * 12, 4]

    def test_a_batch_is_given_when_its_time_is_over(self):
        fetches = []

        def slow(rows):
            fetches.append(rows)
            return Fetched([0] * rows, 0, seconds=0.02)

        for number, batch in enumerate(islice(batched(slow, BatchLimits(rows=1000, seconds=0.01), 1000), 3), 1):
            assert len(fetches) == number
            assert len(batch) == fetches[-1]


class TestFetches:
    def test_fetches_grow_eightfold_at_most_from_one_row_to_the_largest_allowed(self):
        source = Source([1] * 1000)
        list(batched(source, BatchLimits(rows=1000), 100))
        assert source.asked[:3] == [1, 8, 64]
        assert max(source.asked) == 100

    def test_the_first_batch_is_small_for_whoever_waits_for_the_first_byte(self):
        sizes = [len(batch) for batch in batched(Source([1] * 5000), BatchLimits(seconds=60), 2000)]
        assert sizes[0] <= 100
        assert sizes[1:-1] == [2000, 2000]

    def test_rows_as_wide_as_a_quarter_of_a_batch_are_fetched_one_by_one(self):
        source = Source([100] * 12)
        batches = list(batched(source, BatchLimits(bytes=400, seconds=60), 64))
        assert set(source.asked) == {1}
        assert {len(batch) for batch in batches} == {4}

    @given(st.integers(1, 300), st.integers(1, 2000), st.integers(1, 64))
    def test_a_fetch_of_equal_rows_is_one_row_or_a_quarter_of_the_bytes(self, weight, size, largest):
        source = Source([weight] * 100)
        list(batched(source, BatchLimits(bytes=size, seconds=60), largest))
        assert all(len(rows) <= 1 or sum(rows) <= size // 4 for rows in source.given)

    def test_wide_rows_after_narrow_ones_come_in_one_fetch_at_most(self):
        source = Source([1] * 1000 + [500] * 200)
        list(batched(source, BatchLimits(bytes=4000, seconds=60), 64))
        wide = [len(rows) for rows in source.given if 500 in rows]
        assert max(wide[1:]) <= 2
        assert wide[0] <= 64

    def test_the_time_for_an_export_may_be_over_before_another_part_of_a_fetch(self):
        limits = BatchLimits(bytes=4000, seconds=60, deadline=monotonic() + 0.5)
        batches = batched(Source([1] * 100 + [500] * 64), limits, 64)
        assert [len(next(batches)), len(next(batches))] == [100, 8]
        sleep(0.6)
        with pytest.raises(DeadlineError):
            next(batches)

    @pytest.mark.parametrize("kind", [dict, tuple, list])
    @pytest.mark.parametrize("encoder", [Csv(), JsonLines()], ids=repr)
    def test_wide_records_after_narrow_ones_are_taken_one_by_one_after_one_fetch(self, kind, encoder):
        taken = 0

        def records():
            nonlocal taken
            for number in range(400):
                taken += 1
                record = {"n": number, "text": "x" * (50_000 if number >= 200 else 5), "none": None}
                yield record if kind is dict else kind(record.values())

        columns = None if kind is dict else ["n", "text", "none"]
        chunks = stream(records(), columns, encoder, batch_bytes=40_000)
        ahead = [taken - chunks.rows for _ in chunks]
        sizes = [len(chunk) for chunk in stream(records(), columns, encoder, batch_bytes=40_000)]
        assert max(ahead) <= 64
        assert max(ahead[-100:]) <= 1
        assert sum(size > 100_000 for size in sizes) <= 1
        assert max(sizes) < 10 * 50_000

    def test_few_cells_of_a_list_are_computed_ahead_of_the_batch_that_they_are_in(self):
        made = 0

        def text(record):
            nonlocal made
            made += 1
            return "x" * (50_000 if record["n"] >= 1000 else 5)

        records = [{"n": number} for number in range(1200)]
        chunks = stream(records, ["n", Column(text, header="text")], batch_bytes=40_000)
        assert max(made - chunks.rows for _ in chunks) <= 64

    def test_nothing_is_fetched_beyond_the_batch_that_was_asked_for(self):
        source = Source([1] * 100)
        batches = batched(source, BatchLimits(rows=10), 64)
        assert source.asked == []
        next(batches)
        assert sum(map(len, source.given)) == 10


class TestTaker:
    def test_it_takes_so_many_and_counts_them(self):
        take = Taker(iter("abcde"))
        assert [take(2), take(2), take(2), take(2)] == [["a", "b"], ["c", "d"], ["e"], []]
        assert take.taken == 5

    @pytest.mark.parametrize("rows", [1, 2, 10])
    def test_an_error_of_the_source_gets_the_number_of_the_last_row_before_it(self, rows):
        def failing():
            yield from "abc"
            raise KeyError("gone")

        take = Taker(failing())
        with pytest.raises(KeyError, match="gone") as caught:
            while take(rows):
                pass
        assert caught.value.__notes__ == ["the source failed after row 3"]


def naive_weight(value, pointer=8):
    if isinstance(value, str | bytes | memoryview):
        return len(value)
    if isinstance(value, dict):
        return sum(naive_weight(item, pointer) for item in value.values())
    if isinstance(value, list | tuple):
        return sum(naive_weight(item, pointer) + pointer for item in value)
    return 0


class Text(str):
    __slots__ = ()


def widened(value, times):
    """Return a text, bytes or a container with its only text so many times as long."""
    if isinstance(value, str | bytes):
        return type(value)(value * times)
    if isinstance(value, dict):
        return {key: widened(item, times) for key, item in value.items()}
    return type(value)(widened(item, times) for item in value)


class Truthless:
    """Has no truth value, as NumPy's arrays and pandas' NA have none."""

    def __bool__(self):
        raise TypeError("neither true nor false")


class TestWeight:
    SCALARS = st.none() | st.integers() | st.floats() | st.dates() | texts() | st.binary(max_size=9)
    VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=3), SCALARS, max_size=3)

    ROWS = st.lists(st.tuples(VALUES, VALUES), max_size=5)
    COLUMNS = st.sampled_from([st.none() | texts(), st.none() | st.binary(), st.none() | st.integers()])

    @given(ROWS | COLUMNS.flatmap(lambda values: st.lists(st.tuples(values, values), max_size=5)))
    def test_rows_weigh_as_much_as_their_texts_and_bytes_and_at_most_their_json_more(self, rows):
        exact = sum(CELL_BYTES + naive_weight(value) for row in rows for value in row)
        least = sum(CELL_BYTES + naive_weight(value, pointer=0) for row in rows for value in row)
        text = json.dumps(rows, default=str) if rows else ""
        assert least <= weigh(rows) <= exact + len(text) + 8 * text.count(",")

    def test_a_long_list_of_short_items_weighs_as_much_as_its_pointers(self):
        assert weigh([(1,), ([0] * 1_000_000,)]) >= 8_000_000

    @given(ROWS)
    def test_rows_after_a_long_one_weigh_exactly_as_much_as_their_texts_and_bytes(self, rows):
        rows = [("x" * SHORT_ROW_BYTES, None), *rows]
        assert weigh(rows) == sum(CELL_BYTES + naive_weight(value) for row in rows for value in row)

    @pytest.mark.parametrize("wide", ["x", "\ud800", Text("x"), b"x", {"a": ["x"]}, {1: "x"}, (b"x",)], ids=repr)
    @pytest.mark.parametrize("place", [0, 5, 63])
    def test_one_wide_cell_among_short_rows_is_noticed_in_its_fetch(self, wide, place):
        rows = [(number, "short", Decimal(number)) for number in range(64)]
        rows[place] = (0, widened(wide, 5_000_000), Decimal(0))
        assert 5_000_000 <= weigh(rows) <= 6_000_000

    def test_long_rows_after_a_short_one_are_weighed_without_a_copy_of_them_all(self):
        rows = [("short",), *[("x" * 1_000_000,)] * 63]
        tracemalloc.start()
        try:
            weigh(rows)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 20_000_000

    def test_values_without_a_truth_value_weigh_no_more_than_a_cell(self):
        assert weigh([(Truthless(), "four")]) == 2 * CELL_BYTES + 4

    def test_many_columns_make_batches_of_fewer_rows(self):
        def sizes(columns):
            return [len(batch.splitlines()) for batch in stream([(0,) * columns] * 6000, map(str, range(columns)))]

        assert max(sizes(12)) == CHUNK_SIZE
        assert max(sizes(200)) < 500
