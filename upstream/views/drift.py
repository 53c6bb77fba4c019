"""Drift events: the feed, one event, and what is done about them."""

import datetime as dt
from typing import Any

from django.db.models import Q, QuerySet
from django.utils import timezone

from upstream.forms import DriftFilter
from upstream.models import AlertEvent, DriftEvent
from upstream.reporting.wording import counted
from upstream.templatetags.wording import baseline, current
from upstream.views import charts
from upstream.views.dashboard import WEEKS, at_risk
from upstream.views.exports import DriftEventExport, offer
from upstream.views.pages import ChangeRows, Page
from upstream.views.paging import keyset_page

# Those that are proposed for the filter: of the rows that the smallest index has.
PROPOSED_PAYERS = 200
EARLIER_EVENTS = 6
SHOWN_ALERTS = 10


class DriftFeed(Page):
    """Drift events, the newest first."""

    template_name = "upstream/drift_feed.html"
    section = "drift"
    title = "Drift"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        form = DriftFilter(self.request.GET)
        if not form.is_valid():
            return super().get_context_data(form=form, **kwargs)
        rows = self.of_customer(self.rows(DriftEvent)).filter(form.conditions())
        page = keyset_page(rows.prefetch_related("customer"), "created_at", self.request.GET)
        chosen = {**form.parameters(), **self.customer_parameter}
        return super().get_context_data(
            form=form,
            page=page,
            offer=offer(self.request, DriftEventExport, rows, chosen, page.count),
            payers=self._payers(),
            **kwargs,
        )

    def _payers(self) -> list[str]:
        newest = at_risk(self.of_customer(self.rows(DriftEvent)))
        recent = newest.filter(current_end__gt=timezone.localdate() - dt.timedelta(weeks=2))
        # By both, as the index is ordered: by the payer alone, SQLite would read another one from end to end.
        pairs = recent.values_list("current_end", "payer").order_by().distinct()
        return sorted({payer for _, payer in pairs[:PROPOSED_PAYERS]})


class DriftPage(Page):
    """One drift event: what changed, how sure that is, what may be behind it, and its alerts."""

    template_name = "upstream/drift_event.html"
    section = "drift"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        related = DriftEvent.objects.select_related("customer", "report_run", "acknowledged_by")
        event = self.row_or_404(related, self.kwargs["pk"])
        pair = [(baseline(event), event.baseline_value), (current(event), event.current_value)]
        return super().get_context_data(
            title=f"{event.get_drift_type_display()} at {event.payer}",
            event=event,
            bars=charts.shares(pair, width=400),
            alerts=_alerts(self.rows(AlertEvent), event),
            earlier=_earlier(self.rows(DriftEvent), event),
            **kwargs,
        )


class ChangeDrift(ChangeRows):
    """Acknowledges, suppresses or restores drift events."""

    model = DriftEvent
    changes = {"acknowledge": "acknowledge", "suppress": "suppress", "restore": "restore"}  # noqa: RUF012

    def acknowledge(self, rows: QuerySet[DriftEvent]) -> str:
        unseen = rows.filter(acknowledged_at=None)
        number = unseen.update(acknowledged_at=timezone.now(), acknowledged_by=self.request.user)
        return f"Acknowledged {counted(number, 'drift events')}."

    def suppress(self, rows: QuerySet[DriftEvent]) -> str:
        number = rows.filter(suppressed=False).update(suppressed=True)
        return f"Suppressed {counted(number, 'drift events')}. They no longer count as revenue at risk."

    def restore(self, rows: QuerySet[DriftEvent]) -> str:
        number = rows.filter(suppressed=True).update(suppressed=False)
        return f"Restored {counted(number, 'drift events')}."


def _earlier(events: QuerySet[DriftEvent], event: DriftEvent) -> QuerySet[DriftEvent]:
    """Return the events of the same kind in the weeks before this one."""
    since = event.created_at - dt.timedelta(weeks=WEEKS)
    recent = events.filter(customer_id=event.customer_id, created_at__gte=since, created_at__lt=event.created_at)
    # Twice negated, so that SQLite reads by the index of the customer's payer and not by that of the type.
    same = recent.filter(payer=event.payer).exclude(~Q(cpt_group=event.cpt_group, drift_type=event.drift_type))
    return same.order_by("-created_at")[:EARLIER_EVENTS]


def _alerts(alerts: QuerySet[AlertEvent], event: DriftEvent) -> QuerySet[AlertEvent]:
    """Return the alerts of an event that are among those."""
    # By their keys, so that SQLite does not look for them among all alerts of the customer.
    own = alerts.filter(pk__in=event.alert_events.order_by().values("pk"))
    return own.select_related("alert_rule").order_by("pk")[:SHOWN_ALERTS]
