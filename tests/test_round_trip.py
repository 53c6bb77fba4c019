"""What is written is read back unchanged by programs that are not ours, for every type and database."""

import csv
import gzip
import io
import json
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from importlib import import_module
from pathlib import PurePosixPath

import pytest
from django.apps import apps
from django.db import connections, transaction
from django.db.models import Count, Value
from django.db.models.functions import Concat
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import foreign, oracle
from tests.fieldtypes.models import Disguised, Everything, Parent, Ticket
from tests.oracle import JsonColumn, named
from tests.strategies import (
    PYTHON_VALUES,
    Mixed,
    Plain,
    Point,
    Priority,
    Tone,
    disguised,
    durations,
    everything,
    floats,
    json_null,
    store,
    texts,
)
from upstream.streaming import (
    Column,
    Csv,
    ExportError,
    Json,
    JsonLines,
    read_csv,
    read_json,
    stream,
    to_buffer,
)

NAMES = [field.attname for field in Everything._meta.concrete_fields]
JSON_NAMES = ["json", "json_or_null"]
PLAIN_NAMES = [name for name in NAMES if name not in JSON_NAMES]
LANGUAGES = {"csv": Csv(), "json": Json(), "ndjson": JsonLines()}


def written(source, columns=None, encoder=LANGUAGES["csv"], **options):
    return b"".join(stream(source, columns, encoder, **options))


@contextmanager
def stored(rows, using):
    """Hold drawn rows in the database for one example, in a transaction that is rolled back."""
    with transaction.atomic(using=using):
        yield store(rows, using)
        transaction.set_rollback(True, using=using)


def values_of(queryset, names=NAMES):
    """Return the values that Django's own instances have: the truth that an export is held to."""
    sql_nulls = {
        name: set(queryset.filter(**{f"{name}__isnull": True}).values_list("pk", flat=True))
        for name in JSON_NAMES
        if name in names
    }
    return [[_value(row, name, sql_nulls) for name in names] for row in queryset]


def _value(row, name, sql_nulls):
    value = getattr(row, name)
    if name not in JSON_NAMES:
        return value
    return None if row.pk in sql_nulls[name] else JsonColumn(value)


def cells(header, rows):
    return [list(header), *([oracle.cell(value) for value in row] for row in rows)]


def objects(header, rows):
    return [dict(zip(header, map(oracle.node, row), strict=True)) for row in rows]


def framed(records):
    """Return records of text as Python's csv module writes them, but for a line that would end COPY's input."""
    text = io.StringIO(newline="")
    for record in records:
        if record == ["\\."]:
            text.write('"\\."\r\n')
        else:
            csv.writer(text).writerow(record)
    return text.getvalue().encode()


def assert_csv_reads_back(data, expected, **options):
    for name, read in foreign.CSV_READERS.items():
        assert expected == read(data, **options), name
    as_text = foreign.csv_module(data, **options)
    if not options:
        assert data == framed(as_text), "only cells that need quotes have them, and lines end with CRLF"


def assert_json_reads_back(data, expected):
    for name, read in foreign.JSON_READERS.items():
        got = read(data)
        assert oracle.same_json(expected, got), (name, expected, got)
    for got, row in zip(foreign.json_module(data), expected, strict=True):
        assert list(got) == list(row), "keys stand in the order of the columns"


def assert_json_lines_read_back(data, expected):
    *lines, after = data.split(b"\n")
    assert after == b""
    assert len(lines) == len(expected)
    for line, row in zip(lines, expected, strict=True):
        assert_json_reads_back(b"[" + line + b"]", [row])


@pytest.mark.parametrize("package", foreign.PACKAGES)
def test_the_independent_reader_is_installed(package):
    if package not in foreign.CSV_READERS:
        pytest.skip(f"the independent reader needs the package {package}")


