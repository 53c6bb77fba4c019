"""Font files: those that come with the extra `pdf`, those of the caller, and those of the system."""

import os
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from os import PathLike
from pathlib import Path
from typing import Any

from upstream.streaming._optional import optional

# FiraGO has Latin, Greek, Cyrillic, Arabic, Hebrew, Thai, Georgian and Devanagari, and figures of one width.
TEXT_FONTS = ("figo", "figbo")
SYMBOL_FONTS = ("symbol2", "symbol1", "math")
SUFFIXES = (".ttf", ".otf", ".ttc", ".otc")
# What makes a file a worse choice for the missing characters of a text.
UNLIKE_TEXT = (
    *("bold", "italic", "oblique", "thin", "light", "black", "medium", "semi", "heavy", "display"),
    *("serif", "mono", "condensed", "narrow", "kufi", "nastaliq", "rashi", "slab", "ui"),
)
# The Chinese, Japanese and Korean shapes of one character; a family has a font for each.
REGIONS = {"ja": "jp", "ko": "kr", "zh": "sc", "zh-hans": "sc", "zh-hant": "tc", "zh-tw": "tc", "zh-hk": "hk"}
NO_EMBEDDING = 0x0002  # in fsType of the table OS/2


class FontFile:
    """One font, opened for shaping; its data is mapped from the file, not read."""

    def __init__(self, data: Any, index: int = 0) -> None:
        self.hb = optional("uharfbuzz", "pdf")
        blob = self.hb.Blob.from_file_path(os.fspath(data)) if isinstance(data, str | Path) else self.hb.Blob(data)
        self.face = self.hb.Face(blob, index)
        self.font = self.hb.Font(self.face)
        self.tables = frozenset(self.face.table_tags)
        self.per_em: float = 1000 / self.face.upem
        self._glyphs: dict[str, int] = {}
        self._neighbours: dict[int, int] = {}

    @property
    def outlines(self) -> str:
        """The table with the outlines; "" if the font has only pictures."""
        return next((table for table in ("glyf", "CFF ") if table in self.tables), "")

    @cached_property
    def has_pictures(self) -> bool:
        face = self.face
        return bool(face.has_color_png or face.has_color_paint or face.has_color_layers)

    @cached_property
    def name(self) -> str:
        name = self.face.get_name(self.hb.OTNameIdPredefined.POSTSCRIPT_NAME) or "Font"
        return "".join(sign for sign in name if sign.isascii() and (sign.isalnum() or sign in "-+"))

    @property
    def is_bold(self) -> bool:
        return "bold" in self.name.lower()

    @cached_property
    def may_be_embedded(self) -> bool:
        if "OS/2" not in self.tables:
            return True
        permissions: bytes = self.face.reference_table("OS/2").data[8:10]
        return not int.from_bytes(permissions, "big") & NO_EMBEDDING

    def glyph(self, character: str) -> int:
        """Return the glyph of a character, 0 if there is none."""
        if character not in self._glyphs:
            glyph: int | None = self.font.get_nominal_glyph(ord(character))
            self._glyphs[character] = glyph or 0
        return self._glyphs[character]

    def neighbours(self, character: str) -> int:
        """Return how many characters near this one the font has: a font for its script has most of them."""
        start = ord(character) & -128
        if start not in self._neighbours:
            codes = range(start, start + 128)
            self._neighbours[start] = sum(self.font.get_nominal_glyph(code) is not None for code in codes)
        return self._neighbours[start]

    def advance(self, glyph: int) -> int:
        """Return the width of a glyph in thousandths of the font size."""
        units: int = self.font.get_glyph_h_advance(glyph)
        return round(units * self.per_em)

    def shape(self, text: str, *, right_to_left: bool) -> list[tuple[int, int, int, int, int]]:
        """Return (glyph, index in the text, advance, x, y) of each glyph, from left to right."""
        buffer = self.hb.Buffer()
        buffer.add_str(text)
        buffer.direction = "rtl" if right_to_left else "ltr"
        buffer.guess_segment_properties()
        self.hb.shape(self.font, buffer)
        scale = self.per_em
        places = ((at.x_advance, at.x_offset, at.y_offset) for at in buffer.glyph_positions)
        return [
            (info.codepoint, info.cluster, round(advance * scale), round(x * scale), round(y * scale))
            for info, (advance, x, y) in zip(buffer.glyph_infos, places, strict=True)
        ]


