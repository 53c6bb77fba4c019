"""What the cells of a claims file may hold, and what may not be in them."""

import re
from datetime import date
from decimal import Decimal, InvalidOperation

COLUMNS = (
    "payer",
    "cpt",
    "cpt_group",
    "submitted_date",
    "decided_date",
    "outcome",
    "billed_amount",
    "allowed_amount",
    "paid_amount",
)
REQUIRED_COLUMNS = ("payer", "cpt", "submitted_date", "outcome")
DATES = ("submitted_date", "decided_date")
AMOUNTS = ("billed_amount", "allowed_amount", "paid_amount")
OUTCOMES = ("PAID", "DENIED", "OTHER")
MAX_LENGTHS = {"payer": 255, "cpt": 16, "cpt_group": 64}

ISO_DATE = re.compile(r"(\d{4})-(\d{2})-(\d{2})", re.ASCII)
US_DATE = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})", re.ASCII)
# Ten digits before the point are what a column of claims holds. No exponent: "1e999999999" would take 2 GB.
AMOUNT = re.compile(r"\$?(\d{1,10}|\d{1,3}(,\d{3}){1,3})(\.\d{1,2})?", re.ASCII)

# Words that names of organisations have and those of people have not.
PAYER_WORD = re.compile(
    r"\b(access|advantage|aid|alliance|and|assurance|benefits?|blue|care|caid|choice|coalition|company|co-?op|corp"
    r"|county|cross|department|dental|employees?|employers?|federal|first|fund|government|group|gold|health\w*"
    r"|hmo|hospitals?|inc|indemnity|insurance|insurers?|life|llc|local|ltd|managed|medic\w*|mutual|national"
    r"|network|of|partners?|plans?|ppo|prime|programs?|security|self[- ]?pay|services?|shield|silver|solutions"
    r"|state|system|the|tricare|trust|union|united|veterans?|vision|workers?)\b|\bseguros?\b|\bsalud\b|&",
    re.IGNORECASE,
)
PERSONAL = re.compile(
    r"\b\d{3}-\d{2}-\d{4}\b"  # a social security number
    r"|\b(ssn|dob|mrn|patient|date of birth)\b"
    r"|\b(mr|mrs|ms|miss)\.?\s+\w"
    r"|\b\d{1,2}/\d{1,2}/\d{2,4}\b|\b\d{4}-\d{2}-\d{2}\b",
    re.IGNORECASE,
)
WORD = r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*"
SURNAME_FIRST = re.compile(rf"{WORD}(?: {WORD})?, *({WORD})(?: {WORD}| [A-Z]\.?)?")
GIVEN_FIRST = re.compile(rf"({WORD})(?: {WORD}| [A-Z]\.?)? {WORD}")
# The given names that most people in the United States have (Social Security, births from 1923 to 2022).
GIVEN_NAMES = frozenset(
    """
    aaron adam alan albert alexander alexis alice amanda amber amy andrea andrew angela ann anna anthony antonio
    arthur ashley austin barbara benjamin betty beverly billy bobby bradley brandon brenda brian brittany bruce
    bryan carl carlos carol carolyn catherine charles charlotte cheryl christian christina christine christopher
    cynthia daniel danielle david deborah debra denise dennis diana diane donald donna doris dorothy douglas dylan
    edward elizabeth emily emma eric ethan eugene evelyn frances francisco frank gabriel gary george gerald gloria
    grace gregory hannah harold heather helen henry isabella jack jacob jacqueline james jane janet janice jason
    jean jeffrey jennifer jeremy jerry jesse jessica joan joe john johnny jonathan jordan jorge jose joseph joshua
    joyce juan juanita judith judy julia julie justin karen katherine kathleen kathryn keith kelly kenneth kevin
    kimberly kyle larry laura lauren lawrence linda lisa logan louis luis lori luke madison manuel margaret maria
    marie marilyn mark martha martin mary mason matthew megan melissa michael michelle miguel nancy natalie nathan
    nicholas nicole noah olivia pamela patricia patrick paul pedro peter philip rachel ralph randy raymond rebecca
    ricardo richard robert roger ronald rose roy russell ruth ryan samantha samuel sandra sara sarah scott sean
    sharon shirley sophia stephanie stephen steven susan teresa terry theresa thomas timothy tyler victoria vincent
    virginia walter wayne william willie zachary
    """.split()  # noqa: SIM905
)


def parsed_date(text: str) -> date:
    """Return a date written as 2026-11-28 or 11/28/2026; raise ValueError for anything else."""
    text = text.strip()
    if match := ISO_DATE.fullmatch(text):
        year, month, day = match.groups()
    elif match := US_DATE.fullmatch(text):
        month, day, year = match.groups()
    else:
        raise ValueError("is not a date such as 2026-11-28 or 11/28/2026")
    try:
        return date(int(year), int(month), int(day))
    except ValueError:
        raise ValueError("is a day that does not exist") from None


def parsed_amount(text: str) -> Decimal:
    """Return an amount of dollars, such as 1234.5 or $1,234.50; raise ValueError for anything else."""
    text = text.strip()
    if not AMOUNT.fullmatch(text):
        raise ValueError("is not an amount such as 1234.50, of at most ten digits before the point and two after")
    try:
        return Decimal(text.lstrip("$").replace(",", ""))
    except InvalidOperation as error:  # pragma: no cover (the pattern lets none through)
        raise ValueError("is not an amount") from error


def parsed_outcome(text: str) -> str:
    """Return PAID, DENIED or OTHER, whatever the case it is written in; raise ValueError for anything else."""
    outcome = text.strip().upper()
    if outcome not in OUTCOMES:
        raise ValueError(f"is not one of {', '.join(OUTCOMES)}")
    return outcome


def is_personal(payer: str) -> bool:
    """Whether what stands for a payer looks like a person, or holds what identifies one.

    A payer called after a person ("Oscar", "John Hancock Life Insurance") passes by a word of organisations, or by
    not having the form of a full name.
    """
    if PERSONAL.search(payer):
        return True
    if PAYER_WORD.search(payer):
        return False
    match = SURNAME_FIRST.fullmatch(payer.strip()) or GIVEN_FIRST.fullmatch(payer.strip())
    return match is not None and match[1].casefold() in GIVEN_NAMES
