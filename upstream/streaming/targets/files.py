"""Bytes to files, which appear whole or not at all."""

import errno
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from upstream.streaming.targets.buffers import closing_chunks

FILE_MODE = 0o666  # less the umask, as for any new file
OPEN_FILES = "/proc/self/fd"
MAX_LINKS = 40  # as Linux follows


def to_file(chunks: Iterable[bytes], path: str | os.PathLike[str]) -> Path:
    """Write `chunks` to a file that appears only when it is complete; return its path.

    A file that stood there is replaced at the end and kept on failure; a link is followed; devices and pipes
    are written as they are. OSError names the path.
    """
    target = Path(path)
    with closing_chunks(chunks):
        _write(target, chunks)
    return target


def _write(path: Path, chunks: Iterable[bytes]) -> None:
    """Write `chunks` to `path`: a file appears when all are written, a device or pipe takes them as they come.

    A link is followed. An OSError of the file names the path; errors of `chunks` pass as they are.
    """
    foreign: list[OSError] = []

    def passing() -> Iterator[bytes]:
        try:
            yield from chunks
        except OSError as error:
            foreign.append(error)
            raise

    try:
        with _open(path) as file:
            file.writelines(passing())
            file.flush()
    except OSError as error:
        if error not in foreign:
            _name_error(error, path)
        raise


def _open(path: Path) -> AbstractContextManager[BinaryIO]:
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if _is_stream(path):
        return path.open("ab")  # what a shell redirected may be a file, which >> appends to
    try:
        target = path.resolve()
    except RuntimeError:  # so Python before 3.13 says that links lead in a circle
        target = path
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return _replacing(target)


def _is_stream(path: Path) -> bool:
    """Whether `path` is a device, a pipe, or like /dev/stdout a link to a file that is open already."""
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
    """Give a file to write that becomes `target` when the block ends, and vanishes when it fails.

    Where the system allows it (O_TMPFILE) the file has no name until it is complete, so that not even a killed
    process leaves part of one behind; elsewhere it is a hidden sibling. What stood at `target` stays until then.
    """
    sibling = sibling_of(target)
    unnamed = _open_unnamed(target.parent)
    try:
        with unnamed or open_new(sibling) as file:
            yield file
            sync(file)
            is_new = unnamed is not None and _name(file, target)
            if unnamed and not is_new:
                _name(file, sibling)
        if not is_new:
            sibling.replace(target)
    except BaseException:
        with suppress(FileNotFoundError):
            sibling.unlink()
        raise
    sync_directory(target.parent)


def sibling_of(target: Path) -> Path:
    """Return a hidden name in the same directory, that nothing else has."""
    return target.with_name(f".upstream-{secrets.token_hex(8)}.part")


def open_new(path: Path, mode: int | None = None) -> BinaryIO:
    """Open a file that does not exist yet; `mode` is cut by the umask."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode or FILE_MODE), "wb")


def make_directory(path: Path, mode: int | None = None) -> None:
    """Make `path` and what is missing above it, each with exactly `mode` if it is given."""
    missing = [directory for directory in (path, *path.parents) if not directory.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for directory in missing if mode else ():
        directory.chmod(mode or 0)


def sync(file: BinaryIO) -> None:
    """Make what was written survive a power cut."""
    file.flush()
    os.fsync(file.fileno())


def sync_directory(directory: Path) -> None:
    """Make a new name in `directory` survive a power cut, where it may be opened."""
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
    except OSError:  # a file system without unnamed files, or what opening a named one will report
        return None


def _name(file: BinaryIO, path: Path) -> bool:
    """Give an unnamed file its name; return False if another has it."""
    open_files = os.open(OPEN_FILES, os.O_RDONLY)
    try:
        # Python follows the link to the open file only where a directory is given.
        os.link(str(file.fileno()), path, src_dir_fd=open_files, follow_symlinks=True)
    except FileExistsError:
        return False
    finally:
        os.close(open_files)
    return True


def _name_error(error: OSError, path: Path) -> None:
    """Put the file's name into an error that has none, or only that of a temporary file."""
    error.filename = str(path)
    with suppress(AttributeError):
        del error.filename2
