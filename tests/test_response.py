"""to_response: the right headers, and a body that is streamed and closed, under WSGI and ASGI."""

import asyncio
import base64
import contextlib
import gc
import gzip
import hashlib
import io
import re
import threading
from email.message import Message
from weakref import WeakSet

import pytest
import zstandard
from asgiref.sync import ThreadSensitiveContext
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished
from django.db import DatabaseError, OperationalError, ProgrammingError, connections, transaction
from django.http import BadHeaderError, HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client, RequestFactory

from tests.fieldtypes.models import Parent
from tests.handling import asgi, views
from tests.test_files import BrokenSourceError, Source
from upstream.streaming import (
    Csv,
    ExportError,
    Json,
    JsonLines,
    StreamOverError,
    stream,
    to_buffer,
    to_response,
)

ROWS = [{"id": number, "name": f"Zürich {number}"} for number in range(3000)]
CHUNK = b"x" * 64 * 1024
ENCODERS = {"csv": Csv(), "json": Json(), "ndjson": JsonLines()}
GZIP = "django.middleware.gzip.GZipMiddleware"


def file_name(response):
    """Return the name that a client takes from Content-Disposition (RFC 6266, RFC 8187), `filename*` first."""
    header = response["Content-Disposition"]
    message = Message()
    message["Content-Disposition"] = re.sub("; filename=.*(?=; filename[*])", "", header)
    return message.get_filename()


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("drift.csv", "drift.csv"),
        ("Überblick 2026.csv", "Uberblick 2026.csv"),
        ("日本.csv", "export.csv"),
        ("日本 2026.csv.gz", "__ 2026.csv.gz"),
        ("a\uff02b\uff0fc\uff3cd.csv", "a_b_c_d.csv"),
        ("x.日本", "x.__"),
    ],
)
def test_clients_that_know_only_ascii_have_a_name_too(given, plain):
    header = to_response([b"a"], given)["Content-Disposition"]
    assert header.startswith(f'attachment; filename="{plain}"')
    assert ("filename*=UTF-8''" in header) == (given != plain)


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("drift.csv", "drift.csv"),
        ("two words.csv", "two words.csv"),
        ("Überblick · 日本.csv", "Überblick · 日本.csv"),
        ('a"b.csv', "a_b.csv"),
        ("a\r\nSet-Cookie: x.csv", "aSet-Cookie_ x.csv"),
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\x.csv", "x.csv"),
        ("a\ud800b.csv", "ab.csv"),
        ("a\u202egpj.csv", "agpj.csv"),
        ("x" * 300 + ".csv", "x" * 226 + ".csv"),
        ("100%.csv", "100%.csv"),
        ("a;b=c.csv", "a;b=c.csv"),
        ("", "export"),
    ],
)
def test_name_reaches_the_client_clean(given, sent):
    response = to_response([b"a"], given)
    assert file_name(response) == sent
    assert response["Content-Disposition"].isascii()
    assert "\n" not in response["Content-Disposition"]
    response.close()


def test_download_is_an_attachment_unless_told_otherwise():
    assert to_response([b"a"], "x.csv")["Content-Disposition"] == 'attachment; filename="x.csv"'
    assert to_response([b"a"], "x.csv", as_attachment=False)["Content-Disposition"] == 'inline; filename="x.csv"'


@pytest.mark.parametrize(
    ("encoder", "name", "kind"),
    [
        (Csv(), "x.csv", "text/csv; charset=utf-8"),
        (Csv(delimiter="\t"), "x.tsv", "text/tab-separated-values; charset=utf-8"),
        (Json(), "x.json", "application/json"),
        (JsonLines(), "x.ndjson", "application/x-ndjson"),
        (Csv(), "x", "text/csv; charset=utf-8"),
    ],
)
def test_content_type_is_that_of_the_encoder(encoder, name, kind):
    with contextlib.closing(to_response(stream(ROWS, encoder=encoder), name)) as response:
        assert response["Content-Type"] == kind


def test_content_type_of_plain_chunks_is_that_of_the_name():
    assert to_response([b"a"], "x.pdf")["Content-Type"] == "application/pdf"
    assert to_response([b"a"], "x.unheard-of")["Content-Type"] == "application/octet-stream"


def test_content_type_can_be_given():
    chunks = stream(ROWS)
    with contextlib.closing(to_response(chunks, "x.csv", content_type="text/plain")) as response:
        assert response["Content-Type"] == "text/plain"


