"""What a target of dumps is, and what its names mean."""

import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from upstream.streaming import ExportError

READ_BYTES = 1024 * 1024
MANIFEST = "manifest.json"
# A file that a dump may show under this name; a dump that joins its parts stages pieces instead.
SHOWN = re.compile(r"(?:[^/.][^/]*/)?part-\d+-[0-9a-f]{8}\.(?!result$)[^/]+")


class TargetError(ExportError, OSError):
    """A dump cannot be written where it should be; the message says what to do."""


class Target(Protocol):
    """A place for a dump. Until `publish`, all that is written is staged: no dump to those who read dumps.

    Every process that carries out a part makes its own target from the data of the plan. A name is written once,
    whole or not at all; it may begin with one folder, such as orders.item/part-00000-1a2b3c4d.csv. `str()` of a
    target is the text by which commands name it.
    """

    def as_data(self) -> Mapping[str, Any]:
        """Return what `target_of` makes the target from, as JSON data without secrets."""

    def claim(self, *, resume: bool, overwrite: bool) -> AbstractContextManager[None]:
        """Keep other dumps away in the block; raise TargetError if something is there that has to be told first.

        Only with `resume` may a dump be staged already; with `overwrite` it is discarded, and a published one is
        replaced in the end.
        """

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        """Stage `chunks` under a name, durably, and close them."""

    def names(self) -> Sequence[str]:
        """Return the staged names, sorted."""

    def read(self, name: str) -> Generator[bytes]:
        """Yield what is staged under a name."""

    def publish(self, names: Sequence[str], manifest: bytes, *, joined: str = "") -> None:
        """Show the staged `names` and the manifest, which comes last, and drop what else is staged.

        With `joined`, they are joined in order to one object of that name. If it was interrupted, calling it again
        completes it.
        """

    def manifest(self) -> bytes | None:
        """Return the manifest of the published dump; None if there is none."""

    def published(self) -> Sequence[str]:
        """Return the names beside the manifest, sorted: also those that the dump does not tell of."""

    def read_published(self, name: str) -> Generator[bytes]:
        """Yield what is published under a name."""

    def discard(self) -> None:
        """Drop all that is staged."""
