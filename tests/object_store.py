"""moto's S3, served over HTTP in a thread: it counts requests, and fails those that a test wants to fail."""

import os
from contextlib import contextmanager
from threading import Lock, Thread

import boto3
from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from upstream.dumps.targets import buckets

FAILURE = b"<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>"
ACCESS = {
    "AWS_ACCESS_KEY_ID": "x",
    "AWS_SECRET_ACCESS_KEY": "x",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
    "AWS_MAX_ATTEMPTS": "1",  # what fails is not asked again, unless a test wants it
}


class Store:
    """The server and one bucket in it, as someone else than the target sees them."""

    def __init__(self, url, bucket):
        self.url, self.bucket = url, bucket
        self.s3 = boto3.client("s3", endpoint_url=url, region_name="us-east-1")
        self.asked, self.fails, self.answers_first = [], lambda number, request: False, False
        self._lock = Lock()

    def listed(self):
        return [one["Key"] for one in self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", ())]

    def pending(self):
        return self.s3.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])

    def content(self, key):
        return self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def count(self, word):
        return sum(word in request for request in self.asked)

    @contextmanager
    def failing(self, fails, *, answers_first=False):
        """Fail the requests of which `fails(number, request)` is true, where numbers begin with 1.

        With `answers_first` they are carried out, and only their answers are lost.
        """
        self.asked, self.fails, self.answers_first = [], fails, answers_first
        try:
            yield
        finally:
            self.fails = lambda number, request: False

    def has_to_fail(self, request):
        with self._lock:
            self.asked.append(request)
            return self.fails(len(self.asked), request)


def serving(store, environ, start_response, application):
    headers = " ".join(name for name in environ if name.startswith("HTTP_IF_"))
    request = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}?{environ['QUERY_STRING']} {headers}"
    if not store.has_to_fail(request):
        return application(environ, start_response)
    if store.answers_first:
        for _ in application(environ, lambda *_: None):
            pass
    else:
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("500 Internal Server Error", [("Content-Length", str(len(FAILURE)))])
    return [FAILURE]


@contextmanager
def stored_in(bucket):
    """Give a Store with a new bucket; credentials are those of ACCESS, in the environment."""
    moto, found = DomainDispatcherApplication(create_backend_app), []
    server = make_server(
        *("127.0.0.1", 0),
        lambda environ, start: serving(found[0], environ, start, moto),
        threaded=True,
        request_handler=MotoRequestHandler,
    )
    thread = Thread(target=server.serve_forever)
    found.append(Store(f"http://127.0.0.1:{server.server_port}", bucket))
    thread.start()
    try:
        found[0].s3.create_bucket(Bucket=bucket)
        yield found[0]
        empty(found[0])
        found[0].s3.delete_bucket(Bucket=bucket)
    finally:
        found[0].s3.close()
        server.shutdown()
        thread.join()
        server.server_close()


def empty(store):
    for upload in store.pending():
        store.s3.abort_multipart_upload(Bucket=store.bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    for key in store.listed():
        store.s3.delete_object(Bucket=store.bucket, Key=key)


def close_clients(url):
    """Close the client of this process, and make the next one anew, such as with other variables."""
    buckets.client(url, os.getpid()).close()
    buckets.client.cache_clear()
