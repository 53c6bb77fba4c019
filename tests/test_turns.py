"""Threads take turns: a few at a time, in their order, and nobody waits long for one that waits itself."""

import signal
import threading
from contextlib import ExitStack
from time import monotonic, sleep

import pytest

from tests.processes import eventually
from upstream.streaming.turns import Turns

LONG = 30


def line_up(turns, number, work):
    """Start threads that run `work(n)`, each once the one before it waits for its turn; return them."""
    threads = []
    for n in range(number):
        threads.append(threading.Thread(target=work, args=(n,)))
        threads[-1].start()
        assert eventually(lambda: len(turns._waiting) == len(threads))
    return threads


def join(threads):
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive()


@pytest.mark.parametrize("number", [1, 2, 5])
def test_no_more_than_so_many_run_at_a_time(number):
    turns = Turns(number, LONG)
    all_run = threading.Barrier(number, timeout=LONG)
    running, most = set(), []

    def work(n):
        with turns.take():
            running.add(n)
            most.append(len(running))
            all_run.wait()
            sleep(0.01)  # one too many would come in now
            running.discard(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(30)]
    for thread in threads:
        thread.start()
    join(threads)
    assert max(most) == number
    assert len(most) == 30


def test_who_came_first_goes_first():
    turns = Turns(1, LONG)
    order = []

    def work(n):
        with turns.take():
            order.append(n)

    with turns.take():
        threads = line_up(turns, 10, work)
    join(threads)
    assert order == list(range(10))


def test_who_comes_back_waits_behind_those_who_wait():
    turns = Turns(1, LONG)
    order = []

    def work(n):
        for _ in range(3):
            with turns.take():
                order.append(n)
                # until all others wait that have turns to come
                assert eventually(lambda: len(turns._waiting) == min(2, 9 - len(order)))

    with turns.take():
        threads = line_up(turns, 3, work)
    join(threads)
    assert order == [0, 1, 2] * 3


def test_one_that_takes_long_lets_the_next_begin_beside_it():
    turns = Turns(1, 0.05)
    began, let_go = [threading.Event() for _ in range(3)], threading.Event()

    def wait(n):
        with turns.take():
            began[n].set()
            let_go.wait(2 * LONG)  # longer than anyone waits for the next to begin

    slow = [threading.Thread(target=wait, args=(n,)) for n in range(3)]
    started = monotonic()
    for thread, event in zip(slow, began, strict=True):
        thread.start()
        assert event.wait(LONG)
    with turns.take():
        waited = monotonic() - started
    let_go.set()
    join(slow)
    assert waited >= 3 * 0.05


def test_a_thread_goes_on_at_once_inside_its_own_turn():
    turns = Turns(1, LONG)
    with ExitStack() as nested:
        for _ in range(3):
            nested.enter_context(turns.take())
    with turns.take():
        pass


def test_an_error_ends_its_turn():
    turns = Turns(1, LONG)
    with pytest.raises(ZeroDivisionError), turns.take():
        raise ZeroDivisionError
    other = threading.Thread(target=lambda: turns.take().__enter__())
    other.start()
    other.join(LONG)
    assert not other.is_alive()


@pytest.mark.parametrize("position", ["next", "behind another"])
def test_one_that_is_interrupted_while_it_waits_keeps_nobody_waiting(position):
    turns = Turns(1, LONG)
    has_turn, let_go, went = threading.Event(), threading.Event(), []

    def hold(_):
        with turns.take():
            has_turn.set()
            let_go.wait(LONG)

    def follow(n):
        with turns.take():
            went.append(n)

    def interrupt(*_):
        raise InterruptedError("a signal")

    def signal_who_waits_last():
        assert eventually(lambda: len(turns._waiting) == len(threads))
        signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)

    threads = [threading.Thread(target=hold, args=(0,))]
    threads[0].start()
    assert has_turn.wait(LONG)
    if position == "behind another":
        threads.append(threading.Thread(target=follow, args=(1,)))
        threads[-1].start()
        assert eventually(lambda: len(turns._waiting) == 1)
    before = signal.signal(signal.SIGALRM, interrupt)
    interrupter = threading.Thread(target=signal_who_waits_last)
    try:
        interrupter.start()
        with pytest.raises(InterruptedError), turns.take():
            raise AssertionError("there was no turn to be had")
    finally:
        join([interrupter])
        signal.signal(signal.SIGALRM, before)
    threads.append(threading.Thread(target=follow, args=(2,)))
    threads[-1].start()
    let_go.set()
    join(threads)
    assert went == ([1, 2] if position == "behind another" else [2])
