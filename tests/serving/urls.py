"""Downloads that end well, fail or wait, and what became of them."""

import threading

from django.http import HttpResponse
from django.urls import path

from benchmarks.memory import peak_bytes
from tests.serving.models import Line
from upstream.streaming import Csv, Json, JsonLines, stream, to_response

ENCODERS = {"csv": Csv(), "json": Json(), "ndjson": JsonLines(), "bare": Csv(header=False)}
CHUNK = b"x" * 64 * 1024
# Conditions that are an error of the database when it comes to one row.
OVERFLOWING = "abs(CASE WHEN id = %s THEN -9223372036854775807 - 1 ELSE 1 END) > 0"
BREAKING = {
    "sqlite": OVERFLOWING,
    "postgresql": "1 / (id - %s) IS NOT NULL",
    "mariadb": OVERFLOWING,  # where a division by zero is NULL
}

gate = threading.Event()
closed = threading.Event()


def lines(request, database, suffix):
    """Send the table, or its first `rows`; the database fails at the row `breaks_at`."""
    options = request.GET
    rows = Line.objects.using(database)
    if "rows" in options:
        rows = rows.filter(id__lte=int(options["rows"]))
    if "breaks_at" in options:
        rows = rows.extra(where=[BREAKING[database]], params=[int(options["breaks_at"])])
    chunks = stream(rows, encoder=ENCODERS[suffix], compression=options.get("compression"))
    return to_response(chunks, f"lines.{suffix}", spool="spool" in options)


def gated(request):
    """Send one chunk, then wait for `/open` before the next."""
    gate.clear()

    def chunks():
        yield CHUNK
        gate.wait(60)
        yield b"end"

    return to_response(chunks(), "x")


def open_gate(request):
    gate.set()
    return HttpResponse()


def long_query(request, database):
    rows = Line.objects.using(database).raw("SELECT line.id, line.text FROM line, line AS other LIMIT 2000000")
    return to_response(stream(rows), "x")


def endless_source(request, database):
    closed.clear()

    def texts():
        try:
            while True:
                yield from Line.objects.using(database).values("text").iterator()
        finally:
            closed.set()

    return to_response(stream(texts()), "x")


def is_closed(request):
    return HttpResponse(str(closed.wait(20)))


def failing(request, number):
    """Send `number` chunks, then fail."""

    def chunks():
        for _ in range(number):
            yield CHUNK
        raise ValueError("the words of the failure")

    return to_response(chunks(), "x", spool="spool" in request.GET)


def peak(request):
    return HttpResponse(str(peak_bytes()))


urlpatterns = [
    path("lines/<database>.<suffix>", lines),
    path("gated", gated),
    path("open", open_gate),
    path("long-query/<database>", long_query),
    path("endless-source/<database>", endless_source),
    path("closed", is_closed),
    path("failing/<int:number>", failing),
    path("peak", peak),
]
