"""The page of a map, by mouse, touch and keyboard."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from imgret import images
from imgret.curation import Map2D
from imgret.demo import samples
from imgret.files import ItemFile

SPECIES = ("daisy", "rose", "tulip")
COLUMNS, ROWS = 6, 5
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Thirty images, a third of each species, in order."""
    folder = tmp_path_factory.mktemp("photos")
    made = []
    for n in range(COLUMNS * ROWS):
        species = SPECIES[n * 3 // (COLUMNS * ROWS)]
        path = folder / f"{species} {n}.jpg"
        path.write_bytes(images.encode(samples.draw(species, n, size=(240, 180)), "jpeg"))
        made.append(str(path))
    return made


def file_of(path):
    """The file of an item that was indexed as it is."""
    if path is None or not Path(path).exists():
        return path and ItemFile(path, None)
    return ItemFile(path, hashlib.sha256(Path(path).read_bytes()).digest())


def map_of(paths, **changes):
    """Lay items out in a grid of six columns, the first at the top left."""
    n = len(paths)
    numbers = np.arange(n)
    columns = int(np.ceil(np.sqrt(n * COLUMNS / ROWS)))
    grid = np.stack([numbers % columns, -(numbers // columns)], axis=1).astype(np.float32)
    facts = {
        "keys": tuple(f"{SPECIES[i * 3 // n]}/{i}.jpg" for i in range(n)),
        "coordinates": grid,
        "labels": tuple(SPECIES[i * 3 // n] for i in range(n)),
        "files": tuple(map(file_of, paths)),
        "method": "tsne",
    }
    return Map2D(**{**facts, **changes})


@pytest.fixture(scope="module")
def address(paths, tmp_path_factory):
    path = tmp_path_factory.mktemp("map") / "map.html"
    map_of(paths).save(path)
    return path.as_uri()


def ready(page, address):
    page.goto(address)
    page.wait_for_function("sheets.every((sheet) => sheet.complete)")
    page.wait_for_function("!waiting")
    return page


@pytest.fixture
def shown(page, address):
    return ready(page, address)


def at(page, i):
    """Where an item lies in the window."""
    box = page.locator("canvas").bounding_box()
    x, y = page.evaluate(f"place({i})")
    return box["x"] + x, box["y"] + y


def drag(page, points, **options):
    page.mouse.move(*points[0])
    page.mouse.down(**options)
    for point in points[1:]:
        page.mouse.move(*point, steps=3)
    page.mouse.up()


def around(page, first, last, margin=20):
    """Corners of a box around two items, the first above and left of the last."""
    (left, top), (right, bottom) = at(page, first), at(page, last)
    left, top, right, bottom = left - margin, top - margin, right + margin, bottom + margin
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def selected(page):
    text = page.locator("#keys").input_value()
    return [int(key.split("/")[1].split(".")[0]) for key in text.splitlines()]


def test_a_click_enlarges_an_image(shown):
    card = shown.locator("#card")
    assert not card.is_visible()
    shown.mouse.click(*at(shown, 8))
    assert card.is_visible()
    assert card.locator("b").inner_text() == "daisy"
    assert card.locator(".key").inner_text() == "daisy/8.jpg"
    link = card.locator("a").get_attribute("href")
    assert link.startswith("file:///")
    assert link.endswith("/daisy%208.jpg")
    image = card.locator("img")
    assert image.get_attribute("alt") == "daisy daisy/8.jpg"
    # First what the page contains, then the file.
    shown.wait_for_function("card.querySelector('img').naturalWidth === 240")
    shown.click("#close")
    assert not card.is_visible()
    shown.mouse.click(*at(shown, 8))
    box = shown.locator("canvas").bounding_box()
    shown.mouse.click(box["x"] + 5, box["y"] + 5)  # beside every item
    assert not card.is_visible()


def test_the_page_needs_no_files(open_page, paths, tmp_path):
    path = tmp_path / "map.html"
    map_of([*paths[:-1], str(tmp_path / "lost.jpg")]).save(path)
    page = open_page()
    page.route("**/*.jpg", lambda route: route.abort())
    ready(page, path.as_uri())
    assert page.evaluate("tileOf.size") == 29
    assert page.evaluate("pictures.length") == 29
    page.evaluate("tip.hidden = false; showTip(3, 0, 0)")
    page.wait_for_function("tip.querySelector('img').naturalWidth === 160")


def test_pointing_shows_an_image(shown):
    tip = shown.locator("#tip")
    shown.mouse.move(*at(shown, 12))
    assert tip.is_visible()
    assert tip.locator("span").inner_text() == "rose/12.jpg"
    assert tip.locator("img").get_attribute("src").startswith("data:image/jpeg;base64,")
    box = shown.locator("canvas").bounding_box()
    shown.mouse.move(box["x"] + 5, box["y"] + 5)
    assert not tip.is_visible()


def test_search_finds_keys_and_labels(shown):
    found = shown.locator("#found")
    shown.fill("#search", "ROSE 1")
    assert found.inner_text() == "10 of 30 items"  # 10 to 19
    shown.fill("#search", "rose 17")
    assert found.inner_text() == "1 of 30 items"
    shown.mouse.move(*at(shown, 3))  # what does not match cannot be pointed at
    assert not shown.locator("#tip").is_visible()
    shown.press("#search", "Enter")
    assert shown.evaluate("inView().length") == 1
    shown.click("#pick-found")
    assert selected(shown) == [17]
    shown.fill("#search", "nothing")
    assert found.inner_text() == "0 of 30 items"
    shown.press("#search", "Enter")
    shown.fill("#search", "")
    assert found.inner_text() == ""
    assert not shown.locator("#pick-found").is_visible()


def test_the_lasso_selects(shown):
    shown.click("#lasso")
    drag(shown, around(shown, 0, 7))  # two rows of two
    assert selected(shown) == [0, 1, 6, 7]
    assert shown.locator("#picked").inner_text() == "4 of 30 selected"
    drag(shown, around(shown, 28, 29))  # adds
    assert selected(shown) == [0, 1, 6, 7, 28, 29]
    shown.mouse.click(*at(shown, 3))
    assert selected(shown) == [0, 1, 3, 6, 7, 28, 29]
    shown.click("#move")
    shown.keyboard.down("Shift")
    shown.keyboard.down("Alt")
    drag(shown, around(shown, 0, 6))
    shown.keyboard.up("Alt")
    assert selected(shown) == [1, 3, 7, 28, 29]
    drag(shown, around(shown, 12, 12))
    shown.keyboard.up("Shift")
    assert selected(shown) == [1, 3, 7, 12, 28, 29]
    shown.click("#clear")
    assert shown.locator("#picked").inner_text() == "Nothing selected."
    assert shown.locator("#copy").is_disabled()


def test_a_drag_moves_the_map_and_the_wheel_zooms(shown):
    x, y = at(shown, 9)
    drag(shown, [(x, y), (x + 60, y - 40)])
    np.testing.assert_allclose(at(shown, 9), (x + 60, y - 40))
    assert not shown.locator("#card").is_visible()  # it was no click
    before = np.subtract(at(shown, 10), at(shown, 9))
    shown.mouse.wheel(0, -400)
    shown.wait_for_function("view.scale > 2")
    np.testing.assert_allclose(at(shown, 9), (x + 60, y - 40), atol=4)  # the mouse is on it
    assert np.subtract(at(shown, 10), at(shown, 9))[0] > 2 * before[0]
    shown.click("#farther")
    shown.click("#closer")
    shown.click("#all")
    np.testing.assert_allclose(at(shown, 9), (x, y))


def test_keys_leave_the_page(open_page, address):
    page = ready(open_page(permissions=["clipboard-read", "clipboard-write"]), address)
    page.evaluate("select([5, 2])")
    page.click("#copy")
    page.wait_for_function("find('said').textContent === '2 keys copied'")
    assert page.evaluate("navigator.clipboard.readText()") == "daisy/2.jpg\ndaisy/5.jpg"
    with page.expect_download() as started:
        page.click("#save-text")
    assert started.value.suggested_filename == "keys.txt"
    assert started.value.path().read_text() == "daisy/2.jpg\ndaisy/5.jpg\n"
    with page.expect_download() as started:
        page.click("#save-json")
    assert json.loads(started.value.path().read_text()) == ["daisy/2.jpg", "daisy/5.jpg"]


def test_keys_are_copied_where_the_clipboard_is_denied(shown):
    shown.evaluate("void (navigator.clipboard.writeText = () => Promise.reject(Error('denied')))")
    shown.evaluate("select([5])")
    shown.click("#copy")
    shown.wait_for_function("find('said').textContent === '1 keys copied'")
    assert shown.evaluate("document.activeElement.id") == "keys"


def test_labels_are_shown_alone_and_selected(shown):
    rows = shown.locator("li")
    assert rows.all_inner_texts() == [f"{name}\n10\n+" for name in SPECIES]
    rows.nth(1).locator("button").first.click()
    assert shown.locator("#found").inner_text() == "10 of 30 items"
    assert shown.locator("li.off span").all_inner_texts() == ["daisy", "tulip"]
    shown.click("#pick-view")
    assert selected(shown) == list(range(10, 20))
    rows.nth(1).locator("button").first.click()
    shown.click("#clear")
    shown.get_by_role("button", name="Select all of tulip").click()
    assert selected(shown) == list(range(20, 30))


def test_the_keyboard_does_it_all(shown):
    canvas, press = shown.locator("canvas"), shown.keyboard.press
    canvas.focus()
    press("ArrowRight")  # begins in the middle
    start = shown.evaluate("state.current")
    assert start in {14, 15}
    said = shown.locator("#said")
    assert said.inner_text() == f"rose/{start}.jpg rose"
    press("ArrowUp")
    assert shown.evaluate("state.current") == start - COLUMNS
    press("ArrowDown")
    press("ArrowLeft")
    assert shown.evaluate("state.current") == start - 1
    press("Space")
    assert selected(shown) == [start - 1]
    press("Enter")
    assert shown.locator("#card .key").inner_text() == f"rose/{start - 1}.jpg"
    assert shown.evaluate("document.activeElement.id") == "close"
    press("Escape")
    assert not shown.locator("#card").is_visible()
    assert shown.evaluate("document.activeElement === canvas")
    press("+")
    assert shown.evaluate("view.scale") == pytest.approx(1.5)
    x, y = at(shown, 0)
    press("Shift+ArrowRight")
    assert at(shown, 0) == (x - 60, y)
    press("0")
    assert shown.evaluate("view.scale") == 1
    press("/")
    assert shown.evaluate("document.activeElement.id") == "search"


def test_a_tap_only_enlarges(open_page, address):
    """The click that follows a tap must not go to the card that the tap opens."""
    page = ready(open_page(phone=True, device_scale_factor=2), address)
    for i in range(30):
        page.touchscreen.tap(*at(page, i))
        assert page.locator("#card .key").inner_text() == page.evaluate(f"data.keys[{i}]")
        assert page.locator("#picked").inner_text() == "Nothing selected."
        assert not page.locator("#tip").is_visible()
        page.click("#close")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_two_fingers_zoom(open_page, address):
    page = ready(open_page(phone=True, device_scale_factor=2), address)
    box = page.locator("canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    send = page.context.new_cdp_session(page).send

    def touch(kind, *away):
        points = [
            {"x": x + sign * distance, "y": y, "id": number}
            for distance in away
            for number, sign in enumerate((-1, 1))
        ]
        send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 30)
    for distance in range(35, 95, 5):
        touch("touchMove", distance)
    touch("touchEnd")
    assert page.evaluate("view.scale") == pytest.approx(3, rel=0.1)
    assert page.evaluate("visualViewport.scale") == 1  # only the map
    assert not page.locator("#card").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", ["desk", "phone"])
def test_nobody_is_kept_out(open_page, address, check_accessible, scheme, size):
    page = ready(open_page(phone=size == "phone", color_scheme=scheme), address)
    check_accessible(page)
    page.evaluate("openCard(4); select([4, 5])")
    page.fill("#search", "daisy")
    page.locator("li button").nth(2).click()
    page.locator("summary").click()
    check_accessible(page)
    page.locator("#search").focus()
    # Whatever has the focus shows it.
    for _ in range(12):
        page.keyboard.press("Tab")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


def test_names_are_text(page, paths, tmp_path):
    path = tmp_path / "map.html"
    keys = (HOSTILE, *(str(i) for i in range(29)))
    map_of(paths, keys=keys, labels=(HOSTILE,) * 30).save(path)
    ready(page, path.as_uri())
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    page.evaluate("openCard(0); select([0]); showTip(0, 9, 9)")
    for place in ("#card b", "#card .key", "#tip span", "li span"):
        assert page.locator(place).inner_text() == HOSTILE


def test_a_map_without_images(page, tmp_path):
    path = tmp_path / "map.html"
    map_of([None] * 30, labels=(None,) * 30).save(path)
    ready(page, path.as_uri())
    assert not page.locator("#images").is_visible()
    assert not page.locator("#legend").is_visible()
    page.mouse.click(*at(page, 4))
    assert page.locator("#card .key").inner_text() == "daisy/4.jpg"
    assert not page.locator("#card img").is_visible()
    assert not page.locator("#card a").is_visible()


def test_five_thousand_images(page, paths, tmp_path):
    path = tmp_path / "map.html"
    map_of([paths[n % 30] for n in range(5000)]).save(path)
    assert path.stat().st_size < 25e6
    ready(page, path.as_uri())
    assert page.evaluate("tileOf.size") == 5000
    assert page.evaluate("pictures.length") == 0  # too many to see
    page.mouse.move(*at(page, 2500))
    assert page.locator("#tip img").get_attribute("src").startswith("data:image/jpeg;base64,")
    page.evaluate("fit([2500, 2501, 2502]); draw()")
    assert 2500 in [one["i"] for one in page.evaluate("pictures")]
    page.click("#images")
    page.wait_for_function("!waiting")
    assert page.evaluate("pictures.length") == 0
