"""How many pixels are decoded, and where the limit is given."""

import hashlib
import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pil

from imgret import Retriever, images
from imgret.cli import main
from imgret.cli.options import MAX_PIXELS
from imgret.errors import ImageError, ImageTooLargeError, InvalidInputError
from imgret.images.av1 import largest_frame


class TestReducedScale:
    """Of a JPEG those pixels count that its decoder holds."""

    def jpeg(self, size=(800, 600), **options):
        file = io.BytesIO()
        Pil.new("RGB", size, (90, 120, 30)).save(file, "JPEG", **options)
        return file.getvalue()

    @pytest.mark.parametrize(("min_side", "factor"), [(25, 8), (50, 4), (100, 2)])
    def test_what_is_decoded_counts(self, min_side, factor):
        data = self.jpeg()
        needed = (800 // factor) * (600 // factor)
        found = images.decode(data, min_side=min_side, max_pixels=needed)
        assert found.size == (800, 600)
        assert found.image.size == 3 * needed
        with pytest.raises(ImageTooLargeError, match=f"480,000, and {needed:,} at 1/{factor}"):
            images.decode(data, min_side=min_side, max_pixels=needed - 1)

    def test_sides_are_rounded_up(self):
        data = self.jpeg((801, 601))
        assert images.decode(data, min_side=25, max_pixels=101 * 76).image.shape == (76, 101, 3)
        with pytest.raises(ImageTooLargeError):
            images.decode(data, min_side=25, max_pixels=101 * 76 - 1)

    def test_at_full_scale_all_of_it_counts(self):
        with pytest.raises(ImageTooLargeError):
            images.decode(self.jpeg(), max_pixels=479_999)

    def test_a_progressive_one_is_held_in_full_at_any_scale(self):
        data = self.jpeg(progressive=True)
        assert images.header(data).buffered
        with pytest.raises(ImageTooLargeError, match="found 800 x 600 = 480,000; if there is"):
            images.decode(data, min_side=25, max_pixels=479_999)
        assert images.decode(data, min_side=25, max_pixels=480_000).image.shape == (75, 100, 3)

    def test_other_formats_count_in_full(self):
        file = io.BytesIO()
        Pil.new("RGB", (800, 600)).save(file, "PNG")
        with pytest.raises(ImageTooLargeError):
            images.decode(file.getvalue(), min_side=25, max_pixels=479_999)

    def test_no_scale_leads_past_what_can_be_decoded(self):
        data = bytearray(self.jpeg())
        start = data.index(b"\xff\xc0")
        data[start + 5 : start + 9] = b"\xff\xff\xff\xff"
        with pytest.raises(ImageTooLargeError, match="larger images cannot be decoded"):
            images.decode(bytes(data), min_side=1, max_pixels=10**12)


class TestFramesThatAreLargerThanSaid:
    """An AVIF whose container says 8 x 8 of what its stream makes large."""

    def avif(self, size, **options):
        file = io.BytesIO()
        Pil.new("RGB", size, (9, 99, 200)).save(file, "AVIF", **options)
        return file.getvalue()

    @pytest.mark.parametrize("options", [{}, {"subsampling": "4:0:0"}, {"range": "limited"}])
    def test_is_refused_before_it_is_decoded(self, options):
        data = self.avif((640, 480), **options)
        small = data.replace(struct.pack(">II", 640, 480), struct.pack(">II", 8, 8))
        assert images.header(small).size == (8, 8)
        with pytest.raises(ImageTooLargeError, match="found 640 x 480"):
            images.decode(small, max_pixels=100_000)

    @pytest.mark.parametrize("size", [(64, 48), (333, 77), (31, 17), (1, 1)])
    def test_honest_ones_are_as_large_as_they_say(self, size):
        animated = {"save_all": True, "append_images": [Pil.new("RGB", size)]}
        for options in ({}, {"subsampling": "4:0:0"}, animated):
            data = self.avif(size, **options)
            assert images.header(data).coded == (0, 0)
            at = data.index(b"mdat") + 4
            assert largest_frame(data[at:]) == size

    @given(st.binary(max_size=60))
    def test_noise_has_no_frame_or_some(self, data):
        width, height = largest_frame(data)
        assert width >= 0
        assert height >= 0


@pytest.fixture
def photo(tmp_path):
    """A PNG and a JPEG of 480,000 pixels."""
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    big = Pil.fromarray(noise).resize((800, 600))
    (tmp_path / "photos" / "x").mkdir(parents=True)
    big.save(tmp_path / "photos" / "x" / "a.png")
    big.save(tmp_path / "photos" / "x" / "b.jpg", progressive=True)
    return tmp_path / "photos" / "x" / "a.png"


SAID = "raise max_pixels, which Retriever, images.load and images.decode take"


class TestRetriever:
    def test_limit_of_adding_and_asking(self, photo, mean_color):
        tight = Retriever(embedder=mean_color, max_pixels=479_999)
        with pytest.raises(ImageTooLargeError, match=SAID):
            tight.add(photo)
        report = tight.add_folder(photo.parent, progress=False)
        assert len(report.failed) == 2
        assert all(SAID in line.reason for line in report.failed)
        assert len(tight) == 0
        wide = Retriever(embedder=mean_color, max_pixels=480_000)
        assert wide.add_folder(photo.parent, progress=False).ok
        assert len(wide.search(photo)) == len(wide.search_many([photo])[0]) == 2
        assert len(wide.search(photo, box=(0, 0, 100, 100))) == 2

    def test_of_every_source(self, photo, mean_color):
        tight = Retriever(embedder=mean_color, max_pixels=479_999)
        data = photo.read_bytes()
        for source in (str(photo), data, io.BytesIO(data), Pil.open(io.BytesIO(data))):
            with pytest.raises(ImageTooLargeError, match="479,999"):
                tight.embed([source])

    def test_of_queries(self, photo, mean_color, tmp_path):
        path = tmp_path / "g.imgret"
        with Retriever.open(path, "a", embedder=mean_color, max_pixels=480_000) as wide:
            wide.add([photo, photo.with_name("b.jpg")], labels=["x", "x"])
        for tight in (
            Retriever.open(path, embedder=mean_color, max_pixels=479_999),
            Retriever.load(path, embedder=mean_color, max_pixels=479_999),
        ):
            with tight:
                for ask in (
                    lambda r: r.search(photo),
                    lambda r: r.search(photo, box=(0, 0, 9, 9)),
                    lambda r: r.search_many([photo]),
                    lambda r: r.embed([photo]),
                ):
                    with pytest.raises(ImageTooLargeError, match=SAID):
                        ask(tight)
                report = tight.evaluate([photo], ["x"])
                assert "max_pixels" in str(report.failed)
        with Retriever.open(path, embedder=mean_color) as usual:
            assert len(usual.search(photo)) == 2

    def test_of_reembedding(self, photo, mean_color, tmp_path):
        path = tmp_path / "g.imgret"
        with Retriever.open(path, "a", embedder=mean_color) as made:
            made.add(photo)
        assert len(Retriever.reembed(path, embedder=mean_color, max_pixels=480_000)) == 1
        with pytest.raises(InvalidInputError, match="max_pixels"):
            Retriever.reembed(path, embedder=mean_color, max_pixels=479_999)

    def test_is_kept_by_an_augmented_gallery(self, photo, mean_color):
        tight = Retriever(embedder=mean_color, max_pixels=479_999)
        tight.add([np.full((9, 9, 3), 9 * n, np.uint8) for n in range(5)])
        with pytest.raises(ImageTooLargeError):
            tight.augmented(2).search(photo)

    @pytest.mark.parametrize("value", [0, -1, 2.5, "9", None])
    def test_is_checked(self, value, mean_color, tmp_path):
        for make in (
            lambda: Retriever(embedder=mean_color, max_pixels=value),
            lambda: Retriever.open(tmp_path / "g", "a", embedder=mean_color, max_pixels=value),
            lambda: Retriever.load(tmp_path / "g", max_pixels=value),
        ):
            with pytest.raises(InvalidInputError, match="max_pixels"):
                make()


def test_default_of_the_command_line():
    assert MAX_PIXELS == images.MAX_PIXELS


def run(*arguments):
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return caught.value.code


@pytest.mark.slow
def test_command_line(photo, tmp_path, capsys):
    gallery = tmp_path / "g.imgret"
    run("index", photo.parent.parent, "-o", gallery, "--labels", "parent", "--max-pixels", 479_999)
    assert "--max-pixels on the command line" in capsys.readouterr().err
    assert run("index", photo.parent.parent, "-o", gallery, "--labels", "parent") == 0
    capsys.readouterr()
    assert run("search", gallery, photo, "--max-pixels", 479_999) == 1
    assert "--max-pixels on the command line" in capsys.readouterr().err
    assert run("search", gallery, photo, "--max-pixels", 480_000) == 0
    assert run("evaluate", gallery, photo.parent.parent, "--max-pixels", 479_999) == 1  # all failed
    assert run("search", gallery, photo, "--max-pixels", 0) == 2
    for command in ("index", "search", "classify", "evaluate", "tune", "crop-report"):
        capsys.readouterr()
        assert run(command, "-h") == 0
        assert "--max-pixels" in capsys.readouterr().out


def test_a_crop_of_what_is_too_large_in_full_is_taken_from_the_reduced_scale(mean_color):
    """Else photos of 200 megapixels would be refused as soon as a cropper is used."""
    from imgret.croppers import CenterCrop

    class Small(type(mean_color)):
        min_side = 40

    file = io.BytesIO()
    Pil.new("RGB", (800, 600), (90, 120, 30)).save(file, "JPEG")
    retriever = Retriever(embedder=Small(), cropper=CenterCrop(0.3), max_pixels=400 * 300)
    assert retriever.embed([file.getvalue()]).shape == (1, 48)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, io.BytesIO])
