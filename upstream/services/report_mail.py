"""The mail with a finished weekly report."""

from collections.abc import Iterable
from functools import partial
from typing import Any

from django.core.files.storage import default_storage
from django.core.mail import EmailMessage
from django.utils import timezone

from upstream.reporting.pages import headline
from upstream.reporting.runs import Summary, change_summary, require_success
from upstream.reporting.services import report_of
from upstream.reporting.wording import change, drift_label, impact, period
from upstream.services.delivery import addresses_of, check_channel
from upstream.streaming.targets.filenames import clean_filename

MOST_EVENTS = 5


def recipients_of(text: str) -> list[str]:
    """Return the addresses in a text, one on each line; a wrong one raises ValueError."""
    addresses = addresses_of(text)
    if addresses:
        check_channel({"type": "email", "to": addresses})
    return addresses


def mail_report(report_run: Any, recipients: Iterable[str], *, again: bool = False) -> bool:
    """Mail the PDF of a run to the recipients, and return whether that was done.

    Each run is mailed once; `again` mails it once more. That it is mailed is written down before it is sent, and
    taken back if sending fails, so that no two workers mail one report; what was written of an earlier mail stays.
    The error of the mail server is raised.
    """
    require_success(report_run)
    message = _message(report_run, list(recipients))
    if not message.to:
        return False
    is_reserved, earlier = _reserved(report_run, message.to, again=again)
    if not is_reserved:
        return False
    try:
        message.send()
    except BaseException:
        change_summary(report_run, partial(_put_back, earlier))
        raise
    return True


def is_mailed(report_run: Any) -> bool:
    """Whether the run was mailed, as far as this instance knows."""
    return "mailed" in report_run.summary_json


def _reserved(report_run: Any, recipients: list[str], *, again: bool) -> tuple[bool, Summary]:
    """Write down that the run is mailed; return whether that was done, and what was written of an earlier mail."""
    is_reserved, earlier = False, {}

    def change(summary: Summary) -> Summary:
        nonlocal is_reserved, earlier
        earlier = {name: value for name, value in summary.items() if name == "mailed"}
        is_reserved = again or not earlier
        if not is_reserved:
            return summary
        return {**summary, "mailed": {"at": timezone.now().isoformat(), "to": recipients}}

    change_summary(report_run, change)
    return is_reserved, earlier


def _put_back(earlier: Summary, summary: Summary) -> Summary:
    return {**{name: value for name, value in summary.items() if name != "mailed"}, **earlier}


def _message(report_run: Any, recipients: list[str]) -> EmailMessage:
    report = report_of(report_run)
    weeks = period(report_run.period_start, report_run.period_end)
    found = headline(report["totals"])
    listed = [
        f"- {event['payer']}, {event['cpt_group']}: {drift_label(event['drift_type'])} "
        f"{change(event['drift_type'], event['baseline_value'], event['current_value'])}, "
        f"{impact(event['estimated_revenue_impact'])}"
        for event in report["events"][:MOST_EVENTS]
    ]
    body = [f"{report_run.customer}, {weeks}: {found}", "", *listed, "", "The whole report is attached."]
    subject = " ".join(f"Payer drift of {report_run.customer}, {weeks}: {found.removesuffix('.')}".split())
    message = EmailMessage(subject, "\n".join(body), to=recipients)
    artifact = report_run.artifacts.get(kind="weekly_drift_pdf")
    with default_storage.open(artifact.path) as file:
        name = clean_filename(f"Payer drift {report_run.customer} {report_run.period_end}.pdf")
        message.attach(name, file.read(), "application/pdf")
    return message
