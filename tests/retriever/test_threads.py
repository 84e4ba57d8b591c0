"""Eight threads search while one writes: nothing crashes, and what they see was the case.

``IMGRET_STRESS_SECONDS=60 pytest tests/retriever/test_threads.py`` runs each case for a minute.
"""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest

from imgret import Retriever
from imgret.abc.reranker import Asked, Reranker
from imgret.errors import EmptyGalleryError, InvalidInputError
from imgret.testing.data import Given
from imgret.types import Neighbors

SECONDS = float(os.environ.get("IMGRET_STRESS_SECONDS", "1"))
READERS, GROUP, DIM = 8, 10, 48
# Groups of near-equal vectors, far from each other, each added and removed in one call.
CENTRES = np.random.default_rng(0).standard_normal((60, DIM)).astype(np.float32)


def members(group, generation):
    return [f"{group}.{generation}.{n}" for n in range(GROUP)]


def add(retriever, group, generation):
    noise = np.random.default_rng(generation).standard_normal((GROUP, DIM)) * 0.01
    retriever.add_vectors(
        CENTRES[group] + noise,
        keys=members(group, generation),
        labels=[str(group)] * GROUP,
        metadata=[{"group": group, "generation": generation}] * GROUP,
    )


def write(retriever, deadline, written, indexes):
    """Add, remove, replace and reindex until the time is over."""
    rng = np.random.default_rng(1)
    there = dict.fromkeys(range(len(CENTRES)), 0)
    generation = 0
    while time.monotonic() < deadline:
        generation += 1
        group = int(rng.integers(len(CENTRES)))
        if group in there:
            retriever.remove(members(group, there.pop(group)))
            written["removed"] += 1
        else:
            add(retriever, group, generation)
            there[group] = generation
            written["added"] += 1
        if generation % 40 == 0:
            index = indexes[(generation // 40) % len(indexes)]
            retriever.reindex(index)
            written["reindexed"] += 1


def read(retriever, deadline, seed, seen, wrong, exact):
    """Search for groups: all members are found, or none; an approximate index may miss some."""
    rng = np.random.default_rng(seed)
    while time.monotonic() < deadline:
        groups = rng.integers(len(CENTRES), size=3)
        where = [None, {"group": int(groups[0])}, {"generation": {"$gte": 0}}][seen[seed] % 3]
        found = retriever.search_vectors(CENTRES[groups], GROUP, where=where)
        for group, hits in zip(groups.tolist(), found, strict=True):
            if where is not None and "group" in where:
                group = where["group"]  # noqa: PLW2901
            own = [hit for hit in hits if hit.key.split(".")[0] == str(group)]
            whole = exact or (where is not None and "group" in where)
            if whole and len(own) not in {0, GROUP}:
                wrong.append((where, group, [hit.key for hit in hits]))
            if len({hit.key.split(".")[1] for hit in own}) > 1:
                wrong.append(("two generations", group, [hit.key for hit in hits]))
            if any(hit.label != hit.key.split(".")[0] for hit in hits):
                wrong.append(("label", group, [(hit.key, hit.label) for hit in hits]))
        seen[seed] += 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("indexes", "on_disk"),
    [
        (["flat"], False),
        (["flat", "exact"], True),
        (["hnsw", "hnsw-sq8"], True),
        (["ivf", "ivf-pq"], False),
    ],
    ids=["flat", "flat-disk", "hnsw", "ivf"],
)
def test_searches_see_whole_changes(mean_color, tmp_path, indexes, on_disk):
    options = {"embedder": mean_color, "index": indexes[0], "dtype": "float32"}
    retriever = (
        Retriever.open(tmp_path / "g.imgret", "a", **options) if on_disk else Retriever(**options)
    )
    for group in range(len(CENTRES)):
        add(retriever, group, 0)
    deadline = time.monotonic() + SECONDS
    exact = set(indexes) <= {"flat", "exact"}
    written, seen, wrong, failed = dict.fromkeys(("added", "removed", "reindexed"), 0), {}, [], []

    def guarded(work, *arguments):
        try:
            work(retriever, deadline, *arguments)
        except EmptyGalleryError:
            pass
        except BaseException as error:  # noqa: BLE001  # it is told below
            failed.append(repr(error))

    threads = [threading.Thread(target=guarded, args=(write, written, indexes))]
    for seed in range(READERS):
        seen[seed] = 0
        threads.append(threading.Thread(target=guarded, args=(read, seed, seen, wrong, exact)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS + 60)
    assert not any(thread.is_alive() for thread in threads), "stuck"
    assert failed == []
    assert wrong == [], (wrong[:3], len(wrong), sum(seen.values()), written)
    assert min(seen.values()) > 0
    assert written["added"] + written["removed"] > 0
    print(f"{sum(seen.values())} searches, {written}")  # noqa: T201  # shown by pytest -s
    retriever.close()


@pytest.mark.parametrize("where", [None, {"n": {"$gte": 0}}])
def test_half_of_a_change_is_not_seen(where, monkeypatch):
    """The first piece of a change is in the index, and the last one waits for the search."""
    retriever = Retriever(embedder=Given(2), metric="l2", dtype="float32")
    rows = np.arange(1, 100)[:, None] * np.ones(2)
    facts = [{"n": n} for n in range(len(rows))]
    retriever.add_vectors(rows[-2:], keys=["x", "y"], metadata=facts[:2])
    index = retriever.index
    find, threads, retriever._gallery.live._piece = index.find, [], 16

    def find_meanwhile(*given, **options):
        if not threads:
            keys = [str(n) for n in range(len(rows) - 2)]
            change = {"keys": keys, "metadata": facts[2:]}
            threads.append(
                threading.Thread(target=retriever.add_vectors, args=[rows[:-2]], kwargs=change)
            )
            threads[0].start()
            while len(index) == 2:
                time.sleep(0.001)
        return find(*given, **options)

    monkeypatch.setattr(index, "find", find_meanwhile)
    (hits,) = retriever.search_vectors([[0, 0]], 1, where=where)
    assert [hit.key for hit in hits] == ["x"]
    threads[0].join()
    (hits,) = retriever.search_vectors([[0, 0]], 1, where=where)
    assert [hit.key for hit in hits] == ["0"]


class ChangesOnce(Reranker):
    """Keeps the order, and has the gallery's projection changed while the first search runs."""

    name, scores, candidates = "changes-once", "kept", GROUP

    def __init__(self, change):
        self.changes = [change]

    def _rank(self, asked, k, searched):
        if self.changes:
            self.changes.pop()()
        searched.search(asked.queries, k)  # by vectors of the projection there was
        return Asked(asked.queries, Neighbors(*(part[:, :k] for part in asked.found)))


@pytest.mark.parametrize("where", [None, {"group": {"$lt": 50}}])
@pytest.mark.parametrize("dim", [8, DIM], ids=["fewer", "as-many"])
def test_a_search_is_of_one_projection(mean_color, dim, where):
    retriever = Retriever(embedder=mean_color)
    for group in range(len(CENTRES)):
        add(retriever, group, 0)
    queries = CENTRES[:5]
    for change in (lambda: retriever.project("pca", dim=dim), lambda: retriever.project(None)):
        rerank = ChangesOnce(change)
        found = retriever.search_vectors(queries, GROUP, where=where, rerank=rerank)
        assert not rerank.changes
        after = retriever.search_vectors(queries, GROUP, where=where)
        assert [[(h.key, h.score) for h in hits] for hits in found] == [
            [(h.key, h.score) for h in hits] for hits in after
        ]


@pytest.mark.slow
def test_searches_while_the_projection_changes(mean_color):
    retriever = Retriever(embedder=mean_color)
    for group in range(len(CENTRES)):
        add(retriever, group, 0)
    queries, allowed = CENTRES[:5], []
    for project in (lambda: retriever.project(None), lambda: retriever.project("pca", dim=8)):
        project()
        allowed.append([[h.key for h in hits] for hits in retriever.search_vectors(queries, 3)])
    wrong, searches, done = [], [0], threading.Event()

    def look():
        while not done.is_set():
            try:
                found = retriever.search_vectors(queries, 3)
                searches[0] += 1
                if [[h.key for h in hits] for hits in found] not in allowed:
                    wrong.append(found)
            except BaseException as error:  # noqa: BLE001  # it is told below
                wrong.append(repr(error))

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            retriever.project(None)
            retriever.project("pca", dim=8)
    finally:
        done.set()
        for thread in threads:
            thread.join(60)
    assert searches[0] > 0
    assert wrong == []


def test_scores_are_not_judged_by_a_calibration_of_another_projection(mean_color, make_picture):
    class Projects(type(mean_color)):
        """Has the projection changed while a query is embedded."""

        def _embed(self, images):
            retriever.project("pca", dim=8)
            return super()._embed(images)

    retriever = Retriever(embedder=Projects())
    for group in range(10):
        add(retriever, group, 0)
    retriever.calibrate()
    calibrated = retriever.search_vectors(CENTRES[:1], 3, precision=0.5)[0]
    assert calibrated[0].probability > 0.9
    assert retriever.search(make_picture(0), 3)[0].probability is None
    retriever.project(None)
    assert retriever.calibration is not None
    with pytest.raises(InvalidInputError, match="found a calibration of another projection"):
        retriever.search(make_picture(0), 3, precision=0.5)