@pytest.mark.parametrize("spool", [False, True], ids=["live", "spooled"])
@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
def test_body_is_that_of_the_stream(encoder, spool):
    response = to_response(stream(ROWS, encoder=encoder), "x", spool=spool)
    assert response.getvalue() == to_buffer(stream(ROWS, encoder=encoder)).read()
    response.close()


@pytest.mark.parametrize("spool", [False, True], ids=["live", "spooled"])
def test_body_of_no_chunks_is_empty(spool):
    response = to_response([], "x", spool=spool)
    assert response.getvalue() == b""
    response.close()


@pytest.mark.parametrize("spool", [False, True], ids=["live", "spooled"])
def test_download_is_not_kept_by_caches_nor_its_type_guessed(spool):
    response = to_response([b"a"], "x", spool=spool)
    assert response["Cache-Control"] == "private, no-store"
    assert response["X-Content-Type-Options"] == "nosniff"
    response.close()


@pytest.mark.parametrize("spool", [False, True], ids=["live", "spooled"])
def test_no_client_hopes_to_resume_a_download(spool):
    response = to_response([b"a"], "x", spool=spool)
    assert response["Accept-Ranges"] == "none"
    response.close()


def test_live_body_is_not_held_back_by_a_proxy_and_promises_no_length():
    response = to_response([b"a"], "x")
    assert response["X-Accel-Buffering"] == "no"
    assert "Content-Length" not in response
    response.close()


def test_spooled_body_has_its_length_and_digest():
    response = to_response(stream(ROWS), "x.csv", spool=True)
    body = response.getvalue()
    digest = response["Repr-Digest"]
    assert int(response["Content-Length"]) == len(body)
    assert digest == f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"
    response.close()


UNPACK = {"gzip": gzip.decompress, "zstd": lambda data: zstandard.ZstdDecompressor().stream_reader(data).read()}


@pytest.mark.parametrize("spool", [False, True], ids=["live", "spooled"])
@pytest.mark.parametrize(("compression", "suffix"), [("gzip", ".gz"), ("zstd", ".zst")])
def test_compressed_name_is_a_download_of_compressed_data(compression, suffix, spool):
    response = to_response(stream(ROWS, compression=compression), f"x.csv{suffix}", spool=spool)
    assert response["Content-Type"] == f"application/{compression}"
    assert response.get("Content-Encoding", "identity") == "identity"
    assert UNPACK[compression](response.getvalue()) == to_buffer(stream(ROWS)).read()
    response.close()


@pytest.mark.parametrize("spool", [False, True], ids=["live", "spooled"])
@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_compression_under_another_name_is_a_content_encoding(compression, spool):
    response = to_response(stream(ROWS, compression=compression), "x.csv", spool=spool)
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert response["Content-Encoding"] == compression
    assert UNPACK[compression](response.getvalue()) == to_buffer(stream(ROWS)).read()
    response.close()


def failing_query(database):
    return Parent.objects.using(database).extra(where=["no_such_column = 1"])


@pytest.mark.parametrize("spool", [False, True], ids=["live", "spooled"])
@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
def test_failing_query_raises_before_there_is_a_response(transactional_database, encoder, compression, spool):
    chunks = stream(failing_query(transactional_database), ["id"], encoder, compression=compression)
    with chunks, pytest.raises((OperationalError, ProgrammingError), match="no_such_column"):
        to_response(chunks, "x", spool=spool)
    assert not connections[transactional_database].in_atomic_block


@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
def test_failing_first_row_raises_before_there_is_a_response(encoder):
    def rows():
        raise BrokenSourceError
        yield

    with stream(rows(), ["id"], encoder) as chunks, pytest.raises(BrokenSourceError):
        to_response(chunks, "x")


@pytest.mark.parametrize("spool", [False, True], ids=["live", "spooled"])
def test_source_that_fails_before_there_is_a_response_is_closed(spool):
    source = Source(fails=True)
    with pytest.raises(BrokenSourceError):
        to_response(source, "x", spool=spool)
    assert source.closed


def test_spooled_body_that_fails_midway_raises_before_there_is_a_response():
    source = Source(*[CHUNK] * 5, fails=True)
    with pytest.raises(BrokenSourceError):
        to_response(source, "x", spool=True)
    assert source.closed


