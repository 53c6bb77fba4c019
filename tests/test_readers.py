"""read_csv and read_json: what was written comes back, record by record, whatever the file's size."""

import csv
import gzip
import io
import json
import sys
import zlib
from decimal import Decimal
from pathlib import Path

import ijson
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tests import processes
from upstream.streaming import Csv, Json, JsonLines, SourceError, read_csv, read_json, stream, to_buffer, to_file

ROWS = [{"id": "1", "name": 'Zoë, "x"\r\n'}, {"id": "2", "name": ""}, {"id": "3", "name": "日本"}]
MEBIBYTE = 1024 * 1024

PACKINGS = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
    "two gzip members": lambda data: gzip.compress(data[:10]) + gzip.compress(data[10:]),
    "two zstd frames": lambda data: b"".join(map(zstandard.ZstdCompressor().compress, (data[:10], data[10:]))),
    "byte-order mark": lambda data: b"\xef\xbb\xbf" + data,
    "gzip and byte-order mark": lambda data: gzip.compress(b"\xef\xbb\xbf" + data),
}
packed = pytest.mark.parametrize("pack", PACKINGS.values(), ids=PACKINGS)


@pytest.fixture(params=["path", "text", "file"])
def given_as(request, tmp_path):
    """Turn bytes into each of the things that can be read: a Path, a name, an open file."""

    def give(data):
        if request.param == "file":
            return io.BytesIO(data)
        path = tmp_path / "file"
        path.write_bytes(data)
        return path if request.param == "path" else str(path)

    return give


def written(rows, encoder, **options):
    return to_buffer(stream(rows, encoder=encoder, **options)).read()


# CSV


@packed
def test_csv_comes_back(given_as, pack):
    assert list(read_csv(given_as(pack(written(ROWS, Csv()))))) == ROWS


@pytest.mark.parametrize("encoder", [Csv(quoting="all"), Csv(bom=True), Csv(profile="excel")], ids=repr)
def test_csv_of_any_layout_comes_back(encoder):
    assert list(read_csv(io.BytesIO(written(ROWS, encoder)))) == ROWS


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_csv_of_any_delimiter_comes_back(delimiter):
    data = written(ROWS, Csv(delimiter=delimiter))
    assert list(read_csv(io.BytesIO(data), delimiter=delimiter)) == ROWS


def test_null_marker_tells_none_from_the_empty_text():
    rows = [{"a": None, "b": ""}, {"a": "x", "b": None}]
    data = written(rows, Csv(null_marker="NULL"))
    assert list(read_csv(io.BytesIO(data), null_marker="NULL")) == rows


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(st.lists(texts, min_size=1, max_size=4, unique=True), st.data())
def test_any_texts_come_back_from_csv(header, data):
    rows = data.draw(st.lists(st.fixed_dictionaries(dict.fromkeys(header, texts)), min_size=1, max_size=4))
    assert list(read_csv(io.BytesIO(written(rows, Csv())))) == rows


@pytest.mark.parametrize("data", [b"", b"a,b\r\n", b"a,b"])
def test_csv_without_rows_gives_none(data):
    assert list(read_csv(io.BytesIO(data))) == []


def test_empty_lines_are_skipped():
    assert list(read_csv(io.BytesIO(b"a\r\n\r\n1\r\n\n2"))) == [{"a": "1"}, {"a": "2"}]


@pytest.mark.parametrize(("line", "cells"), [("1", 1), ("1,2,3", 3)])
def test_row_of_another_length_is_an_error_that_names_it(line, cells):
    reader = read_csv(io.BytesIO(f"a,b\r\n1,2\r\n{line}\r\n".encode()))
    assert next(reader) == {"a": "1", "b": "2"}
    with pytest.raises(SourceError, match=f"row 2 has {cells} cells, but the header has 2"):
        next(reader)


def test_row_numbers_count_lines_that_were_skipped_as_none():
    with pytest.raises(SourceError, match="row 2 "):
        list(read_csv(io.BytesIO(b"a,b\r\n1,2\r\n\r\n\r\n1\r\n")))


def test_column_named_twice_is_an_error():
    with pytest.raises(SourceError, match="twice"):
        list(read_csv(io.BytesIO(b"a,b,a\r\n1,2,3\r\n")))


def test_quote_that_is_never_closed_is_an_error():
    with pytest.raises(csv.Error):
        list(read_csv(io.BytesIO(b'a\r\n"1\r\n')))


