"""Any Django storage as the target of a dump."""

import errno
import secrets
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any

from django.core.files.storage import FileSystemStorage, InvalidStorageError, Storage, storages

from upstream.dumps.targets import leases
from upstream.dumps.targets.objects import BUSY, LOCK, MARK, STAGED, Objects, relative
from upstream.dumps.targets.protocol import READ_BYTES, TargetError
from upstream.streaming import to_storage
from upstream.streaming.targets.buffers import closing_chunks
from upstream.streaming.targets.files import make_directory, sync_directory

OWN_MODULES = ("builtins", "django", "upstream")  # whose exceptions are no storage's


@dataclass(frozen=True)
class StorageTarget(Objects):
    """A prefix of one of settings.STORAGES, by its alias; `storage:alias/prefix` on a command line.

    Each object is spooled to disk, and saved when it is complete, as by `to_storage`; its size is compared with
    what was written. One file is joined by reading the parts again, where memory holds what the storage itself
    holds of an object that it opens. Where the storage never replaces an object, as InMemoryStorage, the manifest
    and the one file that are replaced are deleted a moment before. Errors of a storage's own library are OSErrors.

    Of two dumps at once, each leaves a lock with the time, looks for others, and gives way to those of the last
    60 seconds. That needs clocks that agree, and a storage that lists what was just saved.
    """

    alias: str
    prefix: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefix", relative(self.prefix, str(self)))

    def __str__(self) -> str:
        return f"storage:{self.alias}/{self.prefix}"

    def as_data(self) -> Mapping[str, Any]:
        return {"kind": "storage", "alias": self.alias, "prefix": self.prefix}

    @property
    def _storage(self) -> Storage:
        try:
            return storages[self.alias]
        except InvalidStorageError as error:
            raise TargetError(errno.EINVAL, str(error), str(self)) from error

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what a storage's own library raises into an OSError: it may pass, so a part that met it runs again.

        An OSError is left as it is, and so are Python's built-in exceptions and Django's, which tell of mistakes.
        """
        try:
            yield
        except Exception as error:
            if isinstance(error, OSError) or type(error).__module__.partition(".")[0] in OWN_MODULES:
                raise
            words = f"the storage has failed with {type(error).__name__}: {error}"
            raise OSError(errno.EIO, words, str(self)) from error

    def _name(self, key: str) -> str:
        return f"{self.prefix}/{key}".strip("/")

    def put(self, key: str, chunks: Iterable[bytes]) -> None:
        name = self._name(key)
        with self._errors():
            storage = self._storage
        if type(storage) is FileSystemStorage:
            _replace_file(storage, name, self._name(STAGED), chunks)
            return
        is_new, counted = not self.exists(key), _Counted(chunks)
        try:
            saved = to_storage(_with_room(storage, name, counted), name, storage)
        except BaseException:
            if is_new:
                with suppress(Exception):
                    storage.delete(name)
            if not counted.is_whole:  # it is the source's
                raise
            with self._errors():
                raise
        with self._errors():
            if saved != name or storage.size(name) != counted.size:
                storage.delete(saved)
                words = f"the storage has saved {saved!r}, and not all bytes under {name!r}"
                raise OSError(errno.EIO, words, str(self))

    def get(self, key: str) -> Generator[bytes]:
        with self._errors(), self._storage.open(self._name(key), "rb") as file:
            while chunk := file.read(READ_BYTES):
                yield chunk

    def exists(self, key: str) -> bool:
        with self._errors():
            return self._storage.exists(self._name(key))

    def keys(self) -> Sequence[str]:
        return list(self._below(""))

    def _below(self, key: str) -> Iterator[str]:
        folders, files = self._listed(key)
        yield from (key + name for name in files)
        for folder in folders:
            yield from self._below(f"{key}{folder}/")

    def _listed(self, key: str) -> tuple[list[str], list[str]]:
        try:
            with self._errors():
                return self._storage.listdir(self._name(key))
        except FileNotFoundError:
            return [], []
        except NotImplementedError as error:
            raise TargetError(errno.ENOTSUP, "its storage cannot list files: choose another", str(self)) from error

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            with suppress(FileNotFoundError), self._errors():
                self._storage.delete(self._name(key))

    @contextmanager
    def locked(self) -> Iterator[None]:
        try:
            locks = [self._lock()]
        except FileNotFoundError:  # another dump has just ended, and taken the folder away
            raise self._busy() from None

        def renew() -> bool:
            locks.append(self._lock())
            self.delete([locks[0]])
            del locks[0]
            return True

        try:
            others = [key for key in self.keys() if key.startswith(LOCK) and key not in locks]
            stale = [key for key in others if _age(key) > leases.LEASE_SECONDS]
            if len(stale) < len(others):
                raise self._busy()
            self.delete(stale)
            with leases.renewed(renew):
                yield
        finally:
            self.delete(locks)
            self._drop_folders()

    def _lock(self) -> str:
        key = f"{LOCK}-{int(time())}-{secrets.token_hex(4)}"
        self.put(key, [b"\n"])
        return key

    def _busy(self) -> TargetError:
        return TargetError(errno.EBUSY, BUSY.format(leases.LEASE_SECONDS), str(self))

    def _drop_folders(self) -> None:
        """Delete the folders that are empty, where a storage has such."""
        storage = self._storage
        if isinstance(storage, FileSystemStorage):
            place = Path(storage.path(self.prefix or self._name(STAGED)))
            with suppress(OSError):  # one that is not empty, or just gone
                for folder in sorted((path for path in place.rglob("*") if path.is_dir()), reverse=True):
                    with suppress(OSError):
                        folder.rmdir()
                place.rmdir()


class _Counted:
    """Chunks whose bytes are counted on their way; `is_whole` when there are no more."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.chunks, self.size, self.is_whole = chunks, 0, False

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self.chunks:
            self.size += len(chunk)
            yield chunk
        self.is_whole = True


def _with_room(storage: Storage, name: str, chunks: _Counted) -> Generator[bytes]:
    """Yield chunks and then, if the storage would choose another name since this one is taken, delete that one."""
    with closing_chunks(chunks.chunks):
        yield from chunks
    if storage.get_available_name(name) != name:
        storage.delete(name)


def _replace_file(storage: FileSystemStorage, name: str, folder: str, chunks: Iterable[bytes]) -> None:
    """Save in a folder of the same file system, and rename."""
    folder_storage = FileSystemStorage(
        storage.path(folder),
        file_permissions_mode=storage.file_permissions_mode,
        directory_permissions_mode=storage.directory_permissions_mode,
    )
    temporary = f"{MARK.removeprefix(STAGED)}{secrets.token_hex(8)}"
    saved, path = folder_storage.path(to_storage(chunks, temporary, folder_storage)), Path(storage.path(name))
    make_directory(path.parent, storage.directory_permissions_mode)
    Path(saved).replace(path)
    sync_directory(path.parent)


def _age(lock: str) -> float:
    """Return how long ago a lock was taken or renewed."""
    return time() - int(lock.split("-")[-2])
