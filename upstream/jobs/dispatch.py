"""Hand out the parts of a dump to workers behind a queue, and count in the table what is written."""

import logging
import random
import secrets
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import Error, connections, transaction
from django.db.models import Sum

from upstream.dumps import Part, WorkerError
from upstream.dumps.serving import Report
from upstream.dumps.sites import Plan
from upstream.jobs import leases, states
from upstream.jobs.models import ExportJob, ExportPart, State
from upstream.jobs.options import Options
from upstream.jobs.running import insist
from upstream.streaming import SourceError
from upstream.streaming.databases.sharing import is_in_callers_transaction

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5
# A message that nobody took may wait behind others or be lost. It is sent again, each time after twice as long.
LOST_SECONDS = 60.0
PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
# What is read of all parts that are not written, of which there may be 10,000; results are read once.
TOLD = ("number", "attempts", "rows", "bytes", "error", "is_leased")
READ_AT_ONCE = 500
MOST_ATTEMPTS = 32767  # so that nobody takes the job over
Send = Callable[[UUID, Sequence[int]], None]
"""Asks the queue to have `parts.write(job, number)` called somewhere, for each number."""


def run(
    send: Send, plan: Plan, numbers: Iterable[int], *, attempts: int, report: Report | None
) -> Generator[Part]:
    """Yield the parts as workers record them; a Runner of `upstream.dumps`, once `send` is given.

    The queue may lose, repeat and reorder messages: only the table is asked. What nobody takes, and what failed,
    is sent again from here, so nothing has to wait in the queue. When this ends, so does the job: a worker that
    still writes for it stops at its next heartbeat.
    """
    if is_in_callers_transaction(connections[states.alias()]):
        raise SourceError("a transaction is open on the table of jobs: call this outside of transaction.atomic()")
    numbers = list(numbers)
    job = _begun(plan, numbers, attempts)
    dump = _Dump(job, attempts, {number: _Sent() for number in numbers})
    try:
        send(job.pk, numbers)
        while dump.waiting:
            unwritten = insist(dump.unwritten)
            yield from dump.written(unwritten)
            _send_again(send, job.pk, dump.due(unwritten))
            if report:
                _tell(report, unwritten)
            time.sleep(POLL_SECONDS if dump.waiting else 0)
    finally:
        with suppress(Error):  # then its lease runs out, and the janitor finds it
            insist(states.jobs().filter(pk=job.pk).delete)


def _begun(plan: Plan, numbers: Iterable[int], attempts: int) -> ExportJob:
    """Store a job that goes on, with its parts. One that is left of the same dump ends."""
    fingerprint, first = f"parts of {plan.identity}", plan.plans[0]
    model = first.source["model"] if len(plan.plans) == 1 else ""
    with transaction.atomic(states.alias()):
        states.jobs().filter(fingerprint=fingerprint).delete()
        job = states.jobs().create(
            state=State.RUNNING,
            model=model,
            columns=[column["header"] for column in first.columns] if model else [],
            format=first.suffix.removeprefix("."),
            filename=f"{model.lower() or 'site'}{first.suffix}",
            request={"kind": "parts", "plan": plan.as_data(), "attempts": attempts},
            fingerprint=fingerprint,
            lease=secrets.token_hex(16),
            leased_until=leases.until(),
            attempts=MOST_ATTEMPTS,
        )
        ExportPart.objects.using(states.alias()).bulk_create(
            ExportPart(job=job, number=number) for number in numbers
        )
    return job


def _send_again(send: Send, job: UUID, numbers: Sequence[int]) -> None:
    if not numbers:
        return
    logger.info("%d parts of dump %s are sent again", len(numbers), job)
    try:
        send(job, numbers)
    except ConnectionError as error:  # the broker may come back
        logger.warning("%d parts of dump %s cannot be sent now: %s", len(numbers), job, error)


def _tell(report: Report, unwritten: Iterable[Any]) -> None:
    for part in unwritten:
        if part.rows:
            report(part.number, part.rows, part.bytes, False)


@dataclass
class _Sent:
    """What is known of the messages for a part: whether one was taken, and when another is due."""

    due: float = field(default_factory=lambda: time.monotonic() + LOST_SECONDS)
    times: int = 1
    attempts: int = 0
    is_taken: bool = False

    def is_due(self, part: Any) -> bool:
        """Return whether to send another now, for a part that is not recorded."""
        if part.is_leased:
            self.is_taken = True
            return False
        if self.is_taken or part.attempts > self.attempts:  # it came to nothing
            self.is_taken, self.attempts = False, part.attempts
            longest = min(PAUSE_SECONDS * 2**part.attempts, LONGEST_PAUSE_SECONDS)
            self.due = time.monotonic() + random.uniform(longest / 2, longest)  # noqa: S311 (no secret)
        if time.monotonic() < self.due:
            return False
        self.due = time.monotonic() + LOST_SECONDS * 2**self.times
        self.times += 1
        return True


@dataclass
class _Dump:
    """A dump that goes on: its job, and what is known of the parts that are not yet recorded."""

    job: ExportJob
    attempts: int
    waiting: dict[int, _Sent]
    renewed: float = field(default_factory=time.monotonic)

    def unwritten(self) -> list[Any]:
        """Return the parts that are not recorded, and keep the job's lease; raise WorkerError if it has ended."""
        parts = leases.parts_of(self.job.pk)
        if time.monotonic() - self.renewed > Options.of_site().lease_seconds / 4:
            total = parts.aggregate(rows=Sum("rows"), bytes=Sum("bytes"))
            states.renew(self.job, total["rows"] or 0, total["bytes"] or 0)
            self.renewed = time.monotonic()
        found = states.jobs().filter(pk=self.job.pk).values_list("state", "error").first()
        state, error = found or ("", "")
        if state != State.RUNNING:
            raise WorkerError(error or "the dump was cancelled; resume it to go on")
        return [*parts.filter(result__isnull=True).values_list(*TOLD, named=True)]

    def written(self, unwritten: Iterable[Any]) -> Iterator[Part]:
        """Yield the parts that were recorded since the last time."""
        recorded = sorted(self.waiting.keys() - {part.number for part in unwritten})
        for start in range(0, len(recorded), READ_AT_ONCE):
            parts = leases.parts_of(self.job.pk).filter(number__in=recorded[start : start + READ_AT_ONCE])
            for number, result in insist(lambda parts=parts: [*parts.values_list("number", "result")]):  # type: ignore[misc]
                del self.waiting[number]
                yield Part.from_data(result)

    def due(self, unwritten: Iterable[Any]) -> list[int]:
        """Return the parts that are to be sent again; raise WorkerError for one that has died too often."""
        due = [one for one in unwritten if self.waiting[one.number].is_due(one)]
        for part in due:
            if part.attempts >= self.attempts:
                told = part.error or "its worker died, or lost the database, without a word"
                raise WorkerError(f"part {part.number} failed, the last of {part.attempts} times with:\n{told}")
        return [part.number for part in due]
