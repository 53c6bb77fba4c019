"""Checks of Django's settings."""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.core.cache import BaseCache, caches
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils.module_loading import import_string

from upstream.integrations.limits import SETTING, Limits
from upstream.streaming.sources.model_columns import SENSITIVE_FIELDS, sensitive_names

DEMO = "upstream"
# The settings that say whose project it is, besides the name of the settings module.
OF_A_PROJECT = ("ROOT_URLCONF", "WSGI_APPLICATION", "ASGI_APPLICATION")
GZIP = "django.middleware.gzip.GZipMiddleware"
# Middleware that may come before it: it answers by itself, sets only headers, or stores compressed bodies.
OUTER = (
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.cache.UpdateCacheMiddleware",
    "whitenoise.",
    "corsheaders.",
)
LONE_CACHES = {LocMemCache: "each process counts alone", DummyCache: "nothing is counted"}


def check_demo(**_: Any) -> Iterable[CheckMessage]:
    """Check that the demo application, which registers this check, is not installed in a project of others."""
    own = [os.environ.get("DJANGO_SETTINGS_MODULE"), *(getattr(settings, name, None) for name in OF_A_PROJECT)]
    if not any(str(name).startswith(f"{DEMO}.") for name in own):
        yield Warning(
            f"{DEMO!r} in INSTALLED_APPS is the demo application of Upstream, with tables and pages of its own.",
            hint='Write "upstream.integrations" instead; it has no tables.',
            id="upstream_integrations.W010",
        )


def check_compression(**_: Any) -> Iterable[CheckMessage]:
    """Check that GZipMiddleware comes before all middleware that uses or changes bodies, as Django documents."""
    entries = [(entry, _names(entry)) for entry in settings.MIDDLEWARE]
    for position, (entry, names) in enumerate(entries):
        before = [other for other, its_names in entries[:position] if not _is_outer(its_names)]
        if GZIP in names and before:
            yield Warning(
                f"{entry} comes after {', '.join(before)}, which therefore get compressed bodies.",
                hint="Put it after SecurityMiddleware and UpdateCacheMiddleware, and before all others."
                ' For exports prefer stream(..., compression="gzip"), which it leaves unchanged.',
                id="upstream_integrations.W004",
            )


def check_persistent_connections(**_: Any) -> Iterable[CheckMessage]:
    """Check that no connection is persistent if ASGI_APPLICATION is set, which suggests an ASGI server."""
    if not getattr(settings, "ASGI_APPLICATION", None):
        return
    for alias in connections:
        age = connections[alias].settings_dict["CONN_MAX_AGE"]
        if age != 0:
            yield Warning(
                f"{alias!r} has CONN_MAX_AGE = {age} and ASGI_APPLICATION is set. Under ASGI each request has its"
                " own thread, so persistent connections are never reused and pile up.",
                hint='Set CONN_MAX_AGE = 0. On PostgreSQL threads can share a pool: "OPTIONS": {"pool": True}',
                id="upstream_integrations.W007",
            )


def check_limits(**_: Any) -> Sequence[CheckMessage]:
    """Check that the limits of the site are valid and their cache exists."""
    try:
        _counting()
    except (ImproperlyConfigured, TypeError) as error:
        return [Error(f"{SETTING} cannot be read: {error}", id="upstream_integrations.E001")]
    return []


def check_sensitive_fields(**_: Any) -> Iterable[CheckMessage]:
    """Check that the setting UPSTREAM_SENSITIVE_FIELDS is a list of names."""
    named = getattr(settings, SENSITIVE_FIELDS, ())
    try:
        sensitive_names()
    except ImproperlyConfigured as error:
        yield Error(f"{error}.", id="upstream_integrations.E002")
        return
    if isinstance(named, str):
        yield Error(
            f"{SENSITIVE_FIELDS} is a string, {named!r}.",
            hint=f"Write a list of field names: {SENSITIVE_FIELDS} = {sensitive_names()!r}",
            id="upstream_integrations.E002",
        )


def check_counting(**_: Any) -> Iterable[CheckMessage]:
    """Check that the processes of the site count running exports together."""
    with suppress(ImproperlyConfigured, TypeError):  # check_limits reports it
        limits, cache = _counting()
        counted = [name for name in ("per_user", "total") if getattr(limits, name) is not None]
        for kind, effect in LONE_CACHES.items():
            if counted and isinstance(cache, kind):
                yield Warning(
                    f"{SETTING} has {' and '.join(counted)}, but in the cache {limits.cache!r}, a {kind.__name__},"
                    f" {effect}.",
                    hint='Name a cache that all processes share, such as Redis or Memcached: "cache": "<alias>"',
                    id="upstream_integrations.W009",
                )


def _names(entry: str) -> set[str]:
    """Return the dotted names of a middleware and its base classes, or only its own if the import fails."""
    with suppress(Exception):  # Django reports it when it loads the middleware
        bases = getattr(import_string(entry), "__mro__", ())
        return {entry, *(f"{base.__module__}.{base.__qualname__}" for base in bases)}
    return {entry}


def _is_outer(names: Iterable[str]) -> bool:
    return any(name.startswith(OUTER) for name in names)


def _counting() -> tuple[Limits, BaseCache]:
    """Return the limits of the site and the cache that counts running exports."""
    limits = Limits.of_site()
    return limits, caches[limits.cache]
