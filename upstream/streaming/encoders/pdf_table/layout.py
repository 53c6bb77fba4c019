"""The layout of a table: page, font size and column widths, decided once from the first rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from upstream.streaming.encoders.pdf_table.typeset import BREAKS, PIECES, Typesetter

Orientation = Literal["auto", "portrait", "landscape"]

# Width and height in points.
PAGE_SIZES = {"A3": (841.89, 1190.55), "A4": (595.28, 841.89), "A5": (419.53, 595.28), "Letter": (612.0, 792.0)}
MARGIN = 36.0
# First without wrapped cells, then with them: a large size that wraps reads better than a small one that does not.
NATURAL_SIZES = (9.0, 8.0)
WRAPPED_SIZES = (8.0, 7.5, 7.0, 6.5, 6.0, 5.5, 5.0)
# In thousandths of the font size.
PADDING = 650
LONG = 24_000  # how wide a column of text wants to be at least
LONGEST = 60_000
MOST_UNBROKEN = 12_000  # the part of a word that fits a narrow column; of a number, twice as much
LEAST = 1_500
NARROWEST = 3_000  # if a page has not even this for each column, it becomes wider
STRETCH = 1.5
DIGITS_MORE = 1_120  # later numbers may have two digits more than those of the first rows


@dataclass(frozen=True, slots=True)
class ColumnLayout:
    """Where a column stands, in points, and how wide its text is, in thousandths of the font size."""

    left: float
    right: float
    text_width: int
    is_number: bool


@dataclass(frozen=True, slots=True)
class Layout:
    page_width: float
    page_height: float
    size: float
    columns: tuple[ColumnLayout, ...]

    @property
    def left(self) -> float:
        return min((column.left for column in self.columns), default=MARGIN)

    @property
    def right(self) -> float:
        return max((column.right for column in self.columns), default=self.page_width - MARGIN)


@dataclass(frozen=True, slots=True)
class Wishes:
    """The widths of a column in thousandths of the font size: without any wrapping, comfortable, and least."""

    whole: int
    natural: int
    least: int

    @classmethod
    def of(
        cls, header: str, texts: Sequence[str], body: Typesetter, head: Typesetter, *, is_number: bool
    ) -> "Wishes":
        more = DIGITS_MORE if is_number else 0
        # A set has another order in each process, and the order in which glyphs are first used is in the file.
        lines = [line for text in dict.fromkeys(texts) for line in BREAKS.split(text)]
        whole = max([LEAST, head.width(header), *(body.width(line) + more for line in lines)])
        words = [head.width(piece) for piece in PIECES.findall(header)]
        words += [body.width(piece) for line in lines for piece in PIECES.findall(line)]
        natural = whole if is_number else min(whole, LONG)
        most = MOST_UNBROKEN * 2 if is_number else MOST_UNBROKEN
        return cls(min(whole, LONGEST), natural, min(max([LEAST, *words]), most, natural))


def plan_layout(
    wishes: Sequence[Wishes],
    numbers: Sequence[bool],
    page_size: tuple[float, float],
    orientation: Orientation,
    size: float | None,
    *,
    right_to_left: bool,
) -> Layout:
    """Choose the page and the font size, and give each column its width."""
    width, height, chosen = _page(wishes, page_size, orientation, size)
    width = max(width, len(wishes) * (NARROWEST + 2 * PADDING) * chosen / 1000 + 2 * MARGIN)
    room = (width - 2 * MARGIN) * 1000 / chosen - 2 * PADDING * len(wishes)
    widths = _widths(wishes, room)
    columns, left = [], MARGIN
    for text_width, is_number in zip(widths, numbers, strict=True):
        right = left + (text_width + 2 * PADDING) * chosen / 1000
        place = (width - right, width - left) if right_to_left else (left, right)
        columns.append(ColumnLayout(*place, int(text_width), is_number))
        left = right
    return Layout(width, height, chosen, tuple(columns))


def _page(
    wishes: Sequence[Wishes], page_size: tuple[float, float], orientation: Orientation, size: float | None
) -> tuple[float, float, float]:
    upright, lying = page_size, page_size[::-1]
    pages = {"portrait": [upright], "landscape": [lying], "auto": [upright, lying]}[orientation]
    natural = sum(wish.natural + 2 * PADDING for wish in wishes)
    least = sum(wish.least + 2 * PADDING for wish in wishes)
    for sizes, needed in ((NATURAL_SIZES, natural), (WRAPPED_SIZES, least)):
        for chosen in (size,) if size else sizes:
            for width, height in pages:
                if needed * chosen / 1000 <= width - 2 * MARGIN:
                    return width, height, chosen
    return *pages[-1], size or WRAPPED_SIZES[-1]


def _widths(wishes: Sequence[Wishes], room: float) -> list[float]:
    natural = sum(wish.natural for wish in wishes)
    least = sum(wish.least for wish in wishes)
    if least >= room:  # not even the longest words fit
        room_above = room - NARROWEST * len(wishes)
        return [NARROWEST + wish.least * room_above / least for wish in wishes]
    if natural >= room:
        share = (room - least) / (natural - least)
        return [wish.least + (wish.natural - wish.least) * share for wish in wishes]
    wanted = sum(wish.whole - min(wish.natural, wish.whole) for wish in wishes)
    share = min(1.0, (room - natural) / wanted) if wanted else 0
    widths = [wish.natural + max(wish.whole - wish.natural, 0) * share for wish in wishes]
    stretch = min(STRETCH, room / sum(widths)) if widths else 1
    return [width * stretch for width in widths]
