"""Any iterable of rows is a source: dicts, sequences, named tuples, dataclasses, instances, other objects."""

import csv
import io
import json
import sqlite3
from collections import OrderedDict, UserDict, defaultdict, deque, namedtuple
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from django.db import connections
from django.db.models import Count
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from tests.fieldtypes.models import Parent, Secretive, Ticket
from tests.oracle import named
from upstream.streaming import Column, ColumnError, Csv, ExportError, Json, JsonLines, SourceError, plan, stream
from upstream.streaming.columns import KeyReader
from upstream.streaming.sources import plain_records, records


def written(source, columns=None, encoder=Csv(), **options):  # noqa: B008 (frozen)
    return b"".join(stream(source, columns, encoder, **options)).decode()


def table(source, columns=None, **options):
    return list(csv.reader(io.StringIO(written(source, columns, **options), newline="")))


class TestDicts:
    def test_the_keys_of_the_first_row_are_the_columns(self):
        assert table([{"b": 1, "a": 2}, {"a": 4, "b": 3}]) == [["b", "a"], ["1", "2"], ["3", "4"]]

    def test_a_missing_key_is_an_empty_cell(self):
        assert table([{"a": 1, "b": 2}, {"a": 3}, {}]) == [["a", "b"], ["1", "2"], ["3", ""], ["", ""]]
        assert json.loads(written([{"a": 1, "b": 2}, {"a": 3}], ["b"], Json())) == [{"b": 2}, {"b": None}]

    @pytest.mark.parametrize("chunk_size", [1, 2, 2000])
    def test_a_new_key_in_a_later_row_is_an_error_that_names_both(self, chunk_size):
        rows = [{"a": 1}, {"a": 2}, {"a": 3, "late": 4}]
        with pytest.raises(ColumnError, match="row 3 has keys that row 1 lacks: 'late'"):
            written(rows, chunk_size=chunk_size)

    def test_named_columns_leave_other_keys_out(self):
        assert table([{"a": 1, "b": 2}, {"a": 3, "late": 4}], ["a"]) == [["a"], ["1"], ["3"]]

    def test_names_lead_through_keys_positions_and_attributes(self):
        rows = [
            {"a": {"b": [10, {"c": "deep"}]}, "when": date(2026, 1, 31)},
            {"a": {"b": []}, "when": None},
            {"a": None, "when": date(2027, 1, 1)},
            {},
        ]
        assert table(rows, ["a__b__0", "a__b__1__c", "when__year", "when__isoformat"])[1:] == [
            ["10", "deep", "2026", "2026-01-31"],
            ["", "", "", ""],
            ["", "", "2027", "2027-01-01"],
            ["", "", "", ""],
        ]

    def test_a_key_with_underscores_is_itself_before_it_is_a_path(self):
        assert table([{"a__b": 1, "a": {"b": 2}}], ["a__b"]) == [["a__b"], ["1"]]

    def test_keys_that_are_no_strings_are_columns_too(self):
        assert table([{1: "a", None: "b", date(2026, 1, 31): "c"}]) == [
            ["1", "None", "2026-01-31"],
            ["a", "b", "c"],
        ]

    def test_two_keys_of_one_text_do_not_take_each_others_place(self):
        try:
            rows = table([{1: "a", "1": "b"}])
        except ExportError:
            return
        assert rows == [["1", "1"], ["a", "b"]]

    @pytest.mark.parametrize("kind", [OrderedDict, UserDict])
    def test_other_mappings_are_rows_too(self, kind):
        rows = [kind(a=1, b="x"), kind(a=2)]
        assert table(rows) == [["a", "b"], ["1", "x"], ["2", ""]]
        assert json.loads(written(rows, ["a"], Json())) == [{"a": 1}, {"a": 2}]
        assert json.loads(written(rows, None, Json())) == [{"a": 1, "b": "x"}, {"a": 2}]

    def test_an_unknown_name_is_refused_with_close_ones_when_called(self):
        with pytest.raises(ColumnError, match="unknown column 'nmae' on the first row: did you mean 'name'"):
            stream([{"name": 1}], ["nmae"])
        with pytest.raises(ColumnError, match="choose from: name"):
            stream([{"name": 1}], ["zzz"])


