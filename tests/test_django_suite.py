"""Whatever Django's own tests evaluate is exported as Django gave it."""

import pytest

from tests import processes, services
from tests.django_suite import source
from tests.django_suite.__main__ import main
from tests.django_suite.exports import DifferentError, Way
from tests.django_suite.findings import Difference, grouped
from tests.django_suite.given import Given
from tests.django_suite.refusals import REFUSALS, reason_of
from tests.django_suite.suite import LABELS

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


class TestTheComparison:
    """A comparison that cannot fail proves nothing."""

    GIVEN = Given(["id", "data"], [(1, {"a": [1.5, None]}), (2, None)], ["", "document"])
    CSV = 'id,data\r\n1,"{""a"": [1.5, null]}"\r\n2,\r\n'
    NDJSON = '{"id":1,"data":{"a":[1.5,null]}}\n{"id":2,"data":null}\n'

    @pytest.mark.parametrize(("name", "text"), [("csv", CSV), ("ndjson", NDJSON)])
    def test_it_takes_what_django_gave(self, name, text):
        Way("text", name, {}).compare(text.encode(), self.GIVEN, ordered=True)

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
            Way("text", name, {}).compare(text.encode(), self.GIVEN, ordered=True)
        assert caught.value.kind == kind

    def test_rows_without_an_order_may_come_in_any(self):
        Way("text", "csv", {}).compare(b"id\r\n2\r\n1\r\n", Given(["id"], [(1,), (2,)], [""]), ordered=False)

    def test_rows_where_django_gave_none_differ(self):
        with pytest.raises(DifferentError, match="1 rows"):
            Way("text", "csv", {}).compare(b"id\r\n2\r\n", None, ordered=False)


def test_half_of_the_columns_stand_elsewhere():
    given = Given(["a", "b", "c", "d"], [(1, 2, 3, 4)], ["", "key", "", "document"])
    assert given.halved() == Given(["d", "b"], [(4, 2)], ["document", "key"])


def test_only_listed_refusals_are_no_differences():
    refused = Difference(kind="refusal", message="this queryset cannot be read in windows because ...", test="a")
    assert reason_of(refused) in REFUSALS.values()
    assert not reason_of(Difference(kind="refusal", message="another", test="a"))
    assert not reason_of(Difference(kind="cells", message=refused.message, test="a"))


def test_differences_of_one_cause_are_told_once():
    differences = [Difference(kind="rows", message=f"{count} rows", test="a") for count in range(3)]
    assert [number for number, _ in grouped([*differences, Difference(kind="order", message="", test="b")])] == [
        3,
        1,
    ]
