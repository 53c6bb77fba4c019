"""Import a file of claims: rows that are right into the database, the others into a file with the reasons."""

import hashlib
import logging
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache, partial
from pathlib import Path
from typing import IO, Any

from django.db import DatabaseError, IntegrityError, router, transaction
from django.utils.timezone import localdate

from upstream.services.claim_columns import ClaimFileError, claim_columns
from upstream.services.claim_rows import BrokenRow, read_rows
from upstream.services.claim_values import AMOUNTS, REQUIRED_COLUMNS, parsed_amount, parsed_date, parsed_outcome
from upstream.services.data_quality import DataQualityService
from upstream.streaming import Csv, stream, to_file
from upstream.streaming.compression import SUFFIXES

logger = logging.getLogger(__name__)

StrPath = str | os.PathLike[str]
Progress = Callable[[int, int], None]

BATCH_SIZE = 2000
CHUNK_BYTES = 1024 * 1024
ROW_NUMBER, REASONS = "row_number", "reasons"
WITHHELD = "(withheld)"
NO_ROWS = "the file has no rows after its header"


class AlreadyImportedError(ClaimFileError):
    """The customer has the claims of this very file already; `upload` is the earlier import."""

    def __init__(self, upload: Any) -> None:
        super().__init__(
            f"this file was imported on {localdate(upload.uploaded_at)}, as {upload.filename!r}: "
            f"{upload.accepted_rows:,} claims"
        )
        self.upload = upload


