"""Delimited text is framed as Python's csv module frames it; the options add what that module has not."""

import csv
import io
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from importlib import import_module
from importlib.util import find_spec
from itertools import combinations_with_replacement, cycle, islice, product
from numbers import Number

import pytest
from django.utils.functional import lazystr
from django.utils.translation import gettext_lazy
from hypothesis import given
from hypothesis import strategies as st

from tests import ways
from tests.fieldtypes.models import Level, Word
from tests.strategies import decimals, floats, texts
from upstream.streaming import Column, ColumnError, Csv, ExportError, TextError, stream
from upstream.streaming.columns import OutputColumn

QUOTINGS = {"minimal": csv.QUOTE_MINIMAL, "all": csv.QUOTE_ALL, "nonnumeric": csv.QUOTE_NONNUMERIC}
DELIMITERS = ",;\t|0-ae:. é\U0001f600'=+\x00"
CELLS = {
    "text": texts(),
    "integers": st.integers(),
    "floats": floats(),
    "decimals": decimals(20, 6),
    "dates": st.dates(),
    "nothing": st.none(),
}


class Digits(Decimal):
    """A Decimal that the csv module prints without an exponent."""

    def __str__(self):
        return format(self, "f")


def written(rows, columns, **options):
    return b"".join(stream(rows, columns, Csv(**options))).decode()


def by_csv_module(rows, delimiter, quoting):
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, quoting=QUOTINGS[quoting], lineterminator="\r\n")
    for row in rows:
        if list(row) == ["\\."]:  # the module leaves bare what would end COPY's input
            text.write('"\\."\r\n')
        else:
            writer.writerow([Digits(cell) if isinstance(cell, Decimal) else cell for cell in row])
    return text.getvalue()


def parsed(text, delimiter=","):
    """Return rows of (text, whether it was quoted), read letter by letter as RFC 4180 spells it."""
    rows, row, cell, quoted, inside = [], [], "", False, False
    letters = iter(text)
    for read in letters:
        letter = read
        if inside:
            if letter == '"':
                letter = next(letters)
                inside = letter == '"'
            if inside:
                cell += letter
                continue
        if letter == '"':
            assert not cell, "a quote begins a cell"
            inside = quoted = True
        elif letter in (delimiter, "\r"):
            row.append((cell, quoted))
            cell, quoted = "", False
            if letter == "\r":
                assert next(letters) == "\n"
                rows.append(row)
                row = []
        else:
            cell += letter
    assert (row, cell, quoted) == ([], "", False), "the last line ends as all do"
    return rows


class TestFraming:
    @pytest.mark.parametrize("quoting", QUOTINGS)
    @given(
        delimiter=st.sampled_from(DELIMITERS),
        rows=st.lists(st.tuples(*[st.one_of(*CELLS.values())] * 3), max_size=4),
    )
    def test_rows_of_mixed_cells_are_those_of_the_csv_module(self, quoting, delimiter, rows):
        header = ["a", "0,;|\t-", "é"]
        got = written(rows, header, delimiter=delimiter, quoting=quoting)
        assert got == by_csv_module([header, *rows], delimiter, quoting)

    @pytest.mark.parametrize("quoting", QUOTINGS)
    @pytest.mark.parametrize("kind", CELLS)
    @given(delimiter=st.sampled_from(DELIMITERS), data=st.data())
    def test_columns_of_one_type_are_those_of_the_csv_module(self, quoting, kind, delimiter, data):
        rows = data.draw(st.lists(st.tuples(CELLS[kind], st.none() | CELLS[kind]), max_size=4))
        got = written(rows, ["a", "b"], delimiter=delimiter, quoting=quoting)
        assert got == by_csv_module([["a", "b"], *rows], delimiter, quoting)

    @pytest.mark.parametrize("quoting", QUOTINGS)
    @given(st.lists(st.tuples(texts(), st.integers(1, 400)), max_size=4))
    def test_long_texts_are_those_of_the_csv_module(self, quoting, drawn):
        rows = [(f'{text}"' * times, text) for text, times in drawn]
        got = written(rows, ["a", "b"], quoting=quoting)
        assert got == by_csv_module([["a", "b"], *rows], ",", quoting)

    @pytest.mark.parametrize("quoting", QUOTINGS)
    @given(st.lists(st.one_of(st.just("\\."), *CELLS.values()), max_size=4))
    def test_a_single_column_has_no_empty_line(self, quoting, values):
        rows = [(value,) for value in values]
        got = written(rows, ["only"], quoting=quoting)
        assert got == by_csv_module([["only"], *rows], ",", quoting)
        assert len(list(csv.reader(io.StringIO(got, newline="")))) == len(rows) + 1

    @pytest.mark.parametrize(
        "text", ["\r", "\n", "a\rb", "ends\r", "\r\n", '"', '""', "a,b", "a\x00b", "\x00", "😀"]
    )
    def test_what_could_break_the_frame_is_read_back(self, text):
        assert parsed(written([(text, 1)], ["a", "b"]))[1][0][0] == text

    def test_the_bytes_are_utf_8_without_a_mark_and_lines_end_with_crlf(self):
        assert b"".join(stream([("é", "日"), ("😀", "")], ["a", "ß"])) == "a,ß\r\né,日\r\n😀,\r\n".encode()

    def test_without_a_header_positions_need_no_names(self):
        assert written([(1, "a"), (2, "b")], None, header=False) == "1,a\r\n2,b\r\n"

    def test_tabs_make_another_media_type_and_suffix(self):
        assert (Csv().content_type, Csv().suffix) == ("text/csv; charset=utf-8", ".csv")
        tabs = Csv(delimiter="\t")
        assert (tabs.content_type, tabs.suffix) == ("text/tab-separated-values; charset=utf-8", ".tsv")


