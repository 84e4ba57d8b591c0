"""The saliency cropper, without weights and with a network."""

import io
import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from imgret import images
from imgret.croppers import AttentionCropper, CombinedCropper, SaliencyCropper
from imgret.croppers.spectral_residual import spectral_map
from imgret.errors import InvalidInputError, ModelError, UnknownNameError
from imgret.types import Box

BRIGHTNESS = Path(__file__).parents[1] / "data" / "brightness.onnx"


def _scene(width=320, height=240, box=(120, 80, 200, 150), value=255, seed=0):
    """A faint texture with one bright box on it."""
    rng = np.random.default_rng(seed)
    image = rng.integers(60, 90, (height, width, 3), dtype=np.uint8)
    x0, y0, x1, y1 = box
    image[y0:y1, x0:x1] = value
    return image


def _iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(0, width) * max(0, height)
    return both / (Box(*a).area + Box(*b).area - both)


@st.composite
def _pictures(draw):
    sizes = st.one_of(
        st.tuples(st.integers(1, 60), st.integers(1, 60)),
        st.sampled_from([(1, 300), (300, 1), (600, 30), (30, 600), (1, 1), (2, 1)]),
    )
    height, width = draw(sizes)
    kind = draw(st.sampled_from(["flat", "noise", "dot", "ramp"]))
    if kind == "noise":
        rng = np.random.default_rng(draw(st.integers(0, 99)))
        return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = np.full((height, width, 3), draw(st.integers(0, 255)), dtype=np.uint8)
    if kind == "dot":
        image[draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))] = 255
    if kind == "ramp":
        image[:] = np.linspace(0, 255, width, dtype=np.uint8)[None, :, None]
    return image


CROPPERS = {
    "spectral": lambda: SaliencyCropper("spectral"),
    "network": lambda: SaliencyCropper(BRIGHTNESS),
    "padded": lambda: SaliencyCropper(BRIGHTNESS, preprocess=_input(resize="pad")),
    "cropped": lambda: SaliencyCropper(BRIGHTNESS, preprocess=_input(short_side=40)),
    "largest part": lambda: SaliencyCropper(BRIGHTNESS, largest=True),
}
# Slow ones, which see fewer images.
NETWORKS = {
    "saliency": SaliencyCropper,
    "attention": AttentionCropper,
    "combined": CombinedCropper,
    "intersection": lambda: CombinedCropper(["saliency", "center"], how="intersection"),
    "mean": lambda: CombinedCropper([SaliencyCropper(BRIGHTNESS), "spectral"], how="mean"),
}


def _input(**facts):
    return {"size": 32, "scaling": None, "layout": "NHWC", "dtype": "uint8", **facts}


@pytest.mark.parametrize("kind", CROPPERS)
@settings(max_examples=40)
@given(images=st.lists(_pictures(), min_size=1, max_size=3))
def test_boxes_are_valid_and_the_same_alone_and_together(kind, images):
    _check(CROPPERS[kind](), images)


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETWORKS)
def test_boxes_of_networks_are_valid_whatever_they_see(kind):
    cropper = NETWORKS[kind]()

    @settings(max_examples=12)
    @given(images=st.lists(_pictures(), min_size=1, max_size=2))
    def check(images):
        _check(cropper, images)

    check()
    panorama = np.random.default_rng(0).integers(0, 256, (60, 1200, 3), dtype=np.uint8)
    _check(cropper, [panorama])


def _check(cropper, images):
    boxes = cropper.boxes(images)
    assert boxes == [cropper.boxes([image])[0] for image in images]
    for box, image in zip(boxes, images, strict=True):
        assert box == box.clip(image.shape[1], image.shape[0])
        saliency = cropper.saliency(image)
        assert saliency.shape == image.shape[:2]
        assert saliency.dtype == np.float32
        assert saliency.min() >= 0
        assert saliency.max() <= 1


@pytest.mark.parametrize("make", [*CROPPERS.values(), AttentionCropper, CombinedCropper])
def test_a_flat_picture_has_no_subject(make):
    flat = np.full((50, 80, 3), 130, dtype=np.uint8)
    assert make().detect([flat]) == [None]
    assert make().boxes([flat]) == [Box(0, 0, 80, 50)]
    assert make().saliency(flat).max() < 0.1


def test_the_default_finds_nothing_in_noise_and_in_one_colour():
    cropper = SaliencyCropper()
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    transparent = images.load(_transparent_png())
    white = np.full((100, 100, 3), 255, dtype=np.uint8)
    assert cropper.detect([noise, transparent, white]) == [None, None, None]


def _transparent_png():
    file = io.BytesIO()
    Image.new("RGBA", (120, 90), (200, 30, 30, 0)).save(file, "png")
    return file.getvalue()


