"""Images embedded on a real Ray: as on one machine, also when workers and drivers die."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ray", reason="Ray: pip install 'imgret[ray]'")

from imgret import Embedder, Retriever  # after the check
from imgret.cluster import pipeline as running
from imgret.errors import ClusterError, InvalidInputError, ModelError
from imgret.transfer import import_items


def as_here(photos, found, **options):
    """Compare a gallery that a cluster made with one that this process makes."""
    here = Retriever()
    report = here.add_folder(photos, progress=False, **options)
    assert list(found) == list(here)
    assert [found[key] for key in found] == [here[key] for key in here]
    np.testing.assert_allclose(found.embeddings(), here.embeddings(), atol=1e-3)
    return report


def test_a_cluster_makes_the_gallery_that_one_machine_makes(cluster, photos, short):
    (photos / "lake" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (photos / "lake" / "twin.jpg").write_bytes((photos / "sand" / "1.jpg").read_bytes())
    found, seen = Retriever(), []
    report = found.add_folder(
        photos, labels="parent", on="ray", threads=2, progress=lambda *done: seen.append(done)
    )
    here = as_here(photos, found, labels="parent")
    assert (seen[0], seen[-1]) == ((0, 14), (14, 14))
    assert report.failed == here.failed
    assert report.duplicate == here.duplicate
    assert report.ok == here.ok
    assert {"read", "decode", "embed", "store"} <= set(report.stages)
    again = found.add_folder(photos, labels="parent", on="ray", threads=2, progress=False)
    assert (len(again.ok), len(again.skipped), len(again.failed)) == (0, 13, 1)


def test_a_worker_that_is_killed_in_the_middle_costs_nothing(cluster, photos, short, killer):
    found = Retriever()
    report = found.add_folder(photos, on="ray", threads=2, progress=killer)
    assert killer.killed
    assert len(report.ok) == 12
    as_here(photos, found)


def test_an_image_that_kills_its_worker_is_reported_and_the_others_are_added(
    cluster, photos, short, monkeypatch
):
    monkeypatch.setattr(running, "_RETRIES", 1)

    class Dies(Embedder):
        """Pickled by value, as it is local."""

        name, batch_size, dim, fingerprint = "", 1, 4, "dies"

        def config(self):
            return {}

        def _embed(self, images):
            if any(image.shape[0] == 77 for image in images):
                os._exit(1)
            return np.ones((len(images), 4), np.float32)

    from imgret.images import encode

    (photos / "lake" / "9.jpg").write_bytes(encode(np.zeros((77, 77, 3), np.uint8), "jpeg"))
    found = Retriever(embedder=Dies())
    report = found.add_folder(photos, on="ray", threads=1, progress=False)
    assert [(line.key, line.reason) for line in report.failed] == [
        ("lake/9.jpg", "the process that read it died, each time again")
    ]
    assert len(found) == 12


KILLED = """
import os, signal
from imgret import Retriever
from imgret.cluster import pipeline
from imgret.ingest import writer
pipeline._RUN, writer._COMMIT_ITEMS = 2, 2
def progress(done, total):
    if done >= 6:
        os.kill(os.getpid(), signal.SIGKILL)
with Retriever.open("photos.imgret", "a") as retriever:
    retriever.add_folder("photos", on="ray", threads=1, progress=progress)
"""


@pytest.mark.skipif(os.name != "posix", reason="kills by a signal")
def test_a_driver_that_was_killed_is_started_again(cluster, photos, monkeypatch):
    """Also: a process joins a cluster that runs, and the command does all that."""
    monkeypatch.chdir(photos.parent)
    env = {**os.environ, "RAY_ADDRESS": cluster}

    def ended(*arguments):
        return subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=env,
        )

    killed = ended("-c", KILLED)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with Retriever.open("photos.imgret") as retriever:
        before = len(retriever)
    assert 4 <= before < 12
    command = ("-m", "imgret", "index", "photos", "-o", "photos.imgret", "--on", "ray")
    again = ended(*command, "--threads", "1", "--json")
    assert again.returncode == 0, again.stderr
    report = json.loads(again.stdout)
    assert (len(report["ok"]), len(report["skipped"])) == (12 - before, before)
    with Retriever.open("photos.imgret") as retriever:
        as_here(photos, retriever)


def test_shards_are_filled_by_a_cluster_and_imported(cluster, photos, tmp_path, short):
    pytest.importorskip("pyarrow", reason="Parquet: pip install 'imgret[tables]'")
    uri = f"shards://{tmp_path / 'shards'}"
    with Retriever.open(uri, "a") as shards:
        assert len(shards.add_folder(photos, on="ray", threads=2, progress=False).ok) == 12
    with Retriever.open(uri, "a") as shards:
        report = shards.add_folder(photos, on="ray", threads=2, progress=False)
        assert (len(report.ok), len(report.skipped)) == (0, 12)
    assert import_items(tmp_path / "shards", str(tmp_path / "a.imgret")).added == 12
    with Retriever.open(tmp_path / "a.imgret") as found:
        as_here(photos, found)


def test_mistakes(cluster, photos, mean_color):
    retriever = Retriever()
    with pytest.raises(InvalidInputError, match="on: expected 'ray' or an address such as"):
        retriever.add_folder(photos, on="dask")
    with pytest.raises(InvalidInputError, match="ray://host:10001"):
        retriever.add_folder(photos, on="ray://")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"ray://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ClusterError, match="which `ray start --head` starts"):
            retriever.add_folder(photos, on=address)
    mean_color.lock = threading.Lock()  # which cannot be pickled
    with pytest.raises(InvalidInputError, match="can be pickled"):
        Retriever(embedder=mean_color).add_folder(photos, on="ray")
    assert not len(retriever)


def test_a_model_that_the_machines_do_not_have_is_named(cluster, photos, tmp_path, monkeypatch):
    model = Path(running.registry.__file__).parent / "models" / "general.onnx"
    (tmp_path / "mine.onnx").write_bytes(model.read_bytes())
    retriever = Retriever(embedder=str(tmp_path / "mine.onnx"))
    assert retriever.embedder.dim
    (tmp_path / "mine.onnx").unlink()
    with pytest.raises(ModelError, match="mine.onnx"):
        retriever.add_folder(photos, on="ray", progress=False)
