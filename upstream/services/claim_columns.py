"""The columns of a claims file, by the names that practice-management systems give them."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from upstream.services.claim_values import COLUMNS, REQUIRED_COLUMNS

# Other names of columns in practice-management systems; case, blanks and punctuation make no difference.
ALIASES = {
    "payer": ("payer name", "insurer", "insurance", "insurance company", "insurance name", "carrier"),
    "cpt": ("cpt code", "procedure", "procedure code"),
    "cpt_group": ("cpt category", "service category", "service line", "procedure group"),
    "submitted_date": ("submitted", "submission date", "date submitted", "claim date"),
    "decided_date": ("decided", "decision date", "date decided", "adjudicated", "adjudication date"),
    "outcome": ("claim status", "decision", "status"),
    "billed_amount": ("billed", "amount billed", "charge", "charge amount", "charges"),
    "allowed_amount": ("allowed", "amount allowed"),
    "paid_amount": ("paid", "amount paid", "payment", "payment amount"),
}


class ClaimFileError(ValueError):
    """A file of claims cannot be imported; the message says what to do."""


def claim_columns(header: Iterable[str], required_columns: Sequence[str] = REQUIRED_COLUMNS) -> dict[str, str]:
    """Return the names of a claims file's header by the columns that they stand for; other names are left out.

    ClaimFileError is raised if a required column is missing, two names stand for one column, or a name looks like
    a misspelling of a column that is not there.

    >>> claim_columns(["Payer Name", "CPT", "Submission Date", "Claim status", "Room"])
    {'payer': 'Payer Name', 'cpt': 'CPT', 'submitted_date': 'Submission Date', 'outcome': 'Claim status'}
    """
    found: dict[str, str] = {}
    others = []
    for name in header:
        column = _COLUMN_OF.get(_normal(name))
        if column is None:
            others.append(name)
        elif column in found:
            raise ClaimFileError(f"the columns {found[column]!r} and {name!r} both are {column}: leave one out")
        else:
            found[column] = name
    absent = [column for column in COLUMNS if column not in found]
    for name in others:
        if len(name) < 64 and (close := get_close_matches(_normal(name), absent, n=1, cutoff=0.85)):
            raise ClaimFileError(f"unknown column {name!r}: did you mean {close[0]!r}?")
    if missing := [column for column in required_columns if column not in found]:
        # The names that are there are not shown: without a header they are a patient's row.
        raise ClaimFileError(f"the file has no column {', '.join(missing)}: its first row must name the columns")
    return found


def _normal(name: str) -> str:
    return re.sub(r"[\W_]+", "_", name.lower()).strip("_")


_COLUMN_OF = {_normal(name): column for column in COLUMNS for name in (column, *ALIASES[column])}
