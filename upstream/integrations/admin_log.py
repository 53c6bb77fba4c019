"""Exports in the admin log: who exported what, and how it ended."""

import json
import logging
from collections.abc import Callable
from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import connections
from django.http import HttpRequest

from upstream.integrations.signals import Ending

logger = logging.getLogger(__name__)


def logged(request: HttpRequest, model: Any, details: dict[str, Any]) -> Callable[[Ending], None]:
    """Record in the admin log that an export began; return a function that records how it ended.

    The message is a JSON object. If the process is killed, its outcome remains "started".
    """
    user: Any = request.user
    entry = LogEntry.objects.create(
        user_id=user.pk,
        content_type_id=ContentType.objects.get_for_model(model, for_concrete_model=False).pk,
        object_repr=f"Export of {model._meta.verbose_name_plural}"[:200],
        action_flag=CHANGE,
        change_message=json.dumps({"outcome": "started", **details}),
    )

    def ended(ending: Ending) -> None:
        figures = {"rows": ending.rows, "bytes": ending.bytes, "seconds": round(ending.seconds, 3)}
        error = {"error": type(ending.error).__name__} if ending.error else {}
        entry.change_message = json.dumps({"outcome": ending.outcome, **details, **figures, **error})
        try:
            connection: Any = connections[str(entry._state.db)]  # noqa: SLF001
            if not connection.in_atomic_block:
                connection.close_if_unusable_or_obsolete()
            entry.save(update_fields=["change_message"])
        except Exception:
            logger.exception("the admin log could not record how an export ended: %s", entry.change_message)

    return ended
