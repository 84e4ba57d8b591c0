"""Headers of files that are put together part by part, so that each part says what is known."""

import zlib
from dataclasses import replace
from struct import pack

import pytest

from imgret.errors import ImageCorruptError
from imgret.images import header
from imgret.images.headers import Header, preview_orientation
from imgret.images.icc import SRGB, coded_profile, make_profile

EXIF = b"II*\0\x08\0\0\0\x01\0" + pack("<HHIHH", 0x0112, 3, 1, 6, 0) + bytes(4)
OTHER_EXIF = EXIF.replace(b"\x06", b"\x03")
XMP = b"<x tiff:Orientation='8'/>"
P3 = (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290)

# -- JPEG ------------------------------------------------------------------------------------------


def segment(marker, body):
    return bytes([0xFF, marker]) + pack(">H", 2 + len(body)) + body


def frame(kind=0xC0, bits=8, height=300, width=400, channels=3):
    return segment(kind, pack(">BHHB", bits, height, width, channels) + bytes(3 * channels))


def scan(channels=3, data=b"some data"):
    return segment(0xDA, bytes([channels]) + bytes(2 * channels + 3)) + data


def jpeg(*parts, end=b"\xff\xd9"):
    return b"\xff\xd8" + b"".join(parts) + end


def test_jpeg_is_read_up_to_its_first_scan():
    plain = header(jpeg(frame(), scan()))
    assert (plain.format, plain.size, plain.bits, plain.channels) == ("JPEG", (400, 300), 8, 3)
    assert (plain.scans, plain.buffered, plain.unsupported) == (1, False, "")
    assert (plain.exif, plain.profile, plain.orientation) == (b"", b"", 1)
    data = jpeg(frame(), scan())
    assert (plain.end, header(data[:-1]).end) == (len(data), None)
    inner = segment(0xE0, jpeg(frame(width=8, height=8), scan()))
    fill, alone = b"\xff\xff\xff", b"".join(bytes([0xFF, n]) for n in (0, 1, *range(0xD0, 0xD9)))
    tables = segment(0xC4, bytes(20)) + segment(0xC8, bytes(20)) + segment(0xCC, bytes(20))
    for before in (inner, fill, alone, tables, b"junk", segment(2, bytes(9))):
        assert header(jpeg(segment(0xE0, b"JFIF"), before, frame(), scan())) == header(
            jpeg(segment(0xE0, b"JFIF"), frame(), before, scan())
        )
        assert header(jpeg(segment(0xFE, b""), before, frame(), scan())).size == (400, 300)
    for wrong in (jpeg(scan()), jpeg(frame(), b"\xff\xd9", scan()), jpeg(frame())[:-2]):
        with pytest.raises(ImageCorruptError, match="JPEG header is damaged or cut short"):
            header(wrong)


@pytest.mark.parametrize(
    ("kind", "what", "buffered"),
    [
        (0xC0, "", False),
        (0xC1, "", False),
        (0xC2, "", True),
        (0xC3, "lossless JPEG", False),
        (0xC5, "hierarchical JPEG", False),
        (0xC6, "hierarchical JPEG", True),
        (0xC7, "hierarchical JPEG", False),
        (0xC9, "arithmetic-coded JPEG", False),
        (0xCA, "arithmetic-coded progressive JPEG", True),
        (0xCB, "hierarchical JPEG", False),
        (0xCD, "hierarchical JPEG", False),
        (0xCE, "hierarchical JPEG", True),
        (0xCF, "hierarchical JPEG", False),
    ],
)
def test_kinds_of_jpeg(kind, what, buffered):
    found = header(jpeg(frame(kind), scan()))
    assert (found.unsupported, found.buffered) == (what, buffered)
    assert header(jpeg(frame(kind), scan(1))).buffered is True
    if not what:
        for bits in (7, 12):
            found = header(jpeg(frame(kind, bits), scan()))
            assert (found.unsupported, found.bits) == (f"JPEG of {bits} bits per channel", bits)
        for channels in range(1, 6):
            found = header(jpeg(frame(kind, channels=channels), scan(channels)))
            usual = channels in {1, 3, 4}
            assert found.unsupported == ("" if usual else f"JPEG of {channels} channels")
            assert found.channels == channels


