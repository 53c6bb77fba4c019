"""Demo claims: half a year of three customers, in which some payers have just changed their ways.

The same seed and day give the same claims. Each change begins with a Monday, so that it fills the weeks it is of.
"""

import datetime as dt
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from upstream.services.claim_values import COLUMNS
from upstream.streaming import Csv
from upstream.streaming.columns import Names
from upstream.streaming.encoders.protocol import Encoder

WEEKS = 25
WEEK = dt.timedelta(weeks=1)
DAY = dt.timedelta(days=1)
PAYERS_DECIDE_ON = range(5)  # Monday to Friday
OPEN_CLAIMS = 100
# One row in as many is wrong, and one contradicts itself.
WRONG_EVERY, ODD_EVERY = 400, 250
WRONG_CELLS = [
    {"submitted_date": "2026-02-30"},
    {"payer": "Smith, John"},
    {"outcome": "PENDING REVIEW"},
    {"billed_amount": "-125.00"},
    {"cpt": ""},
    {"decided_date": "1999-12-31", "payer": '=HYPERLINK("https://example.com/")'},
]
# As another system calls and writes them.
OTHER_COLUMNS = dict(
    zip(
        COLUMNS,
        [
            *("Insurance Company", "CPT Code", "Service Line", "Date Submitted", "Decision Date", "Claim Status"),
            *("Charges", "Allowed", "Paid"),
        ],
        strict=True,
    )
)


@dataclass(frozen=True, slots=True)
class Payer:
    """What a payer usually does: its share of the claims, of denials and of the bill, and the days it takes."""

    name: str
    share: int
    denied: float
    days: float
    paid: float


@dataclass(frozen=True, slots=True)
class Change:
    """What a payer does otherwise with a group of CPT codes, from so many full weeks ago until now, or `until`."""

    payer: str
    cpt_group: str
    weeks: int
    until: int = 0
    more_denied: float = 0.0
    more_days: float = 0.0
    paid_times: float = 1.0
    cpt: str = ""  # of the group, the only code that is denied otherwise

    def is_on(self, day: dt.date, last_week: dt.date) -> bool:
        begins, ends = (last_week - (weeks - 1) * WEEK for weeks in (self.weeks, self.until))
        return begins <= day and (not self.until or day < ends)


@dataclass(frozen=True, slots=True)
class Practice:
    """A customer with claims; `columns` and `encoder` are how its system writes them."""

    name: str
    claims_per_day: int
    changes: tuple[Change, ...]
    columns: Names
    encoder: Encoder

    @property
    def filename(self) -> str:
        return f"{self.name.split()[0]}.csv"


PAYERS = (
    Payer("Summit Mutual", 38, denied=0.172, days=14, paid=0.62),
    Payer("Harborview Health Plan", 27, denied=0.095, days=11, paid=0.7),
    Payer("Medicaid", 20, denied=0.24, days=24, paid=0.41),
    Payer("Seguros Peñasco", 15, denied=0.13, days=18, paid=0.58),
)
# By group: its share, and the price of each code.
CPT_GROUPS: dict[str, tuple[int, dict[str, float]]] = {
    "Office visits 99213-99215": (45, {"99213": 130.0, "99214": 150.0, "99215": 190.0}),
    "Knee arthroscopy 29880-29881": (25, {"29880": 1450.0, "29881": 1380.0}),
    "MRI of the brain 70551-70553": (18, {"70551": 820.0, "70553": 960.0}),
    "Physical therapy 97110-97140": (12, {"97110": 75.0, "97112": 80.0, "97140": 70.0}),
}
OFFICE, KNEE, MRI, THERAPY = CPT_GROUPS
AMERICAN = Csv(profile="excel", date_format="%m/%d/%Y")
PRACTICES = (
    Practice(
        "Lakeside Medical Group",
        480,
        (
            Change("Summit Mutual", KNEE, weeks=1, more_denied=0.192, cpt="29881"),
            Change("Harborview Health Plan", OFFICE, weeks=3, more_days=7),
            Change("Seguros Peñasco", OFFICE, weeks=2, paid_times=0.82),
            Change("Medicaid", OFFICE, weeks=10, until=8, more_days=9),
        ),
        COLUMNS,
        Csv(),
    ),
    Practice(
        "Bayview Medical Group",
        240,
        (
            Change("Medicaid", OFFICE, weeks=2, more_denied=-0.18),
            Change("Summit Mutual", OFFICE, weeks=9, until=8, paid_times=0.8),
        ),
        OTHER_COLUMNS,
        AMERICAN,
    ),
    Practice("Riverbend Medical Group", 120, (), COLUMNS, Csv()),
)


