"""Files of the same bytes are decoded and embedded once in a run, whatever runs beside."""

import threading
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgret import Retriever, images
from imgret.croppers import NoCrop
from imgret.ingest import writer
from imgret.pipeline import embed as pipeline


@pytest.fixture
def counting(mean_color):
    class Counting(type(mean_color)):
        def __init__(self, pause=0.0):
            super().__init__()
            self.embedded = 0
            self.pause = pause
            self.lock = threading.Lock()

        def _embed(self, given):
            with self.lock:
                self.embedded += len(given)
            time.sleep(self.pause)
            return super()._embed(given)

    return Counting


@pytest.fixture
def encoded(make_picture):
    return [images.encode(make_picture(seed), "jpeg", quality=90) for seed in range(40)]


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_file_six_hundred_times(counting, encoded, tmp_path, threads):
    for n in range(600):
        (tmp_path / f"{n:03}.jpg").write_bytes(encoded[0])
    embedder = counting(pause=0.01)
    retriever = Retriever(embedder=embedder)
    report = retriever.add_folder(tmp_path, threads=threads)
    assert embedder.embedded == 1
    assert report.ok == ["000.jpg"]
    assert {line.reason for line in report.duplicate} == {"the same bytes as '000.jpg'"}
    assert len(report.duplicate) == 599
    rows = retriever.embeddings(list(retriever))
    assert len(rows) == 600
    assert (rows == rows[0]).all()
    whole = Retriever(embedder=counting())
    whole.add(encoded[0], keys="x")
    np.testing.assert_array_equal(rows[0], whole.embeddings(["x"])[0])


