"""What `bench` measures, and what it says of settings that cannot be measured."""

import json
from pathlib import Path

import numpy as np
import pytest

from imgret import Embedder, OnnxEmbedder
from imgret.errors import InvalidInputError, MissingExtraError, ModelError, UnknownNameError
from imgret.evaluation import bench
from imgret.pipeline.embed import worker_count

DATA = Path(__file__).parents[1] / "data"
MODELS = DATA / "models"
PLAIN = {"size": 8, "scaling": None}
QUICK = {"seconds": 0.001}


class Mean(Embedder):
    """Needs no model file, and is not thread-safe."""

    name = "mean"
    thread_safe = False
    dim = 3
    fingerprint = "mean"

    def config(self):
        return {}

    def _embed(self, images):
        return np.stack([image.mean(axis=(0, 1)) for image in images]).astype(np.float32)


def settings(report):
    return [(each.provider, each.threads, each.batch) for each in report.speeds]


def test_a_row_for_each_setting():
    report = bench(MODELS / "vit", batches=[1, 3], threads=[1, 2], **QUICK)
    assert settings(report) == [("cpu", 1, 1), ("cpu", 1, 3), ("cpu", 2, 1), ("cpu", 2, 3)]
    assert all(each.network > 0 and each.embed > 0 for each in report.speeds)
    assert report.best.embed == max(each.embed for each in report.speeds)
    assert (report.model, report.side, report.batch_size) == (str(MODELS / "vit"), 64, 1)
    assert (report.texts, report.no_text) == ({}, "")


def test_the_network_alone_is_given_batches_of_the_size(monkeypatch):
    embedder, seen = OnnxEmbedder(MODELS / "vit"), set()
    run = type(embedder.network.session).run
    monkeypatch.setattr(
        type(embedder.network.session),
        "run",
        lambda self, batch, output: seen.add((batch.shape, output)) or run(self, batch, output),
    )
    bench(embedder, batches=[5], threads=[1], **QUICK)
    assert seen == {((5, 3, 64, 64), embedder.network.output)}


@pytest.mark.slow
def test_defaults():
    report = bench(MODELS / "vit", **QUICK)
    counts = sorted({1, worker_count()})
    assert settings(report) == [("cpu", count, batch) for count in counts for batch in (1, 8, 32)]


def test_a_graph_of_a_fixed_batch_is_measured_with_that():
    report = bench(OnnxEmbedder(DATA / "fixed.onnx", preprocess=PLAIN), threads=[1], **QUICK)
    assert settings(report) == [("cpu", 1, 1)]
    assert report.model == "onnx"


def test_a_setting_given_twice_is_measured_once():
    report = bench(
        MODELS / "vit",
        batches=[2, 2],
        threads=[1, 1],
        providers=["cpu", "CPUExecutionProvider"],
        **QUICK,
    )
    assert settings(report) == [("cpu", 1, 2)]


def test_a_model_that_reads_text_is_measured_on_texts():
    report = bench(MODELS / "clip", batches=[1], threads=[1], variant="fp16", **QUICK)
    assert report.texts["cpu"] > 0
    assert " texts/s, cpu" in str(report)


def test_without_tokenizers_the_images_are_measured(monkeypatch):
    def missing(*_):
        raise MissingExtraError.of("searching by words", extra="text")

    monkeypatch.setattr(OnnxEmbedder, "_embed_text", missing)
    report = bench(MODELS / "clip", batches=[1], threads=[1], **QUICK)
    assert (report.texts, len(report.speeds)) == ({}, 1)
    assert "imgret[text]" in report.no_text
    assert str(report).splitlines()[-1] == f"texts: not measured: {report.no_text}"


def test_an_embedder_of_another_kind_has_no_network():
    report = bench(Mean(), batches=[2], threads=[1, 2], **QUICK)
    assert settings(report) == [(None, 1, 2)]  # one thread, as it is not thread-safe
    assert report.speeds[0].network is None
    assert str(report).splitlines()[2].split()[:5] == [">", "-", "1", "2", "-"]


def test_the_faces_of_a_result(tmp_path):
    report = bench(MODELS / "vit", batches=[1], threads=[1], **QUICK)
    facts = json.loads(report.to_json())
    assert facts == report.to_dict()
    assert set(facts["speeds"][0]) == {"provider", "threads", "batch", "network", "embed"}
    report.save(tmp_path / "speed.html")
    report.save(tmp_path / "speed.json")
    assert json.loads((tmp_path / "speed.json").read_text()) == facts
    page = (tmp_path / "speed.html").read_text()
    assert "images of 1000 x 750 pixels" in page
    title, head, row = str(report).splitlines()
    assert title.startswith(f"{MODELS / 'vit'}: 64 px, ")
    assert head.split() == ["provider", "threads", "batch", "network", "embed"]
    assert row.split()[:4] == [">", "cpu", "1", "1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": [0]}, "threads: expected a whole number of at least 1, found 0"),
        ({"batches": [1.5]}, "batches: expected a whole number of at least 1, found 1.5"),
        ({"batches": []}, "batches: expected a list of whole numbers, found []"),
        ({"threads": 2}, "threads: expected a list of whole numbers, found 2"),
        ({"providers": "cpu"}, "providers: expected a list of names, found 'cpu'"),
        ({"providers": []}, "providers: expected a list of names, found []"),
        ({"seconds": 0}, "seconds: expected a number over 0"),
    ],
)
def test_bad_values(options, message):
    with pytest.raises(InvalidInputError, match=f"^{message.replace('[', '.')}"):
        bench(MODELS / "vit", **options)


def test_an_embedder_has_its_own_options():
    with pytest.raises(InvalidInputError, match="found an embedder, which has its own"):
        bench(Mean(), providers=["cpu"])


def test_models_that_cannot_be_measured():
    with pytest.raises(InvalidInputError, match="expected a registered name or an .*Embedder"):
        bench(7)
    with pytest.raises(UnknownNameError, match="no 'saliency'; known: flowers102"):
        bench("saliency")
    from imgret.models import resolve

    with pytest.raises(ModelError, match="of kind 'embedder', found 'saliency'"):
        bench(resolve("saliency"))
    with pytest.raises(ModelError, match=r"expected some of .*\(cpu\), found .*\(coreml\)"):
        bench(MODELS / "vit", providers=["cpu", "coreml"])