class TestHeaders:
    def test_a_header_may_be_translated_late(self):
        column = Column("a", header=gettext_lazy("Name"))
        assert written([{"a": 1}], [column]) == "Name\r\n1\r\n"

    def test_a_header_that_is_no_utf_8_is_refused_by_name(self):
        with pytest.raises(ExportError, match="U\\+D800"):
            written([{"\ud800": 1}], None)


NULLABLE = st.none() | texts() | st.sampled_from(["", "\\x", "1.5"]) | st.integers() | floats() | st.booleans()
WAYS = st.fixed_dictionaries({"quoting": st.sampled_from(list(QUOTINGS)), "delimiter": st.sampled_from(",;\tN-")})


class TestNulls:
    """A reader that sees quotes tells None, the empty string and the marker's own text apart."""

    def read(self, text, way, null):
        return [
            [None if (cell, is_quoted) == (null, False) else cell for cell, is_quoted in row]
            for row in parsed(text, way["delimiter"])[1:]
        ]

    def expected(self, rows):
        return [[None if cell is None else str(cell) for cell in row] for row in rows]

    @given(WAYS, st.lists(st.tuples(NULLABLE, NULLABLE), max_size=4))
    def test_quoted_empty_text_is_told_from_none(self, way, rows):
        got = written(rows, ["a", "b"], quote_empty=True, **way)
        assert self.read(got, way, "") == self.expected(rows)

    @pytest.mark.parametrize("marker", ["\\x", "1.5", "True", "nan"])
    @given(WAYS, st.lists(st.tuples(NULLABLE, NULLABLE), max_size=4))
    def test_a_marker_is_told_from_the_same_text_and_from_empty_text(self, marker, way, rows):
        rows = [*rows, (None, marker), ("", None), (1.5, True), (float("nan"), marker)]
        got = written(rows, [marker, "b"], null_marker=marker, **way)
        assert self.read(got, way, marker) == self.expected(rows)
        assert parsed(got, way["delimiter"])[0] == [(marker, True), ("b", way["quoting"] != "minimal")]

    @given(WAYS, st.lists(NULLABLE, max_size=4))
    def test_a_single_column_with_a_marker_keeps_none(self, way, values):
        rows = [(value,) for value in values]
        got = written(rows, ["a"], null_marker="?", **way)
        assert self.read(got, way, "?") == self.expected(rows)


FORMULAS = [
    "=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n1", "\x001", " =1", "\u00a0\u200b=1", "-",
    "\uff1d1", "\uff0b1", "\uff0d1", "\uff201", "+41 44 668 18 00", "=cmd|' /C calc'!A0",
]  # fmt: skip


