"""The same export gives the same bytes in every lane, and they are the bytes of what Django itself reads."""

import io
import json
import sqlite3
from contextlib import contextmanager, nullcontext
from dataclasses import MISSING, dataclass, fields
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cached_property
from importlib import import_module
from itertools import cycle, islice, product
from tempfile import NamedTemporaryFile
from uuid import UUID
from zoneinfo import ZoneInfo

import pymupdf_fonts
import pytest
from django.apps import apps
from django.db import DatabaseError, DataError, connections, transaction
from django.db.models import (
    Avg,
    BooleanField,
    Case,
    CharField,
    Count,
    DateField,
    DateTimeField,
    DecimalField,
    DurationField,
    Exists,
    ExpressionWrapper,
    F,
    FilteredRelation,
    FloatField,
    Func,
    IntegerField,
    JSONField,
    Max,
    Min,
    OuterRef,
    Q,
    StdDev,
    Subquery,
    Sum,
    TextField,
    UUIDField,
    Value,
    Variance,
    When,
    Window,
)
from django.db.models.expressions import RawSQL
from django.db.models.fields.json import KT
from django.db.models.functions import (
    Abs,
    Cast,
    Ceil,
    Coalesce,
    Concat,
    ExtractIsoWeekDay,
    ExtractYear,
    FirstValue,
    Greatest,
    JSONObject,
    Lag,
    Length,
    Lower,
    NullIf,
    Rank,
    Round,
    RowNumber,
    Sqrt,
    Trunc,
    TruncDate,
    TruncHour,
    TruncMonth,
    TruncYear,
    Upper,
)
from django.db.models.lookups import GreaterThan, IsNull
from django.db.models.query import ModelIterable
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from tests import oracle
from tests.fieldtypes.models import Disguised, Everything, Odd, Parent, Ticket
from tests.forced_lanes import LANES, in_lane
from tests.strategies import (
    FLOATS,
    MARIADB,
    POSTGRESQL,
    SAFE_EDGES,
    TEXTS,
    Label,
    disguised,
    everything,
    json_null,
    store,
)
from upstream import streaming
from upstream.streaming import Column, Csv, Json, JsonLines, Parquet, Pdf, Xlsx, plan, stream
from upstream.streaming.columns import OutputColumn
from upstream.streaming.databases import mysql, postgresql, sqlite
from upstream.streaming.databases.postgresql import expressions, rendering
from upstream.streaming.sources.keyset import why_not

NAMES = [field.attname for field in Everything._meta.concrete_fields]
DOCUMENTS = {"json", "json_or_null", "parent__details", "sealed", "same_json", "some_json", "made_json"}
PLAIN = [name for name in NAMES if name not in DOCUMENTS]
RELATED = ["id", "parent_id", "parent__id", "parent__name", "ticket_id", "ticket__id", "ticket__code"]
ROME = ZoneInfo("Europe/Rome")


ENCODERS = [
    Csv(),
    Csv(delimiter="1", null_marker="-", quoting="nonnumeric"),
    Csv(profile="excel", decimal_separator=",", delimiter=";", datetime_format="%d.%m.%Y %H:%M:%S.%f"),
    Csv(profile="excel", quote_empty=True),
    Csv(profile="excel", delimiter="\t", bom=False),
    JsonLines(),
    Json(),
    Json(indent=2, decimals="number", time_zone=UTC),
    JsonLines(integers="safe"),
    Xlsx(),
    Xlsx(time_zone=ROME, sheet_rows=7, right_to_left=True),
    Parquet(row_group_rows=3),
]


@dataclass
class Export:
    """A queryset and columns, exported in every way."""

    queryset: object
    columns: list | None = None

    @cached_property
    def names(self):
        return list(plan(self.queryset, self.columns, in_lane(Csv(), "python")).headers)

    @cached_property
    def documents(self):
        return DOCUMENTS.intersection(self.names) if not self.queryset.query.combinator else set()

    @property
    def gives_instances(self):
        return self.queryset._iterable_class is ModelIterable

    def truth(self, encoder):
        """Return what the encoder writes of the values that Django gives.

        The schema of Parquet is not Django's: its bytes are those of the slowest lane, whose values `test_parquet`
        compares with Django's.
        """
        if isinstance(encoder, Parquet):
            return self.written(in_lane(encoder, "python"))
        columns = [OutputColumn(name, json=name in self.documents) for name in self.names]
        encoder.check(columns)
        return b"".join(encoder.encode(columns, (batch for batch in [self.rows()] if batch)))

    def rows(self):
        """Return what Django reads; of documents the text, since it reads SQL NULL and JSON null both as None."""
        nulls = {
            name: f"null_{position}"
            for position, name in enumerate(self.names)
            if name in self.documents and name not in self.queryset.query.annotations
        }
        flags = {flag: IsNull(F(name), True) for name, flag in nulls.items()}
        rows = []
        for record in self.queryset.annotate(**flags) if flags else self.queryset.all():
            row = list(self.values(record))
            for position, name in enumerate(self.names):
                if name in self.documents:
                    is_null = _value(record, nulls[name]) if name in nulls else row[position] is None
                    row[position] = None if is_null else json.dumps(row[position])
            rows.append(tuple(row))
        return rows

    def values(self, record):
        if not self.gives_instances and not isinstance(record, dict | tuple):
            return [record]
        if isinstance(record, tuple):
            if self.columns is None:
                return record[: len(self.names)]
            record = dict(zip(self.queryset._fields, record, strict=False))
        return [_value(record, name) for name in self._sources()]

    def _sources(self):
        if self.columns is None:
            return self.names
        return [column.source if isinstance(column, Column) else column for column in self.columns]

    def written(self, encoder, **options):
        chunks = stream(self.queryset, self.columns, encoder, **options)
        written = b"".join(chunks)
        # Only the server knows whether an expression is of the type that it says it is.
        assert (chunks.plan.lane, chunks.lane) in (("copy", "text"), (chunks.lane, chunks.lane))
        return written

    def by_instances(self):
        """Return the same export with a column that only Python can read; None if there is no such way."""
        if not self.gives_instances or self.queryset.query.combinator or self.queryset.query.distinct:
            return None
        name, *others = self._sources()
        if "__" in name or name in self.queryset.query.annotations:
            return None
        first = Column(lambda row: getattr(row, name), header=self.names[0])
        rest = [Column(name, header=header) for name, header in zip(others, self.names[1:], strict=True)]
        return Export(self.queryset, [first, *rest])

    def check(self, encoder=ENCODERS[0], *, lanes=None, may_fail=False, **options):
        """Assert that all lanes give what Django gives: the same bytes, or where it `may_fail` a failure.

        `lanes` are those of the encoder: to find them takes as long as to write a few rows in one.
        """
        using = self.queryset.db
        expected = _outcome(using, lambda: self.truth(encoder))
        assert may_fail or isinstance(expected, bytes), f"Django has nothing to compare with: {expected}"
        got = {
            lane: _outcome(using, lambda: self.written(in_lane(encoder, lane), **options))  # noqa: B023 (called here)
            for lane in lanes or self.lanes(encoder)
        }
        has_schema = isinstance(encoder, Parquet)  # whose type of a computed column depends on its values
        if (computed := self.by_instances()) and not (self.documents or has_schema):
            got["instances"] = _outcome(using, lambda: computed.written(encoder, **options))
        if self.queryset.ordered and not why_not(self.queryset):
            got["windows"] = _outcome(using, lambda: self.written(encoder, windows=True, **options))
        for lane, outcome in got.items():
            assert self._same(expected, outcome, encoder), self._difference(lane, expected, outcome, encoder)

    def lanes(self, encoder):
        """Return the lanes that `plan` says there are."""
        planned = {lane: plan(self.queryset, self.columns, in_lane(encoder, lane)).lane for lane in LANES}
        assert planned["python"] == "python"
        return [lane for lane in LANES if planned[lane] == lane]

    def _same(self, expected, got, encoder):
        if isinstance(expected, type) or isinstance(got, type):
            return isinstance(expected, type) and isinstance(got, type) and _alike(expected, got)
        if not self.documents:
            return expected == got
        if isinstance(encoder, Pdf):  # JSON may be spelled otherwise, and then its lines end elsewhere
            return got.endswith(b"%%EOF\n")
        positions = [position for position, name in enumerate(self.names) if name in self.documents]
        return oracle.same_json(_parsed(expected, encoder, positions), _parsed(got, encoder, positions))

    def _difference(self, lane, expected, got, encoder):
        text = f"lane {lane}, {encoder}, {self.queryset.query.annotations}"
        if isinstance(expected, bytes) and isinstance(got, bytes):
            if isinstance(encoder, Xlsx):
                pair = [b"".join(oracle.parts_of(data, "xl/worksheets/")) for data in (expected, got)]
                expected, got = (xml.partition(b"<sheetData>")[2] for xml in pair)
            at = next((at for at, pair in enumerate(zip(expected, got, strict=False)) if len({*pair}) > 1), -1)
            expected, got = expected[max(0, at - 80) : at + 80], got[max(0, at - 80) : at + 80]
        return f"{text}\nDjango: {expected!r}\nlane:   {got!r}"


