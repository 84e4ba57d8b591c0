"""The page of ``imgret serve``, used as a person does: by mouse, finger and keyboard."""

import base64
import json
import re
import threading
import time
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the server: pip install 'imgret[serve]'")
uvicorn = pytest.importorskip("uvicorn", reason="needs the server: pip install 'imgret[serve]'")

from imgret import Retriever, images  # noqa: E402
from imgret.demo import samples  # noqa: E402
from imgret.serve import Limits, Site, create_app  # noqa: E402

SPECIES = ("daisy", "rose", "tulip")
CLIP = Path(__file__).parents[1] / "data" / "models" / "clip"
# The browser itself reports each answer that is an error; the page shows it to the user.
REFUSED = "Failed to load resource"
KEY = "rose/a b & <i>?#%é.jpg"  # as hostile as file names are


# -- galleries and servers -----------------------------------------------------------------------


@pytest.fixture(scope="session")
def flowers(tmp_path_factory):
    """A folder with a folder of images for each species."""
    folder = tmp_path_factory.mktemp("browser") / "flowers"
    for species in SPECIES:
        (folder / species).mkdir(parents=True)
        for n in range(12):
            data = images.encode(samples.draw(species, n, size=(320, 240)))
            (folder / species / f"{n}.jpg").write_bytes(data)
    (folder / "rose" / "11.jpg").rename(folder / KEY)
    return folder


@pytest.fixture(scope="session")
def made(flowers):
    path = flowers.with_name("made.imgret")
    with Retriever.open(path, "a") as retriever:
        retriever.add_folder(
            flowers,
            labels="parent",
            metadata=lambda p: {"number": len(p.name) % 2, "size": {"weight": _weight(p)}},
            progress=False,
        )
    return path


def _weight(path):
    return sum(f"{path.parent.name}/{path.name}".encode()) / 7


@pytest.fixture
def gallery(made, tmp_path):
    """A gallery of its own for each test."""
    path = tmp_path / "flowers.imgret"
    Retriever.load(made).save(path)
    return path


class Running:
    """A server in a thread."""

    def __init__(self, site, **limits):
        app = create_app(site, limits=Limits(**limits))
        config = uvicorn.Config(app, port=0, log_config=None, lifespan="on")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        _wait(lambda: self._server.started)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://localhost:{port}/"

    def stop(self):
        self._server.should_exit = True
        self._thread.join(timeout=30)


def _wait(is_so, seconds=30):
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.fixture(autouse=True)  # so that pages are closed before their server ends
def serve():
    """Start servers; they end with the test."""
    running = []

    def start(*args, limits=None, **options):
        running.append(Running(Site(*args, **options), **(limits or {})))
        return running[-1]

    yield start
    for server in running:
        server.stop()


@pytest.fixture
def url(serve, gallery):
    return serve(gallery).url


# -- what tests say of a page ----------------------------------------------------------------------


def expect(locator, *args, **options):
    from playwright.sync_api import expect as expect_

    expect_.set_options(timeout=20_000)  # machines are busy at times
    return expect_(locator, *args, **options)


def title(page):
    return page.locator("#title")


def cards(page):
    return page.locator("#hits > li")


def shots(page):
    return page.locator("#hits .shot")


def shown_keys(page):
    return shots(page).evaluate_all("(all) => all.map((each) => each.title)")


def wait_for_results(page, heading):
    expect(title(page)).to_have_text(heading)
    expect(page.locator("#hits")).not_to_have_attribute("aria-busy", "true")


def choose(page, file):
    page.set_input_files("#file", file)


@pytest.fixture
def check_schemes(check_accessible, shot):
    """Check that axe-core finds nothing wrong, in light and in dark, and keep both as shown."""

    def check(page, name):
        for scheme, rules in (("light", ()), ("dark", ("color-contrast",))):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_timeout(300)  # transitions
            shot(page, f"{name}-{scheme}")
            check_accessible(page, *rules)

    return check


def transfer(page, data, name="query.png", kind="image/png"):
    """A file as the browser hands it over when it is dropped or pasted."""
    return page.evaluate_handle(
        """([data, name, kind]) => {
            const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
            const held = new DataTransfer();
            held.items.add(new File([bytes], name, {type: kind}));
            return held;
        }""",
        [base64.b64encode(data).decode(), name, kind],
    )


def draw_box(page, stage, start, end):
    """Draw from one place to another, given as shares of the image."""
    area = stage.bounding_box()
    at = [(area["x"] + area["width"] * x, area["y"] + area["height"] * y) for x, y in (start, end)]
    page.mouse.move(*at[0])
    page.mouse.down()
    page.mouse.move(*at[1], steps=4)
    page.mouse.up()


def box_of(page):
    match = re.search(r"[?&]box=([^&]*)", page.url)
    return None if match is None else [int(side) for side in re.split("%2C|,", match[1])]


# -- searching -------------------------------------------------------------------------------------


def test_it_starts_with_all_images(page, url, shot):
    page.goto(url)
    wait_for_results(page, "All images")
    expect(cards(page)).to_have_count(36)
    expect(page.locator("#size")).to_have_text("36 images")
    expect(page.locator("#words")).to_be_hidden()  # the model reads no text
    image = page.locator("#hits img").first
    expect(image).to_have_js_property("complete", value=True)
    assert image.evaluate("(each) => each.naturalWidth") == 256
    shot(page)


