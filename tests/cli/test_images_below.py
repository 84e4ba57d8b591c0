"""``imgret --images-below FOLDER``."""


def test_a_page_shows_no_image_outside(work, run):
    arguments = ["search", "photos.imgret", "photos/rose/0.jpg", "-k", "12", "--html"]
    ended = run(*arguments, "all.html")
    assert ended.code == 0
    folder = work / "photos" / "rose"
    ended = run("--images-below", str(folder), *arguments, "some.html")
    assert ended.code == 0
    shown = [
        (work / name).read_text().count("data:image/jpeg") for name in ("all.html", "some.html")
    ]
    assert shown[0] - shown[1] == 8  # of twelve hits, four are roses
    assert run(*arguments, "again.html").code == 0  # the limit has ended with its command
    assert (work / "again.html").read_text().count("data:image/jpeg") == shown[0]


def test_a_query_outside_is_not_read_either(work, run):
    ended = run("--images-below", "photos", "search", "photos.imgret", "query.jpg")
    assert ended.code == 1
    assert "query.jpg" in ended.err
    assert "found one outside" in ended.err


def test_a_folder_must_be_there(work, run):
    ended = run("--images-below", "no-folder", "list", "photos.imgret")
    assert ended.code == 1
    assert "no-folder: expected a folder" in ended.err
