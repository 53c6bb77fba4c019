"""Whatever Django's own tests evaluate is exported as Django gave it."""

import pytest
from django.db.models import Count, F

from tests import processes, services
from tests.django_suite import source
from tests.django_suite.__main__ import main
from tests.django_suite.exports import DifferentError, Way
from tests.django_suite.findings import Difference, grouped
from tests.django_suite.given import Given
from tests.django_suite.refusals import REFUSALS, reason_of
from tests.django_suite.suite import LABELS
from tests.django_suite.ties import group_sizes
from tests.fieldtypes.models import Parent

# Parts with querysets of many kinds; `make oracle` runs all.
SAMPLE = ["aggregation", "custom_managers", "defer", "filtered_relation", "from_db_value", "ordering", "raw_query"]


@pytest.mark.heavy
def test_exports_of_what_djangos_tests_evaluate_are_what_django_gave():
    folder, reason = services.django_suite()
    if folder is None:
        pytest.skip(reason)
    databases = ["sqlite", "postgresql"] if services.postgresql()[0] else ["sqlite"]
    chosen = [option for database in databases for option in ("--database", database)]
    done = processes.run("-m", "tests.django_suite", *chosen, *SAMPLE, timeout=1200)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()


def test_the_sample_is_of_the_labels():
    assert set(SAMPLE) < set(LABELS)


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """No suite in the cache, and no package index."""
    monkeypatch.setattr(source, "CACHE", tmp_path / "cache")
    monkeypatch.setenv("PIP_NO_INDEX", "1")


def test_a_suite_that_cannot_be_downloaded_is_a_reason_to_skip(offline, monkeypatch):
    monkeypatch.delenv("UPSTREAM_REQUIRE_SERVICES", raising=False)
    folder, reason = services.django_suite.__wrapped__()
    assert folder is None
    assert "the source distribution of django==" in reason
    assert list(source.CACHE.iterdir()) == []


def test_it_is_an_error_where_services_are_required(offline, monkeypatch):
    monkeypatch.setenv("UPSTREAM_REQUIRE_SERVICES", "1")
    with pytest.raises(services.MissingServiceError, match="django=="):
        services.django_suite.__wrapped__()


def test_the_command_says_what_is_missing(offline, capsys):
    assert main(["ordering"]) == 2
    assert "cannot be downloaded" in capsys.readouterr().err


def alone():
    return [1] * 2


def together():
    return [2]


class TestTheComparison:
    """A comparison that cannot fail proves nothing."""

    GIVEN = Given(["id", "data"], [(1, {"a": [1.5, None]}), (2, None)], ["", "document"])
    CSV = 'id,data\r\n1,"{""a"": [1.5, null]}"\r\n2,\r\n'
    NDJSON = '{"id":1,"data":{"a":[1.5,null]}}\n{"id":2,"data":null}\n'

    @pytest.mark.parametrize(("name", "text"), [("csv", CSV), ("ndjson", NDJSON)])
    def test_it_takes_what_django_gave(self, name, text):
        Way("text", name, {}).compare(text.encode(), self.GIVEN, alone)

    @pytest.mark.parametrize(
        ("kind", "name", "text"),
        [
            ("cells", "csv", CSV.replace("1.5", "1.50001")),
            ("cells", "csv", CSV.replace("\r\n2,", "\r\n02,")),
            ("cells", "csv", CSV.replace("\r\n2,", "\r\n2,no JSON")),
            ("rows", "csv", CSV.replace("2,\r\n", "")),
            ("rows", "ndjson", NDJSON + '{"id":2,"data":null}\n'),
            ("header", "csv", CSV.replace("id,data", "data,id")),
            ("header", "ndjson", NDJSON.replace('"data"', '"Data"')),
            ("format", "csv", CSV.removesuffix("\r\n")),
            ("format", "csv", CSV + "3\r\n"),
            ("format", "ndjson", NDJSON.removesuffix("\n")),
            ("order", "csv", 'id,data\r\n2,\r\n1,"{""a"": [1.5, null]}"\r\n'),
            ("cells", "ndjson", NDJSON.replace('"id":1', '"id":"1"')),
        ],
    )
    def test_it_finds_what_differs(self, kind, name, text):
        with pytest.raises(DifferentError) as caught:
            Way("text", name, {}).compare(text.encode(), self.GIVEN, alone)
        assert caught.value.kind == kind

    def test_rows_without_an_order_may_come_in_any(self):
        Way("text", "csv", {}).compare(b"id\r\n2\r\n1\r\n", Given(["id"], [(1,), (2,)], [""]), together)

    def test_rows_that_tie_may_come_in_any_order_among_themselves_alone(self):
        given = Given(["id"], [(1,), (2,), (3,)], [""])

        def tied():
            return [2, 1]

        Way("text", "csv", {}).compare(b"id\r\n2\r\n1\r\n3\r\n", given, tied)
        with pytest.raises(DifferentError, match="where Django gave") as caught:
            Way("text", "csv", {}).compare(b"id\r\n1\r\n3\r\n2\r\n", given, tied)
        assert caught.value.kind == "order"

    def test_rows_where_django_gave_none_differ(self):
        with pytest.raises(DifferentError, match="1 rows"):
            Way("text", "csv", {}).compare(b"id\r\n2\r\n", None, together)


