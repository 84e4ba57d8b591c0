"""copy."""

import json

from imgret import Retriever


def test_copy_says_what_it_did_and_can_be_repeated(work, run):
    ended = run("copy", "photos.imgret", "copy.imgret", "--index", "hnsw")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"{work / 'copy.imgret'}: 12 images (12 copied), index 'hnsw'; ")
    report = json.loads(run("copy", "photos.imgret", "copy.imgret", "--json").out)
    assert (report["copied"], report["unchanged"], report["total"]) == (0, 12, 12)
    with Retriever.open("copy.imgret") as copied, Retriever.open("photos.imgret") as retriever:
        assert list(copied) == list(retriever)


def test_mistakes_are_errors_in_one_line(work, run):
    for words in (
        ("photos.imgret", "photos.imgret"),
        ("nothing.imgret", "copy.imgret"),
        ("photos.imgret", "photos"),
        ("photos.imgret", "copy.imgret", "--index", "hnws"),
        ("photos.imgret", "mysql://host/photos"),
    ):
        ended = run("copy", *words)
        assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1)
        assert not (work / "copy.imgret").exists()
    assert run("index", "photos", "-o", "new.imgret", "--on", "dask").code == 1
