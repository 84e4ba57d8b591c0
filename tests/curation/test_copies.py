"""Duplicates without a threshold: copies are found, and only copies, also without their files."""

import json
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
from skimage import data

from imgret import Retriever, images
from imgret.curation import copies as module
from imgret.curation import find_duplicates
from imgret.errors import EmptyGalleryError, ImageNotFoundError

PHOTOS = ("astronaut", "coffee", "chelsea", "immunohistochemistry")


def photo(name):
    return np.ascontiguousarray(getattr(data, name)())


def marked(image):
    shown = image.copy()
    height, width = image.shape[:2]
    stripe = shown[height // 2 : height // 2 + height // 12, width // 8 : -width // 8]
    stripe[:, ::2] = 255
    return shown


def crop(image, share):
    height, width = (round(side * share) for side in image.shape[:2])
    return image[20 : 20 + height, 30 : 30 + width]


COPIES = {
    "small": lambda image: images.thumbnail(image, 160),
    "crop": lambda image: crop(image, 0.7),
    "mirror": lambda image: image[:, ::-1],
    "turned": lambda image: image.transpose(1, 0, 2)[::-1],
    "border": lambda image: np.pad(image, ((30, 30), (30, 30), (0, 0)), constant_values=255),
    "marked": marked,
    "dark": lambda image: (image * 0.6).astype(np.uint8),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photos that travel with scikit-image, and copies of each."""
    root = tmp_path_factory.mktemp("copies")
    for name in PHOTOS:
        image = photo(name)
        (root / f"{name}.png").write_bytes(images.encode(image, "png"))
        for kind, copy in COPIES.items():
            (root / f"{name}-{kind}.jpg").write_bytes(
                images.encode(np.ascontiguousarray(copy(image)), "jpeg", quality=60)
            )
    return root


@pytest.fixture(scope="module")
def made(folder):
    retriever = Retriever()
    retriever.add_folder(folder, progress=False)
    return retriever


def names(groups):
    return {frozenset(group.keys) for group in groups}


EVERY = {frozenset([f"{name}.png", *(f"{name}-{kind}.jpg" for kind in COPIES)]) for name in PHOTOS}


@pytest.mark.slow
def test_every_copy_is_found_and_nothing_else(made):
    told = []
    groups = made.duplicates(progress=lambda done, total: told.append((done, total)))
    assert names(groups) == EVERY
    assert groups.n_removable == len(PHOTOS) * len(COPIES)
    assert groups.n_unhashed == 0
    assert told[-1][0] == told[-1][1]
    assert all(0 < group.score < 1 for group in groups)


def test_without_files_the_hashes_decide(made):
    with patch.object(module, "_image", lambda item, max_pixels: None):
        groups = made.duplicates()
    for group in groups:
        assert len({key.split("-")[0].split(".")[0] for key in group.keys}) == 1
    # A hash tells nothing of crops; of the other kinds it finds nearly all.
    assert sum(len(group.keys) for group in groups) >= 0.7 * len(made)


@pytest.mark.slow
def test_hashes_that_are_missing_are_computed_and_kept(folder, tmp_path):
    with Retriever.open(tmp_path / "g.imgret", "a") as retriever:
        retriever.add_folder(folder, progress=False)
        gallery = retriever._gallery
        before = {item.key: item.phash for item in retriever.view().items()}
        assert all(len(hash_) == 8 for hash_ in before.values())
        gallery.change({item.key: replace(item, phash=None) for item in retriever.view().items()})
        retriever.add_vectors(retriever.embeddings(["chelsea.png"]), keys=["no image"])
        groups = retriever.duplicates()
        after = {item.key: item.phash for item in retriever.view().items()}
    assert after.pop("no image") is None
    assert after.keys() == before.keys()
    # Files are decoded at a reduced scale, so a bit may differ.
    assert np.mean([after[key] == before[key] for key in after]) > 0.5
    assert groups.n_unhashed == 1
    assert "1 images could not be compared" in str(groups)
    assert {len(group.keys) for group in groups} == {
        len(COPIES) + 1,
        len(COPIES) + 2,
    }  # with "no image"


def test_vectors_without_images_are_duplicates_if_equal(gallery_of):
    vectors = np.random.default_rng(0).normal(size=(40, 8))
    vectors[30] = vectors[3]
    vectors[31] = vectors[4] + 1e-3
    groups = gallery_of(vectors).duplicates()
    assert names(groups) == {frozenset({"3", "30"})}
    assert groups.n_unhashed == 40
    assert json.loads(groups.to_json())["n_unhashed"] == 40


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_one_item_and_every_metric(gallery_of, metric):
    assert not gallery_of(np.eye(3)[:1], metric=metric).duplicates()
    assert len(gallery_of(np.ones((30, 4)), metric=metric).duplicates()) == 1


@pytest.mark.slow
def test_copies_of_a_new_image(made):
    image = crop(photo("coffee"), 0.8)
    found = made.duplicates_of(image)
    assert {copy.key for copy in found} == next(g for g in EVERY if "coffee.png" in g)
    assert [copy.score for copy in found] == sorted((c.score for c in found), reverse=True)
    assert "coffee.png" in str(found)
    assert "<img" in found._repr_html_()
    assert not made.duplicates_of(photo("rocket"))
    with pytest.raises(ImageNotFoundError):
        made.duplicates_of("nowhere.jpg")
    with pytest.raises(EmptyGalleryError):
        Retriever().duplicates_of(image)


def test_a_part_of_a_gallery(made):
    some = made.view({"key": {"$in": ["coffee.png", "coffee-dark.jpg", "chelsea.png"]}})
    assert names(find_duplicates(some)) == {frozenset({"coffee.png", "coffee-dark.jpg"})}


def test_many_copies_cost_no_square(made, gallery_of):
    """Equal hashes are compared with one another only in a row."""
    hashes = module.Hashes(np.arange(500), np.zeros((500, 8), dtype=np.uint8), {})
    vectors = np.random.default_rng(0).normal(size=(500, 8))
    pairs = module.candidates(gallery_of(vectors).view(), hashes)
    assert int((pairs.bits == 0).sum()) <= 2 * 500
    assert (pairs.a < pairs.b).all()


def bits_apart(hashes):
    """Return the bits in which each two differ, at best over mirroring and turning the first."""
    turned = images.turned_hashes(hashes)
    return np.bitwise_count(turned[:, :, None] ^ hashes[None, None]).sum(axis=3).min(axis=0)


def test_near_hashes_are_paired_in_every_position(gallery_of):
    rng = np.random.default_rng(3)
    hashes = rng.integers(0, 256, (60, 8), dtype=np.uint8)
    for place in range(40):  # the first 5 in all positions, with some bits changed
        hashes[20 + place] = images.turned_hashes(hashes[:5])[place // 5, place % 5]
        hashes[20 + place, : place % 3 + 1] ^= 1
    vectors = rng.normal(size=(60, 8))
    pairs = module.candidates(gallery_of(vectors).view(), module.Hashes(np.arange(60), hashes, {}))
    near = pairs.bits <= module.RADIUS
    apart = bits_apart(hashes)
    assert (apart[pairs.a[near], pairs.b[near]] == pairs.bits[near]).all()
    assert int(near.sum()) == int((apart[np.triu_indices(60, 1)] <= module.RADIUS).sum())


def test_many_near_hashes_are_joined_by_few_pairs(gallery_of):
    """A placeholder in a thousand sizes is not a million pairs, but one group."""
    rng = np.random.default_rng(4)
    bits = np.unpackbits(rng.integers(0, 256, (1, 8), dtype=np.uint8), axis=1).repeat(1000, 0)
    np.put_along_axis(bits, rng.integers(0, 64, (1000, 4)), 1, axis=1)
    hashes = module.Hashes(np.arange(1000), np.packbits(bits, axis=1), {})
    pairs = module.candidates(gallery_of(rng.normal(size=(1000, 8))).view(), hashes)
    near = pairs.bits <= module.RADIUS
    assert int(near.sum()) < 12 * 1000
    joined = module.Joined(1000)
    for a, b in zip(pairs.a[near].tolist(), pairs.b[near].tolist(), strict=True):
        joined.add(a, b)
    assert len({joined.root(place) for place in range(1000)}) == 1