class TestQuerySets:
    """Generated rows with a field of every class that Django has."""

    @given(st.data())
    def test_every_csv_reader_gets_back_every_cell(self, database, data):
        rows = data.draw(everything(connections[database].vendor))
        with stored(rows, database) as queryset:
            expected = cells(NAMES, values_of(queryset))
            assert_csv_reads_back(written(queryset, NAMES), expected)

    @given(st.data())
    def test_every_json_reader_gets_back_every_value(self, database, data):
        rows = data.draw(everything(connections[database].vendor))
        with stored(rows, database) as queryset:
            expected = objects(NAMES, values_of(queryset))
            assert_json_reads_back(written(queryset, NAMES, Json()), expected)
            assert_json_reads_back(written(queryset, NAMES, Json(indent=2)), expected)
            assert_json_lines_read_back(written(queryset, NAMES, JsonLines()), expected)

    @given(st.data())
    def test_a_column_computed_in_python_changes_no_other_cell(self, database, data):
        rows = data.draw(everything(connections[database].vendor))
        computed = Column(lambda row: row.text.upper(), header="computed")
        with stored(rows, database) as queryset:
            wanted = [[*row, row[NAMES.index("text")].upper()] for row in values_of(queryset)]
            header = [*NAMES, "computed"]
            columns = [*NAMES, computed]
            assert_csv_reads_back(written(queryset, columns), cells(header, wanted))
            assert_json_reads_back(written(queryset, columns, Json()), objects(header, wanted))

    @settings(max_examples=12)
    @given(st.data())
    def test_every_way_to_ask_for_the_rows_gives_the_same_bytes(self, database, data):
        rows = data.draw(everything(connections[database].vendor))
        with stored(rows, database) as queryset:
            self.check_ways_with_json(queryset)
            self.check_ways_without_json(queryset, database)

    def check_ways_with_json(self, queryset):
        by_function = [Column(lambda row: row.char, header="char") if name == "char" else name for name in NAMES]
        ways = {
            "values()": (queryset.values(*NAMES), None),
            "values_list()": (queryset.values_list(*NAMES), None),
            "named tuples": (queryset.values_list(*NAMES, named=True), None),
            "one column by a function": (queryset, by_function),
            "one column through a function": (
                queryset,
                [Column("char", value=lambda value: value) if name == "char" else name for name in NAMES],
            ),
            "deferred": (queryset.defer("char", "json"), NAMES),
            "sliced": (queryset[:1000], NAMES),
        }
        for encoder in LANGUAGES.values():
            expected = written(queryset, NAMES, encoder)
            for way, (source, columns) in ways.items():
                # Inside JSON columns ways may differ in spelling.
                assert _respelled(expected, encoder) == _respelled(written(source, columns, encoder), encoder), way
            for rows in (1, 2):
                assert expected == written(queryset, NAMES, encoder, chunk_size=rows), rows

    def check_ways_without_json(self, queryset, database):
        selected = queryset.values(*PLAIN_NAMES)
        ways = {
            "instances": list(queryset),
            "a generator of instances": (row for row in list(queryset)),
            "dicts": list(selected),
            "named tuples": list(queryset.values_list(*PLAIN_NAMES, named=True)),
            "a raw query": Everything.objects.raw(
                "SELECT * FROM fieldtypes_everything ORDER BY id", using=database
            ),
        }
        expected = written(queryset, PLAIN_NAMES)
        for way, source in ways.items():
            assert expected == written(source, PLAIN_NAMES), way

    @settings(max_examples=15)
    @given(st.data())
    def test_a_combined_queryset_gives_the_same_bytes(self, database, data):
        rows = data.draw(everything(connections[database].vendor))
        with stored(rows, database) as queryset:
            unordered = queryset.order_by()
            union = unordered.union(unordered.filter(pk__lt=0), all=True).order_by("id")
            for encoder in LANGUAGES.values():
                assert written(queryset, PLAIN_NAMES, encoder) == written(union, PLAIN_NAMES, encoder)

    @given(st.data())
    def test_all_fields_are_the_default(self, database, data):
        rows = data.draw(everything(connections[database].vendor, max_size=1))
        with stored(rows, database) as queryset:
            header, *records = foreign.csv_module(written(queryset))
            assert header in (NAMES, [field.name for field in Everything._meta.concrete_fields])
            assert cells(NAMES, values_of(queryset))[1:] == records

    @settings(max_examples=15)
    @given(st.data())
    def test_committed_rows_are_written_outside_a_transaction_too(self, transactional_database, data):
        rows = data.draw(everything(connections[transactional_database].vendor))
        queryset = store(rows, transactional_database)
        try:
            wanted = values_of(queryset)
            assert_csv_reads_back(written(queryset, NAMES), cells(NAMES, wanted))
            assert_json_reads_back(written(queryset, NAMES, Json()), objects(NAMES, wanted))
        finally:
            for model in (Everything, Parent, Ticket):
                model.objects.using(transactional_database).all().delete()


