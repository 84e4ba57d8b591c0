"""What is explained: which image, which part of it, and what is told otherwise."""

import io
import json
import shutil

import numpy as np
import pytest
from PIL import ExifTags
from PIL import Image as Pil

from imgret import Retriever, images
from imgret.croppers import CenterCrop
from imgret.errors import (
    ImageNotFoundError,
    InvalidInputError,
    KeyNotFoundError,
    UnsupportedError,
)
from imgret.explain import Explanation
from imgret.types import Box


def turned(picture, orientation):
    """A JPEG that shows the picture once its orientation is applied."""
    back = {3: 180, 6: 90, 8: 270}[orientation]
    exif = Pil.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    file = io.BytesIO()
    stored = Pil.fromarray(picture).rotate(back, expand=True)
    stored.save(file, "JPEG", quality=95, exif=exif)
    return file.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["exact", "occlusion"])
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_orientation_is_applied(planted, middle_of_heat, orientation, method):
    picture = planted(190, 20)
    data = turned(picture, orientation)
    np.testing.assert_allclose(images.load(data).mean(), picture.mean(), atol=2)
    retriever = Retriever()
    retriever.add(picture, keys="a")
    found = retriever.explain_match(data, picture, method=method)
    assert found.query.size == (320, 240)
    for heat in (found.query, found.hit):
        at_x, at_y = middle_of_heat(heat)
        assert 170 < at_x < 290
        assert 15 < at_y < 130


@pytest.mark.parametrize("method", ["exact", "occlusion"])
def test_heat_stays_inside_the_box(planted, middle_of_heat, method, tmp_path):
    """The cropper cuts out the middle half; the flower is in a corner of that."""
    picture = planted(200, 130, size=(400, 320), side=80)
    path = tmp_path / "a.png"
    path.write_bytes(images.encode(picture, "png"))
    retriever = Retriever(cropper=CenterCrop(0.5))
    retriever.add(path, keys="a")
    found = retriever.explain_match(path, "a", method=method)
    box = retriever["a"].box
    assert box == (100, 80, 300, 240)
    assert found.query.box == found.hit.box == box
    for heat in (found.query, found.hit):
        pixels = heat.pixels()
        assert pixels.shape == (320, 400)
        outside = pixels.copy()
        outside[box.y0 : box.y1, box.x0 : box.x1] = 0
        assert not outside.any()
        at_x, at_y = middle_of_heat(heat)
        assert 185 < at_x < 295
        assert 115 < at_y < 225
        assert heat.area[0] >= box.x0
        assert heat.area[2] <= box.x1
    for region in found.regions:
        for part in (region.query, region.hit):
            assert box.x0 <= part.x0 < part.x1 <= box.x1
            assert box.y0 <= part.y0 < part.y1 <= box.y1


def test_a_large_photo_is_read_at_reduced_scale(planted, middle_of_heat, tmp_path):
    """Boxes and areas are in pixels of the full size all the same."""
    path = tmp_path / "large.jpg"
    large = planted(3000, 800, size=(4800, 3600), side=900)
    path.write_bytes(images.encode(large, "jpeg", quality=90))
    retriever = Retriever(cropper=CenterCrop(0.8))
    retriever.add(path, keys="a")
    hit = retriever.search(path, 1)[0]
    found = retriever.explain_match(path, hit)
    assert found.score == pytest.approx(hit.score, abs=1e-3)
    assert found.query.size == (4800, 3600)
    assert found.query.image.shape[1] < 4800
    assert found.query.box == found.hit.box == hit.box
    at_x, at_y = middle_of_heat(found.hit)
    assert 2800 < at_x < 4100
    assert 600 < at_y < 1900


def test_a_part_of_the_query(planted):
    retriever = Retriever()
    retriever.add(planted(115, 75), keys="a")
    box = Box(20, 10, 220, 210)
    found = retriever.explain_match(planted(60, 60), planted(115, 75), box=tuple(box))
    assert found.query.box == box
    with pytest.raises(InvalidInputError, match="box: expected one inside the image"):
        retriever.explain_match(planted(60, 60), planted(115, 75), box=(0, 0, 500, 20))