def test_bytes_that_are_no_utf_8_are_an_error():
    with pytest.raises(UnicodeDecodeError):
        list(read_csv(io.BytesIO("a\r\nZoë\r\n".encode("latin-1"))))


@pytest.mark.parametrize("delimiter", ["", ",,"])
def test_delimiter_is_checked_by_the_call(delimiter):
    with pytest.raises(ValueError, match="one character"):
        read_csv(io.BytesIO(b""), delimiter=delimiter)


@pytest.mark.parametrize("delimiter", ['"', "\n", "\r"])
def test_delimiter_that_is_a_quote_or_line_end_is_refused_by_the_call(delimiter):
    with pytest.raises(ValueError, match="delimiter"):
        read_csv(io.BytesIO(b""), delimiter=delimiter)


def test_cells_of_5_mb_come_back():
    rows = [{"a": "ü" * 5 * MEBIBYTE}]
    assert list(read_csv(io.BytesIO(written(rows, Csv())))) == rows


def test_reading_does_not_change_the_csv_module_for_others():
    before = csv.field_size_limit()
    list(read_csv(io.BytesIO(b"a\r\n1\r\n")))
    assert csv.field_size_limit() == before


# JSON


VALUES = [{"a": 1, "b": None, "c": [True, {"d": "ü"}]}, {"a": 2**70, "b": Decimal("1.50"), "c": []}]


@packed
@pytest.mark.parametrize(
    "encoder", [Json(decimals="number"), JsonLines(decimals="number")], ids=["json", "ndjson"]
)
def test_json_comes_back(given_as, encoder, pack):
    assert list(read_json(given_as(pack(written(VALUES, encoder))))) == VALUES


def test_indented_json_comes_back():
    assert list(read_json(io.BytesIO(written(VALUES, Json(indent=4, decimals="number"))))) == VALUES


def test_numbers_with_a_point_keep_their_digits():
    assert str(next(read_json(io.BytesIO(b"[1.10]")))) == "1.10"
    assert list(read_json(io.BytesIO(b"[1.10, 2]"), use_float=True)) == [1.1, 2]
    assert isinstance(next(read_json(io.BytesIO(b"[1.10]"), use_float=True)), float)


@pytest.mark.parametrize("path", ["data.rows.item", "data.rows"])
def test_path_leads_to_the_records(path, given_as):
    document = b'{"count": 2, "data": {"rows": [{"a": 1}, {"a": 2}]}, "more": [3]}'
    records = list(read_json(given_as(document), path))
    assert records == ([{"a": 1}, {"a": 2}] if path.endswith("item") else [[{"a": 1}, {"a": 2}]])


@pytest.mark.parametrize("document", [b'{"rows": []}', b'{"rows": [], "more": 1}'])
def test_empty_array_has_no_records(document, given_as):
    assert list(read_json(given_as(document), "rows.item")) == []


@pytest.mark.parametrize("data", [b"", b"[]", b" \n[ ]\n", b"\n"])
def test_empty_file_or_array_has_no_records(data, given_as):
    assert list(read_json(given_as(data))) == []


@pytest.mark.parametrize("document", [b'{"rows": [1]}', b"[1]", b'{"data": 1}', b'{"data": {"row": [1]}}'])
@pytest.mark.parametrize("kind", [str, Path])
def test_path_to_nothing_is_an_error_that_names_it(tmp_path, document, kind):
    (tmp_path / "x.json").write_bytes(document)
    with pytest.raises(SourceError, match=r"data\.rows\.item"):
        list(read_json(kind(tmp_path / "x.json"), "data.rows.item"))


def test_ndjson_of_any_values_comes_back(given_as):
    assert list(read_json(given_as(b'{"a": 1}\n"x"\n[2]\nnull\n'))) == [{"a": 1}, "x", [2], None]


def test_white_space_may_come_before_the_data():
    space = b" \n" * 20_000
    assert list(read_json(io.BytesIO(space + b"[1]"))) == [1]
    assert list(read_json(io.BytesIO(space + b'{"a": 1}\n'))) == [{"a": 1}]


@pytest.mark.parametrize("data", [b"[1, 2", b"[1, 2]]", b'[{"a": ', b"{'a': 1}", b"[NaN]"])
def test_broken_json_is_an_error(data):
    with pytest.raises(ijson.JSONError):
        list(read_json(io.BytesIO(data)))


