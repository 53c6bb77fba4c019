"""A cell is its whole value, or an error that names its row and column; never something made up, never nothing."""

import json
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import partial
from importlib import import_module
from types import SimpleNamespace
from uuid import UUID

import pytest
from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import connection, connections, models
from django.test.utils import CaptureQueriesContext, isolate_apps

from tests.fieldtypes.models import Parent
from tests.forced_lanes import LANES, in_lane
from upstream.streaming import Column, ColumnError, Csv, Json, JsonLines, SourceError, plan, stream

ENCODERS = [Csv(), Csv(header=False), Json(), JsonLines()]
encoders = pytest.mark.parametrize("encoder", ENCODERS, ids=lambda encoder: type(encoder).__name__)


def written(source, columns=None, encoder=Csv(), **options):  # noqa: B008 (frozen)
    return b"".join(stream(source, columns, encoder, **options)).decode()


def stops(_value):
    return next(iter(()))


@dataclass
class Stopping:
    """A value that JSON libraries can write, and the table of forms cannot."""

    a: int = 1

    def __str__(self):
        return stops(self)

    @property
    def text(self):
        return stops(self)


def records(stopping, count=300, bad=250):
    return ({"a": stopping if row == bad else row} for row in range(1, count + 1))


class TestStopIteration:
    """map() and generators take it for the end of their input."""

    @encoders
    @pytest.mark.parametrize(
        "column",
        [
            Column("a", value=lambda value: stops(value) if value == "stop" else value),
            Column(lambda row: stops(row) if row["a"] == "stop" else 1, header="a"),
        ],
        ids=["value", "computed"],
    )
    def test_of_a_function_is_an_error_that_names_row_and_column(self, encoder, column):
        with pytest.raises(RuntimeError, match="StopIteration") as caught:
            written(records("stop"), [column], encoder)
        assert caught.value.__notes__ == ["while reading row 250, column 'a'"]
        assert isinstance(caught.value.__cause__, StopIteration)

    @encoders
    def test_of_a_property_or_a_str_is_one_too(self, encoder):
        for rows, columns in (
            ([SimpleNamespace(a=SimpleNamespace(text=1)), SimpleNamespace(a=Stopping())], ["a__text"]),
            ([{"a": 1}, {"a": Stopping()}], ["a"]),
            ([{"a": 1, "b": Decimal(1)}, {"a": Stopping(), "b": Decimal("1E+2")}], ["a", "b"]),
        ):
            with pytest.raises(RuntimeError, match="StopIteration") as caught:
                written(rows, columns, encoder)
            assert "row 2, column 'a" in caught.value.__notes__[0]

    def test_a_function_that_stops_only_once_is_an_error_too(self):
        once = iter([1])
        with pytest.raises(RuntimeError, match="StopIteration"):
            written([{"a": 1}, {"a": 2}], [Column("a", value=lambda value: next(once) if value < 3 else value)])


class TestKindsOfRecords:
    @pytest.mark.parametrize("rows", [[{}, {"a": 1}], [{}]], ids=["followed", "alone"])
    def test_a_first_record_without_keys_names_no_columns(self, rows):
        for source in (rows, iter(rows)):
            with pytest.raises(ColumnError, match="first record has no keys"):
                written(source)

    def test_a_generator_that_was_read_is_not_an_empty_source(self):
        rows = (row for row in [{"a": 1}])
        written(rows)
        with pytest.raises(SourceError, match="read or closed before"):
            written(rows)

    OTHERS = ("xy", b"xy", {"a": 1}, (1, 2), SimpleNamespace(a=1), None, 5)

    @encoders
    @pytest.mark.parametrize("first", [{"a": 1}, (1, 2), SimpleNamespace(a=1)], ids=repr)
    def test_a_later_record_of_another_kind_is_an_error_that_names_its_row(self, first, encoder):
        columns = ["a", "b"] if isinstance(first, tuple) else ["a"]
        for other in self.OTHERS:
            if type(other) is not type(first):
                with pytest.raises(SourceError, match="row 3 is of another kind"):
                    written([first, first, other], columns, encoder)

    def test_an_object_among_whole_records_is_an_error(self):
        for other in (SimpleNamespace(a=1), ValueError("x"), Parent(name="p")):
            with pytest.raises(SourceError, match="row 2 is of another kind"):
                written([{"a": 1}, other], None, Json())


class NoText:
    def method(self):
        """Return nothing."""


