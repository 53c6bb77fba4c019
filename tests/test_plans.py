"""What is planned is what runs: the lane of a plan, the lane of its stream, and the statement of both."""

import logging
from contextlib import contextmanager, nullcontext
from zoneinfo import ZoneInfo

import pytest
from django.db import connections, transaction
from django.db.models import DateTimeField
from django.db.models.expressions import RawSQL
from django.db.models.sql.compiler import SQLCompiler

from tests.fieldtypes.models import Everything, Parent
from tests.strategies import POSTGRESQL
from tests.test_querysets import fill
from upstream.streaming import Column, Csv, Json, JsonLines, Parquet, Pdf, Xlsx, plan, stream

FIELDS = ["id", "char", "datetime"]
COMPUTED = ["id", Column(lambda row: row.char, header="char")]


@contextmanager
def wrapped(connection):
    """Give a list of the statements that an execute wrapper sees."""
    seen = []

    def wrapper(execute, sql, params, many, context):
        seen.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(wrapper):
        yield seen


@contextmanager
def in_zone(connection, name):
    """Give the connection a time zone of its own."""
    vars(connection).update(timezone=ZoneInfo(name), timezone_name=name)
    try:
        yield
    finally:
        del connection.timezone, connection.timezone_name


SHAPES = {
    "fields": (FIELDS, {}),
    "a function": (["id", Column("char", value=str.upper)], {}),
    "computed": (COMPUTED, {}),
    "windows": (FIELDS, {"windows": True}),
    "computed in windows": (COMPUTED, {"windows": True}),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("encoder", [Csv(), Csv(quoting="all"), JsonLines(), Json(indent=2)], ids=range(4))
def test_the_planned_lane_is_the_one_that_runs(transactional_database, shape, encoder):
    columns, options = SHAPES[shape]
    fill(transactional_database, 3)
    chunks = stream(Everything.objects.using(transactional_database).order_by("pk"), columns, encoder, **options)
    planned = chunks.lane
    b"".join(chunks)
    assert chunks.plan.lane == planned == chunks.lane


class TestForeseen:
    @pytest.fixture(autouse=True)
    def rows(self, transactional_database):
        fill(transactional_database, 3)
        self.connection = connections[transactional_database]
        self.rows = Everything.objects.using(transactional_database).order_by("pk")
        self.usual = "copy" if self.connection.vendor == POSTGRESQL else "text"

    def lane(self, columns=FIELDS, encoder=Csv()):  # noqa: B008 (frozen)
        chunks = stream(self.rows, columns, encoder)
        b"".join(chunks)
        assert chunks.plan.lane == chunks.lane
        return chunks.lane

    def test_an_execute_wrapper_sees_the_statement(self):
        assert self.lane() == self.usual
        with wrapped(self.connection) as seen:
            assert self.lane() == "text"
        assert any("fieldtypes_everything" in sql for sql in seen)

    def test_a_time_zone_of_the_connection(self):
        with in_zone(self.connection, "Asia/Kathmandu"):
            assert self.lane() == "text"
            if self.usual == "copy":
                assert "'datetime' is read in a time zone other than UTC" in plan(self.rows, FIELDS).reason
            assert self.lane(["id", "char"]) == self.usual

    def test_rows_that_the_orm_knows_to_be_none(self):
        self.rows = self.rows.none()
        assert self.lane() == "text"
        assert plan(self.rows, FIELDS).reason.endswith("the ORM knows that no row can match")


def test_what_cannot_be_foreseen_is_told_by_the_stream(transactional_database, caplog):
    """Only the server knows the type of a column: the plan hopes for COPY, and rows are read as tuples."""
    connection = connections[transactional_database]
    if connection.vendor != POSTGRESQL:
        pytest.skip("only PostgreSQL renders rows")
    Parent.objects.using(transactional_database).create(name="x")
    rows = Parent.objects.using(transactional_database).annotate(
        moment=RawSQL("'2026-01-31'::text", [], output_field=DateTimeField())
    )
    chunks = stream(rows.values_list("id", "moment"))
    assert (chunks.plan.lane, chunks.lane) == ("copy", "copy")
    with caplog.at_level(logging.INFO, "upstream"):
        assert b"".join(chunks).endswith(b",2026-01-31\r\n")
    assert (chunks.plan.lane, chunks.lane) == ("copy", "text")
    assert "COPY cannot render this export after all" in caplog.text


def test_a_wrapper_that_comes_after_the_plan_sees_the_statement(transactional_database):
    fill(transactional_database, 3)
    connection = connections[transactional_database]
    chunks = stream(Everything.objects.using(transactional_database), FIELDS)
    with wrapped(connection) as seen:
        list(chunks)
    assert chunks.lane == "text"
    assert any("fieldtypes_everything" in sql for sql in seen)


def test_a_format_that_holds_its_first_rows_back_says_until_when():
    for encoder in (Csv(), Json(), JsonLines(), Xlsx(), Pdf()):
        assert plan([{"id": 1}], encoder=encoder).first_byte == ""
    planned = plan([{"id": 1}], encoder=Parquet(row_group_rows=50_000))
    assert "first byte:  after 50,000 rows or about 16,777,216 bytes: a row group\n" in str(planned)


TYPED = Parquet(row_group_rows=100, types={"id": "int64", "name": "string"})


@pytest.mark.parametrize("encoder", [Csv(), Json(), JsonLines(), Xlsx(), Pdf(), TYPED], ids=range(6))
def test_the_first_byte_comes_when_the_plan_says(encoder):
    taken = []

    def source():
        for number in range(1000):
            taken.append(number)
            yield {"id": number, "name": "x"}

    with stream(source(), ["id", "name"], encoder) as chunks:
        assert next(chunks)
    assert len(taken) <= 100


@pytest.fixture
def compiled(monkeypatch):
    """Give a list of the queries that are compiled."""
    queries = []
    as_sql = SQLCompiler.as_sql

    def counting(self, *args, **options):
        queries.append(self.query)
        return as_sql(self, *args, **options)

    monkeypatch.setattr(SQLCompiler, "as_sql", counting)
    return queries


@pytest.mark.parametrize("columns", [FIELDS, COMPUTED, ["id", Column("char", value=str.upper)]], ids=range(3))
@pytest.mark.parametrize("in_transaction", [False, True])
def test_a_statement_is_compiled_once(transactional_database, columns, in_transaction, compiled):
    rows = Everything.objects.using(transactional_database).filter(integer=1).order_by("pk")
    with transaction.atomic(transactional_database) if in_transaction else nullcontext():
        chunks = stream(rows, columns)
        assert chunks.plan.sql
        list(chunks)
    assert len(compiled) == 1


def test_the_planned_statement_is_the_one_that_runs(transactional_database):
    fill(transactional_database, 3)
    connection = connections[transactional_database]
    for columns in (FIELDS, COMPUTED):
        chunks = stream(Everything.objects.using(transactional_database).filter(integer=1), columns)
        with wrapped(connection) as seen:
            list(chunks)
        assert any(chunks.plan.sql in sql for sql in seen)


def test_planning_leaves_the_queryset_as_it_was(database):
    rows = (
        Everything.objects.using(database)
        .select_related("parent")
        .prefetch_related("parent")
        .only("char", "parent")
    )
    before = str(rows.query), vars(rows.query).keys(), type(rows.query), rows._prefetch_related_lookups
    for columns in (None, FIELDS, COMPUTED, ["parent__name"]):
        plan(rows, columns)
    assert (str(rows.query), vars(rows.query).keys(), type(rows.query), rows._prefetch_related_lookups) == before
