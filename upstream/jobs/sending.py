"""Send the file of an export: whole, a part of it to go on from, or by a link of its object storage."""

import re
from base64 import b64encode
from collections.abc import Iterator
from mimetypes import guess_type
from pathlib import PurePath
from typing import Any

from django.core.files.storage import Storage
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response
from django.utils.http import http_date, parse_http_date_safe

from upstream.integrations.formats import format_of
from upstream.jobs.models import ExportJob
from upstream.streaming.compression import CONTENT_TYPES, SUFFIXES
from upstream.streaming.targets.filenames import clean_filename, content_disposition
from upstream.streaming.targets.responses import BLOCK_BYTES, HEADERS, IDENTITY, ExportResponse

# One range of RFC 9110, 14.1.2; a request for several is answered with the whole file, as it may be.
RANGE = re.compile(r"bytes=[ \t]*(?:(\d{1,19})-(\d{0,19})|-(\d{1,19}))[ \t]*", re.ASCII | re.IGNORECASE)
# Time to follow the link of an object storage; the download itself may take longer.
PRESIGNED_SECONDS = 60


class GoneError(Exception):
    """The storage no longer has the file of an export."""


def send(request: HttpRequest, job: ExportJob, storage: Storage, *, redirect: bool = False) -> HttpResponseBase:
    """Return the file of a job that is done; who asks was checked before.

    The whole file has its checksum in `Repr-Digest` and, as a strong one, in `ETag`. So a client that broke off
    goes on with `Range` and `If-Range`, and one that has the file asks with `If-None-Match`. The storage may be
    any whose files can seek. With `redirect`, a storage that signs its URLs, such as that of S3, sends the file
    itself. Raise GoneError if there is none.
    """
    headers = _headers(job)
    found = get_conditional_response(request, headers["ETag"], int(_moment(job)), HttpResponse())
    if found is not None and found.status_code in (304, 412):
        return _with_headers(found, {"ETag": headers["ETag"], "Cache-Control": headers["Cache-Control"]})
    if redirect and (url := _presigned(storage, job, headers)):
        gone_to = HttpResponseRedirect(url, headers={"Referrer-Policy": "no-referrer"})
        return _with_headers(gone_to, {"Cache-Control": headers["Cache-Control"]})
    if request.method == "HEAD":
        return HttpResponse(headers={**headers, "Content-Length": str(job.bytes)})
    part = _part(request, job, headers)
    if part is None:
        unsatisfied = {"Content-Range": f"bytes */{job.bytes}", "Cache-Control": headers["Cache-Control"]}
        return HttpResponse(status=416, headers=unsatisfied)
    return _sent(job, storage, part, headers)


def _sent(job: ExportJob, storage: Storage, part: range, headers: dict[str, str]) -> HttpResponseBase:
    try:
        file: Any = storage.open(job.file)
    except FileNotFoundError as error:
        raise GoneError(f"there is no file of the export {job.pk}") from error
    response = ExportResponse(headers=headers)
    response["Content-Length"] = str(len(part))
    if len(part) != job.bytes:
        response.status_code = 206
        response["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{job.bytes}"
    response.streaming_content = _Blocks(file, part)
    return response


def _headers(job: ExportJob) -> dict[str, str]:
    name = clean_filename(job.filename)
    return {
        **HEADERS,
        "Content-Type": _content_type(job, name),
        "Content-Disposition": content_disposition(name, as_attachment=True),
        "Content-Encoding": IDENTITY,
        "Accept-Ranges": "bytes",
        "ETag": f'"{job.sha256}"',
        "Repr-Digest": f"sha-256=:{b64encode(bytes.fromhex(job.sha256)).decode()}:",
        "Last-Modified": http_date(_moment(job)),
    }


def _content_type(job: ExportJob, name: str) -> str:
    """Return the type of the file as it is sent: that of its compression, which no client is to undo."""
    for suffix in (PurePath(job.file).suffix, PurePath(name).suffix):
        if suffix in SUFFIXES:
            return CONTENT_TYPES[SUFFIXES[suffix]]
    known = format_of(PurePath(name))
    return known.encoder.content_type if known else guess_type(name)[0] or "application/octet-stream"


def _with_headers(response: HttpResponse, headers: dict[str, str]) -> HttpResponse:
    for name, value in headers.items():
        response[name] = value
    return response


def _moment(job: ExportJob) -> float:
    return (job.finished_at or job.created_at).timestamp()


def _presigned(storage: Any, job: ExportJob, headers: dict[str, str]) -> str | None:
    """Return a URL that the storage signs for a minute, or None if it signs none."""
    if not getattr(storage, "querystring_auth", False):
        return None
    names = {"ContentDisposition": "Content-Disposition", "ContentType": "Content-Type"}
    parameters = {f"Response{option}": headers[name] for option, name in names.items()}
    url: str = storage.url(job.file, parameters=parameters, expire=PRESIGNED_SECONDS)
    return url


def _part(request: HttpRequest, job: ExportJob, headers: dict[str, str]) -> range | None:
    """Return the bytes that a request asks for, or None if the file has none of them."""
    whole = range(job.bytes)
    found = RANGE.fullmatch(request.headers.get("Range", ""))
    if not found or not _is_same(request.headers.get("If-Range"), headers):
        return whole
    first, last, count = found.groups()
    if count is not None:
        return whole[max(0, job.bytes - int(count)) :] or None if int(count) else None
    if last and int(last) < int(first):
        return whole  # that is no range, so there is none
    return whole[int(first) : int(last) + 1 if last else None] or None


def _is_same(validator: str | None, headers: dict[str, str]) -> bool:
    """Whether the file is still that of which a client has a part: by its ETag, or the moment it was finished."""
    if validator is None or validator.strip() == headers["ETag"]:
        return True
    moment = parse_http_date_safe(validator)
    return moment is not None and moment == parse_http_date_safe(headers["Last-Modified"])


class _Blocks(Iterator[bytes]):
    """The blocks of a part of a file, which is closed with the response."""

    def __init__(self, file: Any, part: range) -> None:
        self._file = file
        self._left = len(part)
        if part.start:
            try:
                file.seek(part.start)
            except BaseException:
                file.close()
                raise

    def __next__(self) -> bytes:
        block: bytes = self._file.read(min(self._left, BLOCK_BYTES)) if self._left else b""
        if not block:
            self.close()
            raise StopIteration
        self._left -= len(block)
        return block

    def close(self) -> None:
        self._left = 0
        self._file.close()