class Listed(list):
    def __iter__(self):
        return iter(["made", "up"])


class TestSequences:
    @pytest.mark.parametrize("kind", [list, tuple])
    def test_columns_name_the_positions(self, kind):
        assert table([kind([1, "a"]), kind([2, "b"])], ["n", "t"]) == [["n", "t"], ["1", "a"], ["2", "b"]]

    def test_a_callable_column_is_given_the_row_and_takes_no_position(self):
        columns = ["n", Column(lambda row: row[0] * row[1], header="product"), "m"]
        assert table([(2, 3)], columns) == [["n", "product", "m"], ["2", "6", "3"]]

    @pytest.mark.parametrize("rows", [[(1, 2)], [(1, 2), Listed([3, 4])]], ids=["plain", "mixed"])
    def test_a_column_named_twice_stands_for_two_positions(self, rows):
        column = Column("n", header="N")
        assert table(rows, [column, column])[:2] == [["N", "N"], ["1", "2"]]

    @pytest.mark.parametrize("row", [(), (1,), (1, 2, 3)])
    @pytest.mark.parametrize("chunk_size", [1, 2000])
    def test_another_length_is_an_error_that_names_the_row(self, row, chunk_size):
        with pytest.raises(SourceError, match=f"row 3 has {len(row)} values for 2 columns"):
            written([(1, 2), (3, 4), row], ["a", "b"], chunk_size=chunk_size)

    def test_without_names_a_header_cannot_be_written(self):
        with pytest.raises(ColumnError, match=r"columns=\[...\] \(or Csv\(header=False\)\)"):
            stream([(1, 2)])
        with pytest.raises(ColumnError, match=r"columns=\[...\]"):
            written(iter([(1, 2)]))

    def test_strings_are_no_rows(self):
        for source in (["abc"], [b"abc"], [1], [None]):
            with pytest.raises(SourceError, match="a row must be a dict, sequence or object"):
                stream(source)


class Pair(NamedTuple):
    first: int
    second: str

    @property
    def both(self):
        return f"{self.first}{self.second}"


@dataclass
class Product:
    name: str
    price: float
    tags: list = field(default_factory=list)

    def label(self):
        return f"{self.name} for {self.price}"

    @cached_property
    def loud(self):
        return self.name.upper()


@dataclass(slots=True, frozen=True)
class Slotted:
    name: str
    price: float


class Handmade:
    __slots__ = ("name", "price")

    def __init__(self, name, price):
        self.name, self.price = name, price


