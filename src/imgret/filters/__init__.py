"""The filter language of ``where=``: parsed once, then compiled for the gallery's storage.

========== ====================================================================
module     contents
========== ====================================================================
`tree`     the nodes of a parsed filter
`parse`    from a mapping to a tree, with all checks and error messages
`sqlite`   from a tree to an SQL condition over a local catalog
`python`   filters evaluated on one item, without a database
========== ====================================================================

``docs/filters.md`` says what each operator means.
"""

from imgret.filters.parse import metadata_field, parse_filter
from imgret.filters.python import passes
from imgret.filters.tree import Filter

__all__ = ["Filter", "metadata_field", "parse_filter", "passes"]
