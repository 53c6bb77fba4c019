"""ExportService: a customer's workbooks, and its log of exports."""

import io
import zipfile
from datetime import date, timedelta
from decimal import Decimal

import openpyxl
import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.http import FileResponse

from tests import processes
from tests.drift import END, FOUND, START, drift_event, drift_events, stored
from upstream.exports.services import SPOOL_BYTES, ExportFile, ExportService
from upstream.integrations.choices import ChoiceError
from upstream.models import Customer
from upstream.streaming import ColumnError, stream


@pytest.fixture
def customer(database):
    return Customer.objects.using(database).create(name="Lakeside Orthopedics")


@pytest.fixture
def run(customer):
    return customer.report_runs.create(run_type="weekly", period_start=START, period_end=END, status="success")


@pytest.fixture
def alerts(customer, run):
    """An alert of each of two rules."""
    stored(customer, run, [drift_event(), drift_event(payer="Medicaid", severity=0.3)])
    rules = [customer.alert_rules.create(name=name, threshold_value=0.1) for name in ("Any", "Denials")]
    for at, (rule, event) in enumerate(zip(rules, run.drift_events.order_by("pk"), strict=True)):
        customer.alert_events.create(alert_rule=rule, drift_event=event, triggered_at=FOUND + timedelta(days=at))
    return customer.alert_events


def sheets(file):
    with file:
        workbook = openpyxl.load_workbook(file, data_only=True)
        return {sheet.title: [[cell.value for cell in row] for row in sheet.rows] for sheet in workbook}


def records(file, sheet):
    header, *rows = sheets(file)[sheet]
    return [dict(zip(header, row, strict=True)) for row in rows]


class TestDriftEvents:
    def test_the_costliest_come_first_with_labels_for_people_and_their_total(self, customer, run):
        events = [drift_event(estimated_revenue_impact=impact) for impact in (-5, None, -90, 30)]
        stored(customer, run, events)
        rows = records(ExportService(customer).export_drift_events_excel(run), "Drift events")
        assert [row["Revenue impact (USD)"] for row in rows] == [-90, -5, 30, None, -65]
        assert rows[0]["Drift"] == "Denial rate"
        assert rows[0]["Level"] == "high"
        assert rows[0]["Trend"] == "Worsening"

    def test_headers_are_styled_and_numbers_have_formats(self, customer, run):
        stored(customer, run, [drift_event()])
        with ExportService(customer).export_drift_events_excel(run) as file:
            [sheet] = openpyxl.load_workbook(file)
        cells = {cell.value: cell for cell in sheet[1]}
        assert all(cell.font.bold for cell in cells.values())
        assert sheet.cell(2, cells["Severity"].column).number_format == "0%"
        assert sheet.cell(2, cells["Revenue impact (USD)"].column).number_format == "#,##0.00"

    @pytest.mark.parametrize(
        ("filters", "payers"),
        [
            ({"payer": "b"}, "b"),
            ({"severity_min": 0.5}, "bc"),
            ({"severity_max": "0.2"}, "a"),
            ({"severity_min": 0.1, "severity_max": 0.6}, "ab"),
            ({"suppressed": True}, "c"),
            ({"open": True}, "bc"),
            ({"open": False}, "a"),
            ({"drift_type": "DECISION_TIME"}, "c"),
            ({"trend": "stable"}, "b"),
            ({"cpt_group": "none such"}, ""),
            ({}, "abc"),
        ],
    )
    def test_filters_choose_rows(self, filters, payers, customer, run):
        events = [
            drift_event(payer="a", severity=0.2, acknowledged_at=FOUND),
            drift_event(payer="b", severity=0.5, trend_direction="stable"),
            drift_event(payer="c", severity=0.7, suppressed=True, drift_type="DECISION_TIME"),
        ]
        stored(customer, run, events)
        with ExportService(customer).export_drift_events_excel(run, filters) as file:
            assert file.rows == len(payers)
            found = [row["Payer"] for row in records(file, "Drift events")[:-1]]
        assert sorted(found) == list(payers)

    def test_an_unknown_filter_is_refused_with_those_there_are(self, customer, run):
        with pytest.raises(ChoiceError, match="'severity'; choose from: payer, cpt_group, drift_type, trend, sev"):
            ExportService(customer).export_drift_events_excel(run, {"severity": 1})

    @pytest.mark.parametrize("value", ["high", None, [0.5], float("nan")])
    def test_a_value_that_the_field_cannot_take_is_refused(self, value, customer, run):
        with pytest.raises(ColumnError, match="filter severity_min="):
            ExportService(customer).export_drift_events_excel(run, {"severity_min": value})

    def test_filters_that_are_no_mapping_are_refused(self, customer, run):
        with pytest.raises(ColumnError, match="mapping"):
            ExportService(customer).export_drift_events_excel(run, ["payer"])

    def test_the_run_of_another_customer_is_refused(self, customer, run, database):
        other = ExportService(Customer.objects.using(database).create(name="Other"))
        for export in (other.export_drift_events_excel, other.export_weekly_summary_excel):
            with pytest.raises(ValueError, match="is not one of Other"):
                export(run)


