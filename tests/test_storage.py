"""to_storage: an object is stored whole or not at all, whatever the storage does with a broken stream."""

import errno
import multiprocessing
import stat

import boto3
import pytest
from django.core.exceptions import SuspiciousFileOperation
from django.core.files.storage import FileSystemStorage, InMemoryStorage, default_storage
from moto.server import ThreadedMotoServer
from storages.backends.s3 import S3Storage

from tests.test_files import CHUNK, BrokenSourceError, Source, names
from upstream.streaming import stream, to_buffer, to_storage

WRITERS = multiprocessing.get_context("forkserver")
WRITERS.set_forkserver_preload([__name__])

BUCKET = "exports"
# More than the 8 MiB at which boto3 begins to send an object in parts.
LARGE = [bytes([number]) * 1024 * 1024 for number in range(12)]


@pytest.fixture
def directory(tmp_path):
    return FileSystemStorage(location=tmp_path / "media", base_url="/media/")


@pytest.fixture(scope="module")
def s3_server():
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server, monkeypatch):
    for name, value in {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    bucket = boto3.resource("s3", endpoint_url=s3_server, region_name="us-east-1").Bucket(BUCKET)
    bucket.create()
    yield bucket
    bucket.objects.all().delete()
    bucket.delete()
    bucket.meta.client.close()


@pytest.fixture
def s3(bucket, s3_server):
    storage = S3Storage(
        bucket_name=BUCKET, endpoint_url=s3_server, region_name="us-east-1", access_key="x", secret_key="x"
    )
    yield storage
    storage.connection.meta.client.close()


@pytest.fixture(params=["directory", "memory", "s3"])
def storage(request):
    if request.param == "memory":
        return InMemoryStorage()
    return request.getfixturevalue(request.param)


def content(storage, name):
    with storage.open(name) as file:
        return file.read()


def test_content_is_that_of_the_chunks(storage):
    assert to_storage([b"a", b"", b"bc"], "x.csv", storage) == "x.csv"
    assert content(storage, "x.csv") == b"abc"


def test_large_export_is_stored_as_it_is_made(storage):
    to_storage(iter(LARGE), "x.bin", storage)
    assert content(storage, "x.bin") == b"".join(LARGE)


def test_name_may_lead_into_directories(storage):
    name = to_storage([b"abc"], "reports/2026/x.csv", storage)
    assert name == "reports/2026/x.csv"
    assert content(storage, name) == b"abc"
    assert storage.listdir("reports")[0] == ["2026"]


def test_export_of_no_chunks_is_empty(storage):
    to_storage([], "x.csv", storage)
    assert content(storage, "x.csv") == b""


def test_taken_name_is_kept_and_another_returned(directory):
    to_storage([b"first"], "x.csv", directory)
    second = to_storage([b"second"], "x.csv", directory)
    assert second != "x.csv"
    assert content(directory, "x.csv") == b"first"
    assert content(directory, second) == b"second"


def test_source_is_closed(storage):
    source = Source(b"a")
    to_storage(source, "x.csv", storage)
    assert source.closed


@pytest.mark.parametrize("chunks", [[b"a"], LARGE], ids=["small", "large"])
def test_failing_source_stores_nothing(storage, chunks):
    source = Source(*chunks, fails=True)
    with pytest.raises(BrokenSourceError):
        to_storage(source, "x.csv", storage)
    assert not storage.exists("x.csv")
    assert storage.listdir("") == ([], [])
    assert source.closed


def test_failing_source_leaves_no_upload_pending(s3, bucket):
    with pytest.raises(BrokenSourceError):
        to_storage(Source(*LARGE, fails=True), "x.csv", s3)
    assert list(bucket.objects.all()) == []
    assert list(bucket.multipart_uploads.all()) == []


def test_large_object_is_sent_in_parts_and_leaves_none_pending(s3, bucket):
    to_storage(LARGE, "x.bin", s3)
    assert bucket.Object("x.bin").e_tag.endswith('-2"')
    assert list(bucket.multipart_uploads.all()) == []


def test_failing_source_keeps_what_an_overwriting_storage_holds(tmp_path):
    storage = FileSystemStorage(location=tmp_path, allow_overwrite=True)
    to_storage([b"old"], "x.csv", storage)
    with pytest.raises(BrokenSourceError):
        to_storage(Source(b"new", fails=True), "x.csv", storage)
    assert content(storage, "x.csv") == b"old"
    to_storage([b"new"], "x.csv", storage)
    assert content(storage, "x.csv") == b"new"
    assert names(tmp_path) == ["x.csv"]


def test_object_appears_only_when_it_is_complete(storage):
    seen = []

    def chunks():
        for _ in range(3):
            yield b"x" * CHUNK
            seen.append(storage.exists("x.csv"))

    to_storage(chunks(), "x.csv", storage)
    assert seen == [False, False, False]
    assert storage.size("x.csv") == 3 * CHUNK


class RefusingStorage(FileSystemStorage):
    def _save(self, name, content):
        raise OSError(errno.EDQUOT, "no room")


class RefusingMemory(InMemoryStorage):
    def _save(self, name, content):
        raise OSError(errno.EDQUOT, "no room")


def test_storage_that_fails_to_save_leaves_nothing(tmp_path):
    source = Source(b"a")
    with pytest.raises(OSError, match="no room"):
        to_storage(source, "x.csv", RefusingStorage(location=tmp_path))
    assert names(tmp_path) == []
    assert source.closed


def test_error_of_any_storage_passes_and_the_source_is_closed():
    source = Source(b"a")
    with pytest.raises(OSError, match="no room"):
        to_storage(source, "x.csv", RefusingMemory())
    assert source.closed


def test_missing_bucket_is_an_error_of_the_storage(s3, bucket):
    bucket.objects.all().delete()
    bucket.delete()
    try:
        with pytest.raises(bucket.meta.client.exceptions.ClientError, match="NoSuchBucket"):
            to_storage([b"a"], "x.csv", s3)
    finally:
        bucket.create()


@pytest.mark.parametrize("name", ["../x.csv", "/etc/x.csv", ""])
def test_name_outside_the_storage_is_refused_and_nothing_left(directory, name, tmp_path):
    with pytest.raises(SuspiciousFileOperation):
        to_storage([b"a"], name, directory)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_name_outside_the_storage_is_refused_before_anything_is_made(storage):
    made = []

    def chunks():
        made.append(True)
        yield b"a"

    with pytest.raises(SuspiciousFileOperation):
        to_storage(chunks(), "../x.csv", storage)
    assert made == []


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_modes_are_those_of_the_storage(tmp_path):
    storage = FileSystemStorage(location=tmp_path, file_permissions_mode=0o640, directory_permissions_mode=0o710)
    to_storage([b"a"], "deep/x.csv", storage)
    assert mode(tmp_path / "deep") == 0o710
    assert mode(tmp_path / "deep" / "x.csv") == 0o640


def test_modes_are_those_that_the_storage_gives_any_file(tmp_path):
    def modes(save, location):
        save(FileSystemStorage(location=location, file_permissions_mode=0o600, directory_permissions_mode=0o700))
        return [mode(path) for path in (location, location / "deep", location / "deep" / "x.csv")]

    assert modes(lambda storage: to_storage([b"a"], "deep/x.csv", storage), tmp_path / "ours") == modes(
        lambda storage: storage.save("deep/x.csv", to_buffer([b"a"])), tmp_path / "django's"
    )


def test_file_is_at_no_time_more_open_than_the_storage_makes_it(tmp_path):
    seen = set()

    def chunks():
        yield b"a" * CHUNK
        seen.update(mode(path) for path in tmp_path.rglob("*") if path.is_file())
        yield b"b"

    to_storage(chunks(), "x.csv", FileSystemStorage(location=tmp_path, file_permissions_mode=0o600))
    assert seen <= {0o600}


def test_default_storage_is_the_default(tmp_path, settings):
    settings.MEDIA_ROOT = tmp_path
    assert to_storage(stream([{"a": 1}]), "x.csv") == "x.csv"
    assert content(default_storage, "x.csv") == b"a\r\n1\r\n"
    assert names(tmp_path) == ["x.csv"]


def store_many(location, letter, stored):
    storage = FileSystemStorage(location=location)
    for _ in range(10):
        stored.put((to_storage([letter * 10], "x.csv", storage), letter))


def test_exports_stored_at_once_under_one_name_are_all_kept(tmp_path):
    stored = WRITERS.SimpleQueue()
    writers = [WRITERS.Process(target=store_many, args=(tmp_path, bytes([letter]), stored)) for letter in b"abcd"]
    for writer in writers:
        writer.start()
    written = [stored.get() for _ in range(40)]
    for writer in writers:
        writer.join()
    assert len({name for name, _ in written}) == 40
    assert all((tmp_path / name).read_bytes() == letter * 10 for name, letter in written)
    assert len(names(tmp_path)) == 40
