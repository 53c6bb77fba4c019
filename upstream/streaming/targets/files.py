"""Write files that appear complete or not at all."""

import errno
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from upstream.streaming.targets.buffers import closing_chunks

FILE_MODE = 0o666  # minus the umask, as for any new file
OPEN_FILES = "/proc/self/fd"
MAX_LINKS = 40  # the limit of Linux


def to_file(chunks: Iterable[bytes], path: str | os.PathLike[str]) -> Path:
    """Write `chunks` to a file that appears only when it is complete, close them, and return its path.

    An existing file is replaced at the end, and kept on failure. A link is followed; devices and pipes are
    written directly. OSError names the path.
    """
    target = Path(path)
    with closing_chunks(chunks):
        _write(target, chunks)
    return target


def _write(path: Path, chunks: Iterable[bytes]) -> None:
    """Write `chunks` to `path`; an OSError of the file names the path, one of `chunks` passes unchanged."""
    source_errors: list[OSError] = []

    def watched() -> Iterator[bytes]:
        try:
            yield from chunks
        except OSError as error:
            source_errors.append(error)
            raise

    try:
        with _open(path) as file:
            file.writelines(watched())
            file.flush()
    except OSError as error:
        if error not in source_errors:
            _set_filename(error, path)
        raise


def _open(path: Path) -> AbstractContextManager[BinaryIO]:
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if _is_stream(path):
        return path.open("ab")  # /dev/stdout may be a file, which a shell's >> appends to
    try:
        target = path.resolve()
    except RuntimeError:  # a loop of links, before Python 3.13
        target = path
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return _replacing(target)


def _is_stream(path: Path) -> bool:
    """Return whether `path` is a device, a pipe, or a link to an open file such as /dev/stdout."""
    if path.exists() and not path.is_file():
        return True
    for _ in range(MAX_LINKS):
        path = path.parent.resolve() / path.name
        if path.parts[1:2] == ("proc",):
            return True
        if not path.is_symlink():
            return False
        path = path.parent / path.readlink()
    return False


@contextmanager
def _replacing(target: Path) -> Iterator[BinaryIO]:
    """Yield a file that becomes `target` at the end of the block, and is discarded on an error.

    Where O_TMPFILE is available, the file has no name until it is complete, so that not even a killed process
    leaves a partial file; elsewhere it is a hidden sibling. An existing `target` is kept until then.
    """
    sibling = sibling_of(target)
    unnamed = _open_unnamed(target.parent)
    try:
        with unnamed or open_new(sibling) as file:
            yield file
            sync(file)
            is_new = unnamed is not None and _link(file, target)
            if unnamed and not is_new:
                _link(file, sibling)
        if not is_new:
            sibling.replace(target)
    except BaseException:
        with suppress(FileNotFoundError):
            sibling.unlink()
        raise
    sync_directory(target.parent)


def sibling_of(target: Path) -> Path:
    """Return a random hidden name in the directory of `target`."""
    return target.with_name(f".upstream-{secrets.token_hex(8)}.part")


def open_new(path: Path, mode: int | None = None) -> BinaryIO:
    """Create a file that does not exist yet, with `mode` minus the umask, and open it for writing."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode or FILE_MODE), "wb")


def make_directory(path: Path, mode: int | None = None) -> None:
    """Create `path` and its missing parents, each with exactly `mode` if it is given."""
    missing = [directory for directory in (path, *path.parents) if not directory.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for directory in missing if mode else ():
        directory.chmod(mode or 0)


def sync(file: BinaryIO) -> None:
    """Flush and fsync a file, so that its data survives a power failure."""
    file.flush()
    os.fsync(file.fileno())


def sync_directory(directory: Path) -> None:
    """Fsync a directory, so that new names in it survive a power failure; skip it if it cannot be opened."""
    with suppress(PermissionError):
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _open_unnamed(directory: Path) -> BinaryIO | None:
    if not hasattr(os, "O_TMPFILE") or not Path(OPEN_FILES).exists():
        return None
    try:
        return os.fdopen(os.open(directory, os.O_WRONLY | os.O_TMPFILE, FILE_MODE), "wb")
    except OSError:  # no O_TMPFILE on this file system, or an error that opening a named file raises too
        return None


def _link(file: BinaryIO, path: Path) -> bool:
    """Link an unnamed file to `path`; return False if that name exists."""
    open_files = os.open(OPEN_FILES, os.O_RDONLY)
    try:
        # os.link() follows the link to the open file only with src_dir_fd.
        os.link(str(file.fileno()), path, src_dir_fd=open_files, follow_symlinks=True)
    except FileExistsError:
        return False
    finally:
        os.close(open_files)
    return True


def _set_filename(error: OSError, path: Path) -> None:
    """Make an error name `path`, not a temporary file or none."""
    error.filename = str(path)
    with suppress(AttributeError):
        del error.filename2
