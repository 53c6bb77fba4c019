"""Downloads that are made to fail, and what the client makes of them.

`DJANGO_SETTINGS_MODULE=tests.settings python -m tests.serving.faults` prints the verdicts as a table.

A verdict is "refused" (another status than 200), "broken" (the client's HTTP says that the body is not whole),
"whole" (every byte came), or "short": bytes are missing, and nothing tells.
"""

from collections import Counter
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPException, IncompleteRead
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

from tests import services
from tests.serving import databases
from tests.serving.running import COMMANDS, connect, get, serving

ROWS = 2000
DOCUMENTS = ("xlsx", "parquet", "pdf")
SUFFIXES = ("csv", "json", "ndjson", *DOCUMENTS)
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
    """Return the verdict of `download`."""
    return download(port, way, url, whole, meanwhile)[0]


def download(port, way, url, whole=None, meanwhile=None):
    """Ask for `url`, call `meanwhile` after the first bytes, read on; return the verdict and what was received.

    Whatever comes has to be the beginning of `whole`: no word of an error. Without `whole`, an export that cannot
    end well, every good end is "short".
    """
    received, ended = b"", "short"
    with closing(connect(port, way.version)) as connection:
        try:
            connection.request("GET", url)
            response = connection.getresponse()
            if response.status != 200:
                return "refused", b""
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
    return "whole" if received == whole else ended, received


def expected(way, delivery, point):
    """Return the verdict that a failing source has to have."""
    if point in BEFORE_THE_FIRST_CHUNK or delivery == "spooled":
        return "refused"
    if way.shows_breaks:
        return "broken"
    return "short" if delivery == "live" else "refused"


def failing_sources(port, server, way, suffix):
    """Yield (delivery, point, verdict) of every run whose source fails, asked at `port`."""
    _, _, whole = get(server, f"/numbers.{suffix}?rows={ROWS}")
    for delivery in DELIVERIES:
        for point in POINTS:
            url = f"/numbers.{suffix}?rows={ROWS}&how=raise&at={point}&delivery={delivery}"
            yield delivery, point, verdict(port, way, url, whole)


@contextmanager
def reaching(server, way):
    """Give the port where a way to the server begins, or None and the reason why there is no such way."""
    if way.proxy is None:
        yield server, ""
        return
    with services.nginx(server, way.proxy) as found:
        yield found


def main():
    print("| server | way | delivery | runs | verdicts |\n|---|---|---|---|---|")
    with TemporaryDirectory() as directory, databases.databases(Path(directory), 1) as entries:
        for kind in COMMANDS:
            with serving(kind, entries) as server:
                for way in WAYS:
                    with reaching(server, way) as (port, reason):
                        made = (failing_sources(port, server, way, suffix) for suffix in SUFFIXES)
                        runs = list(chain.from_iterable(made)) if port else []
                    for delivery in DELIVERIES if runs else ():
                        found = Counter(run[2] for run in runs if run[0] == delivery)
                        words = ", ".join(f"{number} {word}" for word, number in sorted(found.items()))
                        print(f"| {kind} | {way.name} | {delivery} | {found.total()} | {words} |")
                    if reason:
                        print(f"| {kind} | {way.name} | | 0 | {reason} |")


if __name__ == "__main__":
    main()