def open_fonts(path: Path) -> list[FontFile]:
    """Open the fonts of a file: one, or those of a collection."""
    hb = optional("uharfbuzz", "pdf")
    blob = hb.Blob.from_file_path(os.fspath(path))
    fonts = [FontFile(path, index) for index in range(hb.Face(blob).count)]
    if not fonts or not any(font.tables for font in fonts):
        raise ValueError(f"{path} is no TrueType or OpenType font")
    return fonts


def open_own_fonts(paths: Iterable[str | PathLike[str]]) -> list[FontFile]:
    """Open the caller's font files; raise ValueError for one whose maker does not allow it in documents."""
    fonts = [font for path in paths for font in open_fonts(Path(path))]
    if forbidden := next((font.name for font in fonts if not font.may_be_embedded), ""):
        raise ValueError(f"the font {forbidden} may not be embedded in documents (fsType): choose another one")
    return fonts


@lru_cache
def packaged_font(name: str) -> FontFile:
    """Return a font of the package pymupdf-fonts, which is under the SIL Open Font License."""
    buffers = optional("pymupdf_fonts", "pdf").fontbuffers
    return FontFile(buffers[name]())


@lru_cache(maxsize=8192)
def system_font(character: str, language: str, as_picture: bool) -> FontFile | None:
    """Return the best font of this system that has a character, or None.

    The files are looked up in the system's folders, and opened once per process. The best has colours for a
    picture, and regular upright sans serif letters for anything else.
    """
    region = REGIONS.get(language.lower(), REGIONS.get(language.lower().partition("-")[0], "jp"))
    code = ord(character)
    able = [font for font in _system_fonts() if font.font.get_nominal_glyph(code) and font.may_be_embedded]
    return min(able, key=lambda font: _rank(font, character, region, as_picture=as_picture), default=None)


def _rank(font: FontFile, character: str, region: str, *, as_picture: bool) -> tuple[Any, ...]:
    name = font.name.lower()
    return (
        font.has_pictures != as_picture,
        sum(word in name for word in UNLIKE_TEXT),
        "sans" not in name,
        region not in name.partition("-")[0][-3:],
        -font.neighbours(character),
        font.name,
    )


@lru_cache
def _system_fonts() -> tuple[FontFile, ...]:
    found: list[FontFile] = []
    for path in sorted(path for folder in _folders() for path in _files(folder)):
        try:
            found += [font for font in open_fonts(path) if font.outlines or font.has_pictures]
        except (OSError, ValueError, optional("uharfbuzz", "pdf").HarfBuzzError):
            continue  # a file that is no font
    return tuple(found)


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in names if name.lower().endswith(SUFFIXES))


def _folders() -> list[Path]:
    home = Path.home()
    if sys.platform == "darwin":
        return [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts"]
    if sys.platform == "win32":
        local = Path(os.environ.get("LOCALAPPDATA", home), "Microsoft/Windows/Fonts")
        return [Path(os.environ.get("WINDIR", "C:/Windows"), "Fonts"), local]
    shared = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    return [*(Path(folder, "fonts") for folder in shared.split(":")), home / ".local/share/fonts", home / ".fonts"]


def is_mark(character: str) -> bool:
    """Return whether a character belongs to the one before it: accents, joiners, skin tones."""
    return (
        unicodedata.category(character) in ("Mn", "Me", "Mc")
        or character in "\u200c\u200d"
        or "\U0001f3fb" <= character <= "\U0001f3ff"
    )
