"""Images made to take more memory or time than their size allows."""

import io
import os
import struct
import threading
import time
import zlib

import numpy as np
import pytest
from PIL import Image as Pil

from imgret import images
from imgret.errors import ImageTooLargeError
from imgret.files import place
from imgret.images.av1 import largest_frame
from imgret.images.ground import over_ground
from imgret.images.limits import DecodingMemory, decoding_bytes, decoding_memory


def saved(kind, image, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


# -- scans of a JPEG -----------------------------------------------------------------------------


def with_scans(side, scans, between=b""):
    """A progressive JPEG whose last scan is there again and again."""
    plain = saved("JPEG", Pil.new("L", (side, side), 99), progressive=True)
    last = plain.rindex(b"\xff\xda")
    table = plain.rindex(b"\xff\xc4", 0, last)
    return plain[:-2] + (between + plain[table:-2]) * scans + b"\xff\xd9"


@pytest.mark.slow
@pytest.mark.parametrize(("side", "scans", "most"), [(2000, 5000, 750), (9990, 300, 30)])
def test_a_jpeg_of_hundreds_of_scans_is_refused(side, scans, most):
    data = with_scans(side, scans)
    with pytest.raises(ImageTooLargeError, match=rf"at most {most} scans .*, found {scans + 6}"):
        images.decode(data, min_side=64)


def test_an_end_in_a_comment_hides_no_scans():
    data = with_scans(2000, 5000, between=b"\xff\xfe\0\x04\xff\xd9")
    with pytest.raises(ImageTooLargeError, match="found 5006"):
        images.decode(data)


def test_scans_that_no_decoder_reads_cost_nothing():
    """A sequential JPEG ends with the scan of all its channels, whatever follows."""
    plain = saved("JPEG", Pil.effect_noise((1000, 1000), 50).convert("RGB"))
    first = plain.index(b"\xff\xda")
    many = plain[:-2] + plain[first:-2] * 100 + b"\xff\xd9"
    times = []
    for data in (plain, many):
        started = time.process_time()
        decoded = images.decode(data).image
        times.append(time.process_time() - started)
        assert decoded.shape == (1000, 1000, 3)
    assert times[1] < 10 * times[0] + 0.1


def test_bytes_after_the_image_are_not_scans():
    data = saved("JPEG", Pil.new("L", (16, 16), 99), progressive=True) + 2000 * b"\xff\xda\0\2"
    assert images.header(data).scans == 6
    assert images.decode(data).size == (16, 16)


def test_the_scans_of_encoders_are_few_enough():
    data = saved("JPEG", Pil.effect_noise((256, 256), 50), progressive=True, quality=99)
    assert 1 < images.header(data).scans < 20
    assert images.header(saved("JPEG", Pil.effect_noise((256, 256), 50))).scans == 1


# -- sizes ---------------------------------------------------------------------------------------


def png(width, height, bits, color):
    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    row = 1 + width * bits // 8 * {2: 3, 6: 4}[color]
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(row * height)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("bits", "color", "most"), [(8, 2, 6400), (8, 6, 6400), (16, 2, 9600), (16, 6, 12800)]
)
def test_deep_pixels_count_for_the_bytes_they_take(bits, color, most):
    data = png(80, 80, bits, color)
    assert images.decode(data, max_pixels=most).size == (80, 80)
    with pytest.raises(ImageTooLargeError, match="at most"):
        images.decode(data, max_pixels=most - 1)


def unit(kind, *fields):
    """A unit of an AV1 stream of numbers, each with its bits."""
    digits = "".join(f"{number:0{bits}b}" for number, bits in fields)
    body = int(digits.ljust(192, "0"), 2).to_bytes(24, "big")
    return bytes([kind << 3 | 2, len(body)]) + body


def sequence(width, height, *, is_short=True, timing=((0, 1),)):
    points = [(0, 4), (0, 1), *timing, (0, 1), (0, 5 + 12 + 5)]
    start = [(0, 4), (1, 1), (0, 5)] if is_short else points
    sizes = [(15, 4), (15, 4), (width - 1, 16), (height - 1, 16)]
    return unit(1, *start, *sizes, *([] if is_short else [(0, 9), (3, 2)]))


def padding(size):
    return bytes([15 << 3 | 2, 0x80 | size & 127, size >> 7]) + bytes(size) if size else b""


def avif_with_stream(stream_of):
    """An AVIF whose stream is replaced, and whose boxes still say 8 x 8."""
    data = saved("AVIF", Pil.new("RGB", (8, 8), (9, 9, 9)), speed=10)
    body = data.index(b"mdat") + 4
    stream = stream_of(data[body:])
    place_ = data.index(b"iloc")
    extent = data.index(struct.pack(">II", body, len(data) - body), place_)
    return (
        data[:extent]
        + struct.pack(">II", body, len(stream))
        + data[extent + 8 : body - 8]
        + struct.pack(">I", len(stream) + 8)
        + b"mdat"
        + stream
    )


@pytest.mark.parametrize("at", [0, 3000])
def test_an_avif_counts_by_the_frames_in_it(at):
    data = avif_with_stream(lambda stream: padding(at) + sequence(16000, 16000) + stream)
    assert images.header(data).coded == (16000, 16000)
    with pytest.raises(ImageTooLargeError, match="16000 x 16000"):
        images.decode(data)


