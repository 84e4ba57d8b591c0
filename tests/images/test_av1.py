"""Headers of AV1 streams, written bit by bit as the specification has them (5.5, 5.9 and 4.10)."""

from random import Random

import pytest

from imgret.images.av1 import largest_frame

KEY, INTER, INTRA_ONLY, SWITCH = range(4)
CHOOSE = 2


class Writer:
    """Writes numbers of any number of bits, and invents those that do not matter."""

    def __init__(self, rng):
        self.rng, self.digits = rng, ""

    def put(self, number, bits):
        self.digits += f"{number:0{bits}b}" if bits else ""
        return number

    def flag(self, share=0.5):
        return self.put(int(self.rng.random() < share), 1)

    def any(self, bits):
        return self.put(self.rng.getrandbits(bits), bits)

    def uvlc(self):
        zeros = self.rng.choice([0, 1, 2, 7, 31, 32, 33])
        self.digits += "0" * zeros + "1"
        if zeros < 32:
            self.any(zeros)

    def content(self):
        return int(self.digits.ljust(-(-len(self.digits) // 8) * 8, "0"), 2).to_bytes(
            -(-len(self.digits) // 8), "big"
        )


def sequence(rng):  # noqa: C901, PLR0912  # one a field
    """Return a sequence header, and what it says."""
    bits = Writer(rng)
    bits.any(4)  # profile, still picture
    is_short = bits.flag(0.2)
    time_bits = 0
    if is_short:
        bits.any(5)
    else:
        delay = 0
        if bits.flag():  # timing
            bits.any(64)
            is_regular = bits.flag()
            if is_regular:
                bits.uvlc()
            if bits.flag():  # decoder model
                delay = bits.any(5) + 1
                bits.any(37)
                number = bits.any(5) + 1
                time_bits = 0 if is_regular else number
        has_display_delay = bits.flag()
        for _ in range(bits.put(rng.choice([0, 1, 2, 31]), 5) + 1):
            bits.any(12)
            if bits.put(rng.choice([0, 7, 8, 31]), 5) > 7:
                bits.any(1)
            if delay and bits.flag():
                bits.any(2 * delay + 1)
            if has_display_delay and bits.flag():
                bits.any(4)
    across, down = bits.any(4) + 1, bits.any(4) + 1
    size = bits.any(across) + 1, bits.any(down) + 1
    id_bits, screen, whole = 0, CHOOSE, CHOOSE
    if not is_short:
        if bits.flag():
            id_bits = bits.any(4) + bits.any(3) + 3
        bits.any(7)
        if bits.flag():  # order of frames
            bits.any(2)
        screen = CHOOSE if bits.flag() else bits.any(1)
        if screen:
            whole = CHOOSE if bits.flag() else bits.any(1)
    bits.any(rng.choice([0, 0, 3, 30]))
    bound = 1 << across, 1 << down
    return bits.content(), (is_short, time_bits, id_bits, screen, whole, size, bound)


def frame(rng, told):
    """Return a frame header of a sequence, and whether it gives a size of its own."""
    is_short, time_bits, id_bits, screen, whole, *_ = told
    bits = Writer(rng)
    if is_short:
        bits.any(20)
        return bits.content(), False
    if bits.flag(0.1):  # an earlier frame is shown
        bits.any(30)
        return bits.content(), False
    kind, is_shown = bits.any(2), bits.flag()
    if is_shown:
        bits.any(time_bits)
    else:
        bits.any(1)
    if kind != SWITCH and not (kind == KEY and is_shown):
        bits.any(1)
    bits.any(1)
    uses_screen = bits.any(1) if screen == CHOOSE else screen
    if uses_screen and whole == CHOOSE:
        bits.any(1)
    bits.any(id_bits)
    has_own = kind == SWITCH or bool(bits.flag())
    bits.any(rng.choice([16, 40]))
    return bits.content(), has_own


def leb128(number, rng):
    """Return a LEB128 number; longer than it must be, at times."""
    digits = []
    while number or not digits:
        digits.append(number & 127)
        number >>= 7
    digits += [0] * rng.choice([0, 0, 1, 8 - len(digits)])
    return bytes([*(digit | 128 for digit in digits[:-1]), digits[-1]])


def unit(kind, content, rng, *, is_last=False):
    has_extension, has_size = rng.random() < 0.5, not is_last or rng.random() < 0.5
    head = bytes([kind << 3 | 4 * has_extension | 2 * has_size | rng.getrandbits(1)])
    head += bytes([rng.getrandbits(8)] * has_extension)
    return head + (leb128(len(content), rng) if has_size else b"") + content


def test_the_largest_frame_is_that_of_the_headers():
    for seed in range(1500):
        rng = Random(seed)  # noqa: S311  # no secret
        units, sizes, told = [], [(0, 0)], None
        for _ in range(rng.choice([1, 2, 3])):
            if rng.random() < 0.2:  # a unit of no interest
                units.append((rng.choice([2, 4, 5, 8, 15]), rng.randbytes(rng.choice([0, 9, 600]))))
            if told is None or rng.random() < 0.2:
                content, told = sequence(rng)
                units.append((1, content))
                sizes.append(told[-2])
            content, has_own = frame(rng, told)
            units.append((rng.choice([3, 6, 7]), content))
            sizes += [told[-1]] if has_own else []
        stream = b"".join(
            unit(*each, rng, is_last=n == len(units) - 1) for n, each in enumerate(units)
        )
        assert largest_frame(stream) == max(sizes, key=lambda size: size[0] * size[1]), seed


def test_a_frame_before_its_sequence_says_nothing():
    rng = Random(0)  # noqa: S311  # no secret
    head, told = sequence(rng)
    frames = b"".join(unit(3, rng.randbytes(30), rng) for _ in range(20))
    assert largest_frame(frames) == (0, 0)
    assert largest_frame(frames + unit(1, head, rng)) == told[-2]


def test_a_stream_that_ends_early_has_the_size_that_is_there():
    head = "000010000000100010101110"  # a still image of 6 x 7, in three bytes
    content = int(head, 2).to_bytes(3, "big")
    assert largest_frame(b"\x0a\x03" + content) == (6, 7)
    assert largest_frame(b"\x0a\x02" + content[:2]) == (0, 0)
    assert largest_frame(b"\x0a\x03" + content + b"\x1a" + b"\xff" * 20) == (6, 7)  # no size
    assert largest_frame(b"\x08" + content) == (6, 7)
    too_long = b"\x80" * 8 + b"\x03"  # a LEB128 number has eight bytes at most
    assert largest_frame(b"\x0a" + too_long + content) != (6, 7)
    assert largest_frame(b"") == largest_frame(b"\x0a") == (0, 0)


@pytest.mark.parametrize(("units", "size"), [(10_000, (0, 0)), (10_001, (65536, 65536))])
def test_more_than_ten_thousand_units_are_no_image(units, size):
    assert largest_frame(b"\x7a\0" * units) == size