def test_regions_follow_the_flower(planted):
    """The flower is at the left of one image and at the right of the other."""
    retriever = Retriever()
    retriever.add(planted(115, 75), keys="a")
    found = retriever.explain_match(planted(50, 75), planted(180, 75), n_regions=2)
    assert len(found.regions) == 2
    best = found.regions[0]
    assert (best.query.x0 + best.query.x1) / 2 < 150
    assert (best.hit.x0 + best.hit.x1) / 2 > 170
    assert 1 >= found.regions[0].share >= found.regions[1].share > 0
    for a, b in ((0, 1),):
        assert found.regions[a].query.iou(found.regions[b].query) < 0.05
        assert found.regions[a].hit.iou(found.regions[b].hit) < 0.05


@pytest.mark.parametrize("method", ["exact", "occlusion"])
def test_parts_of_a_mirrored_photo_are_linked_to_themselves(method):
    """Where a region of the hit should be is known."""
    from skimage import data

    photo = images.resize(data.astronaut(), 320, 320)
    mirrored = np.ascontiguousarray(photo[:, ::-1])
    retriever = Retriever()
    retriever.add(photo, keys="a")
    found = retriever.explain_match(photo, mirrored, method=method, n_regions=3)
    for region in found.regions:
        x0, x1 = 320 - region.query.x1, 320 - region.query.x0
        assert abs((region.hit.x0 + region.hit.x1) / 2 - (x0 + x1) / 2) < 60
        assert abs(region.hit.y0 - region.query.y0) < 60


# -- the result ------------------------------------------------------------------------------------


