"""The fonts of one document: which one has a character, and their objects, written when all glyphs are known.

Outlines are embedded once per font, as a subset that keeps its numbers of glyphs. A glyph that stands for several
texts (a space for U+0020 and U+00A0) is in several fonts of the document, which share the outlines and differ in
the text that readers find. Pictures (emoji) and the boxes of missing characters are glyphs of Type 3 fonts.
"""

import logging
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from itertools import groupby
from typing import Any, NamedTuple

from upstream.streaming._optional import optional
from upstream.streaming.encoders.pdf_table.files import (
    SYMBOL_FONTS,
    TEXT_FONTS,
    FontFile,
    packaged_font,
    system_font,
)
from upstream.streaming.encoders.pdf_table.objects import ObjectWriter, ref

logger = logging.getLogger(__name__)

TAG_LETTERS = 6
MOST_CODES = 255  # of a Type 3 font, whose codes are single bytes
MOST_MAPPINGS = 100  # in one block of a CMap
PICTURE_PIXELS = 128
BOX_WIDTH = 700
FIRST_PICTURE = "\U0001f000"  # from here on, Unicode has emoji, which a system may have in colours
# Tables that a font needs in a PDF file; layout was done before.
NEEDED_TABLES = ("glyf", "loca", "head", "hhea", "hmtx", "maxp", "cvt ", "fpgm", "prep", "CFF ")


class Shown(NamedTuple):
    """A glyph as a page shows it: the name of its font there, its code in hexadecimal digits, and its width."""

    font: str
    code: str
    width: int


class DocumentFonts:
    """Chooses fonts, records what is used of them, and writes them."""

    def __init__(
        self, writer: ObjectWriter, fonts: Sequence[FontFile], language: str, resources: str = ""
    ) -> None:
        self._writer = writer
        self._own = fonts
        self._language = language
        self._embedded: dict[int, EmbeddedFont] = {}
        self._pictures = PictureFonts(writer, resources)
        self._names = 0
        self._chosen: dict[tuple[str, bool, bool], FontFile | None] = {}

    def text_font(self, *, bold: bool) -> FontFile:
        """Return the font for text that has all its characters."""
        return self._chain(bold=bold)[0]

    def font_of(self, character: str, *, bold: bool, as_picture: bool = False) -> FontFile | None:
        """Return the font that shows a character, as a picture if it can, or None if no font has it."""
        key = (character, bold, as_picture)
        if key not in self._chosen:
            self._chosen[key] = self._choose(character, bold=bold, as_picture=as_picture)
        return self._chosen[key]

    def show(self, font: FontFile, glyph: int, text: str) -> Shown:
        """Record that a glyph is shown for a text, and return how."""
        if font.has_pictures and (shown := self._pictures.show(font, glyph, text)):
            return shown
        if id(font) not in self._embedded:
            self._embedded[id(font)] = EmbeddedFont(font, self._next_name)
        return self._embedded[id(font)].show(glyph, text)

    def show_missing(self, character: str) -> Shown:
        """Record that a character is in no font, and return its box."""
        return self._pictures.show_box(character)

    def finish(self) -> str:
        """Write all fonts; return the dictionary of their names."""
        names = dict(self._pictures.finish())
        for embedded in self._embedded.values():
            names |= embedded.finish(self._writer)
        return f"<<{''.join(f'/{name} {ref(number)}' for name, number in sorted(names.items()))}>>"

    def _next_name(self) -> str:
        self._names += 1
        return f"F{self._names}"

    @cached_property
    def _packaged(self) -> list[FontFile]:
        return [packaged_font(name) for name in SYMBOL_FONTS]

    def _chain(self, *, bold: bool) -> list[FontFile]:
        own = sorted((font for font in self._own if font.outlines), key=lambda font: font.is_bold != bold)
        return [*own, packaged_font(TEXT_FONTS[bold])]

    def _choose(self, character: str, *, bold: bool, as_picture: bool) -> FontFile | None:
        as_picture = as_picture or character >= FIRST_PICTURE
        own = [*self._chain(bold=bold), *(font for font in self._own if not font.outlines)]
        able = [font for font in (*own, *self._packaged) if font.glyph(character)]
        if able and (able[0].has_pictures or not as_picture):
            return able[0]
        found = system_font(character, self._language, as_picture)
        return found if found and (not able or found.has_pictures) else next(iter(able), None)