class TestValuesWithoutText:
    @encoders
    @pytest.mark.parametrize(
        "make",
        [
            NoText,
            lambda: NoText().method,
            lambda: len,
            lambda: partial(len, ""),
            lambda: NoText,
            lambda: json,
            lambda: (one for one in "ab"),
            lambda: map(str, "ab"),
            {"k": 1}.values,
            lambda: Parent.objects,
            Parent.objects.all,
            lambda: Parent.objects.raw("SELECT 1"),
        ],
    )
    def test_are_errors_that_name_row_and_column_also_when_nested(self, encoder, make):
        for wrapped in (lambda value: value, lambda value: [value], lambda value: {"k": [value]}):
            with pytest.raises(ColumnError, match="cannot be written: ") as caught:
                written([{"a": 1}, {"a": wrapped(make())}], ["a"], encoder)
            assert caught.value.__notes__ == ["while writing row 2, column 'a'"]

    def test_an_instance_of_a_model_has_its_text(self):
        assert written([{"a": Parent(name="p")}], ["a"]).splitlines()[1] == "p"


class TestDecimals:
    @encoders
    @pytest.mark.parametrize("text", ["1e999999999", "-1E-999999999", "0e-999999999", "1e20001"])
    def test_of_huge_exponents_are_errors(self, encoder, text):
        with pytest.raises(ColumnError, match="zeros") as caught:
            written([{"a": Decimal(text)}], ["a"], encoder)
        assert caught.value.__notes__ == ["while writing row 1, column 'a'"]

    @pytest.mark.parametrize("text", ["1e20000", "1e-16383", "-0", "0e5", "NaN123", "-Infinity", "1.50", "1e-7"])
    def test_others_are_plain_digits(self, text):
        assert written([{"a": Decimal(text)}], ["a"]).splitlines()[1] == format(Decimal(text), "f")


with isolate_apps("tests.fieldtypes"):

    class Measured(models.Model):  # noqa: DJ008
        """Has decimals of any digits, which Django 6.1 allows on databases that have them."""

        size = models.DecimalField(null=True)

        class Meta:
            app_label = "fieldtypes"
            db_table = "cells_measured"


class TestDecimalsOfAnyDigits:
    STORED = ("0.99", "-1234.5", "12345678901234567890", "0.000000001", None, "7.10")

    @pytest.fixture
    def measured(self, database):
        connection = connections[database]
        if not getattr(connection.features, "supports_no_precision_decimalfield", False):
            pytest.skip("Django and its database have no such field")
        with connection.cursor() as cursor:
            cursor.execute("CREATE TEMPORARY TABLE cells_measured (id integer PRIMARY KEY, size decimal)")
            for key, size in enumerate(self.STORED):
                cursor.execute("INSERT INTO cells_measured VALUES (%s, %s)", (key, size))
        yield Measured.objects.using(database).order_by("id")
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE cells_measured")

    @pytest.mark.parametrize("lane", LANES)
    @pytest.mark.parametrize("encoder", [Csv(), JsonLines()], ids=["csv", "ndjson"])
    def test_they_are_what_django_reads(self, measured, lane, encoder):
        read = [{"size": row.size} for row in measured]
        assert read[0]["size"] == Decimal("0.99")
        assert written(measured, ["size"], in_lane(encoder, lane)) == written(read, ["size"], encoder)

    def test_windows_find_each_once(self, measured):
        by_size = measured.order_by("size")
        assert written(by_size, ["size"], windows=True, chunk_size=2) == written(by_size, ["size"])


class TestArrays:
    """Arrays of other libraries are whole, as JSON; their missing moments are None."""

    def library(self, name):
        try:
            return import_module(name)
        except ImportError:
            pytest.skip(f"{name} is not installed")

    def test_of_numpy_are_whole(self):
        numpy = self.library("numpy")
        for array in (
            numpy.arange(3000.0),
            numpy.arange(4000).reshape(2, -1),
            numpy.array(["a", None], dtype=object),
        ):
            [line] = written([{"a": array}], ["a"], JsonLines()).splitlines()
            assert json.loads(line)["a"] == array.tolist()
            assert written([(array,)], None, Csv(header=False)).startswith('"[')

    def test_of_moments_are_text(self):
        numpy = self.library("numpy")
        array = numpy.array(["2026-01-31T08:15:00.000000001", "NaT"], dtype="datetime64[ns]")
        [line] = written([{"a": array}], ["a"], JsonLines()).splitlines()
        assert json.loads(line)["a"] == ["2026-01-31T08:15:00.000000001", None]

    def test_missing_values_of_pandas_are_none(self):
        pandas = self.library("pandas")
        rows = [{"a": pandas.Timestamp("2026-01-31"), "b": 1}, {"a": pandas.NaT, "b": pandas.NA}]
        assert written(rows, ["a", "b"], Csv(null_marker="NULL")).splitlines()[2] == "NULL,NULL"
        assert written(rows, ["a", "b"], JsonLines()).splitlines()[1] == '{"a":null,"b":null}'


