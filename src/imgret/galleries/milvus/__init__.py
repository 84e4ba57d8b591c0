"""Galleries in Milvus: ``milvus://host:19530/collection``, or a file of Milvus Lite.

============ =====================================================================
module       contents
============ =====================================================================
`address`    URIs, and what of them may be shown
`connection` the client: requests with a time limit, errors in words, Milvus Lite
`schema`     the two collections of a gallery, and what a server can do
`rows`       items and embeddings on their way in and out
`gallery`    the gallery
`view`       its views, and the index that is measured and tuned
============ =====================================================================
"""

from imgret.errors import MissingExtraError

try:
    import pymilvus  # noqa: F401  # looked for once, before anything needs it
except ImportError as error:
    raise MissingExtraError.of("A gallery at milvus://", extra="milvus") from error

from imgret.galleries.milvus.gallery import MilvusGallery

__all__ = ["MilvusGallery"]
