"""Readers together, writers alone, and no waiting for ever."""

import threading
import time

import pytest

from imgret.support.locks import ReadWriteLock


def run(*targets):
    threads = [threading.Thread(target=target, daemon=True) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert not any(thread.is_alive() for thread in threads), "waited for ever"


def test_readers_hold_it_together():
    lock, together = ReadWriteLock(), threading.Barrier(3, timeout=5)

    def read():
        with lock.read():
            together.wait()  # breaks unless all three are inside

    run(read, read, read)
    assert not together.broken


def test_a_writer_is_alone():
    lock = ReadWriteLock()
    inside, seen = [], []

    def work(shared):
        for _ in range(200):
            with lock.read() if shared else lock.write():
                inside.append(shared)
                seen.append(list(inside))
                inside.remove(shared)

    run(*[lambda shared=shared: work(shared) for shared in (True, True, False, False)])
    assert all(len(held) == 1 for held in seen if False in held)


def test_a_waiting_writer_goes_before_new_readers():
    lock, order = ReadWriteLock(), []

    def hold():
        with lock.read():
            while not lock._writers_waiting:
                time.sleep(0.001)
            time.sleep(0.05)  # time for the reader to slip in, were it let

    def write():
        while not lock._readers:
            time.sleep(0.001)
        with lock.write():
            order.append("writer")

    def read():
        while not lock._writers_waiting:
            time.sleep(0.001)
        with lock.read():
            order.append("reader")

    run(hold, write, read)
    assert order == ["writer", "reader"]


def test_readers_that_waited_go_before_the_next_writer():
    lock, order = ReadWriteLock(), []

    def write(name, until):
        while not until():
            time.sleep(0.001)
        with lock.write():
            order.append(name)
            if name == "first":
                while not (lock._waiting and lock._writers_waiting):
                    time.sleep(0.001)

    def read():
        while "first" not in order:
            time.sleep(0.001)
        with lock.read():
            order.append("reader")

    run(
        lambda: write("first", lambda: True),
        lambda: write("second", lambda: "first" in order),
        read,
    )
    assert order == ["first", "reader", "second"]


def test_nobody_starves_and_nothing_is_torn():
    lock, pair, wrong, counts = ReadWriteLock(), [0, 0], [], [0] * 6
    deadline = time.monotonic() + 1

    def read(place):
        while time.monotonic() < deadline:
            with lock.read():
                if pair[0] != pair[1]:
                    wrong.append(list(pair))
            counts[place] += 1

    def write(place):
        while time.monotonic() < deadline:
            with lock.write():
                pair[0] += 1
                time.sleep(0)
                pair[1] += 1
            counts[place] += 1

    run(*[lambda n=n: read(n) for n in range(4)], *[lambda n=n: write(n) for n in (4, 5)])
    assert wrong == []
    assert min(counts) > 10, counts


def test_it_is_given_back_when_the_block_raises():
    lock = ReadWriteLock()
    for block in (lock.write, lock.read, lock.write):
        with pytest.raises(ZeroDivisionError), block():
            _ = 1 / 0
    with lock.write():
        pass
