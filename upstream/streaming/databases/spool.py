"""Spools unread rows to disk when their connection is needed elsewhere."""

import pickle
from collections.abc import Iterable, Iterator
from contextlib import suppress
from tempfile import TemporaryFile
from typing import Any

from django.conf import settings

from upstream.streaming.batches import BatchLimits, Fetched, batched, weigh
from upstream.streaming.databases.protocol import Cursor

SPOOLED = BatchLimits(rows=256, bytes=1024 * 1024)


class Spool:
    """Batches of rows in an unnamed file on disk, written on creation and yielded in order."""

    def __init__(self, batches: Iterable[list[Any]]) -> None:
        self._file = TemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR)  # noqa: SIM115 (closed by close)
        try:
            for batch in batches:
                pickle.dump(batch, self._file)
            self._file.seek(0)
        except BaseException:
            self._file.close()
            raise

    def __iter__(self) -> Iterator[list[Any]]:
        with suppress(EOFError):
            while True:
                yield pickle.load(self._file)  # noqa: S301 (we wrote it)

    def close(self) -> None:
        self._file.close()


class SpooledCursor:
    """The remaining rows of a cursor, spooled to disk; closes that cursor."""

    def __init__(self, cursor: Any) -> None:
        self.description = cursor.description
        try:
            self._spool = Spool(batched(lambda rows: _fetched(cursor, rows), SPOOLED, SPOOLED.rows))
        except BaseException:
            with suppress(Exception):  # the driver may raise the same error again
                cursor.close()
            raise
        cursor.close()
        self._batches = iter(self._spool)
        self._ahead: list[tuple[Any, ...]] = []

    def fetchmany(self, size: int, /) -> list[tuple[Any, ...]]:
        while len(self._ahead) < size and (batch := next(self._batches, None)):
            self._ahead += batch
        rows, self._ahead = self._ahead[:size], self._ahead[size:]
        return rows

    def close(self) -> None:
        self._spool.close()


def _fetched(cursor: Cursor, rows: int) -> Fetched[Any]:
    records = cursor.fetchmany(rows)
    return Fetched(list(records), weigh(records), seconds=0)
