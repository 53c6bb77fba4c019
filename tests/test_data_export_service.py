"""DataExportService: the contract that its callers rely on, method by method."""

import csv
import doctest
import errno
import inspect
import io
import json
import logging
import re
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests import processes
from tests.fieldtypes.models import Parent, Secretive
from tests.oracle import sheets_of
from tests.test_files import BrokenSourceError, names
from upstream.models import Customer
from upstream.services import DataExportService, data_export
from upstream.streaming import ColumnError, SourceError

ROWS = [{"name": "Alice", "age": 30}, {"name": 'Bob, "the builder"', "age": None}, {"name": "Zoë\r\n", "age": 1.5}]
METHODS = [
    "export_to_csv",
    "export_to_json",
    "export_to_pdf",
    "queryset_to_csv",
    "queryset_to_json",
    "generate_file_path",
]

texts = st.text(st.characters(exclude_categories=["Cs"]))
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=15
)


def dict_writer(rows, headers):
    """Return what csv.DictWriter writes, leaving out keys that are not named."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, headers, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def dumps(data, indent=2):
    return json.dumps(data, indent=indent, ensure_ascii=False)


@pytest.fixture
def parents(database):
    parents = Parent.objects.using(database)
    parents.bulk_create([Parent(name="Alice", details={"a": [1, None]}), Parent(name="Zoë, B.", details=None)])
    return parents.order_by("pk")


@pytest.fixture(params=METHODS[:5])
def export(request, db):
    """Each method that writes, as a function of the path alone."""
    method = getattr(DataExportService, request.param)
    arguments = {
        "export_to_csv": (ROWS,),
        "export_to_json": (ROWS,),
        "export_to_pdf": ("<p>Text</p>",),
        "queryset_to_csv": (Parent.objects.all(), ["name"]),
        "queryset_to_json": (Parent.objects.all(), ["name"]),
    }[request.param]
    return lambda path: method(*arguments, file_path=path)


def read(result):
    return result if isinstance(result, str) else result.read()


# What all methods have in common


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_static(name):
    assert isinstance(inspect.getattr_static(DataExportService, name), staticmethod)


def test_signatures_are_those_that_callers_use():
    parameters = {name: list(inspect.signature(getattr(DataExportService, name)).parameters) for name in METHODS}
    assert parameters["export_to_csv"] == ["data", "headers", "file_path"]
    assert parameters["export_to_json"] == ["data", "file_path", "indent"]
    assert parameters["export_to_pdf"][:3] == ["html_content", "file_path", "stylesheets"]
    assert parameters["queryset_to_csv"] == ["queryset", "fields", "headers", "file_path"]
    assert parameters["queryset_to_json"] == ["queryset", "fields", "file_path"]
    assert parameters["generate_file_path"] == ["base_name", "extension", "directory", "timestamp"]


@pytest.mark.parametrize("kind", [str, Path])
def test_path_is_returned_as_it_was_given(export, kind, tmp_path):
    path = kind(tmp_path / "x")
    assert export(path) is path
    assert Path(path).stat().st_size


def test_file_holds_what_the_buffer_holds(export, tmp_path):
    content = read(export(None))
    if not isinstance(content, bytes):
        assert Path(export(tmp_path / "x")).read_bytes() == content.encode()
        return
    assert content.startswith(b"%PDF-")
    assert Path(export(tmp_path / "x")).read_bytes().startswith(b"%PDF-")


def test_buffer_stands_at_its_start(export):
    result = export(None)
    assert isinstance(result, str) or (result.tell() == 0 and result.read())


def test_failed_write_is_logged_and_raised(export, tmp_path, caplog):
    path = tmp_path / "missing" / "x"
    with caplog.at_level(logging.ERROR), pytest.raises(FileNotFoundError):
        export(path)
    assert [(record.name, record.levelname) for record in caplog.records] == [(data_export.__name__, "ERROR")]
    assert str(path) in caplog.text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_full_disk_is_logged_and_raised(export, caplog):
    with caplog.at_level(logging.ERROR), pytest.raises(OSError, match="/dev/full") as caught:
        export("/dev/full")
    assert caught.value.errno == errno.ENOSPC
    assert "/dev/full" in caplog.text


def test_failed_write_keeps_the_old_file(export, tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def refuse(*_, **__):
        raise OSError(errno.EIO, "refused")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(OSError, match="refused"):
        export(path)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("method", [DataExportService.export_to_csv, DataExportService.export_to_json])
def test_failing_data_leaves_no_file(method, tmp_path):
    def rows():
        yield from ROWS * 5000
        raise BrokenSourceError

    with pytest.raises(BrokenSourceError):
        method(rows(), file_path=tmp_path / "x")
    assert names(tmp_path) == []


@pytest.mark.django_db
def test_examples_in_the_docstrings_are_true():
    finder = doctest.DocTestFinder()
    runner = doctest.DocTestRunner()
    examples = 0
    for test in finder.find(DataExportService, globs={"DataExportService": DataExportService}):
        examples += len(test.examples)
        runner.run(test)
    assert examples >= len(METHODS)
    assert runner.summarize().failed == 0


# export_to_csv


def test_csv_is_that_of_dict_writer():
    assert DataExportService.export_to_csv(ROWS).getvalue() == dict_writer(ROWS, ["name", "age"])


@given(st.lists(texts, min_size=1, max_size=5, unique=True), st.data())
@example(["a"], None)
@example([""], None)
@example(["", "b"], None)
def test_csv_of_any_rows_is_that_of_dict_writer(headers, data):
    rows = [dict.fromkeys(headers, "x")]
    if data:
        rows += data.draw(
            st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(headers, scalars)), max_size=5)
        )
    assert DataExportService.export_to_csv(rows).getvalue() == dict_writer(rows, headers)
    assert DataExportService.export_to_csv(rows, headers).getvalue() == dict_writer(rows, headers)


@pytest.mark.parametrize("headers", [["age", "name"], ["name"], ["name", "missing"], ["missing"]])
def test_headers_select_and_order_the_keys(headers):
    assert DataExportService.export_to_csv(ROWS, headers).getvalue() == dict_writer(ROWS, headers)


def test_keys_that_are_no_texts_are_headers_too():
    rows = [{1: "a", 2.5: "b"}]
    assert DataExportService.export_to_csv(rows).getvalue() == dict_writer(rows, [1, 2.5])
    assert DataExportService.export_to_csv(rows, [2.5, 1]).getvalue() == dict_writer(rows, [2.5, 1])


def test_key_that_a_later_dict_adds_is_an_error_unless_headers_leave_it_out():
    rows = [{"a": 1}, {"a": 2, "b": 3}]
    with pytest.raises(ColumnError, match=r"row 2.*'b'"):
        DataExportService.export_to_csv(rows)
    assert DataExportService.export_to_csv(rows, ["a"]).getvalue() == "a\r\n1\r\n2\r\n"


@pytest.mark.parametrize("data", [[], (), iter([])])
def test_csv_of_no_rows_is_empty_or_the_header_row(data):
    assert DataExportService.export_to_csv(data).getvalue() == ""
    assert DataExportService.export_to_csv(data, ["a", "b"]).getvalue() == "a,b\r\n"


def test_file_of_no_rows_is_empty_or_the_header_row(tmp_path):
    assert Path(DataExportService.export_to_csv([], file_path=tmp_path / "x")).read_bytes() == b""
    assert Path(DataExportService.export_to_csv([], ["a"], tmp_path / "x")).read_bytes() == b"a\r\n"


def test_any_iterable_of_dicts_is_data():
    assert DataExportService.export_to_csv(row for row in ROWS).getvalue() == dict_writer(ROWS, ["name", "age"])


def test_csv_buffer_is_a_text_buffer():
    buffer = DataExportService.export_to_csv(ROWS)
    assert isinstance(buffer, io.StringIO)
    assert next(csv.DictReader(buffer)) == {"name": "Alice", "age": "30"}


def test_csv_is_written_in_utf_8_without_a_mark(tmp_path):
    path = DataExportService.export_to_csv([{"a": "Zoë"}], file_path=tmp_path / "x")
    assert path.read_bytes() == "a\r\nZoë\r\n".encode()


def test_values_have_the_forms_of_the_package():
    rows = [{"a": Decimal("1E+3"), "b": date(2026, 1, 31), "c": [1, "ü"]}]
    assert DataExportService.export_to_csv(rows).getvalue() == 'a,b,c\r\n1000,2026-01-31,"[1,""ü""]"\r\n'
    assert DataExportService.export_to_json(rows, indent=None) == (
        '[{"a": "1000", "b": "2026-01-31", "c": [1, "ü"]}]'
    )


# export_to_json


@pytest.mark.parametrize("indent", [None, 0, 1, 2, 4])
@given(st.lists(st.dictionaries(texts, documents, max_size=4), max_size=4) | st.dictionaries(texts, documents))
@example([])
@example({})
@example([{}])
@example({"a": [], "b": {}, "c": [[]], "d": [{}]})
@example({"users": [{"id": 1, "name": "Alice"}], "count": 1})
def test_json_is_that_of_dumps(indent, data):
    assert DataExportService.export_to_json(data, indent=indent) == dumps(data, indent)


def test_json_is_indented_by_two_unless_told_otherwise():
    assert DataExportService.export_to_json(ROWS) == dumps(ROWS, 2)


@pytest.mark.parametrize("indent", [None, 2])
def test_keys_of_json_are_those_of_dumps(indent):
    data = {"data": [{1: "a", None: "b", False: "c", 1.5: "d"}], 2: 1, False: 2, None: 3}
    assert DataExportService.export_to_json(data, indent=indent) == dumps(data, indent)


@pytest.mark.parametrize("data", [[1, "a", None, [2]], (row for row in ROWS), {"rows": (row for row in ROWS)}])
def test_any_iterable_is_an_array(data):
    expected = {"rows": ROWS} if isinstance(data, dict) else data if isinstance(data, list) else ROWS
    assert DataExportService.export_to_json(data) == dumps(expected)


@pytest.mark.parametrize("data", ["text", 1, None])
def test_what_is_no_rows_is_an_error(data, tmp_path):
    with pytest.raises(SourceError):
        DataExportService.export_to_json(data, tmp_path / "x")
    assert names(tmp_path) == []


def test_json_file_holds_the_text_in_utf_8(tmp_path):
    path = DataExportService.export_to_json({"a": "Zoë"}, tmp_path / "x", 4)
    assert path.read_bytes() == dumps({"a": "Zoë"}, 4).encode()


def test_document_may_hold_querysets(parents):
    data = {"rows": parents.values("name"), "count": 2}
    assert json.loads(DataExportService.export_to_json(data)) == {
        "rows": [{"name": "Alice"}, {"name": "Zoë, B."}],
        "count": 2,
    }


# export_to_pdf


def test_pdf_buffer_is_a_bytes_buffer():
    buffer = DataExportService.export_to_pdf("<p>Text</p>")
    assert isinstance(buffer, io.BytesIO)
    assert buffer.read().rstrip().endswith(b"%%EOF")


def test_pdf_stylesheet_that_is_missing_is_an_os_error_and_leaves_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.css"):
        DataExportService.export_to_pdf("<p>Text</p>", tmp_path / "x.pdf", [tmp_path / "missing.css"])
    assert names(tmp_path) == []


# queryset_to_csv and queryset_to_json


def test_queryset_csv_holds_the_fields_in_order(parents):
    text = DataExportService.queryset_to_csv(parents, ["name", "id"]).getvalue()
    assert text == dict_writer(list(parents.values("name", "id")), ["name", "id"])


def test_queryset_headers_rename_the_fields_one_for_one(parents):
    text = DataExportService.queryset_to_csv(parents, ["id", "name"], ["No.", "Name"]).getvalue()
    assert list(csv.reader(io.StringIO(text))) == [
        ["No.", "Name"],
        *[[str(parent.pk), parent.name] for parent in parents],
    ]


@pytest.mark.parametrize("headers", [[], ["a"], ["a", "b", "c"]])
def test_wrong_number_of_headers_is_a_value_error(headers, tmp_path):
    with pytest.raises(ValueError, match=f"{len(headers)} headers for 2 fields"):
        DataExportService.queryset_to_csv(Parent.objects.none(), ["id", "name"], headers, tmp_path / "x")
    assert names(tmp_path) == []


def test_queryset_fields_may_be_properties_and_methods(parents):
    text = DataExportService.queryset_to_csv(parents, ["label", "letters"]).getvalue()
    assert text == 'label,letters\r\n<Alice>,5\r\n"<Zoë, B.>",7\r\n'


def test_queryset_of_no_rows_is_the_header_row_or_an_empty_array(parents):
    nothing = parents.filter(name="nobody")
    assert DataExportService.queryset_to_csv(nothing, ["id", "name"]).getvalue() == "id,name\r\n"
    assert DataExportService.queryset_to_json(nothing) == "[]"


def test_queryset_json_holds_the_fields(parents):
    assert DataExportService.queryset_to_json(parents, ["name"]) == dumps([{"name": "Alice"}, {"name": "Zoë, B."}])


def test_queryset_json_holds_all_fields_by_default(parents):
    assert DataExportService.queryset_to_json(parents) == dumps(list(parents.values()))


def test_fields_that_hold_secrets_are_left_out_unless_named(database):
    Secretive.objects.using(database).create(name="a", password="hash", api_token="t")
    queryset = Secretive.objects.using(database)
    assert "password" not in json.loads(DataExportService.queryset_to_json(queryset))[0]
    assert json.loads(DataExportService.queryset_to_json(queryset, ["password"])) == [{"password": "hash"}]


@pytest.mark.parametrize("method", [DataExportService.queryset_to_csv, DataExportService.queryset_to_json])
def test_unknown_field_is_an_error_with_the_close_names(method, tmp_path):
    with pytest.raises(ColumnError, match=r"'nam'.*'name'"):
        method(Parent.objects.all(), ["nam"], file_path=tmp_path / "x")
    assert names(tmp_path) == []


# generate_file_path

STAMP = r"\d{8}_\d{6}"


def test_path_has_base_time_and_extension(tmp_path):
    path = DataExportService.generate_file_path("test_export", "csv", tmp_path)
    assert isinstance(path, str)
    assert re.fullmatch(f"{re.escape(str(tmp_path))}/test_export_{STAMP}\\.csv", path)


def test_time_can_be_left_out(tmp_path):
    path = DataExportService.generate_file_path("test_export", "csv", tmp_path, timestamp=False)
    assert path == str(tmp_path / "test_export.csv")


@pytest.mark.parametrize("extension", ["csv", ".csv", "csv.gz"])
def test_extension_may_have_its_dot(extension, tmp_path):
    path = DataExportService.generate_file_path("x", extension, tmp_path, timestamp=False)
    assert path == f"{tmp_path}/x.{extension.lstrip('.')}"


@pytest.mark.parametrize("kind", [str, Path])
def test_directory_is_created(kind, tmp_path):
    DataExportService.generate_file_path("x", "csv", kind(tmp_path / "a" / "b"))
    assert (tmp_path / "a" / "b").is_dir()
    assert names(tmp_path / "a" / "b") == []


def test_directory_that_cannot_be_created_is_logged_and_raised(tmp_path, caplog):
    (tmp_path / "file").write_bytes(b"")
    with caplog.at_level(logging.ERROR), pytest.raises(OSError):
        DataExportService.generate_file_path("x", "csv", tmp_path / "file" / "directory")
    assert str(tmp_path / "file") in caplog.text


def test_default_directory_is_reports_in_the_base_directory(settings, tmp_path):
    settings.BASE_DIR = tmp_path
    path = DataExportService.generate_file_path("x", "csv")
    assert Path(path).parent == tmp_path / "reports"
    assert (tmp_path / "reports").is_dir()


@pytest.mark.parametrize("code", ["", "from django.conf import settings; settings.configure();"])
def test_default_directory_is_reports_here_where_there_is_no_base_directory(code, tmp_path):
    code += "from upstream.services import DataExportService as S; print(S.generate_file_path('x', 'csv'))"
    assert re.fullmatch(f"reports/x_{STAMP}\\.csv\n", processes.printed(code, cwd=tmp_path))
    assert names(tmp_path) == ["reports"]


nasty = st.lists(
    st.sampled_from(
        ["..", "/", "\\", ".", "CON", "\0", "\n", "\ud800", "~", " ", "x" * 260, "ü" * 140, "C:", "$HOME"]
    )
    | st.text(),
    max_size=4,
).map("".join)


@given(nasty, nasty, st.booleans())
@example("..", "csv", False)
@example("", "", False)
@example("a", "../../x", True)
def test_path_never_leaves_its_directory_and_can_be_written(tmp_path, base, extension, timestamp):
    path = Path(DataExportService.generate_file_path(base, extension, tmp_path, timestamp))
    assert path.parent == tmp_path
    assert len(path.name.encode()) <= 255
    path.write_bytes(b"")
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
    path.unlink()


# As the project was asked to work, line by line


def test_csv_line_of_the_issue_runs_as_it_stands():
    line = (
        "from upstream.services.data_export import DataExportService as S; "
        "b = S.export_to_csv([{'name': 'Alice', 'age': 30}]); print(b.getvalue())"
    )
    assert processes.printed(line) == "name,age\r\nAlice,30\r\n\n"


def test_json_line_of_the_issue_runs_as_it_stands():
    line = (
        "from upstream.services.data_export import DataExportService as S; "
        "print(S.export_to_json({'users': [{'id': 1, 'name': 'Alice'}], 'count': 1}))"
    )
    assert processes.printed(line) == dumps({"users": [{"id": 1, "name": "Alice"}], "count": 1}) + "\n"


def test_path_line_of_the_issue_runs_as_it_stands(tmp_path):
    line = (
        "from upstream.services.data_export import DataExportService as S; "
        "print(S.generate_file_path('test_export', 'csv'))"
    )
    printed = processes.printed(line, cwd=tmp_path)
    assert re.fullmatch(f"(.*/)?reports/test_export_{STAMP}\\.csv\n", printed)
    assert (tmp_path / printed.strip()).parent.is_dir()


class TestExcel:
    ROWS = [{"name": "Alice", "age": 30}, {"name": "Bob"}]

    def test_dicts_to_a_buffer_and_a_file(self, tmp_path):
        expected = [[["name", "age"], ["Alice", "30"], ["Bob", None]]]
        buffer = DataExportService.export_to_excel(self.ROWS, ["name", "age"])
        assert buffer.tell() == 0
        assert sheets_of(buffer.read()) == expected
        path = str(tmp_path / "rows.xlsx")
        assert DataExportService.export_to_excel(self.ROWS, ["name", "age"], path) == path
        assert sheets_of(Path(path).read_bytes()) == expected

    def test_a_mapping_is_several_sheets(self):
        buffer = DataExportService.export_to_excel({"one": self.ROWS, "two": self.ROWS[:1]}, ["age"])
        assert sheets_of(buffer.read()) == [[["age"], ["30"], [None]], [["age"], ["30"]]]

    @pytest.mark.django_db
    def test_querysets(self):
        Customer.objects.create(name="Aetna")
        buffer = DataExportService.queryset_to_excel(Customer.objects.all(), ["name"], ["Name"])
        assert sheets_of(buffer.read()) == [[["Name"], ["Aetna"]]]
        with pytest.raises(ValueError, match="one header per field"):
            DataExportService.queryset_to_excel(Customer.objects.all(), ["name"], [])