def import_claims(
    customer: Any,
    file: StrPath | IO[bytes],
    filename: str | None = None,
    *,
    rejected_path: StrPath | None = None,
    required_columns: Sequence[str] = (),
    batch_size: int = BATCH_SIZE,
    progress: Progress | None = None,
) -> Any:
    """Import a CSV file of claims, all of its right rows or, on an error, none.

    Rows that are broken, as `read_rows` tells, or that `DataQualityService.validate_claim_data` finds wrong are
    left out, and written to `rejected_path`. All is done in one transaction, so a process that is killed leaves
    nothing. Memory holds one batch of claims.

    Args:
        customer: whose claims they are.
        file: a path, or a file opened in binary mode; one that cannot be rewound is copied to a temporary file.
            It is UTF-8, with or without a byte-order mark, and may be compressed with gzip or zstd.
        filename: what the upload is called; by default the file's name.
        rejected_path: a CSV file, compressed if it ends with .gz or .zst, for the rejected rows: their number (1
            is the row after the header), the reasons, and those of their cells that are imported. It is safe to
            open in a spreadsheet, and can be imported once it is corrected. A payer that looks like a person is
            withheld, and so is every cell of a broken row, which may be any column's; the reason has its line.
        required_columns: the columns that the file must have, and whose cells may not be empty, besides payer,
            cpt, submitted_date and outcome.
        batch_size: the number of claims that are stored at a time.
        progress: called after each batch with the number of rows read, and 0.

    Returns:
        The new upload, with its counts and the SHA-256 of the file. `warning_rows` counts claims that were
        accepted but contradict themselves: decided without a date, paid above the bill, or paid although denied.

    Raises:
        ClaimFileError: the file cannot be decompressed, lacks a required column, or has no row that can be read.
            The upload is kept as failed, with the message, and the same file may be tried again.
        AlreadyImportedError: the customer's claims of the same file, by its SHA-256, are there already.
        DatabaseError, OSError: the database, or the file of rejected rows, failed; the upload is kept as failed.
            (In a transaction of the caller's, it is kept as long as that is committed.)

    Example:
        >>> from io import BytesIO
        >>> file = BytesIO(b"Payer,CPT code,Submitted,Status\\nMedicare,99213,11/02/2026,paid\\n")
        >>> import_claims(customer, file, "november.csv").accepted_rows
        1
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be 1 or more, not {batch_size}")
    _check_paths(file, rejected_path)
    uploads = customer.claim_uploads
    database = router.db_for_write(uploads.model, instance=customer)
    with _rewindable(file) as source:
        known = {"sha256": _sha256(source), "filename": _name(file, filename)}
        source.seek(0)
        try:
            with transaction.atomic(using=database):
                upload = _new_upload(uploads, database, status="running", **known)
                required = tuple(dict.fromkeys([*REQUIRED_COLUMNS, *required_columns]))
                intake = _Intake(upload, required, batch_size, progress)
                _run(intake, source, rejected_path)
                _finish(upload, intake)
        except AlreadyImportedError:
            raise
        except Exception as error:
            _record_failure(uploads, database, error, known)
            raise
    logger.info("imported %d claims, rejected %d rows", upload.accepted_rows, upload.rejected_rows)
    return upload


@dataclass
class _Intake:
    """The rows of one file on their way: what is right is stored, the rest is yielded."""

    upload: Any
    required: Sequence[str]
    batch_size: int
    progress: Progress | None
    read: int = field(default=0, init=False)
    accepted: int = field(default=0, init=False)
    rejected: int = field(default=0, init=False)
    warnings: int = field(default=0, init=False)

    def rejections(
        self, rows: Iterable[list[str] | BrokenRow], places: Mapping[str, int]
    ) -> Generator[dict[str, Any]]:
        """Yield the rows that are rejected; the others are stored on the way, a batch at a time.

        `places` tells where in a row the cells of the columns are.
        """
        batch = []
        is_readable, fault = False, ""
        for self.read, cells in enumerate(rows, 1):
            if isinstance(cells, BrokenRow):
                self.rejected += 1
                fault = fault or cells.reason
                yield {ROW_NUMBER: self.read, REASONS: cells.reason, **dict.fromkeys(places, "")}
                continue
            is_readable = True
            row = {column: cells[place].strip() for column, place in places.items()}
            errors = DataQualityService.validate_claim_data(row, self.read, self.required)
            if errors:
                self.rejected += 1
                yield _rejection(self.read, row, errors)
                continue
            batch.append(self._claim(row))
            if len(batch) == self.batch_size:
                self._store(batch)
                batch = []
        if not is_readable:
            raise ClaimFileError(f"no row of the file can be read: {fault}" if fault else NO_ROWS)
        self._store(batch)

    def _claim(self, row: dict[str, str]) -> Any:
        values: dict[str, Any] = {name: parsed_amount(row[name]) for name in AMOUNTS if row.get(name)}
        claim = self.upload.claims.model(
            customer_id=self.upload.customer_id,
            upload_id=self.upload.pk,
            payer=row["payer"],
            cpt=row["cpt"],
            cpt_group=row.get("cpt_group") or row["cpt"],
            submitted_date=_date(row["submitted_date"]),
            decided_date=_date(row["decided_date"]) if row.get("decided_date") else None,
            outcome=parsed_outcome(row["outcome"]),
            **values,
        )
        self.warnings += _contradicts_itself(claim)
        return claim

    def _store(self, claims: list[Any]) -> None:
        self.upload.claims.bulk_create(claims)
        self.accepted += len(claims)
        if self.progress:
            self.progress(self.read, 0)


_date = lru_cache(maxsize=4096)(parsed_date)


def _contradicts_itself(claim: Any) -> bool:
    paid = claim.paid_amount or Decimal(0)
    return bool(
        (claim.outcome != "OTHER" and claim.decided_date is None)
        or (claim.billed_amount is not None and paid > claim.billed_amount)
        or (claim.outcome == "DENIED" and paid)
    )


def _rejection(number: int, row: Mapping[str, str], errors: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    personal = {error["field"]: WITHHELD for error in errors if error["code"] == "personal"}
    reasons = "; ".join(error["message"] for error in errors)
    return {ROW_NUMBER: number, REASONS: reasons, **row, **personal}


def _run(intake: _Intake, source: IO[bytes], rejected_path: StrPath | None) -> None:
    rows = read_rows(source)
    header = next(rows, None)
    if not isinstance(header, list):
        raise ClaimFileError(NO_ROWS)
    names = claim_columns(header, intake.required)
    rejections = intake.rejections(rows, {column: header.index(name) for column, name in names.items()})
    if rejected_path is None:
        deque(rejections, maxlen=0)
        return
    columns = {ROW_NUMBER: ROW_NUMBER, REASONS: REASONS, **names}
    compression = SUFFIXES.get(Path(rejected_path).suffix)
    to_file(stream(rejections, columns, Csv(profile="excel"), compression=compression), rejected_path)


def _new_upload(uploads: Any, database: str, **fields: Any) -> Any:
    """Create the upload in the place of a failed one; the unique constraint lets one import of a file in."""
    try:
        with transaction.atomic(using=database):
            failed = uploads.filter(sha256=fields["sha256"], status="failed")
            # A transaction of SQLite that reads before it writes fails at once if another one has written.
            failed.update(error_message="")
            failed.delete()
            return uploads.create(**fields)
    except IntegrityError:
        earlier = uploads.filter(sha256=fields["sha256"]).first()
        if earlier is None:
            raise
        raise AlreadyImportedError(earlier) from None


def _finish(upload: Any, intake: _Intake) -> None:
    upload.status = "success"
    upload.accepted_rows, upload.rejected_rows = intake.accepted, intake.rejected
    upload.warning_rows = intake.warnings
    upload.save()


def _record_failure(uploads: Any, database: str, error: Exception, known: dict[str, Any]) -> None:
    # PostgreSQL shows the row in the lines after the first, and claims are nobody's business.
    words = str(error).partition("\n")[0] or type(error).__name__
    # The error itself is raised; what is wrong with the database must not stand in its place.
    with suppress(DatabaseError, AlreadyImportedError):
        _new_upload(uploads, database, status="failed", error_message=words, **known)


def _check_paths(file: StrPath | IO[bytes], rejected_path: StrPath | None) -> None:
    if rejected_path is None or not isinstance(file, str | os.PathLike):
        return
    if Path(file).resolve() == Path(rejected_path).resolve():
        raise ValueError(f"the rejected rows would replace the file itself, {file}: name another")


def _name(file: StrPath | IO[bytes], filename: str | None) -> str:
    name = filename or (file if isinstance(file, str | os.PathLike) else getattr(file, "name", ""))
    return Path(str(name)).name[-255:] or "claims.csv"


@contextmanager
def _rewindable(file: StrPath | IO[bytes]) -> Iterator[IO[bytes]]:
    """Yield the file, open at its beginning; one that was opened by the caller stays open."""
    if isinstance(file, str | os.PathLike):
        with Path(file).open("rb") as opened:
            yield opened
    elif file.seekable():
        file.seek(0)
        yield file
    else:
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(file, copy, CHUNK_BYTES)
            copy.seek(0)
            yield copy


def _sha256(file: Any) -> str:
    digest = hashlib.sha256()
    # Not hashlib.file_digest: Django's uploaded files have no readinto().
    for chunk in iter(partial(file.read, CHUNK_BYTES), b""):
        if isinstance(chunk, str):
            raise ClaimFileError("the file is open in text mode: open it in binary mode")
        digest.update(chunk)
    return digest.hexdigest()
