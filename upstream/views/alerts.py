"""Alerts: the inbox, and the rules that fill it."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from upstream import access
from upstream.forms import AlertRuleForm
from upstream.models import AlertEvent, AlertRule, AlertStatus, Customer, DriftType
from upstream.reporting.wording import counted
from upstream.services import AlertProcessingService
from upstream.views.dashboard import OPEN_STATUSES, open_alerts
from upstream.views.exports import AlertEventExport, AlertRuleExport, offer
from upstream.views.pages import ChangeRows, Page
from upstream.views.paging import keyset_page

OPEN = "open"
# The states of the inbox: their words, and the status that each stands for.
STATES = {
    OPEN: ("Open", None),
    "failed": ("Not delivered", AlertStatus.FAILED),
    "acknowledged": ("Acknowledged", AlertStatus.ACKNOWLEDGED),
    "resolved": ("Resolved", AlertStatus.RESOLVED),
    "all": ("All", None),
}


class AlertInbox(Page):
    """Alerts, the newest first."""

    template_name = "upstream/alerts.html"
    section = "alerts"
    title = "Alerts"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        state = self.request.GET.get("state", OPEN)
        state = state if state in STATES else OPEN
        rows = self.of_customer(self.rows(AlertEvent))
        parameters = self.customer_parameter
        if state == OPEN:
            rows = open_alerts(rows)
            parameters["status"] = ",".join(OPEN_STATUSES)
        elif status := STATES[state][1]:
            rows = rows.filter(status=status)
            parameters["status"] = status.value
        related = rows.prefetch_related("customer", "alert_rule", "drift_event")
        page = keyset_page(related, "triggered_at", self.request.GET)
        return super().get_context_data(
            state=state,
            states={name: label for name, (label, _) in STATES.items()},
            page=page,
            offer=offer(self.request, AlertEventExport, rows, parameters, page.count),
            **kwargs,
        )


class ChangeAlerts(ChangeRows):
    """Acknowledges or resolves alerts."""

    model = AlertEvent
    changes = {"acknowledge": "acknowledge", "resolve": "resolve"}  # noqa: RUF012

    def acknowledge(self, rows: QuerySet[AlertEvent]) -> str:
        number = rows.filter(status__in=OPEN_STATUSES).update(status=AlertStatus.ACKNOWLEDGED)
        return f"Acknowledged {counted(number, 'alerts')}."

    def resolve(self, rows: QuerySet[AlertEvent]) -> str:
        number = rows.exclude(status=AlertStatus.RESOLVED).update(status=AlertStatus.RESOLVED)
        return f"Resolved {counted(number, 'alerts')}."


class AlertRules(Page):
    """The rules by which drift becomes an alert."""

    template_name = "upstream/rules.html"
    section = "rules"
    title = "Alert rules"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        rows = self.of_customer(self.rows(AlertRule))
        ordered = rows.select_related("customer").order_by("customer__name", "name")
        page = Paginator(ordered, 50).get_page(self.request.GET.get("page"))
        return super().get_context_data(
            page=page,
            offer=offer(self.request, AlertRuleExport, rows, self.customer_parameter, page.paginator.count),
            may_add=access.may(self.request.user, AlertRule, "add"),
            **kwargs,
        )


class AlertRulePage(Page):
    """A form that creates a rule, or changes one."""

    template_name = "upstream/rule.html"
    section = "rules"
    http_method_names = ("get", "head", "post", "options")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        rule = self._rule()
        form = kwargs.pop("form", None) or self._form(rule)
        title = f"Rule “{rule.name}”" if rule else "New alert rule"
        return super().get_context_data(title=title, rule=rule, form=form, **kwargs)

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if (
            "pk" not in self.kwargs
            and access.may(request.user, Customer)
            and not (self.customer or self.customers)
        ):
            messages.info(request, "Choose the customer that the rule is for.")
            return redirect("customers")
        return super().get(request, *args, **kwargs)

    def post(self, request: HttpRequest, **_: Any) -> HttpResponse:
        form = self._form(self._rule(), request.POST)
        if not form.is_valid():
            return self.render_to_response(self.get_context_data(form=form), status=400)
        rule = form.save()
        messages.success(request, f"Saved the rule “{rule.name}”.")
        return redirect("rules")

    def _rule(self) -> AlertRule | None:
        if "pk" not in self.kwargs:
            if not access.may(self.request.user, AlertRule, "add"):
                raise PermissionDenied("missing permission: upstream.add_alertrule")
            return None
        rule: AlertRule = self.row_or_404(
            AlertRule.objects.select_related("customer"), self.kwargs["pk"], change=True
        )
        return rule

    def _form(self, rule: AlertRule | None, data: Any = None) -> AlertRuleForm:
        user = self.request.user
        customers = self.rows(Customer)
        if not access.has_all(user, AlertRule, "add"):
            customers = customers.filter(pk__in=access.own_customers(user))
        if self.customer:
            customers = customers.filter(pk=self.customer.pk)
        initial = {} if rule else {"customer": self.customer, "threshold_value": 0.5}
        return AlertRuleForm(data, instance=rule, initial=initial, customers=customers.order_by("name"))


class ChangeRules(ChangeRows):
    """Enables or disables rules, or sends an alert that says it is a test."""

    model = AlertRule
    changes = {"enable": "enable", "disable": "disable", "test": "send_test"}  # noqa: RUF012

    def enable(self, rows: QuerySet[AlertRule]) -> str:
        return f"Enabled {counted(rows.update(enabled=True), 'alert rules')}."

    def disable(self, rows: QuerySet[AlertRule]) -> str:
        return f"Disabled {counted(rows.update(enabled=False), 'alert rules')}."

    def send_test(self, rows: QuerySet[AlertRule]) -> str:
        rule = rows[0]
        channels = AlertProcessingService.channels_of(rule)
        if not channels:
            return f"The rule “{rule.name}” has no e-mail address and no webhook yet."
        outcome = AlertProcessingService.process_alert_delivery(example_alert(rule), channels)
        failed = [one for one in outcome["results"] if not one["delivered"]]
        for one in failed:
            messages.error(self.request, f"{one['target']}: {one['error']}")
        sent = len(channels) - len(failed)
        return f"Sent a test of “{rule.name}” to {sent} of {counted(len(channels), 'channels')}."


def example_alert(rule: AlertRule) -> dict[str, Any]:
    """Return an alert as the rule would raise it, which says that it is a test."""
    return {
        "customer": rule.customer.name,
        "rule": f"Test of {rule.name}",
        "payer": "Test payer (nothing happened)",
        "cpt_group": "Test",
        "drift_type": rule.drift_type_filter or DriftType.DENIAL_RATE,
        "baseline_value": 0.172,
        "current_value": 0.268,
        "delta_value": 0.096,
        "severity": rule.threshold_value,
        "estimated_revenue_impact": 0,
    }
