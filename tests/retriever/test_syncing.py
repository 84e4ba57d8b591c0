"""Adding a folder again: new, changed, unchanged, renamed, vanished, interrupted."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from imgret import Retriever, images
from imgret.ingest import IngestInterrupted


@pytest.fixture
def counting(mean_color):
    class Counting(type(mean_color)):
        embedded = 0

        def _embed(self, given):
            Counting.embedded += len(given)
            return super()._embed(given)

    return Counting


@pytest.fixture
def retriever(counting, photos):
    made = Retriever(embedder=counting())
    made.add_folder(photos, labels="parent")
    assert counting.embedded == 12
    counting.embedded = 0
    return made


def test_a_renamed_file_is_not_embedded_again(retriever, counting, photos):
    before = retriever.embeddings(["lake/0.jpg"])
    retriever.update("lake/0.jpg", metadata={"kept": True})
    (photos / "lake" / "0.jpg").rename(photos / "sand" / "moved.jpg")
    report = retriever.add_folder(photos, labels="parent")
    assert [(line.key, line.reason) for line in report.renamed] == [
        ("sand/moved.jpg", "was 'lake/0.jpg'")
    ]
    assert (report.vanished, report.duplicate, report.ok) == ([], [], [])
    assert counting.embedded == 0
    item = retriever["sand/moved.jpg"]
    assert (item.label, item.metadata) == ("sand", {"kept": True})
    assert "lake/0.jpg" not in retriever
    np.testing.assert_array_equal(retriever.embeddings(["sand/moved.jpg"]), before)
    assert retriever.search(photos / "sand" / "moved.jpg", k=1)[0].key == "sand/moved.jpg"
    again = retriever.add_folder(photos, labels="parent")
    assert (len(again.skipped), again.total) == (12, 12)


def test_a_renamed_folder(retriever, counting, photos):
    (photos / "lake").rename(photos / "sea")
    report = retriever.add_folder(photos, labels="parent")
    assert len(report.renamed) == 4
    assert counting.embedded == 0
    assert retriever["sea/3.jpg"].label == "sea"
    assert len(retriever) == 12


def test_of_two_copies_one_is_the_renamed_and_one_a_duplicate(retriever, counting, photos):
    shutil.copy(photos / "lake" / "0.jpg", photos / "a.jpg")
    (photos / "lake" / "0.jpg").rename(photos / "b.jpg")
    report = retriever.add_folder(photos)
    assert [line.key for line in report.renamed] == ["a.jpg"]
    assert [line.key for line in report.duplicate] == ["b.jpg"]
    assert counting.embedded == 0
    assert len(retriever) == 13


def test_vanished_files_are_told_and_removed_on_request(retriever, photos):
    (photos / "lake" / "1.jpg").unlink()
    shutil.rmtree(photos / "wood")
    report = retriever.add_folder(photos)
    gone = ["lake/1.jpg", *(f"wood/{n}.jpg" for n in range(4))]
    assert [line.key for line in report.vanished] == gone
    assert "vanished" in str(report)
    assert len(retriever) == 12
    report = retriever.add_folder(photos, prune=True)
    assert [line.key for line in report.vanished] == gone
    assert "removed" in report.vanished[0].reason
    assert len(retriever) == len(retriever.index) == 7
    assert retriever.add_folder(photos, prune=True).vanished == []


def test_pruning_leaves_alone_what_is_not_of_the_folder(retriever, photos, tmp_path, make_picture):
    other = tmp_path / "photos-too"  # a name that begins alike
    other.mkdir()
    (other / "x.jpg").write_bytes(images.encode(make_picture(70), "jpeg"))
    retriever.add_folder(other, prefix="too/")
    retriever.add(make_picture(71), keys="from memory")
    (other / "x.jpg").unlink()
    report = retriever.add_folder(photos, prune=True)
    assert report.vanished == []
    assert len(retriever) == 14
    retriever.add_folder(photos / "lake", prefix="lake/", prune=True)
    assert len(retriever) == 14


def test_labels_given_later_are_taken_over(counting, photos):
    retriever = Retriever(embedder=counting())
    retriever.add_folder(photos)
    assert retriever["lake/0.jpg"].label is None
    retriever.add_folder(photos, labels="parent")
    assert retriever["lake/0.jpg"].label == "lake"
    assert counting.embedded == 12
    retriever.add_folder(photos)  # none given: they stay
    assert retriever["lake/0.jpg"].label == "lake"


def test_an_unreadable_new_version_leaves_the_old_one(retriever, photos):
    (photos / "lake" / "0.jpg").write_text("no image any more")
    report = retriever.add_folder(photos)
    assert [line.key for line in report.failed] == ["lake/0.jpg"]
    assert "lake/0.jpg" in retriever


@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupted_run_tells_what_it_did_and_goes_on(mean_color, photos, tmp_path, threads):
    for n in range(100):
        rng = np.random.default_rng(n)
        data = images.encode(rng.integers(0, 256, (8, 8, 3), np.uint8), "png")
        (photos / f"more-{n:03}.png").write_bytes(data)

    last_straw = images.load(photos / "more-070.png")

    class Interrupted(type(mean_color)):
        def _embed(self, given):
            if any(np.array_equal(image, last_straw) for image in given):
                raise KeyboardInterrupt
            return super()._embed(given)

    path = tmp_path / "g.imgret"
    with (
        pytest.raises(IngestInterrupted) as caught,
        Retriever.open(path, "a", embedder=Interrupted()) as retriever,
    ):
        retriever.add_folder(photos, threads=threads)
    done = caught.value.report
    cut_off = sorted(each.name for each in photos.rglob("*.*")).index("more-070.png")
    # All but the rest of a run of 32 at most, and what another worker had embedded by then.
    assert cut_off - 32 < len(done.ok) <= (cut_off if threads == 1 else 111)
    assert "interrupted: " in str(caught.value)
    with Retriever.open(path, "r+", embedder=mean_color) as retriever:
        assert list(retriever) == done.ok
        report = retriever.add_folder(photos)
        assert (len(report.skipped), len(report.ok)) == (len(done.ok), 112 - len(done.ok))
        assert len(retriever.index) == 112


def test_a_hidden_or_unreadable_place_is_not_vanished(retriever, photos):
    (photos / "lake" / "0.jpg").rename(photos / "lake" / ".0.jpg")
    report = retriever.add_folder(photos)
    assert [line.key for line in report.vanished] == ["lake/0.jpg"]


def test_an_index_that_was_filled_in_part_is_filled_up(mean_color, monkeypatch):
    from imgret.galleries.local import live_index as searcher

    monkeypatch.setattr(searcher, "_PIECE_ITEMS", (10, 10))
    retriever = Retriever(embedder=mean_color)
    retriever._gallery.live._piece = 10
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((100, 48))
    retriever.add_vectors(rows[:20], keys=[f"a{n}" for n in range(20)])
    index, added = retriever.index, []
    whole = type(index).add

    def add(self, vectors, ids):
        if len(added) == 3:
            added.append("failed")
            raise MemoryError
        added.append(len(ids))
        whole(self, vectors, ids)

    monkeypatch.setattr(type(index), "add", add)
    with pytest.raises(MemoryError):
        retriever.add_vectors(rows[20:], keys=[f"b{n}" for n in range(80)])
    assert len(index) == 50
    # They are in the gallery, and what a search finds next is all of them.
    retriever.remove(["b3", "b70"])
    found = {hit.key for hit in retriever.search_vectors(rows[:1], 100)[0]}
    assert found == {*(f"a{n}" for n in range(20)), *(f"b{n}" for n in range(80))} - {"b3", "b70"}


@pytest.mark.slow
@pytest.mark.parametrize("index", ["flat", "exact", "hnsw"])
def test_a_search_between_two_pieces_sees_nothing_of_them(mean_color, monkeypatch, index):
    from imgret.galleries.local import live_index as searcher

    monkeypatch.setattr(searcher, "_PIECE_ITEMS", (10, 10))
    retriever = Retriever(embedder=mean_color, index=index)
    retriever._gallery.live._piece = 10
    rows = np.random.default_rng(0).standard_normal((300, 48))
    retriever.add_vectors(rows[:100], keys=[f"a{n}" for n in range(100)])

    def keys_of(k):
        return [[hit.key for hit in hits] for hits in retriever.search_vectors(rows, k)]

    before = {k: keys_of(k) for k in (1, 5, 100)}
    whole, sizes = type(retriever.index).add, []

    def add(self, vectors, ids):
        sizes.append(len(self))
        if len(self) < 290:  # the last piece is taken in together with what makes all seen
            with ThreadPoolExecutor(1) as pool:
                for k, expected in before.items():
                    assert pool.submit(keys_of, k).result(60) == expected
        whole(self, vectors, ids)

    monkeypatch.setattr(type(retriever.index), "add", add)
    retriever.add_vectors(rows[100:], keys=[f"b{n}" for n in range(200)])
    assert sizes == [*range(100, 300, 10)]
    assert retriever.search_vectors(rows[-1:], 1)[0][0].key == "b199"