def test_an_image_is_chosen(page, url, flowers, shot):
    page.goto(url)
    wait_for_results(page, "All images")
    choose(page, flowers / "tulip" / "3.jpg")
    wait_for_results(page, "Like 3.jpg")
    assert shown_keys(page)[0] == "tulip/3.jpg"
    expect(cards(page).first.locator(".score")).to_have_text("1.000")
    expect(cards(page).first.locator(".label")).to_have_text("tulip")
    expect(page.locator("#name")).to_contain_text("Looks like tulip")
    expect(page.locator("#name")).to_contain_text("confident")
    expect(page.locator("#shown img")).to_have_attribute("alt", "Query image: 3.jpg")
    shot(page)
    page.get_by_role("button", name="Remove 3.jpg from the query").click()
    wait_for_results(page, "All images")


def test_an_image_is_dropped(page, url, flowers, shot):
    page.goto(url)
    wait_for_results(page, "All images")
    held = transfer(page, (flowers / "daisy" / "2.jpg").read_bytes(), "mine.jpg", "image/jpeg")
    page.dispatch_event("body", "dragenter", {"dataTransfer": held})
    expect(page.get_by_text("Drop the image to search with it")).to_be_visible()
    shot(page)
    page.dispatch_event("#results", "drop", {"dataTransfer": held})
    expect(page.locator("#dropping")).to_be_hidden()
    wait_for_results(page, "Like mine.jpg")
    assert shown_keys(page)[0] == "daisy/2.jpg"


def test_an_image_is_pasted(page, url, flowers):
    page.goto(url)
    wait_for_results(page, "All images")
    held = transfer(page, (flowers / "daisy" / "5.jpg").read_bytes(), "image.png")
    page.evaluate(
        """(held) => document.dispatchEvent(
            new ClipboardEvent("paste", {clipboardData: held, cancelable: true, bubbles: true}))""",
        held,
    )
    wait_for_results(page, "Like image.png")
    assert shown_keys(page)[0] == "daisy/5.jpg"


def test_a_box_is_drawn_moved_and_removed(page, url, flowers, shot):
    page.goto(url)
    choose(page, flowers / "tulip" / "3.jpg")
    wait_for_results(page, "Like 3.jpg")
    stage = page.locator("#shown .crop")
    with page.expect_request(lambda request: "box=" in request.url) as sent:
        draw_box(page, stage, (0.25, 0.25), (0.75, 0.5))
    assert sent.value.method == "POST"
    wait_for_results(page, "Like part of 3.jpg")
    x0, y0, x1, y1 = box_of(page)
    np.testing.assert_allclose([x0, y0, x1, y1], [80, 60, 240, 120], atol=3)
    shot(page)
    draw_box(page, stage, (0.5, 0.4), (0.6, 0.4))  # from within: the box moves
    expect(page).to_have_url(re.compile(rf"box=(?!{x0}%2C)"))
    moved = box_of(page)
    np.testing.assert_allclose(moved, [x0 + 32, y0, x1 + 32, y1], atol=3)
    corner = page.locator("#shown [data-side=se]").bounding_box()
    page.mouse.move(corner["x"] + 11, corner["y"] + 11)
    page.mouse.down()
    page.mouse.move(2000, 2000, steps=3)
    page.mouse.up()
    expect(page).to_have_url(re.compile("%2C320%2C240"))  # it ends at the border
    assert box_of(page)[:2] == moved[:2]
    page.get_by_role("button", name="Uncrop").click()
    wait_for_results(page, "Like 3.jpg")
    assert box_of(page) is None
    page.go_back()
    wait_for_results(page, "Like part of 3.jpg")
    expect(page.locator("#shown .crop-box")).to_be_visible()


def test_a_box_is_adjusted_by_keyboard(page, url, flowers):
    page.goto(url)
    choose(page, flowers / "tulip" / "3.jpg")
    wait_for_results(page, "Like 3.jpg")
    page.get_by_role("button", name="Crop").press("Enter")
    expect(page.locator("#shown .crop-box")).to_be_focused()
    expect(page).to_have_url(re.compile("box=80%2C60%2C240%2C180"))
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    expect(page).to_have_url(re.compile("box=86%2C60%2C246%2C186"))
    expect(page.locator("#shown .crop-box")).to_be_focused()
    page.keyboard.press("Delete")
    wait_for_results(page, "Like 3.jpg")


def test_a_tiff_is_shown_and_cropped(page, url, flowers, tmp_path):
    from PIL import Image

    whole = Image.open(flowers / "tulip" / "3.jpg").resize((3200, 2400))
    whole.save(tmp_path / "large.tif")
    page.goto(url)
    choose(page, tmp_path / "large.tif")
    wait_for_results(page, "Like large.tif")
    stage = page.locator("#shown .crop")
    expect(stage).to_be_visible()
    draw_box(page, stage, (0.25, 0.25), (0.75, 0.5))
    wait_for_results(page, "Like part of large.tif")
    np.testing.assert_allclose(box_of(page), [800, 600, 2400, 1200], atol=30)


def test_a_hit_is_searched_with(page, url):
    page.goto(f"{url}?like={quote(KEY, safe='')}")
    wait_for_results(page, f"Like {KEY}")
    first = shown_keys(page)[0]
    shots(page).first.click()
    wait_for_results(page, f"Like {first}")
    assert KEY in shown_keys(page)
    expect(page.locator("#name")).to_contain_text("Looks like")
    page.go_back()
    wait_for_results(page, f"Like {KEY}")
    page.reload()
    wait_for_results(page, f"Like {KEY}")