def test_spooled_source_is_closed_before_the_response_is_sent():
    source = Source(b"a")
    to_response(source, "x", spool=True).close()
    assert source.closed


def test_only_the_first_chunk_is_made_before_the_response_is_read():
    made = []

    def chunks():
        for number in range(3):
            made.append(number)
            yield CHUNK

    response = to_response(chunks(), "x")
    assert made == [0]
    response.close()


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
def test_head_has_the_headers_of_a_live_download_and_reads_nothing(encoder, compression):
    def rows():
        raise BrokenSourceError
        yield

    chunks = stream(ROWS, encoder=encoder, compression=compression)
    with contextlib.closing(to_response(chunks, "x.csv")) as live:
        headers = dict(live.items())
    head = to_response(stream(rows(), ["n"], encoder, compression=compression), "x.csv", head=True)
    assert dict(head.items()) == headers
    assert head.getvalue() == b""


def test_unread_response_that_is_closed_releases_its_source():
    source = Source(b"a", b"b")
    to_response(source, "x").close()
    assert source.closed


def test_unread_response_that_is_closed_ends_the_transaction(transactional_database):
    Parent.objects.using(transactional_database).create(name="a")
    response = to_response(stream(Parent.objects.using(transactional_database)), "x")
    next(iter(response))
    response.close()
    assert not connections[transactional_database].in_atomic_block


def test_partly_read_response_that_is_closed_does_not_look_complete():
    response = to_response(Source(b"a", b"b"), "x")
    body = iter(response)
    assert next(body) == b"a"
    response.close()
    with pytest.raises(StreamOverError, match="closed before its end"):
        next(body)


def test_head_request_closes_the_source(serve):
    source = Source(b"a", b"b")
    serve(lambda request: to_response(source, "x"))
    response = Client().head("/x")
    assert response.getvalue() == b""
    response.close()
    assert source.closed


# Under WSGI


def wsgi(method="GET", **headers):
    """Return status, headers and body as a WSGI server reads them; the body is closed even when it fails."""
    answer = {}

    def start_response(status, fields):
        answer.update(status=int(status[:3]), headers=dict(fields))

    environ = RequestFactory(headers=headers).generic(method, "/x").environ
    response = WSGIHandler()(environ, start_response)
    try:
        answer["body"] = b"".join(response)
    finally:
        response.close()
    return answer


def test_wsgi_body_is_made_while_it_is_read(serve):
    log = []
    serve(lambda request: to_response(logged(log, 4), "x"))
    response = WSGIHandler()(RequestFactory().get("/x").environ, lambda status, headers: None)
    log.extend("read" for _ in response)
    response.close()
    assert log == ["made 0", "read", "made 1", "read", "made 2", "read", "made 3", "read", "closed"]


def test_wsgi_error_of_the_source_reaches_the_server(serve):
    source = Source(CHUNK, fails=True)
    serve(lambda request: to_response(source, "x"))
    with pytest.raises(BrokenSourceError):
        wsgi()
    assert source.closed


# Under ASGI


def logged(log, number, *, fails=False, threads=None):
    try:
        for chunk in range(number):
            log.append(f"made {chunk}")
            if threads is not None:
                threads.add(threading.get_ident())
            yield CHUNK
        if fails:
            raise BrokenSourceError
    finally:
        log.append("closed")
        if threads is not None:
            threads.add(threading.get_ident())


@pytest.fixture
def finished():
    """The requests that ended: Django closes the connections of each."""
    requests = []

    def finish(**_):
        requests.append(threading.get_ident())

    request_finished.connect(finish)
    yield requests
    request_finished.disconnect(finish)


def test_asgi_body_is_made_while_it_is_sent(serve):
    log = []
    serve(lambda request: to_response(logged(log, 4), "x"))
    answer = asyncio.run(asgi(log))
    assert log[:8] == ["made 0", "sent", "made 1", "sent", "made 2", "sent", "made 3", "sent"]
    assert log[8:] == ["closed"]
    assert b"".join(answer["body"]) == CHUNK * 4
    assert answer["complete"]


def test_asgi_small_chunks_are_gathered(serve):
    serve(lambda request: to_response((b"x" * 100 for _ in range(10_000)), "x"))
    answer = asyncio.run(asgi())
    assert b"".join(answer["body"]) == b"x" * 1_000_000
    assert answer["body"][0] == b"x" * 100
    assert len(answer["body"]) < 40


