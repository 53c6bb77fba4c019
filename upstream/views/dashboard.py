"""The first page: what is at risk, where, and what is to be done about it."""

import datetime as dt
from decimal import Decimal
from typing import Any

from django.core.paginator import Paginator
from django.db.models import Count, QuerySet, Sum
from django.utils.timezone import localdate

from upstream.models import AlertEvent, AlertStatus, Customer, DriftEvent
from upstream.templatetags.wording import day
from upstream.views import charts
from upstream.views.exports import CustomerExport, DriftEventExport, Offer, offer
from upstream.views.pages import Page

WEEK = dt.timedelta(weeks=1)
WEEKS = 12
TOP = 6
OPEN_STATUSES = (AlertStatus.PENDING, AlertStatus.SENT, AlertStatus.FAILED)
# Beyond these a page says "10,000+".
COUNTED_ALERTS = 10_000


def at_risk(events: QuerySet[DriftEvent]) -> QuerySet[DriftEvent]:
    """Return the events that cost revenue, except suppressed ones: the rows of an index of their own."""
    return events.filter(suppressed=False, estimated_revenue_impact__lt=0)


def open_alerts(alerts: QuerySet[AlertEvent]) -> QuerySet[AlertEvent]:
    """Return the alerts that nobody acknowledged or resolved, in the words of the index that holds them."""
    return alerts.exclude(status=AlertStatus.ACKNOWLEDGED).exclude(status=AlertStatus.RESOLVED)


class Dashboard(Page):
    """Revenue at risk in the newest week that has drift, by payer and customer, and in the weeks before."""

    template_name = "upstream/dashboard.html"
    section = "dashboard"
    title = "Dashboard"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        events = at_risk(self.of_customer(self.rows(DriftEvent)))
        groups = _by_payer(events)
        if not groups:
            return super().get_context_data(is_empty=True, **kwargs)
        last = max(group["current_end"] for group in groups)
        newest = [group for group in groups if group["current_end"] > last - WEEK]
        found = sum(group["number"] for group in newest)
        week = events.filter(current_end__gt=last - WEEK, current_end__lte=last)
        amounts = _by_week(groups, last)
        return super().get_context_data(
            last=last,
            at_risk=amounts[-1],
            difference=amounts[-1] - amounts[-2],
            found=found,
            trend=_trend(amounts, last),
            payers=_payers(newest),
            by_customer=[] if self.customer else _customers(week),
            alerts=self._open_alerts(),
            largest=week.select_related("customer").order_by("estimated_revenue_impact")[:TOP],
            offer=self._offer(week, last, found),
            **kwargs,
        )

    def _open_alerts(self) -> int:
        alerts = open_alerts(self.of_customer(self.rows(AlertEvent)))
        return alerts[: COUNTED_ALERTS + 1].count()

    def _offer(self, week: QuerySet[DriftEvent], last: dt.date, count: int) -> Offer | None:
        parameters = {"week_after": (last - WEEK).isoformat(), "suppressed": "false", "impact_below": 0}
        return offer(self.request, DriftEventExport, week, {**parameters, **self.customer_parameter}, count)


class Customers(Page):
    """The customers that the user sees, to choose one."""

    template_name = "upstream/customers.html"
    section = "customers"
    title = "Customers"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        found = self.rows(Customer).order_by("name")
        # PostgreSQL has no text with a NUL.
        text = self.request.GET.get("q", "").replace("\0", "").strip()[:255]
        if text:
            found = found.filter(name__icontains=text)
        page = Paginator(found, 50).get_page(self.request.GET.get("page"))
        chosen = {"name": text} if text else {}
        return super().get_context_data(
            page=page,
            q=text,
            offer=offer(self.request, CustomerExport, found, chosen, page.paginator.count),
            **kwargs,
        )


def _by_payer(events: QuerySet[DriftEvent]) -> list[dict[str, Any]]:
    """Return the amount at risk and the number of events by day and payer, for a quarter.

    The index is in this order, so that nothing is sorted. `current_end` is the last day of an event's period.
    """
    today = localdate()
    recent = events.filter(current_end__gt=today - (WEEKS + 1) * WEEK, current_end__lte=today + WEEK)
    groups: Any = recent.values("current_end", "payer").annotate(
        amount=-Sum("estimated_revenue_impact"), number=Count("estimated_revenue_impact")
    )
    return list(groups.order_by())


def _by_week(groups: list[dict[str, Any]], last: dt.date) -> list[Decimal]:
    """Return the amounts of twelve weeks, the last of which ends with that day."""
    amounts = [Decimal(0)] * WEEKS
    for group in groups:
        if (age := (last - group["current_end"]) // WEEK) < WEEKS:
            amounts[age] += group["amount"]
    return amounts[::-1]


def _trend(amounts: list[Decimal], last: dt.date) -> list[charts.Bar]:
    weeks = [last - WEEK * (len(amounts) - 1 - place) for place in range(len(amounts))]
    values = [(day(week), float(amount)) for week, amount in zip(weeks, amounts, strict=True)]
    return charts.columns(values, width=720, height=135)


def _payers(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the payers of some groups with the most at risk."""
    amounts: dict[str, list[Any]] = {}
    for group in groups:
        sums = amounts.setdefault(group["payer"], [0, 0])
        sums[0] += group["amount"]
        sums[1] += group["number"]
    rows = [{"payer": payer, "amount": amount, "number": number} for payer, (amount, number) in amounts.items()]
    return _with_bars(sorted(rows, key=lambda row: (-row["amount"], row["payer"]))[:TOP])


def _customers(week: QuerySet[DriftEvent]) -> list[dict[str, Any]]:
    groups: Any = week.values("customer_id", "customer__name").annotate(
        amount=-Sum("estimated_revenue_impact"), number=Count("estimated_revenue_impact")
    )
    return _with_bars(list(groups.order_by("-amount", "customer__name")[:TOP]))


def _with_bars(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    bars = charts.shares([("", float(row["amount"])) for row in rows])
    return [{**row, "length": bar.length} for row, bar in zip(rows, bars, strict=True)]