@pytest.mark.parametrize(
    ("picture", "subject"),
    [(data.coffee(), (75, 30, 545, 370)), (data.chelsea(), (0, 0, 451, 300))],
)
def test_the_default_finds_the_subject_of_a_photo(picture, subject):
    cropper = SaliencyCropper()
    (found,) = cropper.detect([picture])
    assert _iou(found, subject) > 0.7
    drawn = cropper.overlay(picture)
    assert drawn.shape == picture.shape
    assert (drawn[found.y0, found.x0 : found.x1] == (255, 64, 64)).all()  # the outline


def test_the_larger_of_two_parts_can_be_taken_alone():
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    image[4:12, 4:12] = 255
    image[32:60, 32:60] = 250
    whole = SaliencyCropper(BRIGHTNESS, margin=0)
    largest = SaliencyCropper(BRIGHTNESS, margin=0, largest=True)
    assert whole.detect([image]) == [Box(4, 4, 60, 60)]
    assert largest.detect([image]) == [Box(32, 32, 60, 60)]
    assert SaliencyCropper(**largest.config()).detect([image]) == largest.detect([image])


@pytest.mark.parametrize(("least", "most"), [(0.3, 1.0), (0.0, 0.05)])
def test_a_box_of_too_little_or_too_much_is_refused(least, most):
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    image[16:32, 16:32] = 255  # a sixteenth
    cropper = SaliencyCropper(BRIGHTNESS, margin=0, least=least, most=most)
    assert cropper.detect([image]) == [None]
    assert cropper.boxes([image]) == [Box(0, 0, 64, 64)]
    assert SaliencyCropper(**cropper.config()).detect([image]) == [None]


@pytest.mark.parametrize("box", [(120, 80, 200, 150), (150, 100, 260, 190), (60, 50, 150, 130)])
def test_spectral_finds_what_stands_out(box):
    image = _scene(box=box)
    (found,) = SaliencyCropper("spectral").detect([image])
    assert _iou(found, box) > 0.35  # the whole image has 0.07 to 0.13
    x0, y0, x1, y1 = box
    assert found.x0 < (x0 + x1) / 2 < found.x1
    assert found.y0 < (y0 + y1) / 2 < found.y1
    saliency = SaliencyCropper("spectral").saliency(image)
    assert saliency[y0:y1, x0:x1].mean() > 2 * saliency.mean()


def test_spectral_finds_the_subject_of_a_photo():
    # The dark coffee in its cup, about x 150..450, y 60..330 of 600 x 400.
    (found,) = SaliencyCropper("spectral").detect([data.coffee()])
    assert _iou(found, (150, 60, 450, 330)) > 0.5


def test_spectral_map_is_the_formula_of_the_paper():
    rng = np.random.default_rng(3)
    gray = rng.integers(0, 256, (64, 64), dtype=np.uint8)
    spectrum = np.fft.fft2(gray / 255)
    log_amplitude, phase = np.log(np.abs(spectrum)), np.angle(spectrum)
    shifts = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
    mean = np.mean([np.roll(log_amplitude, shift, axis=(0, 1)) for shift in shifts], axis=0)
    expected = np.abs(np.fft.ifft2(np.exp(log_amplitude - mean + 1j * phase))) ** 2
    x = np.arange(-10, 11)
    kernel = np.exp(-(x**2) / (2 * 2.5**2))
    kernel /= kernel.sum()
    for axis in (0, 1):
        padded = np.pad(expected, [(10, 10) if a == axis else (0, 0) for a in (0, 1)], "reflect")
        expected = np.apply_along_axis(np.convolve, axis, padded, kernel, mode="valid")
    places = (np.arange(64) + 0.5) / 32 - 1
    weight = np.exp(-(places**2) / (2 * 0.5**2))
    expected *= weight[:, None] * weight
    found = spectral_map(np.repeat(gray[..., None], 3, axis=2))
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3 * expected.max())


def test_a_lower_threshold_never_shrinks_the_box():
    image = data.chelsea()
    boxes = [SaliencyCropper(threshold=t).boxes([image])[0] for t in (0.05, 0.2, 0.5, 0.7)]
    for outer, inner in itertools.pairwise(boxes):
        assert outer.x0 <= inner.x0 < inner.x1 <= outer.x1
        assert outer.y0 <= inner.y0 < inner.y1 <= outer.y1
    assert boxes[0].area > boxes[-1].area


def test_a_network_says_where_the_subject_is():
    # 8 map columns and rows a side; the box lies on their edges.
    image = np.zeros((64, 96, 3), dtype=np.uint8)
    image[16:48, 24:60] = 200
    cropper = SaliencyCropper(BRIGHTNESS, margin=0)
    assert cropper.detect([image]) == [Box(24, 16, 60, 48)]
    assert SaliencyCropper(BRIGHTNESS, margin=0.25).boxes([image]) == [Box(15, 8, 69, 56)]
    assert SaliencyCropper(BRIGHTNESS, margin=1).boxes([image]) == [Box(0, 0, 96, 64)]
    assert cropper.saliency(image)[32, 40] == 1
    assert cropper.saliency(image)[4, 4] == 0
    assert cropper.threshold == 0.6


