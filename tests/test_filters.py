"""Filters given as text: values of every type, only names that may be asked for, no row twice."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.contrib.sessions.models import Session
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.models import Q

from tests.fieldtypes.making import make
from tests.fieldtypes.models import AccessToken, Everything, Parent, Secretive, Ticket, Visit
from upstream.integrations.filters import parse_filter, parse_ordering
from upstream.models import DriftEvent
from upstream.streaming import ColumnError, plan

FIRST, SECOND = UUID(int=1), UUID(int=2)


@pytest.fixture
def two(database):
    """Two rows, "a" and "b", that differ in everything."""
    parents = [Parent.objects.using(database).create(name=name, details=None) for name in ("Ada", "Bob")]
    tickets = [Ticket.objects.using(database).create(pk=key, code=f"T{key.int}") for key in (FIRST, SECOND)]
    make(
        database,
        "a",
        text="one=two",
        boolean=True,
        boolean_or_null=True,
        integer=1,
        floating=0.5,
        decimal=Decimal("1.5"),
        date=date(2026, 1, 31),
        time=time(8, 15),
        datetime=datetime(2026, 1, 31, 8, 15, tzinfo=UTC),
        duration=timedelta(days=1),
        uuid=FIRST,
        json={"size": 1, "name": "x", "deep": {"list": [5, 6]}, "1": True},
        json_or_null=[],
        ip_address="10.0.0.1",
        word="plain",
        level=-1,
        parent=parents[0],
        ticket=tickets[0],
    )
    make(
        database,
        "b",
        text="two words",
        integer=2,
        floating=1.5,
        decimal=Decimal("2.5"),
        date=date(2025, 12, 31),
        time=time(9),
        datetime=datetime(2025, 12, 31, 23, 30, tzinfo=UTC),
        duration=timedelta(hours=1),
        uuid=SECOND,
        json={"size": 2, "name": "2"},
        word="=1+1",
        level=1,
        parent=parents[1],
        ticket=tickets[1],
    )
    return Everything.objects.using(database)


def found(rows, text):
    return "".join(sorted(rows.filter(parse_filter(Everything, text)).values_list("char", flat=True)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # texts
        ("char=a", "a"),
        ("char__exact=b", "b"),
        ("char__in=a,b", "ab"),
        ("char__in=c", ""),
        ('char__in="a",b', "ab"),
        ('text__in="two words"', "b"),
        ('text__in="one=two","x, y"', "a"),
        ("text=one=two", "a"),
        ("text__startswith=one", "a"),
        ("text__regex=^t.o ", "b"),
        ("text=", ""),
        # yes and no
        ("boolean=true", "a"),
        ("boolean=False", "b"),
        ("boolean=1", "a"),
        ("boolean=no", "b"),
        ("boolean__in=yes,no", "ab"),
        ("boolean_or_null__isnull=yes", "b"),
        ("boolean_or_null__isnull=0", "a"),
        # numbers
        ("integer=2", "b"),
        ("integer__gt=1", "b"),
        ("integer__lte=2", "ab"),
        ("integer__in=1,7", "a"),
        ("integer__range=2,9", "b"),
        ("integer=-1", ""),
        ("floating__gte=0.75", "b"),
        ("floating=5e-1", "a"),
        ("decimal=1.50", "a"),
        ("decimal__range=1.4,1.6", "a"),
        # dates and times
        ("date=2026-01-31", "a"),
        ("date__lt=2026-01-01", "b"),
        ("date__range=2025-01-01,2025-12-31", "b"),
        ("date__year=2025", "b"),
        ("date__year__gte=2026", "a"),
        ("date__month__in=1", "a"),
        ("time__gte=08:30", "b"),
        ("datetime=2026-01-31 08:15", "a"),
        ("datetime=2026-01-31T08:15:00Z", "a"),
        ("datetime=2026-01-31T10:15:00+02:00", "a"),
        ("datetime__gte=2026-01-01", "a"),
        ("datetime__in=2026-01-31 08:15,2025-12-31 23:30", "ab"),
        ("datetime__range=2025-12-31,2026-01-01", "b"),
        ("datetime__date=2026-01-31", "a"),
        ("datetime__date__lt=2026-01-01", "b"),
        ("datetime__hour=8", "a"),
        ("duration__gt=12:00:00", "a"),
        ("duration=P1DT0S", "a"),
        # others
        (f"uuid={FIRST}", "a"),
        (f"uuid__in={FIRST.hex},{SECOND}", "ab"),
        ("ip_address=10.0.0.1", "a"),
        ("word=plain", "a"),
        ("word__in=plain,=1+1", "ab"),
        ("level=-1", "a"),
        ("level__lt=0", "a"),
        # JSON
        ("json__size=1", "a"),
        ("json__size__gte=2", "b"),
        ("json__size__in=1,7", "a"),
        ("json__size__in=[1, 7]", "a"),
        ("json__name=x", "a"),
        ('json__name="2"', "b"),
        ("json__name__startswith=x", "a"),
        ("json__deep__list__1=6", "a"),
        ("json__has_key=deep", "a"),
        ("json__deep__isnull=yes", "b"),
        ("json__deep__isnull=no", "a"),
        ("json_or_null__isnull=yes", "b"),
        ("json_or_null=[]", "a"),
        # relations
        ("parent__name=Ada", "a"),
        ("parent__name__in=Ada,Bob", "ab"),
        ("parent__isnull=yes", ""),
        (f"ticket={FIRST}", "a"),
        (f"ticket_id={FIRST}", "a"),
        (f"ticket__in={FIRST},{SECOND}", "ab"),
        ("ticket__code=T2", "b"),
    ],
)
def test_values_are_read_as_the_field_reads_them(two, text, expected):
    assert found(two, text) == expected


def test_texts_are_compared_in_any_case(two):
    if connections[two.db].vendor == "mysql":
        pytest.skip("the collation of the tests' MariaDB tells upper from lower case")
    assert found(two, "text__icontains=WORDS") == "b"


def test_related_row_is_named_by_its_key(two):
    row = two.get(char="a")
    for text in (
        f"parent={row.parent_id}",
        f"parent_id={row.parent_id}",
        f"parent__pk__in={row.parent_id}",
        f"pk={row.pk}",
    ):
        assert found(two, text) == "a"


def test_naive_times_are_in_the_current_zone(two, settings):
    settings.TIME_ZONE = "Europe/Zurich"
    assert found(two, "datetime=2026-01-31 09:15") == "a"


def test_days_are_those_of_the_current_zone(two, settings):
    if not connections[two.db].features.has_zoneinfo_database:
        pytest.skip("the tests' MariaDB knows no time zones")
    settings.TIME_ZONE = "Europe/Zurich"
    assert found(two, "datetime__date=2026-01-01") == "b"


@pytest.mark.django_db
def test_naive_times_stay_naive_where_zones_are_off(settings):
    settings.USE_TZ = False
    make("default", "a", datetime=datetime(2026, 1, 31, 8, 15))
    assert found(Everything.objects, "datetime=2026-01-31 08:15") == "a"
    assert found(Everything.objects, "datetime__lt=2026-01-31 08:15") == ""


@pytest.mark.parametrize(
    "text",
    [
        "boolean=maybe",
        "char__isnull=maybe",
        "integer=one",
        "integer__in=1,two",
        "integer__range=1",
        "integer__range=1,2,3",
        "date__range=2026-01-01",
        "floating=x",
        "decimal=1,5",
        "date=2026-02-30",
        "date=31.1.2026",
        "time=25:00",
        "datetime=soon",
        "duration=long",
        "uuid=1",
        "level=",
        "date__year=MMXXVI",
        "parent=Ada",
        "ticket=1",
    ],
)
def test_value_that_the_field_does_not_take_is_an_error_that_shows_the_filter(two, text):
    with pytest.raises(ColumnError) as caught:
        found(two, text)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("chr=a", "'char'"),
        ("parent__nme=a", "'name'"),
        ("integer__gre=1", "gre"),
        ("integer__", ""),
        ("__integer=1", ""),
        ("=1", ""),
        ("", "NAME=VALUE"),
        ("char", "NAME=VALUE"),
        ("_connector=OR", ""),
        ("_negated=1", ""),
        ("char__in__x=1", ""),
    ],
)
def test_unknown_name_is_an_error_with_the_close_names(text, hint):
    with pytest.raises(ColumnError) as caught:
        parse_filter(Everything, text)
    assert hint in str(caught.value)


def test_row_with_many_matching_rows_comes_once(database):
    parents = Parent.objects.using(database)
    ada, bob = parents.create(name="Ada"), parents.create(name="Bob")
    for number in range(3):
        make(database, "x", parent=ada, integer=number)
        make(database, "x", parent=bob, integer=-1)
    matching = parents.filter(parse_filter(Parent, "children__integer__gte=0"))
    others = parents.exclude(parse_filter(Parent, "children__integer__gte=0"))
    assert [parent.name for parent in matching] == ["Ada"]
    assert [parent.name for parent in others] == ["Bob"]
    assert matching.filter(parse_filter(Parent, "name__startswith=A")).count() == 1
    assert parents.filter(parse_filter(Parent, "children__isnull=no")).count() == 2


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('"Blue Cross, Inc",Aetna', ["Blue Cross, Inc", "Aetna"]),
        ('"say ""so""",b', ['say "so"', "b"]),
        ('5" pipe,6" pipe', ['5" pipe', '6" pipe']),
        ("a\nb,c", ["a\nb", "c"]),
        ('"a\nb",c', ["a\nb", "c"]),
        ("", [""]),
        ("a,,b", ["a", "", "b"]),
    ],
)
def test_quotes_keep_a_comma_in_a_value(text, values):
    assert parse_filter(Parent, f"name__in={text}") == Q(name__in=values)


