"""Curation of a whole gallery: duplicates, clusters, outliers, wrong labels, maps.

No image is read, except for those that `find_duplicates` compares, and the small ones that a page
or a notebook shows. Every item is searched for its nearest neighbours, or read once, in pieces.
Memory holds a few numbers per item, never all embeddings.

======================= =========================================================================
`find_duplicates`       groups of items that are almost the same image
`find_copies_of`        items that are almost the same as one image
`fit_clusters`          k-means
`build_neighbor_graph`  the nearest neighbours of every item, as arrays
`find_outliers`         items that are unlike even their nearest neighbours
`find_mislabelled`      items whose neighbours have a different label
`draw_map`              every item as a point in the plane
======================= =========================================================================
"""

from imgret.curation.clusters import Clusters, fit_clusters
from imgret.curation.copies_of import Copies, Copy, find_copies_of
from imgret.curation.duplicates import DuplicateGroup, Duplicates, find_duplicates
from imgret.curation.graph import NeighborGraph, build_neighbor_graph
from imgret.curation.map2d import Map2D, draw_map
from imgret.curation.mislabelled import LabelIssue, LabelIssues, find_mislabelled
from imgret.curation.moving import Moved, MovedFile, RefusedFile, move_extra, move_listed
from imgret.curation.outliers import Outlier, Outliers, find_outliers

__all__ = [
    "Clusters",
    "Copies",
    "Copy",
    "DuplicateGroup",
    "Duplicates",
    "LabelIssue",
    "LabelIssues",
    "Map2D",
    "Moved",
    "MovedFile",
    "NeighborGraph",
    "Outlier",
    "Outliers",
    "RefusedFile",
    "build_neighbor_graph",
    "draw_map",
    "find_copies_of",
    "find_duplicates",
    "find_mislabelled",
    "find_outliers",
    "fit_clusters",
    "move_extra",
    "move_listed",
]
