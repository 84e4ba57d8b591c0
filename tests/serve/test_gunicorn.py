"""The application in several processes, forked by gunicorn after all was loaded."""

import os
import re
import subprocess
import sys

import httpx
import pytest

pytest.importorskip("gunicorn", reason="pip install gunicorn uvicorn-worker")
pytest.importorskip("uvicorn_worker", reason="pip install uvicorn-worker")

# What is searched here starts the threads of Faiss and of ONNX Runtime, which no fork keeps.
APPLICATION = """
import os
from imgret import Retriever
from imgret.serve import Site, create_app

with Retriever.open(os.environ["GALLERY"]) as retriever:
    assert len(retriever.search(os.environ["IMAGE"], k=3)) == 3
app = create_app(Site(os.environ["GALLERY"], write=True))
"""


def test_workers_of_an_application_that_was_loaded_before_the_fork(gallery, flowers, tmp_path):
    (tmp_path / "application.py").write_text(APPLICATION)
    image = flowers / "rose" / "3.jpg"
    command = [sys.executable, "-m", "gunicorn", "-k", "uvicorn_worker.UvicornWorker", "-w", "2"]
    command += ["--preload", "--bind", "127.0.0.1:0", "--chdir", str(tmp_path), "application:app"]
    given = {"GALLERY": str(gallery), "IMAGE": str(image), "OMP_NUM_THREADS": "2"}
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, **given, "PYTHONPATH": paths}
    ) as process:
        try:
            log = ""
            while log.count("startup complete") < 2:
                line = process.stderr.readline()
                assert line, log
                log += line
            address = re.search(r"http://\S+", log)[0]
            for n in range(6):  # each worker takes some
                found = httpx.post(f"{address}/api/search", content=image.read_bytes(), timeout=60)
                assert found.json()["hits"][0]["key"] == "rose/3.jpg"
                item = f"{address}/api/items/rose/3.jpg"
                assert httpx.patch(item, json={"label": f"l{n}"}, timeout=60).status_code == 200
        finally:
            process.terminate()
            process.stderr.read()
    assert process.returncode == 0
