"""SQL expressions that give, byte for byte, what `values` writes for the Python value of a column.

The list is closed: if it lacks a pair of field class and column type, there is no expression, and the export takes
the next lane. A value that Python cannot represent (an infinite date, the year 10000) makes the statement fail
with a DataError that names it, as reading it does. The expressions rely on `copy.SETTINGS` and a session in UTC.

Ratios in comments: the server's time for 200,000 rows of that column alone, relative to the bare column.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from django.db.models import ForeignKey, GeneratedField, JSONField

from upstream.streaming.databases.protocol import JsonObjects
from upstream.streaming.values import MAX_SAFE_INTEGER, quote_json

# The OIDs of each type and of its array type, the same in every database. Other types go by name.
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
# The types that the column of a field may have; an unlisted class counts as its nearest listed base.
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
    "IntegerRangeField": ("int4range",),
    "BigIntegerRangeField": ("int8range",),
    "DateRangeField": ("daterange",),
    "DateTimeRangeField": ("tstzrange", "tsrange"),
}
FLOATS = ("float8", "float4", "numeric")
# Types whose CSV cells are numbers, moments, addresses or JSON. Arrays are written as JSON.
NO_FORMULAS = frozenset({
    *INTEGERS, *FLOATS, "bool", "uuid", "date", "timestamp", "timestamptz", "time", "inet", "jsonb", "json",
})  # fmt: skip
HOLD_INTEGERS = frozenset({"jsonb", "json", *(f"{kind}[]" for kind in INTEGERS)})
# What determines, besides the column's type, the Python value that Django makes.
METHODS = ("from_db_value", "get_db_converters", "db_type", "get_internal_type")


Timestamptz = Literal["utc", "naive"] | None


def timestamptz_of(connection: Any) -> Timestamptz:
    """Return how Django reads timestamptz on a connection (see `Session.timestamptz`), without connecting."""
    if connection.timezone_name != "UTC":
        return None
    return "naive" if connection.timezone is None else "utc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What expressions depend on: the server's version, and how Django reads timestamptz on this connection.

    `timestamptz` is "utc", "naive" (USE_TZ = False), or None for another zone: timestamptz then has no expression,
    since the time zone data of the server and of Python may differ.
    """

    version: int = 140000
    timestamptz: Timestamptz = "utc"

    @classmethod
    def of(cls, connection: Any) -> "Session":
        """Return the session of a Django connection."""
        return cls(version=connection.pg_version, timestamptz=timestamptz_of(connection))


@dataclass(frozen=True, slots=True)
class JsonExpression:
    """SQL of type text for a JSON value; `quoted` means that it is a string whose quotes are still to be added."""

    sql: str
    quoted: bool = False

    def or_null(self) -> "JsonExpression":
        text = f"'\"' || {self.sql} || '\"'" if self.quoted else self.sql
        return JsonExpression(f"COALESCE({text}, 'null')")


def has_expression(field: Any, timestamptz: Timestamptz) -> bool:
    """Return whether `field` has an expression, if its column has one of the usual types."""
    kinds = _types(field)
    if timestamptz is None and any("tz" in kind for kind in kinds):
        return False
    return any(kind in VALUES for kind in kinds)


def is_safe(field: Any) -> bool:
    """Return whether no CSV cell of `field` starts a formula; infinities aside (see `may_be_infinite`)."""
    return all(kind in NO_FORMULAS or kind.endswith("[]") for kind in _types(field))


def holds_integers(field: Any) -> bool:
    """Return whether values of `field` may hold integers inside, which no expression compares one by one."""
    return not HOLD_INTEGERS.isdisjoint(_types(field))


def may_be_infinite(field: Any) -> bool:
    """Return whether `field` may hold an infinity, whose text is no number to a spreadsheet."""
    return not set(_types(field)).isdisjoint(FLOATS)