@pytest.mark.slow
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=120),
    st.sampled_from([1, 3]),
    st.sampled_from(["add", "skip"]),
    st.sampled_from([(32, 512, 2048), (1, 4, 8), (4, 1, 1), (3, 7, 8)]),
)
def test_contents_are_embedded_once_and_belong_to_their_keys(
    counting, encoded, contents, threads, duplicates, sizes
):
    """Whatever the order, the workers, and when is committed and let go of."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "_RUN", sizes[0])
        patch.setattr(writer, "_COMMIT_ITEMS", sizes[1])
        patch.setattr(pipeline, "_AT_HAND", sizes[2])
        embedder = counting()
        retriever = Retriever(embedder=embedder)
        keys = [str(n) for n in range(len(contents))]
        report = retriever.add(
            [encoded[content] for content in contents],
            keys=keys,
            threads=threads,
            duplicates=duplicates,
        )
    assert embedder.embedded == len(set(contents))
    first = {content: str(contents.index(content)) for content in contents}
    assert report.ok == sorted(first.values(), key=int)
    assert [(line.key, line.reason) for line in report.duplicate] == [
        (key, f"the same bytes as {first[content]!r}")
        for key, content in zip(keys, contents, strict=True)
        if first[content] != key
    ]
    alone = Retriever(embedder=counting())
    alone.add(encoded[:10], keys=[str(n) for n in range(10)])
    stored = {key: content for key, content in zip(keys, contents, strict=True) if key in retriever}
    assert len(stored) == (len(keys) if duplicates == "add" else len(first))
    np.testing.assert_array_equal(
        retriever.embeddings(list(stored)), alone.embeddings([str(n) for n in stored.values()])
    )


@pytest.mark.parametrize("form", ["bytes", "paths"])
def test_lists(counting, encoded, tmp_path, form):
    given_ = [encoded[n % 3] for n in range(100)]
    if form == "paths":
        for n, data in enumerate(given_):
            (tmp_path / f"{n}.jpg").write_bytes(data)
        given_ = [tmp_path / f"{n}.jpg" for n in range(100)]
    embedder = counting(pause=0.005)
    retriever = Retriever(embedder=embedder)
    report = retriever.add(given_, keys=[str(n) for n in range(100)], threads=3)
    assert (embedder.embedded, report.ok) == (3, ["0", "1", "2"])
    rows = retriever.embeddings([str(n) for n in range(100)])
    assert (rows == rows[np.arange(100) % 3]).all()


def test_copies_of_what_cannot_be_read_fail_each(counting, encoded):
    broken = encoded[0][:-200]
    embedder = counting()
    retriever = Retriever(embedder=embedder)
    report = retriever.add([broken, encoded[1]] * 40, threads=3)
    assert len(report.failed) == 40
    assert len({line.reason for line in report.failed}) == 1
    assert (embedder.embedded, len(retriever)) == (1, 40)


def test_boxes_of_copies(counting, encoded):
    retriever = Retriever(embedder=counting(), cropper="center")
    retriever.add([encoded[0]] * 3, keys=["a", "b", "c"])
    assert retriever["a"].box == retriever["b"].box == retriever["c"].box
    assert retriever["a"].box.width < 48


def test_another_run_embeds_none_of_them(counting, encoded):
    embedder = counting()
    retriever = Retriever(embedder=embedder)
    retriever.add([encoded[0]] * 5)
    retriever.add([encoded[0], encoded[1]] * 5)
    assert embedder.embedded == 2


def test_what_is_kept_at_hand_is_bounded(counting, encoded, monkeypatch):
    monkeypatch.setattr(pipeline, "_AT_HAND", 8)
    monkeypatch.setattr(writer, "_COMMIT_ITEMS", 4)
    held = []
    whole = pipeline._Copies.release

    def release(self, outcomes):
        whole(self, outcomes)
        held.append(len(self._first))

    monkeypatch.setattr(pipeline._Copies, "release", release)
    monkeypatch.setattr(pipeline, "_RUN", 4)
    embedder = counting()
    embedder.batch_size = 4
    retriever = Retriever(embedder=embedder)
    retriever.add(encoded * 3, threads=1)
    assert embedder.embedded == 40  # the store lends what is no longer at hand
    assert max(held) <= 8 + 3 * 4  # those at hand, and the runs under way
    assert len(retriever) == 120


def test_copies_without_a_cropper_are_embedded_again(counting, encoded, tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(encoded[0])
    embedder = counting()
    retriever = Retriever(embedder=embedder, cropper="center")
    retriever.add_folder(tmp_path)
    report = retriever.keep_whole(["a.jpg"])
    assert report.ok == ["a.jpg"]
    assert retriever["a.jpg"].box.width == 48
    assert retriever["b.jpg"].box.width < 48
    assert not np.array_equal(*retriever.embeddings(["a.jpg", "b.jpg"]))


def test_a_slow_model_takes_shorter_runs(counting, encoded, monkeypatch):
    monkeypatch.setattr(pipeline, "_RUN_SECONDS", 0.05)
    lengths = []
    whole = pipeline._Worker.__call__

    def call(self, run):
        lengths.append(len(run.outcomes))
        return whole(self, run)

    monkeypatch.setattr(pipeline._Worker, "__call__", call)
    Retriever(embedder=counting(pause=0.05)).add(
        [*encoded, *(d + b" " for d in encoded)], threads=1
    )
    assert lengths[:3] == [1, 1, 1]
    assert sum(lengths) == 80


def test_who_stops_asking_waits_for_one_image_a_worker(encoded, mean_color, monkeypatch):
    whole, decoded = images.decode, []

    def slow(data, **options):
        decoded.append(data)
        time.sleep(0.05)
        return whole(data, **options)

    monkeypatch.setattr(images, "decode", slow)
    sources = [pipeline.Source(str(n), encoded[n % 40] + bytes([n])) for n in range(200)]
    runs = pipeline.embed_sources(sources, mean_color, NoCrop(), threads=2)
    next(runs)
    before = len(decoded)
    runs.close()
    assert len(decoded) <= before + 4


def test_commits_go_by_time_as_well(counting, encoded, tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "_COMMIT_SECONDS", 0.0)

    embedder = counting()
    path = tmp_path / "g.imgret"
    with Retriever.open(path, "a", embedder=embedder) as retriever:
        whole, seen = retriever._gallery.live.follow, []

        def follow():
            whole()
            with Retriever.open(path, "r", embedder=embedder) as reader:
                seen.append(len(reader))

        monkeypatch.setattr(retriever._gallery.live, "follow", follow)
        retriever.add([*encoded, *(d + b" " for d in encoded)], threads=1)
    assert list(dict.fromkeys(seen)) == [0, 1, 33, 65, 80]
