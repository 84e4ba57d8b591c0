"""Galleries on disk or in memory. The catalog is the truth; everything else can be made again.

::

    photos.imgret/
      manifest.json     what the gallery is made of
      catalog.sqlite    one row per item; committing to it is what makes an item exist
      vectors.f16       row i is the embedding of item i (vectors.f32 by option)
      projection.npz    optional linear map from embedding to index vector
      index/            a cache of the vector index; may be deleted at any time
      lock              held by the one process that writes

The same classes keep a gallery in memory: SQLite's ``:memory:`` and an array.
"""

from imgret.galleries.local.gallery import LocalGallery

__all__ = ["LocalGallery"]
