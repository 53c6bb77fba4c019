"""What the downloads of a site tell: that one began, and how it ended.

The sender is the class of the view or of the model admin. All have `request`, `filename` and `columns`, the
headers (None where only the first record tells them). The two at the end have also `outcome`, `rows` and `bytes`
that were sent, `seconds` since the request was taken up, and `error`, an exception or None.

A receiver that fails is logged, and changes nothing for the download. It runs in the thread of the request, when
the cursor and the transaction of the export are closed.
"""

from typing import Literal

from django.dispatch import Signal

Outcome = Literal["complete", "failed", "aborted", "refused"]

export_started = Signal()
"""A download was let in by its limits; nothing of it is made yet."""

export_finished = Signal()
"""All of a download went to the server; its outcome is "complete"."""

export_failed = Signal()
"""A download did not end well: "failed" by an error, "aborted" by its reader, "refused" by a limit."""
