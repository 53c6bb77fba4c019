"""PDF tables of six columns: the encoder's, and one HTML document that WeasyPrint lays out."""

from html import escape
from typing import Any

from benchmarks.cases import REPORT_ROWS
from benchmarks.output import Output
from benchmarks.table.models import Payment
from upstream.streaming import Pdf, stream

COLUMNS = ("id", "customer__name", "reference", "amount", "due", "quantity")
STYLE = "table {width: 100%; border-spacing: 0} td {font: 8pt sans-serif} tr:nth-child(2n) {background: #eee}"


def table(output: Output) -> None:
    _write(output, Payment.objects.order_by("id"))


def report(output: Output) -> None:
    _write(output, Payment.objects.order_by("id")[:REPORT_ROWS])


def weasyprint(output: Output) -> None:
    from weasyprint import HTML  # noqa: PLC0415 (no other case pays for it)

    rows = Payment.objects.order_by("id").values_list(*COLUMNS)[:REPORT_ROWS].iterator(chunk_size=2000)
    output.write(HTML(string=_html(rows)).write_pdf())


def _write(output: Output, queryset: Any) -> None:
    chunks = stream(queryset, COLUMNS, Pdf(title="Payments"))
    output.drain(chunks)
    output.lane = chunks.lane


def _html(rows: Any) -> str:
    head = "".join(f"<th>{name}</th>" for name in COLUMNS)
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<style>{STYLE}</style><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
