"""Each Python type has one text in CSV and one in JSON, whether written by itself or in a column."""

import base64
import json
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from importlib import import_module
from importlib.util import find_spec
from pathlib import PurePosixPath
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from django.db.models.fields.files import FieldFile
from django.utils.functional import lazystr
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy
from hypothesis import given
from hypothesis import strategies as st

from tests.fieldtypes.models import Everything, Level, Word
from tests.oracle import named
from tests.strategies import PYTHON_VALUES, Mixed, Moment, Plain, Point, Priority, Shout, Tone
from upstream.streaming.values import json_forms, text_forms

ROME = ZoneInfo("Europe/Rome")
FORMS = {
    "text": text_forms(),
    "text in a zone": text_forms(time_zone=ROME),
    "text for people": text_forms(decimal_separator=",", date_format="%d.%m.%Y", datetime_format="%d.%m.%Y %H:%M"),
    "JSON": json_forms(),
    "JSON in a zone": json_forms(time_zone=ROME),
    "JSON with numbers": json_forms(decimals="number"),
    "JSON with safe integers": json_forms(integers="safe"),
    "JSON with lines": json_forms(indent="  ", separators=(",", ": "), level=1),
}
# A zone cannot be left for another at both ends of the calendar.
IN_EVERY_ZONE = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.sampled_from([UTC, ROME]))
VALUES = {**PYTHON_VALUES, "aware datetime": IN_EVERY_ZONE}
for _kind in ("nested", "None"):
    del VALUES[_kind]


def one_by_one(forms, values):
    return [forms.text(value) for value in values]


class TestColumns:
    """A column at once, against its values one by one."""

    @pytest.mark.parametrize("kind", VALUES)
    @given(data=st.data())
    def test_a_column_of_one_type_is_written_as_its_values_are(self, kind, data):
        values = data.draw(st.lists(VALUES[kind], max_size=4))
        for name, forms in FORMS.items():
            assert list(forms.column(values)) == one_by_one(forms, values), name

    @given(st.sampled_from(list(VALUES)).flatmap(lambda kind: st.lists(st.none() | VALUES[kind], max_size=5)))
    def test_a_column_with_none_is_written_as_its_values_are(self, values):
        for name, forms in FORMS.items():
            assert list(forms.column(values)) == one_by_one(forms, values), name

    @given(values=st.lists(st.none() | st.one_of(*VALUES.values()), max_size=5))
    def test_a_column_of_mixed_types_is_written_as_its_values_are(self, values):
        for name, forms in FORMS.items():
            if len(set(map(type, values)) - {type(None)}) > 1:
                assert list(forms.column(values)) == one_by_one(forms, values), name

    @given(values=st.lists(PYTHON_VALUES["aware datetime"], max_size=4))
    def test_datetimes_of_any_zone_are_written_as_python_writes_them(self, values):
        assert FORMS["text"].column(values) == [str(value) for value in values]
        assert FORMS["JSON"].column(values) == [f'"{value.isoformat()}"' for value in values]

    @given(values=st.lists(PYTHON_VALUES["float"], min_size=1))
    def test_floats_are_written_as_their_repr(self, values):
        assert FORMS["text"].column(values) == [repr(value) for value in values]

    @given(values=st.lists(PYTHON_VALUES["nested"], max_size=3))
    def test_compact_json_holds_what_json_with_lines_holds(self, values):
        for compact, laid_out in zip(
            FORMS["JSON"].column(values), FORMS["JSON with lines"].column(values), strict=True
        ):
            assert json.loads(compact) == json.loads(laid_out)


class NotANumber(Enum):
    MEMBER = float("nan")


class Loud(Enum):
    """Its str() is not its value."""

    MEMBER = "quiet"

    def __str__(self):
        return "LOUD"


class Odd(IntEnum):
    ONE = 1

    def __str__(self):
        return "one"


def field_file(name):
    return FieldFile(Everything(), Everything._meta.get_field("file"), name)


def at(*parts, zone=UTC):
    return datetime(*parts, tzinfo=zone)