def test_reduced_scale_is_for_all_that_is_encoded(mean_color, kind):
    class Small(type(mean_color)):
        min_side = 40

    file = io.BytesIO()
    Pil.new("RGB", (800, 600), (90, 120, 30)).save(file, "JPEG")
    retriever = Retriever(embedder=Small(), max_pixels=200 * 150)
    retriever.add([kind(file.getvalue())], keys=["a"])
    assert retriever["a"].box == (0, 0, 800, 600)


def test_hits_of_large_photos_are_drawn_at_reduced_scale(mean_color, tmp_path):
    from imgret.pages import hits
    from imgret.types import Box, Hit

    path = tmp_path / "a.jpg"
    big = np.full((1600, 2400, 3), 200, np.uint8)
    big[400:800, 600:1200] = 30
    path.write_bytes(images.encode(big))
    digest, box = hashlib.sha256(path.read_bytes()).digest(), Box(600, 400, 1200, 800)
    hit = Hit("a", 1.0, 1, None, {}, str(path), box, sha256=digest)
    page = hits.grid([hits.Row("q", str(path), [hit])])
    assert page.count("data:image/jpeg") == 2


def test_pages_keep_to_the_limit_of_the_retriever(mean_color, photo):
    """Files may have changed since, and are shown where the reader vouches for the folder."""
    retriever = Retriever(embedder=mean_color, max_pixels=480_000)
    retriever.add_folder(photo.parents[1], labels="parent", progress=False)
    Pil.new("RGB", (900, 700)).save(photo)
    hits = retriever.search(photo.with_name("b.jpg"), 2)
    with images.only_below(photo.parents[1]):
        pages = [hits.to_html(), hits._repr_html_()]
    for page in pages:
        assert page.count("data:image/jpeg") == 2  # the query and itself
        assert "900 x 700 = 630,000" in page
    retriever.add([np.zeros((9, 9, 3), np.uint8)], keys=["third"])
    assert retriever.map2d("pca").to_html().count('"/9j/') == 2  # a sheet and a preview
    assert retriever.evaluate().max_pixels == 480_000
    assert retriever.crop_report("center").max_pixels == 480_000


def test_errors_of_too_many_pixels_are_image_errors():
    assert issubclass(ImageTooLargeError, ImageError)
