"""Decoding, format by format, against Pillow."""

import contextlib
import io
import struct
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image as Pil
from PIL import ImageOps

from imgret import images
from imgret.errors import ImageError
from imgret.images import decoding

ROWS, COLUMNS = np.mgrid[:40, :60]
RGB = np.stack([COLUMNS * 4, ROWS * 6, (COLUMNS + ROWS) * 2], axis=-1).astype(np.uint8)
ALPHA = np.clip(COLUMNS * 5, 0, 255).astype(np.uint8)
OPAQUE = Pil.fromarray(RGB)
CLEAR = Pil.fromarray(np.dstack([RGB, ALPHA]))
GRAY = OPAQUE.convert("L")
# Five flat colours, the second of which may be made transparent.
STRIPES = Pil.fromarray(((ROWS + COLUMNS) % 5).astype(np.uint8), "P")
STRIPES.putpalette([10, 20, 30, 200, 30, 40, 0, 255, 0, 0, 0, 255, 90, 90, 90])


def save(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def upright(orientation):
    exif = Pil.Exif()
    exif[0x0112] = orientation
    return exif


def oracle(data):
    picture = ImageOps.exif_transpose(Pil.open(io.BytesIO(data))).convert("RGBA")
    white = Pil.new("RGBA", picture.size, "white")
    return np.asarray(Pil.alpha_composite(white, picture).convert("RGB"))


def assert_close(found, expected, levels):
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= levels


def ycck(cmyk):
    """Set the colour transform of Adobe's segment to 2."""
    start = cmyk.index(b"Adobe") + 11
    return cmyk[:start] + b"\2" + cmyk[start + 1 :]


FILES = {
    "jpeg": save(OPAQUE, "JPEG", quality=95),
    "jpeg progressive": save(OPAQUE, "JPEG", quality=95, progressive=True),
    "jpeg 4:4:4": save(OPAQUE, "JPEG", quality=95, subsampling=0),
    "jpeg grey": save(GRAY, "JPEG"),
    "jpeg CMYK": save(OPAQUE.convert("CMYK"), "JPEG", quality=95),  # Adobe: inverted
    "jpeg YCCK": ycck(save(OPAQUE.convert("CMYK"), "JPEG", quality=95)),
    "png": save(OPAQUE, "PNG"),
    "png alpha": save(CLEAR, "PNG"),
    "png grey": save(GRAY, "PNG"),
    "png grey alpha": save(CLEAR.convert("LA"), "PNG"),
    "png black and white": save(OPAQUE.convert("1"), "PNG"),
    "png palette": save(OPAQUE.convert("P"), "PNG"),
    "png palette tRNS": save(CLEAR.quantize(32), "PNG"),
    "png grey tRNS": save(GRAY, "PNG", transparency=int(np.asarray(GRAY)[20, 30])),
    "png RGB tRNS": save(OPAQUE, "PNG", transparency=tuple(map(int, RGB[20, 30]))),
    "png with a colour profile": save(OPAQUE, "PNG", icc_profile=b"not a profile"),
    "png animated": save(OPAQUE, "PNG", save_all=True, append_images=[CLEAR.convert("RGB")]),
    "webp": save(OPAQUE, "WEBP", quality=95),
    "webp lossless": save(OPAQUE, "WEBP", lossless=True),
    "webp alpha": save(CLEAR, "WEBP", quality=95),
    "webp lossless alpha": save(CLEAR, "WEBP", lossless=True, exact=True),
    "webp animated": save(
        CLEAR, "WEBP", save_all=True, append_images=[CLEAR.rotate(90)], lossless=True
    ),
    "webp smallest": save(OPAQUE.resize((1, 1)), "WEBP", lossless=True),
    "gif": save(STRIPES, "GIF"),
    "gif interlaced": save(STRIPES, "GIF", interlace=1),
    "gif transparent": save(STRIPES, "GIF", transparency=1),
    "gif animated": save(
        STRIPES, "GIF", transparency=2, save_all=True, append_images=[STRIPES.rotate(180)]
    ),
    "tiff": save(OPAQUE, "TIFF"),
    "tiff LZW": save(OPAQUE, "TIFF", compression="tiff_lzw"),
    "tiff deflate": save(OPAQUE, "TIFF", compression="tiff_adobe_deflate"),
    "tiff JPEG": save(OPAQUE, "TIFF", compression="jpeg"),
    "tiff group 4": save(OPAQUE.convert("1"), "TIFF", compression="group4"),
    "tiff grey": save(GRAY, "TIFF"),
    "tiff palette": save(STRIPES, "TIFF"),
    "tiff CMYK": save(OPAQUE.convert("CMYK"), "TIFF"),
    "tiff alpha": save(CLEAR, "TIFF"),
    "tiff pages": save(OPAQUE, "TIFF", save_all=True, append_images=[OPAQUE.rotate(180)]),
    "tiff big": save(OPAQUE, "TIFF", big_tiff=True),
    "bmp": save(OPAQUE, "BMP"),
    "bmp grey": save(GRAY, "BMP"),
    "bmp palette": save(STRIPES, "BMP"),
    "bmp black and white": save(OPAQUE.convert("1"), "BMP"),
    "bmp 32 bits": save(CLEAR, "BMP"),
    "avif": save(OPAQUE, "AVIF", quality=95),
    "avif alpha": save(CLEAR, "AVIF", quality=95),
}


@pytest.mark.parametrize("name", FILES)
def test_pixels_are_those_of_pillow(name):
    data = FILES[name]
    # Lossy colour conversion may round another way; palettes and lossless data may not.
    levels = 3 if name.startswith(("jpeg", "webp", "avif", "tiff JPEG")) else 1
    found = images.decode(data)
    expected = oracle(data)
    assert_close(found.image, expected, levels)
    assert found.size == (expected.shape[1], expected.shape[0])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("PNG", {}),
        ("PNG alpha", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"quality": 95}),
        ("WEBP alpha", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF alpha", {}),
        ("AVIF", {"quality": 95}),
        ("AVIF alpha", {"quality": 95}),
    ],
)
def test_orientation_is_applied_once(kind, options, orientation):
    kind, _, alpha = kind.partition(" ")
    data = save(CLEAR if alpha else OPAQUE, kind, exif=upright(orientation), **options)
    expected = oracle(data)
    assert_close(images.decode(data).image, expected, 3)
    head = images.header(data)
    assert head.orientation == orientation
    assert head.size == (expected.shape[1], expected.shape[0])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_goes_with_reduced_scale(orientation):
    big = OPAQUE.resize((600, 400))
    data = save(big, "JPEG", quality=95, exif=upright(orientation))
    found = images.decode(data, min_side=33)
    expected = np.asarray(
        ImageOps.exif_transpose(Pil.open(io.BytesIO(data))).resize(found.image.shape[1::-1])
    )
    assert min(found.image.shape[:2]) == 100
    assert found.size == ((600, 400) if orientation < 5 else (400, 600))
    assert_close(found.image, expected, 8)


