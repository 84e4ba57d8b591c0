"""Images to embeddings: in order, in step, and a bad one costs only itself."""

import hashlib
import os
import threading

import numpy as np
import pytest

from imgret import NoCrop, images
from imgret.errors import (
    ImageCorruptError,
    ImageFormatError,
    ImageNotFoundError,
    InvalidInputError,
)
from imgret.ingest import Source
from imgret.pipeline.embed import embed_sources, worker_count
from imgret.types import Box

THREADS = pytest.mark.parametrize("threads", [1, 4])


def sources_of(datas):
    return [Source(str(n), data) for n, data in enumerate(datas)]


# -- order ---------------------------------------------------------------------------------------


@THREADS
def test_order_and_vectors(kit, threads):
    datas = [kit.picture(n) for n in range(150)]
    outcomes = kit.outcomes_of(sources_of(datas), threads=threads)
    assert [outcome.source.key for outcome in outcomes] == [str(n) for n in range(150)]
    for data, outcome in zip(datas, outcomes, strict=True):
        assert np.allclose(outcome.embedding, kit.vector(data), atol=1e-6)
        assert outcome.box == Box(0, 0, 40, 30)
        assert (outcome.status, outcome.error, outcome.missed) == ("ok", None, False)
        assert outcome.sha256 == hashlib.sha256(data).digest()


def test_threads_make_no_difference(kit):
    datas = [kit.picture(n, size=(20 + n, 50 - n % 30)) for n in range(100)]
    datas[::9] = [b"bad"] * len(datas[::9])
    one, four = (
        kit.outcomes_of(sources_of(datas), cropper=kit.Middle(), threads=threads)
        for threads in (1, 4)
    )
    for a, b in zip(one, four, strict=True):
        assert (a.status, a.reason, a.box, a.subject) == (b.status, b.reason, b.box, b.subject)
        assert np.array_equal(a.embedding, b.embedding) or a.embedding is b.embedding is None


def test_every_kind_of_source(kit, tmp_path):
    data = kit.picture(5)
    (tmp_path / "p.jpg").write_bytes(data)
    array = images.decode(data).image
    with (tmp_path / "p.jpg").open("rb") as file:
        outcomes = kit.outcomes_of(
            [
                Source("path", "ignored", tmp_path / "p.jpg"),
                Source("bytes", data),
                Source("file", file),
                Source("array", array),
                Source("nothing", None),
            ]
        )
    for outcome in outcomes[:4]:
        assert np.allclose(outcome.embedding, kit.vector(data), atol=1e-6)
        assert outcome.box == Box(0, 0, 40, 30)
    status = (tmp_path / "p.jpg").stat()
    assert (outcomes[0].size, outcomes[0].mtime_ns) == (len(data), status.st_mtime_ns)
    assert [o.sha256 is None for o in outcomes] == [False, False, True, True, True]
    assert outcomes[4].status == "failed"


def test_nothing_to_do(kit):
    assert kit.outcomes_of([], threads=4) == []


def test_batches_are_full(kit):
    embedder = kit.MeanColor()
    sizes = []
    embed = embedder._embed
    embedder._embed = lambda batch: (sizes.append(len(batch)), embed(batch))[1]
    datas = [kit.picture(n) for n in range(12)]
    datas.insert(3, b"")
    kit.outcomes_of(sources_of(datas), embedder, threads=1)
    assert sizes == [1, 5, 5, 1]  # one to see how long it takes; a bad image leaves no gap


# -- bad images --------------------------------------------------------------------------------


