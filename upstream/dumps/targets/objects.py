"""What targets on object stores share: there are no renames, so the manifest that is written last shows a dump.

    prefix/manifest.json                   the published dump; readers go by the names in it
    prefix/part-00000-1a2b3c4d.csv         its parts, and those of a dump that is being written
    prefix/shop.order/part-00000-...csv    the same of one model of several
    prefix/shop.order.csv                  its one file, if it is joined
    prefix/.upstream-dump/...              all else until then: plan, results, pieces to join, and a few marks

Every attempt of a part has a name of its own, so a dump replaces another without touching its parts: first the
manifest changes, then what it no longer tells of is deleted.
"""

import errno
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

from upstream.dumps.targets.protocol import MANIFEST, SHOWN, TargetError
from upstream.streaming.targets.buffers import closing_chunks

STAGED = ".upstream-dump/"
PLAN = f"{STAGED}plan"
# Marks, which are no staged names.
MARK = f"{STAGED}."
OPEN = f"{MARK}open"  # is there while parts may be written
FILES = f"{MARK}files"  # tells the joined files that are not in the manifest, or will not be
FOLDER = f"{MARK}folder-"  # names a folder of parts: only in such may parts be deleted
LOCK = f"{MARK}lock"
BUSY = "another dump is being written there, or its process died less than {} seconds ago: wait, and try again"


