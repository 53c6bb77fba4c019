"""The page of the Upstream application and the downloads it links."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from upstream.models import AlertEvent, DriftEvent, DriftType
from upstream.views import COLUMNS

pytestmark = pytest.mark.django_db

DOWNLOADS = {
    "csv": "text/csv",
    "json": "application/json",
    "ndjson": "application/x-ndjson",
}
ROWS = 1100


@pytest.fixture
def seeded() -> None:
    call_command("seed_demo", rows=ROWS, stdout=io.StringIO())


def body(response: Any) -> bytes:
    return b"".join(response.streaming_content)


def expected() -> Iterator[dict[str, Any]]:
    yield from DriftEvent.objects.order_by("pk").values(*COLUMNS)


def as_json(row: dict[str, Any]) -> dict[str, Any]:
    impact = row["estimated_revenue_impact"]
    dates = {name: value.isoformat() for name, value in row.items() if hasattr(value, "isoformat")}
    return row | dates | {"estimated_revenue_impact": None if impact is None else str(impact)}


def as_cell(name: str, value: Any) -> Any:
    if name == "potential_root_causes":
        return value
    return "" if value is None else str(value)


@pytest.mark.usefixtures("seeded")
def test_page_shows_how_many_rows_each_table_holds(client: Client) -> None:
    page = client.get("/").content.decode()
    alerts = AlertEvent.objects.count()
    for label, count in {
        "Customers": "2",
        "Report runs": "46",
        "Drift events": "1,100",
        "Alert rules": "6",
        "Alert events": f"{alerts:,}",
    }.items():
        assert f'<dt>{label}</dt><dd class="number">{count}</dd>' in page


@pytest.mark.usefixtures("seeded")
def test_page_shows_events_by_drift_type_most_frequent_first(client: Client) -> None:
    rows = client.get("/").context["drift_types"]
    counts = [row["count"] for row in rows]
    assert sum(counts) == ROWS
    assert counts == sorted(counts, reverse=True)
    assert {row["label"] for row in rows} == set(DriftType.labels)
    assert rows[0]["percent"] == 100


@pytest.mark.usefixtures("seeded")
def test_page_shows_the_newest_event_escaped(client: Client) -> None:
    newest = DriftEvent.objects.latest()
    DriftEvent.objects.filter(pk=newest.pk).update(payer="<script>alert(1)</script>")
    page = client.get("/").content.decode()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script" not in page


@pytest.mark.usefixtures("seeded")
def test_page_links_every_download(client: Client) -> None:
    page = client.get("/").content.decode()
    for name in DOWNLOADS:
        assert f'href="/drift-events/?format={name}"' in page


@pytest.mark.usefixtures("seeded")
def test_page_takes_as_many_queries_for_any_number_of_rows(client: Client) -> None:
    with CaptureQueriesContext(connection) as queries:
        client.get("/")
    assert len(queries) == 7


def test_page_loads_nothing_from_elsewhere(client: Client) -> None:
    page = client.get("/").content.decode()
    assert "http:" not in page
    assert "https:" not in page
    assert "<script" not in page


def test_empty_database_says_how_to_fill_it(client: Client) -> None:
    page = client.get("/").content.decode()
    assert "python manage.py seed_demo --rows" in page
    assert "drift-events" not in page


@pytest.mark.usefixtures("seeded")
def test_csv_download_holds_every_event(client: Client) -> None:
    text = body(client.get("/drift-events/?format=csv")).decode()
    header, *rows = csv.reader(io.StringIO(text, newline=""))
    assert header == COLUMNS
    causes = COLUMNS.index("potential_root_causes")
    for row in rows:
        row[causes] = json.loads(row[causes])
    assert rows == [[as_cell(name, value) for name, value in event.items()] for event in expected()]


@pytest.mark.usefixtures("seeded")
def test_json_download_holds_every_event(client: Client) -> None:
    assert json.loads(body(client.get("/drift-events/?format=json"))) == [as_json(event) for event in expected()]


@pytest.mark.usefixtures("seeded")
def test_ndjson_download_holds_every_event(client: Client) -> None:
    lines = body(client.get("/drift-events/?format=ndjson")).splitlines()
    assert [json.loads(line) for line in lines] == [as_json(event) for event in expected()]


@pytest.mark.parametrize("suffix", DOWNLOADS)
def test_download_of_an_empty_table_is_still_a_document(client: Client, suffix: str) -> None:
    content = body(client.get(f"/drift-events/?format={suffix}")).decode().strip()
    assert content == {"csv": ",".join(COLUMNS), "json": "[]", "ndjson": ""}[suffix]


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize(("suffix", "content_type"), DOWNLOADS.items())
def test_download_streams_as_an_attachment_of_its_type(client: Client, suffix: str, content_type: str) -> None:
    response = client.get(f"/drift-events/?format={suffix}")
    assert response.streaming
    assert response.headers["Content-Type"].split(";")[0] == content_type
    assert response.headers["Content-Disposition"] == f'attachment; filename="drift_events.{suffix}"'
    response.close()


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize("suffix", DOWNLOADS)
def test_head_answers_the_same_headers_without_a_query(client: Client, suffix: str) -> None:
    url = f"/drift-events/?format={suffix}"
    response = client.get(url)
    response.close()
    with CaptureQueriesContext(connection) as queries:
        head = client.head(url)
    assert head.headers == response.headers
    assert not [query for query in queries if "upstream_driftevent" in query["sql"]]
    assert head.getvalue() == b""


@pytest.mark.parametrize("url", ["/", "/drift-events/?format=csv"])
def test_only_reading_is_allowed(client: Client, url: str) -> None:
    assert client.post(url).status_code == 405


def test_unknown_format_is_an_error_that_lists_the_known(client: Client) -> None:
    response = client.get("/drift-events/?format=exe")
    assert response.status_code == 400
    assert b"csv, tsv, json, ndjson, xlsx" in response.content


@pytest.mark.usefixtures("seeded")
def test_download_can_be_filtered_and_ordered(client: Client) -> None:
    response = client.get("/drift-events/?format=ndjson&severe=0.5&drift_type=DENIAL_RATE&order_by=-severity,id")
    events = DriftEvent.objects.filter(severity__gte=0.5, drift_type="DENIAL_RATE").order_by("-severity", "id")
    assert [json.loads(line)["id"] for line in body(response).splitlines()] == [event.pk for event in events]
    assert 0 < len(events) < ROWS