@pytest.mark.parametrize(
    ("min_side", "short"),
    [(None, 400), (67, 400), (66, 200), (34, 200), (33, 100), (17, 100), (16, 50), (1, 50)],
)
def test_jpeg_is_reduced_as_far_as_min_side_allows(min_side, short):
    data = save(OPAQUE.resize((600, 400)), "JPEG")
    found = images.decode(data, min_side=min_side)
    assert min(found.image.shape[:2]) == short
    assert found.size == (600, 400)


def test_reduced_scale_keeps_what_is_left_after_shrinking():
    """Fine detail of a photograph must not alias, nor edges move."""
    fine = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    picture = images.resize(RGB, 640, 480) // 2 + fine // 4
    data = images.encode(picture, quality=95)
    full, reduced = images.decode(data).image, images.decode(data, min_side=40).image
    assert reduced.shape == (120, 160, 3)
    small = [images.resize(image, 64, 48).astype(int) for image in (full, reduced)]
    assert np.abs(small[0] - small[1]).mean() < 1.5


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(("width", "height"), [(1203, 907), (1200, 900), (905, 1601)])
def test_a_large_jpeg_is_decoded_at_an_eighth_and_enlarged(monkeypatch, width, height, orientation):
    """What is returned has the size and nearly the pixels of what takes twice as long to decode."""
    data = save(OPAQUE.resize((width, height)), "JPEG", quality=95, exif=upright(orientation))
    at_an_eighth, decode = [], cv2.imdecode

    def imdecode(data, flags):
        at_an_eighth.append(bool(flags & cv2.IMREAD_REDUCED_GRAYSCALE_8))
        return decode(data, flags)

    monkeypatch.setattr(cv2, "imdecode", imdecode)
    quick = images.decode(data, min_side=80)
    monkeypatch.setattr(decoding, "_EIGHTH_MARGIN", 99)
    slow = images.decode(data, min_side=80)
    assert at_an_eighth == [True, False]
    assert quick.size == slow.size
    assert quick.image.shape == slow.image.shape
    small = [images.resize(image, 108, 80).astype(int) for image in (quick.image, slow.image)]
    assert np.abs(small[0] - small[1]).max() <= 3


