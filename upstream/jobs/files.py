"""The files of exports: where they are kept, and by which name each attempt writes its own."""

import hashlib
import re
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import FileSystemStorage, Storage, storages
from django.db import connections
from django.utils.module_loading import import_string

from upstream.jobs import states
from upstream.jobs.options import SETTING, Options

FOLDER = "upstream-exports"
DIRECTORY = ".exports"
_NAME = re.compile(r"([0-9a-f]{32})-([0-9a-f]{16,32})[.\w]*")


class PrivateStorage(FileSystemStorage):
    """A directory that only its owner can read, and that no URL leads to."""

    def __init__(self, location: Any = None, **options: Any) -> None:
        modes = {"file_permissions_mode": 0o600, "directory_permissions_mode": 0o700}
        super().__init__(location=location or default_directory(), **{**modes, **options})

    def url(self, name: str | None) -> str:
        """Raise ValueError: there is none."""
        raise ValueError(f"{name} has no URL: a view sends it to those who may have it")


def default_directory() -> Path:
    """Return the directory of exports: the option `directory`, or one in BASE_DIR."""
    if named := Options.of_site().directory:
        return Path(named)
    if base := getattr(settings, "BASE_DIR", None):
        return Path(base) / DIRECTORY
    raise ImproperlyConfigured(f"exports have no place: set the option 'directory' or 'storage' in {SETTING}")


def storage() -> Storage:
    """Return the storage of exports."""
    named = Options.of_site().storage
    if not named:
        return PrivateStorage()
    if named in settings.STORAGES:
        return storages[named]
    made: Storage = import_string(named)()
    return made


def folder() -> str:
    """Return the folder of this site's files: sites that share a storage have their jobs in other databases."""
    connection = connections[states.alias()]
    known = [connection.vendor, *(str(connection.settings_dict[name]) for name in ("HOST", "PORT", "NAME"))]
    return f"{FOLDER}/{hashlib.sha256(repr(known).encode()).hexdigest()[:16]}"


def name_of(job: UUID, lease: str, suffix: str) -> str:
    """Return the name by which one attempt at a job writes its file; no other attempt has it."""
    return f"{folder()}/{job.hex}-{lease}{suffix}"


def attempt_of(name: str) -> tuple[UUID, str] | None:
    """Return the job and the lease of the attempt that wrote a file, or None if no attempt writes such a name."""
    found = _NAME.match(name.rpartition("/")[2])
    return (UUID(found[1]), found[2]) if found else None
