"""A column is a name or a function, a header, and what becomes of the value."""

from collections import UserDict
from functools import partial
from types import SimpleNamespace

import pytest
from django.utils.translation import gettext_lazy
from hypothesis import given
from hypothesis import strategies as st

from upstream.streaming import Column, ColumnError, JsonLines, stream
from upstream.streaming.columns import (
    TRANSPOSED_ROWS,
    OutputColumn,
    RowReader,
    as_columns,
    path_reader,
    transposed,
    unknown_column,
)


def days_open(record):
    return 3


class TestColumn:
    def test_the_header_is_the_name_unless_given(self):
        assert Column("customer__name").header == "customer__name"
        assert Column("customer__name", header="Customer").header == "Customer"

    def test_the_header_of_a_function_is_its_name_unless_given(self):
        assert Column(days_open).header == "days_open"
        assert Column(days_open, header="Days").header == "Days"
        assert Column(str.upper).header == "upper"

    @pytest.mark.parametrize("source", [lambda record: 1, partial(days_open)], ids=["lambda", "partial"])
    def test_a_function_without_a_name_needs_a_header(self, source):
        with pytest.raises(ColumnError, match=r"header='...'"):
            Column(source)
        assert Column(source, header="x").header == "x"

    def test_only_names_have_a_name(self):
        assert Column("a").name == "a"
        assert Column(days_open).name is None

    @pytest.mark.parametrize("source", ["", None, 5, b"a", ["a"], ()], ids=repr)
    def test_it_reads_a_name_or_a_callable(self, source):
        with pytest.raises(ColumnError, match="a name or a callable"):
            Column(source)

    @pytest.mark.parametrize("value", [5, "upper", ()], ids=repr)
    def test_its_value_is_a_callable(self, value):
        with pytest.raises(ColumnError, match="value must be a callable"):
            Column("a", value=value)

    def test_it_cannot_be_changed(self):
        with pytest.raises(AttributeError):
            Column("a").header = "b"

    def test_equal_ones_are_equal(self):
        assert Column("a") == Column("a", header="a")
        assert len({Column("a"), Column("a"), Column("a", value=str)}) == 2


class TestColumns:
    def test_names_functions_and_columns_may_be_mixed(self):
        column = Column("b", header="B")
        assert as_columns(["a", column, days_open]) == (Column("a"), column, Column(days_open))
        assert as_columns(name for name in "ab") == (Column("a"), Column("b"))

    def test_names_with_headers_are_pairs_or_a_mapping(self):
        pairs = [("a", "A"), "b", ("c__d", gettext_lazy("Name")), (days_open, "Days")]
        wanted = [("a", "A"), ("b", "b"), ("c__d", "Name"), (days_open, "Days")]
        assert [(column.source, column.header) for column in as_columns(pairs)] == wanted
        assert as_columns({"a": "A", "c__d": "C"}) == (Column("a", "A"), Column("c__d", "C"))
        assert as_columns(("a", "b")) == (Column("a"), Column("b"))

    @pytest.mark.parametrize(
        "pair", [("id", "Number", 3), ("id",), (), ("id", 3), ("id", None), ("id", Column("id"))], ids=repr
    )
    def test_a_pair_of_another_shape_is_refused(self, pair):
        with pytest.raises(ColumnError, match=r"a pair of texts such as \('id', 'Number'\), not \("):
            as_columns(["name", pair])

    @pytest.mark.parametrize("source", ["", 5, None, ("id", "Number")], ids=repr)
    def test_a_header_needs_a_name_or_a_callable(self, source):
        with pytest.raises(ColumnError, match="a name or a callable"):
            as_columns([(source, "Header")])
        with pytest.raises(ColumnError, match="a name or a callable"):
            as_columns({source: "Header"})

    @pytest.mark.parametrize(
        "columns", [{"a": "X", "b": "X"}, [("a", "X"), "b", ("b", "X")]], ids=["dict", "pairs"]
    )
    def test_headers_that_are_the_same_are_refused_where_they_are_keys(self, columns):
        rows = [{"a": 1, "b": 2}]
        with pytest.raises(ColumnError, match="two columns are called 'X'"):
            stream(rows, columns, JsonLines())
        assert b"".join(stream(rows, columns)).startswith(b"X,")

    def test_a_single_string_and_no_columns_are_refused(self):
        with pytest.raises(ColumnError, match=r"\['name'\]"):
            as_columns("name")
        for nothing in ([], {}):
            with pytest.raises(ColumnError, match="at least one"):
                as_columns(nothing)