def test_scans_of_a_jpeg_are_counted_well_if_they_seem_many():
    for real in (1, 2, 29, 30, 31, 40):
        assert header(jpeg(frame(), *[scan(1, b"\xff\0\xff\xd3d")] * real)).scans == real
    for seeming, scans in ((29, 30), (30, 1)):
        comment = segment(0xFE, b"\xff\xda" * seeming)
        assert header(jpeg(frame(0xC2), scan(), comment)).scans == scans
    behind = jpeg(frame(0xC2), scan(), comment, scan()) + b"\xff\xda" * 40
    assert header(behind).scans == 2


@pytest.mark.parametrize("kind", [0xC0, 0xC1])
def test_a_scan_of_all_channels_is_the_last_one_that_is_read(kind):
    assert header(jpeg(frame(kind), *[scan()] * 40)).scans == 1
    assert header(jpeg(frame(kind), *[scan(2)] * 40)).scans == 40


def test_metadata_of_a_jpeg():
    xmp, app1 = b"http://ns.adobe.com/xap/1.0/\0", b"Exif\0\0"
    parts = [segment(0xE1, xmp + XMP), segment(0xE1, xmp + XMP.replace(b"8", b"5"))]
    assert header(jpeg(*parts, frame(), scan())).orientation == 8
    for exif in ((EXIF,), (EXIF, OTHER_EXIF), (EXIF[:20], EXIF[20:])):
        found = header(jpeg(*parts, *(segment(0xE1, app1 + e) for e in exif), frame(), scan()))
        assert (found.exif, found.orientation, found.size) == (EXIF, 6, (300, 400))
    for other in (
        segment(0xE2, app1 + EXIF),
        segment(0xE1, b"Other\0" + EXIF),
        segment(0xE2, xmp + XMP),
        segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + XMP),
    ):
        found = header(jpeg(other, frame(), scan()))
        assert (found.exif, found.orientation) == (b"", 1)


def test_a_profile_of_a_jpeg_may_have_parts():
    def part(number, of, body, marker=0xE2):
        return segment(marker, b"ICC_PROFILE\0" + bytes([number, of]) + body)

    for parts, profile in (
        ([part(1, 1, b"one")], b"one"),
        ([part(2, 3, b"two"), part(3, 3, b"three"), part(1, 3, b"one")], b"onetwothree"),
        ([part(1, 1, b""), part(1, 1, b"one"), part(1, 2, b"other")], b"one"),
        ([part(1, 2, b"one"), part(2, 2, b"two"), part(2, 3, b"other")], b"onetwo"),
        ([part(1, 3, b"one"), part(3, 3, b"three")], b""),
        ([part(2, 2, b"two")], b""),
        ([part(1, 1, b"one", marker=0xE1)], b""),
    ):
        assert header(jpeg(*parts, frame(), scan())).profile == profile


# -- PNG -------------------------------------------------------------------------------------------


