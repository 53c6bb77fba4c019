"""The bytes of one part of a file: its rows, and of what stands before and after them what joins the parts."""

from collections.abc import Generator
from contextlib import closing

from upstream.streaming import ExportError
from upstream.streaming.encoders.protocol import Seam


def part_of(
    chunks: Generator[bytes], head: bytes, seam: Seam, *, is_first: bool, is_last: bool
) -> Generator[bytes]:
    """Yield a whole file as a part of a larger one, and close it; `head` is what stands before its rows.

    The first part keeps its head, and the last its end. Any other with rows begins with what stands between two
    parts. Only as many bytes as the end has are held back.
    """
    if is_first:
        yield head
    before, held, is_open = b"" if is_first else seam.between, b"", True
    with closing(chunks):
        for chunk in chunks:
            held += chunk
            if is_open and len(held) >= len(head):
                held, is_open = _without(head, held), False
            ready = 0 if is_open else max(0, len(held) - len(seam.end))
            if ready:
                yield before + held[:ready]
                before, held = b"", held[ready:]
    if is_open:
        _without(head, held)
    if is_last:
        yield seam.end


def _without(head: bytes, held: bytes) -> bytes:
    if not held.startswith(head):
        raise ExportError("a part begins unlike other files of its format: the model has changed since the plan")
    return held.removeprefix(head)
