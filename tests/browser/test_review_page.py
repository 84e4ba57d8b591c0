"""The review of duplicates, as a person uses it: boxes, commands for a shell, a saved list."""

import json
import subprocess

import numpy as np
import pytest
from skimage import data

from imgret import Retriever, images

HOSTILE = 'it\'s "$HOME" & `x`.jpg'
expect = pytest.importorskip("playwright.sync_api", reason="needs Playwright").expect


@pytest.fixture
def photos(tmp_path):
    """Three copies of one photo, two of another one; two have the same name."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    cat, cup = (np.ascontiguousarray(image()) for image in (data.chelsea, data.coffee))
    for name, image, side in (
        ("cat.jpg", cat, 300),
        ("sub/cat.jpg", cat, 200),
        (HOSTILE, cat, 160),
        ("cup.jpg", cup, 300),
        ("sub/CUP.jpg", cup, 200),
        ("sub/<b>.jpg", cup, 160),
    ):
        small = images.encode(images.thumbnail(image, side), "jpeg", quality=80)
        (folder / name).write_bytes(small)
    return folder


@pytest.fixture
def gallery(photos, tmp_path):
    with Retriever.open(tmp_path / "g.imgret", "a") as retriever:
        retriever.add_folder(photos, progress=False)
        yield retriever


@pytest.fixture
def shown(page, gallery, tmp_path):
    gallery.duplicates().save(tmp_path / "review.html")
    page.goto((tmp_path / "review.html").as_uri())
    return page


def keep(page, text):
    figure = page.locator("figure").filter(has=page.get_by_role("link", name=text, exact=True))
    return figure.get_by_role("checkbox")


def test_the_largest_is_kept_and_the_rest_is_moved(shown, photos, tmp_path):
    expect(keep(shown, "cat.jpg")).to_be_checked()
    expect(keep(shown, "sub/cat.jpg")).not_to_be_checked()
    expect(shown.locator("#count")).to_contain_text("4 files")
    commands = shown.locator("#commands").text_content()
    assert len(commands.splitlines()) == 5
    # What a shell makes of them.
    run = subprocess.run(
        ["/bin/sh", "-e", "-c", commands], cwd=tmp_path, capture_output=True, check=True
    )
    assert run.stderr == b""
    left = {path.relative_to(photos).as_posix() for path in photos.rglob("*.jpg")}
    assert left == {"cat.jpg", "cup.jpg"}
    moved = {path.name for path in (tmp_path / "duplicates").iterdir()}
    assert moved == {"cat.jpg", HOSTILE, "CUP.jpg", "<b>.jpg"}


def test_another_one_is_kept(shown, gallery, photos, tmp_path):
    keep(shown, "cat.jpg").uncheck()
    expect(shown.locator(".group.none")).to_have_count(1)
    keep(shown, HOSTILE).check()
    expect(shown.locator(".group.none")).to_have_count(0)
    shown.get_by_label("Folder").fill("my 'own' folder/")
    expect(shown.locator("#commands")).to_contain_text(r"mkdir -p -- 'my '\''own'\'' folder'")
    with shown.expect_download() as started:
        shown.get_by_role("button", name="Save list").click()
    started.value.save_as(tmp_path / "list.json")
    assert len(json.loads((tmp_path / "list.json").read_text())["groups"]) == 2
    moved = gallery.move_duplicates(tmp_path / "list.json", tmp_path / "out")
    assert not moved.refused
    assert set(gallery) == {HOSTILE, "cup.jpg"}
    shown.get_by_role("button", name="Keep the best only").click()
    expect(keep(shown, HOSTILE)).not_to_be_checked()


def test_a_file_that_is_gone_cannot_be_moved(page, gallery, photos, tmp_path):
    groups = gallery.duplicates()
    (photos / "cat.jpg").unlink()
    groups.save(tmp_path / "review.html")
    page.goto((tmp_path / "review.html").as_uri())
    expect(keep(page, "cat.jpg")).to_be_disabled()
    expect(keep(page, "sub/cat.jpg")).to_be_checked()  # the largest that is left
    expect(page.locator(".problem")).to_contain_text("cannot be found")


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_screen_readers(open_page, gallery, tmp_path, check_accessible, shot, look):
    gallery.duplicates().save(tmp_path / "review.html")
    page = open_page(phone=look == "phone", color_scheme="dark" if look == "dark" else "light")
    page.goto((tmp_path / "review.html").as_uri())
    page.locator("summary").click()
    shot(page, look)
    check_accessible(page)
