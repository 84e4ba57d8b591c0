"""Where the orientation and the rest of EXIF stand, in every container."""

import io
import struct
import zlib
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import ExifTags, ImageOps, PngImagePlugin
from PIL import Image as Pil

from imgret import images
from imgret.images.exif import _directory

ROWS, COLUMNS = np.mgrid[:32, :48]
RGB = np.stack([COLUMNS * 5, ROWS * 7, (COLUMNS + ROWS) * 3], axis=-1).astype(np.uint8)
PICTURE = Pil.fromarray(RGB)
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:Description tiff:Orientation='%d'/></x:xmpmeta>"


def exif(orientation=None, **facts):
    """Return an EXIF block that begins with its TIFF header."""
    block = Pil.Exif()
    if orientation:
        block[ExifTags.Base.Orientation] = orientation
    for name, value in facts.items():
        block[ExifTags.Base[name]] = value
    return block.tobytes().removeprefix(b"Exif\0\0")


def save(kind, picture=PICTURE, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def turned(orientation, rgb=RGB):
    picture = Pil.fromarray(rgb)
    picture.getexif()[ExifTags.Base.Orientation] = orientation
    return np.asarray(ImageOps.exif_transpose(picture))


def assert_turned(image, orientation, levels=8):
    expected = turned(orientation)
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).max() <= levels


def jpeg_with(*segments):
    """Return a JPEG that begins with APP1 segments."""
    data = save("JPEG", quality=95, subsampling=0)
    packed = [b"\xff\xe1" + struct.pack(">H", 2 + len(body)) + body for body in segments]
    return data[:2] + b"".join(packed) + data[2:]


def app1(block):
    return b"Exif\0\0" + block


class TestSeveralBlocksInJpeg:
    @pytest.mark.parametrize("second", [exif(1), exif(), exif(8), exif(Make="Other")])
    def test_the_first_counts(self, second):
        data = jpeg_with(app1(exif(6, Make="First")), app1(second))
        assert images.header(data).orientation == 6
        assert_turned(images.decode(data).image, 6)
        assert images.exif_facts(images.header(data).exif)["make"] == "First"

    @pytest.mark.parametrize("cut", [40, 70, -5])
    def test_a_continued_block_is_joined(self, cut):
        block = exif(6, Make="M" * 60, Model="of a phone", DateTime="2024:05:01 12:30:00")
        data = jpeg_with(app1(block[:cut]), app1(block[cut:]))
        head = images.header(data)
        assert head.exif == block
        assert head.orientation == 6
        assert images.exif_facts(head.exif)["model"] == "of a phone"

    def test_what_continues_the_second_is_ignored_with_it(self):
        block = exif(3, Make="First")
        data = jpeg_with(app1(block), app1(exif(6)), app1(b"more of the second"))
        assert images.header(data).exif == block

    def test_three_parts_of_one(self):
        block = exif(6, Make="M" * 90)
        data = jpeg_with(app1(block[:50]), app1(block[50:100]), app1(block[100:]), app1(exif(1)))
        assert images.header(data).exif == block

    def test_what_precedes_the_first_without_a_beginning_is_no_block(self):
        assert images.header(jpeg_with(app1(b"junk"), app1(exif(8)))).orientation == 8

    def test_an_orientation_that_stands_in_xmp_only(self):
        xmp = b"http://ns.adobe.com/xap/1.0/\0" + XMP % 6
        assert images.header(jpeg_with(xmp)).orientation == 6
        assert images.header(jpeg_with(xmp, app1(exif(Make="M")))).orientation == 6
        assert images.header(jpeg_with(app1(exif(1)), xmp)).orientation == 1


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def png_with(*chunks):
    data = save("PNG")
    return data[:33] + b"".join(chunks) + data[33:]


def raw_profile(block, *, kind="exif", prefixed=True):
    """Return what ImageMagick writes: a name, a length, 36 bytes a line in hexadecimal digits."""
    digits = ((b"Exif\0\0" if prefixed else b"") + block).hex()
    lines = [digits[at : at + 72] for at in range(0, len(digits), 72)]
    return f"\n{kind}\n{len(digits) // 2:8}\n{chr(10).join(lines)}\n".encode()


