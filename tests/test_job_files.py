"""The file of an export is sent whole, in part, or by a link of its storage, and a client can check what came."""

import hashlib
import urllib.request
from base64 import b64decode
from datetime import timedelta
from time import time
from urllib.parse import parse_qs, urlsplit

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, InMemoryStorage
from django.test import RequestFactory
from django.utils import timezone
from django.utils.http import http_date

from tests.test_storage import bucket, s3, s3_server  # noqa: F401 (fixtures)
from upstream.jobs.models import ExportJob, State
from upstream.jobs.sending import PRESIGNED_SECONDS, GoneError, send
from upstream.streaming.targets.responses import BLOCK_BYTES

CONTENT = bytes(range(256)) * 3000
NAME = "upstream-exports/x.csv"

pytestmark = pytest.mark.usefixtures("answers")  # a response that is closed leaves connections alone


@pytest.fixture(params=["directory", "memory", "s3"])
def storage(request, tmp_path):
    if request.param == "s3":
        place = request.getfixturevalue("s3")
    else:
        place = InMemoryStorage() if request.param == "memory" else FileSystemStorage(tmp_path, base_url=None)
    place.save(NAME, ContentFile(CONTENT))
    return place


@pytest.fixture
def memory():
    place = InMemoryStorage()
    place.save(NAME, ContentFile(CONTENT))
    return place


def made(content=CONTENT, **fields):
    now = timezone.now().replace(microsecond=0)
    sha256 = hashlib.sha256(content).hexdigest()
    known = {"filename": "drift events.csv", "bytes": len(content), "sha256": sha256, "finished_at": now}
    return ExportJob(state=State.DONE, file=NAME, created_at=now, **{**known, **fields})


def asked(job, storage, method="GET", **headers):
    request = RequestFactory().generic(method, "/", headers={n.replace("_", "-"): v for n, v in headers.items()})
    return send(request, job, storage)


def body(response):
    try:
        return b"".join(response)
    finally:
        response.close()


def test_whole_file_has_its_length_its_checksum_and_its_name(storage):
    response = asked(made(), storage)
    assert response.status_code == 200
    assert body(response) == CONTENT
    assert response["Content-Length"] == str(len(CONTENT))
    assert response["Content-Disposition"] == 'attachment; filename="drift events.csv"'
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    digest = response["Repr-Digest"].removeprefix("sha-256=:").removesuffix(":")
    assert b64decode(digest) == hashlib.sha256(CONTENT).digest()
    assert response["ETag"] == f'"{hashlib.sha256(CONTENT).hexdigest()}"'
    assert response["Cache-Control"] == "private, no-store"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize(("suffix", "content_type"), [(".gz", "application/gzip"), (".zst", "application/zstd")])
def test_compressed_file_is_sent_as_what_it_is(suffix, content_type):
    memory = InMemoryStorage()
    for filename in (f"drift.csv{suffix}", "drift.csv"):
        job = made(filename=filename)
        job.file = memory.save(f"{NAME}{suffix}", ContentFile(CONTENT))
        response = asked(job, memory)
        assert (response["Content-Type"], response["Content-Encoding"]) == (content_type, "identity")
        assert body(response) == CONTENT


@pytest.mark.parametrize(
    ("asked_for", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=1-", 1, None),
        ("bytes=400000-400009", 400_000, 400_010),
        ("bytes=767999-", 767_999, None),
        ("bytes=767990-99999999999", 767_990, None),
        ("bytes=-10", -10, None),
        ("Bytes= 5-9", 5, 10),
    ],
)
def test_range_is_the_part_of_the_file_that_it_names(storage, asked_for, start, stop):
    response = asked(made(), storage, range=asked_for)
    expected = CONTENT[start:stop]
    first = start % len(CONTENT)
    assert response.status_code == 206
    assert body(response) == expected
    assert response["Content-Length"] == str(len(expected))
    assert response["Content-Range"] == f"bytes {first}-{first + len(expected) - 1}/{len(CONTENT)}"


@pytest.mark.parametrize(
    "asked_for",
    [
        "",
        "bytes=0-",
        "bytes=-99999999",
        "bytes=5-4",
        "rows=1-2",
        "bytes=1-2,5-6",
        "bytes=a-b",
        "bytes=",
        "bytes=-",
    ],
)
def test_what_is_no_single_range_is_answered_with_the_whole_file(memory, asked_for):
    response = asked(made(), memory, range=asked_for)
    assert response.status_code == 200
    assert body(response) == CONTENT


