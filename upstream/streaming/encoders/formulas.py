"""The guard against formulas (OWASP, CSV injection): an apostrophe before text that a spreadsheet would run."""

import re
from collections.abc import Sequence

SIGNS = "=+\\-@\uff1d\uff0b\uff0d\uff20"  # the last four are the full-width forms
# What readers may drop before a sign: blanks, NUL, invisible characters and quotes.
BLANKS = '\x00\x0b\x0c"\u0020\u00a0\u1680\u2000-\u200d\u2028\u2029\u202f\u205f\u2060\u3000\ufeff'
# Cells that start with one of these are guarded whatever follows.
CONTROLS = ("\t", "\r", "\n", "\x00")
# The delimiters that spreadsheets try; line breaks end a row if a reader takes no quotes where the cell begins.
SEPARATORS = ",;\t|\r\n"

NUMBER = re.compile(r"[+-](?:[0-9]+|[0-9]{1,3}(?:[,.][0-9]{3})+)(?:[,.][0-9]+)?(?:[eE][+-]?[0-9]+)?")


class Guard:
    """Guards the cells of a file with one delimiter.

    A cell gets an apostrophe if its first character, after blanks, may start a formula. So does each part of it
    that a reader with another delimiter would split off. A plain signed number stays as it is.
    """

    def __init__(self, delimiter: str) -> None:
        others = "".join(re.escape(mark) for mark in SEPARATORS if mark != delimiter)
        # A sign after nothing, a blank or a separator. The sign stands first: a set of characters is found fast.
        self.suspect = re.compile(f"[{SIGNS}](?<![^{BLANKS}{others}].)")
        self.start = re.compile(f"(?:\\A|[{others}])[{BLANKS}]*[{SIGNS}]")
        self.lead = re.compile(f"[{BLANKS}\t\r\n]*")
        self.separators = re.compile(f"([{others}]+)")
        self.sign = re.compile(f"[{BLANKS}]*[{SIGNS}]")

    def __call__(self, cells: Sequence[str]) -> Sequence[str]:
        joined = "\n".join(cells)
        has_controls = joined.count("\n") >= len(cells) or any(map(joined.count, "\t\r\x00"))
        return list(map(self._guarded, cells)) if has_controls or self.suspect.search(joined) else cells

    def _guarded(self, cell: str) -> str:
        starts = cell.startswith(CONTROLS)
        if not (starts or self.start.search(cell)):
            return cell
        lead = self.lead.match(cell).group()  # type: ignore[union-attr]
        text = cell[len(lead) :]
        if NUMBER.fullmatch(text):
            return "'" + cell if starts else cell
        starts = starts or self.sign.match(text) is not None
        first, *rest = self.separators.split(text)
        parts = ["'" + part if self.sign.match(part) and not NUMBER.fullmatch(part) else part for part in rest]
        return ("'" if starts else "") + lead + first + "".join(parts)
