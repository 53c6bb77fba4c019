"""JSON is laid out as json.dumps lays it out, and every strict reader takes it."""

import json
import shutil
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, IntEnum
from functools import partial
from itertools import combinations_with_replacement
from types import MappingProxyType
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from django.utils.translation import gettext_lazy
from hypothesis import given
from hypothesis import strategies as st

from tests import foreign, oracle, ways
from tests.fieldtypes.models import Parent
from tests.strategies import PYTHON_VALUES, Plain, floats, json_values, texts
from upstream.streaming import Column, ColumnError, ExportError, Json, JsonLines, SourceError, stream, values
from upstream.streaming.columns import OutputColumn
from upstream.streaming.encoders.json.whole import WholeRecords

dumps = partial(json.dumps, ensure_ascii=False)
FINITE = floats("sqlite").filter(lambda value: abs(value) != float("inf"))
KEYS = texts() | st.integers() | st.booleans() | st.none() | FINITE
# What json.dumps takes: keys that are no strings, tuples, exponents, integers over 64 bits, control characters.
VALUES = st.recursive(
    json_values(),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=5,
)
RECORDS = st.lists(st.dictionaries(KEYS, VALUES, max_size=4) | VALUES, max_size=4)
LAYOUTS = [
    {"indent": 2},
    {"indent": 0},
    {"indent": "\t"},
    {"indent": 1, "separators": (",", ":")},
    {"separators": (", ", ": ")},
    {"separators": (" , ", " : ")},
]


def written(source, columns=None, encoder=Json(), **options):  # noqa: B008 (frozen)
    return b"".join(stream(source, columns, encoder, **options)).decode()


class TestLayout:
    @given(RECORDS)
    def test_records_are_laid_out_as_json_dumps_does(self, records):
        for layout in LAYOUTS:
            assert written(records, None, Json(**layout)) == dumps(records, **layout)

    @given(st.lists(st.tuples(VALUES, VALUES), max_size=3))
    def test_columns_are_laid_out_as_json_dumps_does(self, pairs):
        rows = [{"a": first, 'b"é': second} for first, second in pairs]
        for layout in LAYOUTS:
            assert written(rows, ["a", 'b"é'], Json(**layout)) == dumps(rows, **layout)

    @given(RECORDS)
    def test_compact_records_are_those_of_json_dumps(self, records):
        assert written(records) == dumps(records, separators=(",", ":"))

    @given(RECORDS)
    def test_lines_are_those_of_json_dumps(self, records):
        lines = [dumps(record, separators=(",", ":")) + "\n" for record in records]
        assert written(records, None, JsonLines()) == "".join(lines)

    @pytest.mark.parametrize(
        "number", [1e16, 1e-4, 1e-5, 1.5e-6, 1e-6, -1e-7, 1e-8, 9e-9, 1e-10, 1.5e300, 5e-324, 1e22, -0.0]
    )
    def test_a_number_is_spelled_alike_at_any_depth(self, number):
        for record in ({"a": number}, {"a": [number]}, {"a": {"b": number}}):
            expected = dumps(record, separators=(",", ":"))
            for columns in (["a"], None):
                assert written([record], columns) == f"[{expected}]"
                assert written([record], columns, JsonLines()) == expected + "\n"

    @given(RECORDS, st.integers(1, 3))
    def test_the_size_of_chunks_does_not_show(self, records, rows):
        for encoder in (Json(), Json(indent=2), JsonLines()):
            assert written(records, None, encoder) == written(records, None, encoder, chunk_size=rows)

    @given(RECORDS, st.sampled_from([{}, {"indent": 2}]))
    def test_a_document_is_laid_out_as_json_dumps_does(self, records, layout):
        document = {"meta": {"empty": {}, "n": 1, 'é"': None}, "rows": records, "none": [], "last": "x"}
        source = {**document, "rows": (record for record in records)}
        expected = dumps(document, **(layout or {"separators": (",", ":")}))
        assert written(source, None, Json(**layout)) == expected


