"""What transparent images are laid over: shapes stay apart whatever their colour."""

import io
from importlib.util import find_spec

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pil

from imgret import Retriever, images


def shape(name, size=96):
    """Alpha of a white icon, edges smoothed."""
    y, x = np.mgrid[: size * 4, : size * 4] / (size * 2) - 1
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    inside = {
        "disc": radius < 0.7,
        "cross": (np.minimum(abs(x), abs(y)) < 0.2) & (np.maximum(abs(x), abs(y)) < 0.8),
        "star": radius < 0.45 + 0.3 * np.cos(5 * angle),
    }[name]
    return cv2.resize(inside.astype(np.uint8) * 255, (size, size), interpolation=cv2.INTER_AREA)


def icon(alpha, color):
    return np.dstack([np.broadcast_to(np.uint8(color), (*alpha.shape, 3)), alpha])


def corner(image):
    return image[0, 0].tolist()


WHITE, GRAY, BLACK = [255] * 3, [128] * 3, [0] * 3


@pytest.mark.parametrize(
    ("color", "ground"),
    [
        (BLACK, WHITE),
        (GRAY, WHITE),
        ([200, 200, 200], WHITE),
        ([220, 30, 30], WHITE),
        ([255, 255, 0], WHITE),
        (WHITE, GRAY),
        ([245, 245, 245], GRAY),
        ([255, 250, 240], GRAY),
    ],
)
def test_the_ground_is_white_unless_the_outline_would_vanish(color, ground):
    alpha = shape("star")
    image = images.load(icon(alpha, color))
    assert corner(image) == ground
    assert image[48, 48].tolist() == color
    assert np.unique(image[alpha == 255], axis=0).tolist() == [color]


def test_white_beside_gray_is_laid_over_black():
    both = icon(shape("disc"), WHITE)
    both[:, 48:, :3] = 128
    assert corner(images.load(both)) == BLACK


def test_white_inside_a_dark_shape_leaves_it_over_white():
    logo = icon(shape("disc"), [20, 40, 120])
    logo[30:60, 30:60, :3] = 255
    assert corner(images.load(logo)) == WHITE


def test_white_beside_dark_is_seen():
    pair = np.hstack([icon(shape("disc"), BLACK), icon(shape("star"), WHITE)])
    image = images.load(pair)
    assert corner(image) == GRAY


def test_what_is_fully_transparent_never_counts():
    alpha = shape("disc")
    for hidden in (0, 128, 255):
        logo = icon(alpha, BLACK)
        logo[alpha == 0, :3] = hidden
        assert corner(images.load(logo)) == WHITE
        logo = icon(alpha, WHITE)
        logo[alpha == 0, :3] = hidden
        assert corner(images.load(logo)) == GRAY


@pytest.mark.parametrize("color", [0, 128, 255])
def test_nothing_to_see_is_white(color):
    clear = np.full((8, 8, 4), color, np.uint8)
    clear[:, :, 3] = 0
    assert (images.load(clear) == 255).all()


def test_an_opaque_image_stays_as_it_is():
    rgb = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    opaque = np.dstack([rgb, np.full((20, 30), 255, np.uint8)])
    np.testing.assert_array_equal(images.load(opaque), rgb)


@pytest.mark.slow
@pytest.mark.parametrize("size", [16, 32, 96, 400])
def test_the_ground_is_the_same_at_every_size(size):
    for name in ("disc", "cross", "star"):
        assert corner(images.load(icon(shape(name, size), WHITE))) == GRAY
        assert corner(images.load(icon(shape(name, size), [20, 40, 120]))) == WHITE


@given(
    color=st.tuples(*[st.integers(0, 255)] * 3),
    name=st.sampled_from(["disc", "cross", "star"]),
    most=st.sampled_from([255, 128, 40]),
)
def test_an_outline_of_any_colour_is_seen(color, name, most):
    alpha = (shape(name, 48) * (most / 255)).astype(np.uint8)
    image = images.load(icon(alpha, color)).astype(int)
    seen = np.abs(image[24, 24] - image[0, 0]).max()
    assert seen >= 20 * most / 255


def save(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def carriers(alpha):
    """One white shape in everything that carries transparency."""
    picture = Pil.fromarray(icon(alpha, WHITE))
    hard = Pil.fromarray(icon(np.where(alpha > 127, 255, 0).astype(np.uint8), WHITE))
    two = Pil.fromarray((np.asarray(hard)[:, :, 3] // 255).astype(np.uint8), "P")
    two.putpalette([255, 255, 255] * 2)
    deep = np.asarray(picture).astype(np.uint16) * 257
    gray = np.where(alpha > 127, 255, 254).astype(np.uint8)  # 254 stands for transparency
    found = {
        "png": save(picture, "PNG"),
        "png grey": save(picture.convert("LA"), "PNG"),
        "png palette": save(two, "PNG", transparency=0),
        "png palette, many": save(two, "PNG", transparency=bytes([0, 255])),
        "png tRNS": save(Pil.fromarray(gray), "PNG", transparency=254),
        "png 16 bits": cv2.imencode(".png", deep)[1].tobytes(),
        "gif": save(two, "GIF", transparency=0),
        "webp": save(picture, "WEBP", lossless=True),
        "tiff": save(picture, "TIFF"),
        "avif": save(picture, "AVIF", quality=95),
        "array": np.asarray(picture),
        "PIL": picture,
        "PIL grey": picture.convert("LA"),
        "PIL premultiplied": picture.convert("RGBa"),
        "PIL palette": Pil.open(io.BytesIO(save(two, "GIF", transparency=0))),
    }
    if find_spec("pillow_heif"):
        import pillow_heif

        file = io.BytesIO()
        pillow_heif.from_pillow(picture).save(file, quality=95)
        found["heic"] = file.getvalue()
    return found


@pytest.mark.parametrize("name", carriers(shape("disc")))
def test_every_carrier_of_transparency_has_the_same_ground(name):
    image = images.load(carriers(shape("disc"))[name])
    assert np.abs(image[:8, :8].astype(int) - 128).max() <= 3
    assert np.abs(image[40:56, 40:56].astype(int) - 255).max() <= 3


def test_white_icons_are_no_copies_of_each_other():
    """Laid over white, their embeddings are all the same."""
    retriever = Retriever()
    shapes = ["disc", "cross", "star"]
    found = {f"white {name}": icon(shape(name), WHITE) for name in shapes}
    found["black star"] = icon(shape("star"), BLACK)
    found["red star"] = icon(shape("star"), [220, 30, 30])
    retriever.add([images.load(a) for a in found.values()], keys=list(found))
    vectors = retriever.embeddings()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = vectors @ vectors.T - 2 * np.eye(len(found), dtype=np.float32)
    assert scores.max() < 0.9
    assert not list(retriever.duplicates(0.95))


def test_a_thin_line_in_a_large_image_is_not_overlooked():
    """Of large images only some rows are looked at first."""
    line = np.zeros((1600, 2000, 4), np.uint8)
    line[801:803, 100:1900] = 255
    assert corner(images.load(line)) == GRAY
    line[801:803, 100:1900, :3] = 0
    assert corner(images.load(line)) == WHITE