def test_the_part_that_was_indexed_is_outlined(page, serve, flowers, tmp_path, mean_color):
    path = tmp_path / "cropped.imgret"
    with Retriever.open(path, "a", embedder=mean_color, cropper="center") as retriever:
        retriever.add_folder(flowers, labels="parent", progress=False)
        x0, y0, x1, y1 = retriever["daisy/0.jpg"].box
    page.goto(serve(path, embedder=mean_color).url)
    wait_for_results(page, "All images")
    outline = cards(page).first.locator(".region").bounding_box()
    image = cards(page).first.locator(".photo").bounding_box()
    scale = image["width"] / 320  # the image is centred in its frame
    top = image["y"] + (image["height"] - 240 * scale) / 2
    np.testing.assert_allclose(
        [outline["x"], outline["y"], outline["width"], outline["height"]],
        [image["x"] + x0 * scale, top + y0 * scale, (x1 - x0) * scale, (y1 - y0) * scale],
        atol=1.5,
    )


def test_hits_are_marked(page, url, shot):
    page.goto(f"{url}?like=rose%2F1.jpg")
    wait_for_results(page, "Like rose/1.jpg")
    right, wrong = shown_keys(page)[1], shown_keys(page)[3]
    cards(page).nth(1).hover()
    cards(page).nth(1).get_by_role("button", name="More like this").click()
    cards(page).nth(3).hover()
    cards(page).nth(3).get_by_role("button", name="Less like this").click()
    expect(page.locator("#marked-text")).to_have_text("1 right, 1 wrong")
    pressed = cards(page).nth(1).get_by_role("button", name="More like this")
    expect(pressed).to_have_attribute("aria-pressed", "true")
    shot(page)
    page.get_by_role("button", name="Search again").click()
    wait_for_results(page, "Like rose/1.jpg and 1 more")
    assert not {right, wrong} & set(shown_keys(page))
    expect(page.locator("#marked")).to_be_hidden()
    page.get_by_role("button", name=f"Remove {wrong} from the query").click()
    expect(page).to_have_url(re.compile(r"\?(?!.*unlike)"))
    wait_for_results(page, "Like rose/1.jpg and 1 more")
    assert wrong in shown_keys(page)


def test_a_long_name_does_not_widen_the_query(page, url):
    page.goto(f"{url}?like=rose%2F1.jpg&unlike={quote(KEY, safe='')}")
    wait_for_results(page, "Like rose/1.jpg")
    expect(page.locator(".parts img")).to_have_count(1)
    assert page.locator("#side").evaluate("(side) => side.scrollWidth <= side.clientWidth")


def test_words_are_searched(page, serve, flowers, tmp_path, shot):
    path = tmp_path / "clip.imgret"
    with Retriever.open(path, "a", embedder=str(CLIP)) as retriever:
        retriever.add_folder(flowers, labels="parent", progress=False)
        expected = [hit.key for hit in retriever.search_text("a red rose", 5)]
    page.goto(serve(path).url)
    wait_for_results(page, "All images")
    page.keyboard.press("/")
    expect(page.get_by_label("Words")).to_be_focused()
    page.keyboard.type("a red rose")
    page.keyboard.press("Enter")
    wait_for_results(page, "“a red rose”")
    assert shown_keys(page)[:5] == expected
    shot(page)
    page.get_by_label("But not").fill("a vase")
    page.keyboard.press("Enter")
    wait_for_results(page, "“a red rose”, not “a vase”")
    page.reload()
    wait_for_results(page, "“a red rose”, not “a vase”")
    expect(page.get_by_label("Words")).to_have_value("a red rose")
    choose(page, flowers / "rose" / "1.jpg")
    wait_for_results(page, "Like 1.jpg")


# -- filters ---------------------------------------------------------------------------------------


def test_images_are_filtered(page, url, shot):
    page.goto(url)
    wait_for_results(page, "All images")
    rose = page.get_by_role("checkbox", name="rose 12")
    rose.check()
    wait_for_results(page, "Filtered images")
    expect(cards(page)).to_have_count(12)
    expect(rose).to_be_focused()
    page.get_by_role("checkbox", name="tulip 12").check()
    expect(cards(page)).to_have_count(24)
    shot(page)
    shots(page).first.click()  # the filter stays
    expect(title(page)).to_contain_text("Like ")
    expect(cards(page)).to_have_count(23)
    page.get_by_role("button", name="Remove the filter label: rose").click()
    expect(cards(page).locator(".label", has_text="rose")).to_have_count(0)
    page.get_by_label("Least size.weight").fill("1e6")
    page.keyboard.press("Enter")
    expect(page.locator("#hits")).to_be_hidden()
    expect(page.locator("#note")).not_to_be_empty()
    page.get_by_role("button", name="Remove the filter size.weight").click()
    expect(cards(page).first).to_be_visible()


def test_a_filter_written_by_hand_is_shown(page, url):
    where = quote(json.dumps({"label": {"$ne": "rose"}, "number": 1}))
    page.goto(f"{url}?where={where}")
    wait_for_results(page, "Filtered images")
    expect(cards(page).locator(".label", has_text="rose")).to_have_count(0)
    expect(page.locator("#chosen button").first).to_have_text('label: {"$ne":"rose"}')
    page.locator("#chosen button").first.click()
    expect(page.locator("#chosen button")).to_have_text(["number: 1"])


# -- one image -------------------------------------------------------------------------------------


def open_detail(page, n=0):
    cards(page).nth(n).hover()
    cards(page).nth(n).get_by_role("button", name="Details").click()
    expect(page.locator("#detail .facts")).to_contain_text("Size")


def test_details_of_an_image(page, url, shot):
    page.goto(f"{url}?like={quote(KEY, safe='')}")
    wait_for_results(page, f"Like {KEY}")
    keys = shown_keys(page)
    open_detail(page)
    detail = page.get_by_role("dialog")
    expect(detail).to_contain_text(keys[0])
    expect(detail).to_contain_text("(rank 1)")
    expect(detail).to_contain_text("number")
    expect(detail.get_by_role("button", name="Relabel")).to_have_count(0)  # not for writing
    shot(page)
    page.keyboard.press("ArrowRight")
    expect(detail).to_contain_text(keys[1])
    page.keyboard.press("+")
    expect(detail.get_by_role("button", name="More like this")).to_have_attribute(
        "aria-pressed", "true"
    )
    page.keyboard.press("Escape")
    expect(detail).to_be_hidden()
    expect(page.locator("#marked-text")).to_have_text("1 right")


