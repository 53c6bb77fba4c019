"""Dumps in formats whose parts are files of their own: other readers see one table, and the rows of one export."""

import hashlib
import json
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO
from zipfile import ZipFile
from zoneinfo import ZoneInfo

import duckdb
import openpyxl
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
import pytest
import python_calamine
from django.utils import timezone
from openxml_audit import OpenXmlValidator, ValidationSeverity

from tests import processes
from tests.fieldtypes.models import Secretive
from tests.orders.models import Buyer, Item, Order, Seat
from upstream.dumps import (
    Directory,
    DumpPlan,
    VerificationError,
    begin,
    commit,
    plan_dump,
    resume,
    run,
    run_part,
    verify,
)
from upstream.dumps.encoders import from_data, to_data
from upstream.streaming import Csv, ExportError, Parquet, Pdf, Xlsx, stream, to_file

ROWS = 90
COLUMNS = ["id", "sku", "price", "sold_at", "details", "get_kind_display", "maker__name"]


def stored(database):
    """Store items of which each part holds other kinds of values, and the first no texts and moments."""
    order = Order.objects.using(database).create(number=1)
    maker = Buyer.objects.using(database).create(name="Zoë", code="z")
    Item.objects.using(database).bulk_create(
        Item(
            id=number,
            order=order,
            sku=None if number < 50 else f"<{number}>",
            price=Decimal(number) / 4,
            sold_at=None if number < 40 else datetime(2026, 1, 31, 8, number % 60, tzinfo=UTC),
            details={"n": number} if number % 2 else [number],
            kind=Item.Kind.PEN if number % 3 else Item.Kind.BOOK,
            maker=maker if number > 70 else None,
        )
        for number in range(1, ROWS + 1)
    )
    return Item.objects.using(database).order_by("id")


@pytest.fixture
def items(transactional_database):
    return stored(transactional_database)


def exported(rows, encoder, columns=COLUMNS):
    return b"".join(stream(rows, columns, encoder))


def table_of(data):
    return pa.parquet.read_table(BytesIO(data))


def parts_of(place):
    manifest = json.loads((place / "manifest.json").read_bytes())
    return [place / part["name"] for part in manifest["parts"]]


def sheets_of(source):
    """Return the cells of all sheets without their headers, as calamine reads them."""
    workbook = python_calamine.CalamineWorkbook.from_object(source)
    sheets = [workbook.get_sheet_by_name(name).to_python() for name in workbook.sheet_names]
    assert all(sheet[0] == sheets[0][0] for sheet in sheets)
    return [row for sheet in sheets for row in sheet[1:]]


