"""Galleries in PostgreSQL with pgvector: ``postgresql://host/database``.

=========== ======================================================================
module      contents
=========== ======================================================================
`database`  connections: opened, pooled, repeated after a loss; errors in words
`schema`    the tables, and their versions
`rows`      items and embeddings on their way in and out
`gallery`   the gallery
`view`      its views, and the index that is measured and tuned
=========== ======================================================================
"""

from imgret.errors import MissingExtraError

try:
    import psycopg  # noqa: F401  # looked for once, before anything needs it
    import psycopg_pool  # noqa: F401
except ImportError as error:
    raise MissingExtraError.of("A gallery at postgresql://", extra="postgres") from error

from imgret.galleries.postgres.gallery import PostgresGallery

__all__ = ["PostgresGallery"]