def test_money_is_its_amount_with_all_digits():
    rows = [{"price": SimpleNamespace(amount=Decimal("1.2345"), currency="CHF")}]
    assert written(rows, ["price"], JsonLines()) == '{"price":"1.2345"}\n'
    assert written(rows, ["price", "price__currency"]).splitlines()[1] == "1.2345,CHF"


class Loud:
    """A descriptor whose value on an instance differs from the column's."""

    def __get__(self, instance, owner=None):
        return self if instance is None else instance.__dict__["name"].upper()

    def __set__(self, instance, value):
        instance.__dict__["name"] = value


class TestValuesOfInstances:
    """A model's cell is the value that its instance has, whichever other columns stand beside it."""

    def test_a_descriptor_of_the_fields_own_decides_alone_and_beside_others(self, database, monkeypatch):
        parent = Parent.objects.using(database).create(name="abc")
        monkeypatch.setattr(Parent, "name", Loud())
        rows = Parent.objects.using(database)
        beside = Column(lambda row: 1, header="one")
        for source, columns in ((rows, ["name"]), (rows, ["name", beside]), ([parent], ["name"])):
            assert written(source, columns).splitlines()[1].split(",")[0] == "ABC"
        assert written(rows.values("name"), ["name"]).splitlines()[1] == "abc"

    def test_an_error_of_the_models_own_code_is_raised_even_if_a_row_does_not_exist(self, database, monkeypatch):
        def missing(self):
            return Parent.objects.using(database).get(pk=-1)

        Parent.objects.using(database).create(name="p")
        for found in (missing, property(missing)):
            monkeypatch.setattr(Parent, "label", found)
            with pytest.raises(Parent.DoesNotExist):
                written(Parent.objects.using(database), ["name", "label"])

    @pytest.mark.parametrize("key", ["a b", "it's", '"q"', "100%", "%s", "a;b", "a-b", "\u00e9", "a.b", "a--b"])
    def test_any_key_of_a_json_field_can_be_a_column(self, database, key):
        Parent.objects.using(database).create(name="p", details={key: "x"})
        rows = Parent.objects.using(database)
        expected = json.dumps({f"details__{key}": "x"}, ensure_ascii=False, separators=(",", ":"))
        assert written(rows, [f"details__{key}"], JsonLines()) == expected + "\n"

    @isolate_apps("tests.fieldtypes")
    def test_names_follow_the_attributes_of_what_a_field_holds(self, settings):
        class Held(models.Model):  # noqa: DJ008
            photo = models.ImageField()
            span = models.DurationField()
            uid = models.UUIDField()

            class Meta:
                app_label = "fieldtypes"

        settings.MEDIA_URL = "/media/"
        row = Held(photo="p/a.png", span=timedelta(days=3), uid=UUID(int=1))
        got = written([row], ["photo__url", "span__days", "uid__hex", "photo"])
        assert got.splitlines()[1] == f"/media/p/a.png,3,{UUID(int=1).hex},p/a.png"
        assert plan(Held.objects.all(), ["photo__url"]).lane == "python"
        with pytest.raises(ColumnError, match="unknown column 'ulr'"):
            plan(Held.objects.all(), ["photo__ulr"])

    @isolate_apps("tests.fieldtypes")
    @pytest.mark.usefixtures("fetches_take_no_time")
    def test_generic_foreign_keys_are_prefetched(self, db):
        class Note(models.Model):  # noqa: DJ008
            content_type = models.ForeignKey(ContentType, models.CASCADE)
            object_id = models.PositiveBigIntegerField()
            about = GenericForeignKey()

            class Meta:
                app_label = "fieldtypes"

        parents = [Parent.objects.create(name=f"p{number}") for number in range(20)]
        kind = ContentType.objects.get_for_model(Parent)
        notes = [Note(pk=parent.pk, content_type=kind, object_id=parent.pk) for parent in parents]
        with CaptureQueriesContext(connection) as queries:
            got = written([*notes, Note(pk=99, content_type=kind, object_id=-1)], ["about", "about__name"])
        assert got.splitlines()[1:] == [*(f"{parent.name},{parent.name}" for parent in parents), ","]
        assert len(queries) <= 2