class Objects(ABC):
    """A target of objects by their keys below a prefix; a kind of store puts, reads, lists and deletes them."""

    @abstractmethod
    def __str__(self) -> str: ...

    @abstractmethod
    def as_data(self) -> Mapping[str, Any]: ...

    @abstractmethod
    def put(self, key: str, chunks: Iterable[bytes]) -> None:
        """Store a whole object, or nothing; one that is there is replaced."""

    @abstractmethod
    def get(self, key: str) -> Generator[bytes]:
        """Yield an object; raise FileNotFoundError if there is none."""

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Return whether there is an object."""

    @abstractmethod
    def keys(self) -> Sequence[str]:
        """Return all keys below the prefix."""

    @abstractmethod
    def delete(self, keys: Iterable[str]) -> None:
        """Delete the objects that are there."""

    @abstractmethod
    def locked(self) -> AbstractContextManager[None]:
        """Hold a lease on the prefix in the block; raise TargetError if another process has it."""

    def join(self, keys: Sequence[str], key: str) -> None:
        """Store objects, one after the other, as one."""
        self.put(key, (chunk for one in keys for chunk in self.get(one)))

    def end_uploads(self, is_ours: Callable[[str], bool]) -> None:  # noqa: B027 (most stores have none)
        """Abort the uploads that were begun and not ended, of those keys that are ours."""

    @contextmanager
    def claim(self, *, resume: bool, overwrite: bool) -> Iterator[None]:
        with self.locked():
            if not resume:
                self._start(overwrite=overwrite)
            self.put(OPEN, [b"\n"])
            try:
                yield
            except BaseException:
                with suppress(OSError):
                    if not self.names():
                        self.discard()
                raise

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        key, folder = _key(name), _folder(name)
        marks = [FOLDER + folder] if folder and key == name else []
        with closing_chunks(chunks):
            self._check_open()
            try:
                for mark in marks:
                    self.put(mark, [b"\n"])
                self.put(key, chunks)
                self._check_open()  # once more: after the end of the dump, nobody else would delete it
            except BaseException:
                with suppress(OSError):
                    self.delete([key] if self.exists(OPEN) else [key, *marks])
                raise

    def names(self) -> Sequence[str]:
        told, keys = self._told(), self.keys()
        staged = [key.removeprefix(STAGED) for key in keys if key.startswith(STAGED) and not key.startswith(MARK)]
        return sorted([*staged, *(key for key in keys if SHOWN.fullmatch(key) and key not in told)])

    def read(self, name: str) -> Generator[bytes]:
        return self.get(_key(name))

    def publish(self, names: Sequence[str], manifest: bytes, *, joined: str = "") -> None:
        if self.manifest() == manifest:  # an interruption came after it
            self.discard()
            return
        keys = list(map(_key, names))
        if set(keys) - set(self.keys()):
            raise TargetError(
                errno.ENOENT, "parts have gone: the dump was discarded, or another took its place", str(self)
            )
        files = {joined, self._file()} - {""}
        if files:
            self.put(FILES, [json.dumps(sorted(files)).encode()])
        for folder in set(map(_folder, self._told())) - {""}:  # the new manifest may not tell of it
            self.put(FOLDER + folder, [b"\n"])
        if joined:
            self.join(keys, joined)
        self.put(MANIFEST, [manifest])
        self.discard()

    def manifest(self) -> bytes | None:
        with suppress(FileNotFoundError):
            return b"".join(self.get(MANIFEST))
        return None

    def published(self) -> Sequence[str]:
        keys, told = self.keys(), self._told()
        shown = [key for key in keys if not key.startswith(STAGED) and key != MANIFEST]
        if OPEN in keys:  # the next dump is being written
            shown = [key for key in shown if key in told or not SHOWN.fullmatch(key)]
        return sorted(shown)

    def read_published(self, name: str) -> Generator[bytes]:
        return self.get(name)

    def discard(self) -> None:
        self.delete([OPEN])  # first: a part that still runs finds it gone, and deletes what it has written
        told, keys = self._told(), self.keys()
        is_ours = self._ours(keys, told)
        self.end_uploads(is_ours)
        # Last goes what tells, after an interruption, that the others are to be discarded.
        last = [key for key in keys if key in (PLAN, FILES) or key.startswith(FOLDER)]
        self.delete(key for key in keys if is_ours(key) and key not in {*told, *last})
        self.delete(last)

    def _start(self, *, overwrite: bool) -> None:
        keys = self.keys()
        if not overwrite and MANIFEST in keys:
            raise TargetError(errno.ENOTEMPTY, "a dump is there: choose another place, or overwrite it", str(self))
        if not overwrite and self.names():
            raise TargetError(errno.EEXIST, "an unfinished dump is there: resume it, or overwrite it", str(self))
        is_ours = self._ours(keys, self._told())
        foreign = [key for key in keys if not is_ours(key) and not key.startswith(LOCK)]
        if foreign:
            words = f"it holds what no dump has written, such as {foreign[0]!r}: choose another place"
            raise TargetError(errno.ENOTEMPTY, words, str(self))
        self.discard()

    def _check_open(self) -> None:
        if not self.exists(OPEN):
            words = "no dump is being written there: it has ended, was discarded, or has not begun"
            raise TargetError(errno.ESTALE, words, str(self))

    def _told(self) -> set[str]:
        """Return the keys of the published dump."""
        text = self.manifest()
        if text is None:
            return set()
        try:
            manifest = json.loads(text)
            models = manifest.get("models", [manifest])
            parts = [part["name"] for model in models if "file" not in model for part in model["parts"]]
            files = [model["file"] for model in models if "file" in model]
        except (ValueError, TypeError, LookupError, AttributeError):
            words = f"its {MANIFEST} is none of a dump: choose another place"
            raise TargetError(errno.EEXIST, words, str(self)) from None
        return {MANIFEST, *parts, *files}

    def _ours(self, keys: Iterable[str], told: set[str]) -> Callable[[str], bool]:
        """Return what tells whether a dump has written an object here; the lock has its own end."""
        files = told | self._other_files()
        marked = {key.removeprefix(FOLDER) for key in keys if key.startswith(FOLDER)}
        folders = {"", *marked, *map(_folder, told)}

        def is_ours(key: str) -> bool:
            if key.startswith(STAGED):
                return not key.startswith(LOCK)
            return key in files or (bool(SHOWN.fullmatch(key)) and _folder(key) in folders)

        return is_ours

    def _file(self) -> str:
        """Return the one file of the published dump, if it has one."""
        return next((key for key in self._told() if key != MANIFEST and not SHOWN.fullmatch(key)), "")

    def _other_files(self) -> set[str]:
        """Return the joined files that were to be written or replaced."""
        with suppress(FileNotFoundError):
            return set(json.loads(b"".join(self.get(FILES))))
        return set()


def relative(prefix: str, shown: str) -> str:
    """Return a prefix without slashes around it; raise TargetError for one that leads elsewhere."""
    names = prefix.strip("/").split("/") if prefix.strip("/") else []
    if any(name in ("", ".", "..") for name in names):
        raise TargetError(errno.EINVAL, f"{prefix!r} is no prefix: leave out empty names, '.' and '..'", shown)
    return "/".join(names)


def _key(name: str) -> str:
    return name if SHOWN.fullmatch(name) else STAGED + name


def _folder(name: str) -> str:
    return name.rpartition("/")[0]