class TestPng:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("kind", ["exif", "APP1"])
    @pytest.mark.parametrize("carrier", ["zTXt", "tEXt", "iTXt", "iTXt packed"])
    def test_raw_profile(self, carrier, kind, orientation):
        name = b"Raw profile type " + kind.encode() + b"\0"
        text = raw_profile(exif(orientation, Make="Magick"), kind=kind)
        body = {
            "zTXt": name + b"\0" + zlib.compress(text),
            "tEXt": name + text,
            "iTXt": name + b"\0\0en\0translated\0" + text,
            "iTXt packed": name + b"\1\0\0\0" + zlib.compress(text),
        }[carrier]
        data = png_with(chunk(carrier[:4].encode(), body))
        assert_turned(images.decode(data).image, orientation, 0)
        assert images.exif_facts(images.header(data).exif) == {"make": "Magick"}

    def test_without_the_prefix(self):
        text = raw_profile(exif(6), prefixed=False)
        data = png_with(chunk(b"tEXt", b"Raw profile type exif\0" + text))
        assert images.header(data).orientation == 6

    def test_exif_chunk_comes_first_wherever_it_stands(self):
        raw = chunk(b"tEXt", b"Raw profile type exif\0" + raw_profile(exif(6)))
        for chunks in ((raw, chunk(b"eXIf", exif(3))), (chunk(b"eXIf", exif(3)), raw)):
            assert images.header(png_with(*chunks)).orientation == 3

    @pytest.mark.parametrize(
        "text", [b"", b"\nexif\n", b"\nexif\n 4\nnot digits", b"\nexif\n 2\nabc", b"\nxmp\n 1\n3c"]
    )
    def test_a_damaged_profile_is_ignored(self, text):
        data = png_with(chunk(b"tEXt", b"Raw profile type exif\0" + text))
        assert images.header(data).orientation == 1

    def test_text_that_does_not_unpack(self):
        data = png_with(chunk(b"zTXt", b"Raw profile type exif\0\0junk"))
        assert images.header(data).orientation == 1

    def test_xmp_counts_where_exif_gives_none(self):
        xmp = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP % 6)
        assert_turned(images.decode(png_with(xmp)).image, 6, 0)
        assert_turned(images.decode(png_with(xmp, chunk(b"eXIf", exif(8)))).image, 8, 0)


FORMATS = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
    "TIFF": {},
    "TIFF packed": {"compression": "tiff_lzw"},
    "TIFF strips": {"strip_size": 1000},
}
if find_spec("pillow_heif"):
    FORMATS["HEIF"] = {"quality": 95, "chroma": 444}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", FORMATS)
class TestPil:
    """A PIL image is turned once, whatever was done with it before."""

    def open(self, kind, orientation):
        if kind == "HEIF":
            import pillow_heif

            pillow_heif.register_heif_opener()
        data = save(kind.split()[0], exif=b"Exif\0\0" + exif(orientation), **FORMATS[kind])
        return Pil.open(io.BytesIO(data)), (12 if kind == "HEIF" else 8)

    def test_not_loaded_before(self, kind, orientation):
        picture, levels = self.open(kind, orientation)
        assert_turned(images.load(picture), orientation, levels)
        assert_turned(images.load(picture), orientation, levels)  # the same object once more

    def test_loaded_before(self, kind, orientation):
        picture, levels = self.open(kind, orientation)
        picture.load()
        assert_turned(images.load(picture), orientation, levels)

    def test_exif_read_before(self, kind, orientation):
        picture, levels = self.open(kind, orientation)
        picture.getexif()
        assert_turned(images.load(picture), orientation, levels)

    def test_turned_by_pil(self, kind, orientation):
        picture, levels = self.open(kind, orientation)
        assert_turned(images.load(ImageOps.exif_transpose(picture)), orientation, levels)
        ImageOps.exif_transpose(picture, in_place=True)
        assert_turned(images.load(picture), orientation, levels)

    def test_copied_and_converted(self, kind, orientation):
        picture, levels = self.open(kind, orientation)
        assert_turned(images.load(picture.copy()), orientation, levels)
        picture, _ = self.open(kind, orientation)
        assert_turned(images.load(picture.convert("RGBA")), orientation, levels)


FACTS = {
    "date": "2024-05-01T12:30:00+02:00",
    "make": "Maker",
    "model": "Model 7",
    "latitude": 48.5,
    "longitude": -11.25,
}


def full_exif(orientation=1):
    block = Pil.Exif()
    block[ExifTags.Base.Make], block[ExifTags.Base.Model] = "Maker", "Model 7"
    block[ExifTags.Base.Orientation] = orientation
    block.get_ifd(ExifTags.IFD.Exif).update({0x9003: "2024:05:01 12:30:00", 0x9011: "+02:00"})
    block.get_ifd(ExifTags.IFD.GPSInfo).update(
        {1: "N", 2: (48.0, 30.0, 0.0), 3: "W", 4: (11.0, 15.0, 0.0)}
    )
    return block.tobytes()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_facts_of_every_container(kind):
    data = save(kind, exif=full_exif())
    assert images.exif_facts(images.header(data).exif) == FACTS


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_facts_and_orientation_of_heif(kind, orientation):
    """What EXIF says of the orientation is not applied once more."""
    if kind == "HEIF":
        heif = pytest.importorskip("pillow_heif")
        file = io.BytesIO()
        heif.from_pillow(PICTURE).save(file, quality=95, chroma=444, exif=full_exif(orientation))
        data = file.getvalue()
    else:
        data = save("AVIF", exif=full_exif(orientation), quality=100, subsampling="4:4:4")
    head = images.header(data)
    assert images.exif_facts(head.exif) == FACTS
    assert_turned(images.decode(data).image, orientation, 12)
    assert head.size == images.decode(data).size


