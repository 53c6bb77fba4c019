"""ReportGenerationService: facts of drift, in words and drawings, as pages and workbooks."""

import csv
import doctest
import io
import json
import os
import re
from datetime import date, timedelta
from decimal import Decimal
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import openpyxl
import pypdf
import pypdfium2
import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests import processes
from tests.drift import END, FOUND, START, drift_event, drift_events, stored
from upstream import models
from upstream.reporting import charts, facts, pages, reports, wording
from upstream.services import ReportGenerationService, report_generation
from upstream.streaming import SourceError

generate = {
    "payer_summary": ReportGenerationService.generate_payer_summary,
    "drift": ReportGenerationService.generate_drift_report,
    "recovery": ReportGenerationService.generate_recovery_stats,
}
FORMATS = ("pdf", "xlsx", "csv", "json")
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def run(database):
    customer = models.Customer.objects.using(database).create(name="Lakeside Orthopedics")
    return customer.report_runs.create(run_type="weekly", period_start=START, period_end=END, status="success")


def report_of(events, kind="drift", **options):
    return generate[kind](events, customer="Lakeside Orthopedics", period_start=START, period_end=END, **options)


def text_of(pdf):
    return " ".join("\n".join(page.extract_text() for page in pypdf.PdfReader(pdf).pages).split())


class TestFacts:
    @pytest.mark.parametrize("kind", generate)
    def test_a_queryset_gives_the_report_of_its_rows(self, kind, run):
        rows = stored(run.customer, run, drift_events(400))
        assert generate[kind](rows) == generate[kind](rows.values()) == generate[kind](iter(rows))

    def test_a_slice_a_union_and_a_distinct_queryset_count_the_rows_that_they_have(self, run):
        rows = stored(run.customer, run, drift_events(30))
        for queryset in (rows[:7], rows.order_by().union(rows.order_by()), rows.distinct()):
            assert report_of(queryset)["totals"] == report_of(iter(queryset))["totals"]

    def test_a_queryset_is_read_by_two_statements(self, run, database):
        rows = stored(run.customer, run, drift_events(50))
        with CaptureQueriesContext(connections[database]) as queries:
            report_of(rows)
        assert len(queries) == 2

    def test_revenue_at_risk_is_what_impacts_below_zero_add_up_to(self):
        impacts = [Decimal("-10.25"), Decimal("-0.75"), Decimal("4.50"), None]
        report = report_of(drift_event(estimated_revenue_impact=impact) for impact in impacts)
        assert report["totals"]["revenue_at_risk"] == Decimal("11.00")
        assert report["totals"]["revenue_gained"] == Decimal("4.50")

    def test_suppressed_events_are_counted_and_in_nothing_else(self):
        report = report_of([drift_event(), drift_event(payer="Medicaid", suppressed=True)])
        assert report["totals"]["suppressed"] == 1
        assert report["totals"]["events"] == 1
        assert [row["payer"] for row in report["payers"]] == ["Medicare"]
        assert [event["payer"] for event in report["events"]] == ["Medicare"]

    def test_payers_come_with_the_most_revenue_at_risk_first_and_the_rest_is_counted(self):
        impacts = {"a": -5, "b": -50, "c": 100, "d": -20}
        events = [
            drift_event(payer=payer, estimated_revenue_impact=Decimal(impact)) for payer, impact in impacts.items()
        ]
        report = report_of(events, "payer_summary", most_payers=3)
        assert [row["payer"] for row in report["payers"]] == ["b", "d", "a"]
        assert report["more_payers"] == 1

    def test_events_come_with_the_costliest_first_and_the_rest_is_counted(self):
        events = [drift_event(estimated_revenue_impact=Decimal(-number)) for number in (3, 9, 1, 7)]
        report = report_of(events, most_events=2)
        assert [event["estimated_revenue_impact"] for event in report["events"]] == [-9, -7]
        assert report["more_events"] == 2

    def test_there_are_twelve_weeks_with_the_empty_ones_up_to_the_last_day(self):
        ends = [END, END, END - timedelta(weeks=3), END - timedelta(weeks=40)]
        weeks = report_of(drift_event(current_end=end) for end in ends)["weeks"]
        assert [week["week"] for week in weeks] == [START - timedelta(weeks=back) for back in range(11, -1, -1)]
        assert [week["events"] for week in weeks] == [0] * 8 + [1, 0, 0, 2]

    def test_the_weeks_are_those_of_the_history_if_it_is_given(self):
        history = [drift_event(current_end=END - timedelta(weeks=back)) for back in (0, 1)]
        report = report_of([drift_event()], history=iter(history))
        assert [week["events"] for week in report["weeks"]][-2:] == [1, 1]
        assert report["totals"]["events"] == 1

    def test_the_last_week_is_that_of_the_period_however_quiet(self):
        history = [
            drift_event(current_end=END - timedelta(weeks=back), estimated_revenue_impact=Decimal(-back))
            for back in (1, 2, 5)
        ]
        report = report_of([], history=history)
        assert [week["week"] for week in report["weeks"]][-2:] == [START - timedelta(weeks=1), START]
        assert [week["revenue_at_risk"] for week in report["weeks"]][-6:] == [5, 0, 0, 2, 1, 0]
        assert "$1 less than the week before" in pages.page_html(report)

    @pytest.mark.parametrize("impact", ["abc", float("nan"), float("inf"), Decimal("sNaN"), 10**40])
    def test_an_impact_that_is_no_amount_is_named(self, impact):
        with pytest.raises(SourceError, match="the estimated_revenue_impact of drift event 2 is no amount"):
            report_of([drift_event(), drift_event(estimated_revenue_impact=impact)])

    def test_recovery_tells_what_is_open_and_how_soon_events_were_acknowledged(self):
        events = [
            drift_event(acknowledged_at=FOUND + timedelta(hours=3)),
            drift_event(acknowledged_at=FOUND + timedelta(hours=4), estimated_revenue_impact=Decimal(-1)),
            drift_event(estimated_revenue_impact=Decimal(-580)),
            drift_event(estimated_revenue_impact=Decimal(28_666), trend_direction="improving"),
        ]
        totals = report_of(events, "recovery")["totals"]
        assert totals["acknowledged_at_risk"] == 85_420
        assert totals["open_at_risk"] == 580
        assert totals["acknowledged_share"] == 0.5
        assert totals["hours_to_acknowledge"] == 3.5
        assert totals["recovered_share"] == 0.25

    @pytest.mark.parametrize("kind", generate)
    def test_no_events_are_a_report_too(self, kind):
        assert report_of([], kind)["totals"]["events"] == 0

    def test_plain_objects_are_events_too(self):
        events = list(drift_events(20))
        assert report_of(SimpleNamespace(**event) for event in events) == report_of(events)

    @pytest.mark.parametrize("kind", generate)
    def test_an_iterable_is_read_once_in_flat_memory(self, kind):
        code = f"""
from benchmarks.memory import peak_bytes
from tests.drift import drift_events
from upstream.services import ReportGenerationService as Service
Service.{generate[kind].__name__}(drift_events(__ROWS__))
print(peak_bytes())
"""
        few, many = (int(processes.printed(code.replace("__ROWS__", rows))) for rows in ("1000", "30000"))
        assert many - few < 2 * 1024 * 1024

    @pytest.mark.parametrize("events", [{"payer": "a"}, "text", 3, None])
    def test_what_is_no_list_of_events_is_refused(self, events):
        with pytest.raises(SourceError, match="queryset or an iterable"):
            report_of(events)

    def test_an_event_that_lacks_a_needed_field_is_named(self):
        with pytest.raises(SourceError, match=r"drift event 2 lacks payer, severity"):
            report_of([drift_event(), drift_event(payer=None, severity=None)])

    def test_a_period_that_ends_before_it_starts_is_refused(self):
        with pytest.raises(ValueError, match="before it starts"):
            generate["drift"]([], period_start=END, period_end=START)