class TestReaders:
    @given(st.lists(st.dictionaries(texts(), st.one_of(*PYTHON_VALUES.values()), max_size=3), max_size=3))
    def test_every_strict_reader_takes_values_of_every_type(self, records):
        expected = oracle.node(records)
        for encoder in (Json(), Json(indent=2)):
            data = written(records, None, encoder).encode()
            for name, read in foreign.JSON_READERS.items():
                assert oracle.same_json(expected, read(data)), name
        lines = written(records, None, JsonLines()).split("\n")[:-1]
        for line, record in zip(lines, expected, strict=True):
            assert oracle.same_json(record, oracle.strict_json(line))


class TestNumbers:
    @pytest.mark.parametrize("encoder", [Json(), Json(indent=2), JsonLines()], ids=repr)
    def test_numbers_that_json_has_not_are_strings_at_any_depth(self, encoder):
        numbers = [float("nan"), float("inf"), float("-inf")]
        for columns in (["a", "b"], None):
            text = written([{"a": numbers[0], "b": {"deep": [numbers, None]}}], columns, encoder)
            [row] = [oracle.strict_json(text)] if isinstance(encoder, JsonLines) else oracle.strict_json(text)
            assert row == {"a": "NaN", "b": {"deep": [["NaN", "Infinity", "-Infinity"], None]}}

    def test_decimals_are_strings_or_numbers_of_the_same_digits(self):
        rows = [{"a": Decimal("1.10"), "b": [Decimal("1E+3")]}, {"a": Decimal("-0.0"), "b": [Decimal("NaN")]}]
        assert written(rows) == '[{"a":"1.10","b":["1000"]},{"a":"-0.0","b":["NaN"]}]'
        for columns in (["a", "b"], None):
            assert (
                written(rows, columns, Json(decimals="number")) == '[{"a":1.10,"b":[1000]},{"a":-0.0,"b":["NaN"]}]'
            )
            assert (
                written(rows, columns, JsonLines(decimals="number"))
                == '{"a":1.10,"b":[1000]}\n{"a":-0.0,"b":["NaN"]}\n'
            )

    @pytest.mark.parametrize("digits", [19, 20, 4300, 4301])
    def test_integers_keep_all_digits(self, digits):
        text = "9" * digits
        limit = sys.get_int_max_str_digits()
        sys.set_int_max_str_digits(0)
        try:
            value = int(text)
        finally:
            sys.set_int_max_str_digits(limit)
        assert written([{"a": value, "b": [-value]}]) == f'[{{"a":{text},"b":[-{text}]}}]'


class TestKeys:
    def test_two_columns_of_one_header_are_refused_when_called(self):
        for encoder in (Json(), JsonLines()):
            with pytest.raises(ColumnError, match="two columns are called 'a'"):
                stream([{"a": 1, "b": 2}], ["a", Column("b", header="a")], encoder)

    def test_two_columns_of_one_header_are_refused_for_an_iterator_too(self):
        for encoder in (Json(), JsonLines()):
            with pytest.raises(ColumnError, match="two columns are called 'a'"):
                written(iter([{"a": 1, "b": 2}]), ["a", Column("b", header="a")], encoder)

    def test_a_header_may_be_translated_late(self):
        columns = [Column("a", header=gettext_lazy("Name"))]
        assert written([{"a": 1}], columns) == '[{"Name":1}]'
        assert written([{"a": 1}], columns, JsonLines()) == '{"Name":1}\n'

    @pytest.mark.parametrize("encoder", [Json(), Json(indent=2), JsonLines()], ids=repr)
    def test_keys_that_are_no_strings_are_written_as_json_dumps_does(self, encoder):
        record = {1: "a", 1.5: "b", None: "c", True + 1: "d", 2**70: "e", -0.0: "f"}
        assert f'"{2**70}"' in written([record], None, encoder)
        parsed = json.loads(written([record], None, encoder).strip("[]\n"))
        assert parsed == json.loads(json.dumps(record))

    @pytest.mark.parametrize("encoder", [Json(), JsonLines()], ids=repr)
    def test_a_lone_surrogate_is_refused_in_keys_too(self, encoder):
        with pytest.raises(ExportError, match="surrogate"):
            written([{"\ud800": 1}], None, encoder)


