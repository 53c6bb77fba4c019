"""Downloads that end well, fail or wait, and what became of them."""

import gc
import os
import random
import threading
from pathlib import Path

from django.dispatch import receiver
from django.http import HttpResponse, JsonResponse
from django.urls import path

from benchmarks.memory import peak_bytes
from tests.serving.models import Line, Wide
from upstream.integrations.downloads import download
from upstream.integrations.limits import Limits
from upstream.integrations.signals import export_failed, export_finished
from upstream.streaming import (
    ByteStream,
    Csv,
    Json,
    JsonLines,
    Parquet,
    Pdf,
    Xlsx,
    ato_response,
    stream,
    to_response,
)

ENCODERS = {
    "csv": Csv(),
    "json": Json(),
    "ndjson": JsonLines(),
    "bare": Csv(header=False),
    "xlsx": Xlsx(),
    # A row group is one chunk: these end with the first batch. Types are declared, since values that tell them
    # are read before the first byte.
    "parquet": Parquet(types={"number": "int64", "text": "string"}, row_group_rows=100),
    "pdf": Pdf(),
}
CHUNK = b"x" * 64 * 1024
TEXT = "x" * 500
# Texts that no codec makes much smaller, so that what is large stays so.
NOISE = random.Random(11).randbytes(500_000).hex()
# A text of 500 characters is half a page.
SHORT = {"pdf": 20}
WAIT_SECONDS = 8
# Conditions that are an error of the database when it comes to one row.
OVERFLOWING = "abs(CASE WHEN id = %s THEN -9223372036854775807 - 1 ELSE 1 END) > 0"
BREAKING = {
    "sqlite": OVERFLOWING,
    "postgresql": "1 / (id - %s) IS NOT NULL",
    "mariadb": OVERFLOWING,  # where a division by zero is NULL
}

gate = threading.Event()
closed = threading.Event()
gated_rows = threading.Event()
ended: list[str] = []


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


async def awaited(request, database):
    """Send the first `rows` of the table from an asynchronous view."""
    rows = Line.objects.using(database).filter(id__lte=int(request.GET["rows"]))
    return await ato_response(lambda: stream(rows), "lines.csv")


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


def numbers(request, suffix):
    """Send `rows` rows as a view of the package would; they fail (`how=raise`) or wait long at the row `at`."""
    options = request.GET
    rows, at = int(options.get("rows", 2000)), int(options.get("at", -1))
    length = SHORT.get(suffix, len(TEXT))

    def records():
        for number in range(rows + 1):
            if number == at:
                if options["how"] == "raise":
                    raise ValueError("the words of the failure")
                threading.Event().wait(WAIT_SECONDS)
            if number < rows:
                start = number * length % (len(NOISE) - length)
                yield {"number": number, "text": NOISE[start : start + length]}

    spool = {"live": False, "spooled": True, "automatic": None}[options.get("delivery", "automatic")]
    return download(request, records(), None, ENCODERS[suffix], f"numbers.{suffix}", sender=Line, spool=spool)


def long_lines(request, database):
    """Send two million lines as a view of the package would, as CSV or in the format `suffix`."""
    suffix = request.GET.get("suffix", "csv")
    rows = Line.objects.using(database).raw("SELECT line.id, line.text FROM line, line AS other LIMIT 2000000")
    spool = {"live": False, "spooled": True}[request.GET["delivery"]]
    return download(request, rows, None, ENCODERS[suffix], f"lines.{suffix}", sender=Line, spool=spool)


def wide_lines(request, database):
    """Send 40 MB of wide lines as a view of the package would."""
    rows = Wide.objects.using(database).filter(id__lte=8)
    return download(request, rows, None, Csv(), "lines.csv", sender=Wide, spool=True)


def every_line(request, database):
    """Send the table as a view of the package would."""
    rows = Line.objects.using(database)
    if "rows" in request.GET:
        rows = rows.filter(id__lte=int(request.GET["rows"]))
    return download(request, rows, None, Csv(), "lines.csv", sender=Line)


def limited(request):
    """Send more than lies between a server and a client, to three clients of all processes at a time."""
    texts = ({"text": TEXT} for _ in range(60_000))
    return download(request, texts, None, Csv(), "texts.csv", sender=Line, limits=Limits(total=3))


def timed(request):
    """Send 30 MB, to one client at a time, who has a second and a half."""
    rows = ({"text": TEXT} for _ in range(60_000))
    limits = Limits(total=1, seconds=1.5)
    spool = request.GET["delivery"] == "spooled"
    return download(request, rows, None, Csv(), "texts.csv", sender=Line, limits=limits, spool=spool)


def gated_download(request):
    """Send a row when `/open` was asked, to one client at a time."""

    def rows():
        gated_rows.set()
        gate.wait(60)
        yield {"text": TEXT}

    gate.clear()
    spool = request.GET["delivery"] == "spooled"
    return download(request, rows(), None, Csv(), "x.csv", sender=Line, limits=Limits(total=1), spool=spool)


def is_gated(request):
    answer = HttpResponse(str(gated_rows.wait(20)))
    gated_rows.clear()
    return answer


def outcomes(request):
    """Tell how downloads ended since this was asked."""
    told = [*ended]
    ended.clear()
    return JsonResponse(told, safe=False)


@receiver([export_finished, export_failed])
def _note(outcome, **_):
    ended.append(outcome)


def page(request):
    """Answer as a page does that asks the database once."""
    return HttpResponse(Line.objects.using(request.GET.get("database", "default")).get(pk=7).text)


def peak(request):
    return HttpResponse(str(peak_bytes()))


def resources(request):
    """Tell what this process holds: its number, open files, threads, and memory in bytes."""
    gc.collect()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return JsonResponse(
        {
            "pid": os.getpid(),
            "parent": os.getppid(),
            "files": sum(1 for _ in Path("/proc/self/fd").iterdir()),
            "threads": int(status["Threads"]),
            "exports": sum(isinstance(held, ByteStream) for held in gc.get_objects()),
            "rss": int(status["VmRSS"].split()[0]) * 1024,
        }
    )


urlpatterns = [
    path("lines/<database>.<suffix>", lines),
    path("awaited/<database>", awaited),
    path("gated", gated),
    path("open", open_gate),
    path("long-query/<database>", long_query),
    path("endless-source/<database>", endless_source),
    path("closed", is_closed),
    path("failing/<int:number>", failing),
    path("peak", peak),
    path("numbers.<suffix>", numbers),
    path("long-lines/<database>", long_lines),
    path("wide-lines/<database>", wide_lines),
    path("every-line/<database>", every_line),
    path("limited", limited),
    path("timed", timed),
    path("gated-download", gated_download),
    path("is-gated", is_gated),
    path("outcomes", outcomes),
    path("page", page),
    path("resources", resources),
]