def test_asgi_body_runs_in_the_thread_of_the_view(serve):
    threads, log = set(), []

    def made(request):
        threads.add(threading.get_ident())
        return to_response(logged(log, 4, threads=threads), "x")

    serve(made)
    asyncio.run(asgi())
    assert log[-1] == "closed"
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_asgi_body_is_closed_when_the_client_goes(serve, finished):
    threads, log = set(), []
    serve(lambda request: to_response(logged(log, 1000, threads=threads), "x"))
    answer = asyncio.run(asgi(leave_after=3))
    assert log[-1] == "closed"
    assert len(log) < 20
    assert len(threads) == 1
    assert not answer["complete"]
    assert len(finished) == 1


@pytest.mark.parametrize("spool", [False, True])
def test_asgi_body_is_closed_when_the_client_goes_before_it_begins(serve, finished, spool):
    log, responses = [], []

    def leaving(request):
        responses.append(to_response(logged(log, 3), "x", spool=spool))
        views["leave"]()
        return responses[0]

    serve(leaving)
    answer = asyncio.run(asgi())
    assert log[-1] == "closed"
    assert answer == {"body": [], "complete": False}
    assert len(finished) == 1
    with pytest.raises(StreamOverError, match="closed before its end"):
        list(responses[0])


@pytest.mark.parametrize("spool", [False, True])
def test_asgi_body_is_closed_when_its_request_ended_before_the_view(serve, spool):
    log, responses = [], []

    def view(request):
        responses.append(to_response(logged(log, 3), "x", spool=spool))
        return responses[0]

    serve(view, middleware=["tests.handling.slipping"])
    answer = asyncio.run(asgi())
    assert answer == {"body": [], "complete": False}
    assert log[-1:] == ["closed"] * len(responses)  # Django 5.2 does not call the view at all
    for response in responses:
        with pytest.raises(StreamOverError, match="closed before its end"):
            list(response)


@pytest.mark.parametrize("other", ["a request by the test client", "a response that is closed"])
def test_asgi_body_is_whole_though_its_view_ends_something_else(serve, other):
    def both(request):
        response = to_response(stream(ROWS), "x")
        if other == "a response that is closed":
            to_response(stream(ROWS), "x").close()
        else:
            views["now"] = lambda request: HttpResponse("another")
            assert Client().get("/x").content == b"another"
        return response

    serve(both)
    answer = asyncio.run(asgi())
    assert b"".join(answer["body"]) == to_buffer(stream(ROWS)).read()


def test_asgi_body_is_whole_though_a_request_in_the_same_context_ends_before_it(serve):
    """As under uvicorn, which begins a request in the context of the one before it on the same connection."""
    answers = [HttpResponse("short"), None]

    def view(request):
        return answers.pop() or to_response(stream(ROWS), "x")

    async def both():
        async with ThreadSensitiveContext():
            return await asyncio.gather(asgi(), asgi())

    serve(view)
    bodies = sorted(b"".join(answer["body"]) for answer in asyncio.run(both()))
    assert bodies == sorted([b"short", to_buffer(stream(ROWS)).read()])


def test_asgi_body_that_fails_to_close_leaves_no_connection_open(serve, transactional_database, caplog):
    opened = []

    def failing():
        try:
            yield CHUNK
        finally:
            raise BrokenSourceError

    def leaving(request):
        opened.extend([connections[transactional_database], to_response(failing(), "x")])
        opened[0].ensure_connection()
        views["leave"]()
        return opened[1]

    serve(leaving)
    asyncio.run(asgi())
    assert opened[0].connection is None
    assert "a download failed when its request ended" in caplog.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Django leaves the request's open
def test_asgi_body_is_garbage_if_the_server_fails_to_send(serve):
    exports = WeakSet()

    def view(request):
        exports.add(chunks := stream(ROWS))
        return to_response(chunks, "x")

    async def send(message):
        raise OSError("the server cannot send")

    serve(view)
    with pytest.raises(OSError, match="cannot send"):
        asyncio.run(asgi(send=send))
    gc.collect()
    assert not exports


ENDLESS = {
    "sqlite": "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n) SELECT id, 'a' AS name FROM n",
    "postgresql": "SELECT generate_series(1, 1000000000000) AS id, 'a' AS name",
    "mysql": "SELECT seq AS id, 'a' AS name FROM seq_1_to_1000000000000",
}


