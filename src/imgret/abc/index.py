"""The contract of a vector index: vectors and ids in, nearest neighbours out."""

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
    """Finds the nearest of many vectors.

    A subclass sets ``name`` and fills in the hooks: `_options`, `_add`, `_search`,
    `_reconstruct`, `_save`, `_load`, and where the flags below promise it `_train` and
    `_remove`; `_comparisons`, `_search_options` and `_configure` where it has something to say
    there. Everything public is final, in `imgret.support.engine`: it checks the arguments, keeps
    the set of ids, lets searches run side by side and changes run alone, and calls the hooks.

    What the hooks may rely on:

    * vectors and queries are C-contiguous float32 of shape (n, dim), finite; for metric
      ``"cosine"`` of unit length, so that the inner product is the score. They may be the
      caller's own arrays: a hook copies what it keeps, and writes to none of them;
    * ids are int64, >= 0, unique, and new (`_add`) or present (`_remove`,
      `_reconstruct`);
    * ``k`` is at least 1, and at most the number of vectors that may be found;
    * `ids` holds the ids before the change in `_add`, `_remove` and `_search`.

    What they may use: ``_ids.positions(ids)`` (where in the order of adding each id is, -1 for
    those that are not there) and ``_ids.at(positions)``; ``_expected`` (how many vectors will be
    added) in `_train`; ``_changes``, a number that is another one after every change of the ids;
    and ``_true_table()``, where ``_true_table`` is not None, for the true vectors by id.

    What they must keep: a hook that raises leaves the index as it was; `_search` may run
    in several threads at once; none calls a public method that searches or changes the index.
    What `_search` finds for a query, and the scores, depend on no other query of the call, and
    equal vectors score the same (up to rounding where ``is_compressed``). Equal scores are
    ordered by id here; where ``is_exact``, those of the lowest ids must be found where not all
    that score the same fit.

    Parameters
    ----------
    dim : int
        Dimension of the vectors, at least 1.
    metric : {"cosine", "ip", "l2"}
        Scores are the cosine, the inner product, or minus the squared distance.

    Attributes
    ----------
    name : str
        Name under which the index is registered (entry-point group ``imgret.indexes``).
    needs_training : bool
        Whether `train` must be called before `add`.
    supports_remove : bool
        Whether `remove` works; where not, it raises `UnsupportedError`.
    supports_allowed : bool
        Whether `_search` can restrict itself to some ids. Where not, `_search` never gets
        any, and the base class answers exactly over the reconstructed vectors.
    is_exact : bool
        Whether `search` always finds the true nearest neighbours.
    is_compressed : bool
        Whether the vectors in the index are only close to those that were added. Where the
        true ones can be had (`refine_by`, as in every gallery), ``refine`` times as many
        candidates are asked for, and re-ranked by them.
    refine : int
        Candidates for each neighbour wanted; at least 1.
    reconstructs_slowly : bool
        Whether `_reconstruct` costs far more than copying rows; exact answers then come from the
        true vectors where they can be had.
    finds_itself : bool
        Whether a vector of the index is searched with more easily than a new one, as in a graph
        whose links lead from it to its neighbours. Recall is then measured by vectors that are left
        out.
    cheap_to_build : bool
        Whether building from vectors is about as fast as reading a file. Galleries then
        store no copy of the index.
    """

    name: str = ""
    needs_training: bool = False
    supports_remove: bool = False
    supports_allowed: bool = False
    is_exact: bool = False
    is_compressed: bool = False
    refine: int = 4
    reconstructs_slowly: bool = False
    finds_itself: bool = False
    cheap_to_build: bool = False

    # -- hooks ---------------------------------------------------------------------------

    @abstractmethod
    def _options(self) -> Json:
        """Keyword arguments beside ``dim`` and ``metric``, as JSON values."""

    def _train(self, vectors: Embeddings) -> None:  # noqa: ARG002  # a hook
        """Learn what the index needs to know of the distribution of the vectors.

        ``_expected`` says how many will be added.
        """
        raise UnsupportedError(f"{type(self).__name__} needs no training")

    @abstractmethod
    def _add(self, vectors: Embeddings, ids: Ids) -> None:
        """Add ``n >= 1`` vectors under their new ids: all of them or none."""

    def _remove(self, ids: Ids) -> None:  # noqa: ARG002  # a hook
        """Take out ``n >= 1`` ids that are present."""
        raise UnsupportedError(
            f"{type(self).__name__} cannot remove (supports_remove is False); "
            f"build a new index without those ids"
        )

    def _removal_rebuilds(self, count: int) -> bool:  # noqa: ARG002  # a hook
        """Whether taking out so many ids makes `_remove` rebuild everything.

        A gallery then builds another index beside this one, so that searches need not wait.
        """
        return False

    @abstractmethod
    def _search(self, queries: Embeddings, k: int, allowed: Ids | None) -> tuple[Ids, Embeddings]:
        """Find the ``k`` nearest of the vectors, or of those in ``allowed``.

        Returns
        -------
        ids : int64 array of shape (n, k)
            Best first; -1 where the index found fewer than ``k``.
        scores : float32 array of shape (n, k)
            Higher is better, also for metric ``"l2"``.
        """

    @abstractmethod
    def _reconstruct(self, ids: Ids) -> Embeddings:
        """Return the vectors of these ids as the index holds them (maybe compressed)."""

    def _comparisons(self, k: int, n_allowed: int | None) -> float:  # noqa: ARG002  # a hook
        """Return about how many vectors `_search` compares a query with.

        By it a filtered search is planned: where comparing with all that may be found is less
        work, `_search` is not called.
        """
        return float(len(self))

    def _search_options(self) -> Mapping[str, Sequence[int]]:
        """Return the options that trade recall for speed, with values to try, the fastest first.

        Each is an attribute as well, an int, or None before training; `_configure` changes it.
        """
        return {}

    def _configure(self, settings: Mapping[str, int]) -> None:  # noqa: ARG002  # a hook
        """Change options that `_search_options` names; nothing but searches depends on them."""
        raise UnsupportedError(f"{type(self).__name__} has no options of search")

    def _true_scores(
        self, queries: Embeddings, ids: Ids, vectors_of: Callable[[Ids], Embeddings]
    ) -> Embeddings:
        """Score queries of shape (n, dim) with the true vectors of ids of shape (n, m)."""
        return pair_scores(queries, ids, vectors_of, self._metric)

    def _pair_scores(self, queries: Embeddings, vectors: Embeddings, rows: Ids) -> Embeddings:
        """Score queries of shape (n, dim) with rows of vectors, of shape (n, m).

        For exact answers beside those of `_search`, which are to have the same scores.
        """
        return pair_scores(queries, rows, vectors.__getitem__, self._metric, prepared=True)

    @abstractmethod
    def _save(self, directory: Path) -> None:
        """Write the state into files of the existing ``directory``, which holds ``ids.npy``.

        The base class keeps checksums of all of them.
        """

    @abstractmethod
    def _load(self, directory: Path) -> None:
        """Read what `_save` wrote, into an index made with the same `config`."""
