"""Bars for the templates, which draw them as SVG: positions and sizes in the units of the drawing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Bar:
    """One bar: where it stands, how long it is, and what it says."""

    label: str
    value: Any
    start: float
    length: float


def columns(values: Sequence[tuple[str, float]], *, width: float, height: float, gap: float = 0.3) -> list[Bar]:
    """Return bars beside each other in a drawing of that size, the highest as high as it is.

    `start` is the left edge; a bar is `width / len(values) * (1 - gap)` wide.
    """
    most = max((value for _, value in values), default=0) or 1
    step = width / max(1, len(values))
    return [
        Bar(label, value, round(place * step + step * gap / 2, 1), round(height * float(value) / float(most), 1))
        for place, (label, value) in enumerate(values)
    ]


def shares(values: Sequence[tuple[str, float]], *, width: float = 100) -> list[Bar]:
    """Return bars below each other, the longest as wide as the drawing."""
    most = max((abs(value) for _, value in values), default=0) or 1
    return [Bar(label, value, 0, round(width * abs(float(value)) / float(most), 1)) for label, value in values]
