"""PostgreSQL: SQL whose text is, byte for byte, what `values` writes for the Python value of a column.

The list is closed: a pair of field class and column type that is not on it has no form, and the export takes
another lane. A value that Python cannot hold (an infinite date, the year 10000) makes the statement fail with a
DataError that names it, as reading it does. The forms rely on `SETTINGS` and on a session in UTC.

Ratios in comments: the server's time for 200,000 rows of that one column, against the column as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from upstream.streaming.values import quote_json

Decimals = Literal["string", "number"]

SETTINGS = {"DateStyle": "ISO", "IntervalStyle": "postgres", "extra_float_digits": "1"}

# Each type's number and that of its arrays, the same in every database. Other types go by their name.
NUMBERS = {
    "bool": (16, 1000), "bytea": (17, 1001), "int8": (20, 1016), "int2": (21, 1005), "int4": (23, 1007),
    "text": (25, 1009), "json": (114, 199), "float4": (700, 1021), "float8": (701, 1022), "inet": (869, 1041),
    "varchar": (1043, 1015), "date": (1082, 1182), "time": (1083, 1183), "timestamp": (1114, 1115),
    "timestamptz": (1184, 1185), "interval": (1186, 1187), "numeric": (1700, 1231), "uuid": (2950, 2951),
    "jsonb": (3802, 3807), "int4range": (3904, 3905), "tsrange": (3908, 3909), "tstzrange": (3910, 3911),
    "daterange": (3912, 3913), "int8range": (3926, 3927),
}  # fmt: skip
NAMES = {
    number: name + end for name, pair in NUMBERS.items() for number, end in zip(pair, ("", "[]"), strict=True)
}

INTEGERS = ("int2", "int4", "int8")
STRINGS = ("text", "varchar", "citext")
# Which types the column of a field may have; a class that is not here counts as its nearest base that is.
TYPES: dict[str, tuple[str, ...]] = {
    "IntegerField": INTEGERS,
    **dict.fromkeys(("CharField", "TextField", "FileField", "FilePathField"), STRINGS),
    "BooleanField": ("bool",),
    "FloatField": ("float8", "float4"),
    "DecimalField": ("numeric",),
    "DateTimeField": ("timestamptz", "timestamp"),
    "DateField": ("date",),
    "TimeField": ("time",),
    "DurationField": ("interval",),
    "UUIDField": ("uuid",),
    "BinaryField": ("bytea",),
    "JSONField": ("jsonb", "json"),
    "GenericIPAddressField": ("inet",),
    "RangeField": ("int4range", "int8range", "daterange", "tsrange", "tstzrange"),
}
# What decides, beside the column's type, which Python value Django makes.
READING = ("from_db_value", "get_db_converters", "db_type", "get_internal_type")


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What forms depend on: the server's version, and how Django reads timestamptz on this connection.

    `moments` are datetimes in UTC, naive ones (USE_TZ = False), or None in another zone: its columns then have
    no form, since the server's table of zones and Python's may differ.
    """

    version: int = 140000
    moments: Literal["utc", "naive"] | None = "utc"

    @classmethod
    def of(cls, connection: Any) -> "Session":
        """Return the session of a Django connection."""
        moments: Literal["utc", "naive"] = "naive" if connection.timezone is None else "utc"
        return cls(version=connection.pg_version, moments=moments if connection.timezone_name == "UTC" else None)

    @property
    def to_json(self) -> str:
        """The function that escapes text: JSON_SCALAR (PostgreSQL 17) 1.5, to_json, asking for types, 1.8."""
        return "JSON_SCALAR" if self.version >= 170000 else "to_json"


@dataclass(frozen=True, slots=True)
class JsonForm:
    """SQL of type text that makes a JSON value; `quoted` is a string whose quotes are still missing."""

    sql: str
    quoted: bool = False

    def __str__(self) -> str:
        return f"'\"' || {self.sql} || '\"'" if self.quoted else self.sql


