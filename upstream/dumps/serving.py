"""What a worker does: write the parts whose numbers come, and tell how each goes on."""

import traceback
from collections.abc import Callable, Iterable
from typing import Any, Literal

from upstream.dumps.parts import run_part
from upstream.dumps.sites import Plan
from upstream.streaming import ExportError

Kind = Literal["ready", "progress", "written", "refused", "failed", "died"]
Tell = Callable[[Kind, Any], None]
Report = Callable[[int, int, int, bool], None]
"""Is told the number of a part, its rows and bytes so far, and whether it is done: then they are its file's."""


def serve(plan: Plan, numbers: Iterable[int], tell: Tell) -> None:
    """Write parts until there are no more numbers; what is told is JSON data."""
    tell("ready", None)
    for number in numbers:
        tell(*_written(plan, number, tell))


def _written(plan: Plan, number: int, tell: Tell) -> tuple[Kind, Any]:
    try:
        part = run_part(plan, number, lambda rows, size: tell("progress", (rows, size)))
    except ExportError:
        return "refused", traceback.format_exc()
    except Exception:  # noqa: BLE001 (told to the process that asked)
        return "failed", traceback.format_exc()
    return "written", part.as_data()