@pytest.mark.parametrize(("has_own", "largest"), [(1, (65536, 65536)), (0, (8, 8))])
def test_a_frame_that_gives_its_own_size_counts_by_what_it_can_give(has_own, largest):
    key_frame = [(0, 1), (0, 2), (1, 1), (0, 2), (has_own, 1)]
    for kind in (3, 6):
        stream = sequence(8, 8, is_short=False) + unit(kind, *key_frame)
        assert largest_frame(stream) == largest


@pytest.mark.parametrize("picks", [[(1, 1)], [(0b00101, 5)], [(1, 4), (0b101, 3)]])
@pytest.mark.parametrize("is_regular", [True, False])
def test_a_sequence_may_say_when_its_frames_are_shown(is_regular, picks):
    timing = [(1, 1), (7, 64), (int(is_regular), 1), *(picks if is_regular else []), (0, 1)]
    stream = sequence(640, 480, is_short=False, timing=timing)
    stream += unit(3, (0, 1), (0, 2), (1, 1), (0, 2), (0, 1))
    assert largest_frame(stream) == (640, 480)


def test_the_frames_of_encoders_have_the_size_of_their_sequence():
    noise = Pil.effect_noise((99, 66), 80).convert("RGB")
    for options in ({}, {"save_all": True, "append_images": [noise.rotate(9)]}):
        assert images.header(saved("AVIF", noise, speed=10, **options)).coded == (0, 0)


def test_a_stream_of_endless_units_is_no_image():
    assert largest_frame(b"\x7a\0" * 20_000) == (65536, 65536)


def test_a_tiff_has_the_size_that_its_first_tags_give():
    data = bytearray(saved("TIFF", Pil.new("L", (20, 20))))
    start = struct.unpack_from("<I", data, 4)[0]
    entries = struct.unpack_from("<H", data, start)[0]
    tags = [bytes(data[start + 2 + 12 * n : start + 14 + 12 * n]) for n in range(entries)]
    large = [struct.pack("<HHII", tag, 4, 1, 20000) for tag in (256, 257)]
    twice = [*large, *tags]
    directory = struct.pack("<H", len(twice)) + b"".join(twice) + bytes(4)
    data[4:8] = struct.pack("<I", len(data))
    with pytest.raises(ImageTooLargeError, match="20000 x 20000"):
        images.decode(bytes(data) + directory)


# -- files ---------------------------------------------------------------------------------------


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "sparse.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0")
    os.truncate(path, 3 << 30)
    with pytest.raises(ImageTooLargeError, match=r"sparse\.jpg: .* 1,024 MB, found one of 3,072"):
        images.load(path)


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="there is no such device")  # noqa: PTH110
def test_a_device_that_never_ends_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(place, "_MOST_BYTES", 1 << 22)
    path = tmp_path / "endless.jpg"
    path.symlink_to("/dev/zero")
    with pytest.raises(ImageTooLargeError, match="found one that goes on"):
        images.load(path)


# -- memory --------------------------------------------------------------------------------------


def test_decoders_of_all_threads_share_a_budget():
    memory, most, lock = DecodingMemory(300 << 20), [0], threading.Lock()
    sizes = [(100 + 20 * n) << 20 for n in range(12)]  # the last take all of it

    def decode(size):
        with memory.use(size), lock:
            most[0] = max(most[0], memory.used)

    threads = [threading.Thread(target=decode, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert most[0] == max(sizes)  # more than there is: alone
    assert memory.used == 0


def test_what_needs_little_waits_for_nobody():
    memory = DecodingMemory(1)
    with memory.use(1 << 30):
        entered = []
        thread = threading.Thread(target=lambda: entered.append(memory.use(1 << 20).__enter__()))
        thread.start()
        thread.join(10)
        assert entered == [None]


def test_decoding_takes_its_share_and_gives_it_back(monkeypatch):
    taken = []
    use = DecodingMemory.use

    def watched(memory, wanted):
        taken.append(wanted)
        return use(memory, wanted)

    monkeypatch.setattr(DecodingMemory, "use", watched)
    data = png(1200, 1000, 16, 6)
    images.decode(data)
    assert taken == [decoding_bytes(images.header(data))]
    assert taken[0] > 1_200_000 * (8 + 3)
    assert decoding_memory.used == 0


def test_a_large_image_is_composited_as_a_small_one(monkeypatch):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (90, 70, 4), dtype=np.uint8)
    whole = {kind: over_ground(pixels[:, :, :3], pixels[:, :, 3], kind) for kind in KINDS}
    deep = png_of(pixels)
    expected = images.decode(deep).image
    monkeypatch.setattr("imgret.images.ground._BAND", 1000)
    monkeypatch.setattr("imgret.images.decoding._BAND_PIXELS", 1000)
    for kind in KINDS:
        np.testing.assert_array_equal(
            over_ground(pixels[:, :, :3], pixels[:, :, 3], kind), whole[kind]
        )
    np.testing.assert_array_equal(images.decode(deep).image, expected)


KINDS = ("straight", "premultiplied")


def png_of(pixels):
    import cv2  # Pillow writes no 16-bit RGBA

    return cv2.imencode(".png", pixels.astype(np.uint16) * 257)[1].tobytes()
