"""Save to a Django storage, where an object appears complete or not at all."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile

from django.conf import settings
from django.core.files import File, locks
from django.core.files.storage import FileSystemStorage, Storage, default_storage
from django.core.files.utils import validate_file_name

from upstream.streaming.targets.buffers import drain
from upstream.streaming.targets.files import (
    make_directory,
    open_directory,
    open_new,
    sibling_of,
    sync,
    sync_directory,
)


def to_storage(chunks: Iterable[bytes], name: str, storage: Storage = default_storage) -> str:
    """Save `chunks` in a Django storage when they are complete, close them, and return the name it chose.

    The export is spooled to disk first, since storages publish a truncated object when a stream fails
    (FileSystemStorage and django-storages' S3 both do): in the storage's directory for a FileSystemStorage, else
    in FILE_UPLOAD_TEMP_DIR. Memory holds one chunk, the disk the whole export.

        >>> from django.core.files.storage import InMemoryStorage
        >>> to_storage(stream([{"id": 1}]), "exports/rows.csv", InMemoryStorage())
        'exports/rows.csv'
    """
    validate_file_name(name, allow_relative_path=True)
    if isinstance(storage, FileSystemStorage):
        return _save_in_directory(chunks, name, storage)
    with TemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR) as spool:
        drain(chunks, spool)
        spool.seek(0)
        return storage.save(name, File(spool, name))


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Keep other exports from saving in a directory: Django may move a file over one of the same moment."""
    with ExitStack() as opened:
        with suppress(OSError):  # a system that locks no directories
            handle = opened.enter_context(open_directory(directory))
            locks.lock(handle, locks.LOCK_EX)
        yield


class _NamedFile(File):  # type: ignore[type-arg]
    """A complete file that FileSystemStorage moves into place instead of copying."""

    def temporary_file_path(self) -> str:
        return str(self.name)


def _save_in_directory(chunks: Iterable[bytes], name: str, storage: FileSystemStorage) -> str:
    directory = Path(storage.location)
    make_directory(directory, storage.directory_permissions_mode)
    spool = sibling_of(directory / "spool")
    try:
        with open_new(spool, storage.file_permissions_mode) as file:
            drain(chunks, file)
            sync(file)
        with spool.open("rb") as file, _alone_in(directory):
            saved = storage.save(name, _NamedFile(file, str(spool)))
    finally:
        with suppress(FileNotFoundError):
            spool.unlink()
    sync_directory(Path(storage.path(saved)).parent)
    return saved
