"""Parquet holds the values that Django gives, typed, in row groups that come as soon as they are full."""

import gc
import io
import os
import signal
import tempfile
import weakref
from contextlib import closing, contextmanager, suppress
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from threading import Event, Thread, Timer, active_count, get_ident
from uuid import UUID

import duckdb
import pandas as pd
import pyarrow as pa
import pytest
from django.apps import apps
from django.db import connections
from django.db.models import Avg, Count, F, Max, Sum
from django.db.models.functions import ExtractYear, TruncMonth
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from tests import processes
from tests.fieldtypes.models import Disguised, Everything, Level
from tests.strategies import POSTGRESQL, decimals, durations, texts
from tests.test_lanes import DOCUMENTS, NAMES, edge_rows, stored
from upstream.streaming import Column, ColumnError, LimitError, Parquet, TextError, plan, stream, to_file
from upstream.streaming.columns import CellType, OutputColumn
from upstream.streaming.encoders.parquet import rendered, row_groups
from upstream.streaming.encoders.parquet.ahead import WAITING, ahead

CELLS = {
    "flag": (st.booleans(), pa.bool_()),
    "integer": (st.integers(-(2**63), 2**63 - 1), pa.int64()),
    "float": (st.floats(allow_nan=False), pa.float64()),
    "decimal": (decimals(30, 6), pa.decimal128(38, 6)),
    "text": (texts(), pa.string()),
    "day": (st.dates(), pa.date32()),
    "moment": (st.datetimes(timezones=st.just(UTC)), pa.timestamp("us", "UTC")),
    "naive": (st.datetimes(), pa.timestamp("us")),
    "time": (st.times(), pa.time64("us")),
    "duration": (durations("sqlite"), pa.duration("us")),
    "key": (st.uuids(), pa.uuid()),
    "bytes": (st.binary(max_size=20), pa.binary()),
}
ROWS = st.lists(
    st.fixed_dictionaries({name: st.none() | values for name, (values, _) in CELLS.items()}), max_size=5
)


def written(source, columns=None, encoder=Parquet(), **options):  # noqa: B008 (frozen)
    return b"".join(stream(source, columns, encoder, **options))


def opened(data):
    return parquet.ParquetFile(io.BytesIO(data))


def table(data):
    return parquet.read_table(io.BytesIO(data))


def column(values, **options):
    return table(written([{"n": value} for value in values], encoder=Parquet(**options)))["n"]


@contextmanager
def saved(data):
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        file.write(data)
        file.flush()
        yield file.name


def rows_of_duckdb(data):
    with saved(data) as path, closing(duckdb.connect(config={"threads": 1})) as connection:
        return connection.execute("SELECT * FROM read_parquet(?)", [path]).fetchall()


def rows_of_pandas(data):
    frame = pd.read_parquet(io.BytesIO(data), dtype_backend="pyarrow")
    return [tuple(row.values()) for row in pa.Table.from_pandas(frame).to_pylist()]


def rows_of_polars(data):
    return pytest.importorskip("polars").read_parquet(io.BytesIO(data)).rows()


def _microseconds(duration):
    """Return a duration as DuckDB reads it, which knows no such type."""
    return None if duration is None else duration // timedelta.resolution