@dataclass
class EmbeddedFont:
    """An outline font of the document, under one name for each text that one of its glyphs stands for."""

    font: FontFile
    next_name: Any
    names: list[str] = field(default_factory=list)
    texts: list[dict[int, str]] = field(default_factory=list)
    widths: dict[int, int] = field(default_factory=dict)

    def show(self, glyph: int, text: str) -> Shown:
        width = self.widths.get(glyph)
        if width is None:
            width = self.widths[glyph] = self.font.advance(glyph)
        for name, texts in zip(self.names, self.texts, strict=True):
            if texts.setdefault(glyph, text) == text:
                return Shown(name, f"{glyph:04x}", width)
        self.names.append(self.next_name())
        self.texts.append({glyph: text})
        return Shown(self.names[-1], f"{glyph:04x}", width)

    def finish(self, writer: ObjectWriter) -> Mapping[str, int]:
        descendant = self._write_descendant(writer)
        return {
            name: writer.add(
                f"<</Type/Font/Subtype/Type0/BaseFont/{self._base_name}/Encoding/Identity-H"
                f"/DescendantFonts[{ref(descendant)}]/ToUnicode {ref(writer.add_stream(_to_unicode(texts, 4)))}>>"
            )
            for name, texts in zip(self.names, self.texts, strict=True)
        }

    @cached_property
    def _base_name(self) -> str:
        tag, number = "", sum((glyph + 1) * 31**place for place, glyph in enumerate(sorted(self.widths)[:64]))
        for _ in range(TAG_LETTERS):
            number, letter = divmod(number, 26)
            tag += chr(ord("A") + letter)
        return f"{tag}+{self.font.name}"

    def _write_descendant(self, writer: ObjectWriter) -> int:
        is_glyf = self.font.outlines == "glyf"
        kind = "2/CIDToGIDMap/Identity" if is_glyf else "0"
        return writer.add(
            f"<</Type/Font/Subtype/CIDFontType{kind}/BaseFont/{self._base_name}"
            "/CIDSystemInfo<</Registry(Adobe)/Ordering(Identity)/Supplement 0>>"
            f"/FontDescriptor {ref(self._write_descriptor(writer))}/DW 0/W[{self._width_runs()}]>>"
        )

    def _width_runs(self) -> str:
        glyphs = sorted(self.widths)
        runs = groupby(enumerate(glyphs), key=lambda pair: pair[1] - pair[0])
        numbers = ([glyph for _, glyph in run] for _, run in runs)
        return "".join(f"{run[0]}[{' '.join(str(self.widths[glyph]) for glyph in run)}]" for run in numbers)

    def _write_descriptor(self, writer: ObjectWriter) -> int:
        font, scale = self.font, self.font.per_em
        extents = font.font.get_font_extents("ltr")
        head = font.face.reference_table("head").data
        corners = struct.unpack(">4h", head[36:44])
        box = " ".join(str(round(corner * scale)) for corner in corners)
        subset = self._subset()
        if font.outlines == "glyf":
            data = subset.blob.data
            file = f"/FontFile2 {ref(writer.add_stream(data, f'/Length1 {len(data)}'))}"
        else:
            data = subset.reference_table("CFF ").data
            file = f"/FontFile3 {ref(writer.add_stream(data, '/Subtype/CIDFontType0C'))}"
        return writer.add(
            f"<</Type/FontDescriptor/FontName/{self._base_name}/Flags 4/FontBBox[{box}]"
            f"/ItalicAngle 0/Ascent {round(extents.ascender * scale)}/Descent {round(extents.descender * scale)}"
            f"/CapHeight {round(extents.ascender * scale)}/StemV {120 if font.is_bold else 80}{file}>>"
        )

    def _subset(self) -> Any:
        hb = self.font.hb
        wanted = hb.SubsetInput()
        wanted.flags = hb.SubsetFlags.RETAIN_GIDS | hb.SubsetFlags.NO_LAYOUT_CLOSURE | hb.SubsetFlags.NO_HINTING
        wanted.glyph_set.update({0, *self.widths})
        unneeded = self.font.tables.difference(NEEDED_TABLES)
        wanted.drop_table_tag_set.update(int.from_bytes(table.encode(), "big") for table in unneeded)
        if self.font.face.has_var_data:
            wanted.pin_all_axes_to_default(self.font.face)
        return wanted.subset(self.font.face)


