"""What is no difference: refusals of the engine that are right, and tests that say nothing, with the reason."""

import re

from tests.django_suite.findings import Difference

REFUSALS = {
    "cannot be written: write one of its attributes": "a class of the caller's own has no text",
    "cannot be read in windows because": "windows need a key that holds from one statement to the next",
}

# Tests that cannot but fail beside exports.
TESTS = {
    "test_filter_deferred": "a test counts the calls of a method of Django's",
    "test_first_last_empty_order_by_has_no_pk_ordering": "a test counts the calls of a method of Django's",
    "test_select_related_memory_leak": "a test takes for leaks what the garbage collector frees, here of exports",
    "test_crafted_xml_performance": "a test compares durations",
}


def reason_of(difference: Difference) -> str:
    """Return why a difference is none: a right refusal, or what says nothing; "" if nothing says so."""
    if difference.unstable:
        return difference.unstable
    if difference.kind == "test":
        return TESTS.get(difference.test.rpartition(".")[2], "")
    if difference.kind != "refusal":
        return ""
    return next((reason for pattern, reason in REFUSALS.items() if re.search(pattern, difference.message)), "")
