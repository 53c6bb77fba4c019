"""What COPY writes by our SQL expressions is, byte for byte, what the encoders write of Django's values."""

import json
import struct
from datetime import datetime
from importlib.util import find_spec
from math import inf, isfinite, nextafter

import pytest
from django.db import DataError, NotSupportedError, connections, models, transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import _present
from tests.fieldtypes.models import Disguised, Everything
from tests.oracle import named
from tests.strategies import SAFE_EDGES, durations, floats, json_values, texts
from upstream.streaming.columns import OutputColumn
from upstream.streaming.databases.postgresql.copy import SETTINGS
from upstream.streaming.databases.postgresql.expressions import (
    Session,
    csv_expression,
    json_expression,
    json_row,
)
from upstream.streaming.databases.protocol import JsonObjects
from upstream.streaming.encoders.delimited import Csv
from upstream.streaming.encoders.json import JsonLines

if not find_spec("psycopg"):
    pytest.skip("psycopg is not installed", allow_module_level=True)

import psycopg
from django.contrib.postgres import fields as postgres
from psycopg.types.range import Range

from tests.fieldtypes.models import PostgresOnly

pytestmark = pytest.mark.django_db(databases=["default", "postgresql"])

ALIAS = "postgresql"
CSV = "(FORMAT csv, ENCODING 'UTF8')"
JSON_LINES = r"(FORMAT csv, DELIMITER E'\x02', QUOTE E'\x01', ENCODING 'UTF8')"
COUNT = models.BigIntegerField()
# The options of JSON that concern a type.
JSON_OPTIONS = {
    **dict.fromkeys(("numeric", "numeric[]"), ({}, {"decimals": "number"}, {"integers": "safe"})),
    **dict.fromkeys(("int2", "int4", "int8"), ({}, {"integers": "safe"})),
}


@pytest.fixture(autouse=True)
def connection():
    """Give a connection with the settings of an export."""
    connection = connections[_present(ALIAS)]
    with connection.cursor() as cursor:
        for name, value in SETTINGS.items():
            cursor.execute(f"SET LOCAL {name} = '{value}'")
    return connection


class Stored:
    """The values that PostgreSQL makes of literals: one column of a type, numbered."""

    def __init__(self, field, kind, literals, *, timestamptz="utc", change=None):
        self.field, self.kind, self.change = field, kind.partition("(")[0].split(" ")[0], change
        self.has_null = None in literals
        self.session = Session(version=connections[ALIAS].pg_version, timestamptz=timestamptz)
        self.is_json = isinstance(field, models.JSONField)
        query = f"SELECT n, v::{kind} FROM unnest(%s::text[]) WITH ORDINALITY AS t(v, n) ORDER BY n"
        with connections[ALIAS].cursor() as cursor:
            query = psycopg.ClientCursor(cursor.connection).mogrify(query, [literals])
        self.source = f"({query}) AS q(n, c0)"

    def read(self):
        """Return the rows as Django reads them, JSON as the text that querysets select."""
        text = "::text" if self.is_json else ""
        with transaction.atomic(ALIAS), connections[ALIAS].cursor() as cursor:
            cursor.execute(f"SELECT n, c0{text} FROM {self.source}")
            rows = cursor.fetchall()
        change = self.change or (lambda value: value)
        return [(n, None if value is None else change(value)) for n, value in rows]

    def copied(self, expressions, options):
        statement = f"COPY (SELECT {expressions} FROM {self.source}) TO STDOUT {options}"
        connection = connections[ALIAS]
        with transaction.atomic(ALIAS), connection.cursor() as cursor, cursor.cursor.copy(statement) as copy:
            return [bytes(row) for row in copy]

    def encoded(self, encoder, copies):
        columns = [OutputColumn("n"), *(OutputColumn(f"v{copy}", json=self.is_json) for copy in range(copies))]
        rows = [(n, *[value] * copies) for n, value in self.read()]
        return b"".join(encoder.encode(columns, (batch for batch in [rows])))

    @property
    def cell(self):
        converted = self.change is not None
        return csv_expression(self.field, self.kind, "c0", self.session, converted=converted)

    def json_forms(self, row_format):
        older = Session(version=140000, timestamptz=self.session.timestamptz)
        asked = [(self.session, True), (older, True)] + [(self.session, False)] * (not self.has_null)
        return [
            json_expression(
                self.field,
                self.kind,
                "c0",
                session,
                row_format=row_format,
                nullable=nullable,
                converted=self.change is not None,
            )
            for session, nullable in asked
        ]

    def csv(self):
        return b"".join(row.removesuffix(b"\n") + b"\r\n" for row in self.copied(f"n, {self.cell}", CSV))

    def json(self, **options):
        forms = self.json_forms(JsonObjects(**options))
        headers = ["n", *(f"v{copy}" for copy in range(len(forms)))]
        count = json_expression(COUNT, "int8", "n", self.session, nullable=False)
        return b"".join(self.copied(json_row(headers, [count, *forms]), JSON_LINES)), len(forms)

    def check(self):
        assert self.csv() == self.encoded(Csv(header=False), 1)
        for options in JSON_OPTIONS.get(self.kind, [{}]):
            copied, copies = self.json(**options)
            expected = self.encoded(JsonLines(**options), copies)
            if self.kind == "json":  # laid out by its writer: the same values, on a line each
                assert copied.count(b"\n") == expected.count(b"\n")
                copied, expected = (
                    [json.loads(line) for line in text.splitlines()] for text in (copied, expected)
                )
            assert copied == expected


