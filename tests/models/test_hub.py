"""Downloads, from a server on this machine that answers as Hugging Face does."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from imgret import Retriever
from imgret.cli import main
from imgret.embedders import OnnxEmbedder
from imgret.errors import InvalidInputError, ModelError, UnknownNameError
from imgret.models import hub
from imgret.models.home import downloaded, models_home

MODELS = Path(__file__).parents[1] / "data" / "models"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Serves ``tester/NAME`` from the folder of that name."""

    asked: ClassVar[list[str]] = []
    broken: ClassVar[set[str]] = set()

    def do_GET(self):
        self._answer(body=True)

    def do_HEAD(self):
        self._answer(body=False)

    def _answer(self, *, body):
        self.asked.append(f"{self.command} {self.path}")
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            return self._send_info(parts[3], body=body)
        folder, file = MODELS / parts[1], "/".join(parts[4:])
        path = folder / file
        if not path.is_file():
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"}, body=body)
        data = path.read_bytes()
        headers = {
            "ETag": f'"{hashlib.sha256(data).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        status, start = 200, 0
        if (asked := self.headers.get("Range")) is not None and self.command == "GET":
            start = int(asked.removeprefix("bytes=").split("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            status = 206
        if file in self.broken and self.command == "GET" and start == 0:
            self.broken.discard(file)
            self.send_response(200)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])  # and then the line is cut
            self.close_connection = True
            return None
        return self._send(status, data[start:], headers, body=body)

    def _send_info(self, name, *, body):
        folder = MODELS / name
        if not folder.is_dir():
            return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body=body)
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        siblings = [
            {"rfilename": path.relative_to(folder).as_posix(), "size": path.stat().st_size}
            for path in files
        ]
        info = {
            "id": f"tester/{name}",
            "sha": COMMIT,
            "siblings": siblings,
            "cardData": {"license": "mit"},
        }
        return self._send(200, json.dumps(info).encode(), {}, body=body)

    def _send(self, status, data, headers, *, body):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    pytest.importorskip("huggingface_hub")
    served = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{served.server_port}")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.setenv("IMGRET_MODELS", str(tmp_path / "models"))
    Hub.asked.clear()
    Hub.broken.clear()
    yield Hub
    served.shutdown()
    thread.join()
    served.server_close()


def test_sizes_are_known_before_anything_is_downloaded(server):
    found = hub.look("hf:tester/clip")
    assert set(found.files) == {
        "config.json",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "onnx/vision_model.onnx",
        "onnx/text_model.onnx",
    }
    sizes = {file: (MODELS / "clip" / file).stat().st_size for file in found.files}
    assert (found.files, found.total) == (sizes, sum(sizes.values()))
    assert (found.revision, found.licence) == (COMMIT, "mit")
    assert found.folder == models_home() / "clip"
    assert not any("resolve" in each for each in server.asked)
    assert downloaded("clip") is None


def test_a_model_is_found_by_its_name_afterwards(server, tmp_path):
    folder = hub.fetch(hub.look("hf:tester/clip"))
    record = json.loads((folder / "imgret.json").read_text())
    assert record["revision"] == COMMIT
    for file, digest in record["sha256"].items():
        assert hashlib.sha256((MODELS / "clip" / file).read_bytes()).hexdigest() == digest
    assert OnnxEmbedder("clip").fingerprint == OnnxEmbedder(MODELS / "clip").fingerprint
    with Retriever.open(tmp_path / "g.imgret", "a", embedder="clip") as retriever:
        assert retriever.embedder.reads_text
    assert len(server.asked) > 0
    asked = len(server.asked)
    with Retriever.open(tmp_path / "g.imgret") as retriever:
        assert retriever.embedder.dim == 24
    assert len(server.asked) == asked  # no network but for `get`


def test_a_variant(server):
    found = hub.look("hf:tester/clip", variant="fp16")
    assert "onnx/vision_model_fp16.onnx" in found.files
    assert "onnx/vision_model.onnx" not in found.files
    with pytest.raises(ModelError, match="ONNX files of variant 'q4', found onnx/text_model.onnx"):
        hub.look("hf:tester/clip", variant="q4")
    with pytest.raises(InvalidInputError, match="variant: expected one of"):
        hub.look("hf:tester/clip", variant="fp8")


def test_weights_beside_the_graph_come_along(server):
    assert "model.onnx.data" in hub.look("hf:tester/dinov2-external").files


def test_a_broken_download_goes_on(server):
    server.broken.add("onnx/text_model.onnx")
    download = hub.look("hf:tester/clip")
    try:
        folder = hub.fetch(download)
    except ModelError:  # the next call goes on
        folder = hub.fetch(download)
    name = "onnx/text_model.onnx"
    assert (folder / name).read_bytes() == (MODELS / "clip" / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("clip-vit-base-patch23", UnknownNameError, "Did you mean 'clip-vit-base-patch32'"),
        ("hf:no-owner", InvalidInputError, "expected a repository as hf:owner/name"),
        ("hf:tester/nothing", ModelError, "tester/nothing: expected an answer of http://127"),
    ],
)
def test_mistakes(server, name, error, message):
    with pytest.raises(error, match=message):
        hub.look(name)


def test_no_network_is_one_sentence(server, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody is there
    with pytest.raises(ModelError, match="try again, or download the files elsewhere.*hf download"):
        hub.look("clip-vit-base-patch32")


def test_the_command(server, capsys, tmp_path):
    def ran(*words):
        with pytest.raises(SystemExit) as ended:
            main(["models", "get", *words])
        return ended.value.code, *capsys.readouterr()

    code, out, err = ran()
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(hub.KNOWN)
    code, out, err = ran("hf:tester/siglip", "--dry-run")
    assert (code, out) == (0, "")
    assert "onnx/vision_model.onnx" in err
    assert "MB from tester/siglip" in err
    assert downloaded("siglip") is None
    code, out, err = ran("hf:tester/siglip", "--json")
    facts = json.loads(out)
    assert (code, facts["name"], facts["revision"]) == (0, "siglip", COMMIT)
    assert OnnxEmbedder("siglip").dim == 48
    code, out, err = ran("hf:tester/vit", "-o", str(tmp_path / "here"))
    assert out.strip().endswith(f"--embedder {tmp_path / 'here'}")
    assert OnnxEmbedder(tmp_path / "here").dim == 48