class TestAttributes:
    def test_the_fields_of_a_named_tuple_are_its_columns(self):
        rows = [Pair(1, "a"), Pair(2, "b")]
        assert table(rows) == [["first", "second"], ["1", "a"], ["2", "b"]]
        assert table(rows, ["both", "first"]) == [["both", "first"], ["1a", "1"], ["2b", "2"]]
        assert json.loads(written(rows, None, Json())) == [row._asdict() for row in rows]

    def test_a_field_with_underscores_is_itself_before_it_is_a_path(self):
        rows = [namedtuple("Row", ["parent__name"])("x")]  # noqa: PYI024 (as values_list(named=True) makes them)
        assert table(rows) == table(rows, ["parent__name"]) == [["parent__name"], ["x"]]

    @pytest.mark.parametrize("kind", [Slotted, Handmade, SimpleNamespace])
    def test_the_attributes_of_an_object_are_its_columns(self, kind):
        rows = [kind(name="a", price=1.5), kind(name="b", price=2.0)]
        assert table(rows) == [["name", "price"], ["a", "1.5"], ["b", "2.0"]]
        assert json.loads(written(rows, None, JsonLines()).splitlines()[1]) == {"name": "b", "price": 2.0}

    def test_the_fields_of_a_dataclass_are_its_columns_and_the_rest_can_be_named(self):
        rows = [Product("a", 1.5, ["x", "y"])]
        assert table(rows) == [["name", "price", "tags"], ["a", "1.5", '["x","y"]']]
        assert table(rows, ["label", "loud", "tags__1"])[1] == ["a for 1.5", "A", "y"]

    def test_a_private_attribute_is_no_column(self):
        assert table([SimpleNamespace(a=1, _b=2)]) == [["a"], ["1"]]

    def test_an_unknown_name_is_refused_with_close_ones_when_called(self):
        with pytest.raises(ColumnError, match="unknown column 'pirce' on Product: did you mean 'price'"):
            stream([Product("a", 1.5)], ["pirce"])

    def test_an_attribute_that_a_later_row_lacks_is_an_error_that_names_the_row(self):
        rows = [SimpleNamespace(a=1), SimpleNamespace(b=1)]
        with pytest.raises(AttributeError) as caught:
            written(rows)
        assert caught.value.__notes__ == ["while reading row 2, column 'a'"]


class Failing(dict):
    def __missing__(self, key):
        raise AssertionError(f"{key} was made up")


class Answering:
    def __init__(self, a):
        self.a = a

    def __getattr__(self, name):
        if name != "b":
            raise AttributeError(name)
        return "answered"


class Name(str):
    __slots__ = ()


DICTS = [
    {"a": 1, "b": "x"}, {"b": "other order", "a": 2}, {"a": None, "b": [1.5, {"c": None}]},
    {"a": 3}, {"b": "a is missing"}, {}, {"a": 1, "b": 2, "late": 3}, {"late": 1, "b": 2},
    {"a": {"x": 5}, "b": ()}, {1: "no name", "a": 2, "b": 3}, {"a": 2, 1: "no name, but last", "b": 3},
    {None: 1}, {Name("a"): 1, "b": 2},
    OrderedDict(b=1, a=2), UserDict(a=1, b=2), defaultdict(list, a=1), Failing(b=1), Failing(a=1, b=2),
]  # fmt: skip
SEQUENCES = [
    (1, "x"), [2, "y"], (3, None), ["\ud800", 1], (1,), [], (1, 2, 3), [1, 2, 3],
    Listed([1, 2]), Pair(1, "b"), deque([1, 2]),
]  # fmt: skip
OBJECTS = [
    SimpleNamespace(a=1, b="x"), SimpleNamespace(b=2, a=None), SimpleNamespace(a=1),
    SimpleNamespace(a=1, b=2, c=3), SimpleNamespace(a=len, b=dict),
    namedtuple("Row", "a b")(1, "x"), namedtuple("Row", "b a")(1, 2), namedtuple("Row", "a b c")(1, 2, 3),  # noqa: PYI024
    Answering(5), Slotted("a", 1.5), Handmade("a", 2), Product("a", 2.5),
]  # fmt: skip
OTHERS = [None, 5, "ab", {"a": 1, "b": 2}, (1, 2), SimpleNamespace(a=1, b=2)]
COLUMNS = [
    None, ["a", "b"], ["b", "a"], ["a"], ["b", "b"], ["a", "late"], ["a__x", "b"], ["name", "price"], ["a.b"],
    [Column("a", value=repr), "b"], ["a", Column(repr, header="all")],
    [Column(KeyReader("b"), header="B"), Column(KeyReader("a__x"), header="A")],
    [Column(KeyReader(1), header="1"), "a"],
]  # fmt: skip