def test_records_before_the_break_come_first():
    records = read_json(io.BytesIO(b"[1, 2, 3, oops"))
    assert next(records) == 1


# Both


readers = pytest.mark.parametrize(
    ("read", "data"), [(read_csv, b"a\r\n1\r\n"), (read_json, b"[1]")], ids=["csv", "json"]
)


@readers
def test_file_opened_as_text_is_an_error_that_says_so(read, data, tmp_path):
    (tmp_path / "x").write_bytes(data)
    with (tmp_path / "x").open(encoding="utf-8") as file, pytest.raises(SourceError, match="binary"):
        list(read(file))


@readers
def test_missing_file_is_an_error(read, data, tmp_path):
    with pytest.raises(FileNotFoundError):
        list(read(tmp_path / "missing"))


@readers
def test_file_of_the_caller_stays_open(read, data):
    file = io.BytesIO(data)
    assert list(read(file))
    assert not file.closed


@readers
def test_file_given_by_name_is_closed_when_reading_is_broken_off(read, data, tmp_path):
    (tmp_path / "x").write_bytes(data * 3 if read is read_csv else b"[1, 2, 3]")
    records = read(tmp_path / "x")
    next(records)
    records.close()
    assert [name for name in map(Path.resolve, Path("/proc/self/fd").iterdir()) if name == tmp_path / "x"] == []


class Pipe(io.RawIOBase):
    """Gives its bytes a few at a time, and cannot go back: a socket, or what a web request uploads."""

    def __init__(self, data):
        self.file = io.BytesIO(data)

    def read(self, size=-1):
        return self.file.read(min(size, 3) if size >= 0 else 3)


@readers
@packed
def test_stream_that_trickles_is_read_to_its_end(read, data, pack):
    data = data + b"2\r\n" * 50 if read is read_csv else b"[" + b"1," * 50 + b"1]"
    assert len(list(read(Pipe(pack(data))))) == 51


@readers
@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress], ids=["gzip", "zstd"])
def test_compressed_file_that_is_cut_off_is_an_error(read, data, pack):
    rows = [{"a": number} for number in range(20_000)]
    whole = pack(written(rows, Csv() if read is read_csv else JsonLines()))
    for size in (len(whole) - 1, len(whole) // 2, 12):
        with pytest.raises((EOFError, OSError, zstandard.ZstdError, zlib.error, ValueError)):
            list(read(io.BytesIO(whole[:size])))


@readers
def test_compressed_file_that_is_damaged_is_an_error(read, data):
    whole = bytearray(gzip.compress(data))
    whole[-8] ^= 1  # its checksum
    with pytest.raises((OSError, zlib.error)):
        list(read(io.BytesIO(bytes(whole))))


@readers
def test_reading_begins_with_the_first_record(read, data):
    """Nothing is opened by the call itself."""
    records = read("/nowhere/at/all")
    with pytest.raises(FileNotFoundError):
        next(records)


def test_export_reads_its_source_from_a_file(tmp_path):
    to_file(stream(ROWS, encoder=JsonLines()), tmp_path / "x.ndjson")
    assert written(read_json(tmp_path / "x.ndjson"), Csv()) == written(ROWS, Csv())


CONVERT = """
import sys
from benchmarks.memory import peak_bytes
from upstream.streaming import *
to_file(stream(read_json(sys.argv[1], sys.argv[3])), sys.argv[2])
print(peak_bytes())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peaks of memory are read from /proc")
def test_json_file_of_50_mb_becomes_csv_in_flat_memory(tmp_path):
    peaks = []
    for megabytes in (1, 50):
        count = megabytes * MEBIBYTE // 500
        with (tmp_path / "x.json").open("w") as file:
            file.write('{"data": [')
            for number in range(count):
                file.write(("," if number else "") + json.dumps({"id": number, "text": "x" * 470}))
            file.write("]}")
        printed = processes.printed(CONVERT, tmp_path / "x.json", tmp_path / "x.csv", "data.item")
        peaks.append(int(printed))
        with (tmp_path / "x.csv").open(newline="") as file:
            assert sum(1 for _ in csv.reader(file)) == count + 1
    assert (tmp_path / "x.json").stat().st_size > 49 * MEBIBYTE
    assert peaks[1] - peaks[0] < 8 * MEBIBYTE