def test_the_result_has_the_usual_face(flowers, folder, tmp_path):
    found = flowers.explain_match(folder / "rose" / "0.jpg", "rose/1.jpg")
    assert isinstance(found, Explanation)
    facts = json.loads(found.to_json())
    assert facts["score"] == found.score
    assert np.shape(facts["hit_map"]["values"]) == (7, 7)
    assert facts["regions"][0]["query"] == list(found.regions[0].query)
    assert str(found).startswith("0.jpg and rose/1.jpg: score 0.")
    found.save(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("<line") == 2 * len(found.regions)
    assert page.count("stroke-dasharray") == 2  # the outline of what the network sees
    assert "Dashed: the part of the image that the model sees." in page
    assert "<svg" in found._repr_html_()


def test_names_are_escaped(flowers, planted):
    found = flowers.explain_match(planted(50, 50), "rose/1.jpg")
    object.__setattr__(found, "hit_name", "<script>alert(1)</script>\"'")
    assert "<script>alert" not in found.to_html()


def test_an_overlay_reddens_what_is_hot(planted):
    retriever = Retriever()
    retriever.add(planted(115, 75), keys="a")
    heat = retriever.explain_match(planted(115, 75), planted(115, 75)).query
    overlay = heat.overlay()
    assert overlay.dtype == np.uint8
    assert overlay.shape == heat.image.shape
    y, x = np.unravel_index(heat.pixels().argmax(), overlay.shape[:2])
    assert overlay[y, x, 0] >= heat.image[y, x, 0]
    assert (overlay[:, :20] == heat.image[:, :20]).all()  # where the network does not look


# -- mistakes --------------------------------------------------------------------------------------


def test_an_unknown_key(flowers, folder):
    with pytest.raises(KeyNotFoundError, match="rose/77.jpg"):
        flowers.explain_match(folder / "rose" / "0.jpg", "rose/77.jpg")
    path = str(folder / "rose" / "1.jpg")
    with pytest.raises(KeyNotFoundError, match=r"give a file as pathlib.Path\("):
        flowers.explain_match(folder / "rose" / "0.jpg", path)


def test_the_file_of_a_hit_is_gone(folder, tmp_path):
    shutil.copytree(folder / "rose", tmp_path / "photos")
    retriever = Retriever()
    retriever.add_folder(tmp_path / "photos", progress=False)
    hit = retriever.search(folder / "rose" / "0.jpg", 1)[0]
    shutil.copy(folder / "daisy" / "0.jpg", hit.path)
    with pytest.raises(InvalidInputError, match="found other content; update the gallery"):
        retriever.explain_match(folder / "rose" / "0.jpg", hit)
    (tmp_path / "photos" / hit.key).unlink()
    with pytest.raises(ImageNotFoundError, match="put the file back") as error:
        retriever.explain_match(folder / "rose" / "0.jpg", hit)
    assert hit.path in str(error.value)
    assert hit.key in str(error.value)


def test_a_hit_of_another_gallery(flowers, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    other = Retriever()
    other.add_folder(tmp_path / "copy", progress=False)
    query = folder / "rose" / "0.jpg"
    hit = other.search(query, 1)[0]
    with pytest.raises(InvalidInputError, match="hit: expected a hit of this gallery"):
        flowers.explain_match(query, hit)
    lone = Retriever()
    lone.add(query, keys="lone")
    with pytest.raises(KeyNotFoundError, match="lone"):
        flowers.explain_match(query, lone.search(query, 1)[0])


def test_an_item_without_a_file(planted):
    retriever = Retriever()
    retriever.add(planted(50, 50), keys="a")
    with pytest.raises(InvalidInputError, match="added without one; give its image as the hit"):
        retriever.explain_match(planted(50, 50), "a")


def test_text_for_an_embedder_that_reads_none(flowers):
    with pytest.raises(UnsupportedError, match="expected an embedder that reads text"):
        flowers.explain_match(None, "rose/1.jpg", text="a rose")


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((None, "rose/1.jpg"), {}, "query: expected an image or text=, found neither"),
        ((b"x", "rose/1.jpg"), {"text": "a"}, "query: expected an image or text=, found both"),
        ((b"x", "rose/1.jpg"), {"method": "grad"}, "method: expected 'auto', 'exact'"),
        ((b"x", "rose/1.jpg"), {"n_regions": 0}, "n_regions"),
        ((b"x", "rose/1.jpg"), {"box": (1, 2, 3)}, "box: expected four"),
        ((None, "rose/1.jpg"), {"text": "a", "box": (0, 0, 9, 9)}, "box: expected"),
        ((7, "rose/1.jpg"), {}, "query: expected one image"),
        ((b"x", 7), {}, "hit: expected"),
    ],
)
def test_mistakes(flowers, arguments, options, message):
    with pytest.raises(InvalidInputError, match=message):
        flowers.explain_match(*arguments, **options)


# -- the command -----------------------------------------------------------------------------------


def ran(capsys, *words):
    from imgret.cli import main

    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return ended.value.code, *capsys.readouterr()


@pytest.mark.slow
def test_the_command(flowers, folder, tmp_path, capsys):
    gallery, query = tmp_path / "f.imgret", folder / "rose" / "0.jpg"
    flowers.save(gallery)
    code, out, _ = ran(capsys, "explain", gallery, query)
    assert code == 0
    assert out.startswith("0.jpg and rose/0.jpg: score 1.0000")
    page = tmp_path / "page.html"
    code, out, err = ran(capsys, "explain", gallery, query, "rose/1.jpg", "--json", "--html", page)
    assert code == 0
    assert json.loads(out)["hit"] == "rose/1.jpg"
    assert json.loads(out)["method"] == "exact"
    assert err == f"wrote {page}\n"
    assert page.is_file()
    code, out, _ = ran(
        capsys, "explain", gallery, query, "rose/1.jpg", "--json", "--method", "occlusion"
    )
    assert json.loads(out)["method"] == "occlusion"
    assert ran(capsys, "explain", gallery, query, "rose/99.jpg")[0] == 1
    assert ran(capsys, "explain", gallery, query, "--method", "grad")[0] == 2
    assert ran(capsys, "explain", gallery, query, "--html", tmp_path / "no" / "x.html")[0] == 2
    assert ran(capsys, "explain", gallery, tmp_path / "no.jpg")[0] == 1
