"""Colours come out as sRGB, whatever profile an image carries."""

import io
import struct
import threading
import time
import zlib
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pil
from PIL import ImageCms

from imgret import images
from imgret.images import color
from imgret.images.icc import coded_profile, make_profile, profile_space

P3_POINTS = (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290)
P3 = make_profile(P3_POINTS, None)
ADOBE = make_profile((0.64, 0.33, 0.21, 0.71, 0.15, 0.06, 0.3127, 0.3290), 2.19921875)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

# Colours that are inside sRGB, as the numbers of Display P3: large patches, which JPEG keeps.
STORED = np.kron(
    np.array(
        [[[200, 120, 90], [90, 160, 110], [100, 110, 190]], [[128] * 3, [255] * 3, [20, 30, 40]]],
        np.uint8,
    ),
    np.ones((32, 32, 1), np.uint8),
)


def linear(values):
    values = np.asarray(values) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def shown(light):
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


# From linear Display P3 to linear sRGB, as CSS Color 4 gives it.
P3_TO_SRGB = np.array(
    [
        [1.2249401762805598, -0.22494017628055996, 0.0],
        [-0.042056954709688163, 1.0420569547096881, 0.0],
        [-0.019637554590334432, -0.078636045550631889, 1.0982736001409663],
    ]
)
WANTED = shown(linear(STORED) @ P3_TO_SRGB.T)


