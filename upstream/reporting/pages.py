"""Reports as HTML: one page description of words for each kind of report, and one template for all."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from django.template import Context, Engine
from django.utils.safestring import mark_safe

from upstream.reporting import charts, wording
from upstream.reporting.reports import Report

TEMPLATES = Path(__file__).resolve().parent.parent / "templates" / "upstream" / "reports"
# An engine of our own: reports are made with no settings configured, and look the same under any.
ENGINE = Engine(dirs=[str(TEMPLATES)], autoescape=True)
PAPERS = ("Letter", "A4")
LONGEST_CAUSE = 200
LEVELS = "Severity from {high:.0f} % on is high, from {medium:.0f} % on medium.".format(
    **{name: 100 * lowest for name, lowest in wording.LEVELS.items()}
)
ESTIMATES = "Revenue is estimated from the claims of the period; events without an estimate count as $0."

Page = dict[str, Any]


def page_html(report: Report, *, paper: str = "Letter") -> str:
    """Return a report as an HTML document that needs no other file; `paper` is "Letter" or "A4"."""
    if paper not in PAPERS:
        raise ValueError(f"unknown paper {paper!r}; choose from: {', '.join(PAPERS)}")
    page = {"paper": paper, **page_words(report)}
    return ENGINE.get_template("report.html").render(Context(page, use_l10n=False, use_tz=False))


def page_words(report: Report) -> Page:
    """Return what a page says of a report: its title, headline, tiles, sections and footnotes, all as texts.

    A section has a heading and, where there are, a `chart`, which is a function that draws it, a table's `columns`
    and `rows`, `events` and a `note`.
    """
    return {**_about(report), **PAGES[report["kind"]](report)}


def _about(report: Report) -> Page:
    start, end = report["period_start"], report["period_end"]
    period = wording.period(start, end) if start and end else ""
    return {"title": report["title"], "customer": report["customer"], "period": period}


def _drift_page(report: Report) -> Page:
    totals = report["totals"]
    sections: list[Page] = []
    if len(report["weeks"]) > 1:
        sections.append({"heading": "The last weeks", "chart": _drawn(charts.drift_by_week, report["weeks"])})
    if report["payers"]:
        chart = _drawn(charts.top_payers, report["payers"])
        more = _more(report["more_payers"], "payers")
        sections += [{"heading": "Revenue at risk by payer", "chart": chart, "note": more}]
        chart = _drawn(charts.severity_distribution, report["severity"])
        types = _table(report["drift_types"], "drift_type", "Kind of drift", wording.drift_label)
        heading = "How severe, and of what kind"
        sections += [{"heading": heading, "chart": chart, **types, "breaks": True}]
    if report["events"]:
        sections.append(_events_section(report))
    return {
        "headline": headline(totals),
        "tiles": _drift_tiles(report),
        "sections": sections,
        "footnotes": [LEVELS, ESTIMATES, *_suppressed(totals)],
    }


def _events_section(report: Report) -> Page:
    shown, more = len(report["events"]), report["more_events"]
    heading = f"The {shown} that cost most" if more else "Every event, the costliest first"
    note = _more(more, "events", where=" of the period: the workbook lists them all")
    return {"heading": heading, "events": list(map(_event, report["events"])), "note": note}


def _payers_page(report: Report) -> Page:
    totals = report["totals"]
    table = _table(report["payers"], "payer", "Payer", str)
    chart = _drawn(charts.top_payers, report["payers"][:15]) if report["payers"] else None
    return {
        "headline": headline(totals),
        "tiles": _drift_tiles(report),
        "sections": [
            {"heading": "Revenue at risk by payer", "chart": chart},
            {"heading": "All figures", **table, "note": _more(report["more_payers"], "payers")},
        ],
        "footnotes": [LEVELS, ESTIMATES, *_suppressed(totals)],
    }


def _recovery_page(report: Report) -> Page:
    totals = report["totals"]
    columns = _columns("Payer", "At risk", "Acknowledged", "Still open", "Gained", "Time to acknowledge")
    rows = [
        _cells(
            row["payer"],
            wording.dollars(row["revenue_at_risk"]),
            wording.dollars(row["acknowledged_at_risk"]),
            wording.dollars(row["open_at_risk"]),
            wording.dollars(row["revenue_gained"]),
            wording.hours(row["hours_to_acknowledge"]),
        )
        for row in report["payers"]
    ]
    share = totals["acknowledged_share"]
    known = "No drift" if share is None else f"{wording.percent(share)} of drift events acknowledged"
    tiles = [
        ("Still open", wording.dollars(totals["open_at_risk"]), "at risk and not acknowledged"),
        ("Acknowledged", wording.dollars(totals["acknowledged_at_risk"]), "at risk, and someone is on it"),
        ("Gained", wording.dollars(totals["revenue_gained"]), wording.counted(totals["improving"], "events")),
        ("Time to acknowledge", wording.hours(totals["hours_to_acknowledge"]), "on average"),
    ]
    return {
        "headline": f"{known}; {wording.dollars(totals['open_at_risk'])} is at risk and open.",
        "tiles": _tiles(tiles),
        "sections": [
            {
                "heading": "By payer",
                "columns": columns,
                "rows": rows,
                "note": _more(report["more_payers"], "payers"),
            }
        ],
        "footnotes": [ESTIMATES, *_suppressed(totals)],
    }


# What makes the page of each kind of report.
PAGES = {"drift": _drift_page, "payer_summary": _payers_page, "recovery": _recovery_page}


def headline(totals: Mapping[str, Any]) -> str:
    """Return what the totals of a report come to, as one sentence."""
    if not totals["events"]:
        return "No drift was found."
    events = f"{wording.counted(totals['events'], 'drift events')} at {_payers(totals)}"
    if not totals["revenue_at_risk"]:
        return f"{events}, none with revenue at risk."
    return f"{wording.dollars(totals['revenue_at_risk'])} is at risk: {events}, {totals['worsening']:,} got worse."


def _payers(totals: Mapping[str, Any]) -> str:
    return wording.counted(totals["payers"], "payers")


def _drift_tiles(report: Report) -> list[Page]:
    totals = report["totals"]
    high = next((row["events"] for row in report.get("severity", ()) if row["level"] == "high"), None)
    return _tiles(
        [
            ("At risk", wording.dollars(totals["revenue_at_risk"]), _against_last_week(report.get("weeks", ()))),
            ("Drift events", f"{totals['events']:,}", "" if high is None else f"{high:,} of high severity"),
            ("Worsening", f"{totals['worsening']:,}", f"{totals['improving']:,} improving"),
            ("Gained", wording.dollars(totals["revenue_gained"]), "where payers pay more or sooner"),
        ]
    )


def _against_last_week(weeks: Sequence[Mapping[str, Any]]) -> str:
    if len(weeks) < 2:
        return ""
    before, last = (week["revenue_at_risk"] for week in weeks[-2:])
    if before == last:
        return "as in the week before"
    return f"{wording.dollars(abs(last - before))} {'more' if last > before else 'less'} than the week before"


def _event(event: Mapping[str, Any]) -> Page:
    kind, amount = event["drift_type"], event["estimated_revenue_impact"]
    periods, level = event["consecutive_periods"] or 1, wording.level(event["severity"])
    facts = [
        wording.sample(event["baseline_claims"], event["current_claims"]),
        wording.significance(event["p_value"]),
        f"{periods} periods in a row" if periods > 1 else "",
        "acknowledged" if event["acknowledged_at"] else "",
    ]
    return {
        "payer": event["payer"],
        "cpt_group": event["cpt_group"] or "",
        "drift": wording.drift_label(kind),
        "change": wording.change(kind, event["baseline_value"], event["current_value"]),
        "facts": " · ".join(filter(None, facts)),
        "causes": list(_causes(event["potential_root_causes"])),
        "impact": wording.impact(amount),
        "sign": "" if not amount else "at-risk" if amount < 0 else "gained",
        "level": level,
        "severity": f"{level.capitalize()} severity",
    }


def _causes(causes: Any) -> Iterator[str]:
    for cause in causes or ():
        text = cause.get("note") or cause.get("cause") or "" if isinstance(cause, Mapping) else cause
        text = " ".join(str(text).split())
        if text:
            yield text if len(text) <= LONGEST_CAUSE else f"{text[:LONGEST_CAUSE]}…"


def _table(rows: Iterable[Mapping[str, Any]], key: str, label: str, name: Any) -> Page:
    return {
        "columns": _columns(label, "Events", "Worsening", "At risk", "Gained", "Average severity"),
        "rows": [
            _cells(
                name(row[key]),
                f"{row['events']:,}",
                f"{row['worsening']:,}",
                wording.dollars(row["revenue_at_risk"]),
                wording.dollars(row["revenue_gained"]),
                wording.percent(row["average_severity"]),
            )
            for row in rows
        ],
    }


def _columns(first: str, *others: str) -> list[Page]:
    return [{"label": first}, *({"label": label, "numeric": True} for label in others)]


def _cells(first: str, *others: str) -> list[Page]:
    return [{"text": first}, *({"text": text, "numeric": True} for text in others)]


def _tiles(tiles: Iterable[tuple[str, str, str]]) -> list[Page]:
    return [{"label": label, "value": value, "note": note} for label, value, note in tiles]


def _more(number: int, noun: str, where: str = "") -> str:
    return f"And {wording.counted(number, noun).replace(' ', ' more ', 1)}{where}." if number else ""


def _suppressed(totals: Mapping[str, Any]) -> list[str]:
    number = totals["suppressed"]
    return [f"{wording.counted(number, 'suppressed events')} left out."] if number else []


def _drawn(draw: Callable[..., str], rows: Sequence[Mapping[str, Any]]) -> Callable[[], str]:
    """Return a function that draws a chart: a template calls it, and whoever needs the words alone does not."""
    return lambda: mark_safe(draw(rows))  # noqa: S308 (Vega escapes what it draws, and a test proves it)