def _value(record, name):
    """Read a name as Django's users do."""
    if isinstance(record, dict):
        return record[name]
    if isinstance(record, tuple):
        return record[-1]
    for part in name.split("__"):
        record = None if record is None else getattr(record, part)
    return record


def _outcome(using, make):
    """Return what is made, or the type of the exception."""
    inside = connections[using].in_atomic_block
    try:
        with transaction.atomic(using) if inside else nullcontext():
            return make()
    except Exception as error:  # whatever it is, it is what has to be alike
        if isinstance(error, AssertionError):
            raise
        return type(error)


ZONES = (None, UTC, ROME)
OWN_FONT = NamedTemporaryFile(suffix=".ttf")  # noqa: SIM115 (it goes with the process)
OWN_FONT.write(pymupdf_fonts.fontbuffers["ubuntu"]())
OWN_FONT.flush()
# The values of every option of every encoder; `test_every_option_of_every_encoder_is_tried` holds them complete.
OPTIONS = {
    Csv: {
        "delimiter": tuple(",;\t|e1'\\ é"),
        "quoting": ("minimal", "all", "nonnumeric"),
        "null_marker": ("", "", "NULL", "\\N", "-", "True"),
        "quote_empty": (False, True),
        "header": (True, False),
        "lineterminator": ("\r\n", "\n"),
        "encoding": ("utf-8", "utf-16", "cp1252", "iso2022_jp"),
        "bom": (None, True, False),
        "profile": ("data", "excel"),
        "time_zone": ZONES,
        "timespec": ("auto", "microseconds"),
        "decimal_separator": (".", ","),
        "date_format": ("", "%d/%m/%Y"),
        "datetime_format": ("", "%d.%m.%Y %H:%M:%S.%f%z"),
    },
    Json: {
        "indent": (None, 0, 2, "\t"),
        "separators": (None, (", ", ": ")),
        "decimals": ("string", "number"),
        "integers": ("number", "safe"),
        "time_zone": ZONES,
    },
    JsonLines: {"decimals": ("string", "number"), "integers": ("number", "safe"), "time_zone": ZONES},
    Xlsx: {
        "header": (True, False),
        "sheet": (None, "Été & it's"),
        "sheet_rows": (1_048_576, 3),
        "time_zone": ZONES,
        "number_formats": ({}, {"decimal": "#,##0.00", "floating": "0", "datetime": 'd mmmm yyyy "<&>"'}),
        "totals": ((), ("decimal", "integer", "floating")),
        "long_texts": ("error", "cut"),
        "right_to_left": (False, True),
        "title": ("", "Zürich & <co>"),
        "author": ("", "Ada"),
    },
    Pdf: {
        "title": ("", "Drift"),
        "author": ("", "Zoë"),
        "subject": ("", "payers"),
        "language": ("", "de"),
        "created": (None, datetime(2026, 1, 31, tzinfo=UTC)),
        "page_size": ("A4", (300, 400)),
        "orientation": ("auto", "portrait", "landscape"),
        "font_size": (None, 7.5),
        "fonts": ((), (OWN_FONT.name,)),
        "page_label": ("Page {page} of {pages}", ""),
        "empty_text": ("No rows", ""),
        "tagged": (False, True),
        "archival": (False, True),
        "right_to_left": (False, True),
        "time_zone": ZONES,
        "decimal_separator": (".", ","),
        "date_format": ("", "%d/%m/%Y"),
        "datetime_format": ("", "%d.%m.%Y %H:%M:%S.%f%z"),
    },
    Parquet: {
        "types": (None, {}),
        "compression": ("zstd", "snappy", "gzip", "lz4", "none"),
        "compression_level": (None, 1, 9),
        "row_group_rows": (131_072, 1, 2),
        "row_group_bytes": (16 * 1024 * 1024, 1, 500),
    },
}


def encoders(names):
    """Draw encoders with all their options, or with those that COPY takes, fit for columns of those names."""
    return st.one_of(
        *(drawn_encoder(kind, names, OPTIONS[kind]) for kind in OPTIONS),
        *(
            drawn_encoder(kind, names, kind.lane_options["copy"])
            for kind in OPTIONS
            if "copy" in kind.lane_options
        ),
    )


def drawn_encoder(kind, names, options):
    values = st.fixed_dictionaries({name: st.sampled_from(OPTIONS[kind][name]) for name in options})
    return values.map(lambda chosen: kind(**fitting(kind, chosen, names)))


def fitting(kind, options, names):
    """Return the options without those that the others, or a single column, rule out."""
    options = dict(options)
    if kind is Csv and options.get("profile") != "excel":
        for name in ("decimal_separator", "date_format", "datetime_format"):
            options.pop(name, None)
    if options.get("delimiter", ",") in options.get("null_marker", ""):
        del options["null_marker"]
    if options.get("bom") is not None:
        options.pop("encoding", None)
    if len(names) == 1:
        options.pop("quote_empty", None)
    for name, kind in {"number_formats": dict, "totals": tuple}.items():
        if given := options.get(name):
            known = [header for header in given if header in names]
            options[name] = kind((header, given[header]) for header in known) if kind is dict else tuple(known)
    if options.get("compression") in ("snappy", "lz4", "none"):
        options.pop("compression_level", None)
    return options


