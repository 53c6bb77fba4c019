"""What happens to the row of a report run: locks, and the notes in its summary."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import router, transaction
from django.db.models import F

from upstream.streaming import ExportError

PENDING, RUNNING, SUCCESS, FAILED = "pending", "running", "success", "failed"
LONGEST_ERROR = 500

Summary = dict[str, Any]


class ReportRunError(ExportError, RuntimeError):
    """The report run is not in the state that this needs; the text says what to do."""


def database_of_row(row: Any) -> str:
    """Return the alias of the database that an instance is written to."""
    return router.db_for_write(type(row), instance=row)


def rows_like(row: Any) -> Any:
    """Return the queryset of an instance alone, on the database that it is written to."""
    return type(row)._default_manager.using(database_of_row(row)).filter(pk=row.pk)


@contextmanager
def locked(row: Any, field: str) -> Iterator[None]:
    """Hold the lock of a row in a transaction; `field` is one of its plain fields.

    An update that changes nothing takes the lock on every database. SQLite has no SELECT FOR UPDATE, and there a
    transaction that reads first may fail when it writes.
    """
    with transaction.atomic(using=database_of_row(row)):
        if not rows_like(row).update(**{field: F(field)}):
            raise ReportRunError(f"{type(row).__name__} {row.pk} is gone")
        yield


def change_summary(report_run: Any, change: Callable[[Summary], Summary]) -> None:
    """Change the summary of a run, as it is in the database now, under the lock of the row."""
    with locked(report_run, "status"):
        summary = change(rows_like(report_run).values_list("summary_json", flat=True).get())
        rows_like(report_run).update(summary_json=summary)
    report_run.summary_json = summary


def words_of(error: BaseException) -> str:
    """Return an error in one line of at most 500 characters."""
    words = " ".join(f"{type(error).__name__}: {error}".split())
    return words if len(words) <= LONGEST_ERROR else f"{words[:LONGEST_ERROR]}…"


def require_success(report_run: Any) -> None:
    """Raise ReportRunError unless the drift of a run was computed."""
    if report_run.status != SUCCESS:
        raise ReportRunError(f"report run {report_run.pk} is {report_run.status}: call compute_report_drift first")
