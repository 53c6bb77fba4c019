"""The JSON API lists what a user may see, exports it, and has a schema that is true."""

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema

from tests.test_models import JANUARY
from upstream.models import AlertEvent, ClaimRecord, Customer, DriftEvent

pytestmark = pytest.mark.django_db

LISTS = ("customers", "claims", "drift-events", "alert-rules", "alert-events", "report-runs")


def rows_of(customer):
    """Give a customer a row of every list."""
    run = customer.report_runs.create(run_type="weekly", period_start=JANUARY, period_end=JANUARY)
    days = dict.fromkeys(["baseline_start", "baseline_end", "current_start", "current_end"], JANUARY)
    values = dict.fromkeys(["baseline_value", "current_value", "delta_value", "severity", "confidence"], 0.5)
    of_run = {
        "report_run": run,
        "customer": customer,
        "payer": f"Payer of {customer}",
        "drift_type": "DENIAL_RATE",
    }
    event = DriftEvent.objects.create(cpt_group="Imaging", **of_run, **days, **values)
    rule = customer.alert_rules.create(name="Severe", threshold_value=0.6)
    AlertEvent.objects.create(customer=customer, alert_rule=rule, drift_event=event)
    ClaimRecord.objects.create(customer=customer, payer="A", cpt="1", submitted_date=JANUARY, outcome="PAID")


@pytest.fixture
def customers():
    made = [Customer.objects.create(name=name) for name in ("Bayview", "Summit")]
    for customer in made:
        rows_of(customer)
    return made


@pytest.fixture
def client_of(customers):
    def client_of(kind):
        client = Client()
        if kind != "anonymous":
            user = get_user_model().objects.create(
                username=kind, is_staff="staff" in kind, is_superuser=kind == "root"
            )
            if kind == "member":
                user.customers.add(customers[0])
            if kind == "staff who views":
                user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
            client.force_login(user)
        return client

    return client_of


def listed(answer):
    return {row.get("customer_name", row.get("name")) for row in answer.json()["results"]}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("root", {"Bayview", "Summit"}),
        ("staff who views", {"Bayview", "Summit"}),
        ("staff", set()),
        ("member", {"Bayview"}),
        ("stranger", set()),
    ],
)
def test_a_list_has_the_rows_that_its_user_may_view(client_of, name, kind, names):
    assert listed(client_of(kind).get(f"/api/{name}/")) == names


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize(
    ("kind", "status", "rows"),
    [
        ("anonymous", 403, 0),
        ("stranger", 403, 0),
        ("staff who views", 403, 0),
        ("member", 200, 1),
        ("root", 200, 2),
    ],
)
def test_an_export_has_the_rows_that_its_user_may_export(client_of, name, kind, status, rows):
    answer = client_of(kind).get(f"/api/{name}/?format=ndjson")
    assert answer.status_code == status
    if status == 200:
        assert len(answer.getvalue().splitlines()) == rows


@pytest.mark.parametrize("name", LISTS)
def test_a_row_of_another_customer_is_not_found(client_of, customers, name):
    member, root = client_of("member"), client_of("root")
    keys = [row["id"] for row in root.get(f"/api/{name}/").json()["results"]]
    assert sorted(member.get(f"/api/{name}/{key}/").status_code for key in keys) == [200, 404]


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_nothing_is_changed_through_it(client_of, name, method):
    assert getattr(client_of("root"), method)(f"/api/{name}/").status_code == 405


@pytest.mark.parametrize("name", LISTS)
def test_a_page_takes_few_queries(client_of, django_assert_max_num_queries, name):
    client = client_of("member")
    for customer in [Customer.objects.create(name=f"Customer {number}") for number in range(20)]:
        rows_of(customer)
        get_user_model().objects.get(username="member").customers.add(customer)
    with django_assert_max_num_queries(4):
        assert len(client.get(f"/api/{name}/").json()["results"]) == 21


def test_pages_are_linked_by_cursors_and_have_each_row_once(client_of):
    client, address, seen = client_of("root"), "/api/drift-events/?page_size=1", []
    while address:
        page = client.get(address).json()
        seen += [row["id"] for row in page["results"]]
        address = page["next"]
    assert seen == sorted(DriftEvent.objects.values_list("pk", flat=True), reverse=True)


def test_filters_choose_rows_of_lists_and_exports(client_of, customers):
    client, key = client_of("root"), customers[1].pk
    assert listed(client.get(f"/api/drift-events/?customer={key}")) == {"Summit"}
    found = client.get(f"/api/drift-events/?customer={key}&format=ndjson&columns=customer_name").getvalue()
    assert found == b'{"customer_name":"Summit"}\n'
    assert listed(client.get("/api/drift-events/?severity__gte=0.51")) == set()
    assert listed(client.get("/api/drift-events/?suppressed=true")) == set()
    assert listed(client.get("/api/drift-events/?suppressed=false")) == {"Bayview", "Summit"}
    assert client.get("/api/drift-events/?severity__gte=high").status_code == 400
    assert client.get("/api/drift-events/?suppressed=perhaps").status_code == 400
    assert client.get("/api/drift-events/?format=csv&columns=secret").status_code == 400


def test_a_filter_does_not_tell_whether_a_customer_exists(client_of, customers):
    client = client_of("member")
    answers = [client.get(f"/api/drift-events/?customer={key}") for key in (customers[1].pk, 999_999)]
    assert [(answer.status_code, answer.json()["results"]) for answer in answers] == [(200, []), (200, [])]


class TestSchema:
    @pytest.fixture
    def schema(self):
        schema = SchemaGenerator().get_schema(request=None, public=True)
        validate_schema(schema)
        return schema

    def lists(self, schema):
        return {path: methods["get"] for path, methods in schema["paths"].items() if not path.endswith("{id}/")}

    def test_it_is_served_to_those_who_are_logged_in_and_valid(self, client_of, schema):
        assert client_of("anonymous").get("/api/schema/").status_code == 403
        assert client_of("stranger").get("/api/schema/").status_code == 200
        assert self.lists(schema).keys() == {f"/api/{name}/" for name in LISTS}

    def test_each_format_that_it_names_is_answered_with_a_media_type_that_it_names(self, client_of, schema):
        client = client_of("root")
        for path, operation in self.lists(schema).items():
            declared = operation["responses"]["200"]["content"].keys()
            [formats] = [one["schema"]["enum"] for one in operation["parameters"] if one["name"] == "format"]
            answers = [client.get(path, {"format": name}) for name in formats]
            assert [answer.status_code for answer in answers] == [200] * len(formats)
            assert {answer["Content-Type"].partition(";")[0] for answer in answers} == {*declared}

    def test_each_parameter_that_it_names_is_looked_at(self, client_of, schema):
        client = client_of("root")
        for path, operation in self.lists(schema).items():
            for parameter in operation["parameters"]:
                name = parameter["name"]
                if name not in ("page_size", "format"):  # REST framework takes any page size, and 404s a format
                    answer = client.get(path, {name: "x", "format": "csv"[: 3 * (name == "columns")]})
                    assert (name, answer.status_code in (400, 404) or not answer.json()["results"]) == (name, True)

    def test_each_row_has_what_it_says(self, client_of, schema):
        client = client_of("root")
        for path, operation in self.lists(schema).items():
            pages = operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].rsplit("/")[-1]
            rows = schema["components"]["schemas"][pages]["properties"]["results"]["items"]["$ref"].rsplit("/")[-1]
            [first, *_] = client.get(path).json()["results"]
            assert first.keys() == schema["components"]["schemas"][rows]["properties"].keys()
