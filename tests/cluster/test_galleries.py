"""Rows of a cluster in galleries on servers: each image once, whoever dies on the way."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("ray", reason="Ray: pip install 'imgret[ray]'")

from imgret import Retriever  # after the check


@pytest.fixture(params=["postgres", "milvus-lite"])
def uri(request, tmp_path):
    """Where no gallery is yet."""
    if request.param == "postgres":
        return request.getfixturevalue("own_postgres").uri
    pytest.importorskip("milvus_lite", reason="Milvus Lite: pip install 'imgret[milvus-lite]'")
    return f"milvus://{tmp_path}/all.db?collection=photos"


def as_here(photos, found):
    """Compare a gallery that a cluster made with one that this process makes."""
    here = Retriever()
    here.add_folder(photos, labels="parent", progress=False)
    assert sorted(found) == sorted(here)
    for key in here:
        expected = here[key]
        assert (found[key].label, found[key].box, found[key].sha256) == (
            (expected.label, expected.box, expected.sha256)
        )
        np.testing.assert_allclose(found.embeddings([key]), here.embeddings([key]), atol=1e-3)
    hits = found.search(photos / "sand" / "1.jpg", k=3)
    assert [hit.key for hit in hits] == [
        hit.key for hit in here.search(photos / "sand" / "1.jpg", k=3)
    ]


def test_a_worker_dies(cluster, photos, short, killer, uri):
    with Retriever.open(uri, "a") as found:
        report = found.add_folder(photos, labels="parent", on="ray", threads=2, progress=killer)
        assert killer.killed
        assert (len(report.ok), len(report.failed)) == (12, 0)
        as_here(photos, found)
        again = found.add_folder(photos, labels="parent", on="ray", threads=2, progress=False)
        assert (len(again.ok), len(again.skipped)) == (0, 12)


KILLED = """
import os, signal, sys
from imgret import Retriever
from imgret.cluster import pipeline
from imgret.ingest import writer
pipeline._RUN, writer._COMMIT_ITEMS = 2, 2
def progress(done, total):
    if done >= 6:
        os.kill(os.getpid(), signal.SIGKILL)
with Retriever.open(sys.argv[1], "a") as retriever:
    retriever.add_folder("photos", labels="parent", on="ray", threads=1, progress=progress)
"""


@pytest.mark.skipif(os.name != "posix", reason="kills by a signal")
def test_the_driver_dies(cluster, photos, uri, monkeypatch):
    monkeypatch.chdir(photos.parent)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, uri],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "RAY_ADDRESS": cluster},
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with Retriever.open(uri, "a") as found:
        before = len(found)
        assert 4 <= before < 12
        report = found.add_folder("photos", labels="parent", on="ray", threads=1, progress=False)
        assert (len(report.ok), len(report.skipped)) == (12 - before, before)
        as_here(photos, found)