def csv_expression(
    field: Any, kind: int | str, sql: str, session: Session, *, converted: bool = False
) -> str | None:
    """Return SQL that COPY writes as the cell of `field`, empty for NULL and for ""; None if there is none.

    `kind` is the column's type, as an OID or a name, and `sql` a cheap reference to it. `converted` says that
    Django passes the values to `Expression.convert_value`, as for all but plain columns.
    """
    kind, sql = kind_and_sql(field, kind, sql, session, converted=converted)
    if kind in CELLS:
        return CELLS[kind].replace("{x}", sql)
    return VALUES[kind].sql.replace("{x}", sql) if kind in VALUES else None


def typed_expression(
    field: Any, kind: int | str, sql: str, session: Session, *, converted: bool = False
) -> str | None:
    """Return SQL for the plain text of `field` in typed rows; otherwise like `csv_expression`."""
    kind, sql = kind_and_sql(field, kind, sql, session, converted=converted)
    return TYPED[kind].replace("{x}", sql) if kind in TYPED else None


def json_expression(
    field: Any,
    kind: int | str,
    sql: str,
    session: Session,
    *,
    row_format: JsonObjects = JsonObjects(),  # noqa: B008 (frozen)
    nullable: bool = True,
    converted: bool = False,
) -> JsonExpression | None:
    """Return SQL for the JSON value of `field`, null for NULL if `nullable`; otherwise like `csv_expression`."""
    kind, sql = kind_and_sql(field, kind, sql, session, converted=converted)
    if row_format.integers == "safe" and kind in HOLD_INTEGERS:
        return None
    numbers = NUMBER_VALUES if row_format.decimals == "number" else {}
    safe = SAFE_VALUES if row_format.integers == "safe" else {}
    value = numbers.get(kind) or safe.get(kind) or VALUES.get(kind)
    if value is None:
        return None
    # For 90 characters: JSON_SCALAR (PostgreSQL 17) 1.5; to_json, which looks up types for each row, 1.8.
    to_json = "JSON_SCALAR" if session.version >= 170000 else "to_json"
    value = replace(value, sql=value.sql.replace("{to_json}", to_json).replace("{x}", sql))
    return value.or_null() if nullable else value


def json_row(headers: Sequence[str], values: Sequence[JsonExpression]) -> str:
    """Return SQL for one object.

    Relative to row_to_json, `||` takes 0.87 of the time, concat() 0.92, format() 0.97. Parts are joined in groups
    of four, since each `||` copies everything to its left.
    """
    parts, before = [], "{"
    for header, value in zip(headers, values, strict=True):
        quote = '"' if value.quoted else ""
        literal = f"{before}{quote_json(header)}:{quote}".replace("'", "''")
        parts.append(f"'{literal}' || {value.sql}")
        before = quote + ","
    parts.append(f"'{before[:-1]}}}'")
    while len(parts) > 1:
        parts = [f"({' || '.join(parts[at : at + 4])})" for at in range(0, len(parts), 4)]
    return parts[0]


def kind_and_sql(field: Any, kind: int | str, sql: str, session: Session, *, converted: bool) -> tuple[str, str]:
    """Return the key of a field and column type in the tables ("" for none), and the SQL to insert."""
    if isinstance(kind, int):
        kind = NAMES.get(kind, "")
    known = _types(field)
    if converted and known and kind not in known:
        return _converted(field.get_internal_type(), kind, sql)
    if kind not in known or ("tz" in kind and session.timestamptz is None):
        return "", sql
    return f"naive {kind}" if "tz" in kind and session.timestamptz == "naive" else kind, sql


