"""Servers that take alerts and reports: a webhook, and one for mail."""

import shutil
import ssl
import subprocess
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import orjson
import pytest
from aiosmtpd.controller import Controller

from benchmarks.servers import free_port


@contextmanager
def webhook(*statuses, size=0, host="127.0.0.1", port=0, certificate=None, pause=None):
    """Run a server that answers with these statuses in turn, then 200; yield its URL and what it was sent.

    It says that its answer has so many bytes, and calls `pause` before each answer.
    """
    requests, answers = [], list(statuses)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            requests.append((self.path, self.headers, orjson.loads(body)))
            if pause:
                pause()
            self.send_response(answers.pop(0) if answers else 200)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(size))
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer((host, port), Handler) as server:
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://{host}:{server.server_port}/alerts", requests
        server.shutdown()


def certificate_of(host, directory):
    """Return the paths of a new certificate, which is its own authority, and of its key."""
    if not (openssl := shutil.which("openssl")):
        pytest.skip("there is no openssl to make a certificate")
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    names = ("-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    made = (*curve, "-keyout", key, "-out", certificate)
    subprocess.run([openssl, "req", "-x509", *names, *made], check=True, capture_output=True)
    return certificate, key


@contextmanager
def mail_server(*answers):
    """Run an SMTP server that answers DATA with these in turn, then accepts; yield its address and its mails."""
    taken, left = [], list(answers)

    class Handler:
        async def handle_DATA(self, server, session, envelope):  # noqa: N802 (its name in aiosmtpd)
            if left and not left[0].startswith("250"):
                return left.pop(0)
            taken.append((envelope.rcpt_tos, envelope.content.decode()))
            return "250 OK"

    server = Controller(Handler(), "127.0.0.1", free_port())
    server.start()
    try:
        yield f"127.0.0.1:{server.port}", taken
    finally:
        server.stop()
