"""Limits on downloads: how many run at once, and how large each may be."""

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
# A running download renews its slots; those of a killed one are free again after this time.
LEASE_SECONDS = 120


class BusyError(ExportError):
    """The maximum number of concurrent exports is reached."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits on downloads; None is no limit.

    `per_user` and `total` limit how many run at once: for one user, or one address if nobody is logged in, and for
    all users together. They are counted in the cache with the alias `cache`, which all processes of the site must
    share. `rows`, `bytes` and `seconds` limit each download. A limit exceeded before the first byte is answered
    with 429 and `Retry-After: retry_after`; one exceeded later breaks the download off.
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
                raise ImproperlyConfigured(f"{name} must be a number greater than 0, not {limit!r}")

    @classmethod
    def of_site(cls) -> Self:
        """Return the limits in the setting UPSTREAM_EXPORT_LIMITS, a dict of the fields of this class."""
        given = getattr(settings, SETTING, {})
        known = {field.name for field in fields(cls)}
        if unknown := set(given) - known:
            raise ImproperlyConfigured(
                f"unknown limit {', '.join(map(repr, sorted(unknown)))} in {SETTING}; "
                f"choose from: {', '.join(sorted(known))}"
            )
        return cls(**given)

    def check_rows(self, source: Any) -> None:
        """Raise LimitError if a queryset has too many rows; other sources are counted while they are read."""
        if self.rows is None or not isinstance(source, QuerySet):
            return
        counted = source if source.query.is_sliced else source.order_by()[: self.rows + 1]
        if counted.count() > self.rows:
            raise LimitError(f"the export has more than {self.rows:,} rows; narrow it with filters")


class Slots:
    """The slots that one download holds while it runs; use an instance for one download."""

    def __init__(self, limits: Limits, request: HttpRequest) -> None:
        self._limits, self._request = limits, request
        self._cache = caches[limits.cache]
        self._token = secrets.token_hex(8)
        self._held: list[str] = []
        self._renewed = monotonic()

    def take(self) -> None:
        """Take a slot of the user and one of the total; raise BusyError if none is free."""
        limits = self._limits
        counts = {} if limits.per_user is None else {f"user:{_who(self._request)}": limits.per_user}
        if limits.total is not None:
            counts["all"] = limits.total
        for group, count in counts.items():
            keys = (f"upstream:export:{group}:{slot}" for slot in range(count))
            key = next((key for key in keys if self._cache.add(key, self._token, LEASE_SECONDS)), None)
            if key is None:
                self.free()
                raise BusyError(f"{count} exports are running already; try again when one of them has ended")
            self._held.append(key)

    def renew(self) -> None:
        """Keep the slots for another lease; frequent calls are cheap."""
        if self._held and monotonic() - self._renewed > LEASE_SECONDS / 4:
            self._renewed = monotonic()
            with _tolerated():
                for key in self._held:
                    if self._cache.get(key) == self._token:
                        self._cache.touch(key, LEASE_SECONDS)

    def free(self) -> None:
        """Give the slots back, except those that expired and belong to another download by now."""
        held, self._held = self._held, []
        with _tolerated():
            for key in held:
                if self._cache.get(key) == self._token:
                    self._cache.delete(key)


@contextmanager
def _tolerated() -> Iterator[None]:
    """Log an error of the cache without breaking the running download; its slots expire by themselves."""
    try:
        yield
    except Exception:
        logger.exception("the cache that counts running exports fails; downloads go on")


def _who(request: HttpRequest) -> str:
    user: Any = getattr(request, "user", None)
    if user is not None and user.is_authenticated:
        return str(user.pk)
    return f"at:{request.META.get('REMOTE_ADDR', '')}"
