"""A download through a live server: the speed is that of the client, the peak of memory that of the worker."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from time import monotonic, sleep

from benchmarks.memory import peak_bytes
from benchmarks.output import Output
from benchmarks.servers import free_port

START_SECONDS = 30
BLOCK_BYTES = 64 * 1024


def gunicorn(output: Output, name: str = "csv") -> None:
    options = ["--workers=1", "--worker-class=gthread", "--threads=4", "--log-level=warning"]
    port = free_port()
    command = ["gunicorn", *options, f"--bind=127.0.0.1:{port}", "django.core.wsgi:get_wsgi_application()"]
    _download(output, command, port, name)


def uvicorn(output: Output, name: str = "csv") -> None:
    port = free_port()
    options = ["--factory", "--lifespan=off", "--no-access-log", "--log-level=warning", f"--port={port}"]
    _download(output, ["uvicorn", *options, "django.core.asgi:get_asgi_application"], port, name)


def granian(output: Output) -> None:
    port = free_port()
    options = ["--factory", "--interface=asginl", "--log-level=warning", f"--port={port}"]
    _download(output, ["granian", *options, "django.core.asgi:get_asgi_application"], port, "csv")


def _download(output: Output, command: Sequence[str], port: int, name: str) -> None:
    """Download the table in the format of that name."""
    with _running(command), closing(_connected(port)) as connection:
        # The first request of a process imports what it needs: that is not what is measured.
        worker = int(_get(connection, "/worker").read())
        output.restart()
        response = _get(connection, f"/payments?format={name}")
        output.drain(iter(lambda: response.read1(BLOCK_BYTES), b""))
        output.report(peak_bytes=peak_bytes(worker), cpu_seconds=None)


def _get(connection: HTTPConnection, path: str):
    connection.request("GET", path)
    response = connection.getresponse()
    if response.status != 200:
        raise RuntimeError(f"{path} answered {response.status}")
    return response


def _connected(port: int) -> HTTPConnection:
    connection = HTTPConnection("127.0.0.1", port, timeout=START_SECONDS)
    started = monotonic()
    while True:
        try:
            connection.connect()
        except ConnectionRefusedError:
            if monotonic() - started > START_SECONDS:
                raise
            sleep(0.05)
        else:
            return connection


@contextmanager
def _running(command: Sequence[str]) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-m", *command])
    try:
        yield
    finally:
        process.terminate()
        process.wait(START_SECONDS)
