"""Files that are damaged, cut short or mislabelled."""

import io
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pil

from imgret import images
from imgret.errors import (
    ImageCorruptError,
    ImageError,
    ImageFormatError,
    ImageNotFoundError,
    ImageUnsupportedError,
    MissingExtraError,
)
from imgret.images.icc import make_profile

NOISE = Pil.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 4), dtype=np.uint8))
EXIF = Pil.Exif()
EXIF[0x0112] = 6


def save(kind, mode="RGB", **options):
    file = io.BytesIO()
    NOISE.convert(mode).save(file, kind, **options)
    return file.getvalue()


PROFILE = make_profile((0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290), None)

FILES = {
    "jpeg": save("JPEG", exif=EXIF),
    "jpeg progressive": save("JPEG", progressive=True),
    "png": save("PNG"),
    "png alpha": save("PNG", "RGBA", exif=EXIF),
    "webp": save("WEBP"),
    "webp alpha": save("WEBP", "RGBA", exif=EXIF),
    "gif": save("GIF", "P"),
    "tiff": save("TIFF", "RGBA", exif=EXIF),
    "tiff LZW": save("TIFF", compression="tiff_lzw"),
    "tiff big": save("TIFF", big_tiff=True),
    "bmp": save("BMP"),
    "avif": save("AVIF", "RGBA", exif=EXIF),
    "avif grey": save("AVIF", "L", subsampling="4:0:0", exif=EXIF),
    "jpeg CMYK": save("JPEG", "CMYK", icc_profile=PROFILE),
    "png profile": save("PNG", icc_profile=PROFILE),
    "webp profile": save("WEBP", icc_profile=PROFILE, exif=EXIF),
}
if find_spec("pillow_heif"):
    import pillow_heif

    file = io.BytesIO()
    pillow_heif.from_pillow(NOISE).save(file)
    FILES["heic"] = file.getvalue()


@pytest.mark.slow
@given(data=st.data())
@pytest.mark.parametrize("name", FILES)
def test_damage_gives_a_picture_or_an_image_error(name, data):
    damaged = bytearray(FILES[name])
    # Most of what matters stands in the first bytes and the last.
    positions = st.integers(0, 99) | st.integers(-99, -1) | st.integers(0, len(damaged) - 1)
    for position in data.draw(st.lists(positions, max_size=4)):
        damaged[position] = data.draw(st.integers(0, 255))
    cut = data.draw(st.none() | st.integers(0, len(damaged)))
    try:
        image = images.decode(bytes(damaged[:cut]), max_pixels=10_000, min_side=8).image
    except (ImageError, MissingExtraError):  # the latter where AVIF turned HEIC
        return
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.size > 0


@given(data=st.binary(max_size=200))
def test_noise_is_no_picture(data):
    with pytest.raises(ImageError):
        images.decode(data)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_truncated(name, part):
    data = FILES[name]
    with pytest.raises(ImageCorruptError, match=r"truncated|damaged"):
        images.decode(data[: int(len(data) * part)])


@pytest.mark.parametrize("name", ["jpeg", "jpeg progressive", "png", "webp", "gif"])
def test_truncated_by_a_few_bytes_is_called_so(name):
    with pytest.raises(ImageCorruptError, match=r"truncated: the .* data end after"):
        images.decode(FILES[name][:-2])


@pytest.mark.parametrize("name", FILES)
def test_bytes_behind_the_end_do_no_harm(name):
    expected = images.decode(FILES[name]).image
    for extra in (b"\0", b"some junk" * 50, FILES["jpeg"]):
        np.testing.assert_array_equal(images.decode(FILES[name] + extra).image, expected)


def test_later_frames_need_not_be_whole():
    frames = [NOISE.convert("P"), NOISE.rotate(180).convert("P")]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    data = file.getvalue()
    np.testing.assert_array_equal(
        images.decode(data[:-100]).image, images.decode(FILES["gif"]).image
    )


def test_png_checksum_names_the_chunk():
    data = bytearray(FILES["png"])
    data[len(data) // 2] ^= 1
    with pytest.raises(ImageCorruptError, match="wrong checksum of the IDAT chunk at byte 33"):
        images.decode(bytes(data))


def test_float_tiff_has_no_range():
    file = io.BytesIO()
    Pil.new("F", (8, 8)).save(file, "TIFF")
    with pytest.raises(ImageUnsupportedError, match="1 to 16 unsigned bits .* float numbers"):
        images.decode(file.getvalue())


class TestFiles:
    """Errors carry the path, in the message and as an attribute."""

    def check(self, path, kind, reason):
        with pytest.raises(kind) as caught:
            images.load(path)
        assert caught.value.path == path
        assert reason in caught.value.reason
        assert str(caught.value) == f"{path}: {caught.value.reason}"

    def test_missing(self, tmp_path):
        self.check(tmp_path / "none.jpg", ImageNotFoundError, "no such file")
        with pytest.raises(FileNotFoundError):
            images.load(str(tmp_path / "none.jpg"))

    def test_directory(self, tmp_path):
        self.check(tmp_path, ImageNotFoundError, "found a directory")

    def test_below_a_file(self, tmp_path):
        (tmp_path / "file").touch()
        self.check(tmp_path / "file" / "none.jpg", ImageNotFoundError, "cannot be read")

    def test_unreadable(self, tmp_path, monkeypatch):
        def refuse(*_, **__):
            raise PermissionError(13, "Permission denied")

        path = tmp_path / "a.jpg"
        path.write_bytes(FILES["jpeg"])
        monkeypatch.setattr(type(path), "open", refuse)
        self.check(path, ImageNotFoundError, "Permission denied")

    def test_null_character_in_the_path(self):
        with pytest.raises(ImageNotFoundError):
            images.load("a\0b.jpg")

    def test_empty(self, tmp_path):
        path = tmp_path / "empty.jpg"
        path.touch()
        self.check(path, ImageCorruptError, "empty")

    def test_text(self, tmp_path):
        path = tmp_path / "text.jpg"
        path.write_text("not an image at all")
        self.check(path, ImageFormatError, "begin with b'not an image")

    def test_truncated(self, tmp_path):
        path = tmp_path / "half.jpg"
        path.write_bytes(FILES["jpeg"][:-50])
        self.check(path, ImageCorruptError, "truncated")

    def test_damaged(self, tmp_path):
        path = tmp_path / "damaged.bmp"
        path.write_bytes(FILES["bmp"][:900])
        self.check(path, ImageCorruptError, "damaged")
