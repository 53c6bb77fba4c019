"""Excel workbooks: what programs that are not ours read back, and that they are streamed."""

import io
import itertools
import re
import shutil
import subprocess
import zipfile
from contextlib import closing
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from time import sleep
from uuid import UUID
from xml.etree import ElementTree as ET
from zoneinfo import ZoneInfo

import openpyxl
import pandas as pd
import polars as pl
import pytest
import python_calamine
from django.db import connections
from django.utils.timezone import override as in_zone
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openxml_audit import OpenXmlValidator, ValidationSeverity

from tests.fieldtypes.models import Parent
from tests.oracle import SHEET, sheets_of
from tests.strategies import TEXTS
from upstream.streaming import (
    Column,
    ColumnError,
    Json,
    LimitError,
    SourceError,
    Table,
    TextError,
    Xlsx,
    plan,
    stream,
    to_file,
    to_response,
)
from upstream.streaming.encoders.xlsx import archive, sheets, workbook

ROME = ZoneInfo("Europe/Rome")
MOMENT = datetime(2026, 1, 31, 8, 15, 0, 250000, tzinfo=UTC)


def written(source, columns=None, encoder=None, **options):
    return b"".join(stream(source, columns, encoder or Xlsx(), **options))


def column(*values, **options):
    """Return the cells of a column of these values, as the sheet has them."""
    [rows] = sheets_of(written([(value,) for value in values], ["x"], Xlsx(**options)))
    return [cell for (cell,) in rows[1:]]


def calamine(data, sheet=0):
    return python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(data)).get_sheet_by_index(sheet).to_python()


def part(data, name):
    with zipfile.ZipFile(io.BytesIO(data)) as found:
        return found.read(name).decode()


def styles_of(data, sheet=1):
    """Return, for each row, the number format and the quote prefix of each cell."""
    book = openpyxl.load_workbook(io.BytesIO(data))
    return [[(cell.number_format, cell.quotePrefix) for cell in row] for row in book.worksheets[sheet - 1]]


class Colour(Enum):
    RED = "red"