def bits(number):
    return struct.unpack("<d", struct.pack("<Q", number))[0]


# Numbers that lie in the middle of two floats, or nearly, and read as the even one of them.
BETWEEN_FLOATS = st.integers(0, 23).flatmap(
    lambda power: st.builds(
        lambda odd, shift: float(odd * 10**power << shift), st.integers(1, 2**54 // 5**power), st.integers(0, 80)
    )
)
FLOATS = st.one_of(
    floats(),
    st.integers(0, 2**64 - 1).map(bits),
    BETWEEN_FLOATS,
    st.sampled_from([1e23, -6.4e24, 1.6e24, 1e39, 1e40, 1e41, 1e15 + 0.125, 2.0**52 + 0.5, 4.9e-324, 1e-7]),
    st.integers(10**14, 10**17).map(float),
    st.floats(1e14, 1e17),
    st.decimals(-1000, 1000, places=3).map(float),
)


def fractions(value):
    """Write a moment with all digits of its fraction, none, or some."""
    digits = f"{value:%f}"
    return st.integers(0, 6).map(lambda places: value.isoformat(" ", "seconds") + f".{digits[:places]}")


MOMENTS = st.sampled_from(
    [
        *("0001-01-01 00:00:00", "0999-12-31 00:00:00.5", "9999-12-31 23:59:59.999999", "9999-12-31 23:59:59.9"),
        *("2026-01-31 08:15:00", "2026-01-31 08:15:00.25", "2026-01-31 08:15:00.000001", "1969-12-31 23:59:59.1"),
    ]
)
MOMENTS |= st.datetimes().flatmap(fractions)
SPANS = durations(ALIAS).map(
    lambda value: f"{value.days} d {value.seconds} s {value.microseconds} us"
) | st.tuples(
    st.just(0) | st.integers(-3000, 3000),
    st.just(0) | st.integers(-40, 40),
    st.sampled_from([0, 1, -1, 900_000_000, -900_000_000]) | st.integers(-(10**6), 10**6),
    st.sampled_from([0, 1, -1, 86_400_000_000, -86_400_000_001]) | st.integers(-(10**15), 10**15),
).map("{0[0]} years {0[1]} mons {0[2]} days {0[3]} microseconds".format)
SPECIAL = ["NaN", "Infinity", "-Infinity", "0", "0.00", "-0.00", "1.10", "1e-300", "1e300", "1e-16000", "9" * 60]
DECIMALS = st.sampled_from(SPECIAL) | st.decimals(allow_nan=False, allow_infinity=False).map(
    lambda value: format(value, "f")
)
PRICES = st.decimals(-(10**9), 10**9, places=2).map(str)
TEXTS = st.sampled_from(["".join(map(chr, range(1, 0x100))), "\U0001f600\u2028\x7f"]) | texts(ALIAS, 200)
ADDRESSES = st.sampled_from(["10.0.0.1/32", "10.0.0.0/8", "::1/128", "::/0", "::ffff:1.2.3.4"])
ADDRESSES |= st.ip_addresses().map(str)
DEEP = st.integers(1, 200).map(lambda depth: '{"a":[' * depth + "]}" * depth)
DOCUMENTS = st.tuples(json_values(ALIAS, nul=False), st.sampled_from([None, 1, "\t"])).map(
    lambda drawn: json.dumps(drawn[0], indent=drawn[1], ensure_ascii=False).replace("\n", "\r\n")
)
BYTES = (st.sampled_from([b"x" * size for size in (56, 57, 58, 114, 115, 300)]) | st.binary()).map(
    lambda value: "\\x" + value.hex()
)


def integers(size):
    edges = [number for number in SAFE_EDGES if abs(number) < 2**size]
    drawn = st.integers(-(2**size), 2**size - 1)
    return (drawn | st.sampled_from(edges) if edges else drawn).map(str)


CASES = {
    "int2": (models.SmallIntegerField(), integers(15)),
    "int4": (models.PositiveIntegerField(), integers(31)),
    "int8": (models.BigAutoField(), integers(63)),
    "text": (models.TextField(), TEXTS),
    "varchar": (models.SlugField(), TEXTS),
    "bool": (models.BooleanField(), st.booleans().map(str)),
    "float8": (models.FloatField(), FLOATS.map(repr)),
    "float4": (models.FloatField(), st.floats(width=32).map(repr)),
    "numeric": (models.DecimalField(), DECIMALS),
    "numeric(12,2)": (models.DecimalField(), PRICES | st.just("NaN")),
    "date": (models.DateField(), st.sampled_from(["0001-01-01", "9999-12-31"]) | st.dates().map(str)),
    "time": (models.TimeField(), st.datetimes().flatmap(fractions).map(lambda text: text[11:])),
    "timestamptz": (models.DateTimeField(), MOMENTS),
    "timestamp": (models.DateTimeField(), MOMENTS),
    "interval": (models.DurationField(), SPANS),
    "uuid": (models.UUIDField(), st.uuids().map(str)),
    "bytea": (models.BinaryField(), BYTES),
    "jsonb": (models.JSONField(), DOCUMENTS | DEEP),
    "json": (models.JSONField(), DOCUMENTS),
    "inet": (models.GenericIPAddressField(), ADDRESSES),
}


@pytest.mark.parametrize("kind", CASES)
@given(data=st.data())
@settings(max_examples=20)
def test_every_value_of_a_type(kind, data):
    field, values = CASES[kind]
    Stored(field, kind, data.draw(st.lists(values, min_size=1, max_size=60))).check()
    Stored(field, kind, data.draw(st.lists(st.none() | values, min_size=1))).check()


def test_every_power_of_two_and_its_neighbours_are_written_as_repr_does():
    """Below a power of two floats lie twice as close, so that its shortest text may not be the nearest one."""
    powers = [2.0**exponent for exponent in range(-1074, 1024)]
    floats = [near for power in powers for near in (nextafter(power, 0), power, -power, nextafter(power, inf))]
    Stored(models.FloatField(), "float8", [repr(number) for number in floats if isfinite(number)]).check()


def array(values, *, nested=False):
    """Write arrays of one dimension, or two."""
    quoted = st.none() | values
    literals = st.lists(quoted.map(_element), max_size=4).map(lambda items: "{" + ",".join(items) + "}")
    if not nested:
        return literals
    return st.integers(1, 3).flatmap(
        lambda width: st.lists(
            st.lists(quoted.map(_element), min_size=width, max_size=width).map(
                lambda row: "{" + ",".join(row) + "}"
            ),
            max_size=3,
        ).map(lambda rows: "{" + ",".join(rows) + "}")
    )


def _element(text):
    return "NULL" if text is None else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


ELEMENTS = (
    "int2",
    "int4",
    "int8",
    "text",
    "varchar",
    "bool",
    "numeric",
    "date",
    "timestamptz",
    "timestamp",
    "uuid",
)


@pytest.mark.parametrize("kind", ELEMENTS)
@given(data=st.data())
@settings(max_examples=10)
def test_every_array_of_a_type(kind, data):
    field, values = CASES[kind]
    field = postgres.ArrayField(field)
    Stored(field, f"{kind}[]", data.draw(st.lists(st.none() | array(values), min_size=1))).check()
    nested = data.draw(st.lists(array(values, nested=True), min_size=1))
    Stored(postgres.ArrayField(field), f"{kind}[]", nested).check()


def ranges(values):
    """Write ranges with the lower bound first, some of them open, unbounded or empty."""
    bounds = st.tuples(st.none() | values, st.none() | values)
    return st.just("empty") | st.tuples(bounds, st.sampled_from("[("), st.sampled_from(")]")).map(_range)


def _range(drawn):
    (lower, upper), opening, closing = drawn
    if lower is not None and upper is not None:
        lower, upper = sorted((lower, upper))
    return opening + ",".join("" if bound is None else str(bound) for bound in (lower, upper)) + closing


RANGES = {
    "int4range": (postgres.IntegerRangeField(), st.integers(-(2**31), 2**31 - 2)),
    "int8range": (postgres.BigIntegerRangeField(), st.integers(-(2**63), 2**63 - 2)),
    "daterange": (postgres.DateRangeField(), st.dates(max_value=datetime(9999, 12, 30).date())),
    "tstzrange": (postgres.DateTimeRangeField(), MOMENTS.filter(lambda text: text[-1] != ".")),
    "tsrange": (postgres.DateTimeRangeField(), st.datetimes()),
}


@pytest.mark.parametrize("kind", RANGES)
@given(data=st.data())
@settings(max_examples=10)
def test_every_range_of_a_type(kind, data):
    field, values = RANGES[kind]
    Stored(field, kind, data.draw(st.lists(st.none() | ranges(values), min_size=1))).check()


class Created(models.DateTimeField):
    """A field of another class that reads as its base does."""


class Foreign(models.TextField):
    def db_type(self, connection):
        return "xml"


class Listed(models.TextField):
    def get_db_converters(self, connection):
        return [lambda value, expression, connection: [value]]


def naive(value):
    if isinstance(value, list):
        return [None if item is None else naive(item) for item in value]
    if isinstance(value, Range):
        bounds = (None if bound is None else naive(bound) for bound in (value.lower, value.upper))
        return value if value.isempty else Range(*bounds, bounds=value.bounds)
    return value.replace(tzinfo=None)


class TestMomentsOfOtherSessions:
    @given(data=st.data())
    @settings(max_examples=10)
    def test_where_django_reads_naive_ones_they_have_no_offset(self, data):
        field = models.DateTimeField()
        datetimes = st.lists(MOMENTS, min_size=1)
        Stored(field, "timestamptz", data.draw(datetimes), timestamptz="naive", change=naive).check()
        arrays = st.lists(array(MOMENTS), min_size=1)
        Stored(
            postgres.ArrayField(field), "timestamptz[]", data.draw(arrays), timestamptz="naive", change=naive
        ).check()
        field, values = RANGES["tstzrange"]
        drawn = data.draw(st.lists(ranges(values), min_size=1))
        Stored(field, "tstzrange", drawn, timestamptz="naive", change=naive).check()

    @pytest.mark.parametrize("field", [models.DateTimeField(), postgres.DateTimeRangeField()])
    def test_in_another_zone_they_have_no_form(self, field):
        elsewhere = Session(timestamptz=None)
        for kind in ("timestamptz", "tstzrange"):
            assert csv_expression(field, kind, "c0", elsewhere) is None
            assert json_expression(field, kind, "c0", elsewhere) is None
        array = postgres.ArrayField(models.DateTimeField())
        assert csv_expression(array, "timestamptz[]", "c0", elsewhere) is None
        assert csv_expression(models.DateTimeField(), "timestamp", "c0", elsewhere)

    @pytest.mark.parametrize(
        ("use_tz", "zone", "timestamptz"),
        [(True, None, "utc"), (True, "UTC", "utc"), (True, "Asia/Tokyo", None), (False, None, "naive")],
    )
    def test_the_connection_says_how_it_reads_them(self, connection, settings, use_tz, zone, timestamptz):
        settings.USE_TZ, settings.TIME_ZONE = use_tz, "UTC"
        other = connection.copy()
        other.settings_dict = {**other.settings_dict, "TIME_ZONE": zone}
        other.connection = connection.connection  # it knows the version
        assert Session.of(other) == Session(version=connection.pg_version, timestamptz=timestamptz)
        other.connection = None


REFUSED = {
    "date": (models.DateField(), ["infinity", "-infinity", "10000-01-01", "0001-12-31 BC", "5874897-12-31"]),
    "timestamptz": (
        models.DateTimeField(),
        [
            "infinity",
            "-infinity",
            "10000-01-01 00:00",
            "0001-12-31 23:59:59.999999 BC",
            "20000-01-01 00:00:00.12345",
        ],
    ),
    "timestamp": (models.DateTimeField(), ["infinity", "-infinity", "10000-01-01 00:00", "0044-03-15 00:00 BC"]),
    "time": (models.TimeField(), ["24:00:00"]),
    "interval": (
        models.DurationField(),
        ["1000000000 days", "-1000000000 days", "999999999 days 24:00", "-999999999 days -1 us", "3000000 years"],
    ),
    "date[]": (postgres.ArrayField(models.DateField()), ["{2026-01-31,infinity}", "{{10000-01-01},{NULL}}"]),
    "timestamptz[]": (postgres.ArrayField(models.DateTimeField()), ["{-infinity,NULL}", "{10000-01-01 00:00}"]),
    "timestamp[]": (postgres.ArrayField(models.DateTimeField()), ["{0044-03-15 BC}"]),
    "daterange": (postgres.DateRangeField(), ["[2026-01-31,infinity]", "[-infinity,2026-01-31)"]),
    "tstzrange": (postgres.DateTimeRangeField(), ["[2026-01-31,infinity]"]),
}


@pytest.mark.parametrize(
    ("kind", "literal"), [(kind, text) for kind, (_, texts) in REFUSED.items() for text in texts]
)
def test_what_python_cannot_hold_is_an_error_in_both(kind, literal):
    stored = Stored(REFUSED[kind][0], kind, [literal])
    with pytest.raises(DataError):
        stored.read()
    for write in (stored.csv, stored.json):
        with pytest.raises(psycopg.DataError, match="Python cannot represent: "):
            write()


CONVERSIONS = [
    (models.FloatField(), "numeric", PRICES | DECIMALS.filter(lambda text: "e-16000" not in text)),
    (models.FloatField(), "int8", integers(63)),
    (models.DecimalField(), "int4", integers(31)),
    (models.BigIntegerField(), "numeric", PRICES | DECIMALS.filter(lambda text: text[-1].isdigit())),
    (models.PositiveIntegerField(), "int8", integers(63)),
    (models.FloatField(), "float8", FLOATS.map(repr)),
    (models.DecimalField(), "numeric", DECIMALS),
]


class TestConversions:
    """What Expression.convert_value makes of numbers of another type."""

    @pytest.mark.parametrize("case", CONVERSIONS, ids=lambda case: f"{type(case[0]).__name__}-{case[1]}")
    @given(data=st.data())
    @settings(max_examples=10)
    def test_numbers(self, case, data):
        field, kind, values = case
        convert = models.Value(None, output_field=field).convert_value
        drawn = data.draw(st.lists(st.none() | values, min_size=1))
        Stored(field, kind, drawn, change=lambda value: convert(value, None, None)).check()

    @pytest.mark.parametrize(
        ("field", "literal"),
        [(models.IntegerField(), "NaN"), (models.IntegerField(), "Infinity"), (models.FloatField(), "1e400")],
    )
    def test_a_numeric_that_no_integer_or_float_holds_is_an_error(self, field, literal):
        with pytest.raises(psycopg.DataError):
            Stored(field, "numeric", [literal], change=float).csv()

    def test_other_pairs_have_no_form(self):
        for field, kind in (
            (models.IntegerField(), "float8"),
            (models.DecimalField(), "float8"),
            (models.TextField(), "int4"),
            (models.AutoField(), "numeric"),
        ):
            assert csv_expression(field, kind, "c0", Session(), converted=True) is None
        assert csv_expression(models.FloatField(), "numeric", "c0", Session()) is None


def forms_of(model):
    """Return the names of the fields that have a form for the type that their column is."""
    fields = model._meta.concrete_fields
    with connections[ALIAS].cursor() as cursor:
        columns = ", ".join(connections[ALIAS].ops.quote_name(field.column) for field in fields)
        cursor.execute(f"SELECT {columns} FROM {model._meta.db_table} LIMIT 0")
        types = [column.type_code for column in cursor.description]
    found = set()
    for field, kind in zip(fields, types, strict=True):
        forms = csv_expression(field, kind, "c0", Session()), json_expression(field, kind, "c0", Session())
        assert (forms[0] is None) == (forms[1] is None)
        found |= {field.name} if forms[0] else set()
    return found


class TestTheList:
    def test_every_field_of_django_is_on_it(self):
        assert forms_of(Everything) == {field.name for field in Everything._meta.concrete_fields}

    def test_fields_of_postgresql_are_on_it_but_floats_in_arrays_and_ranges_of_decimals(self):
        names = {field.name for field in PostgresOnly._meta.concrete_fields}
        assert forms_of(PostgresOnly) == names - {"grid", "decimal_range"}

    def test_a_field_that_changes_what_it_reads_is_not(self):
        assert forms_of(Disguised) == {"id", "shifted"}  # whose query says what it adds

    @pytest.mark.parametrize(
        ("field", "kind"),
        [
            (Foreign(), "text"),
            (Listed(), "text"),
            (models.JSONField(decoder=json.JSONDecoder), "jsonb"),
            (postgres.ArrayField(models.JSONField()), "jsonb[]"),
            (postgres.ArrayField(Listed()), "text[]"),
            (postgres.HStoreField(), "hstore"),
            (models.TextField(), "xml"),
            (models.TextField(), 194),
            (models.CharField(), "bpchar"),
            (models.CharField(), "uuid"),
            (models.TimeField(), "timetz"),
            (models.IntegerField(), "numeric"),
            (models.IntegerField(), ""),
            (models.Field(), "text"),
            (object(), "text"),
        ],
        ids=named,
    )
    def test_other_pairs_are_not(self, field, kind):
        assert csv_expression(field, kind, "c0", Session()) is None
        assert json_expression(field, kind, "c0", Session()) is None

    @pytest.mark.parametrize(
        ("field", "kind"),
        [
            (models.JSONField(), "jsonb"),
            (models.JSONField(), "json"),
            (postgres.ArrayField(models.BigIntegerField()), "int8[]"),
            (postgres.ArrayField(models.SmallIntegerField()), "int2[]"),
        ],
        ids=named,
    )
    def test_what_holds_integers_inside_is_not_if_the_large_ones_have_to_be_strings(self, field, kind):
        assert json_expression(field, kind, "c0", Session())
        assert json_expression(field, kind, "c0", Session(), row_format=JsonObjects(integers="safe")) is None

    def test_a_field_of_another_class_counts_as_its_base(self):
        assert csv_expression(Created(), 1184, "c0", Session()) == csv_expression(
            models.DateTimeField(), "timestamptz", "c0", Session()
        )


class TestText:
    def test_a_collation_that_takes_other_texts_for_empty_changes_nothing(self, connection):
        try:
            with transaction.atomic(ALIAS), connection.cursor() as cursor:
                cursor.execute(
                    "CREATE COLLATION loose (provider=icu, locale='und@ka=shifted', deterministic=false)"
                )
        except NotSupportedError:
            pytest.skip("this server is built without ICU")
        Stored(models.TextField(), 'text COLLATE "loose"', ["", " ", "-", "a"]).check()

    def test_citext(self, connection):
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'citext'")
            if not cursor.fetchone():
                pytest.skip("this server has no citext")
            cursor.execute("CREATE EXTENSION IF NOT EXISTS citext")
        Stored(models.CharField(), "citext", ["", "A,b", 'a"', None]).check()


class TestRows:
    @given(st.lists(texts(ALIAS), min_size=1, max_size=30, unique=True))
    @settings(max_examples=20)
    def test_headers_of_any_text_and_any_number(self, headers):
        stored = Stored(models.UUIDField(), "uuid", ["00000000-0000-0000-0000-00000000000a", None])
        form = json_expression(stored.field, "uuid", "c0", stored.session)
        columns = [OutputColumn(header) for header in headers]
        rows = [[value] * len(headers) for _, value in stored.read()]
        expected = b"".join(JsonLines().encode(columns, (batch for batch in [rows])))
        assert b"".join(stored.copied(json_row(headers, [form] * len(headers)), JSON_LINES)) == expected
