"""S3, and the stores that speak its protocol, as the target of a dump."""

import errno
import secrets
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

from upstream.dumps.targets import leases
from upstream.dumps.targets.buckets import MISSING, Bucket, Source, Upload
from upstream.dumps.targets.multipart import FIRST_PIECE, LEAST_PIECE, MOST_PIECES, Slice, pieces, slices
from upstream.dumps.targets.objects import BUSY, LOCK, Objects, relative
from upstream.dumps.targets.protocol import READ_BYTES, TargetError
from upstream.streaming.targets.buffers import closing_chunks

DELETED_AT_ONCE = 1000  # S3's limit
COPIES_AT_ONCE = 8
TAKEN = ("412", "PreconditionFailed", "409", "ConditionalRequestConflict", *MISSING)
NO_CONDITIONS = ("501", "NotImplemented")


@dataclass(frozen=True)
class S3(Objects):
    """A prefix in a bucket of S3, or of a store that speaks its protocol; `s3://bucket/prefix` on a command line.

    It needs the extra `s3`. Credentials, region, retries and, without `endpoint_url`, the endpoint come from where
    boto3 finds them, such as AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL; none of them is in the plan.

    An object of 8 MiB or more is a multipart upload, of which memory holds one piece, up to 16 MiB; a larger piece
    is on disk (see `multipart.sizes`). S3 compares the SHA-256 of each piece; its answers and the size of the
    whole are compared again. An upload that fails is aborted, and one whose process died is when its dump ends or
    is discarded. The parts of one file are put together by S3 itself, except for what is smaller than its 5 MiB.

    The lock of a dump is an object with a lease of 60 seconds that a thread renews; it is created and renewed on
    condition that nobody else did, where the store knows such conditions.
    """

    bucket: str
    prefix: str = ""
    endpoint_url: str | None = None

    def __post_init__(self) -> None:
        if not self.bucket:
            raise TargetError(errno.EINVAL, "name a bucket, as in s3://bucket/prefix", str(self))
        if "@" in urlsplit(self.endpoint_url or "").netloc:
            raise TargetError(errno.EINVAL, "its endpoint holds a password, which a plan would show", str(self))
        object.__setattr__(self, "prefix", relative(self.prefix, str(self)))

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    def as_data(self) -> Mapping[str, Any]:
        return {"kind": "s3", "bucket": self.bucket, "prefix": self.prefix, "endpoint_url": self.endpoint_url}

    @property
    def _bucket(self) -> Bucket:
        return Bucket(self.bucket, self.endpoint_url, str(self))

    def _name(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def _key(self, name: str) -> str:
        return name.removeprefix(self._name(""))

    def put(self, key: str, chunks: Iterable[bytes]) -> None:
        bucket, name = self._bucket, self._name(key)
        with closing_chunks(chunks), closing(pieces(iter(chunks))) as files:
            first = next(files)
            if first.tell() < FIRST_PIECE:
                bucket.send(first, "put_object", Key=name)
                return
            with bucket.uploading(name) as upload:
                for number, file in enumerate(chain([first], files), 1):
                    upload.send(number, file)

    def get(self, key: str) -> Generator[bytes]:
        bucket = self._bucket
        answer = bucket.call("get_object", Key=self._name(key))
        with closing(answer["Body"]) as body, bucket.errors():
            yield from body.iter_chunks(READ_BYTES)

    def exists(self, key: str) -> bool:
        try:
            self._bucket.call("head_object", Key=self._name(key))
        except FileNotFoundError:
            return False
        return True

    def keys(self) -> Sequence[str]:
        return [*self._objects()]

    def delete(self, keys: Iterable[str]) -> None:
        names = [{"Key": self._name(key)} for key in keys]
        for start in range(0, len(names), DELETED_AT_ONCE):
            batch = names[start : start + DELETED_AT_ONCE]
            answer = self._bucket.call("delete_objects", Delete={"Objects": batch, "Quiet": True})
            for error in answer.get("Errors", ()):
                raise self._bucket.error(error.get("Code", ""), error.get("Message", ""))

    def join(self, keys: Sequence[str], key: str) -> None:
        """Let S3 copy the objects, one after the other, to one, and read only what is too small to be copied.

        All are read if copies would be more pieces than S3 allows: nearly as many objects, some over 1 GiB.
        """
        objects = self._objects()
        sources = [Source(self._name(one), *objects[one]) for one in keys]
        planned = list(slices([source.size for source in sources]))
        if sum(source.size for source in sources) < LEAST_PIECE or len(planned) > MOST_PIECES:
            super().join(keys, key)
            return
        with self._bucket.uploading(self._name(key)) as upload:
            pool = ThreadPoolExecutor(COPIES_AT_ONCE)
            try:
                copies = [pool.submit(_copy, upload, sources, *piece) for piece in enumerate(planned, 1)]
                for copied in as_completed(copies):
                    copied.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def end_uploads(self, is_ours: Callable[[str], bool]) -> None:
        bucket = self._bucket
        for page in bucket.pages("list_multipart_uploads", Prefix=self._name("")):
            for upload in page.get("Uploads", ()):
                if is_ours(self._key(upload["Key"])):
                    bucket.abort(upload["Key"], upload["UploadId"])

    @contextmanager
    def locked(self) -> Iterator[None]:
        lock = _Lock(self._bucket, self._name(LOCK))
        lock.take()
        try:
            with leases.renewed(lock.renew):
                yield
        finally:
            lock.release()

    def _objects(self) -> dict[str, tuple[int, str]]:
        """Return the size and the ETag of each object, by its key."""
        found: dict[str, tuple[int, str]] = {}
        for page in self._bucket.pages("list_objects_v2", Prefix=self._name("")):
            found |= {self._key(one["Key"]): (one["Size"], one["ETag"]) for one in page.get("Contents", ())}
        return {key: about for key, about in found.items() if key}  # a console's folder is an object, too


def _copy(upload: Upload, sources: Sequence[Source], number: int, taken: Sequence[Slice]) -> None:
    """Make a piece of one file: a copy if it is a slice that is large enough, or else of what is read."""
    first = taken[0]
    if len(taken) == 1 and first.size >= LEAST_PIECE:
        upload.copy(number, sources[first.file], first.start, first.end)
        return
    read = (_read(upload.bucket, sources[one.file], one) for one in taken)
    with closing(pieces(read)) as files:
        upload.send(number, next(files))


def _read(bucket: Bucket, source: Source, taken: Slice) -> bytes:
    span = f"bytes={taken.start}-{taken.end - 1}"
    answer = bucket.call("get_object", Key=source.name, Range=span, IfMatch=source.tag)
    with closing(answer["Body"]) as body, bucket.errors():
        content: bytes = body.read()
    return content


@dataclass
class _Lock:
    """An object that one process has created, or has taken over after its lease; its body tells which."""

    bucket: Bucket
    name: str
    tag: str = field(default="", init=False)
    owner: bytes = field(default_factory=lambda: secrets.token_hex(16).encode(), init=False)

    def take(self) -> None:
        try:
            seen = self.bucket.call("head_object", Key=self.name)
        except FileNotFoundError:
            self._put(IfNoneMatch="*")
            return
        if _age(seen) < leases.LEASE_SECONDS:
            raise self._busy()
        self._put(IfMatch=seen["ETag"])

    def renew(self) -> bool:
        try:
            self._put(IfMatch=self.tag)
        except TargetError:
            return False
        return True

    def release(self) -> None:
        with suppress(OSError):  # its lease ends by itself
            if self._own_tag():
                self.bucket.call("delete_object", Key=self.name)

    def _put(self, **condition: str) -> None:
        body = self.owner + secrets.token_hex(16).encode()  # so that no other has this ETag, and none before
        told = {"Key": self.name, "Body": body}
        try:
            answer = self.bucket.call("put_object", **told, **condition)
        except OSError as error:
            code = getattr(error, "code", MISSING[0])
            if code in TAKEN:
                self.tag = self._own_tag()
                if not self.tag:
                    raise self._busy() from error
                return
            if code not in NO_CONDITIONS:
                raise
            answer = self.bucket.call("put_object", **told)
        self.tag = answer["ETag"]

    def _own_tag(self) -> str:
        """Return the ETag of an object that this process has put there, though the answer was lost, or ""."""
        try:
            answer = self.bucket.call("get_object", Key=self.name)
        except FileNotFoundError:
            return ""
        with closing(answer["Body"]) as body, self.bucket.errors():
            return answer["ETag"] if body.read().startswith(self.owner) else ""

    def _busy(self) -> TargetError:
        return TargetError(errno.EBUSY, BUSY.format(leases.LEASE_SECONDS), self.bucket.shown)


def _age(answer: Mapping[str, Any]) -> float:
    """Return the age of an object, both times by the clock of S3."""
    told = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    now = parsedate_to_datetime(told) if told else datetime.now(UTC)
    age: float = (now - answer["LastModified"]).total_seconds()
    return age
