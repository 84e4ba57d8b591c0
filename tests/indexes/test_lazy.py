"""Faiss is imported when an index of it is asked for, and not before."""

import subprocess
import sys

import pytest

from imgret import indexes


def test_faiss_is_not_imported_before_it_is_used():
    code = (
        "import sys; import imgret.indexes as i; i.ExactIndex(2); i.choose(10, 2)\n"
        "assert 'faiss' not in sys.modules\n"
        "i.FlatIndex(2)\n"
        "assert 'faiss' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)  # our own interpreter


def test_every_name_is_there():
    for name in indexes.__all__:
        assert getattr(indexes, name).__name__ == name
        assert name in dir(indexes)
    with pytest.raises(AttributeError, match="Annoy"):
        _ = indexes.AnnoyIndex