class TestSets:
    def test_sets_are_arrays_in_an_order_of_their_own_values(self):
        values = {"b", "a", "c", "é", "1"}
        assert written([{"set": values}]) == '[{"set":["1","a","b","c","é"]}]'
        assert written([values], None, JsonLines()) == '["1","a","b","c","é"]\n'


class TestRecords:
    @pytest.mark.parametrize("encoder", [Json(), JsonLines()], ids=repr)
    def test_records_of_different_keys_and_kinds_are_kept_whole(self, encoder):
        records = [{"a": 1}, {"b": [2]}, {}, [1, "x"], (3,), "text", 4, None, {"a": {"c": None}}]
        text = written(records, None, encoder)
        lines = text.splitlines() if isinstance(encoder, JsonLines) else text[1:-1]
        expected = [dumps(record, separators=(",", ":")) for record in records]
        assert lines == (expected if isinstance(encoder, JsonLines) else ",".join(expected))

    def test_a_mapping_of_another_class_is_an_object(self):
        assert written([MappingProxyType({"a": 1})]) == '[{"a":1}]'

    def test_a_sequence_of_another_class_is_an_array(self):
        assert written([range(3)]) == "[[0,1,2]]"

    def test_no_records_are_an_empty_array_or_nothing(self):
        for source in ([], (), iter([])):
            assert written(source) == written(source, ["a"]) == written(source, None, Json(indent=2)) == "[]"
            assert written(source, None, JsonLines()) == ""


def outcome(records, encoder):
    """Return the text of records, or their error."""
    try:
        return written(records, None, encoder)
    except Exception as error:  # noqa: BLE001 (compared)
        return type(error), str(error), getattr(error, "__notes__", [])


