"""A bucket of S3 by boto3: requests, their errors, and uploads in pieces."""

import base64
import errno
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import IO, Any

from upstream.streaming._optional import optional

MISSING = ("404", "NoSuchKey")


class S3Error(OSError):
    """S3 has refused a request, or was not reached; `code` is its own word for why."""

    code = ""


@dataclass(frozen=True)
class Bucket:
    """A bucket, whose errors are OSErrors about the target that is `shown`."""

    name: str
    endpoint_url: str | None
    shown: str

    def call(self, operation: str, **parameters: Any) -> Any:
        """Return the answer to a request; boto3 repeats it as it is configured to."""
        with self.errors():
            return getattr(self._client, operation)(Bucket=self.name, **parameters)

    def pages(self, operation: str, **parameters: Any) -> Iterator[Any]:
        """Yield all answers to a request that lists."""
        with self.errors():
            yield from self._client.get_paginator(operation).paginate(Bucket=self.name, **parameters)

    def send(self, file: IO[bytes], operation: str, **parameters: Any) -> Any:
        """Send the content of a file that was written to its end, and compare the checksum that comes back."""
        file.seek(0)
        digest = base64.b64encode(hashlib.file_digest(file, "sha256").digest()).decode()  # type: ignore[arg-type]
        file.seek(0)
        answer = self.call(operation, Body=file, ChecksumSHA256=digest, **parameters)
        if answer.get("ChecksumSHA256", digest) != digest:
            raise self.error("BadDigest", "it has stored other bytes than were sent")
        file.seek(0, os.SEEK_END)
        return answer

    @contextmanager
    def uploading(self, name: str) -> Iterator["Upload"]:
        """Begin an upload, and complete it at the end of the block, or abort it."""
        identity = self.call("create_multipart_upload", Key=name, ChecksumAlgorithm="SHA256")["UploadId"]
        try:
            upload = Upload(self, name, identity)
            yield upload
            upload.complete()
        except BaseException:
            with suppress(OSError):  # then it is aborted when the dump ends
                self.abort(name, identity)
            raise

    def abort(self, name: str, identity: str) -> None:
        """End an upload, of which nothing is kept."""
        try:
            self.call("abort_multipart_upload", Key=name, UploadId=identity)
        except S3Error as error:
            if error.code != "NoSuchUpload":
                raise

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raise what boto3 raises as an OSError: it may pass, so a part that met it runs again."""
        errors: Any = optional("botocore.exceptions", "s3")
        try:
            yield
        except errors.ClientError as error:
            told = error.response.get("Error", {})
            raise self.error(told.get("Code", ""), told.get("Message", "")) from error
        except errors.BotoCoreError as error:
            raise self.error(type(error).__name__, str(error)) from error

    def error(self, code: str, words: str) -> OSError:
        """Return the error for a code of S3."""
        if code in MISSING:
            return FileNotFoundError(errno.ENOENT, f"{code}: {words}", self.shown)
        error = S3Error(errno.EIO, f"{code}: {words}", self.shown)
        error.code = code
        return error

    @property
    def _client(self) -> Any:
        return client(self.endpoint_url, os.getpid())


@cache
def client(endpoint_url: str | None, _process: int) -> Any:
    """Return the client of a process: one that was forked may not share its parent's connections."""
    boto3: Any = optional("boto3", "s3")
    return boto3.session.Session().client("s3", endpoint_url=endpoint_url)


@dataclass(frozen=True)
class Source:
    """An object to copy from, as long as its tag is the same."""

    name: str
    size: int
    tag: str


@dataclass
class Upload:
    """An upload in pieces, which any threads send and copy."""

    bucket: Bucket
    name: str
    identity: str
    sizes: dict[int, int] = field(default_factory=dict)
    answers: dict[int, Mapping[str, Any]] = field(default_factory=dict)

    def send(self, number: int, file: IO[bytes]) -> None:
        """Send a file that was written to its end as a piece."""
        size = file.tell()
        self._add(number, size, self.bucket.send(file, "upload_part", **self._piece(number)))

    def copy(self, number: int, source: Source, start: int, end: int) -> None:
        """Let S3 copy bytes of an object as a piece, up to 5 GiB."""
        answer = self.bucket.call(
            "upload_part_copy",
            CopySource={"Bucket": self.bucket.name, "Key": source.name},
            CopySourceRange=f"bytes={start}-{end - 1}",
            CopySourceIfMatch=source.tag,
            **self._piece(number),
        )
        self._add(number, end - start, answer["CopyPartResult"])

    def complete(self) -> None:
        """Show the object, and compare its size."""
        parts = [self.answers[number] for number in sorted(self.answers)]
        told = {"Key": self.name, "UploadId": self.identity, "MultipartUpload": {"Parts": parts}}
        self.bucket.call("complete_multipart_upload", **told)
        stored, size = self.bucket.call("head_object", Key=self.name)["ContentLength"], sum(self.sizes.values())
        if stored != size:
            raise self.bucket.error("IncompleteBody", f"it has stored {stored:,} bytes of {size:,}")

    def _piece(self, number: int) -> dict[str, Any]:
        return {"Key": self.name, "UploadId": self.identity, "PartNumber": number}

    def _add(self, number: int, size: int, answer: Mapping[str, Any]) -> None:
        told = {name: answer[name] for name in ("ETag", "ChecksumSHA256") if name in answer}
        self.sizes[number], self.answers[number] = size, {"PartNumber": number, **told}
