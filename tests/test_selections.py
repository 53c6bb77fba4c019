"""Forged keys of a selection are refused, whatever the type of the primary key; the keys of rows are taken."""

import datetime as dt
import re
import uuid
from decimal import Decimal

import pytest
from django.contrib.auth.models import User
from django.db import connections, models
from django.urls import reverse

from tests.fieldtypes.models import Ticket
from tests.library.models import Country, Profile
from upstream.integrations.selections import SelectionError, selected_keys
from upstream.models import Customer

# What each type of key is compared with: a column of the type on a model that has a row.
KEYS = {
    models.AutoField(): 7,
    models.BigAutoField(): 2**62,
    models.SmallAutoField(): 3,
    models.PositiveSmallIntegerField(): 0,
    models.CharField(max_length=300): "any 'text' -- \"\u00fc\U0001f600\" \ud7ff%s",
    models.SlugField(): "no slug at all!",
    models.UUIDField(): uuid.UUID(int=5),
    models.DecimalField(max_digits=8, decimal_places=3): Decimal("1234.500"),
    models.FloatField(): 0.1,
    models.BooleanField(): True,
    models.DateField(): dt.date(2026, 2, 28),
    models.DateTimeField(): dt.datetime(2026, 3, 1, 15, 30, 0, 123456, tzinfo=dt.UTC),
    models.TimeField(): dt.time(1, 2, 3),
    models.DurationField(): dt.timedelta(days=-1, seconds=5),
    models.GenericIPAddressField(): "192.0.2.1",
}
FORGED = [
    *("", " ", "x", "1' OR 1=1 --", "1; DROP TABLE x", "None", "null", "[]", '{"a": 1}', "1,2", "0x10", "1_0"),
    *("-1", "9" * 40, "-" + "9" * 40, "9" * 5000, "1e999999999", "-1e5", "1.5", "NaN", "sNaN", "Infinity", "-inf"),
    *("\x00", "1\x00", "a\x00b", "\ud800", "1\udfff", "\u0661", "\U0001f600", "\u202e1", "a" * 100_000),
    *("0000-00-00", "9999-12-31 23:59:59-23:59", "0001-01-01 00:00:00+23:59", "99999999999999999999 00:00:00"),
    *("P99999999999999999999D", "24:00:00", "00000000000000000000000000000000", "1" * 32, "::ffff:999.1.1.1"),
]


@pytest.fixture(params=KEYS, ids=lambda field: type(field).__name__)
def field(request):
    request.param.set_attributes_from_name("key")
    return request.param


@pytest.mark.django_db
def test_the_key_of_a_row_is_taken_as_the_list_writes_it(field):
    assert selected_keys(field, [str(KEYS[field])], "default") == [KEYS[field]]


def test_a_forged_key_is_refused_or_the_database_takes_it(database, field):
    connection = connections[database]
    for text in FORGED:
        try:
            [key] = selected_keys(field, [text], database)
        except SelectionError:
            continue
        with connection.cursor() as cursor:
            cursor.execute("SELECT COALESCE(%s, NULL)", [field.get_db_prep_value(key, connection)])


def test_a_refusal_shows_the_beginning_of_the_key_whatever_is_in_it():
    with pytest.raises(SelectionError, match=r"^'\\ud800x{99}' is no key$"):
        selected_keys(models.CharField(), ["\ud800" + "x" * 100_000], "default")


@pytest.mark.parametrize("model", [Customer, Ticket, Profile, Country])
def test_rows_are_queried_by_all_that_is_not_refused(database, model):
    for text in FORGED:
        try:
            keys = selected_keys(model._meta.pk, [text], database)
        except SelectionError:
            continue
        assert not model.objects.using(database).filter(pk__in=keys).exists()


def test_a_key_that_is_a_relation_is_a_key_of_its_target():
    assert selected_keys(Profile._meta.pk, ["12"], "default") == [12]


@pytest.mark.django_db
@pytest.mark.parametrize("way", ["page", "action"])
def test_the_admin_answers_a_forged_key_with_400(client, way):
    client.force_login(User.objects.create(username="root", is_staff=True, is_superuser=True))
    answers = {text: ask(client, way, text) for text in FORGED if is_text(text)}
    assert {text for text, status in answers.items() if status == 200} == {"-1", "1_0", "\u0661", "0" * 32}
    assert set(answers.values()) == {200, 400}


def is_text(text):
    """Whether a browser could send it: no lone surrogate."""
    return not re.search("[\ud800-\udfff]", text)


def ask(client, way, key):
    """Send a selection of customers by the export page or by the action of the list; return the status."""
    if way == "page":
        data = {"format": "csv", "profile": "data", "columns": ["name"], "_selected_action": [key]}
        answer = client.post(reverse("admin:upstream_customer_export"), data)
    else:
        data = {"action": "export_selected", "index": "0", "_selected_action": [key]}
        answer = client.post(reverse("admin:upstream_customer_changelist"), data)
    if answer.streaming:
        answer.getvalue()
    return answer.status_code