def save(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def png_with(*chunks, picture=None):
    data = save(Pil.fromarray(STORED) if picture is None else picture, "PNG")
    return data[:33] + b"".join(chunks) + data[33:]


def app2(number, count, part):
    body = b"ICC_PROFILE\0" + bytes([number, count]) + part
    return b"\xff\xe2" + struct.pack(">H", 2 + len(body)) + body


def jpeg_with(*segments, picture=None):
    picture = Pil.fromarray(STORED) if picture is None else picture
    data = save(picture, "JPEG", quality=98, subsampling=0)
    return data[:2] + b"".join(segments) + data[2:]


def assert_close(image, wanted, levels):
    assert image.shape == wanted.shape
    assert np.abs(image.astype(int) - wanted).max() <= levels


def carriers():
    picture = Pil.fromarray(STORED)
    clear = picture.copy()
    clear.putalpha(255)
    points = struct.pack(">8I", *(round(100_000 * n) for n in (*P3_POINTS[6:], *P3_POINTS[:6])))
    nclx = save(picture, "AVIF", quality=100, subsampling="4:4:4")
    found = {
        "jpeg": jpeg_with(app2(1, 1, P3)),
        "jpeg, three parts": jpeg_with(
            app2(3, 3, P3[300:]), app2(1, 3, P3[:99]), app2(2, 3, P3[99:300])
        ),
        "jpeg, a second profile": jpeg_with(app2(1, 1, P3), app2(1, 1, ADOBE)),
        "jpeg progressive": save(
            picture, "JPEG", quality=98, subsampling=0, progressive=True, icc_profile=P3
        ),
        "png": png_with(chunk(b"iCCP", b"name\0\0" + zlib.compress(P3))),
        "png alpha": save(clear, "PNG", icc_profile=P3),
        "png palette": save(picture.quantize(16), "PNG", icc_profile=P3),
        "png cICP": png_with(chunk(b"cICP", bytes([12, 13, 0, 1]))),
        "png cICP before iCCP": png_with(
            chunk(b"cICP", bytes([12, 13, 0, 1])), chunk(b"iCCP", b"name\0\0" + zlib.compress(SRGB))
        ),
        "png cHRM": png_with(chunk(b"gAMA", struct.pack(">I", 45455)), chunk(b"cHRM", points)),
        "webp": save(picture, "WEBP", lossless=True, icc_profile=P3),
        "webp lossy": save(picture, "WEBP", quality=95, icc_profile=P3),
        "avif": save(picture, "AVIF", quality=100, subsampling="4:4:4", icc_profile=P3),
        "avif nclx": nclx.replace(b"nclx\0\1", b"nclx\0\x0c"),
        "tiff": save(picture, "TIFF", icc_profile=P3),
        "tiff big": save(picture, "TIFF", icc_profile=P3, big_tiff=True),
    }
    if find_spec("pillow_heif"):
        import pillow_heif

        file = io.BytesIO()
        heif = pillow_heif.from_pillow(picture)
        heif.info["icc_profile"] = P3
        heif.save(file, quality=98, chroma=444)
        found["heic"] = file.getvalue()
    return found


CARRIERS = carriers()


@pytest.mark.parametrize("name", CARRIERS)
def test_every_carrier(name):
    image = images.decode(CARRIERS[name]).image
    if name == "webp lossy":  # in the middle of patches, that is
        image, wanted = image[16::32, 16::32], WANTED[16::32, 16::32]
    else:
        wanted = WANTED
    assert_close(image, wanted, 6)


@pytest.mark.parametrize(
    "name", ["jpeg", "jpeg, three parts", "png", "png alpha", "png palette", "webp", "avif", "tiff"]
)
def test_pil_images(name):
    assert_close(images.load(Pil.open(io.BytesIO(CARRIERS[name]))), WANTED, 6)


def test_converted_copies_of_pil_images():
    picture = Pil.open(io.BytesIO(CARRIERS["png"]))
    assert_close(images.load(picture.convert("RGBA")), WANTED, 6)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize(
    "profile", [SRGB, make_profile((0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.329), None)]
)
def test_srgb_changes_nothing(kind, profile):
    options = {"lossless": True} if kind == "WEBP" else {}
    plain = save(Pil.fromarray(STORED), kind, **options)
    tagged = save(Pil.fromarray(STORED), kind, icc_profile=profile, **options)
    np.testing.assert_array_equal(images.decode(tagged).image, images.decode(plain).image)
    rgb = STORED.copy()
    assert color.to_srgb(rgb, profile, gray=False) is rgb


def test_srgb_costs_next_to_nothing():
    rgb = np.zeros((3000, 4000, 3), np.uint8)
    color.to_srgb(rgb, SRGB, gray=False)
    started = time.perf_counter()
    for _ in range(100):
        color.to_srgb(rgb, SRGB, gray=False)
    assert (time.perf_counter() - started) / 100 < 0.001


class TestIgnored:
    """A profile that cannot be used is no error, and changes nothing."""

    @pytest.mark.parametrize(
        "profile",
        [
            b"not a profile",
            b"\0" * 200,
            P3[:200],
            P3[:130],
            P3[:16] + b"CMYK" + P3[20:],
            P3[:16] + b"GRAY" + P3[20:],
            P3[:16] + b"Lab " + P3[20:],
            P3[:132] + b"\xff" * (len(P3) - 132),
            b"",
        ],
    )
    def test_damaged_or_for_other_colours(self, profile):
        plain = images.decode(jpeg_with()).image
        np.testing.assert_array_equal(images.decode(jpeg_with(app2(1, 1, profile))).image, plain)
        data = png_with(chunk(b"iCCP", b"name\0\0" + zlib.compress(profile)))
        np.testing.assert_array_equal(images.decode(data).image, STORED)

    def test_a_part_is_missing(self):
        plain = images.decode(jpeg_with()).image
        data = jpeg_with(app2(1, 3, P3[:99]), app2(3, 3, P3[99:]))
        np.testing.assert_array_equal(images.decode(data).image, plain)
        np.testing.assert_array_equal(images.decode(jpeg_with(app2(0, 0, P3))).image, plain)

    @pytest.mark.parametrize(
        "chunks",
        [
            [chunk(b"iCCP", b"name\0\0junk")],
            [chunk(b"iCCP", b"")],
            [chunk(b"cICP", b"\x0c")],
            [chunk(b"cICP", bytes([9, 16, 0, 1]))],
            [chunk(b"cICP", bytes([77, 13, 0, 1]))],
            [chunk(b"gAMA", b"")],
            [chunk(b"gAMA", bytes(4))],
            [chunk(b"gAMA", struct.pack(">I", 45455))],
            [chunk(b"gAMA", struct.pack(">I", 45455)), chunk(b"cHRM", bytes(32))],
            [chunk(b"cHRM", struct.pack(">8I", *[31270, 32900] * 4))],
            [chunk(b"sRGB", b"\0"), chunk(b"gAMA", struct.pack(">I", 100_000))],
        ],
    )
    def test_chunks_of_png(self, chunks):
        np.testing.assert_array_equal(images.decode(png_with(*chunks)).image, STORED)

    @given(at=st.integers(0, len(P3) - 1), value=st.integers(0, 255))
    def test_any_byte_may_be_wrong(self, at, value):
        profile = P3[:at] + bytes([value]) + P3[at + 1 :]
        image = images.decode(png_with(chunk(b"iCCP", b"n\0\0" + zlib.compress(profile)))).image
        assert image.shape == STORED.shape


def test_gamma_of_png():
    data = png_with(chunk(b"gAMA", struct.pack(">I", 100_000)))  # linear
    assert_close(images.decode(data).image, shown(STORED / 255), 2)


@pytest.mark.parametrize(
    ("gamma", "is_srgb"), [(2.2, True), (2.28, True), (2.12, True), (2.35, False)]
)
def test_about_the_gamma_of_srgb_means_srgb(gamma, is_srgb):
    data = png_with(chunk(b"gAMA", struct.pack(">I", round(100_000 / gamma))))
    assert np.array_equal(images.decode(data).image, STORED) is is_srgb


def gray_profile(gamma):
    tone = struct.pack(">4s4xIH2x", b"curv", 1, round(256 * gamma))
    white = struct.pack(">4s4x3i", b"XYZ ", 63190, 65536, 54061)
    head = struct.pack(
        ">4xI4s4s4s12x4s28x3i48x",
        0x02400000,
        b"mntr",
        b"GRAY",
        b"XYZ ",
        b"acsp",
        63190,
        65536,
        54061,
    )
    table = struct.pack(">I4sII4sII", 2, b"wtpt", 156, 20, b"kTRC", 176, 16)
    profile = head + table + white + tone
    return struct.pack(">I", len(profile) + 4) + profile


class TestGray:
    levels = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (16, 1))
    wanted = shown((levels / 255) ** 1.0)[:, :, None].repeat(3, axis=2)

    @pytest.mark.parametrize("kind", ["PNG", "TIFF", "AVIF", "PIL", "PNG alpha"])
    def test_profile(self, kind):
        picture = Pil.fromarray(self.levels)
        profile = gray_profile(1.0)
        if kind == "PIL":
            picture.info["icc_profile"] = profile
            assert_close(images.load(picture), self.wanted, 1)
            return
        if kind == "PNG alpha":
            picture, kind = picture.convert("LA"), "PNG"
        options = {"subsampling": "4:0:0", "quality": 100} if kind == "AVIF" else {}
        data = save(picture, kind, icc_profile=profile, **options)
        assert_close(images.decode(data).image, self.wanted, 5)

    def test_of_colour_is_ignored(self):
        data = save(Pil.fromarray(STORED), "PNG", icc_profile=gray_profile(1.0))
        np.testing.assert_array_equal(images.decode(data).image, STORED)

    def test_a_colour_profile_holds_for_gray(self):
        data = save(Pil.fromarray(self.levels), "PNG", icc_profile=ADOBE)
        wanted = shown((self.levels / 255) ** 2.19921875)[:, :, None].repeat(3, axis=2)
        assert_close(images.decode(data).image, wanted, 2)