def _respelled(data, encoder):
    """Return an export with the text of its JSON columns spelled in one way."""
    if isinstance(encoder, JsonLines):
        return [_sorted(line) for line in data.splitlines() if line]
    if isinstance(encoder, Json):
        return _sorted(data)
    header, *rows = foreign.csv_module(data)
    positions = [header.index(name) for name in JSON_NAMES]
    for row in rows:
        for position in positions:
            row[position] = row[position] and _sorted(row[position])
    return [header, *rows]


def _sorted(text):
    return json.dumps(json.loads(text), sort_keys=True)


class TestRelations:
    def test_columns_follow_relations_properties_methods_and_annotations(self, database):
        parent = Parent(name='Smith, "Jo"\r\n', details={"a": [None, 1.5]})
        bare = Parent(name="", details=None)
        null = Parent(name="n", details=json_null())
        Parent.objects.using(database).bulk_create([parent, bare, null])
        queryset = (
            Parent.objects.using(database)
            .annotate(size=Count("children"), shout=Concat("name", Value("!")))
            .order_by("pk")
        )
        header = ["name", "details", "label", "letters", "size", "shout"]
        expected = [
            [parent.name, JsonColumn(parent.details), f"<{parent.name}>", len(parent.name), 0, parent.name + "!"],
            ["", None, "<>", 0, 0, "!"],
            ["n", JsonColumn(None), "<n>", 1, 0, "n!"],
        ]
        assert_csv_reads_back(written(queryset, header), cells(header, expected))
        assert_json_reads_back(written(queryset, header, Json()), objects(header, expected))

    @settings(max_examples=20)
    @given(st.data())
    def test_fields_of_related_records_are_written_as_their_own(self, database, data):
        rows = data.draw(everything(connections[database].vendor))
        header = ["id", "parent__name", "ticket__code", "ticket__id", "shout", "parent__label"]
        with stored(rows, database) as queryset:
            expected = [
                [
                    row.id,
                    row.parent and row.parent.name,
                    row.ticket and row.ticket.code,
                    row.ticket and row.ticket.id,
                    row.shout,
                    row.parent and row.parent.label,
                ]
                for row in queryset.select_related("parent", "ticket")
            ]
            for width in (4, 6):
                wanted = [row[:width] for row in expected]
                columns = header[:width]
                assert_csv_reads_back(written(queryset, columns), cells(columns, wanted))
                assert_json_reads_back(written(queryset, columns, Json()), objects(columns, wanted))


class TestCustomFields:
    @given(st.data())
    def test_a_custom_field_is_written_as_the_value_that_django_gives(self, database, data):
        rows = data.draw(disguised(connections[database].vendor))
        names = ["id", "colour", "backwards", "price", "shifted", "sealed"]
        with transaction.atomic(using=database):
            Disguised.objects.using(database).bulk_create(rows)
            queryset = Disguised.objects.using(database).order_by("pk")
            expected = [[getattr(row, name) for name in names] for row in queryset]
            assert [row[2] for row in expected] == [row.backwards for row in rows]
            for source in (queryset, queryset.values_list(*names)):
                assert_csv_reads_back(written(source, names), cells(names, expected))
                assert_json_reads_back(written(source, names, Json()), objects(names, expected))
            transaction.set_rollback(True, using=database)


