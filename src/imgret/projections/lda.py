"""Linear discriminant analysis with shrinkage, over labelled embeddings in blocks."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from imgret.errors import InvalidInputError
from imgret.projections.linear import LinearProjection
from imgret.support.blas import eigh
from imgret.support.checks import check_count, check_vectors
from imgret.types import Embeddings, Ids

__all__ = ["Discriminant"]

Matrix = NDArray[np.float64]


@final
class Discriminant:
    """Class means and within-class scatter of labelled embeddings, ready to be solved.

    The blocks are read once. `projection` can then be called with different values of
    shrinkage and dimension at little cost (Fisher 1936; Rao 1948).

    Parameters
    ----------
    blocks : iterable of (embeddings, codes)
        Embeddings of shape (n_i, d) and the class of each: whole numbers from 0 to
        ``classes - 1``. A class of one embedding adds its mean and no scatter.
    classes : int
        Number of classes, at least 2, each with at least one embedding.

    Raises
    ------
    InvalidInputError
        There are fewer than two classes, a class has no embedding, no class has two embeddings
        that differ, or a value is NaN or infinite.
    """

    def __init__(self, blocks: Iterable[tuple[Any, Any]], classes: int) -> None:
        classes = check_count(classes, "classes")
        if classes < 2:
            raise InvalidInputError(f"classes: expected at least 2, found {classes}")
        self.counts, origin, sums, products = _moments(blocks, classes)
        empty = int((self.counts == 0).sum())
        if empty:
            raise InvalidInputError(
                f"blocks: expected embeddings of each of {classes} classes, found none for "
                f"{empty} of them"
            )
        self.items = int(self.counts.sum())
        if self.items == classes:
            raise InvalidInputError(
                f"blocks: expected a class with more than one embedding, found {classes} classes "
                f"of one each"
            )
        # About the origin, total = within + between, so one pass gives within.
        weighted = sums / np.sqrt(self.counts)[:, None]
        within = (products - weighted.T @ weighted) / (self.items - classes)
        mean = sums.sum(axis=0) / self.items
        self._mean: Matrix = origin + mean
        variances, self._directions = eigh(within)
        self._variances = np.maximum(variances, 0.0)
        if self._variances[-1] <= np.trace(products) / self.items * 1e-12:
            raise InvalidInputError(
                "blocks: expected different embeddings within a class, found only equal ones"
            )
        centred = sums / self.counts[:, None] - mean
        centred *= np.sqrt(self.counts / self.items)[:, None]
        self._means: Matrix = centred @ self._directions  # each weighted by its share

    @property
    def max_dim(self) -> int:
        """Maximum number of directions that separate the classes: min(classes - 1, d)."""
        return min(len(self.counts) - 1, len(self._mean))

    def projection(self, shrinkage: float, dim: int | None = None) -> LinearProjection:
        """Solve for the directions that separate the class means most.

        Parameters
        ----------
        shrinkage : float
            Strength, between 0 and 1, with which the within-class covariance is shrunk
            towards a multiple of the identity of the same trace (Friedman, "Regularized
            discriminant analysis", 1989). 0 needs a covariance of full rank.
        dim : int, optional
            Number of directions to keep; by default as many as the class means differ in,
            which is at most `max_dim`.

        Returns
        -------
        LinearProjection
            Projection of kind ``"lda"``. It maps the shrunk within-class covariance to the
            identity. ``info`` holds ``items``, ``classes`` and ``shrinkage``.

        Raises
        ------
        InvalidInputError
            A value is out of its range, or the class means differ in fewer than ``dim``
            directions.
        """
        number = isinstance(shrinkage, Real) and not isinstance(shrinkage, bool)
        if not number or not 0 <= shrinkage <= 1:
            raise InvalidInputError(
                f"shrinkage: expected a number between 0 and 1, found {shrinkage!r}"
            )
        variances = self._variances
        shrunk = (1 - shrinkage) * variances + shrinkage * variances.mean()
        if shrunk[0] <= shrunk[-1] * len(shrunk) * np.finfo(np.float64).eps:
            raise InvalidInputError(
                f"shrinkage: expected a larger number if the embeddings of a class vary in fewer "
                f"directions than their dimension, found {shrinkage}; 0.1 is a good start"
            )
        scale = 1 / np.sqrt(shrunk)
        means = self._means * scale
        if len(means) <= means.shape[1]:  # the smaller of two matrices with the same eigenvalues
            spread, vectors = eigh(means @ means.T)
            vectors = means.T @ vectors / np.sqrt(np.maximum(spread, spread[-1] * 1e-15 + 1e-300))
        else:
            spread, vectors = eigh(means.T @ means)
        spread, vectors = spread[::-1], vectors[:, ::-1]
        rank = min(self.max_dim, int((spread > spread[0] * 1e-10).sum()))
        if not rank or spread[0] <= 0:
            raise InvalidInputError("blocks: expected classes whose means differ, found equal ones")
        dim = rank if dim is None else check_count(dim, "dim")
        if dim > rank:
            raise InvalidInputError(
                f"dim: expected at most {rank}, the number of directions in which the means of "
                f"{len(self.counts)} classes differ, found {dim}"
            )
        matrix = self._directions @ (scale[:, None] * vectors[:, :dim])
        # eigh leaves the sign of a direction open.
        largest = matrix[np.abs(matrix).argmax(axis=0), np.arange(dim)]
        return LinearProjection(
            matrix * np.where(largest < 0, -1.0, 1.0),
            self._mean,
            kind="lda",
            info={
                "items": self.items,
                "classes": len(self.counts),
                "shrinkage": float(shrinkage),
            },
        )


def _moments(
    blocks: Iterable[tuple[Embeddings, Ids]], classes: int
) -> tuple[Ids, Matrix, Matrix, Matrix]:
    """Return counts, an origin near the mean, class sums and products about that origin."""
    counts: Ids = np.zeros(classes, dtype=np.int64)
    origin = sums = products = np.zeros((0, 0))
    for embeddings, codes in blocks:
        if not len(codes):
            continue
        if not len(origin):
            width = np.shape(embeddings)[-1]
            origin = np.asarray(embeddings, dtype=np.float64).mean(axis=0)
            sums, products = np.zeros((classes, width)), np.zeros((width, width))
        rows = check_vectors(embeddings, len(origin), "blocks") - origin
        if len(codes) != len(rows) or codes.min() < 0 or codes.max() >= classes:
            raise InvalidInputError(
                f"codes: expected {len(rows)} numbers from 0 to {classes - 1}, found {len(codes)} "
                f"from {codes.min()} to {codes.max()}"
            )
        products += rows.T @ rows
        order = np.argsort(codes, kind="stable")
        present, starts = np.unique(codes[order], return_index=True)
        sums[present] += np.add.reduceat(rows[order], starts, axis=0)
        counts += np.bincount(codes, minlength=classes)
    if not len(origin):
        raise InvalidInputError("blocks: expected labelled embeddings to fit on, found none")
    return counts, origin, sums, products
