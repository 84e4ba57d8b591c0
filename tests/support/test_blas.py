"""Factorisations on one BLAS thread."""

import threading

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController

from imgret.support.blas import eigh, one_thread, qr


def threads():
    return [pool["num_threads"] for pool in ThreadpoolController().select(user_api="blas").info()]


@pytest.fixture
def two_threads():
    before = threads()
    # By a thread that ends: threadpoolctl lets no other change the number while one that has lives.
    _in_a_thread(ThreadpoolController().limit, limits=2, user_api="blas")
    if set(threads()) != {2}:
        pytest.skip("NumPy's BLAS has no threads here")
    yield
    _in_a_thread(ThreadpoolController().limit, limits=before[0], user_api="blas")


def _in_a_thread(function, **given):
    thread = threading.Thread(target=function, kwargs=given)
    thread.start()
    thread.join()


@pytest.mark.usefixtures("two_threads")
def test_the_threads_come_back_from_several_blocks():
    entered, leave, seen = threading.Event(), threading.Event(), []

    def other():
        with one_thread():
            seen.append(threads())
            entered.set()
            leave.wait()

    thread = threading.Thread(target=other)
    thread.start()
    entered.wait()
    waiting = threading.Thread(target=eigh, args=(np.eye(3),))
    waiting.start()
    leave.set()
    thread.join()
    waiting.join()
    assert set(seen[0]) == {1}
    with one_thread(), one_thread():
        assert set(threads()) == {1}
    assert set(threads()) == {2}


def test_factors_make_the_matrix():
    rows = np.random.default_rng(0).normal(size=(40, 30))
    matrix = rows.T @ rows
    values, vectors = eigh(matrix)
    assert np.allclose(vectors * values @ vectors.T, matrix)
    q, r = qr(rows)
    assert np.allclose(q @ r, rows)
    assert np.allclose(q.T @ q, np.eye(30))