class TestPostgreSQL:
    @pytest.fixture(autouse=True)
    def _only_postgresql(self, database):
        if connections[database].vendor != "postgresql":
            pytest.skip("only PostgreSQL has these fields")

    def test_arrays_and_ranges_are_written_as_django_gives_them(self, database):
        ranges = import_module("django.db.backends.postgresql.psycopg_any")
        PostgresOnly = apps.get_model("fieldtypes", "PostgresOnly")
        moment = datetime(2026, 1, 31, 8, 15, 0, 250000, tzinfo=UTC)
        PostgresOnly.objects.using(database).bulk_create(
            [
                PostgresOnly(
                    integers=[1, None, -(2**31)],
                    texts=['a "b", c', None, "", "NULL", "{}", "\\", "\r\n"],
                    grid=[[1.0, -0.0], [float("nan"), float("inf")]],
                    moments=[moment, None],
                    prices=[Decimal("1.500"), Decimal("-0.001")],
                    integer_range=ranges.NumericRange(1, 5),
                    decimal_range=ranges.NumericRange(Decimal("1.5"), None, "(]"),
                    date_range=ranges.DateRange(date(2026, 1, 1), None),
                    datetime_range=ranges.DateTimeTZRange(moment, moment + timedelta(days=1), "[]"),
                ),
                PostgresOnly(texts=[], integers=[], integer_range=ranges.NumericRange(empty=True)),
            ]
        )
        queryset = PostgresOnly.objects.using(database).order_by("pk")
        names = [field.attname for field in PostgresOnly._meta.concrete_fields]
        expected = [[getattr(row, name) for name in names] for row in queryset]
        assert expected[0][names.index("integers")] == [1, None, -(2**31)]
        assert_csv_reads_back(written(queryset, names), cells(names, expected))
        assert_json_reads_back(written(queryset, names, Json()), objects(names, expected))

    def test_numbers_that_are_not_finite_are_written_by_name(self, database):
        parameters = {"using": database}
        with stored(
            [_ordinary_row(floating=float("nan"), floating_or_null=float("-inf"))], **parameters
        ) as queryset:
            with connections[database].cursor() as cursor:
                cursor.execute("UPDATE fieldtypes_everything SET \"decimal\" = 'NaN'")
            names = ["floating", "floating_or_null", "decimal"]
            assert written(queryset, names).splitlines()[1] == b"nan,-inf,NaN"
            assert json.loads(written(queryset, names, Json())) == [
                {"floating": "NaN", "floating_or_null": "-Infinity", "decimal": "NaN"}
            ]


def _ordinary_row(**values):
    return Everything(
        **{
            "char": "a",
            "text": "b",
            "boolean": True,
            "integer": 1,
            "floating": 1.0,
            "decimal": Decimal("1.5"),
            "date": date(2026, 1, 31),
            "time": datetime(2026, 1, 31, 8, 15).time(),
            "datetime": datetime(2026, 1, 31, 8, 15, tzinfo=UTC),
            "duration": timedelta(hours=1),
            "uuid": "12345678-1234-5678-1234-567812345678",
            "binary": b"\x00\xff",
            "json": {},
            **values,
        }
    )


class TestJsonColumns:
    def test_json_null_is_text_and_sql_null_is_empty(self, database):
        rows = [
            _ordinary_row(char="sql null", json="a", json_or_null=None),
            _ordinary_row(char="json null", json="", json_or_null=json_null()),
            _ordinary_row(char="neither", json=[1, {"é": None}], json_or_null="null"),
        ]
        with stored(rows, database) as queryset:
            computed = Column(lambda row: row.char, header="char")
            for columns in (["char", "json", "json_or_null"], [computed, "json", "json_or_null"]):
                records = foreign.csv_module(written(queryset, columns))
                assert [row[0] for row in records] == ["char", "sql null", "json null", "neither"]
                assert [row[2] for row in records] == ["json_or_null", "", "null", '"null"']
                assert [json.loads(row[1]) for row in records[1:]] == ["a", "", [1, {"é": None}]]

    def test_a_document_stored_over_several_lines_is_one_line_of_ndjson(self, database):
        with stored([_ordinary_row(), _ordinary_row()], database) as queryset:
            with connections[database].cursor() as cursor:
                cursor.execute("UPDATE fieldtypes_everything SET json = %s", ['{\n  "a": [\r\n1]\n}'])
            expected = [{"char": "a", "json": {"a": [1]}}] * 2
            assert_json_lines_read_back(written(queryset, ["char", "json"], JsonLines()), expected)
            assert_csv_reads_back(
                written(queryset, ["char", "json"]),
                [["char", "json"], *[["a", oracle.AnySpelling({"a": [1]})]] * 2],
            )

    def test_a_deep_document_is_kept(self, database):
        deep = value = []
        for depth in range(10 if connections[database].vendor == "mysql" else 200):  # MariaDB allows 32 levels
            value.append({"depth": depth, "in": []})
            value = value[0]["in"]
        with stored([_ordinary_row(json=deep)], database) as queryset:
            [[_, cell]] = [foreign.csv_module(written(queryset, ["id", "json"]))[1]]
            assert json.loads(cell) == deep
            assert json.loads(written(queryset, ["json"], Json())) == [{"json": deep}]

    def test_a_lone_surrogate_in_a_document_is_kept_or_refused(self, database):
        if connections[database].vendor != "sqlite":
            pytest.skip("the database refuses it itself")
        with stored([_ordinary_row(json={"a": "\ud800"})], database) as queryset:
            for columns in (["json"], ["json", Column(lambda row: row.pk, header="pk")]):
                for encoder in LANGUAGES.values():
                    with suppress(ExportError):
                        assert "\\ud800" in written(queryset, columns, encoder).decode()