class Sign(Enum):
    TEXT = "-text"
    NUMBER = -1.5


class Score(IntEnum):
    LOW = -5


class TestExcelProfile:
    def first_cells(self, values, **options):
        got = written([(value, 0) for value in values], ["a", "b"], profile="excel", **options)
        return [row[0][0] for row in parsed(got, options.get("delimiter", ","))[1:]]

    def test_a_byte_order_mark_comes_first_and_once(self):
        rows = [{"a": "é"}] * 3
        data = b"".join(stream(rows, None, Csv(profile="excel"), chunk_size=1))
        assert data == b"\xef\xbb\xbfa\r\n" + "é\r\n".encode() * 3
        assert b"".join(stream(rows, None, Csv(profile="excel", bom=False))).startswith(b"a")

    @pytest.mark.parametrize("text", FORMULAS)
    def test_strings_that_look_like_formulas_get_an_apostrophe(self, text):
        assert self.first_cells([text, lazystr(text)]) == ["'" + text] * 2

    @pytest.mark.parametrize("text", FORMULAS)
    def test_headers_that_look_like_formulas_get_an_apostrophe(self, text):
        got = written([{text: 1, "b": 2}], None, profile="excel")
        assert parsed(got.removeprefix("\ufeff"))[0][0][0] == "'" + text

    def test_members_of_choices_with_such_values_get_an_apostrophe(self):
        assert self.first_cells([Word.FORMULA, Sign.TEXT]) == ["'=1+1", "'-text"]

    @pytest.mark.parametrize(
        "text",
        [
            "1=1",
            "'=1",
            "a@b",
            "",
            "é",
            "a - b",
            "-5.00",
            "+3,5",
            "-1,234.56",
            " -7",
            "-1e-5",
            "+41446681800",
            "1;-2",
        ],
    )
    def test_other_strings_stay(self, text):
        assert self.first_cells([text]) == [text]

    @pytest.mark.parametrize("number", [-1, -1.5, Decimal("-1.50"), -(2**70), Score.LOW, Level.BELOW, -0.0])
    def test_numbers_stay(self, number):
        assert self.first_cells([number]) == [format(number, "d" if isinstance(number, int) else "")]

    def test_the_number_of_an_enum_stays(self):
        assert self.first_cells([Sign.NUMBER]) == ["-1.5"]

    def test_numbers_of_numpy_stay(self):
        if not find_spec("numpy"):
            pytest.skip("NumPy is not installed")
        numpy = import_module("numpy")
        assert self.first_cells([numpy.float64(-1.5)]) == ["-1.5"]
        assert self.first_cells([numpy.int64(-5)]) == ["-5"]

    def test_finite_decimals_and_floats_take_the_decimal_separator_and_nothing_else_does(self):
        values = [1.5, Decimal("-1.50"), 1000, "1.5", date(2026, 1, 31), [1.5], float("nan"), 1e-5]
        got = self.first_cells(values, decimal_separator=",", delimiter=";")
        assert got == ["1,5", "-1,50", "1000", "1.5", "2026-01-31", "[1.5]", "nan", "1e-05"]

    def test_a_decimal_separator_that_is_the_delimiter_is_quoted(self):
        assert '\r\n"1,5",0\r\n' in written([(1.5, 0)], ["a", "b"], profile="excel", decimal_separator=",")

    def test_dates_and_datetimes_take_their_formats(self):
        values = [date(2026, 1, 31), datetime(2026, 1, 31, 8, 15, tzinfo=UTC)]
        got = self.first_cells(values, date_format="%d.%m.%Y", datetime_format='%d/%m "%H", %M')
        assert got == ["31.01.2026", '31/01 "08", 15']

    @pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
    def test_no_other_delimiter_makes_a_cell_that_starts_a_formula(self, delimiter):
        values = [
            f"a{mark}{text}" for mark in ",;\t|" if mark != delimiter for text in ("=1", " @x", "-a", "\uff1d1")
        ]
        got = written(
            [(value, value) for value in values], ["a", "b"], profile="excel", delimiter=delimiter, bom=False
        )
        for mark in set(",;\t|") - {delimiter}:
            cells = [cell for row in csv.reader(io.StringIO(got, newline=""), delimiter=mark) for cell in row]
            assert not [cell for cell in cells if cell.strip('" ').startswith(("=", "@", "-", "\uff1d"))]

    @pytest.mark.parametrize(
        "value",
        [timedelta(hours=-1), b"\xfb\xef\xbe", float("-inf"), Decimal("-Infinity"), Decimal("-NaN")],
        ids=repr,
    )
    def test_durations_bytes_and_infinities_that_start_with_a_sign_get_an_apostrophe(self, value):
        plain = parsed(written([(value, 0)], ["a", "b"]))[1][0][0]
        assert plain[0] in "+-"
        assert self.first_cells([value]) == ["'" + plain]

    @given(st.lists(st.text(st.sampled_from("=+-@a1 ,;\t\n\"'")), min_size=1))
    def test_a_cell_is_guarded_alike_alone_and_beside_others(self, values):
        assert self.first_cells(values) == [self.first_cells([value])[0] for value in values]


