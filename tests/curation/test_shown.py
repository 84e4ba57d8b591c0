"""Lists of duplicates, outliers, label issues and clusters show their images."""

import json
from unittest.mock import patch

import numpy as np
import pytest

from imgret import Retriever, images


@pytest.fixture
def gallery(mean_color, photos, make_picture):
    """Twelve photos, two of them twice, and one with the label of others."""
    for label in ("lake", "wood"):
        (photos / label / "again.jpg").write_bytes((photos / label / "0.jpg").read_bytes())
    made = Retriever(embedder=mean_color)
    made.add_folder(photos, labels="parent")
    return made


def n_images(result):
    return result._repr_html_().count("data:image/jpeg;base64,")


def test_duplicates(gallery):
    groups = gallery.duplicates(0.9999)
    assert isinstance(groups, list)
    assert len(groups) == groups.n_removable == 2
    assert n_images(groups) == 4
    assert n_images(groups[:1]) == 2
    assert json.loads(groups.to_json())["groups"][0]["keys"] == list(groups[0].keys)
    assert "2 groups; removing 2 images would leave no duplicates" in groups._repr_html_()
    assert str(groups).startswith("2 images, score 1.0000\n  ")
    assert groups == list(groups)


def test_a_removed_image_is_named(gallery, photos):
    groups = gallery.duplicates(0.9999)
    (photos / groups[0].keys[0]).unlink()
    shown = groups._repr_html_()
    assert "there is no such file" in shown
    assert groups[0].keys[0] in shown


def test_many_and_large_groups_are_cut_and_counted(mean_color):
    made = Retriever(embedder=mean_color)
    vectors = np.repeat(np.eye(48)[:40], 10, axis=0)
    made.add_vectors(vectors, keys=[f"k{n}" for n in range(400)])
    shown = made.duplicates(0.99)._repr_html_()
    assert "and 15 more groups" in shown
    assert shown.count("and 4 more</p>") == 25
    assert shown.count("no image stored") == 150


def test_a_part_behind_the_groups_that_a_page_shows(mean_color):
    made = Retriever(embedder=mean_color)
    made.add_vectors(np.repeat(np.eye(48)[:3], 2, axis=0), keys=list("abcdef"))
    with patch("imgret.curation.duplicates._MOST", 1):
        groups = made.duplicates(0.99)
    assert "and 2 more groups; move these first" in groups.to_html()
    assert "2 groups are behind those that a page shows" in groups[1:].to_html()


def test_outliers(gallery):
    outliers = gallery.outliers(5)
    assert n_images(outliers) == 5
    assert n_images(outliers[1:3]) == 2
    assert [row["key"] for row in outliers.to_dict()["outliers"]] == [one.key for one in outliers]
    assert f"{outliers[0].score:.4f}  {outliers[0].key}" in str(outliers)


def test_a_gallery_of_one_has_no_outliers(mean_color):
    made = Retriever(embedder=mean_color)
    made.add_vectors(np.eye(48)[:1], keys=["a"])
    assert made.outliers() == []
    assert "0 outliers" in made.outliers()._repr_html_()


def test_label_issues_stand_beside_their_neighbours(mean_color, make_picture, tmp_path):
    made = Retriever(embedder=mean_color)
    for number in range(12):
        picture = make_picture(number // 6).astype(int) + number % 6
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(images.encode(np.clip(picture, 0, 255).astype(np.uint8)))
        label = "ant" if number < 6 and number != 3 else "tick"
        made.add(path, keys=f"{number}", labels=label)
    issues = made.mislabelled(k=4)
    (issue,) = issues
    assert (issue.key, issue.label, issue.suggested) == ("3", "tick", "ant")
    assert n_images(issues) == 6
    shown = issues._repr_html_()
    assert f"tick, or ant? {issue.confidence:.2f}" in shown
    assert "3.jpg" in shown
    assert issues.to_dict()["issues"][0]["suggested"] == "ant"
    assert str(issues) == f"3: tick, or ant? {issue.confidence:.2f}"


def test_clusters(gallery):
    clusters = gallery.clusters(3)
    assert [keys[0] for keys in clusters.nearest] == list(clusters.representatives)
    for number, keys in enumerate(clusters.nearest):
        assert set(keys) <= set(clusters.members(number))
        assert len(keys) == min(6, clusters.sizes[number])
    assert n_images(clusters) == sum(map(len, clusters.nearest))
    assert str(clusters).count("\n") == 3
