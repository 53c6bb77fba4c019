"""A format and a database of one's own: one class each, and nothing else."""

import csv
import io
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from django.db import connections
from django.db.models import F
from django.db.models.functions import Upper
from django.test.utils import CaptureQueriesContext

from tests.fieldtypes.models import Everything, Parent, Ticket
from tests.test_querysets import fill
from upstream.streaming import Column, Csv, Json, SourceError, plan, stream, to_file, to_response
from upstream.streaming.databases import DATABASES
from upstream.streaming.databases.protocol import Database, DelimitedRows, OpenCursor, Reading

NAMES = ["id", "char", "decimal", "uuid", "datetime", "parent__name"]


class Lines:
    """A format with nothing but what an encoder needs: a line for each row, with the values' own `repr`."""

    content_type = "text/plain; charset=utf-8"
    suffix = ".lines"

    def encode(self, columns, batches):
        with closing(batches):
            yield f"{[column.header for column in columns]}\n".encode()
            for batch in batches:
                yield "".join(f"{list(row)}\n" for row in batch).encode()


def lines(headers, rows):
    return "".join(f"{list(row)}\n" for row in [headers, *rows])


class TestAFormat:
    def test_gets_the_values_that_django_reads(self, database):
        fill(database, 5)
        rows = Everything.objects.using(database).order_by("pk")
        expected = lines(NAMES, rows.values_list(*NAMES))
        assert b"".join(stream(rows, NAMES, Lines())).decode() == expected
        assert b"".join(stream(rows, NAMES, Lines(), windows=True)).decode() == expected
        assert b"".join(stream(rows.values(*NAMES), None, Lines())).decode() == expected

    def test_takes_functions_properties_and_instances(self, database):
        Parent.objects.using(database).create(name="x")
        parents = Parent.objects.using(database)
        columns = [Column("name", value=str.upper), "label", Column(lambda parent: len(parent.name), header="n")]
        expected = lines(["name", "label", "n"], [["X", "<x>", 1]])
        assert b"".join(stream(parents, columns, Lines())).decode() == expected
        assert b"".join(stream(list(parents), columns, Lines())).decode() == expected

    def test_takes_iterables(self):
        records = [{"a": 1, "b": None}, {"a": 2, "b": "x"}]
        expected = lines(["a", "b"], [[1, None], [2, "x"]])
        assert b"".join(stream(records, None, Lines())).decode() == expected
        assert b"".join(stream([(1, None), (2, "x")], ["a", "b"], Lines())).decode() == expected

    def test_goes_to_every_target(self, tmp_path, rf):
        records = [{"a": 1}]
        path = to_file(stream(records, None, Lines()), tmp_path / "x.lines")
        assert path.read_text() == lines(["a"], [[1]])
        response = to_response(stream(records, None, Lines()), "x.lines")
        assert response["Content-Type"] == Lines.content_type
        assert response.getvalue() == path.read_bytes()

    def test_takes_no_mapping(self):
        with pytest.raises(SourceError, match="a mapping is written as one JSON object"):
            stream({"rows": []}, encoder=Lines())

    def test_is_told_of_in_the_plan(self, database):
        decided = plan(Parent.objects.using(database), ["name"], Lines())
        assert decided.lane == "python"
        assert "Lines is rendered in Python" in decided.reason

    def test_given_as_a_class_is_refused(self):
        with pytest.raises(ValueError, match="encoder must be an instance"):
            stream([{"a": 1}], None, Lines)


class Shouting(Csv):
    """Writes otherwise than the class it comes from, whose lanes it therefore must not take."""

    def encode(self, columns, batches):
        def shouted():
            with closing(batches):
                for batch in batches:
                    yield [tuple(str(value).upper() for value in row) for row in batch]

        return super().encode(columns, shouted())


@dataclass(frozen=True, kw_only=True)
class Ended(Csv):
    """Csv with one option more, which no lane lists."""

    end: str = ""

    takes_texts, row_format, frame, lane_options = Csv.takes_texts, Csv.row_format, Csv.frame, Csv.lane_options

    def encode(self, columns, batches):
        yield from super().encode(columns, batches)
        yield self.end.encode()


