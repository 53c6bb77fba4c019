"""The servers that downloads are proven on, and clients that are not ours."""

import socket
from contextlib import closing, contextmanager
from http.client import HTTPConnection

from benchmarks.servers import free_port
from tests import processes
from tests.serving import databases

COMMANDS = {
    "gunicorn": [
        *("-m", "gunicorn", "--workers=1", "--worker-class=gthread", "--threads=4", "--log-level=warning"),
        *("--bind=127.0.0.1:{port}", "--graceful-timeout=2", "{application}"),
    ],
    "uvicorn": [
        *("-m", "uvicorn", "--lifespan=off", "--no-access-log", "--log-level=warning"),
        *("--timeout-graceful-shutdown=2", "--port={port}", "{application}"),
    ],
    "granian": [
        *("-m", "granian", "--interface=asginl", "--log-level=warning", "--workers-kill-timeout=2"),
        *("--port={port}", "{application}"),
    ],
}
APPLICATIONS = {
    "gunicorn": ["django.core.wsgi:get_wsgi_application()"],
    "uvicorn": ["django.core.asgi:get_asgi_application", "--factory"],
    "granian": ["django.core.asgi:get_asgi_application", "--factory"],
}


def connect(server, version="1.1"):
    """Return a connection to a server's port, by a client of that version of HTTP."""
    connection = HTTPConnection("127.0.0.1", server, timeout=60)
    connection._http_vsn, connection._http_vsn_str = int(version.replace(".", "")), f"HTTP/{version}"
    return connection


def get(server, url, method="GET", headers=None, **options):
    """Return status, headers and body of a whole answer."""
    with closing(connect(server, **options)) as connection:
        connection.request(method, url, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.headers, response.read()


@contextmanager
def running(command, application="", *, port=None, **variables):
    """Start a server, on a port of its own by default, and give that port."""
    port = port or free_port()
    arguments = [part.format(port=port, application=application) for part in command]
    server = processes.start(*arguments, variables=variables)

    def answers():
        assert server.poll() is None
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    try:
        assert processes.eventually(answers)
        yield port
    finally:
        server.terminate()
        server.wait(20)


def serving(kind, entries, *options, **more):
    """Start a server of that kind, for the application of `tests.serving` on the databases in `entries`."""
    application, *factory = APPLICATIONS[kind]
    variables = databases.variables(entries) | more
    return running([*COMMANDS[kind], *factory, *options], application, **variables)