def test_a_part_of_a_hit_is_searched_and_shared(page, url, open_page):
    page.goto(f"{url}?like=rose%2F1.jpg")
    wait_for_results(page, "Like rose/1.jpg")
    key = shown_keys(page)[0]
    open_detail(page)
    draw_box(page, page.locator("#detail .crop"), (0.2, 0.2), (0.8, 0.6))
    page.get_by_role("button", name="Search with this part").click()
    wait_for_results(page, f"Like part of {key}")
    expected = shown_keys(page)
    other = open_page()
    other.goto(page.url)
    wait_for_results(other, f"Like part of {key}")
    assert shown_keys(other) == expected
    expect(other.locator("#shown .crop-box")).to_be_visible()


def test_why_shows_heat_maps(page, url, flowers, shot):
    data = base64.b64encode((flowers / "rose" / "1.jpg").read_bytes()).decode()
    picture = f"data:image/jpeg;base64,{data}"
    found = {
        "query": picture,
        "hit": picture,
        "method": "exact",
        "reason": "",
        "score": 0.75,
        "regions": [{"query": [0, 0, 160, 120], "hit": [160, 120, 320, 240], "share": 0.25}],
    }
    page.goto(url)
    if "/api/explain" not in page.evaluate("async () => (await fetch('api/openapi.json')).text()"):
        page.route("**/api/openapi.json", lambda r: r.fulfill(json={"paths": {"/api/explain": {}}}))
        page.route("**/api/explain?*", lambda route: route.fulfill(json=found))
        page.reload()
    choose(page, flowers / "tulip" / "3.jpg")
    wait_for_results(page, "Like 3.jpg")
    open_detail(page)
    with page.expect_request("**/api/explain?*") as sent:
        page.get_by_role("button", name="Why?").click()
    assert sent.value.method == "POST"
    why = page.get_by_role("region", name="Why this image was found")
    expect(why.locator("img")).to_have_count(2)
    expect(why.locator(".link-box").first).to_be_visible()
    expect(why.get_by_role("listitem").first).to_contain_text("of the similarity")
    assert why.locator("img").first.bounding_box()["height"] <= 0.61 * page.viewport_size["height"]
    shot(page)


def test_no_why_without_its_endpoint(page, url):
    page.route("**/api/openapi.json", lambda route: route.fulfill(json={"paths": {}}))
    page.goto(f"{url}?like=rose%2F1.jpg")
    wait_for_results(page, "Like rose/1.jpg")
    open_detail(page)
    expect(page.get_by_role("button", name="Why?")).to_have_count(0)


# -- writing ---------------------------------------------------------------------------------------


def test_an_image_is_relabelled(page, serve, gallery):
    page.goto(serve(gallery, write=True).url)
    wait_for_results(page, "All images")
    open_detail(page)
    page.get_by_label("New label").fill("marguerite")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").get_by_role("heading", level=2)).to_have_text("marguerite")
    page.keyboard.press("Escape")
    expect(cards(page).first.locator(".label")).to_have_text("marguerite")
    expect(page.get_by_role("checkbox", name="marguerite 1")).to_be_visible()
    with Retriever.open(gallery) as retriever:
        assert retriever["daisy/0.jpg"].label == "marguerite"


def test_two_tabs_change_one_label(open_page, serve, gallery, shot):
    url = serve(gallery, write=True).url
    pages = [open_page(expect=[REFUSED]) for _ in range(2)]
    for page in pages:
        page.goto(url)
        wait_for_results(page, "All images")
        open_detail(page)
    first, second = pages
    first.get_by_label("New label").fill("one")
    first.get_by_role("button", name="Relabel").click()
    expect(first.get_by_role("dialog").get_by_role("heading", level=2)).to_have_text("one")
    second.get_by_label("New label").fill("two")
    second.get_by_role("button", name="Relabel").click()
    expect(second.get_by_role("dialog")).to_contain_text(
        "The label was changed elsewhere: it is now “one”. Press Relabel again to make it “two”."
    )
    shot(second)
    expect(second.get_by_label("New label")).to_have_value("two")
    second.get_by_role("button", name="Relabel").click()
    expect(second.get_by_role("dialog").get_by_role("heading", level=2)).to_have_text("two")
    with Retriever.open(gallery) as retriever:
        assert retriever["daisy/0.jpg"].label == "two"


def test_an_image_is_removed(page, serve, gallery, flowers):
    page.goto(serve(gallery, write=True).url)
    wait_for_results(page, "All images")
    open_detail(page)
    page.get_by_role("button", name="Remove from the gallery").click()
    page.get_by_role("button", name="Keep").click()
    page.get_by_role("button", name="Remove from the gallery").click()
    expect(page.get_by_role("button", name="Remove", exact=True)).to_be_focused()
    page.get_by_role("button", name="Remove", exact=True).click()
    expect(cards(page)).to_have_count(35)
    expect(page.get_by_role("dialog")).to_contain_text("daisy/1.jpg")  # the next one
    assert (flowers / "daisy" / "0.jpg").exists()
    with Retriever.open(gallery) as retriever:
        assert "daisy/0.jpg" not in retriever


# -- views -----------------------------------------------------------------------------------------