class TestFastLanesAreRefusedByDefault:
    def test_to_a_class_that_is_derived_from_one_that_takes_them(self, database):
        Everything.objects.using(database).bulk_create([made(char="a", decimal=Decimal("1.50"))])
        rows = Everything.objects.using(database)
        assert plan(rows, ["char", "decimal"], Shouting()).lane == "python"
        written = b"".join(stream(rows, ["char", "decimal", "uuid"], Shouting())).decode()
        [row] = rows.values_list("char", "decimal", "uuid")
        assert written.splitlines()[1] == ",".join(str(value).upper() for value in row)

    def test_with_an_option_that_they_do_not_list(self, database):
        rows = Everything.objects.using(database)
        usual = plan(rows, ["id", "char"], Csv()).lane
        assert plan(rows, ["id", "char"], Ended()).lane == usual != "python"
        decided = plan(rows, ["id", "char"], Ended(end="# end"))
        assert decided.lane == "python"
        assert "Ended(end=...) is rendered in Python" in decided.reason
        assert b"".join(stream(rows, ["id", "char"], Ended(end="# end"))) == b"id,char\r\n# end"

    def test_to_options_of_a_class_that_is_no_dataclass(self, database):
        class Free:
            content_type, suffix, takes_texts, encode = "text/plain", ".lines", frozenset(), Lines.encode

            def __init__(self, **options):
                vars(self).update(options)

        assert plan(Everything.objects.using(database), ["id"], Free()).lane == "text"
        assert plan(Everything.objects.using(database), ["id"], Free(end="")).lane == "python"


def made(**values):
    known = {
        "boolean": True,
        "integer": 1,
        "floating": 1.0,
        "decimal": Decimal("1.5"),
        "date": datetime(2026, 1, 31).date(),
        "time": datetime(2026, 1, 31).time(),
        "datetime": datetime(2026, 1, 31, 8, 15, tzinfo=UTC),
        "duration": datetime(2026, 1, 2) - datetime(2026, 1, 1),
        "uuid": UUID(int=1),
        "binary": b"",
        "json": {},
    }
    return Everything(**{**known, **values})


@pytest.fixture(autouse=True)
def _rows(request):
    if "unknown" in request.fixturenames:
        assert connections[request.getfixturevalue("unknown")].vendor not in DATABASES
        fill("default", 23)
        for number, entry in enumerate(Everything.objects.order_by("pk")):
            entry.char_or_null = [None, "a", "b"][number % 3]
            entry.save()


SHAPES = {
    "fields": (lambda rows: rows.order_by("pk"), NAMES),
    "by a key with NULLs": (lambda rows: rows.order_by("char_or_null"), ["id", "char_or_null"]),
    "backwards": (lambda rows: rows.order_by("-char", "-decimal"), ["id", "char", "decimal"]),
    "values": (lambda rows: rows.order_by("integer").values("id", "integer", upper=Upper("char")), None),
    "instances": (lambda rows: rows.order_by("-datetime"), ["id", Column(lambda row: row.char, header="c")]),
    "a slice": (lambda rows: rows.order_by("pk")[3:17], ["id"]),
    "by a related field": (lambda rows: rows.order_by(F("parent__name").asc(nulls_last=True), "pk"), ["id"]),
}


class TestADatabaseOfAnUnknownVendor:
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("encoder", [Csv(), Json()], ids=["csv", "json"])
    @pytest.mark.parametrize("windows", [False, True])
    def test_gives_the_same_bytes(self, unknown, shape, encoder, windows):
        make, columns = SHAPES[shape]
        expected = b"".join(stream(make(Everything.objects.using("default")), columns, encoder, windows=windows))
        rows = make(Everything.objects.using(unknown))
        assert b"".join(stream(rows, columns, encoder, windows=windows, chunk_size=4)) == expected

    def test_is_bounded_in_windows_as_the_plan_advises(self, unknown):
        rows = Everything.objects.using(unknown).order_by("pk")
        advised = plan(rows, NAMES)
        assert (advised.bounded, advised.consistency) == (False, "statement")
        assert "Made-Up SQL" in advised.note
        assert "windows=True" in advised.note
        followed = plan(rows, NAMES, windows=True)
        assert (followed.bounded, followed.consistency) == (True, "window")

    def test_is_read_in_windows_by_many_statements(self, unknown):
        rows = Everything.objects.using(unknown).order_by("pk")
        with CaptureQueriesContext(connections[unknown]) as captured:
            list(stream(rows, ["id"], windows=True, chunk_size=4))
        assert len(captured) > 23 // 4

    @pytest.mark.parametrize("name", ["text", "json", "binary"])
    def test_is_not_read_in_windows_by_what_it_may_sort_in_another_order(self, unknown, name):
        with pytest.raises(SourceError, match="differently than it compares them"):
            stream(Everything.objects.using(unknown).order_by(name), windows=True)