class TestParquet:
    def test_parts_are_a_data_set_that_other_readers_take_for_the_table_of_one_export(self, items, place):
        manifest = run(plan_dump(items, COLUMNS, Parquet(), place, parts=4))

        expected = table_of(exported(items, Parquet()))
        folder = place / "orders.item"
        assert len(manifest["parts"]) == 4
        dataset = pa.dataset.dataset(folder, format="parquet")
        assert dataset.schema == expected.schema
        assert dataset.to_table().sort_by("id").equals(expected)
        assert pa.parquet.read_table(folder).sort_by("id").equals(expected)
        assert pl.read_parquet(folder).sort("id").equals(pl.read_parquet(exported(items, Parquet())))
        assert duckdb.sql(f"SELECT sum(price), count(sku), count(*) FROM '{folder}/*.parquet'").fetchall() == [
            (sum(row.price for row in items), ROWS - 49, ROWS)
        ]
        assert verify(place) == manifest

    def test_each_part_has_the_schema_of_the_model_whatever_its_rows_hold(self, items, place):
        plan = plan_dump(items, COLUMNS, Parquet(), place, parts=6)
        [start], [end] = plan.ranges[2][:1], plan.ranges[2][1:]
        items.filter(id__gte=start, id__lt=end).delete()
        manifest = run(plan)

        schemas = [pa.parquet.read_schema(path) for path in parts_of(place)]
        assert manifest["parts"][2]["rows"] == 0
        assert all(schema.equals(schemas[0], check_metadata=True) for schema in schemas)
        assert schemas[0].field("price").type == pa.decimal128(8, 2)
        assert schemas[0].field("details").type == schemas[0].field("get_kind_display").type == pa.string()
        assert verify(place)["rows"] == items.count()

    def test_a_type_that_only_values_tell_is_that_of_the_first_values_of_all(self, items, place):
        columns = ["id", "shout", "details__n"]
        plan = plan_dump(items.exclude(sku=None), columns, Parquet(), place, parts=3)
        again = DumpPlan.from_data(json.loads(json.dumps(plan.as_data())))
        begin(again)
        commit(again, [run_part(again, number) for number in again.numbers])

        schemas = {str(pa.parquet.read_schema(path)) for path in parts_of(place)}
        assert schemas == {str(table_of(exported(items.exclude(sku=None), Parquet(), columns)).schema)}
        assert pa.parquet.read_schema(parts_of(place)[0]).field("shout").type == pa.string()

    @pytest.mark.parametrize("parts", [1, 4])
    def test_can_be_one_file_with_the_row_groups_of_all_parts(self, items, place, parts):
        encoder = Parquet(row_group_rows=20, compression="gzip")
        manifest = run(plan_dump(items, COLUMNS, encoder, place, parts=parts, joined=True))

        path = place / "orders.item.parquet"
        assert {file.name for file in place.iterdir()} == {path.name, "manifest.json"}
        assert pa.parquet.read_table(path).equals(table_of(exported(items, encoder)))
        metadata = pa.parquet.read_metadata(path)
        assert all(metadata.row_group(at).num_rows <= 20 for at in range(metadata.num_row_groups))
        assert metadata.row_group(0).column(0).compression == "GZIP"
        [whole] = manifest["parts"]
        assert (whole["rows"], whole["key"]) == (ROWS, {"name": "id", "from": None, "before": None})
        assert verify(place) == manifest

    @pytest.mark.parametrize("joined", [False, True], ids=["parts", "one file"])
    def test_of_an_empty_table_has_its_columns(self, transactional_database, place, joined):
        rows = Item.objects.using(transactional_database)
        run(plan_dump(rows, COLUMNS[:5], Parquet(), place, joined=joined))
        found = pa.dataset.dataset(next(place.rglob("*.parquet")))
        assert found.count_rows() == verify(place)["rows"] == 0
        assert found.schema == table_of(exported(rows, Parquet(), COLUMNS[:5])).schema

    def test_of_a_composite_key_and_of_one_row(self, transactional_database, place):
        seats = Seat.objects.using(transactional_database)
        seats.create(row=1, number=1, name="a")
        run(plan_dump(seats, None, Parquet(), place, parts=4))
        assert duckdb.sql(f"FROM '{place}/*/*.parquet'").fetchall() == [(1, 1, "a")]
        seats.bulk_create(Seat(row=row, number=number, name="b") for row in range(2, 30) for number in range(3))
        run(plan_dump(seats, None, Parquet(), place, parts=4), overwrite=True)
        assert len(parts_of(place)) == 4
        assert duckdb.sql(f"SELECT count(DISTINCT (row, number)) FROM '{place}/*/*.parquet'").fetchall() == [(85,)]

    def test_options_come_back_from_the_plan(self):
        encoder = Parquet(
            types={
                "a": "int32",
                "b": pa.decimal128(9, 3),
                "c": pa.list_(pa.timestamp("us", "UTC")),
                "d": pa.uuid(),
            },
            compression="zstd",
            compression_level=9,
        )
        assert from_data(json.loads(json.dumps(to_data(encoder)))) == encoder


