"""Where the bytes of an image are: a file, a member of an archive, or an address on a network.

The path of an item names any of them in one string: ``/photos/a.jpg``, ``/photos.zip/2019/a.jpg``
or ``s3://bucket/photos/a.jpg``. Everything that reads an image reads it through `read_bytes`.
"""

from imgret.files.archives import is_archive
from imgret.files.place import Place, State, Url, is_url, place_of, read_bytes, state_of
from imgret.files.roots import only_below
from imgret.files.stored import ItemFile

__all__ = [
    "ItemFile",
    "Place",
    "State",
    "Url",
    "is_archive",
    "is_url",
    "only_below",
    "place_of",
    "read_bytes",
    "state_of",
]