# Value, CSV cell, JSON text: the table of how types are written, row by row, with its subclasses.
TABLE = [
    (None, "", "null"),
    ("é\u2028😀", "é\u2028😀", '"é\u2028😀"'),
    ('"\\\n\x01/', '"\\\n\x01/', '"\\"\\\\\\n\\u0001/"'),
    (Shout("loud"), "loud", '"loud"'),
    (SafeString("<b>"), "<b>", '"<b>"'),
    (True, "True", "true"),
    (False, "False", "false"),
    (0, "0", "0"),
    (-(2**64), "-18446744073709551616", "-18446744073709551616"),
    (1.0, "1.0", "1.0"),
    (-0.0, "-0.0", "-0.0"),
    (0.1 + 0.2, "0.30000000000000004", "0.30000000000000004"),
    (1e16, "1e+16", "1e+16"),
    (1e-05, "1e-05", "1e-05"),
    (5e-324, "5e-324", "5e-324"),
    (float("nan"), "nan", '"NaN"'),
    (float("inf"), "inf", '"Infinity"'),
    (float("-inf"), "-inf", '"-Infinity"'),
    (Decimal("1.10"), "1.10", '"1.10"'),
    (Decimal("1E+3"), "1000", '"1000"'),
    (Decimal("1E-10"), "0.0000000001", '"0.0000000001"'),
    (Decimal("-0.00"), "-0.00", '"-0.00"'),
    (Decimal("NaN"), "NaN", '"NaN"'),
    (Decimal("-Infinity"), "-Infinity", '"-Infinity"'),
    (at(2026, 1, 31, 8, 15, 0, 250000), "2026-01-31 08:15:00.250000+00:00", '"2026-01-31T08:15:00.250000+00:00"'),
    (at(2026, 1, 31, 8, 15), "2026-01-31 08:15:00+00:00", '"2026-01-31T08:15:00+00:00"'),
    (at(2026, 7, 1, 8, 15, zone=ROME), "2026-07-01 08:15:00+02:00", '"2026-07-01T08:15:00+02:00"'),
    (datetime(1, 1, 1), "0001-01-01 00:00:00", '"0001-01-01T00:00:00"'),
    (
        at(2026, 1, 1, zone=timezone(timedelta(hours=1, seconds=2))),
        "2026-01-01 00:00:00+01:00:02",
        '"2026-01-01T00:00:00+01:00:02"',
    ),
    (Moment(2026, 1, 31), "2026-01-31 00:00:00", '"2026-01-31T00:00:00"'),
    (date(1, 2, 3), "0001-02-03", '"0001-02-03"'),
    (time(8, 15), "08:15:00", '"08:15:00"'),
    (time(8, 15, 0, 1, tzinfo=UTC), "08:15:00.000001+00:00", '"08:15:00.000001+00:00"'),
    (timedelta(0), "P0DT00H00M00S", '"P0DT00H00M00S"'),
    (timedelta(days=400, seconds=3661, microseconds=5), "P400DT01H01M01.000005S", '"P400DT01H01M01.000005S"'),
    (timedelta(microseconds=-1), "-P0DT00H00M00.000001S", '"-P0DT00H00M00.000001S"'),
    (UUID(int=10), "00000000-0000-0000-0000-00000000000a", '"00000000-0000-0000-0000-00000000000a"'),
    (PurePosixPath("a/é"), "a/é", '"a/é"'),
    (lazystr("later"), "later", '"later"'),
    (gettext_lazy("later"), "later", '"later"'),
    (Loud.MEMBER, "quiet", '"quiet"'),
    (Mixed.AMOUNT, "1.50", '"1.50"'),
    (Mixed.DAY, "2026-01-31", '"2026-01-31"'),
    (Mixed.NOTHING, "", "null"),
    (NotANumber.MEMBER, "nan", '"NaN"'),
    (Odd.ONE, "1", "1"),
    (Priority.LOW, "-5", "-5"),
    (Level.ABOVE, "1", "1"),
    (Word.QUOTED, 'with "quotes"', '"with \\"quotes\\""'),
    (Tone.EVEN, "even", '"even"'),
    (b"\x00\xff", "AP8=", '"AP8="'),
    (bytearray(b"abc"), "YWJj", '"YWJj"'),
    (memoryview(b""), "", '""'),
    (field_file("reports/é.csv"), "reports/é.csv", '"reports/é.csv"'),
    (field_file(None), "", "null"),
    ({}, "{}", "{}"),
    ([], "[]", "[]"),
    ((), "[]", "[]"),
    ({"b": [1, {"a": None}], "a": 'é"'}, '{"b":[1,{"a":null}],"a":"é\\""}', '{"b":[1,{"a":null}],"a":"é\\""}'),
    ({3, 1, 2}, "[1,2,3]", "[1,2,3]"),
    (frozenset({"b", "a"}), '["a","b"]', '["a","b"]'),
    (Point(1, Point("a", b"b")), '[1,["a","Yg=="]]', '[1,["a","Yg=="]]'),
    (Plain('any "object"'), 'any "object"', '"any \\"object\\""'),
    (Fraction(1, 3), "1/3", '"1/3"'),
]


