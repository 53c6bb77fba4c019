"""The rows of the tables: the same ones every time, made one by one."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import product
from random import Random
from string import ascii_uppercase
from typing import Any
from uuid import UUID

CUSTOMERS = 200
COLUMNS = (
    "id", "customer__name", "reference", "amount", "score", "active",
    "due", "created_at", "details", "note", "remark", "quantity",
)  # fmt: skip

# Of payments, without what a quote, an escape or a text of its own makes slow to write.
TYPED_COLUMNS = tuple(name for name in COLUMNS if name not in ("details", "note", "remark"))
FLIGHT_COLUMNS = (
    "id", "airline__name", "flight", "tail_number", "origin", "destination",
    "scheduled_at", "departure", "departure_delay", "arrival_delay", "cancelled", "distance",
)  # fmt: skip
AIRLINES = (
    "Northern Lakes Airlines Inc.", "Bayview Express", "Riverbend Airways Corporation", "Lakeside Air",
    "Harbour Line", "Redwood Air Lines Inc.", "Prairie Connect", "Capewind Airlines Co.",
)  # fmt: skip
AIRPORTS, HOME_AIRPORTS, AIRPLANES = 100, 3, 4000
FLIGHTS_A_DAY = 900
CANCELLED_SHARE, DIVERTED_SHARE, UNKNOWN_TAIL_SHARE = 0.025, 0.003, 0.007

# The kinds of values in the tables of many columns and of many NULLs, which their names start with.
KINDS = ("reference", "amount", "score", "active", "due", "moment", "details", "name", "note", "quantity")
WIDE_COLUMNS = ("id", *[f"{KINDS[number % len(KINDS)]}_{number}" for number in range(1, 200)])
NULL_COLUMNS = ("id", *KINDS, "note_2")
NULL_SHARE = 0.9
WIDENESS = {"payments": 1, "typed": 1, "flights": 1, "200-columns": 20, "long-texts": 20, "nulls": 5}
SMALLEST_TABLE = 100
REPORT_CHARACTERS = 10_000

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


def rows_of(table: str, size: int) -> int:
    """Return how many rows a table has in a database of that size: wide ones fewer, at most 100 MB."""
    most = {"200-columns": 10_000, "long-texts": 10_000, "nulls": 100_000}.get(table, size)
    return min(size, most, max(size // WIDENESS[table], SMALLEST_TABLE))


def dozens(number: int) -> int:
    """Return what only Python knows of a number."""
    return number // 12


def customers() -> Iterator[dict[str, Any]]:
    for number in range(1, CUSTOMERS + 1):
        yield {"id": number, "name": f"Lakeside Clinic, Building {number}"}


def airlines() -> Iterator[dict[str, Any]]:
    for number, name in enumerate(AIRLINES, 1):
        yield {"id": number, "name": name}


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


def flights(rows: int) -> Iterator[dict[str, Any]]:
    """Yield the fields of `rows` flights, in the order of their schedule: no value needs a quote or an escape."""
    random = Random(2030)
    airports = random.sample(["".join(letters) for letters in product(ascii_uppercase, repeat=3)], AIRPORTS)
    popularity = [1 / place for place in range(1, AIRPORTS + 1)]
    miles = [random.randrange(80, 2600) for _ in airports]
    tails = [
        f"N{random.randrange(100, 1000)}{''.join(random.sample(ascii_uppercase, 2))}" for _ in range(AIRPLANES)
    ]
    for number in range(1, rows + 1):
        day, place = divmod(number, FLIGHTS_A_DAY)
        minute = 300 + place * 1080 // FLIGHTS_A_DAY  # from five in the morning to eleven at night
        airline = random.choices(range(len(AIRLINES)), popularity[: len(AIRLINES)])[0]
        home = random.randrange(HOME_AIRPORTS)
        away = random.choices(range(HOME_AIRPORTS, AIRPORTS), popularity[:-HOME_AIRPORTS])[0]
        late = round(random.expovariate(1 / 45) if random.random() < 0.3 else random.gauss(-3, 4))
        cancelled = random.random() < CANCELLED_SHARE
        diverted = random.random() < DIVERTED_SHARE
        leaves = (minute + late) % 1440
        yield {
            "id": number,
            "airline_id": airline + 1,
            "flight": random.randrange(1, 6000),
            "tail_number": None if random.random() < UNKNOWN_TAIL_SHARE else random.choice(tails),
            "origin": airports[home],
            "destination": airports[away],
            "scheduled_at": EPOCH + timedelta(days=day, hours=minute // 60),
            "departure": None if cancelled else leaves // 60 * 100 + leaves % 60,
            "departure_delay": None if cancelled else float(late),
            "arrival_delay": None if cancelled or diverted else float(late + round(random.gauss(-5, 15))),
            "cancelled": cancelled,
            "distance": miles[away] + 10 * home,
        }


def surveys(rows: int) -> Iterator[dict[str, Any]]:
    """Yield rows of 200 columns."""
    random = Random(2027)
    for number in range(1, rows + 1):
        yield {"id": number, **{name: _VALUES[name.split("_")[0]](random) for name in WIDE_COLUMNS[1:]}}


def reports(rows: int) -> Iterator[dict[str, Any]]:
    """Yield texts of 10 KB, with the quotes and line breaks of notes."""
    random = Random(2028)
    for number in range(1, rows + 1):
        start = f"{number}: {random.random()} "
        text = " ".join(random.choices(NOTES, k=REPORT_CHARACTERS // min(map(len, NOTES))))
        yield {"id": number, "text": (start + text)[:REPORT_CHARACTERS]}


def drafts(rows: int) -> Iterator[dict[str, Any]]:
    """Yield rows of which nine in ten values are NULL."""
    random = Random(2029)
    for number in range(1, rows + 1):
        yield {
            "id": number,
            **{
                name: None if random.random() < NULL_SHARE else _VALUES[name.split("_")[0]](random)
                for name in NULL_COLUMNS[1:]
            },
        }


_VALUES: dict[str, Callable[[Random], Any]] = {
    "reference": lambda random: UUID(int=random.getrandbits(128), version=4),
    "amount": lambda random: Decimal(random.randrange(100_000_000)).scaleb(-2),
    "score": lambda random: random.random(),
    "active": lambda random: random.random() < 0.7,
    "due": lambda random: date(2026, 1, 1) + timedelta(days=random.randrange(730)),
    "moment": lambda random: EPOCH + timedelta(microseconds=random.randrange(10**13)),
    "details": lambda random: {"units": random.randrange(10)},
    "name": lambda random: f"Building {random.randrange(200)}",
    "note": lambda random: random.choice(("second reminder", 'denied as "not covered"', "open,\nsee the note")),
    "quantity": lambda random: random.randrange(-1000, 1_000_000),
}
