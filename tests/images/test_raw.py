"""RAW photographs: DNGs made here, with and without the preview of a camera."""

import io
import sys

import numpy as np
import pytest

from imgret import Retriever, images
from imgret.errors import (
    ImageCorruptError,
    ImageTooLargeError,
    ImageUnsupportedError,
    MissingExtraError,
)
from imgret.images import raw

tifffile = pytest.importorskip("tifffile")
pytest.importorskip("rawpy")

LEFT, RIGHT = 60000, 4000  # levels of the sensor
# What a camera with the primaries of XYZ would be, with the white balance of daylight.
MATRIX = (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1)


def dng(*, orientation=1, preview=None, size=(64, 96)):
    """A DNG that is bright at the left; a preview makes the sensor data its second image."""
    pixels = np.full(size, LEFT, np.uint16)
    pixels[:, size[1] // 2 :] = RIGHT
    camera = [
        (274, "H", 1, orientation, True),
        (50706, "B", 4, (1, 4, 0, 0), True),
        (50708, "s", 0, "Test Camera", True),
        (271, "s", 0, "Test", True),
        (272, "s", 0, "Camera", True),
        (50721, "2i", 9, MATRIX, True),
        (50728, "2I", 3, (1, 1, 1, 1, 1, 1), True),
        (50778, "H", 1, 21, True),
    ]
    sensor = [
        (33421, "H", 2, (2, 2), True),
        (33422, "B", 4, (0, 1, 1, 2), True),
        (50717, "I", 1, 65535, True),
    ]
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as file:
        if preview is not None:
            file.write(
                preview,
                photometric="rgb" if preview.ndim == 3 else "minisblack",
                compression="jpeg",
                compressionargs={"outcolorspace": "rgb"} if preview.ndim == 3 else None,
                subfiletype=1,
                rowsperstrip=preview.shape[0],
                extratags=camera,
                subifds=1,
                metadata=None,
            )
            camera = []
        file.write(
            pixels,
            photometric=32803,
            planarconfig=1,
            compression=None,
            extratags=camera + sensor,
            metadata=None,
        )
    return out.getvalue()


@pytest.mark.parametrize(
    ("orientation", "size", "bright"),
    [
        (1, (96, 64), (slice(None), slice(0, 40))),
        (3, (96, 64), (slice(None), slice(56, None))),
        (6, (64, 96), (slice(0, 40), slice(None))),
        (8, (64, 96), (slice(56, None), slice(None))),
    ],
)
def test_sensor_data_are_developed_upright(orientation, size, bright):
    data = dng(orientation=orientation)
    head = images.header(data)
    assert (head.format, head.size) == ("RAW", size)
    found = images.decode(data, min_side=32)
    assert found.size == size
    assert found.image.shape == (size[1], size[0], 3)
    assert found.image[bright].min() > 200
    assert np.median(found.image) > 200 or found.image.min() < 100


class Camera:
    """What rawpy gives for a file of a camera: real photographs are too large to travel."""

    def __init__(self, preview, flip):
        rawpy = sys.modules["rawpy"]
        self.thumb = rawpy.Thumbnail(rawpy.ThumbFormat.JPEG, preview)
        self.sizes = type("Sizes", (), {"flip": flip, "width": 6000, "height": 4000})

    def extract_thumb(self):
        return self.thumb

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.mark.parametrize(
    ("flip", "corner"), [(0, (0, 0)), (3, (-1, -1)), (6, (0, -1)), (5, (-1, 0))]
)
def test_the_preview_comes_first_and_is_turned(monkeypatch, flip, corner):
    pixels = np.full((600, 900, 3), 40, np.uint8)
    pixels[:200, :200] = 250
    jpeg = images.encode(pixels, "jpeg")
    monkeypatch.setattr(sys.modules["rawpy"], "imread", lambda _: Camera(jpeg, flip))
    data = dng()
    size = (600, 900) if flip > 3 else (900, 600)
    assert images.header(data).size == size
    for min_side in (None, 50):
        found = images.decode(data, min_side=min_side)
        assert found.size == size
        assert found.image[corner].min() > 220
        assert found.image.mean() < 100
    # An orientation of its own counts, and so does a preview that is upright already.
    upright = images.encode(np.ascontiguousarray(pixels[:, :550]), "jpeg")
    monkeypatch.setattr(sys.modules["rawpy"], "imread", lambda _: Camera(upright, 6))
    assert images.decode(data).image[0, 0].min() > 220
    # A small one is not used.
    small = images.encode(pixels[:300], "jpeg")
    assert raw._preview(Camera(small, 0)) == b""


def test_an_embedded_preview_that_libraw_finds():
    preview = np.full((520, 780, 3), 40, np.uint8)
    preview[:, :200] = 250
    try:
        data = dng(preview=preview, size=(520, 780))
    except (ValueError, RuntimeError, ImportError) as error:  # imagecodecs without JPEG
        pytest.skip(str(error))
    assert images.header(data).format == "RAW"
    found = images.decode(data)
    assert found.image[260, 100].min() > 200
    assert found.size == (780, 520)


def test_a_raw_photograph_is_known_by_its_content():
    pixels = np.zeros((8, 8, 3), np.uint8)
    out = io.BytesIO()
    tifffile.imwrite(out, pixels, photometric="rgb")
    assert not raw.is_raw(out.getvalue())
    assert images.header(out.getvalue()).format == "TIFF"
    for begin in (b"FUJIFILMCCD-RAW 0201", b"IIRO\x08", b"\0\0\0\x18ftypcrx ", b"IIU\0\x08"):
        assert raw.is_raw(begin + bytes(100))
        with pytest.raises((ImageUnsupportedError, ImageCorruptError), match="LibRaw"):
            images.decode(begin + bytes(100))
    for end in (0, 4, 20, 100, 200):
        raw.is_raw(dng()[:end])  # whatever is cut off


def test_damage_and_size_are_reported():
    data = dng()
    with pytest.raises((ImageCorruptError, ImageUnsupportedError)):
        images.decode(data[: len(data) // 2])
    with pytest.raises(ImageTooLargeError, match="96 x 64 = 6,144"):
        images.decode(data, max_pixels=1000)


def test_without_the_extra_files_are_passed_over_with_advice(tmp_path, mean_color, monkeypatch):
    (tmp_path / "a.dng").write_bytes(dng())
    (tmp_path / "b.jpg").write_bytes(images.encode(np.full((8, 8, 3), 90, np.uint8), "jpeg"))
    retriever = Retriever(embedder=mean_color)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "rawpy", None)
        report = retriever.add_folder(tmp_path)
        assert report.ok == ["b.jpg"]
        assert "1 RAW photograph (.dng) not read" in report.warnings[0]
        assert "pip install 'imgret[raw]'" in report.warnings[0]
        with pytest.raises(MissingExtraError, match=r"a\.dng: .*pip install 'imgret\[raw\]'"):
            images.load(tmp_path / "a.dng")
    report = retriever.add_folder(tmp_path, exif=True)
    assert report.ok == ["a.dng"]
    assert retriever["a.dng"].metadata["exif"]["make"] == "Test"
    assert not report.warnings
