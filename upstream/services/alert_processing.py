"""Which drift events alert, how urgent an alert is, and how it reaches people."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from math import log10
from typing import Any

from django.utils import timezone

from upstream.services.alert_claims import claim, give_back, is_unclaimed, settle
from upstream.services.delivery import addresses_of, check_channel, deliver

BATCH_ROWS = 500
# From this much money at stake on, the revenue's part of the priority is full.
FULL_IMPACT = 100_000
# An alert is noise if as many like it were raised within these days.
NOISE_DAYS = 7
NOISE_ALERTS = 3
# What makes two alerts alike: of one rule, about one measure, at one payer.
ALIKE = ("alert_rule", "payer", "cpt_group", "drift_type")
EVENT_FIELDS = (
    *("id", "payer", "cpt_group", "drift_type", "baseline_value", "current_value", "delta_value", "severity"),
    *("confidence", "estimated_revenue_impact", "trend_direction", "consecutive_periods", "suppressed"),
)


class AlertProcessingService:
    """Turn drift events into alerts, and alerts into messages. Every method is static and keeps no state.

    Drift events, rules and alerts are dicts, or the application's instances. Datetimes must be
    aware; a naive one raises ValueError.
    """

    @staticmethod
    def evaluate_alert_rules(drift_events: Iterable[Any], alert_rules: Iterable[Any]) -> list[dict[str, Any]]:
        """Return the alerts that the rules ask for, in the order of the events and, for each, of the rules.

        A rule alerts if it is enabled and belongs to the event's customer (where both name one), its
        `drift_type_filter` is empty or the event's, and the event's `severity` is at least its `threshold_value`.
        Suppressed events never alert.

        Returns:
            Dicts of `alert_rule` and `drift_event` (the keys, where there are any), `customer`, `rule` (its name),
            `priority` (see `compute_alert_priority`), and the event's payer, cpt_group, drift_type, values,
            severity, confidence, impact and trend.

        Example:
            >>> rule = {"id": 7, "name": "Denials", "threshold_value": 0.4, "drift_type_filter": "DENIAL_RATE"}
            >>> event = {"id": 1, "payer": "Summit Mutual", "drift_type": "DENIAL_RATE", "severity": 0.8}
            >>> alerts = AlertProcessingService.evaluate_alert_rules([event], [rule])
            >>> [(alert["rule"], alert["drift_event"], alert["priority"]) for alert in alerts]
            [('Denials', 1, 4)]
        """
        return list(_triggered(drift_events, alert_rules))

    @staticmethod
    def compute_alert_priority(alert_data: Any) -> int:
        """Return how urgent an alert is, from 0 to 10.

        Severity counts up to 5, money at stake up to 3 (on a logarithmic scale, full from $100,000 on), a drift of
        three periods or more 1, and a worsening trend 1. What is missing counts 0. An improving trend halves the
        whole: it is news, and no emergency.

        Example:
            >>> alert = {"severity": 1, "estimated_revenue_impact": -250_000, "trend_direction": "worsening"}
            >>> AlertProcessingService.compute_alert_priority(alert)
            9
        """
        severity = min(1.0, max(0.0, float(_of(alert_data, "severity") or 0)))
        impact = abs(float(_of(alert_data, "estimated_revenue_impact") or 0))
        trend = _of(alert_data, "trend_direction")
        priority: float = 5 * severity + 3 * min(1.0, log10(1 + impact) / log10(1 + FULL_IMPACT))
        priority += (_of(alert_data, "consecutive_periods") or 0) >= 3
        priority += trend == "worsening"
        return round(priority / 2 if trend == "improving" else priority)

    @staticmethod
    def should_suppress_alert(
        alert: Any,
        history: Iterable[Any],
        cooldown_hours: float = 4,
        noise_window_days: float = NOISE_DAYS,
        noise_threshold: int = NOISE_ALERTS,
    ) -> bool:
        """Tell whether an alert would only repeat what people have heard.

        Alerts are alike if they have the same alert_rule, payer, cpt_group and drift_type; a name that the alert
        does not have is not compared. It is suppressed if an alert like it was raised less than `cooldown_hours`
        before, or at least `noise_threshold` of them within the `noise_window_days` before.

        Args:
            alert: its `triggered_at` is when it is raised; now, if it has none.
            history: earlier alerts, in any order, iterated once at most. The alert itself, by its `id`, and alerts
                after it do not count.

        Example:
            >>> from datetime import datetime, timedelta, timezone
            >>> noon = datetime(2026, 11, 28, 12, tzinfo=timezone.utc)
            >>> first = {"payer": "Summit Mutual", "triggered_at": noon}
            >>> later = {"payer": "Summit Mutual", "triggered_at": noon + timedelta(hours=3)}
            >>> AlertProcessingService.should_suppress_alert(later, [first])
            True
        """
        now = _aware(_of(alert, "triggered_at") or timezone.now())
        kind = {name: value for name, value in _kind(alert).items() if value is not None}
        noise = 0
        for other in history:
            if _key(other) is not None and _key(other) == _key(alert):
                continue
            age = now - _aware(_of(other, "triggered_at"))
            if age < timedelta(0) or not kind.items() <= _kind(other).items():
                continue
            noise += age <= timedelta(days=noise_window_days)
            if age < timedelta(hours=cooldown_hours) or noise >= noise_threshold:
                return True
        return False

    @staticmethod
    def process_alert_delivery(alert: Any, channels: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Send an alert by e-mail and to webhooks.

        Each channel gets up to three attempts, with growing pauses, where another attempt may help: lost
        connections, SMTP codes below 500, HTTP 408, 425, 429, 500, 502, 503 and 504. So a channel may get an alert
        twice; webhooks tell by the header Idempotency-Key. One channel's failure does not stop the others.

        Args:
            alert: a dict, or an AlertEvent.
            channels: dicts such as `{"type": "email", "to": ["ann@example.com"]}`, sent by Django's mail settings,
                and `{"type": "webhook", "url": "https://..."}`, which gets the alert as JSON (extra `alerts`).
                Redirects are not followed. A host with a link-local address is refused, and the address that was
                checked is the one connected to.

        Returns:
            A dict of `delivered` (whether there are channels, and all took it) and `results`, one dict for each
            channel: `type`, `target`, `delivered`, `attempts` and `error`.

        Raises:
            ValueError: a channel cannot be one; nothing is sent then.
        """
        for channel in channels:
            check_channel(channel)
        facts = _facts(alert)
        results = [deliver(facts, channel) for channel in channels]
        return {"delivered": bool(results) and all(one["delivered"] for one in results), "results": results}

    @staticmethod
    def channels_of(alert_rule: Any) -> list[dict[str, Any]]:
        """Return the channels of a rule: its `email_recipients`, one on each line, and its `webhook_url`.

        Example:
            >>> AlertProcessingService.channels_of({"email_recipients": "ann@example.com", "webhook_url": ""})
            [{'type': 'email', 'to': ['ann@example.com']}]
        """
        addresses = addresses_of(_of(alert_rule, "email_recipients") or "")
        url = _of(alert_rule, "webhook_url")
        channels: list[dict[str, Any]] = [{"type": "email", "to": addresses}] if addresses else []
        return channels + ([{"type": "webhook", "url": url}] if url else [])

    @staticmethod
    def create_alert_events(report_run: Any) -> int:
        """Raise the alerts that a report run's drift events ask for; return how many were raised.

        The rules are the customer's enabled ones. An event that has an alert of a rule gets no second one, so the
        call can be repeated. Alerts that would only repeat earlier ones are left out, as `should_suppress_alert`
        tells. Memory holds 500 events, and the last three alerts of each kind within the noise window. Of two
        calls at a time, both may count an alert that is raised once.
        """
        customer = report_run.customer
        rules = list(customer.alert_rules.filter(enabled=True).order_by("pk"))
        history = _History(customer)
        created = 0
        for events in _batches(report_run.drift_events.filter(suppressed=False)):
            alerts = list(_triggered(events, rules))
            raised = customer.alert_events.filter(drift_event__in=[event.pk for event in events])
            known = set(raised.values_list("alert_rule_id", "drift_event_id"))
            new = [alert for alert in alerts if (alert["alert_rule"], alert["drift_event"]) not in known]
            rows = [_alert_event(customer, alert) for alert in new if history.admits(alert)]
            # Another process may have raised one of them since: the database's constraint lets it stand once.
            customer.alert_events.bulk_create(rows, ignore_conflicts=True)
            created += len(rows)
        return created

    @staticmethod
    def deliver_alert_events(alert_events: Any, *, again: bool = False) -> dict[str, int]:
        """Send the pending alerts of a queryset by the channels of their rules; count those sent and failed.

        Each alert is claimed before it is sent, and what became of it is saved at once. So calls at the same time,
        in any number of processes, share the alerts, and each is sent once. If a process is killed while it sends
        one, nobody knows whether that went out: from 15 minutes later on, the next call sends it again. Call this
        outside a transaction, whose claims nobody else would see.

        Args:
            alert_events: a queryset of `AlertEvent`. Those that another process is sending are left to it; those
                whose rule has no channel stay pending, in the inbox.
            again: also send alerts that could not be delivered before.
        """
        counts = {"sent": 0, "failed": 0}
        waiting = alert_events.filter(is_unclaimed(), status__in=("pending", "failed") if again else ("pending",))
        for alerts in _batches(waiting.select_related("alert_rule", "drift_event", "customer")):
            for alert in alerts:
                channels = AlertProcessingService.channels_of(alert.alert_rule)
                if channels and (since := claim(alert)):
                    counts["sent" if _delivered(alert, since, channels) else "failed"] += 1
        return counts


