"""Limits on downloads: how many run at once, and how large each may be."""

import logging
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any, Self

from django.core.cache import caches
from django.core.cache.backends.db import BaseDatabaseCache
from django.core.cache.backends.filebased import FileBasedCache
from django.core.files import locks
from django.db import connections, router
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.module_loading import import_string

from upstream.integrations.leases import Keeper
from upstream.integrations.site_options import check_numbers, of_site
from upstream.integrations.statements import statement_limit
from upstream.streaming import ExportError, LimitError
from upstream.streaming.databases import database_of

logger = logging.getLogger(__name__)

SETTING = "UPSTREAM_EXPORT_LIMITS"
# A running download renews its slots; those of a killed one are free again after this time.
LEASE_SECONDS = 120
# The address of a proxy on the same machine; it is empty behind a Unix socket.
LOCAL_PROXIES = ("", "127.0.0.1", "::1")


class BusyError(ExportError):
    """The maximum number of concurrent exports is reached."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits on downloads; None is no limit.

    `per_user` and `total` limit how many run at once, from the request to the last byte: for one user, and for all
    users together. They are counted in the cache with the alias `cache`, which all processes of the site must
    share. `who`, a function or its dotted path, returns the user's name for a request; by default it is the user's
    primary key or, if nobody is logged in, the address that `default_who` describes.

    `rows`, `bytes` and `seconds` limit each download. `seconds` run from the request on, and include counting the
    rows. A limit exceeded before the first byte is answered with 429 and `Retry-After: retry_after`; one exceeded
    later breaks the download off, even if the client does not read.
    """

    per_user: int | None = None
    total: int | None = None
    rows: int | None = None
    bytes: int | None = None
    seconds: float | None = None
    retry_after: int = 30
    cache: str = "default"
    who: Callable[[HttpRequest], str] | str | None = None

    def __post_init__(self) -> None:
        check_numbers(self, ("per_user", "total", "rows", "bytes", "seconds", "retry_after"))

    @classmethod
    def of_site(cls) -> Self:
        """Return the limits in the setting UPSTREAM_EXPORT_LIMITS, a dict of the fields of this class."""
        return of_site(cls, SETTING, "limit")

    def name_of(self, request: HttpRequest) -> str:
        """Return the name under which `per_user` counts the downloads of a request."""
        who = import_string(self.who) if isinstance(self.who, str) else self.who or default_who
        return str(who(request))

    def check_rows(self, source: Any, seconds: float | None = None) -> None:
        """Raise LimitError if a queryset has too many rows; other sources are counted while they are read.

        Raise DeadlineError if counting takes longer than `seconds`.
        """
        if self.rows is None or not isinstance(source, QuerySet):
            return
        counted = source if source.query.is_sliced else source.order_by()[: self.rows + 1]
        with statement_limit(counted.db, seconds):
            count = counted.count()
        if count > self.rows:
            raise LimitError(f"the export has more than {self.rows:,} rows; narrow it with filters")


def default_who(request: HttpRequest) -> str:
    """Return the primary key of the user who is logged in, or the address of the client.

    Behind a proxy on the same machine that is the last address of X-Forwarded-For, which the proxy added. Other
    addresses in it can be forged, and so can all of them without a proxy.
    """
    user: Any = getattr(request, "user", None)
    if user is not None and user.is_authenticated:
        return str(user.pk)
    address = str(request.META.get("REMOTE_ADDR", ""))
    if address in LOCAL_PROXIES:
        address = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip() or address
    return f"at:{address}"


class Slots:
    """The slots that one download holds while it runs; use an instance for one download."""

    def __init__(self, limits: Limits, request: HttpRequest) -> None:
        self._limits, self._request = limits, request
        self._token = secrets.token_hex(8)
        self._held: list[str] = []
        self._lock = Lock()  # what is given back must not be renewed at the same time

    @property
    def held(self) -> bool:
        """Whether there are slots to renew."""
        return bool(self._held)

    @property
    def _cache(self) -> Any:
        return caches[self._limits.cache]  # each thread has its own

    def take(self) -> None:
        """Take a slot of the user and one of the total; raise BusyError if none is free."""
        limits = self._limits
        counts = {}
        if limits.per_user is not None:
            # A cache may refuse long keys, and those with spaces.
            name = sha256(limits.name_of(self._request).encode(errors="replace")).hexdigest()[:32]
            counts[f"user:{name}"] = limits.per_user
        if limits.total is not None:
            counts["all"] = limits.total
        if counts:
            self._outside_transaction(partial(self._take, counts))

    def _take(self, counts: dict[str, int]) -> None:
        for group, count in counts.items():
            keys = (f"upstream:export:{group}:{slot}" for slot in range(count))
            with _atomic_add(self._cache):
                key = next((key for key in keys if self._cache.add(key, self._token, LEASE_SECONDS)), None)
            if key is None:
                self._free()
                raise BusyError(f"{count} exports are running already; try again when one of them has ended")
            self._held.append(key)

    def renew(self) -> None:
        """Keep the slots for another lease, also those that the cache dropped to make room."""
        with _tolerated(), self._lock:
            for key in self._held:
                if self._cache.get(key) == self._token:
                    self._cache.touch(key, LEASE_SECONDS)
                else:
                    self._cache.add(key, self._token, LEASE_SECONDS)

    def free(self) -> None:
        """Give the slots back, except those that expired and belong to another download by now."""
        if self._held:
            with _tolerated():
                self._outside_transaction(self._free)

    def _free(self) -> None:
        with self._lock:
            held, self._held = self._held, []
            for key in held:
                if self._cache.get(key) == self._token:
                    self._cache.delete(key)

    def _outside_transaction(self, work: Callable[[], None]) -> None:
        """Use the cache in another thread if its database is in a transaction: others see nothing of it before.

        Not if the database has one writer, which would keep that thread waiting.
        """
        if not isinstance(self._cache, BaseDatabaseCache):
            work()
            return
        connection: Any = connections[router.db_for_write(self._cache.cache_model_class)]
        blocks = [block for block in connection.atomic_blocks if not block._from_testcase]  # noqa: SLF001
        if database_of(connection).has_one_writer or not (blocks or connection.needs_rollback):
            work()
            return
        with ThreadPoolExecutor(1) as other:
            other.submit(_closing_connections, work).result()


@contextmanager
def _atomic_add(cache: Any) -> Iterator[None]:
    """Let no other thread or process add to a cache of files, which looks first and writes then."""
    if not isinstance(cache, FileBasedCache):
        yield
        return
    directory = Path(cache._dir)  # type: ignore[attr-defined]  # noqa: SLF001
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (directory / "upstream-export.lock").open("wb") as file:
        locks.lock(file, locks.LOCK_EX)
        yield


def _closing_connections(work: Callable[[], None]) -> None:
    try:
        work()
    finally:
        connections.close_all()


keeper = Keeper(lambda: LEASE_SECONDS / 4)


@contextmanager
def _tolerated() -> Iterator[None]:
    """Log an error of the cache without breaking the running download; its slots expire by themselves."""
    try:
        yield
    except Exception:
        logger.exception("the cache that counts running exports fails; downloads go on")