class TestUnknownColumn:
    def test_close_names_are_proposed(self):
        error = unknown_column("nmae", ["name", "size", "names"], "Parent")
        assert str(error) == "unknown column 'nmae' on Parent: did you mean 'name' or 'names'?"

    def test_without_close_ones_all_are_named_but_no_more_than_forty(self):
        assert str(unknown_column("zzz", ["b", "a"], "it")) == "unknown column 'zzz' on it; choose from: a, b"
        assert str(unknown_column("zzz", [f"{n:03}" for n in range(99)], "it")).endswith("038, 039")


class Dangerous:
    def delete(self):
        raise AssertionError("called")

    delete.alters_data = True


class Silent:
    do_not_call_in_templates = True

    def __call__(self):
        raise AssertionError("called")


SILENT = Silent()


class TestPaths:
    @pytest.mark.parametrize(
        ("path", "value"),
        [
            ("a", {"b": [1, {"c": "deep"}]}),
            ("a__b__0", 1),
            ("a__b__1__c", "deep"),
            ("a__b__7", None),
            ("a__x__y", None),
            ("object__name", "n"),
            ("object__other__name", None),
            ("text__upper", "ABC"),
            ("kind", int),
            ("silent", SILENT),
            ("user__key", "value"),
        ],
    )
    def test_it_leads_through_keys_positions_attributes_and_methods(self, path, value):
        record = {
            "a": {"b": [1, {"c": "deep"}]},
            "object": SimpleNamespace(name="n", other=None),
            "text": "abc",
            "kind": int,
            "silent": SILENT,
            "user": UserDict(key="value"),
        }
        assert path_reader(path.split("__"))(record) == value

    def test_classes_and_what_says_so_are_not_called(self):
        assert path_reader(["kind"])(SimpleNamespace(kind=int)) is int
        assert path_reader(["silent"])(SimpleNamespace(silent=SILENT)) is SILENT

    def test_methods_that_alter_data_are_refused(self):
        with pytest.raises(ColumnError, match=r"Dangerous.delete\(\) alters data"):
            path_reader(["delete"])(Dangerous())

    def test_a_missing_attribute_is_an_error(self):
        with pytest.raises(AttributeError):
            path_reader(["name"])(SimpleNamespace())

    @given(st.lists(st.text(min_size=1), min_size=1, max_size=4), st.integers())
    def test_any_keys_lead_to_what_stands_there(self, keys, value):
        record = value
        for key in reversed(keys):
            record = {key: record}
        assert path_reader(keys)(record) == value
        assert path_reader([*keys[:-1], keys[-1] + "!"])(record) is None


class TestRowReader:
    def test_each_column_is_read_and_then_turned_into_its_value(self):
        columns = (Column("a", value=str), Column(len, header="size"))
        read = RowReader(columns, (lambda record: record["a"], len))
        assert read([{"a": 1}, {"a": 2, "b": 3}], 1) == [("1", 1), ("2", 2)]
        assert read([], 1) == []

    @pytest.mark.parametrize("first_row", [1, 100])
    def test_an_error_gets_its_row_and_column(self, first_row):
        for columns, readers in (
            ((Column("a"), Column("b", header="B")), (lambda r: r[0], lambda r: 1 / r[1])),
            ((Column("a"), Column("b", header="B", value=lambda v: 1 / v)), (lambda r: r[0], lambda r: r[1])),
        ):
            with pytest.raises(ZeroDivisionError) as caught:
                RowReader(columns, readers)([(1, 1), (2, 0), (3, 1)], first_row)
            assert caught.value.__notes__ == [f"while reading row {first_row + 1}, column 'B'"]


def test_an_output_column_is_no_json_unless_it_says_so():
    assert OutputColumn("a") == OutputColumn("a", json=False)


class TestTransposed:
    @pytest.mark.parametrize("rows", [1, 2, TRANSPOSED_ROWS - 1, TRANSPOSED_ROWS, TRANSPOSED_ROWS + 1, 2001])
    def test_it_gives_each_column_whole_and_in_order(self, rows):
        columns = transposed([(number, str(number), None) for number in range(rows)])
        assert list(map(list, columns)) == [list(range(rows)), list(map(str, range(rows))), [None] * rows]

    @pytest.mark.parametrize("at", [0, 1, TRANSPOSED_ROWS - 1, TRANSPOSED_ROWS, TRANSPOSED_ROWS + 1, -1])
    @pytest.mark.parametrize("odd", [(), (1,), (1, 2, 3)])
    def test_a_row_of_another_length_is_an_error(self, at, odd):
        rows = [(1, 2)] * (2 * TRANSPOSED_ROWS)
        rows[at] = odd
        with pytest.raises(ValueError, match="zip"):
            transposed(rows)
