"""PDF tables: other programs find every cell's text, pages are alike, and nothing grows with their number."""

import io
import logging
import re
import shutil
import subprocess
import sys
import unicodedata
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from zoneinfo import ZoneInfo

import page as page_validation
import pikepdf
import pymupdf_fonts
import pypdf
import pypdfium2
import pytest
from fontTools.ttLib import TTFont
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import foreign, processes, services
from tests.strategies import PYTHON_VALUES
from upstream.streaming import (
    Column,
    Csv,
    LimitError,
    MissingDependencyError,
    Pdf,
    TextError,
    plan,
    stream,
    to_buffer,
)
from upstream.streaming.encoders.pdf_table import objects, typeset
from upstream.streaming.encoders.pdf_table.files import packaged_font, system_font
from upstream.streaming.encoders.pdf_table.objects import ObjectWriter, PageTree

MEBIBYTE = 1024 * 1024
LOREM = "The payer changed its policy without notice, and appeals were filed for fourteen patients. "
MIXED = [
    "Ünïcode ½",
    "中文 と かな",
    "שלום (12) abc",
    "مرحبا",
    "😀 👩‍👩‍👧",
    "हिन्दी",
    "e\u0301",
    "\ue000",
    "a\u00a0b",
]


def written(source, columns=None, encoder=Pdf(), **options):  # noqa: B008 (frozen)
    return b"".join(stream(source, columns, encoder, **options))


def rows(count, **more):
    return [{"id": n, "payer": f"Payer {n % 7}", "amount": Decimal(n * 7) / 4, **more} for n in range(count)]


def opened(data):
    """Return the file as qpdf reads it, once it has found nothing wrong."""
    found = pikepdf.open(io.BytesIO(data))
    assert found.check_pdf_syntax() == []
    return found


def texts(data):
    """Return the text of each page, as pypdf finds it."""
    return [page.extract_text() for page in pypdf.PdfReader(io.BytesIO(data), strict=True).pages]


def squeezed(text):
    return "".join(text.split())


def boxes(data, sought):
    """Return (left, bottom, right, top) of each place of a text, page by page, as PDFium draws it."""
    found = []
    document = pypdfium2.PdfDocument(data)
    for page in document:
        text = page.get_textpage()
        searcher = text.search(sought, match_case=True, match_whole_word=True)
        places = iter(searcher.get_next, None)
        corners = [[text.get_charbox(start + offset) for offset in range(count)] for start, count in places]
        found.append(
            [
                (min(b[0] for b in one), min(b[1] for b in one), max(b[2] for b in one), max(b[3] for b in one))
                for one in corners
            ]
        )
    return found