def test_clusters(page, url, shot):
    page.goto(url)
    page.get_by_role("link", name="Clusters").click()
    wait_for_results(page, "Clusters")
    expect(cards(page)).to_have_count(12)
    page.get_by_label("Number").select_option("6")
    expect(cards(page)).to_have_count(6)
    shot(page)
    score = cards(page).first.locator(".score")
    expect(score).to_contain_text("image")
    size = int(score.text_content().split()[0])
    shots(page).first.focus()
    page.keyboard.press("+")  # a cluster has no marks
    page.keyboard.press("ArrowRight")
    expect(shots(page).nth(1)).to_be_focused()
    shots(page).first.click()
    wait_for_results(page, "Cluster 1")
    expect(cards(page)).to_have_count(size)
    page.go_back()
    wait_for_results(page, "Clusters")
    expect(cards(page)).to_have_count(6)


def test_outliers(page, url, shot):
    page.goto(f"{url}?view=outliers")
    wait_for_results(page, "Outliers")
    expect(cards(page)).to_have_count(36)
    shot(page)
    key = shown_keys(page)[0]
    shots(page).first.click()
    wait_for_results(page, f"Like {key}")


@pytest.fixture
def doubled(gallery, flowers, tmp_path):
    """The gallery, with smaller copies of two of its images."""
    for name, key in (("rose/1.jpg", "small/it's a rose.jpg"), ("tulip/2.jpg", "small/tulip.jpg")):
        image = images.thumbnail(images.load(flowers / name), 160)
        file = tmp_path / key.replace("/", " ")
        file.write_bytes(images.encode(image))
        with Retriever.open(gallery, "r+") as retriever:
            retriever.add(file, keys=key)
    return gallery


def _keep(page, key):
    card = page.locator(".choice").filter(has=page.get_by_text(key, exact=True))
    return card.get_by_role("checkbox")


def test_duplicates(page, serve, doubled, shot, tmp_path):
    page.goto(f"{serve(doubled).url}?view=duplicates")
    wait_for_results(page, "Duplicates")
    expect(page.locator(".group")).to_have_count(2)
    expect(_keep(page, "rose/1.jpg")).to_be_checked()
    expect(_keep(page, "small/it's a rose.jpg")).not_to_be_checked()
    expect(page.locator("#review")).to_contain_text("2 images")
    expect(page.locator(".choice").first).to_contain_text("320 \N{MULTIPLICATION SIGN} 240 pixels")
    shot(page)
    _keep(page, "rose/1.jpg").uncheck()
    _keep(page, "small/it's a rose.jpg").check()
    page.locator("#review summary").click()
    commands = page.locator("#review pre").text_content().splitlines()
    assert commands[0] == "mkdir -p -- duplicates"
    assert sorted(commands[1:]) == [
        "mv -n -- rose/1.jpg duplicates/1.jpg",
        "mv -n -- small/tulip.jpg duplicates/tulip.jpg",
    ]
    with page.expect_download() as started:
        page.get_by_role("button", name="Save list").click()
    started.value.save_as(tmp_path / "list.json")
    listed = json.loads((tmp_path / "list.json").read_text(encoding="utf-8"))
    going = {each["move"][0]["key"] for each in listed["groups"]}
    assert going == {"rose/1.jpg", "small/tulip.jpg"}
    expect(page.get_by_role("button", name="Remove from gallery")).to_have_count(0)
    page.locator(".choice").first.get_by_role("button", name="Details").click()
    expect(page.get_by_role("dialog")).to_be_visible()


def test_some_of_many_duplicates(page, serve, doubled, monkeypatch, shot):
    monkeypatch.setattr("imgret.serve.duplicates.SHOWN", 1)
    page.goto(f"{serve(doubled).url}?view=duplicates")
    wait_for_results(page, "Duplicates")
    expect(page.locator(".group")).to_have_count(1)
    expect(page.locator("#note")).to_contain_text("The first 1 of 2 groups are shown.")
    expect(page.locator("#end")).to_contain_text("1 more group not shown")
    shot(page)


def test_duplicates_are_removed(page, serve, doubled):
    page.goto(f"{serve(doubled, write=True).url}?view=duplicates")
    wait_for_results(page, "Duplicates")
    page.get_by_role("button", name="Remove from gallery").click()
    expect(page.locator(".group")).to_have_count(0)
    expect(page.locator("#size")).to_have_text("36 images")
    with Retriever.open(doubled) as retriever:
        assert not {"small/tulip.jpg", "small/it's a rose.jpg"} & set(retriever)


@pytest.mark.parametrize("look", ["desk", "phone"])
def test_screen_readers_on_duplicates(open_page, serve, doubled, check_schemes, look):
    page = open_page(phone=look == "phone")
    page.goto(f"{serve(doubled, write=True).url}?view=duplicates")
    wait_for_results(page, "Duplicates")
    expect(page.locator(".group")).to_have_count(2)
    page.locator("#review summary").click()
    check_schemes(page, f"duplicates-{look}")


def test_a_view_that_is_left_does_not_come_back(page, url):
    held = []
    page.route("**/api/curate/outliers", lambda route: held.extend([route]))
    page.goto(f"{url}?view=outliers")
    expect(page.locator("#note")).to_contain_text("Looking at 36 images")
    page.get_by_role("link", name="Search").click()
    wait_for_results(page, "All images")
    held[0].continue_()
    page.wait_for_timeout(1000)
    expect(title(page)).to_have_text("All images")
    expect(cards(page)).to_have_count(36)


