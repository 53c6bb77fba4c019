"""One view, called by Django's ASGI handler as a server would, whose client may go at any moment."""

import asyncio
import threading
import time

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.urls import path

from tests.test_files import BrokenSourceError

views = {}


def view(request):
    return views["now"](request)


urlpatterns = [path("x", view)]


@pytest.fixture
def serve(settings):
    """Answer `/x` with the view that is given."""
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = []

    def serve(made, *, middleware=()):
        settings.MIDDLEWARE = list(middleware)
        views["now"] = made

    yield serve
    views.clear()


class Leaving:
    """What a server receives of a client that leaves when it is told to, from any thread."""

    def __init__(self):
        self.messages, self.loop = asyncio.Queue(), asyncio.get_running_loop()
        self.messages.put_nowait({"type": "http.request", "body": b"", "more_body": False})
        self.is_held = threading.Event()

    async def receive(self):
        message = await self.messages.get()
        if message.pop("holds", False):
            self.loop.call_soon(self._hold)
        return message

    def leave(self, **more):
        self.loop.call_soon_threadsafe(self.messages.put_nowait, {"type": "http.disconnect", **more})
        time.sleep(0.05)

    def slip(self):
        """Leave so that Django ends the request before the loop comes to what is called next."""
        self.leave(holds=True)
        assert self.is_held.wait(10)

    def _hold(self):
        self.is_held.set()
        time.sleep(0.2)


def slipping(get_response):
    """Have the client leave when the view has not begun."""

    def middleware(request):
        views["slip"]()
        return get_response(request)

    return middleware


async def asgi(log=None, *, method="GET", headers=(), leave_after=None, send=None):
    """Answer one request as an ASGI server would; with `leave_after`, the client goes after so many parts.

    A view has the client go before the answer by `views["leave"]()`.
    """
    log = [] if log is None else log
    client = Leaving()
    views.update(leave=client.leave, slip=client.slip)
    answer = {"body": [], "complete": False}

    async def sent(message):
        if message["type"] == "http.response.start":
            fields = {name.decode("latin-1").title(): value.decode() for name, value in message["headers"]}
            answer.update(status=message["status"], headers=fields)
            return
        answer["complete"] = not message.get("more_body", False)
        if message.get("body"):
            log.append("sent")
            answer["body"].append(message["body"])
        if len(answer["body"]) == leave_after:
            client.messages.put_nowait({"type": "http.disconnect"})
            await asyncio.sleep(0.05)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": "/x",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), *headers],
    }
    try:
        await ASGIHandler()(scope, client.receive, send or sent)
    except BrokenSourceError as error:
        answer["error"] = error
    return answer
