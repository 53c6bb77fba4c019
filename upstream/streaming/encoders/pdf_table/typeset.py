"""Text to lines of glyphs: which font shows what, right-to-left order, shaping and wrapping.

Most text is simple: the text font has all its characters, and none changes its shape beside another. It is mapped
character by character, in about 2 us per cell. Any other text is ordered (Unicode's bidirectional algorithm), cut
into runs of one font and direction, and shaped by HarfBuzz.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from upstream.streaming._optional import optional
from upstream.streaming.encoders.pdf_table.files import FontFile, is_mark
from upstream.streaming.encoders.pdf_table.fonts import DocumentFonts, Shown

# Characters that stand side by side: Latin, Greek, Cyrillic, punctuation, currencies, arrows, mathematics.
SIMPLE = re.compile(
    "[ -~\u00a1-\u00ac\u00ae-\u02ff\u0370-\u0482\u048a-\u052f\u1e00-\u1fff"
    "\u2010-\u2027\u2030-\u205e\u20a0-\u20cf\u2100-\u22ff]"
)
RTL_LETTERS = (
    "\u0590-\u065f\u066a-\u06ef\u06fa-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff"
)
RIGHT_TO_LEFT = re.compile(f"[{RTL_LETTERS}\u0660-\u0669\u06f0-\u06f9\u200f\u202a-\u202e\u2066-\u2069]")
FIRST_STRONG = re.compile(f"(?P<rtl>[{RTL_LETTERS}\u200f])|[^\\W\\d_]")
# Signs that face the other way in text from right to left. The mark is ordered with the sign that it follows, so
# it tells afterwards which way the sign is read: it stands before the sign if that is from right to left.
MIRRORED = re.compile(
    "[()<>\\[\\]{}\u00ab\u00bb\u2039\u203a\u2264\u2265\u226a\u226b\u27e8\u27e9\u300c-\u300f\uff08\uff09]"
)
MARK = "\u1df9"
RTL_RUN = re.compile(f"(?:{MARK}{MIRRORED.pattern}|[{RTL_LETTERS}\u200c\u200d])+")
INVISIBLE = re.compile(
    "[\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufe00-\ufe0f\ufeff\U000e0000-\U000e0fff]"
)
WIDE = (
    "\u2e80-\u2fff\u3005-\u3007\u3021-\u30ff\u3400-\u4dbf\u4e00-\ua4cf\uac00-\ud7af\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
CLOSING = "\u3001\u3002\uff0c\uff0e\uff09\uff01\uff1f\uff1a\uff1b\u300d\u300f\u3011\u30fc"
# Where a line may end: after blanks, after a hyphen or a slash within a word, beside a wide character.
PIECES = re.compile(
    f"[^\\S\u00a0\u202f]+|[{WIDE}][{CLOSING}]*|[^\\s{WIDE}]+?(?:[/_](?=\\S)|[-,;&=?](?=[^\\s\\d]))|(?:[^\\s{WIDE}]|[\u00a0\u202f])+"
)
BREAKS = re.compile("\r\n|[\n\r\v\f\u0085\u2028\u2029]")
TAB = "    "
AS_PICTURE = "\ufe0f"  # after a character that is a sign or a picture
MOST_CACHED = 4096
LONGEST_CACHED = 64


class Line(NamedTuple):
    """A line of glyphs: its width in thousandths of the font size, and the operators that show it."""

    width: int
    operators: str
    right_to_left: bool = False


class NotSimpleError(Exception):
    """A character needs another font than that of the text, or shaping."""


class _Simple(dict[str, int]):
    """The widths of simple characters; `glyphs` has their glyphs as characters, for str.translate."""

    def __init__(self, setter: "Typesetter") -> None:
        super().__init__()
        self.glyphs: dict[int, str] = {}
        self._setter = setter

    def __missing__(self, character: str) -> int:
        shown = self._setter.show_simple(character)
        self[character] = shown.width
        self.glyphs[ord(character)] = chr(int(shown.code, 16))
        return shown.width


class Typesetter:
    """Sets text in one font and size, with other fonts for what that font lacks."""

    def __init__(self, fonts: DocumentFonts, *, size: float = 0, bold: bool = False) -> None:
        self._fonts = fonts
        self._bold = bold
        self.font = fonts.text_font(bold=bold)
        self.resource = fonts.show(self.font, self.font.glyph(" "), " ").font
        self._figures = _tabular_figures(self.font)
        self._simple = _Simple(self)
        self._cache: dict[tuple[str, int], list[Line]] = {}
        self.size = size

    def width(self, text: str) -> int:
        """Return the width of a text without breaks, in thousandths of the font size."""
        try:
            return sum(map(self._simple.__getitem__, text))
        except NotSimpleError:
            return sum(advance for _, advance, _, _ in self._glyphs(text, _base(text)))

    def lines(self, text: str, width: int) -> list[Line]:
        """Return a text as lines of at most `width` thousandths; a word that is too long is broken."""
        key = (text, width)
        if key not in self._cache:
            lines = [
                line for part in BREAKS.split(text) for line in self._paragraph(part.replace("\t", TAB), width)
            ]
            if len(text) > LONGEST_CACHED:
                return lines
            if len(self._cache) >= MOST_CACHED:
                self._cache.clear()
            self._cache[key] = lines
        return self._cache[key]

    def line(self, text: str, base: str = "") -> Line:
        """Return a text as one line; `base` is the direction of its paragraph, "L" or "R"."""
        try:
            width = sum(map(self._simple.__getitem__, text))
        except NotSimpleError:
            return self._shaped(text, base or _base(text))
        codes = text.translate(self._simple.glyphs).encode("utf-16-be", "surrogatepass").hex()
        return Line(width, f"<{codes}>Tj")

    def show_simple(self, character: str) -> Shown:
        """Return how the text font shows a simple character; raise NotSimpleError for any other."""
        glyph = self._figures.get(character) or self.font.glyph(character)
        if glyph and SIMPLE.match(character):
            shown = self._fonts.show(self.font, glyph, character)
            if shown.font == self.resource:
                return shown
        raise NotSimpleError

    def _paragraph(self, text: str, width: int) -> Iterator[Line]:
        line = self.line(text)
        if line.width <= width:
            yield line
            return
        base = _base(text)
        for part in self._wrapped(text, width):
            yield self.line(part, base)

    def _wrapped(self, text: str, width: int) -> Iterator[str]:
        parts: list[str] = []
        used = 0
        for piece, needed in self._pieces(text, width):
            if parts and used + needed > width and not piece.isspace():
                yield "".join(parts).rstrip(" ")
                parts, used = [], 0
            parts.append(piece)
            used += needed
        yield "".join(parts).rstrip(" ")

    def _pieces(self, text: str, width: int) -> Iterator[tuple[str, int]]:
        """Yield (piece, width); lines may end between pieces, and none is wider than a line if it can be."""
        for piece in PIECES.findall(text):
            needed = self.width(piece)
            if needed <= width or piece.isspace():
                yield piece, needed
            else:
                yield from ((cluster, self.width(cluster)) for cluster in _clusters(piece))

    def _shaped(self, text: str, base: str) -> Line:
        glyphs = list(self._glyphs(text, base))
        width = sum(advance for _, advance, _, _ in glyphs)
        runs = groupby(glyphs, key=lambda glyph: (glyph[0].font, glyph[3]))
        operators = [self._show(font, rise, list(run)) for (font, rise), run in runs]
        return Line(width, "".join([*operators, f"/{self.resource} {self.size:g} Tf"]), base == "R")

    def _show(self, font: str, rise: int, glyphs: list[tuple[Shown, int, int, int]]) -> str:
        """Return the operators for glyphs of one font at one height; numbers in TJ move to the left."""
        parts: list[str] = []
        shift = 0
        for (_, code, nominal), advance, x, _ in glyphs:
            if shift - x:
                parts.append(f">{shift - x}<")
            parts.append(code)
            shift = nominal - advance + x
        lifted, down = (f"{rise * self.size / 1000:.2f} Ts ", " 0 Ts") if rise else ("", "")
        end = f"{shift}" if shift else ""
        return f"/{font} {self.size:g} Tf {lifted}[<{''.join(parts)}>{end}]TJ{down} "

    def _glyphs(self, text: str, base: str) -> Iterator[tuple[Shown, int, int, int]]:
        """Yield (how it is shown, advance, x, y) of each glyph of a line, from left to right."""
        for run, right_to_left in _directed(text, base):
            for font, part in self._by_font(run, right_to_left=right_to_left):
                if font is None:
                    for character in part:
                        shown = self._fonts.show_missing(character)
                        yield shown, shown.width, 0, 0
                else:
                    yield from self._shape(font, part, right_to_left=right_to_left)

    def _by_font(self, run: str, *, right_to_left: bool) -> Sequence[tuple[FontFile | None, str]]:
        """Cut a run into parts of one font, in the order in which they are shown."""
        parts: list[tuple[FontFile | None, str]] = []
        for character, following in zip(run, [*run[1:], ""], strict=True):
            font = self._fonts.font_of(character, bold=self._bold, as_picture=following == AS_PICTURE)
            if parts and _continues(parts[-1], character, font):
                parts[-1] = (parts[-1][0], parts[-1][1] + character)
            elif INVISIBLE.match(character):
                parts.append((self.font, character))
            else:
                parts.append((font, character))
        return parts[::-1] if right_to_left else parts

    def _shape(self, font: FontFile, text: str, *, right_to_left: bool) -> Iterator[tuple[Shown, int, int, int]]:
        glyphs = font.shape(text, right_to_left=right_to_left)
        texts = _texts_of_glyphs(text, [cluster for _, cluster, _, _, _ in glyphs])
        for (glyph, _, advance, x, y), part in zip(glyphs, texts, strict=True):
            if not glyph and part and not INVISIBLE.match(part):  # a variation or mark that the font lacks
                shown = self._fonts.show_missing(part[0])
                yield shown, shown.width, 0, 0
            else:
                yield self._fonts.show(font, glyph, part), advance, x, y


def _continues(last: tuple[FontFile | None, str], character: str, font: FontFile | None) -> bool:
    """Return whether a character belongs to the part of text before it."""
    before, text = last
    if INVISIBLE.match(character) or character == "\u200d":
        return before is not None
    if is_mark(character) or text[-1] == "\u200d":
        return before is not None and bool(before.glyph(character))
    return before is font


def _texts_of_glyphs(text: str, clusters: Sequence[int]) -> list[str]:
    """Return the text of each glyph; of several glyphs for one piece of text, the last ones may have none."""
    starts = sorted(set(clusters))
    ends = dict(zip(starts, [*starts[1:], len(text)], strict=True))
    texts: list[str] = []
    for start, members in groupby(clusters):
        count, piece = len(list(members)), text[start : ends[start]]
        texts += (
            [*piece[: count - 1], piece[count - 1 :]]
            if len(piece) >= count
            else [*piece, *[""] * (count - len(piece))]
        )
    return texts


def _base(text: str) -> str:
    """Return the direction of a paragraph, "L" or "R": that of its first letter."""
    first = FIRST_STRONG.search(text)
    return "R" if first and first["rtl"] else "L"


def _directed(text: str, base: str) -> Iterator[tuple[str, bool]]:
    """Yield runs from left to right, each in its reading order, and whether that is from right to left."""
    if not RIGHT_TO_LEFT.search(text):
        yield text, False
        return
    marked = text if MARK in text else MIRRORED.sub(rf"\g<0>{MARK}", text)
    shown = optional("bidi", "pdf").get_display(marked, base_dir=base)
    start = 0
    for run in RTL_RUN.finditer(shown):
        if left_to_right := shown[start : run.start()].replace(MARK, ""):
            yield left_to_right, False
        yield run[0].replace(MARK, "")[::-1], True
        start = run.end()
    if rest := shown[start:].replace(MARK, ""):
        yield rest, False


def _clusters(word: str) -> Iterator[str]:
    """Yield the characters of a word, each with the marks that belong to it."""
    cluster = ""
    for character in word:
        if cluster and not (is_mark(character) or INVISIBLE.match(character) or cluster[-1] == "\u200d"):
            yield cluster
            cluster = ""
        cluster += character
    yield cluster


def _tabular_figures(font: FontFile) -> dict[str, int]:
    """Return the glyphs of digits of one width, so that the digits of numbers stand below each other."""
    buffer: Any = font.hb.Buffer()
    digits = "0123456789"
    buffer.add_str(digits)
    buffer.guess_segment_properties()
    font.hb.shape(font.font, buffer, {"tnum": True})
    glyphs = [info.codepoint for info in buffer.glyph_infos]
    return dict(zip(digits, glyphs, strict=True)) if len(glyphs) == len(digits) else {}
