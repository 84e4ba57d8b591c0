"""Images at addresses, which the machines of the cluster read themselves."""

import http.server
import json
import threading
from functools import partial

import numpy as np
import pytest

pytest.importorskip("ray", reason="Ray: pip install 'imgret[ray]'")
fsspec = pytest.importorskip("fsspec", reason="addresses: pip install 'imgret[remote]'")

from imgret import Retriever  # noqa: E402  # after the checks


class _Pages(http.server.SimpleHTTPRequestHandler):
    """A folder on the web, where one image is listed that nobody gets."""

    def do_GET(self):
        if self.path.endswith("3.jpg"):
            self.send_error(503)
        else:
            super().do_GET()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def web(photos):
    """The address of the images on a web server."""
    pytest.importorskip("aiohttp", reason="http: pip install 'imgret[remote]'")
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(_Pages, directory=str(photos))
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def bucket(photos, services, monkeypatch):
    """The address of the images in a bucket of a server of S3."""
    pytest.importorskip("s3fs", reason="s3: pip install 'imgret[remote]'")
    moto = pytest.importorskip("moto.server", reason="a server of S3: pip install moto[s3] flask")
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {"endpoint_url": f"http://{host}:{port}", "key": "k", "secret": "s"}
    (services / "s3.json").write_text(json.dumps({"s3": options}), encoding="utf-8")
    monkeypatch.setitem(fsspec.config.conf, "s3", options)  # this process has read the folder
    system = fsspec.filesystem("s3")
    system.mkdir("photos")
    system.put(f"{photos}/", "photos/2024/", recursive=True)
    yield "s3://photos/2024"
    (services / "s3.json").unlink()
    server.stop()


def as_here(photos, found, report, root, left_out=()):
    here = Retriever()
    here.add_folder(photos, labels="parent", progress=False)
    assert sorted(report.ok) == sorted(found)
    assert len(found) == 12 - len(left_out)
    for key in found:
        name = key.removeprefix(root)
        assert (found[key].label, found[key].sha256) == (here[name].label, here[name].sha256)
        np.testing.assert_allclose(found.embeddings([key]), here.embeddings([name]), atol=1e-3)


def test_a_bucket(cluster, photos, short, killer, bucket):
    found = Retriever()
    report = found.add_from(bucket, labels="parent", on="ray", threads=2, progress=killer)
    assert killer.killed
    as_here(photos, found, report, f"{bucket}/")
    again = found.add_from(bucket, labels="parent", on="ray", threads=2, progress=False)
    assert (len(again.ok), len(again.skipped)) == (0, 12)


def test_a_web_server_that_refuses_some(cluster, photos, short, web):
    found = Retriever()
    report = found.add_from(web, labels="parent", on="ray", threads=2, progress=False)
    names = [f"{web}{folder}/3.jpg" for folder in ("lake", "sand", "wood")]
    assert sorted(line.key for line in report.failed) == names
    assert "503" in report.failed[0].reason
    as_here(photos, found, report, web, left_out=report.failed)