class TestTable:
    @pytest.mark.parametrize(("value", "cell", "_"), TABLE, ids=named)
    def test_a_csv_cell(self, value, cell, _):
        assert text_forms().text(value) == cell

    @pytest.mark.parametrize(("value", "_", "text"), TABLE, ids=named)
    def test_a_json_value(self, value, _, text):
        assert json_forms().text(value) == text

    @pytest.mark.parametrize(("value", "_", "text"), TABLE, ids=named)
    def test_the_same_json_value_in_a_list_and_in_a_dict(self, value, _, text):
        for forms in (json_forms(), json_forms(separators=(",", ":"), level=3)):
            if isinstance(value, float):  # inside containers any notation of the number will do
                assert json.loads(forms.text([value]))[0] == json.loads(text)
            else:
                assert forms.text([value, {"key": value}]) == f'[{text},{{"key":{text}}}]'

    @pytest.mark.parametrize(
        ("key", "text"),
        [
            ("a", "a"),
            ("", ""),
            ('"', '\\"'),
            (1, "1"),
            (1.5, "1.5"),
            (True, "true"),
            (None, "null"),
            (2**70, "1180591620717411303424"),
            (Decimal("1.10"), "1.10"),
            (date(2026, 1, 31), "2026-01-31"),
            (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
            (Word.PLAIN, "plain"),
            (Priority.LOW, "-5"),
            (Shout("loud"), "loud"),
            ((1, "a"), '[1,\\"a\\"]'),
        ],
        ids=repr,
    )
    def test_a_key_of_any_type_is_a_string(self, key, text):
        assert json_forms().text({key: 0}) == f'{{"{text}":0}}'

    def test_numbers_of_numpy_are_written_as_their_digits(self):
        if not find_spec("numpy"):
            pytest.skip("NumPy is not installed")
        numpy = import_module("numpy")
        assert text_forms().text(numpy.float64("0.1")) == "0.1"
        assert json_forms().text(numpy.float64("0.1")) == "0.1"
        assert json_forms().text([numpy.float64("nan")]) == '["NaN"]'
        assert text_forms().column([numpy.int64(-5), numpy.bool_(1)]) == ["-5", "True"]
        assert json_forms().text(numpy.int64(-5)) in ("-5", '"-5"')


class TestDecimals:
    @given(PYTHON_VALUES["Decimal"])
    def test_plain_digits_stand_for_the_same_number_at_the_same_scale(self, value):
        text = text_forms().text(value)
        assert "E" not in text
        if value.is_finite():
            assert Decimal(text) == value
            assert Decimal(text).as_tuple().exponent == min(value.as_tuple().exponent, 0)

    @pytest.mark.parametrize(
        ("value", "text"),
        [("1.10", "1.10"), ("1E+3", "1000"), ("-0", "-0"), ("NaN", '"NaN"'), ("Infinity", '"Infinity"')],
    )
    def test_as_numbers_they_keep_their_digits(self, value, text):
        forms = json_forms(decimals="number")
        assert forms.text(Decimal(value)) == text
        assert forms.text([Decimal(value)]) == f"[{text}]"


class TestIntegers:
    @pytest.mark.parametrize("digits", [4300, 4301, 20_000])
    def test_any_number_of_digits_is_written(self, digits):
        value = 10 ** (digits - 1) + 7
        expected = "1" + "0" * (digits - 2) + "7"
        for forms in (text_forms(), json_forms()):
            assert forms.column([value, -value]) == [expected, "-" + expected]
        assert json_forms().text([value]) == f"[{expected}]"


class TestZones:
    MOMENT = at(2026, 7, 1, 22, 30)

    def test_aware_datetimes_are_converted_wherever_they_stand(self):
        assert text_forms(time_zone=ROME).text(self.MOMENT) == "2026-07-02 00:30:00+02:00"
        assert text_forms(time_zone=ROME).text({"at": self.MOMENT}) == '{"at":"2026-07-02T00:30:00+02:00"}'
        assert json_forms(time_zone=ROME).text(self.MOMENT) == '"2026-07-02T00:30:00+02:00"'
        assert json_forms(time_zone=ROME).text([self.MOMENT]) == '["2026-07-02T00:30:00+02:00"]'

    def test_naive_datetimes_dates_and_times_stay(self):
        for value in (datetime(2026, 7, 1, 22, 30), date(2026, 7, 1), time(22, 30, tzinfo=UTC)):
            assert text_forms(time_zone=ROME).text(value) == text_forms().text(value)
            assert json_forms(time_zone=ROME).text(value) == json_forms().text(value)

    def test_the_format_is_that_of_the_converted_moment(self):
        forms = text_forms(time_zone=ROME, date_format="%d.%m.%Y", datetime_format="%d.%m. %H:%M")
        assert forms.column([self.MOMENT]) == ["02.07. 00:30"]
        assert forms.column([date(2026, 7, 1)]) == ["01.07.2026"]


class TestSets:
    @given(st.sets(st.integers() | st.text(max_size=3), max_size=6), st.randoms())
    def test_the_order_in_which_they_were_made_does_not_show(self, values, random):
        shuffled = list(values)
        random.shuffle(shuffled)
        for forms in (text_forms(), json_forms(), json_forms(indent=" ")):
            assert forms.text(values) == forms.text(set(shuffled)) == forms.text(frozenset(shuffled))


@given(st.binary())
def test_bytes_are_read_back_from_base64(value):
    for kind in (bytes, bytearray, memoryview):
        assert base64.b64decode(text_forms().text(kind(value))) == value
        assert base64.b64decode(json.loads(json_forms().text([kind(value)]))[0]) == value
