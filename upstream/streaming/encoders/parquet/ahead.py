"""One thread that works on batches while the next ones are read."""

from collections.abc import Callable, Generator
from contextlib import closing
from queue import SimpleQueue
from sys import is_finalizing
from threading import Event, Thread, current_thread
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# Batches that wait for the thread: enough to read on while it writes a row group, which takes it 25 ms.
WAITING = 4


def ahead(function: Callable[[Item], Result], items: Generator[Item]) -> Generator[Result]:
    """Yield the result of `function` for each item, in order, computed in a thread while the next items are read.

    Results come up to `WAITING` items late, so memory holds so many items. An error is raised in the place of its
    result. Only `function` runs in the thread, and it has ended when the generator has. Closes `items`.
    """
    tasks: SimpleQueue[Any] = SimpleQueue()
    done: SimpleQueue[Any] = SimpleQueue()
    stopped = Event()
    # A daemon, since a stream that is never closed must not keep the interpreter from its end.
    thread = Thread(target=_work, args=(function, tasks, done, stopped), daemon=True)
    thread.start()
    try:
        with closing(items):
            waiting = 0
            for item in items:
                tasks.put(item)
                if waiting < WAITING:
                    waiting += 1
                else:
                    yield _result(done)
        for _ in range(waiting):
            yield _result(done)
    finally:
        stopped.set()
        tasks.put(None)
        # Not the thread itself, whose garbage collection may end this, nor an interpreter at its end, which has
        # stopped the thread for good.
        if thread is not current_thread() and not is_finalizing():
            thread.join()


def _work(function: Callable[[Any], Any], tasks: SimpleQueue[Any], done: SimpleQueue[Any], stopped: Event) -> None:
    while True:
        item = tasks.get()
        if stopped.is_set():
            return
        try:
            done.put((function(item), None))
        except BaseException as error:  # noqa: BLE001 (raised where the result is taken)
            done.put((None, error))


def _result(done: SimpleQueue[Any]) -> Any:
    result, error = done.get()
    if error is None:
        return result
    try:
        raise error
    finally:
        del error  # its traceback holds this frame, and the rows
