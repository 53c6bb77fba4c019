"""Files that appear whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

FILE_MODE = 0o666  # less the umask, as for any new file
OPEN_FILES = "/proc/self/fd"


@contextmanager
def replacing(target: Path) -> Iterator[BinaryIO]:
    """Give a file to write that becomes `target` when the block ends, and vanishes when it fails.

    Where the system allows it (O_TMPFILE) the file has no name until it is complete, so that not even a killed
    process leaves anything behind; elsewhere it is a hidden sibling. What stood at `target` stays until then.
    """
    sibling = sibling_of(target)
    unnamed = _open_unnamed(target.parent)
    try:
        with unnamed or open_new(sibling) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if unnamed:
                _name(file, sibling)
        sibling.replace(target)
    except BaseException:
        with suppress(FileNotFoundError):
            sibling.unlink()
        raise
    sync_directory(target.parent)


def sibling_of(target: Path) -> Path:
    """Return a hidden name in the same directory, that nothing else has."""
    return target.with_name(f".upstream-{secrets.token_hex(8)}.part")


def open_new(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE), "wb")


def sync_directory(directory: Path) -> None:
    """Make a new name in `directory` survive a power cut."""
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


def _name(file: BinaryIO, path: Path) -> None:
    open_files = os.open(OPEN_FILES, os.O_RDONLY)
    try:
        # Python follows the link to the open file only where a directory is given.
        os.link(str(file.fileno()), path, src_dir_fd=open_files, follow_symlinks=True)
    finally:
        os.close(open_files)