def test_orientation_of_heif_is_not_that_of_exif():
    block = Pil.Exif()
    block[0x0113] = 6  # Pillow would take an orientation out, so it is named so afterwards
    data = save("AVIF", exif=block.tobytes(), quality=100, subsampling="4:4:4")
    at = data.index(struct.pack(">HHIH", 0x0113, 3, 1, 6))
    data = data[: at + 1] + b"\x12" + data[at + 2 :]
    head = images.header(data)
    assert struct.pack(">HHIH", 0x0112, 3, 1, 6) in head.exif
    assert head.orientation == 1
    assert_turned(images.decode(data).image, 1)


class TestExifItems:
    """The boxes that lead to an item, in all their versions."""

    def box(self, kind, body, version=None, flags=0):
        head = b"" if version is None else struct.pack(">I", version << 24 | flags)
        return struct.pack(">I4s", 8 + len(head) + len(body), kind) + head + body

    def file(self, *, iloc=0, infe=2, inside=False, parts=1, junk=b"", beside=b""):
        block = struct.pack(">I", 6 + len(junk)) + junk + b"Exif\0\0" + exif(Make="Item")
        wide = "I" if infe == 3 else "H"
        entry = struct.pack(f">{wide}H4s", 7, 0, b"Exif") + b"\0"
        primary = struct.pack(f">{wide}H4s", 1, 0, b"av01") + b"\0"
        iinf = self.box(
            b"iinf",
            struct.pack(">H", 2)
            + self.box(b"infe", primary, infe)
            + self.box(b"infe", entry, infe),
            0,
        )
        ispe = self.box(b"ispe", struct.pack(">II", 48, 32), 0)
        ipma = self.box(b"ipma", struct.pack(">IHBB", 1, 1, 1, 1), 0)
        iprp = self.box(b"iprp", self.box(b"ipco", ispe) + ipma)
        pitm = self.box(b"pitm", struct.pack(">H", 1), 0)
        at = -(-len(block) // parts)
        pieces = [block[i : i + at] for i in range(0, len(block), at)]

        def location(base):
            number = struct.pack(">I" if iloc == 2 else ">H", 7)
            method = b"" if iloc == 0 else struct.pack(">H", 1 if inside else 0)
            body = struct.pack(">BB", 0x44, 0x40)
            body += struct.pack(">I" if iloc == 2 else ">H", 1) + number + method
            body += struct.pack(">HIH", 0, base, len(pieces))
            offset = 0
            for piece in pieces:
                body += struct.pack(">II", offset, len(piece))
                offset += len(piece)
            return self.box(b"iloc", body, iloc)

        def meta(base):
            idat = self.box(b"idat", block) if inside else beside
            return self.box(b"meta", pitm + iinf + iprp + location(base) + idat, 0)

        ftyp = self.box(b"ftyp", b"avif\0\0\0\0mif1avif")
        start = 0 if inside else len(ftyp) + len(meta(0)) + 8
        return ftyp + meta(start) + (b"" if inside else self.box(b"mdat", block))

    @pytest.mark.parametrize("options", [{}, {"iloc": 1}, {"iloc": 2}, {"infe": 3}, {"parts": 3}])
    @pytest.mark.parametrize("junk", [b"", b"junk"])
    def test_in_the_file(self, options, junk):
        head = images.header(self.file(**options, junk=junk))
        assert images.exif_facts(head.exif) == {"make": "Item"}

    @pytest.mark.parametrize("parts", [1, 2])
    def test_in_the_box_itself(self, parts):
        head = images.header(self.file(iloc=1, inside=True, parts=parts))
        assert images.exif_facts(head.exif) == {"make": "Item"}

    @pytest.mark.parametrize("iloc", [0, 1, 2])
    def test_beside_a_box_of_something_else(self, iloc):
        head = images.header(self.file(iloc=iloc, beside=self.box(b"idat", b"something else")))
        assert images.exif_facts(head.exif) == {"make": "Item"}

    def test_cut_short(self):
        data = self.file()
        assert images.header(data[:-20]).size == (48, 32)


def test_metadata_of_avif_in_a_gallery(tmp_path, mean_color):
    from imgret import Retriever

    (tmp_path / "a.avif").write_bytes(save("AVIF", exif=full_exif(6)))
    retriever = Retriever(embedder=mean_color)
    retriever.add_folder(tmp_path, exif=True, progress=False)
    assert retriever["a.avif"].metadata["exif"] == FACTS


def test_two_blocks_of_png_are_not_joined():
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "Raw profile type exif")
    assert images.header(save("PNG", pnginfo=text)).orientation == 1


def test_what_is_no_block_of_exif_has_no_facts():
    assert _directory(b"II+\0" + bytes(20), None) == {}  # BigTIFF
    assert _directory(b"II", None) == {}
