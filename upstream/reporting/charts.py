"""Charts as inline SVG, drawn by Vega-Lite: its compiler is one wheel without dependencies (extra `reports`).

The same data and palette give the same bytes. Each chart has a title and a description, which say in words what it
shows, and each of its marks has a label. All text is escaped.
"""

import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from upstream.reporting.wording import counted, day, dollars, short_day
from upstream.streaming import ExportError
from upstream.streaming._optional import optional

Rows = Sequence[Mapping[str, Any]]

# A page scales a chart to its own width.
WIDTH = 680
FIT = {"type": "fit-x", "contains": "padding"}
BAR = 24
NAMES = 230
LONGEST = 34
# What stands for the names while Vega draws: at some characters it fails, or ends the process.
PLACE = re.compile(r"name(\d{3,})")
# The process that drew the first chart.
DREW: set[int] = set()
# What stands to the right of the longest bar, such as "1,204 events, $85,419 at risk".
ROOM = 1.35


@dataclass(frozen=True, kw_only=True)
class Palette:
    """The colours of charts, as CSS writes them. On white, each but `line` has a contrast of 3 to 1 and more."""

    high: str = "#b3261e"
    medium: str = "#c46a00"
    low: str = "#4f7a94"
    accent: str = "#14466b"
    faint: str = "#7d93a6"
    ink: str = "#1d2733"
    line: str = "#d5dbe1"


PRINT = Palette()


def drift_by_week(weeks: Rows, *, palette: Palette = PRINT) -> str:
    """Draw the `weeks` of a drift report: revenue at risk by week or, where no week has any, the number of events.

    >>> weeks = [{"week": date(2026, 11, 16), "events": 25, "revenue_at_risk": Decimal("85419.00")}]
    >>> drift_by_week(weeks).startswith('<svg role="img" aria-labelledby="drift-by-week-title drift-by-week-desc"')
    True
    """
    has_money = any(week["revenue_at_risk"] for week in weeks)
    values = [
        {
            "week": short_day(week["week"]),
            "value": float(week["revenue_at_risk"]) if has_money else week["events"],
            "words": dollars(week["revenue_at_risk"]) if has_money else f"{week['events']:,}",
            "isLast": at == len(weeks),
        }
        for at, week in enumerate(weeks, 1)
    ]
    title = "Revenue at risk by week" if has_money else "Drift events by week"
    sentences = [
        f"Week of {day(week['week'])}: {_events(week)}, {dollars(week['revenue_at_risk'])} at risk."
        for week in weeks
    ]
    week = {"field": "week", "type": "ordinal", "sort": None, "title": None}
    value = {"field": "value", "type": "quantitative", "title": None, "stack": None}
    form = "$~s" if has_money else "~s"
    label = f"datum.value ? format(datum.value, '{form}') : '{form[:-2]}0'"
    axis = {"tickCount": 4, "labelExpr": label, "domain": False}
    last = {"condition": {"test": "datum.isLast", "value": palette.accent}, "value": palette.faint}
    layers = [
        {
            "mark": {"type": "bar", "cornerRadiusEnd": 2, "width": {"band": 0.62}},
            "encoding": {"y": {**value, "axis": axis}, "color": last},
        },
        {
            "transform": [{"filter": "datum.isLast"}],
            "mark": {"type": "text", "dy": -7, "fontWeight": "bold"},
            "encoding": {"y": value, "text": {"field": "words"}},
        },
    ]
    spec = {"height": 150, "encoding": {"x": {**week, "axis": {"labelAngle": 0}}}, "layer": layers}
    return _described(_drawn(spec, values, palette), "drift-by-week", title, sentences)


def severity_distribution(severity: Rows, *, palette: Palette = PRINT) -> str:
    """Draw the `severity` of a drift report: the number of events of each level."""
    values = [
        {
            "name": row["level"].capitalize(),
            "value": row["events"],
            "words": f"{_events(row)}, {dollars(row['revenue_at_risk'])} at risk",
        }
        for row in severity
    ]
    colours = [getattr(palette, row["level"]) for row in severity]
    return _bars("severity-distribution", "Drift events by severity", values, palette, colours=colours, room=60)