def _types(field: Any) -> tuple[str, ...]:
    """Return the types that the column of `field` may have."""
    ancestors = type(field).__mro__
    stock: Any = next((kind for kind in ancestors if kind.__module__.startswith("django.")), None)
    if stock is None or any(getattr(type(field), name, None) != getattr(stock, name, None) for name in METHODS):
        return ()
    if isinstance(field, ForeignKey):
        return _types(field.target_field)
    if isinstance(field, GeneratedField):
        return _types(field.output_field)
    decodes = hasattr(field, "from_db_value")  # an ArrayField has it if its elements have it
    if decodes and not (isinstance(field, JSONField) and field.decoder is None):
        return ()
    if stock.__name__ == "ArrayField":
        return tuple(kind.removesuffix("[]") + "[]" for kind in _types(field.base_field))
    return next((TYPES[kind.__name__] for kind in ancestors if kind.__name__ in TYPES), ())


def _converted(field_type: str, kind: str, sql: str) -> tuple[str, str]:
    """Return the key and SQL of a number after float(), int() or Decimal(); numeric beyond float8 is an error."""
    if field_type == "FloatField" and kind in (*INTEGERS, "numeric"):
        return "float8", f"{sql}::float8"
    if field_type == "DecimalField" and kind in INTEGERS:
        return "numeric", f"{sql}::numeric"
    if field_type.endswith("IntegerField") and kind == "numeric":
        return "int8", INTEGRAL.replace("{x}", sql)
    return "", sql


def _reject(kind: str) -> str:
    return f"('Python cannot represent: ' || {{x}}::text)::int::text::{kind}"


def _float(nan: str, infinity: str, minus_infinity: str) -> str:
    """Return SQL for the text of a float: ratio 1.25.

    PostgreSQL writes 1 for 1.0, and exponents from 1e15; repr writes them from 1e16. From there to 1e40 a short
    text may lie midway between two floats: PostgreSQL then writes a longer one, repr relies on rounding to even.
    Where the nearest text of 16 digits does not read back, PostgreSQL's text is that of repr: for a power of two
    it may be another one of 16 digits.
    """
    in_15, in_16 = (f"to_char({{x}}, '9.{'9' * places}EEEE')" for places in (14, 15))
    return (
        "CASE WHEN {x} <> trunc({x}) AND abs({x}) < 1e15::float8 THEN {x}::text"
        " WHEN abs({x}) < 1e15::float8 THEN {x}::text || '.0'"
        " WHEN abs({x}) < 1e16::float8"
        " THEN {x}::text::numeric::text || CASE WHEN {x} = trunc({x}) THEN '.0' ELSE '' END"
        f" WHEN {{x}} = 'NaN' THEN '{nan}' WHEN {{x}} = 'Infinity' THEN '{infinity}'"
        f" WHEN {{x}} = '-Infinity' THEN '{minus_infinity}' WHEN abs({{x}}) > 1e40::float8 THEN {{x}}::text"
        f" WHEN {in_15}::float8 = {{x}} THEN regexp_replace(ltrim({in_15}), '[.]?0+e', 'e')"
        f" WHEN {in_16}::float8 = {{x}} THEN ltrim({in_16}) ELSE {{x}}::text END"
    )


def _timestamp(kind: str, *, json: bool = False) -> str:
    """Return SQL for the text of a datetime, whose fraction has six digits or none: ratio 1.3, with to_char 2.1.

    PostgreSQL writes no trailing zeros: if the sixth digit is zero, a microsecond is added, and its digit replaced
    by 0.
    """
    offset = "+00:00" if kind == "timestamptz" else ""
    text, length, end = ("{to_json}({x})::text", 26, '"') if json else ("{x}::text", 25, "")
    whole = f"{text} || ':00'" if offset and not json else text
    later = text.replace("{x}", "({x} + interval '1 us')")
    return (
        f"CASE WHEN {{x}} >= '0001-01-01 00:00{offset}' AND {{x}} < '10000-01-01 00:00{offset}' THEN"
        f" CASE WHEN {{x}} <> {{x}}::{kind}(5) OR {{x}} = {{x}}::{kind}(0) THEN {whole}"
        f" ELSE left({later}, {length}) || '0{offset}{end}' END ELSE {_reject('text')} END"
    )