def test_asgi_query_ends_unread_when_the_client_goes_before_the_body_begins(serve, transactional_database):
    opened = []

    def leaving(request):
        connection = connections[transactional_database]
        rows = Parent.objects.using(transactional_database).raw(ENDLESS[connection.vendor])
        chunks = stream(rows, ["id", "name"])
        opened.extend([connection, chunks, to_response(chunks, "x")])
        views["leave"]()
        return opened[-1]

    serve(leaving)
    asyncio.run(asgi())
    connection, chunks, _ = opened
    assert connection.connection is None
    assert chunks.is_over
    assert list(chunks) == []


def test_a_stream_can_be_closed_where_an_event_loop_runs(transactional_database):
    """As the garbage collector does with one that nobody closed."""
    alias = transactional_database
    rows = Parent.objects.using(alias).raw(ENDLESS[connections[alias].vendor])
    chunks = stream(rows, ["id", "name"])
    next(chunks)

    async def close():
        chunks.close()

    asyncio.run(close())
    assert list(chunks) == []
    assert Parent.objects.using(alias).count() == 0


def test_asgi_body_that_fails_is_closed_and_not_ended(serve, finished):
    threads, log = set(), []
    serve(lambda request: to_response(logged(log, 3, fails=True, threads=threads), "x"))
    answer = asyncio.run(asgi())
    assert isinstance(answer["error"], BrokenSourceError)
    assert b"".join(answer["body"]) == CHUNK * 3
    assert not answer["complete"]
    assert log[-1] == "closed"
    assert len(threads) == 1
    assert len(finished) == 1


def test_asgi_error_before_the_first_chunk_is_a_500(serve, settings):
    settings.DEBUG_PROPAGATE_EXCEPTIONS = False
    serve(lambda request: to_response(Source(fails=True), "x"))
    assert asyncio.run(asgi())["status"] == 500


@pytest.mark.parametrize("ends", ["whole", "left", "failed"])
def test_asgi_leaves_no_connection_open(serve, transactional_database, ends):
    parents = Parent.objects.using(transactional_database)
    parents.bulk_create(Parent(name="x" * 200) for _ in range(3000))
    opened = {}

    def rows():
        connection = connections[transactional_database]
        for number, parent in enumerate(parents.iterator()):
            opened["connection"] = connection
            if ends == "failed" and number == 2000:
                raise BrokenSourceError
            yield {"name": parent.name}

    serve(lambda request: to_response(stream(rows()), "x"))
    answer = asyncio.run(asgi(leave_after=1 if ends == "left" else None))
    assert answer["complete"] == (ends == "whole")
    assert opened["connection"].connection is None


def test_asgi_spooled_body_is_sent_whole(serve):
    serve(lambda request: to_response(stream(ROWS), "x", spool=True))
    answer = asyncio.run(asgi())
    body = b"".join(answer["body"])
    assert body == to_buffer(stream(ROWS)).read()
    assert int(answer["headers"]["Content-Length"]) == len(body)


def test_async_client_reads_the_body(serve):
    serve(lambda request: to_response(stream(ROWS), "x"))

    async def read():
        response = await AsyncClient().get("/x")
        return b"".join([part async for part in response])

    assert asyncio.run(read()) == to_buffer(stream(ROWS)).read()


# Behind GZipMiddleware

ACCEPT = [(b"accept-encoding", b"gzip")]


def answers(interface):
    if interface == "wsgi":
        return wsgi(Accept_Encoding="gzip")
    answer = asyncio.run(asgi(headers=ACCEPT))
    return answer | {"body": b"".join(answer["body"])}


@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
def test_gzip_middleware_packs_a_live_body(serve, interface):
    serve(lambda request: to_response(stream(ROWS), "x.csv"), middleware=[GZIP])
    answer = answers(interface)
    assert answer["headers"]["Content-Encoding"] == "gzip"
    assert gzip.decompress(answer["body"]) == to_buffer(stream(ROWS)).read()


@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
def test_gzip_middleware_leaves_a_spooled_body_its_length_and_digest(serve, interface):
    serve(lambda request: to_response(stream(ROWS), "x.csv", spool=True), middleware=[GZIP])
    answer = answers(interface)
    assert answer["body"] == to_buffer(stream(ROWS)).read()
    assert int(answer["headers"]["Content-Length"]) == len(answer["body"])
    assert "Repr-Digest" in answer["headers"]