class TestPlainRecords:
    """Records of one plain type are read by loops in C; what these cannot prove is read cell by cell."""

    FAMILIES = st.sampled_from([DICTS, SEQUENCES, OBJECTS])
    ODD = FAMILIES.flatmap(lambda family: st.lists(st.sampled_from(family * 4 + OTHERS), min_size=1, max_size=6))
    ENCODERS = st.sampled_from([Csv(), Csv(header=False), JsonLines(), Json(), Json(indent=1)])

    @given(
        ODD, st.integers(0, 80), st.sampled_from(COLUMNS), ENCODERS, st.sampled_from([1, 50, 2000]), st.booleans()
    )
    def test_they_give_the_rows_and_errors_that_reading_cell_by_cell_gives(
        self, odd, plain, columns, encoder, chunk_size, fails
    ):
        def source():
            yield from [odd[0]] * plain
            yield from odd
            if fails:
                raise KeyError("gone")

        def outcome():
            chunks = []
            try:
                chunks.extend(stream(source(), columns, encoder, chunk_size=chunk_size))
            except Exception as error:  # noqa: BLE001 (compared)
                return chunks, type(error), str(error), getattr(error, "__notes__", [])
            return chunks

        quick = outcome()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(records, "_trying", lambda _, read: read)
            assert quick == outcome()

    @pytest.mark.parametrize(
        ("read", "rows"),
        [
            (plain_records.dict_reader(["a", "b"], others=False), [{"a": 1, "b": 2}, {"b": 4, "a": 3}]),
            (plain_records.dict_reader(["a", "b"], others=True), [{"a": 1, "b": 2}, {"c": 5, "b": 4, "a": 3}]),
            (plain_records.sequence_reader(2), [(1, 2), (3, 4)]),
            (plain_records.sequence_reader(2), [[1, 2], (3, 4)]),
            (plain_records.object_reader(Pair(1, 2), ["first", "second"]), [Pair(1, 2), Pair(3, 4)]),
            (plain_records.object_reader(Slotted(1, 2), ["name", "price"]), [Slotted(1, 2), Slotted(3, 4)]),
            (plain_records.object_reader(Product(1, 2), ["name", "price"]), [Product(1, 2), Product(3, 4)]),
        ],
    )
    def test_the_plain_ones_are_read_so(self, read, rows):
        assert read(rows) == [(1, 2), (3, 4)]

    def test_a_missing_key_leaves_dicts_plain(self):
        read = plain_records.dict_reader(["a", "b"], others=False)
        assert read([{"a": 1}, {}, {"b": 2, "a": 3}]) == [(1, None), (None, None), (3, 2)]

    @pytest.mark.parametrize("name", ["both", "index"])
    def test_what_the_class_of_an_object_computes_is_not_read_twice(self, name):
        assert plain_records.object_reader(Pair(1, "a"), ["first", name]) is None

    def test_a_source_that_fails_gives_the_batches_before(self):
        def source():
            yield from ({"a": number} for number in range(150))
            raise KeyError("gone")

        chunks = []
        with pytest.raises(KeyError, match="gone") as caught:
            chunks.extend(stream(source(), chunk_size=10))
        assert caught.value.__notes__ == ["the source failed after row 150"]
        assert b"".join(chunks).split() == [b"a", *(b"%d" % number for number in range(150))]


class TestDatabaseRows:
    @pytest.fixture
    def rows(self):
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.row_factory = sqlite3.Row
            yield connection.execute("SELECT 1 AS a, 'x' AS b UNION ALL SELECT 2, 'y'")

    def test_columns_name_the_positions_of_rows_of_sqlite(self, rows):
        assert table(rows, ["first", "second"]) == [["first", "second"], ["1", "x"], ["2", "y"]]

    def test_rows_of_sqlite_are_not_written_as_the_text_of_objects(self, rows):
        try:
            records = json.loads(written(rows, None, Json()))
        except ExportError:
            return
        assert records in ([[1, "x"], [2, "y"]], [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}])


