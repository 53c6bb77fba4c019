"""write(): carry out one part of a dump, whenever and however often it is asked for."""

import logging
from threading import Event
from uuid import UUID

from upstream.dumps import run_part
from upstream.dumps.sites import plan_from_data
from upstream.jobs import leases, states
from upstream.jobs.beats import Beat, LeaseLostError
from upstream.jobs.models import ExportJob, ExportPart
from upstream.jobs.running import insist, without_values
from upstream.streaming import ExportError

logger = logging.getLogger(__name__)


def write(identity: UUID, number: int) -> None:
    """Write part `number` of the dump of a job, and record it, unless another does, has done, or nobody waits.

    It may be called any number of times, at once and late. What fails is recorded too, and ends the dump if it is
    an ExportError, which would come again, or was the last attempt. The text of any other error may hold values
    of rows, so of those only the type is recorded, and where they were raised.
    """
    job = insist(leases.running(identity).first)
    part = job and insist(lambda: leases.take(identity, number, job.request["attempts"]))
    if not (job and part):
        return
    try:
        with Beat(part, Event(), leases) as beat:
            written = run_part(plan_from_data(job.request["plan"]), number, beat.tell)
    except LeaseLostError:  # by its dump, or to another
        insist(lambda: leases.release(part))
    except Exception as error:  # noqa: BLE001 (told to the process that asked)
        logger.warning("part %d of dump %s failed with %s", number, identity, type(error).__name__)
        is_final = isinstance(error, ExportError)
        _fail(
            job, part, f"{type(error).__name__}: {error}" if is_final else without_values(error), is_final=is_final
        )
    except BaseException:  # the worker is told to end
        insist(lambda: leases.release(part))
        raise
    else:
        insist(lambda: leases.record(part, written))


def _fail(job: ExportJob, part: ExportPart, words: str, *, is_final: bool) -> None:
    if is_final or part.attempts >= job.request["attempts"]:
        words = f"part {part.number} failed, the last of {part.attempts} times with:\n{words}"
        insist(lambda: states.fail(job, words, is_final=True))
    insist(lambda: leases.fail(part, words))