class TestMarksOfReaders:
    """What PostgreSQL and Excel take for a mark is quoted, and so stays text."""

    def test_a_backslash_and_period_alone_in_a_row_are_quoted(self):
        assert written([("\\.",), ("a",)], ["\\."]) == '"\\."\r\n"\\."\r\na\r\n'
        assert written([("\\.", 1)], ["a", "b"]) == "a,b\r\n\\.,1\r\n"

    @pytest.mark.parametrize("options", [{}, {"profile": "excel", "bom": False}, {"encoding": "cp1252"}], ids=str)
    def test_a_file_never_begins_with_id_since_that_is_sylk(self, options):
        assert written([(1, "ID")], ["ID", "ID"], **options) == '"ID",ID\r\n1,ID\r\n'
        assert written([("ID1", 1), ("ID2", 2)], None, header=False, **options) == '"ID1",1\r\nID2,2\r\n'
        assert written([(1, 2)], ["id", "ID"], **options) == "id,ID\r\n1,2\r\n"


class TestEncodings:
    @pytest.mark.parametrize(
        "encoding", ["utf-8", "cp1252", "utf-16", "utf-16-le", "utf-8-sig", "iso2022_jp", "utf-7"]
    )
    @pytest.mark.parametrize("chunk_size", [1, 2000])
    def test_the_bytes_are_those_of_the_whole_text(self, encoding, chunk_size):
        rows = [("\u65e5\u672c" if encoding != "cp1252" else "\u20ac", number) for number in range(5)]
        plain = b"".join(stream(rows, ["a", "b"], Csv())).decode()
        got = b"".join(stream(rows, ["a", "b"], Csv(encoding=encoding), chunk_size=chunk_size))
        assert got == plain.encode(encoding)

    @pytest.mark.parametrize("encoding", ["cp1252", "cp932", "ascii", "iso2022_jp"])
    def test_a_character_that_it_lacks_names_row_column_and_encoding(self, encoding):
        with pytest.raises(TextError, match=rf"row 2, column 'b'.*U\+0E01.*{encoding}"):
            written([("a", "b"), ("a", "c\u0e01")], ["a", "b"], encoding=encoding)
        with pytest.raises(TextError, match=rf"header 'c\u0e01'.*{encoding}"):
            written([(1, 2)], ["a", "c\u0e01"], encoding=encoding)

    def test_only_unicode_gets_a_mark_and_only_one(self):
        rows = [(1, 2)]
        for encoding, mark in (("cp1252", b""), ("utf-16", b"\xff\xfe"), ("utf-16-le", b"\xff\xfe")):
            data = b"".join(stream(rows, ["a", "b"], Csv(profile="excel", encoding=encoding)))
            assert data.startswith(mark + "a".encode(encoding)[-2:])
            assert data.count(b"\xff\xfe") == len(mark) // 2

    def test_the_media_type_names_it(self):
        assert Csv(encoding="CP1252").content_type == "text/csv; charset=windows-1252"
        assert Csv(encoding="UTF8") == Csv()