def test_wrong_labels(page, serve, gallery, shot):
    with Retriever.open(gallery, "r+") as retriever:
        retriever.update("tulip/4.jpg", label="daisy")
    page.goto(f"{serve(gallery, write=True).url}?view=mislabelled")
    wait_for_results(page, "Wrong labels")
    wrong = cards(page).filter(has=page.locator("[title='tulip/4.jpg']"))
    expect(wrong).to_contain_text("Looks like tulip")
    shot(page)
    wrong.get_by_role("button", name="Relabel as tulip").click()
    expect(wrong).to_contain_text("Was daisy")
    with Retriever.open(gallery) as retriever:
        assert retriever["tulip/4.jpg"].label == "tulip"


def test_map(page, url, shot):
    page.goto(f"{url}?view=map")
    expect(title(page)).to_have_text("Map")
    canvas = page.locator("#plane canvas")
    expect(canvas).to_be_visible()
    canvas.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    tip = page.locator("#plane .tip")
    expect(tip).to_be_visible()
    shot(page)
    key = tip.locator("span").inner_text()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text(key)
    page.keyboard.press("Escape")
    area = canvas.bounding_box()
    middle = (area["x"] + area["width"] / 2, area["y"] + area["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.wheel(0, -300)
    page.mouse.down()
    page.mouse.move(middle[0] + 80, middle[1] + 40, steps=4)
    page.mouse.up()
    expect(page.get_by_role("dialog")).to_be_hidden()  # a drag chooses nothing
    page.get_by_role("button", name="tulip").click()
    expect(page.get_by_role("button", name="tulip")).to_have_attribute("aria-pressed", "true")


# -- what goes wrong -------------------------------------------------------------------------------


def test_a_broken_image(open_page, url, tmp_path, shot):
    page = open_page(expect=[REFUSED])
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    page.goto(url)
    wait_for_results(page, "All images")
    choose(page, tmp_path / "broken.jpg")
    expect(page.get_by_role("alert")).to_contain_text("broken.jpg: expected an image")
    expect(title(page)).to_have_text("No results")
    expect(page.locator("#shown")).to_contain_text("No preview")
    shot(page)
    page.get_by_role("button", name="Close this message").click()
    expect(page.get_by_role("alert")).to_be_hidden()


def test_an_image_that_is_too_large(open_page, serve, gallery, tmp_path):
    page = open_page(expect=[REFUSED])
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1600, 3), dtype=np.uint8)
    (tmp_path / "large.png").write_bytes(images.encode(noise, "png"))
    page.goto(serve(gallery, limits={"bytes": 100_000}).url)
    wait_for_results(page, "All images")
    choose(page, tmp_path / "large.png")
    expect(page.get_by_role("alert")).to_contain_text("expected an upload of at most 0.0954 MiB")


def test_a_link_to_an_item_that_is_gone(open_page, url):
    page = open_page(expect=[REFUSED])
    page.goto(f"{url}?like=rose%2F999.jpg")
    expect(page.get_by_role("alert")).to_contain_text("This gallery has no item “rose/999.jpg”.")
    expect(page.locator("#shown")).to_contain_text("Not in this gallery")
    page.locator("#home").click()
    wait_for_results(page, "All images")
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_link_to_a_view_that_does_not_exist(page, url):
    page.goto(f"{url}?view=nonsense")
    expect(page.get_by_role("alert")).to_contain_text("There is no view “nonsense”.")


def test_a_server_that_is_gone(open_page, serve, gallery, shot):
    page = open_page(expect=[REFUSED])
    server = serve(gallery)
    page.goto(server.url)
    wait_for_results(page, "All images")
    server.stop()
    shots(page).first.click()
    expect(page.get_by_role("alert")).to_contain_text("The server does not answer")
    shot(page)


def test_a_gallery_is_changed_by_others(open_page, serve, gallery):
    page = open_page(expect=[REFUSED])
    url = serve(gallery).url

    def remove(keys):
        with Retriever.open(gallery, "r+") as retriever:
            retriever.remove(keys)
            left = len(retriever)
        _wait(lambda: page.request.get(f"{url}api/gallery").json()["items"] == left)

    page.goto(url)
    wait_for_results(page, "All images")
    remove([key for key in shown_keys(page) if not key.startswith("rose/")])
    shots(page).first.click()
    expect(page.get_by_role("alert")).to_contain_text("This gallery has no item “daisy/0.jpg”.")
    expect(page.locator("#size")).to_have_text("12 images")
    expect(page.get_by_role("checkbox", name="daisy")).to_have_count(0)
    remove("rose/1.jpg")
    page.locator("#home").click()
    wait_for_results(page, "All images")
    expect(page.locator("#size")).to_have_text("11 images")


def test_an_item_whose_file_is_gone(open_page, serve, gallery, tmp_path, flowers):
    import shutil

    page = open_page(expect=[REFUSED])
    shutil.copytree(flowers, tmp_path / "moved")
    path = tmp_path / "gone.imgret"
    with Retriever.open(path, "a") as retriever:
        retriever.add_folder(tmp_path / "moved", labels="parent", progress=False)
    (tmp_path / "moved" / "daisy" / "0.jpg").unlink()
    page.goto(serve(path).url)
    wait_for_results(page, "All images")
    expect(cards(page).first).to_contain_text("The image file cannot be read")


def test_a_gallery_without_items(page, serve, tmp_path, shot):
    path = tmp_path / "empty.imgret"
    Retriever.open(path, "a").close()
    page.goto(serve(path).url)
    wait_for_results(page, "All images")
    expect(page.locator("#note")).to_have_text("The gallery is empty.")
    shot(page)


# -- many hits -------------------------------------------------------------------------------------


