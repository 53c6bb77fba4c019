"""Which process sends an alert: one at a time, and another one if that was killed."""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Case, F, Q, Value, When
from django.utils import timezone

from upstream.reporting.runs import rows_like

logger = logging.getLogger(__name__)

# A process that sends one alert for longer is taken for dead; where mail and webhook hang, it takes four minutes.
TAKEOVER = timedelta(minutes=15)


def is_unclaimed() -> Q:
    """Return the condition of alerts that no living process is sending."""
    return Q(sending_since=None) | Q(sending_since__lt=timezone.now() - TAKEOVER)


def claim(alert: Any) -> datetime | None:
    """Claim an alert for this process, and return since when; None if another has it, or it needs no sending."""
    since = timezone.now()
    # One statement compares and sets, so that of two processes one finds the row as it was, on every database.
    free = rows_like(alert).filter(is_unclaimed(), status=alert.status)
    return since if free.update(sending_since=since) else None


def settle(alert: Any, since: datetime, errors: Sequence[str]) -> None:
    """Write down that an alert was sent, or why not, and end the claim; what people made of it meanwhile stays."""
    status = Case(When(status=alert.status, then=Value("failed" if errors else "sent")), default=F("status"))
    # Not before it was raised, whatever the clocks of two machines say: the database's constraint.
    sent_at = None if errors else max(timezone.now(), alert.triggered_at)
    known = {"status": status, "error_message": "\n".join(errors), "notification_sent_at": sent_at}
    if not rows_like(alert).filter(sending_since=since).update(sending_since=None, **known):
        logger.warning(
            "alert %s was deleted while it was sent, or took more than %s, and another process sent it too",
            alert.pk,
            TAKEOVER,
        )


def give_back(alert: Any, since: datetime) -> None:
    """End the claim of an alert whose sending was interrupted, so that the next call need not wait."""
    rows_like(alert).filter(sending_since=since).update(sending_since=None)