class TestLinesAndTimes:
    def test_lines_may_end_with_lf_and_cells_with_line_breaks_stay_quoted(self):
        assert written([("a\rb", "c\nd")], ["a", "b"], lineterminator="\n") == 'a,b\n"a\rb","c\nd"\n'

    def test_datetimes_and_times_of_one_width_have_microseconds(self):
        moments = [datetime(2026, 1, 31, 8, tzinfo=UTC), datetime(2026, 1, 31, 8, 15, 0, 5)]
        got = written([(moment, moment.time()) for moment in moments], ["a", "b"], timespec="microseconds")
        assert got.splitlines()[1:] == [
            "2026-01-31 08:00:00.000000+00:00,08:00:00.000000",
            "2026-01-31 08:15:00.000005,08:15:00.000005",
        ]


class TestDataProfile:
    def test_nothing_is_changed(self):
        values = [*FORMULAS, -1, -1.5, Decimal("-1.50"), timedelta(days=-1), "\ufeff", " a "]
        got = parsed(written([(value, "") for value in values], ["a", "=b"]))
        cells = [cell for (cell, _), _ in got[1:]]
        assert cells == [*FORMULAS, "-1", "-1.5", "-1.50", "-P1DT00H00M00S", "\ufeff", " a "]
        assert got[0][1][0] == "=b"


class TestBadOptions:
    @pytest.mark.parametrize(
        "options",
        [
            {"delimiter": ""},
            {"delimiter": ",,"},
            {"delimiter": '"'},
            {"delimiter": "\n"},
            {"lineterminator": "\r"},
            {"encoding": "hex"},
            {"encoding": "no such"},
            {"encoding": None},
            {"bom": True, "encoding": "cp1252"},
            {"timespec": "seconds"},
            {"quoting": "some"},
            {"quoting": None},
            {"profile": "calc"},
            {"null_marker": "a,b"},
            {"null_marker": '"'},
            {"null_marker": "a;b", "delimiter": ";"},
            {"decimal_separator": ","},
            {"date_format": "%d"},
            {"datetime_format": "%d"},
        ],
        ids=str,
    )
    def test_a_bad_option_is_a_value_error_when_the_encoder_is_made(self, options):
        with pytest.raises(ValueError, match="|".join(options)):
            Csv(**options)

    def test_a_single_column_cannot_tell_none_from_empty_text_by_quotes(self):
        with pytest.raises(ColumnError, match="null_marker"):
            stream([{"a": None}], ["a"], Csv(quote_empty=True))

    @pytest.mark.parametrize("source", [[{"a": None}], ({"a": None} for _ in range(2))], ids=["list", "generator"])
    def test_nor_can_one_that_only_the_first_record_names(self, source):
        with pytest.raises(ColumnError, match="null_marker"):
            b"".join(stream(source, None, Csv(quote_empty=True)))


@given(st.text(st.sampled_from('a,"\r\n;'), max_size=12))
def test_the_parser_of_these_tests_reads_as_the_csv_module_does(text):
    rows = [[text, "b"], ["", text]]
    got = parsed(by_csv_module(rows, ",", "minimal"))
    assert [[cell for cell, _ in row] for row in got] == rows
    assert got[0][0][1] == any(mark in text for mark in ',"\r\n')


@pytest.mark.parametrize("quoting", ["minimal", "all", "nonnumeric"])
@pytest.mark.parametrize(
    "options", [{"null_marker": "-"}, {"quote_empty": True}, {}], ids=["marker", "empty", "single"]
)
def test_a_quote_is_doubled_once_beside_a_text_that_is_always_quoted(options, quoting):
    names = ["only"] if not options else ["a", "b"]
    rows = [dict.fromkeys(names, text) for text in ("-", "", '"', 'a"b,c')]
    text = b"".join(stream(rows, names, Csv(quoting=quoting, **options))).decode()
    assert [row[0] for row in csv.reader(io.StringIO(text, newline=""))][1:] == ["-", "", '"', 'a"b,c']