def test_five_thousand_hits(page, serve, tmp_path, mean_color):
    path = tmp_path / "vectors.imgret"
    vectors = np.random.default_rng(0).standard_normal((5001, mean_color.dim))
    with Retriever.open(path, "a", embedder=mean_color) as retriever:
        keys = [f"v/{n}" for n in range(5001)]
        retriever.add_vectors(vectors, keys=keys, labels=[str(n % 7) for n in range(5001)])
    page.goto(f"{serve(path, embedder=mean_color).url}?like=v%2F0")
    wait_for_results(page, "Like v/0")
    expect(cards(page).first).to_contain_text("No image, only a vector")
    end = time.monotonic() + 240
    while (count := cards(page).count()) < 5000:
        assert time.monotonic() < end, f"{count} of 5,000 after four minutes"
        page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
        page.wait_for_timeout(20)
    assert len(set(shown_keys(page))) == 5000
    expect(page.locator("#more")).to_be_hidden()
    # It still answers at once: a mark is seen, and the page scrolls, within a moment.
    took = page.evaluate(
        """async () => {
            const started = performance.now();
            document.querySelector("#hits li:last-child .shot").focus();
            document.activeElement.dispatchEvent(
                new KeyboardEvent("keydown", {key: "+", bubbles: true, cancelable: true}));
            window.scrollTo(0, 0);
            await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
            return performance.now() - started;
        }"""
    )
    expect(page.locator("#marked-text")).to_have_text("1 right")
    assert took < 1500


def test_more_is_a_button_as_well(page, serve, tmp_path, mean_color):
    path = tmp_path / "vectors.imgret"
    vectors = np.random.default_rng(0).standard_normal((200, mean_color.dim))
    with Retriever.open(path, "a", embedder=mean_color) as retriever:
        retriever.add_vectors(vectors, keys=[str(n) for n in range(200)])
    page.add_init_script("window.IntersectionObserver = class { observe() {} unobserve() {} }")
    page.goto(
        serve(
            path,
            embedder=mean_color,
        ).url
    )
    wait_for_results(page, "All images")
    expect(cards(page)).to_have_count(60)
    page.get_by_role("button", name="Show more").press("Enter")
    expect(cards(page)).to_have_count(120)
    expect(shots(page).nth(60)).to_be_focused()


def test_the_server_pages_through_a_limited_number(page, serve, tmp_path, mean_color):
    path = tmp_path / "vectors.imgret"
    vectors = np.random.default_rng(0).standard_normal((200, mean_color.dim))
    with Retriever.open(path, "a", embedder=mean_color) as retriever:
        retriever.add_vectors(vectors, keys=[str(n) for n in range(200)])
    page.goto(f"{serve(path, embedder=mean_color, limits={'hits': 100}).url}?like=0")
    wait_for_results(page, "Like 0")
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    expect(cards(page)).to_have_count(100)
    expect(page.get_by_text("This server shows the best 100 hits.")).to_be_visible()


# -- folders ---------------------------------------------------------------------------------------


def test_a_folder_is_chosen_and_indexed(page, serve, tmp_path, flowers, mean_color, shot):
    import shutil

    shutil.copytree(flowers, tmp_path / "photos" / "flowers")
    site = {"among": tmp_path / "photos", "embedder": _Slow(mean_color)}
    page.goto(serve(None, **site).url)
    expect(page.get_by_role("heading", name="Which images should be searched?")).to_be_visible()
    shot(page, "folders")
    page.get_by_role("button", name="flowers 36 images").click()
    expect(page.locator("#indexing-title")).to_contain_text("of 36 images")
    shot(page, "indexing")
    assert page.locator("#indexing-progress").evaluate("(bar) => bar.max") == 36
    expect(page.locator("#indexing")).to_be_hidden()
    wait_for_results(page, "All images")
    expect(cards(page)).to_have_count(36)
    expect(page.locator("#size")).to_have_text("36 images")
    expect(page.get_by_role("checkbox", name="rose 12")).to_be_visible()
    choose(page, flowers / "daisy" / "2.jpg")
    wait_for_results(page, "Like 2.jpg")
    assert shown_keys(page)[0].endswith("daisy/2.jpg")


def test_no_folder_to_choose(page, serve, tmp_path):
    page.goto(serve(None, among=tmp_path).url)
    expect(page.get_by_text("imgret serve photos/")).to_be_visible()


def _Slow(embedder):  # noqa: N802  # makes a class
    """Embed slowly enough to be watched."""

    class Slow(type(embedder)):
        batch_size = 4

        def _embed(self, images_):
            time.sleep(0.4)
            return super()._embed(images_)

    return Slow()


# -- links, keyboard, phones -----------------------------------------------------------------------


def test_links_are_copied(page, url, flowers, browser):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(f"{url}?like=rose%2F1.jpg")
    wait_for_results(page, "Like rose/1.jpg")
    page.get_by_role("button", name="Copy link").click()
    expect(page.locator("#notice")).to_have_text("Link copied.")
    assert page.evaluate("navigator.clipboard.readText()") == page.url
    choose(page, flowers / "rose" / "1.jpg")
    wait_for_results(page, "Like 1.jpg")
    page.get_by_role("button", name="Copy link").click()
    expect(page.locator("#notice")).to_contain_text("The link does not contain your image")
    page.reload()
    expect(page.locator("#notice")).to_contain_text("The image of this search is not part")
    wait_for_results(page, "All images")


def test_a_link_that_cannot_be_copied_is_shown(page, url):
    page.add_init_script("navigator.clipboard.writeText = () => Promise.reject(new Error())")
    page.goto(f"{url}?like=rose%2F1.jpg")
    wait_for_results(page, "Like rose/1.jpg")
    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_role("textbox", name="Link to this search")).to_have_value(page.url)