class TestWording:
    def test_labels_and_trends_are_those_of_the_model(self):
        assert {name: kind.label for name, kind in wording.DRIFT_TYPES.items()} == dict(models.DriftType.choices)

    @pytest.mark.parametrize(("severity", "level"), [(0, "low"), (0.2499, "low"), (0.25, "medium"), (0.5, "high")])
    def test_levels_begin_at_a_quarter_and_a_half(self, severity, level):
        assert wording.level(severity) == level

    def test_falls_have_a_minus_sign_and_what_rounds_to_zero_has_none(self):
        assert wording.change("DENIAL_RATE", 0.3, 0.2) == "30.0 % to 20.0 %, \N{MINUS SIGN}10.0 points"
        assert wording.dollars(-1200) == "\N{MINUS SIGN}$1,200"
        assert wording.percent(-0.0001) == "0.0 %"

    @pytest.mark.parametrize("module", [wording, charts, report_generation])
    def test_examples_are_true(self, module):
        names = {"date": date, "Decimal": Decimal}
        assert doctest.testmod(module, extraglobs=names).failed == 0


class TestCharts:
    @pytest.fixture
    def report(self):
        return report_of(drift_events(300))

    @pytest.fixture(params=["weeks", "severity", "payers"])
    def draw(self, request):
        drawn = {
            "weeks": charts.drift_by_week,
            "severity": charts.severity_distribution,
            "payers": charts.top_payers,
        }
        return lambda report, **options: drawn[request.param](report[request.param], **options)

    def test_the_same_data_give_the_same_bytes_in_another_process(self, draw, report):
        assert draw(report) == draw(report)
        code = """
from tests.drift import drift_events
from upstream.reporting import charts, reports
print(charts.top_payers(reports.drift_report(drift_events(300))["payers"]))
"""
        assert processes.printed(code).strip() == charts.top_payers(report["payers"])

    def test_it_is_named_and_described_in_words(self, draw, report):
        root = ET.fromstring(draw(report))
        [title], [description] = root.findall(f"{SVG}title"), root.findall(f"{SVG}desc")
        assert root.get("role") == "img"
        assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
        assert title.text
        assert "$" in description.text

    def test_it_uses_the_colours_of_one_palette(self, draw, report):
        found = set(re.findall(r"#[0-9a-f]{6}\b|#[0-9a-f]{3}\b", draw(report), re.IGNORECASE))
        assert found <= set(vars(charts.PRINT).values())

    def test_the_colours_of_pages_follow_their_style_sheet(self, draw, report):
        red = charts.Palette(accent="#ff0001", high="#ff0001")
        assert "#ff0001" in draw(report, palette=red)

    def test_it_fetches_nothing_and_runs_nothing(self, draw, report):
        svg = draw(report)
        assert "<script" not in svg
        assert not re.search(r"(href|url\()", svg)

    def test_of_nothing_it_is_a_chart_that_says_so(self, draw):
        assert "There is nothing to show." in draw({"weeks": [], "severity": [], "payers": []})

    @given(st.text(st.characters(), max_size=300))
    @example("\x00\x07\x1b\ufffe\ud800")
    @example("x" * 100_000)
    @settings(max_examples=40)
    def test_any_name_is_drawn(self, name):
        ET.fromstring(charts.top_payers([{"payer": name, "events": 1, "revenue_at_risk": Decimal(5)}]))

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
    def test_a_process_that_was_forked_after_a_drawing_gets_an_error_and_does_not_hang(self):
        code = """
import os
from upstream.reporting import charts
charts.top_payers([])
child = os.fork()
if not child:
    try:
        charts.top_payers([])
    except Exception as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""
        assert "spawned" in processes.printed(code, timeout=30)

    def test_more_than_a_thousand_bars_have_each_its_own_name(self):
        names = [f"Payer {number}." for number in range(1_011)]
        svg = charts.top_payers([{"payer": name, "events": 1, "revenue_at_risk": Decimal(5)} for name in names])
        shown = [node.text for node in ET.fromstring(svg).iter(f"{SVG}text")]
        assert [text for text in shown if text.startswith("Payer")] == names
        assert "name1" not in svg

    def test_names_of_payers_are_text_and_nothing_else(self):
        name = '<script>alert(1)</script> & "co" \' \u0000\u0007 {{ x }} datum.value'
        row = {"payer": name, "events": 1, "revenue_at_risk": Decimal(5)}
        svg = charts.top_payers([row])
        assert "<script" not in svg
        assert "alert(1)" in "".join(ET.fromstring(svg).itertext())


class TestFormats:
    @pytest.mark.parametrize("method", ["format_report_for_export", "render_report"])
    def test_an_unknown_format_is_refused_with_those_there_are(self, method):
        with pytest.raises(ValueError, match="'docx'; choose from: pdf, xlsx, csv, json"):
            getattr(ReportGenerationService, method)(report_of([]), "docx")

    def test_an_unknown_paper_is_refused_with_those_there_are(self):
        with pytest.raises(ValueError, match="'A5'; choose from: Letter, A4"):
            ReportGenerationService.format_report_for_export(report_of([]), paper="A5")

    @pytest.mark.parametrize("report", [{}, {"kind": "x"}, [], None])
    def test_what_is_no_report_is_refused(self, report):
        with pytest.raises(ValueError, match="payer_summary"):
            ReportGenerationService.format_report_for_export(report)

    @pytest.mark.parametrize("export_format", FORMATS)
    @pytest.mark.parametrize("kind", generate)
    @pytest.mark.parametrize("number", [0, 60])
    def test_each_report_is_rendered_in_each_format(self, number, kind, export_format):
        report = report_of(drift_events(number), kind)
        data = ReportGenerationService.render_report(report, export_format).getvalue()
        if export_format == "json":
            assert json.loads(data)["totals"]["events"] == report["totals"]["events"]
        elif export_format == "csv":
            listed = report["events"] if kind == "drift" else report["payers"]
            assert len(list(csv.DictReader(io.StringIO(data.decode())))) == len(listed)
        elif export_format == "xlsx":
            assert openpyxl.load_workbook(io.BytesIO(data)).sheetnames[0] == "Summary"
        else:
            assert text_of(io.BytesIO(data)).count("Lakeside Orthopedics") > 1

    def test_the_workbook_has_a_sheet_for_each_list(self):
        data = ReportGenerationService.render_report(report_of(drift_events(60)), "xlsx")
        workbook = openpyxl.load_workbook(data)
        assert workbook.sheetnames == ["Summary", "Payers", "Kinds of drift", "Severity", "Weeks", "Events"]
        assert workbook["Payers"]["E2"].number_format == "#,##0.00"
        assert workbook["Payers"]["A1"].font.bold

    def test_the_workbook_leaves_empty_what_plain_dicts_lack(self):
        event = {name: drift_event()[name] for name in facts.NEEDED}
        data = ReportGenerationService.render_report(report_of([event]), "xlsx")
        header, row = openpyxl.load_workbook(data)["Events"].iter_rows(values_only=True)
        found = dict(zip(header, row, strict=True))
        assert (found["Payer"], found["Trend"], found["p-value"]) == ("Medicare", None, None)

    def test_the_same_report_gives_the_same_pdf(self):
        report = report_of(drift_events(60))
        first, second = (ReportGenerationService.render_report(report).getvalue() for _ in range(2))
        assert first == second


class TestPage:
    def test_numbers_are_words_and_never_raw_floats(self):
        text = text_of(ReportGenerationService.render_report(report_of([drift_event()])))
        assert "17.2 % to 26.9 %, +9.6 points" in text
        assert "$85,419 at risk" in text
        assert "1,204 claims against 14,332" in text
        assert "Nov 16 to 22, 2026" in text
        assert not re.search(r"\d\.\d{3}", text.replace("p < 0.001", ""))

    @pytest.mark.parametrize("kind", ["payer_summary", "drift"])
    def test_an_average_severity_is_a_percentage_as_the_footnote_and_the_workbook_have_it(self, kind):
        words = pages.page_words(report_of([drift_event(severity=0.41), drift_event(severity=0.62)], kind))
        [table] = [section for section in words["sections"] if section.get("rows")]
        [(*_, (column, cell))] = [list(zip(table["columns"], row, strict=True)) for row in table["rows"]]
        assert (column["label"], cell["text"]) == ("Average severity", "51.5 %")
        assert "Severity from 50 % on is high, from 25 % on medium." in words["footnotes"]

    def test_text_is_escaped(self):
        nasty = "<script>alert('x')</script>{{ settings }}&"
        cause = {"cause": nasty, "note": nasty}
        event = drift_event(payer=nasty, cpt_group=nasty, potential_root_causes=[cause, nasty])
        html = pages.page_html(reports.drift_report([event], customer=nasty))
        assert "<script" not in html
        assert html.count("&lt;script&gt;") > 5

    def test_it_needs_no_other_file(self):
        html = pages.page_html(report_of(drift_events(30)))
        assert not re.search(r"<link|<img|src=|@import|url\(", html)

    def test_a_run_of_any_size_is_a_few_pages_that_say_how_many_more_there_are(self):
        pdf = ReportGenerationService.render_report(report_of(drift_events(5_000)))
        text = text_of(pdf)
        assert len(pypdf.PdfReader(pdf).pages) <= 5
        shown = report_of(drift_events(5_000))
        assert f"And {shown['totals']['events'] - 20:,} more events" in text
        assert "And 2 more payers" in text

    @pytest.mark.parametrize(("paper", "size"), [("Letter", (612, 792)), ("A4", (595, 842))])
    def test_paper_is_letter_or_a4_and_nothing_runs_over_its_edge(self, paper, size):
        long = "Blue Cross of the Extraordinarily Long-Named Counties and Municipalities, Inc. " * 2
        report = report_of([drift_event(payer=long, cpt_group=long), *drift_events(30)])
        pdf = pypdfium2.PdfDocument(ReportGenerationService.render_report(report, paper=paper).getvalue())
        for page in pdf:
            assert tuple(map(round, page.get_size())) == size
            pixels = page.render(scale=1).to_pil().convert("L")
            right = pixels.crop((pixels.width - 30, 0, pixels.width, pixels.height))
            assert right.getextrema() == (255, 255)

    @pytest.mark.parametrize("kind", generate)
    def test_it_is_made_with_no_settings_configured(self, kind):
        code = f"""
from tests.drift import drift_events
from upstream.services import ReportGenerationService as Service
report = Service.{generate[kind].__name__}(drift_events(30), customer="Nobody's")
print(Service.format_report_for_export(report)[:15])
assert Service.render_report(report).read(5) == b"%PDF-"
"""
        assert processes.printed(code) == "<!doctype html>\n"

    def test_without_the_library_of_charts_the_error_names_the_extra(self):
        code = """
import sys
sys.modules["vl_convert"] = None
from tests.drift import drift_events
from upstream.services import ReportGenerationService as Service
Service.format_report_for_export(Service.generate_payer_summary(drift_events(3)))
"""
        result = processes.run("-c", code)
        assert b"pip install 'upstream[reports]'" in result.stderr