class TestTies:
    @pytest.fixture(autouse=True)
    def parents(self, db):
        """Two b, one a, three d; the keys of the d are no neighbours."""
        Parent.objects.bulk_create(Parent(name=name, details={"first": name}) for name in "dbadbd")

    @pytest.mark.parametrize(
        ("queryset", "sizes"),
        [
            (lambda: Parent.objects.order_by("name"), [1, 2, 3]),
            (lambda: Parent.objects.order_by("name").reverse(), [3, 2, 1]),
            (lambda: Parent.objects.order_by(F("name").desc()), [3, 2, 1]),
            (lambda: Parent.objects.order_by("details__first").values("name"), [1, 2, 3]),
            (lambda: Parent.objects.order_by("name", "-pk"), [1] * 6),
            (lambda: Parent.objects.extra(select={"b": "name = 'b'"}, order_by=["-b"]), [2, 4]),
            (Parent.objects.all, [6]),
            (lambda: Parent.objects.raw("SELECT * FROM fieldtypes_parent"), [6]),
        ],
    )
    def test_rows_with_equal_keys_are_a_group(self, queryset, sizes):
        assert group_sizes(queryset(), 6) == sizes

    @pytest.mark.parametrize(
        "queryset",
        [
            lambda: Parent.objects.order_by("name")[1:4],
            lambda: Parent.objects.order_by("name").distinct(),
            lambda: Parent.objects.filter(name="d").union(Parent.objects.all()).order_by("name"),
            lambda: Parent.objects.values("name").annotate(Count("pk")).order_by("name"),
        ],
    )
    def test_where_no_key_can_break_the_ties_each_row_is_a_group(self, queryset):
        found = queryset()
        assert group_sizes(found, len(found)) == [1] * len(found)


def test_half_of_the_columns_stand_elsewhere():
    given = Given(["a", "b", "c", "d"], [(1, 2, 3, 4)], ["", "key", "", "document"])
    assert given.halved() == Given(["d", "b"], [(4, 2)], ["document", "key"])


def test_only_listed_refusals_are_no_differences():
    refused = Difference(kind="refusal", message="this queryset cannot be read in windows because ...", test="a")
    assert reason_of(refused) in REFUSALS.values()
    assert not reason_of(Difference(kind="refusal", message="another", test="a"))
    assert not reason_of(Difference(kind="cells", message=refused.message, test="a"))


def test_what_django_gives_otherwise_itself_is_no_difference():
    random = Difference(kind="cells", message="", test="a", unstable="Django gives other rows")
    assert reason_of(random) == "Django gives other rows"


def test_differences_of_one_cause_are_told_once():
    differences = [Difference(kind="rows", message=f"{count} rows", test="a") for count in range(3)]
    assert [number for number, _ in grouped([*differences, Difference(kind="order", message="", test="b")])] == [
        3,
        1,
    ]