class TestReaders:
    """Programs of others give the values that went in."""

    @given(ROWS)
    @settings(max_examples=30)
    def test_of_every_type(self, rows):
        data = written(rows, list(CELLS), Parquet(types={name: kind for name, (_, kind) in CELLS.items()}))
        expected = [tuple(row[name] for name in CELLS) for row in rows]
        assert table(data).to_pylist() == rows
        assert rows_of_pandas(data) == expected
        assert rows_of_duckdb(data) == [(*row[:9], _microseconds(row[9]), *row[10:]) for row in expected]
        assert rows_of_polars(data) == [(*row[:10], row[10] and row[10].bytes, row[11]) for row in expected]

    def test_types_are_those_of_the_readers(self):
        row = dict.fromkeys(CELLS)
        data = written([row], list(CELLS), Parquet(types={name: kind for name, (_, kind) in CELLS.items()}))
        with saved(data) as path, closing(duckdb.connect()) as connection:
            described = connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", [path]).fetchall()
        assert [kind for _, kind, *_ in described] == [
            *("BOOLEAN", "BIGINT", "DOUBLE", "DECIMAL(38,6)", "VARCHAR", "DATE", "TIMESTAMP WITH TIME ZONE"),
            *("TIMESTAMP", "TIME", "BIGINT", "UUID", "BLOB"),
        ]
        assert [str(kind) for kind in pd.read_parquet(io.BytesIO(data)).dtypes[["moment", "duration"]]] == [
            "datetime64[us, UTC]",
            "timedelta64[us]",
        ]

    def test_a_file_that_lacks_its_end_does_not_open(self):
        data = written([{"n": number} for number in range(50)], encoder=Parquet(row_group_rows=10))
        for end in (len(data) - 1, len(data) // 2, 100):
            with pytest.raises(pa.ArrowInvalid):
                opened(data[:end])
            with pytest.raises(duckdb.Error):
                rows_of_duckdb(data[:end])


SCHEMA = {
    **dict.fromkeys(("boolean", "boolean_or_null"), pa.bool_()),
    **dict.fromkeys(("id", "integer", "big_integer", "positive_big", "level", "next_integer"), pa.int64()),
    **dict.fromkeys(("char", "text", "slug", "file", "path", "ip_address", "word"), pa.string()),
    **dict.fromkeys(("json", "json_or_null", "upper_slug"), pa.string()),
    "floating": pa.float64(),
    "decimal": pa.decimal128(20, 6),
    "whole_decimal": pa.decimal128(12, 0),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "datetime": pa.timestamp("us", "UTC"),
    "duration": pa.duration("us"),
    "uuid": pa.uuid(),
    "binary": pa.binary(),
    "parent_id": pa.int64(),
    "ticket_id": pa.uuid(),
}


class TestFields:
    """The model's fields decide the types, before the first row."""

    def test_every_field_has_its_type_without_a_row(self, database):
        schema = table(written(Everything.objects.using(database).none())).schema
        assert schema.names == NAMES
        assert {name: schema.field(name).type for name in SCHEMA} == SCHEMA
        assert pa.null() not in schema.types

    def test_values_are_those_that_django_gives(self, database):
        plain = [name for name in NAMES if name not in DOCUMENTS]
        with stored(edge_rows(connections[database].vendor), database) as rows:
            got = table(written(rows, plain)).to_pylist()
            wanted = [{name: _held(getattr(row, name)) for name in plain} for row in rows]
        assert list(map(repr, got)) == list(map(repr, _in_utc(wanted)))  # repr tells NaN and -0.0

    def test_json_is_text(self, database):
        with stored(edge_rows(connections[database].vendor, 4), database) as rows:
            got = table(written(rows, ["json", "parent__details"]))
            assert got.schema.types == [pa.string()] * 2
            assert all(text is not None for text in got["json"].to_pylist())

    def test_naive_moments_have_no_zone(self, database, settings):
        settings.USE_TZ = False
        schema = table(written(Everything.objects.using(database).none(), ["datetime"])).schema
        assert schema.types == [pa.timestamp("us")]

    def test_fields_with_functions_of_their_own_have_the_type_of_their_values(self, database):
        Disguised.objects.using(database).create(colour="r", backwards="abc", price=Decimal("1.50"), shifted=1)
        got = table(written(Disguised.objects.using(database), ["colour", "backwards", "price"]))
        assert got.to_pylist() == [{"colour": "r", "backwards": "abc", "price": Decimal("1.50")}]
        assert got.schema.field("price").type == pa.decimal128(38, 2)

    def test_the_values_of_choices_are_the_stored_ones(self, database):
        with stored(edge_rows(connections[database].vendor, 3), database) as rows:
            rows.update(level=Level.ABOVE, word="=1+1")
            assert table(written(rows, ["level", "word"])).to_pylist() == [{"level": 1, "word": "=1+1"}] * 3

    def test_expressions_have_the_type_of_their_output_field(self, database):
        with stored(edge_rows(connections[database].vendor, 4), database) as rows:
            rows.update(decimal=Decimal("1.25"), datetime=datetime(2026, 3, 4, tzinfo=UTC))
            counted = (
                rows.order_by()
                .values("boolean")
                .annotate(n=Count("id"), last=Max("datetime"), sum=Sum("decimal"), mean=Avg("integer"))
            )
            got = table(written(counted.order_by("boolean")))
            assert got.schema.types == [
                *(pa.bool_(), pa.int64(), pa.timestamp("us", "UTC")),
                *(pa.decimal128(38, got.schema.field("sum").type.scale), pa.float64()),
            ]
            assert sum(got["sum"].to_pylist()) == 5
            parts = table(
                written(
                    rows.annotate(month=TruncMonth("datetime"), year=ExtractYear("datetime")), ["month", "year"]
                )
            )
            assert parts.to_pylist()[0] == {"month": datetime(2026, 3, 1, tzinfo=UTC), "year": 2026}

    def test_values_querysets_of_every_kind(self, database):
        with stored(edge_rows(connections[database].vendor, 2), database) as rows:
            for queryset in (
                rows.values("id", "uuid"),
                rows.values_list("id", "uuid"),
                rows.values_list("uuid", flat=True),
            ):
                assert table(written(queryset)).schema.types[-1] == pa.uuid()
                assert table(written(queryset))["uuid"].to_pylist() == [row.uuid for row in rows]

    def test_arrays_are_lists(self, database):
        if connections[database].vendor != POSTGRESQL:
            pytest.skip("only PostgreSQL has arrays")
        model = apps.get_model("fieldtypes.PostgresOnly")
        row = {
            "integers": [1, None, 3],
            "texts": ["a", None, ""],
            "grid": [[1.5, 2.0], [0.1, 3.0]],
            "moments": [datetime(2026, 1, 31, 8, 15, tzinfo=UTC)],
            "prices": [Decimal("1.500")],
        }
        model.objects.using(database).create(**row)
        model.objects.using(database).create(texts=[])
        got = table(written(model.objects.using(database).order_by("pk"), list(row)))
        assert got.to_pylist() == [row, {**dict.fromkeys(row), "texts": []}]
        assert got.schema.field("prices").type.value_type == pa.decimal128(12, 3)

    def test_windows_give_the_same_bytes(self, transactional_database):
        with stored(edge_rows(connections[transactional_database].vendor), transactional_database) as rows:
            columns = ["id", "char", "decimal", "uuid", "datetime"]
            assert written(rows, columns, windows=True, chunk_size=3) == written(rows, columns)


def _held(value):
    if isinstance(value, memoryview):
        return bytes(value)
    if isinstance(value, Enum):
        return value.value
    return getattr(value, "name", value) if type(value).__name__ == "FieldFile" else value


def _in_utc(rows):
    """Return the rows with moments as pyarrow gives them: of the zone called UTC."""
    zone = column([datetime(2026, 1, 1, tzinfo=UTC)])[0].as_py().tzinfo
    return [
        {name: value.replace(tzinfo=zone) if isinstance(value, datetime) else value for name, value in row.items()}
        for row in rows
    ]


class TestPostgresql:
    def test_it_sends_rows_that_are_parsed_in_c(self, transactional_database):
        if connections[transactional_database].vendor != POSTGRESQL:
            pytest.skip("only PostgreSQL renders rows")
        rows = Everything.objects.using(transactional_database)
        assert plan(rows, encoder=Parquet()).lane == "copy"
        assert plan(rows.annotate(sum=F("decimal") + 1), encoder=Parquet()).reason.endswith(
            "the type of column 'sum' depends on its values"
        )
        assert plan(rows, ["id"], Parquet(types={"id": "int32"})).lane == "python"

    @pytest.mark.parametrize(
        ("name", "literal"),
        [
            ("date_or_null", "'infinity'"),
            ("date_or_null", "'10000-01-01'"),
            ("datetime_or_null", "'infinity'"),
            ("datetime_or_null", "'0044-03-15 BC'"),
            ("time_or_null", "'24:00'"),
            ("decimal_or_null", "'NaN'"),
            ("duration_or_null", "'300000 years'"),
        ],
    )
    def test_what_python_cannot_represent_is_an_error(self, transactional_database, name, literal):
        if connections[transactional_database].vendor != POSTGRESQL:
            pytest.skip("only PostgreSQL has such values")
        with stored(edge_rows(POSTGRESQL, 3), transactional_database) as rows:
            with connections[transactional_database].cursor() as cursor:
                cursor.execute(f"UPDATE fieldtypes_everything SET {name} = NULL")
                cursor.execute(f"UPDATE fieldtypes_everything SET {name} = {literal} WHERE id = %s", [rows[1].pk])
            chunks = stream(rows.order_by("id"), ["id", name], Parquet())
            with pytest.raises(Exception) as caught:
                b"".join(chunks)
            assert chunks.lane == "copy"
            if isinstance(caught.value, ColumnError):
                assert caught.value.__notes__ == [f"while writing row 2, column {name!r}"]
            else:
                assert "out of range" in str(caught.value)

    def test_null_and_the_empty_text_are_two(self, transactional_database):
        with stored(edge_rows(connections[transactional_database].vendor, 4), transactional_database) as rows:
            rows.filter(pk__in=[rows[0].pk, rows[1].pk]).update(text_or_null="")
            rows.filter(pk__in=[rows[2].pk, rows[3].pk]).update(text_or_null=None)
            for columns in (["text_or_null"], ["id", "text_or_null"]):
                got = table(written(rows.order_by("pk"), columns))
                assert got["text_or_null"].to_pylist() == ["", "", None, None]

    def test_leaving_early_ends_the_thread_and_frees_the_connection(self, transactional_database, monkeypatch):
        if connections[transactional_database].vendor != POSTGRESQL:
            pytest.skip("only PostgreSQL renders rows")
        monkeypatch.setattr(rendered, "PARSED_BYTES", 1)
        with stored(edge_rows(POSTGRESQL, 30), transactional_database) as rows:
            threads = active_count()
            chunks = stream(rows, ["id", "text"], Parquet(row_group_rows=2), chunk_size=1)
            next(chunks)
            assert (chunks.lane, active_count()) == ("copy", threads + 1)
            assert chunks.rows < 30
            chunks.close()
            assert active_count() == threads
            assert rows.count() == 30

    @given(st.data())
    @settings(max_examples=10)
    def test_drawn_text_in_a_single_column(self, transactional_database, data):
        drawn = data.draw(st.lists(st.none() | texts(connections[transactional_database].vendor), max_size=4))
        usual = edge_rows(connections[transactional_database].vendor, 1)[0]
        with stored([_copy(usual, text) for text in drawn], transactional_database) as rows:
            assert table(written(rows, ["text_or_null"]))["text_or_null"].to_pylist() == drawn


def _copy(row, text):
    values = {
        field.attname: getattr(row, field.attname)
        for field in Everything._meta.concrete_fields
        if not field.generated
    }
    return Everything(**{**values, "id": None, "parent_id": None, "ticket_id": None, "text_or_null": text})


class TestRenderedRows:
    """What a database renders is written as what Python builds, in a thread."""

    COLUMNS = (
        OutputColumn("n", type=CellType(int)),
        OutputColumn("text", type=CellType(str)),
        OutputColumn("key", type=CellType(UUID)),
    )

    @pytest.mark.parametrize("size", [100, 5_000])
    def test_any_batches_give_the_bytes_of_built_rows(self, size):
        rows = [
            (n, None if n % 7 == 0 else 'a "quoted"\nline' * (n % 40), None if n % 3 == 0 else UUID(int=n))
            for n in range(30_000)
        ]
        lines = [b"%d,%s,%s" % (n, _quoted(text), str(key or "").encode()) for n, text, key in rows]
        encoder = Parquet(row_group_bytes=3_000_000)
        built = b"".join(encoder.encode(self.COLUMNS, _batches(rows, 777)))
        assert b"".join(encoder.frame(self.COLUMNS, _batches(lines, size))) == built
        assert opened(built).num_row_groups == 3
        assert [tuple(row.values()) for row in table(built).to_pylist()] == rows

    def test_a_cell_that_does_not_fit_is_an_error_that_names_its_row(self):
        lines = [b"%d,," % n for n in range(300_000)]
        lines[250_000] = b"many,,"
        with pytest.raises(ColumnError, match="column 'n' is of the type int64") as caught:
            b"".join(Parquet().frame(self.COLUMNS, _batches(lines, 2_000)))
        assert caught.value.__notes__ == ["while writing row 250001, column 'n'"]

    def test_uuids_need_no_pandas(self):
        code = """
import sys
from upstream.streaming import Parquet
from upstream.streaming.columns import CellType, OutputColumn
from uuid import UUID
rows = ([b"00000000-0000-0000-0000-000000000001"] for _ in range(3))
b"".join(Parquet().frame([OutputColumn("key", type=CellType(UUID))], rows))
print("pyarrow" in sys.modules, "pandas" in sys.modules)
"""
        assert processes.printed(code, variables={"DJANGO_SETTINGS_MODULE": "tests.settings"}) == "True False\n"


def _quoted(text):
    return b"" if text is None else b'"' + text.replace('"', '""').encode() + b'"'


def _batches(rows, size):
    yield from (rows[start : start + size] for start in range(0, len(rows), size))


class TestAhead:
    """A thread works on items while the next ones are read."""

    def test_results_come_in_order_while_a_few_items_are_read_ahead(self):
        read, threads = [], set()

        def items():
            for number in range(20):
                read.append(number)
                yield number

        def double(number):
            threads.add(get_ident())
            return 2 * number

        results = []
        for result in ahead(double, items()):
            results.append(result)
            assert len(read) <= len(results) + WAITING
        assert results == list(range(0, 40, 2))
        assert len(threads - {get_ident()}) == 1

    def test_items_are_read_while_the_thread_works(self):
        read_on = Event()

        def items():
            yield 0
            read_on.set()
            yield 1

        assert list(ahead(lambda _: read_on.wait(10), items())) == [True, True]

    def test_an_error_is_raised_in_the_place_of_its_result(self):
        closed, results = [], []

        def items():
            try:
                yield from range(100)
            finally:
                closed.append(True)

        def check(number):
            if number >= 7:
                raise KeyError(number)
            return number

        threads = active_count()
        with pytest.raises(KeyError, match="7"):
            results.extend(ahead(check, items()))
        assert (results, closed, active_count()) == (list(range(7)), [True], threads)

    def test_an_error_keeps_nothing_alive_once_it_is_handled(self):
        class Rows:
            pass

        def fail(rows):
            raise KeyError

        def held():
            rows = Rows()
            with suppress(KeyError):
                list(ahead(fail, (one for one in [rows])))
            return weakref.ref(rows)

        gc.disable()
        try:
            assert held()() is None
        finally:
            gc.enable()

    def test_it_can_be_ended_by_its_own_thread_where_the_garbage_collector_runs(self, recwarn):
        ended = Event()

        def items():
            try:
                yield from range(100)
            finally:
                ended.set()

        def work(number):
            if number:
                gc.collect()
            return number

        threads = active_count()
        cycle = [ahead(work, items())]
        cycle.append(cycle)
        next(cycle[0])
        del cycle
        assert ended.wait(10)
        assert processes.eventually(lambda: active_count() == threads)

    def test_an_error_of_the_source_ends_the_thread(self):
        def items():
            yield 1
            raise LookupError("gone")

        threads = active_count()
        with pytest.raises(LookupError, match="gone"):
            list(ahead(str, items()))
        assert active_count() == threads

    def test_leaving_early_works_on_no_item_that_waits(self):
        worked, allowed = [], Event()

        def work(number):
            if number:
                allowed.wait(10)
            worked.append(number)

        results = ahead(work, _yielded(range(100)))
        next(results)
        Timer(0.2, allowed.set).start()
        results.close()
        assert worked in ([0], [0, 1])

    def test_ctrl_c_while_waiting_for_a_result_ends_the_thread(self):
        interrupted = Event()

        def work(_number):
            interrupted.wait(10)

        threads = active_count()
        Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        Timer(0.4, interrupted.set).start()
        with pytest.raises(KeyboardInterrupt):
            list(ahead(work, _yielded(range(100))))
        interrupted.wait()
        assert active_count() <= threads + 1  # a timer may be about to end

    def test_an_interpreter_ends_with_a_stream_that_was_never_closed(self):
        code = """
from itertools import count
from upstream.streaming import Parquet
from upstream.streaming.columns import CellType, OutputColumn
lines = ([b"%d" % number] * 1000 for number in count())
chunks = Parquet(row_group_rows=100_000).frame([OutputColumn("n", type=CellType(int))], lines)
print(next(chunks)[:4])
"""
        assert processes.printed(code, variables={"DJANGO_SETTINGS_MODULE": "tests.settings"}) == "b'PAR1'\n"

    def test_a_file_abandoned_while_a_row_group_is_written_is_closed_after_that(self, monkeypatch):
        file = row_groups.File([OutputColumn("n")], [pa.int64()], compression="zstd", level=None, rows=1, size=1)
        writing, allowed, written = Event(), Event(), []
        take = file._sink.take

        def slow():
            writing.set()
            allowed.wait(10)
            return take()

        monkeypatch.setattr(file._sink, "take", slow)
        thread = Thread(target=lambda: written.extend(file.add([pa.array([1])])))
        thread.start()
        writing.wait(10)
        file.abandon()
        assert file._writer.is_open
        allowed.set()
        thread.join()
        assert len(written) == 1
        assert not file._writer.is_open


def _yielded(numbers):
    yield from numbers


class TestRecords:
    """Without a model, the first values decide."""

    @pytest.mark.parametrize(
        ("values", "kind"),
        [
            ([None, None], pa.null()),
            ([None, True], pa.bool_()),
            ([1, None], pa.int64()),
            ([1, 2.5], pa.float64()),
            ([Decimal("1.5"), 2, Decimal("0.125")], pa.decimal128(38, 3)),
            ([Decimal(10) ** 40], pa.decimal256(76, 0)),
            ([date(2026, 1, 31)], pa.date32()),
            ([datetime(2026, 1, 31)], pa.timestamp("us")),
            ([datetime(2026, 1, 31, tzinfo=UTC)], pa.timestamp("us", "UTC")),
            ([time(8)], pa.time64("us")),
            ([timedelta.resolution], pa.duration("us")),
            ([UUID(int=1), None], pa.uuid()),
            ([b"x"], pa.binary()),
            (["x", ""], pa.string()),
        ],
    )
    def test_a_column_has_the_type_of_its_values(self, values, kind):
        got = column(values)
        assert got.type == kind
        assert got.to_pylist() == values

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ({"a": [1]}, '{"a":[1]}'),
            ([1, "a"], '[1,"a"]'),
            (time(8, tzinfo=UTC), "08:00:00+00:00"),
            (Level.ABOVE, 1),
            (memoryview(b"x"), b"x"),
            (pd.Timestamp("2026-01-31"), datetime(2026, 1, 31)),
            (pd.NaT, None),
        ],
    )
    def test_other_values_are_what_they_hold_or_their_text(self, value, text):
        assert column([value]).to_pylist() == [text]

    def test_moments_of_any_zone_are_the_same_moments(self):
        moments = [datetime(2026, 1, 31, 8, tzinfo=timezone(timedelta(hours=hours))) for hours in (-5, 0, 9)]
        assert column(moments).to_pylist() == moments

    @pytest.mark.parametrize(
        "values", [[1, "a"], [1.5, Decimal(1)], [date(2026, 1, 1), datetime(2026, 1, 1)], [True, 1]]
    )
    def test_values_of_several_types_are_an_error_that_names_them(self, values):
        with pytest.raises(ColumnError, match="column 'n' has values of several types"):
            column(values)
        assert column(values, types={"n": "string"}).to_pylist() == [
            text.decode() for text in b"".join(stream([(v,) for v in values], ["n"])).split(b"\r\n")[1:-1]
        ]

    def test_moments_with_and_without_a_zone_are_an_error(self):
        with pytest.raises(ColumnError, match="with and without a time zone"):
            column([datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC)])

    @pytest.mark.parametrize(
        ("usual", "odd"),
        [
            (1, "a"),
            (1, 1.0),
            (1, True),
            (1, 2**63),
            (None, 1),
            (Decimal("1.5"), Decimal("1.25")),
            (Decimal(1), Decimal("NaN")),
            (date(2026, 1, 1), datetime(2026, 1, 1)),
            (datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC)),
            (b"x", "x"),
        ],
    )
    def test_a_later_value_that_does_not_fit_is_an_error_that_names_its_row(self, usual, odd):
        rows = ({"n": usual if number != 12_345 else odd} for number in range(1, 20_000))
        with pytest.raises(ColumnError, match="declare another type with Parquet") as caught:
            written(rows)
        assert caught.value.__notes__ == ["while writing row 12345, column 'n'"]

    def test_the_type_is_decided_by_the_same_rows_however_they_are_batched(self):
        rows = [{"n": None if number < 9_999 else 1.5, "wide": "x" * 100} for number in range(10_100)]
        assert len({written(rows, chunk_size=size) for size in (1, 7, 2_000, 9_999)}) == 1
        with pytest.raises(ColumnError):
            written([{"n": None}, *rows])
        with pytest.raises(ColumnError, match="of the type null"):  # 4 MiB are reached before
            written([{"n": None, "wide": "x" * 1_000_000}] * 5 + [{"n": 1, "wide": ""}])

    def test_declared_types_are_written(self):
        kinds = {
            "small": "int16",
            "tags": pa.list_(pa.string()),
            "word": pa.dictionary("int32", "string"),
        }
        rows = [{"small": 1, "tags": ["a", None], "word": "x"}, {"small": None, "tags": None, "word": None}]
        got = table(written(rows, encoder=Parquet(types=kinds)))
        assert got.to_pylist() == rows
        assert [str(kind) for kind in got.schema.types][:2] == ["int16", "list<element: string>"]

    def test_a_lone_surrogate_is_an_error_that_names_its_place(self):
        with pytest.raises(TextError, match="U\\+D800") as caught:
            column(["a", "\ud800"])
        assert caught.value.__notes__ == ["while writing row 2, column 'n'"]

    def test_a_function_has_the_type_of_its_results(self, database):
        with stored(edge_rows(connections[database].vendor, 3), database) as rows:
            got = table(
                written(
                    rows, ["id", Column("char", header="size", value=len), Column(lambda row: 0.5, header="half")]
                )
            )
            assert got.schema.types == [pa.int64(), pa.int64(), pa.float64()]