@pytest.mark.parametrize("text", ['"a', '"a"b,c', '"a\n', 'a\n"b'])
def test_quotes_that_enclose_no_value_are_refused(text):
    with pytest.raises(ColumnError, match="quotes"):
        parse_filter(Parent, f"name__in={text}")


def test_values_of_json_keep_their_own_quotes():
    assert parse_filter(Parent, 'details__a__in="x","y"') == Q(details__a__in=["x", "y"])
    assert parse_filter(Parent, 'details__a__in=["x, y"]') == Q(details__a__in=["x, y"])


@pytest.mark.parametrize("lookup", ["", "__startswith", "__isnull", "__in", "__regex", "__length__gt"])
@pytest.mark.parametrize(
    ("model", "name"),
    [
        (Secretive, "password"),
        (User, "password"),
        (Group, "user__password"),
        (Permission, "group__user__password"),
        (Permission, "user__password"),
    ],
)
def test_sensitive_names_are_refused_on_any_way(model, name, lookup):
    with pytest.raises(ColumnError, match="sensitive"):
        parse_filter(model, f"{name}{lookup}=a")


@pytest.mark.parametrize("sign", ["", "-"])
def test_sensitive_names_order_nothing(sign):
    with pytest.raises(ColumnError, match="sensitive"):
        parse_ordering(Secretive, f"{sign}password")