@THREADS
def test_bad_files_among_good_ones(kit, tmp_path, threads):
    good = kit.picture(3)
    bad = {
        "empty": (b"", ImageCorruptError, "empty"),
        "text": (b"I am a letter, not a picture.", ImageFormatError, ""),
        "cut": (kit.flower()[:-400], ImageCorruptError, "truncated"),
        "folder": (None, ImageNotFoundError, "directory"),
        "link": (None, ImageNotFoundError, "no such file"),
        "missing": (None, ImageNotFoundError, "no such file"),
    }
    sources = []
    for number, (name, (data, _, _)) in enumerate(bad.items()):
        path = tmp_path / f"{name}.jpg"
        if data is not None:
            path.write_bytes(data)
        elif name == "folder":
            path.mkdir()
        elif name == "link":
            path.symlink_to(tmp_path / "nowhere")
        after = tmp_path / f"after-{name}.jpg"
        after.write_bytes(kit.picture(number))
        sources += [Source(name, path, path), Source(f"after-{name}", after, after)]
    sources.append(Source("null", "\0", tmp_path / "nul\0l.jpg"))
    sources.append(Source("good", good))
    outcomes = {
        outcome.source.key: outcome for outcome in kit.outcomes_of(sources, threads=threads)
    }
    assert list(outcomes) == [source.key for source in sources]
    for number, (name, (_, kind, words)) in enumerate(bad.items()):
        outcome = outcomes[name]
        assert (outcome.status, outcome.embedding) == ("failed", None)
        assert isinstance(outcome.error, kind)
        assert words in outcome.reason
        assert str(tmp_path) not in outcome.reason  # the report names the file itself
        assert f"{name}.jpg" in str(outcome.error)
        after = outcomes[f"after-{name}"]
        assert np.allclose(after.embedding, kit.vector(kit.picture(number)), atol=1e-6)
    assert isinstance(outcomes["null"].error, ImageNotFoundError)
    assert np.allclose(outcomes["good"].embedding, kit.vector(good), atol=1e-6)


def test_a_cropper_that_cannot(kit):
    class Broken(kit.Middle):
        def _box(self, image):
            if image.shape[0] == 7:
                raise ZeroDivisionError("seven")
            return super()._box(image)

    datas = [kit.picture(n, size=(40, 7 if n == 2 else 30)) for n in range(5)]
    outcomes = kit.outcomes_of(sources_of(datas), cropper=Broken())
    assert [outcome.status for outcome in outcomes] == ["ok", "ok", "failed", "ok", "ok"]
    assert outcomes[2].reason == "ZeroDivisionError: seven"


@THREADS
def test_embeddings_that_cannot_be_kept(kit, threads):
    """Refused ones cost only themselves."""

    def refuse(embeddings):
        return ["too red" if row[0] > 0.7 else None for row in embeddings]

    datas = [kit.picture(n) for n in range(70)]
    outcomes = kit.outcomes_of(sources_of(datas), threads=threads, refuse=refuse)
    red = [kit.vector(data)[0] > 0.7 for data in datas]
    assert 0 < sum(red) < 70
    assert [outcome.status == "failed" for outcome in outcomes] == red
    assert {o.reason for o in outcomes} == {"", "too red"}
    assert {type(o.error) for o in outcomes} == {type(None), InvalidInputError}


@THREADS
def test_an_embedder_that_raises(kit, threads):
    datas = [kit.picture(n) for n in range(200)]
    with pytest.raises(RuntimeError, match="out of memory"):
        kit.outcomes_of(sources_of(datas), kit.MeanColor(fails_on=100), threads=threads)


def test_who_stops_listening_stops_the_work(kit):
    embedder, before = kit.MeanColor(), set(threading.enumerate())
    runs = kit.embed_sources(sources_of([kit.picture(0)] * 1000), embedder, kit.NoCrop(), threads=2)
    next(runs)
    runs.close()
    assert len(embedder.seen) < 500
    assert not [t for t in {*threading.enumerate()} - before if t.name.startswith("imgret")]


# -- threads -------------------------------------------------------------------------------------


def test_thread_safe_false_is_honoured(kit):
    datas = [kit.picture(n) for n in range(160)]
    embedder, cropper = kit.Alone(), kit.MiddleAlone()
    kit.outcomes_of(sources_of(datas), embedder, cropper, threads=4)
    assert (embedder.most, cropper.most) == (1, 1)
    assert len(embedder.seen) == len(cropper.seen) == 160


