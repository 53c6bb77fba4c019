"""A local directory as the target of a dump."""

import errno
import glob
import secrets
import shutil
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upstream.dumps.targets.protocol import MANIFEST, READ_BYTES, TargetError
from upstream.streaming import to_file
from upstream.streaming.targets.files import sync_directory

LOCK = "lock"
LEFT = "[0-9a-f]" * 8  # what the name of a discarded directory ends with


@dataclass(frozen=True)
class Directory:
    """A directory that appears with the whole dump in it, or not at all.

    Until then everything is in a hidden directory beside it, on the same file system. Files and directories are
    synced to disk before they appear.
    """

    path: str

    def __str__(self) -> str:
        return self.path

    def as_data(self) -> Mapping[str, Any]:
        return {"kind": "directory", "path": str(self._final)}

    @property
    def _final(self) -> Path:
        return Path(self.path).resolve()  # a link is followed

    @property
    def _staging(self) -> Path:
        return self._final.with_name(f".{self._final.name}.upstream-dump")

    @property
    def _attempts(self) -> Path:
        return self._staging / "attempts"

    @property
    def _whole(self) -> Path:
        """Return the directory that becomes the final one."""
        return self._staging / "whole"

    @property
    def _replaced(self) -> Path:
        """Return where the final directory is kept while another takes its name."""
        return self._staging / "replaced"

    @property
    def _may_replace(self) -> Path:
        """Return the file that is there if the dump may replace what the final directory holds."""
        return self._staging / "overwrite"

    @contextmanager
    def claim(self, *, resume: bool, overwrite: bool) -> Iterator[None]:
        if self._final.exists() and not self._final.is_dir():
            raise TargetError(errno.ENOTDIR, "it is no directory: name another one", self.path)
        if self._final.is_mount():
            raise TargetError(
                errno.EBUSY, "it is mounted, so it cannot appear as a whole: name one inside", self.path
            )
        if not overwrite and not resume and self._final.exists() and any(self._final.iterdir()):
            raise TargetError(errno.ENOTEMPTY, "it is not empty: choose another, or overwrite it", self.path)
        self._staging.mkdir(parents=True, exist_ok=True)
        with _locked(self._staging / LOCK, self.path):
            for left in self._final.parent.glob(glob.escape(f"{self._staging.name}.") + LEFT):
                shutil.rmtree(left, ignore_errors=True)
            if not resume:
                self._start(overwrite=overwrite)
            yield

    def _start(self, *, overwrite: bool) -> None:
        if self._replaced.exists() and not self._final.exists():
            self._replaced.rename(self._final)  # the dump that was to replace it was interrupted, and is dropped
        if self._attempts.exists() and any(self._attempts.iterdir()) and not overwrite:
            raise TargetError(errno.EEXIST, "an unfinished dump is there: resume it, or overwrite it", self.path)
        for old in (self._attempts, self._whole):
            shutil.rmtree(old, ignore_errors=True)
        self._attempts.mkdir()
        if overwrite:
            self._may_replace.touch()
        else:
            self._may_replace.unlink(missing_ok=True)

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        to_file(chunks, _with_folder(self._attempts, name))

    def names(self) -> Sequence[str]:
        return sorted({name for place in (self._attempts, self._whole) for name in _names_in(place)})

    def read(self, name: str) -> Generator[bytes]:
        return _read(self._place(name))

    def publish(self, names: Sequence[str], manifest: bytes, *, joined: str = "") -> None:
        self._whole.mkdir(exist_ok=True)
        if joined:
            to_file((chunk for name in names for chunk in self.read(name)), self._whole / joined)
        for name in () if joined else names:
            self._place(name).replace(_with_folder(self._whole, name))
        shown = {joined} if joined else set(names)
        for left in set(_names_in(self._whole)) - shown:
            (self._whole / left).unlink()
        to_file([manifest], self._whole / MANIFEST)
        for folder in {(self._whole / name).parent for name in (*shown, MANIFEST)}:
            sync_directory(folder)
        self._replace_final()
        self.discard()

    def manifest(self) -> bytes | None:
        with suppress(FileNotFoundError, NotADirectoryError):
            return (self._final / MANIFEST).read_bytes()
        return None

    def published(self) -> Sequence[str]:
        return sorted(name for name in _names_in(self._final) if name != MANIFEST)

    def read_published(self, name: str) -> Generator[bytes]:
        return _read(self._final / name)

    def discard(self) -> None:
        # Under another name first, so that a part that still runs writes nothing there.
        left = self._staging.with_name(f"{self._staging.name}.{secrets.token_hex(4)}")
        with suppress(FileNotFoundError):
            self._staging.rename(left)
            shutil.rmtree(left, ignore_errors=True)

    def _place(self, name: str) -> Path:
        whole = self._whole / name
        return whole if whole.exists() else self._attempts / name

    def _replace_final(self) -> None:
        """Give the whole directory its final name; one that is replaced is kept, staged, until then."""
        if self._final.exists() and any(self._final.iterdir()):
            if not self._may_replace.exists():
                raise TargetError(errno.ENOTEMPTY, "it is no longer empty: empty it, and resume", self.path)
            shutil.rmtree(self._replaced, ignore_errors=True)
            self._final.rename(self._replaced)
        self._whole.replace(self._final)
        sync_directory(self._final.parent)


def _read(path: Path) -> Generator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(READ_BYTES):
            yield chunk


def _names_in(place: Path) -> list[str]:
    """Return the names of the files in a directory and its folders, without hidden ones."""
    files = [file for file in place.rglob("*") if file.is_file() and not file.name.startswith(".")]
    return [file.relative_to(place).as_posix() for file in files]


def _with_folder(place: Path, name: str) -> Path:
    """Return the path of a name, whose folder is made; never the place itself, which may be gone on purpose."""
    path = place / name
    if path.parent != place:
        path.parent.mkdir(exist_ok=True)
    return path


@contextmanager
def _locked(path: Path, shown: str) -> Iterator[None]:
    """Hold a lock that ends with the process, where the system has such locks."""
    try:
        import fcntl  # noqa: PLC0415 (Windows has none)
    except ImportError:
        yield
        return
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TargetError(
                errno.EBUSY, "another dump is being written there: wait for its end", shown
            ) from None
        yield
