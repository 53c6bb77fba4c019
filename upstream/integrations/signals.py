"""Signals of downloads: one when a download begins, and one when it ends.

The sender is the class of the view or the model admin. Every signal has `request`, `filename` and `columns`, the
headers (None if only the first record tells them). The two at the end also have `outcome`, the `rows` and `bytes`
sent, the `seconds` since the request, and `error`, an exception or None.

An error in a receiver is logged and does not affect the download. Receivers run in the thread of the request,
while the export has no cursor and no transaction open. A response that is never sent is "aborted" when its request
ends.
"""

from dataclasses import dataclass
from typing import Literal

from django.dispatch import Signal

Outcome = Literal["complete", "failed", "aborted", "refused"]


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a download ended: the `rows` and `bytes` sent, and the `seconds` since the request."""

    outcome: Outcome
    rows: int
    bytes: int
    seconds: float
    error: BaseException | None = None


export_started = Signal()
"""The limits allow a download; none of it is made yet."""

export_finished = Signal()
"""The server took the whole download; the outcome is "complete"."""

export_failed = Signal()
"""A download is not complete: "failed" by an error, "aborted" by the client or "refused" by a limit."""