class TestCells:
    def test_numbers_booleans_and_moments_are_typed(self):
        row = (1, -2.5, True, False, Decimal("12.50"), date(2026, 1, 31), MOMENT, time(8, 15), None, "a")
        data = written([row], list("abcdefghij"), Xlsx(time_zone=UTC))
        moment = datetime(2026, 1, 31, 8, 15, 0, 250000)
        assert calamine(data)[1] == [1, -2.5, True, False, 12.5, date(2026, 1, 31), moment, time(8, 15), "", "a"]
        [cells] = openpyxl.load_workbook(io.BytesIO(data)).active.iter_rows(min_row=2)
        read = [cell.value for cell in cells]
        assert read[:5] == [1, -2.5, True, False, 12.5]
        assert read[5:] == [datetime(2026, 1, 31), moment, time(8, 15), None, "a"]
        formats = [cell.number_format for cell in cells]
        assert formats[4:8] == ["0.00", "yyyy-mm-dd", "yyyy-mm-dd hh:mm:ss", "hh:mm:ss"]

    def test_numbers_of_more_than_15_digits_are_text(self):
        assert column(10**15 - 1, 10**15, -(10**15), 2**70) == [
            str(10**15 - 1),
            str(10**15),
            str(-(10**15)),
            str(2**70),
        ]
        book = styles_of(written([(10**15 - 1,), (10**15,)], ["x"]))
        assert [row[0][1] for row in book[1:]] == [False, True]
        kinds = [type(row[0]) for row in calamine(written([(Decimal(text),) for text in DECIMALS], ["x"]))[1:]]
        assert kinds == [float if is_number else str for is_number in DECIMALS.values()]

    @given(st.lists(st.decimals(allow_nan=False, allow_infinity=False), min_size=1))
    def test_no_decimal_loses_a_digit(self, values):
        for value, text in zip(values, column(*values), strict=True):
            assert Decimal(text) == value
        for value, [read] in zip(values, calamine(written([(v,) for v in values], ["x"]))[1:], strict=True):
            assert Decimal(read if isinstance(read, str) else repr(read)) == value

    @given(st.lists(st.integers() | st.floats(), min_size=1))
    def test_no_number_loses_a_digit(self, values):
        for value, [read] in zip(values, calamine(written([(v,) for v in values], ["x"]))[1:], strict=True):
            if isinstance(value, int):
                assert int(read) == value
            else:
                assert read == value if value - value == 0 else read == repr(value)

    @given(st.lists(st.dates() | st.none() | st.booleans(), min_size=1))
    def test_days_are_days_from_march_1900_on(self, values):
        data = written([(v, "end") for v in values], ["x", "y"])
        for value, [read, _] in zip(values, calamine(data)[1:], strict=True):
            is_text = type(value) is date and value < date(1900, 3, 1)
            assert read == ("" if value is None else value.isoformat() if is_text else value)

    @given(st.lists(st.datetimes(), min_size=1))
    def test_moments_are_exact_to_a_millisecond(self, values):
        values = [value.replace(microsecond=value.microsecond // 1000 * 1000) for value in values]
        cells = column(*values)
        for value, cell in zip(values, cells, strict=True):
            if value < datetime(1900, 3, 1):
                assert cell == str(value)
            else:
                read = datetime(1899, 12, 30) + timedelta(days=1) * Decimal(cell).__int__()
                read += timedelta(microseconds=int(Decimal(cell) % 1 * 86_400_000_000 + Decimal("0.5")))
                assert read == value

    def test_the_leap_day_that_1900_did_not_have_is_no_days_neighbour(self):
        assert column(date(1900, 2, 28), date(1900, 3, 1)) == ["1900-02-28", "61"]

    def test_moments_are_in_the_current_zone_or_the_one_that_is_named(self):
        with in_zone(ROME):
            assert calamine(written([(MOMENT,)], ["x"]))[1][0] == datetime(2026, 1, 31, 9, 15, 0, 250000)
        assert calamine(written([(MOMENT,)], ["x"], Xlsx(time_zone=UTC)))[1][0].hour == 8
        kathmandu = Xlsx(time_zone=ZoneInfo("Asia/Kathmandu"))
        assert calamine(written([(MOMENT,), (MOMENT.replace(tzinfo=None),)], ["x"], kathmandu))[1:] == [
            [datetime(2026, 1, 31, 14, 0, 0, 250000)],
            [datetime(2026, 1, 31, 8, 15, 0, 250000)],
        ]

    def test_moments_that_the_zone_does_not_have_are_text(self):
        assert column(datetime.max.replace(tzinfo=UTC), time_zone=ROME) == [str(datetime.max.replace(tzinfo=UTC))]

    def test_other_values_are_the_texts_of_other_formats(self):
        values = (UUID(int=5), timedelta(hours=1), b"\xff", {"a": [1]}, Colour.RED, float("nan"), float("-inf"))
        expected = [str(UUID(int=5)), "P0DT01H00M00S", "/w==", '{"a":[1]}', "red", "nan", "-inf"]
        assert column(*values) == expected

    def test_numbers_of_numpy_and_money_are_numbers(self):
        numpy = pytest.importorskip("numpy")

        class Money:
            amount, currency = Decimal("2.50"), "EUR"

        data = written([(numpy.int64(5), numpy.float32(0.5), numpy.float64(0.1), Money())], list("abcd"))
        assert calamine(data)[1] == [5, 0.5, 0.1, 2.5]

    @pytest.mark.parametrize("start", "=+-@\uff1d")
    def test_texts_are_never_formulas(self, start):
        [cell] = openpyxl.load_workbook(io.BytesIO(written([(f"{start}1+1",)], ["x"]))).active[2]
        assert cell.quotePrefix
        assert (cell.data_type, cell.value) in (("s", f"{start}1+1"), ("inlineStr", f"{start}1+1"))
        assert "<f>" not in part(written([(f"{start}1+1",)], ["x"]), "xl/worksheets/sheet1.xml")

    def test_a_header_is_never_a_formula(self):
        data = written([(1,)], ["=1+1"])
        assert styles_of(data)[0][0][1]
        assert calamine(data)[0] == ["=1+1"]

    def test_urls_are_texts(self):
        data = written([("https://example.com/?a=1&b=2",)], ["x"])
        assert calamine(data)[1] == ["https://example.com/?a=1&b=2"]
        assert "hyperlink" not in part(data, "xl/worksheets/sheet1.xml")

    def test_the_empty_text_is_an_empty_cell(self):
        assert column("", None, " ") == [None, None, " "]

    @example(["\ufffe", "\uffff"])
    @given(st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(TEXTS), min_size=1))
    def test_every_text_comes_back(self, texts):
        texts = [text for text in texts if text] or ["_x000D_"]
        data = written([(text,) for text in texts], ["x"])
        [rows] = sheets_of(data)
        assert rows[1:] == [[text] for text in texts]
        for text, [read] in zip(texts, calamine(data)[1:], strict=True):  # which keeps what is no character
            assert read == re.sub("[\ufffe\uffff]", lambda found: f"_x{ord(found[0]):04X}_", text)

    def test_a_lone_surrogate_is_an_error_that_names_row_and_column(self):
        with pytest.raises(TextError, match=r"row 2, column 'x'.*U\+D800"):
            written([("a",), ("\ud800",)], ["x"])

    def test_texts_that_are_too_long_are_an_error_or_cut(self):
        fits, long = "😀" * 16_383 + "x", "😀" * 16_383 + "xy"
        assert column(fits) == [fits]
        with pytest.raises(ColumnError, match="32,768") as raised:
            column("a", long)
        assert "while writing row 2, column 'x'" in raised.value.__notes__
        assert column(long, long_texts="cut") == ["😀" * 16_383 + "…"]

    def test_postgresql_leaves_long_and_odd_texts_to_the_encoder(self, database):
        if connections[database].vendor != "postgresql":
            pytest.skip("only PostgreSQL renders rows")
        long, odd = "a&b\n" * 9_000, ["\x01\x02", "_x000D_ & \r\n", "\ufffe\uffff", "x\x0b\x1f_xFFFF_"]
        names = [*odd, "=1\n2"]
        parents = Parent.objects.using(database)
        parents.bulk_create(Parent(name=name) for name in names)
        rows = parents.order_by("pk")
        with stream(rows, ["name"], Xlsx()) as chunks:
            data = b"".join(chunks)
            assert chunks.lane == "copy"
        assert [name for [name] in sheets_of(data)[0][1:]] == names
        assert data == written(list(rows.values("name")), ["name"])
        with connections[database].cursor() as cursor:
            cursor.execute("ALTER TABLE fieldtypes_parent ALTER name TYPE text")
        parents.create(name=long)
        with pytest.raises(ColumnError, match="36,000") as raised:
            written(rows, ["name"])
        assert "while writing row 6, column 'name'" in raised.value.__notes__
        cut = Xlsx(long_texts="cut")
        assert written(rows, ["name"], cut) == written(list(rows.values("name")), ["name"], cut)


DECIMALS = {
    "123456789012.345": True, "1234567890123.456": False, "1234567890123.4500": True, "0.000000000000001": True,
    "1E+3": True, "-0.00": True, "999999999999999": True, "1000000000000000": False, "1E-101": False, "NaN": False,
    "0.1234567890123456": False, "100000000000000.0": True,
}  # fmt: skip


class TestLook:
    def test_header_is_frozen_filtered_and_printed_on_each_page(self):
        data = written([(1, "a")] * 5, ["id", "name"])
        sheet = openpyxl.load_workbook(io.BytesIO(data)).active
        assert sheet.freeze_panes == "A2"
        assert sheet.auto_filter.ref == "A1:B6"
        assert sheet.print_title_rows == "$1:$1"
        assert sheet["A1"].font.b
        assert not sheet["A2"].font.b

    def test_without_a_header(self):
        data = written([(1, "a")] * 2, None, Xlsx(header=False))
        sheet = openpyxl.load_workbook(io.BytesIO(data)).active
        assert [[cell.value for cell in row] for row in sheet] == [[1, "a"]] * 2
        assert sheet.freeze_panes is None
        assert sheet.auto_filter.ref is None

    def test_widths_are_those_of_the_first_rows(self):
        data = written([(1, "x" * 30, "日本語" * 5, "y" * 500, MOMENT)], ["a", "b", "c", "d", "e"])
        found = openpyxl.load_workbook(io.BytesIO(data)).active.column_dimensions
        widths = [found[letter].width for letter in "ABCDE"]
        assert widths == [10.5, 31.5, 31.5, sheets.MAX_WIDTH + 1.5, 20.5]

    @pytest.mark.parametrize(
        ("count", "orientation", "pages"),
        [(1, "portrait", 1), (9, "portrait", 1), (10, "landscape", 1), (30, "landscape", 2)],
    )
    def test_narrow_tables_are_printed_upright_and_wide_ones_on_several_pages(self, count, orientation, pages):
        data = written([[1] * count], [f"c{number}" for number in range(count)])
        found = openpyxl.load_workbook(io.BytesIO(data)).active.page_setup
        assert (found.orientation, found.fitToWidth, found.fitToHeight) == (orientation, pages, 0)

    def test_number_formats_of_columns(self):
        formats = {"amount": "#,##0.00 €", "day": "d/m/yy"}
        data = written(
            [(Decimal("1.5"), date(2026, 1, 31), "x")], ["amount", "day", "name"], Xlsx(number_formats=formats)
        )
        assert [style for style, _ in styles_of(data)[1]] == ["#,##0.00 €", "d/m/yy", "General"]

    def test_lines_of_a_text_are_wrapped(self):
        data = written([("a\nb",), ("=a\nb",), ("ab",)], ["x"])
        cells = [row[0] for row in openpyxl.load_workbook(io.BytesIO(data)).active.iter_rows(min_row=2)]
        assert [cell.alignment.wrap_text for cell in cells] == [True, True, None]

    def test_right_to_left(self):
        data = written([(1,)], ["מספר"], Xlsx(right_to_left=True))
        assert openpyxl.load_workbook(io.BytesIO(data)).active.sheet_view.rightToLeft

    def test_a_sheet_has_the_title_as_its_name_unless_it_has_its_own(self):
        names = [
            openpyxl.load_workbook(io.BytesIO(written([(1,)], ["x"], Xlsx(**options)))).sheetnames
            for options in ({}, {"title": "Q1/2 drift"}, {"title": "Q1/2 drift", "sheet": "Drift"})
        ]
        assert names == [["Sheet1"], ["Q1_2 drift"], ["Drift"]]

    def test_properties_of_the_document(self):
        data = written([(1,)], ["x"], Xlsx(title="Q1 <draft> & more", author="Ada\x00"))
        properties = openpyxl.load_workbook(io.BytesIO(data)).properties
        assert properties.title == "Q1 <draft> & more"
        assert properties.creator.startswith("Ada")

    def test_totals(self):
        rows = [
            ("a", 1, Decimal("0.10"), 0.1),
            ("b", None, Decimal("12345678.20"), 1e100),
            ("c", 2**60, None, -1e100),
        ]
        encoder = Xlsx(totals=["whole", "amount", "ratio"])
        data = written(rows, ["name", "whole", "amount", "ratio"], encoder)
        assert calamine(data)[-1] == ["Total", float(2**60 + 1), 12345678.3, 0.1]
        formulas = [cell.value for cell in openpyxl.load_workbook(io.BytesIO(data)).active[5]]
        assert formulas == ["Total", "=SUBTOTAL(109,B2:B4)", "=SUBTOTAL(109,C2:C4)", "=SUBTOTAL(109,D2:D4)"]
        assert openpyxl.load_workbook(io.BytesIO(data)).active.auto_filter.ref == "A1:D4"

    def test_totals_of_several_sheets(self):
        data = written([(number,) for number in range(10)], ["x"], Xlsx(totals=["x"], sheet_rows=5, sheet="It's"))
        assert sheets_of(data)[-1][-1] == ["45"]
        last = list(openpyxl.load_workbook(io.BytesIO(data)).worksheets[-1])[-1]
        assert last[0].value == "=SUM('It''s'!A2:A4,'It''s (2)'!A2:A4,'It''s (3)'!A2:A4,'It''s (4)'!A2:A2)"


class TestSheets:
    def test_a_full_sheet_is_continued_on_the_next(self):
        rows = [(number,) for number in range(100)]
        data = written(rows, ["n"], Xlsx(sheet_rows=31, sheet="Numbers"))
        assert [len(found) for found in sheets_of(data)] == [31, 31, 31, 11]
        assert all(found[0] == ["n"] for found in sheets_of(data))
        assert [int(row[0]) for found in sheets_of(data) for row in found[1:]] == list(range(100))
        names = openpyxl.load_workbook(io.BytesIO(data)).sheetnames
        assert names == ["Numbers", "Numbers (2)", "Numbers (3)", "Numbers (4)"]

    def test_rows_that_just_fill_a_sheet_need_no_other(self):
        assert len(sheets_of(written([(1,)] * 30, ["n"], Xlsx(sheet_rows=31)))) == 1

    def test_a_sheet_of_many_bytes_is_continued_too(self, monkeypatch):
        monkeypatch.setattr(workbook, "SHEET_BYTES", 20_000)
        rows = [(f"{number:0100}",) for number in range(1000)]
        data = written(rows, ["n"])
        assert [row for found in sheets_of(data) for row in found[1:]] == [list(row) for row in rows]
        assert len(sheets_of(data)) > 5
        assert data == written(rows, ["n"], chunk_size=7)

    def test_a_workbook_of_4_gib_is_refused(self, monkeypatch):
        monkeypatch.setattr(archive, "MAX_BYTES", archive.MARGIN + 20_000)
        rows = ((UUID(int=number * 2**100 + 7919**number % 2**99),) for number in range(100_000))
        with pytest.raises(LimitError, match="4 GiB"):
            written(rows, ["n"])

    def test_a_mapping_is_a_workbook_of_several_sheets(self, database):
        parents = Parent.objects.using(database)
        parents.bulk_create(Parent(name=name) for name in "abc")
        rows = parents.order_by("pk")
        tables = {
            "Parents": Table(rows, [Column("name", header="Name"), "label"]),
            "All": rows.values("name"),
            "Rows": Table(({"a": n, "b": 2} for n in range(3)), ["a"]),
            "Nothing": Table([], ["x"]),
        }
        data = written(tables, None, Xlsx(sheet_rows=3))
        names = openpyxl.load_workbook(io.BytesIO(data)).sheetnames
        assert names == ["Parents", "Parents (2)", "All", "All (2)", "Rows", "Rows (2)", "Nothing"]
        assert sheets_of(data) == [
            [["Name", "label"], ["a", "<a>"], ["b", "<b>"]],
            [["Name", "label"], ["c", "<c>"]],
            [["name"], ["a"], ["b"]],
            [["name"], ["c"]],
            [["a"], ["0"], ["1"]],
            [["a"], ["2"]],
            [["x"]],
        ]

    def test_formats_and_totals_of_several_sheets_are_for_those_that_have_their_headers(self):
        tables = {"Sums": [{"payer": "a", "amount": Decimal("1.50")}], "Days": [{"day": 1}, {"day": 2}]}
        data = written(tables, None, Xlsx(number_formats={"amount": "#,##0.00"}, totals=["amount"]))
        assert sheets_of(data) == [
            [["payer", "amount"], ["a", "1.50"], ["Total", "1.50"]],
            [["day"], ["1"], ["2"]],
        ]
        assert openpyxl.load_workbook(io.BytesIO(data))["Sums"]["B2"].number_format == "#,##0.00"

    def test_a_table_gives_columns_in_json_too(self):
        assert written({"a": Table([{"x": 1, "y": 2}], ["y"])}, None, Json()) == b'{"a":[{"y":2}]}'

    @pytest.mark.parametrize(
        ("tables", "error"),
        [
            ({"a": "text"}, SourceError),
            ({"a": 1}, SourceError),
            ({"a": {"b": []}}, SourceError),
            ({"a": Table([{"x": 1}], ["y"])}, ColumnError),
        ],
    )
    def test_what_is_no_sheet_is_refused_in_the_call(self, tables, error):
        with pytest.raises(error):
            stream(tables, encoder=Xlsx())

    def test_names_of_sheets_are_made_fit(self):
        names = ["a/b:c", "A/B:C", "'quoted'", "History", "", "x" * 40, "x" * 41, "tab\there", "日本" * 20]
        data = written({name: [{"x": 1}] for name in names}, None, Xlsx())
        found = openpyxl.load_workbook(io.BytesIO(data)).sheetnames
        assert found[:5] == ["a_b_c", "A_B_C (2)", "quoted", "History_", "Sheet"]
        assert found[5:8] == ["x" * 31, "x" * 27 + " (2)", "tab_here"]
        assert len({name.lower() for name in found}) == len(names)
        assert max(map(len, found)) == 31

    @pytest.mark.parametrize("name", ["", "a/b", "x" * 32, "'a", "history", 5])
    def test_a_name_that_excel_refuses_is_refused(self, name):
        with pytest.raises(ValueError, match="sheet must be a name"):
            Xlsx(sheet=name)

    @pytest.mark.parametrize(
        "options", [{"sheet_rows": 1}, {"sheet_rows": 2**20 + 1}, {"long_texts": "x"}, {"totals": "a"}]
    )
    def test_wrong_options_are_refused(self, options):
        with pytest.raises(ValueError, match=next(iter(options))):
            Xlsx(**options)

    def test_unknown_headers_and_too_many_columns_are_refused(self):
        for encoder in (Xlsx(totals=["y"]), Xlsx(number_formats={"y": "0"})):
            with pytest.raises(ColumnError, match="'y'"):
                stream([{"x": 1}], ["x"], encoder)
        with pytest.raises(ColumnError, match="16,384"):
            stream([], [str(number) for number in range(16_385)], Xlsx())

    @pytest.mark.heavy
    def test_two_and_a_half_million_rows_are_three_sheets(self, tmp_path):
        rows = ((number, "x") for number in range(2_500_000))
        path = to_file(stream(rows, ["n", "text"], Xlsx()), tmp_path / "many.xlsx")
        book = python_calamine.CalamineWorkbook.from_path(str(path))
        assert book.sheet_names == ["Sheet1", "Sheet1 (2)", "Sheet1 (3)"]
        expected = itertools.count()
        for at in range(3):
            header, *found = book.get_sheet_by_index(at).to_python()
            assert header == ["n", "text"]
            assert all(row == [next(expected), "x"] for row in found)
        assert next(expected) == 2_500_000


ROWS = [
    {"id": number, "name": f"n{number} & co", "amount": Decimal(number) / 8, "day": date(2026, 1, 1 + number % 28)}
    for number in range(300)
]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return to_file(stream(ROWS, encoder=Xlsx()), tmp_path_factory.mktemp("xlsx") / "rows.xlsx")


def violations(data, folder):
    """Return what breaks the schemas and rules of ECMA-376, as the Open XML SDK has them."""
    path = folder / "checked.xlsx"
    path.write_bytes(data)
    # A theme may be missing: section 12.3. Inline strings, 18.3.1.53, draw a warning: Excel saves them otherwise.
    return [
        f"{found.part_uri}: {found.description}"
        for found in OpenXmlValidator().validate(str(path)).errors
        if found.severity is ValidationSeverity.ERROR and "relationships/theme" not in found.description
    ]


class TestReaders:
    def test_zip(self, path):
        with zipfile.ZipFile(path) as found:
            assert found.testzip() is None
        unzip = shutil.which("unzip")
        if unzip:
            subprocess.run([unzip, "-tq", path], check=True, capture_output=True)

    def test_pandas(self, path):
        frame = pd.read_excel(path, engine="openpyxl")
        assert frame["id"].tolist() == list(range(300))
        assert frame["amount"].tolist() == [number / 8 for number in range(300)]
        assert frame["day"].dt.date.tolist() == [row["day"] for row in ROWS]

    def test_polars(self, path):
        frame = pl.read_excel(path, engine="openpyxl")
        assert frame["name"].to_list() == [row["name"] for row in ROWS]
        assert [day.isoformat()[:10] for day in frame["day"].to_list()] == [str(row["day"]) for row in ROWS]

    def test_libreoffice(self, path, tmp_path):
        office = shutil.which("soffice") or shutil.which("libreoffice")
        if office is None:
            pytest.skip("LibreOffice is not installed: apt-get install libreoffice-calc-nogui")
        home = f"-env:UserInstallation=file://{tmp_path}/home"
        command = [office, home, "--headless", "--convert-to", "csv", "--outdir", tmp_path, path]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        header, *lines = (tmp_path / "rows.csv").read_text().splitlines()
        assert header == "id,name,amount,day"
        assert lines[9] == "9,n9 & co,1.125,2026-01-10"
        assert len(lines) == 300

    def test_elements_of_a_sheet_are_in_the_order_of_the_schema(self, path):
        data = written(ROWS, None, Xlsx(totals=["id"]))
        for name in ("xl/workbook.xml", "xl/styles.xml", "docProps/core.xml", "[Content_Types].xml"):
            ET.fromstring(part(data, name))
        order = [
            "sheetPr", "dimension", "sheetViews", "sheetFormatPr", "cols", "sheetData", "autoFilter",
            "pageMargins", "pageSetup", "headerFooter", "ignoredErrors",
        ]  # fmt: skip
        found = [one.tag.removeprefix(SHEET) for one in ET.fromstring(part(data, "xl/worksheets/sheet1.xml"))]
        assert found == [name for name in order if name in found]

    @pytest.mark.parametrize(
        ("source", "options"),
        [
            (ROWS, {}),
            (ROWS, {"header": False}),
            (ROWS, {"sheet_rows": 50, "totals": ["id", "amount"], "sheet": "It's <1>"}),
            (ROWS, {"title": "Q1 & <more>", "author": "Zoë\x01", "right_to_left": True}),
            (ROWS, {"number_formats": {"amount": '#,##0.00 "€"', "day": "d/m/yy"}, "totals": ["amount"]}),
            ([{"=מספר": "=1+1", "long " * 99: "a\nb\x01", "x": None, "y": "x" * 32_767}], {}),
            ([{"a": True, "b": time(8, 15), "c": MOMENT, "d": float("nan"), "e": 10**20, "f": -1.5e300}], {}),
            ({"A": ROWS, "a": Table([{"x": 1}], ["x"]), "Nothing": Table([], ["x"])}, {"sheet_rows": 100}),
            ([], {}),
            ({}, {}),
        ],
    )
    def test_a_validator_of_the_schema_finds_nothing(self, source, options, tmp_path):
        assert violations(written(source, None, Xlsx(**options)), tmp_path) == []

    def test_a_validator_of_the_schema_finds_a_misplaced_element(self, tmp_path, monkeypatch):
        monkeypatch.setattr(sheets, "PAGE", f"<cols/>{sheets.PAGE}")
        assert any("'cols'" in one for one in violations(written(ROWS), tmp_path))

    def test_entries_are_streamed_as_excel_accepts_it(self, path):
        """No ZIP64, no newer version, sizes after the data only of sheets, and one time for all."""
        with zipfile.ZipFile(path) as found:
            for info in found.infolist():
                assert (info.extract_version, info.compress_type, info.extra) == (20, zipfile.ZIP_DEFLATED, b"")
                assert info.flag_bits == (8 if info.filename.startswith("xl/worksheets/") else 0)
                assert info.date_time == (1980, 1, 1, 0, 0, 0)
            assert found.namelist()[0] == "_rels/.rels"  # by which programs tell what it is


class TestStream:
    def test_the_same_rows_are_the_same_bytes_in_batches_of_any_size(self):
        rows = [(number, f"text {number}" * (number % 50)) for number in range(3000)]
        encoder = Xlsx(sheet_rows=1000)
        expected = written(rows, ["a", "b"], encoder)
        for options in ({"chunk_size": 1}, {"chunk_size": 99}, {"batch_bytes": 5000}):
            assert written(rows, ["a", "b"], encoder, **options) == expected

    def test_a_slow_source_gives_the_same_sheet(self):
        rows = [(number, "x" * number) for number in range(40)]

        def slowly():
            for row in rows:
                if row[0] < 12:
                    sleep(0.11)  # longer than a batch may take
                yield row

        taken, chunks = [], stream(slowly(), ["a", "b"], Xlsx())
        taken += [next(chunks)]  # what needs no row that is still to come
        assert chunks.rows == 1
        data = b"".join([*taken, *chunks])
        for name in zipfile.ZipFile(io.BytesIO(data)).namelist():
            assert part(data, name) == part(written(rows, ["a", "b"]), name)

    def test_first_bytes_come_before_the_source_is_read_further(self):
        taken = []

        def rows():
            for number in range(50_000):
                taken.append(number)
                yield (number, "x" * 50)

        with closing(stream(rows(), ["a", "b"], Xlsx())) as chunks:
            assert next(chunks).startswith(b"PK\3\4")
            assert len(taken) <= 100
            next(chunks)
            assert len(taken) < 5_000

    def test_abandoning_it_closes_the_source(self):
        closed = []

        def rows():
            try:
                yield from ((number,) for number in range(10**6))
            finally:
                closed.append(True)

        chunks = stream(rows(), ["a"], Xlsx())
        next(chunks)
        chunks.close()
        assert closed == [True]

    def test_two_streams_may_take_turns(self):
        rows = [(number,) for number in range(5000)]
        one, other = stream(rows, ["a"], Xlsx()), stream(rows, ["a"], Xlsx())
        pairs = itertools.zip_longest(one, other, fillvalue=b"")
        first, second = map(b"".join, zip(*pairs, strict=True))
        assert first == second == written(rows, ["a"])

    def test_a_source_that_fails_first_fails_before_the_first_byte(self):
        def rows():
            raise RuntimeError("no rows")
            yield

        with pytest.raises(RuntimeError, match="no rows"):
            next(stream(rows(), ["a"], Xlsx()))

    def test_a_source_that_fails_later_leaves_no_workbook(self, tmp_path):
        def rows():
            yield from ((number,) for number in range(5000))
            raise RuntimeError("broken")

        with pytest.raises(RuntimeError, match="broken"):
            to_file(stream(rows(), ["a"], Xlsx()), tmp_path / "x.xlsx")
        assert list(tmp_path.iterdir()) == []
        chunks, kept = stream(rows(), ["a"], Xlsx()), []
        with pytest.raises(RuntimeError):
            kept.extend(chunks)
        with pytest.raises(zipfile.BadZipFile):
            zipfile.ZipFile(io.BytesIO(b"".join(kept)))

    def test_a_workbook_that_was_cut_does_not_open(self):
        data = written([(number,) for number in range(1000)], ["a"])
        for end in (len(data) - 1, len(data) - 30, len(data) // 2, 100):
            with pytest.raises(zipfile.BadZipFile):
                zipfile.ZipFile(io.BytesIO(data[:end]))

    def test_no_rows_are_a_workbook_with_a_header(self):
        assert sheets_of(written([], ["a", "b"])) == [[["a", "b"]]]
        assert sheets_of(written([])) == [[]]
        assert calamine(written([], ["a", "b"])) == [["a", "b"]]
        assert sheets_of(written({})) == [[]]

    def test_it_goes_to_every_target(self, tmp_path):
        response = to_response(stream([(1,)], ["a"], Xlsx()), "rows.xlsx")
        assert response["Content-Type"].endswith("spreadsheetml.sheet")
        assert response.getvalue() == to_file(stream([(1,)], ["a"], Xlsx()), tmp_path / "x").read_bytes()

    def test_the_plan_says_why_there_is_no_faster_lane(self, database):
        rows = Parent.objects.using(database)
        decided = plan(rows, ["id", "name"], Xlsx(totals=["id"]))
        assert decided.lane == "text"
        if connections[database].vendor == "postgresql":
            assert "Xlsx(totals=...) is rendered in Python" in decided.reason
            assert plan(rows, ["id", "name"], Xlsx()).lane == "copy"

    @given(
        st.lists(
            st.tuples(st.integers(), st.text(max_size=5), st.none() | st.floats(allow_nan=False)), max_size=20
        ),
        st.integers(2, 9),
        st.sampled_from([1, 3, 2000]),
    )
    @settings(max_examples=25)
    def test_rows_come_back_from_sheets_of_any_size(self, rows, sheet_rows, chunk_size):
        rows = [(a, b.encode(errors="ignore").decode(), c) for a, b, c in rows]
        data = written(rows, ["a", "b", "c"], Xlsx(sheet_rows=sheet_rows), chunk_size=chunk_size)
        found = [row for sheet in sheets_of(data) for row in sheet[1:]]
        assert [(int(a), b or "", None if c is None else c) for a, b, c in found] == [
            (a, b, None if c is None else repr(c)) for a, b, c in rows
        ]
