"""The stranger's code runs, too; ``nox -s types`` checks its types."""

import runpy
from pathlib import Path

from imgret import images
from imgret.demo import samples
from imgret.testing import CropperTests, VectorIndexTests

HERE = Path(__file__).parent
PARTS = runpy.run_path(str(HERE / "parts.py"))
BrightPart, TableIndex = PARTS["BrightPart"], PARTS["TableIndex"]
BrightPart.name = TableIndex.name = ""  # not installed here: made again by their classes


class TestBrightPart(CropperTests):
    def make(self):
        return BrightPart(margin=20)


class TestTableIndex(VectorIndexTests):
    def make(self, dim, metric):
        return TableIndex(dim, metric)


def test_the_program_runs(tmp_path, monkeypatch):
    for species in ("daisy", "rose"):
        (tmp_path / species).mkdir()
        for number in range(2):
            drawn = images.encode(samples.draw(species, number, size=(90, 60)), "jpeg")
            (tmp_path / species / f"{number}.jpg").write_bytes(drawn)
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.syspath_prepend(HERE.parents[1] / "examples" / "plugin-embedder" / "src")
    program = runpy.run_path(str(HERE / "search.py"))
    found = program["search"](tmp_path)
    assert len(found) == 3
    query = next(tmp_path.rglob("*.jpg")).relative_to(tmp_path).as_posix()
    assert found.index(query) > 0  # the nearest is not the first
