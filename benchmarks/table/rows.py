"""The rows of the table: the same ones every time, made one by one."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

CUSTOMERS = 200
COLUMNS = (
    "id", "customer__name", "reference", "amount", "score", "active",
    "due", "created_at", "details", "note", "remark", "quantity",
)  # fmt: skip

NOTES = (
    "Paid in full on the second reminder, nothing is left to claim from the insurer.",
    'Denied as "not covered", appeal sent with the letter of the clinic.',
    "Paid in part, the rest is open.\nThe insurer asks for:\n- the report\n- the referral",
    "Zurückgestellt bis zur Prüfung der Unterlagen",
)
SMALL_LETTER, WIDE_LETTER = 1, 2
WIDE_CHARACTERS = 5_000_000
REMARKS = (None, None, "", "second reminder", "see the note", "审核中")
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def customers() -> Iterator[dict[str, Any]]:
    for number in range(1, CUSTOMERS + 1):
        yield {"id": number, "name": f"Lakeside Clinic, Building {number}"}


def letters() -> Iterator[dict[str, Any]]:
    """Yield a text of one line, and one of 5 MB with as many quotes and line breaks as notes have."""
    notes = " ".join(NOTES)
    yield {"id": SMALL_LETTER, "text": NOTES[0]}
    yield {"id": WIDE_LETTER, "text": (notes * (WIDE_CHARACTERS // len(notes) + 1))[:WIDE_CHARACTERS]}


def payments(rows: int) -> Iterator[dict[str, Any]]:
    """Yield the fields of `rows` payments; a shorter table is the start of a longer one."""
    random = Random(2026)
    for number in range(1, rows + 1):
        yield {
            "id": number,
            "customer_id": random.randint(1, CUSTOMERS),
            "reference": UUID(int=random.getrandbits(128), version=4),
            "amount": Decimal(random.randrange(100_000_000)).scaleb(-2),
            "score": random.random(),
            "active": random.random() < 0.7,
            "due": date(2026, 1, 1) + timedelta(days=random.randrange(730)),
            "created_at": EPOCH + timedelta(microseconds=random.randrange(10**13)),
            "details": {"codes": ["CO-45", "PR-1"], "units": random.randrange(10), "appealed": number % 3 == 0},
            "note": f"{random.choice(NOTES)} (case {number})",
            "remark": random.choice(REMARKS),
            "quantity": random.randrange(-1000, 1_000_000),
        }