class TestExcel:
    def test_parts_are_workbooks_with_the_rows_of_one_export(self, items, place):
        manifest = run(plan_dump(items, COLUMNS, Xlsx(), place, parts=4))

        rows = [row for path in parts_of(place) for row in sheets_of(str(path))]
        assert rows == sheets_of(BytesIO(exported(items, Xlsx())))
        assert [path.parent.name for path in parts_of(place)] == ["orders.item"] * 4
        assert verify(place) == manifest

    def test_one_workbook_has_a_sheet_for_each_part_as_it_was_compressed(self, items, place):
        encoder = Xlsx(title="Items of 2026", number_formats={"price": "#,##0.00"}, long_texts="cut")
        plan = plan_dump(items, COLUMNS, encoder, place, parts=4, joined=True)
        begin(plan)
        parts = [run_part(plan, number) for number in plan.numbers]
        target, compressed = Directory(str(place)), []
        for part in parts:
            data = b"".join(target.read(part.name))
            with ZipFile(BytesIO(data)) as workbook:
                entry = workbook.getinfo("xl/worksheets/sheet1.xml")
                compressed.append((entry.CRC, entry.compress_size))
        manifest = commit(plan, parts)

        path = place / "orders.item.xlsx"
        with ZipFile(path) as workbook:
            assert workbook.testzip() is None
            entries = [workbook.getinfo(f"xl/worksheets/sheet{number}.xml") for number in (1, 2, 3, 4)]
            assert [(entry.CRC, entry.compress_size) for entry in entries] == compressed
        assert sheets_of(str(path)) == sheets_of(BytesIO(exported(items, encoder)))
        workbook = openpyxl.load_workbook(path)
        names = ["Items of 2026", *(f"Items of 2026 ({number})" for number in (2, 3, 4))]
        assert workbook.sheetnames == names
        for sheet in workbook.worksheets:
            assert sheet.auto_filter.ref == f"A1:G{sheet.max_row}"
            assert sheet.print_title_rows == "$1:$1"
            assert sheet["C2"].number_format == "#,##0.00"
            assert sheet["A1"].font.bold
            assert not sheet.sheet_view.tabSelected  # of several, each change would go to all of them
        assert workbook.active.title == names[0]
        assert [part["rows"] for part in manifest["parts"]] == [ROWS]
        assert verify(place) == manifest

    def test_one_workbook_is_valid_by_the_schemas_of_the_format(self, items, place):
        run(plan_dump(items, COLUMNS, Xlsx(), place, parts=3, joined=True))
        found = OpenXmlValidator().validate(str(place / "orders.item.xlsx")).errors
        errors = [one.description for one in found if one.severity is ValidationSeverity.ERROR]
        assert [error for error in errors if "relationships/theme" not in error] == []  # as of one export

    def test_a_part_that_fills_its_sheets_has_several_and_so_has_the_one_workbook(self, items, place):
        encoder = Xlsx(sheet_rows=20, header=False, sheet="Äpfel & 'Birnen' 2026")
        run(plan_dump(items, COLUMNS, encoder, place, parts=2, joined=True))

        with closing(openpyxl.load_workbook(place / "orders.item.xlsx", read_only=True)) as workbook:
            sheets = [list(sheet.iter_rows(values_only=True)) for sheet in workbook.worksheets]
            assert workbook.sheetnames[:2] == ["Äpfel & 'Birnen' 2026", "Äpfel & 'Birnen' 2026 (2)"]
        assert [row[0] for sheet in sheets for row in sheet] == list(range(1, ROWS + 1))
        assert max(map(len, sheets)) == 20
        assert len(sheets) >= 6
        assert verify(place)["rows"] == ROWS

    @pytest.mark.parametrize("joined", [False, True], ids=["parts", "one file"])
    def test_of_an_empty_table_has_its_header(self, transactional_database, place, joined):
        run(plan_dump(Item.objects.using(transactional_database), ["id", "sku"], Xlsx(), place, joined=joined))
        [path] = place.rglob("*.xlsx")
        assert python_calamine.CalamineWorkbook.from_path(str(path)).get_sheet_by_index(0).to_python() == [
            ["id", "sku"]
        ]
        assert verify(place)["rows"] == 0

    def test_moments_are_in_the_time_zone_of_the_plan_wherever_a_part_runs(self, items, place):
        with timezone.override(ZoneInfo("Asia/Tokyo")):
            plan = plan_dump(items, ["id", "sold_at"], Xlsx(), place, parts=2)
            expected = sheets_of(BytesIO(exported(items, Xlsx(), ["id", "sold_at"])))
        run(DumpPlan.from_data(json.loads(json.dumps(plan.as_data()))))
        assert [row for path in parts_of(place) for row in sheets_of(str(path))] == expected
        assert expected[-1][1].hour == 17

    def test_totals_are_refused(self, items, place):
        with pytest.raises(ExportError, match="summed up on its own"):
            plan_dump(items, COLUMNS, Xlsx(totals=["price"]), place)


