"""The language of ``where=``: parsed once, then compiled for whatever holds the items.

========== ====================================================================
module     what is in it
========== ====================================================================
`tree`     the parsed filter: what it is made of
`parse`    from a mapping to a tree, with every check and message
`sqlite`   from a tree to a condition of SQL over a local catalog
`python`   whether an item passes, without any engine
========== ====================================================================

``docs/filters.md`` says what each operator means.
"""

from imgret.filters.parse import metadata_field, parse_filter
from imgret.filters.python import passes
from imgret.filters.tree import Filter

__all__ = ["Filter", "metadata_field", "parse_filter", "passes"]
