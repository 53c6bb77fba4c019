"""What a request asks of a download: to resume it, to prefetch it, to compress it."""

import pytest
from django.test import RequestFactory

from upstream.streaming import stream, to_response
from upstream.streaming.targets.requests import asked

ROWS = [{"n": 1}]


def of(method="get", **headers):
    return getattr(RequestFactory(), method)("/", headers=headers)


@pytest.mark.parametrize(
    "wanted",
    [
        "bytes=1-",
        "bytes=1000-1999",
        "bytes=-500",
        "bytes=0-9,20-29",
        "BYTES = 7-",
        "bytes= 010-",
        "bytes=99999999999-",
    ],
)
def test_a_range_from_the_middle_is_refused_as_a_failed_precondition(wanted):
    for headers in ({"Range": wanted}, {"Range": wanted, "If-Range": '"x"'}):
        response = to_response(stream(ROWS), "x.csv", request=of(**headers))
        assert response.status_code == 412
        assert "Content-Disposition" not in response


@pytest.mark.parametrize(
    "wanted", ["", "bytes=0-", "bytes=0-9", "bytes=00-", "bytes=x-", "rows=7-", "7-", "bytes="]
)
def test_a_range_from_the_beginning_or_of_no_bytes_is_an_ordinary_request(wanted):
    assert to_response(stream(ROWS), "x.csv", request=of(Range=wanted)).getvalue() == b"n\r\n1\r\n"


def test_head_asks_for_no_range():
    assert to_response(stream(ROWS), "x.csv", head=True, request=of("head", Range="bytes=7-")).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Purpose": "prefetch"},
        {"Sec-Purpose": "prefetch;prerender"},
        {"Sec-Purpose": "prefetch;anonymous-client-ip"},
        {"Purpose": "prefetch"},
        {"Purpose": "Prefetch"},
    ],
)
def test_a_prefetch_is_refused_unread(headers):
    def rows():
        raise AssertionError("a row was read")
        yield

    assert to_response(stream(rows(), ["n"]), "x.csv", request=of(**headers)).status_code == 503


@pytest.mark.parametrize("headers", [{}, {"Sec-Purpose": ""}, {"Purpose": "preview-of-a-prefetch"}])
def test_another_purpose_is_none(headers):
    assert asked(of(**headers)).refusal is None


@pytest.mark.parametrize(
    ("accepted", "gzip", "zstd"),
    [
        (None, False, False),
        ("", False, False),
        ("identity", False, False),
        ("gzip", True, False),
        ("GZIP;q=0.5, zstd", True, True),
        ("x-gzip", True, False),
        ("*", True, True),
        ("*;q=0", False, False),
        ("gzip;q=0, *", False, True),
        ("gzip; q=0.000", False, False),
        ("gzip;q=x", False, False),
        ("deflate, br", False, False),
    ],
)
def test_a_compression_is_sent_only_to_who_accepts_it(accepted, gzip, zstd):
    request = of(**({} if accepted is None else {"Accept-Encoding": accepted}))
    for compression, sent in (("gzip", gzip), ("zstd", zstd)):
        response = to_response(stream(ROWS, compression=compression), "x.csv", request=request)
        assert response.get("Content-Encoding") == (compression if sent else None)
        assert response["Vary"] == "Accept-Encoding"
        assert (response.getvalue() == b"n\r\n1\r\n") == (not sent)


def test_a_compressed_file_is_sent_to_everybody():
    response = to_response(stream(ROWS, compression="gzip"), "x.csv.gz", request=of())
    assert response.getvalue()[:2] == b"\x1f\x8b"


def test_outside_a_request_nothing_is_asked():
    assert asked() is None
