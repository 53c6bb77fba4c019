"""clean_filename: whatever it is given, one name that every file system and every header can carry."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from upstream.streaming.targets.filenames import DEVICES, MAX_BYTES, clean_filename

pieces = st.sampled_from(
    [
        "..",
        ".",
        "/",
        "\\",
        "CON",
        "nul",
        "com1",
        " ",
        "\0",
        "\n",
        "\u202e",
        "\ud800",
        "ü" * 200,
        "x" * 300,
        ".csv",
        ":",
    ]
)
nasty = st.lists(pieces | st.text(), max_size=6).map("".join)


@pytest.mark.parametrize(
    ("given", "clean"),
    [
        ("report.csv", "report.csv"),
        ("Überblick 2026 · 日本.csv", "Überblick 2026 · 日本.csv"),
        ("archive.tar.gz", "archive.tar.gz"),
        (".hidden", "hidden"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("a/b/", "export"),
        ("", "export"),
        ("...", "export"),
        (" . ", "export"),
        ('a<b>c:d"e|f?g*h', "a_b_c_d_e_f_g_h"),
        ("line\r\nbreak", "linebreak"),
        ("bidi\u202e\u2066x", "bidix"),
        ("lone\ud800surrogate", "lonesurrogate"),
        ("nul\0l", "null"),
        ("trailing. . ", "trailing"),
        ("CON", "_CON"),
        ("con.csv", "_con.csv"),
        ("Com1.tar.gz", "_Com1.tar.gz"),
        ("CONSOLE.csv", "CONSOLE.csv"),
        ("COM¹.csv", "_COM¹.csv"),
        ("e\u0301.csv", "é.csv"),
        ("x.", "x"),
    ],
)
def test_name_is_made_clean(given, clean):
    assert clean_filename(given) == clean


@pytest.mark.parametrize("name", ["x" * 300 + ".csv", "ü" * 200 + ".csv", "\U0001f600" * 100 + ".tar.gz"])
def test_long_name_is_cut_to_bytes_and_keeps_its_suffix(name):
    clean = clean_filename(name)
    assert MAX_BYTES - 4 < len(clean.encode()) <= MAX_BYTES
    assert clean.endswith(name[-3:])
    assert name.startswith(clean.split(".")[0])


def test_suffix_that_leaves_no_room_is_cut_too():
    assert len(clean_filename("x." + "y" * 300).encode()) <= MAX_BYTES


@given(nasty, st.integers(8, MAX_BYTES))
@example("x.csv" + " " * 300, 255)
@example("x" * 254 + " .csv", 255)
@example("CON" + "x" * 300, 8)
@example("x" * 253 + "...." + "y" * 10, 255)
@settings(max_examples=300)
def test_clean_name_is_one_safe_component(name, max_bytes):
    clean = clean_filename(name, max_bytes)
    assert 0 < len(clean.encode()) <= max_bytes
    assert clean == Path(clean).name
    assert not set(clean) & set('/\\<>:"|?*')
    assert not [char for char in clean if unicodedata.category(char)[0] == "C"]
    assert clean == clean.strip(" .")
    assert clean.split(".")[0].strip().upper() not in DEVICES


@given(name=nasty)
def test_file_of_a_clean_name_can_be_made(tmp_path, name):
    path = tmp_path / clean_filename(name)
    path.write_bytes(b"")
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
    path.unlink()
