"""The base class of vector indexes: vectors and ids in, nearest neighbours out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from imgret.errors import UnsupportedError
from imgret.support.engine import IndexEngine
from imgret.support.exact import pair_scores
from imgret.types import Embeddings, Ids, Json

__all__ = ["VectorIndex"]


class VectorIndex(IndexEngine):
    """Finds the nearest vectors among many.

    A subclass sets ``name`` and implements the hooks `_options`, `_add`, `_search`,
    `_reconstruct`, `_save` and `_load`, and `_train`, `_remove` and `_renumber` if the flags below
    say so. It may override `_comparisons`, `_search_options` and `_configure`. The public methods
    are final and defined in ``imgret.support.engine``. They check the arguments, maintain the set
    of ids, let searches run in parallel and changes run alone, and call the hooks.

    Guarantees for the hooks:

    * vectors and queries are C-contiguous, finite float32 arrays of shape (n, dim); for metric
      ``"cosine"`` they have unit length, so that the inner product is the score. They may be the
      caller's own arrays: a hook copies what it keeps, and never writes to them;
    * ids are int64, >= 0, unique, and new (`_add`) or present (`_remove`,
      `_reconstruct`);
    * ``k`` is at least 1, and at most the number of vectors that may be found;
    * `ids` holds the ids before the change in `_add`, `_remove` and `_search`.

    Helpers for the hooks: ``_ids.positions(ids)`` returns the position of each id in the order
    of adding, -1 for missing ones, and ``_ids.at(positions)`` is its inverse. In `_train`,
    ``_expected`` is the number of vectors that will be added. ``_changes`` is a number that
    changes whenever the ids do. If ``_true_table`` is not None, ``_true_table(ids)`` returns the
    true vectors by id, of which those of ``ids`` will be read.

    Duties of the hooks: a hook that raises leaves the index as it was; `_search` may run
    in several threads at once; no hook calls a public method that searches or changes the index.
    The ids and scores that `_search` returns for a query must not depend on the other queries of
    the call, and equal vectors must score the same (up to rounding if ``is_compressed``). The base
    class orders equal scores by id. If ``is_exact``, and not all vectors of equal score fit into
    the answer, `_search` must return those with the lowest ids.

    Parameters
    ----------
    dim : int
        Dimension of the vectors, at least 1.
    metric : {"cosine", "ip", "l2"}
        Metric of the scores: the cosine, the inner product, or minus the squared distance.

    Attributes
    ----------
    name : str
        Name under which the index is registered (entry-point group ``imgret.indexes``).
    needs_training : bool
        Whether `train` must be called before `add`.
    supports_remove : bool
        Whether `remove` works; if not, it raises `UnsupportedError`.
    supports_allowed : bool
        Whether `_search` can be restricted to some ids. If not, ``allowed`` is always None, and
        the base class answers such searches exactly, with the reconstructed vectors.
    supports_renumber : bool
        Whether `renumber` works; if not, a gallery that is compacted builds its index again.
    is_exact : bool
        Whether `search` always finds the true nearest neighbours.
    is_compressed : bool
        Whether the index stores approximate vectors. If the true vectors are available
        (`refine_by`, as in every gallery), the index is searched for ``refine`` times as many
        candidates, which are re-ranked by their true vectors.
    refine : int
        Number of candidates per requested neighbour, at least 1.
    reconstructs_slowly : bool
        Whether `_reconstruct` costs far more than copying rows. Exact answers then use the
        true vectors if they are available.
    finds_itself : bool
        Whether the index finds the neighbours of its own vectors more easily than those of new
        ones, as a graph does, whose links lead from a vector to its neighbours. Recall is then
        measured with vectors that are left out of the index.
    cheap_to_build : bool
        Whether building the index from vectors is about as fast as reading it from a file.
        Galleries then store no copy of the index.
    """

    name: str = ""
    needs_training: bool = False
    supports_remove: bool = False
    supports_allowed: bool = False
    supports_renumber: bool = False
    is_exact: bool = False
    is_compressed: bool = False
    refine: int = 4
    reconstructs_slowly: bool = False
    finds_itself: bool = False
    cheap_to_build: bool = False

    # -- hooks ---------------------------------------------------------------------------

    @abstractmethod
    def _options(self) -> Json:
        """Return the keyword arguments other than ``dim`` and ``metric``, as JSON values."""

    def _train(self, vectors: Embeddings) -> None:  # noqa: ARG002  # a hook
        """Learn the distribution of the vectors, as far as the index needs it.

        ``_expected`` is the number of vectors that will be added.
        """
        raise UnsupportedError(f"{type(self).__name__} needs no training")

    @abstractmethod
    def _add(self, vectors: Embeddings, ids: Ids) -> None:
        """Add ``n >= 1`` vectors under their new ids: all of them or none."""

    def _remove(self, ids: Ids) -> None:  # noqa: ARG002  # a hook
        """Remove ``n >= 1`` ids that are present."""
        raise UnsupportedError(
            f"{type(self).__name__} cannot remove (supports_remove is False); "
            f"build a new index without those ids"
        )

    def _renumber(self, ids: Ids) -> None:
        """Replace the ids, given in the order of `ids`; nothing to do for an index that has none.

        Vectors stay where they are, and ids are ordered by size as before.
        """

    def _removal_rebuilds(self, count: int) -> bool:  # noqa: ARG002  # a hook
        """Whether removing so many ids makes `_remove` rebuild the whole index.

        A gallery then builds a second index in parallel, so that searches need not wait.
        """
        return False

    @abstractmethod
    def _search(self, queries: Embeddings, k: int, allowed: Ids | None) -> tuple[Ids, Embeddings]:
        """Find the ``k`` nearest vectors among all, or among those in ``allowed``.

        Returns
        -------
        ids : int64 array of shape (n, k)
            Ids, best first; -1 where the index found fewer than ``k``.
        scores : float32 array of shape (n, k)
            Scores; higher is better, also for metric ``"l2"``.
        """

    @abstractmethod
    def _reconstruct(self, ids: Ids) -> Embeddings:
        """Return the vectors of these ids as the index stores them, perhaps compressed."""

    def _comparisons(self, k: int, n_allowed: int | None) -> float:  # noqa: ARG002  # a hook
        """Return the approximate number of vectors that `_search` compares with a query.

        Filtered searches are planned with it: `_search` is not called if comparing with all
        allowed vectors is less work.
        """
        return float(len(self))

    def _search_options(self) -> Mapping[str, Sequence[int]]:
        """Return the options that trade recall for speed, with values to try, fastest first.

        Each option is also an attribute: an int, or None before training. `_configure` sets it.
        """
        return {}

    def _configure(self, settings: Mapping[str, int]) -> None:  # noqa: ARG002  # a hook
        """Set options named by `_search_options`; they affect nothing but searches."""
        raise UnsupportedError(f"{type(self).__name__} has no search options")

    def _true_scores(
        self, queries: Embeddings, ids: Ids, vectors_of: Callable[[Ids], Embeddings]
    ) -> Embeddings:
        """Score queries of shape (n, dim) with the true vectors of ids of shape (n, m)."""
        return pair_scores(queries, ids, vectors_of, self._metric)

    def _pair_scores(self, queries: Embeddings, vectors: Embeddings, rows: Ids) -> Embeddings:
        """Score queries of shape (n, dim) with rows of vectors, of shape (n, m).

        Exact answers use this method; their scores must equal those of `_search`.
        """
        return pair_scores(queries, rows, vectors.__getitem__, self._metric, prepared=True)

    @abstractmethod
    def _save(self, directory: Path) -> None:
        """Write the state to files in the existing ``directory``, which holds ``ids.npy``.

        The base class stores checksums of all files.
        """

    @abstractmethod
    def _load(self, directory: Path) -> None:
        """Read the files of `_save` into an index made with the same `config`."""
