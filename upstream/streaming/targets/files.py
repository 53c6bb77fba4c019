"""Write files that appear complete or not at all."""

import errno
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from io import BufferedWriter, FileIO
from pathlib import Path
from typing import BinaryIO

from upstream.streaming.targets.buffers import closing_chunks

FILE_MODE = 0o666  # minus the umask, as for any new file
OPEN_FILES = "/proc/self/fd"
MAX_LINKS = 40  # the limit of Linux
MOUNTS = Path("/proc/self/mountinfo")
WAY_OUT = "write to another directory, or write the chunks to open(path, 'wb')"
NO_FILE_NAMES = ("", ".", "..")


def to_file(chunks: Iterable[bytes], path: str | os.PathLike[str]) -> Path:
    """Write `chunks` to a file that appears only when it is complete, close them, and return its path.

    An existing file is replaced at the end, and kept on failure. Its mode, owner and extended attributes are kept
    as far as the system allows. A file that cannot be replaced, such as a mounted one, raises OSError before
    anything is read. A link is followed; devices and pipes are written directly. OSError names the path.

        >>> to_file(stream([{"id": 1}], encoder=JsonLines()), "rows.ndjson").read_text()
        '{"id":1}\\n'
    """
    target = Path(path)
    with closing_chunks(chunks):
        if os.path.basename(path) in NO_FILE_NAMES:  # noqa: PTH119 (Path drops a slash at the end)
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
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
    _check_replaceable(target)
    return _replacing(target)


def _check_replaceable(target: Path) -> None:
    """Raise OSError, before anything is read, for a file that cannot get its name at the end."""
    directory = target.parent
    if _is_mounted(target):
        raise OSError(errno.EBUSY, f"the file is mounted, so it cannot be replaced: {WAY_OUT}")
    if not directory.is_dir():
        return  # opening the file says what it is
    effective = os.access in os.supports_effective_ids
    if not os.access(directory, os.W_OK | os.X_OK, effective_ids=effective):
        raise PermissionError(errno.EACCES, f"its directory is not writable, so it cannot be replaced: {WAY_OUT}")
    is_sticky = directory.stat().st_mode & stat.S_ISVTX
    if is_sticky and target.exists() and os.geteuid() not in (0, target.stat().st_uid, directory.stat().st_uid):
        raise PermissionError(errno.EPERM, f"it belongs to another user in a sticky directory: {WAY_OUT}")


def _is_mounted(target: Path) -> bool:
    """Return whether `target` is a mount point of its own, as single files in containers are."""
    with suppress(OSError), MOUNTS.open("rb") as mounts:
        # Each line is: id, parent, device, root, mount point, ...; white space is escaped in octal.
        points = (line.split(b" ", 5)[4] for line in mounts)
        return os.fsencode(target) in map(_unescaped, points)
    return False


def _unescaped(point: bytes) -> bytes:
    return re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), point)


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
            if target.exists():
                _keep_attributes(file, target)
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


def _keep_attributes(file: BinaryIO, target: Path) -> None:
    """Give `file` the mode, owner and extended attributes (ACLs among them) of `target`, as far as allowed."""
    number, old = file.fileno(), target.stat()
    if hasattr(os, "fchown"):
        for owner, group in ((-1, old.st_gid), (old.st_uid, -1)):
            with suppress(OSError):
                os.fchown(number, owner, group)
    if hasattr(os, "fchmod"):
        os.fchmod(number, stat.S_IMODE(old.st_mode) & _allowed(os.fstat(number), old))
    if hasattr(os, "listxattr"):
        with suppress(OSError):
            for name in os.listxattr(target):
                with suppress(OSError):  # such as security labels, which only root may set
                    os.setxattr(number, name, os.getxattr(target, name))


def _allowed(new: os.stat_result, old: os.stat_result) -> int:
    """Return the bits of a mode that mean the same for both files: not those of another group or owner."""
    kept = 0o7777
    if new.st_gid != old.st_gid:
        kept &= ~(stat.S_IRWXG | stat.S_ISGID)
    return kept if new.st_uid == old.st_uid else kept & ~stat.S_ISUID


def sibling_of(target: Path) -> Path:
    """Return a random hidden name in the directory of `target`."""
    return target.with_name(f".upstream-{secrets.token_hex(8)}.part")


def open_new(path: Path, mode: int | None = None) -> BinaryIO:
    """Create a file that does not exist yet, with `mode` minus the umask, and open it for writing."""
    return _opened(path, os.O_CREAT | os.O_EXCL, mode or FILE_MODE)


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
    with suppress(PermissionError), open_directory(directory) as handle:
        os.fsync(handle)


@contextmanager
def open_directory(directory: Path) -> Iterator[int]:
    """Yield a descriptor of `directory`, which no interrupt loses: extend() opens and keeps it in one step."""
    opened: list[int] = []
    try:
        opened.extend(map(os.open, [directory], [os.O_RDONLY]))
        yield opened[0]
    finally:
        for handle in opened:
            os.close(handle)


def _open_unnamed(directory: Path) -> BinaryIO | None:
    if not hasattr(os, "O_TMPFILE") or not Path(OPEN_FILES).exists():
        return None
    try:
        return _opened(directory, os.O_TMPFILE, FILE_MODE)
    except OSError:  # no O_TMPFILE on this file system, or an error that opening a named file raises too
        return None


def _opened(path: Path, flags: int, mode: int) -> BinaryIO:
    """Open a file for writing.

    An interrupt such as Ctrl-C is raised between two steps of Python, and would lose a descriptor that no object
    holds yet; map() opens the file and makes its object in one.
    """
    descriptors = map(os.open, [path], [os.O_WRONLY | flags], [mode])
    return BufferedWriter(next(map(FileIO, descriptors, ["wb"])))


def _link(file: BinaryIO, path: Path) -> bool:
    """Link an unnamed file to `path`; return False if that name exists."""
    number = file.fileno()
    try:
        # os.link() follows the link to the open file only with src_dir_fd, whichever that is.
        os.link(f"{OPEN_FILES}/{number}", path, src_dir_fd=number, follow_symlinks=True)
    except FileExistsError:
        return False
    return True


def _set_filename(error: OSError, path: Path) -> None:
    """Make an error name `path`, not a temporary file or none."""
    error.filename = str(path)
    with suppress(AttributeError):
        del error.filename2