def cmyk_profile():
    """Return a press on which magenta and yellow look dark, and cyan light."""
    inks = np.stack(np.meshgrid(*[[0, 1]] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    light = 100 - inks @ [10, 60, 40, 90]
    lab = np.stack([np.clip(light, 0, 100) * 2.55, 128 + 0 * light, 128 + 0 * light], axis=-1)
    ramp = bytes(range(256))
    table = b"mft1" + struct.pack(">4x3Bx9i", 4, 3, 2, *np.eye(3, dtype=int).ravel() * 65536)
    table += ramp * 4 + lab.round().astype(np.uint8).tobytes() + ramp * 3
    head = struct.pack(
        ">4xI4s4s4s12x4s28x3i48x",
        0x02400000,
        b"prtr",
        b"CMYK",
        b"Lab ",
        b"acsp",
        63190,
        65536,
        54061,
    )
    white = struct.pack(">4s4x3i", b"XYZ ", 63190, 65536, 54061)
    index = struct.pack(">I4sII4sII", 2, b"wtpt", 156, 20, b"A2B0", 176, len(table))
    profile = head + index + white + table
    return struct.pack(">I", len(profile) + 4) + profile


class TestCmyk:
    profile = cmyk_profile()
    inks = np.kron(
        np.array([[[0, 0, 0, 0], [255, 0, 0, 0]], [[0, 255, 0, 0], [0, 0, 255, 0]]], np.uint8),
        np.ones((64, 64, 1), np.uint8),
    )

    def jpeg(self, **options):
        return save(Pil.fromarray(self.inks, "CMYK"), "JPEG", quality=98, **options)

    def assert_as_printed(self, image):
        side = image.shape[0] // 2
        levels = [image[at, by].mean() for at in (4, side + 4) for by in (4, side + 4)]
        paper, cyan, magenta, yellow = levels
        assert paper > 250
        assert paper > cyan + 15 > yellow + 60 > magenta + 80
        assert np.ptp(image.reshape(-1, 3).astype(int), axis=1).max() <= 4  # all of it is grey

    def test_profile(self):
        self.assert_as_printed(images.decode(self.jpeg(icc_profile=self.profile)).image)

    def test_ycck(self):
        data = self.jpeg(icc_profile=self.profile)
        at = data.index(b"Adobe") + 11
        ycck = data[:at] + b"\2" + data[at + 1 :]  # other inks, then, and as Pillow has them
        picture = Pil.open(io.BytesIO(ycck))
        assert_close(images.decode(ycck).image, images.load(picture), 1)

    def test_without_a_profile_it_is_as_before(self):
        found = images.decode(self.jpeg()).image
        assert_close(found[4:5, 68:69], np.array([[[0, 255, 255]]]), 4)

    def test_of_a_pil_image(self):
        picture = Pil.open(io.BytesIO(self.jpeg(icc_profile=self.profile)))
        self.assert_as_printed(images.load(picture))
        picture = Pil.fromarray(self.inks, "CMYK")
        picture.info["icc_profile"] = self.profile
        self.assert_as_printed(images.load(picture))

    @pytest.mark.parametrize("min_side", [20, 10, 5, 1])
    def test_at_reduced_scale(self, min_side):
        found = images.decode(self.jpeg(icc_profile=self.profile), min_side=min_side)
        assert found.size == (128, 128)
        assert found.image.shape[0] == 128 // next(
            f for f in (8, 4, 2, 1) if 128 / f >= 3 * min_side
        )
        self.assert_as_printed(found.image)

    @pytest.mark.parametrize("profile", [P3, b"junk", cmyk_profile()[:300]])
    def test_a_profile_that_does_not_fit_is_ignored(self, profile):
        plain = images.decode(self.jpeg()).image
        found = images.decode(self.jpeg(icc_profile=profile)).image
        np.testing.assert_array_equal(found, plain)

    def test_turned(self):
        exif = Pil.Exif()
        exif[0x0112] = 2
        found = images.decode(self.jpeg(icc_profile=self.profile, exif=exif)).image
        self.assert_as_printed(found[:, ::-1])


@pytest.mark.parametrize("min_side", [None, 10, 5])
def test_at_reduced_scale(min_side):
    data = jpeg_with(app2(1, 1, P3))
    found = images.decode(data, min_side=min_side).image
    side = found.shape[0] // 2
    assert side == {None: 32, 10: 16, 5: 8}[min_side]
    middle = found[side // 2 :: side, side // 2 :: side]
    assert_close(middle, WANTED[16::32, 16::32], 6)


def test_alpha_is_laid_over_the_ground_after_the_conversion():
    """White stays white, and half of a colour is half of the converted one."""
    alpha = np.full((*STORED.shape[:2], 1), 128, np.uint8)
    alpha[:, ::2] = 0
    data = save(Pil.fromarray(np.dstack([STORED, alpha])), "PNG", icc_profile=P3)
    found = images.decode(data).image
    assert (found[:, ::2] == 255).all()
    wanted = WANTED * (128 / 255) + 255 * (127 / 255)
    assert_close(found[:, 1::2], wanted[:, 1::2], 3)


def test_premultiplied_colour_is_divided_first():
    alpha = np.full((*STORED.shape[:2], 1), 128, np.uint8)
    alpha[:, :4] = 255
    clear = Pil.fromarray(np.dstack([STORED, alpha]))
    data = save(clear, "TIFF", icc_profile=P3)
    wanted = WANTED * (alpha / 255) + 255 * (1 - alpha / 255.0)
    assert_close(images.decode(data).image, wanted, 4)


def test_sixteen_bits():
    import cv2

    deep = STORED[:, :, ::-1].astype(np.uint16) * 257
    data = cv2.imencode(".png", deep)[1].tobytes()
    data = data[:33] + chunk(b"iCCP", b"n\0\0" + zlib.compress(P3)) + data[33:]
    assert_close(images.decode(data).image, WANTED, 2)


def test_threads_share_a_conversion():
    data = CARRIERS["png"]
    wanted = images.decode(data).image
    wrong = []

    def work():
        found = [images.decode(data).image for _ in range(50)]
        wrong.extend(not np.array_equal(image, wanted) for image in found)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not any(wrong)


def test_profiles_of_code_points():
    assert coded_profile(1, 13) == coded_profile(2, 2) == coded_profile(12, 16) == b""
    assert profile_space(coded_profile(9, 14)) == "RGB"
    assert coded_profile(12, 13) == P3


def test_pillow_is_loaded_only_where_it_is_needed():
    import subprocess
    import sys

    code = (
        "import sys, numpy, imgret.images as images\n"
        "images.decode(images.encode(numpy.zeros((8, 8, 3), 'uint8')))\n"
        "assert 'PIL' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
