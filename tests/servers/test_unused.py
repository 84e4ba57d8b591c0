"""A new gallery on a server that got no item is deleted again, unless somebody else uses it."""

import subprocess
import sys

import numpy as np
import pytest

from imgret import registry
from imgret.testing.galleries import new_spec
from imgret.types import Item


@pytest.fixture(params=["postgres", "milvus-lite"])
def uri(request, tmp_path):
    if request.param == "postgres":
        return f"{request.getfixturevalue('own_postgres').uri}&schema=a"
    pytest.importorskip("milvus_lite", reason="Milvus Lite: pip install 'imgret[milvus-lite]'")
    return f"milvus://{tmp_path}/a.db"


def test_only_an_empty_gallery_of_ones_own_is_deleted(uri):
    kind = registry.gallery(uri)
    gallery = kind.create(uri, new_spec(dim=2))
    gallery.add([Item("a")], np.ones((1, 2), np.float32))
    assert not gallery.discard_if_unused()
    gallery.remove(["a"])
    assert gallery.discard_if_unused()
    gallery.close()
    assert not kind.is_taken(uri)
    kind.create(uri, new_spec(dim=2)).close()
    gallery = kind.open(uri, writable=True)
    assert not gallery.discard_if_unused()  # made by somebody else
    gallery.close()
    assert kind.is_taken(uri)


OTHER = """
import sys, numpy as np
from imgret.galleries.postgres import PostgresGallery
from imgret.types import Item
gallery = PostgresGallery.open(sys.argv[1], writable=True)
print("open", flush=True)
sys.stdin.readline()
gallery.add([Item("b")], np.ones((1, 2), np.float32))
gallery.close()
"""


def test_a_gallery_that_another_process_has_opened_stays(own_postgres):
    pg_uri = own_postgres.uri
    kind = registry.gallery(pg_uri)
    gallery = kind.create(pg_uri, new_spec(dim=2))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    other = subprocess.Popen([sys.executable, "-c", OTHER, pg_uri], **pipes)
    assert other.stdout.readline() == "open\n"
    assert not gallery.discard_if_unused()
    other.communicate("go\n", timeout=60)
    assert not other.returncode
    assert list(gallery) == ["b"]
    gallery.close()


def test_the_command_leaves_nothing(uri, tmp_path, capsys):
    from imgret.cli import main

    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"no image")
    with pytest.raises(SystemExit, match="1"):
        main(["index", str(tmp_path / "photos"), "-o", uri])
    assert "was not created" in capsys.readouterr().err
    assert not registry.gallery(uri).is_taken(uri)