class PictureFonts:
    """Type 3 fonts of pictures: colour glyphs, and boxes for characters that no font has."""

    def __init__(self, writer: ObjectWriter, resources: str) -> None:
        self._writer, self._resources = writer, resources
        self._codes: dict[tuple[FontFile | None, int, str], Shown | None] = {}
        self._missing: list[str] = []
        self._shown = 0

    def show(self, font: FontFile, glyph: int, text: str) -> Shown | None:
        """Return how a picture is shown, or None if the glyph is none."""
        key = (font, glyph, text)
        if key not in self._codes:
            self._codes[key] = self._new(font.advance(glyph)) if _has_picture(font, glyph) else None
        return self._codes[key]

    def show_box(self, character: str) -> Shown:
        key = (None, 0, character)
        if (shown := self._codes.get(key)) is None:
            shown = self._codes[key] = self._new(BOX_WIDTH)
            self._missing.append(character)
        return shown

    def _new(self, width: int) -> Shown:
        font, code = divmod(self._shown, MOST_CODES)
        self._shown += 1
        return Shown(f"P{font + 1}", f"{code + 1:02x}", width)

    def finish(self) -> Iterator[tuple[str, int]]:
        if self._missing:
            shown = ", ".join(f"U+{ord(character):04X}" for character in self._missing[:10])
            logger.warning(
                "no font has %d characters (%s): they are boxes in the PDF; name fonts for them with fonts=[...]",
                len(self._missing),
                shown,
            )
        glyphs = [(shown, key) for key, shown in self._codes.items() if shown]
        for name, members in groupby(glyphs, key=lambda member: member[0].font):
            yield name, self._write_font(list(members))

    def _write_font(self, members: list[tuple[Shown, tuple[FontFile | None, int, str]]]) -> int:
        images: list[str] = []
        drawings = [self._write_drawing(shown, key, images) for shown, key in members]
        texts = {int(shown.code, 16): text for shown, (_, _, text) in members}
        names = [f"/g{code}" for code in texts]
        procedures = "".join(f"{name} {ref(one)}" for name, one in zip(names, drawings, strict=True))
        to_unicode = self._writer.add_stream(_to_unicode(texts, 2))
        return self._writer.add(
            "<</Type/Font/Subtype/Type3/FontBBox[0 -300 1400 1100]/FontMatrix[.001 0 0 .001 0 0]"
            f"/Encoding<</Type/Encoding/Differences[1{''.join(names)}]>>/FirstChar 1/LastChar {len(names)}"
            f"/Widths[{' '.join(str(shown.width) for shown, _ in members)}]/CharProcs<<{procedures}>>"
            f"/Resources<<{self._resources}/XObject<<{''.join(images)}>>>>/ToUnicode {ref(to_unicode)}>>"
        )

    def _write_drawing(self, shown: Shown, key: tuple[FontFile | None, int, str], images: list[str]) -> int:
        font, glyph, _ = key
        if font is None:
            box = f"{BOX_WIDTH} 0 70 -110 630 750 d1 70 -110 {BOX_WIDTH - 140} 860 re 110 -70 480 780 re f*"
            return self._writer.add_stream(box.encode())
        image, (x, y, width, height) = _picture(font, glyph)
        number = _write_image(self._writer, image)
        images.append(f"/i{shown.code} {ref(number)}")
        drawing = f"{shown.width} 0 d0 q {width} 0 0 {height} {x} {y} cm /i{shown.code} Do Q"
        return self._writer.add_stream(drawing.encode())