def monday_before_last(today: dt.date) -> dt.date:
    """Return the first day of the last week, from Monday to Sunday, that is over."""
    return today - today.weekday() * DAY - WEEK


def claims(practice: Practice, seed: int, today: dt.date) -> Iterator[dict[str, Any]]:
    """Yield the rows of a practice's file: decided claims in the order of their days, then open ones."""
    rng = random.Random(f"{seed} {practice.name}")  # noqa: S311
    rows = _decided(practice, rng, today)
    for number, row in enumerate(rows, 1):
        if number % WRONG_EVERY == 0:
            yield row | WRONG_CELLS[number // WRONG_EVERY % len(WRONG_CELLS)]
        elif number % ODD_EVERY == 0:
            yield row | {"decided_date": None}
        else:
            yield row
    for _ in range(OPEN_CLAIMS):
        payer, group, cpt, price = _drawn(rng)
        yield _row(payer.name, cpt, group, today - rng.randrange(1, 20) * DAY) | {
            "outcome": "OTHER",
            "billed_amount": price,
        }


def _decided(practice: Practice, rng: random.Random, today: dt.date) -> Iterator[dict[str, Any]]:
    debts: defaultdict[tuple[str, str], float] = defaultdict(rng.random)
    last_week = monday_before_last(today)
    day = last_week - (WEEKS - 1) * WEEK
    while day < today:
        if day.weekday() in PAYERS_DECIDE_ON:
            for _ in range(practice.claims_per_day):
                yield _decision(practice, rng, debts, day, last_week)
        day += DAY


def _decision(
    practice: Practice,
    rng: random.Random,
    debts: defaultdict[tuple[str, str], float],
    day: dt.date,
    last_week: dt.date,
) -> dict[str, Any]:
    payer, group, cpt, price = _drawn(rng)
    denied, days, paid = payer.denied, payer.days, payer.paid
    for change in practice.changes:
        if change.is_on(day, last_week) and (change.payer, change.cpt_group) == (payer.name, group):
            denied += change.more_denied if change.cpt in ("", cpt) else 0
            days += change.more_days
            paid *= change.paid_times
    # What is owed of a denial is carried on: a week's rate is that of the story, and not of its luck.
    debts[payer.name, cpt] += rng.uniform(0.7, 1.3) * denied
    billed = round(price * rng.uniform(0.9, 1.1), 2)
    row = _row(payer.name, cpt, group, day - max(1, round(rng.gauss(days, 4))) * DAY)
    row |= {"decided_date": day, "billed_amount": billed}
    if debts[payer.name, cpt] >= 1:
        debts[payer.name, cpt] -= 1
        return row | {"outcome": "DENIED"}
    allowed = round(billed * paid, 2)
    return row | {"outcome": "PAID", "allowed_amount": allowed, "paid_amount": round(allowed * 0.8, 2)}


def _drawn(rng: random.Random) -> tuple[Payer, str, str, float]:
    """Return a payer, and a CPT group with one of its codes and prices."""
    [payer] = rng.choices(PAYERS, [payer.share for payer in PAYERS])
    [(group, (_, prices))] = rng.choices([*CPT_GROUPS.items()], [share for share, _ in CPT_GROUPS.values()])
    cpt = rng.choice([*prices])
    return payer, group, cpt, prices[cpt]


def _row(payer: str, cpt: str, cpt_group: str, submitted: dt.date) -> dict[str, Any]:
    return {
        **dict.fromkeys(COLUMNS),
        "payer": payer,
        "cpt": cpt,
        "cpt_group": cpt_group,
        "submitted_date": submitted,
    }