class TestGenerators:
    def test_every_record_comes_once_and_in_order(self):
        rows = ({"n": number} for number in range(10_000))
        assert table(rows) == [["n"], *([str(number)] for number in range(10_000))]

    def test_a_single_string_is_no_list_of_columns(self):
        with pytest.raises(ColumnError, match=r"\['name'\]"):
            stream([{"name": 1}], "name")

    @pytest.mark.parametrize("columns", [[], ()])
    def test_no_columns_at_all_are_refused(self, columns):
        with pytest.raises(ColumnError, match="at least one column"):
            stream([{"name": 1}], columns)

    def test_the_plan_of_named_columns_tells_their_headers(self):
        assert plan(iter([]), ["a", Column("b", header="B")]).headers == ("a", "B")
        assert plan(iter([])).headers is None

    def test_views_and_other_iterables_are_sources(self):
        rows = {1: {"a": 1}, 2: {"a": 2}}
        assert table(rows.values()) == [["a"], ["1"], ["2"]]
        assert table(map(dict, [[("a", 1)], [("a", 2)]])) == [["a"], ["1"], ["2"]]


class TestInstances:
    """Model instances in a list, as a paginator or a page of search results gives them."""

    @pytest.fixture
    def parents(self, database):
        parents = [Parent(name=f"p{number}", details={"n": [number]}) for number in range(4)]
        Parent.objects.using(database).bulk_create(parents)
        return Parent.objects.using(database).order_by("pk")

    def test_they_are_written_as_their_queryset_is(self, parents):
        columns = ["name", "label", "letters", "details__n__0"]
        for encoder in (Csv(), Json(), JsonLines()):
            assert written(list(parents), columns, encoder) == written(parents, columns, encoder)
        assert json.loads(written(list(parents), None, Json())) == json.loads(written(parents, None, Json()))

    def test_annotations_are_columns(self, parents):
        counted = parents.defer("details").annotate(size=Count("children"))
        assert table(list(counted)) == table(counted)
        assert table(list(counted), ["size", "name"])[1] == ["0", "p0"]

    def test_fields_that_were_not_loaded_are_left_out(self, parents, database):
        with CaptureQueriesContext(connections[database]) as queries:
            assert table(list(parents.only("name")))[0] == ["id", "name"]
        assert len(queries) == 1

    @pytest.mark.parametrize(("rows", "batches"), [(1, 1), (100, 1), (250, 3)])
    def test_their_relations_take_one_query_a_batch(self, database, rows, batches):
        tickets = [Ticket(code=f"t{number:03}") for number in range(rows)]
        Ticket.objects.using(database).bulk_create(tickets)
        loaded = list(Ticket.objects.using(database).order_by("code"))
        with CaptureQueriesContext(connections[database]) as queries:
            got = table(loaded, ["code", "everything__char"], chunk_size=100)
        assert got[1:] == [[ticket.code, ""] for ticket in tickets]
        assert len(queries) == batches

    def test_fields_that_hold_secrets_are_left_out_unless_named(self):
        rows = [Secretive(id=1, name="a", password="hash", api_token="t")]
        assert table(rows) == [["id", "name"], ["1", "a"]]
        assert table(rows, ["name", "password"]) == [["name", "password"], ["a", "hash"]]

    def test_an_unknown_name_is_refused_with_close_ones_when_called(self):
        with pytest.raises(ColumnError, match="unknown column 'nme' on Parent: did you mean 'name'"):
            stream([Parent(name="a")], ["nme"])


class TestOtherSources:
    @pytest.mark.parametrize("source", ["abc", b"abc", bytearray(b"abc"), 5, None, Parent, object()], ids=named)
    def test_what_holds_no_rows_is_refused_when_called(self, source):
        with pytest.raises(SourceError):
            stream(source)

    def test_an_asynchronous_iterable_is_refused_when_called(self):
        async def rows():
            yield {"a": 1}

        with pytest.raises(SourceError, match="asynchronous"):
            stream(rows())

    def test_a_mapping_is_no_iterable_of_rows(self):
        with pytest.raises(SourceError, match="encoder=Json"):
            stream({"a": 1})
