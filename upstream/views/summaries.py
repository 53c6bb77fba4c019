"""Reports of a customer's drift in a period, as pages and as files: its payers, and what became of the drift."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlencode

from django.core.exceptions import PermissionDenied
from django.http import FileResponse, Http404, HttpRequest, HttpResponseBase
from django.urls import reverse
from django.views.generic import View

from upstream import access
from upstream.exports.services import ExportService
from upstream.forms import PeriodForm
from upstream.integrations.downloads import refusal
from upstream.integrations.formats import FORMATS, Format
from upstream.models import Customer, DriftEvent
from upstream.reporting.pages import page_words
from upstream.services import ReportGenerationService
from upstream.views import charts
from upstream.views.exports import Offer
from upstream.views.pages import OfCustomer, Page

Report = dict[str, Any]

# Payers in the chart and in the table of a page. A PDF has more, and a workbook all.
DRAWN_PAYERS = 10
LISTED_PAYERS = 50
PRINTED_PAYERS = 500
# What HTML and its charts become a PDF with: the extra `reports`.
PRINTERS = ("weasyprint", "vl_convert")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A report: how it is made of drift events, where its file is, and what the bars of its chart are made of."""

    title: str
    make: Callable[..., Report]
    export: str
    # For each part of a bar its amount in the report and the word for it.
    parts: dict[str, str]
    # For each format the size of a file without payers, and of each payer in it: measured with 1 to 500 payers.
    file_bytes: dict[str, tuple[int, int]]


PAYERS = Kind(
    title="Payers",
    make=ReportGenerationService.generate_payer_summary,
    export="payers_export",
    parts={"revenue_at_risk": "At risk"},
    file_bytes={"pdf": (20_000, 115), "xlsx": (5_100, 36)},
)
RECOVERY = Kind(
    title="Recovery",
    make=ReportGenerationService.generate_recovery_stats,
    export="recovery_export",
    parts={"open_at_risk": "Still open", "acknowledged_at_risk": "Acknowledged"},
    file_bytes={"pdf": (12_000, 118), "xlsx": (5_500, 62)},
)


class Summary(OfCustomer):
    """What the page and the file of a report share; `?start=` and `?end=` are the days of its period."""

    kind: Kind = PAYERS

    def report(self, customer: Customer, form: PeriodForm, most_payers: int | None) -> Report:
        """Return the report of the customer's drift whose current period ended on one of the form's days."""
        start, end = form.cleaned_data["start"], form.cleaned_data["end"]
        events = self.rows(DriftEvent).filter(customer=customer, current_end__gte=start, current_end__lte=end)
        about = {"customer": customer, "period_start": start, "period_end": end}
        return self.kind.make(events, most_payers=most_payers, **about)

    def may_export(self, customer: Customer) -> bool:
        return access.may_with(self.request.user, customer, DriftEvent, "export")


class SummaryPage(Summary, Page):
    """A report as a page: a customer and a period to choose, its figures, a chart and a table."""

    template_name = "upstream/summary.html"
    section = "reports"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        form, customer = PeriodForm(self.request.GET), self.customer
        own = {"title": self.kind.title, "form": form}
        if customer is None or not form.is_valid():
            return super().get_context_data(**own, **kwargs)
        report = self.report(customer, form, LISTED_PAYERS)
        words = page_words(report)
        return super().get_context_data(
            **own,
            words=words,
            bars=_bars(report, self.kind),
            parts=self.kind.parts.values(),
            tables=[_table(section) for section in words["sections"] if section.get("rows")],
            offer=_offer(report, customer, self.kind) if self.may_export(customer) else None,
            **kwargs,
        )


class SummaryExport(Summary, View):
    """A report as a PDF or a workbook. A download is in the customer's export log."""

    http_method_names = ("get", "options")

    def get(self, request: HttpRequest) -> HttpResponseBase:
        if self.customer is None:
            raise Http404("a report is about one customer: choose it by ?customer=")
        if not self.may_export(self.customer):
            raise PermissionDenied("missing permission: upstream.export_driftevent")
        form, formats = PeriodForm(request.GET), {one.name: one for one in _formats()}
        name = request.GET.get("format", "")
        if name not in formats:
            return refusal(400, f"unknown format {name!r:.100}; choose from: {', '.join(formats)}")
        if not form.is_valid():
            return refusal(400, " ".join(str(text) for texts in form.errors.values() for text in texts))
        report = self.report(self.customer, form, PRINTED_PAYERS if name == "pdf" else None)
        file = ReportGenerationService.render_report(report, name)
        ExportService(self.customer).log_export(request.user, report["kind"], report["totals"]["payers"])
        filename = f"{report['kind']}_{report['period_start']}_{report['period_end']}.{name}"
        return FileResponse(file, as_attachment=True, filename=filename, content_type=formats[name].media_type)


def _offer(report: Report, customer: Customer, kind: Kind) -> Offer:
    number = report["totals"]["payers"]
    chosen = {"customer": customer.pk, "start": report["period_start"], "end": report["period_end"]}
    links = []
    for one in _formats():
        fixed, each = kind.file_bytes[one.name]
        url = f"{reverse(kind.export)}?{urlencode({'format': one.name, **chosen})}"
        links.append((one, url, fixed + each * number))
    return Offer(number, is_more=False, links=links)


def _formats() -> list[Format]:
    has_printers = all(map(find_spec, PRINTERS))
    return [FORMATS[name] for name in ("pdf", "xlsx") if name in FORMATS and (name != "pdf" or has_printers)]


def _table(section: dict[str, Any]) -> dict[str, Any]:
    """Return a section whose cells know their columns: on a small screen each is shown with its name."""
    rows = [list(zip(row, section["columns"], strict=True)) for row in section["rows"]]
    return {**section, "rows": rows}


def _bars(report: Report, kind: Kind) -> list[dict[str, Any]]:
    """Return the bars of the payers with the most at risk, each with its parts, one after the other."""
    payers = [row for row in report["payers"] if row["revenue_at_risk"]][:DRAWN_PAYERS]
    lengths = charts.shares([(row["payer"], float(row["revenue_at_risk"])) for row in payers])
    bars = []
    for row, bar in zip(payers, lengths, strict=True):
        start, parts = 0.0, []
        for name in kind.parts:
            length = bar.length * float(row[name] / row["revenue_at_risk"])
            parts.append({"start": start, "length": length, "amount": row[name]})
            start += length
        bars.append(
            {"payer": row["payer"], "amount": row["revenue_at_risk"], "events": row["events"], "parts": parts}
        )
    return bars