def csv_form(field: Any, kind: int | str, sql: str, session: Session, *, converted: bool = False) -> str | None:
    """Return SQL that COPY writes as the cell of `field`, empty for NULL and for ""; None is no form.

    `kind` is the type of the column, its number or name, and `sql` a cheap reference to it. `converted` says
    that Django hands the values to `Expression.convert_value`, as it does for all but plain columns.
    """
    kind, sql = _read(field, kind, sql, converted=converted)
    if kind in CELLS:
        return CELLS[kind].replace("{x}", sql)
    if kind in MOMENTS:
        return _moment(kind, sql, session)
    form = _json(kind, sql, session, "string")
    return form.sql if form else None


def json_form(
    field: Any,
    kind: int | str,
    sql: str,
    session: Session,
    *,
    decimals: Decimals = "string",
    nullable: bool = True,
    converted: bool = False,
) -> JsonForm | None:
    """Return SQL for the JSON value of `field`, where `nullable` with null for NULL; else as `csv_form`."""
    kind, sql = _read(field, kind, sql, converted=converted)
    form = _json(kind, sql, session, decimals)
    return JsonForm(f"COALESCE({form}, 'null')") if form and nullable else form


def json_row(headers: Sequence[str], forms: Sequence[JsonForm]) -> str:
    """Return SQL for one object.

    `||` takes 0.87 of the time of row_to_json, concat() 0.92, format() 0.97, columns of which the client deletes
    the delimiters 0.86. Joined four by four, since each `||` copies all that is to its left.
    """
    parts, before = [], "{"
    for header, form in zip(headers, forms, strict=True):
        quote = '"' if form.quoted else ""
        literal = f"{before}{quote_json(header)}:{quote}".replace("'", "''")
        parts.append(f"'{literal}' || {form.sql}")
        before = quote + ","
    parts.append(f"'{before[:-1]}}}'")
    while len(parts) > 1:
        parts = [f"({' || '.join(parts[at : at + 4])})" for at in range(0, len(parts), 4)]
    return parts[0]


def _read(field: Any, kind: int | str, sql: str, *, converted: bool) -> tuple[str, str]:
    """Return the type whose form to take, and of which SQL; "" where the pair is not on the list."""
    if isinstance(kind, int):
        kind = NAMES.get(kind, "")
    if kind in _kinds(field):
        return kind, sql
    if converted and _kinds(field):
        return _converted(field.get_internal_type(), kind, sql)
    return "", sql


def _kinds(field: Any) -> tuple[str, ...]:
    """Return the types that the column of `field` may have."""
    names = [kind.__name__ for kind in type(field).__mro__]
    stock: Any = next((kind for kind in type(field).__mro__ if kind.__module__.startswith("django.")), None)
    if stock is None or any(getattr(type(field), name, None) != getattr(stock, name, None) for name in READING):
        return ()
    if not vars(field).keys().isdisjoint(READING) or getattr(field, "decoder", None) is not None:
        return ()
    if "ForeignKey" in names:
        return _kinds(field.target_field)
    if "GeneratedField" in names:
        return _kinds(field.output_field)
    if "ArrayField" in names:
        return tuple(kind if kind.endswith("[]") else kind + "[]" for kind in _kinds(field.base_field))
    return next((TYPES[name] for name in names if name in TYPES), ())


def _converted(field_type: str, kind: str, sql: str) -> tuple[str, str]:
    """Return what float(), int() and Decimal() make of a number; too large a numeric is no float8: an error."""
    if field_type == "FloatField" and kind in (*INTEGERS, "numeric"):
        return "float8", f"{sql}::float8"
    if field_type == "DecimalField" and kind in INTEGERS:
        return "numeric", f"{sql}::numeric"
    if field_type.endswith("IntegerField") and kind == "numeric":
        refused = _error(sql, "numeric")
        whole = f"(CASE WHEN {sql} IN ('NaN', 'Infinity', '-Infinity') THEN {refused} ELSE trunc({sql}) END)"
        return "int8", whole
    return "", sql


def _error(sql: str, kind: str) -> str:
    return f"('no value of Python: ' || {sql})::int::text::{kind}"


