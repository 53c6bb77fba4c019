"""How much the downloads of a site may take: at a time, and each of them."""

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from time import monotonic
from typing import Any, Self

from django.conf import settings
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.db.models import QuerySet
from django.http import HttpRequest

from upstream.streaming import ExportError, LimitError

logger = logging.getLogger(__name__)

SETTING = "UPSTREAM_EXPORT_LIMITS"
# A slot whose holder was killed is free again after so long; one that is read from is renewed.
LEASE_SECONDS = 120


class BusyError(ExportError):
    """As many exports run as may run at a time."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What downloads may take; None is no limit.

    `per_user` and `total` are how many may run at a time, for one user (or one address, where nobody is logged in)
    and for all; they are counted in the cache of that alias, which the processes of a site have to share. `rows`,
    `bytes` and `seconds` are for each. A download that is over a limit before its first byte is answered by 429
    with `Retry-After: retry_after`; one that goes over it later breaks off.
    """

    per_user: int | None = None
    total: int | None = None
    rows: int | None = None
    bytes: int | None = None
    seconds: float | None = None
    retry_after: int = 30
    cache: str = "default"

    def __post_init__(self) -> None:
        for name in ("per_user", "total", "rows", "bytes", "seconds", "retry_after"):
            limit = getattr(self, name)
            if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | float) or limit <= 0):
                raise ImproperlyConfigured(f"{name} is a number over 0, not {limit!r}")

    @classmethod
    def of_site(cls) -> Self:
        """Return the limits in the setting UPSTREAM_EXPORT_LIMITS, a dict of these names."""
        given = getattr(settings, SETTING, {})
        known = {field.name for field in fields(cls)}
        if unknown := set(given) - known:
            raise ImproperlyConfigured(
                f"{SETTING} has no {', '.join(sorted(unknown))}; known: {', '.join(sorted(known))}"
            )
        return cls(**given)

    def check_rows(self, source: Any) -> None:
        """Raise LimitError for a queryset of too many rows; other sources are counted as they are read."""
        if self.rows is None or not isinstance(source, QuerySet):
            return
        counted = source if source.query.is_sliced else source.order_by()[: self.rows + 1]
        if counted.count() > self.rows:
            raise LimitError(f"the export has more than {self.rows:,} rows: narrow it down")


class Slots:
    """The places of one download among those that may run at a time; use it once."""

    def __init__(self, limits: Limits, request: HttpRequest) -> None:
        self._limits, self._request = limits, request
        self._cache = caches[limits.cache]
        self._token = secrets.token_hex(8)
        self._held: list[str] = []
        self._renewed = monotonic()

    def take(self) -> None:
        """Take a place for the user and one among all; raise BusyError where none is free."""
        limits = self._limits
        places = {} if limits.per_user is None else {f"user:{_who(self._request)}": limits.per_user}
        if limits.total is not None:
            places["all"] = limits.total
        for group, number in places.items():
            keys = (f"upstream:export:{group}:{place}" for place in range(number))
            key = next((key for key in keys if self._cache.add(key, self._token, LEASE_SECONDS)), None)
            if key is None:
                self.free()
                raise BusyError(f"{number} exports run already: try again when one of them has ended")
            self._held.append(key)

    def renew(self) -> None:
        """Keep the places; call it as often as you like."""
        if self._held and monotonic() - self._renewed > LEASE_SECONDS / 4:
            self._renewed = monotonic()
            with _tolerated():
                for key in self._held:
                    if self._cache.get(key) == self._token:
                        self._cache.touch(key, LEASE_SECONDS)

    def free(self) -> None:
        """Give the places back, but for those that ran out and are another's by now."""
        held, self._held = self._held, []
        with _tolerated():
            for key in held:
                if self._cache.get(key) == self._token:
                    self._cache.delete(key)


@contextmanager
def _tolerated() -> Iterator[None]:
    """Log an error of the cache, which is no reason to break a download that is under way: its places run out."""
    try:
        yield
    except Exception:
        logger.exception("the cache fails that the limits of exports are counted in")


def _who(request: HttpRequest) -> str:
    user: Any = getattr(request, "user", None)
    if user is not None and user.is_authenticated:
        return str(user.pk)
    return f"at:{request.META.get('REMOTE_ADDR', '')}"
