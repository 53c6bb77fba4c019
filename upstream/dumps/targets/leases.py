"""Leases: locks on an object store, which end by themselves some time after their process died."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

logger = logging.getLogger(__name__)

LEASE_SECONDS = 60
RENEWALS = 6  # in each lease, so that some may fail


@contextmanager
def renewed(renew: Callable[[], bool]) -> Iterator[None]:
    """Call `renew` again and again, in a thread, until the block ends or it returns False: the lease is lost."""
    ended = Event()

    def keep() -> None:
        while not ended.wait(LEASE_SECONDS / RENEWALS):
            try:
                if not renew():
                    logger.warning(
                        "the lease of a dump is lost: it was not renewed in time, and another has taken it"
                    )
                    return
            except Exception as error:  # noqa: BLE001 (the next renewal may succeed)
                logger.warning("the lease of a dump was not renewed: %s", type(error).__name__)

    thread = Thread(target=keep, name="upstream-dump-lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
