"""Bytes to a Django storage, where nothing appears before all of them came."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

from django.conf import settings
from django.core.files import File
from django.core.files.storage import FileSystemStorage, Storage, default_storage
from django.core.files.utils import validate_file_name

from upstream.streaming.targets.buffers import drain
from upstream.streaming.targets.files import make_directory, open_new, sibling_of, sync, sync_directory


def to_storage(chunks: Iterable[bytes], name: str, storage: Storage = default_storage) -> str:
    """Save `chunks` in a Django storage and return the name it chose; nothing is stored unless all of them came.

    The export is first spooled to disk, since storages publish what they got when a stream breaks off
    (FileSystemStorage and django-storages' S3 both do): in the storage's own directory where it has one, else
    in FILE_UPLOAD_TEMP_DIR. The memory is that of one chunk, the disk that of the export.
    """
    validate_file_name(name, allow_relative_path=True)
    if isinstance(storage, FileSystemStorage):
        return _save_in_directory(chunks, name, storage)
    with TemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR) as spool:
        drain(chunks, spool)
        spool.seek(0)
        return storage.save(name, File(spool, name))


class _NamedFile(File):  # type: ignore[type-arg]
    """A complete file that FileSystemStorage moves into place, rather than copying what it reads."""

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
        with spool.open("rb") as file:
            saved = storage.save(name, _NamedFile(file, str(spool)))
    finally:
        with suppress(FileNotFoundError):
            spool.unlink()
    sync_directory(Path(storage.path(saved)).parent)
    return saved
