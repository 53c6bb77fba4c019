"""Many clients at once: each reads a download as fast as it comes."""

import selectors
import socket
import threading
from dataclasses import dataclass, field
from time import monotonic, sleep

from tests.serving.running import get

BLOCK_BYTES = 256 * 1024


@dataclass
class Client:
    """One download: how many bytes came, when, and the longest time in which none did."""

    socket: socket.socket
    started: float
    received: int = 0
    last: float = 0.0
    silence: float = 0.0
    tail: bytes = field(default=b"", repr=False)

    def read(self):
        """Take what is there; return whether more may come."""
        block = self.socket.recv(BLOCK_BYTES)
        now = monotonic()
        self.silence = max(self.silence, now - (self.last or self.started))
        self.last = now
        self.received += len(block)
        self.tail = (self.tail + block)[-16:]
        return bool(block)

    @property
    def seconds(self):
        return self.last - self.started


def crowd(port, url, number):
    """Ask for `url` by so many clients at once, read all to the end, and return them."""
    clients = [_client(port, url) for _ in range(number)]
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, client)
        while selector.get_map():
            ready = selector.select(60)
            assert ready, "nothing came for a minute"
            for key, _ in ready:
                if not key.data.read():
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
    return clients


def _client(port, url):
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(f"GET {url} HTTP/1.1\r\nHost: tests\r\nConnection: close\r\n\r\n".encode())
    return Client(connection, monotonic())


class Visitor(threading.Thread):
    """Asks for an ordinary page again and again, and keeps how long each answer took."""

    def __init__(self, port, url):
        super().__init__()
        self.port, self.url = port, url
        self.seconds = []
        self._over = threading.Event()

    def run(self):
        while not self._over.is_set():
            started = monotonic()
            assert get(self.port, self.url)[0] == 200
            self.seconds.append(monotonic() - started)
            sleep(0.1)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self.join()