class TestAlertEvents:
    def test_the_newest_come_first_with_their_rule_and_drift(self, customer, alerts):
        rows = records(ExportService(customer).export_alert_events_excel(), "Alerts")
        assert [(row["Rule"], row["Payer"], row["Status"]) for row in rows] == [
            ("Denials", "Medicaid", "Pending"),
            ("Any", "Medicare", "Pending"),
        ]

    @pytest.mark.parametrize(
        ("filters", "rules"),
        [
            ({"rule": "Any"}, ["Any"]),
            ({"payer": "Medicaid"}, ["Denials"]),
            ({"severity_min": 0.5}, ["Any"]),
            ({"status": "sent"}, []),
            ({"from": FOUND + timedelta(hours=1)}, ["Denials"]),
            ({"until": FOUND.date() + timedelta(days=1)}, ["Any"]),
        ],
    )
    def test_filters_choose_rows(self, filters, rules, customer, alerts):
        found = records(ExportService(customer).export_alert_events_excel(filters), "Alerts")
        assert [row["Rule"] for row in found] == rules

    def test_alerts_of_other_customers_are_not_there(self, customer, alerts, database):
        other = Customer.objects.using(database).create(name="Other")
        assert records(ExportService(other).export_alert_events_excel(), "Alerts") == []


class TestWeeklySummary:
    def test_it_has_a_summary_the_sums_and_every_event(self, customer, run):
        stored(customer, run, [*drift_events(40), drift_event(suppressed=True)])
        found = sheets(ExportService(customer).export_weekly_summary_excel(run))
        assert list(found) == ["Summary", "Payers", "Kinds of drift", "Severity", "Weeks", "Details"]
        summary = dict(found["Summary"])
        assert summary["Customer"] == "Lakeside Orthopedics"
        assert summary["Period"] == "Nov 16 to 22, 2026"
        assert summary["Events"] + summary["Suppressed events"] == len(found["Details"]) - 1 == 41
        assert sum(row[1] for row in found["Payers"][1:]) == summary["Events"]

    def test_a_run_without_drift_has_a_workbook_too(self, customer, run):
        found = sheets(ExportService(customer).export_weekly_summary_excel(run))
        assert dict(found["Summary"])["Events"] == 0
        assert len(found["Details"]) == 1


class TestFile:
    def test_it_is_a_rewound_binary_file_that_any_reader_takes(self, customer, run):
        with ExportService(customer).export_drift_events_excel(run) as file:
            assert isinstance(file, io.IOBase)
            assert file.readable()
            assert file.seekable()
            assert file.tell() == 0
            assert zipfile.ZipFile(file).testzip() is None
            file.seek(0)
            assert b"".join(FileResponse(file, filename="x.xlsx")).startswith(b"PK")

    @pytest.mark.parametrize(("size", "is_on_disk"), [(SPOOL_BYTES - 100, False), (SPOOL_BYTES + 100, True)])
    def test_past_a_mebibyte_it_is_on_disk(self, size, is_on_disk):
        with ExportFile(stream([{"x": "a" * size}])) as file:
            assert file._rolled is is_on_disk
            assert file.rows == 1
            assert len(file.read()) == size + len("x\r\n\r\n")

    def test_it_is_closed_if_the_export_fails(self):
        def rows():
            yield {"x": 1}
            raise LookupError("gone")

        with pytest.raises(LookupError, match="gone"):
            ExportFile(stream(rows()))

    @pytest.mark.heavy
    def test_a_workbook_needs_no_more_memory_for_ten_times_the_events(self, tmp_path):
        code = f"""
import sys, django
from django.conf import settings
database = {{"ENGINE": "django.db.backends.sqlite3", "NAME": {str(tmp_path)!r} + "/" + sys.argv[1]}}
apps = ["django.contrib.contenttypes", "django.contrib.auth", "upstream"]
settings.configure(INSTALLED_APPS=apps, USE_TZ=True, DATABASES={{"default": database}})
django.setup()
from django.core.management import call_command
from benchmarks.memory import peak_bytes
from tests.drift import END, START, drift_events, stored
from upstream.exports.services import ExportService
from upstream.models import Customer
if sys.argv[2] == "fill":
    call_command("migrate", verbosity=0)
    customer = Customer.objects.create(name="a")
    run = customer.report_runs.create(run_type="weekly", period_start=START, period_end=END)
    for seed in range(int(sys.argv[1]) // 2000):
        stored(customer, run, drift_events(2000, seed))
else:
    customer = Customer.objects.get()
    with ExportService(customer).export_drift_events_excel(customer.report_runs.get()) as file:
        assert file.rows == int(sys.argv[1])
    print(peak_bytes())
"""
        peaks = []
        for rows in ("6000", "60000"):
            processes.printed(code, rows, "fill", timeout=600)
            peaks.append(int(processes.printed(code, rows, "export", timeout=600)))
        assert peaks[1] - peaks[0] < 8 * 1024 * 1024


class TestLog:
    def test_an_export_is_logged_with_who_made_it(self, db):
        customer, user = Customer.objects.create(name="a"), User.objects.create(username="ann")
        entry = ExportService(customer).log_export(user, "drift_events", 25)
        assert [entry] == list(customer.export_logs.all())
        assert (entry.user, entry.export_type, entry.record_count) == (user, "drift_events", 25)

    @pytest.mark.parametrize("user", [None, AnonymousUser()])
    def test_nobody_is_logged_as_nobody(self, user, db):
        assert ExportService(Customer.objects.create(name="a")).log_export(user, "alerts", 0).user is None

    def test_a_count_below_zero_is_refused(self, db):
        with pytest.raises(ValueError, match="-1"):
            ExportService(Customer.objects.create(name="a")).log_export(None, "alerts", -1)


def test_a_decimal_is_a_value_of_a_filter(customer, run):
    stored(customer, run, [drift_event(severity=severity) for severity in (0.2, 0.5, 0.9)])
    with ExportService(customer).export_drift_events_excel(run, {"severity_min": Decimal("0.5")}) as file:
        assert file.rows == 2


def test_dates_and_moments_are_values_of_filters(customer, run):
    stored(customer, run, [drift_event()])
    export = ExportService(customer).export_alert_events_excel
    with export({"from": date(2026, 1, 1), "until": "2026-12-31"}) as file:
        assert file.rows == 0