@pytest.mark.parametrize("asked_for", [f"bytes={len(CONTENT)}-", "bytes=99999999-", "bytes=-0"])
def test_range_behind_the_end_is_refused_with_the_size(memory, asked_for):
    response = asked(made(), memory, range=asked_for)
    assert response.status_code == 416
    assert response["Content-Range"] == f"bytes */{len(CONTENT)}"


def test_no_byte_of_an_empty_file_can_be_asked_for(memory):
    memory.delete(NAME)
    memory.save(NAME, ContentFile(b""))
    job = made(b"")
    assert body(asked(job, memory)) == b""
    assert asked(job, memory, range="bytes=0-").status_code == 416


def test_client_that_broke_off_goes_on_if_its_part_is_of_the_same_file(memory):
    job = made()
    whole = asked(job, memory)
    for validator in (whole["ETag"], whole["Last-Modified"]):
        response = asked(job, memory, range="bytes=700000-", if_range=validator)
        assert response.status_code == 206
        assert CONTENT[:700_000] + body(response) == CONTENT
    whole.close()


@pytest.mark.parametrize(
    "validator",
    ['"another"', 'W/"{sha256}"', http_date(0), "nonsense", ""],
    ids=["another", "weak", "older", "nonsense", "empty"],
)
def test_part_of_another_file_is_answered_with_the_whole_one(memory, validator):
    job = made()
    response = asked(job, memory, range="bytes=700000-", if_range=validator.format(sha256=job.sha256))
    assert response.status_code == 200
    assert body(response) == CONTENT


def test_client_that_has_the_file_is_told_so(memory):
    job = made()
    assert asked(job, memory, if_none_match=f'"{job.sha256}"').status_code == 304
    response = asked(job, memory, if_none_match='"another"')
    assert response.status_code == 200
    response.close()
    assert asked(job, memory, if_match='"another"').status_code == 412


def test_head_has_the_headers_and_reads_nothing():
    response = asked(made(), InMemoryStorage(), "HEAD", range="bytes=5-9")
    assert (response.status_code, response.content) == (200, b"")
    assert response["Content-Length"] == str(len(CONTENT))
    assert response["Accept-Ranges"] == "bytes"


def test_file_that_is_gone_is_told_before_the_response():
    with pytest.raises(GoneError):
        asked(made(), InMemoryStorage())


def test_file_is_read_in_blocks_and_closed_with_the_response(tmp_path):
    place = FileSystemStorage(tmp_path, base_url=None)
    place.save(NAME, ContentFile(CONTENT))
    opened = []
    place.open = lambda name: opened.append((tmp_path / name).open("rb")) or opened[-1]
    response = asked(made(), place)
    assert len(next(iter(response))) == BLOCK_BYTES
    assert opened[0].tell() < len(CONTENT)
    response.close()
    assert opened[0].closed


def test_name_cannot_leave_its_header(memory):
    response = asked(made(filename='a"\r\nX-Evil: 1\u202e.csv'), memory)
    assert response["Content-Disposition"] == 'attachment; filename="a_X-Evil_ 1.csv"'
    response.close()


class TestObjectStorage:
    def test_its_own_link_gives_the_same_file_under_the_same_name(self, s3):  # noqa: F811
        s3.save(NAME, ContentFile(CONTENT))
        response = send(RequestFactory().get("/"), made(), s3, redirect=True)
        assert response.status_code == 302
        assert response["Cache-Control"] == "private, no-store"
        with urllib.request.urlopen(response["Location"]) as answer:
            assert answer.read() == CONTENT
            assert answer.headers["Content-Disposition"] == 'attachment; filename="drift events.csv"'

    def test_its_link_ends_soon(self, s3):  # noqa: F811
        s3.save(NAME, ContentFile(CONTENT))
        response = send(RequestFactory().get("/"), made(), s3, redirect=True)
        signed = parse_qs(urlsplit(response["Location"]).query)
        seconds = (
            int(signed["X-Amz-Expires"][0]) if "X-Amz-Expires" in signed else int(signed["Expires"][0]) - time()
        )
        assert seconds <= PRESIGNED_SECONDS

    def test_storage_that_signs_no_links_sends_the_file(self, memory):
        response = send(RequestFactory().get("/"), made(), memory, redirect=True)
        assert body(response) == CONTENT


def test_moment_of_a_file_is_that_when_it_was_finished(memory):
    finished = timezone.now().replace(microsecond=0) - timedelta(hours=1)
    response = asked(made(finished_at=finished), memory)
    assert response["Last-Modified"] == http_date(finished.timestamp())
    response.close()
