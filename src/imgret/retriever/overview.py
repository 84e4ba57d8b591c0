"""A gallery seen as a whole."""

from __future__ import annotations

from imgret.curation import (
    Clusters,
    DuplicateGroup,
    LabelIssue,
    Map2D,
    NeighborGraph,
    Outlier,
    build_neighbor_graph,
    draw_map,
    find_duplicates,
    find_mislabelled,
    find_outliers,
    fit_clusters,
)
from imgret.curation.map2d import Method
from imgret.retriever.gallery import Gallery
from imgret.support.checks import check_seed

__all__ = ["Overview"]


class Overview(Gallery):
    """What is double, what belongs together, what does not belong.

    No picture is read. The gallery cannot be changed meanwhile.
    """

    def duplicates(self, threshold: float) -> list[DuplicateGroup]:
        """Find items that are almost the same.

        Two items are joined whose score reaches the threshold, and so are those that others
        join. An exact index misses none, however many are alike; one that is not may miss pairs
        of its own approximation (`recall` tells how many), but never items of equal embeddings.

        Parameters
        ----------
        threshold : float
            At most 1 for metric ``"cosine"``, at most 0 for ``"l2"``, where scores are minus
            squared distances. With the embedder ``"general"``, 0.95 is a good start; for nothing
            but the same shot, 0.98.

        Returns
        -------
        list of DuplicateGroup
            Each item is in one group at most. The largest group comes first, of equals the one
            most alike.

        Raises
        ------
        InvalidInputError
            The threshold is out of its range.
        EmptyGalleryError
            There are no items.

        Examples
        --------
        >>> for group in retriever.duplicates(0.95):  # doctest: +SKIP
        ...     retriever.remove(group.keys[1:])
        """
        with self._changing:
            return find_duplicates(self._view(), threshold=threshold)

    def clusters(self, n: int, *, seed: int = 0) -> Clusters:
        """Part the gallery into clusters by k-means.

        Spherical k-means for metric ``"cosine"``, Euclidean for the others, of the indexed
        vectors. The centroids are learned from at most 256 items a cluster, drawn at random;
        then every item is assigned to the nearest.

        Parameters
        ----------
        n : int
            At most as many as there are items. There may be fewer clusters in the end, where
            fewer items differ.
        seed : int
            Of the draw and of the first centroids: the same one gives the same clusters.

        Returns
        -------
        Clusters

        Raises
        ------
        InvalidInputError
            ``n`` is out of its range.
        EmptyGalleryError
            There are no items.

        References
        ----------
        S. Lloyd, "Least Squares Quantization in PCM", 1982; I. Dhillon and D. Modha, "Concept
        Decompositions for Large Sparse Text Data using Clustering", 2001, for the spherical kind.
        """
        with self._changing:
            return fit_clusters(self._view(), n=n, seed=check_seed(seed))

    def neighbor_graph(self, k: int = 10) -> NeighborGraph:
        """Find the nearest others of every item.

        Parameters
        ----------
        k : int
            Others of each item; all of them where there are fewer.

        Returns
        -------
        NeighborGraph
            As good as the index: see `recall`.

        Raises
        ------
        InvalidInputError
            ``k`` is below 1.
        EmptyGalleryError
            There are no items.
        """
        with self._changing:
            return build_neighbor_graph(self._view(), k=k)

    def outliers(self, n: int = 100, *, k: int = 10) -> list[Outlier]:
        """Find the items that are least like any others: what may not belong here.

        They are ranked by the mean score of their ``k`` nearest others.

        Parameters
        ----------
        n : int
            How many to return; all where there are fewer.
        k : int
            Others of each item; all of them where there are fewer. A group of up to ``k`` alike
            stands out as well.

        Returns
        -------
        list of Outlier
            The lowest score first; none where there is but one item.

        Raises
        ------
        InvalidInputError
            A number is below 1.
        EmptyGalleryError
            There are no items.

        References
        ----------
        S. Ramaswamy, R. Rastogi and K. Shim, "Efficient Algorithms for Mining Outliers from Large
        Data Sets", 2000; F. Angiulli and C. Pizzuti, "Fast Outlier Detection in High Dimensional
        Spaces", 2002, for the mean.
        """
        with self._changing:
            return find_outliers(self._view(), k=k, n=n)

    def mislabelled(self, *, k: int = 20, threshold: float = 0.5) -> list[LabelIssue]:
        """Find the items that may have the wrong label.

        The nearest others that have a label vote for theirs, the nearest with weight 1, the
        farthest with weight 0, by score between them. What counts is by how much another label
        leads over the item's own. An item whose label no other has is left out. After
        `adapt` the vote is a good deal surer, wrong labels or not.

        Parameters
        ----------
        k : int
            Others that vote; all of them where there are fewer. Best about the size of a class.
        threshold : float
            Items of a lower confidence are left out: 0 to 1. Low, it finds more that are wrong,
            and more that are right.

        Returns
        -------
        list of LabelIssue
            The surest first.

        Raises
        ------
        InvalidInputError
            A number is out of its range, or there are fewer than two labels.
        EmptyGalleryError
            There are no items.

        References
        ----------
        D. Wilson, "Asymptotic Properties of Nearest Neighbor Rules Using Edited Data", 1972;
        S. Dudani, "The Distance-Weighted k-Nearest-Neighbor Rule", 1976, for the weights.
        """
        with self._changing:
            return find_mislabelled(self._view(), k=k, threshold=threshold)

    def map2d(self, method: Method = "pca", *, seed: int = 0) -> Map2D:
        """Lay the gallery out in the plane, to be looked at: `Map2D.to_html`, `Map2D.save`.

        Parameters
        ----------
        method : {"pca", "umap"}
            The two principal components of the indexed vectors: at once, and coarse. Or UMAP,
            started from these: the graph of the 14 nearest others of each item, unfolded; what
            is alike ends up together. It needs ``pip install 'imgret[umap]'``.
        seed : int
            Of UMAP.

        Returns
        -------
        Map2D

        Raises
        ------
        InvalidInputError
            There is no such method, there are fewer than 3 items, or all of them are equal.
        MissingExtraError
            UMAP is not installed.
        EmptyGalleryError
            There are no items.

        References
        ----------
        L. McInnes, J. Healy and J. Melville, "UMAP: Uniform Manifold Approximation and Projection
        for Dimension Reduction", 2018; D. Kobak and G. Linderman, "Initialization is critical for
        preserving global data structure in both t-SNE and UMAP", 2021.
        """
        with self._changing:
            return draw_map(self._view(), method=method, seed=check_seed(seed))
