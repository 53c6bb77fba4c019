"""The most memory a process ever held."""

import resource
import sys
from pathlib import Path


def peak_bytes(pid: int | None = None) -> int | None:
    """Return the peak resident memory of a process, by default this one.

    On Linux VmHWM, which starts anew with each program: `ru_maxrss` would start at the peak of the parent.
    Elsewhere None for another process.
    """
    status = Path(f"/proc/{pid or 'self'}/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    if pid is None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return None
