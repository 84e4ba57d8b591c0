"""Re-ranking: better rankings from the neighbours of neighbours, without reading an image.

A search takes re-rankers by name or as objects, one or several that follow each other::

    retriever.search("query.jpg", rerank="alpha-qe")
    retriever.search("query.jpg", rerank=("alpha-qe", KReciprocal(candidates=200)))

================== ================ ==========================================================
name               object           what it does
================== ================ ==========================================================
``"average-qe"``   `QueryExpansion` searches again with the mean of the query and its nearest
``"alpha-qe"``     `QueryExpansion` the same, but nearer items have more weight
``"k-reciprocal"`` `KReciprocal`    ranks candidates by the neighbours they share with the query
``"diffusion"``    `Diffusion`      ranks them by how well they are reached over neighbours
``"mmr"``          `Diversity`      puts only one of several similar candidates first
================== ================ ==========================================================

Each re-ranker looks at candidates from the index and at their neighbours. Its cost does not grow
with the gallery, apart from the cost of the index itself. Afterwards, `Hit.score` is

* after query expansion, the score by the gallery's metric with the moved query;
* after k-reciprocal encoding, minus the mixed distance, 0 at best;
* after diffusion, what arrives at the item, 0 or more;
* after maximal marginal relevance, unchanged, so ranks do not follow scores.

Similarity is the cosine of the vectors that are searched, whatever the gallery's metric. Only
maximal marginal relevance uses that metric, because it compares similarities with scores. Higher
is always better, but scores of different kinds cannot be compared, and a threshold applies to the
kind in use.

The functions work on arrays, without a retriever. They take embeddings as float32 of shape
(n, dim), compare them by cosine, and see the whole gallery. They need no labels. Functions that
change embeddings are applied before a search, those that change scores after it:

====================== ==========================================================================
`expand_queries`       a query moves towards its nearest items (average and alpha query expansion)
`augment_gallery`      every item moves towards its nearest (database-side augmentation)
`k_reciprocal`         candidates are re-ranked by how many neighbours they share with the query
`diffuse`              scores spread over the graph of neighbours
`diversify`            only one of several similar candidates comes first (maximal marginal
                       relevance)
====================== ==========================================================================
"""

from imgret.abc.reranker import Asked, Reranker, Searched
from imgret.rerank.diffusion import Diffusion, diffuse
from imgret.rerank.diversity import Diversity, diversify
from imgret.rerank.expansion import (
    QueryExpansion,
    augment_gallery,
    average_query_expansion,
    expand_queries,
)
from imgret.rerank.reciprocal import KReciprocal, Neighbourhoods, k_reciprocal

__all__ = [
    "Asked",
    "Diffusion",
    "Diversity",
    "KReciprocal",
    "Neighbourhoods",
    "QueryExpansion",
    "Reranker",
    "Searched",
    "augment_gallery",
    "average_query_expansion",
    "diffuse",
    "diversify",
    "expand_queries",
    "k_reciprocal",
]