class TestStreaming:
    def test_source_and_consumer_take_turns(self):
        events = []

        def rows():
            for number in range(5):
                events.append(number)
                yield {"n": number}

        encoder = Parquet(row_group_rows=2, types={"n": "int64"})
        for _ in stream(rows(), ["n"], encoder, chunk_size=1):
            events.append("chunk")  # noqa: PERF401 (the source appends in between)
        assert events == [0, 1, "chunk", 2, 3, "chunk", 4, "chunk", "chunk"]

    def test_leaving_early_closes_the_source(self):
        closed = []

        def rows():
            try:
                while True:
                    yield {"n": 1}
            finally:
                closed.append(True)

        for columns in (["n"], None):
            chunks = stream(rows(), columns, Parquet(row_group_rows=3))
            next(chunks)
            chunks.close()
        assert closed == [True, True]

    def test_a_source_that_fails_leaves_no_file(self, tmp_path):
        def rows():
            yield from ({"n": number} for number in range(20))
            raise KeyError("gone")

        with pytest.raises(KeyError):
            to_file(stream(rows(), encoder=Parquet(row_group_rows=3)), tmp_path / "x.parquet")
        assert list(tmp_path.iterdir()) == []
        chunks = stream(rows(), encoder=Parquet(row_group_rows=30))
        with pytest.raises(KeyError):
            next(chunks)
        assert chunks.size == 0

    def test_no_rows_are_a_file_with_columns(self):
        assert table(written([], ["a", "b"])).schema.names == ["a", "b"]
        assert rows_of_duckdb(written([], ["a", "b"])) == []
        assert table(written([])).num_columns == 0

    @pytest.mark.parametrize("part_bytes", [100, 2**20])
    @pytest.mark.parametrize(("rows", "size"), [(1, 2**20), (3, 2**20), (1000, 300), (1000, 1)])
    def test_any_batches_give_the_same_bytes_and_row_groups(self, rows, size, part_bytes, monkeypatch):
        monkeypatch.setattr(row_groups, "PART_BYTES", part_bytes)
        source = [
            {"n": number, "text": "x" * (number % 70), "list": [number] * (number % 5)} for number in range(100)
        ]
        encoder = Parquet(row_group_rows=rows, row_group_bytes=size, types={"list": pa.list_(pa.int64())})
        written_in = {written(source, None, encoder, chunk_size=chunk) for chunk in (1, 7, 2_000)}
        assert len(written_in) == 1
        [data] = written_in
        assert table(data).to_pylist() == source
        groups = opened(data).metadata
        counts = [groups.row_group(number).num_rows for number in range(groups.num_row_groups)]
        assert max(counts) <= rows
        assert len(counts) == -(-100 // rows) or size < 2**20

    @pytest.mark.parametrize("rows", [10, 20, 21])
    def test_a_row_group_may_end_with_a_part(self, rows, monkeypatch):
        monkeypatch.setattr(row_groups, "PART_BYTES", 80)  # ten integers
        source = [{"n": number} for number in range(rows)]
        for chunk in (7, 10):
            assert (
                table(written(source, encoder=Parquet(types={"n": "int64"}), chunk_size=chunk)).to_pylist()
                == source
            )

    def test_row_groups_are_bounded_by_bytes(self):
        source = ({"text": "x" * 100_000} for _ in range(40))
        metadata = opened(written(source, None, Parquet(row_group_bytes=1_000_000))).metadata
        assert [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)] == [10] * 4

    def test_limits_hold(self):
        with pytest.raises(LimitError):
            written([{"n": 1}] * 10, max_rows=9)
        with pytest.raises(LimitError):
            written([{"n": 1}] * 10, max_bytes=100)

    def test_columns_that_hardly_repeat_have_no_large_dictionary(self):
        source = [{"word": f"word {number % 50}", "key": f"key {number:09}"} for number in range(50_000)]
        group = opened(written(source, encoder=Parquet(compression="none"))).metadata.row_group(0)
        word, key = (group.column(at) for at in (0, 1))
        assert word.total_uncompressed_size < 50_000
        assert 0 < key.data_page_offset - key.dictionary_page_offset < 100_000  # the keys are 800 KB