@st.composite
def records(draw, kinds=tuple(PYTHON_VALUES)):
    """Draw dicts of the same keys; a column holds values of one type and None, or of any types."""
    count = draw(st.integers(0, 4))
    columns = {}
    for name in draw(
        st.lists(st.sampled_from(["a", 'b "x",', "c\r\n", "=d", "é"]), min_size=1, max_size=4, unique=True)
    ):
        kind = draw(st.sampled_from(["mixed", *kinds]))
        values = st.one_of(*(PYTHON_VALUES[kind] for kind in kinds)) if kind == "mixed" else PYTHON_VALUES[kind]
        columns[name] = draw(st.lists(st.none() | values, min_size=count, max_size=count))
    return list(columns), [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


class TestPythonValues:
    """Plain iterables: every Python type of the table of value forms."""

    @pytest.mark.parametrize("kind", PYTHON_VALUES)
    @settings(max_examples=25)
    @given(st.data())
    def test_every_type_is_read_back_from_csv_and_json(self, kind, data):
        values = data.draw(st.lists(st.none() | PYTHON_VALUES[kind], max_size=4))
        rows = [{"n": number, "value": value} for number, value in enumerate(values)]
        expected = [[number, value] for number, value in enumerate(values)]
        header = ["n", "value"]
        assert_csv_reads_back(written(rows, header), cells(header, expected))
        assert_json_reads_back(written(rows, header, Json()), objects(header, expected))
        assert_json_lines_read_back(written(rows, header, JsonLines()), objects(header, expected))

    @given(records(), st.integers(1, 5))
    def test_mixed_columns_and_any_chunk_size_are_read_back(self, drawn, chunk_size):
        header, rows = drawn
        expected = [list(row.values()) for row in rows]
        assert cells(header, expected) == foreign.csv_module(written(iter(rows), header, chunk_size=chunk_size))
        data = written(iter(rows), header, Json(), chunk_size=chunk_size)
        assert_json_reads_back(data, objects(header, expected))
        for encoder in LANGUAGES.values():
            assert written(rows, header, encoder) == written(rows, header, encoder, chunk_size=chunk_size)

    @given(records([kind for kind in PYTHON_VALUES if kind != "set"]), st.sampled_from([None, 0, 2, 4]))
    def test_indented_json_is_what_json_dumps_gives(self, drawn, indent):
        header, rows = drawn
        expected = objects(header, [list(row.values()) for row in rows])
        data = written(rows, header, Json(indent=indent))
        if indent is None:
            assert_json_reads_back(data, expected)
        else:
            assert data.decode() == json.dumps(expected, indent=indent, ensure_ascii=False)

    @pytest.mark.parametrize(
        ("value", "cell", "node"),
        [
            (Decimal("1E+3"), "1000", "1000"),
            (Decimal("1E-10"), "0.0000000001", "0.0000000001"),
            (Decimal("-0.00"), "-0.00", "-0.00"),
            (Decimal("NaN"), "NaN", "NaN"),
            (Decimal("-Infinity"), "-Infinity", "-Infinity"),
            (2**64 + 1, "18446744073709551617", 2**64 + 1),
            (1e22, "1e+22", 1e22),
            (-0.0, "-0.0", -0.0),
            (float("nan"), "nan", "NaN"),
            (float("-inf"), "-inf", "-Infinity"),
            (True, "True", True),
            (
                datetime(2026, 1, 31, 8, 15, tzinfo=UTC),
                "2026-01-31 08:15:00+00:00",
                "2026-01-31T08:15:00+00:00",
            ),
            (datetime(1, 1, 1, 0, 0, 0, 5), "0001-01-01 00:00:00.000005", "0001-01-01T00:00:00.000005"),
            (timedelta(days=-1, seconds=1), "-P0DT23H59M59S", "-P0DT23H59M59S"),
            (PurePosixPath("a/b"), "a/b", "a/b"),
            (Mixed.AMOUNT, "1.50", "1.50"),
            (Mixed.NOTHING, "", None),
            (Priority.LOW, "-5", -5),
            (Tone.ODD, 'odd, "quoted"', 'odd, "quoted"'),
            (b"\x00\xff", "AP8=", "AP8="),
            (memoryview(b"abc"), "YWJj", "YWJj"),
            ({}, "{}", {}),
            ((), "[]", []),
            ({7}, "[7]", [7]),
            ({"a": [1, None, Decimal("1.0")]}, '{"a":[1,null,"1.0"]}', {"a": [1, None, "1.0"]}),
            ({"at": date(2026, 1, 31), "x": float("nan")}, '{"at":"2026-01-31","x":"NaN"}', None),
            (["é", '"', "\r\n"], '["é","\\"","\\r\\n"]', ["é", '"', "\r\n"]),
            (Point(1, Point("a", b"b")), '[1,["a","Yg=="]]', [1, ["a", "Yg=="]]),
            ({1: 2}, '{"1":2}', {"1": 2}),
            (Plain("\rplain"), "\rplain", "\rplain"),
        ],
        ids=named,
    )
    def test_value_is_written_as_the_table_says(self, value, cell, node):
        rows = [{"n": 1, "value": value}]
        assert foreign.csv_module(written(rows)) == [["n", "value"], ["1", cell]]
        [got] = json.loads(written(rows, None, Json()))
        assert repr(got["value"]) == repr(json.loads(cell) if node is None and cell else node)

    def test_an_integer_of_any_size_keeps_its_digits(self):
        rows = [{"n": 10**6000 + 1}]
        digits = b"1" + b"0" * 5999 + b"1"
        assert written(rows) == b"n\r\n" + digits + b"\r\n"
        assert written(rows, None, Json()) == b'[{"n":' + digits + b"}]"

    def test_objects_within_containers_are_written_as_anywhere_else(self):
        value = {"set": {3}, "point": Point(1, {2}), "enum": Mixed.AMOUNT, "path": PurePosixPath("x")}
        [row] = json.loads(written([{"value": value}], None, Json()))
        assert row["value"] == {"set": [3], "point": [1, [2]], "enum": "1.50", "path": "x"}

    def test_a_long_text_is_kept(self):
        rows = [{"n": 1, "text": 'é"\r\n,' * 300_000}, {"n": 2, "text": "short"}]
        expected = [["n", "text"], ["1", rows[0]["text"]], ["2", "short"]]
        assert_csv_reads_back(written(rows), expected)
        assert rows == json.loads(written(rows, None, Json()))


class TestOptions:
    @given(
        st.lists(st.tuples(texts(), texts(), durations()), max_size=4),
        st.sampled_from(",;\t|"),
        st.sampled_from(["minimal", "all", "nonnumeric"]),
    )
    def test_any_delimiter_and_quoting_carry_the_same_cells(self, rows, delimiter, quoting):
        header = ["a", "b;,\t|", "c"]
        data = written(
            [dict(zip(header, row, strict=True)) for row in rows],
            header,
            Csv(delimiter=delimiter, quoting=quoting),
        )
        assert_csv_reads_back(data, cells(header, rows), delimiter=delimiter)

    @given(st.lists(st.tuples(texts(), floats(), st.booleans()), max_size=4))
    def test_quoting_tells_numbers_from_text(self, rows):
        data = written(
            [{"a": text, "b": number} for text, number, _ in rows], ["a", "b"], Csv(quoting="nonnumeric")
        )
        got = list(csv.reader(io.StringIO(data.decode(), newline=""), quoting=csv.QUOTE_NONNUMERIC))
        assert [[text, repr(number)] for text, number, _ in rows] == [
            [text, repr(number)] for text, number in got[1:]
        ]

    @pytest.mark.parametrize("quoting", ["minimal", "all", "nonnumeric"])
    @given(rows=st.lists(st.tuples(st.none() | texts(), st.none() | st.integers(), texts()), max_size=4))
    def test_quoted_empty_text_is_told_from_none(self, quoting, rows):
        header = ["a", "b", "c"]
        data = written(
            [dict(zip(header, row, strict=True)) for row in rows],
            header,
            Csv(quote_empty=True, quoting=quoting),
        )
        wanted = [header, *([value if value is None else str(value) for value in row] for row in rows)]
        for name, read in foreign.NULL_READERS.items():
            assert wanted == read(data, nulls=[""]), name

    @pytest.mark.parametrize("marker", ["NULL", "\\N", "-"])
    @pytest.mark.parametrize("quoting", ["minimal", "all", "nonnumeric"])
    @given(rows=st.lists(st.tuples(st.none() | texts(), st.none() | st.integers(), st.just("c")), max_size=4))
    def test_a_null_marker_is_told_from_the_same_text(self, marker, quoting, rows):
        header = ["a", "b", "c"]
        rows = [(marker, None, "c"), (None, 1, "c"), *rows]
        data = written(
            [dict(zip(header, row, strict=True)) for row in rows],
            header,
            Csv(null_marker=marker, quoting=quoting),
        )
        wanted = [header, *([value if value is None else str(value) for value in row] for row in rows)]
        for name, read in foreign.NULL_READERS.items():
            assert wanted == read(data, nulls=[marker]), name

    @given(st.lists(st.none() | st.just("\\.") | texts(), max_size=4))
    def test_a_single_column_keeps_every_row(self, values):
        data = written([{"only": value} for value in values], ["only"])
        assert_csv_reads_back(data, cells(["only"], [[value] for value in values]))

    def test_the_header_can_be_left_out_and_a_byte_order_mark_written_once(self):
        rows = [{"a": "é"}] * 3
        assert written(rows, ["a"], Csv(header=False)) == "é\r\né\r\né\r\n".encode()
        assert written(rows, ["a"], Csv(bom=True), chunk_size=1) == "\ufeffa\r\né\r\né\r\né\r\n".encode()

    @pytest.mark.parametrize("encoder", LANGUAGES.values(), ids=LANGUAGES)
    def test_gzip_carries_the_same_bytes(self, encoder):
        rows = [{"n": number, "text": 'é"\r\n'} for number in range(5000)]
        assert gzip.decompress(written(rows, None, encoder, compression="gzip")) == written(rows, None, encoder)

    def test_no_rows_give_a_header_and_an_empty_array(self):
        assert written([], ["a", "b"]) == b"a,b\r\n"
        assert json.loads(written([], ["a"], Json())) == []
        assert written([], ["a"], JsonLines()) == b""


class TestRefusals:
    @pytest.mark.parametrize("encoder", LANGUAGES.values(), ids=LANGUAGES)
    @pytest.mark.parametrize(
        "value", ["\ud800", "a\udfffb", {"key": "\ud800"}, ["\udc00"], PurePosixPath("\udcff")]
    )
    @pytest.mark.parametrize("columns", [["good", "remark"], None], ids=["named columns", "all keys"])
    def test_a_lone_surrogate_is_an_error_that_names_row_and_column(self, encoder, value, columns):
        rows = [{"good": "😀", "remark": "fine"} for _ in range(9)]
        rows[4] = {"good": "fine", "remark": value}
        for chunk_size in (1, 2, 2000):
            with pytest.raises(ExportError) as caught:
                written(rows, columns, encoder, chunk_size=chunk_size)
            assert "row 5" in str(caught.value)
            assert "'remark'" in str(caught.value)


class TestOwnReaders:
    """What the package reads back itself."""

    @given(st.lists(st.tuples(texts(), texts()), max_size=4))
    def test_read_csv_gives_the_cells(self, rows):
        dicts = [{"a": first, 'b"\r\n,': second} for first, second in rows]
        assert list(read_csv(to_buffer(stream(dicts, ["a", 'b"\r\n,'])))) == dicts

    @given(records())
    def test_read_json_gives_the_values(self, drawn):
        header, rows = drawn
        got = list(read_json(to_buffer(stream(rows, header, Json()))))
        assert oracle.same_json(objects(header, [list(row.values()) for row in rows]), got)