# Cells that may be written in another way than others, and some that are not.
CELLS_APART = [
    *("", '"', '""', 'a"b', "a", "-", "null", "\\.", "\x00", 'x\x00"', "\r", "\n", ",", "a;b", "=1", "ID", "1"),
    *(None, 0, -1, 1.5, True, Decimal("1.10")),
]
NONE, LAST = CELLS_APART.index(None), len(CELLS_APART) - 1
# Three cells of a column, by their positions: each beside each other one, and beside None.
BESIDE = [trio for a, b in combinations_with_replacement(range(LAST + 1), 2) for trio in ((a, b, a), (b, a, NONE))]
GUARDED = {text: f"'{text}" for text in ("-", "=1", "\x00", "\r", "\n")}


def framed_alone(cell, options, *, single):
    """Return a cell as the csv module writes it beside an x, quoted if that or an option asks for it."""
    if cell is None and (options.null_marker or options.quote_empty):
        return options.null_marker
    text = "" if cell is None else str(cell)
    if options.profile == "excel" and isinstance(cell, str):
        text = GUARDED.get(text, text)
    is_quoted = options.quoting == "all" or (options.quoting == "nonnumeric" and not isinstance(cell, Number))
    is_quoted |= (text or None) == options.null_marker or (single and text == "\\.")
    is_quoted |= text == "" and (single or options.quote_empty)
    file = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if is_quoted else csv.QUOTE_MINIMAL
    csv.writer(file, delimiter=options.delimiter, quoting=quoting).writerow(["x", text])
    return file.getvalue().partition(options.delimiter)[2].removesuffix("\r\n")


def alone(options, *, single=False):
    return [framed_alone(cell, options, single=single) for cell in CELLS_APART]


@pytest.mark.parametrize("way", ways.WAYS)
@pytest.mark.parametrize("profile", ["data", "excel"])
@pytest.mark.parametrize("quoting", QUOTINGS)
class TestCellsBesideOthers:
    """Whatever else a column holds, a cell is what the csv module writes of it alone."""

    @pytest.fixture(autouse=True)
    def _way(self, way, monkeypatch):
        ways.only(way, monkeypatch)

    @pytest.fixture
    def encoders(self, quoting, profile):
        return [
            Csv(delimiter=mark, null_marker=marker, quote_empty=empty, quoting=quoting, profile=profile, bom=False)
            for mark, marker, empty in product(",;-1\x00", ("", "-", "null", "1"), (False, True))
            if mark != marker
        ]

    def test_in_many_columns(self, encoders):
        headers = [at for at, cell in enumerate(CELLS_APART) if type(cell) is str]
        heads = [*islice(cycle(headers), len(BESIDE))]
        columns = [OutputColumn(CELLS_APART[at]) for at in heads]
        batch = [tuple(map(CELLS_APART.__getitem__, row)) for row in zip(*BESIDE, strict=True)]
        for encoder in encoders:
            cells = alone(encoder)
            rows = [map(cells.__getitem__, row) for row in (heads, *zip(*BESIDE, strict=True))]
            expected = "".join(encoder.delimiter.join(row) + "\r\n" for row in rows)
            assert b"".join(encoder.encode(columns, (one for one in [batch]))).decode() == expected, encoder

    def test_in_a_single_column(self, encoders):
        batches = [[(CELLS_APART[at],) for at in trio] for trio in BESIDE]
        for encoder in encoders:
            if encoder.quote_empty and not encoder.null_marker:
                continue  # refused, for None would be an empty line
            cells = alone(encoder, single=True)
            expected = "".join(cells[at] + "\r\n" for trio in BESIDE for at in trio)
            got = b"".join(encoder.encode([OutputColumn("x")], (batch for batch in batches))).decode()
            assert got.partition("\r\n")[2] == expected, encoder

    def test_of_texts_that_a_database_made(self, encoders):
        texts = ["1.10", None, "1", "-1"]
        columns = [OutputColumn("x"), OutputColumn("x", load=lambda values: (Decimal, values))]
        for encoder in encoders:
            numbers = [None if text is None else Decimal(text) for text in texts]
            left, *cells = [framed_alone(cell, encoder, single=False) for cell in ("a", *numbers)]
            expected = "".join(f"{left}{encoder.delimiter}{cell}\r\n" for cell in cells)
            got = b"".join(encoder.encode(columns, (batch for batch in [[("a", text) for text in texts]])))
            assert got.decode().partition("\r\n")[2] == expected, encoder
