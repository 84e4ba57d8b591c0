"""Names of parts: built-in, from a package that imgret has never heard of, and broken."""

import sys
import textwrap

import pytest

from imgret import Retriever, registry
from imgret.abc import Cropper, Embedder, VectorIndex
from imgret.errors import InvalidInputError, PluginError, UnknownNameError


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Install a package by hand: what pip leaves behind is a module and its metadata."""
    site = tmp_path / "site"
    site.mkdir()

    def install(name: str, entry_points: str, code: str = "") -> None:
        info = site / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(textwrap.dedent(entry_points))
        if code:
            (site / f"{name}.py").write_text(textwrap.dedent(code))
        monkeypatch.delitem(sys.modules, name, raising=False)
        registry.refresh()

    monkeypatch.syspath_prepend(site)
    yield install
    monkeypatch.undo()
    registry.refresh()


@pytest.mark.slow
def test_every_builtin_can_be_made():
    for kind, contract, options in (
        ("embedders", Embedder, {}),
        ("croppers", Cropper, {}),
        ("indexes", VectorIndex, {"dim": 8, "metric": "cosine"}),
    ):
        for name in registry.names(kind):
            if name in {"onnx", "faiss:"}:  # these need to be told more
                continue
            assert isinstance(registry.create(kind, name, **options), contract), name


def test_a_prefix_takes_the_rest_of_the_name():
    index = registry.create("indexes", "faiss:SQ8", dim=8, metric="l2")
    assert index.name == "faiss:SQ8"


def test_an_unknown_name_lists_the_known_ones_and_guesses():
    with pytest.raises(UnknownNameError, match=r"no 'hsnw'.*flat.*Did you mean 'hnsw'\?"):
        registry.create("indexes", "hsnw", dim=8)


def test_an_unknown_kind_lists_the_kinds():
    with pytest.raises(InvalidInputError, match="'embedders', 'croppers', 'indexes'"):
        registry.names("models")


def test_an_option_the_part_does_not_take_is_named():
    with pytest.raises(InvalidInputError, match="'hnsw' cannot be made.*ef_serch"):
        registry.create("indexes", "hnsw", dim=8, ef_serch=3)


def test_a_package_from_outside_is_found_and_used(plugin, photos, mean_color):
    plugin(
        "acme_crop",
        """
        [imgret.croppers]
        acme = acme_crop:TopLeft
        """,
        """
        from imgret import Cropper
        from imgret.types import Box

        class TopLeft(Cropper):
            name = "acme"
            def config(self):
                return {}
            def _detect(self, images):
                return [Box(0, 0, 10, 10) for _ in images]
        """,
    )
    assert "acme_crop" in registry.names("croppers")["acme"]
    assert "acme_crop" not in sys.modules  # listing imports nothing
    retriever = Retriever(embedder=mean_color, cropper="acme")
    retriever.add_folder(photos)
    assert retriever["lake/0.jpg"].box == (0, 0, 10, 10)


def test_a_broken_plugin_breaks_only_when_asked_for(plugin):
    plugin("acme_broken", "[imgret.indexes]\nbroken = acme_broken:X\n", "import no_such_module")
    assert "broken" in registry.names("indexes")
    assert registry.create("indexes", "flat", dim=4).dim == 4
    with pytest.raises(PluginError, match=r"acme_broken.*ModuleNotFoundError.*no_such_module"):
        registry.create("indexes", "broken", dim=4)


def test_two_packages_with_one_name_are_an_error(plugin):
    plugin("acme_one", "[imgret.indexes]\nflat = acme_one:X\n")
    assert "acme_one" in registry.names("indexes")["flat"]
    with pytest.raises(PluginError, match="claimed by .*uninstall all but one"):
        registry.create("indexes", "flat", dim=4)


def test_an_entry_point_to_something_else_is_an_error(plugin):
    plugin("acme_value", "[imgret.croppers]\nvalue = acme_value:X\n", "X = 3")
    with pytest.raises(PluginError, match="expected a class or function.*found int"):
        registry.create("croppers", "value")


def test_a_part_of_the_wrong_kind_is_refused(plugin, mean_color):
    plugin("acme_wrong", "[imgret.croppers]\nwrong = acme_wrong:X\n", "class X: pass")
    with pytest.raises(InvalidInputError, match=r"croppers 'wrong'.*imgret\.abc\.Cropper"):
        Retriever(embedder=mean_color, cropper="wrong")
