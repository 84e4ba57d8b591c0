"""Readers together, writers alone, and no waiting for ever."""

import threading
import time

import pytest

from imgret.abc.locks import ReadWriteLock


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
    lock.acquire_read()

    def write():
        with lock.write():
            order.append("writer")

    def read():
        while not lock._writers_waiting:
            time.sleep(0.001)
        with lock.read():
            order.append("reader")

    def release():
        while not lock._writers_waiting:
            time.sleep(0.001)
        time.sleep(0.05)  # time for the reader to slip in, were it let
        lock.release_read()

    run(write, read, release)
    assert order == ["writer", "reader"]


def test_it_is_given_back_when_the_block_raises():
    lock = ReadWriteLock()
    for block in (lock.write, lock.read, lock.write):
        with pytest.raises(ZeroDivisionError), block():
            _ = 1 / 0
    with lock.write():
        pass