class _History:
    """The last alerts of each kind, as many as noise takes."""

    def __init__(self, customer: Any) -> None:
        self._now = timezone.now()
        self._times: dict[tuple[Any, ...], deque[datetime]] = {}
        names = ("alert_rule_id", "drift_event__payer", "drift_event__cpt_group", "drift_event__drift_type")
        recent = customer.alert_events.filter(triggered_at__gte=self._now - timedelta(days=NOISE_DAYS))
        for *key, triggered_at in recent.order_by("triggered_at").values_list(*names, "triggered_at").iterator():
            self._last(tuple(key)).append(triggered_at)

    def admits(self, alert: Mapping[str, Any]) -> bool:
        """Tell whether an alert is to be raised now; if so, it is part of the history."""
        key = tuple(alert[name] for name in ALIKE)
        like = {name: alert[name] for name in ALIKE}
        history = ({**like, "triggered_at": at} for at in self._last(key))
        if AlertProcessingService.should_suppress_alert({**like, "triggered_at": self._now}, history):
            return False
        self._last(key).append(self._now)
        return True

    def _last(self, key: tuple[Any, ...]) -> deque[datetime]:
        return self._times.setdefault(key, deque(maxlen=NOISE_ALERTS))


def _triggered(drift_events: Iterable[Any], alert_rules: Iterable[Any]) -> Iterator[dict[str, Any]]:
    rules = list(alert_rules)
    for event in drift_events:
        if not _of(event, "suppressed"):
            yield from (_alert(event, rule) for rule in rules if _matches(event, rule))