def top_payers(payers: Rows, *, palette: Palette = PRINT) -> str:
    """Draw the `payers` of a report: the revenue at risk at each, in their order."""
    values = [
        {
            "name": str(row["payer"]),
            "value": float(row["revenue_at_risk"]),
            "words": f"{dollars(row['revenue_at_risk'])}, {_events(row)}",
        }
        for row in payers
    ]
    return _bars("top-payers", "Revenue at risk by payer", values, palette)


def _events(row: Mapping[str, Any]) -> str:
    return counted(row["events"], "events")


def _bars(
    name: str,
    title: str,
    values: list[dict[str, Any]],
    palette: Palette,
    *,
    colours: Sequence[str] = (),
    room: int = NAMES,
) -> str:
    """Draw horizontal bars, each with its name to the left, in `room` pixels, and its words to the right of it."""
    most = max((value["value"] for value in values), default=0) or 1
    placed = [{**value, "name": f"name{at:03}"} for at, value in enumerate(values)]
    scale_of_values = {"domain": [0, most * ROOM]}
    x = {"field": "value", "type": "quantitative", "axis": None, "stack": None, "scale": scale_of_values}
    axis = {"minExtent": room, "maxExtent": room}
    y = {"field": "name", "type": "nominal", "sort": None, "title": None, "axis": axis}
    scale = {"domain": [value["name"] for value in placed], "range": colours}
    colour = {"field": "name", "scale": scale, "legend": None} if colours else {"value": palette.accent}
    layers = [
        {"mark": {"type": "bar", "cornerRadiusEnd": 2, "height": {"band": 0.6}}, "encoding": {"color": colour}},
        {"mark": {"type": "text", "align": "left", "dx": 7}, "encoding": {"text": {"field": "words"}}},
    ]
    spec = {"height": {"step": BAR}, "encoding": {"x": x, "y": y}, "layer": layers}
    svg = PLACE.sub(lambda place: _fitting(values[int(place[1])]["name"]), _drawn(spec, placed, palette))
    return _described(svg, name, title, [f"{value['name']}: {value['words']}." for value in values])


def _drawn(spec: Mapping[str, Any], values: list[dict[str, Any]], palette: Palette) -> str:
    vega: Any = optional("vl_convert", "reports")
    _check_not_forked()
    whole = {"width": WIDTH, "autosize": FIT, "data": {"values": values}, "config": _config(palette), **spec}
    svg: str = vega.vegalite_to_svg(whole, allowed_base_urls=[])
    return svg


def _described(svg: str, name: str, title: str, sentences: Sequence[str]) -> str:
    """Return a drawing with its title and, for those who do not see it, what it shows in words."""
    description = " ".join(sentences) or "There is nothing to show."
    ids = f"{name}-title", f"{name}-desc"
    opening = f'<svg role="img" aria-labelledby="{" ".join(ids)}"'
    texts = f'<title id="{ids[0]}">{_xml(title)}</title><desc id="{ids[1]}">{_xml(description)}</desc>'
    start, end, rest = svg.partition(">")
    return f"{start.replace('<svg', opening, 1)}{end}{texts}{rest}"


def _fitting(name: str) -> str:
    """Return a name as it fits to the left of its bar."""
    columns = 0
    for at, one in enumerate(name):
        columns += 2 if unicodedata.east_asian_width(one) in "WF" else 1
        if columns > LONGEST:
            return f"{_xml(name[:at])}…"
    return _xml(name)


def _xml(text: str) -> str:
    """Return a text for XML, which has no control characters."""
    return escape("".join(one for one in text if unicodedata.category(one)[0] != "C"))


def _check_not_forked() -> None:
    """Raise in a process that was forked after a chart was drawn: it lacks Vega's threads, and would hang."""
    if not DREW:
        DREW.add(os.getpid())
    if os.getpid() not in DREW:
        raise ExportError(
            "charts were drawn before this process was forked: draw them in a process that is spawned"
        )


def _config(palette: Palette) -> dict[str, Any]:
    return {
        "background": None,
        "font": "sans-serif",
        "view": {"stroke": None},
        "text": {"color": palette.ink, "fontSize": 11},
        "axis": {
            "labelColor": palette.ink,
            "labelFontSize": 11,
            "domainColor": palette.line,
            "gridColor": palette.line,
            "ticks": False,
            "tickColor": palette.line,
            "labelPadding": 7,
        },
    }
