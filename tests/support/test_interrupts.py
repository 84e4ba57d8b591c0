"""Ctrl-C: held back, let through, and not kept waiting by native code."""

import hashlib
import signal
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from imgret.support import interrupts
from imgret.support.interrupts import aside, held, let_through, wait_for


def interrupt():
    signal.raise_signal(signal.SIGINT)


@pytest.fixture(autouse=True)
def handler_is_back():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's "&" ignores it
    yield
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler
    assert interrupts._holds == []


def test_it_comes_when_the_block_ends():
    done = []
    with pytest.raises(KeyboardInterrupt), held():  # noqa: PT012  # what comes between is tested
        interrupt()
        interrupt()  # as people press it twice
        done.append(1)
    assert done == [1]


def test_a_second_one_after_a_while_is_not_held_back(monkeypatch):
    monkeypatch.setattr(interrupts, "_PATIENCE_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt), held():  # noqa: PT012  # what comes between is tested
        interrupt()
        time.sleep(0.001)
        interrupt()
        pytest.fail("held back")


def test_an_error_of_the_block_goes_first():
    with pytest.raises(ValueError, match="mine"), held():  # noqa: PT012  # what comes between is tested
        interrupt()
        raise ValueError("mine")


@pytest.mark.parametrize("before", [True, False])
def test_where_it_is_let_through(before):
    kept = []
    with pytest.raises(KeyboardInterrupt), held():  # noqa: PT012  # what comes between is tested
        try:
            if before:
                interrupt()
            with let_through():
                interrupt()
                pytest.fail("held back")
        finally:
            kept.append(1)
    assert kept == [1]


def test_other_handlers_and_threads_are_left_alone():
    seen = []
    signal.signal(signal.SIGINT, lambda *_: seen.append(1))
    try:
        with held():
            interrupt()
            assert seen == [1]
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def elsewhere():
        with held(), let_through():
            return signal.getsignal(signal.SIGINT) is signal.default_int_handler

    with ThreadPoolExecutor(1) as pool:
        assert wait_for(pool.submit(elsewhere))


def test_results_and_errors_of_what_is_waited_for():
    with ThreadPoolExecutor(1) as pool:
        assert wait_for(pool.submit(max, 3, 4)) == 4
        with pytest.raises(TimeoutError, match="its own"):
            wait_for(pool.submit(lambda: (_ for _ in ()).throw(TimeoutError("its own"))))
    assert aside(max, 3, 4) == 4


def test_a_result_that_comes_when_the_wait_is_over():
    class Late(Future):
        def result(self, timeout=None):
            if not self.done():
                self.set_result(7)
                raise TimeoutError
            return super().result(timeout)

    assert wait_for(Late()) == 7


def test_errors_of_what_runs_aside():
    with pytest.raises(ZeroDivisionError):
        aside(divmod, 1, 0)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals to threads")
def test_native_code_does_not_keep_it_waiting():
    threading.Timer(0.2, interrupt_main).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        aside(hashlib.pbkdf2_hmac, "sha256", b"", b"", 20_000_000)  # some 8 s
    assert time.monotonic() - began < 2.0


def interrupt_main():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