# The text of a float: PostgreSQL writes 1 for 1.0, exponents from 1e15 (repr from 1e16), and from 1e16 to 1.5e23,
# where a shorter text may lie just between two floats, takes a longer one than repr, which reads it as even. 1.3
FLOAT = """CASE WHEN {x} <> trunc({x}) AND abs({x}) < 1e15::float8 THEN {x}::text
 WHEN abs({x}) < 1e15::float8 THEN {x}::text || '.0'
 WHEN abs({x}) < 1e16::float8 THEN {x}::text::numeric::text || CASE WHEN {x} = trunc({x}) THEN '.0' ELSE '' END
 WHEN {x} = 'NaN' THEN '{nan}' WHEN {x} = 'Infinity' THEN '{inf}' WHEN {x} = '-Infinity' THEN '{-inf}'
 WHEN abs({x}) > 1e24::float8 THEN {x}::text
 WHEN {15}::float8 = {x} THEN regexp_replace(ltrim({15}), '[.]?0+e', 'e')
 WHEN {16}::float8 = {x} THEN ltrim({16}) ELSE ltrim({17}) END"""
for _digits in (15, 16, 17):
    FLOAT = FLOAT.replace(f"{{{_digits}}}", f"to_char({{x}}, '9.{'9' * (_digits - 1)}EEEE')")

DATE = "CASE WHEN {x} BETWEEN '0001-01-01' AND '9999-12-31' THEN {x} ELSE " + _error("{x}", "date") + " END"
# Fractions have six digits or none.
TIME = (
    "CASE WHEN {x} = '24:00' THEN " + _error("{x}", "text") + " WHEN {x} <> {x}::time(5) OR {x} = {x}::time(0)"
    " THEN {x}::text ELSE rpad({x}::text, 15, '0') END"
)
# A month is 30 days and a year 365, as psycopg reads them.
INTERVAL = """(SELECT CASE
 WHEN i >= '0' AND i < '1000000000 days' THEN to_char(i, f)
 WHEN i < '0' AND i >= '-999999999 days' THEN '-' || to_char(-i, f) ELSE {error} END
 FROM (SELECT i, CASE WHEN i = i::interval(0) THEN '"P"FMDD"DT"HH24"H"MI"M"SS"S"'
  ELSE '"P"FMDD"DT"HH24"H"MI"M"SS.US"S"' END AS f
  FROM (SELECT justify_hours({x} + make_interval(years => -y, months => -m, days => 365 * y + 30 * m)) AS i
   FROM (SELECT date_part('year', {x})::int AS y, date_part('month', {x})::int AS m OFFSET 0) AS a
   OFFSET 0) AS b OFFSET 0) AS c)""".replace("{error}", _error("{x}", "text"))
BASE64 = r"replace(encode({x}, 'base64'), E'\n', '')"

CELLS = {
    **dict.fromkeys((*INTEGERS, "numeric", "uuid", "inet", "jsonb", "json"), "{x}"),
    # A collation of the column's own may take other strings for empty.
    **dict.fromkeys(STRINGS, "NULLIF({x}::text COLLATE \"C\", '')"),
    "bool": "CASE WHEN {x} THEN 'True' WHEN NOT {x} THEN 'False' END",
    "float8": FLOAT.replace("{nan}", "nan").replace("{inf}", "inf").replace("{-inf}", "-inf"),
    "date": DATE,
    "bytea": f"NULLIF({BASE64}, '')",
}
CELLS["float4"] = CELLS["float8"].replace("{x}", "{x}::text::float8")

# SQL of type text, and whether JSON puts it between quotes.
VALUES = {
    **dict.fromkeys((*INTEGERS, "bool", "jsonb"), ("{x}::text", False)),
    **dict.fromkeys(("numeric", "uuid"), ("{x}::text", True)),
    **dict.fromkeys(STRINGS, ("{to_json}({x}::text)::text", False)),
    # The only raw control characters that it may hold are white space between values.
    "json": (r"translate({x}::text, E'\n\r\t', '   ')", False),
    "float8": (
        FLOAT.replace("{nan}", '"NaN"').replace("{inf}", '"Infinity"').replace("{-inf}", '"-Infinity"'),
        False,
    ),
    "date": (f"({DATE})::text", True),
    "time": (TIME, True),
    "interval": (INTERVAL, True),
    "inet": ("abbrev({x})", True),  # {x}::text would add /32
    "bytea": (BASE64, True),
}
VALUES["float4"] = (VALUES["float8"][0].replace("{x}", "{x}::text::float8"), False)
RANGES = {
    "int4range": "int4",
    "int8range": "int8",
    "daterange": "date",
    "tsrange": "timestamp",
    "tstzrange": "timestamptz",
}
MOMENTS = ("timestamptz", "timestamp")


