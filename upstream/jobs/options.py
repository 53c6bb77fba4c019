"""The setting UPSTREAM_JOBS: how exports in the background are made, kept and told about."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from upstream.integrations.site_options import check_numbers, of_site

SETTING = "UPSTREAM_JOBS"
# Those that are numbers, all greater than 0.
NUMBERS = (
    "attempts",
    "lease_seconds",
    "retry_seconds",
    "link_seconds",
    "keep_days",
    "history_days",
    "per_user",
    "rows",
    "seconds",
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of exports in the background; the setting UPSTREAM_JOBS is a dict of them.

    `worker` says who makes them: "thread", one thread of each process that asks for them, "command", the processes
    of `run_export_jobs`, "tasks", the workers of Django's tasks framework, or another name in `workers.WORKERS`.

    Files are kept in `storage`, the alias of an entry in STORAGES or the dotted path of a storage class; by
    default in `directory`, which must be the same for all processes, and which no server may serve.

    A job whose worker fails runs again, `attempts` times in all, the first time after `retry_seconds`, and each
    time after twice as many. A worker that is silent for `lease_seconds` has lost its job to another one.

    A file is deleted after `keep_days`, and what is known of its job after `history_days`. A link to a file works
    for `link_seconds`. Nobody has more than `per_user` exports waiting or running.

    A download is made as a job if it has more than `rows` rows, or if its first byte would take `seconds`.
    With `redirect`, an object storage that signs its URLs sends the files itself.

    `prepare`, a function or its dotted path, is called with the request that is run again, and does what the
    site's middleware did for it; it may return a context manager, which is held until the export is made. `mail`
    is False, True to write to requesters when their exports have ended, or such a function, called with the job.
    """

    worker: str = "thread"
    storage: str = ""
    directory: str | os.PathLike[str] = ""
    attempts: int = 3
    lease_seconds: float = 60
    retry_seconds: float = 10
    link_seconds: float = 15 * 60
    keep_days: float = 7
    history_days: float = 90
    per_user: int = 20
    rows: int = 100_000
    seconds: float = 30
    redirect: bool = False
    prepare: Callable[..., Any] | str | None = None
    mail: Callable[..., Any] | str | bool = False

    def __post_init__(self) -> None:
        check_numbers(self, NUMBERS)

    @classmethod
    def of_site(cls) -> Self:
        """Return the options in the setting; raise ImproperlyConfigured for names that are none."""
        return of_site(cls, SETTING, "option")

    def function(self, name: str) -> Callable[..., Any] | None:
        """Return the function that an option is or names, or None."""
        value = getattr(self, name)
        found = import_string(value) if isinstance(value, str) and value else value
        if found and found is not True and not callable(found):
            raise ImproperlyConfigured(f"{SETTING}: {name} must be a function or its dotted path, not {value!r}")
        function: Callable[..., Any] | None = found if callable(found) else None
        return function
