"""The pages of decisions: all are listed, and what replaces another is named by both."""

import re
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "docs" / "decisions"
PAGES = {path.name: path.read_text("utf-8") for path in sorted(FOLDER.glob("0*.md"))}


def top(text):
    """What stands between the title and the first heading."""
    return text.partition("\n## ")[0]


def test_all_pages_are_listed_by_their_titles():
    listed = re.findall(
        r"^- \[(\d+)\]\(([\w.-]+)\) (.+)$", (FOLDER / "README.md").read_text("utf-8"), re.MULTILINE
    )
    assert [name for _, name, _ in listed] == list(PAGES)
    for number, name, title in listed:
        assert name.startswith(number)
        assert PAGES[name].startswith(f"# {int(number)}. {title.partition(' (replaced')[0]}\n")


def test_a_page_and_the_one_that_replaces_it_name_each_other():
    replaced = {
        (name, by)
        for name, text in PAGES.items()
        for sentence in re.findall(r"Replaced .*?(?=\n\n|\Z)", top(text), re.DOTALL)
        for by in re.findall(r"\]\(([\w.-]+)\)", sentence)
    }
    assert len(replaced) >= 10
    for name, by in replaced:
        assert name in PAGES[by], f"{by} does not say that it replaces {name}"
    for name, text in PAGES.items():
        for old in re.findall(r"\]\(([\w.-]+)\)", top(text) if "Replaces" in top(text) else ""):
            assert (old, name) in replaced or (name, old) in replaced, f"{old}: replaced by {name}?"


def test_decisions_name_no_module_as_todays_that_is_gone():
    current = {name for name, text in PAGES.items() if "Replaced by" not in top(text)}
    gone = {
        (name, module)
        for name in current
        for module in re.findall(r"`(imgret(?:\.[a-z_]\w*)+)`", PAGES[name])
        if module != "imgret.json" and not exists(module)
    }
    assert gone == set()


def exists(dotted):
    """Whether there is such a module, or a module that has the last word in its source."""
    place = FOLDER.parents[1].joinpath("src", *dotted.split("."))
    home = (
        place.parent / "__init__.py" if place.parent.is_dir() else place.parent.with_suffix(".py")
    )
    if place.is_dir() or place.with_suffix(".py").is_file():
        return True
    return home.is_file() and re.search(rf"\b{place.name}\b", home.read_text("utf-8")) is not None