class TestOptions:
    def test_without_pyarrow_the_error_says_what_to_install_and_the_format_is_not_offered(self):
        code = """
import sys
sys.modules["pyarrow"] = None
import django
django.setup()
from upstream.integrations.formats import FORMATS
from upstream.streaming import MissingDependencyError, Parquet, stream
try:
    stream([], ["a"], Parquet())
except MissingDependencyError as error:
    print(error, "parquet" in FORMATS)
"""
        printed = processes.printed(code, variables={"DJANGO_SETTINGS_MODULE": "tests.settings"})
        assert "pip install 'upstream[parquet]' False" in printed

    def test_the_codec_is_inside_the_file(self):
        for codec, name in {"zstd": "ZSTD", "snappy": "SNAPPY", "gzip": "GZIP", "none": "UNCOMPRESSED"}.items():
            data = written([{"n": "x" * 100}], encoder=Parquet(compression=codec))
            assert opened(data).metadata.row_group(0).column(0).compression == name

    @pytest.mark.parametrize("compression", ["gzip", "zstd"])
    def test_compressing_it_again_is_refused(self, compression):
        with pytest.raises(ValueError, match="Parquet is compressed inside"):
            stream([{"n": 1}], encoder=Parquet(), compression=compression)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"compression": "brotli?"}, "compression must be one of"),
            ({"compression": "snappy", "compression_level": 3}, "compression_level requires"),
            ({"row_group_rows": 0}, "row_group_rows must be a positive integer"),
            ({"row_group_bytes": 1.5}, "row_group_bytes must be a positive integer"),
            ({"types": ["int64"]}, "types must map headers"),
        ],
    )
    def test_wrong_options_are_errors_at_once(self, options, message):
        with pytest.raises(ValueError, match=message):
            Parquet(**options)

    @pytest.mark.parametrize(
        ("columns", "types", "message"),
        [
            (["a"], {"a": "int99"}, "must give 'a' a type of pyarrow"),
            (["amount"], {"amuont": "int64"}, "did you mean 'amount'"),
            (["a", Column("b", header="a")], None, "columns of a Parquet file must be unique"),
        ],
    )
    def test_wrong_columns_are_errors_before_the_first_row(self, columns, types, message):
        with pytest.raises(ValueError, match=message):
            stream([], columns, Parquet(types=types))
