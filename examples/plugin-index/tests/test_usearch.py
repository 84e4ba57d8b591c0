"""imgret's test suites for indexes, and the registered name in use."""

import re

import pytest
from imgret_usearch import USearchIndex

from imgret import Retriever, images
from imgret.cli import main
from imgret.demo import samples
from imgret.testing import IndexMachine, VectorIndexTests


class TestUSearchIndex(VectorIndexTests):
    def make(self, dim, metric):
        return USearchIndex(dim, metric)


class USearchMachine(IndexMachine):
    def make(self):
        return USearchIndex(4, "l2")


TestUSearchMachine = USearchMachine.TestCase


@pytest.fixture
def photos(tmp_path):
    for species in ("daisy", "rose"):
        (tmp_path / "photos" / species).mkdir(parents=True)
        for seed in range(3):
            data = images.encode(samples.draw(species, seed, size=(96, 96)), "png")
            (tmp_path / "photos" / species / f"{seed}.png").write_bytes(data)
    return tmp_path / "photos"


def test_by_name_saved_and_loaded(photos, tmp_path):
    retriever = Retriever(index="usearch")
    retriever.add_folder(photos)
    retriever.save(tmp_path / "photos.imgret")
    retriever = Retriever.load(tmp_path / "photos.imgret")
    assert isinstance(retriever.index, USearchIndex)
    assert retriever.search(photos / "rose" / "1.png", k=2)[0].key == "rose/1.png"


def test_on_the_command_line(photos, tmp_path, capsys):
    gallery = str(tmp_path / "photos.imgret")
    for command in (
        ["index", str(photos), "-o", gallery, "--index", "usearch"],
        ["info", gallery],
        ["search", gallery, str(photos / "daisy" / "2.png"), "-k1"],
    ):
        with pytest.raises(SystemExit) as ended:
            main(command)
        assert ended.value.code == 0
    out = capsys.readouterr().out
    assert re.search(r"^index +usearch$", out, re.MULTILINE)
    assert "daisy/2.png" in out