def test_other_formats_are_decoded_in_full():
    data = save(OPAQUE.resize((600, 400)), "PNG")
    assert images.decode(data, min_side=10).image.shape == (400, 600, 3)


def test_bmp_alpha_of_a_later_header():
    pixels = np.dstack([RGB[:, :, ::-1], ALPHA])[::-1].tobytes()
    info = struct.pack("<IiiHHIIiiII", 124, 60, 40, 1, 32, 3, len(pixels), 0, 0, 0, 0)
    info += struct.pack("<IIII4s", 0xFF0000, 0xFF00, 0xFF, 0xFF000000, b"BGRs") + bytes(64)
    data = struct.pack("<2sIHHI", b"BM", 138 + len(pixels), 0, 0, 138) + info + pixels
    assert_close(images.decode(data).image, oracle(data), 1)


def test_heic_with_its_extra():
    heif = pytest.importorskip("pillow_heif")
    for picture, orientation in ((OPAQUE, 1), (OPAQUE, 6), (CLEAR, 1), (CLEAR, 7), (GRAY, 3)):
        file = io.BytesIO()
        heif.from_pillow(picture).save(
            file, quality=95, exif=upright(orientation).tobytes(), chroma=444
        )
        data = file.getvalue()
        expected = oracle(save(picture, "PNG", exif=upright(orientation)))
        found = images.decode(data)
        assert images.header(data).format == "HEIC"
        assert images.header(data).size == found.size == (expected.shape[1], expected.shape[0])
        assert_close(found.image, expected, 12)


def test_heic_without_its_extra_names_file_and_command(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    path = tmp_path / "photo.heic"
    box = struct.pack(">I4sII", 20, b"ispe", 0, 8) + struct.pack(">I", 8)
    for kind in (b"ipco", b"iprp", b"meta"):
        body = (bytes(4) if kind == b"meta" else b"") + box
        box = struct.pack(">I4s", 8 + len(body), kind) + body
    path.write_bytes(struct.pack(">I4s4sI4s", 20, b"ftyp", b"heic", 0, b"mif1") + box)
    with pytest.raises(ImportError, match=r"photo\.heic.*pip install 'imgret\[heic\]'"):
        images.load(path)


def test_nothing_is_printed(capfd):
    """Neither by OpenCV's log nor by the C libraries below it."""
    broken = [FILES["tiff LZW"][:-40], FILES["tiff"][:900]]
    broken += [FILES[name][:-9] for name in ("gif", "avif", "bmp", "jpeg", "png", "webp")]
    for name in ("png", "webp"):
        damaged = bytearray(FILES[name])
        damaged[len(damaged) // 2] ^= 0xFF
        broken.append(bytes(damaged))
    for data in [*FILES.values(), *broken]:
        with contextlib.suppress(ImageError):
            images.decode(data)
    assert capfd.readouterr() == ("", "")


def test_log_level_is_given_back():
    code = (
        "import numpy, imgret.images as images\n"
        "from imgret.images.decoding import _set_log_level\n"
        "_set_log_level(4)\n"
        "try: images.decode(b'BM' + bytes(12) + b'(' + bytes(99))\n"
        "except ValueError: pass\n"
        "images.decode(images.encode(numpy.zeros((8, 8, 3), 'uint8')))\n"
        "assert _set_log_level(4) == 4\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)  # the code above
