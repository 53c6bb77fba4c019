"""Links to the files of exports: signed, for one user and one job, and valid for a short time."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.core.signing import BadSignature, SignatureExpired, TimestampSigner

from upstream.jobs import states
from upstream.jobs.models import ExportJob, State
from upstream.jobs.options import Options
from upstream.streaming import ExportError

SALT = "upstream.jobs.links"


class LinkError(ExportError, PermissionError):
    """A link is not valid for this user, or no longer; it does not tell whether there is such a job."""


def token_for(job: ExportJob) -> str:
    """Return the token in a link to the file of a job, for its requester, and for the option `link_seconds`."""
    return _signer().sign(f"{job.pk.hex}.{job.requester_id}")


def job_of(token: str, user: Any) -> ExportJob:
    """Return the job whose file a token leads `user` to; raise LinkError if it is not theirs, or no longer valid.

    The link alone gives nobody access: the view that sends the file checks `is_allowed` too.
    """
    try:
        value = _signer().unsign(token, max_age=timedelta(seconds=Options.of_site().link_seconds))
    except SignatureExpired:
        raise LinkError("this link is no longer valid: open the list of exports for a new one") from None
    except BadSignature:
        raise LinkError("this link is not valid") from None
    identity, _, requester = value.partition(".")
    job = states.jobs().filter(pk=UUID(identity), requester=user.pk, state=State.DONE).first() if user.pk else None
    if job is None or str(user.pk) != requester:
        raise LinkError("this link is not valid")
    return job


def _signer() -> TimestampSigner:
    return TimestampSigner(salt=SALT)
