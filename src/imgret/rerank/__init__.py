"""Better rankings from the neighbours of neighbours, without another look at a picture.

Every function works on arrays: embeddings as float32 of shape (n, dim), compared by cosine. They
need no labels. Those that change embeddings are applied before a search, those that change scores
after one:

====================== ==========================================================================
`expand_queries`       a query moves towards its nearest items (average and alpha query expansion)
`augment_gallery`      every item moves towards its nearest (database-side augmentation)
`k_reciprocal`         candidates are ranked anew by how many neighbours they share with the query
`diffuse`              scores spread over the graph of neighbours
`diversify`            of like candidates only one comes first (maximal marginal relevance)
====================== ==========================================================================
"""

from imgret.rerank.diffusion import diffuse
from imgret.rerank.diversity import diversify
from imgret.rerank.expansion import augment_gallery, expand_queries
from imgret.rerank.reciprocal import k_reciprocal

__all__ = ["augment_gallery", "diffuse", "diversify", "expand_queries", "k_reciprocal"]
