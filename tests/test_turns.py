"""Threads take turns: a few at a time, in their order, and nobody waits long for one that waits itself."""

import signal
import threading
from contextlib import ExitStack
from time import monotonic, sleep

import pytest

from tests.processes import eventually
from upstream.streaming.turns import Turns

LONG = 30


def crowd(number, work):
    """Run `work(n)` in so many threads that start one after the other, and wait for all."""
    threads = []
    for n in range(number):
        threads.append(threading.Thread(target=work, args=(n,)))
        threads[-1].start()
        sleep(0.005)
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("number", [1, 2, 5])
def test_no_more_than_so_many_run_at_a_time(number):
    turns = Turns(number, LONG)
    running, most = set(), []

    def work(n):
        for _ in range(3):
            with turns.take():
                running.add(n)
                most.append(len(running))
                sleep(0.02)
                running.discard(n)

    crowd(12, work)
    assert max(most) == number
    assert len(most) == 36


def test_who_came_first_goes_first():
    turns = Turns(1, LONG)
    order = []

    def work(n):
        with turns.take():
            order.append(n)

    with turns.take():
        opener = threading.Thread(target=crowd, args=(10, work))
        opener.start()
        assert eventually(lambda: len(turns._waiting) == 10)
    opener.join()
    assert order == list(range(10))


def test_who_comes_back_waits_behind_those_who_wait():
    turns = Turns(1, LONG)
    order = []

    def work(n):
        for _ in range(3):
            with turns.take():
                order.append(n)
                sleep(0.02)

    crowd(3, work)
    assert order == [0, 1, 2] * 3


def test_one_that_takes_long_lets_the_next_begin_beside_it():
    turns = Turns(1, 0.05)
    let_go = threading.Event()

    def wait(_):
        with turns.take():
            let_go.wait(LONG)

    slow = [threading.Thread(target=wait, args=(n,)) for n in range(3)]
    for thread in slow:
        thread.start()
    started = monotonic()
    with turns.take():
        waited = monotonic() - started
    let_go.set()
    for thread in slow:
        thread.join()
    assert 0.04 < waited < 2


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

    threads = [threading.Thread(target=hold, args=(0,))]
    threads[0].start()
    assert has_turn.wait(LONG)
    if position == "behind another":
        threads.append(threading.Thread(target=follow, args=(1,)))
        threads[-1].start()
        assert eventually(lambda: len(turns._waiting) == 1)
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(InterruptedError), turns.take():
            raise AssertionError("there was no turn to be had")
    finally:
        signal.signal(signal.SIGALRM, before)
    threads.append(threading.Thread(target=follow, args=(2,)))
    threads[-1].start()
    let_go.set()
    for thread in threads:
        thread.join(LONG)
    assert went == ([1, 2] if position == "behind another" else [2])
