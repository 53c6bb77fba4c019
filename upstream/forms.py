"""The forms of the pages."""

import datetime as dt
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import URLValidator
from django.db.models import Q, QuerySet
from django.utils import timezone

from upstream.models import AlertRule, Customer, DriftType, ReportSchedule
from upstream.reporting.wording import LEVELS
from upstream.services.delivery import check_channel
from upstream.services.report_mail import recipients_of

WEEKS = {"1": "Last 7 days", "4": "Last 4 weeks", "12": "Last 12 weeks", "52": "Last 12 months", "all": "Any time"}
STATES = {"open": "Open", "acknowledged": "Acknowledged", "suppressed": "Suppressed", "all": "Any state"}
LONG_AGO = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
PERIOD = dt.timedelta(weeks=4)
LONGEST_PERIOD = dt.timedelta(days=366)
SEVERITIES = {"high": "High", "medium": "Medium and high"}


class DayInput(forms.DateInput):
    """The browser's own calendar, which takes and gives days as 2026-11-27."""

    input_type = "date"

    def __init__(self, attrs: Any = None) -> None:
        super().__init__(attrs, format="%Y-%m-%d")


class DriftFilter(forms.Form):
    """Chooses drift events; `parameters` says the same to DriftEventExport."""

    payer = forms.CharField(required=False, max_length=255)
    drift_type = forms.ChoiceField(required=False, choices=[("", "Any type"), *DriftType.choices], label="Type")
    severity = forms.ChoiceField(required=False, choices=[("", "Any severity"), *SEVERITIES.items()])
    weeks = forms.ChoiceField(required=False, choices=WEEKS, label="Found")
    state = forms.ChoiceField(required=False, choices=STATES)

    def __init__(self, data: Any, **kwargs: Any) -> None:
        defaults = {"weeks": "4", "state": "open"}
        given = {name: data[name] for name in self.base_fields if data.get(name)}
        super().__init__({**defaults, **given}, **kwargs)

    def conditions(self) -> Q:
        """Return the condition for the events chosen."""
        values = self._values()
        if "payer" in values:
            # With any bound SQLite looks the payer up in its index; without one it reads all rows of a customer.
            values.setdefault("created_at__gte", LONG_AGO)
        found = Q()
        for name, value in values.items():
            found &= Q((name, value))
        return found

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of DriftEventExport that choose the same events."""
        names = {
            "created_at__gte": "from",
            "severity__gte": "severe",
            "acknowledged_at__isnull": "unacknowledged",
        }
        return {names.get(name, name): _as_text(value) for name, value in self._values().items()}

    def _values(self) -> dict[str, Any]:
        chosen = self.cleaned_data
        values: dict[str, Any] = {name: chosen[name] for name in ("payer", "drift_type") if chosen[name]}
        if chosen["severity"]:
            values["severity__gte"] = LEVELS[chosen["severity"]]
        if chosen["weeks"] != "all":
            today = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
            values["created_at__gte"] = today - dt.timedelta(weeks=int(chosen["weeks"]))
        if chosen["state"] != "all":
            values["suppressed"] = chosen["state"] == "suppressed"
        if chosen["state"] in ("open", "acknowledged"):
            values["acknowledged_at__isnull"] = chosen["state"] == "open"
        return values


class PeriodForm(forms.Form):
    """Chooses the first and the last day of a report; by default the four weeks that end today."""

    start = forms.DateField(label="From", widget=DayInput)
    end = forms.DateField(label="Until", widget=DayInput)

    def __init__(self, data: Any, **kwargs: Any) -> None:
        today = timezone.localdate()
        defaults = {"start": (today - PERIOD + dt.timedelta(days=1)).isoformat(), "end": today.isoformat()}
        given = {name: data[name] for name in self.base_fields if data.get(name)}
        super().__init__({**defaults, **given}, **kwargs)

    def clean(self) -> dict[str, Any]:
        start, end = self.cleaned_data.get("start"), self.cleaned_data.get("end")
        if start and end and end < start:
            raise ValidationError("The period ends before it starts.")
        if start and end and end - start > LONGEST_PERIOD:
            raise ValidationError("Choose a period of at most a year.")
        return self.cleaned_data


class CheckedAlertRule(forms.ModelForm):  # type: ignore[type-arg]
    """A rule whose alerts can be delivered: its addresses and its URL are such that the services take them."""

    def clean_email_recipients(self) -> str:
        return _addresses(self.cleaned_data["email_recipients"])

    def clean_webhook_url(self) -> str:
        url: str = self.cleaned_data["webhook_url"]
        if url:
            URLValidator(schemes=["http", "https"], message="A webhook starts with https:// or http://.")(url)
            try:
                check_channel({"type": "webhook", "url": url})
            except ValueError as error:
                raise ValidationError(str(error)) from error
        return url


class AlertRuleForm(CheckedAlertRule):
    """Creates or changes a rule; the customer of a rule stays."""

    webhook_url = forms.URLField(
        required=False,
        max_length=200,
        assume_scheme="https",
        label="Webhook URL",
        help_text="Gets each alert as JSON",
    )

    class Meta:
        model = AlertRule
        fields = (
            *("customer", "name", "drift_type_filter", "threshold_value", "email_recipients", "webhook_url"),
            "enabled",
        )
        labels = {  # noqa: RUF012
            "threshold_value": "Lowest severity",
            "drift_type_filter": "Drift",
            "email_recipients": "E-mail addresses",
        }
        widgets = {  # noqa: RUF012
            "email_recipients": forms.Textarea({"rows": 3}),
            "threshold_value": forms.NumberInput({"min": 0, "max": 1, "step": 0.05}),
        }
        help_texts = {  # noqa: RUF012
            "threshold_value": "0 to 1: from 0.25 on it is medium, from 0.5 on high",
            "drift_type_filter": "",
            "email_recipients": "They get the alerts; one on each line",
        }

    def __init__(self, *args: Any, customers: QuerySet[Customer], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        drift: Any = self.fields["drift_type_filter"]
        drift.choices = [("", "Any drift"), *DriftType.choices]
        field: Any = self.fields["customer"]
        field.queryset = customers
        if self.instance.pk:
            field.queryset = Customer.objects.filter(pk=self.instance.customer_id)
            field.disabled = True


class ReportScheduleForm(forms.ModelForm):  # type: ignore[type-arg]
    """Says whether a customer's weekly report is made, and who gets it."""

    class Meta:
        model = ReportSchedule
        fields = ("enabled", "recipients")
        labels = {"enabled": "Make a report each week"}  # noqa: RUF012
        widgets = {"recipients": forms.Textarea({"rows": 4})}  # noqa: RUF012

    def clean_recipients(self) -> str:
        return _addresses(self.cleaned_data["recipients"])


def _addresses(text: str) -> str:
    """Return e-mail addresses, one on each line."""
    try:
        return "\n".join(recipients_of(text))
    except ValueError as error:
        raise ValidationError(str(error)) from error


def _as_text(value: Any) -> str:
    if isinstance(value, dt.datetime):
        return value.isoformat()
    return str(value).lower() if isinstance(value, bool) else str(value)