def single_options():
    """Yield every encoder that differs from its default in one option."""
    for kind, options in OPTIONS.items():
        for option in fields(kind):
            for value in options[option.name]:
                for_people = kind is Csv and option.name in Csv.lane_options["text"][-3:]
                chosen = {"profile": "excel"} if for_people else {}
                if value != default_of(option):
                    yield kind(**chosen, **{option.name: value})


def default_of(option):
    return option.default if option.default_factory is MISSING else option.default_factory()


def _alike(expected, got):
    """Whether two failures are one: what the database says, it may say at another moment, by another name."""
    return expected is got or (issubclass(expected, DatabaseError) and issubclass(got, DatabaseError))


def _parsed(data, encoder, positions):
    """Return the rows with their JSON cells read, and all other cells as they were written."""
    if isinstance(encoder, Json):
        return json.loads(data)
    if isinstance(encoder, JsonLines):
        return [json.loads(line) for line in data.splitlines()]
    if isinstance(encoder, Xlsx):
        return _sheets(data, encoder, positions)
    if isinstance(encoder, Parquet):
        rows = [list(row.values()) for row in parquet.read_table(io.BytesIO(data)).to_pylist()]
        for row in rows:
            for position in positions:
                row[position] = {"null": True} if row[position] is None else [json.loads(row[position])]
        return list(map(repr, rows))  # which tells NaN, and apart what is equal in Python
    rows = _records(
        data.decode(encoder.encoding).removeprefix("\ufeff"), encoder.delimiter, encoder.lineterminator
    )
    for row in rows[encoder.header :]:
        for position in positions:
            text = row[position]
            text = text[1:-1].replace('""', '"') if text[:1] == '"' else text
            row[position] = {"null": True} if text in ("", encoder.null_marker) else [json.loads(text)]
    return rows


def _sheets(data, encoder, positions):
    """Return the cells of each sheet, with those of JSON read, for which lanes may find other widths."""
    sheets = []
    for rows in oracle.sheets_of(data):
        for row in rows[encoder.header :]:
            for position in positions:
                row[position] = {"null": True} if row[position] is None else [json.loads(row[position])]
        sheets.append(rows)
    return sheets


def _records(text, delimiter, end):
    """Split delimited text into records of cells with the quotes they have."""
    rows, row, start, quoted = [], [], 0, False
    for at, character in enumerate(text):
        if character == '"':
            quoted = not quoted
        elif not quoted and (character == delimiter or text.startswith(end, at)):
            row.append(text[start:at])
            start = at + (1 if character == delimiter else len(end))
            if character != delimiter:
                rows.append(row)
                row = []
    assert text[start:] == ""
    return rows


DEEP = json.loads("[" * 60 + "]" * 60)
# fmt: off
MOMENTS = [
    datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999), datetime(2026, 1, 31, 8, 15),
    datetime(2026, 1, 31, 8, 15, 0, 250000), datetime(1969, 12, 31, 23, 59, 59, 1), datetime(2025, 10, 26, 0, 30),
    datetime(999, 12, 31, 1), datetime(2026, 3, 29, 1, 0, 0, 100000),
]
SPANS = [
    timedelta(0), timedelta(microseconds=-1), timedelta(days=-1, seconds=1), timedelta(days=400, microseconds=10),
    timedelta(microseconds=2**63 - 1), timedelta(microseconds=1 - 2**63), timedelta(hours=25), -timedelta(days=3),
]
DOUBLES = [
    *FLOATS, 2.5e-5, -1e-7, 1e21, 1e23, 123456789.123456789, 1.0e14, 9.999999999999998e15, 0.1 + 0.2, 1e100,
    float("nan"), float("inf"), float("-inf"),
]
DECIMALS = [
    "0", "-0", "1", "-1", "1000", "99999999999999.999999", "-99999999999999.999999", "0.000001", "-0.000001",
    "12345678.9", "1234567890.123456", "0.1", "0.3", "999999999.999999",
]
JSONS = [
    {}, [], "", "a", 0, 1.5, -0.0, 1e22, 2**64, -(2**70), True, False, {"a": [1, {"b": None}]}, {"é": "😀"},
    [[[[]]]], {"a": "x", "b": 1}, {"a": 2}, {"a": {"c": "y\r\n"}}, "\\.", "NULL", {"%s": "%"},
    [0.1, 1e-7, 5e-324, 2**53 + 1], {"é": [2**53 - 1, {str(2**60): -(2**53), "a": f'", {2**53}, "'}]}, -(2**53),
    DEEP,
]
EDGES = {
    BooleanField: [True, False],
    FloatField: DOUBLES,
    DateField: [date(1, 1, 1), date(9999, 12, 31), date(2026, 1, 31), date(1969, 12, 31), date(999, 1, 1)],
    DateTimeField: [moment.replace(tzinfo=UTC) for moment in MOMENTS],
    DurationField: SPANS,
    UUIDField: [UUID(int=0), UUID(int=2**127 + 5), UUID("12345678-1234-5678-9234-567812345678")],
    JSONField: JSONS,
}
# fmt: on
INTEGERS = {
    "SmallIntegerField": (-(2**15), 2**15 - 1),
    "IntegerField": (-(2**31), 2**31 - 1),
    "BigIntegerField": (-(2**63), 2**63 - 1),
    "PositiveSmallIntegerField": (0, 2**15 - 1),
    "PositiveIntegerField": (0, 2**31 - 1),
    "PositiveBigIntegerField": (0, 2**63 - 1),
}


def edges(field, vendor):
    """Return what a field holds that could go wrong."""
    kind = field.get_internal_type()
    if field.choices:
        values = [value for value, _ in field.choices]
    elif kind in INTEGERS:
        low, high = INTEGERS[kind]
        values = [low, high, 0, 1, 7, 100, 10, *(number for number in SAFE_EDGES if low <= number <= high)]
    elif kind == "DecimalField":
        largest = Decimal(10) ** (field.max_digits - field.decimal_places - (vendor == "sqlite"))
        values = [value for text in DECIMALS if abs(value := Decimal(text)) < largest]
        values = [round(value, field.decimal_places) for value in values if abs(value) < largest - 1]
    elif kind == "TimeField":
        values = [time(0), time(23, 59, 59, 999999), time(8, 15), time(8, 15, 0, 10), time(1, 2, 3, 400000)]
    elif kind == "BinaryField":
        values = [b"", b"\x00\xff", b"=1", b"x" * 60]
    elif kind == "GenericIPAddressField":
        values = ["0.0.0.0", "10.0.0.1"] + ["::", "::1", "::ffff:10.0.0.1"] * (field.protocol != "IPv4")
    else:
        known = next((EDGES[base] for base in EDGES if kind == base.__name__), TEXTS)
        values = [
            value for value in known if not isinstance(value, str) or len(value) <= (field.max_length or 200)
        ]
    values = [value for value in values if _is_held(value, vendor)]
    return [None, *values] if field.null else values


def _is_held(value, vendor):
    if isinstance(value, float):
        return repr(value) not in {"sqlite": ("nan",), MARIADB: ("nan", "inf", "-inf", "-0.0")}.get(vendor, ())
    if vendor == MARIADB and value == DEEP:  # it refuses more than 32 levels
        return False
    return not (vendor == POSTGRESQL and isinstance(value, str) and "\x00" in value)


MOST_EDGES = len(TEXTS) + 1


