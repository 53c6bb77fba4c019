"""run(): write the file of a job that was claimed, and make it that of the job if its lease still holds."""

import hashlib
import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any, TypeVar
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import InvalidStorageError, Storage
from django.db import Error, connections

from upstream.jobs import exports, mail, states
from upstream.jobs.beats import Beat, LeaseLostError
from upstream.jobs.files import name_of, storage
from upstream.jobs.models import ExportJob, State
from upstream.jobs.options import Options
from upstream.jobs.signals import job_failed, job_finished
from upstream.jobs.workers import enqueue
from upstream.streaming import ByteStream, ExportError, to_storage
from upstream.streaming.compression import SUFFIXES

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
PAUSE_SECONDS = 0.2


@dataclass(frozen=True)
class _Written:
    name: str
    rows: int
    bytes: int
    sha256: str


def run_job(identity: UUID, stop: threading.Event | None = None) -> State | None:
    """Claim a job and run it; return its new state, or None if another worker has it, or it is not to be run now.

    Whatever delivers jobs may deliver one twice, and at the same time: one delivery runs it.
    """
    job = states.claim(identity)
    return run(job, stop) if job else None


def run(job: ExportJob, stop: threading.Event | None = None) -> State | None:
    """Run a job that was claimed, and return its new state, or None if its lease was lost.

    The file appears in the storage when it is complete, under a name of this attempt; it is deleted if the job was
    cancelled meanwhile, or taken by another worker. An ExportError ends the job; after any other error it waits to
    run again, as often as the option `attempts` says. Once `stop` is set, the job is given back, to be taken by
    another worker at once.
    """
    written: list[_Written] = []
    try:
        with Beat(job, stop or threading.Event()) as beat, exports.opened(job) as chunks:
            written.append(_write(job, _place(), chunks, beat))
            _finish(job, written[0])
        state: State | None = State.DONE
    except LeaseLostError:
        _discard(job, written)
        state = None
        insist(lambda: states.release(job))
    except ExportError as error:
        _discard(job, written)
        state = _fail(job, str(error), is_final=True)
    except Exception as error:  # noqa: BLE001 (told in the job and in the log)
        _discard(job, written)
        logger.error("export %s failed: %s", job.pk, without_values(error))
        state = _fail(job, f"the export failed with {type(error).__name__}", is_final=False)
    except BaseException:
        with suppress(Error):
            _discard(job, written)
            states.release(job)
        raise
    _tell(job, state)
    return state


def _place() -> Storage:
    try:
        return storage()
    except (ImproperlyConfigured, ImportError, InvalidStorageError, TypeError) as error:
        logger.error("the storage of exports cannot be used: %s", error)  # the text is of settings
        raise ExportError(f"the storage of exports is set up wrongly ({type(error).__name__})") from error


def _write(job: ExportJob, place: Storage, chunks: ByteStream, beat: Beat) -> _Written:
    ending = next((ending for ending, name in SUFFIXES.items() if name == chunks.compression), "")
    suffix = chunks.plan.encoder.suffix + ending
    digest = hashlib.sha256()
    name = to_storage(_watched(job, chunks, digest, beat), name_of(job.pk, job.lease, suffix), place)
    return _Written(name, chunks.rows, chunks.size, digest.hexdigest())


def _watched(job: ExportJob, chunks: ByteStream, digest: Any, beat: Beat) -> Iterator[bytes]:
    """Yield the chunks while the lease holds, and tell their progress; at the end, the job is being completed."""
    for chunk in chunks:
        beat.check()
        digest.update(chunk)
        beat.rows, beat.bytes = chunks.rows, chunks.size
        yield chunk
    beat.check()
    if not insist(lambda: states.commit(job, chunks.rows, chunks.size)):
        raise LeaseLostError


def _finish(job: ExportJob, written: _Written) -> None:
    done = insist(lambda: states.finish(job, written.name, written.rows, written.bytes, written.sha256))
    # A change of which the database could not tell the end, and which was made again, found it made.
    if not done and not states.jobs().filter(pk=job.pk, file=written.name).exists():
        raise LeaseLostError


def _fail(job: ExportJob, words: str, *, is_final: bool) -> State | None:
    return insist(lambda: states.fail(job, words, is_final=is_final))


def _discard(job: ExportJob, written: list[_Written]) -> None:
    """Delete the file of an attempt that does not count."""
    for one in written:
        if not insist(lambda name=one.name: states.jobs().filter(pk=job.pk, file=name).exists()):  # type: ignore[misc]
            try:
                storage().delete(one.name)
            except Exception as error:  # noqa: BLE001 (the janitor deletes it)
                logger.warning("a file of export %s is left: %s", job.pk, type(error).__name__)


def _tell(job: ExportJob, state: State | None) -> None:
    if state is None:
        return
    job.refresh_from_db(using=states.alias())
    if state == State.QUEUED:
        enqueue(job)
        return
    signal = job_finished if state == State.DONE else job_failed
    signal.send_robust(ExportJob, job=job)
    mail.tell(job)


def insist(change: Callable[[], Result]) -> Result:
    """Return what `change` returns; the database may be locked or away for as long as the lease holds."""
    end = monotonic() + Options.of_site().lease_seconds
    while True:
        try:
            return change()
        except Error:
            connection: Any = connections[states.alias()]
            if monotonic() > end or connection.in_atomic_block:
                raise
            connection.close()
            sleep(PAUSE_SECONDS)


def without_values(error: BaseException) -> str:
    """Return the type of an error and where it was raised; its text may hold values of rows."""
    frames = traceback.extract_tb(error.__traceback__)
    return " ".join([type(error).__name__, *(f"{frame.filename}:{frame.lineno}" for frame in frames)])