def _has_picture(font: FontFile, glyph: int) -> bool:
    face = font.face
    return (
        (face.has_color_png and font.font.get_glyph_color_png(glyph).data)
        or (face.has_color_paint and face.glyph_has_color_paint(glyph))
        or (face.has_color_layers and bool(face.get_glyph_color_layers(glyph)))
    )


def _picture(font: FontFile, glyph: int) -> tuple[Any, tuple[int, int, int, int]]:
    """Return a colour glyph as an image of Pillow, and its left, bottom, width and height in thousandths."""
    pillow = optional("PIL.Image", "pdf")
    if font.face.has_color_png and (png := font.font.get_glyph_color_png(glyph).data):
        with pillow.open(BytesIO(png)) as image:
            pixels = image.convert("RGBA")
    else:
        pixels = _painted(font, glyph, pillow)
    extents, scale = font.font.get_glyph_extents(glyph), font.per_em
    bottom = extents.y_bearing + extents.height
    sizes = (extents.x_bearing, bottom, extents.width, -extents.height)
    left, low, width, height = (round(size * scale) for size in sizes)
    return pixels, (left, low, width, height)


def _painted(font: FontFile, glyph: int, pillow: Any) -> Any:
    hb = font.hb
    scaled = hb.Font(font.face)
    scaled.scale = (PICTURE_PIXELS, PICTURE_PIXELS)
    paint = hb.RasterPaint()
    paint.set_glyph_extents(scaled.get_glyph_extents(glyph))
    paint.paint_glyph(scaled, glyph)
    image = paint.render()
    size = (image.extents.width, image.extents.height)
    pixels = pillow.frombuffer("RGBa", size, bytes(image.buffer), "raw", "BGRa", image.extents.stride, -1)
    return pixels.convert("RGBA")


def _write_image(writer: ObjectWriter, image: Any) -> int:
    """Write an image of Pillow, its transparency as a mask."""
    entries = f"/Type/XObject/Subtype/Image/Width {image.width}/Height {image.height}/BitsPerComponent 8"
    mask = writer.add_stream(image.getchannel("A").tobytes(), f"{entries}/ColorSpace/DeviceGray")
    colours = image.convert("RGB").tobytes()
    return writer.add_stream(colours, f"{entries}/ColorSpace/DeviceRGB/SMask {ref(mask)}")


def _to_unicode(texts: Mapping[int, str], digits: int) -> bytes:
    """Return the CMap that tells readers the text of each code, a code of so many hexadecimal digits."""
    lines = [
        f"<{code:0{digits}x}> <{text.encode('utf-16-be').hex()}>" for code, text in sorted(texts.items()) if text
    ]
    blocks = [lines[start : start + MOST_MAPPINGS] for start in range(0, len(lines), MOST_MAPPINGS)]
    mappings = "\n".join(f"{len(block)} beginbfchar\n{chr(10).join(block)}\nendbfchar" for block in blocks)
    return (
        "/CIDInit/ProcSet findresource begin 12 dict begin begincmap\n"
        "/CIDSystemInfo<</Registry(Adobe)/Ordering(UCS)/Supplement 0>>def\n"
        "/CMapName/Adobe-Identity-UCS def/CMapType 2 def\n"
        f"1 begincodespacerange<{'0' * digits}><{'f' * digits}>endcodespacerange\n"
        f"{mappings}\nendcmap CMapName currentdict/CMap defineresource pop end end"
    ).encode("ascii")
