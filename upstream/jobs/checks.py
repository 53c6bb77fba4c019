"""System checks of exports in the background. Their ids are stable."""

from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register  # noqa: A004
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import FileSystemStorage, InvalidStorageError, Storage

from upstream.jobs.files import storage
from upstream.jobs.offers import has_pages
from upstream.jobs.options import SETTING, Options
from upstream.jobs.workers import names

TAG = "exports"
# What some workers need to be installed.
NEEDS = {
    "celery": ("celery", "pip install 'upstream[celery]'"),
    "tasks": ("django.tasks", "use Django 6.0 or newer"),
}


@register(TAG, Tags.security)
def check_jobs(**_: Any) -> Iterable[CheckMessage]:
    """Check that the setting is valid, that its worker is there, and that nobody serves the files of exports."""
    try:
        options, place = Options.of_site(), storage()
        options.function("prepare"), options.function("mail")
    except (ImproperlyConfigured, ImportError, InvalidStorageError, TypeError) as error:
        return [Error(f"{SETTING} cannot be read: {error}", id="upstream_jobs.E001")]
    return [*_of_worker(options.worker), *_of_place(place)]


def _of_worker(worker: str) -> Iterator[CheckMessage]:
    if worker not in names():
        yield Error(
            f"{SETTING} has the unknown worker {worker!r}.",
            hint=f"Choose from: {', '.join(names())}",
            id="upstream_jobs.E002",
        )
    module, hint = NEEDS.get(worker, ("", ""))
    if module and find_spec(module) is None:
        yield Error(
            f"{SETTING} has the worker {worker!r}, which needs {module}.", hint=hint, id="upstream_jobs.E003"
        )


def _of_place(place: Storage) -> Iterator[CheckMessage]:
    """Yield what makes the files readable for everyone, as far as the settings tell."""
    hint = f"Name a storage of its own in {SETTING}, or leave it out for a private directory."
    if isinstance(place, FileSystemStorage):
        served = (settings.MEDIA_ROOT, settings.STATIC_ROOT, *_static_directories())
        inside = [
            str(root) for root in served if root and Path(place.location).is_relative_to(Path(root).resolve())
        ]
        if inside:
            yield Error(
                f"The files of exports are in {place.location}, inside of {inside[0]}, which a server may serve.",
                hint=hint,
                id="upstream_jobs.E004",
            )
    elif getattr(place, "querystring_auth", True) is False or "public" in str(getattr(place, "default_acl", "")):
        yield Error(
            f"The files of exports are in a {type(place).__name__} that gives them to everyone.",
            hint=hint,
            id="upstream_jobs.E004",
        )


def _static_directories() -> Iterator[Any]:
    entries: Iterable[Any] = getattr(settings, "STATICFILES_DIRS", ())
    for entry in entries:
        yield entry[1] if isinstance(entry, list | tuple) else entry


@register(Tags.urls)
def check_pages(**_: Any) -> Iterable[CheckMessage]:
    """Check that the site has the pages to which browsers are led."""
    if not has_pages():
        yield Warning(
            "The pages of exports are not among the site's URLs, so that browsers download large exports at once.",
            hint='Add path("exports/", include("upstream.jobs.urls")) to the URLs.',
            id="upstream_jobs.W001",
        )
