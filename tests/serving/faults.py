"""Downloads that are made to fail, and what the client makes of them: `python -m tests.serving.faults` runs all.

A verdict is "refused" (another status than 200), "broken" (the client's HTTP says that the body is not whole),
"whole" (every byte came), or "short": bytes are missing, and nothing tells.
"""

from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPException, IncompleteRead

from tests.serving.running import connect, get

ROWS = 2000
SUFFIXES = ("csv", "json", "ndjson")
DELIVERIES = ("live", "spooled", "automatic")
# Before the first row, after it, at the end of the first batch, midway, at the last row, after it: in the footer.
POINTS = (0, 1, 100, 1000, ROWS - 1, ROWS)
BEFORE_THE_FIRST_CHUNK = (0, 1)


@dataclass(frozen=True)
class Way:
    """How a client reaches the server: by its own version of HTTP, and an nginx that asks by `proxy`, or none."""

    name: str
    version: str = "1.1"
    proxy: str | None = None

    @property
    def shows_breaks(self):
        """Whether the body is framed by chunks all the way."""
        return self.version != "1.0" and self.proxy != "1.0"


WAYS = (
    Way("HTTP/1.1"),
    Way("HTTP/1.0", version="1.0"),
    Way("nginx by HTTP/1.1", proxy="1.1"),
    Way("nginx by HTTP/1.0", proxy="1.0"),
)


def verdict(port, way, url, whole=None, meanwhile=None):
    """Ask for `url`, call `meanwhile` after the first bytes, read on; return the verdict.

    Whatever comes has to be the beginning of `whole`: no word of an error. Without `whole`, an export that cannot
    end well, every good end is "short".
    """
    received, ended = b"", "short"
    with closing(connect(port, way.version)) as connection:
        try:
            connection.request("GET", url)
            response = connection.getresponse()
            if response.status != 200:
                return "refused"
            if meanwhile:
                received = response.read(64 * 1024)
                meanwhile()
            received += response.read()
        except IncompleteRead as error:
            received += error.partial
            ended = "broken"
        except (HTTPException, ConnectionError, TimeoutError):
            ended = "broken"
    if whole is not None and not whole.startswith(received):
        raise AssertionError("something else than the export is in the body")
    return "whole" if received == whole else ended


def expected(way, delivery, point):
    """Return the verdict that a failing source has to have."""
    if point in BEFORE_THE_FIRST_CHUNK or delivery == "spooled":
        return "refused"
    if way.shows_breaks:
        return "broken"
    return "short" if delivery == "live" else "refused"


def failing_sources(port, server, way):
    """Yield (delivery, suffix, point, verdict) of every run whose source fails, asked at `port`."""
    for suffix in SUFFIXES:
        _, _, whole = get(server, f"/numbers.{suffix}?rows={ROWS}")
        for delivery in DELIVERIES:
            for point in POINTS:
                url = f"/numbers.{suffix}?rows={ROWS}&how=raise&at={point}&delivery={delivery}"
                yield delivery, suffix, point, verdict(port, way, url, whole)