def chunk(kind, body=b""):
    return pack(">I", len(body)) + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def png(*chunks, width=400, height=300, bits=8, color=2):
    head = chunk(b"IHDR", pack(">II5B", width, height, bits, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IDAT", b"x") + chunk(b"IEND")


@pytest.mark.parametrize(
    ("color", "channels", "alpha"),
    [(0, 1, None), (2, 3, None), (3, 3, None), (4, 1, "straight"), (6, 3, "straight")],
)
def test_colours_of_png(color, channels, alpha):
    found = header(png(color=color, bits=16))
    assert (found.format, found.size, found.bits) == ("PNG", (400, 300), 16)
    assert (found.channels, found.alpha, found.transparent) == (channels, alpha, None)
    clear = header(png(chunk(b"tRNS", b"\1\2\3\4\5\6"), color=color))
    assert clear.alpha == (None if color == 0 else "straight")
    assert clear.transparent == (0x0102 if color == 0 else None)


def test_png_ends_with_its_last_chunk():
    data = png()
    assert header(data + b"more").end == header(data).end == len(data)
    for cut in range(1, 12):
        assert header(data[:-cut]).end is None
    with pytest.raises(ImageCorruptError, match="PNG header is damaged"):
        header(data.replace(b"IHDR", b"iHDR", 1))


def test_metadata_of_a_png():
    xmp = b"XML:com.adobe.xmp\0\0\0\0\0" + XMP
    found = header(png(chunk(b"iTXt", xmp), chunk(b"iTXt", xmp.replace(b"8", b"5"))))
    assert found.orientation == 8
    found = header(png(chunk(b"iTXt", xmp), chunk(b"eXIf", EXIF), chunk(b"eXIf", OTHER_EXIF)))
    assert (found.exif, found.orientation) == (EXIF, 6)
    raw = b"\nexif\n 26\n" + EXIF.hex().encode()
    named = b"Raw profile type exif\0"
    assert (
        header(png(chunk(b"tEXt", named + raw), chunk(b"tEXt", named + b"\nexif\n0\n"))).exif
        == EXIF
    )
    for size, read in ((1 << 20, True), ((1 << 20) + 1, False)):  # what is unpacked is limited
        padded = raw.replace(b"\n", b"\n" + b" " * (size - len(raw)), 1)
        found = header(png(chunk(b"zTXt", named + b"\0" + zlib.compress(padded))))
        assert (found.exif == EXIF) is read


def test_colours_of_a_png_may_be_those_of_a_profile():
    def gama(number):
        return chunk(b"gAMA", pack(">I", number))

    def chrm(*points):
        white, colors = points[6:], points[:6]
        return chunk(b"cHRM", pack(">8I", *(round(100_000 * p) for p in (*white, *colors))))

    def near(difference):
        return (SRGB[0] + difference, *SRGB[1:])

    icc, srgb = chunk(b"iCCP", b"name\0\0" + zlib.compress(b"profile")), chunk(b"sRGB", b"\0")
    cicp = chunk(b"cICP", bytes([12, 13, 0, 1]))
    for chunks, profile in (
        ([], b""),
        ([icc], b"profile"),
        ([srgb, icc, gama(100_000)], b"profile"),
        ([icc, cicp, gama(100_000)], coded_profile(12, 13)),
        ([srgb, gama(100_000)], b""),
        ([chrm(*P3)], b""),
        ([gama(100_000)], make_profile(SRGB, 1.0)),
        ([gama(40_000)], make_profile(SRGB, 2.5)),
        ([gama(45_455), chrm(*P3)], make_profile(P3, None)),
        ([gama(80_000), chrm(*P3)], make_profile(P3, 1.25)),
        ([gama(80_000), chrm(*near(0.004))], make_profile(SRGB, 1.25)),
        ([gama(80_000), chrm(*near(0.006))], make_profile((0.646, *SRGB[1:]), 1.25)),
        ([gama(45_455), chrm(*near(0.004))], b""),
        ([gama(45_455), chrm(*near(-0.006))], make_profile((0.634, *SRGB[1:]), None)),
        ([gama(20_000)], b""),
        ([gama(20_010)], make_profile(SRGB, 100_000 / 20_010)),
        ([gama(500_000)], b""),
        ([gama(499_000)], make_profile(SRGB, 100_000 / 499_000)),
        ([gama(round(1e5 / 2.2 / 1.049))], b""),
        ([gama(round(1e5 / 2.2 / 0.951))], b""),
        ([gama(43_000)], make_profile(SRGB, 1e5 / 43_000)),
        ([gama(43_250)], make_profile(SRGB, 1e5 / 43_250)),
        ([gama(47_900)], make_profile(SRGB, 1e5 / 47_900)),
    ):
        assert header(png(*chunks)).profile == profile


# -- WebP and GIF ----------------------------------------------------------------------------------


def webp(*chunks, end=b""):
    body = b"WEBP" + b"".join(k + pack("<I", len(b)) + b + bytes(len(b) & 1) for k, b in chunks)
    return b"RIFF" + pack("<I", len(body)) + body + end


def vp8x(width, height, flags=0):
    return b"VP8X", pack("<I", flags) + pack("<I", width - 1)[:3] + pack("<I", height - 1)[:3]


def vp8l(width, height, alpha=0):
    return b"VP8L", b"\x2f" + pack("<I", width - 1 | height - 1 << 14 | alpha << 28) + b"data"


def vp8(width, height):
    sides = pack("<HH", width | 0x4000, height | 0x8000)  # each with a scale
    return b"VP8 ", b"\x30\x01\x00\x9d\x01\x2a" + sides + b"data"


def test_webp():
    for chunks, size, alpha in (
        ([vp8(401, 299)], (401, 299), None),
        ([vp8l(401, 16384)], (401, 16384), None),
        ([vp8l(16384, 299, 1)], (16384, 299), "straight"),
        ([vp8x(70_000, 80_001), vp8(401, 299)], (70_000, 80_001), None),
        ([vp8x(401, 299, 0x10), vp8l(8, 8)], (401, 299), "straight"),
        ([vp8x(401, 299, 0xEF), vp8l(8, 8, 1)], (401, 299), None),
        ([(b"odd ", b"abc"), vp8(401, 299)], (401, 299), None),
        ([(b"even", b"ab"), vp8l(401, 299), vp8(8, 8)], (401, 299), None),
    ):
        data = webp(*chunks)
        found = header(data)
        assert (found.format, found.size, found.alpha) == ("WebP", size, alpha)
        assert (found.end, header(data + b"more").end, header(data[:-1]).end) == (
            len(data),
            len(data),
            None,
        )
    told = [(b"XMP ", XMP), (b"XMP ", b"other"), (b"ICCP", b"profile"), (b"ICCP", b"other")]
    found = header(webp(vp8x(9, 8), *told))
    assert (found.orientation, found.profile, found.exif) == (8, b"profile", b"")
    found = header(webp(vp8x(9, 8), (b"EXIF", EXIF), (b"EXIF", OTHER_EXIF), *told))
    assert (found.orientation, found.exif) == (6, EXIF)
    behind = webp(vp8x(9, 8), end=b"EXIF" + pack("<I", len(EXIF)) + EXIF)
    assert header(behind).exif == b""


def gif(*blocks, flags=0, width=400, height=300):
    head = b"GIF89a" + pack("<HHB", width, height, flags) + bytes(2)
    return head + (bytes(6 << (flags & 7)) if flags & 0x80 else b"") + b"".join(blocks)


def drawn(flags=0, data=b"\x02\x03abc\x01d\0"):
    return (
        b"\x2c"
        + bytes(8)
        + bytes([flags])
        + (bytes(6 << (flags & 7)) if flags & 0x80 else b"")
        + data
    )


def test_gif():
    comment, control = b"\x21\xfe\x03abc\x02de\0", b"\x21\xf9\x04%c\0\0\0\0"
    for before, alpha in (
        (b"", None),
        (comment, None),
        (control % b"\1", "straight"),
        (control % b"\xfe", None),
        (b"\x21\xff\x04\1\1\1\1\0" + control % b"\xff" + comment, "straight"),
    ):
        for flags in (0, 7, 0x80, 0x87, 0xF2):
            for own in (0, 0x81, 0x86):
                data = gif(before, drawn(own), flags=flags)
                for behind in (b"", b"\x3b", control % b"\1", drawn()):
                    found = header(data + behind)
                    assert (found.format, found.size) == ("GIF", (400, 300))
                    assert (found.alpha, found.end) == (alpha, len(data))
                for cut in range(1, 8):
                    assert header(data[:-cut]).end is None
    for none in (gif(), gif(b"\x3b", drawn()), gif(comment), gif(comment[:-1])):
        assert header(none).end is None


# -- BMP -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [12, 40, 52, 56, 64, 108, 124])
def test_kinds_of_bmp(size):
    for compression in range(14) if size > 12 else [0]:
        for bits in (0, 1, 2, 4, 8, 16, 24, 32, 48, 64):
            start = b"BM" + bytes(8) + pack("<II", 14 + size, size)
            if size == 12:
                data = start + pack("<HHHH", 400, 300, 1, bits)
            else:
                data = start + pack("<iiHHI", 400, -300, 1, bits, compression)
            masks = pack("<20x4I", 1, 2, 4, 8)
            found = header(data + masks + bytes(120))
            usual = {
                0: {1, 4, 8, 16, 24, 32}, 1: {8}, 2: {4}, 3: {16, 32}, 6: {16, 32},
            }.get(compression, set())  # fmt: skip
            if size == 64:
                usual = {*range(65)} if compression < 3 else set()
            assert (found.format, found.size, found.end) == ("BMP", (400, 300), len(data) + 156)
            assert (found.unsupported == "") is (bits in usual)
            if bits not in usual and compression not in {0, 1, 2, 3, 6}:
                name = {4: "JPEG", 5: "PNG", 11: "CMYK", 12: "CMYK", 13: "CMYK"}.get(
                    compression, str(compression)
                )
                name = "RLE24" if (size, compression) == (64, 4) else name
                assert found.unsupported == f"BMP of compression {name}, {bits} bits per pixel"
            elif bits not in usual and size != 64:
                assert found.unsupported == f"BMP of {bits} bits per pixel"
            masked = bits in {16, 32} and size not in {12, 64}
            has_alpha = masked and (compression == 6 or (compression == 3 and size >= 56))
            assert found.alpha == ("straight" if has_alpha else None)


# -- AVIF and HEIC ---------------------------------------------------------------------------------


def box(kind, *parts):
    content = b"".join(parts)
    return pack(">I4s", 8 + len(content), kind) + content


def ispe(width, height):
    return box(b"ispe", bytes(4), pack(">II", width, height))


def heif(items, *, brand=b"avif", primary=1, references=(), extents=(), data=b""):
    """Return a file of items, each an id, a kind and its properties; extents are from its start."""
    infos = [
        box(b"infe", b"\2\0\0\0", pack(">HH4s", number, 0, kind), b"\0")
        for number, kind, _ in items
    ]
    properties, owned = [], b""
    for number, _, own in items:
        places = range(len(properties) + 1, len(properties) + 1 + len(own))
        owned += pack(">HB", number, len(own)) + bytes(places)
        properties += own
    meta = [
        box(b"pitm", bytes(4), pack(">H", primary)),
        box(b"iinf", bytes(4), pack(">H", len(infos)), *infos),
        box(b"iref", bytes(4), *(box(k, pack(">HHH", a, 1, b)) for k, a, b in references)),
        box(
            b"iprp",
            box(b"ipco", *properties),
            box(b"ipma", bytes(4), pack(">I", len(items)), owned),
        ),
    ]
    if extents:
        places = [pack(">HHHII", item, 0, 1, *extent) for item, extent in extents]
        meta.append(box(b"iloc", bytes(4), b"\x44\0", pack(">H", len(places)), *places))
    start = box(b"ftyp", brand, bytes(4), brand) + box(b"mdat", data)
    return start + box(b"meta", bytes(4), *meta)


@pytest.mark.parametrize(("brand", "kind"), [(b"avif", b"av01"), (b"heic", b"hvc1")])
def test_an_image_of_items_has_the_size_and_turn_of_its_primary_one(brand, kind):
    def made(*own, others=(), references=(), kind=kind):
        items = [(2, kind, [ispe(40, 30)]), (1, kind, [ispe(400, 300), *own]), *others]
        return header(heif(items, brand=brand, references=references))

    plain = made()
    assert made(others=[(3, kind, [ispe(10, 301)])]).size == (400, 300)  # the largest one counts
    assert made(others=[(3, kind, [ispe(401, 200)])]).size == (400, 300)
    assert (plain.format, plain.size, plain.orientation) == (
        brand[:4].decode().upper(),
        (400, 300),
        1,
    )
    assert (plain.bits, plain.channels, plain.alpha, plain.profile) == (8, 3, None, b"")
    assert (plain.coded, plain.unsupported, plain.exif) == ((0, 0), "", b"")
    orientations = {None: (1, 8, 3, 6), 0: (4, 5, 2, 7), 1: (2, 7, 4, 5)}
    for axis, turns in orientations.items():
        for turn, orientation in enumerate(turns):
            own = [box(b"irot", bytes([0xFC | turn]))]
            own += [] if axis is None else [box(b"imir", bytes([0xFE | axis]))]
            assert made(*own).orientation == orientation
    turned = [(3, kind, [ispe(9, 9), box(b"irot", b"\1"), box(b"imir", b"\1")])]
    assert made(others=turned).orientation == 1
    clap = box(b"clap", pack(">8I", 900, 3, 500, 2, 0, 1, 0, 1))
    assert made(clap).size == ((400, 300) if brand == b"avif" else (300, 250))
    assert made(others=[(3, kind, [ispe(9, 9), clap])]).size == (400, 300)
    for unit, alpha in (
        (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0", "straight"),
        (b"urn:mpeg:hevc:2015:auxid:1\0", "straight"),
        (b"urn:mpeg:hevc:2015:auxid:1", "straight"),
        (b"urn:mpeg:hevc:2015:auxid:2\0", None),
    ):
        others = [(3, kind, [ispe(400, 300), box(b"auxC", bytes(4), unit)])]
        assert made(others=others).alpha == alpha


@pytest.mark.parametrize(("brand", "kind"), [(b"avif", b"av01"), (b"heic", b"hvc1")])
def test_depth_and_colours_of_items(brand, kind):
    def av1c(flags):
        return box(b"av1C", b"\x81\0", bytes([flags, 0]))

    def made(*own, others=(), references=()):
        items = [(1, kind, [ispe(400, 300), *own]), *others]
        return header(heif(items, brand=brand, references=references))

    for flags, bits, channels in (
        (0x00, 8, 3),
        (0x0F, 8, 3),
        (0x10, 8, 1),
        (0x40, 10, 3),
        (0x50, 10, 1),
        (0x60, 12, 3),
        (0x9F, 8, 1),
    ):
        found = made(av1c(flags))
        assert (found.bits, found.channels) == (bits, channels)
    plane = [(3, kind, [ispe(400, 300), av1c(0x50)])]  # of alpha, grey and deeper
    found = made(av1c(0x00), others=plane, references=[(b"auxl", 3, 1)])
    assert (found.bits, found.channels) == (10, 3)
    grey = made(av1c(0x10), others=[(3, kind, [ispe(9, 9), av1c(0)])], references=[(b"thmb", 3, 1)])
    assert grey.channels == 1
    assert made(av1c(0x10), others=[(3, kind, [ispe(9, 9), av1c(0)])]).channels == 3
    nclx = box(b"colr", b"nclx", pack(">HHH", 12, 13, 1), b"\x80")
    for colours, profile in (
        ([nclx], coded_profile(12, 13)),
        ([nclx, box(b"colr", b"prof", b"profile")], b"profile"),
        ([box(b"colr", b"rICC", b"small"), nclx], b"small"),
        ([box(b"colr", b"what", b"other")], b""),
    ):
        assert made(*colours).profile == profile
    assert made(others=[(3, kind, [ispe(9, 9), nclx])]).profile == b""


@pytest.mark.parametrize(
    ("brand", "usual"),
    [
        (b"avif", {b"av01", b"grid"}),
        (b"heic", {b"hvc1", b"hev1", b"av01", b"grid", b"iden", b"iovl"}),
    ],
)
def test_kinds_of_items(brand, usual):
    for kind in (b"av01", b"grid", b"hvc1", b"hev1", b"iden", b"iovl", b"jpeg", b"avc1"):
        found = header(heif([(1, kind, [ispe(400, 300)])], brand=brand))
        name = brand.decode().upper()
        what = "" if kind in usual else f"{name} of an item of kind {kind.decode()!r}"
        assert (found.size, found.unsupported) == ((400, 300), what)
    old = heif([(1, b"av01", [ispe(400, 300)])], brand=brand, primary=7)  # its kind is not told
    assert header(old).unsupported == ""


SIX_BY_SEVEN = b"\x0a\x03" + int("000010000000100010101110", 2).to_bytes(3, "big")


def test_frames_in_an_avif_that_are_larger_than_it_says():
    for side, coded in ((6, (6, 7)), (7, (0, 0)), (8, (0, 0))):
        items = [(1, b"av01", [ispe(6, side)]), (2, b"av01", [])]
        for item in (1, 2):
            data = heif(items, extents=[(item, (28, 5))], data=SIX_BY_SEVEN)
            assert header(data).coded == coded
    wide = b"\x0a\x03" + int("000010000000100010111101", 2).to_bytes(3, "big")  # 8 x 6
    for data in (wide + SIX_BY_SEVEN, SIX_BY_SEVEN + wide):  # the larger one counts
        both = heif(items, extents=[(1, (28, 5)), (2, (33, 5))], data=data)
        assert header(both.replace(ispe(6, 8), ispe(6, 6))).coded == (8, 6)
    other = heif([(1, b"grid", [ispe(6, 6)])], extents=[(1, (28, 5))], data=SIX_BY_SEVEN)
    assert header(other).coded == (0, 0)


def test_items_may_share_no_more_data_than_two_files_hold():
    for count, coded in ((2, (0, 0)), (3, (65536, 65536))):
        items = [(n, b"av01", [ispe(6, 7)] if n == 1 else []) for n in range(1, count + 1)]
        extents = [(n, (0, 1 << 20)) for n in range(1, count + 1)]
        assert header(heif(items, extents=extents)).coded == coded


# -- all formats -----------------------------------------------------------------------------------


def tiff(**tags):
    """Return a TIFF of short numbers: ``t262=2``."""
    entries = sorted((int(name[1:]), value) for name, value in tags.items())
    table = b"".join(pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in entries)
    return b"II*\0" + pack("<IH", 8, len(entries)) + table + bytes(4)


def test_what_a_header_does_not_say_is_usual():
    for data in (
        jpeg(frame(), scan()),
        png(),
        webp(vp8(400, 300)),
        gif(drawn()),
        tiff(t256=400, t257=300, t258=8),
        b"BM" + bytes(8) + pack("<IIHHHH", 26, 12, 400, 300, 1, 24),
        b"BM" + bytes(8) + pack("<IIiiHHI", 54, 40, 400, 300, 1, 24, 0) + bytes(20),
        heif([(1, b"av01", [ispe(400, 300)])]),
    ):
        found = header(data)
        assert (found.width, found.height, found.orientation) == (400, 300, 1)
        assert (found.bits, found.alpha, found.transparent, found.profile) == (8, None, None, b"")
        assert (found.channels, found.buffered, found.scans) == (3, False, 1)
        assert (found.coded, found.unsupported, found.end) == ((0, 0), "", len(data))


@pytest.mark.parametrize("orientation", range(11))
def test_a_tiff_says_its_orientation_and_colours(orientation):
    found = header(tiff(t256=400, t257=300, t274=orientation))
    assert (found.width, found.bits) == (400, 1)
    assert found.orientation == (orientation if 1 <= orientation <= 8 else 1)
    assert found.size == ((300, 400) if 5 <= orientation <= 8 else (400, 300))
    colours = {0: 1, 1: 1, 5: 4}
    assert header(tiff(t256=4, t257=3, t262=orientation)).channels == colours.get(orientation, 3)


def test_a_side_has_a_pixel_at_least():
    assert header(png(width=1, height=1)).size == (1, 1)
    for made in (png(width=0), png(height=0), jpeg(frame(width=0, height=0), scan())):
        with pytest.raises(ImageCorruptError, match="header gives a size of"):
            header(made)


def test_a_preview_without_an_orientation_is_turned_like_its_photograph():
    wide, high, square = (Header("JPEG", *size) for size in ((4, 3), (3, 4), (3, 3)))
    for otherwise in range(1, 9):
        for preview in (wide, square):
            assert preview_orientation(preview, otherwise) == otherwise
        assert preview_orientation(high, otherwise) == (otherwise if otherwise <= 4 else 1)
        for exif in (EXIF, b"Exif\0\0" + EXIF):
            own = replace(high, orientation=6, exif=exif)
            assert preview_orientation(own, otherwise) == 6
