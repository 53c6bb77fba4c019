"""Totals: exact sums of columns, whatever the batches, and the row that shows them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal
from fractions import Fraction
from math import isfinite
from typing import Any

from upstream.streaming.databases.protocol import MAX_PLACES, CellStyle

# Adds Decimals of any field without rounding: 20,000 digits before and after the point.
EXACT = Context(prec=50_000)
# Every finite double is a multiple of this part of one.
BINARY_PLACES = 1074


@dataclass
class Total:
    """The exact sum of a column; text, NaN and the infinities are left out, as SUM() in a spreadsheet does."""

    whole: int = 0
    decimal: Decimal = field(default_factory=Decimal)
    binary: int = 0  # in units of 2 ** -BINARY_PLACES
    has_floats: bool = False

    def add(self, values: Sequence[Any]) -> None:
        """Add numbers, or the text of Decimals."""
        for value in values:
            if isinstance(value, bool):
                continue
            if isinstance(value, int):
                self.whole += value
            elif isinstance(value, Decimal | str):
                self._add_decimal(Decimal(value))
            elif isinstance(value, float) and isfinite(value):
                numerator, denominator = value.as_integer_ratio()
                self.binary += numerator * ((1 << BINARY_PLACES) // denominator)
                self.has_floats = True

    def _add_decimal(self, value: Decimal) -> None:
        if value.is_finite():
            self.decimal = EXACT.add(self.decimal, value)

    def cell(self, formula: str, custom: int | None) -> str:
        """Return the cell of the sum, whose value a reader sees that calculates nothing."""
        if self.has_floats:
            exact = Fraction(self.binary, 1 << BINARY_PLACES) + self.whole + Fraction(self.decimal)
            text, places = repr(float(exact)), 0
        else:
            total = EXACT.add(self.decimal, Decimal(self.whole))
            text = format(total, "f")
            places = min(MAX_PLACES, max(0, -int(total.as_tuple().exponent)))
        style = CellStyle.TOTAL + places if custom is None else custom
        return f'<c s="{style:d}"><f>{formula}</f><v>{text}</v></c>'
