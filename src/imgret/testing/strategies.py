"""Hypothesis strategies for vectors, ids and images."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from imgret.types import Embeddings, Ids, Image

__all__ = ["ids", "pictures", "vectors"]


@st.composite
def vectors(
    draw: st.DrawFn, *, count: int | st.SearchStrategy[int], dim: int, nonzero: bool = True
) -> Embeddings:
    """Draw vectors with values between -8 and 8, some of them equal.

    Parameters
    ----------
    count : int or strategy
        Number of vectors.
    dim : int
        Dimension of the vectors.
    nonzero : bool
        If true, no vector is zero, as metric ``"cosine"`` requires.

    Returns
    -------
    strategy of float32 arrays of shape (count, dim)
    """
    number = count if isinstance(count, int) else draw(count)
    # Eighths are exact in float32, so scores do not depend on the order of summation.
    drawn = draw(hnp.arrays(np.int8, (number, dim), elements=st.integers(-64, 64)))
    values: Embeddings = drawn.astype(np.float32) / np.float32(8)
    if nonzero:
        values[~values.any(axis=1), 0] = 1
    return values


@st.composite
def ids(draw: st.DrawFn, *, count: int | st.SearchStrategy[int], most: int = 2**63 - 1) -> Ids:
    """Draw unique ids from 0 to ``most``, in any order.

    Returns
    -------
    strategy of int64 arrays of shape (count,)
    """
    number = count if isinstance(count, int) else draw(count)
    anywhere = st.integers(0, min(2 * number + 8, most)) | st.integers(0, most)
    drawn = draw(st.lists(anywhere, min_size=number, max_size=number, unique=True))
    return np.array(drawn, dtype=np.int64)


@st.composite
def pictures(draw: st.DrawFn, *, max_side: int = 24) -> Image:
    """Draw small RGB images: flat or noise, down to one pixel wide or high.

    Returns
    -------
    strategy of uint8 arrays of shape (H, W, 3)
    """
    height = draw(st.integers(1, max_side))
    width = draw(st.integers(1, max_side))
    if draw(st.booleans()):
        colour = draw(st.tuples(*[st.integers(0, 255)] * 3))
        return np.full((height, width, 3), colour, dtype=np.uint8)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