def test_names_that_the_settings_call_sensitive_are_refused_too(settings):
    settings.UPSTREAM_SENSITIVE_FIELDS = ["api_token", "parent"]
    for model, text in ((Secretive, "api_token=t"), (Everything, "parent=1"), (Everything, "parent_id=1")):
        with pytest.raises(ColumnError, match="sensitive"):
            parse_filter(model, text)
    assert parse_filter(Secretive, "name=a") == Q(name="a")


@pytest.mark.parametrize("called", ["parent", "parent_id"])
@pytest.mark.parametrize(
    "path", ["parent", "parent_id", "parent__in", "parent__name", "parent__children__integer"]
)
def test_a_relation_that_the_settings_name_is_refused_by_either_of_its_names(settings, called, path):
    settings.UPSTREAM_SENSITIVE_FIELDS = [called]
    with pytest.raises(ColumnError, match="sensitive"):
        parse_filter(Everything, f"{path}=1")
    if "children" not in path and not path.endswith("__in"):
        with pytest.raises(ColumnError, match="sensitive"):
            parse_ordering(Everything, f"-{path}")


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (Session, "session_key"),
        (Session, "pk"),
        (Session, "session_data__contains"),
        (Secretive, "api_token"),
        (AccessToken, "key__startswith"),
        (AccessToken, "pk"),
        (Parent, "access"),
        (Parent, "access__in"),
        (Parent, "access__key__startswith"),
        (Visit, "access"),
        (Visit, "access_id__startswith"),
        (Visit, "access__pk"),
        (Visit, "access__holder__access"),
    ],
)
def test_keys_that_open_something_are_refused_under_every_name(model, name):
    with pytest.raises(ColumnError, match="sensitive"):
        parse_filter(model, f"{name}=a")
    with pytest.raises(ColumnError, match="sensitive"):
        parse_ordering(model, name)


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (Session, "expire_date__gte=2026-01-01"),
        (AccessToken, "token_type=bearer"),
        (AccessToken, "holder__name=a"),
        (Parent, "access__created__gte=2026-01-01"),
        (Visit, "access__created__gte=2026-01-01"),
        (Visit, "access__holder__name=a"),
    ],
)
def test_what_stands_beside_a_key_can_be_asked_for(model, text):
    assert parse_filter(model, text)


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (Session, ["expire_date"]),
        (AccessToken, ["token_type", "holder_id", "created"]),
        (Visit, ["id", "pages"]),
        (Secretive, ["id", "name"]),
    ],
)
def test_keys_that_open_something_are_no_default_columns(model, names):
    assert list(plan(model.objects.all()).headers) == names


def test_a_string_of_sensitive_names_hides_what_it_names(settings):
    settings.UPSTREAM_SENSITIVE_FIELDS = "name, details"
    assert plan(Parent.objects.all()).headers == ("id",)
    with pytest.raises(ColumnError, match="sensitive"):
        parse_filter(Parent, "details__a=1")


@pytest.mark.parametrize("wrong", [None, 1, [1], iter(["name"])])
def test_sensitive_names_that_are_no_list_of_names_are_an_error(settings, wrong):
    settings.UPSTREAM_SENSITIVE_FIELDS = wrong
    with pytest.raises(ImproperlyConfigured, match="UPSTREAM_SENSITIVE_FIELDS is a list of field names"):
        plan(Parent.objects.all())


@pytest.mark.parametrize("name", ["severity", "-severity", "customer__name", "-customer_id", "pk", "-pk"])
def test_fields_and_those_of_single_related_rows_order(name):
    assert parse_ordering(DriftEvent, name) == name
    assert str(DriftEvent.objects.order_by(name).query)


@pytest.mark.parametrize(
    "name",
    [
        "alert_events",
        "alert_events__status",
        "severity__gte",
        "severty",
        "?",
        "",
        "-",
        "--severity",
        "severity desc",
    ],
)
def test_nothing_else_orders(name):
    with pytest.raises(ColumnError):
        parse_ordering(DriftEvent, name)


def test_unknown_ordering_names_the_close_ones():
    with pytest.raises(ColumnError, match="'severity'"):
        parse_ordering(DriftEvent, "-severty")