def test_thread_safe_false_also_between_calls(kit):
    """Two searches at once share the embedder."""
    embedder, cropper = kit.Alone(), kit.MiddleAlone()
    sources = sources_of([kit.picture(n) for n in range(40)])
    calls = [
        threading.Thread(target=kit.outcomes_of, args=(sources, embedder, cropper), name=f"call{n}")
        for n in range(3)
    ]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    assert (embedder.most, cropper.most) == (1, 1)
    assert len(embedder.seen) == 120


def test_thread_safe_parts_run_side_by_side(kit):
    meeting = threading.Barrier(2, timeout=20)

    class Meets(kit.MeanColor):
        def _embed(self, images_):
            if len(self.seen) == 0:
                meeting.wait()  # passes only when two are here at once
            return super()._embed(images_)

    kit.outcomes_of(sources_of([kit.picture(0)] * 64), Meets(), threads=2)
    assert not meeting.broken


@pytest.mark.parametrize(
    ("n", "threads", "batch", "lengths"),
    [
        (1, 4, 1, [1]),
        # The first run of each worker tells how long an image takes.
        (40, 1, 1, [1, 32, 7]),
        # Few images keep all workers busy, and none has many left when the others are done.
        (10, 2, 1, [1, 1, 2, 2, 1, 1, 1, 1]),
        (100, 2, 1, [1, 1, 25, 19, 14, 10, 8, 6, 4, 3, 3, 2, 1, 1, 1, 1]),
        # As many as the network takes at once, as long as there are any.
        (20, 2, 4, [1, 1, 5, 4, 4, 4, 1]),
        (140, 2, 64, [1, 1, 64, 64, 10]),
        (20, 2, 64, [1, 19]),
    ],
)
def test_the_lengths_of_runs(kit, n, threads, batch, lengths):
    embedder = kit.MeanColor()
    embedder.batch_size = batch
    sources = sources_of([kit.picture(0, size=(8, 8))] * n)
    runs = list(embed_sources(sources, embedder, NoCrop(), threads=threads))
    assert [len(run) for run in runs] == lengths
    assert [outcome.source.key for run in runs for outcome in run] == [str(k) for k in range(n)]


def test_worker_count():
    assert worker_count(3) == 3
    assert 1 <= worker_count() <= (os.cpu_count() or 1)


def test_stages_are_told_in_the_calling_thread(kit):
    told = {}

    def on_stage(stage, seconds):
        assert threading.current_thread() is threading.main_thread()
        told[stage] = told.get(stage, 0.0) + seconds

    datas = [kit.picture(n) for n in range(80)]
    kit.outcomes_of(sources_of(datas), cropper=kit.Middle(), threads=4, on_stage=on_stage)
    assert set(told) == {"read", "decode", "crop", "embed"}
    assert told["crop"] >= 80 * 0.001
    assert told["embed"] >= 80 / 5 * 0.002


# -- boxes ---------------------------------------------------------------------------------------


def framed(size, box):
    """A red rectangle on grey."""
    image = np.full((size[1], size[0], 3), 128, np.uint8)
    image[box.y0 : box.y1, box.x0 : box.x1] = (250, 10, 10)
    return images.encode(image, quality=95)


RED = np.array([250, 10, 10]) / 255


def test_box_of_a_picture_decoded_in_full(kit):
    (outcome,) = kit.outcomes_of(sources_of([kit.picture(1, size=(80, 60))]), cropper=kit.Middle())
    assert outcome.box == Box(20, 15, 60, 45)
    assert (outcome.subject, outcome.missed) == (True, False)