def test_only_the_keyboard(page, url):
    page.goto(url)
    wait_for_results(page, "All images")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the images")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(shots(page).first).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(shots(page).nth(1)).to_be_focused()
    page.keyboard.press("ArrowDown")
    down = page.evaluate("document.activeElement.title")
    assert shown_keys(page).index(down) > 2
    page.keyboard.press("End")
    expect(shots(page).last).to_be_focused()
    page.keyboard.press("Home")
    key = shown_keys(page)[0]
    page.keyboard.press("Enter")
    wait_for_results(page, f"Like {key}")
    expect(title(page)).to_be_focused()
    page.keyboard.press("Tab")
    expect(shots(page).first).to_be_focused()
    page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("-")
    expect(page.locator("#marked-text")).to_have_text("1 right, 1 wrong")
    page.keyboard.press("-")
    expect(page.locator("#marked-text")).to_have_text("1 right")
    page.keyboard.press(" ")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(shots(page).nth(1)).to_be_focused()
    page.keyboard.press("s")
    wait_for_results(page, f"Like {key} and 1 more")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    expect(page.locator("#file")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone(open_page, url, flowers, shot, scheme):
    page = open_page(phone=True, color_scheme=scheme)
    page.goto(url)
    wait_for_results(page, "All images")
    expect(page.get_by_text("Take a photo")).to_be_visible()
    assert page.locator("#camera").get_attribute("capture") == "environment"
    choose(page, flowers / "rose" / "1.jpg")
    wait_for_results(page, "Like 1.jpg")
    shot(page)
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 390
    columns = {round(each.bounding_box()["x"]) for each in cards(page).all()[:4]}
    assert len(columns) == 2
    cards(page).first.get_by_role("button", name="Details").tap()
    dialog = page.get_by_role("dialog").bounding_box()
    assert (dialog["x"], dialog["width"]) == (0, 390)
    shot(page, f"phone-detail-{scheme}")
    page.goto(f"{url}?view=map")
    expect(page.locator("#nav [aria-current]")).to_be_in_viewport(ratio=1)


def test_dark_follows_the_system(open_page, url):
    colors = {}
    for scheme in ("light", "dark"):
        page = open_page(color_scheme=scheme)
        page.goto(url)
        wait_for_results(page, "All images")
        colors[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert colors == {"light": "rgb(255, 255, 255)", "dark": "rgb(28, 28, 30)"}


# -- screen readers --------------------------------------------------------------------------------


def _results(page, url, flowers):
    page.goto(url)
    choose(page, flowers / "rose" / "1.jpg")
    wait_for_results(page, "Like 1.jpg")
    shots(page).first.focus()
    page.keyboard.press("+")
    page.get_by_role("button", name="Crop").click()
    expect(page).to_have_url(re.compile("box="))


def _detail(page, url, flowers):
    page.goto(f"{url}?like=rose%2F1.jpg")
    wait_for_results(page, "Like rose/1.jpg")
    open_detail(page)


def test_a_map_shows_how_far_it_is(page, url, monkeypatch):
    held, lay_out = threading.Event(), Retriever.map2d

    def slow(retriever, *, progress):
        progress(1, 4)
        held.wait(30)
        return lay_out(retriever, "pca")

    monkeypatch.setattr(Retriever, "map2d", slow)
    page.goto(f"{url}?view=map")
    expect(page.locator("#note")).to_have_text("Laying out 36 images … 25 %")
    held.set()
    expect(page.locator("#plane canvas")).to_be_visible()
    expect(page.locator("#note")).to_have_text("36 images; similar ones are near each other")


def _filters(page, url, flowers):
    page.goto(url)
    wait_for_results(page, "All images")
    if not page.locator("#fields").is_visible():  # closed on a phone
        page.get_by_text("Filters", exact=True).click()
    page.get_by_role("checkbox", name="rose 12").check()
    wait_for_results(page, "Filtered images")


def _view(name):
    def show(page, url, flowers):
        page.goto(f"{url}?view={name}")
        expect(page.locator("#note")).not_to_contain_text("Looking at")
        expect(page.locator("#hits, #plane").locator("visible=true").first).to_be_visible()

    return show


def _error(page, url, flowers):
    page.goto(f"{url}?like=none")
    expect(page.get_by_role("alert")).to_be_visible()


def _help(page, url, flowers):
    page.goto(url)
    wait_for_results(page, "All images")
    page.get_by_role("button", name="Keyboard").click()


STATES = {
    "all": lambda page, url, flowers: page.goto(url),
    "results": _results,
    "detail": _detail,
    "filters": _filters,
    "clusters": _view("clusters"),
    "outliers": _view("outliers"),
    "mislabelled": _view("mislabelled"),
    "map": _view("map"),
    "error": _error,
    "help": _help,
}


@pytest.mark.parametrize("look", ["desk", "phone"])
@pytest.mark.parametrize("state", STATES)
def test_screen_readers(open_page, serve, gallery, flowers, check_schemes, state, look):
    with Retriever.open(gallery, "r+") as retriever:
        retriever.update("tulip/4.jpg", label="daisy")
    page = open_page(phone=look == "phone", expect=[REFUSED])
    url = serve(gallery, write=True).url
    STATES[state](page, url, flowers)
    expect(title(page)).not_to_contain_text("…")
    check_schemes(page, f"{state}-{look}")


def test_screen_readers_where_a_folder_is_chosen(
    page, serve, tmp_path, flowers, check_accessible, mean_color
):
    import shutil

    shutil.copytree(flowers, tmp_path / "photos" / "flowers")
    site = {"among": tmp_path / "photos", "embedder": _Slow(mean_color)}
    page.goto(serve(None, **site).url)
    choice = page.get_by_role("button", name="flowers 36 images")
    expect(choice).to_be_visible()
    check_accessible(page)
    choice.click()
    expect(page.locator("#indexing-title")).to_contain_text("of 36 images")
    check_accessible(page)
