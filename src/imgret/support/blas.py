"""Factorisations of matrices, on one thread.

NumPy's BLAS divides a factorisation into thousands of small steps, after each of which its threads
wait for each other. On an idle machine a second thread gains little: `adapt` takes 3.9 s instead of
4.5. Beside other programs the threads wait for one that does not run: with two threads the
eigenvectors of a 1,280 x 1,280 matrix took six times as long as with one, those of a 100 x 100
matrix 50 to 200 times. Products of large matrices are divided once, and keep all threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from imgret.support.locks import RLock

__all__ = ["eigh", "one_thread", "qr"]

_Matrix = NDArray[np.float64]

_lock = RLock()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let NumPy's BLAS use one thread, for the length of a ``with`` block.

    BLAS has one number of threads for the whole process, so products in other threads are limited
    meanwhile, and the blocks of several threads take turns: otherwise the last one to end would set
    the number back to one.
    """
    from threadpoolctl import ThreadpoolController  # noqa: PLC0415  # a search needs none

    with _lock, ThreadpoolController().limit(limits=1, user_api="blas"):
        yield


def eigh(matrix: _Matrix) -> tuple[_Matrix, _Matrix]:
    """Return the eigenvalues, increasing, and eigenvectors of a symmetric matrix."""
    with one_thread():
        values, vectors = np.linalg.eigh(matrix)
    return values, vectors


def qr(matrix: _Matrix) -> tuple[_Matrix, _Matrix]:
    """Return the QR decomposition of a matrix."""
    with one_thread():
        q, r = np.linalg.qr(matrix)
    return q, r
