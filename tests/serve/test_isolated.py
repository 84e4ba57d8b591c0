"""Uploads of the server are decoded in processes with limits."""

import io
import sys

import pytest
import uvicorn
from PIL import Image as Pil

from imgret.images import isolation
from imgret.serve import Site, run


def saved(kind, **options):
    file = io.BytesIO()
    Pil.effect_noise((64, 48), 80).convert("RGB").save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("isolate", [True, False])
def test_a_running_server_isolates_all_but_plain_images(isolate, gallery, monkeypatch):
    seen = []

    def serve(server, sockets=None):
        for each in sockets:
            each.close()
        workers = isolation.active()
        seen.append(workers)
        if workers is not None:
            seen.append([workers.plain_header(saved(kind), None) is not None for kind in KINDS])

    monkeypatch.setattr(uvicorn.Server, "run", serve)
    run(Site(gallery), port=0, isolate=isolate)
    assert seen[1:] == ([[True, True, False, False]] if isolate else [])
    assert (seen[0] is not None) == isolate
    assert isolation.active() is None


KINDS = ("JPEG", "PNG", "WEBP", "GIF")


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux only")
def test_an_upload_that_takes_too_much_memory_gets_an_answer(client, monkeypatch):
    import numpy as np

    large = io.BytesIO()
    Pil.fromarray(np.zeros((6000, 6000), np.uint8)).save(large, "GIF")
    with isolation.isolated(memory=64 << 20, workers=1, plain=False):
        answer = client("POST", "/api/search", content=large.getvalue())
        assert answer.status_code == 413
        assert "64 MB of memory" in answer.text
        assert client("POST", "/api/search", content=saved("GIF")).status_code == 200