class TestStreaming:
    def test_pages_leave_before_the_source_is_read(self):
        log = []

        def source():
            for row in rows(3000):
                log.append("row")
                yield row

        chunks = stream(source(), encoder=Pdf(), chunk_size=100)
        log.extend("chunk" for _ in chunks)
        assert log[: log.index("chunk")].count("row") <= 200
        assert log.count("chunk") >= 20

    def test_an_abandoned_export_closes_its_source(self):
        closed = []

        def source():
            try:
                yield from rows(1000)
            finally:
                closed.append(True)

        chunks = stream(source(), encoder=Pdf())
        next(chunks)
        chunks.close()
        assert closed == [True]

    def test_a_source_that_fails_leaves_a_file_that_does_not_open(self):
        def source():
            yield from rows(500)
            raise OSError("gone")

        sent = []
        with pytest.raises(OSError, match="gone"):
            sent.extend(stream(source(), encoder=Pdf(), chunk_size=50))
        assert len(sent) > 1
        with pytest.raises(pikepdf.PdfError):
            pikepdf.open(io.BytesIO(b"".join(sent)))
        with pytest.raises(pypdfium2.PdfiumError):
            pypdfium2.PdfDocument(b"".join(sent))

    def test_a_truncated_file_does_not_open_as_a_whole_one(self):
        data = written(rows(300))
        catalog = data.index(b"/Type/Catalog")
        for length in (*range(20, catalog, catalog // 23), catalog):
            with pytest.raises(pikepdf.PdfError):
                pikepdf.open(io.BytesIO(data[:length]))

    @pytest.mark.parametrize("chunk_size", [1, 7, 99, 100, 101, 2000])
    def test_batches_do_not_show(self, chunk_size):
        source = [{**row, "text": MIXED[row["id"] % len(MIXED)] * (row["id"] % 5)} for row in rows(250)]
        assert written(source, chunk_size=chunk_size, batch_bytes=10_000) == written(source)

    def test_the_same_rows_give_the_same_bytes(self):
        assert written(rows(50), encoder=Pdf(title="T")) == written(rows(50), encoder=Pdf(title="T"))
        assert written(rows(50)) != written(rows(51))

    def test_every_process_gives_the_same_bytes(self):
        code = """
from hashlib import sha256
from upstream.streaming import Pdf, stream
rows = [{"id": n, "text": text * (n %% 3 + 1)} for n, text in enumerate(%r)]
print(sha256(b"".join(stream(rows, encoder=Pdf(title="T")))).hexdigest())
"""
        made = {processes.printed(code % (MIXED * 9), variables={"PYTHONHASHSEED": seed}) for seed in "123"}
        assert len(made) == 1

    def test_wide_rows_end_the_sample_early(self):
        source = ({"text": LOREM * 400, "id": number} for number in range(40))
        chunks = stream(source, encoder=Pdf(), chunk_size=1)
        next(chunks)
        assert chunks.rows < 10


@pytest.mark.heavy
@pytest.mark.parametrize("options", ["", "tagged=True"])
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peaks of memory are read from /proc")
def test_memory_does_not_grow_with_pages(tmp_path, options):
    def peak(count):
        return int(
            processes.printed(f"""
from benchmarks.memory import peak_bytes
from upstream.streaming import Pdf, stream, to_file
rows = ({{"id": n, "payer": f"Payer {{n}}", "note": f"note {{n * 7919 % 100003}}"}} for n in range({count}))
to_file(stream(rows, encoder=Pdf({options})), {str(tmp_path / "x.pdf")!r})
print(peak_bytes())
""")
        )

    assert peak(100_000) - peak(10_000) < 8 * MEBIBYTE


def printable(character):
    """Whether readers give a character back: not what they take for layout, and not half a character."""
    return unicodedata.category(character) not in ("Cs", "Cc", "Zl", "Zp", "Cf", "Zs") or character == " "


# Any character, those of writing from left to right: the order of others is a reader's guess. Where none is
# assigned yet ("") the direction is that of the block.
LEFT_TO_RIGHT = st.characters(codec="utf-8").filter(
    lambda one: printable(one) and unicodedata.bidirectional(one) not in ("", "R", "AL", "AN", "NSM")
)
KINDS = [kind for kind in PYTHON_VALUES if not re.search("str|set|nested|object|lazy|path|file", kind)]
CELLS = st.text(st.sampled_from("abc XYZ 0123.,-/ äßéøł Ωжя ½€") | LEFT_TO_RIGHT, max_size=40)


class TestText:
    @given(st.lists(st.tuples(CELLS), min_size=1, max_size=30))
    @settings(max_examples=40, deadline=None)
    def test_every_cell_is_found_again_in_its_order(self, cells):
        data = written(cells, ["text"], Pdf(page_label="", orientation="portrait"))
        found = squeezed("".join(texts(data)).replace("text", "", 1))
        expected = squeezed("".join(cell for (cell,) in cells))
        assert found.replace("text", "") == expected.replace("text", "")

    @given(st.lists(st.tuples(*map(PYTHON_VALUES.get, KINDS)), max_size=3))
    @settings(max_examples=20, deadline=None)
    def test_cells_are_written_as_csv_writes_them(self, values):
        options = {"time_zone": ZoneInfo("Asia/Kolkata")}
        try:
            [_, *records] = foreign.csv_module(written(values, KINDS, Csv(**options)))
        except (OverflowError, ValueError):
            return  # the ends of time are in no other zone
        data = written(values, KINDS, Pdf(page_label="", **options))
        found = squeezed("".join(texts(data)))
        for record in records:
            for cell in record:
                assert squeezed(cell) in found

    def test_readers_agree_on_the_number_of_rows(self):
        data = written(rows(700), ["payer", "id"], Pdf(title="Seven hundred"))
        for found in ("\n".join(texts(data)), "\n".join(pdfium_texts(data))):
            assert len(re.findall(r"Payer \d", found)) == 700

    def test_pdftotext_finds_every_row_in_order(self, tmp_path):
        if not (program := shutil.which("pdftotext")) and not services.is_required():
            pytest.skip("no pdftotext: install poppler-utils")
        path = tmp_path / "x.pdf"
        path.write_bytes(written(rows(300), ["id", "payer"]))
        lines = subprocess.check_output([program, "-layout", path, "-"], text=True).splitlines()
        numbers = [int(line.split()[0]) for line in lines if re.match(r"\s*\d+\s+Payer", line)]
        assert numbers == list(range(300))

    def test_long_text_is_wrapped_between_words(self):
        data = written([{"id": 1, "text": LOREM * 12}], encoder=Pdf(page_label=""))
        [page] = texts(data)
        lines = [line for line in page.splitlines() if "pa" in line or "filed" in line]
        assert len(lines) > 5
        assert " ".join(" ".join(lines).split()).count(LOREM.strip()) >= 11

    def test_lines_of_a_cell_stay_lines(self):
        [page] = texts(written([{"a": "first\nsecond\r\nthird"}], encoder=Pdf(page_label="")))
        assert [line.strip() for line in page.splitlines()] == ["a", "first", "second", "third"]

    def test_a_lone_surrogate_is_an_error_that_names_row_and_column(self):
        with pytest.raises(TextError, match=r"row 3, column 'b'"):
            written([{"a": "x", "b": text} for text in ("x", "y", "z\ud800")])


def pdfium_texts(data):
    return [page.get_textpage().get_text_range() for page in pypdfium2.PdfDocument(data)]


class TestPages:
    def test_each_page_says_which_of_how_many_it_is(self):
        found = pdfium_texts(written(rows(500)))
        assert len(found) > 9
        for number, text in enumerate(found, 1):
            assert f"Page {number} of {len(found)}" in " ".join(text.split())

    def test_the_label_may_be_in_any_language(self):
        for label, expected in [
            ("Seite {page} von {pages}", "Seite 1 von 2"),
            ("{page}", "1"),
            ("{page} / {pages} p.", "1 / 2 p."),
        ]:
            [first, _] = pdfium_texts(written(rows(60), ["payer"], Pdf(page_label=label)))
            assert " ".join(first.split()).endswith(expected)

    def test_each_page_repeats_the_headers_at_the_same_places(self):
        data = written([{"first": n, "second": f"x{'y' * (n % 40)}", "third": n * n} for n in range(1000)])
        for header in ("first", "second", "third"):
            found = boxes(data, header)
            assert len(found) > 15
            assert all(len(places) == 1 for places in found)
            assert len({(round(place[0], 1), round(place[2], 1)) for [place] in found}) == 1

    def test_numbers_end_below_each_other_and_texts_begin_so(self):
        source = [{"amount": amount, "text": f"t{amount}"} for amount in (11, 222, 3333, 44444)]
        data = written(source)
        rights = [min(box[2] for box in boxes(data, str(row["amount"]))[0]) for row in source]
        lefts = [boxes(data, row["text"])[0][0][0] for row in source]
        assert max(rights) - min(rights) < 0.6
        assert max(lefts) - min(lefts) < 0.6

    def test_digits_have_one_width(self):
        font = packaged_font("figo")
        digits = typeset._tabular_figures(font)
        assert len({font.advance(glyph) for glyph in digits.values()}) == 1

    @given(st.lists(st.integers(0, 12), min_size=60, max_size=150))
    @settings(max_examples=15, deadline=None)
    def test_no_page_in_the_middle_is_half_empty(self, lengths):
        source = [{"id": number, "text": LOREM * length} for number, length in enumerate(lengths)]
        document = pypdfium2.PdfDocument(written(source, encoder=Pdf(page_label="")))
        lowest = []
        for page in document:
            text = page.get_textpage()
            lowest.append(min(text.get_charbox(at)[1] for at in range(text.count_chars())))
        height = document[0].get_height()
        assert all(bottom < 0.3 * height for bottom in lowest[:-1])

    def test_a_row_taller_than_a_page_is_continued(self):
        words = " ".join(f"w{number}" for number in range(6000))
        data = written([{"id": 1, "text": "before"}, {"id": 2, "text": words}, {"id": 3, "text": "after"}])
        found = re.findall(r"\bw\d+|before|after", " ".join(texts(data)))
        assert len(opened(data).pages) > 3
        assert found == ["before", *words.split(), "after"]

    def test_thousands_of_pages_make_a_tree_of_several_levels(self):
        writer = ObjectWriter()
        tree = PageTree(writer)
        pages = [writer.reserve() for _ in range(64 * 64 + 65)]
        for page in pages:
            tree.add(page, "/MediaBox[0 0 9 9]/Resources<<>>")
        root = tree.finish()
        writer.finish(writer.add(f"<</Type/Catalog/Pages {root} 0 R>>"), writer.add("<<>>"))
        found = opened(writer.take())
        assert [page.objgen[0] for page in found.pages] == pages
        assert len(found.Root.Pages.Kids) == 2

    def test_an_empty_source_is_a_page_with_headers(self):
        [page] = texts(written([], ["id", "payer"], Pdf(title="Nothing")))
        assert page.split() == ["Nothing", "id", "payer", "No", "rows", "Page", "1", "of", "1"]

    def test_a_source_without_names_is_a_page(self):
        [page] = texts(written([], None, Pdf(empty_text="Nichts")))
        assert page.split() == ["Nichts", "Page", "1", "of", "1"]


class TestLayout:
    def sizes(self, data):
        return {tuple(round(float(side)) for side in page.MediaBox[2:]) for page in opened(data).pages}

    def test_twenty_columns_fit_a_landscape_page(self):
        data = written([{f"column_{n}": n * 1000 for n in range(20)}] * 60)
        assert self.sizes(data) == {(842, 595)}
        [last, *_] = boxes(data, "19000")[0]
        assert last[2] < 842 - 36

    def test_a_narrow_table_stands_upright(self):
        assert self.sizes(written(rows(10))) == {(595, 842)}

    @pytest.mark.parametrize(
        ("options", "size"),
        [
            ({"orientation": "landscape"}, (842, 595)),
            ({"page_size": "Letter"}, (612, 792)),
            ({"page_size": (300, 400)}, (300, 400)),
            ({"page_size": "A3", "orientation": "landscape"}, (1191, 842)),
        ],
    )
    def test_page_size_and_orientation(self, options, size):
        assert self.sizes(written(rows(10), encoder=Pdf(**options))) == {size}

    @pytest.mark.parametrize("count", [40, 200, 600])
    def test_columns_that_fit_no_page_lose_no_character(self, count):
        source = [{f"header-{n}": f"value-{n}" for n in range(count)}] * 3
        data = written(source, encoder=Pdf(page_label=""))
        expected = Counter("".join(source[0]) + "".join(source[0].values()) * 3)
        assert Counter(squeezed("".join(texts(data)))) == expected
        [page] = pypdfium2.PdfDocument(data)
        text = page.get_textpage()
        assert max(text.get_charbox(at)[2] for at in range(text.count_chars())) < page.get_width() - 30

    @pytest.mark.parametrize("size", [4.0, 12.5])
    def test_the_font_size(self, size):
        document = opened(written(rows(3), encoder=Pdf(font_size=size)))
        content = document.pages[0].Contents.read_bytes()
        assert f" {size:g} Tf".encode() in content

    def test_the_last_of_many_rows_may_be_wider_than_the_first(self):
        data = written([{"n": number, "x": "x"} for number in (*range(300), 10**12)])
        assert "1000000000000" in squeezed("".join(texts(data)))

    def test_right_to_left_puts_the_first_column_at_the_right(self):
        source = [{"one": "aaa", "two": "bbb"}]
        data = written(source, encoder=Pdf(right_to_left=True))
        assert boxes(data, "one")[0][0][0] > boxes(data, "two")[0][0][2]
        data = written(source)
        assert boxes(data, "one")[0][0][2] < boxes(data, "two")[0][0][0]


class TestFonts:
    def sizes(self, data):
        """Return the name of each font, and the size of its file."""
        document = opened(data)
        found = [
            one for one in document.objects if isinstance(one, pikepdf.Dictionary) and "/FontDescriptor" in one
        ]
        return {
            str(one.BaseFont): len(
                (one.FontDescriptor.get("/FontFile2") or one.FontDescriptor.FontFile3).read_bytes()
            )
            for one in found
        }

    def test_each_font_is_embedded_once_as_a_subset(self):
        data = written(rows(500, text="a\u00a0b c"), encoder=Pdf(title="T"))
        found = self.sizes(data)
        assert sorted(name.partition("+")[2] for name in found) == ["FiraGO-Bold", "FiraGO-Regular"]
        for name, size in found.items():
            assert re.match(r"/[A-Z]{6}\+", name)
            assert size < 60_000
        assert data.count(b"/FontFile2") == 2

    def test_what_one_glyph_shows_for_two_texts_is_found_as_each(self):
        [page] = texts(written([["a b\u00a0c \u2126\u03a9"]], ["x"], Pdf(page_label="")))
        assert "a b\u00a0c \u2126\u03a9" in page

    def test_own_fonts_come_first(self, tmp_path):
        regular, bold = tmp_path / "Own.ttf", tmp_path / "OwnBold.ttf"
        regular.write_bytes(pymupdf_fonts.fontbuffers["notos"]())
        bold.write_bytes(pymupdf_fonts.fontbuffers["notosbo"]())
        data = written([["text שלום"]], ["head"], Pdf(fonts=[regular, str(bold)]))
        names = sorted(name.partition("+")[2] for name in self.sizes(data))
        assert names == ["FiraGO-Regular", "NotoSans-Bold", "NotoSans-Regular"]

    def test_a_file_that_is_no_font_is_refused_early(self, tmp_path):
        path = tmp_path / "font.ttf"
        with pytest.raises(ValueError, match="no file"):
            Pdf(fonts=[path])
        path.write_text("this is no font")
        with pytest.raises(ValueError, match="no TrueType or OpenType font"):
            stream(rows(1), ["id"], Pdf(fonts=[path]))

    def test_a_font_that_may_not_be_embedded_is_refused_early(self, tmp_path):
        font = TTFont(io.BytesIO(pymupdf_fonts.fontbuffers["ubuntu"]()))
        font["OS/2"].fsType = 2
        font.save(tmp_path / "closed.ttf")
        with pytest.raises(ValueError, match="Ubuntu-Regular may not be embedded"):
            stream(rows(1), ["id"], Pdf(fonts=[tmp_path / "closed.ttf"]))

    def test_a_character_that_no_font_has_is_a_box_and_a_warning(self, caplog):
        with caplog.at_level(logging.WARNING):
            data = written([["a\U0010fffdb"]], ["x"], Pdf(page_label=""))
        assert "U+10FFFD" in caplog.text
        assert "a\U0010fffdb" in "".join(texts(data))
        document = opened(data)
        [box] = [one for one in document.objects if isinstance(one, pikepdf.Dictionary) and "/CharProcs" in one]
        assert b"re f*" in box.CharProcs.g1.read_bytes()

    def test_more_missing_characters_than_one_font_has_codes(self):
        cell = "".join(chr(0xE000 + number) for number in range(600))
        data = written([[cell]], ["x"], Pdf(page_label=""))
        assert cell in squeezed("".join(texts(data)))

    def test_emoji_are_pictures_with_their_text(self):
        if (font := system_font("😀", "", True)) is None or not font.has_pictures:
            pytest.skip("no emoji: install fonts-noto-color-emoji")
        data = written([["a 👩‍👩‍👧 😀 b"]], ["x"], Pdf(page_label=""))
        document = opened(data)
        images = [one for one in document.objects if isinstance(one, pikepdf.Stream) and "/SMask" in one]
        assert len(images) == 2
        assert "a 👩‍👩‍👧 😀 b" in "".join(texts(data))

    def test_chinese_and_japanese_are_found_again(self):
        if system_font("猫", "ja", False) is None:
            pytest.skip("no Chinese or Japanese font: install fonts-noto-cjk")
        cell = "吾輩は猫である。人人生而自由" * 20
        data = written([[cell]], ["x"], Pdf(page_label="", language="ja"))
        assert cell in squeezed("".join(texts(data)))


class TestDirections:
    @pytest.mark.parametrize(
        ("text", "base", "expected"),
        [
            ("abc", "L", [("abc", False)]),
            ("אבג", "R", [("אבג", True)]),
            ("א 12 ב", "R", [("ב", True), (" 12 ", False), ("א", True)]),
            ("א (ב) c", "R", [("c ", False), ("(ב)", True), (" ", False), ("א", True)]),
            ("x (y) א", "L", [("x (y) ", False), ("א", True)]),
        ],
    )
    def test_runs_from_left_to_right_each_in_its_reading_order(self, text, base, expected):
        assert list(typeset._directed(text, base)) == expected

    def test_the_first_letter_stands_at_the_right(self):
        data = written([["אבג"]], ["x"], Pdf(page_label=""))
        text = pypdfium2.PdfDocument(data)[0].get_textpage()
        places = {text.get_text_range(at, 1): text.get_charbox(at)[0] for at in range(text.count_chars())}
        assert places["א"] > places["ב"] > places["ג"]

    def test_arabic_letters_are_joined(self):
        font = packaged_font("figo")
        joined = {glyph for glyph, *_ in font.shape("ببب", right_to_left=True)}
        assert len(joined) == 3
        assert font.glyph("ب") not in joined

    def test_a_label_from_right_to_left_has_its_total_at_the_left(self):
        data = written(rows(60), ["payer"], Pdf(page_label="עמוד {page} מתוך {pages}"))
        document = pypdfium2.PdfDocument(data)
        text = document[0].get_textpage()
        places = [(text.get_text_range(at, 1), text.get_charbox(at)) for at in range(text.count_chars())]
        foot = [(letter, box) for letter, box in places if box[1] < 36 and letter.strip()]
        assert min(foot, key=lambda one: one[1][0])[0] == str(len(document))
        ordered = sorted(box for _, box in foot)
        assert all(left[2] <= right[0] + 1 for left, right in pairwise(ordered))


class TestDocument:
    def test_properties(self):
        made = datetime(2026, 1, 31, 9, 30, tzinfo=ZoneInfo("Europe/Rome"))
        options = {"title": "Drift (Q1) \u2013 Übersicht", "author": "Zoë", "subject": "\\ ( )", "created": made}
        reader = pypdf.PdfReader(io.BytesIO(written(rows(3), encoder=Pdf(language="de", **options))))
        found = reader.metadata
        assert (found.title, found.author, found.subject) == (options["title"], "Zoë", "\\ ( )")
        assert found.creation_date == made.astimezone(UTC)
        assert found.producer == "Upstream"
        assert reader.trailer["/Root"]["/Lang"] == "de"
        xmp = reader.xmp_metadata
        assert xmp.dc_title == {"x-default": options["title"]}
        assert (xmp.dc_creator, xmp.dc_description) == (["Zoë"], {"x-default": "\\ ( )"})
        assert (xmp.dc_language, xmp.pdf_producer) == (["de"], "Upstream")
        assert xmp.xmp_create_date.replace(tzinfo=UTC) == made.astimezone(UTC)

    def test_there_is_no_clock_in_a_file_unless_it_is_given(self):
        data = written(rows(3), encoder=Pdf(title="T"))
        assert b"Date" not in data
        assert len(opened(data).trailer.ID) == 2

    def test_bookmarks_lead_to_every_tenth_page(self):
        data = written(rows(2000), ["payer", "id"])
        reader = pypdf.PdfReader(io.BytesIO(data))
        targets = [reader.get_destination_page_number(one) for one in reader.outline]
        assert targets == list(range(0, len(reader.pages), 10))
        assert reader.outline[0].title == "1 · Payer 0"
        pages = texts(data)
        for one, target in zip(reader.outline, targets, strict=True):
            first = int(one.title.partition(" ")[0].replace(",", ""))
            assert f"Payer {(first - 1) % 7}" in pages[target]

    def test_the_title_stands_on_the_first_page_and_at_the_foot_of_others(self):
        pages = texts(written(rows(100), encoder=Pdf(title="Quarterly drift")))
        assert all(page.count("Quarterly drift") == 1 for page in pages)

    def test_long_titles_and_headers_leave_room_for_rows(self):
        data = written([{LOREM * 40: "cell"}] * 5, encoder=Pdf(title=LOREM * 20))
        assert "".join(texts(data)).count("cell") == 5


def grown(element):
    """Return an element of the structure as (kind, texts or elements), checking that kids know their parents."""
    found = element.get("/K")
    kids = list(found) if isinstance(found, pikepdf.Array) else [] if found is None else [found]
    elements = [kid for kid in kids if isinstance(kid, pikepdf.Dictionary) and "/S" in kid]
    assert all(kid.P.objgen == element.objgen for kid in elements)
    return str(element.S), [grown(kid) for kid in elements] or len(kids)


def structure(data):
    document = opened(data)
    return grown(document.Root.StructTreeRoot.K)


def failures(data, profile):
    """Return what a checker finds wrong that follows ISO 19005 (PDF/A) and ISO 14289 (PDF/UA)."""
    return [str(one) for one in page_validation.validate_pdf_bytes(data, profile=profile).failures]


class TestTags:
    def test_a_table_has_a_header_and_a_body_for_each_page(self):
        data = written(rows(200), encoder=Pdf(title="Drift", tagged=True))
        kind, (title, (table, (head, *bodies))) = structure(data)
        assert (kind, title, table) == ("/Document", ("/H1", 1), "/Table")
        assert head == ("/THead", [("/TR", [("/TH", 1)] * 3)])
        assert len(bodies) == len(opened(data).pages)
        found = [row for body, body_rows in bodies for row in body_rows if body == "/TBody"]
        assert found == [("/TR", [("/TD", 1)] * 3)] * 200

    def test_empty_cells_and_rows_on_several_pages_are_elements_too(self):
        words = " ".join(f"w{number}" for number in range(3000))
        data = written([{"id": 1, "text": None}, {"id": 2, "text": words}, {"id": 3, "text": "x"}], None, TAGGED)
        _, [(_, [_, *bodies])] = structure(data)
        assert [row for _, found in bodies for row in found] == [
            ("/TR", [("/TD", 1), ("/TD", 0)]),
            ("/TR", [("/TD", 1), ("/TD", 3)]),
            ("/TR", [("/TD", 1), ("/TD", 1)]),
        ]

    def test_each_mark_leads_to_its_element(self):
        """The tree of parents, from pages and marks to elements, says what the elements say."""
        document = opened(written(rows(3000), encoder=TAGGED))
        parents = {}
        for leaf in document.Root.StructTreeRoot.ParentTree.Kids:
            numbers = list(leaf.Nums)
            assert [int(limit) for limit in leaf.Limits] == [numbers[0], numbers[-2]]
            parents |= {int(page): list(found) for page, found in zip(numbers[::2], numbers[1::2], strict=True)}
        assert len(parents) == len(document.pages) > objects.KIDS
        for page in document.pages:
            found = parents[int(page.StructParents)]
            marks = [
                int(one.operands[1].MCID)
                for one in pikepdf.parse_content_stream(page)
                if str(one.operator) == "BDC"
            ]
            assert sorted(marks) == list(range(len(found)))
            for mark, element in enumerate(found):
                assert (element.Pg.objgen, element.K) == (page.objgen, mark)

    def test_pdfinfo_reads_the_cells_in_their_rows(self, tmp_path):
        if not (program := shutil.which("pdfinfo")) and not services.is_required():
            pytest.skip("no pdfinfo: install poppler-utils")
        path = tmp_path / "x.pdf"
        path.write_bytes(written(rows(100), ["id", "payer"], TAGGED))
        found = subprocess.check_output([program, "-struct-text", path], text=True)
        assert re.findall(r"TD\s+\"(\d+)\"\s+TD\s+\"Payer (\d)\"", found) == [
            (str(number), str(number % 7)) for number in range(100)
        ]

    @pytest.mark.parametrize("is_archival", [False, True])
    @pytest.mark.parametrize("columns", [["id", "payer", "amount"], ["id"]])
    @pytest.mark.parametrize("count", [0, 1, 200])
    def test_a_checker_finds_nothing_against_accessibility(self, count, columns, is_archival):
        encoder = Pdf(title="Übersicht <1>", language="de", tagged=True, archival=is_archival)
        source = [{**row, "payer": MIXED[row["id"] % 7]} for row in rows(count)]
        assert failures(written(source, columns, encoder), page_validation.ValidationProfile.PDF_UA_1) == []

    def test_a_checker_finds_what_is_missing(self):
        found = failures(written(rows(1)), page_validation.ValidationProfile.PDF_UA_1)
        assert any("StructTreeRoot" in one for one in found)

    @pytest.mark.parametrize(
        ("is_tagged", "profile"),
        [
            (False, page_validation.ValidationProfile.PDF_A_2U),
            (True, page_validation.ValidationProfile.PDF_A_2A),
        ],
    )
    def test_a_checker_finds_nothing_against_archives(self, is_tagged, profile):
        made = datetime(2026, 1, 31, 9, 30, tzinfo=ZoneInfo("Europe/Rome"))
        known = {"author": "Zoë & Co", "subject": "Q1", "created": made, "tagged": is_tagged}
        for properties in ({}, {**known, "title": "T", "language": "en"}):
            encoder = Pdf(**{"tagged": is_tagged, **properties}, archival=True)
            source = [{**row, "text": ["😀", "שלום", "ü", "\u0378"][row["id"] % 4]} for row in rows(100)]
            assert failures(written(source, encoder=encoder), profile) == []

    @pytest.mark.parametrize("chunk_size", [1, 7, 2000])
    def test_batches_do_not_show(self, chunk_size):
        source = [{**row, "text": LOREM * (row["id"] % 90)} for row in rows(120)]
        assert written(source, encoder=TAGGED, chunk_size=chunk_size) == written(source, encoder=TAGGED)

    def test_tags_do_not_show(self):
        source = [{**row, "text": MIXED[row["id"] % 7] + LOREM * (row["id"] % 9)} for row in rows(90)]
        plain, tagged = (
            [bytes(page.render().buffer) for page in pypdfium2.PdfDocument(written(source, encoder=encoder))]
            for encoder in (Pdf(title="T"), Pdf(title="T", tagged=True))
        )
        assert plain == tagged

    def test_more_objects_than_readers_take_are_refused(self, monkeypatch):
        monkeypatch.setattr(objects, "MOST_OBJECTS", 1000)
        with pytest.raises(LimitError, match=r"a PDF has at most 1,000 objects.*tagged"):
            written(rows(300), encoder=TAGGED)


TAGGED = Pdf(tagged=True)


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"page_size": "A9"}, "page_size must be one of"),
            ({"page_size": (100, 500)}, "at least 150 points"),
            ({"orientation": "upright"}, "orientation must be"),
            ({"font_size": 0}, "font_size must be between"),
            ({"page_label": "{pages} pages, this is {page}"}, "page_label must have"),
            ({"page_label": "{pages} {pages}"}, "page_label must have"),
            ({"fonts": "DejaVu.ttf"}, "fonts must be a list"),
        ],
    )
    def test_wrong_ones_are_refused(self, options, message):
        with pytest.raises(ValueError, match=message):
            Pdf(**options)

    @pytest.mark.parametrize("module", ["uharfbuzz", "bidi", "pymupdf_fonts"])
    def test_a_missing_package_is_named_in_the_call(self, monkeypatch, module):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(MissingDependencyError, match=r"upstream\[pdf\]"):
            stream(rows(1), ["id"], Pdf())

    def test_values_are_those_of_the_time_zone(self):
        moment = datetime(2026, 1, 31, 23, 30, tzinfo=UTC)
        encoder = Pdf(time_zone=ZoneInfo("Asia/Tokyo"), datetime_format="%d.%m.%Y %H:%M", decimal_separator=",")
        [page] = texts(written([[moment, 1.5, date(2026, 1, 2), timedelta(hours=1)]], list("abcd"), encoder))
        assert "01.02.2026 08:30" in page
        assert "1,5" in page

    def test_it_takes_texts_that_a_database_has_formatted(self):
        assert plan([], ["id"], Pdf()).lane == "python"  # no database
        assert Decimal in Pdf().takes_texts
        assert Decimal not in Pdf(decimal_separator=",").takes_texts

    def test_columns_have_their_headers_and_functions(self):
        [page] = texts(to_buffer(stream(rows(2), [Column("payer", "Payer name", str.upper)], Pdf())).getvalue())
        assert "Payer name" in page
        assert "PAYER 1" in page