class TestWhatIsRefused:
    def test_a_pdf(self, db, place):
        with pytest.raises(ExportError, match="cannot write Pdf, whose parts would not make one whole"):
            plan_dump(Item.objects.all(), ["id"], Pdf(), place)

    @pytest.mark.parametrize("encoder", [Parquet(), Xlsx()], ids=["parquet", "xlsx"])
    def test_a_compression_of_what_is_compressed_inside(self, db, encoder, place):
        with pytest.raises(ValueError, match="compressed inside"):
            plan_dump(Item.objects.all(), ["id"], encoder, place, compression="gzip")

    def test_bounds_of_a_sensitive_key(self, db, place):
        secrets = Secretive.objects.order_by("password")
        with pytest.raises(ExportError, match="'password', which it is ordered by first, is sensitive"):
            plan_dump(secrets, ["name"], Csv(), place, parts=2)


@pytest.mark.parametrize("encoder", [Parquet(), Xlsx()], ids=["parquet", "xlsx"])
class TestVerifying:
    def test_finds_a_byte_that_differs(self, items, encoder, place):
        run(plan_dump(items, COLUMNS, encoder, place, parts=3))
        path = parts_of(place)[1]
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        with pytest.raises(VerificationError, match="SHA-256"):
            verify(place)

    def test_finds_rows_and_columns_that_are_not_as_told(self, items, encoder, place):
        manifest = run(plan_dump(items, COLUMNS, encoder, place, parts=3))
        rows = [part["rows"] for part in manifest["parts"]]
        manifest["parts"][0]["rows"], manifest["parts"][1]["rows"] = rows[0] + 1, rows[1] - 1
        (place / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(VerificationError, match=f"has {rows[0]} rows, and not {rows[0] + 1}"):
            verify(place)
        manifest["columns"][1] = "other"
        (place / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(VerificationError, match="the header is"):
            verify(place)

    def test_finds_a_file_that_is_not_of_the_format_though_the_manifest_tells_its_checksum(
        self, items, encoder, place
    ):
        manifest = run(plan_dump(items, COLUMNS, encoder, place, parts=3))
        path = parts_of(place)[0]
        path.write_bytes(b"PK\3\4 no workbook, and no PAR1 either")
        manifest["parts"][0]["bytes"] = path.stat().st_size
        manifest["parts"][0]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        (place / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(VerificationError, match=f"the parts are no {type(encoder).__name__}"):
            verify(place)


@pytest.mark.parametrize("encoder", [Parquet(), Xlsx()], ids=["parquet", "xlsx"])
@pytest.mark.parametrize("joined", [False, True], ids=["parts", "one file"])
@pytest.mark.django_db(transaction=True)
def test_workers_write_the_files_and_a_dump_that_stopped_is_resumed(encoder, joined, place):
    plan = plan_dump(stored("default"), COLUMNS, encoder, place, parts=4, joined=joined)

    def stop(_number, _rows, _size, is_done):
        if is_done:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        run(plan, workers=2, report=stop)
    assert not place.exists()
    manifest = resume(Directory(str(place)), allow_new_snapshot=True, workers=1)
    assert verify(place) == manifest
    assert manifest["rows"] == ROWS
    assert [path.name for path in place.parent.iterdir()] == ["dump"]


JOINED = """
import sys, django
from contextlib import closing
from benchmarks.memory import peak_bytes
from upstream.streaming import *
from upstream.streaming.encoders.protocol import capabilities_of

django.setup()
def files():
    for path in sys.argv[3:]:
        with open(path, "rb") as file:
            yield file

join_files = capabilities_of({"parquet": Parquet(), "xlsx": Xlsx()}[sys.argv[1]]).seam.join_files
to_file(join_files(files()), sys.argv[2])
print(peak_bytes())
"""


@pytest.mark.heavy
@pytest.mark.parametrize(("encoder", "rows"), [(Parquet(), 300_000), (Xlsx(), 30_000)], ids=["parquet", "xlsx"])
def test_memory_does_not_grow_with_the_parts_that_are_joined(encoder, rows, tmp_path):
    part = to_file(
        stream([{"id": number, "text": f"{number:x} is its text"} for number in range(rows)], None, encoder),
        tmp_path / "part",
    )
    peaks = [
        int(
            processes.printed(
                JOINED,
                *(encoder.suffix[1:], tmp_path / f"joined-{count}", *[part] * count),
                variables={"DJANGO_SETTINGS_MODULE": "upstream.settings"},
            )
        )
        for count in (2, 20)
    ]
    assert peaks[1] - peaks[0] < 8 * 1024 * 1024
    assert (tmp_path / "joined-20").stat().st_size > 9 * (tmp_path / "joined-2").stat().st_size
