"""The facade: pictures in, hits out; everything else is delegated.

============= ==================================================================
module        what of the facade it holds
============= ==================================================================
`gallery`     opening, keeping, what is in it
`changing`    adding and removing items; index and projection
`searching`   search by picture, by key, by vector; names
`queries`     what one query is made of: pictures, weights, a box
`augmenting`  another gallery, whose items have moved towards their nearest
`calibrating` from scores to probabilities
`measuring`   how well it finds: evaluation, recall, tuning, plans, what cropping does
`overview`    the whole of it: duplicates, clusters, outliers, wrong labels, a map
============= ==================================================================
"""

from __future__ import annotations

from imgret.retriever.measuring import Measuring
from imgret.retriever.overview import Overview

__all__ = ["Retriever"]


class Retriever(Measuring, Overview):
    """A gallery of pictures that is searched by picture.

    ``Retriever()`` keeps the gallery in memory; `save` writes it, `load` reads it back into
    memory, and `open` works on it where it lies on disk.

    Parameters
    ----------
    embedder : str or Embedder
        A registered name (``"general"``), the path of an ONNX bundle, or an object.
    cropper : str or Cropper
        ``"none"``, ``"center"``, ``"spectral"``, the path of a saliency bundle, or an
        object. Queries are cropped by the same rule as the gallery.
    index : str or VectorIndex
        ``"flat"`` (exact), ``"ivf-pq"``, ``"hnsw-sq8"``, ``"hnsw"``, ``"ivf"``,
        ``"faiss:<factory string>"``, ``"auto"``, another registered name, or an empty index
        object.
    metric : {"cosine", "ip", "l2"}
        Scores are higher-is-better for all three.
    dtype : {"float16", "float32"}
        How embeddings are kept. What is indexed and scored is what is kept.
    max_pixels : int
        Images of more pixels are refused, as queries and when they are added, since decoding
        takes 3 bytes a pixel in each thread. Pixels that will be decoded count: those of a large
        JPEG at the reduced scale that the embedder needs, so that photos of 200 megapixels are
        taken, unless they are progressive. Not kept with the gallery.

    Examples
    --------
    >>> retriever = Retriever()                              # doctest: +SKIP
    >>> retriever.add_folder("photos/", labels="parent")     # doctest: +SKIP
    >>> hits = retriever.search("query.jpg", k=6)            # doctest: +SKIP
    >>> retriever.save("photos.imgret")                      # doctest: +SKIP
    """
