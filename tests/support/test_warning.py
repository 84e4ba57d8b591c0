import numpy as np
import pytest

from imgret import Retriever
from imgret.ingest.folder import find_images
from imgret.support.warning import warn


def add_vectors(retriever, photos):
    retriever.add_vectors(np.eye(3, 48, dtype=np.float32), keys=list("abc"))


def add_folder(retriever, photos):
    retriever.add_folder(photos / "lake")


def add(retriever, photos):
    retriever.add([photos / "lake" / "0.jpg"])


def walk(retriever, photos):
    find_images(photos)


def directly(retriever, photos):
    warn("once")


@pytest.mark.parametrize("call", [add_vectors, add_folder, add, walk, directly])
def test_a_warning_names_the_line_that_called(call, mean_color, photos):
    (photos / "lake" / "above").symlink_to(photos.parent)
    retriever = Retriever(embedder=mean_color, index="faiss:IVF64,PQ4x8")
    with pytest.warns(UserWarning, match="cannot be searched yet|passed over|once") as caught:
        call(retriever, photos)
    for warning in caught:
        assert (warning.filename, warning.lineno) == (__file__, call.__code__.co_firstlineno + 1)