def one_by_one(records, encoder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(values._JsonContainers, "records", lambda _, records: None)
        patch.setattr(WholeRecords, "__call__", lambda _, rows: 1 / 0)
        return outcome(records, encoder)


class Small(Enum):
    NUMBER = 1e-7
    NOTHING = float("nan")


class Pairs(dict):
    """A dict that lists other items than it holds."""

    def items(self):
        return [("made", "up")]


class TestBatchesOfRecords:
    """Records of one kind are written by one call for a batch; lines that may differ, by the table of forms."""

    ENCODERS = [
        *(
            JsonLines(),
            JsonLines(decimals="number", integers="safe"),
            JsonLines(time_zone=ZoneInfo("Europe/Rome")),
        ),
        *(Json(), Json(indent=2), Json(indent=2, decimals="number"), Json(indent=2, separators=(", ", ": "))),
        *(Json(indent=1), Json(separators=(", ", ": "))),
    ]
    CELLS = st.one_of(*PYTHON_VALUES.values()) | VALUES

    @given(st.lists(st.dictionaries(texts(), CELLS, max_size=4), max_size=4), st.sampled_from(ENCODERS))
    def test_dicts_are_written_as_one_by_one(self, records, encoder):
        assert outcome(records, encoder) == one_by_one(records, encoder)

    NAMED = st.lists(texts(), min_size=1, max_size=4, unique=True).flatmap(
        lambda names, cells=CELLS: st.lists(
            st.fixed_dictionaries(dict.fromkeys(names, cells)), min_size=1, max_size=4
        )
    )

    @given(NAMED, st.sampled_from(ENCODERS))
    def test_dicts_of_the_same_names_are_written_as_one_by_one(self, records, encoder):
        assert outcome(records, encoder) == one_by_one(records, encoder)

    @given(
        st.lists(st.lists(CELLS, max_size=4).flatmap(lambda row: st.sampled_from([row, tuple(row)])), max_size=4)
    )
    def test_lists_and_tuples_are_written_as_one_by_one(self, records):
        for encoder in self.ENCODERS:
            assert outcome(records, encoder) == one_by_one(records, encoder)

    @pytest.mark.parametrize("encoder", ENCODERS, ids=repr)
    @pytest.mark.parametrize(
        "value",
        [
            float("nan"), float("-inf"), [float("nan")], {"x": None}, [None, float("inf")], "null", "e-7,",
            "0.0000", 1e-6, -2.5e-8, [1e-9], {"x": 0.00001}, 10.00001, 1e-10, "\x1e", "\n", ",\x1e,", "\ud800",
            {"\ud800": 1}, 2**70, -(2**53), Decimal("1E-7"), Decimal("1E+30000"), b"\x1e", {1: 2}, {1.5}, set(),
            {None: float("nan")}, Pairs(a=1), {"x": Pairs(a=1)}, {"x": {frozenset([1]): ()}}, [[], {}, [[]], [{}]],
            UUID(int=0xE7 << 64), Small.NUMBER, Small.NOTHING, uuid4, iter([1]),
        ],
        ids=lambda value: repr(value).partition(" at 0x")[0],
    )  # fmt: skip
    def test_a_value_that_orjson_writes_in_another_way_or_not_at_all(self, value, encoder):
        for shape in (
            lambda cell: {"a": 1, "b": cell},
            lambda cell: [cell, None],
            lambda cell: {"null": None, "": [cell]},
            lambda cell: {"typed": Decimal(1), "cell": cell},
        ):
            records = [shape(0), shape(value), shape("x")]
            assert outcome(records, encoder) == one_by_one(records, encoder)

    @pytest.mark.parametrize("encoder", [JsonLines(), Json()], ids=repr)
    @pytest.mark.parametrize(
        "other",
        [
            {"b": 1, "a": Decimal(2)}, {"a": Decimal(1)}, {"a": 1, "b": 2, "c": 3}, {}, Pairs(a=1, b=2), [1, 2],
            {"a": None, 2: 1}, {"a": 1, None: 2}, "text",
        ],
        ids=repr,
    )  # fmt: skip
    def test_a_record_of_other_names_or_another_order_among_typed_ones(self, other, encoder):
        typed = {"a": Decimal(1), "b": 2}
        for records in ([typed, other], [other, typed], [typed] * 400 + [other, typed]):
            assert outcome(records, encoder) == one_by_one(records, encoder)

    def test_typed_ones_are_written_by_a_call_for_each_column(self):
        records = [{"a": Decimal(number), "b": date(2024, 2, 29), "c": [number]} for number in range(1000)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(values._JsonContainers, "text", None)
            patch.setattr("upstream.streaming.encoders.json._records_one_by_one", None)
            lines = written(records, None, JsonLines()).splitlines()
        assert json.loads(lines[999]) == {"a": "999", "b": "2024-02-29", "c": [999]}

    def test_they_are_written_by_one_call(self):
        records = [{"a": 1, "b": None, "c": "null", "d": float("nan"), "e": 1e-7, "f": Decimal(1)}, {"é": [1]}]
        for encoder in (JsonLines(), Json(), Json(indent=2)):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(values.Forms, "column", None)
                assert json.loads(written(records[1:], None, encoder).strip("[]\n")) == records[1]
                assert '"NaN"' in written(records, None, encoder)

    def test_those_of_a_document_are_indented_by_their_depth(self):
        rows = [{"a": [1, {"b": []}]}, {}] * 200
        document = {"deep": {"rows": iter(rows)}}
        assert written(document, None, Json(indent=2)) == dumps({"deep": {"rows": rows}}, indent=2)


class TestDocuments:
    def test_its_values_may_be_generators_and_querysets(self, database):
        Parent.objects.using(database).bulk_create([Parent(name="é"), Parent(name="b", details=[1])])
        parents = Parent.objects.using(database).order_by("pk")
        known = {
            "made": datetime(2026, 1, 31, 8, 15, tzinfo=UTC),
            "total": Decimal("1.50"),
            "parents": parents.values("name"),
            "names": parents.values_list("name", flat=True),
            "details": parents.only("details").values("details"),
            "none": parents.none().values("name"),
        }
        expected = {
            "made": "2026-01-31T08:15:00+00:00",
            "total": "1.50",
            "parents": [{"name": "é"}, {"name": "b"}],
            "names": [{"name": "é"}, {"name": "b"}],
            "details": [{"details": None}, {"details": [1]}],
            "none": [],
            "squares": [0, 1, 4],
            "nested": {"days": ["2026-01-31"], "bytes": "YQ==", "set": [1]},
        }
        for encoder, layout in ((Json(indent=2), {"indent": 2}), (Json(), {"separators": (",", ":")})):
            nested = {"days": iter([date(2026, 1, 31)]), "bytes": b"a", "set": {1}}
            document = {**known, "squares": (number**2 for number in range(3)), "nested": nested}
            assert written(document, None, encoder) == dumps(expected, **layout)

    def test_an_empty_document_is_an_empty_object(self):
        assert written({}) == written({}, None, Json(indent=2)) == "{}"

    def test_its_keys_are_written_as_json_dumps_does(self):
        document = {2: 1, None: 2, True: 3, 1.5: 4, 'é"': 5}
        assert written(document) == dumps(document, separators=(",", ":"))

    def test_a_value_that_fails_leaves_the_object_open(self):
        def rows():
            yield {"a": 1}
            raise KeyError("gone")

        data = b""
        with pytest.raises(KeyError, match="gone"):
            for chunk in stream({"before": 1, "rows": rows(), "after": 2}, None, Json(), chunk_size=1):
                data += chunk
        assert data == b'{"before":1,"rows":[{"a":1}'

    def test_closing_it_closes_the_value_being_read(self):
        events = []

        def rows():
            try:
                while True:
                    yield {"a": 1}
            finally:
                events.append("closed")

        chunks = stream({"rows": rows()}, None, Json(), chunk_size=1)
        for _ in range(3):
            next(chunks)
        assert events == []
        chunks.close()
        assert events == ["closed"]

    def test_its_rows_are_counted_together(self):
        seen = []
        source = {"a": [{"n": 1}, {"n": 2}], "b": {"c": iter([3])}, "d": [4, 5]}
        chunks = stream(source, None, Json(), progress=lambda rows, size: seen.append((rows, size)))
        size = len(b"".join(chunks))
        assert seen[-1] == (3, size)

    def test_a_lone_surrogate_in_it_is_an_export_error(self):
        for document in ({"a": "\ud800"}, {"\ud800": 1}):
            with pytest.raises(ExportError, match="surrogate"):
                written(document)

    @pytest.mark.parametrize("encoder", [JsonLines()], ids=repr)
    def test_only_json_holds_it_and_only_without_columns(self, encoder):
        with pytest.raises(SourceError, match="encoder=Json"):
            stream({"a": 1}, None, encoder)
        with pytest.raises(SourceError, match="without columns"):
            stream({"a": 1}, ["a"], Json())


LIMIT = 2**53 - 1


def as_doubles(value):
    """Return what a reader of doubles, as JavaScript is, makes of a value and keys of JSON."""
    if isinstance(value, dict):
        return {key: as_doubles(item) for key, item in value.items()}
    if isinstance(value, list):
        return list(map(as_doubles, value))
    return float(value) if type(value) is int else value


class TestSafeIntegers:
    """With `integers="safe"` no reader of doubles rounds an integer."""

    ENCODERS = (Json(integers="safe"), Json(integers="safe", indent=2), JsonLines(integers="safe"))

    @pytest.mark.parametrize("encoder", ENCODERS, ids=repr)
    @pytest.mark.parametrize("sign", [1, -1])
    def test_only_integers_beyond_the_limit_are_strings_at_any_depth(self, encoder, sign):
        numbers = [sign * LIMIT, sign * (LIMIT + 1), sign * 2**63, sign * 10**5000]
        expected = [numbers[0], *(format(Decimal(number), "f") for number in numbers[1:])]
        rows = [{"a": number, "b": {"deep": [number, {"c": number}], "key": True}} for number in numbers]
        for columns in (["a", "b"], None):
            for source in (rows, (row for row in rows)):
                text = written(source, columns, encoder)
                is_lines = isinstance(encoder, JsonLines)
                read = list(map(json.loads, text.splitlines())) if is_lines else json.loads(text)
                assert read == [
                    {"a": number, "b": {"deep": [number, {"c": number}], "key": True}} for number in expected
                ]

    def test_integers_of_a_document_and_of_its_rows_are_strings(self):
        document = {"total": LIMIT + 1, "small": [LIMIT, LIMIT + 1], "rows": ({"a": n} for n in (1, LIMIT + 1))}
        assert json.loads(written(document, None, Json(integers="safe"))) == {
            "total": str(LIMIT + 1),
            "small": [LIMIT, str(LIMIT + 1)],
            "rows": [{"a": 1}, {"a": str(LIMIT + 1)}],
        }

    @given(RECORDS)
    def test_a_reader_of_doubles_loses_no_digit(self, records):
        exact = json.loads(written(records, None, Json(integers="safe")))
        assert as_doubles(exact) == exact

    def test_members_of_enums_follow_their_values_and_decimals_their_own_option(self):
        rows = [{"a": IntEnum("Size", {"LARGE": LIMIT + 1}).LARGE, "b": Decimal(LIMIT + 1)}]
        text = written(rows, ["a", "b"], Json(integers="safe", decimals="number"))
        assert text == '[{"a":"9007199254740992","b":9007199254740992}]'

    def test_jq_keeps_their_digits(self):
        jq = shutil.which("jq") or pytest.skip("jq is not installed: apt-get install jq")
        data = written([{"id": 2**53 + 1}], ["id"], JsonLines(integers="safe"))
        read = subprocess.run([jq, "-r", ".id"], input=data, capture_output=True, text=True, check=True)
        assert read.stdout == "9007199254740993\n"


class TestTextsOfJson:
    """The text of a JSON column is written unchanged if it is JSON on one line."""

    OTHERS = (
        *("", " ", "nan", "-nan", "inf", "[1,]", "[1 2]", '{"a":1,}', '{"a"}', "{1:2}", "[", "{", '"', '"a'),
        *("tru", "true1", "1 2", "01", "-", ".5", "5.", "+1", "1e", "1.0e+", "0x1", "'a'", "1//", "\ufeff1"),
        *('"\x1f"', '"\x00"', '"\t"', '"\\x"', '"\\u12"', "\x0b1", "\xa01", "1\x00", '"a"b"', "[1]]", "1,2"),
    )

    def written(self, text):
        batches = (batch for batch in [[("{}",), (text,), ("[]",)]])
        return b"".join(JsonLines().encode([OutputColumn("a", json=True)], batches)).decode()

    @pytest.mark.parametrize("text", OTHERS, ids=ascii)
    def test_what_is_no_json_is_an_error_that_names_its_row(self, text):
        with pytest.raises(ValueError) as caught:
            self.written(text)
        assert caught.value.__notes__ == ["while writing row 2, column 'a'"]

    @given(st.text(st.sampled_from('[]{}",:\\u0e19.-+ nultrfase/\x00\x1f\x7fé')))
    def test_what_is_written_is_read_again(self, text):
        try:
            line = self.written(text).split("\n")[1]
        except ValueError:
            return
        assert line == f'{{"a":{text}}}'
        assert json.dumps(json.loads(line)["a"]) == json.dumps(json.loads(text))

    @pytest.mark.parametrize("text", ["[1,\n2]", "[1,\r2]", "\r\n[1,2]\n"], ids=ascii)
    def test_what_is_on_several_lines_is_written_on_one(self, text):
        assert self.written(text) == '{"a":{}}\n{"a":[1,2]}\n{"a":[]}\n'

    @pytest.mark.parametrize(
        "text", ["[" * 990 + "]" * 990, '{"a":1, "a":2}', "1.0E+5", "1e999", "9" * 400, '"\\/\\u00e9"'], ids=len
    )
    def test_all_else_keeps_its_spelling(self, text):
        assert self.written(text) == f'{{"a":{{}}}}\n{{"a":{text}}}\n{{"a":[]}}\n'


class TestZones:
    def test_every_datetime_is_converted(self):
        zone = oracle.dt.timezone(oracle.dt.timedelta(hours=2))
        moment = datetime(2026, 1, 31, 23, 0, tzinfo=UTC)
        for columns in (["a"], None):
            text = written([{"a": moment}], columns, Json(time_zone=zone))
            assert text == '[{"a":"2026-02-01T01:00:00+02:00"}]'


class TestBadOptions:
    @pytest.mark.parametrize("encoder", [Json, JsonLines])
    def test_decimals_are_strings_or_numbers(self, encoder):
        with pytest.raises(ValueError, match='decimals must be "string" or "number"'):
            encoder(decimals="float")

    @pytest.mark.parametrize("encoder", [Json, JsonLines])
    def test_integers_are_numbers_or_safe(self, encoder):
        with pytest.raises(ValueError, match='integers must be "number" or "safe"'):
            encoder(integers="string")

    @pytest.mark.parametrize(
        "options", [{"indent": 1.5}, {"separators": (",",)}, {"separators": ","}, {"separators": (1, 2)}], ids=str
    )
    def test_a_layout_that_cannot_be_is_refused_before_anything_is_written(self, options):
        with pytest.raises((ValueError, TypeError)):
            stream([{"a": 1}], None, Json(**options))


def test_an_object_within_a_record_is_its_str():
    assert written([{"a": Plain("x")}]) == '[{"a":"x"}]'


# Values that one of the ways may write unlike another, by what json.dumps is given for them.
CELLS_APART = [
    *[(text, text) for text in ("", '"', "\\", "a", "null", "Z", "1e-7,", "0.00001", "\x00\x1f\x7f", "\u2028é😀")],
    *[(text, text) for text in ("long " * 20, 'a "long" text\n ' * 5, "日本語" * 20)],
    *[(number, number) for number in (0, -7, 2**53, 2**63, -(2**63) - 1, 2**64, 10**30, True, False, None)],
    *[(number, number) for number in (1.0, -0.0, 1e16, 1e22, 1e-4, 1e-5, -1.5e-7, 5e-324, 1.7e308)],
    *[(float(text), text) for text in ("NaN", "Infinity", "-Infinity")],
    *[(Decimal(text), text) for text in ("1.10", "-0", "NaN")],
    (Decimal("1E+3"), "1000"),
    (datetime(2026, 1, 31, 8, 15), "2026-01-31T08:15:00"),
    (datetime(2026, 1, 31, 8, 15, 0, 5, UTC), "2026-01-31T08:15:00.000005+00:00"),
    (date(2026, 1, 31), "2026-01-31"),
    (UUID(int=0xE7), "00000000-0000-0000-0000-0000000000e7"),
    *[(nested, nested) for nested in ([], {}, [None, "null", 1e-7], {"a": [1e16, {"": '"'}]}, [[2**70]])],
    ([float("nan"), None], ["NaN", None]),
]


@pytest.mark.parametrize("way", ways.WAYS)
@pytest.mark.parametrize("encoder", [Json(), JsonLines()], ids=repr)
def test_whatever_else_a_column_holds_a_value_is_what_json_dumps_writes_of_it_alone(encoder, way, monkeypatch):
    ways.only(way, monkeypatch)
    nothing = (None, None)
    beside = [
        trio for a, b in combinations_with_replacement(CELLS_APART, 2) for trio in ((a, b, a), (b, a, nothing))
    ]
    for start in range(0, len(beside), 50):
        rows = [*zip(*beside[start : start + 50], strict=True)]
        columns = [OutputColumn(f"é{number}") for number in range(len(rows[0]))]
        batch = [tuple(value for value, _ in row) for row in rows]
        records = [{column.header: told for column, (_, told) in zip(columns, row, strict=True)} for row in rows]
        lines = [dumps(record, separators=(",", ":")) for record in records]
        expected = f"[{','.join(lines)}]" if isinstance(encoder, Json) else "\n".join([*lines, ""])
        assert b"".join(encoder.encode(columns, (one for one in [batch]))).decode() == expected
