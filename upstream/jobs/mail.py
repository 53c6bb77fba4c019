"""Mail to the requester when an export has ended; it holds no value of a row, and no link that works by itself."""

import logging

from django.conf import settings
from django.core.mail import send_mail
from django.utils import translation
from django.utils.formats import date_format, number_format
from django.utils.timezone import localtime
from django.utils.translation import gettext as _

from upstream.jobs.models import ExportJob, State
from upstream.jobs.options import Options

logger = logging.getLogger(__name__)


def tell(job: ExportJob) -> None:
    """Tell the requester how a job ended, as the option `mail` says; an error is logged and changes nothing."""
    options = Options.of_site()
    if not options.mail:
        return
    try:
        (options.function("mail") or send)(job)
    except Exception as error:  # noqa: BLE001 (its text may hold an address or a password)
        logger.error("no mail about export %s was sent: %s", job.pk, type(error).__name__)


def send(job: ExportJob) -> None:
    """Write to the requester's own address, in the language in which they asked for the export."""
    address = getattr(job.requester, "email", "")
    if not address:
        return
    with translation.override(job.request.get("language") or settings.LANGUAGE_CODE):
        name = " ".join(job.filename.split())
        send_mail(_subject(job, name), _text(job, name), None, [address])


def _subject(job: ExportJob, name: str) -> str:
    words = _("Export complete: %(name)s") if job.state == State.DONE else _("Export failed: %(name)s")
    return words % {"name": name}


def _text(job: ExportJob, name: str) -> str:
    if job.state != State.DONE:
        return _("%(name)s could not be made: %(error)s.") % {"name": name, "error": job.error}
    until = date_format(localtime(job.expires_at), "DATETIME_FORMAT") if job.expires_at else ""
    return _("%(name)s is complete: %(rows)s rows. It is kept until %(until)s.") % {
        "name": name,
        "rows": number_format(job.rows, force_grouping=True),
        "until": until,
    }
