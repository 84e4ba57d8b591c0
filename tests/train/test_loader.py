"""A gallery in the workers of torch's ``DataLoader``, which is forked, or pickled and sent."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from pathlib import Path
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from imgret import Embedder, Retriever

class Given(Embedder):
    name, dim, fingerprint = "given", 32, "given"
    def config(self):
        return {}
    def _embed(self, images):
        return np.stack([np.resize(image, 32).astype(np.float32) + 1 for image in images])

class Neighbours(Dataset):
    def __init__(self, retriever):
        self.retriever = retriever
        self.keys = list(retriever)
    def __len__(self):
        return len(self.keys)
    def __getitem__(self, n):
        key = self.keys[n]
        (vector,) = self.retriever.embeddings([key])
        return torch.from_numpy(vector), self.retriever.search_key(key, 3)[0].key

if __name__ == "__main__":
    path = Path(__file__).with_name("g.imgret")
    rows = np.random.default_rng(0).standard_normal((200, 32)).astype(np.float32)
    with Retriever.open(path, "a", embedder=Given(), index="hnsw") as writer:
        writer.add_vectors(rows, keys=[f"k{n}" for n in range(200)])
    data = Neighbours(Retriever.open(path, embedder=Given()))
    expected = [data[n] for n in range(200)]  # searched before it forks
    loader = DataLoader(
        data, batch_size=20, num_workers=2, multiprocessing_context=sys.argv[1]
    )
    for _ in range(2):
        vectors, keys = zip(*loader)
        assert torch.equal(torch.cat(vectors), torch.stack([vector for vector, _ in expected]))
        assert [key for some in keys for key in some] == [key for _, key in expected]
    print("done")
"""


@pytest.mark.parametrize(
    "method",
    [
        pytest.param("fork", marks=pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")),
        "spawn",
    ],
)
def test_workers_search(tmp_path, method):
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", file, method],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "2"},
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "done\n"