def _matches(event: Any, rule: Any) -> bool:
    enabled, customer = _of(rule, "enabled"), _customer(rule)
    return (
        enabled is not False
        and (customer is None or _customer(event) in (None, customer))
        and _of(rule, "drift_type_filter") in (None, "", _of(event, "drift_type"))
        and float(_of(event, "severity") or 0) >= float(_of(rule, "threshold_value") or 0)
    )


def _alert(event: Any, rule: Any) -> dict[str, Any]:
    facts = {name: _of(event, name) for name in EVENT_FIELDS if name not in ("id", "suppressed")}
    return {
        "alert_rule": _key(rule),
        "drift_event": _key(event),
        "customer": _customer(event),
        "rule": _of(rule, "name"),
        "priority": AlertProcessingService.compute_alert_priority(event),
        **facts,
    }


def _alert_event(customer: Any, alert: Mapping[str, Any]) -> Any:
    payload = {
        name: _plain(alert[name]) for name in ("rule", "payer", "cpt_group", "drift_type", "severity", "priority")
    }
    return customer.alert_events.model(
        customer=customer,
        alert_rule_id=alert["alert_rule"],
        drift_event_id=alert["drift_event"],
        payload=payload,
    )


def _delivered(alert: Any, since: datetime, channels: Sequence[Mapping[str, Any]]) -> bool:
    """Send an alert claimed since then, save what became of it, and tell whether all channels took it."""
    try:
        answer = AlertProcessingService.process_alert_delivery(alert, channels)
        errors = [f"{one['target']}: {one['error']}" for one in answer["results"] if one["error"]]
    except ValueError as error:  # a rule that came in another way than by its form; the other alerts go on
        errors = [str(error)]
    except BaseException:
        give_back(alert, since)
        raise
    settle(alert, since, errors)
    return not errors


def _facts(alert: Any) -> dict[str, Any]:
    """Return what a message tells of an alert, as plain values."""
    if isinstance(alert, Mapping):
        return {name: _plain(value) for name, value in alert.items()}
    event = alert.drift_event
    told = {name: _plain(getattr(event, name)) for name in EVENT_FIELDS if name not in ("id", "suppressed")}
    return {
        "id": f"alert-{alert.pk}",
        "rule": alert.alert_rule.name,
        "customer": alert.customer.name,
        **told,
        "triggered_at": alert.triggered_at.isoformat(),
        "priority": AlertProcessingService.compute_alert_priority(event),
    }


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Decimal) else value


def _batches(queryset: Any) -> Iterator[list[Any]]:
    """Yield the rows in the order of their keys; each batch is read when the one before it is done."""
    rest = queryset = queryset.order_by("pk")
    while rows := list(rest[:BATCH_ROWS]):
        yield rows
        rest = queryset.filter(pk__gt=rows[-1].pk)


def _of(record: Any, name: str) -> Any:
    return record.get(name) if isinstance(record, Mapping) else getattr(record, name, None)


def _key(record: Any) -> Any:
    return _of(record, "id")


def _kind(alert: Any) -> dict[str, Any]:
    """Return what makes alerts alike; an AlertEvent has it from its rule and its drift event."""
    if isinstance(alert, Mapping):
        return {name: alert.get(name) for name in ALIKE}
    event = alert.drift_event
    return {"alert_rule": alert.alert_rule_id, **{name: getattr(event, name) for name in ALIKE[1:]}}


def _customer(record: Any) -> Any:
    if isinstance(record, Mapping):
        return record.get("customer_id", record.get("customer"))
    return record.customer_id


def _aware(moment: datetime | None) -> datetime:
    if moment is None:
        raise ValueError("an alert of the history has no triggered_at")
    if timezone.is_naive(moment):
        raise ValueError(f"{moment!r} has no time zone: use django.utils.timezone.now() and aware datetimes")
    return moment