def _json(kind: str, sql: str, session: Session, decimals: Decimals) -> JsonForm | None:
    if kind == "numeric" and decimals == "number":
        return JsonForm(f"{session.to_json}({sql})::text")  # between quotes where it is no number
    if kind in VALUES:
        text, quoted = VALUES[kind]
        return JsonForm(text.replace("{x}", sql).replace("{to_json}", session.to_json), quoted)
    if kind in MOMENTS:
        moment = _moment(kind, sql, session, json=True)
        return JsonForm(moment) if moment else None
    if kind in RANGES:
        return _range(RANGES[kind], sql, session)
    return _array(kind[:-2], sql, session, decimals) if kind.endswith("[]") else None


def _moment(kind: str, sql: str, session: Session, *, json: bool = False) -> str | None:
    """Return the form of a datetime, whose fraction has six digits or none: 1.25, by to_char alone 2.1."""
    if kind == "timestamptz" and session.moments is None:
        return None
    if kind == "timestamptz" and session.moments == "naive":
        kind, sql = "timestamp", f"{sql}::timestamp"
    offset = "+00:00" if kind == "timestamptz" else ""
    if json:
        as_it_is = f"{session.to_json}({sql})::text"
        padded = f"""'"' || to_char({sql}, 'YYYY-MM-DD"T"HH24:MI:SS.US') || '{offset}"'"""
    else:
        as_it_is = f"{sql}::text || ':00'" if offset else f"{sql}::text"
        padded = f"to_char({sql}, 'YYYY-MM-DD HH24:MI:SS.US') || '{offset}'"
    return (
        f"CASE WHEN {sql} >= '0001-01-01 00:00{offset}' AND {sql} < '10000-01-01 00:00{offset}' THEN"
        f" CASE WHEN {sql} <> {sql}::{kind}(5) OR {sql} = {sql}::{kind}(0) THEN {as_it_is} ELSE {padded} END"
        f" ELSE {_error(sql, 'text')} END"
    )


def _range(kind: str, sql: str, session: Session) -> JsonForm | None:
    """Return the form of a range: the str() of psycopg's."""
    lower, upper = (
        CELLS[kind].replace("{x}", bound) if kind in CELLS else _moment(kind, bound, session)
        for bound in (f"lower({sql})", f"upper({sql})")
    )
    if lower is None:
        return None
    return JsonForm(
        f"CASE WHEN isempty({sql}) THEN 'empty' WHEN NOT isempty({sql}) THEN"
        f" CASE WHEN lower_inc({sql}) THEN '[' ELSE '(' END || COALESCE(({lower})::text, 'None') || ', '"
        f" || COALESCE(({upper})::text, 'None') || CASE WHEN upper_inc({sql}) THEN ']' ELSE ')' END END",
        quoted=True,
    )


def _array(kind: str, sql: str, session: Session, decimals: Decimals) -> JsonForm | None:
    """Return the form of an array of any dimensions; floats, times, intervals and JSON have none there."""
    if kind == "timestamptz" and session.moments == "naive":
        kind, sql = "timestamp", f"{sql}::timestamp[]"
    if kind in (*INTEGERS, *STRINGS, "bool", "uuid") or (kind == "numeric" and decimals == "number"):
        return JsonForm(f"array_to_json({sql})::text")
    if kind == "numeric":
        return JsonForm(f"array_to_json({sql}::text[])::text")
    if kind not in ("date", *MOMENTS) or (kind == "timestamptz" and session.moments is None):
        return None
    zone = "+00" if kind == "timestamptz" else ""
    text = f"array_to_json({sql})::text"
    if kind != "date":  # lengthen each fraction, then cut it to six digits
        text = f"regexp_replace({text}, '([.][0-9]+)', E'\\\\100000', 'g')"
        text = f"regexp_replace({text}, '([.][0-9]{{6}})[0-9]*', E'\\\\1', 'g')"
    return JsonForm(
        f"CASE WHEN '0001-01-01{zone}' > ANY ({sql}) OR '10000-01-01{zone}' <= ANY ({sql})"
        f" THEN {_error(sql, 'text')} ELSE {text} END"
    )