def edge_rows(vendor, count=MOST_EDGES):
    """Return unsaved rows that together hold the edges of all fields, in other company in each row."""
    stored = [
        field
        for field in Everything._meta.concrete_fields
        if not (field.primary_key or field.generated or field.is_relation)
    ]
    columns = [islice(cycle(edges(field, vendor)), count) for field in stored]
    names = [field.name for field in stored]
    rows = [Everything(**dict(zip(names, values, strict=True))) for values in zip(*columns, strict=True)]
    for number, row in enumerate(rows):
        if number % 3:
            row.parent = Parent(name=row.char, details=[None, json_null(), row.json][number // 3 % 3])
        if number % 4 == 1:
            row.ticket = Ticket(id=UUID(int=2**127 + number), code=row.text[:20])
        if number % 5 == 1:
            row.json_or_null = json_null()
    return rows


def _same_as(name):
    """Return an expression of the field's own type, which is no column."""
    return Case(When(pk__gt=0, then=F(name)))


def _aggregates(rows, *groups):
    counts = {
        "count": Count("pk"),
        "some": Count("char", filter=Q(integer__gt=0), distinct=True),
        "total": Sum("small_integer"),
        "average": Avg("small_integer"),
        "average_decimal": Avg("whole_decimal"),
        "price": Sum("decimal"),
        "first": Min("date"),
        "last": Max("datetime_or_null"),
        "longest": Max("duration"),
        "clock": Min("time"),
        "least": Min("floating_or_null"),
        "most": Max("decimal_or_null"),
        "text": Max("text"),
    }
    return rows.values(*groups).annotate(**counts).order_by(*groups)


def _constants(rows):
    return rows.values(
        "id",
        words=Value('a "b", %s\r\n'),
        number=Value(1),
        big=Value(2**40),
        price=Value(Decimal("1.50")),
        truth=Value(True),
        nothing=Value(None, output_field=CharField()),
        no_date=Value(None, output_field=DateField()),
        day=Value(date(2026, 1, 31)),
        clock=Value(time(8, 15)),
        span=Value(timedelta(hours=1, microseconds=5)),
        key=Value(UUID(int=5)),
        ratio=Value(1.5),
        whole_ratio=Value(2.0),
        blob=Value(b"\x00\xff"),
    )


def _arithmetic(rows):
    rows = rows.filter(date__year__range=(1900, 2100), datetime__year__range=(1900, 2100))
    hour = timedelta(hours=1, microseconds=50)
    return rows.values(
        "id",
        plus=F("small_integer") + 1,
        minus=F("small_integer") * -2,
        half=F("small_integer") / 2,
        rest=F("small_integer") % 7,
        times=ExpressionWrapper(F("decimal") * 2, DecimalField(max_digits=25, decimal_places=6)),
        ratio=F("positive_small") / Value(7.0),
        mixed=ExpressionWrapper(F("small_integer") * 1.5, FloatField()),
        later=F("datetime") + hour,
        next_day=ExpressionWrapper(F("date") + timedelta(days=1), DateTimeField()),
        between=F("datetime") - F("datetime"),
        since=ExpressionWrapper(F("datetime") - Value(datetime(2026, 1, 1, tzinfo=UTC)), DurationField()),
        days=ExpressionWrapper(F("date") - F("date"), DurationField()),
    )


def _casts(rows):
    return rows.filter(datetime__year__range=(1900, 2100)).values(
        "id",
        number_text=Cast("integer", CharField()),
        key_text=Cast("uuid", CharField()),
        day=Cast("datetime", DateField()),
        moment=Cast("date", DateTimeField()),
        ratio=Cast("small_integer", FloatField()),
        exact=Cast("small_integer", DecimalField(max_digits=12, decimal_places=3)),
        truth=Cast("boolean", IntegerField()),
        whole=Cast("whole_decimal", IntegerField()),
        words=Cast("text", TextField()),
    )


def _functions(rows):
    return rows.values(
        "id",
        shout=Upper("text"),
        whisper=Lower("text_or_null"),
        length=Length("text"),
        joined=Concat("char", Value(", 100% "), "char_or_null"),
        filled=Coalesce("char_or_null", "char", Value("%s")),
        number=Coalesce("integer_or_null", 0),
        ratio=Coalesce("floating_or_null", 0.0),
        price=Coalesce("decimal_or_null", Decimal("1.500000")),
        day=Coalesce("date_or_null", date(2026, 1, 31)),
        key=Coalesce("uuid_or_null", "uuid"),
        flag=Coalesce("boolean_or_null", False),
        size=Abs("positive_small"),
        up=Ceil("whole_decimal"),
        rounded=Round("whole_decimal"),
        root=Sqrt("positive_small"),
        no_empty=NullIf("char", Value("")),
        greater=Greatest("date", "date_or_null"),
    )


def _conditions(rows):
    return rows.values(
        "id",
        sign=Case(When(integer__lt=0, then=Value("-")), When(integer=0, then=Value("")), default=Value("+")),
        flag=Case(When(boolean=True, then=F("boolean_or_null"))),
        day=Case(When(boolean=True, then=F("date"))),
        moment=Case(When(boolean=True, then=F("datetime"))),
        key=Case(When(boolean=True, then=F("uuid"))),
        price=Case(When(boolean=True, then=F("decimal")), default=Value(Decimal(1))),
        blob=Case(When(boolean=True, then=F("binary"))),
        clock=Case(When(boolean=True, then=F("time"))),
        span=Case(When(boolean=True, then=F("duration"))),
        is_large=GreaterThan(F("integer"), 0),
        is_null=IsNull(F("text_or_null"), True),
        either=ExpressionWrapper(Q(boolean=True) | Q(integer=0), BooleanField()),
    )


def _subqueries(rows):
    same = Everything.objects.using(rows.db).filter(pk=OuterRef("pk"))
    siblings = Everything.objects.using(rows.db).filter(parent=OuterRef("parent")).order_by()
    one = {name: Subquery(same.values(name)[:1]) for name in PLAIN if name != "id"}
    return rows.values(
        "id",
        has_siblings=Exists(siblings.exclude(pk=OuterRef("pk"))),
        siblings=Subquery(siblings.values("parent").annotate(n=Count("pk")).values("n")),
        **{f"one_{name}": query for name, query in one.items()},
    )


def _windows(rows):
    by_flag = {"partition_by": "boolean", "order_by": "pk"}
    return rows.values(
        "id",
        number=Window(RowNumber(), order_by="pk"),
        rank=Window(Rank(), **by_flag),
        before=Window(Lag("date"), **by_flag),
        key_before=Window(Lag("uuid"), **by_flag),
        first=Window(FirstValue("datetime"), **by_flag),
        price=Window(Sum("decimal"), **by_flag),
        total=Window(Sum("small_integer"), **by_flag),
        average=Window(Avg("small_integer"), **by_flag),
    )


def _truncations(rows):
    rows = rows.filter(date__year__range=(1900, 2100), datetime__year__range=(1900, 2100))
    zoned = {"tzinfo": ROME} if connections[rows.db].vendor != MARIADB else {}  # its table of zones may be empty
    return rows.values(
        "id",
        month=TruncMonth("date"),
        year=TruncYear("datetime"),
        hour=TruncHour("datetime", **zoned),
        day=TruncDate("datetime", **zoned),
        second=Trunc("datetime", "second"),
        number=ExtractYear("date"),
        weekday=ExtractIsoWeekDay("datetime", **zoned),
        moment_year=F("datetime__year"),
        clock_hour=F("time__hour"),
    )


def _keys(rows):
    return rows.values(
        "id",
        "json__a",
        "json__a__b",
        "json_or_null__0",
        words=KT("json__a"),
        has=Case(When(json__has_key="a", then=Value(True)), default=Value(False)),
    )


def _named_as_joined_column(rows):
    return rows.filter(parent__name__gte="").annotate(name=Upper("text")).order_by("name", "pk")


def _combined(name):
    def shape(rows):
        names = [one for one in PLAIN if connections[rows.db].vendor != MARIADB or one != "binary"]
        one, other = rows.order_by().values_list(*names), rows.order_by().filter(boolean=True).values_list(*names)
        arguments = {"all": True} if name == "union all" else {}
        return getattr(one, name.split()[0])(other, **arguments).order_by("id")

    return shape


def _union_of_instances(rows):
    rows = rows.order_by()
    return Export(rows.union(rows.filter(boolean=True), all=True).order_by("id"), PLAIN)


def _arrays(rows):
    aggregates = import_module("django.contrib.postgres.aggregates")
    return (
        rows.values("boolean")
        .annotate(
            numbers=aggregates.ArrayAgg("integer", order_by="pk"),
            words=aggregates.ArrayAgg("text", order_by="pk"),
            keys=aggregates.ArrayAgg("uuid", order_by="pk"),
            moments=aggregates.ArrayAgg("datetime", order_by="pk"),
            every=aggregates.BoolAnd("boolean_or_null"),
            made_json=aggregates.JSONBAgg("json", order_by="pk"),
        )
        .order_by("boolean")
    )


SHAPES = {
    "all fields": lambda rows: rows.only(*PLAIN),
    "fields in another order": lambda rows: Export(rows, PLAIN[::-1]),
    "a column twice": lambda rows: Export(rows, ["id", "uuid", Column("uuid", header="key"), "decimal"]),
    "a single column": lambda rows: Export(rows, ["text_or_null"]),
    "relations": lambda rows: Export(rows, RELATED),
    "select_related": lambda rows: Export(rows.select_related("parent", "ticket"), RELATED),
    "deferred": lambda rows: rows.defer("json", "json_or_null", "char", "uuid"),
    "sliced": lambda rows: rows.only(*PLAIN)[2:9],
    "reversed": lambda rows: rows.only(*PLAIN).reverse(),
    "no rows": lambda rows: rows.only(*PLAIN).none(),
    "no match": lambda rows: rows.only(*PLAIN).filter(pk__lt=0),
    "distinct": lambda rows: Export(rows.distinct(), ["boolean", "uuid", "datetime"]),
    "distinct values": lambda rows: (
        rows.values("boolean", "uuid", "floating").distinct().order_by("uuid", "boolean", "floating")
    ),
    "values": lambda rows: rows.values(*PLAIN),
    "values in another order": lambda rows: Export(rows.values_list(*PLAIN), PLAIN[::-1]),
    "flat values": lambda rows: rows.values_list("decimal", flat=True),
    "named values": lambda rows: rows.values_list("uuid", "datetime", named=True),
    "values of relations": lambda rows: rows.values_list(*RELATED),
    "values of the other end": lambda rows: (
        Parent.objects.using(rows.db)
        .order_by("pk", "children__pk")
        .values("name", "children__uuid", "children__boolean", "children__datetime", "children__decimal")
    ),
    "ordered by an annotation named as a column": lambda rows: (
        rows.values("id", "date").annotate(char=Lower("text"), uuid=F("uuid_or_null")).order_by("char", "id")
    ),
    "ordered by an annotation named as a joined column": _named_as_joined_column,
    "annotated with its own expressions": lambda rows: rows.values(
        "id", **{f"same_{name}": _same_as(name) for name in PLAIN}
    ),
    "annotated with its own columns": lambda rows: rows.values(
        "id", **{f"same_{name}": F(name) for name in PLAIN}
    ),
    "annotated instances": lambda rows: Export(
        rows.annotate(key=_same_as("uuid"), size=Length("text"), flag=F("boolean")),
        ["id", "key", "size", "flag", "uuid"],
    ),
    "aliases": lambda rows: Export(rows.alias(size=Length("text")).filter(size__gt=2), ["id", "text", "uuid"]),
    "union": _combined("union"),
    "union all": _combined("union all"),
    "intersection": _combined("intersection"),
    "difference": _combined("difference"),
    "union of instances": _union_of_instances,
    "groups": lambda rows: _aggregates(rows, "boolean"),
    "groups of two": lambda rows: _aggregates(rows, "boolean", "level"),
    "groups by an expression": lambda rows: (
        rows.values(size=Length("text")).annotate(n=Count("pk"), key=Max("date")).order_by("size")
    ),
    "groups of relations": lambda rows: (
        Parent.objects.using(rows.db)
        .annotate(
            n=Count("children"),
            last=Max("children__datetime"),
            mean=Avg("children__small_integer"),
            price=Sum("children__decimal"),
        )
        .order_by("pk")
        .values("name", "n", "last", "mean", "price")
    ),
    "spreads": lambda rows: (
        rows.values("boolean")
        .annotate(spread=StdDev("integer"), variance=Variance("floating", filter=Q(floating__range=(-9, 9))))
        .order_by("boolean")
    ),
    "out of range": lambda rows: rows.values("id", huge=F("floating") * 1e300),
    "having": lambda rows: rows.values("level").annotate(n=Count("pk")).filter(n__gt=1).order_by("level"),
    "constants": _constants,
    "a constant moment": lambda rows: rows.values("id", moment=Value(datetime(2026, 1, 31, 8, 15, tzinfo=UTC))),
    "arithmetic": _arithmetic,
    "casts": _casts,
    "functions": _functions,
    "conditions": _conditions,
    "subqueries": _subqueries,
    "windows": _windows,
    "filtered by a window": lambda rows: (
        rows.annotate(number=Window(RowNumber(), partition_by="boolean", order_by="pk"))
        .filter(number__lte=2)
        .values("id", "number", "uuid", "datetime", "decimal", "boolean", "date")
        .order_by("id")
    ),
    "truncations": _truncations,
    "keys of documents": _keys,
    "documents": lambda rows: Export(rows, ["id", "json", "json_or_null", "parent__details", "uuid"]),
    "documents as values": lambda rows: rows.values("id", "json", "json_or_null", "decimal"),
    "documents by expressions": lambda rows: rows.values(
        "id",
        same_json=F("json_or_null"),
        some_json=Coalesce("json_or_null", Value({"none": 1}, JSONField())),
        made_json=JSONObject(id="id", text="slug"),
    ),
    "raw SQL": lambda rows: rows.annotate(
        one=RawSQL("small_integer + %s", (1,)),
        key=RawSQL("uuid", (), UUIDField()),
        day=RawSQL("date", (), DateField()),
    ).values("id", "one", "key", "day"),
    "extra": lambda rows: rows.extra(
        select={"more": "small_integer + 1", "day": "date", "percent": "'100%%'", "given": "%s"},
        select_params=["5%"],
    ).values("id", "more", "day", "percent", "given", "uuid"),
    "extra of instances": lambda rows: Export(
        rows.extra(select={"more": "small_integer + 1", "moment": "datetime"}), ["id", "more", "moment", "uuid"]
    ),
    "filtered relations": lambda rows: rows.annotate(
        kin=FilteredRelation("parent", condition=Q(parent__name__contains="a"))
    ).values("id", "kin__name", "kin__id"),
    "percent signs": lambda rows: Export(
        rows.filter(Q(text__contains="%") | Q(text__startswith="1%") | Q(char__endswith="%x") | Q(text="%s")),
        ["id", "text", "char"],
    ),
    "dates": lambda rows: rows.dates("date", "month"),
    "moments": lambda rows: rows.filter(datetime__year__gt=1900, datetime__year__lt=2100).datetimes(
        "datetime", "hour", tzinfo=UTC
    ),
}
ONLY_POSTGRESQL = {
    "distinct on": lambda rows: Export(rows.order_by("boolean", "-pk").distinct("boolean"), PLAIN),
    "aggregated arrays": _arrays,
    "floats of numerics": lambda rows: (
        rows.filter(floating__range=(-9, 9))
        .values("boolean")
        .annotate(mean=Avg("floating"), part=Avg("decimal", output_field=FloatField()))
        .order_by("boolean")
    ),
    "undecided types": lambda rows: rows.values(
        "id",
        some=Func(Value("a"), Value("b"), function="concat", output_field=TextField()),
        wide=Sum("big_integer"),
        words=Cast("slug", CharField(max_length=2)),
    ).order_by("id"),
}


def exports(rows):
    """Return the exports of all shapes, by name."""
    known = SHAPES | (ONLY_POSTGRESQL if connections[rows.db].vendor == POSTGRESQL else {})
    made = {name: shape(rows) for name, shape in known.items()}
    return {name: one if isinstance(one, Export) else Export(one) for name, one in made.items()}


@contextmanager
def stored(rows, using):
    """Hold rows in the database: inside the caller's transaction if there is one, else committed and deleted."""
    inside = connections[using].in_atomic_block
    with transaction.atomic(using) if inside else nullcontext():
        try:
            yield store(rows, using)
        finally:
            if inside:
                transaction.set_rollback(True, using=using)
            else:
                for model in (Everything, Parent, Ticket):
                    model.objects.using(using).all().delete()


def check_shapes(using):
    """Hold every shape to Django, over rows that have the edges of every field; PostgreSQL renders what it can."""
    with stored(edge_rows(connections[using].vendor), using) as rows:
        for name, export in exports(rows).items():
            for encoder in (Csv(), JsonLines(), Xlsx()):
                is_copied = connections[using].vendor == POSTGRESQL and name not in NOT_COPIED
                is_copied = is_copied and not (isinstance(encoder, Csv) and len(export.names) == 1)
                lanes = export.lanes(encoder)
                assert ("copy" in lanes) == is_copied, name
                export.check(encoder, lanes=lanes, may_fail=name in FAILING)


FAILING = {"out of range", "a constant moment"}  # on PostgreSQL and MariaDB; on MariaDB
NOT_COPIED = {
    "no rows", "union of instances", "dates", "moments", "truncations", "keys of documents",
    "documents by expressions", "raw SQL", "extra", "extra of instances", "aggregated arrays",
}  # fmt: skip


class TestShapes:
    @pytest.mark.heavy_with("default", "mariadb")
    def test_in_a_transaction(self, database):
        check_shapes(database)

    def test_outside(self, transactional_database):
        """Here MariaDB's driver gives text, and PostgreSQL a snapshot of the export's own."""
        check_shapes(transactional_database)

    def test_names_that_have_to_be_quoted(self, database):
        parent = Parent.objects.using(database).create(name='100% "p"')
        odd = Odd(order="100%", select=UUID(int=7), parent=parent)
        Odd.objects.using(database).bulk_create([odd, Odd(order="%s", select=UUID(int=8))])
        odds = Odd.objects.using(database).order_by("pk")
        for rows in (
            odds,
            odds.filter(order__contains="%"),
            odds.values("select", "parent__name", size=Length("order")),
        ):
            Export(rows).check()
            Export(rows).check(JsonLines())

    def test_which_exports_postgresql_renders(self, database):
        if connections[database].vendor != POSTGRESQL:
            pytest.skip("only PostgreSQL renders rows")
        with stored(edge_rows(POSTGRESQL, 3), database) as rows, copies() as rendered:
            encoders = [Csv(), Csv(lineterminator="\n", delimiter="\t"), Json(), JsonLines()]
            for count, encoder in enumerate(encoders, 1):
                Export(rows.values(*PLAIN)).written(encoder)
                assert len(rendered) == count
            Export(rows.values("pk", "floating", "decimal")).written(Csv(profile="excel"))
            assert len(rendered) == len(encoders) + 1
            Export(rows.values("pk", "text")).written(Csv(profile="excel"))  # may start a formula
            assert len(rendered) == len(encoders) + 1


@contextmanager
def copies():
    """Give a list of the COPY statements that run."""
    statements = []
    kind = rendering.CopyReader

    class Seen(kind):
        def __init__(self, connection, sql, **options):
            statements.append(sql)
            super().__init__(connection, sql, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rendering, "CopyReader", Seen)
        yield statements


class TestOptions:
    def test_postgresql_renders_large_integers_as_strings_but_not_those_inside_of_others(self, database):
        if connections[database].vendor != POSTGRESQL:
            pytest.skip("only PostgreSQL renders rows")
        rows = Everything.objects.using(database)
        for encoder in (Json(integers="safe"), JsonLines(integers="safe")):
            assert plan(rows, ["id", "big_integer", "decimal"], encoder).lane == "copy"
            with_json = plan(rows, ["id", "json"], encoder)
            assert with_json.lane == "text"
            assert with_json.reason.endswith("integers inside column 'json' are compared in Python")

    def test_every_option_of_every_encoder_is_tried(self):
        public = [getattr(streaming, name) for name in streaming.__all__]
        assert OPTIONS.keys() == {kind for kind in public if hasattr(kind, "encode")}
        for kind, options in OPTIONS.items():
            assert options.keys() == {option.name for option in fields(kind)}
            for option in fields(kind):
                assert default_of(option) in options[option.name]
                assert any(value != default_of(option) for value in options[option.name])

    @pytest.mark.heavy_with("mariadb", "postgresql")
    def test_one_at_a_time(self, database):
        with stored(edge_rows(connections[database].vendor, 4), database) as rows:
            export = Export(rows.only(*PLAIN))
            for encoder in single_options():
                export.check(encoder, may_fail=True)

    @pytest.mark.parametrize("encoder", ENCODERS, ids=lambda encoder: type(encoder).__name__)
    def test_over_the_edges_of_every_field(self, database, encoder):
        with stored(edge_rows(connections[database].vendor), database) as rows:
            Export(rows.only(*PLAIN)).check(encoder)

    @given(st.data())
    @settings(max_examples=15)
    def test_of_drawn_rows_in_a_transaction(self, database, data):
        self.check(database, data)

    @given(st.data())
    @settings(max_examples=15)
    def test_of_drawn_rows_outside(self, transactional_database, data):
        self.check(transactional_database, data)

    def check(self, using, data):
        with stored(data.draw(everything(connections[using].vendor)), using) as rows:
            drawn = exports(rows)
            export = drawn[data.draw(st.sampled_from(["all fields", *drawn]), label="shape")]
            encoder = data.draw(encoders(export.names), label="encoder")
            chunk_size = data.draw(st.sampled_from([1, 2, 2000]), label="chunk_size")
            export.check(encoder, may_fail=True, chunk_size=chunk_size)  # the ends of time are in no other zone


class TestFields:
    @given(st.data())
    @settings(max_examples=10)
    def test_custom_fields_are_read_by_their_own_functions(self, database, data):
        with transaction.atomic(database):
            Disguised.objects.using(database).bulk_create(data.draw(disguised(connections[database].vendor)))
            rows = Disguised.objects.using(database).order_by("pk")
            names = ["id", "colour", "backwards", "price", "shifted"]
            for export in (
                Export(rows, names),
                Export(rows.values(*names)),
                Export(rows.values("id", same=F("price"))),
            ):
                assert "copy" not in export.lanes(Csv())
                encoder = data.draw(encoders(names))
                export.check(encoder, may_fail=True)  # not every encoding has every character
                export.check(encoder, may_fail=True, chunk_size=1)
            transaction.set_rollback(True, using=database)

    def test_arrays_and_ranges(self, database):
        if connections[database].vendor != POSTGRESQL:
            pytest.skip("only PostgreSQL has these fields")
        ranges = import_module("django.db.backends.postgresql.psycopg_any")
        model = apps.get_model("fieldtypes", "PostgresOnly")
        moments = EDGES[DateTimeField]
        model.objects.using(database).bulk_create(
            [
                model(
                    integers=[1, None, -(2**31)],
                    texts=[text for text in TEXTS if "\x00" not in text],
                    grid=[DOUBLES[:3], [float("nan"), float("-inf"), -0.0]],
                    moments=[*moments, None],
                    prices=[Decimal("1.500"), Decimal("-0.001")],
                    integer_range=ranges.NumericRange(1, 5, bounds),
                    decimal_range=ranges.NumericRange(Decimal("1.5"), None, "(]"),
                    date_range=ranges.DateRange(date(2026, 1, 1), None, bounds),
                    datetime_range=ranges.DateTimeTZRange(moments[0], moments[3], bounds),
                )
                for bounds in ("[]", "()", "[)", "(]")
            ]
            + [
                model(texts=[], integers=[], prices=[], integer_range=ranges.NumericRange(empty=True)),
                model(texts=[""]),
            ]
        )
        rows = model.objects.using(database).order_by("pk")
        copied = ["id", "integers", "texts", "moments", "prices", "integer_range", "date_range", "datetime_range"]
        for encoder in (*ENCODERS, Json(decimals="number")):
            Export(rows).check(encoder)
            Export(rows, copied).check(encoder)
        assert "copy" in Export(rows, copied).lanes(Csv())
        assert "copy" not in Export(rows).lanes(Csv())

    @pytest.mark.parametrize("name", ["datetime", "date"])
    @pytest.mark.parametrize("literal", ["infinity", "-infinity", "0044-03-15 BC", "10000-01-01"])
    def test_moments_that_python_does_not_have_are_an_error_in_every_lane(self, database, name, literal):
        if connections[database].vendor != POSTGRESQL:
            pytest.skip("only PostgreSQL holds them")
        with stored(edge_rows(POSTGRESQL, 3), database) as rows:
            with connections[database].cursor() as cursor:
                cursor.execute(
                    f"UPDATE fieldtypes_everything SET {name} = %s WHERE id = %s", [literal, rows[1].pk]
                )
            export = Export(rows, ["id", name])
            for encoder in (Csv(), JsonLines()):
                export.check(encoder, may_fail=True)
                for lane in export.lanes(encoder):
                    with pytest.raises(DataError), transaction.atomic(database):
                        export.written(in_lane(encoder, lane))

    def test_zero_dates_are_none(self, transactional_database):
        if connections[transactional_database].vendor != MARIADB:
            pytest.skip("only MariaDB holds them")
        with stored(edge_rows(MARIADB, 4), transactional_database) as rows:
            with connections[transactional_database].cursor() as cursor:
                cursor.execute("SET SESSION sql_mode = ''")
                for day, row in zip(("0000-00-00", "2026-00-00", "2026-02-00"), rows, strict=False):
                    cursor.execute(
                        "UPDATE fieldtypes_everything SET date = %s, datetime = %s WHERE id = %s",
                        [day, f"{day} 00:00:00", row.pk],
                    )
            connections[transactional_database].close()
            for export in (Export(rows, ["id", "date", "datetime"]), Export(rows.values("id", last=Max("date")))):
                for encoder in (Csv(), JsonLines()):
                    export.check(encoder)
                    export.check(encoder, chunk_size=1)


class TestZones:
    @pytest.mark.parametrize(("use_tz", "zone"), [(False, None), (True, "Asia/Kathmandu"), (True, "Europe/Rome")])
    def test_moments_of_connections_in_other_zones(self, transactional_database, use_tz, zone, settings):
        connection = connections[transactional_database]
        with stored(edge_rows(connection.vendor, 8), transactional_database) as all_rows:
            inner = all_rows.filter(date__year__range=(1000, 2100)).values_list("pk", flat=True)
            rows = all_rows.filter(pk__in=list(inner))
            moments = cycle([datetime(1000, 1, 1, tzinfo=UTC), datetime(2026, 3, 29, 1, 0, 0, 1000, tzinfo=UTC)])
            for row, moment in zip(rows, moments, strict=False):  # other zones do not have the ends of time
                rows.filter(pk=row.pk).update(datetime=moment, datetime_or_null=moment)
            settings.USE_TZ = use_tz
            with in_zone(connection, zone):
                for encoder in (Csv(), Csv(time_zone=ROME), JsonLines(), Json(time_zone=ROME)):
                    Export(rows, ["id", "datetime", "datetime_or_null", "time", "date"]).check(encoder)
                    Export(rows.values("id", last=Max("datetime"), same=_same_as("datetime"))).check(encoder)


@contextmanager
def in_zone(connection, zone):
    """Give the connection a TIME_ZONE of its own."""
    known = connection.settings_dict["TIME_ZONE"]

    def change(to):
        connection.settings_dict["TIME_ZONE"] = to
        for name in ("timezone", "timezone_name"):
            vars(connection).pop(name, None)
        connection.close()

    change(zone)
    try:
        yield
    finally:
        change(known)


# fmt: off
RAW = {
    "boolean_or_null": ["2", "'x'", "''", "1.0", "x'31'", "x'00ff'", "'True'"],
    "small_integer": ["'x'", "''", "1.5", "'007'", "x'31'", "9223372036854775807"],
    "floating_or_null": ["'x'", "''", "'1.5'", "1e999", "-1e999", "x'31'"],
    "decimal_or_null": [
        "0.1234567890123456", "123456789.123456789", "1e15", "1e300", "1e999", "99999999999999.999999",
        "0.0000015", "0.0000005", "-0.0", "'x'", "''", "'nan'", "x'31'", "12345678901234567",
    ],
    "whole_decimal": ["0.5", "1.5", "2.5", "-0.5", "1e11", "999999999999", "9999999999999", "1e999"],
    "date_or_null": [
        "'2026-01-31T08:15:00'", "'2026-1-5'", "'20260131'", "20260131", "1769847300", "'2026-W05-6'",
        "'2026-02-30'", "' 2026-01-31'", "'2026-01-31 '", "''", "'x'", "x'323032362d30312d3331'", "x'00ff'",
        "'\u0662026-01-31'",
    ],
    "datetime_or_null": [
        "'2026-01-31T08:15:00'", "'2026-01-31 08:15:00.123'", "'2026-01-31 08:15:00.1234567'",
        "'2026-01-31 08:15'", "'2026-01-31 08:15:00+02:00'", "'2026-01-31 08:15:00Z'", "'2026-01-31'",
        "'20260131T081500'", "'2026-01-31 08'",
        "'2026-01-31+01:00'", "'2026-02-30 00:00'", "'2026-01-31 24:00:00'", "1769847300", "''", "'x'", "x'00ff'",
        "'2026-01-31 08:15:00,5'", "'2026-1-5 8:5:00'", "x'323032362d30312d33312030383a31353a3030'",
    ],
    "time_or_null": ["'08:15'", "'8:15:00.5'", "'24:00'", "'08:15:00.1234567'", "''", "'x'", "815", "x'00ff'"],
    "duration_or_null": ["'x'", "''", "1.5", "'1'", "x'31'"],
    "uuid_or_null": [
        "'ABCDEFAB123456781234567812345678'", "'12345678-1234-5678-1234-567812345678'", "'x'", "''", "5", "x'31'",
        "'{12345678-1234-5678-1234-567812345678}'", "'urn:uuid:12345678-1234-5678-1234-567812345678'",
        "' 2345678123456781234567812345678'", "'12345678 2345678 2345678 2345678 '",
        "'1234567812345678123456781234567\u0662'",
    ],
    "binary_or_null": ["'text'", "5", "1.5", "''"],
    "text_or_null": ["5", "1.5", "x'31'", "x'00ff'", "CAST(x'ff' AS TEXT)", "'a' || char(0)"],
    "ip_address": ["5", "'x'", "''"],
}
# fmt: on


class TestValuesThatNoDjangoWrote:
    """SQLite holds anything in any column: what Django makes of it, a value or an exception, every lane makes."""

    @pytest.mark.django_db(databases=["default"])
    @pytest.mark.parametrize("name", RAW)
    @pytest.mark.parametrize("use_tz", [True, False])
    def test_on_sqlite(self, name, use_tz, settings):
        usual, *rows = edge_rows("sqlite", 3)
        known = next(
            value for value in edges(Everything._meta.get_field(name), "sqlite") if value not in (None, "")
        )
        setattr(usual, name, known)
        with stored([usual, *rows], "default") as rows, connections["default"].cursor() as cursor:
            settings.USE_TZ = use_tz
            cursor.execute("PRAGMA ignore_check_constraints = 1")
            odd, null = list(rows)[1:]
            cursor.execute(f"UPDATE fieldtypes_everything SET {name} = NULL WHERE id = {null.pk}")
            for export, (encoder, chunk_size) in product(
                self.exports(rows, name), ((Csv(), 2000), (JsonLines(), 1))
            ):
                lanes = export.lanes(encoder)
                for literal in RAW[name]:
                    cursor.execute(f"UPDATE fieldtypes_everything SET {name} = {literal} WHERE id = {odd.pk}")
                    export.check(encoder, lanes=lanes, may_fail=True, chunk_size=chunk_size)
            cursor.execute("PRAGMA ignore_check_constraints = 0")

    def exports(self, rows, name):
        same = Everything.objects.filter(pk=OuterRef("pk"))
        other = rows.order_by().filter(pk__lt=0).values_list("id", name)
        yield Export(rows, ["id", name])
        yield Export(rows.values("id", same=F(name)))
        yield Export(rows.values("id", same=_same_as(name)))
        yield Export(rows.values("id", last=Max(name)))
        yield Export(rows.values("id", same=Subquery(same.values(name)[:1])))
        yield Export(rows.order_by().values_list("id", name).union(other, all=True).order_by("id"))


class TestDriversThatASiteHasTold:
    """A driver may be told to give anything: members of an Enum, whose text is not what they hold."""

    @pytest.mark.django_db(databases=["default"])
    @pytest.mark.parametrize("told", ["a converter", "a text factory", "a row factory"])
    def test_on_sqlite(self, told, monkeypatch):
        def label(text):
            return Label.OPEN if text == b"open" else text.decode()

        def with_labels(_, row):
            return tuple(Label.OPEN if cell == "open" else cell for cell in row)

        Parent.objects.bulk_create(Parent(name=name) for name in ("a", "open", "b"))
        rows = Parent.objects.order_by("pk")
        if told == "a converter":
            monkeypatch.setitem(sqlite3.converters, "VARCHAR", label)
        else:
            connections["default"].ensure_connection()
            name, factory = ("text_factory", label) if told == "a text factory" else ("row_factory", with_labels)
            monkeypatch.setattr(connections["default"].connection, name, factory)
        assert list(rows.values_list("name", flat=True)) == ["a", Label.OPEN, "b"]
        assert b"".join(stream(rows, ["name"], chunk_size=1)) == b"name\r\na\r\no\r\nb\r\n"
        lines = b"".join(stream(rows, ["name"], JsonLines(), chunk_size=1))
        assert lines == b'{"name":"a"}\n{"name":"o"}\n{"name":"b"}\n'


class TestTheTest:
    """A lane that is wrong is seen."""

    def test_a_broken_loader(self, transactional_database, monkeypatch):
        broken = {
            "sqlite": (sqlite, "load_hexadecimal_uuids", lambda values: [str(UUID(int=0))] * len(values)),
            MARIADB: (
                mysql,
                "shorten_utc_datetimes",
                lambda values: ["2026-01-01 00:00:00+00:00"] * len(values),
            ),
            POSTGRESQL: (postgresql, "keep_texts", lambda values: [text.replace("0", "1") for text in values]),
        }
        monkeypatch.setattr(*broken[connections[transactional_database].vendor])
        with stored(edge_rows(connections[transactional_database].vendor, 9), transactional_database) as rows:
            export = Export(rows, ["id", "uuid", "datetime"])
            for encoder in (Csv(), JsonLines()):
                with pytest.raises(AssertionError, match="lane text"):
                    export.check(encoder)

    @pytest.mark.parametrize("kind", ["bool", "timestamptz", "interval", "float8", "text"])
    def test_a_broken_expression(self, database, kind, monkeypatch):
        if connections[database].vendor != POSTGRESQL:
            pytest.skip("only PostgreSQL renders rows")
        monkeypatch.setitem(expressions.CELLS, kind, "({x})::text")
        monkeypatch.setitem(expressions.VALUES, kind, expressions.JsonExpression("({x})::text", quoted=True))
        with stored(edge_rows(POSTGRESQL), database) as rows:
            export = Export(rows.only(*PLAIN))
            for encoder in (Csv(), JsonLines()):
                with pytest.raises(AssertionError, match="lane copy"):
                    export.check(encoder)