def test_boxes_are_in_pixels_of_the_full_picture(kit):
    box = Box(320, 240, 960, 720)
    embedder, cropper = kit.MeanColor(min_side=10), kit.Middle()
    data = framed((1280, 960), box)
    (outcome,) = kit.outcomes_of(sources_of([data]), embedder, cropper)
    assert cropper.seen == [(120, 160, 3)]  # an eighth: it was decoded reduced
    assert embedder.seen == [(60, 80, 3)]
    assert outcome.box == box
    assert np.allclose(outcome.embedding, RED, atol=0.03)


def test_without_a_cropper_less_is_decoded(kit):
    embedder = kit.MeanColor(min_side=10)
    (outcome,) = kit.outcomes_of(sources_of([kit.picture(0, size=(1280, 960))]), embedder)
    assert embedder.seen == [(120, 160, 3)]
    assert outcome.box == Box(0, 0, 1280, 960)


def test_twice_the_resolution_where_there_is_a_cropper(kit):
    cropping, whole = kit.MeanColor(min_side=10), kit.MeanColor(min_side=10)
    sources = sources_of([kit.picture(0, size=(320, 240))])
    kit.outcomes_of(sources, cropping, kit.Middle(1.0))
    kit.outcomes_of(sources, whole)
    assert (cropping.seen, whole.seen) == ([(60, 80, 3)], [(30, 40, 3)])


def test_a_small_subject_is_read_again(kit):
    box = Box(608, 456, 672, 504)  # a twentieth of each side
    embedder, cropper = kit.MeanColor(min_side=10), kit.Middle(0.05)
    (outcome,) = kit.outcomes_of(sources_of([framed((1280, 960), box)]), embedder, cropper)
    assert cropper.seen == [(120, 160, 3)]
    assert outcome.box == box
    assert embedder.seen == [(48, 64, 3)]  # cut from the full image, not the reduced one
    assert np.allclose(outcome.embedding, RED, atol=0.02)


def test_odd_sizes_stay_inside(kit):
    for size in ((1281, 961), (1279, 959), (1001, 777)):
        embedder = kit.MeanColor(min_side=10)
        (outcome,) = kit.outcomes_of(
            sources_of([kit.picture(0, size=size)]), embedder, kit.Middle(1.0)
        )
        assert outcome.box == Box(0, 0, *size)


def test_no_subject_is_the_whole_picture(kit):
    dark = images.encode(np.zeros((30, 40, 3), np.uint8))
    (outcome,) = kit.outcomes_of(sources_of([dark]), cropper=kit.Middle())
    assert outcome.box == Box(0, 0, 40, 30)
    assert (outcome.subject, outcome.missed) == (False, True)


def test_turned_by_exif(kit):
    """The box counts pixels of the image as shown."""
    exif = bytes.fromhex(
        "ffe10022"
        + b"Exif\0\0".hex()
        + "4d4d002a00000008"
        + "0001"
        + "01120003000000010006000000000000"
    )
    data = kit.picture(0, size=(1280, 640))
    turned = data[:2] + exif + data[2:]
    (outcome,) = kit.outcomes_of(sources_of([turned]), kit.MeanColor(min_side=10), kit.Middle())
    assert outcome.box == Box(160, 320, 480, 960)


def test_queries_are_neither_examined_nor_hashed(kit, tmp_path, monkeypatch):
    """Time, size and hashes are for items of a gallery."""
    path = tmp_path / "a.jpg"
    path.write_bytes(kit.picture(1))
    sources = [Source("0", path, path), Source("1", kit.picture(1))]
    monkeypatch.setattr("imgret.images.perceptual_hash", lambda _: pytest.fail("hashed"))
    ((query, other),) = kit.embed_sources(sources, kit.MeanColor(), kit.NoCrop(), is_query=True)
    assert (query.sha256, query.phash, query.size, query.mtime_ns) == (None,) * 4
    assert other.sha256 is None
    monkeypatch.undo()
    item, _ = kit.outcomes_of(sources)
    assert item.sha256 is not None
    assert item.phash is not None
    np.testing.assert_array_equal(query.embedding, item.embedding)