def _range(kind: str, cast: str = "") -> JsonExpression:
    """Return SQL for the text of a range: the str() of psycopg's Range."""
    cell = CELLS[kind]
    lower, upper = (cell.replace("{x}", f"{end}({{x}}){cast}") for end in ("lower", "upper"))
    return JsonExpression(
        "CASE WHEN isempty({x}) THEN 'empty' WHEN NOT isempty({x}) THEN"
        f" CASE WHEN lower_inc({{x}}) THEN '[' ELSE '(' END || COALESCE(({lower})::text, 'None') || ', '"
        f" || COALESCE(({upper})::text, 'None') || CASE WHEN upper_inc({{x}}) THEN ']' ELSE ')' END END",
        quoted=True,
    )


def _timestamp_array(text: str, offset: str) -> JsonExpression:
    return JsonExpression(
        f"CASE WHEN '0001-01-01 00:00{offset}' > ANY ({{x}}) OR '10000-01-01 00:00{offset}' <= ANY ({{x}})"
        f" THEN {_reject('text')} ELSE {text} END"
    )


INTEGRAL = f"(CASE WHEN {{x}} IN ('NaN', 'Infinity', '-Infinity') THEN {_reject('numeric')} ELSE trunc({{x}}) END)"
DATE = f"CASE WHEN {{x}} BETWEEN '0001-01-01' AND '9999-12-31' THEN {{x}} ELSE {_reject('date')} END"
TIME = (
    f"CASE WHEN {{x}} = '24:00' THEN {_reject('text')} WHEN {{x}} <> {{x}}::time(5) OR {{x}} = {{x}}::time(0)"
    " THEN {x}::text ELSE rpad({x}::text, 15, '0') END"
)
# A month is 30 days and a year 365, as in psycopg. OFFSET 0 keeps each step from being evaluated repeatedly.
INTERVAL = f"""(SELECT CASE WHEN i >= '0' AND i < '1000000000 days' THEN to_char(i, f)
  WHEN i < '0' AND i >= '-999999999 days' THEN '-' || to_char(-i, f) ELSE {_reject("text")} END
 FROM (SELECT i, CASE WHEN i = i::interval(0) THEN '"P"FMDD"DT"HH24"H"MI"M"SS"S"'
   ELSE '"P"FMDD"DT"HH24"H"MI"M"SS.US"S"' END AS f
  FROM (SELECT justify_hours({{x}} + make_interval(years => -y, months => -m, days => 365 * y + 30 * m)) AS i
   FROM (SELECT date_part('year', {{x}})::int AS y, date_part('month', {{x}})::int AS m OFFSET 0) AS a
   OFFSET 0) AS b OFFSET 0) AS c)"""  # noqa: S608 (the parts are constants)
MICROSECONDS = """(
 (EXTRACT(year FROM {x}) * 365 + EXTRACT(month FROM {x}) * 30 + EXTRACT(day FROM {x})) * 86400000000
 + EXTRACT(hour FROM {x}) * 3600000000 + EXTRACT(minute FROM {x}) * 60000000 + EXTRACT(microseconds FROM {x})
)::int8"""
BASE64 = r"replace(encode({x}, 'base64'), E'\n', '')"
# Each fraction is padded, then cut to six digits.
TIMESTAMP_ARRAY = (
    r"regexp_replace(regexp_replace(array_to_json({x})::text, '([.][0-9]+)', E'\\100000', 'g'),"
    r" '([.][0-9]{6})[0-9]*', E'\\1', 'g')"
)

# Cells of text that differ from those in `VALUES`.
CELLS = {
    **dict.fromkeys((*INTEGERS, "numeric", "uuid", "inet", "jsonb", "json"), "{x}"),
    # The column's own collation may treat other strings as empty.
    **dict.fromkeys(STRINGS, "NULLIF({x}::text COLLATE \"C\", '')"),
    "bool": "CASE WHEN {x} THEN 'True' WHEN NOT {x} THEN 'False' END",
    "float8": _float("nan", "inf", "-inf"),
    "date": DATE,
    "timestamp": _timestamp("timestamp"),
    "timestamptz": _timestamp("timestamptz"),
    "bytea": f"NULLIF({BASE64}, '')",
}
CELLS["float4"] = CELLS["float8"].replace("{x}", "{x}::text::float8")
CELLS["naive timestamptz"] = CELLS["timestamp"].replace("{x}", "{x}::timestamp")

