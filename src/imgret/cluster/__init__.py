"""Images embedded by the machines of a Ray cluster, and written by this process.

============== ===================================================================
module         contents
============== ===================================================================
`connection`   the cluster: reached or started, and left again
`worker`       what an actor does: the same pipeline as on one machine
`pipeline`     sources to the actors, and outcomes back in their order
============== ===================================================================
"""

from imgret.errors import MissingExtraError

try:
    import ray  # noqa: F401  # looked for once, before anything needs it
except ImportError as error:
    raise MissingExtraError.of("Embedding on a cluster", extra="ray") from error

from imgret.cluster.pipeline import on_cluster

__all__ = ["on_cluster"]
