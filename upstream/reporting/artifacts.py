"""Files that are made of report runs: saved whole in the default storage, recorded with size and checksum."""

import hashlib
import logging
from collections.abc import Callable, Generator, Iterable, Mapping
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple

from django.core.files.storage import default_storage
from django.db import DatabaseError, transaction
from django.utils import timezone

from upstream.reporting.runs import (
    Summary,
    change_summary,
    database_of_row,
    locked,
    require_success,
    words_of,
)
from upstream.streaming import to_storage
from upstream.streaming.targets.buffers import closing_chunks

logger = logging.getLogger(__name__)


class Made(NamedTuple):
    """The bytes of an artifact, and how many rows it has, asked after the last byte."""

    chunks: Iterable[bytes]
    rows: Callable[[], int]


def make_artifact(
    report_run: Any, kind: str, suffix: str, params: Mapping[str, Any], make: Callable[[], Made]
) -> Any:
    """Save what `make` returns as the run's artifact of that kind, and return its row.

    The file is named after the run and its period. One that was made before is replaced, and its file is deleted
    once the row of the new one is committed. On failure no file is left, the old artifact stays, and the error is
    recorded in the run's `summary_json["artifact_errors"]` and raised.
    """
    require_success(report_run)
    try:
        artifact = _saved(report_run, kind, suffix, params, make())
    except BaseException as error:
        _note(report_run, kind, words_of(error))
        raise
    if kind in report_run.summary_json.get("artifact_errors", {}):
        _note(report_run, kind, None)
    logger.info("made %s of report run %s: %d rows, %d bytes", kind, report_run.pk, artifact.rows, artifact.bytes)
    return artifact


def _saved(report_run: Any, kind: str, suffix: str, params: Mapping[str, Any], made: Made) -> Any:
    digest = _Digest()
    name = f"reports/{report_run.customer_id}/{report_run.period_end}_{report_run.pk}_{kind}{suffix}"
    path = to_storage(digest.of(made.chunks), name)
    try:
        facts = {
            "path": path,
            "sha256": digest.sha256.hexdigest(),
            "bytes": digest.size,
            "rows": made.rows(),
            "params": {
                name: str(value) if isinstance(value, Decimal) else value for name, value in params.items()
            },
            "created_at": timezone.now(),
        }
        return _recorded(report_run, kind, facts)
    except BaseException:
        default_storage.delete(path)
        raise


def _recorded(report_run: Any, kind: str, facts: Mapping[str, Any]) -> Any:
    with locked(report_run, "status"):
        old = report_run.artifacts.filter(kind=kind).values_list("path", flat=True).first()
        artifact, _ = report_run.artifacts.update_or_create(kind=kind, defaults=facts)
        if old:
            delete = partial(default_storage.delete, old)
            transaction.on_commit(delete, using=database_of_row(report_run), robust=True)
    return artifact


class _Digest:
    """The size and SHA-256 of the chunks that pass."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()
        self.size = 0

    def of(self, chunks: Iterable[bytes]) -> Generator[bytes]:
        with closing_chunks(chunks):
            for chunk in chunks:
                self.sha256.update(chunk)
                self.size += len(chunk)
                yield chunk


def _note(report_run: Any, kind: str, words: str | None) -> None:
    """Write down why an artifact failed, or forget that it did."""

    def change(summary: Summary) -> Summary:
        errors = {**summary.get("artifact_errors", {}), kind: words}
        kept = {name: text for name, text in errors.items() if text}
        rest = {name: value for name, value in summary.items() if name != "artifact_errors"}
        return {**rest, "artifact_errors": kept} if kept else rest

    try:
        change_summary(report_run, change)
    except DatabaseError:  # what led here is raised, and says more
        logger.exception("report run %s: the failure of %s could not be recorded", report_run.pk, kind)