@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
def test_gzip_middleware_leaves_what_is_compressed_already(serve, interface):
    serve(lambda request: to_response(stream(ROWS, compression="gzip"), "x.csv"), middleware=[GZIP])
    answer = answers(interface)
    assert answer["headers"]["Content-Encoding"] == "gzip"
    assert gzip.decompress(answer["body"]) == to_buffer(stream(ROWS)).read()


@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
def test_gzip_middleware_leaves_the_download_of_a_compressed_file(serve, interface):
    serve(lambda request: to_response(stream(ROWS, compression="gzip"), "x.csv.gz"), middleware=[GZIP])
    answer = answers(interface)
    assert "gzip" not in answer["headers"].get("Content-Encoding", "")
    assert gzip.decompress(answer["body"]) == to_buffer(stream(ROWS)).read()


@pytest.mark.parametrize("fails", [False, True])
def test_source_behind_gzip_middleware_is_closed(serve, fails):
    source = Source(*[CHUNK] * 3, fails=fails)
    serve(lambda request: to_response(source, "x.csv"), middleware=[GZIP])
    answer = asyncio.run(asgi(headers=ACCEPT))
    assert answer["complete"] != fails
    assert source.closed


def exclaiming(get_response):
    """Put an asynchronous body in place of the response's own."""

    def middleware(request):
        response = get_response(request)
        chunks = response.streaming_content

        async def body():
            for chunk in chunks:
                yield chunk + b"!"

        response.streaming_content = body()
        return response

    return middleware


def test_asynchronous_body_of_a_middleware_is_sent(serve):
    source = Source(b"a", b"b")
    serve(lambda request: to_response(source, "x"), middleware=[f"{__name__}.exclaiming"])
    answer = asyncio.run(asgi())
    assert b"".join(answer["body"]) == b"a!b!"
    assert source.closed


def replacing_body(get_response):
    """Answer with something else, as a middleware that answers 304 does."""

    def middleware(request):
        response = get_response(request)
        response.close()
        return HttpResponse(status=304)

    return middleware


def test_response_that_a_middleware_drops_releases_its_source(serve):
    source = Source(b"a", b"b")
    serve(lambda request: to_response(source, "x"), middleware=[f"{__name__}.replacing_body"])
    assert asyncio.run(asgi())["status"] == 304
    assert source.closed


def test_response_is_one_of_django():
    with contextlib.closing(to_response([b"a"], "x")) as response:
        assert isinstance(response, StreamingHttpResponse)
        assert io.BytesIO(response.getvalue()).read() == b"a"


def test_generator_that_an_iterable_makes_is_closed_with_the_response():
    log = []

    class Chunks:
        def __iter__(self):
            return logged(log, 3)

    to_response(Chunks(), "x").close()
    assert log == ["made 0", "closed"]


def test_live_response_inside_a_transaction_that_ends_with_the_view_is_refused(transactional_database):
    postgresql = connections[transactional_database].vendor == "postgresql"
    Parent.objects.using(transactional_database).bulk_create(Parent(name=str(n)) for n in range(300))
    with transaction.atomic(using=transactional_database):
        chunks = stream(Parent.objects.using(transactional_database), ["name"])
        if postgresql:
            with pytest.raises(ExportError, match="non_atomic_requests"):
                to_response(chunks, "x.csv")
            response = to_response(chunks, "x.csv", spool=True)
        else:
            response = to_response(chunks, "x.csv")
    assert len(b"".join(response).splitlines()) == 301


def test_headers_that_cannot_be_leave_no_transaction_open(transactional_database):
    Parent.objects.using(transactional_database).create(name="a")
    chunks = stream(Parent.objects.using(transactional_database), ["name"])
    with pytest.raises(BadHeaderError):
        to_response(chunks, "x.csv", content_type="a\r\nb")
    assert not connections[transactional_database].in_atomic_block


def test_document_whose_query_fails_is_no_response(database):
    failing = Parent.objects.using(database).extra(select={"oops": "no_such_column"})
    with pytest.raises(DatabaseError):
        to_response(stream({"title": "x", "rows": failing.values("oops")}, encoder=Json()), "x.json")
