"""Hooks that a flag promises and a plugin forgot: the error names class, hook and flag."""

import numpy as np
import pytest

from imgret import Embedder
from imgret.abc import Gallery


class Promising(Embedder):
    name = "promising"
    reads_text = True
    dim = 3
    fingerprint = "1"

    def config(self):
        return {}

    def _embed(self, images):
        return np.zeros((len(images), 3), np.float32)


def test_an_embedder_that_says_it_reads_text():
    with pytest.raises(NotImplementedError, match=r"Promising: expected _embed_text .*reads_text"):
        Promising().embed_text(["a rose"])


@pytest.mark.parametrize(
    ("hook", "flag", "call"),
    [
        ("_project", "supports_projection", lambda gallery: Gallery._project(gallery, None)),
        ("_reindex", "supports_index", lambda gallery: Gallery._reindex(gallery, None, {})),
        ("_explain", "supports_index", lambda gallery: Gallery._explain(gallery, 1, None, 1)),
        ("index", "supports_index", Gallery.index.fget),
    ],
)
def test_a_gallery_that_says_it_has_an_index(hook, flag, call):
    class Promised(Gallery):
        supports_projection = supports_index = True

    Promised.__abstractmethods__ = frozenset()
    with pytest.raises(NotImplementedError, match=f"Promised: expected {hook} .*{flag} is True"):
        call(object.__new__(Promised))
