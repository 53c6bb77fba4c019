"""to_buffer and to_file: a file is whole or absent, whatever fails and whenever."""

import errno
import io
import multiprocessing
import os
import random
import stat
import threading
import time
from itertools import count
from pathlib import Path

import pytest

from tests import processes
from upstream.streaming import stream, to_buffer, to_file
from upstream.streaming.targets import files

# A process for each test's writers starts from one that has imported this module, in some 10 ms.
WRITERS = multiprocessing.get_context("forkserver")
WRITERS.set_forkserver_preload([__name__])

CHUNK = 64 * 1024
OLD, NEW = b"old" * CHUNK, b"new" * CHUNK


class BrokenSourceError(Exception):
    pass


class Source:
    """Chunks that say whether they were closed; with `fails`, the last is an error."""

    def __init__(self, *chunks, fails=False):
        self.closed = False
        self.chunks = self._made(chunks, fails)

    def _made(self, chunks, fails):
        yield from chunks
        if fails:
            raise BrokenSourceError

    def __iter__(self):
        return self.chunks

    def close(self):
        self.closed = True
        self.chunks.close()


def chunked(content):
    return [content[start : start + CHUNK] for start in range(0, len(content), CHUNK)]


def names(directory):
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture(params=["unnamed", "sibling"])
def way(request, monkeypatch):
    """Run a test with unnamed temporary files, where the system has them, and with hidden siblings."""
    if request.param == "sibling":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    return request.param


def test_buffer_holds_all_chunks_and_stands_at_its_start():
    assert to_buffer([b"a", b"", b"bc"]).read() == b"abc"


def test_buffer_closes_its_source():
    source = Source(b"a")
    to_buffer(source)
    assert source.closed


def test_buffer_passes_the_error_of_its_source_and_closes_it():
    source = Source(b"a", fails=True)
    with pytest.raises(BrokenSourceError):
        to_buffer(source)
    assert source.closed