VALUES = {
    **dict.fromkeys((*INTEGERS, "bool", "jsonb"), JsonExpression("{x}::text")),
    **dict.fromkeys(("numeric", "uuid"), JsonExpression("{x}::text", quoted=True)),
    **dict.fromkeys(STRINGS, JsonExpression("{to_json}({x}::text)::text")),
    "float8": JsonExpression(_float('"NaN"', '"Infinity"', '"-Infinity"')),
    "json": JsonExpression(r"translate({x}::text, E'\n\r\t', '   ')"),  # json keeps white space between its values
    "date": JsonExpression(f"({DATE})::text", quoted=True),
    "time": JsonExpression(TIME, quoted=True),
    "timestamp": JsonExpression(_timestamp("timestamp", json=True)),
    "timestamptz": JsonExpression(_timestamp("timestamptz", json=True)),
    "interval": JsonExpression(INTERVAL, quoted=True),
    "inet": JsonExpression("abbrev({x})", quoted=True),  # {x}::text would add /32
    "bytea": JsonExpression(BASE64, quoted=True),
}
VALUES["float4"] = JsonExpression(VALUES["float8"].sql.replace("{x}", "{x}::text::float8"))
VALUES["naive timestamptz"] = JsonExpression(VALUES["timestamp"].sql.replace("{x}", "{x}::timestamp"))
VALUES |= {
    **dict.fromkeys(("int4range", "int8range"), _range("int8")),
    "daterange": _range("date"),
    "tsrange": _range("timestamp"),
    "tstzrange": _range("timestamptz"),
    "naive tstzrange": _range("timestamp", "::timestamp"),
    # Arrays of floats, times, intervals and JSON have no expression.
    **{f"{kind}[]": JsonExpression("array_to_json({x})::text") for kind in (*INTEGERS, *STRINGS, "bool", "uuid")},
    "numeric[]": JsonExpression("array_to_json({x}::text[])::text"),
    "date[]": _timestamp_array("array_to_json({x})::text", ""),
    "timestamp[]": _timestamp_array(TIMESTAMP_ARRAY, ""),
    "timestamptz[]": _timestamp_array(TIMESTAMP_ARRAY, "+00:00"),
    "naive timestamptz[]": _timestamp_array(TIMESTAMP_ARRAY.replace("{x}", "{x}::timestamp[]"), "+00:00"),
}
# Cells of typed rows; numeric and the like are rejected by the reader where Python cannot represent them.
TYPED = {
    **dict.fromkeys((*INTEGERS, "bool", "numeric", "uuid", "inet", "jsonb", "json", "float8", "float4"), "{x}"),
    **dict.fromkeys(("date", "time", "timestamp", "timestamptz"), "{x}"),
    **dict.fromkeys(STRINGS, "{x}::text"),
    "naive timestamptz": "{x}::timestamp",
    "interval": MICROSECONDS,
    "bytea": "encode({x}, 'hex')",
}
# JSON values that differ from those in `VALUES`, with decimals="number" and with integers="safe".
NUMBER_VALUES = {
    "numeric": JsonExpression("{to_json}({x})::text"),  # quoted if it is not a number
    "numeric[]": JsonExpression("array_to_json({x})::text"),
}
SAFE_VALUES = {
    "int8": JsonExpression(
        f"CASE WHEN {{x}} BETWEEN -{MAX_SAFE_INTEGER} AND {MAX_SAFE_INTEGER} THEN {{x}}::text"
        " ELSE '\"' || {x}::text || '\"' END"
    )
}