def test_the_map_is_scaled_to_its_extremes():
    image = np.full((32, 32, 3), 100, dtype=np.uint8)
    image[8:16, 8:16] = 110  # little over the rest, and yet all that stands out
    image[20:24, 20:24] = 104
    assert SaliencyCropper(BRIGHTNESS, margin=0, threshold=0.5).boxes([image])[0] == (8, 8, 16, 16)
    assert SaliencyCropper(BRIGHTNESS, margin=0, threshold=0.3).boxes([image])[0] == (8, 8, 24, 24)


def test_a_map_of_one_channel_is_the_same():
    image = _scene()
    one = SaliencyCropper(BRIGHTNESS, output="map_of_one_channel")
    assert one.boxes([image]) == SaliencyCropper(BRIGHTNESS).boxes([image])


def test_bars_that_were_padded_are_no_part_of_the_map():
    image = np.zeros((64, 128, 3), dtype=np.uint8)
    image[16:32, 64:96] = 255
    cropper = SaliencyCropper(BRIGHTNESS, margin=0, preprocess=_input(resize="pad", fill=255))
    assert cropper.detect([image]) == [Box(64, 16, 96, 32)]
    upright = np.ascontiguousarray(image.transpose(1, 0, 2))
    assert cropper.detect([upright]) == [Box(16, 64, 32, 96)]


def test_a_network_that_sees_the_middle_answers_inside_it():
    image = np.zeros((64, 128, 3), dtype=np.uint8)
    image[16:32, 64:80] = 255
    image[:, :16] = 255  # beyond the middle square
    cropper = SaliencyCropper(BRIGHTNESS, margin=0, preprocess=_input(resize="crop"))
    assert cropper.detect([image]) == [Box(64, 16, 80, 32)]
    assert not cropper.saliency(image)[:, :32].any()


def test_config_makes_a_network_again():
    first = SaliencyCropper(
        BRIGHTNESS, threshold=0.3, preprocess=_input(resize="pad"), output="map_of_one_channel"
    )
    again = SaliencyCropper(**first.config())
    assert again.config() == first.config()
    assert again.boxes([_scene()]) == first.boxes([_scene()])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"threshold": 0}, InvalidInputError, "threshold: expected a number over 0"),
        ({"threshold": 1.2}, InvalidInputError, "threshold: expected a number over 0"),
        ({"margin": -0.1}, InvalidInputError, "margin: expected a number of at least 0"),
        ({"margin": float("nan")}, InvalidInputError, "margin: expected a number of at least 0"),
        (
            {"model": "spectral", "output": "map"},
            InvalidInputError,
            "output: expected none of these",
        ),
        ({"model": "spectral", "batch_size": 2}, InvalidInputError, "batch_size: expected none of"),
        ({"batch_size": 0}, InvalidInputError, "batch_size: expected a whole number"),
        ({"least": 0.5, "most": 0.5}, InvalidInputError, "least: expected less than most"),
        ({"least": -1}, InvalidInputError, "least: expected a number of at least 0"),
        ({"model": "spectrum"}, UnknownNameError, "spectrum"),
        ({"model": "general"}, ModelError, "expected a model of kind 'saliency'"),
        ({"model": "missing.onnx"}, ModelError, "missing.onnx"),
    ],
)
def test_bad_options_are_told(options, error, message):
    with pytest.raises(error, match=message):
        SaliencyCropper(**options)


@pytest.mark.parametrize(
    ("output", "message"),
    [("vector", r"expected output 'vector' of shape \(n, h, w\)"), ("nan", "found NaN")],
)
def test_an_output_that_is_no_map_is_told(output, message):
    with pytest.raises(ModelError, match=message):
        SaliencyCropper(BRIGHTNESS, output=output).boxes([_scene()])


def test_one_picture_is_checked():
    with pytest.raises(InvalidInputError, match="expected uint8 of shape"):
        SaliencyCropper("spectral").saliency(np.zeros((5, 5)))


def test_batches_and_threads_change_nothing():
    pictures = [data.coffee(), data.chelsea(), data.astronaut(), data.rocket(), _scene()]
    alone = SaliencyCropper()
    together = SaliencyCropper(batch_size=3)
    assert together.config()["batch_size"] == 3
    boxes = alone.boxes(pictures)
    assert together.boxes(pictures) == boxes
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda p: alone.boxes([p])[0], pictures * 4)) == boxes * 4