@pytest.mark.parametrize("order", ["pk", "-char", "uuid", "datetime", "decimal", "char_or_null", "date"])
def test_cockroachdb_oracle_and_sql_server_are_read_in_windows(transactional_database, order, monkeypatch):
    """They have no module: PostgreSQL and MariaDB stand in, under a name that the table does not have."""
    fill(transactional_database, 11)
    rows = Everything.objects.using(transactional_database).order_by(order)
    expected = b"".join(stream(rows, NAMES, windows=True))
    monkeypatch.setattr(connections[transactional_database], "vendor", "cockroachdb")
    assert not plan(rows, NAMES).bounded
    assert b"".join(stream(rows, NAMES, windows=True, chunk_size=3)) == expected


class Bounded(Database):
    """What a database of one's own has to say: how it reads, and how it executes a statement."""

    def reading(self, connection, *, several):
        return Reading(bounded=True, consistency="statement")

    def open_cursor(self, connection, sql, params, *, raw_types, width, seconds):
        cursor = connection.cursor()
        cursor.execute(sql, params)
        return OpenCursor(cursor)


class Rendering(Bounded):
    """A database that also renders rows: those of CSV, whose cells are all integers."""

    def rendering(self, connection, selection, row_format):
        if not isinstance(row_format, DelimitedRows):
            return "it renders CSV only"
        return _Rows(connection, selection, row_format.delimiter)


@dataclass
class _Rows:
    connection: object
    selection: object
    delimiter: str

    @contextmanager
    def open(self, limits):
        names = f" || '{self.delimiter}' || ".join(f"c{column.position}" for column in self.selection.columns)
        width = ", ".join(f"c{position}" for position in range(self.selection.width))
        with self.connection.cursor() as cursor:
            cursor.execute(
                f"WITH q({width}) AS ({self.selection.sql}) SELECT {names} FROM q", self.selection.params
            )
            yield self._batches(cursor)

    def _batches(self, cursor) -> Generator[list[bytes]]:
        while rows := cursor.fetchmany(2):
            yield [row.encode() for (row,) in rows]


class TestADatabase:
    def test_is_read_as_it_says(self, unknown, monkeypatch):
        monkeypatch.setitem(DATABASES, "madeup", Bounded())
        rows = Everything.objects.using(unknown).order_by("pk")
        decided = plan(rows, NAMES)
        assert (decided.bounded, decided.lane) == (True, "text")
        assert "Made-Up SQL does not render rows" in decided.reason
        expected = b"".join(stream(Everything.objects.order_by("pk"), NAMES))
        assert b"".join(stream(rows, NAMES)) == expected

    def test_renders_what_it_can(self, unknown, monkeypatch):
        monkeypatch.setitem(DATABASES, "madeup", Rendering())
        rows = Everything.objects.using(unknown).order_by("pk")
        chunks = stream(rows, ["id", "integer"], Csv(delimiter=";"))
        expected = stream(Everything.objects.order_by("pk"), ["id", "integer"], Csv(delimiter=";"))
        assert b"".join(chunks) == b"".join(expected)
        assert (chunks.lane, chunks.rows) == ("copy", 23)
        assert plan(rows, ["id", "integer"], Json()).reason.endswith("it renders CSV only")

    def test_of_no_vendor_that_a_test_left(self):
        assert list(DATABASES) == ["mysql", "postgresql", "sqlite"]


def test_a_csv_of_an_unknown_vendor_is_read_by_others(unknown):
    written = b"".join(stream(Everything.objects.using(unknown).order_by("pk"), NAMES)).decode()
    rows = list(csv.DictReader(io.StringIO(written, newline="")))
    assert [int(row["id"]) for row in rows] == list(Everything.objects.order_by("pk").values_list("id", flat=True))
    assert Ticket.objects.count() > 0
