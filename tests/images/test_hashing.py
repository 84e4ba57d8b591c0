"""The perceptual hash and the comparison by pixels, on photos that travel with scikit-image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from imgret import images

NAMES = ("astronaut", "coffee", "chelsea", "rocket", "immunohistochemistry", "retina")


def photo(name):
    return np.ascontiguousarray(images.thumbnail(np.ascontiguousarray(getattr(data, name)()), 400))


def bits(one, other):
    pair = images.hash_array([images.perceptual_hash(one), images.perceptual_hash(other)])
    return int(np.unpackbits(pair[0] ^ pair[1]).sum())


def turns(image):
    """Return the eight ways to lay an image, as `turned_hashes` orders them."""
    exchanged = image.transpose(1, 0, 2)
    return [
        each
        for one in (image, exchanged)
        for each in (one, one[:, ::-1], one[::-1], one[::-1, ::-1])
    ]


@settings(max_examples=40)
@given(
    name=st.sampled_from(NAMES[:5]),
    width=st.integers(100, 700),
    height=st.integers(100, 700),
    quality=st.integers(30, 95),
    light=st.floats(0.6, 1.1),
)
def test_size_quality_and_light_change_few_bits(name, width, height, quality, light):
    image = photo(name)
    copy = images.resize(image, width, height)
    copy = np.clip(copy * light, 0, 255).astype(np.uint8)
    copy = images.load(images.encode(copy, "jpeg", quality=quality))
    assert bits(image, copy) <= 8


@settings(max_examples=20)
@given(
    name=st.sampled_from(NAMES[:5]),
    widths=st.tuples(*[st.integers(0, 40)] * 4),
    color=st.integers(0, 255),
)
def test_a_border_changes_few_bits(name, widths, color):
    image = photo(name)
    top, bottom, left, right = widths
    framed = np.pad(image, ((top, bottom), (left, right), (0, 0)), constant_values=color)
    assert bits(image, framed) <= 12


def test_turned_hashes_are_those_of_turned_images():
    for name in NAMES[:3]:
        image = photo(name)
        expected = images.turned_hashes(images.hash_array([images.perceptual_hash(image)]))[:, 0]
        for turned, hash_ in zip(turns(image), expected, strict=True):
            own = images.hash_array([images.perceptual_hash(np.ascontiguousarray(turned))])[0]
            # Which of the lines of a large image are read depends on where they begin.
            assert int(np.unpackbits(own ^ hash_).sum()) <= 2


def test_different_photos_differ_in_many_bits():
    for n, name in enumerate(NAMES):
        for other in NAMES[:n]:
            assert bits(photo(name), photo(other)) > 12


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (3, 2), (2000, 1)])
def test_any_shape_has_a_hash(shape):
    image = np.full((*shape, 3), 200, dtype=np.uint8)
    assert len(images.perceptual_hash(image)) == 8
    assert not images.is_copy(images.sketch(image), images.sketch(image))  # nothing to see


def sketch(image):
    return images.sketch(np.ascontiguousarray(image))


@pytest.mark.parametrize("name", NAMES[:3])
def test_copies_are_known_by_their_pixels(name):
    image = photo(name)
    one = images.sketch(image)
    height, width = image.shape[:2]
    part = image[height // 5 : height // 5 + height * 3 // 5, width // 4 : width * 9 // 10]
    assert images.is_copy(sketch(part), one)
    assert images.is_copy(one, sketch(part))
    assert images.is_copy(sketch(images.resize(image, width, height * 3 // 4)), one)
    gray = np.repeat(np.rint(image.mean(axis=2, keepdims=True)).astype(np.uint8), 3, axis=2)
    assert images.is_copy(sketch(gray), one)
    assert images.is_copy(images.mirrored(sketch(image[:, ::-1])), one)
    assert one.nbytes < 120_000


def test_other_photos_are_no_copies():
    sketches = [images.sketch(photo(name)) for name in NAMES]
    for n, one in enumerate(sketches):
        for other in sketches[:n]:
            assert not images.is_copy(one, other)
            assert not images.is_copy(images.mirrored(one), other)


def shot_again(image):
    """Move what an image shows by up to 4 pixels, here this way and there that, and cut it."""
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width]
    rows = np.clip(np.rint(y + 4 * np.sin(x / 60)), 0, height - 1).astype(int)
    columns = np.clip(np.rint(x + 4 * np.sin(y / 45)), 0, width - 1).astype(int)
    return image[rows, columns][height // 10 :, width // 10 :]


@pytest.mark.parametrize("name", NAMES[:3])
def test_another_shot_of_a_scene_is_no_copy(name):
    image = photo(name)
    assert not images.is_copy(sketch(shot_again(image)), images.sketch(image))


def test_a_framed_drawing_is_a_copy():
    """It has few points of interest, but is the same without the frame."""
    y, x = np.mgrid[:300, :300]
    drawing = np.full((300, 300, 3), 255, dtype=np.uint8)
    drawing[(x - 150) ** 2 + (y - 150) ** 2 < 155**2] = 0
    drawing[(x - 190) ** 2 + (y - 120) ** 2 < 60**2] = 255
    framed = np.pad(drawing, ((30, 30), (30, 30), (0, 0)), constant_values=120)
    assert bits(drawing, framed) <= 2
    assert images.is_copy(sketch(drawing), sketch(framed), near=True)
    without = drawing.copy()
    without[(x - 190) ** 2 + (y - 120) ** 2 < 60**2] = 0
    assert not images.is_copy(sketch(without), sketch(framed), near=True)


def test_points_of_the_mirror_image_follow_from_those_of_the_image():
    image = photo("astronaut")
    derived = images.mirrored(sketch(image)).features
    found = sketch(image[:, ::-1]).features
    apart = np.hypot(*(derived.points[:, None] - found.points[None]).T).T
    nearest = apart.argmin(axis=1)
    same = apart.min(axis=1) < 0.2
    assert same.mean() > 0.8
    off = derived.descriptors[same].astype(int) - found.descriptors[nearest[same]]
    # A place may have two points that look in different directions.
    assert np.median(np.linalg.norm(off, axis=1)) < 60


@pytest.mark.parametrize("name", NAMES[:3])
def test_overexposed_and_dark_copies(name):
    image = photo(name)
    for light in (0.35, 2.5):
        lit = np.minimum(image * light, 255).astype(np.uint8)
        assert images.is_copy(sketch(lit), sketch(image))
        height, width = image.shape[:2]
        part = lit[height // 8 :, : width * 7 // 8]
        assert images.is_copy(sketch(part), sketch(image))


@pytest.mark.parametrize("name", NAMES[:3])
def test_large_letters_do_not_hide_an_image_but_another_subject_does(name):
    image = photo(name)
    marked, moved = image.copy(), image.copy()
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    letters = (y % 80 < 22) & (x % 30 < 18) & ~((y % 80 > 10) & (y % 80 < 20) & (x % 60 < 20))
    marked[letters] = 255
    assert images.is_copy(sketch(image), sketch(marked), near=True)
    subject = np.hypot(y - y.max() / 2, x - x.max() / 2) < 0.42 * y.max()  # before a still camera
    moved[subject] = image[::-1, ::-1][subject]
    assert not images.is_copy(sketch(image), sketch(moved), near=True)


def test_colors_are_laid_over_each_other_exactly():
    """Stripes of a few pixels would be beside each other if they were off by one of them."""
    image = photo("coffee").copy()
    image[:, ::24, 0] = 255
    image[::24, :, 1] = 255
    turned = image.transpose(1, 0, 2)[::-1]
    assert images.is_copy(sketch(turned), sketch(image))


def test_another_color_is_no_copy():
    image = photo("coffee")
    assert not images.is_copy(sketch(image[:, :, [2, 1, 0]]), images.sketch(image))


def test_blur_lowers_sharpness():
    image = photo("chelsea")
    small = images.thumbnail(image, 200)
    enlarged = images.resize(small, image.shape[1], image.shape[0])
    assert images.sharpness(enlarged) < 0.5 * images.sharpness(image)
    assert images.sharpness(np.full((20, 20, 3), 7, dtype=np.uint8)) == 0
