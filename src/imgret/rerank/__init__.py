"""Better rankings from the neighbours of neighbours, without another look at an image.

Within a search, by name or as an object, one or several one after the other::

    retriever.search("query.jpg", rerank="alpha-qe")
    retriever.search("query.jpg", rerank=("alpha-qe", KReciprocal(candidates=200)))

================== ================ ==========================================================
name               object           what it does
================== ================ ==========================================================
``"average-qe"``   `QueryExpansion` searches again with the mean of the query and its nearest
``"alpha-qe"``     `QueryExpansion` the same, the nearer the heavier
``"k-reciprocal"`` `KReciprocal`    ranks candidates by the neighbours they share with the query
``"diffusion"``    `Diffusion`      ranks them by how well they are reached over neighbours
``"mmr"``          `Diversity`      of like candidates only one comes first
================== ================ ==========================================================

Each looks at candidates from the index and what is near them, so that its cost does not grow with
the gallery but for what the index itself takes. `Hit.score` is then

* after query expansion, the gallery's metric to the moved query;
* after k-reciprocal encoding, minus the mixed distance, 0 at best;
* after diffusion, what arrives at the item, 0 or more;
* after maximal marginal relevance what it was before: there ranks do not follow scores.

Likeness is the cosine of what is searched, whatever the gallery's metric, but in maximal marginal
relevance, where it is compared with scores. Higher is better in any case, but scores of different
kinds cannot be compared, and a threshold is one for the kind at hand.

On arrays, without a retriever, there are functions. They take embeddings as float32 of shape
(n, dim), compared by cosine, and know the whole gallery. They need no labels. Those that change
embeddings are applied before a search, those that change scores after one:

====================== ==========================================================================
`expand_queries`       a query moves towards its nearest items (average and alpha query expansion)
`augment_gallery`      every item moves towards its nearest (database-side augmentation)
`k_reciprocal`         candidates are re-ranked by how many neighbours they share with the query
`diffuse`              scores spread over the graph of neighbours
`diversify`            of like candidates only one comes first (maximal marginal relevance)
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
