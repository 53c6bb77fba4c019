"""The refusals of the engine that are right, by their message, with the reason."""

import re

from tests.django_suite.findings import Difference

REFUSALS = {
    "cannot be read in windows because": "windows need a key that holds from one statement to the next",
}


def reason_of(difference: Difference) -> str:
    """Return why a refusal is right; "" if nothing says so."""
    if difference.kind != "refusal":
        return ""
    return next((reason for pattern, reason in REFUSALS.items() if re.search(pattern, difference.message)), "")