def test_file_holds_all_chunks(tmp_path, way):
    to_file([b"a", b"", b"bc"], tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_bytes() == b"abc"
    assert names(tmp_path) == ["x.csv"]


def test_file_of_no_chunks_is_empty(tmp_path, way):
    to_file([], tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_bytes() == b""


def test_path_is_returned_as_it_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert to_file([b"a"], "x.csv") == Path("x.csv")
    assert to_file([b"a"], tmp_path / "y.csv") == tmp_path / "y.csv"


def test_file_appears_only_when_it_is_complete(tmp_path, way):
    seen = []

    def chunks():
        for _ in range(3):
            yield b"x" * 10 * CHUNK
            seen.append((tmp_path / "x.csv").exists())

    to_file(chunks(), tmp_path / "x.csv")
    assert seen == [False, False, False]
    assert (tmp_path / "x.csv").stat().st_size == 30 * CHUNK


def test_unnamed_file_leaves_no_name_to_find_while_it_is_written(tmp_path):
    skip_without_unnamed_files(tmp_path)
    seen = []

    def chunks():
        yield b"x" * 10 * CHUNK
        seen.extend(names(tmp_path))

    to_file(chunks(), tmp_path / "x.csv")
    assert seen == []


def test_old_file_stays_until_the_new_one_is_complete(tmp_path, way):
    path = tmp_path / "x.csv"
    path.write_bytes(OLD)
    seen = []

    def chunks():
        for chunk in chunked(NEW):
            yield chunk
            seen.append(path.read_bytes() == OLD)

    to_file(chunks(), path)
    assert seen == [True] * len(chunked(NEW))
    assert path.read_bytes() == NEW


def test_failing_source_leaves_nothing(tmp_path, way):
    source = Source(b"a" * 10 * CHUNK, fails=True)
    with pytest.raises(BrokenSourceError):
        to_file(source, tmp_path / "x.csv")
    assert names(tmp_path) == []
    assert source.closed


def test_failing_source_keeps_the_old_file(tmp_path, way):
    path = tmp_path / "x.csv"
    path.write_bytes(OLD)
    inode = path.stat().st_ino
    with pytest.raises(BrokenSourceError):
        to_file(Source(b"a" * 10 * CHUNK, fails=True), path)
    assert names(tmp_path) == ["x.csv"]
    assert path.read_bytes() == OLD
    assert path.stat().st_ino == inode


def test_interrupt_leaves_nothing(tmp_path, way):
    def chunks():
        yield b"a" * 10 * CHUNK
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        to_file(chunks(), tmp_path / "x.csv")
    assert names(tmp_path) == []


def test_source_is_closed_with_the_file_complete(tmp_path):
    source = Source(b"a")
    to_file(source, tmp_path / "x.csv")
    assert source.closed


def test_source_is_closed_where_the_file_cannot_be_opened(tmp_path):
    source = Source(b"a")
    with pytest.raises(OSError):
        to_file(source, tmp_path / "missing" / "x.csv")
    assert source.closed


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_mode_is_that_of_any_new_file(tmp_path, way, umask):
    before = os.umask(umask)
    try:
        to_file([b"a"], tmp_path / "x.csv")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x.csv").stat().st_mode) == 0o666 & ~umask


def test_link_is_followed(tmp_path, way):
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "x.csv", tmp_path / "link.csv"
    real.write_bytes(OLD)
    link.symlink_to(real)
    assert to_file([NEW], link) == link
    assert link.is_symlink()
    assert real.read_bytes() == NEW
    assert names(tmp_path / "real") == ["x.csv"]


def test_link_to_nothing_creates_what_it_points_at(tmp_path, way):
    link = tmp_path / "link.csv"
    link.symlink_to(tmp_path / "x.csv")
    to_file([b"a"], link)
    assert link.is_symlink()
    assert (tmp_path / "x.csv").read_bytes() == b"a"


def test_link_to_itself_is_an_os_error(tmp_path):
    link = tmp_path / "loop.csv"
    link.symlink_to(link)
    with pytest.raises(OSError, match=r"loop\.csv"):
        to_file([b"a"], link)


def test_device_stays_a_device():
    to_file([b"a"], os.devnull)
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


def test_pipe_is_written(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    received = []
    reader = threading.Thread(target=lambda: received.append(path.read_bytes()))
    reader.start()
    to_file(chunked(NEW), path)
    reader.join(20)
    assert received == [NEW]
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_directory_is_an_error_and_is_kept(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(IsADirectoryError, match=str(tmp_path / "x")):
        to_file([b"a"], tmp_path / "x")
    assert names(tmp_path) == ["x"]


def test_missing_parent_is_an_error_that_names_the_path(tmp_path, way):
    with pytest.raises(FileNotFoundError, match="missing"):
        to_file([b"a"], tmp_path / "missing" / "x.csv")
    assert names(tmp_path) == []


def test_file_for_a_parent_is_an_error_that_names_the_path(tmp_path, way):
    (tmp_path / "file").write_bytes(OLD)
    with pytest.raises(NotADirectoryError, match="file"):
        to_file([b"a"], tmp_path / "file" / "x.csv")
    assert (tmp_path / "file").read_bytes() == OLD


def test_name_that_is_too_long_is_an_os_error_and_leaves_nothing(tmp_path, way):
    with pytest.raises(OSError) as caught:
        to_file([b"a"], tmp_path / ("x" * 256))
    assert caught.value.errno == errno.ENAMETOOLONG
    assert names(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("size", [1, 10 * CHUNK])
def test_full_device_is_an_error_that_names_it(size):
    with pytest.raises(OSError, match="/dev/full") as caught:
        to_file([b"x" * size], "/dev/full")
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("error", [OSError(errno.ECONNRESET, "reset by peer"), OSError("no number")])
def test_os_error_of_the_source_passes_unchanged(tmp_path, error):
    def chunks():
        yield b"a"
        raise error

    text = str(error)
    with pytest.raises(OSError) as caught:
        to_file(chunks(), tmp_path / "x.csv")
    assert caught.value is error
    assert str(error) == text


LIMITED = """
import resource, sys
from upstream.streaming import to_file
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    to_file([b"x" * 64 * 1024] * 10, sys.argv[1])
except OSError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("old", [None, OLD], ids=["new", "replaced"])
def test_file_that_may_not_grow_is_an_error_that_names_it_and_leaves_nothing(tmp_path, old):
    path = tmp_path / "x.csv"
    if old:
        path.write_bytes(old)
    assert processes.printed(LIMITED, path) == f"OSError [Errno {errno.EFBIG}] File too large: {str(path)!r}\n"
    assert names(tmp_path) == (["x.csv"] if old else [])
    assert not old or path.read_bytes() == old


NOT_LISTED = """
import os, sys
from upstream.streaming import to_file
os.setgid(65534), os.setuid(65534)
print(to_file([b"a"], sys.argv[1]))
"""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user")
def test_directory_that_may_be_written_but_not_listed_takes_a_file():
    # Not in tmp_path, whose own parents are closed to others.
    directory = Path("/tmp", f"upstream-{random.getrandbits(64):x}")
    directory.mkdir()
    try:
        directory.chmod(0o733)
        assert processes.printed(NOT_LISTED, directory / "x.csv") == f"{directory / 'x.csv'}\n"
        assert names(directory) == ["x.csv"]
    finally:
        for path in directory.iterdir():
            path.unlink()
        directory.rmdir()


class FailingCalls:
    """Stands before the calls that make a file, and lets the n-th of all of them fail."""

    CALLS = ("open", "fsync", "link", "replace", "rename", "close")

    def __init__(self, monkeypatch, number):
        self.left = number
        self.name = None
        for name in self.CALLS:
            monkeypatch.setattr(os, name, self._failing(name, getattr(os, name)))
        monkeypatch.setattr(files, "FileIO", self._file())

    def count(self, name):
        self.left -= 1
        if self.left == 0:
            self.name = name
            raise OSError(errno.EIO, f"the {name} was made to fail")

    def _failing(self, name, call):
        def counted(*arguments, **options):
            if name == "close":  # an error of close() leaves nothing open
                call(*arguments, **options)
            self.count(name)
            return None if name == "close" else call(*arguments, **options)

        return counted

    def _file(self):
        calls = self

        class File(io.FileIO):
            def write(self, data):
                calls.count("write")
                return super().write(data)

        return File


def error_of(call):
    try:
        call()
    except OSError as error:
        return error
    return None


@pytest.mark.parametrize("old", [None, OLD], ids=["new", "replaced"])
def test_failure_of_the_nth_call_leaves_old_or_new_and_nothing_else(tmp_path, monkeypatch, way, old):
    failed = []
    for number in count(1):
        path = tmp_path / str(number) / "x.csv"
        path.parent.mkdir()
        if old:
            path.write_bytes(old)
        with monkeypatch.context() as patch:
            calls = FailingCalls(patch, number)
            error = error_of(lambda path=path: to_file(chunked(NEW), path))
        assert names(path.parent) in ([], ["x.csv"])
        content = path.read_bytes() if path.exists() else None
        assert content in (old, NEW)
        if error:
            assert calls.name in str(error)
            assert str(path) in str(error)
        else:  # nothing failed, or there was another way
            assert content == NEW
        if not calls.name:
            break
        failed.append(calls.name)
    steps = {"open", "write", "fsync"} | ({"link"} if way == "unnamed" else set())
    if way == "sibling" or old:  # a file without a name gets that of a new file at once
        steps.add("replace")
    assert steps <= {"replace" if name == "rename" else name for name in failed}


def write_forever(path, started):
    for content in [NEW, OLD] * 10_000:
        to_file(chunked(content), path)
        started.set()


def skip_without_unnamed_files(directory):
    try:
        os.close(os.open(directory, os.O_WRONLY | os.O_TMPFILE))
    except (AttributeError, OSError) as error:
        pytest.skip(f"no unnamed files here: {error}")


def test_killed_writer_leaves_a_whole_file_and_no_other(tmp_path):
    skip_without_unnamed_files(tmp_path)
    path = tmp_path / "x.csv"
    for _ in range(20):
        started = WRITERS.Event()
        writer = WRITERS.Process(target=write_forever, args=(path, started))
        writer.start()
        assert started.wait(20)
        time.sleep(random.random() * 0.03)
        writer.kill()
        writer.join()
        assert path.read_bytes() in (OLD, NEW)
    # Only between the naming of a complete file and its renaming over the old one can another name stay.
    assert {sibling.read_bytes() for sibling in tmp_path.iterdir()} <= {OLD, NEW}


def write_letter(path, letter):
    for _ in range(30):
        to_file([letter * CHUNK] * 8, path)


def test_writers_of_one_file_never_blend(tmp_path):
    path = tmp_path / "x.csv"
    letters = [bytes([letter]) for letter in b"abcdefgh"]
    writers = [WRITERS.Process(target=write_letter, args=(path, letter)) for letter in letters]
    for writer in writers:
        writer.start()
    read = 0
    while any(writer.is_alive() for writer in writers):
        if path.exists():
            content = path.read_bytes()
            assert content == content[:1] * CHUNK * 8
            read += 1
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert read
    assert names(tmp_path) == ["x.csv"]


def test_export_is_written_as_it_is_made(tmp_path):
    rows = [{"id": number, "name": "Ä"} for number in range(5000)]
    to_file(stream(rows), tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_bytes() == to_buffer(stream(rows)).read()


def test_hidden_name_is_in_the_same_directory_and_new(tmp_path):
    siblings = {files.sibling_of(tmp_path / "x.csv") for _ in range(100)}
    assert len(siblings) == 100
    assert {sibling.parent for sibling in siblings} == {tmp_path}
    assert all(sibling.name.startswith(".") for sibling in siblings)


class TestReplaced:
    """A replaced file keeps what it was but for its content; one that cannot be replaced is refused at once."""

    @pytest.fixture(autouse=True)
    def _way(self, way):
        """Run each test for unnamed files and for siblings."""

    @pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
    def test_a_file_keeps_its_mode(self, tmp_path, mode):
        path = tmp_path / "x"
        path.write_bytes(OLD)
        path.chmod(mode)
        to_file([b"new"], path)
        assert (stat.S_IMODE(path.stat().st_mode), path.read_bytes()) == (mode, b"new")

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
    def test_it_keeps_its_owner(self, tmp_path):
        path = tmp_path / "x"
        path.write_bytes(OLD)
        os.chown(path, 1234, 2345)
        path.chmod(0o660)
        to_file([b"new"], path)
        assert (path.stat().st_uid, path.stat().st_gid, stat.S_IMODE(path.stat().st_mode)) == (1234, 2345, 0o660)

    def test_it_keeps_its_extended_attributes(self, tmp_path):
        path = tmp_path / "x"
        path.write_bytes(OLD)
        try:
            os.setxattr(path, "user.origin", b"here")
        except (OSError, AttributeError):
            pytest.skip("no extended attributes here")
        to_file([b"new"], path)
        assert os.getxattr(path, "user.origin") == b"here"

    def test_bits_of_another_group_or_owner_are_not_kept(self):
        mine, theirs = (
            os.stat_result((0o100664, 0, 0, 1, 1, 1, *[0] * 4)),
            os.stat_result((0o106664, 0, 0, 1, 2, 2, *[0] * 4)),
        )
        assert files._allowed(mine, mine) == 0o7777
        assert files._allowed(mine, theirs) == 0o7777 & ~(stat.S_IRWXG | stat.S_ISGID | stat.S_ISUID)

    def test_a_mounted_file_is_refused_before_the_first_row(self, tmp_path, monkeypatch):
        path = tmp_path / "a b"
        path.write_bytes(OLD)
        escaped = str(path).replace(" ", "\\040")
        mounts = tmp_path / "mounts"
        mounts.write_text(f"1 1 0:1 / / rw - ext4 x rw\n2 1 0:1 /x {escaped} rw - ext4 x rw\n")
        monkeypatch.setattr(files, "MOUNTS", mounts)
        source = Source(b"new", fails=True)
        with pytest.raises(OSError, match=r"mounted.*open\(path, 'wb'\)") as caught:
            to_file(source, path)
        assert (caught.value.filename, path.read_bytes(), source.closed) == (str(path), OLD, True)

    @pytest.mark.parametrize("name", ["", ".", ".."])
    def test_a_path_that_names_a_directory_is_refused(self, tmp_path, name):
        with pytest.raises(IsADirectoryError):
            to_file([b"new"], f"{tmp_path}/x/{name}")
        assert names(tmp_path) == []
